//! A container's cgroup as state.json knows it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::plan::Driver;
use super::systemd::Unit;
use super::write::read_at;
use crate::error::{Call, Error, Result};

/// What helps where a container has no cgroup, as a user's who has none of its own.
pub(super) const NO_CGROUP: &str = "it runs in the cgroup of whoever created it: create it as root, with --systemd-cgroup, or below a cgroup that is delegated to you";

/// Which cgroup version the controllers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// cgroup v1; with the unified hierarchy beside it this is systemd's "hybrid".
    V1,
    /// cgroup v2 alone.
    V2,
}

/// The container's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The hierarchy's v1 controllers (`["cpu", "cpuacct"]`) or its name (`["name=systemd"]`); empty
    /// for the unified one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Where the hierarchy is mounted on the host.
    pub mountpoint: PathBuf,
    /// The container's cgroup, relative to `mountpoint`.
    pub path: PathBuf,
    /// Its inode, once it is made: a directory of this path with another one is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Directory {
    /// The host's path of the container's cgroup.
    pub fn host_path(&self) -> PathBuf {
        self.mountpoint.join(&self.path)
    }

    pub(super) fn is_unified(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.names.iter().any(|name| name == controller)
    }

    /// Whether the container's cgroup is gone and another has its path. Never while its inode is not known.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn is_replaced(&self) -> Result<bool> {
        let Some(own) = self.inode else { return Ok(false) };
        Ok(self.inode_at_path()?.is_some_and(|other| other != own))
    }

    fn inode_at_path(&self) -> Result<Option<u64>> {
        let path = self.host_path();
        match nix::sys::stat::lstat(&path) {
            Ok(found) => Ok(Some(found.st_ino)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::syscall(format!("lstat({path:?})"), errno)),
        }
    }

    /// [`None`] when it is not there (any more), also when another has its path.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(fd) = open_directory(&self.host_path())? else { return Ok(None) };
        let Some(own) = self.inode else { return Ok(Some(fd)) };
        let found = nix::sys::stat::fstat(&fd).call(|| format!("fstat({:?})", self.host_path()))?;
        Ok((found.st_ino == own).then_some(fd))
    }

    /// The same, with the inode of the cgroup that `fd` is.
    pub(super) fn opened_as(&self, fd: &OwnedFd) -> Self {
        // Where it cannot be known, the cgroup goes by its path.
        let inode = nix::sys::stat::fstat(fd).ok().map(|found| found.st_ino);
        Self { inode, ..self.clone() }
    }

    /// The same hierarchy's cgroup at another path, of which nobody has noted which one it is.
    pub(super) fn moved_to(&self, path: PathBuf) -> Self {
        Self { path, inode: None, ..self.clone() }
    }
}

/// Everything that is needed to find, signal, freeze and remove a container's cgroup, also after a
/// crash in the middle of making it. Part of state.json; names directories that may not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub(super) driver: Driver,
    pub(super) version: Version,
    pub(super) directories: Vec<Directory>,
    /// With the systemd driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<Unit>,
}

impl Record {
    /// No cgroup: what a container has before its own is made.
    pub fn none() -> Self {
        Self { driver: Driver::Disabled, version: Version::V2, directories: Vec::new(), unit: None }
    }

    /// Who made the cgroup.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Which cgroup version the controllers are on.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directories, one per hierarchy: v1's in the kernel's order, then the unified one. What a
    /// mount of type "cgroup" shows. Empty when the container has no cgroup of its own.
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Whether the container has (or is to have) a cgroup of its own. Without one, signals can go
    /// only to its first process.
    pub fn is_some(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Notes which directories the container's are, where systemd has made them: it may outlive them, and its path may then
    /// be another container's.
    ///
    /// # Errors
    /// The kernel's.
    pub fn identify(&mut self) -> Result<()> {
        self.directories.iter_mut().filter(|directory| directory.inode.is_none()).try_for_each(|directory| {
            directory.inode = directory.inode_at_path()?;
            Ok(())
        })
    }

    /// The pids of all processes in the container's cgroup and those nested in it, ascending; none if
    /// it is not there. Processes outside of the caller's pid namespace (shown as 0) are left out.
    pub fn pids(&self) -> Result<Vec<i32>> {
        // On v1 a nested container engine may have moved a process in some hierarchies only.
        let mut pids = BTreeSet::new();
        for directory in &self.directories {
            if directory.open()?.is_some() {
                collect_pids(&directory.host_path(), &mut pids)?;
            }
        }
        Ok(pids.into_iter().collect())
    }

    /// Whether one of the directories, all of which were made, is not there any more, as far as it can be seen.
    pub(super) fn is_lost(&self) -> bool {
        self.directories.iter().any(|directory| {
            let found = directory.inode_at_path();
            found.is_ok_and(|found| found.is_none_or(|other| directory.inode.is_some_and(|own| own != other)))
        })
    }

    pub(super) fn unified(&self) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.is_unified())
    }
}

/// Opens a cgroup; [`None`] when there is none.
pub(super) fn open_directory(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(AT_FDCWD, path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::syscall(format!("open({path:?}, DIRECTORY)"), errno)),
    }
}

/// This cgroup and all that are nested in it, parents before children; nothing if it is not there.
/// A worklist, not a recursion: how deep it goes is up to the container.
pub(super) fn tree(root: &Path) -> Result<Vec<PathBuf>> {
    let mut tree = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let Some(directory) = open_directory(&path)? else { continue };
        let mut entries = Dir::from_fd(directory).call(|| format!("opendir({path:?})"))?;
        for entry in entries.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                // Removed while we read it.
                Err(Errno::ENOENT | Errno::ENODEV) => break,
                Err(errno) => return Err(Error::syscall(format!("getdents({path:?})"), errno)),
            };
            let name = entry.file_name().to_bytes();
            if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
                pending.push(path.join(OsStr::from_bytes(name)));
            }
        }
        tree.push(path);
    }
    Ok(tree)
}

/// The pids in this cgroup and those nested in it.
pub(super) fn collect_pids(root: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    for path in tree(root)? {
        let Some(directory) = open_directory(&path)? else { continue };
        match read_at(directory.as_fd(), "cgroup.procs") {
            // A process outside of our pid namespace is shown as 0.
            Ok(text) => {
                pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid != 0))
            }
            // Removed meanwhile (ENODEV, ENOENT); inside a threaded subtree, whose root lists them all.
            Err(Errno::ENODEV | Errno::ENOENT | Errno::EOPNOTSUPP) => {}
            Err(errno) => {
                return Err(Error::syscall(format!("read({:?})", path.join("cgroup.procs")), errno));
            }
        }
    }
    Ok(())
}
