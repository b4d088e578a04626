//! `pause` and `resume`.

use crate::harness::host::{hierarchy_of, is_v2};
use crate::harness::program::{Bounded, await_condition, patience};
use crate::harness::*;
use crate::{require, tests};
use std::time::{Duration, Instant};

tests! {
    paused_processes_do_nothing, states_that_cannot_be_paused, a_created_container_can_be_paused, paused_containers_die,
    signals_wait_until_resume,
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
