//! `events`: figures and out-of-memory events, one JSON object per line.

use crate::harness::host::{hierarchy_of, is_v2};
use crate::harness::program::{Bounded, await_condition};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::process::Command;

tests! { stats_once, stats_at_an_interval_until_the_end, a_cgroup_goes_while_it_is_read, oom_is_an_event, not_running }

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn stats_once() {
    require!(hierarchy_of("pids").is_some(), "no controller pids here");
    let limits = json!({ "limit": 9 });
    let mut container = Bundle::new().steps(&["sleep:1000"]).set("/linux/resources/pids", limits).container();
    container.up();
    let events = lines(&container.verb("events", &["--stats"], &[]).done().ok().stdout());
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id)));
    let data = &event["data"];
    assert_eq!(data["pids"], json!({ "current": 1, "limit": 9 }));
    for (controller, pointer) in [("memory", "/memory/usage/usage"), ("cpuacct", "/cpu/usage/total")] {
        if hierarchy_of(controller).is_some() {
            assert!(data.pointer(pointer).and_then(Value::as_u64).is_some_and(|value| value > 0), "{data}");
        }
    }
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(data.get(key).is_some(), "{key}: {data}");
    }
}

fn stats_at_an_interval_until_the_end() {
    require!(hierarchy_of("memory").is_some(), "no controller memory here");
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.up();
    let running = container.verb("events", &["--interval", "50ms"], &[]).start();
    assert!(await_condition(|| running.stdout().lines().count() >= 3), "{}", running.stdout());
    // Ends by itself when the container does.
    container.finish();
    let done = running.wait().ok();
    assert!(lines(&done.stdout()).iter().all(|event| event["type"] == "stats"), "{}", done.stdout());
}

/// `delete` removes v1's hierarchies one by one, in memory's it is still there then.
fn a_cgroup_goes_while_it_is_read() {
    require!(!is_v2(), "only on cgroup v1");
    let pids = hierarchy_of("pids").expect("pids");
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.up();
    let leaf = pids.join(container.bundle.cgroup_path().trim_start_matches('/'));
    let read = leaf.join("pids.current");
    let trace = container.bundle.path.join("trace");
    let command = container.verb("events", &["--interval", "20ms"], &[]);
    let mut strace = Command::new("strace");
    // Time for the removal between open and read.
    strace.args(["-qq", "-e", "trace=read", "-e", "inject=read:delay_enter=1000000", "-P"]).arg(&read);
    strace.arg("-o").arg(&trace).arg(command.get_program()).args(command.get_args());
    let running = strace.start();
    let calls = || fs::read_to_string(&trace).unwrap_or_default();
    let reads = |calls: String| calls.lines().next_back().is_some_and(|last| !last.contains('='));
    assert!(await_condition(|| reads(calls())), "{}", calls());
    let above = leaf.parent().expect("above").join("cgroup.procs");
    fs::write(&above, container.pid().to_string()).expect("moved away");
    fs::remove_dir(&leaf).expect("removed");
    // The next ones are without it.
    let told = |count| running.stdout().lines().count() >= count;
    assert!(await_condition(|| told(3)), "{}", running.stdout());
    assert!(calls().contains("ENODEV"), "{}", calls());
    container.finish();
    let done = running.wait().ok();
    assert!(lines(&done.stdout()).iter().all(|event| event["type"] == "stats"), "{}", done.stdout());
}

fn oom_is_an_event() {
    require!(hierarchy_of("memory").is_some(), "no controller memory here");
    let limits = json!({ "limit": 40 << 20, "swap": 40 << 20 });
    let mut container = Bundle::new()
        .set("/linux/resources/memory", limits)
        .steps(&["touch-memory:200", "sleep:1000"])
        .container();
    container.create();
    let running = container.verb("events", &["--interval", "20ms"], &[]).start();
    // The first figures come when it watches.
    assert!(await_condition(|| !running.stdout().is_empty()));
    container.start();
    container.await_status("stopped");
    running.await_stdout("\"oom\"");
    container.verb("delete", &[], &[]).done().ok();
    let events = lines(&running.wait().ok().stdout());
    let oom = events.iter().find(|event| event["type"] == "oom").expect("an oom event");
    assert_eq!(*oom, json!({ "type": "oom", "id": container.id }));
}

fn not_running() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.verb("events", &["--stats"], &[]).done().fails("does not exist");
    container.up();
    container.await_status("stopped");
    container.verb("events", &["--stats"], &[]).done().fails("is not running");
    container.verb("events", &[], &[]).done().fails("is not running");
    container.verb("events", &["--interval", "0s"], &[]).done().fails("is not a duration");
}
