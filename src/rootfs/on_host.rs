//! The rootfs of a container without a mount namespace.
//!
//! What is mounted in it is one of the host's mounts, as with runc. So that one call takes all of it away again, the
//! rootfs is a mount of its own then, private, and the container's record says which one before it is there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use serde::{Deserialize, Serialize};

use super::attach::setattr;
use super::plan::Plan;
use crate::error::{Call, Error, Result};
use crate::sys::mount::{self, Attributes, Clone};
use crate::sys::{mountinfo, procfs};

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
    /// Copies the host's mounts at `rootfs`.
    pub fn open(rootfs: &Path) -> Result<Self> {
        let fd = mount::open_tree(mount::cwd(), rootfs, Clone::Recursive, true).map_err(|errno| {
            let error = Error::syscall(format!("open_tree({}, CLONE|RECURSIVE)", rootfs.display()), errno);
            if errno == Errno::EPERM { explain(error) } else { error }
        })?;
        let place = |stat: FileStat| (stat.st_dev, stat.st_ino);
        let root = stat("/").call(|| "stat(\"/\")".into())?;
        if place(fstat(&fd).call(|| "fstat(rootfs)".into())?) == place(root) {
            // Nobody could get at what it covers any more.
            let error =
                Error::unsupported("root.path: / without a mount namespace, where something is mounted");
            return Err(error.remedy("add a mount namespace to linux.namespaces"));
        }
        let id = mount::id(fd.as_fd()).call(|| "statx(rootfs, STATX_MNT_ID)".into());
        let id = id.map_err(|error| match error.errno() {
            Some(Errno::ENOSYS) => error.remedy("mounts without a mount namespace need Linux 5.8"),
            _ => error,
        })?;
        Ok(Self { fd, mount: HostMount { id } })
    }

    /// Attaches it. The tree is no peer of the host's mounts then, so that what the container mounts in it is nowhere
    /// else; the kernel makes it one when it is attached below a mount that is shared.
    pub fn attach(&self, rootfs: BorrowedFd<'_>) -> Result<OwnedFd> {
        mount::move_mount(self.fd.as_fd(), rootfs).call(|| "move_mount(rootfs)".into()).map_err(explain)?;
        let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
        setattr(self.fd.as_fd(), true, &private)
            .call(|| "mount_setattr(rootfs, MS_PRIVATE, RECURSIVE)".into())?;
        self.fd.try_clone().call(|| "dup(rootfs)".into())
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
    /// Takes the mount, which was made at `rootfs`, off the host, with all that is mounted in it. Where somebody has
    /// unmounted it already nothing is done. Why it is left, when it cannot be got at.
    ///
    /// # Errors
    /// The kernel does not unmount it.
    pub fn remove(self, rootfs: &Path) -> Result<Option<String>> {
        // Its directory may have another name by now.
        let point = mount::point_of(self.id).unwrap_or_else(|_| rootfs.to_owned());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let found = open(&point, flags, Mode::empty()).and_then(|fd| Ok((mount::id(fd.as_fd())?, fd)));
        match found {
            Ok((id, fd)) if id == self.id => {
                // The very mount that was looked at, whatever its path leads to by now.
                let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let unmounted = umount2(&*itself, MntFlags::MNT_DETACH);
                unmounted.call(|| format!("umount2({}, MNT_DETACH)", point.display())).map(|()| None)
            }
            _ if !self.exists()? => Ok(None),
            Ok(_) => Ok(Some(format!("something else is mounted on {}", point.display()))),
            Err(errno) => Ok(Some(format!("open({}): {}", point.display(), errno.desc()))),
        }
    }

    fn exists(self) -> Result<bool> {
        match mount::point_of(self.id) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            // Before Linux 6.8, where another may have got its number.
            Err(_) => {
                let table = procfs::read("/proc/self/mountinfo").call(|| "read(mountinfo)".into())?;
                let number = self.id.to_string();
                Ok(mountinfo::mounts(&table).any(|mount| mount.id == number.as_bytes()))
            }
        }
    }
}

/// Only who has the rights over the host's mount namespace mounts in it.
fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => {
            error.remedy("the host's mounts may not be changed; add a mount namespace to linux.namespaces")
        }
        _ => error,
    }
}
