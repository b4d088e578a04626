//! Limits: as the kernel's files have them, and as a user of the container meets them.

use super::{Docker, cgroup_of};
use crate::cgroups::assert_shares;
use crate::site::eventually;
use std::fs;

const MIB: u64 = 1024 * 1024;

/// The cpu limit in the form of v2's cpu.max.
pub fn cpu(docker: &Docker, name: &str) -> String {
    if cgroup_of(docker.pid(name), "cpu").1 {
        return docker.cgroup_file(name, "cpu", "", "cpu.max");
    }
    let file = |v1| docker.cgroup_file(name, "cpu", v1, "");
    format!("{} {}", file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"))
}

pub fn memory(docker: &Docker, name: &str) -> String {
    docker.cgroup_file(name, "memory", "memory.limit_in_bytes", "memory.max")
}

fn pids(docker: &Docker, name: &str) -> String {
    docker.cgroup_file(name, "pids", "pids.max", "pids.max")
}

pub fn limits(docker: &Docker) {
    let flags = ["--memory", "64m", "--memory-reservation", "48m", "--cpus", "0.5", "--pids-limit", "20"];
    docker.idle("limits", &[&flags[..], &["--cpu-shares", "512"]].concat());
    assert_eq!(memory(docker, "limits"), (64 * MIB).to_string());
    let reservation = docker.cgroup_file("limits", "memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(reservation, (48 * MIB).to_string());
    assert_eq!(cpu(docker, "limits"), "50000 100000");
    assert_eq!(pids(docker, "limits"), "20");
    let weight = docker.cgroup_file("limits", "cpu", "cpu.shares", "cpu.weight");
    assert_shares(&weight, 512);
    // The twenty-first process is refused.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 5 & done; echo all";
    let done = docker.cli(&["exec", "limits", "sh", "-c", script]);
    assert!(done.code() != 0 && done.stderr.contains("fork"), "{}", done.describe());
    docker.remove(&["limits"]);
}

pub fn update(docker: &Docker) {
    docker.idle("update", &["--memory", "64m"]);
    let flags = ["--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "33"];
    docker.cli(&[&["update"], &flags[..], &["update"]].concat()).ok();
    assert_eq!(memory(docker, "update"), (96 * MIB).to_string());
    assert_eq!(cpu(docker, "update"), "25000 100000");
    assert_eq!(pids(docker, "update"), "33");
    docker.cli(&["update", "--cpuset-cpus", "0", "update"]).ok();
    assert_eq!(docker.exec("update", "nproc"), "1");
    // What an update has set holds after a restart.
    docker.cli(&["restart", "--time", "5", "update"]).ok();
    assert_eq!(memory(docker, "update"), (96 * MIB).to_string());
    assert_eq!(pids(docker, "update"), "33");
    docker.cli(&["update", "--pids-limit", "-1", "update"]).ok();
    assert_eq!(pids(docker, "update"), "max");
    docker.remove(&["update"]);
}

pub fn cpuset(docker: &Docker) {
    let script = "nproc; grep Cpus_allowed_list /proc/self/status | cut -f 2";
    assert_eq!(docker.inside(&["--cpuset-cpus", "0"], script), "1\n0");
    let done = docker.run(&["--rm", "--cpuset-cpus", "0,4000"], &["true"]).exits(125);
    assert!(done.stderr.contains("4000"), "{}", done.stderr);
}

pub fn oom(docker: &Docker) {
    // tail(1) keeps all of it.
    let script = "head -c 200m /dev/zero | tail >/dev/null";
    docker.start(
        "oom",
        &["--memory", "32m", "--memory-swap", "32m"],
        &["sh", "-c", &format!("exec sh -c '{script}; exit $?'")],
    );
    let state = "{{.State.Status}} {{.State.OOMKilled}}";
    docker.await_state("oom", state, "exited true");
    // On cgroup v1 containerd's shim asks for the kernel's word only after the start: what is killed at once is
    // killed before that, with runc as well.
    let script = "sleep 2; exec tail /dev/zero";
    docker.start("alone", &["--memory", "32m", "--memory-swap", "32m"], &["sh", "-c", script]);
    docker.await_state("alone", &format!("{state} {{{{.State.ExitCode}}}}"), "exited true 137");
    docker.remove(&["oom", "alone"]);
}

pub fn stats(docker: &Docker) {
    // A file on a tmpfs is the container's memory.
    let script = "head -c 40m /dev/zero >/fill/file; sleep 1000 & sleep 1000 & echo ready; wait";
    docker.start("stats", &["--memory", "96m", "--tmpfs", "/fill"], &["sh", "-c", script]);
    eventually("it is full", || docker.cli(&["logs", "stats"]).ok() == "ready");
    let format = "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}";
    let line = docker.cli(&["stats", "--no-stream", "--format", format, "stats"]).ok();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..2], ["stats", "3"], "{line}");
    let used: f64 = words[2].trim_end_matches("MiB").parse().expect(&line);
    assert!((40.0..60.0).contains(&used), "{line}");
    assert_eq!(words[4], "96MiB", "{line}");
    assert!(words[5].ends_with('%'), "{line}");
    docker.remove(&["stats"]);
}

pub fn ulimit(docker: &Docker) {
    let flags = ["--ulimit", "nofile=123:456", "--ulimit", "core=0", "--ulimit", "fsize=4096"];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; grep 'Max file size' /proc/self/limits | tr -s ' '";
    assert_eq!(docker.inside(&flags, script), "123\n456\n0\nMax file size 4096 4096 bytes");
    docker.idle("ulimit", &flags);
    assert_eq!(docker.exec("ulimit", "ulimit -Sn; ulimit -Hn"), "123\n456");
    docker.remove(&["ulimit"]);
}

pub fn cgroup_parent(docker: &Docker) {
    docker.idle("daemons", &[]);
    let mine = docker.parent.below("below").below("mine");
    docker.idle("parent", &["--cgroup-parent", &mine.word()]);
    for (name, parent) in [("daemons", &docker.parent), ("parent", &mine)] {
        let id = docker.inspect(name, "{{.Id}}");
        let pid = docker.pid(name);
        for controller in ["memory", "pids", "cpu"] {
            let (directory, _) = cgroup_of(pid, controller);
            assert!(directory.ends_with(parent.container("docker", &id)), "{}", directory.display());
            let members = fs::read_to_string(directory.join("cgroup.procs")).expect("cgroup.procs");
            assert!(members.lines().any(|line| line == pid.to_string()), "{members}");
        }
    }
    docker.remove(&["daemons", "parent"]);
}

pub fn rest(docker: &Docker) {
    let flags = ["--shm-size", "8m", "--oom-score-adj", "500"];
    let script = "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; cat /proc/self/oom_score_adj";
    assert_eq!(docker.inside(&flags, script), "8192\n500");
}
