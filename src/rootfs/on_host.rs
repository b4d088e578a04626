//! The rootfs of a container without a mount namespace.
//!
//! What is mounted in it is one of the host's mounts, as with runc. So that one call takes all of it away again, the
//! rootfs is a mount of its own then, private, and the container's record says which one before it is there.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::attach::cut_off_tree;
use super::plan::Plan;
use crate::error::{Call, Error, Result};
use crate::sys::mount::{self, Clone};

/// A rootfs among the host's mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMount {
    /// The kernel's number for it (statx(2), stx_mnt_id).
    id: u64,
}

/// The rootfs as a mount that [`Plan::begin`] attaches.
#[derive(Debug)]
pub(super) struct Tree {
    pub fd: OwnedFd,
    pub mount: HostMount,
}

impl Tree {
    /// Copies the host's mounts at `rootfs`. They are no peers of the host's any more, so that what the container
    /// mounts in them is nowhere else.
    pub fn open(rootfs: &Path) -> Result<Self> {
        let fd = mount::open_tree(mount::cwd(), rootfs, Clone::Recursive, true).map_err(|errno| {
            let error = Error::syscall(format!("open_tree({}, CLONE|RECURSIVE)", rootfs.display()), errno);
            if errno == Errno::EPERM { explain(error) } else { error }
        })?;
        cut_off_tree(fd.as_fd())?;
        let id = mount::id(fd.as_fd()).call(|| "statx(rootfs, STATX_MNT_ID)".into())?;
        Ok(Self { fd, mount: HostMount { id } })
    }
}

impl Plan {
    /// Which mount the rootfs is on the host, once [`Plan::open_sources`] has made it; None with a mount namespace, or
    /// where nothing is mounted.
    pub fn host_mount(&self) -> Option<HostMount> {
        self.host_tree.as_ref().map(|tree| tree.mount)
    }
}

impl HostMount {
    /// Takes the mount at `rootfs` off the host, with all that is mounted in it. If it is not the one that is seen
    /// there, somebody has unmounted it, or has made the place theirs: then nothing is done.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(self, rootfs: &Path) -> Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let found = match open(rootfs, flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            found => found.call(|| format!("open({})", rootfs.display()))?,
        };
        if mount::id(found.as_fd()).call(|| "statx(rootfs, STATX_MNT_ID)".into())? != self.id {
            return Ok(());
        }
        // The very mount that was looked at, whatever its path leads to by now.
        let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
        umount2(&*itself, MntFlags::MNT_DETACH).call(|| format!("umount2({}, MNT_DETACH)", rootfs.display()))
    }
}

/// Only who has the rights over the host's mount namespace mounts in it.
pub(super) fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => {
            error.remedy("the host's mounts may not be changed; add a mount namespace to linux.namespaces")
        }
        _ => error,
    }
}
