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

/// cpuset.cpus of v1 takes only what the parent has (cgroup-v1/cpusets.rst), that of v2 all that there could be.
pub(super) fn cpuset_refused(case: &Case, problems: &mut Problems) {
    for list in cpuset(case) {
        match case.host.version {
            Some(Version::V1) if !list.is_there() => list.report(problems),
            Some(Version::V2) if !list.is_possible() => list.report(problems),
            _ => {}
        }
    }
}

/// With v2 the effective ones are fewer (cgroup-v2.rst).
pub(super) fn cpuset_offline(case: &Case, problems: &mut Problems) {
    if case.host.version == Some(Version::V2) {
        let lists = cpuset(case).into_iter();
        lists.filter(|list| list.is_possible() && !list.is_there()).for_each(|list| list.report(problems));
    }
}

/// `cpus` or `mems`.
struct List<'a> {
    name: &'static str,
    wanted: Vec<Range>,
    there: &'a [Range],
    possible: &'a [Range],
    what: &'static str,
    remedy: &'static str,
}

fn cpuset<'a>(case: &'a Case) -> Vec<List<'a>> {
    let Some(cpu) = case.resources().and_then(|resources| resources.cpu().as_ref()) else {
        return Vec::new();
    };
    let wanted = |list: &Option<String>| ranges(list.as_deref().unwrap_or_default());
    vec![
        List {
            name: "cpus",
            wanted: wanted(cpu.cpus()),
            there: &case.host.cpus,
            possible: &case.host.possible_cpus,
            what: "CPUs are online",
            remedy: "/sys/devices/system/cpu/online has all",
        },
        List {
            name: "mems",
            wanted: wanted(cpu.mems()),
            there: &case.host.nodes,
            possible: &case.host.possible_nodes,
            what: "nodes have memory",
            remedy: "/sys/devices/system/node/has_memory has all",
        },
    ]
}

impl List<'_> {
    fn is_there(&self) -> bool {
        self.is_within(self.there)
    }

    fn is_possible(&self) -> bool {
        self.is_within(self.possible)
    }

    /// True where it is not known.
    fn is_within(&self, there: &[Range]) -> bool {
        let holds = |range: &Range| there.iter().any(|own| own.0 <= range.0 && range.1 <= own.1);
        there.is_empty() || self.wanted.iter().all(holds)
    }

    fn report(&self, problems: &mut Problems) {
        let path = format!("linux.resources.cpu.{}", self.name);
        problems.add_with_remedy(path, format!("not all of these {}", self.what), self.remedy);
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
