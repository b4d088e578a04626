//! `features`: JSON that engines read, and that keeps its promises.

use crate::harness::program::{Bounded, berth};
use crate::harness::*;
use crate::tests;

tests! { engines_find_what_they_look_for, it_has_nothing_undefined, promised_options_are_taken, promised_names_are_taken }

fn features() -> Value {
    let done = berth(&["features"]).done().ok();
    assert_eq!(done.stderr(), "");
    serde_json::from_str(&done.stdout()).expect("JSON")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|name| name.as_str().expect("a name")).collect()
}

fn engines_find_what_they_look_for() {
    let features = features();
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
    let linux = &features["linux"];
    // containerd: user namespaces for pods.
    assert!(names(&linux["namespaces"]).contains(&"user"));
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    // containerd and CRI-O: recursive read-only mounts.
    assert!(names(&features["mountOptions"]).contains(&"rro"));
    assert_eq!(names(&features["hooks"]).len(), 6);
    assert_eq!(names(&linux["capabilities"]).len(), 41);
    for version in ["v1", "v2", "systemd", "systemdUser", "rdma"] {
        assert_eq!(linux["cgroup"][version], true, "{version}");
    }
    let seccomp = &linux["seccomp"];
    assert_eq!(seccomp["enabled"], true);
    for (list, name) in [
        ("actions", "SCMP_ACT_NOTIFY"),
        ("actions", "SCMP_ACT_KILL_PROCESS"),
        ("operators", "SCMP_CMP_MASKED_EQ"),
        ("archs", "SCMP_ARCH_X86_64"),
        ("knownFlags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
        ("supportedFlags", "SECCOMP_FILTER_FLAG_LOG"),
    ] {
        assert!(names(&seccomp[list]).contains(&name), "{list}: {}", seccomp[list]);
    }
}

/// "The Features structure MUST NOT contain properties that are not defined" (features.md).
fn it_has_nothing_undefined() {
    let features = features();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().expect("an object").keys().cloned().collect() };
    let mut known = vec![
        "annotations",
        "hooks",
        "linux",
        "mountOptions",
        "ociVersionMax",
        "ociVersionMin",
        "potentiallyUnsafeConfigAnnotations",
    ];
    assert!(keys(&features).iter().all(|key| known.contains(&key.as_str())), "{features}");
    known = vec![
        "apparmor",
        "capabilities",
        "cgroup",
        "intelRdt",
        "memoryPolicy",
        "mountExtensions",
        "namespaces",
        "netDevices",
        "seccomp",
        "selinux",
    ];
    assert_eq!(keys(&features["linux"]), known);
}

/// What is not understood would go to the filesystem, which refuses it.
fn promised_options_are_taken() {
    let features = features();
    let all = names(&features["mountOptions"]);
    let ordinary = |name: &&str| {
        // They need more than a tmpfs: a source, maps, a filesystem that knows them.
        !["bind", "rbind", "idmap", "ridmap", "mand", "acl", "noacl", "iversion"].contains(name)
            && !name.contains("unbindable")
            && !["copy-symlink", "src-nofollow", "remount"].contains(name)
    };
    for name in all.into_iter().filter(ordinary) {
        let report = Bundle::new().directory("/mnt").mount("/mnt", "tmpfs", "tmpfs", &[name]).report();
        assert!(report.mount("/mnt").is_some(), "{name}");
    }
}

fn promised_names_are_taken() {
    let features = features();
    let seccomp = &features["linux"]["seccomp"];
    let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [] });
    profile["architectures"] = seccomp["archs"].clone();
    profile["flags"] = seccomp["supportedFlags"].clone();
    for action in names(&seccomp["actions"]).into_iter().filter(|action| *action != "SCMP_ACT_NOTIFY") {
        for op in names(&seccomp["operators"]) {
            let rule = json!({ "names": ["swapon"], "action": action, "args": [{ "index": 0, "op": op, "value": 1 }] });
            profile["syscalls"].as_array_mut().expect("rules").push(rule);
        }
    }
    let capabilities = names(&features["linux"]["capabilities"]);
    Bundle::new().set("/linux/seccomp", profile).capabilities(&["bounding"], &capabilities).report();
}
