//! Namespaces that containers share, and user namespaces.

use super::Podman;
use crate::image;
use crate::require;
use crate::site::Bounded;
use std::fs;
use std::path::Path;
use std::process::Command;

pub fn id_maps(podman: &Podman) {
    let flags = "--uidmap 0:100000:5000 --gidmap 0:200000:5000";
    let text = podman
        .run(flags, "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /new && stat -c %u:%g /new")
        .ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "5000", "0", "200000", "5000", "0", "0:0"]);
    podman.up("mapped", flags, "sleep 1000");
    let pid = podman.inspect("mapped", "{{.State.Pid}}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    assert!(status.contains("Uid:\t100000\t100000") && status.contains("Gid:\t200000\t200000"), "{status}");
    assert_eq!(podman.exec("mapped", "id -u; cat /proc/self/uid_map").split_whitespace().next(), Some("0"));
    podman.remove("mapped");
}

/// Podman takes the ids from those of the user `containers`, who is made for this command alone.
pub fn automatic_user_namespace(podman: &Podman) {
    require!(Path::new("/etc/subuid").exists(), "the package uidmap is missing");
    let granted = podman.home.join("granted");
    fs::write(&granted, "containers:900000:1000000\n").expect("granted ids");
    let podman_command = podman.client(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--userns=auto:size=4096",
        image::NAME,
        "cat",
        "/proc/self/uid_map",
    ]);
    let mut command = Command::new("unshare");
    let script = "for file in subuid subgid; do mount --bind $1 /etc/$file || exit; done; shift; exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&granted);
    command.arg(podman_command.get_program()).args(podman_command.get_args());
    for (name, value) in podman_command.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let map = command.done().ok();
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!((words[0], words[2]), (0, 4096), "{map}");
    assert!((900_000..1_900_000).contains(&words[1]), "{map}");
}

const KINDS: [&str; 7] = ["net", "ipc", "uts", "pid", "mnt", "user", "cgroup"];
const READ: &str = "for kind in net ipc uts pid mnt user cgroup; do readlink /proc/self/ns/$kind; done";

/// The kinds of namespaces in which two listings of [`READ`] agree.
fn common(one: &str, other: &str) -> Vec<&'static str> {
    let pairs = one.lines().zip(other.lines()).zip(KINDS);
    pairs.filter(|((one, other), _)| one == other).map(|(_, kind)| kind).collect()
}

pub fn namespaces(podman: &Podman) {
    podman.up("first", "", "sleep 1000");
    let first = podman.exec("first", READ);
    // What both of them share with the host or with Podman, depending on its defaults.
    let base = common(&first, &podman.run("", READ).ok());
    assert!(["net", "ipc", "uts", "pid", "mnt"].iter().all(|kind| !base.contains(kind)), "{base:?}");
    for (flag, kind) in [("--ipc", "ipc"), ("--uts", "uts"), ("--pid", "pid")] {
        let shared = common(&first, &podman.run(&format!("{flag}=container:first"), READ).ok());
        assert!(shared.contains(&kind) && shared.len() == base.len() + 1, "{flag}: {shared:?}");
    }
    let network = ["run", "--rm", "--network", "container:first", image::NAME, "sh", "-c", READ];
    let shared = common(&first, &podman.podman(&network).ok());
    assert!(shared.contains(&"net"), "{shared:?}");
    let seen = podman.run("--pid=container:first", "ps").ok();
    assert!(seen.lines().any(|line| line.contains("sleep 1000")), "{seen}");
    let host: String = KINDS
        .map(|kind| {
            format!("{}\n", fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display())
        })
        .concat();
    // Podman binds the host's /dev/mqueue then.
    let ipc = if Path::new("/dev/mqueue").exists() { "host" } else { "private" };
    let ipc = format!("--ipc={ipc}");
    let outside =
        ["run", "--rm", "--network=host", &ipc, "--uts=host", "--pid=host", image::NAME, "sh", "-c", READ];
    let shared = common(&host, &podman.podman(&outside).ok());
    let wanted = ["net", "uts", "pid", "ipc"];
    let wanted = &wanted[..if ipc == "--ipc=host" { 4 } else { 3 }];
    assert!(wanted.iter().all(|kind| shared.contains(kind)), "{shared:?}");
    podman.remove("first");
}

/// The pod's namespaces are those of its infra container, which Podman builds from catatonit.
fn pod_of_two(podman: &Podman, share: &str) -> (String, String) {
    require!(
        ["/usr/libexec/podman/catatonit", "/usr/bin/catatonit"].iter().any(|path| Path::new(path).exists()),
        "the package catatonit is missing"
    );
    podman.podman(&["pod", "create", "--name", "pod", "--network", "none", "--share", share]).ok();
    for name in ["one", "two"] {
        podman
            .podman(&["run", "--detach", "--pod", "pod", "--name", name, image::NAME, "sleep", "1000"])
            .ok();
    }
    (podman.exec("one", READ), podman.exec("two", READ))
}

#[track_caller]
fn remove_pod(podman: &Podman) {
    podman.podman(&["pod", "stop", "--time=0", "pod"]).ok();
    podman.podman(&["pod", "rm", "--force", "pod"]).ok();
    assert_eq!(podman.podman(&["ps", "--all", "--quiet"]).ok(), "");
}

pub fn pod(podman: &Podman) {
    let (one, two) = pod_of_two(podman, "net,ipc,uts");
    let shared = common(&one, &two);
    assert!(["net", "ipc", "uts"].iter().all(|kind| shared.contains(kind)), "{shared:?}");
    assert!(["pid", "mnt"].iter().all(|kind| !shared.contains(kind)), "{shared:?}");
    assert_eq!(podman.exec("one", "hostname"), "pod");
    assert!(podman.exec("two", "ip -o addr show lo").contains("127.0.0.1"));
    assert_eq!(podman.podman(&["pod", "inspect", "--format", "{{.State}}", "pod"]).ok(), "Running");
    podman.podman(&["pod", "restart", "--time=0", "pod"]).code();
    podman.podman(&["pod", "kill", "pod"]).ok();
    remove_pod(podman);
}

pub fn pod_with_pids(podman: &Podman) {
    let (one, two) = pod_of_two(podman, "net,ipc,uts,pid");
    assert!(common(&one, &two).contains(&"pid"));
    let seen = podman.exec("one", "ps");
    assert_eq!(seen.matches("sleep 1000").count(), 2, "{seen}");
    assert!(
        seen.lines().any(|line| line.trim_start().starts_with("1 ") && line.contains("catatonit")),
        "{seen}"
    );
    remove_pod(podman);
}

const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  restartPolicy: Never
  containers:
  - name: worker
    image: localhost/busybox:test
    imagePullPolicy: Never
    command: [\"sh\", \"-c\", \"trap 'exit 0' TERM; echo started; while :; do sleep 0.1; done\"]
    env: [{name: WORD, value: said}]
    securityContext: {runAsUser: 1000, capabilities: {drop: [\"ALL\"]}, readOnlyRootFilesystem: true}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: other
    image: localhost/busybox:test
    imagePullPolicy: Never
    command: [\"sleep\", \"1000\"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
  - name: shared
    hostPath: {path: DIRECTORY, type: Directory}
";

pub fn kube(podman: &Podman) {
    let shared = podman.directory("kube");
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("its mode");
    let file = podman.home.join("pod.yaml");
    fs::write(&file, MANIFEST.replace("DIRECTORY", &shared.to_string_lossy())).expect("the manifest");
    podman.give(&file);
    let file = file.to_string_lossy().into_owned();
    podman.podman(&["play", "kube", "--network", "none", &file]).ok();
    let script = "id -u; echo $WORD; grep CapBnd /proc/self/status; touch /new 2>/dev/null; echo $? >/shared/said; cat /shared/said";
    let said = podman.exec("played-worker", script).replace('\t', " ");
    assert_eq!(said, "1000\nsaid\nCapBnd: 0000000000000000\n1");
    assert_eq!(podman.exec("played-other", "cat /shared/said"), "1");
    podman.podman(&["play", "kube", "--down", &file]).ok();
    assert_eq!(podman.podman(&["ps", "--all", "--quiet"]).ok(), "");
}
