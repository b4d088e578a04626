//! Bind sources, opened as detached trees.
//!
//! The child opens them itself unless it may not: with a user namespace the source may lie below a
//! directory that its mapped root cannot enter, and only the host's root may id-map a mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::on_host;
use super::plan::{Bind, Plan, Step, What};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Attributes, Clone};

impl Plan {
    /// Opens, in the parent and before the clone, what only the host's user may open: the sources of
    /// id-mapped binds, and all bind sources of a container with a user namespace; and the rootfs that
    /// [`Plan::host_mount`] names. Children inherit the descriptors; they are close-on-exec.
    ///
    /// # Errors
    /// A source that does not exist; an id map that kernel or filesystem refuse.
    pub fn open_sources(&mut self) -> Result<()> {
        if self.on_host {
            self.host_tree = Some(on_host::Tree::open(&self.rootfs).with_context(|| self.name())?);
        }
        let (user_namespace, propagation) = (self.user_namespace, self.host_propagation);
        for step in &mut self.steps {
            let Step::Mount(step) = step else { continue };
            let What::Bind(bind) = &mut step.what else { continue };
            if bind.idmap.is_none() && (!user_namespace || bind.by_child) {
                continue;
            }
            if bind.copy_symlink && nix::fcntl::readlink(&bind.source).is_ok() {
                continue;
            }
            open_here(bind, propagation).with_context(|| {
                format!("bind {} at {}", bind.source.display(), step.destination.display())
            })?;
        }
        Ok(())
    }
}

/// Opens the source for a mount that is made later or elsewhere.
pub(super) fn open_here(bind: &mut Bind, propagation: Option<u64>) -> Result<()> {
    let tree = match open(bind) {
        Ok(tree) => tree,
        // The child tries with mount(2).
        Err(Errno::ENOSYS) if bind.idmap.is_none() => return Ok(()),
        // An ordinary user has the right only in the user namespace that is to come; its root, who is that
        // user, opens the source by its path.
        Err(Errno::EPERM) if bind.idmap.is_none() => return Ok(()),
        Err(errno) => return Err(failed(bind, errno)),
    };
    // The copy is a peer of the host's mount, where the child's own copies are not.
    if let Some(propagation) = propagation {
        let attributes = Attributes { propagation, ..Attributes::default() };
        match mount::mount_setattr(tree.as_fd(), true, &attributes) {
            Err(Errno::ENOSYS) if bind.idmap.is_none() => return Ok(()),
            result => result.call(|| "mount_setattr(propagation)".into())?,
        }
    }
    if let Some(idmap) = &bind.idmap {
        idmap.apply(tree.as_fd())?;
    }
    bind.tree = Some(tree);
    Ok(())
}

/// A detached copy of the source.
pub(super) fn open(bind: &Bind) -> nix::Result<OwnedFd> {
    either(bind, |source| mount::open_tree(mount::cwd(), source, bind.clone, bind.follow))
}

/// The source itself (O_PATH), for mount(2).
pub(super) fn open_path(bind: &Bind) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let flags = if bind.follow { flags } else { flags | OFlag::O_NOFOLLOW };
    either(bind, |source| nix::fcntl::open(source, flags, Mode::empty()))
        .call(|| format!("open({}, O_PATH)", bind.source.display()))
}

/// The source, or what is bound where that does not exist.
fn either(bind: &Bind, open: impl Fn(&Path) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    match (open(&bind.source), &bind.otherwise) {
        (Err(Errno::ENOENT), Some(otherwise)) => open(otherwise),
        (result, _) => result,
    }
}

/// Names the source and, for the errors that are not obvious, the way out.
pub(super) fn failed(bind: &Bind, errno: Errno) -> Error {
    let error = Error::syscall(format!("open_tree({}, CLONE)", bind.source.display()), errno);
    match errno {
        Errno::EINVAL if bind.clone == Clone::One => {
            error.remedy("in a user namespace a source with mounts below it needs the option rbind")
        }
        _ => error,
    }
}
