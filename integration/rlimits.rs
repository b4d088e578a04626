//! process.rlimits.

use crate::harness::*;
use crate::tests;
use caps::Capability;

tests! { limits_are_set, limits_that_are_not_listed_stay, duplicate_type_is_refused, unknown_type_is_refused, soft_above_hard_is_refused, hard_limit_above_ours, every_type }

fn limit(name: &str, soft: u64, hard: u64) -> Value {
    json!({ "type": name, "soft": soft, "hard": hard })
}

fn limits_are_set() {
    let limits = json!([
        limit("RLIMIT_NOFILE", 100, 200),
        limit("RLIMIT_CORE", 0, 0),
        limit("RLIMIT_NPROC", 500, 600)
    ]);
    let report = Bundle::new().set("/process/rlimits", limits).report();
    for (name, soft, hard) in [("RLIMIT_NOFILE", 100, 200), ("RLIMIT_CORE", 0, 0), ("RLIMIT_NPROC", 500, 600)]
    {
        assert_eq!(report["rlimits"][name], json!({ "soft": soft, "hard": hard }), "{name}");
    }
}

fn limits_that_are_not_listed_stay() {
    let (soft, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
    let report = Bundle::new().remove("/process/rlimits").report();
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!({ "soft": soft, "hard": hard }));
}

/// config.md: duplicated entries with the same type MUST be an error. None of the peers checks.
fn duplicate_type_is_refused() {
    let limits = json!([limit("RLIMIT_NOFILE", 100, 200), limit("RLIMIT_NOFILE", 100, 100)]);
    Bundle::new().set("/process/rlimits", limits).refused("RLIMIT_NOFILE");
}

fn unknown_type_is_refused() {
    Bundle::new().set("/process/rlimits", json!([limit("RLIMIT_NONSENSE", 1, 1)])).refused("RLIMIT_NONSENSE");
}

fn soft_above_hard_is_refused() {
    Bundle::new().set("/process/rlimits", json!([limit("RLIMIT_NOFILE", 200, 100)])).refused("rlimits");
}

fn hard_limit_above_ours() {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
    let bundle = Bundle::new().set("/process/rlimits", json!([limit("RLIMIT_NOFILE", 100, hard + 100)]));
    if host::has_capability(Capability::CAP_SYS_RESOURCE) {
        assert_eq!(bundle.report()["rlimits"]["RLIMIT_NOFILE"]["hard"], hard + 100);
    } else {
        bundle.refused("operation not permitted");
    }
}

fn every_type() {
    let names = [
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_LOCKS",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    ];
    // Lower or equal to what we have, so that no privilege is needed; the address space must hold the payload.
    let own = Bundle::new().remove("/process/rlimits").report()["rlimits"].clone();
    let limits: Vec<Value> = names
        .iter()
        .map(|name| {
            let hard = own[*name]["hard"].as_u64().expect("a limit").min(1 << 40);
            limit(name, hard, hard)
        })
        .collect();
    let report = Bundle::new().set("/process/rlimits", json!(limits)).report();
    for entry in limits {
        let name = entry["type"].as_str().expect("type");
        assert_eq!(
            report["rlimits"][name],
            json!({ "soft": entry["soft"], "hard": entry["hard"] }),
            "{name}"
        );
    }
}
