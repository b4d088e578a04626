//! linux.resources as writes to the files of cgroup v2. Pure. Source of the files' meaning:
//! Documentation/admin-guide/cgroup-v2.rst.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxRdma,
    LinuxResources, LinuxThrottleDevice,
};

use super::convert::{Limit, cpu_weight, io_weight, swap_max};
use super::write::Write;
use crate::error::{Context, Error, Result};

/// All writes but the device filter, which is a program on v2. In the order in which they are applied.
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
        hugetlb(index, limit, &mut writes)?;
    }
    if let Some(network) = resources.network() {
        refuse_network(network)?;
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        writes.push(rdma(device, limit)?);
    }
    for (file, value) in resources.unified().iter().flatten() {
        writes.push(unified(file, value)?);
    }
    Ok(writes)
}

fn no_counterpart(field: &str, remedy: &str) -> Error {
    Error::invalid(format!("linux.resources.{field} has no counterpart on cgroup v2"))
        .remedy(remedy.to_owned())
}

fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>, warnings: &mut Vec<String>) -> Result<()> {
    let field = |name: &str| format!("linux.resources.memory.{name}");
    let limit = Limit::parse(memory.limit()).with_context(|| field("limit"))?;
    let swap = Limit::parse(memory.swap()).with_context(|| field("swap"))?;
    let reservation = Limit::parse(memory.reservation()).with_context(|| field("reservation"))?;
    warn_of_kernel_memory(memory, warnings);
    if memory.disable_oom_killer() == Some(true) {
        return Err(no_counterpart(
            "memory.disableOOMKiller",
            "use unified: {\"memory.oom.group\": …} or oomScoreAdj",
        ));
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(no_counterpart(
            "memory.useHierarchy: false",
            "cgroup v2 is always hierarchical; leave it out",
        ));
    }
    // Kubernetes and runc use the largest integer for "not set" (runc: fs/memory.go).
    if memory.swappiness().is_some_and(|value| i64::try_from(value).is_ok_and(|value| value != i64::MAX)) {
        return Err(no_counterpart("memory.swappiness", "limit swap with memory.swap instead"));
    }
    if let Some(swap) = swap_max(swap, limit)? {
        let write = Write::new("memory", field("swap"), "memory.swap.max", swap.v2());
        // Without swap in the kernel there is none to forbid and none to allow.
        let harmless = matches!(swap, Limit::Max | Limit::At(0));
        writes.push(if harmless { write.or_skip() } else { write });
    }
    if let Some(limit) = limit {
        writes.push(Write::new("memory", field("limit"), "memory.max", limit.v2()));
    }
    if let Some(reservation) = reservation {
        writes.push(Write::new("memory", field("reservation"), "memory.low", reservation.v2()));
    }
    Ok(())
}

/// The spec has deprecated these, the kernel removed them (5.4, 6.1), and v2 accounts such memory in
/// memory.max anyway: accepted and ignored, as config-linux.md recommends ("NOT RECOMMENDED").
pub(super) fn warn_of_kernel_memory(memory: &LinuxMemory, warnings: &mut Vec<String>) {
    #[allow(deprecated)]
    let kernel = memory.kernel();
    for (name, value) in [("kernel", kernel), ("kernelTCP", memory.kernel_tcp())] {
        if value.is_some_and(|value| value != 0) {
            warnings.push(format!(
                "linux.resources.memory.{name} is ignored: the kernel has no such limit any more, memory.limit covers it"
            ));
        }
    }
}

fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<()> {
    if cpu.realtime_period().is_some_and(|value| value != 0)
        || cpu.realtime_runtime().is_some_and(|value| value != 0)
    {
        return Err(no_counterpart(
            "cpu.realtimeRuntime and realtimePeriod",
            "cgroup v2 has no realtime bandwidth",
        ));
    }
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("cpu", "linux.resources.cpu.idle", "cpu.idle", idle));
    }
    // The kernel refuses a weight for an idle cgroup, whose weight is the smallest of all.
    if let (Some(weight), None | Some(0)) = (cpu.shares().and_then(cpu_weight), cpu.idle()) {
        writes.push(Write::new("cpu", "linux.resources.cpu.shares", "cpu.weight", weight));
    }
    let quota = Limit::of_quota(cpu.quota());
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        // 100000 is the kernel's default period; the file takes both or the quota alone.
        let value = format!("{} {}", quota.unwrap_or(Limit::Max).v2(), period.unwrap_or(100_000));
        let field = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        writes.push(Write::new("cpu", field, "cpu.max", value));
    }
    // After the quota: a burst above it is refused.
    if let Some(burst) = cpu.burst() {
        let write = Write::new("cpu", "linux.resources.cpu.burst", "cpu.max.burst", burst);
        writes.push(if burst == 0 { write.or_skip() } else { write });
    }
    if let Some(cpus) = cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()) {
        writes.push(Write::new("cpuset", "linux.resources.cpu.cpus", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|mems| !mems.is_empty()) {
        writes.push(Write::new("cpuset", "linux.resources.cpu.mems", "cpuset.mems", mems));
    }
    Ok(())
}

/// 0 is a limit: no further process (runtime-spec 1.3). -1 is none.
pub(super) fn pids(pids: &LinuxPids) -> Result<Write> {
    let limit = match pids.limit() {
        -1 => "max".to_owned(),
        limit if limit >= 0 => limit.to_string(),
        limit => {
            let what = format!("linux.resources.pids.limit: {limit} is neither -1 (no limit) nor at least 0");
            return Err(Error::invalid(what));
        }
    };
    Ok(Write::new("pids", "linux.resources.pids.limit", "pids.max", limit))
}

fn block_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<()> {
    if io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(no_counterpart(
            "blockIO.leafWeight",
            "only the CFQ scheduler, gone since Linux 5.0, had it",
        ));
    }
    let field = "linux.resources.blockIO.weight";
    if let Some(weight) = io.weight()
        && let Some(converted) = io_weight(weight).context(field)?
    {
        // BFQ keeps the weight in v1's range, io.cost has its own: whichever the kernel has.
        writes.push(Write::new("io", field, "io.bfq.weight", weight).or("io.weight", converted));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{index}]");
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(no_counterpart(
                &format!("blockIO.weightDevice[{index}].leafWeight"),
                "only the CFQ scheduler, gone since Linux 5.0, had it",
            ));
        }
        let weight = device.weight().unwrap_or(0);
        if let Some(converted) = io_weight(weight).with_context(|| field.clone())? {
            let node = format!("{}:{}", device.major(), device.minor());
            writes.push(
                Write::new("io", field, "io.bfq.weight", format!("{node} {weight}"))
                    .or("io.weight", format!("{node} {converted}")),
            );
        }
    }
    let mut throttle = |name: &str, key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for (index, device) in devices.iter().flatten().enumerate() {
            // v1 takes 0 as no limit; v2 has a word for it and refuses 0.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            writes.push(Write::new(
                "io",
                format!("linux.resources.blockIO.{name}[{index}]"),
                "io.max",
                format!("{}:{} {key}={rate}", device.major(), device.minor()),
            ));
        }
    };
    throttle("throttleReadBpsDevice", "rbps", io.throttle_read_bps_device());
    throttle("throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device());
    throttle("throttleReadIOPSDevice", "riops", io.throttle_read_iops_device());
    throttle("throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device());
    Ok(())
}

fn hugetlb(index: usize, limit: &LinuxHugepageLimit, writes: &mut Vec<Write>) -> Result<()> {
    let field = format!("linux.resources.hugepageLimits[{index}]");
    let size = page_size(limit).with_context(|| field.clone())?;
    let value = hugepage_limit(limit).with_context(|| field.clone())?.v2();
    // Reservations first, as the spec has it; the limit on faults for kernels without (before 5.7) and
    // for processes that fault pages in without reserving them.
    writes.push(Write::new("hugetlb", field.clone(), format!("hugetlb.{size}.rsvd.max"), &value).or_skip());
    writes.push(Write::new("hugetlb", field, format!("hugetlb.{size}.max"), value));
    Ok(())
}

/// The spec's page size, `<size><KB|MB|GB>`; it becomes part of a file name.
pub(super) fn page_size(limit: &LinuxHugepageLimit) -> Result<&str> {
    let size = limit.page_size().as_str();
    let digits =
        size.strip_suffix("KB").or_else(|| size.strip_suffix("MB")).or_else(|| size.strip_suffix("GB"));
    match digits {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) => Ok(size),
        _ => Err(Error::invalid(format!("pageSize {size:?} is not of the form 64KB, 2MB or 1GB"))),
    }
}

/// Unlike for memory, 0 is a limit: no huge pages. The spec has no -1 here, but engines send the
/// largest integer for no limit, which the kernel rounds itself.
pub(super) fn hugepage_limit(limit: &LinuxHugepageLimit) -> Result<Limit> {
    match limit.limit() {
        -1 => Ok(Limit::Max),
        limit => u64::try_from(limit)
            .map(Limit::At)
            .map_err(|_| Error::invalid(format!("limit {limit} is neither -1 (no limit) nor at least 0"))),
    }
}

fn refuse_network(network: &LinuxNetwork) -> Result<()> {
    if network.class_id().is_some_and(|class| class != 0) {
        return Err(no_counterpart(
            "network.classID",
            "match the cgroup's path in nftables (socket cgroupv2)",
        ));
    }
    if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(no_counterpart(
            "network.priorities",
            "set them with nftables (socket cgroupv2, meta priority)",
        ));
    }
    Ok(())
}

/// The same file on v1 and v2. What is not set stays unlimited.
pub(super) fn rdma(device: &str, limit: &LinuxRdma) -> Result<Write> {
    let field = format!("linux.resources.rdma[{device:?}]");
    if device.is_empty() || device.contains(|c: char| c.is_whitespace()) {
        return Err(Error::invalid(format!("{field}: not the name of a device")));
    }
    let number = |value: Option<u32>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
    let value = format!(
        "{device} hca_handle={} hca_object={}",
        number(limit.hca_handles()),
        number(limit.hca_objects())
    );
    Ok(Write::new("rdma", field, "rdma.max", value))
}

/// Any file by its name, as the spec wants: also those that we do not know. Only a name, no path: it
/// must not lead out of the container's cgroup.
fn unified(file: &str, value: &str) -> Result<Write> {
    let field = format!("linux.resources.unified[{file:?}]");
    match file.split_once('.') {
        Some((controller, rest)) if !controller.is_empty() && !rest.is_empty() && !file.contains('/') => {
            // `cgroup.max.depth` and the pressure files of a controller that is always there.
            let mut write = Write::new("cgroup", field, file.to_owned(), value);
            write.controller = controller.to_owned().into();
            Ok(write)
        }
        _ => Err(Error::invalid(format!("{field}: not a cgroup file's name, such as memory.high"))),
    }
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
    fn docker_with_its_zeros_that_mean_unset() {
        let json = r#"{"memory":{"limit":67108864,"swap":134217728,"disableOOMKiller":false},
            "cpu":{"shares":0,"quota":50000,"period":100000},"pids":{"limit":50},"blockIO":{"weight":0}}"#;
        let expected = pairs(&[
            ("memory.swap.max", "67108864"),
            ("memory.max", "67108864"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "50"),
        ]);
        assert_eq!(plan(json).unwrap(), expected);
    }

    #[test]
    fn pids_zero_is_a_limit_and_minus_one_is_none() {
        assert_eq!(plan(r#"{"pids":{"limit":0}}"#).unwrap(), pairs(&[("pids.max", "0")]));
        assert_eq!(plan(r#"{"pids":{"limit":-1}}"#).unwrap(), pairs(&[("pids.max", "max")]));
        assert!(plan(r#"{"pids":{"limit":-2}}"#).is_err());
    }

    #[test]
    fn what_v2_does_not_have_is_refused() {
        for json in [
            r#"{"memory":{"disableOOMKiller":true}}"#,
            r#"{"memory":{"swappiness":60}}"#,
            r#"{"memory":{"swap":1000}}"#,
            r#"{"cpu":{"realtimeRuntime":1000}}"#,
            r#"{"blockIO":{"leafWeight":10}}"#,
            r#"{"blockIO":{"weight":5}}"#,
            r#"{"network":{"classID":1}}"#,
            r#"{"network":{"priorities":[{"name":"eth0","priority":5}]}}"#,
            r#"{"hugepageLimits":[{"pageSize":"../x","limit":0}]}"#,
            r#"{"unified":{"../memory.max":"1"}}"#,
            r#"{"rdma":{"mlx 0":{}}}"#,
        ] {
            plan(json).expect_err(json);
        }
    }

    #[test]
    fn everything_else_is_converted() {
        let json = r#"{
            "memory":{"limit":-1,"reservation":4096,"kernel":1,"useHierarchy":true},
            "cpu":{"shares":1024,"burst":10,"period":50000,"cpus":"0-1","mems":"0"},
            "blockIO":{"weight":1000,"weightDevice":[{"major":8,"minor":0,"weight":10}],
                "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":0}],
            "rdma":{"mlx5_0":{"hcaHandles":3}},
            "unified":{"memory.high":"5000"}}"#;
        let expected = pairs(&[
            ("memory.swap.max", "max"),
            ("memory.max", "max"),
            ("memory.low", "4096"),
            ("cpu.weight", "100"),
            ("cpu.max", "max 50000"),
            ("cpu.max.burst", "10"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("io.bfq.weight", "1000"),
            ("io.bfq.weight", "8:0 10"),
            ("io.max", "8:0 rbps=1000"),
            ("io.max", "8:0 wiops=max"),
            ("hugetlb.2MB.rsvd.max", "0"),
            ("hugetlb.2MB.max", "0"),
            ("rdma.max", "mlx5_0 hca_handle=3 hca_object=max"),
            ("memory.high", "5000"),
        ]);
        assert_eq!(plan(json).unwrap(), expected);
    }
}
