//! The config.json files that Docker, containerd, Podman and Kubernetes wrote: the whole life of each,
//! with the process's limits, capabilities, mounts and filter as seen from inside, and nothing left after.

use crate::harness::host::{Listing, control, hierarchy_of, is_v2};
use crate::harness::program::Bounded;
use crate::harness::*;
use crate::tests;

tests! { ; alone: docker, ctr, podman, cri_sandbox_and_container }

pub const DOCKER: &str = include_str!("bundles/docker.json");
pub const CTR: &str = include_str!("bundles/ctr.json");
pub const PODMAN: &str = include_str!("bundles/podman.json");
pub const SANDBOX: &str = include_str!("bundles/cri-sandbox.json");
pub const CONTAINER: &str = include_str!("bundles/cri-container.json");

/// The bundle as it is, but for limits of controllers that this layout does not have.
pub fn bundle(text: &str, namespaces: &str) -> Bundle {
    let mut bundle = Bundle::engine(text, namespaces);
    for (key, controller) in [
        ("memory", "memory"),
        ("cpu", "cpu"),
        ("pids", "pids"),
        ("blockIO", if is_v2() { "io" } else { "blkio" }),
    ] {
        if hierarchy_of(controller).is_none() {
            bundle = bundle.remove(&format!("/linux/resources/{key}"));
        }
    }
    host::make_cgroups(bundle.cgroup_path().rsplit_once('/').expect("a parent").0);
    bundle
}

/// create, state, start, state; the report of the process that runs.
fn begin(container: &mut Container) -> Report {
    container.create();
    let state = container.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(container.pid())));
    assert_eq!(
        state["annotations"],
        container.bundle.config.get("annotations").cloned().unwrap_or_else(|| state["annotations"].clone())
    );
    container.start();
    let report = container.started_report();
    assert_eq!(container.status(), "running");
    report
}

/// kill, delete.
fn end(container: &Container) {
    container.kill("KILL");
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
    container.verb("state", &[], &[]).done().fails("does not exist");
}

/// All that the config says about the process and its mounts.
fn check(report: &Report, config: &Value) {
    let process = &config["process"];
    assert_eq!(report["args"], process["args"]);
    for entry in process["env"].as_array().into_iter().flatten() {
        assert!(report["env"].as_array().expect("env").contains(entry), "{entry}");
    }
    check_capabilities(report, process);
    let privileges = if process["noNewPrivileges"] == true { "1" } else { "0" };
    assert_eq!(report["no_new_privs"], privileges);
    for limit in process["rlimits"].as_array().into_iter().flatten() {
        let name = limit["type"].as_str().expect("type");
        assert_eq!(
            report["rlimits"][name],
            json!({ "soft": limit["soft"], "hard": limit["hard"] }),
            "{name}"
        );
    }
    if let Some(score) = process["oomScoreAdj"].as_i64() {
        assert_eq!(report["oom_score_adj"], score.to_string());
    }
    assert_eq!(report["groups"], process["user"].get("additionalGids").cloned().unwrap_or_else(|| json!([])));
    assert_eq!(report["umask"], process["user"].get("umask").cloned().unwrap_or_else(|| json!(0o22)));
    if let Some(name) = config.get("hostname") {
        assert_eq!(&report["hostname"], name);
    }
    assert_eq!(report["seccomp"], if config["linux"].get("seccomp").is_some() { "2" } else { "0" });
    assert_eq!(report.descriptors(), [0, 1, 2], "{}", report["fds"]);
    check_mounts(report, config);
}

fn check_capabilities(report: &Report, process: &Value) {
    let mut listed: Vec<String> =
        serde_json::from_value(process["capabilities"]["bounding"].clone()).expect("names");
    listed.sort();
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(report.capabilities(set), listed, "{set}");
    }
    for set in ["inheritable", "ambient"] {
        assert_eq!(report.capabilities(set), Vec::<String>::new(), "{set}");
    }
}

fn check_mounts(report: &Report, config: &Value) {
    let mounts = config["mounts"].as_array().expect("mounts");
    for (index, mount) in mounts.iter().enumerate() {
        let destination = mount["destination"].as_str().expect("destination");
        if mounts[index + 1..].iter().any(|later| later["destination"] == destination) {
            continue;
        }
        let seen = report.mount(destination).unwrap_or_else(|| panic!("{destination}: {}", report["mounts"]));
        match mount["type"].as_str().expect("type") {
            "bind" => {}
            "cgroup" if is_v2() => assert_eq!(seen["type"], "cgroup2"),
            "cgroup" => assert_eq!(seen["type"], "tmpfs"),
            kind => assert_eq!(seen["type"], kind, "{destination}"),
        }
        for option in mount["options"].as_array().expect("options") {
            let option = option.as_str().expect("option");
            if ["nosuid", "noexec", "nodev", "ro"].contains(&option) {
                assert!(
                    seen["options"].as_array().expect("options").iter().any(|own| own == option),
                    "{destination} {option}: {seen}"
                );
            }
        }
    }
    for path in config["linux"]["readonlyPaths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if std::path::Path::new(path).exists() {
            assert!(report.mount(path).is_some() && report.mount_has(path, "ro"), "{path}");
        }
    }
    for path in config["linux"]["maskedPaths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // What is below /sys/fs/cgroup or not in this kernel has nothing to mask.
        if std::path::Path::new(path).exists() {
            assert!(report.mount(path).is_some(), "{path} is not masked: {}", report["mounts"]);
        }
    }
    let readonly = config["root"]["readonly"] == true;
    assert_eq!(report.mount("/").expect("the root")["options"][0], if readonly { "ro" } else { "rw" });
    let own = |mount: &&Value| {
        mount["propagation"]
            .as_array()
            .is_some_and(|words| words.iter().any(|word| word.to_string().contains("shared")))
    };
    assert_eq!(
        report["mounts"].as_array().expect("mounts").iter().find(own),
        None,
        "nothing is shared with the host"
    );
}

fn limit(container: &Container, controller: &str, v1: &str, v2: &str) -> Option<String> {
    hierarchy_of(controller)?;
    Some(control(controller, &container.bundle.cgroup_path(), v1, v2))
}

fn assert_limit(container: &Container, controller: &str, v1: (&str, &str), v2: (&str, &str)) {
    if let Some(value) = limit(container, controller, v1.0, v2.0) {
        assert_eq!(value, if is_v2() { v2.1 } else { v1.1 }, "{controller}");
    }
}

fn docker() {
    let mut container = bundle(DOCKER, "").container();
    let before = Listing::take();
    let report = begin(&mut container);
    check(&report, &container.bundle.config);
    assert_limit(&container, "memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    assert_limit(
        &container,
        "memory",
        ("memory.memsw.limit_in_bytes", "134217728"),
        ("memory.swap.max", "67108864"),
    );
    assert_limit(&container, "cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    assert_limit(&container, "pids", ("pids.max", "50"), ("pids.max", "50"));
    let port = std::fs::read_to_string(format!(
        "/proc/{}/root/proc/sys/net/ipv4/ip_unprivileged_port_start",
        container.pid()
    ));
    assert!(port.is_ok());
    end(&container);
    before.assert_unchanged("docker.json");
    let steps = [
        "read:/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "read:/proc/sys/net/ipv4/ping_group_range",
        "read:/etc/hosts",
        "mount:/tmp",
        "device:c:10:229",
    ];
    let report = bundle(DOCKER, "").report_after(&steps);
    assert_eq!((report.probe(steps[0]), report.probe(steps[1])), (&json!("0"), &json!("0\t2147483647")));
    assert_eq!(report.probe(steps[2]), "the host's hosts");
    assert_eq!(report.probe(steps[3]), "EPERM");
    assert_eq!(report.probe(steps[4]), "open EPERM");
}

fn ctr() {
    let mut container = bundle(CTR, "").container();
    let before = Listing::take();
    let report = begin(&mut container);
    check(&report, &container.bundle.config);
    assert_limit(&container, "memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    if !is_v2() {
        assert_limit(&container, "cpu", ("cpu.shares", "1024"), ("", ""));
    }
    end(&container);
    before.assert_unchanged("ctr.json");
}

fn podman() {
    let mut container = bundle(PODMAN, "").container();
    let before = Listing::take();
    let report = begin(&mut container);
    check(&report, &container.bundle.config);
    assert_limit(&container, "pids", ("pids.max", "2048"), ("pids.max", "2048"));
    end(&container);
    before.assert_unchanged("podman.json");
    // defaultErrnoRet is ENOSYS: what the profile does not know is as if the kernel did not.
    let step = format!("syscall:{}", libc::SYS_kexec_load);
    let report = bundle(PODMAN, "").report_after(&[&step, "read:/proc/sys/net/ipv4/ping_group_range"]);
    assert!(["EPERM", "ENOSYS"].contains(&report.probe(&step).as_str().expect("errno")));
    assert_eq!(report.probe("read:/proc/sys/net/ipv4/ping_group_range"), "0\t0");
}

fn cri_sandbox_and_container() {
    let mut sandbox = bundle(SANDBOX, "").container();
    let before = Listing::take();
    let report = begin(&mut sandbox);
    check(&report, &sandbox.bundle.config);
    assert_eq!(report["pid"], 1);
    let pid = sandbox.pid().to_string();

    let mut container = bundle(CONTAINER, &format!("/proc/{pid}/ns")).container();
    let report = begin(&mut container);
    check(&report, &container.bundle.config);
    assert_ne!(report["pid"], 1, "it is in the sandbox's pid namespace");
    for kind in ["pid", "ipc", "uts", "net"] {
        assert_eq!(report.namespace(kind), host::namespace(&pid, kind), "{kind}");
    }
    assert_ne!(report.namespace("mnt"), host::namespace(&pid, "mnt"));
    assert_limit(&container, "memory", ("memory.memsw.limit_in_bytes", "67108864"), ("memory.swap.max", "0"));
    assert_limit(&container, "cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    end(&container);
    assert_eq!(sandbox.status(), "running");
    end(&sandbox);
    before.assert_unchanged("cri-sandbox.json and cri-container.json");
}
