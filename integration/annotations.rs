//! Annotations that ask for what config.json has no field for.

use crate::harness::program::Bounded;
use crate::harness::terminal::ConsoleSocket;
use crate::harness::*;
use crate::tests;
use std::fs;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

tests! { keep_original_groups, pidfd_receiver, seccomp_receiver, an_engine_is_told_that_they_are_unsafe }

/// What Podman's `--group-add keep-groups` becomes.
fn keep_original_groups() {
    let groups = |bundle: Bundle, additional: Value| {
        let container = bundle.set("/process/user/additionalGids", additional).container();
        let berth = container.command("run", &[]);
        let mut command = Command::new("setpriv");
        command.args(["--groups", "5,6"]).arg(berth.get_program()).args(berth.get_args());
        command.stdin(Stdio::null());
        let done = command.done().ok();
        (Report::parse(&done.stdout())["groups"].clone(), done.stderr())
    };
    let keeping =
        |value: &str| Bundle::new().set("/annotations", json!({ "run.oci.keep_original_groups": value }));
    assert_eq!(groups(Bundle::new(), json!([])).0, json!([]));
    assert_eq!(groups(keeping("0"), json!([7])).0, json!([7]));
    assert_eq!(groups(keeping("1"), json!([])).0, json!([5, 6]));
    let (kept, warning) = groups(keeping("1"), json!([7]));
    assert_eq!(kept, json!([5, 6]));
    assert!(warning.contains("additionalGids: ignored"), "{warning}");
}

fn pidfd_receiver() {
    let socket = ConsoleSocket::new();
    let annotations = json!({ "run.oci.pidfd_receiver": socket.path });
    let mut container = Bundle::new().set("/annotations", annotations).steps(&["sleep:1000"]).container();
    container.create();
    let message = socket.receive();
    assert_eq!(message.descriptors.len(), 1);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", message.descriptors[0].as_raw_fd()));
    assert!(info.expect("fdinfo").contains(&format!("Pid:\t{}\n", container.pid())));
}

/// As linux.seccomp.listenerPath, which did not exist when crun began with it.
fn seccomp_receiver() {
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_NOTIFY" }]);
    let bundle = || Bundle::new().seccomp("SCMP_ACT_ALLOW", rules.clone()).steps(&["echo:ran"]);
    bundle().refused("linux.seccomp.listenerPath");
    let socket = ConsoleSocket::new();
    let container =
        bundle().set("/annotations", json!({ "run.oci.seccomp.receiver": socket.path })).container();
    assert_eq!(container.run().ok().stdout(), "ran\n");
    let message = socket.receive();
    assert_eq!(message.descriptors.len(), 1);
    let state: Value = serde_json::from_slice(&message.payload).expect("the state of the process");
    assert_eq!((&state["fds"], &state["state"]["id"]), (&json!(["seccompFd"]), &json!(container.id)));
}

fn an_engine_is_told_that_they_are_unsafe() {
    let features: Value =
        serde_json::from_str(&program::berth(&["features"]).done().ok().stdout()).expect("features");
    let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().expect("a list");
    assert!(listed.contains(&json!("run.oci.")), "{listed:?}");
}
