//! exec: one more process, seen from inside by the payload.

use crate::harness::bundle::{PAYLOAD, tag};
use crate::harness::program::{Bounded, Running, await_condition};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;

tests! {
    takes_after_the_containers_process, flags_change_the_process, user_is_read_strictly,
    cve_2022_29162_inheritable_stays_empty, added_capability_that_may_be_inherited_is_ambient, unknown_capability_is_ignored_with_a_warning, process_file,
    process_file_that_is_wrong, exit_codes, signals_are_forwarded, detached_process_outlives_berth,
    pid_file_is_missing_when_the_program_does_not_run, pidfd_socket_gets_the_process, missing_command, missing_cwd,
    cve_2024_21626_cwd_through_a_descriptor, seccomp_of_the_container, a_filter_that_is_lost_is_not_left_out, limits_and_scheduling,
    session_keyring_of_the_container, home_of_the_user, passwd_that_is_no_file, created_container,
    stopped_container, paused_container, unknown_container, later_edits_of_the_config_have_no_effect,
    concurrent_execs, the_end_of_a_short_program_is_noticed, killed_exec_leaves_no_half_made_process, cve_2016_9962_nobody_looks_into_a_joining_process,
    nobody_robs_a_joining_process; alone: nothing_is_left
}

pub fn sleeper() -> Bundle {
    Bundle::new().steps(&["report", "echo:started", "sleep:1000"])
}

pub fn up(bundle: Bundle) -> Container {
    let mut container = bundle.container();
    container.up();
    container.await_output("started");
    container
}

/// `berth exec FLAGS ID payload STEPS`
pub fn exec(container: &Container, flags: &[&str], steps: &[&str]) -> Command {
    let mut words = vec![PAYLOAD];
    words.extend(steps);
    container.verb("exec", flags, &words)
}

#[track_caller]
pub fn report(container: &Container, flags: &[&str], steps: &[&str]) -> Report {
    let steps: Vec<&str> = steps.iter().copied().chain(["report"]).collect();
    Report::parse(&exec(container, flags, &steps).done().ok().stdout())
}

/// It failed with exec's own code and one line that holds `words`.
#[track_caller]
pub fn refused(done: &Done, words: &str) {
    assert_eq!(done.code(), 255, "{}", done.describe());
    let stderr = done.stderr();
    assert!(stderr.contains("exec failed: ") && stderr.contains(words), "{words:?}: {}", done.describe());
    assert_eq!(done.stdout(), "", "the process ran");
}

const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

#[track_caller]
pub fn same_namespaces(init: &Report, exec: &Report) {
    for kind in KINDS {
        assert_eq!(init.namespace(kind), exec.namespace(kind), "{kind}");
    }
}

fn takes_after_the_containers_process() {
    let bundle = sleeper()
        .set("/process/user", json!({ "uid": 0, "gid": 5, "additionalGids": [6, 7], "umask": 63 }))
        .directory("/work")
        .set("/process/cwd", "/work")
        .push("/process/env", json!("COLOUR=blue"));
    let container = up(bundle);
    let (init, exec) = (container.started_report(), report(&container, &[], &[]));
    for key in
        ["uid", "gid", "groups", "umask", "capabilities", "cwd", "env", "no_new_privs", "rlimits", "signals"]
    {
        assert_eq!(exec[key], init[key], "{key}");
    }
    assert_eq!(exec["args"], json!([PAYLOAD, "report"]));
}

fn flags_change_the_process() {
    let container = up(sleeper().directory("/work").set("/process/noNewPrivileges", false));
    let flags = [
        "--user=1000:1001",
        "-g",
        "5",
        "--additional-gids",
        "6",
        "--cwd=/work",
        "-e",
        "ONE=1",
        "--env",
        "TERM=dumb",
        "--no-new-privs",
    ];
    let exec = report(&container, &flags, &[]);
    assert_eq!(
        (&exec["uid"], &exec["gid"]),
        (&json!([1000, 1000, 1000, 1000]), &json!([1001, 1001, 1001, 1001]))
    );
    assert_eq!(exec["groups"], json!([5, 6]));
    assert_eq!(exec["cwd"]["Ok"], "/work");
    assert_eq!(exec["no_new_privs"], "1");
    let env = exec["env"].to_string();
    assert!(env.contains("ONE=1") && env.contains("TERM=dumb") && !env.contains("TERM=xterm"), "{env}");
    // Without a group the container's stays.
    assert_eq!(report(&container, &["-u", "1000"], &[])["gid"][0], 0);
}

/// CVE-2026-30892: a number that cannot be read must not become root.
fn user_is_read_strictly() {
    let container = up(sleeper());
    assert_eq!(report(&container, &["-u", "1"], &[])["uid"][0], 1);
    for user in ["", "root", "1x", " 1", "+1", "-1", "0x1", "1:", ":1", "1:2:3", "4294967296", "1:x"] {
        let done = exec(&container, &[&format!("--user={user}")], &["echo:ran"]).done();
        assert_ne!(done.code(), 0, "{user:?}: {}", done.describe());
        assert_eq!(done.stdout(), "", "{user:?} ran");
    }
}

fn cve_2022_29162_inheritable_stays_empty() {
    let container = up(sleeper());
    let before = container.started_report();
    let exec = report(&container, &["--cap", "CAP_NET_RAW", "-c", "CAP_CHOWN"], &[]);
    assert_eq!(exec["capabilities"]["inheritable"], 0);
    assert_eq!(exec["capabilities"]["ambient"], 0);
    for set in ["bounding", "permitted", "effective"] {
        let mut expected = before.capabilities(set);
        expected.extend(["CAP_CHOWN".to_owned(), "CAP_NET_RAW".to_owned()]);
        expected.sort();
        assert_eq!(exec.capabilities(set), expected, "{set}");
    }
    // What it added is its own.
    assert_eq!(report(&container, &[], &[])["capabilities"], before["capabilities"]);
}

/// What config.json lets the programs of the container inherit is added so that a user other than root has it.
fn added_capability_that_may_be_inherited_is_ambient() {
    let container = up(sleeper().set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"], "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "ambient": ["CAP_CHOWN"],
        }),
    ));
    let exec = report(&container, &["--cap", "CAP_SYSLOG", "--cap", "CAP_KILL"], &[]);
    assert_eq!(exec.capabilities("ambient"), ["CAP_CHOWN", "CAP_SYSLOG"]);
    assert_eq!(exec.capabilities("inheritable"), ["CAP_CHOWN", "CAP_SYSLOG"]);
    let user = report(&container, &["--user", "1000", "--cap", "CAP_SYSLOG"], &[]);
    assert_eq!(user.capabilities("effective"), ["CAP_CHOWN", "CAP_SYSLOG"]);
}

fn unknown_capability_is_ignored_with_a_warning() {
    let container = up(sleeper());
    let done = exec(&container, &["--cap", "CAP_NONSENSE"], &["report"]).done().ok();
    assert!(done.stderr().contains("CAP_NONSENSE"), "{}", done.describe());
}

pub fn write_process(container: &Container, process: &Value) -> String {
    let path = container.bundle.path.join("process.json");
    fs::write(&path, process.to_string()).expect("process file");
    path.to_string_lossy().into_owned()
}

fn process_file() {
    let container = up(sleeper().directory("/work"));
    let process = json!({
        "args": [PAYLOAD, "report"], "cwd": "/work", "env": ["PATH=/bin", "ONE=1"],
        "user": { "uid": 3, "gid": 4, "additionalGids": [5] },
        "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
        "oomScoreAdj": 300,
    });
    let file = write_process(&container, &process);
    let done = container.verb("exec", &["--process", &file], &[]).done().ok();
    let exec = Report::parse(&done.stdout());
    assert_eq!((&exec["uid"][0], &exec["gid"][0], &exec["groups"]), (&json!(3), &json!(4), &json!([5])));
    assert_eq!(exec["cwd"]["Ok"], "/work");
    assert_eq!(exec["env"], json!(["PATH=/bin", "ONE=1", "HOME=/"]));
    assert_eq!(exec.capabilities("bounding"), ["CAP_KILL"]);
    assert_eq!(exec["oom_score_adj"], "300");
    assert_eq!(exec["no_new_privs"], "0", "only what the file says");
}

fn process_file_that_is_wrong() {
    let container = up(sleeper());
    for (process, words) in [
        (json!({ "cwd": "/", "args": [] }), "args: "),
        (json!({ "cwd": "etc", "args": ["/bin/true"] }), "cwd: "),
        (json!({ "cwd": "/", "args": ["/bin/true"], "user": { "uid": "root" } }), "uid"),
        (json!([]), "process"),
    ] {
        let file = write_process(&container, &process);
        refused(&container.verb("exec", &["-p", &file], &[]).done(), words);
    }
    refused(&container.verb("exec", &["-p", "/no/such/file"], &[]).done(), "/no/such/file");
}

fn exit_codes() {
    let container = up(sleeper());
    for code in [0, 1, 42, 255] {
        exec(&container, &[], &[&format!("exit:{code}")]).done().exits(code);
    }
    for (signal, code) in [("SIGTERM", 143), ("SIGKILL", 137), ("35", 163)] {
        exec(&container, &[], &[&format!("raise:{signal}"), "echo:survived"]).done().exits(code);
    }
}

fn signals_are_forwarded() {
    let container = up(sleeper());
    let running = exec(&container, &[], &["signals:SIGHUP,SIGUSR1,SIGTERM"]).start();
    running.await_stdout("ready");
    let send = |signal| {
        let pid = nix::unistd::Pid::from_raw(running.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("signal to berth");
    };
    send(nix::sys::signal::Signal::SIGUSR1);
    running.await_stdout("SIGUSR1");
    send(nix::sys::signal::Signal::SIGHUP);
    running.await_stdout("SIGHUP");
    send(nix::sys::signal::Signal::SIGTERM);
    running.await_stdout("SIGTERM");
    assert_eq!(running.wait().code(), 0);
    assert_eq!(container.status(), "running");
}

/// Runs until the container ends; the test is its subreaper, as a shim is.
fn detached_process_outlives_berth() {
    let container = up(sleeper());
    let pid_file = container.bundle.path.join("exec.pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().expect("path")];
    let done = exec(&container, &flags, &["echo:running", "sleep:1000"]).done().ok();
    let text = fs::read_to_string(&pid_file).expect("pid file");
    assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    let pid: i32 = text.parse().expect("a pid");
    assert!(await_condition(|| done.stdout().contains("running")), "{}", done.describe());
    let own = i32::try_from(std::process::id()).expect("a pid");
    let parent =
        host::processes().into_iter().find(|(other, _, _)| *other == pid).map(|(_, parent, _)| parent);
    assert_eq!(parent, Some(own), "it came to the caller's subreaper");
    for kind in KINDS {
        assert_eq!(
            host::namespace(&text, kind),
            host::namespace(&container.pid().to_string(), kind),
            "{kind}"
        );
    }
    container.kill("KILL");
    container.await_status("stopped");
    assert!(await_condition(|| !host::processes().iter().any(|(other, _, _)| *other == pid)), "{pid} lives");
}

/// conmon sees no other sign of a failure.
fn pid_file_is_missing_when_the_program_does_not_run() {
    let container = up(sleeper().file("/bin/text", "no program", 0o755));
    let pid_file = container.bundle.path.join("exec.pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().expect("path")];
    for command in ["/no/such/program", "/bin/text"] {
        refused(&container.verb("exec", &flags, &[command]).done(), command);
        assert!(!pid_file.exists(), "{command}");
    }
}

fn pidfd_socket_gets_the_process() {
    let container = up(sleeper());
    let socket = ConsoleSocket::new();
    let pid_file = container.bundle.path.join("exec.pid");
    let flags = [
        "-d",
        "--pidfd-socket",
        socket.path.to_str().expect("path"),
        "--pid-file",
        pid_file.to_str().expect("path"),
    ];
    exec(&container, &flags, &["sleep:1000"]).done().ok();
    let message = socket.receive();
    assert_eq!(message.descriptors.len(), 1);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", message.descriptors[0].as_raw_fd()));
    let pid = fs::read_to_string(&pid_file).expect("pid file");
    assert!(info.expect("fdinfo").contains(&format!("Pid:\t{pid}\n")), "not a pidfd of {pid}");
}

fn missing_command() {
    let container = up(sleeper().file("/etc/text", "text", 0o644));
    let run = |command| container.verb("exec", &[], &[command]).done();
    refused(&run("/no/such/program"), "no such file or directory");
    refused(&run("no-such-program"), "executable file not found in $PATH");
    refused(&run("/etc/text"), "permission denied");
    refused(&run("/etc"), "permission denied");
    assert_eq!(container.status(), "running");
}

fn missing_cwd() {
    let container = up(sleeper());
    refused(&exec(&container, &["--cwd", "/no/such"], &["echo:ran"]).done(), "/no/such");
    assert!(!container.bundle.rootfs().join("no").exists(), "an exec makes no directory");
    refused(&exec(&container, &["--cwd", "relative"], &["echo:ran"]).done(), "--cwd");
}

fn cve_2024_21626_cwd_through_a_descriptor() {
    let container = up(sleeper());
    for fd in 3..32 {
        for directory in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/../../..")] {
            let done = exec(&container, &["--cwd", &directory], &["report"]).done();
            assert_eq!(done.code(), 255, "{directory}: {}", done.describe());
            assert_eq!(done.stdout(), "", "{directory}");
        }
    }
}

fn seccomp_of_the_container() {
    // 83 is mkdir on x86_64.
    let rules = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }]);
    for no_new_privileges in [true, false] {
        let bundle = sleeper().seccomp("SCMP_ACT_ALLOW", rules.clone());
        let container = up(bundle.set("/process/noNewPrivileges", no_new_privileges));
        let report = report(&container, &[], &["mkdir:/tmp/made"]);
        assert_eq!(report["seccomp"], "2");
        assert_eq!(report.probe("mkdir:/tmp/made"), "ENOSYS");
        assert_eq!(report["capabilities"], container.started_report()["capabilities"]);
    }
}

/// The filter is kept as it was compiled. Who removes it has no process without one, and a container of an older berth,
/// whose config.json is kept whole, has it compiled from that.
fn a_filter_that_is_lost_is_not_left_out() {
    let rules = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }]);
    let container = up(sleeper().seccomp("SCMP_ACT_ALLOW", rules));
    let kept = crate::harness::program::root().join(&container.id);
    let exec = || container.verb("exec", &[], &[PAYLOAD, "mkdir:/tmp/made", "report"]).done();
    for damage in [&b""[..], b"no filter"] {
        fs::write(kept.join("seccomp.bpf"), damage).expect("damage the filter");
        exec().fails_with(255, "seccomp.bpf is no filter of this berth");
    }
    fs::remove_file(kept.join("seccomp.bpf")).expect("remove the filter");
    exec().fails_with(255, "seccomp.bpf is missing");

    let state = fs::read_to_string(kept.join("state.json")).expect("state.json");
    let (with, without) = ("\"filterSaved\":true", "\"filterSaved\":false");
    assert!(state.contains(with), "{state}");
    fs::write(kept.join("state.json"), state.replace(with, without)).expect("state.json");
    fs::copy(container.bundle.path.join("config.json"), kept.join("config.json")).expect("config.json");
    let report = Report::parse(&exec().ok().stdout());
    assert_eq!((&report["seccomp"], report.probe("mkdir:/tmp/made")), (&json!("2"), &json!("ENOSYS")));
}

fn limits_and_scheduling() {
    let container = up(sleeper());
    let affinity = json!({ "initial": "0", "final": "0" });
    let process = json!({
        "args": [PAYLOAD, "read:/proc/self/status", "report"], "cwd": "/", "env": ["PATH=/bin"],
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }],
        "scheduler": { "policy": "SCHED_BATCH", "nice": 5 },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 0 },
        "execCPUAffinity": affinity, "user": { "uid": 0, "gid": 0, "umask": 31 },
    });
    let file = write_process(&container, &process);
    let report = Report::parse(&container.verb("exec", &["-p", &file], &[]).done().ok().stdout());
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!({ "soft": 64, "hard": 128 }));
    assert_eq!((&report["scheduler"]["policy"], &report["scheduler"]["nice"]), (&json!(3), &json!(5)));
    // IOPRIO_CLASS_IDLE is class 3.
    assert_eq!(report["ioprio"], 3 << 13);
    let status = report.probe("read:/proc/self/status").to_string();
    assert!(status.contains("Cpus_allowed_list:\\t0\\n"), "{status}");
}

fn session_keyring_of_the_container() {
    let container = up(sleeper());
    let keyring = container.started_report()["keyring"].clone();
    require!(keyring.is_number(), "no keyrings here: {keyring}");
    assert_eq!(report(&container, &[], &[])["keyring"], keyring);
    // With --no-new-keyring both have the caller's.
    let container = sleeper().container();
    container.command("run", &["--detach", "--no-new-keyring"]).done().ok();
    let callers = report(&container, &[], &[])["keyring"].clone();
    assert_ne!(callers, keyring);
    assert_eq!(report(&container, &[], &[])["keyring"], callers);
}

fn home_of_the_user() {
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/evil:\nann:x:1000:1000::/home/ann:/bin/sh\n";
    let container = up(sleeper().file("/etc/passwd", passwd, 0o644));
    let home = |flags: &[&str]| report(&container, flags, &[])["env"].to_string();
    assert!(home(&["-u", "1000"]).contains("HOME=/home/ann"));
    assert!(home(&["-u", "1234"]).contains("\"HOME=/\""));
    assert!(home(&["-u", "1000", "-e", "HOME=/x"]).contains("HOME=/x"));
}

/// A fifo would hang the exec, a device fill its memory.
fn passwd_that_is_no_file() {
    let container = up(sleeper());
    let passwd = container.bundle.rootfs().join("etc/passwd");
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("mkfifo");
    assert!(report(&container, &[], &[])["env"].to_string().contains("\"HOME=/\""));
    fs::remove_file(&passwd).expect("unlink");
    std::os::unix::fs::symlink("/dev/zero", &passwd).expect("symlink");
    assert!(report(&container, &[], &[])["env"].to_string().contains("\"HOME=/\""));
}

fn created_container() {
    let mut container = sleeper().container();
    container.create();
    let exec = report(&container, &[], &[]);
    assert_eq!(container.status(), "created");
    container.start();
    same_namespaces(&container.started_report(), &exec);
}

fn stopped_container() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.up();
    container.await_status("stopped");
    refused(&exec(&container, &[], &["echo:ran"]).done(), "cannot exec in a stopped container");
}

fn freeze(container: &Container, frozen: bool) {
    let word = |v1: &str| {
        if host::is_v2() { u8::from(frozen).to_string() } else { v1.to_owned() }
    };
    let (file, text) = if host::is_v2() {
        ("cgroup.freeze", word(""))
    } else {
        ("freezer.state", word(if frozen { "FROZEN" } else { "THAWED" }))
    };
    let mountpoint = if host::is_v2() {
        host::hierarchies().remove(0).mountpoint
    } else {
        host::hierarchy_of("freezer").expect("freezer")
    };
    let path = mountpoint.join(container.bundle.cgroup_path().trim_start_matches('/')).join(file);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn paused_container() {
    let container = up(sleeper());
    freeze(&container, true);
    assert!(await_condition(|| container.status() == "paused"));
    let done = exec(&container, &[], &["echo:ran"]).done();
    refused(&done, "cannot exec in a paused container (use --ignore-paused to override)");
    let running = exec(&container, &["--ignore-paused"], &["echo:ran"]).start();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(running.stdout(), "", "the container is frozen");
    freeze(&container, false);
    assert_eq!(running.wait().ok().stdout(), "ran\n");
}

fn unknown_container() {
    let done = program::berth(&["exec", "nobody", "/bin/true"]).done();
    refused(&done, "container does not exist");
    refused(&program::berth(&["exec", "nobody"]).done(), "container does not exist");
    program::berth(&["exec", "--nonsense", "nobody", "/bin/true"]).done().exits(1);
}

fn later_edits_of_the_config_have_no_effect() {
    let container = up(sleeper());
    fs::write(container.bundle.path.join("config.json"), "not JSON").expect("config.json");
    assert_eq!(report(&container, &[], &[])["cwd"]["Ok"], "/");
}

fn concurrent_execs() {
    let container = up(sleeper());
    let running: Vec<Running> =
        (0..20).map(|number| exec(&container, &[], &[&format!("exit:{number}")]).start()).collect();
    for (number, running) in running.into_iter().enumerate() {
        assert_eq!(usize::try_from(running.wait().code()), Ok(number));
    }
    assert_eq!(container.status(), "running");
}

/// It may come before berth looks, while it looks, or after the sign of another child's end.
fn the_end_of_a_short_program_is_noticed() {
    let container = up(sleeper());
    for round in 0..150 / slow() {
        exec(&container, &[], &["exit:3"]).done().exits(3);
        let pid_file = container.bundle.path.join(format!("pid.{round}"));
        exec(&container, &["--pid-file", pid_file.to_str().expect("path")], &["exit:4"]).done().exits(4);
    }
}

fn processes_in(container: &Container) -> usize {
    let pid_namespace = host::namespace(&container.pid().to_string(), "pid");
    let inside = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link.to_string_lossy() == pid_namespace)
    };
    host::processes().iter().filter(|(pid, _, _)| inside(pid)).count()
}

/// Until its program runs the process dies with berth.
fn killed_exec_leaves_no_half_made_process() {
    let container = up(sleeper());
    for round in 0..16_u32 {
        let mut running = exec(&container, &[], &["sleep:1000"]).start();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 700 * u64::from(slow())));
        running.child.kill().expect("kill exec");
        running.wait();
        // A program that runs already may stay; a berth may not.
        let berths = || {
            let own = i32::try_from(std::process::id()).expect("a pid");
            host::descendants(own)
                .into_iter()
                .filter(|(_, name)| name.starts_with("berth"))
                .collect::<Vec<_>>()
        };
        assert!(await_condition(|| berths().is_empty()), "round {round}: {:?}", berths());
    }
    assert_eq!(container.status(), "running");
}

/// A process of the container that tries to look into the joining ones, as their equal in uid.
fn cve_2016_9962_nobody_looks_into_a_joining_process() {
    let container = up(sleeper());
    let spy = exec(&container, &[], &["spy:1.5", "report"]).start();
    while spy.stdout().is_empty() {
        exec(&container, &[], &["exit:0"]).done().ok();
    }
    let found = Report::parse(&spy.wait().ok().stdout()).probe("spy:1.5").clone();
    assert!(found["seen"].as_u64() > Some(0), "no joining process was ever seen");
    assert_eq!(found["opened"], json!([]));
}

/// A container that may trace its processes, without a user namespace; and one with, which sees the mount table of each.
fn nobody_robs_a_joining_process() {
    let marker = program::directory().join("of-the-host");
    fs::write(&marker, "secret").expect("marker");
    let tracer = ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_CHROOT"];
    let sets = ["bounding", "permitted", "effective"];
    for bundle in [sleeper().capabilities(&sets, &tracer), sleeper().user_namespace(100_000, 65_536)] {
        let container = up(bundle);
        let robbing = format!("rob:2:{}", marker.display());
        let robber = exec(&container, &[], &[&robbing, "report"]).start();
        while robber.stdout().is_empty() {
            exec(&container, &[], &["exit:0"]).done().ok();
        }
        let found = Report::parse(&robber.wait().ok().stdout()).probe(&robbing).clone();
        assert!(found["seen"].as_u64() > Some(0), "no joining process was ever seen");
        assert_eq!(found["taken"], json!([]));
    }
}

fn nothing_is_left() {
    let container = up(sleeper());
    let before = host::Listing::take();
    for _ in 0..5 {
        exec(&container, &[], &["echo:words"]).done().ok();
        container.verb("exec", &[], &["/no/such/program"]).done().exits(255);
        exec(&container, &["-d"], &["exit:0"]).done().ok();
    }
    // Another run of the suite may be under way on this machine.
    let mut changes = before.changes();
    changes.retain(|line| line.contains(&tag()) || !line.contains("berth-test"));
    assert_eq!(changes, Vec::<String>::new());
    assert_eq!(processes_in(&container), 1);
}
