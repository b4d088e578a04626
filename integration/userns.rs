//! User namespaces: maps, owners, and what root of the namespace may do.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::os::unix::fs::MetadataExt;

tests! {
    maps_are_written, files_belong_to_the_mapped_ids, several_ranges, unmapped_user_is_refused, mappings_without_a_user_namespace,
    user_namespace_without_mappings_is_refused, joined_user_namespace, joined_user_namespace_with_mappings_is_refused, default_mounts,
    identity_of_the_process_outside, too_long_a_map_is_a_clear_error, overlapping_ranges_are_refused, with_a_user_and_groups,
    masks_and_readonly_paths, hooks_run_outside, bind_of_a_directory_that_the_user_cannot_enter, cgroup_mount_stays_readonly,
    seccomp_and_no_new_privileges, root_of_the_namespace_is_powerless_outside, readonly_root, with_a_terminal_size_of_nothing,
    devpts_with_a_mapped_group, sysctl_in_own_namespaces, oom_score,
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
