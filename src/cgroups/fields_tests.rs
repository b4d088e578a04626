//! Each field of linux.resources by itself: the file and the value that it becomes on cgroup v1 and on v2.
//! (`devices` has tests of its own.)

use oci_spec::runtime::LinuxResources;

use super::write::Write;
use super::{v1, v2};
use crate::error::Result;

/// The field, alone; `file=value` on v1 and on v2, where an empty text means that nothing is written and
/// None that the field is refused.
const FIELDS: &[(&str, Option<&str>, Option<&str>)] = &[
    (r#"{"memory":{"limit":4096}}"#, Some("memory.limit_in_bytes=4096"), Some("memory.max=4096")),
    (r#"{"memory":{"swap":-1}}"#, Some("memory.memsw.limit_in_bytes=-1"), Some("memory.swap.max=max")),
    (r#"{"memory":{"reservation":4096}}"#, Some("memory.soft_limit_in_bytes=4096"), Some("memory.low=4096")),
    (r#"{"memory":{"kernel":4096}}"#, Some(""), Some("")),
    (r#"{"memory":{"kernelTCP":4096}}"#, Some(""), Some("")),
    (r#"{"memory":{"swappiness":60}}"#, Some("memory.swappiness=60"), None),
    (r#"{"memory":{"disableOOMKiller":true}}"#, Some("memory.oom_control=1"), None),
    (r#"{"memory":{"useHierarchy":true}}"#, Some("memory.use_hierarchy=1"), Some("")),
    (r#"{"cpu":{"shares":1024}}"#, Some("cpu.shares=1024"), Some("cpu.weight=100")),
    (
        r#"{"cpu":{"quota":20000,"period":50000}}"#,
        Some("cpu.cfs_period_us=50000 cpu.cfs_quota_us=20000"),
        Some("cpu.max=20000 50000"),
    ),
    (r#"{"cpu":{"burst":10}}"#, Some("cpu.cfs_burst_us=10"), Some("cpu.max.burst=10")),
    (r#"{"cpu":{"idle":1}}"#, Some("cpu.idle=1"), Some("cpu.idle=1")),
    (r#"{"cpu":{"realtimePeriod":10}}"#, Some("cpu.rt_period_us=10"), None),
    (r#"{"cpu":{"realtimeRuntime":10}}"#, Some("cpu.rt_runtime_us=10"), None),
    (r#"{"cpu":{"cpus":"0-1"}}"#, Some("cpuset.cpus=0-1"), Some("cpuset.cpus=0-1")),
    (r#"{"cpu":{"mems":"0"}}"#, Some("cpuset.mems=0"), Some("cpuset.mems=0")),
    (r#"{"pids":{"limit":7}}"#, Some("pids.max=7"), Some("pids.max=7")),
    (r#"{"blockIO":{"weight":100}}"#, Some("blkio.weight=100"), Some("io.bfq.weight=100")),
    (r#"{"blockIO":{"leafWeight":100}}"#, Some("blkio.leaf_weight=100"), None),
    (
        r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"weight":100}]}}"#,
        Some("blkio.weight_device=8:1 100"),
        Some("io.bfq.weight=8:1 100"),
    ),
    (
        r#"{"blockIO":{"weightDevice":[{"major":8,"minor":1,"leafWeight":100}]}}"#,
        Some("blkio.leaf_weight_device=8:1 100"),
        None,
    ),
    (
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":5}]}}"#,
        Some("blkio.throttle.read_bps_device=8:1 5"),
        Some("io.max=8:1 rbps=5"),
    ),
    (
        r#"{"blockIO":{"throttleWriteBpsDevice":[{"major":8,"minor":1,"rate":5}]}}"#,
        Some("blkio.throttle.write_bps_device=8:1 5"),
        Some("io.max=8:1 wbps=5"),
    ),
    (
        r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":1,"rate":5}]}}"#,
        Some("blkio.throttle.read_iops_device=8:1 5"),
        Some("io.max=8:1 riops=5"),
    ),
    (
        r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":5}]}}"#,
        Some("blkio.throttle.write_iops_device=8:1 5"),
        Some("io.max=8:1 wiops=5"),
    ),
    (
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
        Some("hugetlb.2MB.rsvd.limit_in_bytes=4096 hugetlb.2MB.limit_in_bytes=4096"),
        Some("hugetlb.2MB.rsvd.max=4096 hugetlb.2MB.max=4096"),
    ),
    (r#"{"network":{"classID":5}}"#, Some("net_cls.classid=5"), None),
    (r#"{"network":{"priorities":[{"name":"eth0","priority":5}]}}"#, Some("net_prio.ifpriomap=eth0 5"), None),
    (
        r#"{"rdma":{"mlx5_0":{"hcaHandles":3,"hcaObjects":4}}}"#,
        Some("rdma.max=mlx5_0 hca_handle=3 hca_object=4"),
        Some("rdma.max=mlx5_0 hca_handle=3 hca_object=4"),
    ),
    (r#"{"unified":{"memory.high":"5000"}}"#, None, Some("memory.high=5000")),
];

fn text(writes: Result<Vec<Write>>) -> Option<String> {
    let shown = |write: Write| format!("{}={}", write.file, write.value);
    writes.ok().map(|writes| writes.into_iter().map(shown).collect::<Vec<_>>().join(" "))
}

fn check(
    compile: fn(&LinuxResources, &mut Vec<String>) -> Result<Vec<Write>>,
    expected: impl Fn(&(&str, Option<&'static str>, Option<&'static str>)) -> Option<&'static str>,
) {
    for row in FIELDS {
        let resources = serde_json::from_str(row.0).unwrap();
        let mut warnings = Vec::new();
        let writes = text(compile(&resources, &mut warnings));
        assert_eq!(writes.as_deref(), expected(row), "{}", row.0);
        // What is ignored is said.
        let says_kernel = row.0.contains("kernel");
        assert_eq!(!warnings.is_empty(), says_kernel, "{}: {warnings:?}", row.0);
    }
}

#[test]
fn every_field_on_v1() {
    check(v1::writes, |row| row.1);
}

#[test]
fn every_field_on_v2() {
    check(v2::writes, |row| row.2);
}
