//! The six kinds of hooks: order, namespaces, environment, state, timeout, and what a failing one does.

use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

tests! {
    all_kinds_in_order, several_of_a_kind_in_order, namespaces_of_each_kind, state_on_stdin, environment_and_arguments_are_exact,
    default_arguments, environment_inside_of_the_container, filter_of_the_container_is_for_its_hooks_too, failing_hook_before_created, failing_hook_of_the_start, failing_poststart_stops_the_container, failing_poststop_is_a_warning,
    timeout_kills_the_hook, hook_within_its_timeout, relative_path_is_refused, timeout_of_zero_is_refused, missing_hook_is_refused,
    poststop_runs_at_delete, hooks_see_the_container, later_hooks_do_not_run_after_a_failure, no_descriptors_leak_into_hooks,
    rootfs_at_create_container_hooks, hooks_with_output, create_runtime_hook_may_configure_the_network,
}

const EARLY: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

fn record(name: &str) -> PathBuf {
    directory().join(name)
}

fn records(path: &PathBuf) -> Vec<Report> {
    Report::all(&fs::read_to_string(path).unwrap_or_default())
}

/// A hook of each kind that appends its report to one file; startContainer's is inside of the container.
fn observed(bundle: Bundle, out: &str) -> Bundle {
    let out = format!("report:{}", record(out).display());
    let mut bundle = bundle;
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        bundle = bundle.hook(kind, &[&format!("label:{kind}"), "stdin", &out]);
    }
    bundle.hook_at("startContainer", "/bin/payload", &["label:startContainer", "stdin", "report:/tmp/hook"])
}

fn labels(reports: &[Report]) -> Vec<String> {
    reports.iter().map(|report| report.probe("label").as_str().expect("label").to_owned()).collect()
}

fn all_kinds_in_order() {
    let mut container = observed(Bundle::new().steps(&["sleep:1000"]), "order").container();
    let out = record("order");
    container.create();
    assert_eq!(labels(&records(&out)), EARLY);
    let inside = container.bundle.rootfs().join("tmp/hook");
    assert!(!inside.exists(), "startContainer hooks run at start");
    container.start();
    assert_eq!(labels(&records(&inside)), ["startContainer"]);
    assert_eq!(labels(&records(&out)), ["prestart", "createRuntime", "createContainer", "poststart"]);
    container.kill("KILL");
    container.await_status("stopped");
    assert_eq!(records(&out).len(), 4);
    container.verb("delete", &[], &[]).done().ok();
    assert_eq!(
        labels(&records(&out)),
        ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    );
}

fn several_of_a_kind_in_order() {
    let out = record("several");
    let step = format!("report:{}", out.display());
    let mut bundle = Bundle::new();
    for number in 0..4 {
        bundle = bundle.hook("createRuntime", &[&format!("label:{number}"), &step]);
    }
    bundle.report();
    assert_eq!(labels(&records(&out)), ["0", "1", "2", "3"]);
}

fn namespaces_of_each_kind() {
    let mut container = observed(Bundle::new().steps(&["sleep:1000"]), "namespaces").container();
    container.create();
    let pid = container.pid().to_string();
    let theirs = host::namespace(&pid, "mnt");
    container.start();
    container.finish();
    let ours = host::namespace("self", "mnt");
    for report in records(&record("namespaces")) {
        let label = report.probe("label").as_str().expect("label").to_owned();
        let expected = if label == "createContainer" { &theirs } else { &ours };
        assert_eq!(report.namespace("mnt"), expected, "{label}");
    }
    let inside = &records(&container.bundle.rootfs().join("tmp/hook"))[0];
    assert_eq!(inside.namespace("mnt"), theirs);
    assert_eq!(inside["hostname"], "berth-test");
}

fn state_on_stdin() {
    let bundle = observed(
        Bundle::new().steps(&["sleep:1000"]).set("/annotations", json!({ "key": "value" })),
        "states",
    );
    let mut container = bundle.container();
    container.up();
    let pid = container.pid();
    container.finish();
    let mut reports = records(&record("states"));
    reports.extend(records(&container.bundle.rootfs().join("tmp/hook")));
    assert_eq!(reports.len(), 6);
    for report in &reports {
        let label = report.probe("label").as_str().expect("label").to_owned();
        let state = report.probe("stdin");
        assert_eq!(state["id"], container.id.as_str(), "{label}: {state}");
        assert_eq!(state["bundle"], container.bundle.path.to_str().expect("path"), "{label}");
        assert_eq!(state["annotations"], json!({ "key": "value" }), "{label}");
        assert!(state["ociVersion"].is_string(), "{label}");
        // Those of `create` too: runtime.md calls "creating" what comes before the first hook.
        let status = match label.as_str() {
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "created",
        };
        assert_eq!(state["status"], status, "{label}");
        // runtime.md, State: the pid as it is seen where the hook runs.
        match label.as_str() {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{label}"),
            "poststop" => {}
            _ => assert_eq!(state["pid"], pid, "{label}"),
        }
    }
}

fn environment_and_arguments_are_exact() {
    let out = record("environment");
    let hook = json!({
        "path": bundle::host_payload(), "args": ["other name", format!("report:{}", out.display()), "label:a b"], "env": ["ONE=1", "TWO=x y"],
    });
    let container = Bundle::new().push("/hooks/createRuntime", hook).container();
    let mut command = container.command("run", &[]);
    command.env("SECRET_OF_THE_CALLER", "1");
    command.done().ok();
    let report = &records(&out)[0];
    assert_eq!(report["args"], json!(["other name", format!("report:{}", out.display()), "label:a b"]));
    assert_eq!(report["env"], json!(["ONE=1", "TWO=x y"]));
}

/// Without args and env: the path alone, and the environment of the runtime, which is how runc and crun give their
/// hooks a PATH.
fn default_arguments() {
    let script = directory().join("hook");
    let out = directory().join("hook-out");
    fs::write(&script, format!("#!{}\nreport:{}\n", bundle::host_payload().display(), out.display()))
        .expect("hook");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let container = Bundle::new().push("/hooks/prestart", json!({ "path": script })).container();
    let mut command = container.command("run", &[]);
    command.env_clear().env("PATH", "/bin").env("OF_THE_CALLER", "1");
    command.done().ok();
    let mut env = records(&out)[0]["env"].as_array().expect("env").clone();
    env.sort_by_key(Value::to_string);
    assert_eq!(env, [json!("OF_THE_CALLER=1"), json!("PATH=/bin")]);
}

/// Inside of the container nothing of the caller's environment may be seen: startContainer hooks have the
/// process's, createContainer hooks none.
fn environment_inside_of_the_container() {
    let out = record("environment-inside");
    let script = format!("#!{}\nreport:{}\n", bundle::host_payload().display(), out.display());
    let hook = directory().join("hook-inside");
    fs::write(&hook, script).expect("hook");
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let container = Bundle::new()
        .set("/process/env", json!(["PATH=/bin", "ONE=1"]))
        .push("/hooks/createContainer", json!({ "path": hook }))
        .push(
            "/hooks/startContainer",
            json!({ "path": "/bin/payload", "args": ["payload", "report:/tmp/hook"] }),
        )
        .container();
    let mut command = container.command("run", &[]);
    command.env("SECRET_OF_THE_CALLER", "1");
    command.done().ok();
    assert_eq!(records(&out)[0]["env"], json!([]));
    let inside = container.bundle.rootfs().join("tmp/hook");
    assert_eq!(records(&inside)[0]["env"], json!(["PATH=/bin", "ONE=1", "HOME=/"]));
}

/// What runs at the path is the image's, so the container's filter is for it too; hooks on the host have none.
fn filter_of_the_container_is_for_its_hooks_too() {
    let filtered = || {
        Bundle::new().seccomp(
            "SCMP_ACT_ALLOW",
            json!([{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }]),
        )
    };
    let mode = |report: &Report| report.probe("read:/proc/self/status").to_string();
    for privileged in [true, false] {
        let out = record(&format!("filtered-{privileged}"));
        let steps = ["payload", "read:/proc/self/status", "report:/tmp/hook"];
        let container = filtered()
            .set("/process/noNewPrivileges", !privileged)
            .hook("createRuntime", &["read:/proc/self/status", &format!("report:{}", out.display())])
            .hook_at("startContainer", "/bin/payload", &steps[1..])
            .container();
        container.run().ok();
        let inside = records(&container.bundle.rootfs().join("tmp/hook"));
        assert!(mode(&inside[0]).contains("Seccomp:\\t2"), "{}", mode(&inside[0]));
        assert!(mode(&records(&out)[0]).contains("Seccomp:\\t0"));
    }
}

/// runtime.md, Lifecycle: the error is reported, the container destroyed, and the poststop hooks run.
fn failing_hook_before_created() {
    for kind in EARLY {
        let out = record(&format!("failing-{kind}"));
        let bundle = Bundle::new()
            .hook(kind, &["complain:the hook says why", "exit:3"])
            .hook("poststop", &["label:poststop", &format!("report:{}", out.display())]);
        let container = bundle.steps(&["echo:ran"]).container();
        let done = container.refused("hook");
        assert!(!done.stdout().contains("ran"), "{kind}");
        assert!(
            done.stderr().contains(&kind.to_lowercase()) || done.stderr().contains(kind),
            "names the kind: {}",
            done.describe()
        );
        assert!(
            done.stderr().contains("exit status 3") || done.stderr().contains("exit status: 3"),
            "names the status: {}",
            done.describe()
        );
        assert!(host::cgroups_with(&container.bundle.cgroup_path()).is_empty(), "{kind}");
        assert_eq!(labels(&records(&out)), ["poststop"], "{kind}");
    }
}

fn failing_hook_of_the_start() {
    let mut container =
        Bundle::new().hook_at("startContainer", "/bin/payload", &["exit:3"]).steps(&["echo:ran"]).container();
    container.create();
    container.verb("start", &[], &[]).done().fails("hook");
    assert!(!container.output().contains("ran"));
    if container.verb("state", &[], &[]).done().status.success() {
        container.await_status("stopped");
    }
}

/// The spec since 1.2: a failing poststart hook stops the container.
fn failing_poststart_stops_the_container() {
    let mut container = Bundle::new().hook("poststart", &["exit:3"]).steps(&["sleep:1000"]).container();
    container.create();
    container.verb("start", &[], &[]).done().fails("hook");
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert!(program::await_condition(|| host::descendants(own).is_empty()), "{:?}", host::descendants(own));
}

fn failing_poststop_is_a_warning() {
    let out = record("poststop");
    let mut container = Bundle::new()
        .hook("poststop", &["exit:3"])
        .hook("poststop", &["label:second", &format!("report:{}", out.display())])
        .steps(&["exit:0"])
        .container();
    container.up();
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
    container.verb("state", &[], &[]).done().fails("does not exist");
    assert_eq!(labels(&records(&out)), ["second"], "the others run all the same");
}

fn timeout_kills_the_hook() {
    let hook = json!({ "path": bundle::host_payload(), "args": ["payload", "sleep:1000"], "timeout": 1 });
    let container = Bundle::new().push("/hooks/createRuntime", hook).container();
    let begun = Instant::now();
    let done = container.refused("hook");
    assert!(
        begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(5) * slow(),
        "{:?}",
        begun.elapsed()
    );
    assert!(done.stderr().contains("time"), "{}", done.describe());
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert!(program::await_condition(|| host::descendants(own).is_empty()), "{:?}", host::descendants(own));
}

fn hook_within_its_timeout() {
    let hook = json!({ "path": bundle::host_payload(), "args": ["payload", "sleep:0.1"], "timeout": 20 });
    let begun = Instant::now();
    Bundle::new().push("/hooks/createRuntime", hook).report();
    assert!(begun.elapsed() < Duration::from_secs(10) * slow());
}

fn relative_path_is_refused() {
    Bundle::new().push("/hooks/prestart", json!({ "path": "payload" })).refused("path");
}

fn timeout_of_zero_is_refused() {
    Bundle::new()
        .push("/hooks/prestart", json!({ "path": bundle::host_payload(), "timeout": 0 }))
        .refused("timeout");
}

fn missing_hook_is_refused() {
    Bundle::new().push("/hooks/prestart", json!({ "path": "/no/such/hook" })).refused("/no/such/hook");
}

fn poststop_runs_at_delete() {
    let out = record("forced");
    let bundle = Bundle::new()
        .hook("poststop", &["label:poststop", &format!("report:{}", out.display())])
        .steps(&["sleep:1000"]);
    let mut container = bundle.container();
    container.up();
    container.verb("delete", &["--force"], &[]).done().ok();
    assert_eq!(labels(&records(&out)), ["poststop"]);
}

/// The pid of the state has the container's namespaces by then: network plugins rely on it.
fn hooks_see_the_container() {
    let hook =
        |kind: &str| Bundle::new().hook(kind, &["stdin", &format!("report:{}", record(kind).display())]);
    for kind in ["prestart", "createRuntime"] {
        let mut container = hook(kind).steps(&["sleep:1000"]).container();
        container.create();
        let pid = records(&record(kind))[0].probe("stdin")["pid"].as_i64().expect("pid");
        assert_eq!(pid, i64::from(container.pid()), "{kind}");
        assert_ne!(host::namespace(&pid.to_string(), "net"), host::namespace("self", "net"));
    }
}

fn later_hooks_do_not_run_after_a_failure() {
    let out = record("later");
    let late = format!("report:{}", out.display());
    Bundle::new()
        .hook("createRuntime", &["exit:1"])
        .hook("createRuntime", &["label:x", &late])
        .hook("createContainer", &["label:y", &late])
        .refused("hook");
    assert_eq!(records(&out).len(), 0);
}

fn no_descriptors_leak_into_hooks() {
    let mut container = observed(Bundle::new().steps(&["sleep:1000"]), "descriptors").container();
    container.up();
    container.finish();
    let mut reports = records(&record("descriptors"));
    reports.extend(records(&container.bundle.rootfs().join("tmp/hook")));
    for report in reports {
        assert_eq!(report.descriptors(), [0, 1, 2], "{}: {}", report.probe("label"), report["fds"]);
    }
}

/// config.md, createContainer: after the mounts, before pivot_root; the mounts are there to see.
fn rootfs_at_create_container_hooks() {
    let out = record("mounted");
    let bundle = Bundle::new().mount("/scratch", "tmpfs", "tmpfs", &[]);
    let scratch = bundle.rootfs().join("scratch");
    let step = format!("report:{}", out.display());
    bundle.hook("createContainer", &[&step]).report();
    assert!(records(&out)[0].mount(&scratch.to_string_lossy()).is_some(), "{}", records(&out)[0]["mounts"]);
}

/// What a hook prints is not berth's output: `create` and `start` print nothing.
fn hooks_with_output() {
    let mut container =
        Bundle::new().hook("createRuntime", &["echo:from the hook"]).steps(&["sleep:100"]).container();
    container.create();
    assert!(!container.output().contains("from the hook"), "{}", container.output());
}

fn create_runtime_hook_may_configure_the_network() {
    let sysctl = "/proc/sys/net/ipv4/conf/lo/forwarding";
    let before = fs::read_to_string(sysctl).expect("sysctl");
    let report = Bundle::new()
        .hook("createRuntime", &["sleep:0.01"])
        .set("/linux/sysctl", json!({ "net.ipv4.conf.lo.forwarding": "1" }))
        .report();
    assert_ne!(report.namespace("net"), host::namespace("self", "net"));
    assert_eq!(fs::read_to_string(sysctl).expect("sysctl"), before);
}
