//! A container's life: what is typed at a shell from `docker run` to `docker rm`.

use super::{Docker, cgroup_of};
use crate::image;
use crate::leftovers::mounts_below;
use crate::site::{at_once, eventually, slow, wait};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub fn streams(docker: &Docker) {
    let done = docker.run(&["--rm"], &["sh", "-c", "echo $$; echo to stderr >&2; exit 5"]).exits(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n", "to stderr\n"));
    docker.run(&["--rm"], &["true"]).exits(0);
}

pub fn input(docker: &Docker) {
    let line =
        format!("seq 1000 | docker run {} --rm -i {} sh -c 'wc -l; echo end'", docker.named(), image::NAME);
    assert_eq!(docker.shell(&line).ok(), "1000\nend");
    // Without -i there is none.
    let line = format!("echo word | docker run {} --rm {} cat", docker.named(), image::NAME);
    assert_eq!(docker.shell(&line).ok(), "");
}

pub fn terminal(docker: &Docker) {
    let words = format!("run {} --rm -it {} sh", docker.named(), image::NAME);
    let mut terminal = docker.terminal(&words);
    terminal.await_text("/ # ");
    terminal.type_in("tty; test -t 0 && test -t 2 && echo on a termi''nal\n");
    terminal.await_text("on a terminal\n");
    terminal.await_text("/dev/pts/0\n");
    // The client tells the size a moment after the start.
    eventually("the size", || {
        terminal.type_in("stty size\n");
        std::thread::sleep(Duration::from_millis(200));
        terminal.text().contains("40 100\n")
    });
    terminal.type_in("trap 'echo interr''upted' INT; sleep 1000\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.type_in("\x03");
    terminal.await_text("interrupted\n");
    terminal.type_in("exit 9\n");
    let (code, text) = terminal.finish();
    assert_eq!(code, Some(9), "{text}");
}

pub fn nothing(docker: &Docker) {
    let state = docker.runtime_root();
    docker.start("stays", &[], &["sleep", "1000"]);
    assert_eq!(fs::read_dir(&state).expect("the runtime's state").count(), 1);
    let (cgroup, _) = cgroup_of(docker.pid("stays"), "memory");
    assert!(cgroup.is_dir(), "{}", cgroup.display());
    docker.remove(&["stays"]);
    let mounts = mounts_below(&docker.site.directory);
    docker.run(&["--rm", "--name", "passing"], &["true"]).ok();
    // The client returns when the program has ended; the daemon removes the container after that.
    eventually("no container is listed", || docker.cli(&["ps", "--all", "--quiet"]).ok().is_empty());
    let left: Vec<_> = fs::read_dir(&state).expect("the runtime's state").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!cgroup.exists(), "{}", cgroup.display());
    assert_eq!(mounts_below(&docker.site.directory), mounts);
    assert_eq!(docker.cli(&["volume", "ls", "--quiet"]).ok(), "");
    let bundles = fs::read_dir(docker.site.path("containerd-state/io.containerd.runtime.v2.task/moby"));
    assert_eq!(bundles.expect("containerd's bundles").count(), 0);
}

pub fn again(docker: &Docker) {
    docker.start("again", &[], &["sh", "-c", "echo x >>/runs; wc -l </runs; exit 4"]);
    assert_eq!(docker.cli(&["wait", "again"]).ok(), "4");
    let done = docker.cli(&["start", "--attach", "again"]).exits(4);
    assert_eq!(done.stdout.trim(), "2");
    docker.idle("lives", &[]);
    let first = docker.pid("lives");
    docker.cli(&["restart", "--time", "5", "lives"]).ok();
    assert_ne!(docker.pid("lives"), first);
    docker.cli(&["rename", "lives", "renamed"]).ok();
    assert_eq!(docker.exec("renamed", "echo inside"), "inside");
    docker.remove(&["again", "renamed"]);
}

pub fn logs(docker: &Docker) {
    docker.start(
        "logs",
        &[],
        &["sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.3; done"],
    );
    let followed = docker.cli(&["logs", "--follow", "logs"]).exits(0);
    assert_eq!(followed.stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(followed.stderr, "err 1\nerr 2\nerr 3\n");
    docker.await_state("logs", "{{.State.Status}}", "exited");
    let tail = docker.cli(&["logs", "--tail", "2", "logs"]).exits(0);
    assert_eq!(tail.stdout + &tail.stderr, "out 3\nerr 3\n");
    docker.remove(&["logs"]);
}

pub fn kill(docker: &Docker) {
    let script =
        "trap 'echo got USR1' USR1; trap 'echo got HUP; exit 3' HUP; echo ready; while :; do sleep 0.1; done";
    docker.start("kill", &[], &["sh", "-c", script]);
    eventually("it handles signals", || docker.cli(&["logs", "kill"]).ok().contains("ready"));
    docker.cli(&["kill", "--signal", "USR1", "kill"]).ok();
    eventually("USR1 has come", || docker.cli(&["logs", "kill"]).ok().contains("got USR1"));
    assert_eq!(docker.inspect("kill", "{{.State.Status}}"), "running");
    docker.cli(&["kill", "--signal", "1", "kill"]).ok();
    docker.await_state("kill", "{{.State.Status}} {{.State.ExitCode}}", "exited 3");
    docker.start("killed", &[], &["sleep", "1000"]);
    docker.cli(&["kill", "killed"]).ok();
    let state =
        "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Pid}} [{{.State.Error}}]";
    docker.await_state("killed", state, "exited 137 false 0 []");
    let error = docker.cli(&["kill", "killed"]).exits(1).stderr;
    assert!(error.contains("is not running"), "{error}");
    docker.remove(&["kill", "killed"]);
}

pub fn stop(docker: &Docker) {
    docker.start(
        "polite",
        &[],
        &["sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"],
    );
    eventually("it handles TERM", || docker.cli(&["logs", "polite"]).ok().contains("ready"));
    let begun = Instant::now();
    docker.cli(&["stop", "--time", "30", "polite"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10) * slow(), "{:?}", begun.elapsed());
    assert_eq!(docker.inspect("polite", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(docker.cli(&["logs", "polite"]).ok(), "ready\nbye");
    // Pid 1 has no default action for TERM: it takes KILL after the grace period.
    docker.start("deaf", &[], &["sleep", "1000"]);
    let begun = Instant::now();
    docker.cli(&["stop", "--time", "2", "deaf"]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(docker.inspect("deaf", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    docker.start(
        "choice",
        &["--stop-signal", "INT"],
        &["sh", "-c", "trap 'exit 8' INT; echo ready; while :; do sleep 0.1; done"],
    );
    eventually("it handles INT", || docker.cli(&["logs", "choice"]).ok().contains("ready"));
    docker.cli(&["stop", "choice"]).ok();
    assert_eq!(docker.inspect("choice", "{{.State.ExitCode}}"), "8");
    docker.remove(&["polite", "deaf", "choice"]);
}

pub fn pause(docker: &Docker) {
    docker.start("pause", &[], &["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"]);
    let count = || docker.cli(&["logs", "pause"]).ok().lines().count();
    eventually("it counts", || count() > 2);
    docker.cli(&["pause", "pause"]).ok();
    assert_eq!(docker.inspect("pause", "{{.State.Status}} {{.State.Paused}}"), "paused true");
    std::thread::sleep(Duration::from_millis(300));
    let frozen = count();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(count(), frozen);
    let error = docker.cli(&["exec", "pause", "true"]).exits(1).stderr;
    assert!(error.contains("is paused"), "{error}");
    docker.cli(&["unpause", "pause"]).ok();
    eventually("it counts again", || count() > frozen);
    assert_eq!(docker.inspect("pause", "{{.State.Status}}"), "running");
    // A paused one is killed and removed as well.
    docker.cli(&["pause", "pause"]).ok();
    docker.remove(&["pause"]);
}

pub fn top(docker: &Docker) {
    docker.start("top", &[], &["sh", "-c", "sleep 1001 & sleep 1002 & wait"]);
    let sleepers = || docker.cli(&["top", "top"]).ok();
    eventually("both sleep", || sleepers().contains("sleep 1001") && sleepers().contains("sleep 1002"));
    let pids = docker.cli(&["top", "top", "-o", "pid,args"]).ok();
    let pid = docker.pid("top").to_string();
    assert!(pids.lines().any(|line| line.trim().starts_with(&pid) && line.contains("sh -c")), "{pids}");
    assert_eq!(pids.lines().count(), 4, "{pids}");
    docker.remove(&["top"]);
}

pub fn init(docker: &Docker) {
    // The shell leaves an orphan, which ends at once.
    let script = "head -n 1 /proc/1/status; sh -c 'sh -c \"exit 3\" & exec true'; (sleep 0.1 &); sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; exit 6";
    let done = docker.run(&["--rm", "--init"], &["sh", "-c", script]).exits(6);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines[0].ends_with("docker-init") || lines[0].ends_with("tini"), "{lines:?}");
    assert_eq!(lines.last(), Some(&"0"), "{lines:?}");
}

pub fn many(docker: &Docker) {
    let names: Vec<String> = (0..50).map(|number| format!("many-{number}")).collect();
    let mut clients = names
        .iter()
        .map(|name| {
            let script = "trap 'exit 0' TERM; echo ready; sleep 1000 & wait";
            let mut client = docker.client();
            client.arg("run").args(&docker.named).args([
                "--detach",
                "--memory",
                "32m",
                "--name",
                name,
                image::NAME,
            ]);
            client.args(["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
            client
        })
        .collect::<Vec<_>>();
    for some in clients.chunks_mut(at_once()) {
        let some: Vec<_> = some.iter_mut().map(|client| client.spawn().expect("a client")).collect();
        for mut client in some {
            let status = wait(&mut client, Duration::from_secs(120) * slow()).expect("docker run ends");
            assert!(status.success(), "{status}");
        }
    }
    let running = docker.cli(&["ps", "--quiet", "--filter", "name=many-", "--filter", "status=running"]).ok();
    assert_eq!(running.lines().count(), 50);
    assert_eq!(docker.exec("many-49", "cat /proc/1/comm"), "sh");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    eventually("the last one is ready", || docker.cli(&["logs", names[49]]).ok() == "ready");
    let mut kill = docker.client();
    kill.arg("stop").args(&names).stdin(Stdio::null()).stdout(Stdio::null());
    let mut kill = kill.spawn().expect("a client");
    assert!(wait(&mut kill, Duration::from_secs(120) * slow()).expect("docker stop ends").success());
    let codes = docker.cli(&[&["inspect", "--format", "{{.State.ExitCode}}"], &names[..]].concat()).ok();
    assert!(codes.lines().all(|code| code == "0"), "{codes}");
    docker.remove(&names);
}
