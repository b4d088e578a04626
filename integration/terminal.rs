//! process.terminal: over the console socket, and relayed in the foreground.

use crate::harness::program::{Bounded, Running};
use crate::harness::terminal::{ConsoleSocket, Terminal, pty};
use crate::harness::*;
use crate::tests;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

tests! {
    console_socket_gets_one_descriptor, console_is_the_containers_terminal, console_size, console_size_without_a_terminal_is_ignored,
    terminal_without_a_socket_is_refused, socket_without_a_terminal_is_refused, missing_socket_is_refused, foreground_relay,
    foreground_relay_passes_the_window_size, newlines_of_a_terminal_into_a_pipe, foreground_relay_restores_the_terminal, foreground_exit_code_through_a_terminal,
    dev_console_is_the_terminal, owner_of_the_terminal, hangup_of_the_master, the_end_of_a_pipe_is_the_end_of_input, control_characters_reach_the_container,
    signals_pass_a_reader_who_does_not_read, all_is_printed_that_fits_nowhere_at_once,
}

fn with_terminal(steps: &[&str]) -> Bundle {
    Bundle::new().set("/process/terminal", true).steps(steps)
}

fn create(bundle: Bundle) -> (Container, Terminal) {
    let socket = ConsoleSocket::new();
    let mut container = bundle.container();
    let done = container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    assert!(done.status.success(), "{}", done.describe());
    let mut console = socket.receive();
    assert_eq!(console.descriptors.len(), 1);
    let terminal = Terminal::new(console.descriptors.remove(0));
    (container, terminal)
}

fn console_socket_gets_one_descriptor() {
    let socket = ConsoleSocket::new();
    let mut container = with_terminal(&["sleep:1000"]).container();
    container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    let mut console = socket.receive();
    assert_eq!(console.descriptors.len(), 1);
    assert!(!console.payload.is_empty() && console.payload.len() < 4096, "{}", console.payload.len());
    assert_eq!(console.stream.read(&mut [0; 16]).expect("read"), 0, "nothing follows");
}

fn console_is_the_containers_terminal() {
    let (mut container, mut terminal) = create(with_terminal(&["report", "cat"]));
    container.start();
    let text = terminal.read_until(|text| text.contains("\"uid_map\"") && text.ends_with('\n'));
    let report = Report::parse(&text);
    for fd in 0..3 {
        assert_eq!(report["tty"][fd]["name"], "/dev/pts/0", "{}", report["tty"]);
        assert_eq!(report["tty"][fd]["foreground"], 1, "a controlling terminal: {}", report["tty"]);
    }
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!(report["sid"], 1);
    terminal.type_in("hello\n");
    // Once from the terminal's echo, once from the payload.
    terminal.read_until(|text| text.matches("hello\n").count() == 2);
}

/// Who has no terminal to type ^D on would wait for ever.
fn the_end_of_a_pipe_is_the_end_of_input() {
    for input in ["", "words\n", "half a line"] {
        let container = with_terminal(&["cat", "echo:after the end"]).container();
        let file = program::directory().join("input");
        std::fs::write(&file, input).expect("input");
        let mut run = container.command("run", &[]);
        run.stdin(std::fs::File::open(&file).expect("input"));
        let stdout = run.done().ok().stdout();
        assert!(stdout.contains(input.trim()) && stdout.contains("after the end"), "{input:?}: {stdout:?}");
    }
}

fn dev_console_is_the_terminal() {
    let (mut container, mut terminal) = create(with_terminal(&[
        "stat:/dev/console",
        "stat:/dev/pts/0",
        "open:/dev/console:rw",
        "report",
        "sleep:100",
    ]));
    container.start();
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    let (console, slave) = (report.probe("stat:/dev/console"), report.probe("stat:/dev/pts/0"));
    assert_eq!(
        (&console["type"], &console["major"], &console["minor"]),
        (&json!("c"), &slave["major"], &slave["minor"])
    );
    assert_eq!(report.probe("open:/dev/console:rw"), "ok");
    assert!(report.mount("/dev/console").is_some());
}

fn owner_of_the_terminal() {
    let user = json!({ "uid": 1000, "gid": 1000 });
    let (mut container, mut terminal) = create(
        with_terminal(&["stat:/dev/pts/0", "open:/dev/pts/0:rw", "report", "sleep:100"])
            .set("/process/user", user),
    );
    container.start();
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    let stat = report.probe("stat:/dev/pts/0");
    assert_eq!((&stat["uid"], &stat["gid"], &stat["mode"]), (&json!(1000), &json!(5), &json!("0620")));
    assert_eq!(report.probe("open:/dev/pts/0:rw"), "ok");
}

fn console_size() {
    let (mut container, mut terminal) = create(
        with_terminal(&["report", "sleep:100"])
            .set("/process/consoleSize", json!({ "height": 33, "width": 77 })),
    );
    container.start();
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    assert_eq!((&report["tty"][0]["rows"], &report["tty"][0]["columns"]), (&json!(33), &json!(77)));
}

fn console_size_without_a_terminal_is_ignored() {
    let report = Bundle::new().set("/process/consoleSize", json!({ "height": 33, "width": 77 })).report();
    assert_eq!(report["tty"], json!([null, null, null]));
}

fn terminal_without_a_socket_is_refused() {
    let mut container = with_terminal(&["sleep:1000"]).container();
    let done = container.try_create(&[]);
    assert_eq!(done.code(), 1);
    assert!(done.stderr().contains("console"), "{}", done.describe());
    container.verb("state", &[], &[]).done().fails("does not exist");
}

fn socket_without_a_terminal_is_refused() {
    let socket = ConsoleSocket::new();
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    let done = container.try_create(&["--console-socket", socket.path.to_str().expect("path")]);
    assert_eq!(done.code(), 1);
    assert!(done.stderr().contains("console") || done.stderr().contains("terminal"), "{}", done.describe());
}

fn missing_socket_is_refused() {
    let mut container = with_terminal(&["sleep:1000"]).container();
    let done = container.try_create(&["--console-socket", "/no/such/socket"]);
    assert_eq!(done.code(), 1);
    assert!(done.stderr().contains("/no/such/socket"), "{}", done.describe());
    container.verb("state", &[], &[]).done().fails("does not exist");
}

/// `run` with all three streams on the slave of a pty of ours.
fn foreground(container: &Container) -> (Running, Terminal) {
    let (terminal, slave) = pty();
    terminal.resize(24, 80);
    let mut command = container.command("run", &[]);
    let clone = || slave.try_clone().expect("clone of the slave");
    command.stdin(clone());
    // `start` gives it files; the shell gives it the terminal back.
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("exec \"$@\" >&0 2>&0")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(clone());
    (shell.start(), terminal)
}

fn foreground_relay() {
    let container = with_terminal(&["report", "cat"]).container();
    let (running, mut terminal) = foreground(&container);
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    assert_eq!(report["tty"][0]["name"], "/dev/pts/0");
    terminal.type_in("through\n");
    terminal.read_until(|text| text.matches("through\n").count() == 2);
    // End of file by ^D, which the container's terminal understands and ours passes on.
    terminal.type_in("\u{4}");
    assert_eq!(running.wait().code(), 0);
}

/// Into a pipe or a file goes what the process wrote, from its first byte on.
fn newlines_of_a_terminal_into_a_pipe() {
    let container = with_terminal(&["echo:first", "echo:second"]).container();
    for _ in 0..10 {
        assert_eq!(container.run().ok().stdout(), "first\nsecond\n");
    }
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.up();
    for _ in 0..10 {
        let done =
            container.verb("exec", &["--tty"], &[bundle::PAYLOAD, "echo:first", "echo:second"]).done().ok();
        assert_eq!(done.stdout(), "first\nsecond\n");
    }
}

fn foreground_relay_passes_the_window_size() {
    let container = with_terminal(&["report", "signals:SIGWINCH,SIGTERM"]).container();
    let (running, mut terminal) = foreground(&container);
    let text = terminal.read_until(|text| text.contains("ready"));
    let report = Report::parse(&text);
    assert_eq!((&report["tty"][0]["rows"], &report["tty"][0]["columns"]), (&json!(24), &json!(80)));
    terminal.resize(40, 132);
    // Without a session of its own berth is told of a change by whoever owns the terminal: by us.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(running.child.id().cast_signed()),
        nix::sys::signal::SIGWINCH,
    )
    .expect("SIGWINCH");
    terminal.read_until(|text| text.contains("SIGWINCH Some((40, 132))"));
    container.kill("TERM");
    assert_eq!(running.wait().code(), 0);
}

fn foreground_relay_restores_the_terminal() {
    let (probe, slave) = pty();
    let before = nix::sys::termios::tcgetattr(&slave).expect("tcgetattr");
    let container = with_terminal(&["echo:done"]).container();
    let command = container.command("run", &[]);
    let mut shell = std::process::Command::new("/bin/sh");
    let stdin = slave.try_clone().expect("clone of the slave");
    shell
        .arg("-c")
        .arg("exec \"$@\" >&0 2>&0")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(stdin);
    let running = shell.start();
    let mut probe = probe;
    probe.read_until(|text| text.contains("done"));
    assert_eq!(running.wait().code(), 0);
    assert_eq!(nix::sys::termios::tcgetattr(&slave).expect("tcgetattr"), before);
    assert!(slave.metadata().expect("slave").nlink() >= 1);
}

fn foreground_exit_code_through_a_terminal() {
    let container = with_terminal(&["echo:done", "exit:42"]).container();
    let (running, mut terminal) = foreground(&container);
    terminal.read_until(|text| text.contains("done"));
    assert_eq!(running.wait().code(), 42);
}

/// The client goes away: the terminal hangs up, and the process that writes to it ends.
fn hangup_of_the_master() {
    let (mut container, mut terminal) = create(with_terminal(&["signals:SIGHUP,SIGTERM"]));
    container.start();
    terminal.read_until(|text| text.contains("ready"));
    drop(terminal);
    container.await_status("stopped");
}

fn control_characters_reach_the_container() {
    let container = with_terminal(&["signals:SIGINT,SIGTERM"]).container();
    let (running, mut terminal) = foreground(&container);
    terminal.read_until(|text| text.contains("ready"));
    terminal.type_in("\u{3}");
    terminal.read_until(|text| text.contains("SIGINT"));
    container.kill("TERM");
    assert_eq!(running.wait().code(), 0);
}

/// Both ends of what may be a stdout: ours, and berth's.
fn outputs() -> [(&'static str, OwnedFd, OwnedFd); 3] {
    let (read, write) = std::io::pipe().expect("pipe");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("socketpair");
    let (terminal, slave) = pty();
    [
        ("pipe", read.into(), write.into()),
        ("socket", ours.into(), theirs.into()),
        ("terminal", terminal.file.into(), slave.into()),
    ]
}

/// What nobody reads keeps no signal from the container, and afterwards none from berth.
fn signals_pass_a_reader_who_does_not_read() {
    for (kind, reader, stdout) in outputs() {
        let text = format!("echo:{}", "x".repeat(100_000));
        let bundle = with_terminal(&[&text, &text, &text, &text]).without_namespace("pid");
        let container = bundle.container();
        let mut command = container.command("run", &[]);
        let mut running = command.stdout(stdout).spawn().expect("run");
        // Until nothing fits into it any more.
        let waiting = || nix::poll::poll(&mut [], 100u16).map(|_| bytes_waiting(&reader)).expect("a pause");
        let is_full =
            program::await_condition(|| matches!((waiting(), waiting()), (a, b) if a > 0 && a == b));
        assert!(is_full, "{kind}");
        let berth = nix::unistd::Pid::from_raw(running.id().cast_signed());
        let terminate = || nix::sys::signal::kill(berth, nix::sys::signal::SIGTERM).expect("SIGTERM");
        terminate();
        container.await_status("stopped");
        assert!(running.try_wait().expect("wait").is_none(), "{kind}: it waits for a reader");
        terminate();
        let ended = program::await_condition(|| running.try_wait().expect("wait").is_some());
        assert!(ended, "{kind}: it is still there");
        assert_eq!(running.wait().expect("wait").code(), Some(128 + libc::SIGTERM), "{kind}");
        container.verb("state", &[], &[]).done().fails("does not exist");
    }
}

/// A reader who is slower than the container gets every byte.
fn all_is_printed_that_fits_nowhere_at_once() {
    for (kind, reader, stdout) in outputs() {
        let text = "x".repeat(100_000);
        let container = with_terminal(&[&format!("echo:{text}"), "echo:end"]).container();
        let mut command = container.command("run", &[]);
        let mut running = command.stdout(stdout).spawn().expect("run");
        drop(command);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (mut seen, mut buffer) = (Vec::new(), [0; 1000]);
        while !seen.ends_with(b"end\n") {
            let length = nix::unistd::read(&reader, &mut buffer).expect("read");
            assert!(length > 0, "{kind}: the end after {} bytes", seen.len());
            seen.extend(buffer[..length].iter().filter(|byte| **byte != b'\r'));
        }
        assert_eq!(seen.len(), text.len() + "\nend\n".len(), "{kind}");
        assert!(running.wait().expect("wait").success(), "{kind}");
    }
}

fn bytes_waiting(reader: &OwnedFd) -> i32 {
    let mut count = 0;
    // SAFETY: FIONREAD writes an int.
    let asked = unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    assert_eq!(asked, 0, "FIONREAD");
    count
}
