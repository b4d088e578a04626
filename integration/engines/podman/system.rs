//! systemd in a container: what Podman prepares for it, and systemd itself.

use super::Podman;
use crate::image;
use crate::require;
use crate::site::eventually;
use std::path::Path;

/// What systemd asks of a container manager, without systemd: <https://systemd.io/CONTAINER_INTERFACE/>.
pub fn mounts(podman: &Podman) {
    let script = "
        for directory in /run /run/lock /tmp /var/log/journal; do stat -f -c %T $directory; touch $directory/new || exit 9; done
        echo $container
        cgroup=$(sed -n 's/.*name=systemd://p; s/^0:://p' /proc/self/cgroup | head -1)
        for top in /sys/fs/cgroup/systemd /sys/fs/cgroup; do
            mkdir $top$cgroup/new 2>/dev/null && rmdir $top$cgroup/new && echo writable && break
        done
        trap 'exit 8' 37; echo ready; while :; do sleep 0.1; done";
    podman.up("prepared", "--systemd=always", script);
    eventually("its words", || podman.podman(&["logs", "prepared"]).ok().contains("ready"));
    let words = podman.podman(&["logs", "prepared"]).ok();
    assert_eq!(words, "tmpfs\ntmpfs\ntmpfs\ntmpfs\npodman\nwritable\nready");
    // SIGRTMIN+3 by itself.
    podman.podman(&["stop", "prepared"]).ok();
    assert_eq!(podman.inspect("prepared", "{{.State.ExitCode}}"), "8");
    podman.remove("prepared");
}

/// The machine's own systemd, from its own /usr.
pub fn boots(podman: &Podman) {
    let program = "/usr/lib/systemd/systemd";
    require!(Path::new(program).exists(), "the package systemd is not installed");
    let context = podman.directory("boot");
    let file = "FROM localhost/busybox:test\nRUN busybox mkdir -p /usr /var/lib /etc/systemd/system /lib && \
        for name in lib lib64 sbin; do busybox rm -rf /$name; busybox ln -s usr/$name /$name; done; busybox touch /etc/machine-id\n";
    std::fs::write(context.join("Containerfile"), file).expect("Containerfile");
    podman
        .podman(&[
            "build",
            "--quiet",
            "--network=none",
            "--tag",
            "localhost/booting",
            &context.to_string_lossy(),
        ])
        .ok();
    podman
        .podman(&[
            "run",
            "--detach",
            "--tty",
            "--name",
            "booted",
            "--network=none",
            "--systemd=always",
            "--volume=/usr:/usr:ro",
            "localhost/booting",
            program,
            "--unit=basic.target",
            "--log-level=info",
        ])
        .ok();
    let running = || podman.podman(&["exec", "booted", "/usr/bin/systemctl", "is-system-running"]).stdout;
    let log = || podman.podman(&["logs", "booted"]).stdout;
    eventually("systemd runs", || {
        let state = running();
        assert_eq!(podman.inspect("booted", "{{.State.Status}}"), "running", "{}", log());
        ["running", "degraded"].contains(&state.trim())
    });
    // A service has a cgroup of its own below the container's.
    podman
        .podman(&[
            "exec",
            "booted",
            "/usr/bin/systemd-run",
            "--wait",
            "--quiet",
            "/usr/bin/test",
            "-d",
            "/run/systemd/system",
        ])
        .ok();
    let cgroups = podman.exec("booted", "cat /proc/1/cgroup");
    assert!(cgroups.contains("init.scope"), "{cgroups}");
    podman.podman(&["stop", "--time=30", "booted"]).ok();
    assert_eq!(podman.inspect("booted", "{{.State.ExitCode}}"), "0", "{}", log());
    podman.remove("booted");
    podman.podman(&["rmi", "localhost/booting"]).ok();
    assert!(podman.podman(&["image", "exists", image::NAME]).status.success());
}
