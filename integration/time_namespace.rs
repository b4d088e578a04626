//! linux.timeOffsets.

use crate::harness::*;
use crate::{require, tests};

tests! { clocks_are_moved, offsets_without_the_namespace_are_refused, namespace_without_offsets, joined_time_namespace, unknown_clock_is_refused }

fn needs_time_namespaces() {
    require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespaces here");
}

fn seconds(id: nix::time::ClockId) -> i64 {
    nix::time::clock_gettime(id).expect("clock").tv_sec()
}

fn clocks_are_moved() {
    needs_time_namespaces();
    let offsets =
        json!({ "boottime": { "secs": 1_000_000, "nanosecs": 5 }, "monotonic": { "secs": 2_000_000 } });
    let report = Bundle::new().namespace("time", None).set("/linux/timeOffsets", offsets).report();
    assert_ne!(report.namespace("time"), host::namespace("self", "time"));
    let inside = |name: &str| report["clocks"][name].as_i64().expect("a clock");
    let moved = |inside: i64, outside: i64| inside - outside;
    assert!(
        (999_900..=1_000_001)
            .contains(&moved(inside("boottime"), seconds(nix::time::ClockId::CLOCK_BOOTTIME)))
    );
    assert!(
        (1_999_900..=2_000_001)
            .contains(&moved(inside("monotonic"), seconds(nix::time::ClockId::CLOCK_MONOTONIC)))
    );
}

fn offsets_without_the_namespace_are_refused() {
    Bundle::new().set("/linux/timeOffsets", json!({ "boottime": { "secs": 1 } })).refused("timeOffsets");
}

fn namespace_without_offsets() {
    needs_time_namespaces();
    let report = Bundle::new().namespace("time", None).report();
    assert_ne!(report.namespace("time"), host::namespace("self", "time"));
}

fn joined_time_namespace() {
    needs_time_namespaces();
    let mut first = Bundle::new()
        .namespace("time", None)
        .set("/linux/timeOffsets", json!({ "boottime": { "secs": 500_000 } }))
        .steps(&["sleep:1000"])
        .container();
    first.up();
    let path = format!("/proc/{}/ns/time", first.pid());
    let report = Bundle::new().namespace("time", Some(&path)).report();
    assert_eq!(report.namespace("time"), host::namespace(&first.pid().to_string(), "time"));
    let inside = report["clocks"]["boottime"].as_i64().expect("a clock");
    assert!(inside - seconds(nix::time::ClockId::CLOCK_BOOTTIME) >= 499_900, "{inside}");
}

fn unknown_clock_is_refused() {
    Bundle::new()
        .namespace("time", None)
        .set("/linux/timeOffsets", json!({ "realtime": { "secs": 1 } }))
        .refused("realtime");
}
