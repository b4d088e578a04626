//! `linux.readonlyPaths` and `linux.maskedPaths`: what of the kernel's files a container may not change
//! and may not see.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat, makedev};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::fchdir;

use super::attach::{is_directory, seal};
use super::build::Root;
use super::devices::bind_file;
use super::inroot::{self, Symlinks};
use super::legacy;
use super::plan::{Label, Plan};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Clone, Filesystem, attr};

impl Root {
    /// First read-only, then masked: a read-only copy of a tree that holds a mask would have no mask.
    /// What does not exist needs neither.
    pub(super) fn restrict(&self, plan: &Plan) -> Result<()> {
        let mut targets = Targets { root: self, plan, anchors: [None, None] };
        for path in &plan.readonly {
            self.make_readonly(path, &mut targets)
                .with_context(|| format!("read-only path {}", path.display()))?;
        }
        let mut covers = Covers { plan, null: None, empty: None };
        for path in &plan.masked {
            covers.mask(path, &mut targets).with_context(|| format!("masked path {}", path.display()))?;
        }
        Ok(())
    }

    fn make_readonly(&self, path: &Path, targets: &mut Targets<'_>) -> Result<()> {
        let Some(target) = targets.find(path)? else { return Ok(()) };
        match mount::open_tree(target.as_fd(), c"", Clone::Recursive, true) {
            Ok(tree) => {
                let sealed = seal_detached(&tree);
                mount::move_mount(tree.as_fd(), target.as_fd()).call(|| "move_mount".into())?;
                match sealed {
                    // What mount(2) does instead wants the mount attached.
                    Err(Errno::ENOSYS) => seal(tree.as_fd()),
                    result => result,
                }
                .call(|| "mount_setattr(MOUNT_ATTR_RDONLY)".into())
            }
            Err(Errno::ENOSYS) => Self::make_readonly_by_path(path, &target, targets),
            Err(errno) => Err(Error::syscall("open_tree(CLONE|RECURSIVE)", errno)),
        }
    }

    fn make_readonly_by_path(path: &Path, target: &OwnedFd, targets: &mut Targets<'_>) -> Result<()> {
        legacy::bind(target.as_fd(), target.as_fd(), true).call(|| "mount(MS_BIND|MS_REC)".into())?;
        let top = targets.find(path)?;
        let top = top.ok_or_else(|| Error::syscall("the path is gone", Errno::ENOENT))?;
        seal(top.as_fd()).call(|| "mount(MS_REMOUNT|MS_BIND|MS_RDONLY)".into())
    }
}

/// Finds what is to be restricted. What lies below the container's own procfs and sysfs is looked up from
/// their root directories, checked to be that: a rootfs that another container shares can get a
/// symlink in the place of `/proc` while this one is made, and a path through it would find nothing to
/// mask (CVE-2023-27561).
struct Targets<'a> {
    root: &'a Root,
    plan: &'a Plan,
    /// Of [`KERNEL_TREES`], opened at the first use.
    anchors: [Option<OwnedFd>; 2],
}

/// Where the kernel shows itself, as what, and the magic number of statfs(2).
const KERNEL_TREES: [(&str, &CStr, FsType); 2] =
    [("/proc", c"proc", PROC_SUPER_MAGIC), ("/sys", c"sysfs", SYSFS_MAGIC)];

impl Targets<'_> {
    fn find(&mut self, path: &Path) -> Result<Option<OwnedFd>> {
        for (index, (top, fstype, magic)) in KERNEL_TREES.into_iter().enumerate() {
            let Ok(rest) = path.strip_prefix(top) else { continue };
            if rest.as_os_str().is_empty() || !self.plan.mounts_filesystem(fstype, Path::new(top)) {
                continue;
            }
            let anchor = match self.anchors[index].take() {
                Some(anchor) => anchor,
                None => self.open_anchor(top, magic)?,
            };
            let found = inroot::find(anchor.as_fd(), rest, Symlinks::Follow);
            self.anchors[index] = Some(anchor);
            return found;
        }
        inroot::find(self.root.fd(), path, Symlinks::Follow)
    }

    fn open_anchor(&self, top: &str, magic: FsType) -> Result<OwnedFd> {
        let refused = || Error::unsupported(format!("{top} is no longer what was mounted there"));
        let anchor = inroot::find(self.root.fd(), Path::new(top), Symlinks::Refuse)
            .map_err(|error| error.context(refused().to_string()))?
            .ok_or_else(refused)?;
        let found = fstatfs(&anchor).call(|| format!("fstatfs({top})"))?.filesystem_type();
        if found == magic { Ok(anchor) } else { Err(refused()) }
    }
}

/// What covers masked paths, made at the first use.
struct Covers<'a> {
    plan: &'a Plan,
    null: Option<OwnedFd>,
    /// An empty read-only tmpfs, attached over the first masked directory; the others get copies of the
    /// mount, which cost a tenth of a filesystem of their own.
    empty: Option<OwnedFd>,
}

impl Covers<'_> {
    fn mask(&mut self, path: &Path, targets: &mut Targets<'_>) -> Result<()> {
        let Some(target) = targets.find(path)? else { return Ok(()) };
        if is_directory(&fstat(&target).call(|| "fstat".into())?) {
            return self.mask_directory(&target);
        }
        let null = match self.null.take() {
            Some(null) => null,
            None => open_null()?,
        };
        bind_file(&null, &target)?;
        self.null = Some(null);
        Ok(())
    }

    fn mask_directory(&mut self, target: &OwnedFd) -> Result<()> {
        if let Some(empty) = &self.empty {
            return match mount::open_tree(empty.as_fd(), c"", Clone::One, true) {
                Ok(tree) => mount::move_mount(tree.as_fd(), target.as_fd()).call(|| "move_mount".into()),
                Err(Errno::ENOSYS) => self.mask_directory_here(target),
                Err(errno) => Err(Error::syscall("open_tree(empty tmpfs, CLONE)", errno)),
            };
        }
        match self.empty_tmpfs() {
            Ok(tree) => {
                mount::move_mount(tree.as_fd(), target.as_fd()).call(|| "move_mount".into())?;
                self.empty = Some(tree);
                Ok(())
            }
            Err(Errno::ENOSYS) => self.mask_directory_here(target),
            Err(errno) => Err(Error::syscall("fsmount(tmpfs)", errno)),
        }
    }

    fn empty_tmpfs(&self) -> nix::Result<OwnedFd> {
        let context = Filesystem::open(c"tmpfs")?;
        context.set_string(c"source", c"tmpfs")?;
        if let Some(label) = &self.plan.label {
            context.set_string(&label.option, &label.context)?;
        }
        context.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
    }

    fn mask_directory_here(&self, target: &OwnedFd) -> Result<()> {
        fchdir(target).call(|| "fchdir".into())?;
        let label = self.plan.label.as_ref().map(Label::word);
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        nix::mount::mount(Some("tmpfs"), ".", Some("tmpfs"), flags, label.as_deref())
            .call(|| "mount(tmpfs, MS_RDONLY)".into())
    }
}

fn seal_detached(tree: &OwnedFd) -> nix::Result<()> {
    let attributes = mount::Attributes { set: attr::RDONLY, ..mount::Attributes::default() };
    mount::mount_setattr(tree.as_fd(), false, &attributes)
}

/// The host's null device. The container's could be anything by now: binding that over a file would
/// put something writable there (CVE-2025-31133).
fn open_null() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let null = open("/dev/null", flags, Mode::empty()).call(|| "open(\"/dev/null\", O_PATH)".into())?;
    let stat = fstat(&null).call(|| "fstat(\"/dev/null\")".into())?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        return Err(Error::unsupported("/dev/null is not the character device 1:3"));
    }
    Ok(null)
}
