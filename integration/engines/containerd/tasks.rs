//! What is done with a running container: its signals, further processes, figures, events, image; many at
//! once; and without containerd for a while.

use super::{Containerd, launch};
use crate::require;
use crate::site::{Bounded, Daemon, at_once, criu_path, eventually};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub fn background(containerd: &Containerd) {
    let pid = containerd.begin(&[], "background", &["sleep", "1000"]);
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("its command line");
    assert_eq!(line, "sleep\x001000\0");
    containerd.end("background");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
}

pub fn kill(containerd: &Containerd) {
    // The signal comes to the program itself, which ends in its own way.
    let script = "trap 'exit 42' TERM; echo ready >/tmp/ready; while :; do sleep 0.1; done";
    let mut command = containerd.run_command(&["--rm"], "kill", &["sh", "-c", script]);
    let done = std::thread::scope(|scope| {
        let client = scope.spawn(move || command.done());
        eventually("it runs", || containerd.task("kill").is_some_and(|(_, status)| status == "RUNNING"));
        eventually("the trap is set", || {
            containerd.exec("kill", "cat /tmp/ready 2>/dev/null || true") == "ready"
        });
        containerd.ctr(&["task", "kill", "kill"]).ok();
        client.join().expect("the client")
    });
    done.exits(42);

    // To all of them, also those whose parent is another.
    let script = "sleep 2000 & sleep 3000 & wait; exit 4";
    containerd.begin(&[], "kill-all", &["sh", "-c", script]);
    let count = || containerd.exec("kill-all", "ps -o args | grep -c '^sleep [23]000' || true");
    eventually("both children run", || count() == "2");
    containerd.ctr(&["task", "kill", "--all", "--signal", "USR1", "kill-all"]).ok();
    containerd.await_stopped("kill-all");
    containerd.delete("kill-all");
    // A stopped one cannot get a signal, and containerd says so.
    let done = containerd.ctr(&["task", "kill", "kill-all"]);
    assert!(!done.status.success() && done.stderr.contains("not found"), "{}", done.describe());
}

pub fn attach(containerd: &Containerd) {
    containerd.begin(&[], "attach", &["sh", "-c", "sleep 4; echo said; exit 3"]);
    let done = containerd.ctr(&["task", "attach", "attach"]).exits(3);
    assert_eq!(done.stdout, "said\n");
    containerd.delete("attach");
}

pub fn exec(containerd: &Containerd) {
    containerd.begin(&["--env", "OF_RUN=1"], "exec", &["sleep", "1000"]);
    let exec = |flags: &[&str], words: &[&str]| {
        let args = [&["task", "exec", "--exec-id", "one"], flags, &["exec"], words].concat();
        containerd.ctr(&args)
    };
    let done = exec(&[], &["sh", "-c", "echo $OF_RUN; echo to stderr >&2; exit 7"]).exits(7);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n", "to stderr\n"));
    let done = exec(&["--cwd", "/var/tmp", "--user", "1000:1000"], &["sh", "-c", "pwd; id -u; id -g"]);
    assert_eq!(done.ok(), "/var/tmp\n1000\n1000");
    // What ctr makes for an exec that fails it leaves; not below /run.
    let fifos = containerd.site.path("fifos");
    let done = exec(&["--fifo-dir", fifos.to_str().expect("UTF-8")], &["/no/such/program"]);
    assert!(
        !done.status.success() && done.stderr.contains("no such file or directory"),
        "{}",
        done.describe()
    );
    // In all namespaces and the cgroup of the container.
    let script = "for n in mnt net ipc uts pid cgroup; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done; cmp /proc/self/cgroup /proc/1/cgroup && echo same";
    assert_eq!(containerd.exec("exec", script), "same");
    containerd.end("exec");
}

pub fn exec_terminal(containerd: &Containerd) {
    containerd.begin(&[], "exec-terminal", &["sleep", "1000"]);
    let script = "tty; read word; echo heard $word; exit 8";
    let command = containerd.command(&[
        "task",
        "exec",
        "--exec-id",
        "one",
        "--tty",
        "exec-terminal",
        "sh",
        "-c",
        script,
    ]);
    let done = containerd.on_terminal(&command, "hello\n").exits(8);
    assert!(done.stdout.contains("/dev/pts/") && done.stdout.contains("heard hello"), "{}", done.describe());
    containerd.end("exec-terminal");
}

pub fn exec_detached(containerd: &Containerd) {
    containerd.begin(&[], "exec-detached", &["sleep", "1000"]);
    let args = ["task", "exec", "--detach", "--exec-id", "one", "exec-detached", "sleep", "2000"];
    containerd.ctr(&args).ok();
    let count = || containerd.exec("exec-detached", "ps -o args | grep -c '^sleep 2000' || true");
    eventually("the second process runs", || count() == "1");
    containerd.ctr(&["task", "kill", "--exec-id", "one", "--signal", "KILL", "exec-detached"]).ok();
    eventually("the second process is gone", || count() == "0");
    assert_eq!(containerd.task("exec-detached").map(|(_, status)| status).as_deref(), Some("RUNNING"));
    containerd.ctr(&["task", "delete", "--exec-id", "one", "exec-detached"]);
    containerd.end("exec-detached");
}

pub fn pause(containerd: &Containerd) {
    let script = "n=0; while :; do n=$((n + 1)); echo $n >/tmp/n; done";
    containerd.begin(&["--cpus", "0.5"], "pause", &["sh", "-c", script]);
    containerd.ctr(&["task", "pause", "pause"]).ok();
    let status = || containerd.task("pause").map(|(_, status)| status);
    assert_eq!(status().as_deref(), Some("PAUSED"));
    let time = || {
        let text = containerd.cgroup("pause", "cpuacct", "cpuacct.usage", "cpu.stat");
        text.lines().next().map(str::to_owned)
    };
    // cpuacct.usage of a v1 host and usage_usec of cpu.stat: neither grows.
    let before = time();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(time(), before, "it runs although it is paused");
    let fifos = containerd.site.path("fifos-of-paused");
    let args =
        ["task", "exec", "--fifo-dir", fifos.to_str().expect("UTF-8"), "--exec-id", "one", "pause", "true"];
    let done = containerd.ctr(&args);
    assert!(!done.status.success() && done.stderr.contains("paused"), "{}", done.describe());
    containerd.ctr(&["task", "resume", "pause"]).ok();
    assert_eq!(status().as_deref(), Some("RUNNING"));
    eventually("it goes on", || time() != before);
    // Paused again it can be killed.
    containerd.ctr(&["task", "pause", "pause"]).ok();
    containerd.ctr(&["task", "kill", "--signal", "KILL", "pause"]).ok();
    containerd.ctr(&["task", "resume", "pause"]);
    containerd.await_stopped("pause");
    containerd.delete("pause");
}

pub fn figures(containerd: &Containerd) {
    let pid = containerd.begin(
        &["--memory-limit", "67108864"],
        "figures",
        &["sh", "-c", "sleep 2000 & sleep 1000; true"],
    );
    let table = || containerd.ctr(&["task", "ps", "figures"]).ok();
    // The shell and its two children, with the ids that they have on the host.
    eventually("ps lists three", || table().lines().count() == 4);
    let listed: Vec<i32> =
        table().lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert!(listed.contains(&pid), "{listed:?} without {pid}");
    let text = containerd.ctr(&["task", "metrics", "--format", "json", "figures"]).ok();
    let figures: serde_json::Value = serde_json::from_str(&text).expect("metrics in JSON");
    assert_eq!(figures["pids"]["current"], 3, "{figures}");
    let memory = &figures["memory"];
    let usage = memory["usage"]["usage"].as_u64().or_else(|| memory["usage"].as_u64());
    assert!(usage.is_some_and(|bytes| bytes > 0 && bytes < 67_108_864), "{memory}");
    containerd.end("figures");
}

pub fn events(containerd: &Containerd) {
    let log = containerd.site.path("events");
    let mut listener = Daemon::start(&mut containerd.command(&["events"]), &log);
    std::thread::sleep(Duration::from_millis(500));
    let flags = ["--memory-limit", "16777216"];
    containerd.begin(&flags, "events", &["sh", "-c", "sleep 1; exec tail /dev/zero"]);
    containerd.await_stopped("events");
    let seen = |topic: &str| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains("\"events\""))
            .find(|line| line.contains(topic))
            .map(str::to_owned)
    };
    for topic in ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"] {
        eventually(&format!("the event {topic}"), || seen(topic).is_some());
    }
    let exit = seen("/tasks/exit").unwrap_or_default();
    assert!(exit.contains("\"exit_status\":137"), "{exit}");
    containerd.delete("events");
    eventually("the event /tasks/delete", || seen("/tasks/delete").is_some());
    listener.stop();
}

pub fn checkpoint(containerd: &Containerd) {
    let check = Command::new("criu").arg("check").env("PATH", criu_path()).done();
    require!(check.status.success(), "criu does not work here: {}", check.stderr);
    // A number in memory and in a volume: what is restored goes on from it.
    let volume = containerd.site.path("counter");
    fs::create_dir(&volume).expect("volume");
    let mount = format!("type=bind,src={},dst=/counter,options=bind", volume.display());
    let script = "n=0; while :; do n=$((n + 1)); echo $n >/counter/n.new; mv /counter/n.new /counter/n; sleep 0.05; done";
    let flags = ["--null-io", "--mount", &mount];
    containerd.begin(&flags, "checkpoint", &["sh", "-c", script]);
    let count = || -> u64 {
        fs::read_to_string(volume.join("n")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    eventually("it counts", || count() > 5);

    // Without an end: it is written and goes on.
    let images = containerd.site.path("images");
    containerd
        .ctr(&["task", "checkpoint", "--image-path", images.to_str().expect("UTF-8"), "checkpoint"])
        .ok();
    assert!(
        images.join("inventory.img").exists() || fs::read_dir(&images).is_ok(),
        "no image in {}",
        images.display()
    );
    let before = count();
    eventually("it still counts", || count() > before);

    let reference = "localhost/checkpoint:test";
    containerd.ctr(&["container", "checkpoint", "--task", "--rw", "--image", "checkpoint", reference]).ok();
    containerd.end("checkpoint");
    let before = count();
    fs::remove_file(volume.join("n")).expect("the old number");
    containerd.ctr(&["container", "restore", "--live", "--rw", "restored", reference]).ok();
    eventually("the restored one counts", || count() > 5);
    assert!(count() < before + 200, "it does not go on from its number: {before}, {}", count());
    assert_eq!(containerd.exec("restored", "echo in"), "in");
    containerd.end("restored");
    containerd.ctr(&["image", "delete", reference]).ok();
}

pub fn fifty(containerd: &Containerd) {
    let names: Vec<String> = (0..50).map(|number| format!("fifty-{number}")).collect();
    let run = |name: &String| containerd.run_command(&["--detach", "--null-io"], name, &["sleep", "1000"]);
    let mut commands: Vec<Command> = names.iter().map(run).collect();
    // All clients at once: the shims start one another's runtimes out of each other's way. Fewer in an emulated machine,
    // where fifty of them do not get their answers in the ten seconds that ctr waits.
    for some in commands.chunks_mut(at_once()) {
        std::thread::scope(|scope| {
            for command in some {
                scope.spawn(move || command.done_within(Duration::from_secs(180)).ok());
            }
        });
    }
    let list = containerd.ctr(&["task", "list"]).ok();
    let running = list.lines().filter(|line| line.starts_with("fifty-") && line.ends_with("RUNNING")).count();
    assert_eq!(running, 50, "{list}");
    for name in &names {
        containerd.ctr(&["task", "kill", "--signal", "KILL", name]).ok();
    }
    for name in &names {
        containerd.await_stopped(name);
        containerd.delete(name);
    }
}

pub fn restart(containerd: &Containerd) {
    let pid = containerd.begin(&[], "restart", &["sh", "-c", "while :; do sleep 0.1; done"]);
    containerd.daemon.borrow_mut().stop();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "it ended with containerd");
    *containerd.daemon.borrow_mut() = launch(&containerd.site);
    containerd.await_ready();
    assert_eq!(containerd.task("restart"), Some((pid, "RUNNING".to_owned())));
    assert_eq!(containerd.exec("restart", "echo in"), "in");
    containerd.end("restart");
}
