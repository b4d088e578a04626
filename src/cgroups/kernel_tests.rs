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

#[test]
fn limits_reach_the_kernel() {
    if !controllers(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let f = fixture("/berth-test-limits/a/b", DOCKER);
    let cgroup = f.plan.create().unwrap();
    assert_eq!(cgroup.record(), &f.record);
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
    let cgroup = f.plan.create().unwrap();
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
    let cgroup = f.plan.create().unwrap();
    let script = "d=$(mktemp -d); cd $d; mknod kmsg c 1 11; : < kmsg; s=$?; rm -r $d; exit $s";
    assert!(spawn(&cgroup, script).wait().unwrap().success());
}

#[test]
fn freeze_kill_and_remove() {
    if !root() {
        return;
    }
    let f = fixture("/berth-test-kill", "{}");
    let cgroup = f.plan.create().unwrap();
    let mut child = spawn(&cgroup, "sleep 600 & sleep 600 & wait");
    let deadline = Instant::now() + Duration::from_secs(5);
    while f.record.pids().unwrap().len() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(f.record.pids().unwrap().len(), 3);

    f.record.freeze().unwrap();
    assert!(f.record.is_frozen().unwrap());
    let error = f.plan.create().unwrap_err().to_string();
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
    f.plan.create().unwrap();
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
    f.plan.create().unwrap();
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
    a.plan.create().unwrap();
    b.plan.create().unwrap();
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
    let error = f.plan.create().unwrap_err().to_string();
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
    let network = r#"{"network":{"classID":1}}"#;
    let error = match try_plan("/berth-test-missing", network) {
        Ok(plan) => plan.create().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("network.classID") && error.contains("; "), "{error}");
    if Layout::detect().unwrap().is_v2() {
        let f = fixture("/berth-test-missing", r#"{"unified":{"nothing.max":"1"}}"#);
        let error = f.plan.create().unwrap_err().to_string();
        assert!(error.contains("enable the cgroup controller nothing"), "{error}");
    }
}

#[test]
fn no_process_limit_of_zero_stops_init() {
    if !controllers(&["pids"]) {
        return;
    }
    let f = fixture("/berth-test-zero", r#"{"pids":{"limit":0}}"#);
    let cgroup = f.plan.create().unwrap();
    cgroup.seal().unwrap();
    assert_eq!(read(&f.record, "pids", "pids.max"), "0");
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
            plan.create().unwrap();
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
