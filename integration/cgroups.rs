//! Cgroups through the file system on v1, v2 and hybrid hosts: placement, limits, removal.

use crate::harness::host::{control, hierarchies, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, await_condition, directory, patience};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests! {
    process_is_in_its_cgroup_everywhere, relative_path, without_a_path_the_id_names_it, removed_after_the_run,
    nested_cgroups_are_removed, memory_limit, memory_and_swap_limit, memory_limit_is_enforced, cpu_quota_and_period, cpu_shares,
    pids_limit_is_enforced, pids_limit_of_zero, unlimited_pids, bad_value_leaves_nothing, missing_controller_leaves_no_parents, unified_on_v2, unified_of_a_missing_controller,
    kill_all_without_a_pid_namespace, delete_reaches_what_is_left, kill_reaches_what_is_left, failing_start_removes_the_cgroup, init_is_limited_before_it_runs,
    parent_that_exists_is_kept, dotdot_in_the_path_stays_below, sixteen_containers_beside_each_other, deep_paths,
    a_cgroup_in_use_is_left_alone, a_path_that_is_anothers_by_now, a_path_that_is_anothers_while_it_runs, parents_of_a_create_that_was_killed, below_the_callers_own, nobody_is_moved, below_a_threaded_cgroup, below_a_cgroup_with_processes,
    a_limit_below_the_use_is_refused_with_the_numbers, removed_by_another_while_it_is_empty,
}

/// Skips where the layout has no such controller: on some machines v1 holds them all.
fn needs(controller: &str) {
    let here = hierarchy_of(controller).is_some();
    if is_v2() {
        require!(here, "{controller} is not a controller of cgroup v2 here");
    }
    require!(here, "no controller {controller} here");
}

fn sleeper() -> Bundle {
    Bundle::new().steps(&["sleep:1000"])
}

fn process_is_in_its_cgroup_everywhere() {
    let mut container = sleeper().container();
    container.up();
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    let path = container.bundle.cgroup_path();
    for line in table.lines() {
        let listed = line.split(':').nth(1).expect("controllers");
        let mounted = hierarchies().iter().any(|hierarchy| {
            hierarchy.controllers.iter().any(|name| listed.split(',').any(|other| other == name))
                || (listed.is_empty() && hierarchy.controllers.is_empty())
        });
        if mounted {
            assert!(line.ends_with(&path), "{line}");
        }
    }
}

fn relative_path() {
    let bundle = sleeper();
    let path = bundle.cgroup_path();
    let mut container = bundle.set("/linux/cgroupsPath", path.trim_start_matches('/')).container();
    container.up();
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert!(table.lines().any(|line| line.ends_with(&path)), "{table}");
}

fn without_a_path_the_id_names_it() {
    let mut container = sleeper().remove("/linux/cgroupsPath").container();
    container.up();
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert!(table.lines().any(|line| line.ends_with(&format!("/{}", container.id))), "{table}");
    container.finish();
    assert!(host::cgroups_with(&container.id).is_empty());
}

fn removed_after_the_run() {
    let mut container = sleeper().container();
    container.up();
    assert!(!host::cgroups_with(&container.bundle.cgroup_path()).is_empty());
    container.finish();
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

fn nested_cgroups_are_removed() {
    let mut container = sleeper().container();
    container.up();
    for cgroup in host::cgroups_with(&container.bundle.cgroup_path()) {
        fs::create_dir_all(cgroup.join("inner/innermost")).expect("nested cgroup");
    }
    container.finish();
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

fn memory_limit() {
    needs("memory");
    let mut container = sleeper().set("/linux/resources/memory", json!({ "limit": 67_108_864 })).container();
    container.create();
    let value = control("memory", &container.bundle.cgroup_path(), "memory.limit_in_bytes", "memory.max");
    assert_eq!(value, "67108864");
}

fn memory_and_swap_limit() {
    needs("memory");
    let resources = json!({ "limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432 });
    let mut container = sleeper().set("/linux/resources/memory", resources).container();
    container.create();
    let cgroup = container.bundle.cgroup_path();
    // v1 counts memory and swap together, v2 swap alone.
    assert_eq!(
        control("memory", &cgroup, "memory.memsw.limit_in_bytes", "memory.swap.max"),
        if is_v2() { "67108864" } else { "134217728" }
    );
    assert_eq!(control("memory", &cgroup, "memory.soft_limit_in_bytes", "memory.low"), "33554432");
}

fn memory_limit_is_enforced() {
    needs("memory");
    let limits = json!({ "limit": 50 << 20, "swap": 50 << 20 });
    let container = Bundle::new()
        .set("/linux/resources/memory", limits)
        .steps(&["touch-memory:200", "report"])
        .container();
    let done = container.run().exits(137);
    assert!(Report::all(&done.stdout()).is_empty());
}

fn cpu_quota_and_period() {
    needs("cpu");
    let mut container =
        sleeper().set("/linux/resources/cpu", json!({ "quota": 50_000, "period": 200_000 })).container();
    container.create();
    let cgroup = container.bundle.cgroup_path();
    if is_v2() {
        assert_eq!(control("cpu", &cgroup, "", "cpu.max"), "50000 200000");
    } else {
        assert_eq!(control("cpu", &cgroup, "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(control("cpu", &cgroup, "cpu.cfs_period_us", ""), "200000");
    }
}

fn cpu_shares() {
    needs("cpu");
    for (shares, weight) in [(2, 1), (262_144, 10_000)] {
        let mut container = sleeper().set("/linux/resources/cpu", json!({ "shares": shares })).container();
        container.create();
        let value = control("cpu", &container.bundle.cgroup_path(), "cpu.shares", "cpu.weight");
        assert_eq!(value, if is_v2() { weight } else { shares }.to_string());
    }
}

fn pids_limit_is_enforced() {
    needs("pids");
    let container = Bundle::new().set("/linux/resources/pids", json!({ "limit": 10 })).container();
    let cgroup = container.bundle.cgroup_path();
    let report = container.report_after(&["fork:30"]);
    assert_eq!(report.probe("fork:30"), &json!({ "born": 9, "stopped": "EAGAIN" }), "{cgroup}");
}

/// config-linux.md: 0 is a valid limit. runc and youki write 1, crun skips it.
fn pids_limit_of_zero() {
    needs("pids");
    let mut container = Bundle::new()
        .set("/linux/resources/pids", json!({ "limit": 0 }))
        .steps(&["fork:5", "report", "sleep:100"])
        .container();
    container.up();
    assert_eq!(control("pids", &container.bundle.cgroup_path(), "pids.max", "pids.max"), "0");
    assert_eq!(container.started_report().probe("fork:5"), &json!({ "born": 0, "stopped": "EAGAIN" }));
}

fn unlimited_pids() {
    needs("pids");
    let mut container = sleeper().set("/linux/resources/pids", json!({ "limit": -1 })).container();
    container.create();
    assert_eq!(control("pids", &container.bundle.cgroup_path(), "pids.max", "pids.max"), "max");
}

fn bad_value_leaves_nothing() {
    needs("cpu");
    // What a group may have in its period is no more than its parent has, which the kernel alone knows.
    let container = Bundle::new().set("/linux/resources/cpu", json!({ "quota": 1_i64 << 60 })).container();
    container.refused("invalid argument");
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

/// runtime-tools' linux_cgroups_relative_pids: the cgroup itself is never made, only what leads to it.
fn missing_controller_leaves_no_parents() {
    let missing = ["memory", "pids"].into_iter().find(|name| hierarchy_of(name).is_none());
    require!(is_v2() && missing.is_some(), "only on cgroup v2 without memory or pids");
    let resources = match missing {
        Some("memory") => json!({ "memory": { "limit": 1 << 26 } }),
        _ => json!({ "pids": { "limit": 100 } }),
    };
    let bundle = Bundle::new().set("/linux/resources", resources);
    let path = bundle.cgroup_path();
    let container = bundle.set("/linux/cgroupsPath", format!("{path}/between/leaf")).container();
    container.refused("does not have it");
    assert_eq!(host::cgroups_with(&path), Vec::<PathBuf>::new());
}

fn unified_on_v2() {
    require!(is_v2(), "only on cgroup v2");
    needs("pids");
    let mut container = sleeper().set("/linux/resources/unified", json!({ "pids.max": "123" })).container();
    container.create();
    assert_eq!(control("pids", &container.bundle.cgroup_path(), "", "pids.max"), "123");
}

/// config-linux.md, Unified: a controller that is not there is an error.
fn unified_of_a_missing_controller() {
    require!(is_v2(), "only on cgroup v2");
    let container = Bundle::new().set("/linux/resources/unified", json!({ "nonsense.max": "1" })).container();
    container.refused("nonsense");
    let container = Bundle::new().set("/linux/resources/unified", json!({ "../pids.max": "1" })).container();
    container.refused("");
}

fn kill_all_without_a_pid_namespace() {
    let mut container = sleeper()
        .without_namespace("pid")
        .steps(&["background:sleep:1000", "background:sleep:1000", "echo:ready", "sleep:1000"])
        .container();
    container.up();
    container.await_output("ready");
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(host::descendants(own).len(), 3);
    container.verb("kill", &["--all"], &["KILL"]).done().ok();
    assert!(await_condition(|| host::descendants(own).is_empty()), "{:?}", host::descendants(own));
    container.await_status("stopped");
}

/// SIGKILL ends a container that shares its pid namespace even when its first process has gone before.
fn kill_reaches_what_is_left() {
    let mut container =
        sleeper().without_namespace("pid").steps(&["background:sleep:1000", "echo:ready"]).container();
    container.up();
    container.await_output("ready");
    container.await_status("stopped");
    container.verb("kill", &[], &["TERM"]).done().fails("container not running");
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(host::descendants(own).len(), 1);
    container.kill("KILL");
    assert!(await_condition(|| host::descendants(own).is_empty()), "{:?}", host::descendants(own));
    container.verb("kill", &[], &["KILL"]).done().fails("container not running");
}

fn delete_reaches_what_is_left() {
    let mut container =
        sleeper().without_namespace("pid").steps(&["background:sleep:1000", "echo:ready"]).container();
    container.up();
    container.await_output("ready");
    container.await_status("stopped");
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(host::descendants(own).len(), 1);
    container.verb("delete", &["--force"], &[]).done().ok();
    assert!(await_condition(|| host::descendants(own).is_empty()), "{:?}", host::descendants(own));
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

fn failing_start_removes_the_cgroup() {
    for bundle in [
        Bundle::new().args(&["/none"]),
        Bundle::new().bind("/none".as_ref(), "/mnt", &["bind"]),
        Bundle::new().hook("createRuntime", &["exit:1"]),
    ] {
        let container = bundle.container();
        container.refused("");
        assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
    }
}

/// `created` already means limited: the process that will run is in the cgroup.
fn init_is_limited_before_it_runs() {
    let mut container = sleeper().container();
    container.create();
    let pid = container.pid().to_string();
    for cgroup in host::cgroups_with(&container.bundle.cgroup_path()) {
        let inside = fs::read_to_string(cgroup.join("cgroup.procs")).expect("cgroup.procs");
        assert_eq!(inside.trim(), pid, "{}", cgroup.display());
    }
}

fn parent_that_exists_is_kept() {
    let bundle = sleeper();
    let parent = bundle.cgroup_path();
    let mut first = bundle.set("/linux/cgroupsPath", format!("{parent}/first")).container();
    first.up();
    let mut second = sleeper().set("/linux/cgroupsPath", format!("{parent}/second")).container();
    second.up();
    first.finish();
    assert!(host::cgroups_with(&format!("{parent}/first")).is_empty());
    assert!(!host::cgroups_with(&format!("{parent}/second")).is_empty());
    assert_eq!(second.status(), "running");
    second.finish();
    host::remove_cgroups(host::cgroups_with(&parent));
}

fn dotdot_in_the_path_stays_below() {
    let bundle = sleeper();
    let path = bundle.cgroup_path();
    let mut container = bundle.set("/linux/cgroupsPath", format!("/../../..{path}/../bundle.x")).container();
    let done = container.try_create(&[]);
    // Either it is cleaned like a path below `/`, or refused; it never leaves the hierarchy.
    if done.status.success() {
        let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
        assert!(table.lines().any(|line| line.ends_with("/bundle.x")), "{table}");
        container.start();
        container.finish();
    } else {
        assert!(done.stderr().contains("cgroup"), "{}", done.describe());
    }
    assert!(!PathBuf::from("/sys/bundle.x").exists());
}

fn sixteen_containers_beside_each_other() {
    let containers: Vec<_> = (0..16).map(|_| sleeper().container()).collect();
    let running: Vec<_> =
        containers.iter().map(|container| container.command("run", &["--detach"]).start()).collect();
    for one in running {
        one.wait().ok();
    }
    for container in &containers {
        assert_eq!(container.status(), "running");
    }
}

fn deep_paths() {
    let bundle = sleeper();
    let path = format!("{}/a/b/c/d", bundle.cgroup_path());
    let mut container = bundle.set("/linux/cgroupsPath", path.clone()).container();
    container.up();
    container.finish();
    assert_eq!(host::cgroups_with(&path), Vec::<PathBuf>::new());
    // What was made on the way stays with some runtimes; it is the suite's to remove.
    host::remove_cgroups(host::cgroups_with(&container.bundle.cgroup_path()));
}

/// A second container in the same cgroup is refused, and its clean-up does not reach the first.
fn a_cgroup_in_use_is_left_alone() {
    for namespaces in [&["pid"][..], &[]] {
        let alike = || namespaces.iter().fold(sleeper(), |bundle, kind| bundle.without_namespace(kind));
        let mut first = alike().container();
        first.up();
        let second = alike().set("/linux/cgroupsPath", first.bundle.cgroup_path()).container();
        second.refused("cgroup is not empty");
        assert_eq!(first.status(), "running");
        assert!(!host::cgroups_with(&first.bundle.cgroup_path()).is_empty());
    }
}

/// Between the end of a container and its deletion somebody may remove its cgroup, and another get its path.
fn a_path_that_is_anothers_by_now() {
    let mut first = Bundle::new().without_namespace("pid").steps(&["exit:0"]).container();
    first.up();
    first.await_status("stopped");
    let path = first.bundle.cgroup_path();
    host::remove_cgroups(host::cgroups_with(&path));
    let mut second = sleeper().without_namespace("pid").set("/linux/cgroupsPath", path).container();
    second.up();
    first.verb("kill", &[], &["KILL"]).done().fails("not running");
    first.verb("kill", &["--all"], &["KILL"]).done().ok();
    assert_eq!(first.verb("ps", &["--format", "json"], &[]).done().ok().stdout().trim(), "[]");
    first.verb("delete", &["--force"], &[]).done().ok();
    assert_eq!(second.status(), "running");
    second.finish();
}

/// The same to a container that runs: whoever is in its place is not frozen, limited or killed for it.
fn a_path_that_is_anothers_while_it_runs() {
    let mut first = sleeper().container();
    first.up();
    let path = first.bundle.cgroup_path();
    let mut aside = Vec::new();
    for directory in host::cgroups_with(&path) {
        // On v2 the parent may take no process; on v1 nobody but it has processors.
        let elsewhere = if is_v2() {
            let elsewhere = directory.with_extension("aside");
            fs::create_dir(&elsewhere).expect("another cgroup");
            aside.push(elsewhere.clone());
            elsewhere
        } else {
            directory.parent().expect("a parent").to_owned()
        };
        fs::write(elsewhere.join("cgroup.procs"), first.pid().to_string()).expect("move its process");
        fs::remove_dir(directory).expect("remove its cgroup");
    }
    let mut second = sleeper().set("/linux/cgroupsPath", path).container();
    second.up();
    first.verb("pause", &[], &[]).done().fails("gone");
    first.verb("update", &["--pids-limit", "7"], &[]).done().fails("");
    assert_eq!(first.verb("ps", &["--format", "json"], &[]).done().ok().stdout().trim(), "[]");
    assert_eq!((first.status(), second.status()), ("running".into(), "running".into()));
    first.finish();
    assert_eq!(second.status(), "running");
    second.finish();
    assert_eq!(host::remove_cgroups(aside), Vec::<PathBuf>::new());
}

/// Parents that are made for a container are marked, for the last one in them to remove. Whatever kills a create around
/// that, all of them go.
fn parents_of_a_create_that_was_killed() {
    for call in ["mkdirat", "fsetxattr"] {
        for at in 1..=7 {
            let bundle = sleeper();
            let top = format!("{}-{call}-{at}", bundle.cgroup_path());
            let container = bundle.set("/linux/cgroupsPath", format!("{top}/middle/leaf")).container();
            let command = container.command("create", &[]);
            let mut strace = Command::new("strace");
            strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            strace.arg(format!("inject={call}:signal=KILL:when={at}"));
            strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
            let done = strace.done();
            assert!(!done.status.success() || at > 1, "it was killed; {}", done.describe());
            container.verb("delete", &["--force"], &[]).done().ok();
            assert_eq!(host::cgroups_with(&top), Vec::<PathBuf>::new(), "killed at {call} {at}");
        }
    }
}

/// In a container of its own berth sees its cgroup as the root, and makes all below it.
fn below_the_callers_own() {
    const ENTER: &str = "echo $$ >$0/cgroup.procs && exec unshare --cgroup --mount sh -ec \"$1\" \"$@\"";
    const LIVE: &str = "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; pid=$1; shift
        \"$@\"; cat /proc/$(cat $pid)/cgroup; \"$1\" \"$2\" \"$3\" delete --force $(basename $(ls -d $3/*))";
    require!(is_v2(), "only on cgroup v2");
    let bundle = sleeper();
    let own = bundle.cgroup_path();
    host::make_cgroups(&own);
    let directory = host::hierarchies()[0].mountpoint.join(own.trim_start_matches('/'));
    for asked in [Some("/inner"), None] {
        let container = match asked {
            Some(path) => sleeper().set("/linux/cgroupsPath", path),
            None => sleeper().remove("/linux/cgroupsPath"),
        };
        let container = container.container();
        let pid_file = container.pid_file();
        let create = container.command("create", &["--pid-file", &pid_file.to_string_lossy()]);
        let mut inside = Command::new("sh");
        inside.args(["-c", ENTER]).arg(&directory).arg(LIVE).arg(&pid_file);
        inside.arg(create.get_program()).args(create.get_args()).stdin(Stdio::null());
        let seen = inside.done().ok().stdout();
        let expected = asked.map_or_else(|| format!("/{}", container.id), str::to_owned);
        assert!(seen.contains(&format!("0::{expected}\n")), "{seen}");
        assert_eq!(
            fs::read_dir(&directory).expect("cgroup").flatten().filter(|e| e.path().is_dir()).count(),
            0
        );
    }
    host::remove_cgroups(host::cgroups_with(&own));
}

/// Writing a pid to cgroup.procs waits for the kernel's other processors (7 to 15 ms): a process is born in
/// its cgroup instead, or on v1 writes itself into `tasks`.
fn nobody_is_moved() {
    let trace = directory().join("trace");
    let strace = |command: Command| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", "trace=open,openat,openat2,clone3", "-o"]).arg(&trace);
        strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        let done = strace.done().ok();
        let text = fs::read_to_string(&trace).expect("trace");
        fs::remove_file(&trace).expect("trace");
        assert!(text.contains("clone3(") && text.contains("cgroup"), "not traced: {text}");
        let moved = text.lines().filter(|line| line.contains("cgroup.procs\"") && !line.contains("O_RDONLY"));
        assert_eq!(moved.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", done.describe());
    };
    strace(Bundle::new().steps(&["exit:0"]).container().command("run", &[]));
    let mut container = sleeper().container();
    container.up();
    strace(container.verb("exec", &[], &[bundle::PAYLOAD, "exit:0"]));
}

/// cgroup-v2.rst, "Threads": such a cgroup's children can hold no process.
fn below_a_threaded_cgroup() {
    require!(is_v2(), "only on cgroup v2");
    let bundle = sleeper();
    let parent = format!("{}/threaded", bundle.cgroup_path());
    host::make_cgroups(&parent);
    let directory = host::hierarchies()[0].mountpoint.join(parent.trim_start_matches('/'));
    fs::write(directory.join("cgroup.type"), "threaded").expect("cgroup.type");
    let container = bundle.set("/linux/cgroupsPath", format!("{parent}/inner")).container();
    let stderr = container.refused("").stderr();
    assert!(stderr.contains("threaded") && stderr.contains("choose a"), "{stderr}");
    assert!(!directory.join("inner").exists());
    host::remove_cgroups(host::cgroups_with(&container.bundle.cgroup_path()));
}

/// cgroup-v2.rst, "No Internal Process Constraint".
fn below_a_cgroup_with_processes() {
    require!(is_v2(), "only on cgroup v2");
    needs("hugetlb");
    let mut first = sleeper().container();
    first.up();
    let path = format!("{}/inner", first.bundle.cgroup_path());
    let limits = json!([{ "pageSize": "2MB", "limit": 0 }]);
    let second =
        sleeper().set("/linux/cgroupsPath", path).set("/linux/resources/hugepageLimits", limits).container();
    let stderr = second.refused("hugetlb").stderr();
    // The threaded controllers that are given before it make the cgroup the root of a threaded subtree: then
    // the kernel names that and not the processes.
    let processes = ["has processes of its own", "move them into a child of it, or choose"];
    let threaded = ["is threaded", "choose"];
    assert!([processes, threaded].iter().any(|words| words.iter().all(|w| stderr.contains(w))), "{stderr}");
    assert_eq!(first.status(), "running");
}

/// Nobody is killed to get there: what can be reclaimed goes, and the rest is named.
fn a_limit_below_the_use_is_refused_with_the_numbers() {
    needs("memory");
    let mut container = Bundle::new()
        .set("/linux/resources/memory", json!({ "limit": 128 << 20, "swap": 128 << 20 }))
        .steps(&["hold-memory:64"])
        .container();
    container.up();
    container.await_output("holding");
    let limit = (16 << 20).to_string();
    let update = container.verb("update", &["--memory", &limit, "--memory-swap", &limit], &[]);
    let stderr = update.done().fails("linux.resources.memory.limit: 16777216 bytes, but ").stderr();
    assert!(stderr.contains("bytes are in use and the rest cannot be reclaimed"), "{stderr}");
    let memory = |v1, v2| control("memory", &container.bundle.cgroup_path(), v1, v2);
    assert_eq!(memory("memory.limit_in_bytes", "memory.max"), (128 << 20).to_string());
    assert_eq!(
        memory("memory.memsw.limit_in_bytes", "memory.swap.max"),
        if is_v2() { "0" } else { "134217728" }
    );
    if is_v2() {
        assert_eq!(memory("", "memory.high"), "max", "what was lowered to reclaim");
    }
    assert_eq!(container.status(), "running");
    // Enough for what it holds.
    let limit = (100 << 20).to_string();
    container.verb("update", &["--memory", &limit, "--memory-swap", &limit], &[]).done().ok();
    assert_eq!(memory("memory.limit_in_bytes", "memory.max"), (100 << 20).to_string());
}

/// systemd removes what is empty on a hierarchy of v1 when the last of its own units needs that no more: also a cgroup
/// that berth has made a moment before, for a process that is not there yet.
fn removed_by_another_while_it_is_empty() {
    require!(!is_v2(), "only on cgroup v1");
    let mut neighbour = sleeper().container();
    neighbour.up();
    let pids = format!("/proc/{}/ns/pid", neighbour.pid());
    for kind in ["plain", "user namespace", "joined pid namespace"] {
        for controller in ["blkio", "devices", "pids", "memory", "cpuset"] {
            let Some(mountpoint) = hierarchy_of(controller) else { continue };
            let bundle = || match kind {
                "user namespace" => sleeper().user_namespace(100_000, 65536),
                "joined pid namespace" => sleeper().namespace("pid", Some(&pids)),
                _ => sleeper(),
            };
            // On a busy machine the remover may come too late.
            let met = (0..5).any(|_| created_while_it_is_removed(bundle(), &mountpoint, &pids));
            assert!(met, "{kind}, {controller}: nothing was removed");
        }
    }
}

/// Whether the cgroup was removed meanwhile, at most three times.
fn created_while_it_is_removed(bundle: Bundle, mountpoint: &Path, pids: &str) -> bool {
    let joins = bundle.config.to_string().contains(pids);
    let mut container = bundle.container();
    let path = mountpoint.join(container.bundle.cgroup_path().trim_start_matches('/'));
    let created = AtomicBool::new(false);
    let remove = || {
        let end = Instant::now() + patience();
        let mut removed = 0;
        while removed < 3 && !created.load(Ordering::Relaxed) && Instant::now() < end {
            removed += usize::from(fs::remove_dir(&path).is_ok());
            std::thread::sleep(Duration::from_micros(20));
        }
        removed
    };
    let removed = std::thread::scope(|scope| {
        let remover = scope.spawn(remove);
        container.create();
        created.store(true, Ordering::Relaxed);
        remover.join().expect("the remover")
    });
    let inside = fs::read_to_string(path.join("cgroup.procs")).expect("its cgroup");
    assert_eq!(inside.trim(), container.pid().to_string(), "{path:?}");
    let namespace = |link: &str| fs::read_link(link).expect("a namespace");
    let own = namespace(&format!("/proc/{}/ns/pid", container.pid()));
    assert_ne!(own, namespace("/proc/self/ns/pid"));
    assert_eq!(own == namespace(pids), joins);
    container.start();
    container.finish();
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
    removed > 0
}
