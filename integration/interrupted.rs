//! `update` with one value in the middle that is refused: all others stay what they were, 50 times over,
//! in the kernel's files and in systemd.

use crate::harness::host::{hierarchy_of, is_v2};
use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::resources::{disk, has_disk};
use crate::systemd::{by_systemd, cgroup, needs_systemd, scoped, unit};
use crate::{require, tests};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

tests! { by_the_file_system, by_systemd_too }

const ROUNDS: u64 = 50;

/// Files that can be written and that are no limits: they change by themselves.
const NO_LIMITS: [&str; 14] = [
    "procs",
    "tasks",
    "threads",
    "pressure",
    "event_control",
    "force_empty",
    "failcnt",
    "max_usage",
    "usage",
    "reclaim",
    "peak",
    "kill",
    "reset_stats",
    "devices.allow",
];

/// What systemd knows of a scope's limits.
const PROPERTIES: &str = "MemoryMax,MemoryLimit,MemoryHigh,MemoryLow,MemoryMin,MemorySwapMax,CPUWeight,CPUShares,\
    CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,AllowedCPUs,AllowedMemoryNodes,TasksMax,IOWeight,BlockIOWeight,\
    DevicePolicy,DeviceAllow";

/// All limits of the container.
fn limits(path: &str, scope: Option<&str>) -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    for directory in host::cgroups_with(path) {
        for entry in fs::read_dir(&directory).expect("cgroup").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_limit = !NO_LIMITS.iter().any(|other| name.contains(other));
            if is_limit
                && entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(text) = fs::read_to_string(entry.path())
                && entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o222 != 0)
            {
                limits.insert(entry.path().display().to_string(), text);
            }
        }
    }
    if let Some(unit) = scope {
        let mut show = Command::new("systemctl");
        show.args(["show", "--property", PROPERTIES, unit]);
        // Another test's reload turns lists around.
        let text = show.done().ok().stdout();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        limits.insert("systemctl show".into(), lines.join("\n"));
    }
    limits
}

fn here(controller: &str) -> bool {
    match is_v2() {
        true => hierarchy_of(controller).is_some(),
        false => host::hierarchies().iter().any(|one| one.controllers.iter().any(|name| name == controller)),
    }
}

fn io() -> &'static str {
    if is_v2() { "io" } else { "blkio" }
}

/// Values of every family that this machine has, other ones in each round.
fn acceptable(round: u64) -> Value {
    let mut resources = json!({});
    if here("memory") {
        let limit = (64 + round) << 20;
        resources["memory"] = json!({ "limit": limit, "swap": 2 * limit, "reservation": limit / 2 });
        if is_v2() {
            resources["unified"] = json!({ "memory.high": (limit - 4096).to_string(), "memory.oom.group": (round % 2).to_string() });
        } else {
            resources["memory"]["swappiness"] = json!(round);
        }
    }
    if here("cpu") {
        let period = 20_000 * (1 + round % 5);
        resources["cpu"] = json!({ "quota": period / 2 + round, "period": period, "burst": period / 4 });
        match round % 3 {
            0 => resources["cpu"]["idle"] = json!(1),
            _ => resources["cpu"]["shares"] = json!(100 + round),
        }
    }
    if here("cpuset") {
        resources["cpu"]["cpus"] = json!("0");
        resources["cpu"]["mems"] = json!("0");
    }
    if here("pids") {
        resources["pids"] = json!({ "limit": 50 + round });
    }
    if here(io()) && has_disk() {
        let rate = disk(json!({ "rate": 1_000_000 + round }));
        resources["blockIO"] = json!({ "throttleReadBpsDevice": [rate], "throttleWriteIOPSDevice": [rate] });
    }
    if here("hugetlb") {
        resources["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": round << 21 }]);
    }
    if here("net_cls") && !is_v2() {
        resources["network"] = json!({ "classID": round });
    }
    resources["devices"] = json!([{ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]);
    resources
}

/// One value each that the kernel does not take, with words of the error.
fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let all = [
        ("memory", "/memory/limit", json!(4096), "linux.resources.memory.limit"),
        ("cpu", "/cpu/period", json!(10), "linux.resources.cpu"),
        ("cpu", "/cpu/burst", json!(900_000_000), "linux.resources.cpu.burst"),
        ("cpuset", "/cpu/cpus", json!("4000"), "linux.resources.cpu.cpus"),
        ("pids", "/pids/limit", json!(9_999_999_999_u64), "linux.resources.pids.limit"),
        (
            io(),
            "/blockIO/throttleReadIOPSDevice",
            json!([{ "major": 4000, "minor": 4000, "rate": 5 }]),
            "throttleReadIOPSDevice[0]",
        ),
        ("hugetlb", "/hugepageLimits", json!([{ "pageSize": "3MB", "limit": 0 }]), "hugepageLimits[0]"),
        ("rdma", "/rdma", json!({ "none_0": { "hcaHandles": 1 } }), "linux.resources.rdma"),
        (
            "net_prio",
            "/network/priorities",
            json!([{ "name": "none0", "priority": 1 }]),
            "linux.resources.network.priorities[0]",
        ),
    ];
    let mut refused: Vec<_> = all
        .into_iter()
        .filter(|(controller, ..)| here(controller))
        .map(|(_, pointer, value, words)| (pointer, value, words))
        .collect();
    if is_v2() && here("pids") {
        refused.push(("/unified", json!({ "pids.nonsense": "1" }), "pids.nonsense"));
    }
    refused
}

fn interrupt(container: &Container, path: &str, scope: Option<&str>) {
    let refused = refused();
    require!(!refused.is_empty(), "no controller here whose values can be refused");
    // So that there is something to set back, and not only the kernel's defaults.
    let file = directory().join("resources.json");
    let update = |resources: &Value| {
        fs::write(&file, resources.to_string()).expect("resources");
        container.verb("update", &["-r", &file.to_string_lossy()], &[]).done()
    };
    update(&acceptable(60)).ok();
    let before = limits(path, scope);
    assert!(before.len() > 3, "{before:?}");
    for round in 0..ROUNDS {
        let (pointer, value, words) = &refused[usize::try_from(round).expect("small") % refused.len()];
        let mut resources = acceptable(round);
        bundle::set(&mut resources, pointer, value.clone());
        let done = update(&resources).fails(words);
        let after = limits(path, scope);
        for (file, text) in &before {
            assert_eq!(after.get(file), Some(text), "round {round}, {file} after {}", done.describe());
        }
    }
    assert_eq!(container.status(), "created", "nobody was killed");
    // It is not stuck either.
    update(&acceptable(7)).ok();
    assert_ne!(limits(path, scope), before);
}

fn by_the_file_system() {
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.create();
    interrupt(&container, &container.bundle.cgroup_path(), None);
}

fn by_systemd_too() {
    needs_systemd();
    let container = scoped(Bundle::new().steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    interrupt(&container, &cgroup(&container), Some(&unit(&container)));
}
