//! An ordinary user's containers: with and without granted ids, with and without a cgroup of its own, in
//! a user namespace that berth makes and in one that an engine has made.

use crate::harness::program::{Bounded, berth_in};
use crate::harness::user::{ID, RANGE, RANGE_SIZE, User, UsersContainer};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::os::unix::fs::MetadataExt;

tests! {
    what_spec_writes_runs, whole_life_without_ranges, whole_life_with_ranges, state_is_in_the_runtime_directory,
    groups_without_ranges_are_refused, ids_that_are_not_granted_are_refused, user_that_is_not_mapped_is_refused,
    devices_are_the_hosts, devices_that_the_host_lacks_are_refused, volume_from_a_private_home,
    idmapped_volume_is_refused, own_network, terminal_in_the_foreground, hooks_run_as_the_user,
    limits_without_a_cgroup_are_refused, nothing_to_freeze_without_a_cgroup, kill_all_without_a_cgroup,
    life_in_a_delegated_cgroup, limits_in_a_delegated_cgroup, limits_beyond_the_delegated_cgroup_are_refused,
    under_an_engines_user_namespace, exec_under_an_engines_user_namespace, pid_namespace_joined_under_an_engines_user_namespace,
    clocks_under_an_engines_user_namespace, exec_before_the_clocks_are_its_own, limits_under_an_engines_user_namespace_are_refused, rights_that_the_user_lacks_are_refused,
    another_users_container_is_out_of_reach, list_and_ps
    ; alone: scope_of_the_users_systemd, scope_under_an_engines_user_namespace,
}

fn ranges(inside: u32) -> Value {
    json!([{ "containerID": 0, "hostID": ID, "size": 1 }, { "containerID": 1, "hostID": inside, "size": RANGE_SIZE }])
}

/// With all granted ids mapped.
fn mapped(user: &User) -> Bundle {
    user.spec().set("/linux/uidMappings", ranges(RANGE)).set("/linux/gidMappings", ranges(RANGE))
}

fn map(report: &Report, name: &str) -> Vec<u32> {
    let text = report[name].as_str().expect("a map");
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

fn what_spec_writes_runs() {
    let user = User::without_ranges();
    let report = user.container(user.spec()).report_after(&["create:/tmp/new", "stat:/tmp/new"]);
    assert_eq!((map(&report, "uid_map"), map(&report, "gid_map")), (vec![0, ID, 1], vec![0, ID, 1]));
    assert_eq!(report["setgroups"], "deny");
    assert_eq!((&report["uid"][0], &report["gid"][0], &report["groups"]), (&json!(0), &json!(0), &json!([])));
    assert_eq!(report.probe("stat:/tmp/new")["uid"], 0);
    for (kind, own) in
        [("user", true), ("mnt", true), ("pid", true), ("ipc", true), ("uts", true), ("net", false)]
    {
        assert_eq!(report.namespace(kind) != host::namespace("self", kind), own, "{kind}");
    }
    assert_eq!(report.capabilities("effective"), ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    for destination in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
        assert!(report.mount(destination).is_some(), "{destination}");
    }
    assert!(report.mount_has("/sys", "ro"));
}

/// create, state, start, exec, kill, delete; the exec's report.
fn whole_life(container: &mut UsersContainer<'_>, exec_user: &str) -> Report {
    container.up(&[]);
    container.started_report();
    let state = container.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(container.pid())));
    assert_eq!(state["owner"], "berth-user");
    container.verb("delete", &[], &[]).done().fails("not stopped: running");
    let done = container.verb("exec", &["--user", exec_user], &["/bin/payload", "report"]).done().ok();
    let code = container.verb("exec", &[], &["/bin/payload", "exit:7"]).done();
    code.exits(7);
    container.finish();
    Report::parse(&done.stdout())
}

fn sleeper(bundle: Bundle) -> Bundle {
    bundle.args(&["/bin/payload", "report", "sleep:1000"])
}

fn whole_life_without_ranges() {
    let user = User::without_ranges();
    let report = whole_life(&mut user.container(sleeper(user.spec())), "0:0");
    assert_eq!((&report["uid"][0], &report["groups"]), (&json!(0), &json!([])));
    assert_eq!(map(&report, "uid_map"), [0, ID, 1]);
}

/// Processes and files of other ids than the user's own: those may be killed and removed too.
fn whole_life_with_ranges() {
    let user = User::with_ranges();
    let bundle = mapped(&user)
        .set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [10, 20] }))
        .args(&["/bin/payload", "create:/tmp/new", "report", "sleep:1000"]);
    let rootfs = bundle.rootfs();
    let mut container = user.container(bundle);
    let report = whole_life(&mut container, "33:34");
    assert_eq!((&report["uid"][0], &report["gid"][0]), (&json!(33), &json!(34)));
    assert_eq!(map(&report, "uid_map"), [0, ID, 1, 1, RANGE, RANGE_SIZE]);
    assert_eq!(report["setgroups"], "allow");
    let meta = fs::metadata(rootfs.join("tmp/new")).expect("new");
    assert_eq!((meta.uid(), meta.gid()), (RANGE + 999, RANGE + 1000));
}

fn state_is_in_the_runtime_directory() {
    let user = User::without_ranges();
    let mut container = user.container(sleeper(user.spec()));
    container.up(&[]);
    let root = user.runtime_directory().join("berth");
    let meta = fs::metadata(&root).expect("the state root");
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o1700, ID));
    assert!(root.join(&container.id).join("state.json").exists());
    container.finish();
    assert_eq!(fs::read_dir(&root).expect("the state root").count(), 0);
}

fn groups_without_ranges_are_refused() {
    let user = User::without_ranges();
    for (group, words) in [(0, "setgroups is denied in this user namespace"), (10, "not mapped")] {
        let bundle = user.spec().set("/process/user/additionalGids", json!([group]));
        user.container(bundle).refused(words);
    }
}

fn ids_that_are_not_granted_are_refused() {
    let user = User::with_ranges();
    let bundle = mapped(&user).set("/linux/uidMappings", ranges(RANGE + 1));
    user.container(bundle).refused("/etc/subuid");
    let bundle = mapped(&user).set("/linux/gidMappings", ranges(RANGE + 1));
    user.container(bundle).refused("/etc/subgid");
}

fn user_that_is_not_mapped_is_refused() {
    let user = User::without_ranges();
    let bundle = user.spec().set("/process/user/uid", 1000);
    user.container(bundle).refused("not mapped");
}

fn devices_are_the_hosts() {
    let user = User::without_ranges();
    let report =
        user.container(user.spec()).report_after(&["open:/dev/null:rw", "open:/dev/zero:r", "device:c:1:3"]);
    assert_eq!(report.probe("open:/dev/null:rw"), "ok");
    assert_eq!(report.probe("open:/dev/zero:r"), "ok");
    assert_eq!(report.probe("device:c:1:3"), "mknod EPERM");
    // The owner is nobody's here: the host's root.
    assert_eq!((&report["dev"]["null"]["minor"], &report["dev"]["null"]["uid"]), (&json!(3), &json!(65534)));
    assert_eq!(report.mount("/dev/null").expect("a bind")["type"], host_type("/dev"));
}

/// The file system type of the host's mount.
fn host_type(destination: &str) -> String {
    let mounts = host::mounts();
    mounts
        .iter()
        .rev()
        .find(|mount| mount.destination.to_str() == Some(destination))
        .expect("a mount")
        .kind
        .clone()
}

fn devices_that_the_host_lacks_are_refused() {
    let user = User::without_ranges();
    // Numbers for local use (Documentation/admin-guide/devices.txt).
    let device = json!([{ "path": "/dev/not-there", "type": "c", "major": 240, "minor": 199 }]);
    user.container(user.spec().set("/linux/devices", device)).refused("/dev/not-there");
    let device = json!([{ "path": "/dev/zero", "type": "c", "major": 240, "minor": 199 }]);
    user.container(user.spec().set("/linux/devices", device)).refused("another device");
}

fn volume_from_a_private_home() {
    let user = User::without_ranges();
    let volume = user.home.join("volume");
    fs::create_dir(&volume).expect("volume");
    std::os::unix::fs::chown(&volume, Some(ID), Some(ID)).expect("owner of the volume");
    let bundle =
        user.spec().bind(&volume, "/volume", &["rbind", "rw"]).bind(&volume, "/fixed", &["rbind", "ro"]);
    let report = user.container(bundle).report_after(&[
        "create:/volume/new:text",
        "read:/fixed/new",
        "create:/fixed/x",
    ]);
    assert_eq!(report.probe("create:/volume/new:text"), "ok");
    assert_eq!(report.probe("read:/fixed/new"), "text");
    assert_eq!(report.probe("create:/fixed/x"), "EROFS");
    assert_eq!(fs::metadata(volume.join("new")).expect("new").uid(), ID);
}

/// Only who owns the file system may map its ids.
fn idmapped_volume_is_refused() {
    let user = User::with_ranges();
    let volume = user.home.join("volume");
    fs::create_dir(&volume).expect("volume");
    let bundle = mapped(&user).bind(&volume, "/volume", &["rbind", "idmap"]);
    user.container(bundle).refused("operation not permitted");
}

fn own_network() {
    let user = User::without_ranges();
    let bundle = user
        .spec()
        .namespace("network", None)
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "77" }))
        .without_mount("/sys")
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    let step = "read:/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let report = user.container(bundle).report_after(&[step, "list:/sys/class/net"]);
    let interfaces = report["interfaces"].as_array().expect("interfaces");
    assert!(interfaces.iter().any(|one| one["name"] == "lo" && one["up"] == true), "{interfaces:?}");
    assert_eq!(report.probe(step), "77");
    assert!(!report.probe("list:/sys/class/net").as_array().expect("a list").contains(&json!("eth0")));
}

fn terminal_in_the_foreground() {
    let user = User::with_ranges();
    let bundle = mapped(&user).set("/process/terminal", true).set("/process/user/uid", 1000);
    let container = user.container(bundle);
    let report = container.report_after(&["stat:/dev/console"]);
    assert_eq!(report["tty"][0]["name"], "/dev/pts/0");
    assert_eq!(report.probe("stat:/dev/console")["type"], "c");
}

fn hooks_run_as_the_user() {
    let user = User::without_ranges();
    let out = user.home.join("hook");
    let container =
        user.container(user.spec()).hook("createRuntime", &[&format!("report:{}", out.display())]);
    container.run().ok();
    let report = Report::parse(&fs::read_to_string(out).expect("the hook's report"));
    assert_eq!(report["uid"], json!([ID, ID, ID, ID]));
    assert_eq!(report.namespace("user"), host::namespace("self", "user"));
}

fn limits_without_a_cgroup_are_refused() {
    let user = User::without_ranges();
    let limit = json!({ "limit": 10 });
    require!(host::hierarchy_of("pids").is_some(), "no controller pids here");
    let container = user.container(user.spec().set("/linux/resources/pids", limit));
    container.refused("--systemd-cgroup");
    let stderr = container.run().stderr();
    assert!(stderr.contains("delegated to you"), "{stderr}");
    // The rules for devices are no limit: what they would forbid, an ordinary user cannot open anyway.
    let rules = json!([{ "allow": false, "access": "rwm" }]);
    user.container(user.spec().set("/linux/resources/devices", rules)).report_after(&[]);
}

fn nothing_to_freeze_without_a_cgroup() {
    let user = User::without_ranges();
    let mut container = user.container(sleeper(user.spec()));
    container.up(&[]);
    let remedy = "create it as root, with --systemd-cgroup, or below a cgroup that is delegated to you";
    container
        .verb("pause", &[], &[])
        .done()
        .fails(&format!("no cgroup with a freezer; it runs in the cgroup of whoever created it: {remedy}"));
    container.verb("update", &["--pids-limit", "9"], &[]).done().fails(remedy);
    assert_eq!(container.state()["status"], "running");
    container.finish();
}

/// Children of init that has ended go with its pid namespace.
fn kill_all_without_a_cgroup() {
    let user = User::with_ranges();
    let bundle = mapped(&user).args(&["/bin/payload", "background:sleep:1000", "echo:up", "sleep:1000"]);
    let mut container = user.container(bundle);
    container.up(&[]);
    container.await_output("up");
    container.verb("kill", &["--all"], &["KILL"]).done().ok();
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
}

/// The container in the user's cgroup; its path.
fn in_delegated(user: &User, bundle: Bundle) -> (Bundle, String) {
    let path = format!("{}/container", user.cgroup());
    (bundle.set("/linux/cgroupsPath", path.clone()), path)
}

fn life_in_a_delegated_cgroup() {
    let user = User::with_ranges().delegated();
    let (bundle, path) = in_delegated(&user, sleeper(mapped(&user)));
    let mut container = user.container(bundle);
    container.up(&[]);
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    for line in table.lines() {
        let controllers = line.split(':').nth(1).expect("controllers");
        let mounted = host::hierarchies().iter().any(|one| one.controllers.join(",") == controllers);
        assert!(!mounted || line.ends_with(&path), "{table}");
    }
    container.verb("pause", &[], &[]).done().ok();
    assert_eq!(container.state()["status"], "paused");
    container.verb("resume", &[], &[]).done().ok();
    container.await_status("running");
    let done = container.verb("exec", &[], &["/bin/payload", "read:/proc/self/cgroup", "report"]).done().ok();
    assert_eq!(Report::parse(&done.stdout())["uid"][0], 0);
    container.finish();
    assert_eq!(host::cgroups_with(&path), Vec::<std::path::PathBuf>::new());
}

fn limits_in_a_delegated_cgroup() {
    require!(host::hierarchy_of("pids").is_some(), "no controller pids here");
    require!(host::hierarchy_of("memory").is_some(), "no controller memory here");
    let user = User::without_ranges().delegated();
    let (bundle, path) = in_delegated(&user, user.spec());
    let bundle = bundle
        .set("/linux/resources/pids", json!({ "limit": 5 }))
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }))
        .args(&["/bin/payload", "fork:20", "report", "sleep:1000"]);
    let mut container = user.container(bundle);
    container.up(&[]);
    let report = container.started_report();
    assert_eq!(report.probe("fork:20"), &json!({ "born": 4, "stopped": "EAGAIN" }));
    assert_eq!(host::control("pids", &path, "pids.max", "pids.max"), "5");
    assert_eq!(host::control("memory", &path, "memory.limit_in_bytes", "memory.max"), "67108864");
    container.verb("update", &["--pids-limit", "9"], &[]).done().ok();
    assert_eq!(host::control("pids", &path, "pids.max", "pids.max"), "9");
    container.finish();
}

fn limits_beyond_the_delegated_cgroup_are_refused() {
    require!(host::hierarchy_of("pids").is_some(), "no controller pids here");
    let user = User::without_ranges().delegated();
    let bundle = user
        .spec()
        .set("/linux/cgroupsPath", format!("{}-not/container", user.cgroup()))
        .set("/linux/resources/pids", json!({ "limit": 5 }));
    user.container(bundle).refused("delegated to you");
    assert_eq!(host::cgroups_with("delegated-not"), Vec::<std::path::PathBuf>::new());
}

const PODMAN: &str = include_str!("bundles/podman.json");

/// Rootless engines (Podman, Docker's rootlesskit) make the user and mount namespaces themselves and call
/// the runtime as root of them, with every right there and none outside.
fn run_under_an_engine(user: &User, container: &UsersContainer<'_>, global: &[&str]) -> Done {
    container.bundle.write();
    let mut command = user.command("unshare".as_ref());
    // It maps by newuidmap(1), as Podman does.
    command.args(["--user", "--map-root-user", "--map-auto", "--mount"]);
    command.arg(program::directory().join("berth")).args(global).args(["run", "--bundle"]);
    command.arg(&container.bundle.path).arg(&container.id);
    command.done()
}

fn podman(user: &User) -> Bundle {
    let bundle = Bundle::engine(PODMAN, "");
    let bundle = ["memory", "cpu", "pids", "blockIO"]
        .into_iter()
        .fold(bundle, |bundle, key| bundle.remove(&format!("/linux/resources/{key}")));
    user.own(bundle.remove("/linux/cgroupsPath").remove("/process/rlimits").remove("/process/oomScoreAdj"))
}

fn under_an_engines_user_namespace() {
    let user = User::with_ranges();
    let container = user.container(podman(&user).args(&["/bin/payload", "open:/dev/null:rw", "report"]));
    let report = Report::parse(&run_under_an_engine(&user, &container, &[]).ok().stdout());
    assert_eq!(report["uid"][0], 0);
    assert_eq!(map(&report, "uid_map")[..5], [0, ID, 1, 1, RANGE]);
    assert_eq!(report.probe("open:/dev/null:rw"), "ok");
    assert!(report.mount("/sys/fs/cgroup").is_some());
    let root = user.runtime_directory().join("berth");
    assert_eq!(fs::read_dir(root).expect("the state root").count(), 0);
}

/// A shell in a user namespace as Podman makes it, in which `$berth` and `$bundle` are set.
fn engine(user: &User, container: &UsersContainer<'_>, script: &str) -> Done {
    container.bundle.write();
    let mut command = user.command("unshare".as_ref());
    command.args(["--user", "--map-root-user", "--map-auto", "--mount", "sh", "-ec", script]);
    command.env("berth", program::directory().join("berth")).env("bundle", &container.bundle.path);
    command.done()
}

/// The host's pid namespace, in which the engine is, is not its to return to.
fn exec_under_an_engines_user_namespace() {
    let user = User::with_ranges();
    let container = user.container(podman(&user).args(&["/bin/payload", "sleep:1000"]));
    let script = "$berth run --detach --bundle $bundle execs </dev/null >/dev/null 2>&1
        trap '$berth delete --force execs' EXIT
        $berth exec execs /bin/payload report
        status=0; $berth exec execs /bin/payload exit:7 || status=$?
        $berth exec --detach --pid-file pid execs /bin/payload sleep:1000 </dev/null >/dev/null 2>&1
        test -e /proc/$(cat pid) && exit $status";
    let done = engine(&user, &container, script).exits(7);
    let report = Report::parse(&done.stdout());
    assert_eq!((&report["uid"][0], map(&report, "uid_map")[..3].to_vec()), (&json!(0), vec![0, ID, 1]));
    assert_ne!(report.namespace("pid"), host::namespace("self", "pid"));
}

/// What a pod's containers do that share a pid namespace. The hook is the engine's: it is born outside.
fn pid_namespace_joined_under_an_engines_user_namespace() {
    let user = User::with_ranges();
    let first = user.container(podman(&user).args(&["/bin/payload", "sleep:1000"]));
    let namespaces = json!([
        { "type": "pid", "path": "/proc/PID-OF-FIRST/ns/pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" },
    ]);
    let second =
        user.container(podman(&user).set("/linux/namespaces", namespaces).args(&["/bin/payload", "report"]));
    let hook = second.bundle.path.join("hook");
    let second = second.hook("createRuntime", &[&format!("report:{}", hook.display())]);
    second.bundle.write();
    let script = "$berth run --detach --pid-file pid --bundle $bundle first </dev/null >/dev/null 2>&1
        trap '$berth delete --force first' EXIT
        sed \"s/PID-OF-FIRST/$(cat pid)/\" SECOND/config.json >new
        mv -f new SECOND/config.json
        $berth run --bundle SECOND second";
    let done = engine(&user, &first, &script.replace("SECOND", &second.bundle.path.to_string_lossy())).ok();
    let report = Report::parse(&done.stdout());
    assert_ne!(report.namespace("pid"), host::namespace("self", "pid"));
    assert_ne!(report["pid"], 1, "the first is there");
    let hook = Report::parse(&fs::read_to_string(hook).expect("the hook's report"));
    assert_eq!(hook.namespace("pid"), host::namespace("self", "pid"));
}

fn clocks_under_an_engines_user_namespace() {
    require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespaces in this kernel");
    let user = User::with_ranges();
    let bundle = podman(&user)
        .namespace("time", None)
        .set("/linux/timeOffsets", json!({ "boottime": { "secs": 864_000 } }))
        .args(&["/bin/payload", "read:/proc/uptime", "report"]);
    let container = user.container(bundle);
    let report = Report::parse(&run_under_an_engine(&user, &container, &[]).ok().stdout());
    let uptime = report.probe("read:/proc/uptime").as_str().expect("a text");
    let seconds: f64 = uptime.split(' ').next().expect("a word").parse().expect("a number");
    assert!(seconds >= 864_000.0, "{uptime}");
}

/// Until its execve init is in the host's time namespace, which nobody joins without rights over it.
fn exec_before_the_clocks_are_its_own() {
    require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespaces in this kernel");
    let user = User::without_ranges();
    let bundle = sleeper(user.spec())
        .namespace("time", None)
        .set("/linux/timeOffsets", json!({ "boottime": { "secs": 864_000 } }));
    let mut container = user.container(bundle);
    container.create(&[]);
    container.verb("exec", &[], &["/bin/payload", "exit:7"]).done().exits(7);
    container.finish();
}

fn limits_under_an_engines_user_namespace_are_refused() {
    require!(host::hierarchy_of("pids").is_some(), "no controller pids here");
    let user = User::with_ranges();
    let bundle = podman(&user).set("/linux/resources/pids", json!({ "limit": 5 }));
    let container = user.container(bundle);
    run_under_an_engine(&user, &container, &[]).fails("delegated to you");
}

fn rights_that_the_user_lacks_are_refused() {
    let user = User::without_ranges();
    for (pointer, value, words) in [
        ("/process/oomScoreAdj", json!(-500), "oom_score_adj"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "hard": 1u64 << 30, "soft": 1024 }]),
            "RLIMIT_NOFILE",
        ),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 5 }), "CAP_SYS_NICE"),
        ("/linux/namespaces", json!([{ "type": "pid" }, { "type": "mount" }]), "user namespace"),
    ] {
        user.container(user.spec().set(pointer, value)).refused(words);
    }
}

fn another_users_container_is_out_of_reach() {
    let user = User::without_ranges();
    let mut roots = Bundle::new().steps(&["sleep:1000"]).container();
    roots.up();
    let theirs = program::root().to_string_lossy().into_owned();
    for words in [&["kill", &roots.id, "KILL"][..], &["delete", "--force", &roots.id], &["state", &roots.id]]
    {
        let mut args = vec!["--root", &theirs];
        args.extend(words);
        let done = user.berth(&args).done();
        assert!(!done.status.success(), "{}", done.describe());
    }
    assert_eq!(roots.status(), "running");
}

fn list_and_ps() {
    let user = User::with_ranges();
    let mut container = user.container(sleeper(mapped(&user)).set("/process/user/uid", 5));
    container.up(&[]);
    let list = user.berth(&["list", "--format", "json"]).done().ok().stdout();
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!(container.id), &json!("running")));
    // Root sees it too, where it is told where to look.
    let root = user.runtime_directory().join("berth");
    let done = berth_in(&root, &["list", "--quiet"]).done().ok();
    assert_eq!(done.stdout().trim(), container.id);
    let done = container.verb("ps", &["--format", "json"], &[]).done().ok();
    assert_eq!(serde_json::from_str::<Value>(&done.stdout()).expect("JSON"), json!([container.pid()]));
    container.finish();
}

fn in_scope(user: &User, container: &mut UsersContainer<'_>) -> String {
    let config = &mut container.bundle.config;
    bundle::set(config, "/linux/cgroupsPath", format!("user.slice:berth-test:{}", container.id).into());
    bundle::set(config, "/linux/resources/pids", json!({ "limit": 5 }));
    bundle::set(config, "/linux/resources/memory", json!({ "limit": 64 << 20 }));
    format!("{}/user.slice/berth-test-{}.scope", user.manager_cgroup(), container.id)
}

/// Delegation as users have it: by their own systemd.
fn scope_of_the_users_systemd() {
    require!(host::is_v2(), "only on cgroup v2");
    let user = User::with_session();
    let bundle = user.spec().args(&["/bin/payload", "fork:20", "report", "sleep:1000"]);
    let mut container = user.container(bundle);
    let path = in_scope(&user, &mut container);
    container.up(&["--systemd-cgroup"]);
    let report = container.started_report();
    assert_eq!(report.probe("fork:20"), &json!({ "born": 4, "stopped": "EAGAIN" }));
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
    assert_eq!(table.trim_end(), format!("0::{path}"));
    assert_eq!(host::control("memory", &path, "", "memory.max"), "67108864");
    container.verb("pause", &[], &[]).done().ok();
    assert_eq!(container.state()["status"], "paused");
    container.verb("resume", &[], &[]).done().ok();
    // From a session beside it the kernel lets nobody into the scope.
    let exec = container.verb("exec", &[], &["/bin/payload", "exit:7"]);
    exec.done().fails_with(255, "systemd-run --user --scope");
    let mut scope = user.command("systemd-run".as_ref());
    scope.args(["--user", "--scope", "--quiet"]).arg(program::directory().join("berth"));
    scope.args(["exec", &container.id, "/bin/payload", "exit:7"]);
    scope.done().exits(7);
    container.verb("update", &["--pids-limit", "9"], &[]).done().ok();
    assert_eq!(host::control("pids", &path, "", "pids.max"), "9");
    container.finish();
    assert!(host::cgroups_with(&container.id).is_empty());
}

/// As rootless Podman calls it by default.
fn scope_under_an_engines_user_namespace() {
    require!(host::is_v2(), "only on cgroup v2");
    let user = User::with_session();
    let mut container = user.container(podman(&user).args(&["/bin/payload", "fork:20", "report"]));
    in_scope(&user, &mut container);
    let report = Report::parse(&run_under_an_engine(&user, &container, &["--systemd-cgroup"]).ok().stdout());
    assert_eq!(report.probe("fork:20"), &json!({ "born": 4, "stopped": "EAGAIN" }));
    assert!(host::cgroups_with(&container.id).is_empty());
}
