//! Default devices and links, linux.devices, and the device filter of the cgroup on both versions.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::tests;
use std::fs;

tests! {
    no_cgroup_at_all_is_no_way_around,
    default_devices, default_links, listed_devices_are_made, owner_and_mode_of_a_device, fifo_device,
    node_that_does_not_match_is_refused, node_that_matches_is_taken, device_filter_denies, device_filter_allows_what_is_listed,
    device_filter_by_access, device_filter_last_rule_counts, device_filter_wildcard_minor, default_devices_are_always_allowed,
    devices_in_a_user_namespace, renamed_device_in_a_user_namespace, device_below_a_missing_directory, no_core_link_without_kcore, device_of_an_unknown_type_is_refused,
}

const DEFAULT: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn with_mknod() -> Bundle {
    Bundle::new().capabilities(&["bounding", "effective", "permitted"], &["CAP_MKNOD"])
}

fn assert_device(node: &Value, name: &str, major: u64, minor: u64) {
    assert_eq!(
        (&node["type"], &node["major"], &node["minor"]),
        (&json!("c"), &json!(major), &json!(minor)),
        "{name}: {node}"
    );
}

fn default_devices() {
    let opens: Vec<String> = DEFAULT
        .iter()
        .filter(|(name, ..)| *name != "tty")
        .map(|(name, ..)| format!("open:/dev/{name}:rw"))
        .collect();
    let report = Bundle::new().report_after(&opens.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, major, minor) in DEFAULT {
        assert_device(&report["dev"][name], name, major, minor);
        assert_eq!(
            (&report["dev"][name]["mode"], &report["dev"][name]["uid"]),
            (&json!("0666"), &json!(0)),
            "{name}"
        );
    }
    for open in &opens {
        assert_eq!(report.probe(open), "ok", "{open}");
    }
    let mut names: Vec<&str> = report["dev"]
        .as_object()
        .expect("dev")
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "core")
        .collect();
    names.sort_unstable();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
    assert_eq!(names, expected, "nothing else");
}

fn default_links() {
    let report = Bundle::new().report();
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        assert_eq!(report["links"][path], target, "{path}");
    }
}

/// /dev/core only where the host's /proc/kcore exists.
fn no_core_link_without_kcore() {
    let report = Bundle::new().report();
    let expected =
        if fs::exists("/proc/kcore").unwrap_or(false) { json!("/proc/kcore") } else { Value::Null };
    assert_eq!(report["links"]["/dev/core"], expected);
}

fn listed_devices_are_made() {
    let report = with_mknod()
        .push("/linux/devices", json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0 }))
        .push("/linux/devices", json!({ "path": "/dev/disk", "type": "b", "major": 7, "minor": 99 }))
        .push("/linux/devices", json!({ "path": "/dev/raw", "type": "u", "major": 1, "minor": 3 }))
        .report();
    assert_device(&report["dev"]["fuse"], "fuse", 10, 229);
    assert_device(&report["dev"]["raw"], "raw", 1, 3);
    let disk = &report["dev"]["disk"];
    assert_eq!((&disk["type"], &disk["major"], &disk["minor"]), (&json!("b"), &json!(7), &json!(99)));
}

fn owner_and_mode_of_a_device() {
    let device = json!({ "path": "/dev/owned", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 12, "gid": 34 });
    // The umask of the caller must not matter.
    let report = Bundle::new().push("/linux/devices", device).set("/process/user/umask", 0o77).report();
    let node = &report["dev"]["owned"];
    assert_eq!((&node["mode"], &node["uid"], &node["gid"]), (&json!("0640"), &json!(12), &json!(34)));
}

fn fifo_device() {
    let report = Bundle::new()
        .push("/linux/devices", json!({ "path": "/dev/pipe", "type": "p", "fileMode": 0o600 }))
        .report();
    assert_eq!(
        (&report["dev"]["pipe"]["type"], &report["dev"]["pipe"]["mode"]),
        (&json!("p"), &json!("0600"))
    );
}

fn device_of_an_unknown_type_is_refused() {
    Bundle::new()
        .push("/linux/devices", json!({ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }))
        .refused("");
}

/// config-linux.md, Devices: an existing file that does not match is an error. runc and crun pass over it.
fn node_that_does_not_match_is_refused() {
    let device = json!({ "path": "/nodes/one", "type": "c", "major": 1, "minor": 5 });
    let bundle = Bundle::new().file("/nodes/one", "a file", 0o644).push("/linux/devices", device);
    let rootfs = bundle.rootfs();
    bundle.refused("/nodes/one");
    assert_eq!(fs::read_to_string(rootfs.join("nodes/one")).expect("file"), "a file");
}

fn node_that_matches_is_taken() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let bundle = Bundle::new().directory("/nodes").push(
        "/linux/devices",
        json!({ "path": "/nodes/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600 }),
    );
    mknod(
        &bundle.rootfs().join("nodes/zero"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 5),
    )
    .expect("mknod");
    let report = bundle.report_after(&["stat:/nodes/zero"]);
    assert_device(report.probe("stat:/nodes/zero"), "zero", 1, 5);
}

/// GHSA-g54h-m393-cpwq: the list must deny what it does not name.
fn device_filter_denies() {
    for report in [with_mknod().report_after(&["device:c:10:229", "device:b:7:0", "device:c:1:1"])] {
        for step in ["device:c:10:229", "device:b:7:0", "device:c:1:1"] {
            let result = report.probe(step);
            assert!(result == "open EPERM" || result == "mknod EPERM", "{step}: {result}");
        }
    }
}

fn device_filter_allows_what_is_listed() {
    let rules = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm" }]);
    let report = with_mknod()
        .set("/linux/resources/devices", rules)
        .report_after(&["device:c:10:200", "device:c:10:229"]);
    let allowed = report.probe("device:c:10:200");
    assert!(!allowed.as_str().is_some_and(|text| text.ends_with("EPERM")), "{allowed}");
    assert!(report.probe("device:c:10:229").as_str().is_some_and(|text| text.ends_with("EPERM")));
}

fn device_filter_by_access() {
    // 10:229 (/dev/fuse) is in no default list, and anyone may open it.
    let rules = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rm" }]);
    let report = with_mknod().set("/linux/resources/devices", rules).report_after(&[
        "device:c:10:229:r",
        "device:c:10:229:w",
        "device:c:10:229:rw",
    ]);
    assert_eq!(report.probe("device:c:10:229:r"), "ok");
    assert_eq!(report.probe("device:c:10:229:w"), "open EPERM");
    assert_eq!(report.probe("device:c:10:229:rw"), "open EPERM");
}

fn device_filter_last_rule_counts() {
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
        { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "w" },
    ]);
    let report = with_mknod()
        .set("/linux/resources/devices", rules)
        .report_after(&["device:c:10:229:r", "device:c:10:229:w"]);
    assert_eq!(
        (report.probe("device:c:10:229:r"), report.probe("device:c:10:229:w")),
        (&json!("ok"), &json!("open EPERM"))
    );
}

fn device_filter_wildcard_minor() {
    let rules = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "access": "rwm" }]);
    let report = with_mknod()
        .set("/linux/resources/devices", rules)
        .report_after(&["device:c:10:229:r", "device:b:7:0"]);
    assert_eq!(report.probe("device:c:10:229:r"), "ok");
    assert!(report.probe("device:b:7:0").as_str().is_some_and(|text| text.ends_with("EPERM")));
}

/// config-linux.md, Default Devices, and what the engines rely on: mknod of anything, use of the default ones.
fn default_devices_are_always_allowed() {
    let report = with_mknod().report_after(&[
        "device:c:1:3",
        "device:c:1:5",
        "device:c:1:7",
        "device:c:1:8:r",
        "device:c:1:9:r",
    ]);
    for step in ["device:c:1:3", "device:c:1:5", "device:c:1:7", "device:c:1:8:r", "device:c:1:9:r"] {
        assert_eq!(report.probe(step), "ok", "{step}");
    }
}

fn devices_in_a_user_namespace() {
    let report = Bundle::new().user_namespace(100_000, 65_536).report_after(&[
        "open:/dev/null:rw",
        "open:/dev/zero:r",
        "device:c:1:3",
    ]);
    for (name, major, minor) in DEFAULT {
        assert_device(&report["dev"][name], name, major, minor);
    }
    assert_eq!(
        (report.probe("open:/dev/null:rw"), report.probe("open:/dev/zero:r")),
        (&json!("ok"), &json!("ok"))
    );
    assert_eq!(report.probe("device:c:1:3"), "mknod EPERM");
}

/// Docker writes the container's path alone: `--device /dev/zero:/dev/nothing/but` under `userns-remap`.
fn renamed_device_in_a_user_namespace() {
    let device = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor });
    let bundle = || Bundle::new().user_namespace(100_000, 65_536);
    // The host has another device at the third path.
    let report = bundle()
        .push("/linux/devices", device("/dev/nothing/but", 5))
        .push("/linux/devices", device("/dev/brimful", 7))
        .push("/linux/devices", device("/dev/random", 9))
        .report_after(&["stat:/dev/nothing/but", "stat:/dev/brimful", "stat:/dev/random"]);
    assert_device(report.probe("stat:/dev/nothing/but"), "nothing/but", 1, 5);
    assert_device(report.probe("stat:/dev/brimful"), "brimful", 1, 7);
    assert_device(report.probe("stat:/dev/random"), "random", 1, 9);
    bundle().push("/linux/devices", device("/dev/nothing", 4000)).refused("open(the host's /dev/nothing)");
}

fn device_below_a_missing_directory() {
    let device = json!({ "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666 });
    let report = Bundle::new().push("/linux/devices", device).report_after(&["stat:/dev/net/tun"]);
    assert_device(report.probe("stat:/dev/net/tun"), "tun", 10, 200);
}

/// Without a hierarchy nobody would keep the container from the devices that it makes.
fn no_cgroup_at_all_is_no_way_around() {
    let container = Bundle::new().without_mount("/sys/fs/cgroup").container();
    let run = container.command("run", &[]);
    let mut alone = std::process::Command::new("unshare");
    alone.args(["-m", "sh", "-c", "umount -l -R /sys/fs/cgroup && exec \"$@\"", "sh"]);
    alone.arg(run.get_program()).args(run.get_args());
    alone.done().fails("linux.resources.devices needs the cgroup controller devices");
}
