//! Mounts of a container that is there: added to its root, and taken away again.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use nix::unistd::fchdir;

use super::attach::seal;
use super::build::Root;
use super::inroot::{self, Symlinks};
use super::plan::{Plan, Step, What};
use super::source::open_here;
use crate::error::{Call, Context, Error, Result};
use crate::sys::procfs::Procfs;

impl Plan {
    /// Opens every bind source, on the host: once the container's namespaces are joined their paths would
    /// be the container's.
    ///
    /// # Errors
    /// A source that does not exist, or that cannot be held by a descriptor.
    pub fn open_all_sources(&mut self) -> Result<()> {
        for step in &mut self.steps {
            let Step::Mount(mount) = step else { continue };
            let What::Bind(bind) = &mut mount.what else { continue };
            let open = if bind.copy_symlink {
                Err(Error::unsupported("copy-symlink is for a container that is made"))
            } else {
                open_here(bind, self.host_propagation)
            };
            let held = open.and_then(|()| match bind.tree {
                Some(_) => Ok(()),
                None => Err(Error::unsupported("it needs open_tree(2) and mount_setattr(2) (Linux 5.12)")),
            });
            held.with_context(|| {
                format!("bind {} at {}", bind.source.display(), mount.destination.display())
            })?;
        }
        Ok(())
    }

    /// Makes the mounts of the plan, and nothing else of it, below the root of a container whose
    /// namespaces the caller has joined.
    ///
    /// # Errors
    /// The kernel's. What was mounted before the one that failed stays.
    pub fn mount_into(&self, root: OwnedFd) -> Result<()> {
        let mut root = Root::new(root);
        let mounted = self.steps.iter().try_for_each(|step| match step {
            Step::Mount(mount) => root.attach(mount),
            Step::Symlink { .. } => Ok(()),
        });
        root.restore_umask();
        mounted?;
        let mut late = root.readonly_later.iter();
        late.try_for_each(|tree| seal(tree.as_fd()).call(|| "mount_setattr(a new mount, RDONLY)".into()))
    }

    /// Detaches what is mounted at the plan's destinations, the last first. `procfs` is the host's: the
    /// container's own may be anything. The working directory is lost.
    ///
    /// # Errors
    /// Nothing is mounted there. What was detached before stays so.
    pub fn unmount_from(&self, root: &OwnedFd, procfs: &Procfs) -> Result<()> {
        // umount2(2) knows paths only; in there this one leads to our own descriptor.
        fchdir(procfs).call(|| "fchdir(proc)".into())?;
        self.steps.iter().rev().try_for_each(|step| match step {
            Step::Mount(mount) => unmount(root, &mount.destination)
                .with_context(|| format!("unmount {}", mount.destination.display())),
            Step::Symlink { .. } => Ok(()),
        })
    }
}

fn unmount(root: &OwnedFd, destination: &Path) -> Result<()> {
    let found = inroot::find(root.as_fd(), destination, Symlinks::Follow)?;
    let top = found.ok_or_else(|| Error::invalid("there is no such path in the container"))?;
    let path = format!("self/fd/{}", top.as_raw_fd());
    umount2(path.as_str(), MntFlags::MNT_DETACH).call(|| "umount2(MNT_DETACH)".into()).map_err(|error| {
        match error.errno() {
            Some(nix::errno::Errno::EINVAL) => error.remedy("nothing is mounted there"),
            _ => error,
        }
    })
}
