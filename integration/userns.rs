//! User namespaces: maps, owners, and what root of the namespace may do.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::os::unix::fs::MetadataExt;

tests! {
    maps_are_written, files_belong_to_the_mapped_ids, several_ranges, unmapped_user_is_refused, mappings_without_a_user_namespace,
    user_namespace_without_mappings_is_refused, joined_user_namespace, clocks_with_a_joined_user_namespace, joined_user_namespace_with_mappings_is_refused, default_mounts,
    identity_of_the_process_outside, too_long_a_map_is_a_clear_error, overlapping_ranges_are_refused, with_a_user_and_groups,
    masks_and_readonly_paths, hooks_run_outside, bind_of_a_directory_that_the_user_cannot_enter, cgroup_mount_stays_readonly,
    seccomp_and_no_new_privileges, root_of_the_namespace_is_powerless_outside, readonly_root, with_a_terminal_size_of_nothing,
    devpts_with_a_mapped_group, sysctl_in_own_namespaces, oom_score,
    sysctls_of_the_hosts_namespace, sysctl_of_the_user_namespace, all_ranges_that_the_kernel_takes, docker_remapped,
    cgroup_is_delegated, cgroup_stays_ours, devices_are_bound,
}

const BASE: u32 = 100_000;

fn mapped() -> Bundle {
    Bundle::new().user_namespace(BASE, 65_536)
}

fn fields(map: &Value) -> Vec<&str> {
    map.as_str().expect("a map").split_whitespace().collect()
}

fn maps_are_written() {
    let report = mapped().report();
    assert_eq!(fields(&report["uid_map"]), ["0", "100000", "65536"]);
    assert_eq!(fields(&report["gid_map"]), ["0", "100000", "65536"]);
    assert_ne!(report.namespace("user"), host::namespace("self", "user"));
    assert_eq!((&report["uid"], &report["gid"]), (&json!([0, 0, 0, 0]), &json!([0, 0, 0, 0])));
}

fn files_belong_to_the_mapped_ids() {
    let bundle = mapped();
    let rootfs = bundle.rootfs();
    let report = bundle.report_after(&["create:/tmp/new", "stat:/tmp/new", "stat:/"]);
    assert_eq!(report.probe("stat:/tmp/new")["uid"], 0);
    assert_eq!(report.probe("stat:/")["uid"], 0);
    let meta = fs::metadata(rootfs.join("tmp/new")).expect("new");
    assert_eq!((meta.uid(), meta.gid()), (BASE, BASE));
}

fn several_ranges() {
    let map = json!([{ "containerID": 0, "hostID": BASE, "size": 1 }, { "containerID": 1, "hostID": 200_000, "size": 10 }, { "containerID": 1000, "hostID": 1000, "size": 1 }]);
    let report = mapped().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map).report();
    assert_eq!(fields(&report["uid_map"]), ["0", "100000", "1", "1", "200000", "10", "1000", "1000", "1"]);
}

fn unmapped_user_is_refused() {
    Bundle::new().user_namespace(BASE, 10).set("/process/user", json!({ "uid": 5000, "gid": 0 })).refused("");
}

fn mappings_without_a_user_namespace() {
    Bundle::new()
        .set("/linux/uidMappings", json!([{ "containerID": 0, "hostID": BASE, "size": 1 }]))
        .refused("");
}

fn user_namespace_without_mappings_is_refused() {
    Bundle::new().namespace("user", None).refused("");
}

fn joined_user_namespace() {
    let mut first = mapped().steps(&["sleep:1000"]).container();
    first.up();
    let pid = first.pid();
    let mut bundle = mapped().remove("/linux/uidMappings").remove("/linux/gidMappings");
    for (kind, name) in [("user", "user"), ("network", "net"), ("pid", "pid")] {
        bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    let report = bundle.report();
    assert_eq!(report.namespace("user"), host::namespace(&pid.to_string(), "user"));
    assert_eq!(fields(&report["uid_map"]), ["0", "100000", "65536"]);
    assert_eq!(report["uid"][0], 0);
}

fn clocks_with_a_joined_user_namespace() {
    require!(std::path::Path::new("/proc/self/ns/time").exists(), "no time namespaces here");
    let mut first = mapped().steps(&["sleep:1000"]).container();
    first.up();
    let path = format!("/proc/{}/ns/user", first.pid());
    let bundle = mapped().remove("/linux/uidMappings").remove("/linux/gidMappings");
    let bundle = bundle.namespace("user", Some(&path)).namespace("time", None);
    let report = bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 1_000_000 } })).report();
    assert_ne!(report.namespace("time"), host::namespace("self", "time"));
    let boottime = report["clocks"]["boottime"].as_i64().expect("a clock");
    assert!(boottime > 1_000_000, "{boottime}");
}

/// config-linux.md: mappings apply to a new user namespace alone.
fn joined_user_namespace_with_mappings_is_refused() {
    let mut first = mapped().steps(&["sleep:1000"]).container();
    first.up();
    let done = mapped().namespace("user", Some(&format!("/proc/{}/ns/user", first.pid()))).container();
    let done = done.run();
    if done.status.success() {
        // runc since 1.2 takes mappings that are the same as those of the namespace; then they must be in force.
        assert_eq!(fields(&Report::parse(&done.stdout())["uid_map"]), ["0", "100000", "65536"]);
    }
}

fn default_mounts() {
    let report = mapped().report();
    for destination in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
        assert!(report.mount(destination).is_some(), "{destination}");
    }
    assert!(report.mount_has("/sys", "ro"));
    assert_eq!(report["dev"]["null"]["minor"], 3);
}

fn identity_of_the_process_outside() {
    let mut container = mapped().steps(&["sleep:1000"]).container();
    container.up();
    let meta = fs::metadata(format!("/proc/{}", container.pid())).expect("process");
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("status");
    assert!(status.contains(&format!("Uid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}")), "{status}");
    assert!(meta.is_dir());
}

/// CVE-2021-43784: more than the kernel takes must be an error and not a wrapped length.
fn too_long_a_map_is_a_clear_error() {
    let map: Vec<Value> = (0..4000)
        .map(|number| json!({ "containerID": number, "hostID": BASE + number, "size": 1 }))
        .collect();
    let done = mapped().set("/linux/uidMappings", json!(map)).container();
    let done = done.run();
    assert_eq!(done.code(), 1, "{}", done.describe());
    assert!(done.stderr().to_lowercase().contains("uid"), "{}", done.describe());
}

fn overlapping_ranges_are_refused() {
    let map = json!([{ "containerID": 0, "hostID": BASE, "size": 10 }, { "containerID": 5, "hostID": 300_000, "size": 10 }]);
    mapped().set("/linux/uidMappings", map).refused("");
}

fn with_a_user_and_groups() {
    let report = mapped()
        .set("/process/user", json!({ "uid": 1000, "gid": 1001, "additionalGids": [10, 20] }))
        .report();
    assert_eq!(
        (&report["uid"][0], &report["gid"][0], &report["groups"]),
        (&json!(1000), &json!(1001), &json!([10, 20]))
    );
    assert_eq!(report["setgroups"], "allow");
}

fn masks_and_readonly_paths() {
    let report = mapped()
        // proc_sys(5): without it the file's mode says no before the mount does.
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_NET_ADMIN"])
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/timer_list", "/sys/firmware"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/bus"]))
        .report_after(&[
            "read:/proc/timer_list",
            "list:/sys/firmware",
            "write:/proc/sys/net/ipv4/ip_forward:1",
        ]);
    assert_eq!(report.probe("read:/proc/timer_list"), "");
    assert_eq!(report.probe("list:/sys/firmware"), &json!([]));
    assert_eq!(report.probe("write:/proc/sys/net/ipv4/ip_forward:1"), "EROFS");
}

fn hooks_run_outside() {
    let out = program::directory().join("hook");
    mapped().hook("createRuntime", &[&format!("report:{}", out.display())]).report();
    let report = Report::parse(&fs::read_to_string(out).expect("hook's report"));
    assert_eq!(report.namespace("user"), host::namespace("self", "user"));
    assert_eq!(report["uid"][0], 0);
}

/// The source is opened by the parent: the namespace's root could not reach it.
fn bind_of_a_directory_that_the_user_cannot_enter() {
    let private = program::directory().join("private");
    fs::create_dir_all(private.join("shared")).expect("directory");
    fs::write(private.join("shared/file"), "text").expect("file");
    fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("mode");
    let report =
        mapped().bind(&private.join("shared"), "/bound", &["bind", "ro"]).report_after(&["read:/bound/file"]);
    assert_eq!(report.probe("read:/bound/file"), "text");
}

/// CVE-2023-25809
fn cgroup_mount_stays_readonly() {
    let report = mapped()
        .namespace("cgroup", None)
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"])
        .report_after(&["mkdir:/sys/fs/cgroup/new", "create:/sys/fs/cgroup/cgroup.procs:0"]);
    assert_eq!(report.probe("mkdir:/sys/fs/cgroup/new"), "EROFS");
}

fn seccomp_and_no_new_privileges() {
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33 }]);
    for privileges in [true, false] {
        let report = mapped()
            .set("/process/noNewPrivileges", privileges)
            .seccomp("SCMP_ACT_ALLOW", rules.clone())
            .report_after(&["mkdir:/tmp/new"]);
        assert_eq!((report.probe("mkdir:/tmp/new"), &report["seccomp"]), (&json!("EDOM"), &json!("2")));
    }
}

fn root_of_the_namespace_is_powerless_outside() {
    let secret = program::directory().join("secret");
    fs::write(&secret, "secret").expect("secret");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    let report = mapped()
        .capabilities(
            &["bounding", "effective", "permitted"],
            &["CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_MKNOD"],
        )
        .bind(&secret, "/etc/secret", &["bind"])
        .report_after(&["read:/etc/secret", "chown:/etc/secret:0", "device:c:1:3"]);
    assert_eq!(report.probe("read:/etc/secret"), &json!({ "error": "EACCES" }));
    assert_eq!(report.probe("chown:/etc/secret:0"), "EPERM");
    assert_eq!(report.probe("device:c:1:3"), "mknod EPERM");
}

fn readonly_root() {
    assert_eq!(
        mapped().set("/root/readonly", true).report_after(&["create:/tmp/new"]).probe("create:/tmp/new"),
        "EROFS"
    );
}

fn with_a_terminal_size_of_nothing() {
    let mut container = mapped().steps(&["sleep:1000"]).container();
    container.up();
    container.verb("kill", &[], &["KILL"]).done().ok();
    container.await_status("stopped");
}

fn devpts_with_a_mapped_group() {
    let report = mapped().report_after(&["stat:/dev/pts/ptmx", "stat:/dev/pts"]);
    assert_eq!(report.probe("stat:/dev/pts")["uid"], 0);
    assert!(report.mount_has("/dev/pts", "ptmxmode=666"), "{:?}", report.mount("/dev/pts"));
}

fn sysctl_in_own_namespaces() {
    let report = mapped()
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "77" }))
        .report_after(&["read:/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
    assert_eq!(report.probe("read:/proc/sys/net/ipv4/ip_unprivileged_port_start"), "77");
}

/// The kernel lets only who has a right in the first user namespace lower the score: berth, for its child.
fn oom_score() {
    let score = |score: i32| mapped().set("/process/oomScoreAdj", score).report()["oom_score_adj"].clone();
    assert_eq!(score(321), "321");
    require!(host::has_capability(caps::Capability::CAP_SYS_RESOURCE), "no CAP_SYS_RESOURCE here");
    assert_eq!(score(-500), "-500");
}

/// The files belong to who owns the namespace: one that was made beside the user namespace is the host's.
fn sysctls_of_the_hosts_namespace() {
    let mut owner = Bundle::new().steps(&["sleep:1000"]).container();
    owner.up();
    let net = "read:/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let ipc = "read:/proc/sys/kernel/shmmni";
    let mut bundle = mapped()
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "77", "kernel.shmmni": "78" }));
    for (kind, name) in [("network", "net"), ("ipc", "ipc")] {
        bundle = bundle.namespace(kind, Some(&format!("/proc/{}/ns/{name}", owner.pid())));
    }
    let report = bundle.without_mount("/dev/mqueue").without_mount("/sys").report_after(&[net, ipc]);
    assert_eq!((report.probe(net), report.probe(ipc)), (&json!("77"), &json!("78")));
    let host = fs::read_to_string("/proc/sys/kernel/shmmni").expect("shmmni");
    assert_ne!(host.trim(), "78");
}

fn sysctl_of_the_user_namespace() {
    let step = "read:/proc/sys/user/max_net_namespaces";
    let sysctl = json!({ "user.max_net_namespaces": "7", "kernel.shmmni": "78" });
    assert_eq!(mapped().set("/linux/sysctl", sysctl.clone()).report_after(&[step]).probe(step), "7");
    Bundle::new().set("/linux/sysctl", sysctl).refused("user");
}

/// 340 (Linux 4.15).
fn all_ranges_that_the_kernel_takes() {
    let map: Vec<Value> =
        (0..340).map(|number| json!({ "containerID": number, "hostID": 1000 + number, "size": 1 })).collect();
    let bundle = Bundle::new().user_namespace(1000, 1).set("/linux/gidMappings", json!(map));
    let report = bundle.set("/linux/uidMappings", json!(map)).set("/process/user/uid", 339).report();
    assert_eq!((fields(&report["uid_map"]).len(), fields(&report["gid_map"]).len()), (3 * 340, 3 * 340));
    assert_eq!(report["uid"][0], 339);
}

const DOCKER: &str = include_str!("bundles/docker.json");

/// Docker's userns-remap with a range for root and one for the others; the volume has the ids of a host
/// that knows nothing of them.
fn docker_remapped() {
    const ROOT: u32 = 200_000;
    const OTHERS: u32 = 300_000;
    let map = json!([{ "containerID": 0, "hostID": ROOT, "size": 1 }, { "containerID": 1, "hostID": OTHERS, "size": 65_535 }]);
    let volume = program::directory().join("volume");
    fs::create_dir(&volume).expect("volume");
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("mode");
    for (name, id) in [("roots", 0), ("users", 1000)] {
        fs::write(volume.join(name), name).expect("file");
        std::os::unix::fs::chown(volume.join(name), Some(id), Some(id)).expect("owner");
    }
    let bundle = || {
        let bundle = Bundle::engine(DOCKER, "");
        let bundle = ["memory", "cpu", "pids", "blockIO"]
            .into_iter()
            .fold(bundle, |bundle, key| bundle.remove(&format!("/linux/resources/{key}")));
        let bundle = bundle.user_namespace(ROOT, 1).set("/linux/uidMappings", map.clone());
        let mount = json!({ "destination": "/volume", "type": "bind", "source": &volume,
            "options": ["rbind", "rw"], "uidMappings": &map, "gidMappings": &map });
        bundle.set("/linux/gidMappings", map.clone()).push("/mounts", mount)
    };
    host::make_cgroups(bundle().cgroup_path().rsplit_once('/').expect("a parent").0);
    let steps = [
        "stat:/volume/roots",
        "stat:/volume/users",
        "create:/volume/new-of-root",
        "stat:/volume/new-of-root",
    ];
    let report = bundle().report_after(&steps);
    assert_eq!(fields(&report["uid_map"]), ["0", "200000", "1", "1", "300000", "65535"]);
    let owner = |step: &str| report.probe(step)["uid"].clone();
    assert_eq!((owner(steps[0]), owner(steps[1]), owner(steps[3])), (json!(0), json!(1000), json!(0)));
    let user = json!({ "uid": 1000, "gid": 1000 });
    let report = bundle().set("/process/user", user).report_after(&["create:/volume/new-of-user", "stat:/"]);
    assert_eq!(report.probe("create:/volume/new-of-user"), "ok");
    assert_eq!(report.probe("stat:/")["uid"], 0);
    for (name, id) in [("roots", 0), ("users", 1000), ("new-of-root", 0), ("new-of-user", 1000)] {
        let meta = fs::metadata(volume.join(name)).expect(name);
        assert_eq!((meta.uid(), meta.gid()), (id, id), "{name} on the host");
    }
}

fn with_cgroup_mount(options: &[&str]) -> Bundle {
    mapped()
        .namespace("cgroup", None)
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", options)
        .set("/process/user/uid", 7)
}

fn cgroup_is_delegated() {
    require!(host::is_v2(), "only on cgroup v2");
    let bundle = with_cgroup_mount(&["rw", "nosuid", "noexec", "nodev"]);
    let path = bundle.cgroup_path();
    let mut container = bundle
        .steps(&[
            "mkdir:/sys/fs/cgroup/below",
            "write:/sys/fs/cgroup/below/cgroup.procs:0",
            "write:/sys/fs/cgroup/memory.max:max",
            "report",
            "sleep:1000",
        ])
        .container();
    container.up();
    let report = container.started_report();
    assert_eq!(report.probe("mkdir:/sys/fs/cgroup/below"), "ok");
    assert_eq!(report.probe("write:/sys/fs/cgroup/below/cgroup.procs:0"), "ok");
    let limit = report.probe("write:/sys/fs/cgroup/memory.max:max");
    assert!(["EACCES", "ENOENT"].contains(&limit.as_str().expect("an errno")), "{limit}");
    let directory = host::cgroups_with(&path).into_iter().min().expect("the cgroup");
    assert_eq!(fs::metadata(&directory).expect("cgroup").uid(), BASE + 7);
    assert_eq!(fs::metadata(directory.join("cgroup.procs")).expect("cgroup.procs").uid(), BASE + 7);
    assert_eq!(fs::metadata(directory.join("cgroup.freeze")).expect("cgroup.freeze").uid(), 0);
    container.finish();
    assert!(host::cgroups_with(&path).is_empty());
}

fn cgroup_stays_ours() {
    require!(host::is_v2(), "only on cgroup v2");
    for bundle in
        [with_cgroup_mount(&["ro", "nosuid"]), with_cgroup_mount(&["rw"]).without_namespace("cgroup")]
    {
        let path = bundle.cgroup_path();
        let mut container = bundle.steps(&["sleep:1000"]).container();
        container.up();
        let directory = host::cgroups_with(&path).into_iter().min().expect("the cgroup");
        assert_eq!(fs::metadata(directory).expect("cgroup").uid(), 0);
    }
}

fn devices_are_bound() {
    let device = json!([{ "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 0, "gid": 0 }]);
    let report =
        mapped().set("/linux/devices", device).report_after(&["open:/dev/zero:r", "open:/dev/null:rw"]);
    assert_eq!(
        (report.probe("open:/dev/zero:r"), report.probe("open:/dev/null:rw")),
        (&json!("ok"), &json!("ok"))
    );
    let fifo = json!([{ "path": "/run/fifo", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6 }]);
    let report = mapped().set("/linux/devices", fifo).report_after(&["stat:/run/fifo"]);
    let stat = report.probe("stat:/run/fifo");
    assert_eq!(
        (&stat["type"], &stat["mode"], &stat["uid"], &stat["gid"]),
        (&json!("p"), &json!("0640"), &json!(5), &json!(6))
    );
}
