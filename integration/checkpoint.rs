//! checkpoint and restore, by CRIU.

use crate::harness::bundle::{host_payload, set};
use crate::harness::checkpoint::{Case, path};
use crate::harness::program::{self, Bounded, Running, await_condition, directory};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

tests! {
    counting_process, leave_running, paused_container, foreground_exit_code, pre_dump_chain, hooks,
    what_protects_the_host_is_there_again, limits_are_there_again, containerds_command_lines, podmans_probes,
    lazy_pages, paths_of_the_caller, unlinked_program, modes_of_cgroups, image_that_is_used_up,
    page_server_is_called, orphans_come_to_restore_unless_told, session_keyring, security_profile,
}

fn counting_process() {
    let mut case = Case::counting();
    case.up();
    let pid = case.container.pid();
    case.checkpoint(&[]).ok();
    case.is_gone();
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the process is still there");
    let counted = case.count();
    assert!(counted > 2);
    // Twice from one image: a checkpoint is not used up.
    for _ in 0..2 {
        case.restore(&[]).ok();
        // It goes on where it was, not from 0.
        case.await_more(counted);
        case.is_running();
        case.container.finish();
        case.is_gone();
        fs::write(case.volume.join("count"), "0").expect("count");
    }
}

fn leave_running() {
    let mut case = Case::counting();
    case.up();
    let pid = case.container.pid();
    case.checkpoint(&["--leave-running"]).ok();
    assert_eq!(case.container.pid(), pid);
    case.is_running();
    case.await_more(case.count());
    case.container.finish();
    case.restore(&[]).ok();
    case.is_running();
}

fn paused_container() {
    let mut case = Case::counting();
    case.up();
    case.container.verb("pause", &[], &[]).done().ok();
    case.checkpoint(&["--leave-running"]).ok();
    assert_eq!(case.container.status(), "paused");
    case.container.verb("resume", &[], &[]).done().ok();
    case.await_more(case.count());
}

pub fn start(mut shell: Command, stdin: impl Into<Stdio>) -> Running {
    shell.env("PATH", path()).stdin(stdin);
    shell.start()
}

fn foreground_exit_code() {
    let mut case = Case::new(Bundle::new().steps(&["count:/vol/count"]));
    case.up();
    case.checkpoint(&[]).ok();
    let counted = case.count();
    let running = case.restore_command(&[]).start();
    case.await_more(counted);
    case.container.kill("KILL");
    assert_eq!(running.wait().code(), 137);
    // As after `run`, nothing is left.
    case.is_gone();
}

fn pre_dump_chain() {
    let mut case = Case::counting();
    case.up();
    let chain = case.image.clone();
    case.image = chain.join("first");
    let first = case.checkpoint(&["--pre-dump"]);
    if first.stderr().contains("cannot track changed memory") {
        // The reason is told before anything is written.
        first.fails("CONFIG_MEM_SOFT_DIRTY");
        assert!(!case.image.join("pages-1.img").exists());
        case.is_running();
        skip("the kernel cannot track changed memory".into());
    }
    first.ok();
    case.is_running();
    case.await_more(case.count());
    case.image = chain.join("second");
    case.checkpoint(&["--pre-dump", "--parent-path", "../first"]).ok();
    case.image = chain.join("last");
    let blocks = || fs::metadata(chain.join("second/pages-1.img")).expect("pages").blocks();
    let before = blocks();
    case.checkpoint(&["--parent-path", "../second", "--auto-dedup"]).ok();
    // What has changed again is taken out of the image before.
    assert!(blocks() < before, "{} of {before} blocks", blocks());
    case.is_gone();
    assert_eq!(fs::read_link(case.image.join("parent")).expect("parent"), Path::new("../second"));
    let counted = case.count();
    case.restore(&[]).ok();
    case.await_more(counted);
}

fn hooks() {
    let log = directory().join("hooks");
    let log = log.to_str().expect("path");
    let mut bundle = Bundle::new().steps(&["count:/vol/count"]);
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        if kind == "startContainer" {
            continue;
        }
        bundle = bundle.hook_at(
            kind,
            &host_payload().to_string_lossy(),
            &[&format!("label:{kind}"), "stdin", &format!("report:{log}")],
        );
    }
    let mut case = Case::new(bundle);
    case.up();
    let seen = || -> Vec<(String, String)> {
        let text = fs::read_to_string(log).unwrap_or_default();
        let reports = Report::all(&text);
        reports
            .iter()
            .map(|report| {
                let state = report.probe("stdin");
                (
                    report.probe("label").as_str().unwrap_or_default().into(),
                    state["status"].as_str().unwrap_or_default().into(),
                )
            })
            .collect()
    };
    let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&seen()), ["prestart", "createRuntime", "createContainer", "poststart"]);
    case.checkpoint(&[]).ok();
    assert_eq!(seen().last().expect("a hook"), &("poststop".to_owned(), "stopped".to_owned()));
    fs::remove_file(log).expect("log");
    // runc's: those of the runtime's namespaces, which give the network; the program is not started anew.
    case.restore(&[]).ok();
    assert_eq!(names(&seen()), ["prestart", "createRuntime"]);
}

fn what_protects_the_host_is_there_again() {
    let bundle = Bundle::new()
        .set("/root/readonly", true)
        .set("/linux/maskedPaths", json!(["/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/timer_list"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys"]))
        .steps(&["count:/vol/count"]);
    fs::create_dir(bundle.rootfs().join("vol")).expect("/vol");
    let mut case = Case::new(bundle);
    let steps = [
        "/bin/payload",
        "create:/new:x",
        "read:/proc/keys",
        "list:/sys/firmware",
        "write:/proc/sys/kernel/domainname:x",
        "device:c:10:229",
        "open:/dev/null:rw",
        "report",
    ];
    let probe = |case: &Case| {
        let done = case.container.verb("exec", &[], &steps).done().ok();
        let report = Report::parse(&done.stdout());
        let probes: Vec<Value> =
            steps[1..steps.len() - 1].iter().map(|step| report.probe(step).clone()).collect();
        json!({ "probes": probes, "capabilities": report["capabilities"] })
    };
    case.up();
    let before = probe(&case);
    assert_eq!(before["probes"][0], "EROFS", "{before}");
    let mounts = |case: &Case| {
        let text =
            fs::read_to_string(format!("/proc/{}/mountinfo", case.container.pid())).expect("mountinfo");
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                format!("{} {} {}", fields[3], fields[4], fields[5])
            })
            .collect();
        lines.sort();
        lines
    };
    let before_mounts = mounts(&case);
    case.checkpoint(&[]).ok();
    case.restore(&[]).ok();
    assert_eq!(mounts(&case), before_mounts);
    assert_eq!(probe(&case), before);
    case.container.finish();
    // CRIU enters the rootfs in its own way.
    case.restore(&["--no-pivot"]).ok();
    assert_eq!(mounts(&case), before_mounts);
    assert_eq!(probe(&case), before);
}

fn limits_are_there_again() {
    let bundle =
        Bundle::new().set("/linux/resources/pids", json!({ "limit": 77 })).steps(&["count:/vol/count"]);
    require!(host::hierarchy_of("pids").is_some(), "no controller pids here");
    let mut case = Case::new(bundle);
    let limit = |case: &Case| {
        let cgroup = case.container.bundle.config["linux"]["cgroupsPath"].as_str().expect("cgroupsPath");
        host::control("pids", cgroup, "pids.max", "pids.max")
    };
    case.up();
    assert_eq!(limit(&case), "77");
    case.checkpoint(&[]).ok();
    // Another cgroup than before: the image does not decide where it is.
    let elsewhere = format!("{}-restored", case.container.bundle.cgroup_path());
    set(&mut case.container.bundle.config, "/linux/cgroupsPath", json!(elsewhere));
    case.restore(&[]).ok();
    assert_eq!(limit(&case), "77");
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", case.container.pid())).expect("cgroup");
    assert!(cgroups.contains("-restored"), "{cgroups}");
}

/// As containerd's shim calls it through go-runc.
fn containerds_command_lines() {
    let mut case = Case::counting();
    case.up();
    let work = case.container.bundle.path.join("work");
    let work = work.to_str().expect("path");
    case.checkpoint(&[
        "--work-path",
        work,
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--manage-cgroups-mode",
        "soft",
        "--empty-ns",
        "network",
    ])
    .ok();
    assert!(Path::new(work).join("dump.log").exists());
    let counted = case.count();
    case.restore(&[
        "--work-path",
        work,
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--manage-cgroups-mode",
        "soft",
        "-no-subreaper",
        "-no-pivot",
        "--empty-ns",
        "network",
    ])
    .ok();
    case.await_more(counted);
    assert!(Path::new(work).join("restore.log").exists());
    case.is_running();
}

fn podmans_probes() {
    program::berth(&["checkpoint", "--help"]).done().ok();
    program::berth(&["restore", "--lsm-mount-context"]).done().fails("flag needs an argument");
}

fn lazy_pages() {
    let mut case = Case::counting();
    case.up();
    let (mut ready, told) = std::io::pipe().expect("pipe");
    let mut command =
        case.container.verb("checkpoint", &["--lazy-pages", "--page-server", "127.0.0.1:47890"], &[]);
    command.arg("--image-path").arg(&case.image).args(["--status-fd", "3"]);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec \"$@\" 3>&0 0</dev/null", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let running = start(shell, told);
    let mut byte = [1];
    let read = ready.read(&mut byte).expect("the status descriptor");
    if read == 0 {
        let done = running.wait();
        require!(!done.stderr().contains("userfaultfd"), "the kernel lacks userfaultfd(2)");
        panic!("{}", done.describe());
    }
    assert_eq!(byte, [0]);
    let mut pages = Command::new("criu");
    pages.env("PATH", path()).args([
        "lazy-pages",
        "--page-server",
        "--address",
        "127.0.0.1",
        "--port",
        "47890",
        "-D",
    ]);
    pages.arg(&case.image).stdin(Stdio::null());
    let pages = pages.start();
    assert!(await_condition(|| case.image.join("lazy-pages.socket").exists()), "{:?}", pages.stdout());
    // The first container keeps its id and its cgroup until its memory is fetched.
    let counted = case.count();
    let elsewhere = format!("{}-restored", case.container.bundle.cgroup_path());
    let bundle =
        Bundle { path: case.container.bundle.path.clone(), config: case.container.bundle.config.clone() };
    let restored = bundle.set("/linux/cgroupsPath", elsewhere).container();
    let mut command = restored.command("restore", &["--detach", "--lazy-pages"]);
    command.arg("--image-path").arg(&case.image).arg("--work-path").arg(&case.image).env("PATH", path());
    let done = command.done();
    if !done.status.success() {
        let served = running.wait();
        let why = "page-pipe: splice: -1: Bad file descriptor";
        require!(!served.stderr().contains(why), "CRIU's page server does not work on this kernel: {why}");
        panic!("{}\n{}", done.describe(), served.describe());
    }
    case.await_more(counted);
    running.wait().ok();
    pages.wait().ok();
    case.is_gone();
    assert_eq!(restored.status(), "running");
}

/// Paths are those of the caller, and the image is where nobody says.
fn paths_of_the_caller() {
    let mut case = Case::counting();
    case.up();
    let above = directory();
    let bundle = case.container.bundle.path.strip_prefix(&above).expect("a bundle of ours").to_path_buf();
    let here = |verb: &str, flags: &[&str]| {
        let mut command = program::berth(&[verb]);
        command.args(flags).arg(&case.container.id).env("PATH", path()).current_dir(&above);
        command.done()
    };
    here("checkpoint", &["--leave-running"]).ok();
    assert!(above.join("checkpoint/inventory.img").exists());
    here("checkpoint", &["--image-path", "images/one", "--work-path", "work"]).ok();
    assert!(above.join("images/one/inventory.img").exists() && above.join("work/dump.log").exists());
    assert!(!above.join("images/one/dump.log").exists());
    let counted = case.count();
    let bundle = bundle.to_str().expect("path");
    let flags = ["--detach", "--bundle", bundle, "--pid-file", "restored.pid", "--work-path", "work"];
    here("restore", &[&flags[..], &["--image-path", "nowhere"]].concat()).fails("--image-path");
    here("restore", &[&flags[..], &["--image-path", "images/one"]].concat()).ok();
    case.await_more(counted);
    assert!(above.join("work/restore.log").exists() && !above.join("images/one/restore.log").exists());
    let pid: i64 = fs::read_to_string(above.join("restored.pid")).expect("pid file").parse().expect("a pid");
    assert_eq!(case.container.state()["pid"], pid);
}

/// The program's name is gone while it runs, and others are left.
fn unlinked_program() {
    let mut case = Case::counting();
    case.up();
    let program = case.container.bundle.rootfs().join("bin/payload");
    fs::remove_file(&program).expect("the name");
    case.checkpoint(&[]).fails("link-remap");
    case.checkpoint(&["--link-remap"]).ok();
    let counted = case.count();
    case.restore(&[]).ok();
    case.await_more(counted);
    assert!(!program.exists());
}

fn modes_of_cgroups() {
    let mut case = Case::counting();
    case.up();
    let image = case.image.clone();
    let mut dumped = |mode: &str| {
        case.image = image.join(mode);
        case.checkpoint(&["--leave-running", "--manage-cgroups-mode", mode]).ok();
        let image = fs::read(case.image.join("cgroup.img")).expect("cgroup.img");
        image.len()
    };
    let ignored = dumped("ignore");
    let soft = dumped("soft");
    assert!(ignored < soft, "{ignored} and {soft} bytes");
    case.container.finish();
    // It is there: berth has made it.
    case.restore(&["--manage-cgroups-mode", "strict"]).fails("existing cgroups");
    case.is_gone();
    case.restore(&["--manage-cgroups-mode", "ignore"]).ok();
    case.is_running();
}

/// What is restored is taken out of the image.
fn image_that_is_used_up() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&[]).ok();
    let blocks = || fs::metadata(case.image.join("pages-1.img")).expect("pages").blocks();
    let before = blocks();
    case.restore(&[]).ok();
    assert_eq!(blocks(), before);
    case.container.finish();
    case.restore(&["--auto-dedup"]).ok();
    assert!(blocks() < before, "{} of {before} blocks", blocks());
    case.is_running();
}

/// Whose address it is gets the call; the memory goes nowhere here, and the container lives.
fn page_server_is_called() {
    let mut case = Case::counting();
    case.up();
    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = server.local_addr().expect("address").to_string();
    // accept(2) blocks.
    #[allow(clippy::disallowed_methods)]
    let called = std::thread::spawn(move || server.accept().map(drop));
    case.checkpoint(&["--page-server", &address]).fails("criu dump: ");
    assert!(called.is_finished(), "nobody has called");
    case.is_running();
}

/// What comes after the end of its input is done after the restore.
fn waiting(bundle: Bundle, then: &[&str]) -> Case {
    let case = Case::new(bundle.steps(&[&["create:/vol/ready:x", "cat"], then].concat()));
    let mut command = case.container.command("run", &["--detach"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().expect("run");
    let stdin = run.stdin.take();
    assert!(run.wait().expect("run").success());
    assert!(await_condition(|| case.volume.join("ready").exists()), "not started");
    case.checkpoint(&[]).ok();
    drop(stdin);
    case
}

/// Restored in the foreground, its input at its end.
fn go_on(case: &Case, flags: &[&str]) -> Running {
    let command = case.restore_command(flags);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec \"$@\" >/dev/null 2>&1", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let (input, _) = std::io::pipe().expect("pipe");
    start(shell, input)
}

fn orphans_come_to_restore_unless_told() {
    for (flags, comes_to_restore) in [(&[][..], true), (&["--no-subreaper"][..], false)] {
        // A child that makes a child and ends.
        let then = ["background:background:sleep:1000", "sleep:1000"];
        let case = waiting(Bundle::new().without_namespace("pid"), &then);
        let running = go_on(&case, flags);
        let restore = i64::from(running.child.id());
        let own = i64::from(std::process::id());
        let reaper = if comes_to_restore { restore } else { own };
        let is_there = || {
            let text = case.container.verb("ps", &["--format", "json"], &[]).done().stdout();
            let pids: Vec<i64> = serde_json::from_str(&text).unwrap_or_default();
            let init = i64::from(case.container.pid());
            let mut processes = host::processes();
            processes.retain(|(pid, ..)| i64::from(*pid) != init && pids.contains(&i64::from(*pid)));
            // CRIU, as long as it is at work, is among them.
            matches!(&processes[..], [(_, parent, name)] if i64::from(*parent) == reaper && name != "criu")
        };
        assert!(await_condition(|| case.container.pid_file().exists()), "no pid file");
        assert!(await_condition(is_there), "{flags:?}: the orphan did not come to {reaper}");
        host::kill_process(case.container.pid());
        assert_eq!(running.wait().code(), 137);
    }
}

fn session_keyring() {
    let case = waiting(Bundle::new(), &["report:/vol/report"]);
    let keyring = |flags: &[&str]| {
        go_on(&case, flags).wait().ok();
        let report = fs::read_to_string(case.volume.join("report")).expect("report");
        fs::remove_file(case.volume.join("report")).expect("report");
        Report::parse(&report)["keyring"].clone()
    };
    let callers = keyring(&["--no-new-keyring"]);
    assert!(!callers.is_null());
    assert_eq!(keyring(&["--no-new-keyring"]), callers, "both have the caller's");
    assert_ne!(keyring(&[]), callers);
}

/// Of an unknown kind on every host.
fn security_profile() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&[]).ok();
    case.restore(&["--lsm-profile", "nothing:berth"]).fails("nothing");
    case.is_gone();
    case.restore(&["--lsm-profile", "berth"]).fails("--lsm-profile");
    case.is_gone();
    // It stands in for contexts that mounts have; there are none.
    case.restore(&["--lsm-mount-context", "system_u:object_r:container_file_t:s0"]).ok();
    case.is_running();
}
