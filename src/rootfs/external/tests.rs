use super::*;
use crate::rootfs::{Request, plan};
use oci_spec::runtime::Spec;

fn planned(mounts: &str, masked: &str) -> Plan {
    let json = format!(
        r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "mounts": [{mounts}],
            "linux": {{"maskedPaths": [{masked}], "namespaces": [{{"type": "mount"}}]}}}}"#
    );
    let spec: Spec = serde_json::from_str(&json).unwrap();
    let request = Request {
        spec: &spec,
        bundle: Path::new("/b"),
        rootfs: Path::new("/b/rootfs"),
        cgroups: crate::rootfs::CgroupView::None,
        user_namespace: false,
        cgroup_namespace: false,
        network_namespace: true,
        mount_namespace: true,
        cgroup_v1: None,
        label_option: "context",
        no_pivot: false,
        uid_gid_of_root: (0, 0),
    };
    plan(&request, &mut Vec::new()).unwrap()
}

fn names(externals: &[External]) -> Vec<&str> {
    externals.iter().map(|external| external.destination.to_str().unwrap()).collect()
}

const BINDS: &str = r#"
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/vol", "type": "bind", "source": "/nowhere/data", "options": ["rbind"]},
    {"destination": "/a/../etc/hosts", "type": "bind", "source": "/nowhere/hosts", "options": ["bind"]}"#;

const CONTAINER: &str = "\
136 66 254:0 /rootfs / rw,relatime - ext4 /dev/vda rw
160 136 0:54 / /proc rw,relatime - proc proc rw
161 136 254:0 /data /vol rw,relatime - ext4 /dev/vda rw
162 161 0:60 / /vol/sub rw,relatime - tmpfs tmpfs rw
163 161 0:61 / /vol/own rw,relatime - tmpfs tmpfs rw
164 136 254:0 /hosts /etc/hosts rw,relatime - ext4 /dev/vda rw
165 160 0:6 /null /proc/keys rw,relatime - devtmpfs devtmpfs rw
166 160 0:49 / /proc/acpi ro,relatime - tmpfs tmpfs rw
";

const HOST: &str = "\
30 1 254:0 / / rw,relatime - ext4 /dev/vda rw
60 59 0:60 / /nowhere/data/sub rw,relatime - tmpfs tmpfs rw
61 59 0:99 / /nowhere/data/own rw,relatime - tmpfs tmpfs rw
62 59 0:98 / /nowhere/database rw,relatime - tmpfs tmpfs rw
";

#[test]
fn names_what_shows_the_host_and_nothing_else() {
    let plan = planned(BINDS, r#""/proc/keys", "/proc/acpi", "/proc/absent""#);
    let externals = plan.external_mounts(CONTAINER.as_bytes(), HOST.as_bytes()).unwrap();
    // /vol/own is the container's: the host has another file system there.
    assert_eq!(names(&externals), ["/vol/sub", "/vol", "/etc/hosts", "/proc/keys"]);
}

#[test]
fn a_restore_knows_the_source_of_every_name() {
    let plan = planned(BINDS, r#""/proc/keys""#);
    let externals = plan.sources_of_external_mounts(HOST.as_bytes());
    let source = |destination: &str| {
        let found = externals.iter().find(|external| external.destination == Path::new(destination));
        found.map(|external| external.source.to_str().unwrap())
    };
    assert_eq!(source("/vol"), Some("/nowhere/data"));
    assert_eq!(source("/vol/sub"), Some("/nowhere/data/sub"));
    assert_eq!(source("/etc/hosts"), Some("/nowhere/hosts"));
    assert_eq!(source("/proc/keys"), Some("/dev/null"));
    assert_eq!(source("/dev/zero"), Some("/dev/zero"));
    assert_eq!(source("/nowhere/database"), None);
}

/// Names, and where each is.
fn places(container: &str) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let externals = planned(BINDS, "").external_mounts(container.as_bytes(), HOST.as_bytes()).unwrap();
    externals.iter().map(|external| (text(&external.destination), text(&external.point))).collect()
}

#[test]
fn a_mount_that_a_symlink_led_elsewhere_is_found_by_what_it_shows() {
    let container = CONTAINER.replace(" /vol", " /real/vol");
    let container = container.replace("161 136 254:0 /data", "161 136 254:0 /nowhere/data");
    let expected = [("/vol/sub", "/real/vol/sub"), ("/vol", "/real/vol"), ("/etc/hosts", "/etc/hosts")];
    assert_eq!(places(&container), expected.map(|(name, point)| (name.to_owned(), point.to_owned())));
}

#[test]
fn a_mount_that_shows_something_else_is_refused() {
    for (from, to) in [
        // Another directory, another file system.
        ("254:0 /data /vol ", "254:0 /data /real/vol "),
        ("254:0 /data /vol ", "254:1 /nowhere/data /real/vol "),
        // It stands for another mount of config.json.
        ("254:0 /hosts /etc/hosts", "254:0 /nowhere/data /etc/hosts"),
    ] {
        let container =
            CONTAINER.replace(" /vol/", " /x/").replace(from, to).replace(" /data /vol ", " /data /y ");
        let plan = planned(BINDS, "");
        let error = plan.external_mounts(container.as_bytes(), HOST.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("the mount at /vol is not in the container any more"), "{error}");
    }
}

#[test]
fn the_last_of_two_mounts_at_one_place_counts() {
    let twice = r#"
        {"destination": "/vol", "type": "bind", "source": "/nowhere/first", "options": ["bind"]},
        {"destination": "/vol/", "type": "bind", "source": "/nowhere/second", "options": ["bind"]}"#;
    let externals = planned(twice, "").sources_of_external_mounts(b"");
    let vol: Vec<_> = externals.iter().filter(|external| external.destination.ends_with("vol")).collect();
    assert_eq!(vol.len(), 1);
    assert_eq!(vol[0].source, Path::new("/nowhere/second"));
}
