//! exec: the namespaces and the cgroup that it enters.

use crate::exec::{exec, refused, report, same_namespaces, sleeper, up};
use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};
use std::fs;

tests! {
    namespaces_are_those_of_init, joins_a_user_namespace, joins_a_time_and_a_cgroup_namespace,
    follows_init_into_its_namespaces, root_without_a_mount_namespace, cgroup_is_that_of_init, cgroup_below,
    sibling_cgroup_with_the_same_prefix, cgroup_of_init_when_the_containers_takes_no_process,
}

fn namespaces_are_those_of_init() {
    let container = up(sleeper());
    let (init, exec) = (container.started_report(), report(&container, &[], &[]));
    same_namespaces(&init, &exec);
    assert_ne!(exec["pid"], 1);
    assert_eq!(exec["ppid"], 0, "its parent is outside of the pid namespace");
    assert_eq!((&exec["sid"], &exec["pgid"]), (&exec["pid"], &exec["pid"]), "a session of its own");
    assert_eq!(exec["mounts"], init["mounts"]);
    assert_eq!(exec["hostname"], "berth-test");
}

fn joins_a_user_namespace() {
    let bundle = sleeper().user_namespace(100_000, 65536);
    let container = up(bundle.set("/process/oomScoreAdj", 500));
    let (init, exec) = (container.started_report(), report(&container, &["--user", "7:8"], &[]));
    same_namespaces(&init, &exec);
    assert_eq!((&exec["uid"][0], &exec["gid"][0]), (&json!(7), &json!(8)));
    assert_eq!(exec["uid_map"], init["uid_map"]);
    assert_eq!(exec["oom_score_adj"], "500");
    assert_eq!(exec["groups"], json!([]));
}

fn joins_a_time_and_a_cgroup_namespace() {
    let bundle = sleeper().namespace("time", None).namespace("cgroup", None);
    let container = up(bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 100_000 } })));
    let (init, exec) = (container.started_report(), report(&container, &[], &[]));
    same_namespaces(&init, &exec);
    assert_eq!(exec["cgroup"], init["cgroup"]);
    assert!(exec["clocks"]["boottime"].as_i64() > Some(100_000), "{}", exec["clocks"]);
}

/// Where init is now counts, not what config.json says.
fn follows_init_into_its_namespaces() {
    let bundle = Bundle::new()
        .steps(&["unshare-uts", "report", "echo:started", "sleep:1000"])
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    let container = up(bundle);
    let init = container.started_report();
    assert_eq!(init.probe("unshare-uts"), "ok");
    same_namespaces(&init, &report(&container, &[], &[]));
}

fn root_without_a_mount_namespace() {
    let bundle = sleeper().without_namespace("mount").remove("/mounts").remove("/linux/maskedPaths");
    let container = up(bundle.set("/mounts", json!([])));
    let done = exec(&container, &[], &["list:/", "report"]).done().ok();
    // Without a procfs its report holds little, but what it lists is the rootfs.
    let report = Report::parse(&done.stdout());
    assert_eq!(report.probe("list:/"), &json!(["bin", "dev", "etc", "proc", "run", "sys", "tmp"]));
    assert_eq!(report["cwd"]["Ok"], "/");
}

fn cgroup_is_that_of_init() {
    let container = up(sleeper());
    let (init, exec) = (container.started_report(), report(&container, &[], &[]));
    assert_eq!(exec["cgroup"], init["cgroup"]);
    assert!(init["cgroup"].to_string().contains("berth-test"), "{}", init["cgroup"]);
}

/// The container's cgroup in each hierarchy, with a suffix.
fn cgroups_of(container: &Container, suffix: &str) -> Vec<std::path::PathBuf> {
    let path = format!("{}{suffix}", container.bundle.cgroup_path());
    let all = host::hierarchies();
    all.iter().map(|hierarchy| hierarchy.mountpoint.join(path.trim_start_matches('/'))).collect()
}

/// A cgroup v1 cpuset takes no process without its values.
fn make_cgroup(path: &std::path::Path) {
    fs::create_dir(path).expect("a cgroup");
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let (true, Ok(text)) =
            (path.join("tasks").exists(), fs::read_to_string(path.parent().expect("a parent").join(file)))
        {
            fs::write(path.join(file), text.trim()).expect("cpuset");
        }
    }
}

/// Where it is in the hierarchies that the suite has cgroups in: beside cgroup2 /proc shows those of v1 too.
fn lines_of_the_suite(report: &Report) -> Vec<&str> {
    let lines = report["cgroup"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let lines: Vec<&str> = lines.filter(|line| line.contains("/berth-test/")).collect();
    assert!(!lines.is_empty(), "{}", report["cgroup"]);
    lines
}

fn cgroup_below() {
    let container = up(sleeper());
    for path in cgroups_of(&container, "/below") {
        make_cgroup(&path);
    }
    let inside = report(&container, &["--cgroup", "/below"], &[]);
    for line in lines_of_the_suite(&inside) {
        assert!(line.ends_with("/below"), "{line}");
    }
    let done = exec(&container, &["--cgroup", "missing"], &["echo:ran"]).done();
    refused(&done, "missing");
    for below in ["nonsense:below", "a:below", ":below", ","] {
        let done = exec(&container, &["--cgroup", below], &["echo:ran"]).done();
        refused(&done, "cgroup");
    }
    if !host::is_v2() {
        let inside = report(&container, &["--cgroup", "memory:below"], &[]);
        for line in lines_of_the_suite(&inside) {
            assert_eq!(line.ends_with("/below"), line.contains("memory"), "{line}");
        }
    }
    host::remove_cgroups(cgroups_of(&container, "/below"));
}

/// runc#5457: a path that begins with the container's is not below it.
fn sibling_cgroup_with_the_same_prefix() {
    let container = up(sleeper());
    let siblings = cgroups_of(&container, "-sibling");
    for path in &siblings {
        make_cgroup(path);
    }
    let name = format!("{}-sibling", container.bundle.path.file_name().expect("name").to_string_lossy());
    for below in [format!("../{name}"), format!("/../{name}"), "..".into(), "/".to_owned() + "a/../.."] {
        let done = exec(&container, &["--cgroup", &below], &["echo:ran"]).done();
        refused(&done, &format!("{below} is not a sub cgroup path"));
    }
    host::remove_cgroups(siblings);
}

/// What systemd does in a container: it moves itself down and enables controllers for its children.
fn cgroup_of_init_when_the_containers_takes_no_process() {
    require!(host::is_v2(), "only on cgroup v2");
    let container = up(sleeper());
    let own = cgroups_of(&container, "").remove(0);
    let down = own.join("init.scope");
    fs::create_dir(&down).expect("a cgroup");
    fs::write(down.join("cgroup.procs"), container.pid().to_string()).expect("move init");
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).expect("controllers");
    let one = controllers.split_whitespace().next().unwrap_or_default().to_owned();
    require!(!one.is_empty(), "not a controller of cgroup v2 here");
    fs::write(own.join("cgroup.subtree_control"), format!("+{one}")).expect("enable a controller");
    let inside = report(&container, &[], &[]);
    assert!(inside["cgroup"].to_string().contains("/init.scope"), "{}", inside["cgroup"]);
}
