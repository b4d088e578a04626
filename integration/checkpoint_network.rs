//! checkpoint and restore of connections and network namespaces.

use crate::harness::checkpoint::{Case, path, require_criu};
use crate::harness::program::{Bounded, await_condition, directory, patience};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

tests! {
    tcp_listener, established_connection, configuration_by_annotation, network_namespace_by_path, closed_connection,
    connection_in_flight, socket_with_a_peer_outside,
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
