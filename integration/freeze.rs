//! `pause` and `resume`.

use crate::harness::host::{hierarchy_of, is_v2};
use crate::harness::program::{Bounded, await_condition, patience};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::time::{Duration, Instant};

tests! {
    paused_processes_do_nothing, states_that_cannot_be_paused, a_created_container_can_be_paused, paused_containers_die,
    what_a_container_has_frozen_dies, signals_wait_until_resume,
}

fn needs_a_freezer() {
    require!(is_v2() || hierarchy_of("freezer").is_some(), "no controller freezer here");
}

/// The processor time of a process so far, in ticks.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

fn paused_processes_do_nothing() {
    needs_a_freezer();
    let mut container = Bundle::new().steps(&["spin:1000"]).container();
    container.up();
    let pid = container.pid();
    assert!(await_condition(|| ticks(pid) > 2), "it runs");
    container.verb("pause", &[], &[]).done().ok();
    assert_eq!(container.status(), "paused");
    let before = ticks(pid);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ticks(pid), before);
    container.verb("pause", &[], &[]).done().fails("container not running");
    container.verb("resume", &[], &[]).done().ok();
    assert_eq!(container.status(), "running");
    assert!(await_condition(|| ticks(pid) > before), "it runs again");
    container.verb("resume", &[], &[]).done().fails("container not paused");
}

fn states_that_cannot_be_paused() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.verb("pause", &[], &[]).done().fails("does not exist");
    container.up();
    container.await_status("stopped");
    container.verb("pause", &[], &[]).done().fails("container not running");
    container.verb("resume", &[], &[]).done().fails("container not paused");
}

fn a_created_container_can_be_paused() {
    needs_a_freezer();
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.create();
    container.verb("pause", &[], &[]).done().ok();
    assert_eq!(container.status(), "paused");
    container.verb("start", &[], &[]).done().fails("cannot start a container in the paused state");
    container.verb("resume", &[], &[]).done().ok();
    assert_eq!(container.status(), "created");
    container.start();
    assert_eq!(container.status(), "running");
}

fn paused_containers_die() {
    needs_a_freezer();
    for own_pid_namespace in [true, false] {
        let mut bundle = Bundle::new().steps(&["background:sleep:1000", "sleep:1000"]);
        if !own_pid_namespace {
            bundle = bundle.without_namespace("pid");
        }
        let mut container = bundle.container();
        container.up();
        container.verb("pause", &[], &[]).done().ok();
        container.kill("KILL");
        container.await_status("stopped");
        let mut forced = Bundle::new().steps(&["sleep:1000"]).container();
        forced.up();
        forced.verb("pause", &[], &[]).done().ok();
        let before = Instant::now();
        forced.verb("delete", &["--force"], &[]).done().ok();
        assert!(before.elapsed() < patience() / 2, "delete waited");
    }
}

/// A container that may write to its cgroups freezes one below its own: on cgroup v1 nothing in it would die.
fn what_a_container_has_frozen_dies() {
    needs_a_freezer();
    let (mountpoint, file, frozen) = match is_v2() {
        true => (host::hierarchies()[0].mountpoint.clone(), "cgroup.freeze", "1"),
        false => (hierarchy_of("freezer").expect("a freezer"), "freezer.state", "FROZEN"),
    };
    for own_pid_namespace in [true, false] {
        for ending in ["kill", "delete"] {
            let mut bundle = Bundle::new().steps(&["background:sleep:1000", "echo:begun", "sleep:1000"]);
            if !own_pid_namespace {
                bundle = bundle.without_namespace("pid");
            }
            let mut container = bundle.container();
            container.up();
            container.await_output("begun");
            let own = mountpoint.join(container.bundle.cgroup_path().trim_start_matches('/'));
            let pids = fs::read_to_string(own.join("cgroup.procs")).expect("cgroup.procs");
            let background = pids.lines().find(|pid| **pid != container.pid().to_string());
            let nested = own.join("frozen");
            fs::create_dir(&nested).expect("a nested cgroup");
            fs::write(nested.join("cgroup.procs"), background.expect("its child")).expect("cgroup.procs");
            fs::write(nested.join(file), frozen).expect(file);
            assert_eq!(container.status(), "running");
            let before = Instant::now();
            if ending == "kill" {
                container.kill("KILL");
                container.await_status("stopped");
                container.verb("delete", &[], &[]).done().ok();
            } else {
                container.verb("delete", &["--force"], &[]).done().ok();
            }
            assert!(before.elapsed() < patience() / 2, "{ending} waited");
        }
    }
}

fn signals_wait_until_resume() {
    needs_a_freezer();
    let mut container = Bundle::new().steps(&["signals:SIGTERM"]).container();
    container.up();
    container.await_output("ready");
    container.verb("pause", &[], &[]).done().ok();
    container.kill("TERM");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(container.status(), "paused");
    container.verb("resume", &[], &[]).done().ok();
    container.await_status("stopped");
    assert!(container.output().contains("SIGTERM"));
}
