//! Namespaces of other containers and of the host.

use super::Docker;
use std::fs;

/// The namespace of a kind that a process is in.
fn namespace(pid: u32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    link.display().to_string()
}

pub fn container(docker: &Docker) {
    docker.start(
        "first",
        &["--ipc", "shareable", "--hostname", "first"],
        &["sh", "-c", "echo secret >/dev/shm/word; exec sleep 1004"],
    );
    let flags = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"];
    let second = docker.inside(
        &flags,
        "ps -o pid,args; cat /dev/shm/word; hostname; ip -4 address show eth0 | grep -o 'inet [0-9.]*'",
    );
    assert!(second.lines().any(|line| line.trim() == "1 sleep 1004"), "{second}");
    assert!(second.contains("\nsecret\nfirst\n"), "{second}");
    let address = docker.inspect("first", "{{.NetworkSettings.IPAddress}}");
    assert!(second.ends_with(&format!("inet {address}")), "{second}");
    docker.idle("second", &flags);
    for kind in ["pid", "ipc", "net"] {
        assert_eq!(namespace(docker.pid("first"), kind), namespace(docker.pid("second"), kind), "{kind}");
    }
    assert_ne!(namespace(docker.pid("first"), "mnt"), namespace(docker.pid("second"), "mnt"));
    // It can be killed in the other's pid namespace without harm to that.
    docker.cli(&["stop", "--time", "0", "second"]).ok();
    assert_eq!(docker.inspect("first", "{{.State.Status}}"), "running");
    docker.remove(&["second", "first"]);
}

pub fn host(docker: &Docker) {
    let flags =
        ["--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host", "--cgroupns", "host"];
    docker.idle("host", &flags);
    let (pid, daemon) = (docker.pid("host"), docker.containerd.borrow().pid());
    for kind in ["pid", "ipc", "uts", "net", "cgroup"] {
        assert_eq!(namespace(pid, kind), namespace(daemon, kind), "{kind}");
    }
    assert_ne!(namespace(pid, "mnt"), namespace(daemon, "mnt"));
    assert_eq!(docker.exec("host", &format!("cat /proc/{daemon}/comm")), "containerd");
    assert_eq!(
        docker.exec("host", "hostname"),
        fs::read_to_string("/proc/sys/kernel/hostname").expect("a name").trim()
    );
    // All processes of it are killed, also those that its first one leaves behind.
    docker.cli(&["exec", "--detach", "host", "sh", "-c", "exec sleep 1005"]).ok();
    crate::site::eventually("it sleeps", || docker.cli(&["top", "host"]).ok().contains("sleep 1005"));
    let pids = docker.cli(&["top", "host", "-o", "pid"]).ok();
    docker.remove(&["host"]);
    for pid in pids.lines().skip(1) {
        let gone = || !std::path::Path::new("/proc").join(pid.trim()).exists();
        crate::site::eventually("its processes are gone", gone);
    }
    let private = ["--cgroupns", "private"];
    docker.idle("private", &private);
    assert_ne!(namespace(docker.pid("private"), "cgroup"), namespace(daemon, "cgroup"));
    docker.remove(&["private"]);
}
