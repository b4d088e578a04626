//! `linux.resources`: what no kernel takes, whatever the cgroup version.

use oci_spec::runtime::{LinuxDeviceType, LinuxResources};

use super::{Config, Problems, sorted};

fn resources<'a>(config: &Config<'a>) -> Option<&'a LinuxResources> {
    config.linux().and_then(|linux| linux.resources().as_ref())
}

pub(super) fn device_rules(config: &Config, problems: &mut Problems) {
    let rules = resources(config).and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("linux.resources.devices[{index}]");
        if let Some(typ @ (LinuxDeviceType::U | LinuxDeviceType::P)) = rule.typ() {
            problems.add(format!("{path}.type"), format!("must be a, b or c, not {:?}", typ.as_str()));
        }
        // -1 is any number.
        for (name, number) in [("major", rule.major()), ("minor", rule.minor())] {
            if number.is_some_and(|number| !(-1..=i64::from(u32::MAX)).contains(&number)) {
                problems
                    .add(format!("{path}.{name}"), format!("must be a device number or -1, not {number:?}"));
            }
        }
        if let Some(access) = rule.access()
            && (access.chars().any(|letter| !"rwm".contains(letter)))
        {
            problems.add(format!("{path}.access"), format!("must be letters of rwm, not {access:?}"));
        }
    }
}

pub(super) fn memory(config: &Config, problems: &mut Problems) {
    let Some(memory) = resources(config).and_then(|resources| resources.memory().as_ref()) else { return };
    let amounts = [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernel", memory.kernel()),
        ("kernelTCP", memory.kernel_tcp()),
    ];
    for (name, amount) in amounts {
        if let Some(amount) = amount
            && amount < -1
        {
            problems.add(
                format!("linux.resources.memory.{name}"),
                format!("must be a number of bytes or -1 for no limit, not {amount}"),
            );
        }
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit(), memory.swap())
        && swap < limit
    {
        problems.add(
            "linux.resources.memory.swap",
            format!("is memory and swap together: {swap} must not be less than limit, {limit}"),
        );
    }
    if let Some(swappiness) = memory.swappiness()
        && swappiness > 100
    {
        problems
            .add("linux.resources.memory.swappiness", format!("must be between 0 and 100, not {swappiness}"));
    }
}

/// config-linux.md#pids: -1 is no limit, 0 one of none.
pub(super) fn pids(config: &Config, problems: &mut Problems) {
    if let Some(pids) = resources(config).and_then(|resources| resources.pids().as_ref())
        && pids.limit() < -1
    {
        problems.add(
            "linux.resources.pids.limit",
            format!("must be a number of processes or -1 for no limit, not {}", pids.limit()),
        );
    }
}

/// Also of a `tc` class; a name becomes part of a line that the kernel reads.
pub(super) fn network(config: &Config, problems: &mut Problems) {
    let network = resources(config).and_then(|resources| resources.network().as_ref());
    let priorities = network.and_then(|network| network.priorities().as_deref()).unwrap_or_default();
    for (index, priority) in priorities.iter().enumerate() {
        if !super::namespaces::is_device_name(priority.name()) {
            problems.add(
                format!("linux.resources.network.priorities[{index}].name"),
                format!("{:?} is not a name of a network device", priority.name()),
            );
        }
    }
}

/// The kernel's tg_set_cfs_bandwidth() and tg_set_rt_bandwidth(): what no cgroup takes.
pub(super) fn cpu_bandwidth(config: &Config, problems: &mut Problems) {
    const MICROSECONDS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
    let Some(cpu) = resources(config).and_then(|resources| resources.cpu().as_ref()) else { return };
    let path = |name: &str| format!("linux.resources.cpu.{name}");
    if let Some(period @ 1..) = cpu.period()
        && !MICROSECONDS.contains(&period)
    {
        problems.add(path("period"), format!("must be between 1000 and 1000000 µs, not {period}"));
    }
    if let Some(quota @ 1..1_000) = cpu.quota() {
        problems.add(path("quota"), format!("must be at least 1000 µs, not {quota}"));
    }
    if let (Some(burst), Some(quota @ 1..)) = (cpu.burst(), cpu.quota())
        && burst > quota.unsigned_abs()
    {
        problems.add(path("burst"), format!("must be at most quota, {quota}, not {burst}"));
    }
    if let (Some(runtime), Some(period @ 1..)) = (cpu.realtime_runtime(), cpu.realtime_period())
        && i64::try_from(period).is_ok_and(|period| runtime > period)
    {
        problems
            .add(path("realtimeRuntime"), format!("must be at most realtimePeriod, {period}, not {runtime}"));
    }
}

pub(super) fn cpu(config: &Config, problems: &mut Problems) {
    let Some(cpu) = resources(config).and_then(|resources| resources.cpu().as_ref()) else { return };
    if let Some(idle) = cpu.idle()
        && !matches!(idle, 0 | 1)
    {
        problems.add("linux.resources.cpu.idle", format!("must be 0 or 1, not {idle}"));
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list
            && !list.is_empty()
            && !is_list(list)
        {
            problems.add(
                format!("linux.resources.cpu.{name}"),
                format!("must be a list like 0-3,7, not {list:?}"),
            );
        }
    }
}

/// The list format of cpuset(7): numbers and ranges, comma separated, a range perhaps with a stride.
pub(super) fn is_list(list: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    list.trim().split(',').map(str::trim).all(|range| {
        let (range, stride) = range.split_once(':').map_or((range, "1/1"), |(range, stride)| (range, stride));
        let stride_ok =
            stride.split_once('/').is_some_and(|(used, of)| number(used).is_some() && number(of).is_some());
        let range_ok = match range.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(range).is_some(),
        };
        range_ok && stride_ok
    })
}

pub(super) fn block_io(config: &Config, problems: &mut Problems) {
    let Some(block_io) = resources(config).and_then(|resources| resources.block_io().as_ref()) else {
        return;
    };
    let path = "linux.resources.blockIO";
    weight(problems, format!("{path}.weight"), block_io.weight());
    weight(problems, format!("{path}.leafWeight"), block_io.leaf_weight());
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        weight(problems, format!("{path}.weightDevice[{index}].weight"), device.weight());
        weight(problems, format!("{path}.weightDevice[{index}].leafWeight"), device.leaf_weight());
    }
}

/// Zero is what engines write for "not set".
fn weight(problems: &mut Problems, path: String, weight: Option<u16>) {
    if let Some(weight) = weight
        && weight != 0
        && !(10..=1000).contains(&weight)
    {
        problems.add(path, format!("must be between 10 and 1000, not {weight}"));
    }
}

pub(super) fn hugepage_limits(config: &Config, problems: &mut Problems) {
    let limits =
        resources(config).and_then(|resources| resources.hugepage_limits().as_deref()).unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        let size = limit.page_size();
        if !is_page_size(size) {
            problems.add(
                format!("linux.resources.hugepageLimits[{index}].pageSize"),
                format!("must be a size like 2MB or 1GB, not {size:?}"),
            );
        }
        if limits[..index].iter().any(|earlier| earlier.page_size() == size) {
            problems.add(
                format!("linux.resources.hugepageLimits[{index}].pageSize"),
                format!("{size} is there twice"),
            );
        }
    }
}

/// It becomes part of a file name, `hugetlb.2MB.max`.
fn is_page_size(size: &str) -> bool {
    let unit = ["KB", "MB", "GB", "TB"].into_iter().find_map(|unit| size.strip_suffix(unit));
    unit.is_some_and(|number| {
        number.starts_with(|c: char| ('1'..='9').contains(&c)) && number.chars().all(|c| c.is_ascii_digit())
    })
}

pub(super) fn rdma(config: &Config, problems: &mut Problems) {
    let Some(devices) = resources(config).and_then(|resources| resources.rdma().as_ref()) else { return };
    for (name, limits) in sorted(devices) {
        if limits.hca_handles().is_none() && limits.hca_objects().is_none() {
            problems.add("linux.resources.rdma", format!("{name:?} needs hcaHandles or hcaObjects"));
        }
    }
}

pub(super) fn unified(config: &Config, problems: &mut Problems) {
    let Some(files) = resources(config).and_then(|resources| resources.unified().as_ref()) else { return };
    for (name, _) in sorted(files) {
        let has_controller =
            name.split_once('.').is_some_and(|(controller, file)| !controller.is_empty() && !file.is_empty());
        if name.contains('/') || !has_controller {
            problems.add(
                "linux.resources.unified",
                format!("{name:?} is not a file of a controller, like memory.high"),
            );
        }
    }
}
