//! The host's procfs and sysfs, hidden before a chroot that leaves them in the mount namespace.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Call, Result};
use crate::sys::{mountinfo, procfs};

/// Unmounts every full procfs and sysfs outside `root`; where that is refused, as for locked mounts of
/// a user namespace, covers it with an empty tmpfs.
pub(super) fn hide(root: BorrowedFd<'_>) -> Result<()> {
    let table = procfs::read("/proc/self/mountinfo").call(|| "read(mountinfo)".into())?;
    let root = nix::fcntl::readlink(&*format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&root)))
        .call(|| "readlink(rootfs)".into())?;
    for mountpoint in full_mounts(&table, Path::new(&root)) {
        hide_one(&mountpoint)?;
    }
    Ok(())
}

fn hide_one(mountpoint: &Path) -> Result<()> {
    // Private, so that the unmount stays in this namespace.
    match mount(None::<&str>, mountpoint, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>) {
        // Gone with the mount that it was below.
        Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
        result => result.call(|| format!("mount({}, MS_PRIVATE)", mountpoint.display()))?,
    }
    match umount2(mountpoint, MntFlags::MNT_DETACH) {
        Err(Errno::EINVAL | Errno::EPERM) => {
            mount(Some("tmpfs"), mountpoint, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>)
                .call(|| format!("mount(tmpfs, {})", mountpoint.display()))
        }
        result => result.call(|| format!("umount2({})", mountpoint.display())),
    }
}

/// The mount points outside `root` of whole procfs and sysfs mounts, from a mountinfo, the deepest of stacked
/// ones last.
fn full_mounts(table: &[u8], root: &Path) -> Vec<PathBuf> {
    let full = mountinfo::mounts(table).filter(|mount| {
        mount.root == Path::new("/")
            && matches!(mount.fstype, b"proc" | b"sysfs")
            && !mount.point.starts_with(root)
    });
    full.map(|mount| mount.point.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ones_outside_the_root_are_hidden() {
        let table = b"22 27 0:21 / /proc rw - proc proc rw\n\
                     23 27 0:22 / /my\\040sys rw shared:1 - sysfs sysfs rw\n\
                     24 27 0:21 /sys /ro rw - proc proc rw\n\
                     25 27 0:21 / /c/rootfs/proc rw - proc proc rw\n\
                     26 27 0:6 / /dev\xff rw - devtmpfs devtmpfs rw\n";
        assert_eq!(full_mounts(table, Path::new("/c/rootfs")), [Path::new("/proc"), Path::new("/my sys")]);
    }
}
