//! The container as systemd sees it: a scope that an administrator can look at, reload and stop.

use super::{Docker, resources};
use crate::cgroups::{by_systemd, unit};
use crate::require;
use crate::site::sh;

pub fn scope(docker: &Docker) {
    require!(by_systemd(), "the cgroup driver is not systemd's");
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let device = ["--device", "/dev/loop-control:/dev/mine:r"];
    docker.idle("scope", &[&limits[..], &device].concat());
    let scope = format!("docker-{}.scope", docker.inspect("scope", "{{.Id}}"));
    let properties = |wanted: &[(&str, &str)]| {
        for (name, value) in wanted {
            assert_eq!(&unit(&scope, name), value, "{name}");
        }
    };
    properties(&[("ActiveState", "active"), ("SubState", "running"), ("Delegate", "yes")]);
    properties(&[("Slice", &docker.parent.word()), ("MemoryMax", "67108864"), ("TasksMax", "50")]);
    properties(&[("CPUQuotaPerSecUSec", "500ms")]);
    // systemd writes all that it knows of a unit again: what it does not know would be lost.
    let opens = "(: </dev/mine) 2>/dev/null && echo opens; (: >>/dev/mine) 2>/dev/null || echo refused";
    let holds = |memory: u64, cpu: &str| {
        for verb in ["daemon-reload", "daemon-reexec"] {
            sh(&format!("systemctl {verb}")).ok();
            assert_eq!(docker.exec("scope", opens), "opens\nrefused", "after {verb}");
            assert_eq!(resources::memory(docker, "scope"), memory.to_string(), "after {verb}");
            assert_eq!(resources::cpu(docker, "scope"), cpu, "after {verb}");
        }
    };
    holds(64 << 20, "50000 100000");
    docker.cli(&["update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "scope"]).ok();
    properties(&[("MemoryMax", "100663296"), ("CPUQuotaPerSecUSec", "250ms")]);
    holds(96 << 20, "25000 100000");
    // Its end is the container's end.
    sh(&format!("systemctl stop {scope}")).ok();
    docker.await_state("scope", "{{.State.Status}}", "exited");
    properties(&[("LoadState", "not-found")]);
    docker.cli(&["start", "scope"]).ok();
    properties(&[("ActiveState", "active"), ("MemoryMax", "100663296")]);
    docker.remove(&["scope"]);
    properties(&[("LoadState", "not-found")]);
}
