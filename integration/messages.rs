//! What a user reads who has made a mistake, or whose host lacks something: the flag, file or directory that is to
//! blame, and what helps.

use crate::harness::program::{Bounded, berth, berth_in, directory, path, slow};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

tests! {
    exec_names_its_flag, exec_names_its_file, what_was_meant, files_that_are_wrong, spec_says_what_stands_in_its_way,
    full_state_directory, full_rootfs, the_slower_of_two_creates, state_that_is_a_fifo, long_lists_are_checked_in_time,
    criu_that_does_not_work, criu_that_is_not_installed,
}

/// One line, without config.json, which the user has not touched.
#[track_caller]
fn blames(done: &Done, words: &str) {
    super::exec::refused(done, words);
    assert!(!done.stderr().contains("config.json"), "{}", done.describe());
    assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
}

fn exec_names_its_flag() {
    let container = super::exec::up(super::exec::sleeper());
    for (flags, words) in [
        (["--user", "99999999999"], "--user 99999999999: "),
        (["--user", "4294967295"], "--user: 4294967295 is no id"),
        (["--user", "0:4294967295"], "--user: 4294967295 is no id"),
        (["-g", "4294967295"], "--additional-gids: 4294967295 is no id"),
        (["--cwd", "relative"], "--cwd: must be an absolute path"),
        (["--env", "NAME"], "--env: must be NAME=VALUE"),
        (["--tty", "--detach"], "--tty: needs --console-socket"),
    ] {
        blames(&super::exec::exec(&container, &flags, &["echo:ran"]).done(), words);
    }
    blames(&container.verb("exec", &[], &[]).done(), "COMMAND: must name a command");
}

fn exec_names_its_file() {
    let container = super::exec::up(super::exec::sleeper());
    let file = container.bundle.path.join("probe.json");
    for (process, member) in [
        (json!({ "cwd": "/", "args": [] }), "args: "),
        (json!({ "cwd": "etc", "args": ["/bin/true"] }), "cwd: "),
        (json!({ "cwd": "/", "args": ["/bin/true"], "user": { "uid": "root" } }), "user.uid: "),
        (json!([]), "must be a JSON object"),
    ] {
        fs::write(&file, process.to_string()).expect("process file");
        let done = container.verb("exec", &["-p", &file.to_string_lossy()], &[]).done();
        blames(&done, &format!("--process {}: {member}", file.display()));
    }
}

fn bare(words: &[&str]) -> Done {
    let mut command = Command::new(path());
    command.args(words).stdin(Stdio::null());
    command.done()
}

fn what_was_meant() {
    for (words, meant) in [
        (["creat", "x"], "unknown command: creat; did you mean create?"),
        (["create", "--bundel"], "flag provided but not defined: --bundel; did you mean --bundle?"),
        (["--bundle=/b", "run"], "flag provided but not defined: --bundle; it belongs behind run"),
        (["state", "--root=/r"], "flag provided but not defined: --root; it belongs before state"),
    ] {
        bare(&words).fails(meant);
    }
}

fn files_that_are_wrong() {
    let container = super::exec::up(super::exec::sleeper());
    let file = container.bundle.path.join("wrong.json");
    let file = file.to_str().expect("path");
    fs::write(file, "{}").expect("a file");
    berth(&["mounts", "add", &container.id, file])
        .done()
        .fails(&format!("the mounts of {file}: mounts: must be an array"));
    container
        .verb("update", &["--resources", "/nope"], &[])
        .done()
        .fails("read the limits (--resources): read(/nope)");
    container.verb("ps", &[], &["--nonsense"]).done().fails("unknown gnu long option");
}

fn spec_says_what_stands_in_its_way() {
    let bundle = Bundle::new();
    let spec = |at: &str| bare(&["spec", "--bundle", at]);
    let here = bundle.path.to_str().expect("path");
    fs::write(bundle.path.join("config.json"), "mine").expect("config.json");
    spec(here).fails("move the existing config.json away");
    let missing = format!("{here}/missing");
    spec(&missing).fails(&format!("make the directory {missing} first"));
    spec("/etc/passwd").fails("--bundle takes a directory");
    spec("/proc").fails("name another directory with --bundle");
}

/// A shell with a mount namespace of its own in which `mount` has been done.
fn beside_a_mount(mount: &str, command: &Command) -> Done {
    let mut line = format!("mount --make-rprivate / && {mount} && exec");
    for word in [command.get_program()].into_iter().chain(command.get_args()) {
        line += &format!(" '{}'", word.to_str().expect("a word"));
    }
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &line]).stdin(Stdio::null());
    shell.done()
}

fn full_state_directory() {
    let bundle = Bundle::new();
    bundle.write();
    let root = directory().join("full");
    fs::create_dir_all(&root).expect("root");
    let mut create = berth_in(&root, &["create", "--bundle"]);
    create.arg(&bundle.path).arg("full");
    // Room for the root itself, and then for one thing more that a create makes there each time.
    for inodes in 1..=5 {
        let mount = format!("mount -t tmpfs -o nr_inodes={inodes} none {}", root.display());
        let done = beside_a_mount(&mount, &create).fails("no space left on device (ENOSPC)");
        assert!(
            done.stderr().contains(&format!("file system of {} is full", root.display())),
            "{}",
            done.describe()
        );
    }
}

fn full_rootfs() {
    let bundle = Bundle::new()
        .push("/mounts", json!({ "destination": "/new/mount/point", "type": "tmpfs", "source": "none" }));
    let container = bundle.container();
    let rootfs = container.bundle.path.join("rootfs");
    let rootfs = rootfs.display();
    let full = directory().join("small");
    fs::create_dir_all(&full).expect("small");
    let full = full.display();
    let mount = format!(
        "mount -t tmpfs none {full} && cp -a {rootfs}/. {full} && mount -o remount,nr_inodes=$(($(find {full} | wc -l) + 1)) {full} && mount --move {full} {rootfs}"
    );
    let done = beside_a_mount(&mount, &container.command("run", &[]));
    let done = done.fails("no space left on device (ENOSPC)");
    assert!(done.stderr().contains("the rootfs or a mount in it, is full"), "{}", done.describe());
}

fn the_slower_of_two_creates() {
    let mut bundles: Vec<Container> = (0..4).map(|_| super::exec::sleeper().container()).collect();
    for round in 0..5 {
        let id = format!("{}-{round}", bundles[0].id);
        bundles.iter_mut().for_each(|container| container.id.clone_from(&id));
        // Not a pipe, which the container would hold open.
        let start = |container: &Container| {
            let mut command = container.command("create", &[]);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let stderr = fs::File::options()
                .append(true)
                .create(true)
                .open(container.bundle.path.join("stderr"))
                .expect("a file");
            command.stderr(stderr).spawn().expect("berth")
        };
        let creates: Vec<_> = bundles.iter().map(start).collect();
        let won: Vec<bool> =
            creates.into_iter().map(|mut create| create.wait().expect("its end").success()).collect();
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        for (container, _) in bundles.iter().zip(won).filter(|(_, won)| !won) {
            let stderr = fs::read_to_string(container.bundle.path.join("stderr")).expect("stderr");
            assert!(stderr.contains(&format!("container with given ID already exists: {id}")), "{stderr}");
        }
        berth(&["delete", "--force", &id]).done().ok();
    }
}

/// In a directory that somebody else has made: nothing may wait for a writer that never comes.
fn state_that_is_a_fifo() {
    let root = directory().join("foreign");
    fs::create_dir_all(root.join("x")).expect("root");
    nix::unistd::mkfifo(&root.join("x/state.json"), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .expect("fifo");
    let begun = Instant::now();
    berth_in(&root, &["state", "x"]).done().fails("state.json): it is no regular file");
    berth_in(&root, &["kill", "x", "KILL"]).done().fails("it is no regular file");
    assert!(berth_in(&root, &["list"]).done().ok().stderr().contains("it is no regular file"));
    berth_in(&root, &["delete", "--force", "x"]).done().ok();
    assert!(!root.join("x").exists());
    assert!(begun.elapsed() < Duration::from_secs(4) * slow(), "{:?}", begun.elapsed());
}

/// Each with each, they would be 800,000,000 comparisons, and more time than a command of the suite has.
fn long_lists_are_checked_in_time() {
    let maps: Value =
        (0..40_000).map(|id| json!({ "containerID": id, "hostID": 100_000 + id, "size": 1 })).collect();
    let devices: Value = (0..5_000)
        .map(|n| json!({ "path": format!("/dev/x{n}"), "type": "c", "major": 1, "minor": 3 }))
        .collect();
    let bundle = Bundle::new()
        .push("/linux/namespaces", json!({ "type": "user" }))
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps)
        .set("/linux/devices", devices);
    bundle.write();
    let done = berth(&["check", &bundle.path.to_string_lossy()]).done().exits(1);
    assert!(done.stdout().contains("must have at most 340 entries, not 40000"), "{}", done.describe());
}

fn criu_that_does_not_work() {
    let check = Command::new("criu").arg("check").output();
    let check = require_output(check);
    require!(!check.status.success(), "CRIU works here");
    let container = super::exec::up(super::exec::sleeper());
    let mut checkpoint = container.verb("checkpoint", &[], &[]);
    checkpoint.arg("--image-path").arg(container.bundle.path.join("image"));
    let done = checkpoint.done().fails("`criu check` says more");
    let cause = String::from_utf8_lossy(&check.stderr)
        .lines()
        .last()
        .and_then(|line| Some(line.rsplit_once("): ")?.1.to_owned()));
    assert!(done.stderr().contains(&cause.expect("an error of criu's")), "{}", done.describe());
    assert_eq!(container.status(), "running");
}

fn require_output(output: std::io::Result<std::process::Output>) -> std::process::Output {
    output.unwrap_or_else(|error| skip(format!("criu: {error}")))
}

fn criu_that_is_not_installed() {
    let container = super::exec::up(super::exec::sleeper());
    let mut checkpoint = container.verb("checkpoint", &[], &[]);
    checkpoint.arg("--image-path").arg(container.bundle.path.join("image")).env("PATH", "/nowhere");
    checkpoint.done().fails("install the package criu");
    assert_eq!(container.status(), "running");
}
