//! The cgroup layout that is measured on, and the benchmark's own directory in it.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The host's own layout first; where that is v1 or hybrid, then a mount namespace with v2 alone.
pub fn layouts() -> Result<Vec<&'static str>> {
    Ok(if is_v2() { vec!["v2"] } else { vec!["v1", "v2"] })
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// A directory below which every container of one run has its cgroup. Dropping it removes it.
pub struct Hierarchy {
    /// Whether /sys/fs/cgroup is cgroup2.
    pub v2: bool,
    /// Controllers by their names in config.json's sense of v1 or v2 ("memory", "cpu", "pids", "blkio", "io").
    pub controllers: Vec<String>,
    /// The mount point of each hierarchy that takes a process: one on v2, one per controller on v1.
    pub mounts: Vec<PathBuf>,
    /// The benchmark's own directory, relative to each hierarchy.
    pub directory: String,
}

impl Hierarchy {
    /// Enters a private mount namespace; if `layout` is "v2" and the host is not, /sys/fs/cgroup is cgroup2 there.
    pub fn enter(layout: &str) -> Result<Hierarchy> {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make / private")?;
        if layout == "v2" && !is_v2() {
            umount2(ROOT, MntFlags::MNT_DETACH).context("detach the host's /sys/fs/cgroup")?;
            mount(Some("cgroup2"), ROOT, Some("cgroup2"), MsFlags::empty(), none).context("mount cgroup2")?;
        }
        let directory = format!("berth-bench-{}", std::process::id());
        let hierarchy = if is_v2() {
            let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?;
            let controllers = controllers.split_whitespace().map(str::to_owned).collect();
            Hierarchy { v2: true, controllers, mounts: vec![PathBuf::from(ROOT)], directory }
        } else {
            let mounts: Vec<PathBuf> = mounts_of("cgroup")?;
            let controllers = mounts.iter().filter_map(|mount| mount.file_name());
            let controllers = controllers.flat_map(|name| {
                let names: Vec<String> = name.to_string_lossy().split(',').map(str::to_owned).collect();
                names
            });
            Hierarchy { v2: false, controllers: controllers.collect(), mounts, directory }
        };
        for mount in &hierarchy.mounts {
            let own = mount.join(&hierarchy.directory);
            fs::create_dir(&own).with_context(|| format!("make {}", own.display()))?;
            inherit_cpuset(mount, &own)?;
        }
        Ok(hierarchy)
    }

    /// The value of `linux.cgroupsPath` for a container of this name.
    pub fn cgroups_path(&self, name: &str) -> String {
        format!("/{}/{name}", self.directory)
    }

    /// Whether a limit on memory can be set here.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        let mut mounts = self.mounts.clone();
        // On a hybrid host a runtime may have used the cgroup2 mount beside the v1 ones.
        mounts.extend(
            mounts_of("cgroup2").unwrap_or_default().into_iter().filter(|mount| !self.mounts.contains(mount)),
        );
        for directory in mounts.iter().map(|mount| mount.join(&self.directory)).filter(|path| path.exists()) {
            remove_tree(&directory);
        }
    }
}

/// Mount points of file systems of this type: "cgroup" for the v1 hierarchies.
fn mounts_of(kind: &str) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts: Vec<PathBuf> = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(target), Some(found)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if found == kind {
            mounts.push(PathBuf::from(target));
        }
    }
    Ok(mounts)
}

/// A new cpuset of v1 is empty, and no process can enter it until it has processors and memory nodes;
/// clone_children hands them on to the containers' directories.
fn inherit_cpuset(mount: &Path, own: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = own.join(file);
        if !path.exists() || own.join("cgroup.controllers").exists() {
            return Ok(());
        }
        let value = fs::read_to_string(mount.join(file))?;
        fs::write(&path, value.trim()).with_context(|| format!("write {}", path.display()))?;
    }
    fs::write(own.join("cgroup.clone_children"), "1").context("write cgroup.clone_children")
}

/// Removes a cgroup with those that a killed runtime left below it.
fn remove_tree(directory: &Path) {
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_tree(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(directory) {
        eprintln!("bench: {} is left behind: {error}", directory.display());
    }
}
