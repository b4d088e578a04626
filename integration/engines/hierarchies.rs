//! A host on which every directory of /sys/fs/cgroup is a hierarchy.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Where a directory of /sys/fs/cgroup is no mount (some machines make one for each controller of the kernel, also
/// for those that cannot be mounted), this process and all that it starts get mounts of their own without it. Podman
/// takes such a directory for a hierarchy, writes its `tasks` file, and cannot remove what is then no cgroup.
///
/// # Errors
/// The mounts could not be made.
pub fn hide_plain_directories() -> io::Result<()> {
    let points = mount_points()?;
    let is_mount = |name: &OsString| points.contains(&Path::new(CGROUPS).join(name));
    let names: Vec<OsString> = fs::read_dir(CGROUPS)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    let is_cgroup2 = Path::new(CGROUPS).join("cgroup.procs").exists();
    if is_cgroup2 || names.iter().all(is_mount) {
        return Ok(());
    }
    let shared = is_shared_root()?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    propagation(MsFlags::MS_PRIVATE)?;
    let aside = std::env::temp_dir().join(format!("berth-engines-cgroups.{}", std::process::id()));
    fs::create_dir(&aside)?;
    let none = None::<&str>;
    mount(Some(CGROUPS), &aside, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    umount2(CGROUPS, MntFlags::MNT_DETACH)?;
    mount(Some("tmpfs"), CGROUPS, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for name in names.iter().filter(|name| is_mount(name)) {
        let point = Path::new(CGROUPS).join(name);
        fs::create_dir(&point)?;
        mount(Some(&aside.join(name)), &point, none, MsFlags::MS_BIND, none)?;
    }
    umount2(&aside, MntFlags::MNT_DETACH)?;
    fs::remove_dir(&aside)?;
    if shared {
        // As systemd makes it: engines want mounts that reach their containers.
        propagation(MsFlags::MS_SHARED)?;
    }
    Ok(())
}

fn propagation(kind: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
}

fn mount_points() -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

fn is_shared_root() -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let root = table.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    Ok(root.is_some_and(|line| line.contains(" shared:")))
}
