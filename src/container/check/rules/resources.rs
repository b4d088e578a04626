//! `linux.resources` on this host's cgroups.

use std::collections::BTreeSet;

use super::super::host::{Range, block_io_devices, ranges};
use super::{Case, Problems};
use crate::cgroups::Version;

/// On v1 a controller without a hierarchy is refused by the plan.
pub(super) fn controllers(case: &Case, problems: &mut Problems) {
    let Some(plan) = case.plans.cgroup.as_ref().filter(|_| case.host.version == Some(Version::V2)) else {
        return;
    };
    let mut said = BTreeSet::new();
    for (controller, field) in plan.limits() {
        if !case.host.controllers.contains(controller) && said.insert(field) {
            problems.add_with_remedy(
                field,
                format!("this host has no cgroup controller {controller}"),
                "leave it out, or take the controller away from cgroup v1",
            );
        }
    }
}

/// Without limits the container stays in the caller's cgroup.
pub(super) fn rights(case: &Case, problems: &mut Problems) {
    let Some(plan) = &case.plans.cgroup else { return };
    let is_v2 = case.host.version == Some(Version::V2);
    let refused = |(controller, _): &(&str, &str)| {
        case.host.readonly_hierarchies.contains(if is_v2 { "" } else { controller })
    };
    let fields: BTreeSet<&str> = plan.limits().filter(refused).map(|(_, field)| field).collect();
    for field in fields {
        problems.add(field, "the caller may not make a cgroup for it");
    }
}

pub(super) fn cpu_kernel(case: &Case, problems: &mut Problems) {
    let Some(cpu) = case.resources().and_then(|resources| resources.cpu().as_ref()) else { return };
    let is_set = |value: Option<u64>| value.is_some_and(|value| value != 0);
    if is_set(cpu.burst()) && case.host.kernel < (5, 14) {
        problems.add("linux.resources.cpu.burst", "it needs Linux 5.14");
    }
    if cpu.idle().is_some() && case.host.kernel < (5, 15) {
        problems.add("linux.resources.cpu.idle", "it needs Linux 5.15");
    }
}

/// cpuset.cpus of v1 takes only what the parent has (cgroup-v1/cpusets.rst).
pub(super) fn cpuset_v1(case: &Case, problems: &mut Problems) {
    if case.host.version == Some(Version::V1) {
        cpuset(case, problems);
    }
}

/// That of v2 takes all, and the effective ones are fewer (cgroup-v2.rst).
pub(super) fn cpuset_v2(case: &Case, problems: &mut Problems) {
    if case.host.version == Some(Version::V2) {
        cpuset(case, problems);
    }
}

fn cpuset(case: &Case, problems: &mut Problems) {
    let Some(cpu) = case.resources().and_then(|resources| resources.cpu().as_ref()) else { return };
    for (name, list, there, what, remedy) in [
        ("cpus", cpu.cpus(), &case.host.cpus, "CPUs are online", "/sys/devices/system/cpu/online has all"),
        (
            "mems",
            cpu.mems(),
            &case.host.nodes,
            "nodes have memory",
            "/sys/devices/system/node/has_memory has all",
        ),
    ] {
        let wanted = ranges(list.as_deref().unwrap_or_default());
        let is_there = |range: &Range| there.iter().any(|own| own.0 <= range.0 && range.1 <= own.1);
        if !there.is_empty() && !wanted.iter().all(is_there) {
            problems.add_with_remedy(
                format!("linux.resources.cpu.{name}"),
                format!("not all of these {what}"),
                remedy,
            );
        }
    }
}

pub(super) fn block_devices(case: &Case, problems: &mut Problems) {
    for (path, number) in block_io_devices(case.spec) {
        if !case.host.block_devices.contains(&number) {
            problems.add(path, format!("the host has no block device {number}"));
        }
    }
}

pub(super) fn page_sizes(case: &Case, problems: &mut Problems) {
    let limits = case.resources().and_then(|resources| resources.hugepage_limits().as_deref());
    for (index, limit) in limits.unwrap_or_default().iter().enumerate() {
        let size = limit.page_size();
        if !case.host.page_sizes.contains(size) {
            let have: Vec<&str> = case.host.page_sizes.iter().map(String::as_str).collect();
            let remedy =
                if have.is_empty() { "leave it out".into() } else { format!("it has {}", have.join(", ")) };
            problems.add_with_remedy(
                format!("linux.resources.hugepageLimits[{index}].pageSize"),
                format!("this machine has no pages of {size}"),
                &remedy,
            );
        }
    }
}

pub(super) fn rdma(case: &Case, problems: &mut Problems) {
    let devices = case.resources().and_then(|resources| resources.rdma().as_ref());
    let names: BTreeSet<&String> = devices.into_iter().flatten().map(|(name, _)| name).collect();
    for name in names.into_iter().filter(|name| !case.host.rdma.contains(*name)) {
        problems.add(format!("linux.resources.rdma[{name:?}]"), "the host has no such device");
    }
}

/// net_prio.ifpriomap of v1 takes only interfaces that are there.
pub(super) fn interfaces(case: &Case, problems: &mut Problems) {
    let network = case.resources().and_then(|resources| resources.network().as_ref());
    let priorities = network.and_then(|network| network.priorities().as_deref()).unwrap_or_default();
    for (index, priority) in priorities.iter().enumerate() {
        if !case.host.interfaces.contains(priority.name()) {
            problems.add(
                format!("linux.resources.network.priorities[{index}].name"),
                format!("the host has no interface {}", priority.name()),
            );
        }
    }
}
