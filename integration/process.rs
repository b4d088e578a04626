//! process: arguments, environment, working directory, user, umask, and the small attributes.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::tests;
use caps::Capability;
use std::fs;

tests! {
    arguments_and_environment_are_exact, the_environment_of_the_caller_stays_outside, path_lookup_uses_the_containers_path,
    working_directory, missing_working_directory_is_made, working_directory_that_only_root_may_enter, relative_cwd_is_refused,
    user_and_groups, additional_groups_replace_the_callers, umask_is_set, umask_by_default, user_has_no_capabilities_by_default,
    no_new_privileges_on_and_off, oom_score_is_set, oom_score_stays_without_a_value, personality_is_set, scheduler_is_set,
    io_priority_is_set, new_session_keyring, no_new_keyring, numeric_user_is_not_a_name, empty_args_are_refused,
    missing_interpreter_is_named, missing_script_interpreter_is_named, script_runs, exit_codes_are_kept, signal_becomes_128_and_it,
    signal_mask_and_actions_are_default, home_is_not_invented, home_that_is_overridden_by_an_empty_one, process_is_a_session_leader, duplicate_environment_entries,
    stdin_reaches_the_process, large_environment, cwd_is_changed_as_the_user, null_device_is_the_containers_own,
}

fn arguments_and_environment_are_exact() {
    let report = Bundle::new()
        .set("/process/args", json!(["/bin/payload", "report", "", " a b ", "\"$HOME\"", "ü"]))
        .set("/process/env", json!(["A=1", "EMPTY=", "B=x=y", "PATH=/bin"]))
        .report_from_run();
    assert_eq!(report["args"], json!(["/bin/payload", "report", "", " a b ", "\"$HOME\"", "ü"]));
    let env = report["env"].as_array().expect("env");
    for entry in ["A=1", "EMPTY=", "B=x=y", "PATH=/bin"] {
        assert!(env.contains(&json!(entry)), "{entry} of {env:?}");
    }
}

impl Bundle {
    fn report_from_run(self) -> Report {
        Report::parse(&self.container().run().ok().stdout())
    }
}

fn the_environment_of_the_caller_stays_outside() {
    let container = Bundle::new().container();
    let mut command = container.command("run", &[]);
    command.env("SECRET_OF_THE_CALLER", "1").env("NOTIFY_SOCKET", "").env("LISTEN_FDS_X", "1");
    let report = Report::parse(&program::Bounded::done(command).ok().stdout());
    let env = report["env"].as_array().expect("env");
    let extra: Vec<_> = env
        .iter()
        .filter_map(Value::as_str)
        .filter(|entry| !entry.starts_with("PATH=") && !entry.starts_with("TERM=") && *entry != "HOME=/")
        .collect();
    assert!(extra.is_empty() || extra == ["HOME=/root"], "{extra:?}");
}

fn home_is_not_invented() {
    let report = Bundle::new().set("/process/env", json!(["PATH=/bin", "HOME=/elsewhere"])).report();
    let homes: Vec<_> = report["env"]
        .as_array()
        .expect("env")
        .iter()
        .filter(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("HOME=")))
        .collect();
    assert_eq!(homes, ["HOME=/elsewhere"]);
}

/// The last entry counts, and an empty one is none.
fn home_that_is_overridden_by_an_empty_one() {
    let report = Bundle::new()
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644)
        .set("/process/env", json!(["PATH=/bin", "HOME=/elsewhere", "HOME="]))
        .report();
    assert_eq!(report["env"], json!(["PATH=/bin", "HOME=/root"]));
}

fn duplicate_environment_entries() {
    let report = Bundle::new().set("/process/env", json!(["PATH=/bin", "TWICE=1", "TWICE=2"])).report();
    let last = report["env"]
        .as_array()
        .expect("env")
        .iter()
        .filter_map(Value::as_str)
        .rfind(|entry| entry.starts_with("TWICE="));
    assert_eq!(last, Some("TWICE=2"));
}

fn path_lookup_uses_the_containers_path() {
    let bundle = Bundle::new().directory("/special").set("/process/env", json!(["PATH=/nowhere:/special"]));
    fs::hard_link(bundle.rootfs().join("bin/payload"), bundle.rootfs().join("special/mine")).expect("link");
    assert_eq!(bundle.args(&["mine", "report"]).report_from_run()["args"][0], "mine");
    Bundle::new()
        .set("/process/env", json!(["PATH=/nowhere"]))
        .args(&["payload", "report"])
        .refused("executable file not found in $PATH");
}

fn working_directory() {
    let report = Bundle::new().directory("/some/where").set("/process/cwd", "/some/where").report();
    assert_eq!(report["cwd"], json!({ "Ok": "/some/where" }));
}

fn missing_working_directory_is_made() {
    let bundle = Bundle::new().set("/process/cwd", "/made/for/it");
    let rootfs = bundle.rootfs();
    assert_eq!(bundle.report()["cwd"], json!({ "Ok": "/made/for/it" }));
    assert!(rootfs.join("made/for/it").is_dir());
}

/// Images with `WORKDIR /root` and another user rely on this: the directory is entered before the ids change as well.
fn working_directory_that_only_root_may_enter() {
    let bundle = Bundle::new()
        .directory("/private")
        .set("/process/cwd", "/private")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    fs::set_permissions(bundle.rootfs().join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("mode");
    let bundle = bundle.capabilities(&["bounding", "effective", "permitted"], &[]);
    assert_eq!(bundle.report()["cwd"], json!({ "Ok": "/private" }));
}

/// The directory of the user alone, reached with the user's rights (an NFS home that root cannot enter).
fn cwd_is_changed_as_the_user() {
    let bundle = Bundle::new()
        .directory("/home/user")
        .set("/process/cwd", "/home/user")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .capabilities(&["bounding", "effective", "permitted"], &[]);
    let home = bundle.rootfs().join("home/user");
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).expect("chown");
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("mode");
    assert_eq!(bundle.report()["cwd"], json!({ "Ok": "/home/user" }));
}

fn relative_cwd_is_refused() {
    Bundle::new().set("/process/cwd", "tmp").refused("cwd");
    Bundle::new().set("/process/cwd", "").refused("cwd");
}

fn user_and_groups() {
    let report = Bundle::new()
        .set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6, 77] }))
        .report();
    assert_eq!(report["uid"], json!([1000, 1000, 1000, 1000]));
    assert_eq!(report["gid"], json!([1001, 1001, 1001, 1001]));
    assert_eq!(report["groups"], json!([5, 6, 77]));
}

fn additional_groups_replace_the_callers() {
    assert_eq!(Bundle::new().report()["groups"], json!([]));
}

fn umask_is_set() {
    let report =
        Bundle::new().set("/process/user/umask", 0o27).report_after(&["create:/tmp/file", "stat:/tmp/file"]);
    assert_eq!(report["umask"], 0o27);
    assert_eq!(report.probe("stat:/tmp/file")["mode"], "0640");
}

fn umask_by_default() {
    assert_eq!(Bundle::new().report()["umask"], 0o22);
}

fn user_has_no_capabilities_by_default() {
    let report = Bundle::new()
        .remove("/process/capabilities")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .report();
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(report.capabilities(set), Vec::<String>::new(), "{set}");
    }
}

fn no_new_privileges_on_and_off() {
    assert_eq!(Bundle::new().set("/process/noNewPrivileges", true).report()["no_new_privs"], "1");
    assert_eq!(Bundle::new().set("/process/noNewPrivileges", false).report()["no_new_privs"], "0");
    assert_eq!(Bundle::new().remove("/process/noNewPrivileges").report()["no_new_privs"], "0");
}

fn own_oom_score() -> i64 {
    fs::read_to_string("/proc/self/oom_score_adj").expect("oom_score_adj").trim().parse().expect("a number")
}

fn oom_score_is_set() {
    let value = (own_oom_score() + 77).min(1000);
    assert_eq!(Bundle::new().set("/process/oomScoreAdj", value).report()["oom_score_adj"], value.to_string());
    crate::require!(
        host::has_capability(Capability::CAP_SYS_RESOURCE),
        "no CAP_SYS_RESOURCE here: a score cannot be lowered"
    );
    assert_eq!(Bundle::new().set("/process/oomScoreAdj", -500).report()["oom_score_adj"], "-500");
}

fn oom_score_stays_without_a_value() {
    assert_eq!(
        Bundle::new().remove("/process/oomScoreAdj").report()["oom_score_adj"],
        own_oom_score().to_string()
    );
}

fn personality_is_set() {
    assert_eq!(
        Bundle::new().set("/linux/personality", json!({ "domain": "LINUX32" })).report()["personality"],
        8
    );
    assert_eq!(
        Bundle::new().set("/linux/personality", json!({ "domain": "LINUX" })).report()["personality"],
        0
    );
    Bundle::new().set("/linux/personality", json!({ "domain": "SOLARIS" })).refused("");
}

fn scheduler_is_set() {
    let report =
        Bundle::new().set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 7 })).report();
    assert_eq!((&report["scheduler"]["policy"], &report["scheduler"]["nice"]), (&json!(3), &json!(7)));
    let report = Bundle::new().set("/process/scheduler", json!({ "policy": "SCHED_IDLE" })).report();
    assert_eq!(report["scheduler"]["policy"], 5);
    Bundle::new().set("/process/scheduler", json!({ "policy": "SCHED_NONSENSE" })).refused("");
}

fn io_priority_is_set() {
    let report = Bundle::new()
        .set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 5 }))
        .report();
    assert_eq!(report["ioprio"], 2 << 13 | 5);
    let report = Bundle::new()
        .set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }))
        .report();
    assert_eq!(report["ioprio"].as_i64().map(|value| value >> 13), Some(3));
}

fn new_session_keyring() {
    let first = Bundle::new().report()["keyring"].as_i64().expect("a keyring");
    let second = Bundle::new().report()["keyring"].as_i64().expect("a keyring");
    assert_ne!(first, second);
}

fn no_new_keyring() {
    let keyring = || {
        let container = Bundle::new().container();
        let done = program::Bounded::done(container.command("run", &["--no-new-keyring"])).ok();
        Report::parse(&done.stdout())["keyring"].clone()
    };
    assert_eq!(keyring(), keyring(), "both have the caller's");
}

/// CVE-2016-3697: a user whose name is a number in the image's passwd does not change the number.
fn numeric_user_is_not_a_name() {
    let report = Bundle::new()
        .file("/etc/passwd", "1000:x:0:0::/:/bin/sh\n", 0o644)
        .file("/etc/group", "1000:x:0:\n", 0o644)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .report();
    assert_eq!((&report["uid"][0], &report["gid"][0]), (&json!(1000), &json!(1000)));
}

fn empty_args_are_refused() {
    Bundle::new().set("/process/args", json!([])).refused("args");
    Bundle::new().set("/process/args", json!([""])).refused("");
}

/// moby#29420: ENOENT of execve must name the file that is missing.
fn missing_script_interpreter_is_named() {
    let done =
        Bundle::new().file("/bin/script", "#!/no/interpreter\n", 0o755).args(&["/bin/script"]).container();
    let done = done.run();
    assert_ne!(done.code(), 0);
    assert!(
        done.stderr().contains("/no/interpreter") && done.stderr().contains("no such file or directory"),
        "{}",
        done.describe()
    );
}

fn missing_interpreter_is_named() {
    let bundle = Bundle::new();
    // The host's own dynamic loader asks for none; any dynamic program will do.
    fs::copy("/bin/sh", bundle.rootfs().join("bin/dynamic")).expect("a dynamic program");
    let done = bundle.args(&["/bin/dynamic"]).container();
    let done = done.run();
    assert_ne!(done.code(), 0);
    let stderr = done.stderr();
    assert!(stderr.contains("ld-linux") || stderr.contains("ld-musl"), "{}", done.describe());
    assert!(stderr.contains("no such file or directory"), "{}", done.describe());
}

fn script_runs() {
    let report = Bundle::new()
        .file("/bin/script", "#!/bin/payload\nlabel:script\nreport\n", 0o755)
        .args(&["/bin/script"])
        .report_from_run();
    assert_eq!(report.probe("label"), "script");
}

fn exit_codes_are_kept() {
    for code in [0, 1, 2, 77, 126, 127, 255] {
        Bundle::new().steps(&[&format!("exit:{code}")]).container().run().exits(code);
    }
}

fn signal_becomes_128_and_it() {
    // Process 1 of a pid namespace ignores signals of its own; without one it dies.
    for (signal, number) in [("SIGKILL", 9), ("SIGTERM", 15), ("SIGHUP", 1)] {
        let done =
            Bundle::new().without_namespace("pid").steps(&[&format!("raise:{signal}")]).container().run();
        done.exits(128 + number);
    }
}

/// Rust's runtime ignores SIGPIPE before main, in berth as in the payload: the process must not inherit it.
fn signal_mask_and_actions_are_default() {
    let report = Bundle::new().report();
    assert_eq!(report["signals"]["blocked"], 0);
    assert_eq!(report["signals"]["pipe_ignored_at_start"], false);
    // 32 and 33 are glibc's own; its posix_spawn ignores them on the way.
    let ours = 1 << (libc::SIGPIPE - 1) | 1 << 31 | 1_u64 << 32;
    let ignored = report["signals"]["ignored"].as_u64().expect("a mask");
    assert_eq!(ignored & !ours, 0, "{ignored:x}");
}

fn process_is_a_session_leader() {
    let report = Bundle::new().report();
    assert_eq!(report["sid"], 1);
}

fn stdin_reaches_the_process() {
    let container = Bundle::new().steps(&["stdin", "report"]).container();
    let input = program::directory().join("input");
    fs::write(&input, "hello\nworld").expect("input");
    let mut command = container.command("run", &[]);
    command.stdin(fs::File::open(&input).expect("input"));
    let report = Report::parse(&program::Bounded::done(command).ok().stdout());
    assert_eq!(report.probe("stdin"), "hello\nworld");
}

fn large_environment() {
    let mut env = vec!["PATH=/bin".to_owned()];
    env.extend((0..2000).map(|number| format!("VARIABLE_{number}={}", "x".repeat(100))));
    let report = Bundle::new().set("/process/env", json!(env)).report();
    assert!(report["env"].as_array().expect("env").len() >= 2001);
}

/// What berth was called with is a file of the host, whose mode a root in the container could change.
fn null_device_is_the_containers_own() {
    use std::os::unix::fs::MetadataExt;
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.up();
    let pid_file = container.bundle.path.join("exec.pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().expect("UTF-8")];
    container.verb("exec", &flags, &["/bin/payload", "sleep:1000"]).done().ok();
    let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).expect("a file");
    let own = file(&format!("/proc/{}/root/dev/null", container.pid()));
    assert_ne!(own, file("/dev/null"));
    let joined = fs::read_to_string(pid_file).expect("pid file");
    for pid in [&container.pid().to_string(), &joined] {
        assert_eq!(file(&format!("/proc/{pid}/fd/0")), own, "process {pid}");
        let flags = fs::read_to_string(format!("/proc/{pid}/fdinfo/0")).expect("fdinfo");
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = i32::from_str_radix(flags, 8).expect("octal");
        assert_eq!(flags & (libc::O_ACCMODE | libc::O_NONBLOCK), libc::O_RDWR, "process {pid}");
    }
}
