//! checkpoint and restore of what a container reads from and writes to: terminals, pipes, descriptors of the caller.

use crate::checkpoint::start;
use crate::harness::checkpoint::{Case, path};
use crate::harness::program::{Bounded, await_condition};
use crate::harness::terminal::{ConsoleSocket, Terminal, pty};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

tests! {
    terminal, terminal_in_the_foreground, pipes_of_the_engine, preserved_descriptors,
    null_device_becomes_what_it_was, locked_file,
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
