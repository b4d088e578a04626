//! The five sets, for root and for a user.

use crate::harness::*;
use crate::tests;

tests! {
    sets_are_exactly_those_listed, no_capabilities_at_all, absent_capabilities_mean_none_or_all_dropped, ambient_for_a_user,
    user_keeps_permitted_until_exec, inheritable_only_when_listed, unknown_capability_is_a_warning, effective_subset_of_permitted,
    bounding_set_is_dropped, lower_case_names_are_not_accepted_silently, all_capabilities_of_the_kernel,
}

const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

fn none() -> Vec<String> {
    Vec::new()
}

fn sets_are_exactly_those_listed() {
    let bundle = || {
        Bundle::new()
            .capabilities(&["bounding"], &["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])
            .capabilities(&["permitted", "effective"], &["CAP_CHOWN", "CAP_KILL"])
    };
    let report = bundle().report();
    assert_eq!(report.capabilities("bounding"), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
    assert_eq!(report.capabilities("permitted"), ["CAP_CHOWN", "CAP_KILL"]);
    assert_eq!(report.capabilities("inheritable"), none());
    assert_eq!(report.capabilities("ambient"), none());
    // Without no_new_privs, execve by uid 0 gives bounding | inheritable to permitted (capabilities(7)).
    let report = bundle().set("/process/noNewPrivileges", false).report();
    assert_eq!(report.capabilities("permitted"), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
}

fn no_capabilities_at_all() {
    let report = Bundle::new().capabilities(&SETS, &[]).report();
    for set in SETS {
        assert_eq!(report.capabilities(set), none(), "{set}");
    }
}

fn absent_capabilities_mean_none_or_all_dropped() {
    let report = Bundle::new().set("/process/capabilities", json!({})).report();
    for set in SETS {
        assert_eq!(report.capabilities(set), none(), "{set}");
    }
}

fn ambient_for_a_user() {
    let report = Bundle::new()
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .capabilities(&SETS, &["CAP_NET_BIND_SERVICE", "CAP_KILL"])
        .report();
    for set in SETS {
        assert_eq!(report.capabilities(set), ["CAP_KILL", "CAP_NET_BIND_SERVICE"], "{set}");
    }
}

/// capabilities(7): without ambient ones a user's execve clears permitted and effective; CVE-2016-8867 was the reverse.
fn user_keeps_permitted_until_exec() {
    let report = Bundle::new()
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .capabilities(&["bounding", "permitted", "effective"], &["CAP_KILL"])
        .report();
    for set in ["permitted", "effective", "ambient", "inheritable"] {
        assert_eq!(report.capabilities(set), none(), "{set}");
    }
    assert_eq!(report.capabilities("bounding"), ["CAP_KILL"]);
}

fn inheritable_only_when_listed() {
    assert_eq!(Bundle::new().report().capabilities("inheritable"), none());
    let report = Bundle::new()
        .capabilities(&["bounding", "permitted", "effective", "inheritable"], &["CAP_KILL"])
        .report();
    assert_eq!(report.capabilities("inheritable"), ["CAP_KILL"]);
}

/// config.md, Capabilities: a name that cannot be mapped is a warning. crun fails.
fn unknown_capability_is_a_warning() {
    let names = ["CAP_KILL", "CAP_NONSENSE"];
    let container = Bundle::new().capabilities(&["bounding", "permitted", "effective"], &names).container();
    let done = container.run().ok();
    assert_eq!(Report::parse(&done.stdout()).capabilities("permitted"), ["CAP_KILL"]);
    let log = program::directory().join("log.json");
    let again = Bundle::new().capabilities(&["bounding", "permitted", "effective"], &names).container();
    again.bundle.write();
    let mut command = std::process::Command::new(program::path());
    command.arg("--root").arg(program::root()).arg("--log").arg(&log).args([
        "--log-format",
        "json",
        "run",
        "--bundle",
    ]);
    command.arg(&again.bundle.path).arg(&again.id).stdin(std::process::Stdio::null());
    program::Bounded::done(command).ok();
    let text = std::fs::read_to_string(&log).expect("log");
    let warning = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|line| line["level"] == "warning");
    assert!(
        warning.is_some_and(|line| line["msg"].as_str().is_some_and(|text| text.contains("CAP_NONSENSE"))),
        "{text}"
    );
}

fn effective_subset_of_permitted() {
    Bundle::new()
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .capabilities(&["bounding", "permitted"], &["CAP_KILL"])
        .capabilities(&["effective"], &["CAP_KILL", "CAP_CHOWN"])
        .refused("");
}

fn bounding_set_is_dropped() {
    let report = Bundle::new()
        .capabilities(&["bounding", "permitted", "effective"], &["CAP_CHOWN"])
        .report_after(&["mount:/tmp", "setuid:5"]);
    assert_eq!(report.capabilities("bounding"), ["CAP_CHOWN"]);
    assert_eq!(report.probe("mount:/tmp"), "EPERM");
    assert_eq!(report.probe("setuid:5"), "EPERM");
}

/// A list that was not understood must not become a wider set.
fn lower_case_names_are_not_accepted_silently() {
    let container =
        Bundle::new().capabilities(&["bounding", "permitted", "effective"], &["cap_kill"]).container();
    let done = container.run();
    if done.status.success() {
        let names = Report::parse(&done.stdout()).capabilities("permitted");
        assert!(names == ["CAP_KILL"] || names.is_empty(), "{names:?}");
    }
}

fn all_capabilities_of_the_kernel() {
    let own = caps::read(None, caps::CapSet::Bounding).expect("bounding set");
    let mut names: Vec<String> = own.iter().map(ToString::to_string).collect();
    names.sort();
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let report = Bundle::new().capabilities(&["bounding", "permitted", "effective"], &list).report();
    assert_eq!(report.capabilities("effective"), names);
}
