//! rootfsPropagation, and that the host's mounts and their propagation stay as they were.

use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::tests;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};

tests! {
    private_by_default, mounts_of_the_host_reach_a_slave, mounts_of_the_host_do_not_reach_a_private_root, shared_root_reaches_the_host,
    slave_bind_of_a_shared_source, hosts_propagation_is_unchanged, unchanged_without_a_mount_namespace,
    mounts_without_a_mount_namespace_end_with_the_container, delete_leaves_what_others_mount_on_the_rootfs, delete_finds_the_mount_of_the_rootfs,
    unknown_propagation_is_refused,
    shared_host_sees_no_mounts, host_mounts_stay_below_a_shared_rootfs,
}

/// This process in a mount namespace of its own in which all is shared, as under systemd.
fn shared_host() {
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    remount(MsFlags::MS_PRIVATE);
    remount(MsFlags::MS_SHARED);
}

fn remount(flag: MsFlags) {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flag, None::<&str>).expect("propagation");
}

fn tmpfs(path: &Path) {
    fs::create_dir_all(path).expect("mount point");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs");
}

/// A shared mount of the host with a directory to mount on.
fn shared_source() -> PathBuf {
    let path = directory().join("source");
    tmpfs(&path);
    mount(None::<&str>, &path, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("shared");
    fs::create_dir(path.join("later")).expect("later");
    path
}

fn table() -> Vec<String> {
    host::mounts().into_iter().map(|mount| mount.line).collect()
}

fn root_propagation(value: Option<&str>) -> Value {
    let mut bundle = Bundle::new();
    if let Some(value) = value {
        bundle = bundle.set("/linux/rootfsPropagation", value);
    }
    bundle.report().mount("/").expect("the root")["propagation"].clone()
}

fn private_by_default() {
    shared_host();
    let words = root_propagation(None);
    assert!(!words.to_string().contains("shared"), "{words}");
    assert!(root_propagation(Some("private")) == json!([]));
    assert!(root_propagation(Some("slave")).to_string().contains("master:"));
    assert!(root_propagation(Some("rslave")).to_string().contains("master:"));
}

/// A container whose bind shows what the host mounts below its source later.
fn sees_later_mounts(bundle: Bundle, options: &[&str]) -> bool {
    let source = shared_source();
    let mut container =
        bundle.bind(&source, "/bound", options).steps(&["echo:ready", "sleep:1000"]).container();
    container.up();
    container.await_output("ready");
    tmpfs(&source.join("later"));
    fs::write(source.join("later/file"), "text").expect("file");
    let seen = Path::new("/proc").join(container.pid().to_string()).join("root/bound/later/file").exists();
    container.finish();
    host::detach_mounts_below(&source);
    seen
}

fn mounts_of_the_host_reach_a_slave() {
    shared_host();
    assert!(sees_later_mounts(Bundle::new().set("/linux/rootfsPropagation", "rslave"), &["rbind", "rslave"]));
}

fn slave_bind_of_a_shared_source() {
    shared_host();
    assert!(sees_later_mounts(Bundle::new().set("/linux/rootfsPropagation", "rslave"), &["rbind"]));
}

fn mounts_of_the_host_do_not_reach_a_private_root() {
    shared_host();
    assert!(!sees_later_mounts(
        Bundle::new().set("/linux/rootfsPropagation", "rprivate"),
        &["rbind", "rprivate"]
    ));
}

fn shared_root_reaches_the_host() {
    shared_host();
    let source = shared_source();
    let report = Bundle::new()
        .set("/linux/rootfsPropagation", "shared")
        .capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"])
        .bind(&source, "/bound", &["rbind", "rshared"])
        .report_after(&["mount:/bound/later"]);
    assert_eq!(report.probe("mount:/bound/later"), "ok");
    assert!(!host::mounts_below(&source.join("later")).is_empty(), "the container's mount is the host's too");
    assert!(report.mount("/").expect("the root")["propagation"].to_string().contains("shared:"));
    host::detach_mounts_below(&source);
}

fn hosts_propagation_is_unchanged() {
    shared_host();
    let before = table();
    for value in ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"]
    {
        Bundle::new().set("/linux/rootfsPropagation", value).steps(&["exit:0"]).container().run().ok();
        assert_eq!(table(), before, "{value}");
    }
}

/// runc 1.5.3: without a mount namespace of its own the container must not change the host's propagation.
fn unchanged_without_a_mount_namespace() {
    shared_host();
    let before = table();
    let mut bundle =
        Bundle::new().without_namespace("mount").without_namespace("pid").set("/mounts", json!([]));
    bundle = bundle.steps(&["exit:0"]);
    let done = bundle.container().run();
    assert_eq!(table(), before, "{}", done.describe());
}

/// config-linux.md#namespaces: what is not listed is inherited, so the mounts are the host's. They end with the
/// container, and those in a volume, which the host shares, are not seen at the volume's source.
fn mounts_without_a_mount_namespace_end_with_the_container() {
    shared_host();
    let source = shared_source();
    let bundle = Bundle::new()
        .without_namespace("mount")
        .mount("/scratch", "tmpfs", "tmpfs", &[])
        .mount("/sealed", "tmpfs", "tmpfs", &["ro"])
        .bind(&source, "/volume", &["rbind"])
        .mount("/volume/later", "tmpfs", "tmpfs", &[])
        .steps(&["create:/scratch/file:x", "create:/volume/later/file:x", "report", "sleep:1000"]);
    let rootfs = bundle.rootfs();
    let before = table();
    let mut container = bundle.container();
    container.up();
    let report = container.started_report();
    assert_eq!(report.namespace("mnt"), host::namespace("self", "mnt"));
    assert_eq!(report.namespace("pid"), host::namespace(&container.pid().to_string(), "pid"));
    let exec = container.verb(
        "exec",
        &[],
        &["/bin/payload", "list:/scratch", "list:/volume/later", "create:/sealed/x:x", "report"],
    );
    let joined = Report::parse(&exec.done().ok().stdout());
    for path in ["/scratch", "/volume/later"] {
        assert_eq!(joined.probe(&format!("list:{path}")), &json!(["file"]), "{path}");
    }
    assert_eq!(joined.probe("create:/sealed/x:x"), "EROFS");
    assert!(rootfs.join("scratch/file").exists(), "it is in the host's mount namespace");
    assert!(!source.join("later/file").exists(), "the tmpfs in the volume is the host's too");
    let inner = |mount: &host::Mount| mount.destination.starts_with(rootfs.join("scratch"));
    let line = host::mounts().into_iter().find(inner).expect("the scratch mount").line;
    assert!(!line.contains("shared:"), "it is seen in other mount namespaces: {line}");
    container.finish();
    assert_eq!(table(), before);
}

/// What is mounted at the rootfs by the time of `delete` is taken away only if berth has mounted it.
fn delete_leaves_what_others_mount_on_the_rootfs() {
    shared_host();
    let bundle = Bundle::new()
        .without_namespace("mount")
        .mount("/scratch", "tmpfs", "tmpfs", &[])
        .steps(&["sleep:1000"]);
    let rootfs = bundle.rootfs();
    let before = table();
    let mut container = bundle.container();
    container.up();
    host::detach_mounts_below(&rootfs);
    assert_eq!(table(), before);
    tmpfs(&rootfs);
    let others = table();
    container.finish();
    assert_eq!(table(), others);
    host::detach_mounts_below(&rootfs);
}

fn delete_finds_the_mount_of_the_rootfs() {
    shared_host();
    let bundle = || {
        let bundle = Bundle::new().without_namespace("mount");
        bundle.mount("/scratch", "tmpfs", "tmpfs", &[]).steps(&["sleep:1000"])
    };
    let before = table();
    // Under another name: statmount(2).
    if host::kernel_is_at_least(6, 8) {
        let mut container = bundle().container();
        container.up();
        let (old, new) = (container.bundle.path.clone(), directory().join("renamed"));
        fs::rename(&old, &new).expect("rename");
        container.verb("delete", &["--force"], &[]).done().ok();
        assert_eq!(table(), before);
        fs::rename(&new, &old).expect("rename");
    }

    // Below what somebody has mounted on it: that is told.
    let mut container = bundle().container();
    let rootfs = container.bundle.rootfs();
    container.up();
    tmpfs(&rootfs);
    let done = container.verb("delete", &["--force"], &[]).done().ok();
    assert!(done.stderr().contains("something else is mounted on"), "{}", done.describe());
    host::detach_mounts_below(&rootfs);
    assert_eq!(table(), before);

    // What would cover the host's root is not mounted.
    let bundle = bundle().set("/root/path", "/");
    bundle.refused("root.path: / without a mount namespace");
}

fn unknown_propagation_is_refused() {
    Bundle::new().set("/linux/rootfsPropagation", "nonsense").refused("rootfsPropagation");
}

fn shared_host_sees_no_mounts() {
    shared_host();
    let before = table();
    let mut container =
        Bundle::new().mount("/scratch", "tmpfs", "tmpfs", &[]).steps(&["sleep:1000"]).container();
    container.up();
    assert_eq!(table(), before);
    container.finish();
    assert_eq!(table(), before);
}

/// A rootfs that is a shared mount itself: pivot_root must not take the host's along.
fn host_mounts_stay_below_a_shared_rootfs() {
    shared_host();
    let bundle = Bundle::new();
    let rootfs = bundle.rootfs();
    mount(Some(&rootfs), &rootfs, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
    mount(None::<&str>, &rootfs, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("shared");
    let before = table();
    let container = bundle.steps(&["exit:0"]).container();
    container.command("run", &[]).done().ok();
    assert_eq!(table(), before);
    drop(container);
}
