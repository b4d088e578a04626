//! `update`: flags and files, merged with what is in force; all or nothing.

use crate::harness::host::{control, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, directory, root};
use crate::harness::*;
use crate::{require, tests};
use std::process::Stdio;

tests! {
    flags_reach_the_kernel, memory_and_swap_depend_on_each_other, resources_from_a_file_and_stdin, a_later_update_merges,
    an_unlimited_memory_frees_swap, zeros_are_not_mentioned, devices_stay_unless_given, refused_values_leave_everything, what_cannot_be_updated,
    bad_resources_are_named, burst_and_idle, weight_of_block_io, real_time, obsolete_limits_are_ignored_with_a_warning,
}

fn sleeper() -> Container {
    Bundle::new().steps(&["sleep:1000"]).container()
}

fn needs(controller: &str) {
    require!(hierarchy_of(controller).is_some(), "no controller {controller} here");
}

#[track_caller]
fn update(container: &Container, flags: &[&str]) {
    container.verb("update", flags, &[]).done().ok();
}

#[track_caller]
fn value(container: &Container, controller: &str, v1: &str, v2: &str) -> String {
    control(controller, &container.bundle.cgroup_path(), v1, v2)
}

fn flags_reach_the_kernel() {
    for controller in ["cpu", "memory", "pids", "cpuset"] {
        needs(controller);
    }
    let mut container = sleeper();
    container.create();
    update(
        &container,
        &[
            "--memory",
            "64m",
            "--memory-reservation",
            "32m",
            "--cpu-quota",
            "50000",
            "--cpu-period",
            "200000",
            "--cpu-share",
            "262144",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems",
            "0",
            "--pids-limit",
            "17",
        ],
    );
    assert_eq!(value(&container, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(value(&container, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432");
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "17");
    assert_eq!(value(&container, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(value(&container, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    let shares = value(&container, "cpu", "cpu.shares", "cpu.weight");
    assert_eq!(shares, if is_v2() { "10000" } else { "262144" });
    if is_v2() {
        assert_eq!(value(&container, "cpu", "", "cpu.max"), "50000 200000");
    } else {
        assert_eq!(value(&container, "cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(value(&container, "cpu", "cpu.cfs_period_us", ""), "200000");
    }
    // It can still be started, and what a flag does not name stays.
    container.start();
    update(&container, &["--pids-limit", "-1"]);
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "max");
    assert_eq!(value(&container, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
}

/// v1 counts memory and swap together, v2 swap alone: 128m of both are 64m of swap here and there.
fn memory_and_swap_depend_on_each_other() {
    needs("memory");
    let mut container = Bundle::new()
        .steps(&["sleep:1000"])
        .set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 64 << 20 }))
        .container();
    container.create();
    update(&container, &["--memory-swap", "128m"]);
    let swap = value(&container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert_eq!(swap, if is_v2() { 64 << 20 } else { 128 << 20 }.to_string());
    // The order in which v1 takes them depends on the direction.
    for limit in [256_u64 << 20, 32 << 20] {
        update(&container, &["--memory", &limit.to_string(), "--memory-swap", &(2 * limit).to_string()]);
        let memory = value(&container, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory, limit.to_string());
        let swap = value(&container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        assert_eq!(swap, if is_v2() { limit } else { 2 * limit }.to_string());
    }
}

fn resources_from_a_file_and_stdin() {
    needs("memory");
    let mut container = sleeper();
    container.create();
    let file = directory().join("resources.json");
    // As Go writes what is absent, and with what no type knows.
    let text =
        json!({ "memory": { "limit": 67_108_864, "swap": null }, "cpu": null, "pids": {}, "future": 1 });
    std::fs::write(&file, text.to_string()).expect("resources");
    // The other flags are ignored then.
    update(&container, &["--resources", &file.to_string_lossy(), "--memory", "1g"]);
    assert_eq!(value(&container, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    std::fs::write(&file, json!({ "memory": { "limit": 33_554_432 } }).to_string()).expect("resources");
    let mut command = container.verb("update", &["-r", "-"], &[]);
    command.stdin(Stdio::from(std::fs::File::open(&file).expect("resources")));
    command.done().ok();
    assert_eq!(value(&container, "memory", "memory.limit_in_bytes", "memory.max"), "33554432");
}

fn a_later_update_merges() {
    needs("cpu");
    let mut container = sleeper();
    container.create();
    update(&container, &["--cpu-quota", "50000", "--cpu-period", "100000"]);
    update(&container, &["--cpu-period", "200000"]);
    if is_v2() {
        assert_eq!(value(&container, "cpu", "", "cpu.max"), "50000 200000");
    } else {
        assert_eq!(value(&container, "cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(value(&container, "cpu", "cpu.cfs_period_us", ""), "200000");
    }
    let config = std::fs::read(root().join(&container.id).join("config.json")).expect("saved config.json");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["linux"]["resources"]["cpu"], json!({ "quota": 50_000, "period": 200_000 }));
    assert_eq!(config["process"]["args"], container.bundle.config["process"]["args"]);
}

fn an_unlimited_memory_frees_swap() {
    needs("memory");
    let mut container = Bundle::new()
        .steps(&["sleep:1000"])
        .set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 128 << 20 }))
        .container();
    container.create();
    update(&container, &["--memory", "-1"]);
    let unlimited = |text: &str| text == "max" || text.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60);
    assert!(unlimited(&value(&container, "memory", "memory.limit_in_bytes", "memory.max")));
    assert!(unlimited(&value(&container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")));
}

/// As Docker 20.10 sends `docker update --cpuset-cpus 0`: a memory limit of 0 with the swap limit in force could not be.
fn zeros_are_not_mentioned() {
    for controller in ["cpu", "memory"] {
        needs(controller);
    }
    let mut container = Bundle::new()
        .steps(&["sleep:1000"])
        .set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 64 << 20 }))
        .set("/linux/resources/cpu", json!({ "quota": 50_000, "period": 100_000 }))
        .container();
    container.create();
    let file = directory().join("resources.json");
    let text = json!({
        "memory": { "limit": 0, "reservation": 0, "kernel": 0 },
        "cpu": { "shares": 512, "quota": 0, "period": 0, "cpus": "", "mems": "" },
        "blockIO": { "weight": 0 },
    });
    std::fs::write(&file, text.to_string()).expect("resources");
    update(&container, &["--resources", &file.to_string_lossy()]);
    // And the next one merges with what is in force.
    update(&container, &["--memory-swap", "128m"]);
    assert_eq!(value(&container, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(
        value(&container, "cpu", "cpu.cfs_quota_us", "cpu.max"),
        if is_v2() { "50000 100000" } else { "50000" }
    );
    assert_eq!(value(&container, "cpu", "cpu.shares", "cpu.weight"), if is_v2() { "59" } else { "512" });
}

/// /dev/kmsg: nobody needs a right to open it for writing, and no default list has it.
fn devices_stay_unless_given() {
    needs("pids");
    let device = "device:c:1:11:w";
    let start = || {
        let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm" });
        let mut container = Bundle::new()
            .capabilities(&["bounding", "effective", "permitted"], &["CAP_MKNOD"])
            .push("/linux/resources/devices", rule)
            .steps(&["signals:SIGTERM", device, "report"])
            .container();
        container.up();
        container.await_output("ready");
        container
    };
    let container = start();
    update(&container, &["--pids-limit", "100"]);
    container.kill("TERM");
    assert_eq!(container.started_report().probe(device), "ok");

    let container = start();
    let file = directory().join("devices.json");
    let rules = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    std::fs::write(&file, rules.to_string()).expect("resources");
    update(&container, &["-r", &file.to_string_lossy()]);
    container.kill("TERM");
    // mknod or open, as the list without it refuses both.
    assert!(container.started_report().probe(device).as_str().is_some_and(|text| text.ends_with("EPERM")));
}

fn refused_values_leave_everything() {
    for controller in ["cpu", "pids"] {
        needs(controller);
    }
    let mut container = sleeper();
    container.create();
    update(&container, &["--pids-limit", "17", "--cpu-quota", "50000", "--cpu-period", "100000"]);
    // The kernel takes no period below a millisecond.
    let done = container.verb("update", &["--pids-limit", "5", "--cpu-period", "10"], &[]).done();
    done.fails("all limits are as they were before");
    assert_eq!(value(&container, "pids", "pids.max", "pids.max"), "17");
    update(&container, &["--cpu-quota", "60000"]);
    if is_v2() {
        assert_eq!(value(&container, "cpu", "", "cpu.max"), "60000 100000");
    } else {
        assert_eq!(value(&container, "cpu", "cpu.cfs_period_us", ""), "100000");
    }
}

fn what_cannot_be_updated() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.verb("update", &["--pids-limit", "5"], &[]).done().fails("does not exist");
    container.up();
    container.await_status("stopped");
    container.verb("update", &["--pids-limit", "5"], &[]).done().fails("container not running");
    container.verb("update", &["--l3-cache-schema", "L3:0=f"], &[]).done().fails("Intel RDT/CAT");
    container.verb("update", &["--mem-bw-schema", "MB:0=50"], &[]).done().fails("Intel RDT/MBA");
}

fn bad_resources_are_named() {
    let mut container = sleeper();
    container.create();
    let file = directory().join("resources.json");
    for (text, words) in [
        ("{", "resources"),
        ("[]", "must be a JSON object"),
        (r#"{"memory": {"limit": "much"}}"#, "resources.memory.limit"),
        (r#"{"memory": []}"#, "resources.memory"),
    ] {
        std::fs::write(&file, text).expect("resources");
        container.verb("update", &["-r", &file.to_string_lossy()], &[]).done().fails(words);
    }
    container.verb("update", &["-r", "/nonexistent"], &[]).done().fails("/nonexistent");
}

fn burst_and_idle() {
    needs("cpu");
    let mut container = sleeper();
    container.create();
    update(&container, &["--cpu-quota", "50000", "--cpu-period", "100000", "--cpu-burst", "20000"]);
    assert_eq!(value(&container, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "20000");
    update(&container, &["--cpu-idle", "1"]);
    assert_eq!(value(&container, "cpu", "cpu.idle", "cpu.idle"), "1");
    update(&container, &["--cpu-idle", "0"]);
    assert_eq!(value(&container, "cpu", "cpu.idle", "cpu.idle"), "0");
}

/// A file of the container's cgroup, if the kernel has it.
fn file(container: &Container, controller: &str, name: &str) -> Option<String> {
    let cgroup = container.bundle.cgroup_path();
    let path = hierarchy_of(controller)?.join(cgroup.trim_start_matches('/')).join(name);
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// Which file there is depends on the kernel's schedulers of block IO.
fn weight_of_block_io() {
    let controller = if is_v2() { "io" } else { "blkio" };
    needs(controller);
    let mut container = sleeper();
    container.create();
    let done = container.verb("update", &["--blkio-weight", "300"], &[]).done();
    let seen = |name: &str| file(&container, controller, name);
    let found = ["io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight"].into_iter().find_map(seen);
    match found {
        Some(text) => {
            done.ok();
            // 10 … 1000 of v1 are 1 … 10000 of v2, but for BFQ.
            assert!(["300", "default 300", "default 2930"].contains(&text.as_str()), "{text}");
        }
        None => drop(done.fails("weight")),
    }
    container.verb("update", &["--blkio-weight", "5"], &[]).done().exits(1);
}

fn real_time() {
    needs("cpu");
    let mut container = sleeper();
    container.create();
    let flags = ["--cpu-rt-period", "1000000", "--cpu-rt-runtime", "0"];
    let done = container.verb("update", &flags, &[]).done();
    match file(&container, "cpu", "cpu.rt_runtime_us") {
        Some(text) => {
            done.ok();
            assert_eq!(text, "0");
            assert_eq!(file(&container, "cpu", "cpu.rt_period_us").as_deref(), Some("1000000"));
            // More than all of the time.
            let flags = ["--cpu-rt-period", "1000", "--cpu-rt-runtime", "100000"];
            container.verb("update", &flags, &[]).done().fails("cpu.rt_");
        }
        // cgroup v2 has no such limit, nor has a kernel without CONFIG_RT_GROUP_SCHED.
        None => drop(done.fails("realtime")),
    }
}

fn obsolete_limits_are_ignored_with_a_warning() {
    let mut container = sleeper();
    container.create();
    for flag in ["--kernel-memory", "--kernel-memory-tcp"] {
        let done = container.verb("update", &[flag, "1048576"], &[]).done().ok();
        assert!(done.stderr().contains(&format!("{flag} is ignored")), "{}", done.describe());
    }
}
