//! Mounts by mount(2) for kernels, or outer containers' seccomp filters, that lack open_tree(2),
//! move_mount(2) (Linux 5.2) or mount_setattr(2) (5.12). Descriptors are named by
//! `/proc/self/fd/N`: the host's `/proc`, as all of this happens before pivot_root.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::fstatvfs;

use super::options::Change;
use crate::sys::mount::{Attributes, attr};

const NONE: Option<&CStr> = None;

fn name(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn flags(bits: u64) -> MsFlags {
    MsFlags::from_bits_retain(bits)
}

/// Binds what `source` refers to over what `target` refers to.
pub(super) fn bind(source: BorrowedFd<'_>, target: BorrowedFd<'_>, recursive: bool) -> nix::Result<()> {
    let recursive = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let (source, target) = (name(source), name(target));
    mount(Some(source.as_str()), target.as_str(), NONE, MsFlags::MS_BIND | recursive, NONE)
}

/// As mount_setattr(2) on an attached mount, for what mount(2) can do: ENOSYS for recursive attributes.
pub(super) fn setattr(mount: BorrowedFd<'_>, recursive: bool, attributes: &Attributes) -> nix::Result<()> {
    if attributes.propagation != 0 {
        set_propagation(mount, recursive, attributes.propagation)?;
    }
    let change = Change { set: attributes.set, clear: attributes.clear };
    match (change.is_empty(), recursive) {
        (true, _) => Ok(()),
        (false, true) => Err(Errno::ENOSYS),
        (false, false) => remount(mount, change),
    }
}

fn set_propagation(at: BorrowedFd<'_>, recursive: bool, propagation: u64) -> nix::Result<()> {
    let recursive = if recursive { libc::MS_REC } else { 0 };
    mount(NONE, name(at).as_str(), NONE, flags(propagation | recursive), NONE)
}

/// Sets and clears attributes and keeps all others: MS_REMOUNT | MS_BIND replaces the whole set.
fn remount(at: BorrowedFd<'_>, change: Change) -> nix::Result<()> {
    let now = fstatvfs(at)?.flags().bits();
    let mut bits = 0;
    for (attribute, statvfs, mount) in [
        (attr::RDONLY, libc::ST_RDONLY, libc::MS_RDONLY),
        (attr::NOSUID, libc::ST_NOSUID, libc::MS_NOSUID),
        (attr::NODEV, libc::ST_NODEV, libc::MS_NODEV),
        (attr::NOEXEC, libc::ST_NOEXEC, libc::MS_NOEXEC),
        (attr::NODIRATIME, libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (attr::NOSYMFOLLOW, ST_NOSYMFOLLOW, libc::MS_NOSYMFOLLOW),
    ] {
        let on = if change.clear & attribute != 0 { false } else { now & statvfs != 0 };
        if on || change.set & attribute != 0 {
            bits |= mount;
        }
    }
    bits |= match (change.clear & attr::ATIME != 0, change.set & attr::ATIME) {
        (true, attr::NOATIME) => libc::MS_NOATIME,
        (true, attr::STRICTATIME) => libc::MS_STRICTATIME,
        (true, _) => libc::MS_RELATIME,
        (false, _) if now & libc::ST_NOATIME != 0 => libc::MS_NOATIME,
        (false, _) if now & libc::ST_RELATIME != 0 => libc::MS_RELATIME,
        (false, _) => libc::MS_STRICTATIME,
    };
    mount(NONE, name(at).as_str(), NONE, flags(bits) | MsFlags::MS_REMOUNT | MsFlags::MS_BIND, NONE)
}

/// `ST_NOSYMFOLLOW` of Linux 5.10, which libc does not have.
const ST_NOSYMFOLLOW: libc::c_ulong = 0x2000;
