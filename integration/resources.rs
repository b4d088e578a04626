//! Every field of linux.resources, one test each: what the kernel's files say after `create` and after
//! `update`, and with the systemd driver what systemd says too.

use crate::harness::host::{control, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::require;
use crate::systemd::{by_systemd, cgroup, needs_systemd, scoped, show};
use std::fs;
use std::path::PathBuf;

/// What the kernel has to say of a field.
enum Seen {
    /// Files, as (name, first line), or for a keyed file the line with the key.
    Files(Vec<(String, String)>),
    /// The field has no meaning on this version.
    Refused(&'static str),
}

/// One field.
struct Field {
    /// The controller on v1 and on v2.
    controller: [&'static str; 2],
    resources: Value,
    v1: Seen,
    v2: Seen,
    /// systemd's properties on v1 and on v2.
    properties: [&'static [(&'static str, &'static str)]; 2],
    /// A file that not every kernel has.
    optional: Option<[&'static str; 2]>,
}

impl Field {
    fn new(controller: &'static str, resources: Value) -> Self {
        let files = || Seen::Files(Vec::new());
        let controller = [controller; 2];
        Self { controller, resources, v1: files(), v2: files(), properties: [&[], &[]], optional: None }
    }

    /// v2 names the controller differently.
    fn on_v2(mut self, controller: &'static str) -> Self {
        self.controller[1] = controller;
        self
    }

    fn v1(mut self, file: &str, value: impl ToString) -> Self {
        if let Seen::Files(files) = &mut self.v1 {
            files.push((file.into(), value.to_string()));
        }
        self
    }

    fn v2(mut self, file: &str, value: impl ToString) -> Self {
        if let Seen::Files(files) = &mut self.v2 {
            files.push((file.into(), value.to_string()));
        }
        self
    }

    fn both(self, file: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.v1(file, &value).v2(file, value)
    }

    fn refused_on_v2(self, words: &'static str) -> Self {
        Self { v2: Seen::Refused(words), ..self }
    }

    fn refused_on_v1(self, words: &'static str) -> Self {
        Self { v1: Seen::Refused(words), ..self }
    }

    fn properties(
        self,
        v1: &'static [(&'static str, &'static str)],
        v2: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { properties: [v1, v2], ..self }
    }

    fn if_there_is(self, v1: &'static str, v2: &'static str) -> Self {
        Self { optional: Some([v1, v2]), ..self }
    }

    fn controller(&self) -> &'static str {
        self.controller[usize::from(is_v2())]
    }

    fn seen(&self) -> &Seen {
        if is_v2() { &self.v2 } else { &self.v1 }
    }

    /// Skips where the kernel has no such controller or file. What is refused for the version alone needs none.
    fn needs(&self) {
        let name = self.controller();
        if matches!(self.seen(), Seen::Refused(words) if !words.starts_with("set ")) {
            return;
        }
        if is_v2() {
            require!(hierarchy_of(name).is_some(), "{name} is not a controller of cgroup v2 here");
        }
        // On a hybrid host the controllers of cgroup2 are not used.
        let here = host::hierarchies().iter().any(|one| one.controllers.iter().any(|other| other == name));
        require!(is_v2() || here, "no controller {name} here");
        if let Some(file) = self.optional.map(|files| files[usize::from(is_v2())]) {
            let mut probe = sleeper().container();
            probe.create();
            let path = hierarchy_of(name)
                .expect("just seen")
                .join(probe.bundle.cgroup_path().trim_start_matches('/'));
            require!(path.join(file).exists(), "no controller {name} with {file} here");
        }
    }

    #[track_caller]
    fn assert_seen(&self, cgroup: &str, when: &str) {
        let Seen::Files(files) = self.seen() else { panic!("{when}: it should have been refused") };
        for (file, expected) in files {
            let text = control(self.controller(), cgroup, file, file);
            let key = expected.split(' ').next().unwrap_or_default();
            let line = text.lines().find(|line| line.split(' ').next() == Some(key)).or(text.lines().next());
            assert_eq!(line.unwrap_or_default(), expected, "{when}: {file}: {text}");
        }
    }

    #[track_caller]
    fn assert_known_to_systemd(&self, container: &Container, when: &str) {
        for (property, expected) in self.properties[usize::from(is_v2())] {
            assert_eq!(show(container, property), *expected, "{when}: {property}");
        }
    }
}

fn sleeper() -> Bundle {
    Bundle::new().steps(&["sleep:1000"])
}

fn update(container: &Container, resources: &Value) -> Done {
    let file = directory().join("resources.json");
    fs::write(&file, resources.to_string()).expect("resources");
    container.verb("update", &["-r", &file.to_string_lossy()], &[]).done()
}

/// Sets the members of `resources` beside those that the bundle has.
fn with(mut bundle: Bundle, resources: &Value) -> Bundle {
    for (name, value) in resources.as_object().expect("an object") {
        bundle = bundle.set(&format!("/linux/resources/{name}"), value.clone());
    }
    bundle
}

fn by_cgroupfs(field: &Field) {
    field.needs();
    let mut container = with(sleeper(), &field.resources).container();
    if let Seen::Refused(words) = field.seen() {
        container.refused(words);
        let mut plain = sleeper().container();
        plain.create();
        update(&plain, &field.resources).fails(words);
        return;
    }
    container.create();
    field.assert_seen(&container.bundle.cgroup_path(), "created");
    let mut plain = sleeper().container();
    plain.create();
    update(&plain, &field.resources).ok();
    field.assert_seen(&plain.bundle.cgroup_path(), "updated");
}

fn by_scope(field: &Field) {
    needs_systemd();
    field.needs();
    let container = scoped(with(sleeper(), &field.resources));
    if let Seen::Refused(words) = field.seen() {
        by_systemd(&container, "create").fails(words);
        return;
    }
    by_systemd(&container, "create").ok();
    field.assert_seen(&cgroup(&container), "created");
    field.assert_known_to_systemd(&container, "created");
    let plain = scoped(sleeper());
    by_systemd(&plain, "create").ok();
    update(&plain, &field.resources).ok();
    field.assert_seen(&cgroup(&plain), "updated");
    field.assert_known_to_systemd(&plain, "updated");
}

/// Each field becomes a test by the file system and one by systemd.
macro_rules! fields {
    ($($name:ident: $field:expr;)*) => {
        pub const TESTS: &[Test] = &[
            Test { name: "realtime", run: realtime, alone: false },
            Test { name: "realtime_is_refused_on_v2", run: realtime_is_refused_on_v2, alone: false },
            $(Test { name: stringify!($name), run: || by_cgroupfs(&$field), alone: false },)*
        ];
        pub const SCOPED: &[Test] = &[
            $(Test { name: stringify!($name), run: || by_scope(&$field), alone: false },)*
        ];
    };
}

fields! {
    memory_limit: Field::new("memory", json!({ "memory": { "limit": 67_108_864 } }))
        .v1("memory.limit_in_bytes", 67_108_864).v2("memory.max", 67_108_864)
        .properties(&[("MemoryLimit", "67108864")], &[("MemoryMax", "67108864")]);
    memory_without_limit: Field::new("memory", json!({ "memory": { "limit": -1 } }))
        .v1("memory.limit_in_bytes", 9_223_372_036_854_771_712_u64).v2("memory.max", "max").v2("memory.swap.max", "max")
        .properties(&[("MemoryLimit", "infinity")], &[("MemoryMax", "infinity"), ("MemorySwapMax", "infinity")]);
    memory_reservation: Field::new("memory", json!({ "memory": { "reservation": 33_554_432 } }))
        .v1("memory.soft_limit_in_bytes", 33_554_432).v2("memory.low", 33_554_432)
        .properties(&[], &[("MemoryLow", "33554432")]);
    memory_swap: Field::new("memory", json!({ "memory": { "limit": 67_108_864, "swap": 134_217_728 } }))
        .v1("memory.memsw.limit_in_bytes", 134_217_728).v2("memory.swap.max", 67_108_864)
        .properties(&[], &[("MemorySwapMax", "67108864")]);
    memory_swappiness: Field::new("memory", json!({ "memory": { "swappiness": 33 } }))
        .v1("memory.swappiness", 33).refused_on_v2("memory.swappiness has no counterpart on cgroup v2");
    memory_disable_oom_killer: Field::new("memory", json!({ "memory": { "disableOOMKiller": true } }))
        .v1("memory.oom_control", "oom_kill_disable 1").refused_on_v2("memory.disableOOMKiller has no counterpart");
    memory_use_hierarchy: Field::new("memory", json!({ "memory": { "useHierarchy": true } }))
        .v1("memory.use_hierarchy", 1);
    memory_kernel_limits_are_ignored: Field::new("memory", json!({ "memory": { "kernel": 1 << 20, "kernelTCP": 1 << 20 } }))
        .v1("memory.limit_in_bytes", 9_223_372_036_854_771_712_u64).v2("memory.max", "max");
    cpu_shares: Field::new("cpu", json!({ "cpu": { "shares": 512 } }))
        .v1("cpu.shares", 512).v2("cpu.weight", 59)
        .properties(&[("CPUShares", "512")], &[("CPUWeight", "59")]);
    cpu_quota: Field::new("cpu", json!({ "cpu": { "quota": 50_000 } }))
        .v1("cpu.cfs_quota_us", 50_000).v2("cpu.max", "50000 100000")
        .properties(&[("CPUQuotaPerSecUSec", "500ms")], &[("CPUQuotaPerSecUSec", "500ms")]);
    cpu_period: Field::new("cpu", json!({ "cpu": { "quota": 100_000, "period": 200_000 } }))
        .v1("cpu.cfs_period_us", 200_000).v1("cpu.cfs_quota_us", 100_000).v2("cpu.max", "100000 200000")
        .properties(
            &[("CPUQuotaPerSecUSec", "500ms"), ("CPUQuotaPeriodUSec", "200ms")],
            &[("CPUQuotaPerSecUSec", "500ms"), ("CPUQuotaPeriodUSec", "200ms")],
        );
    // systemd keeps whole percents; the kernel has what was asked for.
    cpu_quota_of_no_whole_percent: Field::new("cpu", json!({ "cpu": { "quota": 33_333, "period": 100_000 } }))
        .v1("cpu.cfs_quota_us", 33_333).v2("cpu.max", "33333 100000")
        .properties(&[("CPUQuotaPerSecUSec", "340ms")], &[("CPUQuotaPerSecUSec", "340ms")]);
    cpu_burst: Field::new("cpu", json!({ "cpu": { "quota": 50_000, "period": 100_000, "burst": 20_000 } }))
        .v1("cpu.cfs_burst_us", 20_000).v2("cpu.max.burst", 20_000);
    cpu_idle: Field::new("cpu", json!({ "cpu": { "idle": 1 } })).both("cpu.idle", 1);
    cpu_cpus: Field::new("cpuset", json!({ "cpu": { "cpus": "0" } })).both("cpuset.cpus", 0)
        .properties(&[], &[("AllowedCPUs", "0")]);
    cpu_mems: Field::new("cpuset", json!({ "cpu": { "mems": "0" } })).both("cpuset.mems", 0)
        .properties(&[], &[("AllowedMemoryNodes", "0")]);
    pids_limit: Field::new("pids", json!({ "pids": { "limit": 50 } })).both("pids.max", 50)
        .properties(&[("TasksMax", "50")], &[("TasksMax", "50")]);
    pids_of_none: Field::new("pids", json!({ "pids": { "limit": 0 } })).both("pids.max", 0)
        .properties(&[("TasksMax", "1")], &[("TasksMax", "1")]);
    pids_without_limit: Field::new("pids", json!({ "pids": { "limit": -1 } })).both("pids.max", "max")
        .properties(&[("TasksMax", "infinity")], &[("TasksMax", "infinity")]);
    block_io_weight: Field::new("blkio", json!({ "blockIO": { "weight": 500 } })).on_v2("io")
        .v1("blkio.bfq.weight", 500).v2("io.bfq.weight", "default 500")
        .properties(&[("BlockIOWeight", "500")], &[("IOWeight", "4950")])
        .if_there_is("blkio.bfq.weight", "io.bfq.weight");
    block_io_leaf_weight: Field::new("blkio", json!({ "blockIO": { "leafWeight": 500 } })).on_v2("io")
        .refused_on_v1("blockIO.leafWeight").refused_on_v2("blockIO.leafWeight has no counterpart");
    block_io_weight_device: Field::new("blkio", json!({ "blockIO": { "weightDevice": [bfq_disk(json!({ "weight": 200 }))] } })).on_v2("io")
        .v1("blkio.bfq.weight_device", keyed("200")).v2("io.bfq.weight", keyed("200"))
        .if_there_is("blkio.bfq.weight_device", "io.bfq.weight");
    block_io_read_bps: Field::new("blkio", json!({ "blockIO": { "throttleReadBpsDevice": [disk(json!({ "rate": 1_048_576 }))] } })).on_v2("io")
        .v1("blkio.throttle.read_bps_device", keyed("1048576")).v2("io.max", keyed("rbps=1048576 wbps=max riops=max wiops=max"));
    block_io_write_bps: Field::new("blkio", json!({ "blockIO": { "throttleWriteBpsDevice": [disk(json!({ "rate": 2_097_152 }))] } })).on_v2("io")
        .v1("blkio.throttle.write_bps_device", keyed("2097152")).v2("io.max", keyed("rbps=max wbps=2097152 riops=max wiops=max"));
    block_io_read_iops: Field::new("blkio", json!({ "blockIO": { "throttleReadIOPSDevice": [disk(json!({ "rate": 300 }))] } })).on_v2("io")
        .v1("blkio.throttle.read_iops_device", keyed("300")).v2("io.max", keyed("rbps=max wbps=max riops=300 wiops=max"));
    block_io_write_iops: Field::new("blkio", json!({ "blockIO": { "throttleWriteIOPSDevice": [disk(json!({ "rate": 400 }))] } })).on_v2("io")
        .v1("blkio.throttle.write_iops_device", keyed("400")).v2("io.max", keyed("rbps=max wbps=max riops=max wiops=400"));
    hugepage_limits: Field::new("hugetlb", json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }] }))
        .v1("hugetlb.2MB.limit_in_bytes", 4_194_304).v1("hugetlb.2MB.rsvd.limit_in_bytes", 4_194_304)
        .v2("hugetlb.2MB.max", 4_194_304).v2("hugetlb.2MB.rsvd.max", 4_194_304);
    network_class_id: Field::new("net_cls", json!({ "network": { "classID": 1_048_577 } }))
        .v1("net_cls.classid", 1_048_577).refused_on_v2("network.classID has no counterpart");
    network_priorities: Field::new("net_prio", json!({ "network": { "priorities": [{ "name": "lo", "priority": 5 }] } }))
        .v1("net_prio.ifpriomap", "lo 5").refused_on_v2("network.priorities has no counterpart");
    rdma: rdma();
    unified: Field::new("memory", json!({ "unified": { "memory.high": "50331648", "memory.min": "4096", "pids.max": "77", "memory.oom.group": "1" } }))
        .v2("memory.high", 50_331_648).v2("memory.min", 4096).v2("pids.max", 77).v2("memory.oom.group", 1)
        .refused_on_v1("linux.resources.unified needs cgroup v2")
        .properties(&[], &[("MemoryHigh", "50331648"), ("MemoryMin", "4096"), ("TasksMax", "77")]);
    unified_cpu: Field::new("cpu", json!({ "unified": { "cpu.weight": "321", "cpu.max": "20000 50000" } }))
        .v2("cpu.weight", 321).v2("cpu.max", "20000 50000")
        .refused_on_v1("linux.resources.unified needs cgroup v2")
        .properties(&[], &[("CPUWeight", "321"), ("CPUQuotaPerSecUSec", "400ms"), ("CPUQuotaPeriodUSec", "50ms")]);
    unified_cpuset: Field::new("cpuset", json!({ "unified": { "cpuset.cpus": "0", "cpuset.mems": "0" } }))
        .v2("cpuset.cpus", 0).v2("cpuset.mems", 0)
        .refused_on_v1("linux.resources.unified needs cgroup v2")
        .properties(&[], &[("AllowedCPUs", "0"), ("AllowedMemoryNodes", "0")]);
    unified_core: Field::new("hugetlb", json!({ "unified": { "cgroup.max.depth": "3" } }))
        .v2("cgroup.max.depth", 3).refused_on_v1("linux.resources.unified needs cgroup v2");
}

/// Where nothing has RDMA, the device is what the kernel does not know.
fn rdma() -> Field {
    let limits = |device: &str| json!({ "rdma": { device: { "hcaHandles": 3, "hcaObjects": 10_000 } } });
    let devices = fs::read_dir("/sys/class/infiniband").into_iter().flatten().flatten();
    match devices.map(|entry| entry.file_name().to_string_lossy().into_owned()).next() {
        Some(device) => {
            let line = format!("{device} hca_handle=3 hca_object=10000");
            Field::new("rdma", limits(&device)).both("rdma.max", line)
        }
        None => Field::new("rdma", limits("none_0"))
            .refused_on_v1("set linux.resources.rdma[")
            .refused_on_v2("set linux.resources.rdma["),
    }
}

fn disks() -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir("/sys/block")
        .expect("/sys/block")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("device").exists())
        .collect();
    names.sort();
    names
}

pub fn has_disk() -> bool {
    !disks().is_empty()
}

/// A disk of this machine.
fn disk_path() -> PathBuf {
    require!(has_disk(), "no controller of IO without a disk");
    disks().remove(0)
}

/// Its `MAJOR:MINOR`.
fn disk_number() -> String {
    fs::read_to_string(disk_path().join("dev")).expect("dev").trim().to_owned()
}

/// A weight of that disk, which only the scheduler bfq has.
fn bfq_disk(limit: Value) -> Value {
    let scheduler = fs::read_to_string(disk_path().join("queue/scheduler")).expect("scheduler");
    require!(scheduler.contains("[bfq]"), "no controller of weights: the disk's scheduler is {scheduler}");
    disk(limit)
}

/// A limit of that disk.
pub fn disk(mut limit: Value) -> Value {
    let number = disk_number();
    let (major, minor) = number.split_once(':').expect("MAJOR:MINOR");
    limit["major"] = json!(major.parse::<u64>().expect("major"));
    limit["minor"] = json!(minor.parse::<u64>().expect("minor"));
    limit
}

/// That disk's line in a file.
fn keyed(rest: &str) -> String {
    format!("{} {rest}", disk_number())
}

/// Realtime time is handed down from parent to child, and a parent that is made on the way has none.
fn realtime() {
    require!(!is_v2(), "only on cgroup v1");
    require!(hierarchy_of("cpu").is_some(), "no controller cpu here");
    let cpu = hierarchy_of("cpu").expect("just seen");
    require!(cpu.join("cpu.rt_runtime_us").exists(), "no controller of realtime time in this kernel");
    let path = format!("/berth-test-{}", bundle::tag());
    let limits = json!({ "realtimeRuntime": 10_000, "realtimePeriod": 500_000 });
    let mut container =
        sleeper().set("/linux/cgroupsPath", path.clone()).set("/linux/resources/cpu", limits).container();
    container.create();
    assert_eq!(control("cpu", &path, "cpu.rt_runtime_us", ""), "10000");
    assert_eq!(control("cpu", &path, "cpu.rt_period_us", ""), "500000");
    container.verb("update", &["--cpu-rt-runtime", "20000"], &[]).done().ok();
    assert_eq!(control("cpu", &path, "cpu.rt_runtime_us", ""), "20000");
}

/// v2 has no realtime limit.
fn realtime_is_refused_on_v2() {
    require!(is_v2(), "only on cgroup v2");
    let limits = json!({ "realtimeRuntime": 10_000, "realtimePeriod": 500_000 });
    sleeper()
        .set("/linux/resources/cpu", limits)
        .refused("cpu.realtimeRuntime and realtimePeriod has no counterpart");
}
