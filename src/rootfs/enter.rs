//! The last steps: restrictions, read-only mounts, and the change of root.

use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::attach::{seal, setattr};
use super::build::Root;
use super::hostfs;
use super::plan::{Entry, Plan};
use crate::error::{Call, Result};
use crate::sys::mount::Attributes;

impl Root {
    /// Masks and read-only paths, read-only mounts, then the change of root and its propagation.
    /// Afterwards `/` is the container's root and the working directory, and the host's tree is gone
    /// from the mount namespace.
    pub fn enter(self, plan: &Plan) -> Result<()> {
        self.restrict(plan)?;
        for tree in &self.readonly_later {
            seal(tree.as_fd()).call(|| "mount_setattr(a filled mount, MOUNT_ATTR_RDONLY)".into())?;
        }
        if plan.readonly_root {
            // The root mount alone: mounts below it have options of their own.
            seal(self.fd()).call(|| "mount_setattr(rootfs, MOUNT_ATTR_RDONLY)".into())?;
        }
        fchdir(self.fd()).call(|| "fchdir(rootfs)".into())?;
        match plan.entry {
            Entry::Pivot => pivot(plan)?,
            Entry::Move => self.move_to_root()?,
            Entry::Chroot => chroot(".").call(|| "chroot(rootfs)".into())?,
        }
        chdir("/").call(|| "chdir(\"/\")".into())?;
        // Last: on the way here a shared root would have sent every step to the host, and without a
        // mount namespace the mount is the host's own (runc 1.5.3).
        if let Some(propagation) = plan.root_propagation.filter(|_| plan.mount_namespace) {
            let attributes = Attributes { propagation: propagation.flag, ..Attributes::default() };
            setattr(self.fd(), propagation.recursive, &attributes)
                .call(|| format!("mount_setattr(rootfsPropagation {:#x})", propagation.flag))?;
        }
        Ok(())
    }

    /// `--no-pivot`. chroot(2) alone can be left by whoever may mount, so the host's full procfs and
    /// sysfs, which stay in the namespace below the moved root, are taken away first.
    fn move_to_root(&self) -> Result<()> {
        hostfs::hide(self.fd())?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .call(|| "mount(rootfs, \"/\", MS_MOVE)".into())?;
        chroot(".").call(|| "chroot(rootfs)".into())
    }
}

/// pivot_root(".", ".") puts the old root on top of the new one, where `"."` then finds it: no
/// directory for it is needed inside the image (pivot_root(2), NOTES).
fn pivot(plan: &Plan) -> Result<()> {
    let old = match plan.host_propagation {
        Some(_) => None,
        None => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            Some(open("/", flags, Mode::empty()).call(|| "open(\"/\")".into())?)
        }
    };
    pivot_root(".", ".").call(|| "pivot_root(rootfs)".into()).map_err(|error| match error.errno() {
        Some(nix::errno::Errno::EINVAL) => error.remedy("on an initramfs use --no-pivot"),
        _ => error,
    })?;
    if let Some(old) = old {
        // Its mounts are still the host's peers: unmounting them here would unmount them there.
        let slave = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
        setattr(old.as_fd(), true, &slave).call(|| "mount_setattr(old root, MS_SLAVE)".into())?;
    }
    umount2(".", MntFlags::MNT_DETACH).call(|| "umount2(old root, MNT_DETACH)".into())
}
