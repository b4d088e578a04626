//! Command lines as the engines' own code writes them, flag by flag in its order: go-runc's (containerd's shim,
//! BuildKit's executor), conmon's and CRI-O's. And conmon itself, where it is installed.

use crate::harness::host::{self, control, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, Done, await_condition, berth, directory, path, root};
use crate::harness::terminal::{ConsoleSocket, Terminal};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

tests! {
    shim_life, shim_terminal, shim_errors_are_in_the_log, shim_update_and_figures, shim_checkpoint, buildkit_run_and_exec,
    buildkit_cancelled, crio_life, conmon_lines; alone: conmon_itself, conmon_with_a_terminal
}

/// go-runc's caller: state, log and process files in a directory of its own.
struct GoRunc {
    log: PathBuf,
}

impl GoRunc {
    fn new() -> Self {
        Self { log: directory().join("log.json") }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(path());
        command.arg("--root").arg(root()).arg("--log").arg(&self.log).args(["--log-format", "json"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    fn call(&self, words: &[&str]) -> Done {
        self.command(words).done()
    }

    /// What was logged, each line a message.
    fn messages(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// A process of `exec --process`.
fn process_file(name: &str, args: &[&str], terminal: bool) -> String {
    let file = directory().join(name);
    let process = json!({
        "terminal": terminal, "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/",
    });
    fs::write(&file, process.to_string()).expect("process.json");
    file.to_str().expect("UTF-8").to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The decimal number without a newline that Go's Atoi takes.
#[track_caller]
fn pid_in(path: &str) -> i32 {
    fs::read_to_string(path).expect("pid file").parse().expect("a pid and nothing else")
}

fn status(done: Done) -> Value {
    serde_json::from_str::<Value>(&done.ok().stdout()).expect("state JSON")["status"].clone()
}

/// Write config.json and take the words that every command line ends with.
fn prepared(container: &Container) -> (String, String) {
    container.bundle.write();
    (text(&container.bundle.path).to_owned(), container.id.clone())
}

fn shim_life() {
    let runc = GoRunc::new();
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    let (bundle, id) = prepared(&container);
    let pid_file = directory().join("init.pid");
    runc.call(&["create", "--bundle", &bundle, "--pid-file", text(&pid_file), &id]).ok();
    assert_eq!(status(runc.call(&["state", &id])), "created");
    runc.call(&["start", &id]).ok();
    let process = process_file("exec.json", &["/bin/payload", "sleep:1000"], false);
    let exec_file = directory().join("exec.pid");
    runc.call(&["exec", "--process", &process, "--detach", "--pid-file", text(&exec_file), &id]).ok();
    let (init, joined) = (pid_in(text(&pid_file)), pid_in(text(&exec_file)));
    let listed: Vec<i32> =
        serde_json::from_str(&runc.call(&["ps", "--format", "json", &id]).ok().stdout()).expect("pids");
    assert!(listed.contains(&init) && listed.contains(&joined), "{listed:?}");
    runc.call(&["pause", &id]).ok();
    assert_eq!(status(runc.call(&["state", &id])), "paused");
    runc.call(&["resume", &id]).ok();
    let list: Value =
        serde_json::from_str(&runc.call(&["list", "--format=json"]).ok().stdout()).expect("list");
    assert!(list.as_array().expect("a list").iter().any(|one| one["id"] == id.as_str()), "{list}");
    // The shim signals the init by number, and all of them when it has ended.
    runc.call(&["kill", &id, "9"]).ok();
    assert!(await_condition(|| status(runc.call(&["state", &id])) == "stopped"));
    runc.call(&["kill", "--all", &id, "9"]).ok();
    runc.call(&["delete", &id]).ok();
    // What it does after a crash, twice.
    runc.call(&["delete", "--force", &id]).ok();
    assert_eq!(runc.messages(), Vec::<Value>::new(), "nothing went wrong, nothing is logged");
}

fn shim_terminal() {
    let runc = GoRunc::new();
    let container = Bundle::new().set("/process/terminal", true).steps(&["cat"]).container();
    let (bundle, id) = prepared(&container);
    let (socket, pid_file) = (ConsoleSocket::new(), directory().join("init.pid"));
    runc.call(&[
        "create",
        "--bundle",
        &bundle,
        "--console-socket",
        text(&socket.path),
        "--pid-file",
        text(&pid_file),
        &id,
    ])
    .ok();
    let mut terminal = Terminal::new(socket.receive().descriptors.remove(0));
    runc.call(&["start", &id]).ok();
    terminal.type_in("hello\n");
    terminal.read_until(|text| text.matches("hello\n").count() == 2);
    fs::remove_file(&socket.path).expect("the first socket");
    let (socket, exec_file) = (ConsoleSocket::new(), directory().join("exec.pid"));
    let process = process_file("exec.json", &["/bin/payload", "cat"], true);
    runc.call(&[
        "exec",
        "--process",
        &process,
        "--console-socket",
        text(&socket.path),
        "--detach",
        "--pid-file",
        text(&exec_file),
        &id,
    ])
    .ok();
    let mut terminal = Terminal::new(socket.receive().descriptors.remove(0));
    terminal.type_in("again\n");
    terminal.read_until(|text| text.matches("again\n").count() == 2);
    runc.call(&["delete", "--force", &id]).ok();
}

fn shim_errors_are_in_the_log() {
    let runc = GoRunc::new();
    let container = Bundle::new().args(&["/no/such/program"]).container();
    let (bundle, id) = prepared(&container);
    let pid_file = directory().join("init.pid");
    let words = ["create", "--bundle", &bundle, "--pid-file", text(&pid_file), &id];
    assert_eq!(runc.call(&words).code(), 1);
    // The shim reports the last message of level error; its callers look for these words in it.
    let last = |words: &str| {
        let messages = runc.messages();
        let message = messages.last().expect("a message");
        assert_eq!(message["level"], "error");
        assert!(message["msg"].as_str().is_some_and(|text| text.contains(words)), "{words:?}: {message}");
    };
    last("no such file or directory");
    assert_eq!(runc.call(&["state", &id]).code(), 1);
    last("does not exist");
    runc.call(&["delete", "--force", &id]).ok();
    assert_eq!(runc.messages().len(), 2, "a line for each failure");
}

fn shim_update_and_figures() {
    require!(hierarchy_of("memory").is_some(), "no controller memory here");
    let runc = GoRunc::new();
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    let (bundle, id) = prepared(&container);
    runc.call(&["create", "--bundle", &bundle, &id]).ok();
    runc.call(&["start", &id]).ok();
    // go-runc writes the resources to its standard input.
    let resources = directory().join("resources.json");
    fs::write(&resources, json!({ "memory": { "limit": 67_108_864 }, "cpu": { "shares": 512 } }).to_string())
        .expect("resources");
    let mut command = runc.command(&["update", "--resources=-", &id]);
    command.stdin(fs::File::open(&resources).expect("resources"));
    command.done().ok();
    let limit = control("memory", &container.bundle.cgroup_path(), "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit, "67108864");
    let event: Value =
        serde_json::from_str(&runc.call(&["events", "--stats", &id]).ok().stdout()).expect("an event");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 67_108_864, "{event}");
    runc.call(&["kill", "--all", &id, "9"]).ok();
    assert!(await_condition(|| status(runc.call(&["state", &id])) == "stopped"));
    runc.call(&["delete", &id]).ok();
}

fn shim_checkpoint() {
    crate::harness::checkpoint::require_criu();
    let runc = GoRunc::new();
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    let (bundle, id) = prepared(&container);
    runc.call(&["create", "--bundle", &bundle, &id]).ok();
    runc.call(&["start", &id]).ok();
    let (image, work) = (directory().join("image"), directory().join("work"));
    let criu = |words: &[&str]| {
        let mut command = runc.command(words);
        command.env("PATH", crate::harness::checkpoint::path());
        command.done().ok();
    };
    criu(&[
        "checkpoint",
        "--image-path",
        text(&image),
        "--work-path",
        text(&work),
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        &id,
    ]);
    runc.call(&["delete", "--force", &id]).ok();
    let pid_file = directory().join("restored.pid");
    criu(&[
        "restore",
        "--image-path",
        text(&image),
        "--work-path",
        text(&work),
        "--detach",
        "--pid-file",
        text(&pid_file),
        "--bundle",
        &bundle,
        &id,
    ]);
    assert_eq!(status(runc.call(&["state", &id])), "running");
    assert!(Path::new("/proc").join(pid_in(text(&pid_file)).to_string()).exists());
    runc.call(&["delete", "--force", &id]).ok();
}

/// In the foreground; the container is kept when it has ended, and BuildKit deletes it.
fn buildkit_run_and_exec() {
    let runc = GoRunc::new();
    let container = Bundle::new().steps(&["echo:running", "sleep:3", "exit:5"]).container();
    let (bundle, id) = prepared(&container);
    let pid_file = directory().join("runc.pid");
    let running = runc
        .command(&["run", "--bundle", &bundle, "--pid-file", text(&pid_file), "--no-pivot", "--keep", &id])
        .start();
    running.await_stdout("running");
    assert!(pid_in(text(&pid_file)) > 0);
    let process = process_file("exec.json", &["/bin/payload", "echo:inside", "exit:6"], false);
    let exec_file = directory().join("exec.pid");
    let done = runc.call(&["exec", "--process", &process, "--pid-file", text(&exec_file), &id]).exits(6);
    assert_eq!(done.stdout(), "inside\n");
    assert_eq!(running.wait().code(), 5);
    assert_eq!(status(runc.call(&["state", &id])), "stopped");
    runc.call(&["delete", &id]).ok();
    runc.call(&["state", &id]).fails("does not exist");
}

/// A build that is stopped: killed by number, then deleted.
fn buildkit_cancelled() {
    let runc = GoRunc::new();
    let container = Bundle::new().steps(&["echo:running", "sleep:1000"]).container();
    let (bundle, id) = prepared(&container);
    let running = runc.command(&["run", "--bundle", &bundle, "--keep", &id]).start();
    running.await_stdout("running");
    runc.call(&["kill", &id, "9"]).ok();
    assert_eq!(running.wait().code(), 137);
    runc.call(&["delete", &id]).ok();
}

/// What CRI-O calls itself, beside conmon.
fn crio_life() {
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    let (bundle, id) = prepared(&container);
    let call = |words: &[&str]| berth(words).done();
    call(&["create", "--bundle", &bundle, "--pid-file", text(&directory().join("pidfile")), &id]).ok();
    call(&["start", &id]).ok();
    assert_eq!(status(call(&["state", &id])), "running");
    if hierarchy_of("cpu").is_some() {
        let resources = directory().join("resources.json");
        fs::write(&resources, json!({ "cpu": { "quota": 20_000, "period": 100_000 } }).to_string())
            .expect("resources");
        let mut update = Command::new(path());
        update.arg("--root").arg(root()).args(["update", "--resources", "-", &id]);
        update.stdin(fs::File::open(&resources).expect("resources"));
        update.done().ok();
        let quota = control("cpu", &container.bundle.cgroup_path(), "cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota, if is_v2() { "20000 100000" } else { "20000" });
    }
    call(&["pause", &id]).ok();
    call(&["resume", &id]).ok();
    call(&["kill", &id, "TERM"]).ok();
    call(&["kill", &id, "KILL"]);
    assert!(await_condition(|| status(call(&["state", &id])) == "stopped"));
    // It tells a container that has ended by these words.
    assert!(call(&["kill", &id, "KILL"]).stderr().contains("container not running"));
    call(&["delete", "--force", &id]).ok();
    // Both are read with stdout and stderr together.
    for words in [&["--version"][..], &["features"]] {
        assert_eq!(call(words).ok().stderr(), "");
    }
}

fn conmon_lines() {
    let call = |words: &[&str]| {
        let mut command = Command::new(path());
        command.arg(format!("--root={}", root().display())).args(words).stdin(Stdio::null());
        command.done()
    };
    let container = Bundle::new().set("/process/terminal", true).steps(&["cat"]).container();
    let (bundle, id) = prepared(&container);
    let (socket, pid_file) = (ConsoleSocket::new(), directory().join("pidfile"));
    call(&[
        "create",
        "--bundle",
        &bundle,
        "--pid-file",
        text(&pid_file),
        "--console-socket",
        text(&socket.path),
        &id,
    ])
    .ok();
    // Kept: without its master the terminal would hang up.
    let console = socket.receive();
    call(&["start", &id]).ok();
    assert!(pid_in(text(&pid_file)) > 0);
    fs::remove_file(&socket.path).expect("the first socket");
    let (socket, exec_file) = (ConsoleSocket::new(), directory().join("exec.pid"));
    let process = process_file("exec.json", &["/bin/payload", "cat"], true);
    call(&[
        "exec",
        "--pid-file",
        text(&exec_file),
        "--process",
        &process,
        "--detach",
        "--tty",
        "--console-socket",
        text(&socket.path),
        &id,
    ])
    .ok();
    let mut terminal = Terminal::new(socket.receive().descriptors.remove(0));
    terminal.type_in("hello\n");
    terminal.read_until(|text| text.matches("hello\n").count() == 2);
    // The one sign of failure that conmon has is a missing pid file.
    let missing = directory().join("missing.pid");
    let process = process_file("missing.json", &["/no/such/program"], false);
    let done = call(&["exec", "--pid-file", text(&missing), "--process", &process, "--detach", &id]);
    assert!(!done.status.success() && !missing.exists(), "{}", done.describe());
    drop(console);
    call(&["delete", "--force", &id]).ok();
}

/// conmon as Podman and CRI-O call it; the container is created when it returns.
fn conmon(container: &Container, flags: &[&str]) -> PathBuf {
    let installed = Command::new("conmon").arg("--version").output().is_ok();
    require!(installed, "conmon is not installed");
    let (bundle, id) = prepared(container);
    let exits = directory().join("exits");
    fs::create_dir_all(&exits).expect("the directory of exits");
    let runtime = path();
    let mut command = Command::new("conmon");
    command.args([
        "--api-version",
        "1",
        "-c",
        &id,
        "-u",
        &id,
        "-n",
        "name",
        "-r",
        text(&runtime),
        "-b",
        &bundle,
    ]);
    command
        .arg("-p")
        .arg(directory().join("pidfile"))
        .arg("-l")
        .arg(format!("k8s-file:{}", directory().join("ctr.log").display()));
    command
        .arg("--exit-dir")
        .arg(&exits)
        .arg("--persist-dir")
        .arg(&bundle)
        .arg("--socket-dir-path")
        .arg(directory());
    command.arg("-P").arg(directory().join("conmon.pid"));
    command.arg("--runtime-arg").arg(format!("--root={}", root().display()));
    command
        .args(["--runtime-arg", "--log-format=json", "--runtime-arg"])
        .arg(format!("--log={}", directory().join("oci-log").display()));
    command.args(flags).stdin(Stdio::null());
    command.done().ok();
    let created = await_condition(|| {
        let mut state = container.verb("state", &[], &[]);
        state.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    let log = || fs::read_to_string(directory().join("oci-log")).unwrap_or_default();
    assert!(created, "conmon created nothing: {}", log());
    assert!(await_condition(|| directory().join("pidfile").exists()), "no pid file: {}", log());
    exits.join(&id)
}

#[track_caller]
fn ends_as_conmon_says(exit: &Path, code: &str, words: &str) {
    assert!(
        await_condition(|| fs::read_to_string(exit).is_ok_and(|text| text == code)),
        "no exit status {code}"
    );
    let log = fs::read_to_string(directory().join("ctr.log")).expect("the container's log");
    assert!(log.contains(words), "{words:?}: {log}");
    let pid = fs::read_to_string(directory().join("conmon.pid")).expect("conmon's pid");
    let gone = await_condition(|| !Path::new("/proc").join(pid.trim()).join("exe").exists());
    assert!(gone, "conmon has not ended");
}

fn conmon_itself() {
    let container = Bundle::new().steps(&["echo:to the log", "complain:this too", "exit:7"]).container();
    let exit = conmon(&container, &[]);
    assert_eq!(container.status(), "created");
    container.verb("start", &[], &[]).done().ok();
    ends_as_conmon_says(&exit, "7", "stdout F to the log");
    let log = fs::read_to_string(directory().join("ctr.log")).expect("the container's log");
    assert!(log.contains("stderr F this too"), "{log}");
    container.verb("delete", &[], &[]).done().ok();
}

fn conmon_with_a_terminal() {
    let container =
        Bundle::new().set("/process/terminal", true).steps(&["echo:on a terminal", "exit:8"]).container();
    let exit = conmon(&container, &["-t"]);
    container.verb("start", &[], &[]).done().ok();
    ends_as_conmon_says(&exit, "8", "on a terminal");
    container.verb("delete", &[], &[]).done().ok();
    assert!(host::mounts_below(&container.bundle.path).is_empty());
}
