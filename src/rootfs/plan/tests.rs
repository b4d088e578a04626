//! Plans of the specs that engines write, and of those that make no sense.

use oci_spec::runtime::Spec;

use super::*;
use crate::rootfs::{CgroupView, Hierarchy, Place};

fn spec(mounts: &str, linux: &str) -> Spec {
    let text = format!(
        r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},"mounts":[{mounts}],"linux":{{{linux}}},
            "process":{{"cwd":"/work/../app","args":["true"],"user":{{"uid":0,"gid":0}}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn place(mountpoint: &str, path: &str) -> Place {
    Place { mountpoint: mountpoint.into(), path: path.into(), callers: Some("session".into()) }
}

fn request(spec: &Spec) -> Request<'_> {
    Request {
        spec,
        bundle: Path::new("/bundle"),
        rootfs: Path::new("/bundle/rootfs"),
        cgroups: CgroupView::V2(place("/sys/fs/cgroup", "/box/1")),
        user_namespace: false,
        cgroup_namespace: false,
        network_namespace: true,
        mount_namespace: true,
        cgroup_v1: None,
        label_option: "context",
        no_pivot: false,
        uid_gid_of_root: (0, 0),
    }
}

fn compiled(mounts: &str, linux: &str) -> Result<Plan> {
    plan(&request(&spec(mounts, linux)), &mut Vec::new())
}

fn only_mount(plan: &Plan) -> &Mount {
    match &plan.steps[..] {
        [Step::Mount(mount)] => mount,
        steps => panic!("{steps:?}"),
    }
}

fn refused(mounts: &str) -> String {
    compiled(mounts, "").unwrap_err().to_string()
}

#[test]
fn a_filesystem_is_flags_and_data() {
    let plan = compiled(
        r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs",
            "options":["nosuid","strictatime","mode=755","size=65536k"]}"#,
        "",
    )
    .unwrap();
    let What::Filesystem(tmpfs) = &only_mount(&plan).what else { panic!() };
    assert_eq!(tmpfs.fstype.as_c_str(), c"tmpfs");
    assert_eq!(tmpfs.flags, libc::MS_NOSUID | libc::MS_STRICTATIME);
    assert_eq!(tmpfs.data, [c"mode=755".to_owned(), c"size=65536k".to_owned()]);
    assert!(!tmpfs.readonly_later);
    // Devices are made in /dev by its name afterwards.
    assert!(tmpfs.ordinary_directory);
    assert_eq!(plan.devices.as_ref().unwrap().len(), 6);
    assert_eq!(plan.cwd.as_deref(), Some(Path::new("/app")));
}

#[test]
fn destinations_resolve_against_the_root() {
    for (written, meant) in [("data", "/data"), ("/a/./b/../c//", "/a/c"), ("/../..", "/")] {
        let plan =
            compiled(&format!(r#"{{"destination":"{written}","type":"tmpfs","source":"x"}}"#), "").unwrap();
        assert_eq!(only_mount(&plan).destination, Path::new(meant));
    }
}

#[test]
fn a_bind_needs_no_type_and_is_relative_to_the_bundle() {
    let plan = compiled(r#"{"destination":"/x","source":"data","options":["rbind","ro","rprivate"]}"#, "");
    let plan = plan.unwrap();
    let mount = only_mount(&plan);
    let What::Bind(bind) = &mount.what else { panic!() };
    assert_eq!((bind.source.as_path(), bind.clone), (Path::new("/bundle/data"), Clone::Recursive));
    assert_eq!(mount.attributes, Change { set: attr::RDONLY, clear: 0 });
    let typed = compiled(r#"{"destination":"/x","type":"bind","source":"/data"}"#, "").unwrap();
    assert!(matches!(&only_mount(&typed).what, What::Bind(bind) if bind.clone == Clone::One));
}

#[test]
fn a_readonly_tmpfs_is_filled_before_it_is_sealed() {
    let plan = compiled(r#"{"destination":"/x","type":"tmpfs","options":["ro","noexec"]}"#, "").unwrap();
    let What::Filesystem(tmpfs) = &only_mount(&plan).what else { panic!() };
    assert!(tmpfs.readonly_later);
    assert_eq!(tmpfs.flags, libc::MS_NOEXEC);
    let sysfs = compiled(r#"{"destination":"/sys","type":"sysfs","options":["ro"]}"#, "").unwrap();
    let What::Filesystem(sysfs) = &only_mount(&sysfs).what else { panic!() };
    assert!(!sysfs.readonly_later && sysfs.ordinary_directory);
    assert_eq!(sysfs.flags, libc::MS_RDONLY);
}

#[test]
fn an_unknown_filesystem_is_the_kernels_to_judge() {
    let plan = compiled(r#"{"destination":"/x","type":"zfs","source":"pool/x","options":["a=b"]}"#, "");
    let plan = plan.unwrap();
    let What::Filesystem(zfs) = &only_mount(&plan).what else { panic!() };
    assert_eq!((zfs.fstype.as_c_str(), zfs.source.as_c_str()), (c"zfs", c"pool/x"));
}

#[test]
fn mounts_that_make_no_sense_are_named() {
    for (mount, message) in [
        (r#"{"destination":"","type":"tmpfs"}"#, "mounts[0]: destination: empty"),
        (r#"{"destination":"/x","type":"bind"}"#, "mounts[0]: source: a bind mount needs one"),
        (
            r#"{"destination":"/x","options":["rbind"],"source":""}"#,
            "mounts[0]: source: a bind mount needs one",
        ),
        (r#"{"destination":"/x"}"#, "mounts[0]: type: missing, and the options do not say bind or rbind"),
        (
            r#"{"destination":"/x","type":"proc","options":["tmpcopyup"]}"#,
            "mounts[0]: options: tmpcopyup is for a tmpfs, not for proc",
        ),
        (
            r#"{"destination":"/x","type":"bind","source":"/a","options":["tmpcopyup"]}"#,
            "mounts[0]: options: tmpcopyup is for a tmpfs, not for a bind mount",
        ),
        (
            r#"{"destination":"/x","type":"tmpfs","options":["idmap=uids=0-0-1;gids=0-0-1"]}"#,
            "mounts[0]: id mappings of a mount that is no bind mount",
        ),
    ] {
        assert_eq!(refused(mount), message);
    }
    let long =
        format!(r#"{{"destination":"/x","type":"overlay","options":["lowerdir={}"]}}"#, "a".repeat(4096));
    assert!(refused(&long).contains("the kernel takes 4096"));
}

#[test]
fn below_proc_only_what_is_harmless() {
    for path in ["/proc/sys", "/proc/self/attr", "/proc/../proc/1", "/proc/cpuinfo/x", "/proc/sys/kernel"] {
        let mount = format!(r#"{{"destination":"{path}","type":"bind","source":"/x"}}"#);
        assert!(refused(&mount).contains("is inside /proc"), "{path}");
    }
    assert!(refused(r#"{"destination":"/proc","type":"tmpfs"}"#).contains("only a procfs"));
    for allowed in ["/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/processes", "/etc/proc/sys"] {
        let mount = format!(r#"{{"destination":"{allowed}","type":"bind","source":"/x"}}"#);
        assert!(compiled(&mount, "").is_ok(), "{allowed}");
    }
    // A bind is looked at once it is open.
    let plan = compiled(r#"{"destination":"/proc","type":"bind","source":"/proc"}"#, "").unwrap();
    assert!(matches!(&only_mount(&plan).what, What::Bind(bind) if bind.must_be_procfs));
}

#[test]
fn the_callers_dev_is_not_filled() {
    let plan = compiled(r#"{"destination":"/dev/","options":["rbind"],"source":"/dev"}"#, "").unwrap();
    assert!(plan.devices.is_none());
}

#[test]
fn linux_devices_replace_the_defaults() {
    let plan = compiled(
        "",
        r#""devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":7,"gid":8},
                      {"path":"/dev/fifo","type":"p"}]"#,
    )
    .unwrap();
    let nodes = plan.devices.unwrap();
    assert_eq!(nodes.len(), 7);
    let null = nodes.iter().find(|node| node.path == Path::new("/dev/null")).unwrap();
    assert_eq!((null.mode, null.owner), (0o600, (7, 8)));
    assert!(compiled("", r#""devices":[{"path":"/dev/x","type":"a","major":1,"minor":3}]"#).is_err());
    assert!(compiled("", r#""devices":[{"path":"/dev/x","type":"c","major":-1,"minor":3}]"#).is_err());
}

#[test]
fn rootfs_propagation_is_the_roots_and_cuts_off_the_host() {
    for (word, host, root) in [
        ("", Some(libc::MS_SLAVE), None),
        ("slave", Some(libc::MS_SLAVE), Some((libc::MS_SLAVE, false))),
        ("rslave", Some(libc::MS_SLAVE), Some((libc::MS_SLAVE, true))),
        ("private", Some(libc::MS_PRIVATE), Some((libc::MS_PRIVATE, false))),
        ("rprivate", Some(libc::MS_PRIVATE), Some((libc::MS_PRIVATE, true))),
        ("shared", None, Some((libc::MS_SHARED, false))),
        ("rshared", None, Some((libc::MS_SHARED, true))),
        ("unbindable", Some(libc::MS_PRIVATE), Some((libc::MS_UNBINDABLE, false))),
    ] {
        let plan = compiled("", &format!(r#""rootfsPropagation":"{word}""#)).unwrap();
        let root = root.map(|(flag, recursive)| Propagation { flag, recursive });
        assert_eq!((plan.host_propagation, plan.root_propagation), (host, root), "{word}");
    }
    assert!(compiled("", r#""rootfsPropagation":"public""#).is_err());
}

#[test]
fn without_a_mount_namespace_the_mounts_are_the_hosts() {
    for (mounts, linux, on_host) in [
        (r#"{"destination":"/x","type":"tmpfs"}"#, "", true),
        ("", r#""maskedPaths":["/proc/kcore"]"#, true),
        ("", r#""readonlyPaths":["/proc/sys"]"#, true),
        ("", "", false),
    ] {
        let spec = spec(mounts, linux);
        let request = Request { mount_namespace: false, no_pivot: true, ..request(&spec) };
        let plan = plan(&request, &mut Vec::new()).unwrap();
        assert_eq!((plan.entry, plan.on_host), (Entry::Chroot, on_host), "{mounts} {linux}");
    }
    let spec = spec(r#"{"destination":"/","type":"tmpfs"}"#, "");
    let request = Request { mount_namespace: false, ..request(&spec) };
    let error = plan(&request, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "mounts[0]: destination: a mount at / without a mount namespace");
}

#[test]
fn paths_to_mask_are_absolute() {
    let error = compiled("", r#""maskedPaths":["/a","b"]"#).unwrap_err().to_string();
    assert_eq!(error, r#"linux.maskedPaths[1]: "b" is not absolute"#);
}

#[test]
fn a_label_goes_to_those_that_take_one() {
    let mounts = r#"{"destination":"/x","type":"tmpfs"},{"destination":"/proc","type":"proc"},
        {"destination":"/dev/mqueue","type":"mqueue"}"#;
    let plan = compiled(mounts, r#""mountLabel":"a:b:c:s0:c1,c2""#).unwrap();
    let labelled = |step: &Step| {
        matches!(step, Step::Mount(mount)
        if matches!(&mount.what, What::Filesystem(fs) if fs.label.is_some()))
    };
    let labels: Vec<bool> = plan.steps.iter().map(labelled).collect();
    assert_eq!(labels, [true, false, false]);
    let roots = plan.steps.iter().filter(|step| {
        matches!(step, Step::Mount(mount)
        if matches!(&mount.what, What::Filesystem(fs) if fs.label_of_root.is_some()))
    });
    assert_eq!(roots.count(), 1, "a mqueue has a label of its root");
}

#[test]
fn a_label_is_the_option_that_is_asked_for() {
    let spec = spec(r#"{"destination":"/x","type":"tmpfs"}"#, r#""mountLabel":"a:b:c:s0:c1,c2""#);
    for option in ["context", "rootcontext"] {
        let request = Request { label_option: option, ..request(&spec) };
        let plan = plan(&request, &mut Vec::new()).unwrap();
        let What::Filesystem(tmpfs) = &only_mount(&plan).what else { panic!() };
        let expected = format!(r#"{option}="a:b:c:s0:c1,c2""#);
        assert_eq!(tmpfs.label.as_ref().unwrap().word(), expected.as_bytes());
        assert_eq!(plan.label.unwrap().option.to_str().unwrap(), option);
    }
}

#[test]
fn sysfs_without_a_network_namespace_is_the_hosts() {
    let spec = spec(r#"{"destination":"/sys","type":"sysfs","options":["ro"]}"#, "");
    for (user_namespace, network_namespace, fallback) in
        [(true, false, true), (true, true, false), (false, false, false)]
    {
        let request = Request { user_namespace, network_namespace, ..request(&spec) };
        let plan = plan(&request, &mut Vec::new()).unwrap();
        let What::Filesystem(sysfs) = &only_mount(&plan).what else { panic!() };
        assert_eq!(sysfs.fallback.is_some(), fallback);
    }
}

const CGROUP: &str = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["ro","nosuid"]}"#;

#[test]
fn cgroup2_is_bound_or_mounted() {
    let spec = spec(CGROUP, "");
    let own = plan(&request(&spec), &mut Vec::new()).unwrap();
    let mount = only_mount(&own);
    assert!(matches!(&mount.what, What::Bind(bind)
        if bind.source == Path::new("/sys/fs/cgroup/box/1") && bind.by_child));
    let safe = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    assert_eq!(mount.attributes, Change { set: safe, clear: 0 });
    let request = Request { cgroup_namespace: true, ..request(&spec) };
    let new = plan(&request, &mut Vec::new()).unwrap();
    assert!(matches!(&only_mount(&new).what, What::Filesystem(fs)
        if fs.fstype.as_c_str() == c"cgroup2" && fs.fallback.is_some()));
}

/// What is mounted where, in words.
fn story(plan: &Plan) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Symlink { path, target } => format!("{} -> {}", path.display(), target.display()),
        Step::Mount(mount) => match &mount.what {
            What::Bind(bind) => format!("{} = {}", mount.destination.display(), bind.source.display()),
            What::Filesystem(fs) => {
                let data: Vec<_> = fs.data.iter().map(|word| word.to_string_lossy()).collect();
                let sealed = if fs.readonly_later { " sealed later" } else { "" };
                let fstype = fs.fstype.to_string_lossy();
                format!("{} {fstype} {}{sealed}", mount.destination.display(), data.join(","))
            }
        },
    };
    plan.steps.iter().map(word).collect()
}

#[test]
fn one_hierarchy_of_cgroup1_takes_the_place_of_a_mount() {
    let named = || Hierarchy { names: vec!["name=systemd".into()], at: place("/mnt/named", "/box") };
    let bind =
        r#"{"destination":"/sys/fs/cgroup/","type":"bind","source":"/sys/fs/cgroup","options":["rbind"]}"#;
    for mount in [CGROUP, bind] {
        let spec = spec(mount, "");
        let sealed = if mount == CGROUP { " sealed later" } else { "" };
        for (cgroup_namespace, shown) in [
            (true, "/sys/fs/cgroup/systemd cgroup none,name=systemd"),
            (false, "/sys/fs/cgroup/systemd = /mnt/named/box"),
        ] {
            let cgroup_v1 = Some((Path::new("/sys/fs/cgroup"), named()));
            let plan = plan(&Request { cgroup_namespace, cgroup_v1, ..request(&spec) }, &mut Vec::new());
            let tmpfs = format!("/sys/fs/cgroup tmpfs mode=755{sealed}");
            assert_eq!(story(&plan.unwrap()), [&tmpfs, shown]);
        }
    }
    // Elsewhere nothing changes.
    let spec = spec(CGROUP, "");
    let cgroup_v1 = Some((Path::new("/cgroup"), named()));
    let plan = plan(&Request { cgroup_v1, ..request(&spec) }, &mut Vec::new()).unwrap();
    assert_eq!(story(&plan), ["/sys/fs/cgroup = /sys/fs/cgroup/box/1"]);
}

#[test]
fn cgroup1_is_a_directory_of_hierarchies() {
    let hierarchy = |names: &[&str], directory: &str| Hierarchy {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        at: place(&format!("/sys/fs/cgroup/{directory}"), "/box"),
    };
    let spec = spec(CGROUP, "");
    let request = |cgroup_namespace| Request {
        cgroup_namespace,
        cgroups: CgroupView::V1(vec![
            hierarchy(&["cpu", "cpuacct"], "cpu,cpuacct"),
            hierarchy(&["name=systemd"], "systemd"),
            hierarchy(&["memory"], "memory"),
        ]),
        ..request(&spec)
    };
    assert_eq!(
        story(&plan(&request(false), &mut Vec::new()).unwrap()),
        [
            "/sys/fs/cgroup tmpfs mode=755 sealed later",
            "/sys/fs/cgroup/cpu,cpuacct = /sys/fs/cgroup/cpu,cpuacct/box",
            "/sys/fs/cgroup/cpu -> cpu,cpuacct",
            "/sys/fs/cgroup/cpuacct -> cpu,cpuacct",
            "/sys/fs/cgroup/systemd = /sys/fs/cgroup/systemd/box",
            "/sys/fs/cgroup/memory = /sys/fs/cgroup/memory/box",
        ]
    );
    assert_eq!(
        story(&plan(&request(true), &mut Vec::new()).unwrap()),
        [
            "/sys/fs/cgroup tmpfs mode=755 sealed later",
            "/sys/fs/cgroup/cpu,cpuacct cgroup cpu,cpuacct",
            "/sys/fs/cgroup/cpu -> cpu,cpuacct",
            "/sys/fs/cgroup/cpuacct -> cpu,cpuacct",
            "/sys/fs/cgroup/systemd cgroup none,name=systemd",
            "/sys/fs/cgroup/memory cgroup memory",
        ]
    );
}

#[test]
fn what_is_ignored_is_said() {
    let mounts =
        format!(r#"{CGROUP},{{"destination":"/x","type":"bind","source":"/x","options":["size=1"]}}"#);
    let spec = spec(&mounts, "");
    let mut warnings = Vec::new();
    let request = Request { cgroups: CgroupView::None, ..request(&spec) };
    assert_eq!(plan(&request, &mut warnings).unwrap().steps.len(), 1);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}
