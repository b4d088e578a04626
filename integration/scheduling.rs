//! When, where and on which memory the container's process runs: scheduler, I/O priority, CPU affinity,
//! NUMA memory policy.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};

tests! {
    every_policy, realtime_policies, every_flag, deadlines, deadline_of_an_exec, policy_that_no_kernel_has_is_refused, numbers_that_make_no_sense_are_refused,
    every_io_class, every_memory_mode, every_memory_flag, memory_that_is_not_there_is_refused, memory_policy_of_an_exec,
    affinity_is_for_exec_alone, affinity_of_the_caller_stays_outside, affinity_beyond_the_first_thousand_cpus, initial_affinity_is_the_runtimes,
}

/// linux/sched.h; a process that resets its policy at fork has it or'ed into sched_getscheduler(2).
const RESET_ON_FORK: i64 = 0x4000_0000;

/// Policy, priority and nice value.
fn scheduled(scheduler: Value) -> (i64, i64, i64) {
    let report = Bundle::new().set("/process/scheduler", scheduler).report();
    let number = |name: &str| report["scheduler"][name].as_i64().expect("a number");
    (number("policy"), number("priority"), number("nice"))
}

fn every_policy() {
    assert_eq!(scheduled(json!({ "policy": "SCHED_OTHER", "nice": -3 })), (0, 0, -3));
    assert_eq!(scheduled(json!({ "policy": "SCHED_BATCH", "nice": 19 })), (3, 0, 19));
    assert_eq!(scheduled(json!({ "policy": "SCHED_IDLE" })).0, 5);
}

fn realtime_policies() {
    require!(host::is_v2(), "only on cgroup v2 without a budget for real time of each cgroup");
    assert_eq!(scheduled(json!({ "policy": "SCHED_FIFO", "priority": 10 })), (1, 10, 0));
    assert_eq!(scheduled(json!({ "policy": "SCHED_RR", "priority": 99 })), (2, 99, 0));
}

fn every_flag() {
    let with = |flags: Value| json!({ "policy": "SCHED_OTHER", "nice": 4, "flags": flags });
    assert_eq!(scheduled(with(json!(["SCHED_FLAG_RESET_ON_FORK"]))), (RESET_ON_FORK, 0, 4));
    // The policy of the runtime is kept, and so are its parameters.
    assert_eq!(scheduled(with(json!(["SCHED_FLAG_KEEP_POLICY"]))), (0, 0, 4));
    assert_eq!(scheduled(with(json!(["SCHED_FLAG_KEEP_PARAMS"]))), (0, 0, 0));
    // Only where the kernel is built with CONFIG_UCLAMP_TASK.
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        let done = Bundle::new().set("/process/scheduler", with(json!([flag]))).container().run();
        assert!(
            done.status.success() || done.stderr().contains("set process.scheduler"),
            "{}",
            done.describe()
        );
    }
}

fn deadline(flags: Value) -> Value {
    json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000,
        "flags": flags })
}

/// What a container reports that has a deadline.
fn report_of_a_deadline(flags: Value) -> Report {
    let done = Bundle::new().set("/process/scheduler", deadline(flags)).container().run();
    // Whose CPUs are not all of the machine's has no bandwidth to give (sched-deadline.rst, 5.2).
    let words = ["EPERM", "EBUSY", "EINVAL"];
    require!(
        done.status.success() || !words.iter().any(|word| done.stderr().contains(word)),
        "no bandwidth for deadlines here: {}",
        done.stderr().trim()
    );
    Report::parse(&done.ok().stdout())
}

fn deadlines() {
    for flags in [json!([]), json!(["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"])] {
        assert_eq!(report_of_a_deadline(flags)["scheduler"]["policy"], 6);
    }
}

/// Where a container can have one, a process that joins it can.
fn deadline_of_an_exec() {
    report_of_a_deadline(json!([]));
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.up();
    let process = json!({ "args": [bundle::PAYLOAD, "report"], "cwd": "/", "env": [], "scheduler": deadline(json!([])) });
    let file = crate::exec::write_process(&container, &process);
    for exec in
        [container.verb("exec", &["-p", &file], &[]), on_one_cpu(container.verb("exec", &["-p", &file], &[]))]
    {
        assert_eq!(Report::parse(&exec.done().ok().stdout())["scheduler"]["policy"], 6);
    }
}

fn policy_that_no_kernel_has_is_refused() {
    Bundle::new()
        .set("/process/scheduler", json!({ "policy": "SCHED_ISO" }))
        .refused("set process.scheduler");
}

fn numbers_that_make_no_sense_are_refused() {
    for (scheduler, words) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        (json!({ "policy": "SCHED_FIFO" }), "process.scheduler.priority"),
        (json!({ "policy": "SCHED_OTHER", "priority": 5 }), "process.scheduler.priority"),
        (json!({ "policy": "SCHED_RR", "priority": 5, "runtime": 7 }), "process.scheduler"),
    ] {
        Bundle::new().set("/process/scheduler", scheduler).refused(words);
    }
    let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 });
    Bundle::new().set("/process/ioPriority", priority).refused("process.ioPriority.priority");
}

fn every_io_class() {
    for (class, number, level) in
        [("IOPRIO_CLASS_RT", 1, 3), ("IOPRIO_CLASS_BE", 2, 7), ("IOPRIO_CLASS_IDLE", 3, 0)]
    {
        let priority = json!({ "class": class, "priority": level });
        let report = Bundle::new().set("/process/ioPriority", priority).report();
        assert_eq!(report["ioprio"], number << 13 | level, "{class}");
    }
}

const MAPS: &str = "read:/proc/self/numa_maps";

/// The policy as the kernel writes it: `bind=static:0`.
#[track_caller]
fn policy_in(report: &Report) -> String {
    let maps = report.probe(MAPS).as_str().expect("numa_maps").to_owned();
    let line = maps.lines().next().expect("a mapping");
    // The address, the policy of one or two words, what is mapped there.
    line.split(' ').skip(1).take_while(|word| !word.contains('/') && !word.contains("mapped")).fold(
        String::new(),
        |policy, word| if word.contains('=') && policy.contains(':') { policy } else { policy + word },
    )
}

fn memory(policy: Value) -> Bundle {
    require!(std::path::Path::new("/proc/self/numa_maps").exists(), "no NUMA in this kernel");
    Bundle::new().set("/linux/memoryPolicy", policy)
}

/// Whether this kernel is as new.
fn since(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().expect("uname").release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|word| word.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn every_memory_mode() {
    for (mode, nodes, expected, version) in [
        ("MPOL_DEFAULT", "", "default", (2, 6)),
        ("MPOL_PREFERRED", "0", "prefer:0", (2, 6)),
        ("MPOL_BIND", "0", "bind:0", (2, 6)),
        ("MPOL_INTERLEAVE", "0", "interleave:0", (2, 6)),
        ("MPOL_LOCAL", "", "local", (3, 8)),
        ("MPOL_PREFERRED_MANY", "0", "prefer(many):0", (5, 15)),
        ("MPOL_WEIGHTED_INTERLEAVE", "0", "weightedinterleave:0", (6, 9)),
    ] {
        let bundle = memory(json!({ "mode": mode, "nodes": nodes }));
        if since(version.0, version.1) {
            let seen = policy_in(&bundle.report_after(&[MAPS]));
            assert!(seen.starts_with(expected), "{mode}: {seen:?}");
        } else {
            bundle.refused("set linux.memoryPolicy");
        }
    }
}

fn every_memory_flag() {
    for (flag, expected, version) in [
        ("MPOL_F_STATIC_NODES", "bind=static:0", (2, 6)),
        ("MPOL_F_RELATIVE_NODES", "bind=relative:0", (2, 6)),
        // Written only since 6.14; before, the kernel takes it and says nothing of it.
        ("MPOL_F_NUMA_BALANCING", "bind", (5, 12)),
    ] {
        require!(since(version.0, version.1), "no {flag} in this kernel");
        let report =
            memory(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] })).report_after(&[MAPS]);
        let seen = policy_in(&report);
        assert!(seen.starts_with(expected), "{flag}: {seen:?}");
    }
    let both = json!(["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]);
    memory(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": both })).refused("linux.memoryPolicy.flags");
}

fn memory_that_is_not_there_is_refused() {
    memory(json!({ "mode": "MPOL_BIND", "nodes": "1000" })).refused("set linux.memoryPolicy");
    memory(json!({ "mode": "MPOL_BIND", "nodes": "0-" })).refused("linux.memoryPolicy.nodes");
}

fn memory_policy_of_an_exec() {
    let mut container =
        memory(json!({ "mode": "MPOL_BIND", "nodes": "0" })).steps(&["sleep:1000"]).container();
    container.up();
    let done = container.verb("exec", &[], &[bundle::PAYLOAD, MAPS, "report"]).done().ok();
    assert!(policy_in(&Report::parse(&done.stdout())).starts_with("bind:0"));
}

/// The CPUs that a process may use, as the kernel writes them.
fn cpus(status: &Value) -> String {
    let text = status.as_str().expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("CPUs").trim().to_owned()
}

const STATUS: &str = "read:/proc/self/status";

/// The command, called by somebody who has one CPU.
fn on_one_cpu(command: std::process::Command) -> std::process::Command {
    let mut wrapped = std::process::Command::new("taskset");
    wrapped.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
    wrapped
}

fn with_affinity(affinity: Value) -> Bundle {
    Bundle::new().set("/process/execCPUAffinity", affinity)
}

fn affinity_is_for_exec_alone() {
    let steps = [bundle::PAYLOAD, STATUS, "report", "sleep:1000"];
    let mut container = with_affinity(json!({ "initial": "0", "final": "0" })).args(&steps).container();
    container.up();
    let own = std::fs::read_to_string("/proc/self/status").expect("status");
    assert_eq!(cpus(container.started_report().probe(STATUS)), cpus(&json!(own)), "init has the runtime's");
    let done = container.verb("exec", &[], &[bundle::PAYLOAD, STATUS, "report"]).done().ok();
    assert_eq!(cpus(Report::parse(&done.stdout()).probe(STATUS)), "0");
}

/// Since Linux 6.2 a mask that somebody asked for outlives the move into another cgroup. The payload starts with
/// what its own caller had, as berth does.
fn affinity_of_the_caller_stays_outside() {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").expect("CPUs");
    require!(online.trim() != "0", "this machine has one CPU");
    let mut container = Bundle::new().args(&[bundle::PAYLOAD, STATUS, "report", "sleep:1000"]).container();
    // A container that has no limit of its own has what its cgroup has, as one of an unrestricted caller.
    container.up();
    let free = cpus(container.started_report().probe(STATUS));
    require!(free != "0", "the suite itself may use one CPU only");
    let steps = [STATUS, "report", "sleep:0"];
    let bound = Bundle::new().steps(&steps).container();
    let done = on_one_cpu(bound.command("run", &[])).done().ok();
    assert_eq!(cpus(Report::parse(&done.stdout()).probe(STATUS)), free);
    let exec = on_one_cpu(container.verb("exec", &[], &[bundle::PAYLOAD, STATUS, "report"])).done().ok();
    assert_eq!(cpus(Report::parse(&exec.stdout()).probe(STATUS)), free);
    // Nor does berth's own choice of where its processes work stay with what they become, whoever is quicker.
    for _ in 0..30 {
        let exec = container.verb("exec", &[], &[bundle::PAYLOAD, STATUS, "report"]).done().ok();
        assert_eq!(cpus(Report::parse(&exec.stdout()).probe(STATUS)), free);
    }
}

fn affinity_beyond_the_first_thousand_cpus() {
    // The machine has fewer: those that it has count.
    let mut container = with_affinity(json!({ "final": "0,2000-2047" })).steps(&["sleep:1000"]).container();
    container.up();
    let done = container.verb("exec", &[], &[bundle::PAYLOAD, STATUS, "report"]).done().ok();
    assert_eq!(cpus(Report::parse(&done.stdout()).probe(STATUS)), "0");
    let mut container = with_affinity(json!({ "final": "2000" })).steps(&["sleep:1000"]).container();
    container.up();
    let exec = container.verb("exec", &[], &[bundle::PAYLOAD, "exit:0"]).done();
    exec.fails_with(255, "none of these CPUs");
}

/// Without a final one the process keeps what the runtime had when it made it.
fn initial_affinity_is_the_runtimes() {
    let mut container = with_affinity(json!({ "initial": "0" })).steps(&["sleep:1000"]).container();
    container.up();
    let done = container.verb("exec", &[], &[bundle::PAYLOAD, STATUS, "report"]).done().ok();
    let seen = cpus(Report::parse(&done.stdout()).probe(STATUS));
    // A cpuset of v1 gives all its CPUs to whoever is moved into it, and before Linux 6.2 one of v2 too.
    assert!(seen == "0" || !host::is_v2() || !since(6, 2), "{seen}");
}
