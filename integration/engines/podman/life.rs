//! A container's life: streams, terminals, exec, signals, what Podman says of it.

use super::Podman;
use crate::image;
use crate::require;
use crate::site::{Bounded, Done, eventually};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub fn streams(podman: &Podman) {
    let done = podman.run("", "echo $$; echo to stderr >&2; test -t 1 || exit 5").exits(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n", "to stderr\n"));
}

/// A command line with its standard input from another, both in one shell.
fn piped(input: &str, command: &Command) -> Done {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{input} | \"$@\""), "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.done()
}

pub fn input(podman: &Podman) {
    let command =
        podman.client(&["run", "--rm", "--interactive", "--network", "none", image::NAME, "wc", "-c"]);
    assert_eq!(piped("head -c 100000 /dev/zero", &command).ok(), "100000");
}

/// On a terminal of script(1).
fn on_terminal(podman: &Podman, args: &[&str]) -> Done {
    let command = podman.client(args);
    let mut script = Command::new("script");
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let line = format!("stty rows 40 cols 100; {}", line.join(" "));
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    script.done()
}

/// Podman gives a terminal its size when the program runs already.
const AWAIT_SIZE: &str =
    "for i in $(seq 100); do stty size 2>/dev/null | grep \"40 100\" && break; sleep 0.05; done";

pub fn terminal(podman: &Podman) {
    let script = format!("tty; {AWAIT_SIZE}; test -t 0 && test -t 1 && test -t 2 && exit 6");
    let args = ["run", "--rm", "-it", "--network", "none", image::NAME, "sh", "-c", &script];
    let done = on_terminal(podman, &args).exits(6);
    assert!(done.stdout.contains("/dev/pts/0"), "{}", done.describe());
    assert!(done.stdout.contains("40 100"), "{}", done.describe());
}

pub fn missing(podman: &Podman) {
    for (command, code, words) in
        [("/no/such/program", 127, "no such file or directory"), ("/etc", 126, "permission denied")]
    {
        let done = podman.podman(&["run", "--rm", "--network", "none", image::NAME, command]).exits(code);
        assert!(done.stderr.to_lowercase().contains(words), "{}", done.describe());
    }
    podman.up("missing", "", "sleep 1000");
    podman.podman(&["exec", "missing", "/no/such/program"]).exits(127);
    podman.podman(&["exec", "missing", "/etc"]).exits(126);
    podman.remove("missing");
}

pub fn background(podman: &Podman) {
    podman.up(
        "background",
        "",
        "trap 'echo stopped; exit 7' TERM; echo started; while :; do sleep 0.1; done",
    );
    eventually("its output", || podman.podman(&["logs", "background"]).ok().contains("started"));
    let done = podman.podman(&["exec", "background", "sh", "-c", "echo out; echo err >&2; exit 3"]).exits(3);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    podman.podman(&["exec", "--detach", "background", "touch", "/detached"]).ok();
    eventually("the detached exec", || podman.podman(&["exec", "background", "ls", "/detached"]).code() == 0);
    let top = podman.podman(&["top", "background", "pid", "args"]).ok();
    assert!(top.lines().any(|line| line.starts_with("1 ") && line.contains("trap")), "{top}");
    assert_eq!(podman.inspect("background", "{{.State.Status}} {{.State.Running}}"), "running true");
    let pid = podman.inspect("background", "{{.State.Pid}}");
    assert!(fs::exists(format!("/proc/{pid}")).expect("/proc"), "{pid}");
    assert_eq!(podman.inspect("background", "{{.OCIRuntime}}"), podman.site.runtime.name);
    podman.podman(&["stop", "background"]).ok();
    assert_eq!(podman.inspect("background", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(podman.podman(&["logs", "background"]).ok(), "started\nstopped");
    podman.remove("background");
}

pub fn exec_options(podman: &Podman) {
    podman.up("execs", "", "sleep 1000");
    let options = ["exec", "--user", "user", "--workdir", "/tmp", "--env", "WORD=said", "execs"];
    let words = podman.podman(&[&options[..], &["sh", "-c", "id -un; id -G; pwd; echo $WORD"]].concat()).ok();
    assert_eq!(words, "user\n1000 2000\n/tmp\nsaid");
    let script = format!("tty; {AWAIT_SIZE}; exit 4");
    let done = on_terminal(podman, &["exec", "-it", "execs", "sh", "-c", &script]).exits(4);
    assert!(done.stdout.contains("/dev/pts/0") && done.stdout.contains("40 100"), "{}", done.describe());
    let all = podman.podman(&["exec", "--privileged", "execs", "grep", "CapEff", "/proc/self/status"]).ok();
    let some = podman.exec("execs", "grep CapEff /proc/self/status");
    assert_ne!(all, some);
    let command = podman.client(&["exec", "--interactive", "execs", "wc", "-c"]);
    assert_eq!(piped("head -c 100000 /dev/zero", &command).ok(), "100000");
    podman.remove("execs");
}

pub fn kill(podman: &Podman) {
    podman.up("killed", "", "trap 'exit 9' USR1; trap '' TERM; echo ready; while :; do sleep 0.1; done");
    eventually("its traps", || podman.podman(&["logs", "killed"]).ok().contains("ready"));
    podman.podman(&["kill", "--signal", "USR1", "killed"]).ok();
    assert_eq!(podman.podman(&["wait", "killed"]).ok(), "9");
    podman.podman(&["start", "killed"]).ok();
    podman.podman(&["kill", "killed"]).ok();
    assert_eq!(podman.podman(&["wait", "killed"]).ok(), "137");
    podman.remove("killed");
}

pub fn pause(podman: &Podman) {
    podman.up("paused", "", "i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.02; done");
    eventually("a count", || !podman.exec("paused", "cat /count").is_empty());
    podman.podman(&["pause", "paused"]).ok();
    assert_eq!(podman.inspect("paused", "{{.State.Status}}"), "paused");
    assert_ne!(podman.podman(&["exec", "paused", "true"]).code(), 0);
    podman.podman(&["unpause", "paused"]).ok();
    let count = podman.exec("paused", "cat /count");
    eventually("it counts again", || podman.exec("paused", "cat /count") != count);
    podman.remove("paused");
}

pub fn stats(podman: &Podman) {
    podman.up("stats", "--memory=64m", "sleep 1000");
    let template = "{{.MemUsageBytes}} {{.PIDs}}";
    let stats = podman.podman(&["stats", "--no-stream", "--format", template, "stats"]).ok();
    assert!(stats.contains("/ 64MiB"), "{stats}");
    assert!(!stats.starts_with("0B"), "{stats}");
    assert!(stats.ends_with(" 1"), "{stats}");
    podman.remove("stats");
}

pub fn create(podman: &Podman) {
    let script = "echo run >>/runs; wc -l </runs; exit 2";
    podman
        .podman(&["create", "--name", "created", "--network", "none", image::NAME, "sh", "-c", script])
        .ok();
    assert_eq!(podman.inspect("created", "{{.State.Status}}"), "created");
    let first = podman.podman(&["start", "--attach", "created"]).exits(2);
    let second = podman.podman(&["start", "--attach", "created"]).exits(2);
    assert_eq!((first.stdout.trim(), second.stdout.trim()), ("1", "2"));
    podman.podman(&["restart", "created"]).ok();
    eventually("its third end", || podman.podman(&["logs", "created"]).ok().ends_with('3'));
    podman.remove("created");
}

pub fn restart_policy(podman: &Podman) {
    podman.up("restarts", "--restart=on-failure:2", "echo once; exit 1");
    eventually("three runs", || podman.podman(&["logs", "restarts"]).ok().matches("once").count() == 3);
    eventually("its end", || podman.inspect("restarts", "{{.State.Status}}") == "exited");
    assert_eq!(podman.inspect("restarts", "{{.RestartCount}} {{.State.ExitCode}}"), "2 1");
    podman.remove("restarts");
}

pub fn remove(podman: &Podman) {
    podman.up("removed", "--rm", "exit 0");
    eventually("no container", || podman.podman(&["ps", "--all", "--quiet"]).ok().is_empty());
    podman.up("forced", "", "sleep 1000");
    let pid = podman.inspect("forced", "{{.State.Pid}}");
    podman.podman(&["rm", "forced"]).exits(2);
    podman.remove("forced");
    assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc"), "{pid}");
}

pub fn copy(podman: &Podman) {
    podman.up("copies", "--tmpfs=/inside", "echo container >/inside/one; sleep 1000");
    let (from, to) = (podman.home.join("from"), podman.home.join("to"));
    fs::write(&from, "host").expect("a file");
    podman.give(&from);
    podman.podman(&["cp", &from.to_string_lossy(), "copies:/inside/two"]).ok();
    assert_eq!(podman.exec("copies", "cat /inside/two"), "host");
    podman.podman(&["cp", "copies:/inside/one", &to.to_string_lossy()]).ok();
    assert_eq!(fs::read_to_string(to).expect("the copy"), "container\n");
    podman.remove("copies");
}

pub fn healthcheck(podman: &Podman) {
    podman
        .podman(&[
            "run",
            "--detach",
            "--name",
            "health",
            "--network",
            "none",
            "--health-cmd",
            "test -e /healthy",
            "--health-interval",
            "disable",
            "--health-retries",
            "1",
            image::NAME,
            "sleep",
            "1000",
        ])
        .ok();
    let status = || podman.inspect("health", "{{.State.Health.Status}}");
    podman.podman(&["healthcheck", "run", "health"]).exits(1);
    assert_eq!(status(), "unhealthy");
    podman.exec("health", "touch /healthy");
    podman.podman(&["healthcheck", "run", "health"]).ok();
    assert_eq!(status(), "healthy");
    podman.remove("health");
}

/// Podman puts them into config.json; the runtime runs them.
pub fn hooks(podman: &Podman) {
    let directory = podman.directory("hooks");
    let (program, record) = (directory.join("record"), directory.join("recorded"));
    fs::write(&program, format!("#!/bin/sh\n{{ echo $1; cat; echo; }} >>{}\n", record.display()))
        .expect("a hook");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
    for stage in ["prestart", "poststart", "poststop"] {
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": { "path": program, "args": ["record", stage] },
            "when": { "always": true },
            "stages": [stage],
        });
        fs::write(directory.join(format!("{stage}.json")), hook.to_string()).expect("a hook's file");
    }
    let hooks = format!("--hooks-dir={}", directory.display());
    podman
        .podman(&[&hooks, "run", "--rm", "--name", "hooked", "--network", "none", image::NAME, "true"])
        .ok();
    let text = fs::read_to_string(&record).expect("what the hooks recorded");
    let mut stages = text.lines().filter(|line| !line.starts_with('{') && !line.is_empty());
    assert!(stages.by_ref().eq(["prestart", "poststart", "poststop"]), "{text}");
    for state in text.lines().filter(|line| line.starts_with('{')) {
        let state: serde_json::Value = serde_json::from_str(state).expect("the state");
        assert_eq!(state["annotations"]["io.podman.annotations.autoremove"], "TRUE", "{state}");
    }
}

pub fn runtime_by_path(podman: &Podman) {
    let path = podman.site.runtime.path.to_string_lossy().into_owned();
    for runtime in [path.as_str(), &podman.site.runtime.name] {
        podman
            .podman(&[
                "--runtime",
                runtime,
                "run",
                "--name",
                "path",
                "--network",
                "none",
                image::NAME,
                "true",
            ])
            .ok();
        assert_eq!(podman.inspect("path", "{{.OCIRuntime}}"), runtime);
        podman.remove("path");
    }
    let info =
        podman.podman(&["info", "--format", "{{.Host.OCIRuntime.Path}} {{.Host.OCIRuntime.Version}}"]).ok();
    assert!(info.starts_with(&format!("{path} {} version ", podman.site.runtime.name)), "{info}");
}

pub fn checkpoint(podman: &Podman) {
    let check = podman.command("criu").arg("check").done();
    require!(check.status.success(), "criu does not work here: {}", check.stderr.trim());
    podman.up("saved", "", "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done");
    let count = || podman.podman(&["logs", "--tail", "1", "saved"]).ok().parse::<u64>().unwrap_or(0);
    eventually("a count", || count() > 3);
    podman.podman(&["container", "checkpoint", "saved"]).ok();
    let then = count();
    assert_eq!(podman.inspect("saved", "{{.State.Running}} {{.State.Checkpointed}}"), "false true");
    podman.podman(&["container", "restore", "saved"]).ok();
    eventually("it counts on", || count() > then);
    // As an archive, which becomes another container.
    let archive = podman.home.join("saved.tar.gz").to_string_lossy().into_owned();
    podman.podman(&["container", "checkpoint", "--export", &archive, "saved"]).ok();
    let then = count();
    podman.remove("saved");
    podman.podman(&["container", "restore", "--import", &archive, "--name", "again"]).ok();
    let count = || podman.podman(&["logs", "--tail", "1", "again"]).ok().parse::<u64>().unwrap_or(0);
    eventually("its copy counts on", || count() > then);
    podman.remove("again");
}
