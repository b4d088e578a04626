//! checkpoint and restore, by CRIU.

use crate::harness::bundle::{host_payload, set};
use crate::harness::checkpoint::{Case, path, require_criu};
use crate::harness::program::{self, Bounded, Running, await_condition, directory, patience};
use crate::harness::terminal::{ConsoleSocket, Terminal, pty};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};

tests! {
    counting_process, leave_running, paused_container, tcp_listener, established_connection, configuration_by_annotation,
    terminal, terminal_in_the_foreground, foreground_exit_code, pre_dump_chain, pipes_of_the_engine, preserved_descriptors, null_device_becomes_what_it_was,
    network_namespace_by_path, hooks, what_protects_the_host_is_there_again, limits_are_there_again,
    containerds_command_lines, podmans_probes, lazy_pages, paths_of_the_caller,
    closed_connection, connection_in_flight, socket_with_a_peer_outside, locked_file, unlinked_program,
    modes_of_cgroups, image_that_is_used_up, page_server_is_called, orphans_come_to_restore_unless_told,
    session_keyring, security_profile,
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

/// Does `work` in the network namespace of the container's process.
fn in_network_of<T: Send + 'static>(pid: i32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).expect("network namespace");
    // setns(2) is of one thread.
    #[allow(clippy::disallowed_methods)]
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        work()
    });
    thread.join().expect("the thread")
}

fn echo(pid: i32, word: &'static str) -> String {
    in_network_of(pid, move || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", 4567)).expect("connect");
        stream.set_read_timeout(Some(patience())).expect("timeout");
        stream.write_all(word.as_bytes()).expect("write");
        stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    })
}

fn tcp_listener() {
    let mut case = Case::new(Bundle::new().steps(&["serve:4567"]));
    case.container.up();
    case.container.await_output("serving");
    assert_eq!(echo(case.container.pid(), "before"), "before");
    // What is left of that connection, in TIME_WAIT, is nobody's any more.
    case.checkpoint(&[]).ok();
    // The output of create was a file that has grown; restore's must be as long (CRIU looks at it).
    let mut command = case.restore_command(&["--detach"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo serving; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env("PATH", path()).stdin(Stdio::null());
    command = shell;
    command.done().ok();
    assert_eq!(echo(case.container.pid(), "after"), "after");
}

fn established_connection() {
    let mut case = Case::new(Bundle::new().steps(&["converse:/vol/count"]));
    case.up();
    // The flag is needed, which is said; and nothing has happened to the container.
    case.checkpoint(&[]).fails("--tcp-established");
    case.await_more(case.count());
    case.checkpoint(&["--tcp-established"]).ok();
    let counted = case.count();
    case.restore(&[]).fails("Connected TCP socket");
    case.restore(&["--tcp-established"]).ok();
    case.await_more(counted);
}

fn configuration_by_annotation() {
    let config = directory().join("criu.conf");
    fs::write(&config, "tcp-established\n").expect("criu.conf");
    let bundle = Bundle::new()
        .steps(&["converse:/vol/count"])
        .set("/annotations", json!({ "org.criu.config": config }));
    let mut case = Case::new(bundle);
    case.up();
    case.checkpoint(&[]).ok();
    let counted = case.count();
    case.restore(&[]).ok();
    case.await_more(counted);
}

fn terminal() {
    let mut case = Case::new(Bundle::new().set("/process/terminal", true).steps(&["cat"]));
    let socket = ConsoleSocket::new();
    case.container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    let mut before = Terminal::new(socket.receive().descriptors.remove(0));
    case.container.start();
    before.type_in("before\n");
    before.read_until(|text| text.matches("before\n").count() == 2);
    case.checkpoint(&["--shell-job"]).ok();
    drop(before);
    fs::remove_file(&socket.path).expect("the first socket");
    let socket = ConsoleSocket::new();
    case.restore(&["--shell-job", "--console-socket", socket.path.to_str().expect("path")]).ok();
    let mut console = socket.receive();
    assert_eq!(console.descriptors.len(), 1);
    let mut after = Terminal::new(console.descriptors.remove(0));
    after.type_in("after\n");
    after.read_until(|text| text.matches("after\n").count() == 2);
    case.is_running();
}

fn terminal_in_the_foreground() {
    let mut case = Case::new(Bundle::new().set("/process/terminal", true).steps(&["cat", "exit:5"]));
    let socket = ConsoleSocket::new();
    case.container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    let master = socket.receive();
    case.container.start();
    case.checkpoint(&[]).ok();
    drop(master);
    let (mut terminal, slave) = pty();
    let command = case.restore_command(&[]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$@\" >&0 2>&0", "sh"]).arg(command.get_program()).args(command.get_args());
    let running = start(shell, slave);
    assert!(await_condition(|| case.container.pid_file().exists()), "no pid file; {}", running.stdout());
    terminal.type_in("through\n");
    terminal.read_until(|text| text.matches("through\n").count() >= 2);
    terminal.type_in("\u{4}");
    assert_eq!(running.wait().code(), 5);
    case.is_gone();
}

fn start(mut shell: Command, stdin: impl Into<Stdio>) -> Running {
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

/// A command whose stdout is read by us.
fn piped(mut command: Command) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("spawn");
    let stdout = BufReader::new(child.stdout.take().expect("stdout"));
    (child, stdout)
}

fn number(reader: &mut impl BufRead) -> u64 {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"))
}

fn pipes_of_the_engine() {
    let case = Case::new(Bundle::new().steps(&["count:"]));
    let (mut child, mut before) = piped(case.container.command("run", &["--detach"]));
    assert!(child.wait().expect("run").success());
    while number(&mut before) < 3 {}
    case.checkpoint(&[]).ok();
    // All that it had written is in the old pipe, and then its end.
    let mut last = 0;
    let mut rest = String::new();
    before.read_to_string(&mut rest).expect("the rest");
    for line in rest.lines() {
        last = line.parse().expect("a number");
    }
    let (mut child, mut after) = piped(case.restore_command(&["--detach"]));
    assert!(child.wait().expect("restore").success());
    assert_eq!(number(&mut after), last + 1, "nothing is lost, nothing comes twice");
    while number(&mut after) < last + 5 {}
    case.container.finish();
}

/// Nothing of the host's, so that the restore may be called with anything in its place.
fn null_device_becomes_what_it_was() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&[]).ok();
    let before = case.count();
    let (input, _) = std::io::pipe().expect("pipe");
    let mut command = case.restore_command(&["--detach"]);
    assert!(command.stdin(input).status().expect("restore").success());
    case.await_more(before);
    let link = fs::read_link(format!("/proc/{}/fd/0", case.container.pid())).expect("stdin");
    assert_eq!(link, std::path::Path::new("/dev/null"));
}

fn preserved_descriptors() {
    let case = Case::new(Bundle::new().steps(&["count:/dev/fd/3"]));
    let with_three = |command: Command| {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec \"$@\" 3>&1 >/dev/null", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        shell.env("PATH", path());
        shell
    };
    let (mut child, mut before) =
        piped(with_three(case.container.command("run", &["--detach", "--preserve-fds", "1"])));
    assert!(child.wait().expect("run").success());
    let mut byte = [0];
    before.read_exact(&mut byte).expect("it counts");
    case.checkpoint(&[]).ok();
    drop(before);
    let (mut child, mut after) =
        piped(with_three(case.restore_command(&["--detach", "--preserve-fds", "1"])));
    assert!(child.wait().expect("restore").success());
    after.read_exact(&mut byte).expect("it goes on counting");
    case.container.finish();
}

fn network_namespace_by_path() {
    require_criu();
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sleep", "1000"]).stdin(Stdio::null());
    let holder = holder.start();
    let path = format!("/proc/{}/ns/net", holder.child.id());
    let own = fs::read_link("/proc/self/ns/net").expect("own");
    assert!(await_condition(|| fs::read_link(&path).is_ok_and(|link| link != own)), "no network namespace");
    let mut case = Case::new(Bundle::new().namespace("network", Some(&path)).steps(&["count:/vol/count"]));
    case.up();
    let network =
        |case: &Case| fs::read_link(format!("/proc/{}/ns/net", case.container.pid())).expect("link");
    assert_eq!(network(&case), fs::read_link(&path).expect("link"));
    case.checkpoint(&[]).ok();
    case.restore(&[]).ok();
    assert_eq!(network(&case), fs::read_link(&path).expect("link"));
    case.container.finish();
    // It has to be there for a restore; a path to something else is refused.
    let namespaces = case.container.bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.iter_mut().find(|one| one["type"] == "network").expect("network")["path"] = json!("/dev/null");
    case.restore(&[]).fails("/dev/null");
    case.is_gone();
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

/// What was connected is found closed.
fn closed_connection() {
    let mut case = Case::new(Bundle::new().steps(&["converse:/vol/count", "exit:6"]));
    case.up();
    case.checkpoint(&["--tcp-established", "--leave-running"]).ok();
    let closed = |case: &Case| {
        let done = case.restore_command(&["--tcp-close"]).done().exits(6);
        assert!(done.stderr().contains("payload: converse: "), "{}", done.describe());
    };
    // Then without the state of the connection in the image, which an older CRIU has to have.
    let done = case.checkpoint(&["--tcp-close"]);
    let lacks = done.stderr().contains("--tcp-established");
    if lacks {
        case.container.finish();
    }
    closed(&case);
    require!(!lacks, "this CRIU knows --tcp-close in a restore only");
    done.ok();
}

/// A frozen container accepts nothing.
fn connection_in_flight() {
    let case = Case::new(Bundle::new().steps(&["serve:4567"]));
    let output = || fs::File::options().append(true).open("/dev/null").expect("/dev/null");
    let mut command = case.container.command("run", &["--detach"]);
    command
        .arg("--pid-file")
        .arg(case.container.pid_file())
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output());
    assert!(command.status().expect("run").success());
    let pid = case.container.pid();
    assert!(await_condition(|| {
        in_network_of(pid, || std::net::TcpStream::connect(("127.0.0.1", 4567)).is_ok())
    }));
    // One after the other: nothing is left of the first.
    assert_eq!(echo(pid, "before"), "before");
    case.container.verb("pause", &[], &[]).done().ok();
    let caller = in_network_of(pid, || std::net::TcpStream::connect(("127.0.0.1", 4567)).expect("connect"));
    case.checkpoint(&[]).fails("skip-in-flight");
    case.checkpoint(&["--tcp-skip-in-flight"]).ok();
    drop(caller);
    case.is_gone();
    let mut command = case.restore_command(&["--detach"]);
    command.stdin(Stdio::null()).stdout(output()).stderr(output());
    assert!(command.status().expect("restore").success());
    assert_eq!(echo(case.container.pid(), "after"), "after");
}

/// The container's output is a socket whose other end is the host's.
fn socket_with_a_peer_outside() {
    let name = format!("berth-test-{}", std::process::id());
    let address = <SocketAddr as SocketAddrExt>::from_abstract_name(name.as_bytes()).expect("a name");
    let outside = UnixDatagram::bind_addr(&address).expect("bind");
    outside.set_read_timeout(Some(patience())).expect("timeout");
    let connected = || {
        let socket = UnixDatagram::unbound().expect("socket");
        socket.connect_addr(&address).expect("connect");
        OwnedFd::from(socket)
    };
    let case = Case::new(Bundle::new().without_namespace("network").steps(&["count:"]));
    let mut command = case.container.command("run", &["--detach"]);
    command.stdin(Stdio::null()).stdout(connected()).stderr(Stdio::null());
    assert!(command.status().expect("run").success());
    drop(command);
    let mut word = [0; 32];
    outside.recv(&mut word).expect("it counts");
    case.checkpoint(&[]).fails("ext-unix-sk");
    case.checkpoint(&["--ext-unix-sk"]).ok();
    outside.set_nonblocking(true).expect("nonblocking");
    while outside.recv(&mut word).is_ok() {}
    outside.set_nonblocking(false).expect("blocking");
    case.restore(&["--ext-unix-sk"]).ok();
    outside.recv(&mut word).expect("it goes on counting");
    case.container.finish();
}

/// Locked by the container; who else tries is told to wait.
fn locked_file() {
    let lock = format!("syscall:{}:3:{}", libc::SYS_flock, libc::LOCK_EX);
    let case = Case::new(Bundle::new().steps(&[&lock, "count:/vol/count"]));
    let file = case.volume.join("locked");
    fs::write(&file, "").expect("file");
    let with_file = |command: Command| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "file=$1; shift; exec \"$@\" 3<>\"$file\"", "sh"]).arg(&file);
        shell.arg(command.get_program()).args(command.get_args()).env("PATH", path());
        shell.stdin(Stdio::null()).stdout(Stdio::null());
        shell.done()
    };
    let is_locked = || {
        let file = fs::File::open(&file).expect("file");
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, nix::errno::Errno::EWOULDBLOCK)))
    };
    with_file(case.container.command("run", &["--detach", "--preserve-fds", "1"])).ok();
    case.await_more(2);
    assert!(is_locked());
    case.checkpoint(&[]).fails("file-locks");
    case.checkpoint(&["--file-locks"]).ok();
    assert!(!is_locked());
    let counted = case.count();
    with_file(case.restore_command(&["--detach", "--preserve-fds", "1"])).ok();
    case.await_more(counted);
    assert!(!is_locked());
    case.container.finish();
    with_file(case.restore_command(&["--detach", "--preserve-fds", "1", "--file-locks"])).ok();
    case.await_more(counted);
    assert!(is_locked());
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
