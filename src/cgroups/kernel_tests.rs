//! Against the running kernel, as root, on whatever hierarchies this host has. All names are below
//! /berth-test-…, and all of it is removed again.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use oci_spec::runtime::Linux;

use super::*;
use crate::error::Result;

/// The cgroup of one test; killed and removed when the test ends, however it ends.
struct Fixture {
    plan: Plan,
    record: Record,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.record.kill(libc::SIGKILL).unwrap();
        self.record.remove(Duration::from_secs(5)).unwrap();
    }
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: cgroups can be made by root only");
    }
    root
}

/// Whether this host's hierarchies have these controllers. On a host whose controllers are on v1, a
/// mount namespace with cgroup2 at /sys/fs/cgroup has none of them; booted with v2 it has all.
fn controllers(names: &[&str]) -> bool {
    if !root() {
        return false;
    }
    let layout = Layout::detect().unwrap();
    let missing: Vec<_> = if layout.is_v2() {
        let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        names.iter().filter(|name| !text.split_whitespace().any(|has| has == **name)).collect()
    } else {
        names.iter().filter(|name| !layout.v1.iter().any(|h| h.has(name))).collect()
    };
    if !missing.is_empty() {
        eprintln!("skipped: this host has no cgroup controllers {missing:?} here");
    }
    missing.is_empty()
}

fn linux(path: &str, resources: &str) -> Linux {
    serde_json::from_str(&format!(r#"{{"cgroupsPath":"{path}","resources":{resources}}}"#)).unwrap()
}

fn try_plan(path: &str, resources: &str) -> Result<Plan> {
    let linux = linux(path, resources);
    plan(Some(&linux), "id", &Layout::detect()?, Driver::Cgroupfs, &mut Vec::new())
}

fn fixture(path: &str, resources: &str) -> Fixture {
    let plan = try_plan(path, resources).unwrap();
    let record = plan.record();
    Fixture { plan, record }
}

/// A shell that joins the cgroup as a container's init does on v1, then runs `script`.
fn spawn(cgroup: &Cgroup, script: &str) -> Child {
    let mut joins: Vec<PathBuf> = cgroup.tasks().iter().map(|tasks| tasks.path().to_path_buf()).collect();
    let unified = cgroup.record().directories().iter().find(|d| d.names.is_empty());
    joins.extend(unified.map(|directory| directory.host_path().join("cgroup.procs")));
    let joins: String = joins.iter().map(|path| format!("echo 0 > {} || exit 9; ", path.display())).collect();
    Command::new("/bin/sh").arg("-c").arg(joins + script).spawn().unwrap()
}

fn read(record: &Record, controller: &str, file: &str) -> String {
    let v2 = record.version() == Version::V2;
    let wanted =
        |d: &&Directory| if v2 { d.names.is_empty() } else { d.names.iter().any(|n| n == controller) };
    let path = record.directories().iter().find(wanted).unwrap().host_path().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

const DOCKER: &str = r#"{"devices":[{"allow":false,"access":"rwm"},
    {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"}],
    "memory":{"limit":67108864,"swap":134217728,"disableOOMKiller":false},
    "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"},
    "pids":{"limit":50},"blockIO":{"weight":0}}"#;

/// Makes the cgroup as a birth does, and removes it as one does when a limit is refused.
pub(super) fn create(plan: &Plan) -> Result<Cgroup> {
    let cgroup = plan.create()?;
    match plan.limit_unified(&cgroup) {
        Ok(()) => Ok(cgroup),
        Err(error) => {
            cgroup.record().remove(Duration::ZERO)?;
            Err(error)
        }
    }
}

#[test]
fn limits_reach_the_kernel() {
    if !controllers(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let f = fixture("/berth-test-limits/a/b", DOCKER);
    let cgroup = create(&f.plan).unwrap();
    let mut made = f.record.clone();
    made.identify().unwrap();
    assert_eq!(cgroup.record(), &made);
    let check = |controller: &str, file: &str, value: &str| {
        assert_eq!(read(&f.record, controller, file), value, "{file}");
    };
    match f.record.version() {
        Version::V2 => {
            check("memory", "memory.max", "67108864");
            check("memory", "memory.swap.max", "67108864");
            check("cpu", "cpu.weight", "59");
            check("cpu", "cpu.max", "50000 100000");
            check("cpuset", "cpuset.cpus", "0");
        }
        Version::V1 => {
            check("memory", "memory.limit_in_bytes", "67108864");
            check("memory", "memory.memsw.limit_in_bytes", "134217728");
            check("cpu", "cpu.shares", "512");
            check("cpu", "cpu.cfs_quota_us", "50000");
            check("cpuset", "cpuset.cpus", "0");
            assert!(read(&f.record, "devices", "devices.list").contains("c 1:5 rwm"));
        }
    }
    check("pids", "pids.max", "50");
    let parent = f.record.directories()[0].host_path().parent().unwrap().to_owned();
    f.record.remove(Duration::from_secs(5)).unwrap();
    assert!(!parent.exists() && !parent.parent().unwrap().exists(), "{} is left", parent.display());
    f.record.remove(Duration::ZERO).unwrap();
}

#[test]
fn devices_are_filtered() {
    if !root() {
        return;
    }
    // The zero device is a default one; 1:11 (kmsg) is allowed for reading by name, 1:1 (mem) not.
    let devices = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    let f = fixture("/berth-test-devices", devices);
    let cgroup = create(&f.plan).unwrap();
    let script = "d=$(mktemp -d); cd $d; mknod zero c 1 5; mknod kmsg c 1 11; mknod mem c 1 1; mknod vda b 254 0;
        (: < zero) && (: > zero) && (: < kmsg) && ! (: > kmsg) && ! (: < mem) && ! (: < vda) && ! (: < /dev/console);
        s=$?; rm -r $d; exit $s";
    assert!(spawn(&cgroup, &format!("{{ {script}; }} 2>/dev/null")).wait().unwrap().success());
}

#[test]
fn a_privileged_container_has_all_devices() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-privileged", r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    let cgroup = create(&f.plan).unwrap();
    let script = "d=$(mktemp -d); cd $d; mknod kmsg c 1 11; : < kmsg; s=$?; rm -r $d; exit $s";
    assert!(spawn(&cgroup, script).wait().unwrap().success());
}

#[test]
fn freeze_kill_and_remove() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-kill", "{}");
    let cgroup = create(&f.plan).unwrap();
    let mut child = spawn(&cgroup, "sleep 600 & sleep 600 & wait");
    let deadline = Instant::now() + Duration::from_secs(5);
    while f.record.pids().unwrap().len() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(f.record.pids().unwrap().len(), 3);

    f.record.freeze().unwrap();
    assert!(f.record.is_frozen().unwrap());
    let error = create(&f.plan).unwrap_err().to_string();
    assert!(error.contains("container's cgroup is not empty"), "{error}");
    let error = f.record.remove(Duration::from_millis(20)).unwrap_err().to_string();
    assert!(error.contains("(sleep, state") || error.contains("(sh, state"), "{error}");
    f.record.thaw().unwrap();
    assert!(!f.record.is_frozen().unwrap());

    f.record.freeze().unwrap();
    f.record.kill(libc::SIGKILL).unwrap();
    let start = Instant::now();
    f.record.remove(Duration::from_secs(5)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    child.wait().unwrap();
}

#[test]
fn nested_cgroups_go_too() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-nested/c", "{}");
    create(&f.plan).unwrap();
    for directory in f.record.directories() {
        std::fs::create_dir_all(directory.host_path().join("x/y")).unwrap();
        std::fs::create_dir_all(directory.host_path().join("z")).unwrap();
    }
    f.record.remove(Duration::from_secs(1)).unwrap();
    for directory in f.record.directories() {
        assert!(!directory.host_path().parent().unwrap().exists());
    }
}

#[test]
fn a_parent_of_others_is_left() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-parent/c", "{}");
    let parents: Vec<PathBuf> =
        f.record.directories().iter().map(|d| d.host_path().parent().unwrap().to_owned()).collect();
    parents.iter().for_each(|parent| std::fs::create_dir(parent).unwrap());
    create(&f.plan).unwrap();
    f.record.remove(Duration::from_secs(1)).unwrap();
    let left = parents.iter().all(|parent| parent.exists());
    parents.iter().for_each(|parent| std::fs::remove_dir(parent).unwrap());
    assert!(left);
}

#[test]
fn a_shared_parent_goes_with_the_last() {
    if !root() {
        return;
    }
    let (a, b) = (fixture("/berth-test-shared/a", "{}"), fixture("/berth-test-shared/b", "{}"));
    create(&a.plan).unwrap();
    create(&b.plan).unwrap();
    let parent = a.record.directories()[0].host_path().parent().unwrap().to_owned();
    a.record.remove(Duration::from_secs(1)).unwrap();
    assert!(parent.exists());
    b.record.remove(Duration::from_secs(1)).unwrap();
    assert!(!parent.exists());
}

#[test]
fn a_refused_value_leaves_nothing() {
    if !controllers(&["cpuset"]) {
        return;
    }
    let f = fixture("/berth-test-refused/x", r#"{"cpu":{"cpus":"4000"}}"#);
    let error = create(&f.plan).unwrap_err().to_string();
    assert!(error.contains("set linux.resources.cpu.cpus") && error.contains("4000"), "{error}");
    for directory in f.record.directories() {
        assert!(!directory.host_path().parent().unwrap().exists());
    }
}

#[test]
fn a_missing_controller_is_named() {
    if !root() {
        return;
    }
    let layout = Layout::detect().unwrap();
    if layout.v1.iter().any(|hierarchy| hierarchy.has("net_cls")) {
        eprintln!("skipped: this host lacks no controller that the spec has a field for");
        return;
    }
    let error = try_plan("/berth-test-missing", r#"{"network":{"classID":1}}"#).unwrap_err().to_string();
    assert!(error.contains("network.classID") && error.contains("; "), "{error}");
    if layout.is_v2() {
        let f = fixture("/berth-test-missing", r#"{"unified":{"nothing.max":"1"}}"#);
        let error = create(&f.plan).unwrap_err().to_string();
        assert!(error.contains("enable the cgroup controller nothing"), "{error}");
    }
}

#[test]
fn no_process_limit_of_zero_stops_init() {
    if !controllers(&["pids"]) {
        return;
    }
    let f = fixture("/berth-test-zero", r#"{"pids":{"limit":0}}"#);
    let cgroup = create(&f.plan).unwrap();
    cgroup.seal(nix::unistd::Pid::this()).unwrap();
    assert_eq!(read(&f.record, "pids", "pids.max"), "0");
}

fn resources(json: &str) -> oci_spec::runtime::LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn update(record: &Record, changes: &oci_spec::runtime::LinuxResources) -> crate::error::Result<()> {
    record.update(&Update { changes, before: &resources("{}") }, &mut Vec::new())
}

#[test]
fn an_update_reaches_the_kernel_in_either_direction() {
    if !controllers(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let f = fixture("/berth-test-update", DOCKER);
    create(&f.plan).unwrap();
    let limit = |memory: u64, quota: u64| {
        resources(&format!(
            r#"{{"memory":{{"limit":{memory},"swap":{memory}}},"cpu":{{"quota":{quota},"period":{quota}}},"pids":{{"limit":7}}}}"#
        ))
    };
    let (memory, quota) = match f.record.version() {
        Version::V1 => ("memory.memsw.limit_in_bytes", "cpu.cfs_quota_us"),
        Version::V2 => ("memory.max", "cpu.max"),
    };
    for (bytes, time) in [(1 << 30, 400_000), (1 << 25, 20_000), (1 << 28, 1_000_000)] {
        update(&f.record, &limit(bytes, time)).unwrap();
        assert_eq!(read(&f.record, "memory", memory), bytes.to_string());
        assert!(read(&f.record, "cpu", quota).starts_with(&time.to_string()));
    }
    assert_eq!(read(&f.record, "pids", "pids.max"), "7");
}

#[test]
fn a_refused_update_changes_nothing() {
    if !controllers(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let f = fixture("/berth-test-rollback", DOCKER);
    create(&f.plan).unwrap();
    let files = [
        ("memory", "memory.limit_in_bytes"),
        ("memory", "memory.memsw.limit_in_bytes"),
        ("cpu", "cpu.shares"),
        ("cpu", "cpu.cfs_quota_us"),
        ("cpu", "cpu.cfs_period_us"),
        ("pids", "pids.max"),
        ("cpuset", "cpuset.cpus"),
    ];
    let v2_files = [
        ("memory", "memory.max"),
        ("memory", "memory.swap.max"),
        ("cpu", "cpu.weight"),
        ("cpu", "cpu.max"),
        ("pids", "pids.max"),
        ("cpuset", "cpuset.cpus"),
    ];
    let files: &[_] = if f.record.version() == Version::V1 { &files } else { &v2_files };
    let all = || files.iter().map(|(c, name)| read(&f.record, c, name)).collect::<Vec<_>>();
    let before = all();
    for round in 1..=50u64 {
        let json = format!(
            r#"{{"memory":{{"limit":{},"swap":{}}},"cpu":{{"shares":{},"quota":{},"period":50000,"cpus":"4000"}},"pids":{{"limit":{round}}}}}"#,
            round << 22,
            round << 23,
            2 + round,
            1000 * round
        );
        let error = update(&f.record, &resources(&json)).unwrap_err().to_string();
        assert!(error.contains("set linux.resources.cpu.cpus"), "{error}");
        assert_eq!(all(), before, "round {round}");
    }
}

#[test]
fn a_memory_limit_below_the_use_is_refused_with_the_numbers() {
    if !controllers(&["memory"]) {
        return;
    }
    let f = fixture("/berth-test-shrink", r#"{"memory":{"limit":268435456,"swap":268435456}}"#);
    let cgroup = create(&f.plan).unwrap();
    // Without swap shared memory cannot be reclaimed, and it is charged to whoever wrote it.
    let file = format!("/dev/shm/berth-test-{}", std::process::id());
    let mut child = spawn(&cgroup, &format!("head -c 67108864 /dev/zero > {file}; sleep 600"));
    let usage = if f.record.version() == Version::V1 { "memory.usage_in_bytes" } else { "memory.current" };
    let deadline = Instant::now() + Duration::from_secs(20);
    while f.record.pids().unwrap().len() < 2
        || read(&f.record, "memory", usage).parse::<u64>().unwrap() < 1 << 26
    {
        assert!(Instant::now() < deadline, "the shared memory is not charged");
        std::thread::sleep(Duration::from_millis(5));
    }
    let small = r#"{"memory":{"limit":16777216,"swap":16777216}}"#;
    let error = update(&f.record, &resources(small)).unwrap_err().to_string();
    assert!(error.contains("16777216"), "{error}");
    let checked = r#"{"memory":{"limit":16777216,"swap":268435456,"checkBeforeUpdate":true}}"#;
    let error = update(&f.record, &resources(checked)).unwrap_err().to_string();
    assert!(error.contains("bytes are in use and checkBeforeUpdate"), "{error}");
    assert!(child.try_wait().unwrap().is_none(), "nothing was killed");
    f.record.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn figures_are_read() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-stats", "{}");
    let cgroup = create(&f.plan).unwrap();
    spawn(&cgroup, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").wait().unwrap();
    let stats = f.record.stats().unwrap();
    assert!(stats.cpu.usage.total > 1_000_000, "{:?}", stats.cpu);
    if f.record.version() == Version::V1 {
        assert!(!stats.cpuset.cpus.is_empty() && stats.memory.usage.max > 0, "{stats:?}");
    } else if stats.cpu.psi.is_none() {
        eprintln!("this kernel has no pressure files");
    }
}

#[test]
fn running_out_of_memory_is_told() {
    if !controllers(&["memory"]) {
        return;
    }
    let f = fixture("/berth-test-oom", r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    let cgroup = create(&f.plan).unwrap();
    let mut source = f.record.oom_source().unwrap();
    assert!(!matches!(source.take().unwrap(), OomEvent::Oom(_)));
    spawn(&cgroup, "x=$(head -c 134217728 /dev/zero | tr '\\0' x) 2>/dev/null").wait().unwrap();
    let fd = std::os::fd::AsFd::as_fd(&source);
    let mut poll = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut poll, 5000u16).unwrap(), 1);
    assert!(matches!(source.take().unwrap(), OomEvent::Oom(1..)));
}

#[test]
fn devices_can_be_updated() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-devices-update", "{}");
    let cgroup = create(&f.plan).unwrap();
    let opens = || {
        let script =
            "d=$(mktemp -d); cd $d; mknod kmsg c 1 11; (: < kmsg) 2>/dev/null; s=$?; rm -r $d; exit $s";
        spawn(&cgroup, script).wait().unwrap().success()
    };
    for round in 0..3 {
        assert!(!opens(), "round {round}");
        let allow = r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"rw"}]}"#;
        update(&f.record, &resources(allow)).unwrap();
        assert!(opens(), "round {round}");
        update(&f.record, &resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)).unwrap();
    }
    if f.record.version() == Version::V2 {
        let fd = cgroup.clone_into().unwrap();
        assert_eq!(crate::sys::bpf::device_filters(fd).unwrap().len(), 1);
    }
}

/// Whoever has the path by now, nothing that is done to the container is done to it.
#[test]
fn a_directory_that_was_replaced_is_not_used() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-replaced/x", "{}");
    create(&f.plan).unwrap();
    let mut old = f.record.clone();
    old.identify().unwrap();
    for directory in old.directories() {
        std::fs::remove_dir(directory.host_path()).unwrap();
    }
    let cgroup = create(&f.plan).unwrap();
    let mut child = spawn(&cgroup, "exec sleep 1000");
    while f.record.pids().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(old.pids().unwrap(), [0; 0]);
    for refused in [old.freeze(), old.open().map(drop), update(&old, &resources(r#"{"pids":{"limit":5}}"#))] {
        refused.unwrap_err();
    }
    let below = Below::parse("below").unwrap();
    for directory in f.record.directories() {
        std::fs::create_dir(directory.host_path().join("below")).unwrap();
    }
    old.open_below(std::slice::from_ref(&below)).map(drop).unwrap_err();
    f.record.open_below(&[below]).unwrap();
    assert!(!old.is_frozen().unwrap() && !old.holds_frozen().unwrap());
    old.kill(libc::SIGKILL).unwrap();
    old.remove(Duration::ZERO).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it lives");
    assert_eq!(f.record.pids().unwrap().len(), 1);
    // Where the process is in fact it is the container's, whoever made that.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    if let Some(unified) = old.directories().iter().find(|directory| directory.names.is_empty()) {
        let mut only = old.clone();
        only.directories.retain(|directory| directory == unified);
        assert!(only.open_beside(pid).unwrap().is_some());
    }
    f.record.kill(libc::SIGKILL).unwrap();
    child.wait().unwrap();
}

/// Not an assertion but a figure: `cargo test --lib cgroups -- --ignored --nocapture time`.
#[test]
#[ignore = "prints figures"]
fn time_of_plan_create_and_remove() {
    let all = controllers(&["memory", "cpu", "cpuset", "pids"]);
    let resources = if all { DOCKER } else { r#"{"devices":[{"allow":false,"access":"rwm"}]}"# };
    let mut samples: Vec<[Duration; 4]> = (0..200)
        .map(|_| {
            let start = Instant::now();
            let layout = Layout::detect().unwrap();
            let detected = start.elapsed();
            let linux = linux("/berth-test-time/x", resources);
            let start = Instant::now();
            let plan = plan(Some(&linux), "id", &layout, Driver::Cgroupfs, &mut Vec::new()).unwrap();
            let planned = start.elapsed();
            let start = Instant::now();
            create(&plan).unwrap();
            let created = start.elapsed();
            let start = Instant::now();
            plan.record().remove(Duration::from_secs(1)).unwrap();
            [detected, planned, created, start.elapsed()]
        })
        .collect();
    for (index, name) in ["detect", "plan", "create", "remove"].into_iter().enumerate() {
        samples.sort_by_key(|sample| sample[index]);
        eprintln!("{name}: median {:?}, p90 {:?}", samples[100][index], samples[180][index]);
    }
}
