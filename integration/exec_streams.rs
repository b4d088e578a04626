//! exec: terminals, standard input, descriptors of the caller.

use crate::exec::{exec, refused, sleeper, up};
use crate::harness::program::{Bounded, Running};
use crate::harness::terminal::{ConsoleSocket, Terminal, pty};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::process::Command;

tests! {
    only_stdio_is_open, preserve_fds, console_socket_gets_the_terminal, terminal_in_the_foreground,
    terminal_needs_a_socket_when_detached, standard_input_is_passed_on, no_devpts_of_the_container_is_trusted,
}

fn only_stdio_is_open() {
    let container = up(sleeper());
    // What berth itself was started with and was not told to pass on.
    let mut shell = Command::new("/bin/sh");
    let command = exec(&container, &[], &["report"]);
    shell
        .arg("-c")
        .arg("exec 7</etc 9</ \"$@\"")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args());
    let report = Report::parse(&shell.done().ok().stdout());
    assert_eq!(report.descriptors(), [0, 1, 2], "{}", report["fds"]);
}

fn preserve_fds() {
    let container = up(sleeper());
    let mut shell = Command::new("/bin/sh");
    let command = exec(&container, &["--preserve-fds", "2"], &["report"]);
    shell.arg("-c").arg("exec 3</dev/null 4</dev/zero 5</etc \"$@\"").arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    let report = Report::parse(&shell.done().ok().stdout());
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4], "{}", report["fds"]);
    // Asked for more than there are, and where one of them is missing.
    let with = |descriptors: &str| {
        let mut shell = Command::new("/bin/sh");
        let command = exec(&container, &["--preserve-fds", "7"], &["report"]);
        shell.arg("-c").arg(format!("exec {descriptors} \"$@\"")).arg("sh");
        shell.arg(command.get_program()).args(command.get_args());
        shell.done()
    };
    let none = "3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-";
    for (redirections, expected) in
        [("", &[][..]), ("3</dev/null", &[3]), ("4</dev/null 7</dev/zero", &[4, 7])]
    {
        let report = Report::parse(&with(&format!("{none} {redirections}")).ok().stdout());
        assert_eq!(report.descriptors()[3..], *expected, "{redirections}: {}", report["fds"]);
    }
}

fn console_socket_gets_the_terminal() {
    let container = up(sleeper());
    let socket = ConsoleSocket::new();
    let flags = ["--tty", "--detach", "--console-socket", socket.path.to_str().expect("path")];
    exec(&container, &flags, &["report", "cat"]).done().ok();
    let mut console = socket.receive();
    assert_eq!(console.descriptors.len(), 1);
    let mut terminal = Terminal::new(console.descriptors.remove(0));
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    for fd in 0..3 {
        assert_eq!(report["tty"][fd]["name"], "/dev/pts/0", "{}", report["tty"]);
        assert_eq!(
            report["tty"][fd]["foreground"], report["pid"],
            "a controlling terminal: {}",
            report["tty"]
        );
    }
    assert_eq!(report.descriptors(), [0, 1, 2]);
    terminal.type_in("hello\n");
    terminal.read_until(|text| text.matches("hello\n").count() == 2);
}

/// `exec` with all three streams on the slave of a pty of ours.
fn foreground(command: &Command) -> (Running, Terminal) {
    let (terminal, slave) = pty();
    terminal.resize(24, 80);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg("exec \"$@\" >&0 2>&0").arg("sh");
    shell.arg(command.get_program()).args(command.get_args()).stdin(slave);
    (shell.start(), terminal)
}

fn terminal_in_the_foreground() {
    let container = up(sleeper());
    let (running, mut terminal) = foreground(&exec(&container, &["-t"], &["report", "cat", "exit:5"]));
    let text = terminal.read_until(|text| !Report::all(text).is_empty());
    let report = Report::parse(&text);
    assert_eq!((&report["tty"][0]["rows"], &report["tty"][0]["columns"]), (&json!(24), &json!(80)));
    terminal.type_in("through\n");
    terminal.read_until(|text| text.matches("through\n").count() == 2);
    terminal.type_in("\u{4}");
    assert_eq!(running.wait().code(), 5);
    // Without a terminal of the caller it is relayed too.
    let done = exec(&container, &["-t"], &["echo:words"]).done().ok();
    assert_eq!(done.stdout(), "words\n");
}

fn terminal_needs_a_socket_when_detached() {
    let container = up(sleeper());
    refused(&exec(&container, &["-t", "-d"], &["echo:ran"]).done(), "--console-socket");
    let socket = ConsoleSocket::new();
    let path = socket.path.to_str().expect("path");
    refused(
        &exec(&container, &["-d", "--console-socket", path], &["echo:ran"]).done(),
        "--tty: must be true",
    );
    refused(&exec(&container, &["-t", "--console-socket", path], &["echo:ran"]).done(), "--detach");
    refused(
        &exec(&container, &["-t", "-d", "--console-socket", "/no/such"], &["echo:ran"]).done(),
        "/no/such",
    );
}

fn standard_input_is_passed_on() {
    let container = up(sleeper());
    let file = container.bundle.path.join("input");
    fs::write(&file, "some words\n").expect("input");
    let mut command = exec(&container, &[], &["cat"]);
    command.stdin(fs::File::open(&file).expect("input"));
    assert_eq!(command.done().ok().stdout(), "some words\n");
}

/// What runs in the container has put something else at /dev/pts.
fn no_devpts_of_the_container_is_trusted() {
    let container = up(sleeper().without_mount("/dev/pts").without_mount("/dev").directory("/dev/pts"));
    let pts = container.bundle.rootfs().join("dev/pts");
    refused(&exec(&container, &["-t"], &["echo:ran"]).done(), "/dev/pts is not a devpts");
    fs::remove_dir_all(&pts).expect("rmdir");
    std::os::unix::fs::symlink("/proc/1/fd", &pts).expect("symlink");
    refused(&exec(&container, &["-t"], &["echo:ran"]).done(), "give the process a terminal");
}
