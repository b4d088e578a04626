//! Every kind of mount of the engines' bundles, read-only and recursive options, masks, the root.

use crate::harness::program::directory;
use crate::harness::*;
use crate::{require, tests};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

tests! {
    kinds_of_the_default_bundle, tmpfs_mode_and_size, tmpcopyup_takes_what_was_there, bind_of_a_file, bind_of_a_directory,
    readonly_bind, readonly_bind_keeps_the_flags_of_its_source, rbind_takes_submounts_along, bind_leaves_submounts_behind,
    recursive_readonly, recursive_flags, missing_targets_are_made, target_through_symlinks_stays_inside,
    relative_destination_is_below_the_root, order_of_mounts_is_kept, dotdot_in_a_destination_stays_inside, masked_paths,
    readonly_paths, masked_path_that_is_missing, readonly_root, writable_root_by_default, readonly_sysfs,
    cgroup_mount_shows_the_own_cgroup, missing_bind_source_is_refused, unknown_filesystem_is_refused,
    file_on_directory_is_refused, mounts_are_not_seen_by_the_host, no_pivot_works, names_that_are_no_text, host_root_is_not_reachable,
    bind_of_the_hosts_root, mount_flags_one_by_one, atime_flags, without_type_a_bind_option_binds, bind_to_the_root_directory,
    mount_over_the_working_directory, tmpfs_on_a_missing_deep_path, readonly_tmpfs, data_options_reach_the_filesystem,
    unknown_option_is_refused_by_the_filesystem, devpts_is_its_own, propagation_of_a_mount, overlay_root, label_that_nobody_enforces_is_refused,
}

/// A directory of the host with a file in it.
fn source(name: &str) -> PathBuf {
    let path = directory().join(name);
    fs::create_dir_all(&path).expect("source");
    fs::write(path.join("file"), "of the host").expect("file");
    path
}

/// A source with a tmpfs mounted below it, unmounted when dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(flags: MsFlags) -> Self {
        let path = source("tree");
        fs::create_dir_all(path.join("below")).expect("below");
        mount(Some("tmpfs"), &path.join("below"), Some("tmpfs"), flags, None::<&str>).expect("tmpfs below");
        if !flags.contains(MsFlags::MS_RDONLY) {
            fs::write(path.join("below/deep"), "deep").expect("deep");
        }
        Self(path)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        host::detach_mounts_below(&self.0);
    }
}

fn kinds_of_the_default_bundle() {
    let report = Bundle::new().report();
    for (destination, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(report.mount(destination).unwrap_or_else(|| panic!("{destination}"))["type"], kind);
    }
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(report.mount_has("/dev/shm", option) && report.mount_has("/dev/mqueue", option), "{option}");
    }
    assert!(
        report.mount_has("/sys", "ro")
            && report.mount_has("/dev", "nosuid")
            && !report.mount_has("/dev", "nodev")
    );
    let destinations: Vec<_> = report["mounts"]
        .as_array()
        .expect("mounts")
        .iter()
        .map(|mount| mount["destination"].clone())
        .collect();
    assert_eq!(destinations.len(), 7, "the root and six mounts, nothing of the host: {destinations:?}");
}

fn tmpfs_mode_and_size() {
    let report = Bundle::new()
        .mount("/scratch", "tmpfs", "tmpfs", &["mode=1770", "size=64k", "uid=12", "gid=34"])
        .report_after(&["stat:/scratch"]);
    let stat = report.probe("stat:/scratch");
    assert_eq!((&stat["mode"], &stat["uid"], &stat["gid"]), (&json!("1770"), &json!(12), &json!(34)));
    assert!(report.mount_has("/scratch", "size=64k"), "{:?}", report.mount("/scratch"));
}

fn tmpcopyup_takes_what_was_there() {
    let report = Bundle::new()
        .file("/data/one", "1", 0o640)
        .file("/data/sub/two", "2", 0o600)
        .symlink("one", "/data/link")
        .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
        .report_after(&[
            "read:/data/one",
            "read:/data/sub/two",
            "link:/data/link",
            "stat:/data/one",
            "create:/data/new",
            "list:/data",
        ]);
    assert_eq!(report.probe("read:/data/one"), "1");
    assert_eq!(report.probe("read:/data/sub/two"), "2");
    assert_eq!(report.probe("link:/data/link"), "one");
    assert_eq!(report.probe("stat:/data/one")["mode"], "0640");
    assert_eq!(report.mount("/data").expect("a mount")["type"], "tmpfs");
    assert_eq!(report.probe("list:/data"), &json!(["link", "new", "one", "sub"]));
}

fn bind_of_a_file() {
    let path = source("file-source").join("file");
    let report = Bundle::new()
        .bind(&path, "/etc/bound", &["bind"])
        .report_after(&["read:/etc/bound", "write:/etc/bound:changed"]);
    assert_eq!(report.probe("read:/etc/bound"), "of the host");
    assert_eq!(report.probe("write:/etc/bound:changed"), "ok");
    assert!(fs::read_to_string(path).expect("file").starts_with("changed"));
}

fn bind_of_a_directory() {
    let path = source("directory");
    let report = Bundle::new()
        .bind(&path, "/mnt/bound", &["rbind", "rprivate"])
        .report_after(&["read:/mnt/bound/file", "create:/mnt/bound/new:text"]);
    assert_eq!(report.probe("read:/mnt/bound/file"), "of the host");
    assert_eq!(fs::read_to_string(path.join("new")).expect("new"), "text");
}

fn readonly_bind() {
    let path = source("directory");
    let report = Bundle::new()
        .bind(&path, "/bound", &["bind", "ro"])
        .bind(&path.join("file"), "/etc/file", &["rbind", "ro", "nosuid"])
        .report_after(&["create:/bound/new", "write:/bound/file:x", "write:/etc/file:x", "read:/bound/file"]);
    for step in ["create:/bound/new", "write:/bound/file:x", "write:/etc/file:x"] {
        assert_eq!(report.probe(step), "EROFS", "{step}");
    }
    assert_eq!(report.probe("read:/bound/file"), "of the host");
    assert!(
        report.mount_has("/etc/file", "nosuid")
            && report.mount("/etc/file").expect("mount")["options"][0] == "ro"
    );
    fs::write(path.join("file"), "still writable on the host").expect("the source is as it was");
}

/// Flags of a source that the kernel locks in a user namespace must survive the remount.
fn readonly_bind_keeps_the_flags_of_its_source() {
    let tree = Tree::new(MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
    let report = Bundle::new().bind(&tree.0.join("below"), "/bound", &["bind", "ro"]).report();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(report.mount_has("/bound", option), "{option}: {:?}", report.mount("/bound"));
    }
    let report = Bundle::new()
        .user_namespace(100_000, 1000)
        .bind(&tree.0.join("below"), "/bound", &["bind", "ro"])
        .report();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(report.mount_has("/bound", option), "user namespace, {option}: {:?}", report.mount("/bound"));
    }
}

fn rbind_takes_submounts_along() {
    let tree = Tree::new(MsFlags::empty());
    let report = Bundle::new().bind(&tree.0, "/bound", &["rbind"]).report_after(&["read:/bound/below/deep"]);
    assert_eq!(report.probe("read:/bound/below/deep"), "deep");
}

fn bind_leaves_submounts_behind() {
    let tree = Tree::new(MsFlags::empty());
    let report =
        Bundle::new().bind(&tree.0, "/bound", &["bind"]).report_after(&["list:/bound/below", "list:/bound"]);
    assert_eq!(report.probe("list:/bound/below"), &json!([]));
    assert_eq!(report.probe("list:/bound"), &json!(["below", "file"]));
}

/// `ro` is the mount's own; `rro` reaches all below it.
fn recursive_readonly() {
    let tree = Tree::new(MsFlags::empty());
    let steps = ["write:/bound/below/deep:x", "write:/bound/file:x"];
    let plain = Bundle::new().bind(&tree.0, "/bound", &["rbind", "ro"]).report_after(&steps);
    assert_eq!((plain.probe(steps[0]), plain.probe(steps[1])), (&json!("ok"), &json!("EROFS")));
    let recursive = Bundle::new().bind(&tree.0, "/bound", &["rbind", "rro"]).report_after(&steps);
    assert_eq!((recursive.probe(steps[0]), recursive.probe(steps[1])), (&json!("EROFS"), &json!("EROFS")));
}

fn recursive_flags() {
    let tree = Tree::new(MsFlags::MS_NOSUID);
    let report =
        Bundle::new().bind(&tree.0, "/bound", &["rbind", "rnoexec", "rnodev", "rsuid", "rnoatime"]).report();
    for option in ["noexec", "nodev", "noatime"] {
        assert!(
            report.mount_has("/bound", option) && report.mount_has("/bound/below", option),
            "{option}: {}",
            report["mounts"]
        );
    }
    assert!(!report.mount_has("/bound/below", "nosuid"), "rsuid clears it");
}

fn missing_targets_are_made() {
    let path = source("directory");
    let bundle =
        Bundle::new().bind(&path, "/a/b/c", &["bind"]).bind(&path.join("file"), "/d/e/file", &["bind"]);
    let rootfs = bundle.rootfs();
    let report = bundle.report_after(&["stat:/a/b/c/file", "stat:/d/e/file"]);
    assert_eq!(report.probe("stat:/a/b/c/file")["type"], "f");
    assert_eq!(report.probe("stat:/d/e/file")["type"], "f");
    assert!(rootfs.join("a/b/c").is_dir() && rootfs.join("d/e/file").is_file());
}

fn target_through_symlinks_stays_inside() {
    let path = source("directory");
    let outside = source("outside");
    let report = Bundle::new()
        .directory("/real")
        .symlink("/real", "/absolute")
        .symlink("../../../../../../real", "/climbing")
        .symlink(&outside.to_string_lossy(), "/dangling")
        .bind(&path, "/absolute/one", &["bind"])
        .bind(&path, "/climbing/two", &["bind"])
        .bind(&path, "/dangling/three", &["bind"])
        .report_after(&["list:/real"]);
    assert_eq!(report.probe("list:/real"), &json!(["one", "two"]));
    assert!(!outside.join("three").exists(), "made on the host");
    assert!(
        report.mount(&format!("{}/three", outside.display())).is_some(),
        "inside of the root: {}",
        report["mounts"]
    );
}

fn relative_destination_is_below_the_root() {
    let report = Bundle::new().mount("relative/place", "tmpfs", "tmpfs", &[]).report();
    assert!(report.mount("/relative/place").is_some(), "{}", report["mounts"]);
}

fn dotdot_in_a_destination_stays_inside() {
    let report = Bundle::new().mount("/../../inside", "tmpfs", "tmpfs", &[]).report();
    assert!(report.mount("/inside").is_some(), "{}", report["mounts"]);
}

fn order_of_mounts_is_kept() {
    let path = source("directory");
    let report = Bundle::new()
        .mount("/first", "tmpfs", "tmpfs", &[])
        .bind(&path.join("file"), "/first/file", &["bind"])
        .mount("/second", "tmpfs", "tmpfs", &["mode=700"])
        .mount("/second", "tmpfs", "tmpfs", &["mode=711"])
        .report_after(&["read:/first/file", "stat:/second"]);
    assert_eq!(report.probe("read:/first/file"), "of the host");
    assert_eq!(report.probe("stat:/second")["mode"], "0711", "the last one is on top");
}

fn masked_paths() {
    let report = Bundle::new()
        .file("/secret/file", "secret", 0o644)
        .file("/secret-file", "secret", 0o644)
        .set("/linux/maskedPaths", json!(["/secret", "/secret-file", "/proc/kcore", "/proc/timer_list"]))
        .report_after(&[
            "list:/secret",
            "create:/secret/new",
            "read:/secret-file",
            "stat:/secret-file",
            "read:/proc/timer_list",
        ]);
    assert_eq!(report.probe("list:/secret"), &json!([]));
    assert_eq!(report.probe("create:/secret/new"), "EROFS");
    assert_eq!(report.probe("read:/secret-file"), "");
    let stat = report.probe("stat:/secret-file");
    assert_eq!((&stat["type"], &stat["major"], &stat["minor"]), (&json!("c"), &json!(1), &json!(3)));
    assert_eq!(report.probe("read:/proc/timer_list"), "");
}

fn masked_path_that_is_missing() {
    let paths = json!(["/not/there", "/proc/not-there"]);
    Bundle::new().set("/linux/maskedPaths", paths.clone()).set("/linux/readonlyPaths", paths).report();
}

fn readonly_paths() {
    let report = Bundle::new()
        .file("/fixed/file", "text", 0o644)
        .set("/linux/readonlyPaths", json!(["/fixed", "/proc/sys", "/proc/bus"]))
        .report_after(&[
            "write:/fixed/file:x",
            "create:/fixed/new",
            "write:/proc/sys/kernel/domainname:x",
            "read:/fixed/file",
        ]);
    assert_eq!(report.probe("write:/fixed/file:x"), "EROFS");
    assert_eq!(report.probe("create:/fixed/new"), "EROFS");
    assert_eq!(report.probe("write:/proc/sys/kernel/domainname:x"), "EROFS");
    assert_eq!(report.probe("read:/fixed/file"), "text");
    assert!(report.mount_has("/proc/sys", "ro"));
}

fn readonly_root() {
    let report = Bundle::new().set("/root/readonly", true).report_after(&[
        "create:/new",
        "create:/tmp/new",
        "create:/dev/shm/new",
    ]);
    assert_eq!(report.probe("create:/new"), "EROFS");
    assert_eq!(report.probe("create:/tmp/new"), "EROFS");
    assert_eq!(report.probe("create:/dev/shm/new"), "ok", "the mounts in it are as they say");
    assert_eq!(report.mount("/").expect("the root")["options"][0], "ro");
}

fn writable_root_by_default() {
    let bundle = Bundle::new();
    let rootfs = bundle.rootfs();
    assert_eq!(bundle.report_after(&["create:/new:text"]).probe("create:/new:text"), "ok");
    assert_eq!(fs::read_to_string(rootfs.join("new")).expect("new"), "text");
}

fn readonly_sysfs() {
    let report = Bundle::new().report_after(&["write:/sys/kernel/profiling:1", "create:/sys/new"]);
    assert_eq!(report.probe("write:/sys/kernel/profiling:1"), "EROFS");
    assert_eq!(report.probe("create:/sys/new"), "EROFS");
}

fn cgroup_mount_shows_the_own_cgroup() {
    let mut container = Bundle::new()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev", "relatime"])
        .steps(&[
            "list:/sys/fs/cgroup",
            "mkdir:/sys/fs/cgroup/new",
            "read:/sys/fs/cgroup/cgroup.procs",
            "read:/sys/fs/cgroup/pids/cgroup.procs",
            "report",
            "sleep:100",
        ])
        .container();
    container.up();
    let report = container.started_report();
    assert_eq!(report.probe("mkdir:/sys/fs/cgroup/new"), "EROFS");
    if host::is_v2() {
        assert_eq!(report.mount("/sys/fs/cgroup").expect("a mount")["type"], "cgroup2");
        assert_eq!(report.probe("read:/sys/fs/cgroup/cgroup.procs"), "1");
    } else {
        let names = report.probe("list:/sys/fs/cgroup").as_array().expect("names");
        for hierarchy in host::hierarchies() {
            let name = hierarchy.mountpoint.file_name().expect("a name").to_string_lossy().into_owned();
            // Of the cgroup2 of a hybrid host a systemd in the container would take possession.
            assert_eq!(
                !hierarchy.controllers.is_empty(),
                names.contains(&json!(name)),
                "{name} in {names:?}"
            );
        }
        assert_eq!(report.probe("read:/sys/fs/cgroup/pids/cgroup.procs"), "1");
        assert_eq!(report.mount("/sys/fs/cgroup/pids").expect("a mount")["options"][0], "ro");
    }
}

fn missing_bind_source_is_refused() {
    Bundle::new().bind("/does/not/exist".as_ref(), "/mnt", &["bind"]).refused("/does/not/exist");
}

fn unknown_filesystem_is_refused() {
    Bundle::new().mount("/mnt", "nonsense", "none", &[]).refused("nonsense");
}

fn file_on_directory_is_refused() {
    let file = source("directory").join("file");
    // Docker adds a hint where it reads these words.
    Bundle::new().bind(&file, "/tmp", &["bind"]).refused("the source is not a directory");
    let directory = source("directory");
    let bundle = Bundle::new().bind(&file, "/file", &["bind"]).bind(&directory, "/file", &["bind"]);
    bundle.refused("the destination is not a directory");
}

fn mounts_are_not_seen_by_the_host() {
    let mut container =
        Bundle::new().mount("/scratch", "tmpfs", "tmpfs", &[]).steps(&["sleep:1000"]).container();
    container.up();
    let below = host::mounts_below(&container.bundle.path);
    assert!(below.is_empty(), "{below:?}");
}

fn no_pivot_works() {
    let container = Bundle::new().steps(&["list:/", "create:/new", "report"]).container();
    let done = program::Bounded::done(container.command("run", &["--no-pivot"])).ok();
    let report = Report::parse(&done.stdout());
    let names = report.probe("list:/").as_array().expect("names");
    assert!(
        names.contains(&json!("bin")) && !names.contains(&json!("work")) && !names.contains(&json!("lib")),
        "{names:?}"
    );
}

/// A mount point of the host that is not UTF-8, with a procfs that has to go, and a destination that the table of
/// mounts has to write otherwise.
fn names_that_are_no_text() {
    // Of this test alone: others here take mount points for text.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let mount = |kind: Option<&str>, at: &Path, flags| {
        mount(kind, at, kind, flags, None::<&str>).expect("mount");
    };
    mount(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    let odd = directory().join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&odd).expect("directory");
    mount(Some("proc"), &odd, MsFlags::empty());
    let destination = "/in a\nline\t\\";
    for flags in [&[][..], &["--no-pivot"][..]] {
        let bundle = Bundle::new().bind(&directory(), destination, &["bind"]);
        let probe = format!("list:{destination}");
        let container = bundle.steps(&[&probe, "report"]).container();
        let done = program::Bounded::done(container.command("run", flags)).ok();
        let report = Report::parse(&done.stdout());
        assert!(report.probe(&probe).is_array(), "{}", report.probe(&probe));
    }
    nix::mount::umount(&odd).expect("umount");
}

fn host_root_is_not_reachable() {
    let report =
        Bundle::new().report_after(&["list:/..", "list:/proc/1/root", "list:/proc/self/cwd/../../.."]);
    let root = report.probe("list:/..").clone();
    assert!(
        root.as_array().expect("names").contains(&json!("bin"))
            && !root.as_array().expect("names").contains(&json!("usr"))
    );
    assert_eq!(report.probe("list:/proc/1/root"), &root);
    assert_eq!(report.probe("list:/proc/self/cwd/../../.."), &root);
    // Nothing goes from the container to the host. The other way mounts may come, as with runc: where
    // the host's are shared, the container's root is a slave of the one that its rootfs lies on.
    let shared = |mount: &Value| {
        mount["propagation"]
            .as_array()
            .expect("propagation")
            .iter()
            .any(|word| word.as_str().expect("word").starts_with("shared"))
    };
    assert!(!report["mounts"].as_array().expect("mounts").iter().any(shared), "{}", report["mounts"]);
}

/// crun#2262: it must show the host's root and not the container's.
fn bind_of_the_hosts_root() {
    let report = Bundle::new().bind("/".as_ref(), "/host", &["rbind", "ro"]).report_after(&[
        "list:/host",
        "stat:/host/etc/passwd",
        "list:/host/proc",
    ]);
    let inside = report.probe("list:/host").as_array().expect("names");
    for entry in fs::read_dir("/").expect("root").flatten() {
        assert!(
            inside.contains(&json!(entry.file_name().to_string_lossy())),
            "{:?} of {inside:?}",
            entry.file_name()
        );
    }
}

fn mount_flags_one_by_one() {
    for (option, shown) in [
        ("nosuid", true),
        ("nodev", true),
        ("noexec", true),
        ("ro", true),
        ("nosymfollow", true),
        ("sync", true),
    ] {
        let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[option]).report();
        assert_eq!(report.mount_has("/mnt", option), shown, "{option}: {:?}", report.mount("/mnt"));
    }
    let report = Bundle::new()
        .mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "nodev", "suid", "defaults", "rw"])
        .report();
    assert!(!report.mount_has("/mnt", "nosuid") && report.mount_has("/mnt", "nodev"), "the last word counts");
}

fn atime_flags() {
    for (option, shown) in [("noatime", "noatime"), ("relatime", "relatime"), ("nodiratime", "nodiratime")] {
        let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[option]).report();
        assert!(report.mount_has("/mnt", shown), "{option}: {:?}", report.mount("/mnt"));
    }
    let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["strictatime"]).report();
    assert!(
        !report.mount_has("/mnt", "relatime") && !report.mount_has("/mnt", "noatime"),
        "{:?}",
        report.mount("/mnt")
    );
}

fn without_type_a_bind_option_binds() {
    let path = source("directory");
    let mount = json!({ "destination": "/bound", "source": path, "options": ["rbind"] });
    let report = Bundle::new().push("/mounts", mount).report_after(&["read:/bound/file"]);
    assert_eq!(report.probe("read:/bound/file"), "of the host");
    let mount = json!({ "destination": "/bound", "type": "none", "source": path, "options": ["bind"] });
    let report = Bundle::new().push("/mounts", mount).report_after(&["read:/bound/file"]);
    assert_eq!(report.probe("read:/bound/file"), "of the host");
}

/// Relative sources are below the bundle (config.md, Mounts).
fn bind_to_the_root_directory() {
    let bundle = Bundle::new().bind("beside".as_ref(), "/beside", &["bind"]);
    fs::create_dir(bundle.path.join("beside")).expect("beside");
    fs::write(bundle.path.join("beside/file"), "of the bundle").expect("file");
    assert_eq!(bundle.report_after(&["read:/beside/file"]).probe("read:/beside/file"), "of the bundle");
}

fn mount_over_the_working_directory() {
    let report = Bundle::new()
        .mount("/work", "tmpfs", "tmpfs", &["mode=755"])
        .set("/process/cwd", "/work")
        .report_after(&["stat:."]);
    assert_eq!(report["cwd"], json!({ "Ok": "/work" }));
    let mount = report.mount("/work").expect("a mount");
    assert_eq!(mount["type"], "tmpfs");
}

fn tmpfs_on_a_missing_deep_path() {
    let report = Bundle::new()
        .mount("/one/two/three", "tmpfs", "tmpfs", &["size=4k"])
        .report_after(&["create:/one/two/three/file"]);
    assert_eq!(report.probe("create:/one/two/three/file"), "ok");
}

fn readonly_tmpfs() {
    let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["ro"]).report_after(&["create:/mnt/file"]);
    assert_eq!(report.probe("create:/mnt/file"), "EROFS");
}

fn data_options_reach_the_filesystem() {
    let report = Bundle::new().mount_options("/proc", &["hidepid=2", "nosuid", "noexec", "nodev"]).report();
    let mount = report.mount("/proc").expect("proc");
    assert!(
        mount["super"]
            .as_array()
            .expect("super")
            .iter()
            .any(|option| option.as_str().is_some_and(|text| text.starts_with("hidepid"))),
        "{mount}"
    );
    let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["nr_inodes=7"]).report();
    assert!(report.mount_has("/mnt", "nr_inodes=7"), "{:?}", report.mount("/mnt"));
}

fn unknown_option_is_refused_by_the_filesystem() {
    Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &["nonsense=1"]).refused("/mnt");
}

fn devpts_is_its_own() {
    let report = Bundle::new().report_after(&["list:/dev/pts", "stat:/dev/pts/ptmx"]);
    assert_eq!(report.probe("list:/dev/pts"), &json!(["ptmx"]));
    assert_eq!(report.probe("stat:/dev/pts/ptmx")["mode"], "0666");
    assert_eq!(report["links"]["/dev/ptmx"], "pts/ptmx");
    assert!(report.mount_has("/dev/pts", "mode=620") && report.mount_has("/dev/pts", "gid=5"));
}

fn propagation_of_a_mount() {
    for (option, shown) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ] {
        let report = Bundle::new().mount("/mnt", "tmpfs", "tmpfs", &[option]).report();
        let propagation = report.mount("/mnt").expect("a mount")["propagation"].clone();
        let words = propagation.as_array().expect("words");
        let fits = if shown.is_empty() {
            words.is_empty()
        } else {
            words.iter().any(|word| word.as_str().is_some_and(|word| word.starts_with(shown)))
        };
        assert!(fits, "{option}: {propagation}");
    }
}

/// A rootfs that is itself a mount, as with every engine's overlay.
fn overlay_root() {
    let bundle = Bundle::new();
    for name in ["upper", "work", "merged"] {
        fs::create_dir(bundle.path.join(name)).expect("overlay directory");
    }
    let at = |name: &str| bundle.path.join(name).display().to_string();
    let data = format!("lowerdir={},upperdir={},workdir={}", at("rootfs"), at("upper"), at("work"));
    let target = bundle.path.join("merged");
    let mounted = mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(data.as_str()));
    crate::require!(mounted.is_ok(), "no overlay filesystem here: {mounted:?}");
    let path = bundle.path.clone();
    let report =
        bundle.set("/root/path", target.to_string_lossy().into_owned()).report_after(&["create:/new:text"]);
    host::detach_mounts_below(&path);
    assert_eq!(report.mount("/").expect("the root")["type"], "overlay");
    assert_eq!(fs::read_to_string(path.join("upper/new")).expect("new"), "text");
}

/// One that only berth knew of would protect nothing.
fn label_that_nobody_enforces_is_refused() {
    require!(!Path::new("/sys/fs/selinux/enforce").exists(), "SELinux is in this kernel");
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let labelled = || Bundle::new().set("/linux/mountLabel", label);
    labelled().refused("mount tmpfs at /dev");
    // A mqueue takes no context as an option, but its root does.
    let alone = ["/dev", "/dev/pts", "/dev/shm"].into_iter().fold(labelled(), Bundle::without_mount);
    let bundle = alone.without_mount("/dev/mqueue").directory("/q").mount("/q", "mqueue", "mqueue", &[]);
    bundle.refused("set linux.mountLabel");
}
