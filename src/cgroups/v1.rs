//! linux.resources as writes to the files of cgroup v1. Pure. Source of the files' meaning:
//! Documentation/admin-guide/cgroup-v1/.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};

use super::convert::Limit;
use super::v2::{hugepage_limit, page_size, pids, rdma, warn_of_kernel_memory};
use super::write::Write;
use crate::error::{Context, Error, Result};

/// All writes but the device list. In the order in which a new cgroup takes them.
pub(super) fn writes(resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<Vec<Write>> {
    let mut writes = Vec::with_capacity(16);
    if let Some(limits) = resources.memory() {
        memory(limits, &mut writes, warnings)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, &mut writes)?;
    }
    if let Some(limits) = resources.pids() {
        writes.push(pids(limits)?);
    }
    if let Some(limits) = resources.block_io() {
        block_io(limits, &mut writes)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        let size = page_size(limit).with_context(|| field.clone())?;
        let value = hugepage_limit(limit).with_context(|| field.clone())?.v1();
        let reservation = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        writes.push(Write::new("hugetlb", field.clone(), reservation, &value).or_skip());
        writes.push(Write::new("hugetlb", field, format!("hugetlb.{size}.limit_in_bytes"), value));
    }
    if let Some(limits) = resources.network() {
        network(limits, &mut writes)?;
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        writes.push(rdma(device, limit)?);
    }
    if resources.unified().as_ref().is_some_and(|files| !files.is_empty()) {
        return Err(Error::unsupported(
            "invalid configuration: linux.resources.unified needs cgroup v2, and this host's controllers are on v1",
        )
        .remedy("boot with systemd.unified_cgroup_hierarchy=1, or use the fields of cgroup v1"));
    }
    Ok(writes)
}

fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>, warnings: &mut Vec<String>) -> Result<()> {
    let field = |name: &str| format!("linux.resources.memory.{name}");
    let limit = Limit::parse(memory.limit()).with_context(|| field("limit"))?;
    let swap = Limit::parse(memory.swap()).with_context(|| field("swap"))?;
    let reservation = Limit::parse(memory.reservation()).with_context(|| field("reservation"))?;
    warn_of_kernel_memory(memory, warnings);
    if let (Some(Limit::At(swap)), Some(Limit::At(limit))) = (swap, limit)
        && swap < limit
    {
        return Err(Error::invalid(format!(
            "linux.resources.memory.swap ({swap}) is memory and swap together and must not be below memory.limit ({limit})"
        )));
    }
    if let Some(hierarchy) = memory.use_hierarchy() {
        // Always on since Linux 5.11, where writing 0 is refused.
        let write = Write::new("memory", field("useHierarchy"), "memory.use_hierarchy", u8::from(hierarchy));
        writes.push(if hierarchy { write.or_skip() } else { write });
    }
    // The kernel holds memory.limit ≤ memsw.limit at every moment: what grows without bound goes
    // first, and a new cgroup's memsw is unlimited, so that any other limit goes before its memsw.
    let memory_limit = limit.map(|l| Write::new("memory", field("limit"), "memory.limit_in_bytes", l.v1()));
    // No limit on memory and nothing said of swap lifts both (runc: fs/memory.go).
    let swap_limit = match (swap, limit) {
        (None, Some(Limit::Max)) => Some((Limit::Max, true)),
        // Without swap accounting in the kernel a limit that is no limit asks for nothing.
        (Some(Limit::Max), _) => Some((Limit::Max, true)),
        (swap, _) => swap.map(|swap| (swap, false)),
    }
    .map(|(swap, harmless)| {
        let write = Write::new("memory", field("swap"), "memory.memsw.limit_in_bytes", swap.v1());
        if harmless { write.or_skip() } else { write }
    });
    if matches!(swap, Some(Limit::Max)) || matches!(limit, Some(Limit::Max)) {
        writes.extend(swap_limit.into_iter().chain(memory_limit));
    } else {
        writes.extend(memory_limit.into_iter().chain(swap_limit));
    }
    if let Some(reservation) = reservation {
        writes.push(Write::new(
            "memory",
            field("reservation"),
            "memory.soft_limit_in_bytes",
            reservation.v1(),
        ));
    }
    if memory.disable_oom_killer() == Some(true) {
        writes.push(Write::new("memory", field("disableOOMKiller"), "memory.oom_control", 1));
    }
    match memory.swappiness() {
        // Docker and Kubernetes send -1 or the largest integer for "not set".
        Some(value) if i64::try_from(value).is_ok_and(|value| value != i64::MAX) => {
            if value > 100 {
                let what = format!("linux.resources.memory.swappiness: {value} is not between 0 and 100");
                return Err(Error::invalid(what));
            }
            writes.push(Write::new("memory", field("swappiness"), "memory.swappiness", value));
        }
        _ => {}
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<()> {
    let mut set = |controller, name: &str, file: &'static str, value: String| {
        writes.push(Write::new(controller, format!("linux.resources.cpu.{name}"), file, value));
    };
    if let Some(idle) = cpu.idle() {
        set("cpu", "idle", "cpu.idle", idle.to_string());
    }
    match cpu.shares() {
        None | Some(0) => {}
        // The kernel refuses shares for an idle cgroup, whose share is the smallest of all.
        Some(_) if cpu.idle().is_some_and(|idle| idle != 0) => {}
        Some(shares @ 2..=262_144) => set("cpu", "shares", "cpu.shares", shares.to_string()),
        // The kernel would clamp without a word; runc reads back and refuses.
        Some(shares) => {
            let what = format!("linux.resources.cpu.shares: {shares} is not between 2 and 262144");
            return Err(Error::invalid(what));
        }
    }
    // Before the quota: a new cgroup has none, so that any period fits.
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        set("cpu", "period", "cpu.cfs_period_us", period.to_string());
    }
    if let Some(quota) = Limit::of_quota(cpu.quota()) {
        set("cpu", "quota", "cpu.cfs_quota_us", quota.v1());
    }
    // After the quota: a burst above it is refused.
    if let Some(burst) = cpu.burst() {
        set("cpu", "burst", "cpu.cfs_burst_us", burst.to_string());
    }
    // The runtime after its period, for it must fit in.
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        set("cpu", "realtimePeriod", "cpu.rt_period_us", period.to_string());
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        set("cpu", "realtimeRuntime", "cpu.rt_runtime_us", runtime.to_string());
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()) {
        set("cpuset", "cpus", "cpuset.cpus", cpus.to_owned());
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|mems| !mems.is_empty()) {
        set("cpuset", "mems", "cpuset.mems", mems.to_owned());
    }
    Ok(())
}

fn block_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<()> {
    let weight = |field: String, weight: Option<u16>| match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some((field, weight))),
        Some(weight) => Err(Error::invalid(format!("{field}: {weight} is not between 10 and 1000"))),
    };
    // BFQ's files since Linux 5.0; CFQ's had no prefix.
    if let Some((field, weight)) = weight("linux.resources.blockIO.weight".into(), io.weight())? {
        writes.push(Write::new("blkio", field, "blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some((field, weight)) = weight("linux.resources.blockIO.leafWeight".into(), io.leaf_weight())? {
        writes.push(Write::new("blkio", field, "blkio.leaf_weight", weight));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let field = |name: &str| format!("linux.resources.blockIO.weightDevice[{index}].{name}");
        let node = format!("{}:{}", device.major(), device.minor());
        if let Some((field, weight)) = weight(field("weight"), device.weight())? {
            let value = format!("{node} {weight}");
            writes.push(
                Write::new("blkio", field, "blkio.weight_device", &value)
                    .or("blkio.bfq.weight_device", &value),
            );
        }
        if let Some((field, weight)) = weight(field("leafWeight"), device.leaf_weight())? {
            writes.push(Write::new("blkio", field, "blkio.leaf_weight_device", format!("{node} {weight}")));
        }
    }
    let mut throttle = |name: &str, file: &'static str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for (index, device) in devices.iter().flatten().enumerate() {
            let field = format!("linux.resources.blockIO.{name}[{index}]");
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.push(Write::new("blkio", field, file, value));
        }
    };
    throttle("throttleReadBpsDevice", "blkio.throttle.read_bps_device", io.throttle_read_bps_device());
    throttle("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", io.throttle_write_bps_device());
    throttle("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", io.throttle_read_iops_device());
    throttle("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", io.throttle_write_iops_device());
    Ok(())
}

fn network(network: &LinuxNetwork, writes: &mut Vec<Write>) -> Result<()> {
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        writes.push(Write::new("net_cls", "linux.resources.network.classID", "net_cls.classid", class));
    }
    for (index, priority) in network.priorities().iter().flatten().enumerate() {
        let field = format!("linux.resources.network.priorities[{index}]");
        if priority.name().is_empty() || priority.name().contains(|c: char| c.is_whitespace()) {
            return Err(Error::invalid(format!("{field}: {:?} is not an interface's name", priority.name())));
        }
        let value = format!("{} {}", priority.name(), priority.priority());
        writes.push(Write::new("net_prio", field, "net_prio.ifpriomap", value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Vec<(String, String)>> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let writes = writes(&resources, &mut Vec::new())?;
        Ok(writes.into_iter().map(|w| (w.file.into_owned(), w.value)).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn memory_goes_before_swap_unless_swap_is_unlimited() {
        let expected =
            pairs(&[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "134217728")]);
        assert_eq!(plan(r#"{"memory":{"limit":67108864,"swap":134217728}}"#).unwrap(), expected);
        let expected = pairs(&[("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "4096")]);
        assert_eq!(plan(r#"{"memory":{"limit":4096,"swap":-1}}"#).unwrap(), expected);
        let expected = pairs(&[("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")]);
        assert_eq!(plan(r#"{"memory":{"limit":-1}}"#).unwrap(), expected);
        assert!(plan(r#"{"memory":{"limit":4096,"swap":1024}}"#).is_err());
    }

    #[test]
    fn docker_with_its_zeros_that_mean_unset() {
        let json = r#"{"memory":{"disableOOMKiller":false,"swappiness":18446744073709551615},
            "cpu":{"shares":0,"quota":50000,"period":100000},"pids":{"limit":0},"blockIO":{"weight":0}}"#;
        let expected =
            pairs(&[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000"), ("pids.max", "0")]);
        assert_eq!(plan(json).unwrap(), expected);
    }

    #[test]
    fn out_of_range_is_refused() {
        for json in [
            r#"{"cpu":{"shares":1}}"#,
            r#"{"cpu":{"shares":262145}}"#,
            r#"{"memory":{"swappiness":101}}"#,
            r#"{"blockIO":{"weight":1001}}"#,
            r#"{"unified":{"memory.high":"1"}}"#,
            r#"{"network":{"priorities":[{"name":"a b","priority":5}]}}"#,
        ] {
            plan(json).expect_err(json);
        }
    }

    #[test]
    fn network_and_huge_pages() {
        let json = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
        let expected = pairs(&[
            ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"),
            ("hugetlb.2MB.limit_in_bytes", "4194304"),
            ("net_cls.classid", "1048577"),
            ("net_prio.ifpriomap", "eth0 5"),
        ]);
        assert_eq!(plan(json).unwrap(), expected);
    }
}
