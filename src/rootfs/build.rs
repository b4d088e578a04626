//! The rootfs put together, in the child's mount namespace, still beside the host's root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::fchdir;

use super::inroot::{self, Missing, Symlinks};
use super::plan::{Plan, Step};
use super::{attach, legacy};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Attributes, Clone};

/// A built root filesystem that is not yet the process's root.
#[derive(Debug)]
pub struct Root {
    pub(super) root: OwnedFd,
    /// Mounts that become read-only once nothing more is made in them. Our own descriptors, not
    /// paths: the container's processes cannot redirect them (CVE-2026-115521).
    pub(super) readonly_later: Vec<OwnedFd>,
    /// It is one of the host's mounts: what is mounted in a volume must not show in the volume's source.
    pub(super) on_host: bool,
    /// The pid namespace that a procfs shows; the caller's own when None.
    pub(super) pids: Option<OwnedFd>,
    /// The process's own, until the root is built.
    umask: Mode,
}

impl Root {
    /// Modes of what is made in it are meant as they are written: the umask is none until
    /// [`Root::restore_umask`].
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, readonly_later: Vec::new(), on_host: false, pids: None, umask: umask(Mode::empty()) }
    }

    /// Gives the process its own umask again.
    pub(super) fn restore_umask(&self) {
        umask(self.umask);
    }
}

impl Plan {
    /// Begins the root filesystem: propagation, the rootfs as a mount of its own, and the mounts in the
    /// spec's order up to the first that shows the container's cgroup. [`Plan::finish`] goes on, and may
    /// wait until the caller is in that cgroup.
    ///
    /// Runs in the child, in its mount namespace, with the host's root. `pids` is the pid namespace that a procfs shows
    /// where it is not the caller's.
    pub fn begin(&self, pids: Option<BorrowedFd<'_>>) -> Result<Root> {
        let begin = || {
            let mut root = Root { on_host: self.on_host, ..Root::new(self.open_rootfs()?) };
            root.pids = pids
                .map(|pids| pids.try_clone_to_owned().call(|| "dup(pid namespace)".into()))
                .transpose()?;
            root.take(&self.steps[..self.first_cgroup_step()])?;
            Ok(root)
        };
        begin().with_context(|| self.name())
    }

    /// Completes the root filesystem: the other mounts, devices and links in `/dev`, the process's
    /// working directory. Afterwards the caller's working directory is the container's root, where
    /// createContainer hooks run.
    pub fn finish(&self, root: &mut Root) -> Result<()> {
        self.complete(root).with_context(|| self.name())?;
        root.restore_umask();
        Ok(())
    }

    fn complete(&self, root: &mut Root) -> Result<()> {
        root.take(&self.steps[self.first_cgroup_step()..])?;
        if let Some(nodes) = &self.devices {
            root.fill_dev(nodes, self.user_namespace)?;
        }
        if let Some(cwd) = &self.cwd {
            // Now, because the root may become read-only, and by the root's rights, as runc does.
            inroot::find_or_make(root.fd(), cwd, Symlinks::Follow, || Ok(Missing::Directory))
                .with_context(|| format!("process.cwd {}", cwd.display()))?;
        }
        fchdir(&root.root).call(|| "fchdir(rootfs)".into())
    }

    pub(super) fn name(&self) -> String {
        format!("rootfs {}", self.rootfs.display())
    }

    fn first_cgroup_step(&self) -> usize {
        self.steps.iter().position(Step::shows_cgroup).unwrap_or(self.steps.len())
    }

    /// The rootfs as a mount of its own, because pivot_root(2) wants one and attributes of the root
    /// must not be those of the host's mount that it lies on.
    fn open_rootfs(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if !self.mount_namespace {
            // Every change of propagation here would be the host's (fixed in runc 1.5.3).
            let directory = open(&self.rootfs, flags, Mode::empty()).call(|| "open(rootfs)".into())?;
            return match &self.host_tree {
                Some(tree) => tree.attach(directory.as_fd()),
                None => Ok(directory),
            };
        }
        match self.host_propagation {
            // Before the first mount: it would appear on the host otherwise.
            Some(propagation) => cut_off(propagation)?,
            None => make_private_mount_of(&self.rootfs)?,
        }
        let directory = open(&self.rootfs, flags, Mode::empty()).call(|| "open(rootfs)".into())?;
        match mount::open_tree(directory.as_fd(), c"", Clone::Recursive, true) {
            Ok(tree) => {
                mount::move_mount(tree.as_fd(), directory.as_fd()).call(|| "move_mount(rootfs)".into())?;
                Ok(tree)
            }
            Err(Errno::ENOSYS) => {
                legacy::bind(directory.as_fd(), directory.as_fd(), true)
                    .call(|| "mount(rootfs, MS_BIND|MS_REC)".into())?;
                open(&self.rootfs, flags, Mode::empty()).call(|| "open(rootfs)".into())
            }
            Err(errno) => Err(Error::syscall("open_tree(rootfs, CLONE|RECURSIVE)", errno)),
        }
    }
}

/// The namespace's copies of the host's mounts no longer send mounts to the host.
pub(super) fn cut_off(propagation: u64) -> Result<()> {
    let flags = MsFlags::from_bits_retain(propagation) | MsFlags::MS_REC;
    nix::mount::mount(None::<&Path>, "/", None::<&Path>, flags, None::<&Path>)
        .call(|| format!("mount(\"/\", propagation {propagation:#x}|MS_REC)"))
}

/// The mount that holds the rootfs must not be shared: pivot_root(2) refuses it, and the bind of the
/// rootfs would show up on the host. The mount is the first of the directory and those above it that
/// is the root of a mount; the others are refused with EINVAL.
fn make_private_mount_of(rootfs: &Path) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = open(rootfs, flags, Mode::empty()).call(|| "open(rootfs)".into())?;
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    for _ in rootfs.components() {
        match attach::setattr(directory.as_fd(), false, &private) {
            Err(Errno::EINVAL) => {}
            result => return result.call(|| "mount_setattr(mount of the rootfs, MS_PRIVATE)".into()),
        }
        directory =
            openat(&directory, "..", flags, Mode::empty()).call(|| "openat(rootfs, \"..\")".into())?;
    }
    Err(Error::unsupported("no mount on the way to the rootfs").remedy("is / a mount point? use --no-pivot"))
}

impl Root {
    fn take(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| match step {
            Step::Mount(mount) => self.attach(mount),
            Step::Symlink { path, target } => {
                self.symlink(path, target).with_context(|| format!("link {}", path.display()))
            }
        })
    }

    /// The root directory (O_PATH).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
