//! The systemd driver: a container is a transient scope. Needs a host that systemd runs.

use crate::harness::checkpoint::{path as criu_path, require_criu};
use crate::harness::host::{control, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, Done, await_condition, berth};
use crate::harness::*;
use crate::{require, tests};
use std::process::Command;

tests! {
    a_scope_has_the_limits, update_and_pause_in_a_scope, the_cgroup_namespace_begins_at_the_scope,
    a_scope_in_use_is_left_alone, a_failed_birth_leaves_no_scope, properties_come_by_annotation, a_subgroup_below_the_scope, a_delegated_cgroup_below_the_scope,
    exec_joins_the_scope, a_scope_that_was_stopped, a_scope_that_failed_is_used_again,
    an_early_death_is_told, running_out_of_memory_is_an_event, a_restored_container_has_a_scope,
    the_flags_choose_the_driver,
    // They take systemd away from the others for a moment, longer in emulation than berth waits for it.
    ; alone: systemd_is_executed_anew, a_reload_takes_nothing_away, devices_are_exchanged_in_systemd_too
}

pub fn needs_systemd() {
    require!(std::path::Path::new("/run/systemd/private").exists(), "no systemd runs here");
}

fn needs_controllers() {
    for controller in ["cpu", "memory", "pids"] {
        require!(hierarchy_of(controller).is_some(), "no controller {controller} here");
    }
}

/// A container in the scope `berth-test-ID.scope` of system.slice.
pub fn scoped(bundle: Bundle) -> Container {
    let mut container = bundle.container();
    let path = format!("system.slice:berth-test:{}", container.id);
    bundle::set(&mut container.bundle.config, "/linux/cgroupsPath", path.into());
    container
}

pub fn unit(container: &Container) -> String {
    format!("berth-test-{}.scope", container.id)
}

pub fn by_systemd(container: &Container, verb: &str) -> Done {
    container.bundle.write();
    let mut command = berth(&["--systemd-cgroup", verb, "--bundle"]);
    command.arg(&container.bundle.path).arg("--pid-file").arg(container.pid_file()).arg(&container.id);
    command.done()
}

#[track_caller]
pub fn show(container: &Container, property: &str) -> String {
    let mut command = Command::new("systemctl");
    command.args(["show", "--value", "--property", property]).arg(unit(container));
    command.done().ok().stdout().trim().to_owned()
}

fn limited() -> Bundle {
    Bundle::new()
        .set("/linux/resources/memory", json!({ "limit": 64 << 20, "swap": 64 << 20 }))
        .set("/linux/resources/pids", json!({ "limit": 50 }))
        .set("/linux/resources/cpu", json!({ "quota": 50_000, "period": 100_000 }))
}

pub fn cgroup(container: &Container) -> String {
    format!("/system.slice/{}", unit(container))
}

fn a_scope_has_the_limits() {
    needs_systemd();
    needs_controllers();
    let container = scoped(limited().steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    let table = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert!(table.lines().any(|line| line.ends_with(&cgroup(&container))), "{table}");
    assert_eq!(show(&container, "ActiveState"), "active");
    assert_eq!(show(&container, "TasksMax"), "50");
    assert_eq!(show(&container, "CPUQuotaPerSecUSec"), "500ms");
    assert_eq!(show(&container, if is_v2() { "MemoryMax" } else { "MemoryLimit" }), "67108864");
    assert_eq!(control("pids", &cgroup(&container), "pids.max", "pids.max"), "50");
    assert_eq!(control("memory", &cgroup(&container), "memory.limit_in_bytes", "memory.max"), "67108864");
    container.verb("start", &[], &[]).done().ok();
    container.finish();
    assert_eq!(show(&container, "LoadState"), "not-found");
    assert!(host::cgroups_with(&container.id).is_empty());
}

fn update_and_pause_in_a_scope() {
    needs_systemd();
    needs_controllers();
    let container = scoped(limited().steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    container
        .verb("update", &["--pids-limit", "9", "--memory", "32m", "--memory-swap", "32m"], &[])
        .done()
        .ok();
    assert_eq!(show(&container, "TasksMax"), "9");
    assert_eq!(control("pids", &cgroup(&container), "pids.max", "pids.max"), "9");
    container.verb("pause", &[], &[]).done().ok();
    assert_eq!(container.status(), "paused");
    container.verb("resume", &[], &[]).done().ok();
    assert_eq!(container.status(), "running");
}

/// Init unshares it only when it is in the scope.
fn the_cgroup_namespace_begins_at_the_scope() {
    needs_systemd();
    let container =
        scoped(Bundle::new().namespace("cgroup", None).steps(&["read:/proc/self/cgroup", "report"]));
    let report = Report::parse(&by_systemd(&container, "run").ok().stdout());
    let table = report.probe("read:/proc/self/cgroup").as_str().expect("text").to_owned();
    assert!(table.lines().all(|line| line.ends_with(":/")), "{table}");
}

fn a_scope_in_use_is_left_alone() {
    needs_systemd();
    let first = scoped(Bundle::new().without_namespace("pid").steps(&["sleep:1000"]));
    by_systemd(&first, "create").ok();
    first.verb("start", &[], &[]).done().ok();
    let path = format!("system.slice:berth-test:{}", first.id);
    let second = Bundle::new().without_namespace("pid").set("/linux/cgroupsPath", path).container();
    let refused = by_systemd(&second, "run");
    assert_eq!(refused.code(), 1, "{}", refused.describe());
    // On v1 the hierarchies that systemd leaves to us are looked at first, and found in use.
    let stderr = refused.stderr();
    assert!(stderr.contains("StartTransientUnit") || stderr.contains("is not empty"), "{stderr}");
    second.verb("state", &[], &[]).done().fails("does not exist");
    assert_eq!((first.status().as_str(), show(&first, "ActiveState").as_str()), ("running", "active"));
}

fn a_failed_birth_leaves_no_scope() {
    needs_systemd();
    for bundle in [Bundle::new().args(&["/none"]), Bundle::new().bind("/none".as_ref(), "/mnt", &["bind"])] {
        let container = scoped(bundle);
        assert_eq!(by_systemd(&container, "run").code(), 1);
        assert_eq!(show(&container, "LoadState"), "not-found");
        assert!(host::cgroups_with(&container.id).is_empty());
    }
}

fn properties_come_by_annotation() {
    needs_systemd();
    let annotations = json!({ "org.systemd.property.TimeoutStopSec": "uint64 3" });
    let container = scoped(Bundle::new().set("/annotations", annotations).steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    assert_eq!(show(&container, "TimeoutStopUSec"), "3s");
}

const SUBGROUP: &str = "run.oci.systemd.subgroup";

fn a_subgroup_below_the_scope() {
    needs_systemd();
    needs_controllers();
    let bundle = limited().namespace("cgroup", None).set("/annotations", json!({ SUBGROUP: "in/side" }));
    let container = scoped(bundle.steps(&["read:/proc/self/cgroup", "report", "sleep:1000"]));
    if !is_v2() {
        by_systemd(&container, "run").fails("needs cgroup v2");
        return;
    }
    let created = by_systemd(&container, "create").ok();
    let path = format!("{}/in/side", cgroup(&container));
    let table = || std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert!(table().lines().any(|line| line == format!("0::{path}")), "{}", table());
    assert_eq!(control("pids", &path, "pids.max", "pids.max"), "50");
    assert_eq!(control("memory", &path, "memory.limit_in_bytes", "memory.max"), "67108864");
    container.verb("start", &[], &[]).done().ok();
    assert!(await_condition(|| !Report::all(&created.stdout()).is_empty()), "{}", created.describe());
    let report = Report::parse(&created.stdout());
    // It is the root of the container's cgroup namespace.
    assert_eq!(report.probe("read:/proc/self/cgroup"), "0::/");
    let exec = container.verb("exec", &[], &[bundle::PAYLOAD, "report"]).done().ok();
    assert_eq!(Report::parse(&exec.stdout())["cgroup"], report["cgroup"]);
    container.verb("update", &["--pids-limit", "9"], &[]).done().ok();
    assert_eq!(show(&container, "TasksMax"), "9");
    assert_eq!(control("pids", &path, "pids.max", "pids.max"), "9");
    container.finish();
    assert_eq!(show(&container, "LoadState"), "not-found");
    assert!(host::cgroups_with(&container.id).is_empty());
}

fn a_delegated_cgroup_below_the_scope() {
    needs_systemd();
    needs_controllers();
    let annotations = json!({ SUBGROUP: "side", "run.oci.delegate-cgroup": "payload" });
    let bundle = limited().namespace("cgroup", None).set("/annotations", annotations);
    let container = scoped(bundle.steps(&["read:/proc/self/cgroup", "report", "sleep:1000"]));
    if !is_v2() {
        by_systemd(&container, "run").fails("needs cgroup v2");
        return;
    }
    let created = by_systemd(&container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    assert!(await_condition(|| !Report::all(&created.stdout()).is_empty()), "{}", created.describe());
    let report = Report::parse(&created.stdout());
    assert_eq!(report.probe("read:/proc/self/cgroup"), "0::/payload");
    let path = format!("{}/side", cgroup(&container));
    assert_eq!(control("pids", &path, "pids.max", "pids.max"), "50");
    assert_eq!(control("pids", &format!("{path}/payload"), "pids.max", "pids.max"), "max");
    // The container's own takes no process beside that.
    let exec = container.verb("exec", &[], &[bundle::PAYLOAD, "report"]).done().ok();
    assert_eq!(Report::parse(&exec.stdout())["cgroup"], report["cgroup"]);
    container.finish();
    assert_eq!(show(&container, "LoadState"), "not-found");
    assert!(host::cgroups_with(&container.id).is_empty());
}

fn a_restored_container_has_a_scope() {
    needs_systemd();
    require_criu();
    let container = scoped(limited().steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    let image = container.bundle.path.join("image");
    let mut command = container.verb("checkpoint", &[], &[]);
    command.arg("--image-path").arg(&image).env("PATH", criu_path());
    command.done().ok();
    let mut command = berth(&["--systemd-cgroup", "restore", "--detach", "--bundle"]);
    command
        .arg(&container.bundle.path)
        .arg("--pid-file")
        .arg(container.pid_file())
        .arg("--image-path")
        .arg(&image);
    command.arg(&container.id).env("PATH", criu_path());
    command.done().ok();
    let table = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert!(table.lines().any(|line| line.ends_with(&cgroup(&container))), "{table}");
    assert_eq!(control("pids", &cgroup(&container), "pids.max", "pids.max"), "50");
    assert_eq!(show(&container, "ActiveState"), "active");
    container.finish();
}

/// Where no systemd runs, its driver is asked for in vain and says so.
fn the_flags_choose_the_driver() {
    let has_systemd = std::path::Path::new("/run/systemd/private").exists();
    for flags in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"], &["--cgroup-manager=systemd"]]
    {
        let container = scoped(Bundle::new().steps(&["sleep:1000"]));
        container.bundle.write();
        let mut command = berth(flags);
        command.arg("create").arg("--bundle").arg(&container.bundle.path);
        command.arg("--pid-file").arg(container.pid_file()).arg(&container.id);
        let done = command.done();
        if has_systemd {
            done.ok();
            assert_eq!(show(&container, "ActiveState"), "active");
        } else {
            done.fails("systemd");
        }
    }
    // The path is a directory then, whatever it looks like to systemd.
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    container.bundle.write();
    let mut command = berth(&["--cgroup-manager=cgroupfs", "create", "--bundle"]);
    command.arg(&container.bundle.path).arg(&container.id);
    command.done().ok();
    assert!(!host::cgroups_with(&container.bundle.cgroup_path()).is_empty());
}

/// /dev/kmsg, which no default list has, and /dev/fuse, which nobody allows.
const ALLOWED: &str = "device:c:1:11:w";
const DENIED: &str = "device:c:10:229:r";

/// A container that tries devices when it gets SIGTERM.
fn trying_devices(rules: &[Value]) -> Container {
    let bundle = rules
        .iter()
        .fold(Bundle::new(), |bundle, rule| bundle.push("/linux/resources/devices", rule.clone()));
    scoped(bundle.capabilities(&["bounding", "effective", "permitted"], &["CAP_MKNOD"]).steps(&[
        "signals:SIGTERM",
        ALLOWED,
        DENIED,
        "open:/dev/null:rw",
        "report",
    ]))
}

fn kmsg() -> Value {
    json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm" })
}

/// Starts it, lets `meanwhile` happen, and says what it may use then.
fn devices_after(container: &Container, meanwhile: impl FnOnce()) -> [Value; 3] {
    let created = by_systemd(container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    assert!(await_condition(|| created.stdout().contains("ready")));
    meanwhile();
    container.kill("TERM");
    assert!(await_condition(|| !Report::all(&created.stdout()).is_empty()), "{}", created.describe());
    let report = Report::parse(&created.stdout());
    [ALLOWED, DENIED, "open:/dev/null:rw"].map(|step| report.probe(step).clone())
}

fn systemctl(args: &[&str]) {
    let mut command = Command::new("systemctl");
    command.args(args);
    command.done().ok();
}

/// At a reload systemd writes all that it knows of a unit again.
fn a_reload_takes_nothing_away() {
    needs_systemd();
    needs_controllers();
    let mut container = trying_devices(&[kmsg()]);
    let limits = json!({ "limit": 33_333_248, "swap": 33_333_248 });
    bundle::set(&mut container.bundle.config, "/linux/resources/memory", limits);
    let cgroup = cgroup(&container);
    let seen = devices_after(&container, || {
        for verb in ["daemon-reload", "daemon-reexec"] {
            systemctl(&[verb]);
            let limit = control("memory", &cgroup, "memory.limit_in_bytes", "memory.max");
            assert_eq!(limit, "33333248", "{verb}");
        }
        // systemd is another program now.
        container.verb("update", &["--pids-limit", "44"], &[]).done().ok();
        assert_eq!(show(&container, "TasksMax"), "44");
    });
    assert_eq!(seen, ["ok", "open EPERM", "ok"]);
}

/// What an update takes away stays away after a reload.
fn devices_are_exchanged_in_systemd_too() {
    needs_systemd();
    let container = trying_devices(&[kmsg()]);
    let file = container.bundle.path.join("resources.json");
    let seen = devices_after(&container, || {
        assert!(show(&container, "DeviceAllow").contains("1:11"), "{}", show(&container, "DeviceAllow"));
        let rules = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        std::fs::write(&file, rules.to_string()).expect("resources");
        container.verb("update", &["-r", &file.to_string_lossy()], &[]).done().ok();
        systemctl(&["daemon-reload"]);
    });
    assert!(!show(&container, "DeviceAllow").contains("1:11"));
    assert_eq!(seen, ["open EPERM", "open EPERM", "ok"]);
}

/// As an upgrade of systemd does: it closes all connections, and is away for a moment.
fn systemd_is_executed_anew() {
    needs_systemd();
    require!(hierarchy_of("pids").is_some(), "no controller pids here");
    let mut again = Command::new("sh");
    again.args(["-c", "for i in 1 2 3 4; do systemctl daemon-reexec || exit; done"]);
    let again = again.start();
    for limit in 10..20 {
        let container = scoped(Bundle::new().steps(&["sleep:1000"]));
        by_systemd(&container, "create").ok();
        container.verb("update", &["--pids-limit", &limit.to_string()], &[]).done().ok();
        assert_eq!(control("pids", &cgroup(&container), "pids.max", "pids.max"), limit.to_string());
        container.verb("delete", &["--force"], &[]).done().ok();
        assert!(host::cgroups_with(&container.id).is_empty());
    }
    again.wait().ok();
}

fn exec_joins_the_scope() {
    needs_systemd();
    let container = scoped(Bundle::new().steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    // With the flag of the engine and without: where the container is stands in its state.
    for flags in [&["--systemd-cgroup"][..], &[]] {
        let mut command = berth(flags);
        command.args(["exec", &container.id, "/bin/payload", "report"]);
        let report = Report::parse(&command.done().ok().stdout());
        let table = report["cgroup"].as_array().expect("lines").iter().filter_map(Value::as_str);
        let lines: Vec<&str> = table.filter(|line| line.contains(".scope")).collect();
        assert!(!lines.is_empty(), "{}", report["cgroup"]);
        assert!(lines.iter().all(|line| line.ends_with(&cgroup(&container))), "{lines:?}");
    }
    container.verb("pause", &[], &[]).done().ok();
    let refused = container.verb("exec", &[], &["/bin/true"]).done();
    assert!(refused.stderr().contains("paused container"), "{}", refused.describe());
    container.verb("resume", &[], &[]).done().ok();
}

/// By an administrator, behind our back.
fn a_scope_that_was_stopped() {
    needs_systemd();
    // The first process of a pid namespace does not hear systemd's SIGTERM.
    let annotations = json!({ "org.systemd.property.TimeoutStopSec": "uint64 1" });
    let container = scoped(Bundle::new().set("/annotations", annotations).steps(&["sleep:1000"]));
    by_systemd(&container, "create").ok();
    container.verb("start", &[], &[]).done().ok();
    systemctl(&["stop", &unit(&container)]);
    container.await_status("stopped");
    container.verb("update", &["--pids-limit", "5"], &[]).done().fails("container not running");
    container.verb("delete", &[], &[]).done().ok();
    assert_eq!(show(&container, "LoadState"), "not-found");
}

fn a_scope_that_failed_is_used_again() {
    needs_systemd();
    let container = scoped(Bundle::new().steps(&["exit:0"]));
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--quiet", "--property", "RuntimeMaxSec=1", "--unit"]).arg(unit(&container));
    command.args(["sleep", "1000"]);
    command.done();
    assert!(
        await_condition(|| show(&container, "ActiveState") == "failed"),
        "{}",
        show(&container, "ActiveState")
    );
    by_systemd(&container, "run").ok();
    assert_eq!(show(&container, "LoadState"), "not-found");
}

/// Init mounts while systemd makes the scope, and may be gone when systemd asks for it.
fn an_early_death_is_told() {
    needs_systemd();
    let container = scoped(Bundle::new().symlink("/nowhere", "/proc"));
    let refused = by_systemd(&container, "run").fails("/proc");
    assert!(!refused.stderr().contains("StartTransientUnit"), "{}", refused.stderr());
    assert_eq!(show(&container, "LoadState"), "not-found");
    assert!(host::cgroups_with(&container.id).is_empty());
}

fn running_out_of_memory_is_an_event() {
    needs_systemd();
    needs_controllers();
    let limits = json!({ "limit": 40 << 20, "swap": 40 << 20 });
    let bundle = Bundle::new().set("/linux/resources/memory", limits);
    let container = scoped(bundle.steps(&["touch-memory:200", "sleep:1000"]));
    by_systemd(&container, "create").ok();
    let events = container.verb("events", &["--interval", "20ms"], &[]).start();
    assert!(await_condition(|| !events.stdout().is_empty()));
    container.verb("start", &[], &[]).done().ok();
    events.await_stdout("\"oom\"");
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
    events.wait().ok();
}
