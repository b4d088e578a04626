//! Against a running systemd, as root: the test machine has one.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use oci_spec::runtime::Linux;

use super::*;

fn systemd() -> bool {
    let there = nix::unistd::geteuid().is_root() && std::path::Path::new("/run/systemd/private").exists();
    if !there {
        eprintln!("skipped: no systemd runs here");
    }
    there
}

/// A process that its scope is made for, ended with the test.
struct Scoped {
    plan: Plan,
    child: Child,
}

impl Drop for Scoped {
    fn drop(&mut self) {
        self.plan.record().kill(libc::SIGKILL).unwrap();
        self.child.wait().unwrap();
        self.plan.record().remove(Duration::from_secs(10)).unwrap();
    }
}

fn scoped(name: &str, resources: &str) -> Scoped {
    let json = format!(r#"{{"cgroupsPath":"berth-test.slice:berth-test:{name}","resources":{resources}}}"#);
    let linux: Linux = serde_json::from_str(&json).unwrap();
    let layout = Layout::detect().unwrap();
    let mut plan = plan(Some(&linux), name, &layout, Driver::Systemd, &mut Vec::new()).unwrap();
    let annotation = ("org.systemd.property.TimeoutStopSec".to_owned(), "uint64 3".to_owned());
    plan.annotate(&[annotation].into()).unwrap();
    Scoped { plan, child: Command::new("sleep").arg("600").spawn().unwrap() }
}

fn start(scoped: &Scoped) -> crate::error::Result<Cgroup> {
    scoped.plan.create().unwrap();
    let pid = nix::unistd::Pid::from_raw(scoped.child.id().try_into().unwrap());
    scoped.plan.begin(pid)?.unwrap().finish()
}

fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", property, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const LIMITS: &str = r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":67108864,"swap":67108864},
    "cpu":{"shares":512,"quota":50000,"period":100000},"pids":{"limit":50}}"#;

#[test]
fn a_scope_has_the_limits_and_so_has_the_kernel() {
    if !systemd() {
        return;
    }
    let scoped = scoped("limits", LIMITS);
    let begun = Instant::now();
    let cgroup = start(&scoped).unwrap();
    eprintln!("scope made in {:?}", begun.elapsed());
    let unit = "berth-test-limits.scope";
    let record = cgroup.record().clone();
    let v2 = record.version() == Version::V2;
    assert_eq!(show(unit, "ActiveState"), "active");
    assert_eq!(show(unit, "TasksMax"), "50");
    assert_eq!(show(unit, "Delegate"), "yes");
    assert_eq!(show(unit, "DevicePolicy"), "strict");
    assert_eq!(show(unit, "CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(show(unit, "TimeoutStopUSec"), "3s");
    assert_eq!(show(unit, if v2 { "MemoryMax" } else { "MemoryLimit" }), "67108864");
    let child = i32::try_from(scoped.child.id()).unwrap();
    assert_eq!(record.pids().unwrap(), [child]);

    let less = r#"{"memory":{"limit":33554432,"swap":33554432},"pids":{"limit":9}}"#;
    let changes = serde_json::from_str(less).unwrap();
    let before = serde_json::from_str(LIMITS).unwrap();
    record.update(&Update { changes: &changes, before: &before }, &mut Vec::new()).unwrap();
    assert_eq!(show(unit, "TasksMax"), "9");
    // A reload must not set anything back, nor take the devices away.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    let (file, directory) = match record.version() {
        Version::V2 => ("memory.max", record.directories().iter().find(|d| d.names.is_empty())),
        Version::V1 => ("memory.limit_in_bytes", record.directories().iter().find(|d| d.names == ["memory"])),
    };
    let path = directory.unwrap().host_path().join(file);
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "33554432");
    if v2 {
        assert_eq!(crate::sys::bpf::device_filters(cgroup.clone_into().unwrap()).unwrap().len(), 1);
    }

    record.kill(libc::SIGKILL).unwrap();
    let begun = Instant::now();
    record.remove(Duration::from_secs(10)).unwrap();
    eprintln!("scope removed in {:?}", begun.elapsed());
    assert_eq!(show(unit, "LoadState"), "not-found");
    for directory in record.directories() {
        assert!(!directory.host_path().exists(), "{:?}", directory.host_path());
    }
}

#[test]
fn a_living_scope_is_not_taken_over() {
    if !systemd() {
        return;
    }
    let first = scoped("twice", "{}");
    start(&first).unwrap();
    let mut second = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(second.id().try_into().unwrap());
    let result = first.plan.begin(pid);
    second.kill().unwrap();
    second.wait().unwrap();
    let Err(error) = result else { panic!("the unit exists") };
    assert!(error.to_string().contains("systemctl stop berth-test-twice.scope"), "{error}");
}
