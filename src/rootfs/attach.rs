//! One mount of the plan, attached below the root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{fchdir, symlinkat};

use super::build::Root;
use super::inroot::{self, Missing, Symlinks, Target};
use super::options::Change;
use super::plan::{Bind, Filesystem, Label, Mount, What};
use super::{copyup, legacy, source};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Attributes, Clone, attr, cstring};
use crate::sys::xattr;

impl Root {
    /// Mounts one entry of the plan.
    pub(super) fn attach(&mut self, mount: &Mount) -> Result<()> {
        match &mount.what {
            What::Bind(bind) => self.bind(mount, bind),
            What::Filesystem(filesystem) => {
                match (self.filesystem(mount, filesystem), &filesystem.fallback) {
                    (Err(error), Some(bind))
                        if matches!(error.errno(), Some(Errno::EPERM | Errno::EBUSY)) =>
                    {
                        self.bind(mount, bind).with_context(|| format!("instead, as {error}"))
                    }
                    (result, _) => result,
                }
            }
        }
        .with_context(|| match &mount.what {
            What::Bind(bind) => format!("bind {} at {}", bind.source.display(), mount.destination.display()),
            What::Filesystem(filesystem) => {
                format!("mount {} at {}", filesystem.fstype.to_string_lossy(), mount.destination.display())
            }
        })
    }

    fn bind(&mut self, mount: &Mount, bind: &Bind) -> Result<()> {
        if bind.copy_symlink && self.copy_symlink(mount, bind)? {
            return Ok(());
        }
        let opened;
        let tree = match &bind.tree {
            Some(tree) => tree.as_fd(),
            None => match source::open(bind) {
                Ok(tree) => {
                    opened = tree;
                    opened.as_fd()
                }
                Err(Errno::ENOSYS) => return self.bind_by_path(mount, bind),
                Err(errno) => return Err(source::failed(bind, errno)),
            },
        };
        if bind.must_be_procfs {
            check_is_procfs(tree)?;
        }
        if self.on_host {
            cut_off_tree(tree)?;
        }
        // Before it is attached, so that nobody sees it writable.
        let early = set_attributes(tree, mount);
        let target = self.destination(mount, || kind_of(tree))?;
        mount::move_mount(tree, target.fd.as_fd())
            .map_err(|errno| mismatch(tree, &target.fd, Error::syscall("move_mount", errno)))?;
        match early {
            Err(error) if error.errno() == Some(Errno::ENOSYS) => set_attributes_late(tree, mount)?,
            result => result?,
        }
        self.attached(tree, mount)
    }

    /// For kernels without open_tree(2).
    fn bind_by_path(&mut self, mount: &Mount, bind: &Bind) -> Result<()> {
        let from = source::open_path(bind)?;
        if bind.must_be_procfs {
            check_is_procfs(from.as_fd())?;
        }
        let target = self.destination(mount, || kind_of(from.as_fd()))?;
        legacy::bind(from.as_fd(), target.fd.as_fd(), bind.clone == Clone::Recursive)
            .map_err(|errno| mismatch(from.as_fd(), &target.fd, Error::syscall("mount(MS_BIND)", errno)))?;
        let tree = self.reopen(mount)?;
        set_attributes_late(tree.as_fd(), mount)?;
        self.attached(tree.as_fd(), mount)
    }

    /// What follows once a mount is in place: propagation, which attaching below a shared mount may
    /// have changed, and the root if that is what was covered.
    fn attached(&mut self, tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
        for propagation in &mount.propagation {
            let attributes = Attributes { propagation: propagation.flag, ..Attributes::default() };
            setattr(tree, propagation.recursive, &attributes)
                .call(|| format!("mount_setattr(propagation {:#x})", propagation.flag))?;
        }
        if mount.destination == Path::new("/") {
            self.root = tree.try_clone_to_owned().call(|| "dup(root mount)".into())?;
        }
        Ok(())
    }

    fn filesystem(&mut self, mount: &Mount, filesystem: &Filesystem) -> Result<()> {
        let target = self.destination(mount, || Ok(Missing::Directory))?;
        let inherited = inherited_mode(filesystem, &target)?;
        let pids = self.pids.as_ref().filter(|_| filesystem.fstype.as_c_str() == c"proc").map(AsFd::as_fd);
        // Only a mount that is still to be changed needs a descriptor of its own.
        let needs_fd = pids.is_some()
            || filesystem.copy_up
            || filesystem.readonly_later
            || filesystem.label_of_root.is_some()
            || !mount.propagation.is_empty()
            || !mount.recursive.is_empty()
            || mount.destination == Path::new("/");
        if needs_fd {
            match detached(mount, filesystem, inherited.as_deref(), pids) {
                Err(error) if error.errno() == Some(Errno::ENOSYS) && pids.is_none() => {}
                tree => return self.filesystem_by_fd(mount, filesystem, &target, &tree?),
            }
        }
        mount_here(&target.fd, filesystem, inherited.as_deref())?;
        if !needs_fd {
            return Ok(());
        }
        let tree = self.reopen(mount)?;
        if filesystem.copy_up {
            copyup::copy(target.fd.as_fd(), tree.as_fd())?;
        }
        self.finish(mount, filesystem, tree.as_fd())
    }

    fn filesystem_by_fd(
        &mut self,
        mount: &Mount,
        filesystem: &Filesystem,
        target: &Target,
        tree: &OwnedFd,
    ) -> Result<()> {
        if filesystem.copy_up {
            copyup::copy(target.fd.as_fd(), tree.as_fd())?;
        }
        mount::move_mount(tree.as_fd(), target.fd.as_fd()).call(|| "move_mount".into())?;
        self.finish(mount, filesystem, tree.as_fd())
    }

    fn finish(&mut self, mount: &Mount, filesystem: &Filesystem, tree: BorrowedFd<'_>) -> Result<()> {
        if let Some(label) = &filesystem.label_of_root {
            set_label(tree, label)?;
        }
        set(tree, true, mount.recursive, "recursive")?;
        self.attached(tree, mount)?;
        if filesystem.readonly_later {
            self.readonly_later.push(tree.try_clone_to_owned().call(|| "dup(mount)".into())?);
        }
        Ok(())
    }

    /// The mount point, made if missing, checked.
    fn destination(&self, mount: &Mount, missing: impl FnOnce() -> Result<Missing>) -> Result<Target> {
        let path = mount.destination.as_path();
        let ordinary = matches!(&mount.what, What::Filesystem(filesystem) if filesystem.ordinary_directory);
        let symlinks = match (ordinary, mount.destination_nofollow) {
            (true, _) => Symlinks::Refuse,
            (false, true) => Symlinks::NotLast,
            (false, false) => Symlinks::Follow,
        };
        let target = inroot::find_or_make(self.fd(), path, symlinks, missing).map_err(|error| {
            if ordinary { error.remedy("it must be mounted on ordinary directory") } else { error }
        })?;
        // A symlink of the image may lead into /proc from anywhere; the plan saw only the letters.
        if !target.made && !path.starts_with("/proc") {
            let magic = fstatfs(&target.fd).call(|| format!("fstatfs({path:?})"))?.filesystem_type();
            if magic == PROC_SUPER_MAGIC {
                return Err(Error::invalid(format!("{} leads into /proc", path.display())));
            }
        }
        Ok(target)
    }

    /// The top of what is mounted at the destination, for kernels that gave no descriptor of it.
    fn reopen(&self, mount: &Mount) -> Result<OwnedFd> {
        let symlinks = if mount.destination_nofollow { Symlinks::NotLast } else { Symlinks::Follow };
        let found = inroot::find(self.fd(), &mount.destination, symlinks)?;
        found.ok_or_else(|| Error::syscall("the mount point is gone", Errno::ENOENT))
    }

    /// `copy-symlink`: false when the source is no symlink.
    fn copy_symlink(&self, mount: &Mount, bind: &Bind) -> Result<bool> {
        let target = match nix::fcntl::readlink(&bind.source) {
            Ok(target) => target,
            Err(Errno::EINVAL) => return Ok(false),
            Err(errno) => return Err(Error::syscall(format!("readlink({})", bind.source.display()), errno)),
        };
        self.symlink(&mount.destination, Path::new(&target))?;
        Ok(true)
    }

    /// Makes a symlink below the root unless one with that target is there.
    pub(super) fn symlink(&self, path: &Path, target: &Path) -> Result<()> {
        let (parent, name) = inroot::parent_of(self.fd(), path)?;
        match symlinkat(target, &parent, name) {
            Err(Errno::EEXIST) => {
                let there = nix::fcntl::readlinkat(&parent, name).call(|| format!("readlinkat({path:?})"))?;
                match Path::new(&there) == target {
                    true => Ok(()),
                    false => Err(Error::invalid(format!("{} is a symlink to {there:?}", path.display()))),
                }
            }
            result => result.call(|| format!("symlinkat({target:?}, {path:?})")),
        }
    }
}

/// A directory for a directory, a file for all else.
fn kind_of(tree: BorrowedFd<'_>) -> Result<Missing> {
    let stat = fstat(tree).call(|| "fstat(source)".into())?;
    Ok(if is_directory(&stat) { Missing::Directory } else { Missing::File })
}

pub(super) fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

pub(super) fn is_symlink(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) == SFlag::S_IFLNK
}

/// The kernel says EINVAL or ENOTDIR when a file is to cover a directory or the other way round.
fn mismatch(tree: BorrowedFd<'_>, target: &OwnedFd, error: Error) -> Error {
    let (Ok(source), Ok(target)) = (fstat(tree), fstat(target)) else { return error };
    match (is_directory(&source), is_directory(&target)) {
        (true, false) => error.remedy("the source is a directory and the destination is not a directory"),
        (false, true) => error.remedy("the destination is a directory and the source is not a directory"),
        _ => error,
    }
}

/// `/proc` may only be covered by the whole of a procfs.
fn check_is_procfs(tree: BorrowedFd<'_>) -> Result<()> {
    let magic = fstatfs(tree).call(|| "fstatfs(source)".into())?.filesystem_type();
    let stat = fstat(tree).call(|| "fstat(source)".into())?;
    if magic == PROC_SUPER_MAGIC && stat.st_ino == 1 {
        return Ok(());
    }
    Err(Error::invalid("only the root of a procfs may be mounted at /proc"))
}

/// The attributes of a bind: of the mount, then of the tree.
fn set_attributes(tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    apply(tree, mount, mount::mount_setattr)
}

/// As [`set_attributes`] once the mount is attached, where mount_setattr(2) is missing.
fn set_attributes_late(tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    apply(tree, mount, setattr)
}

type SetAttributes = fn(BorrowedFd<'_>, bool, &Attributes) -> nix::Result<()>;

fn apply(tree: BorrowedFd<'_>, mount: &Mount, call: SetAttributes) -> Result<()> {
    for (recursive, change) in [(false, mount.attributes), (true, mount.recursive)] {
        if change.is_empty() {
            continue;
        }
        let attributes = Attributes { set: change.set, clear: change.clear, propagation: 0 };
        match call(tree, recursive, &attributes) {
            // Flags of the host's mount that a user namespace may not take off: keep them, which is
            // only ever stricter than what was asked for.
            Err(Errno::EPERM) if change.clear != 0 => {
                let kept = Attributes { clear: change.clear & !locked(tree)?, ..attributes };
                call(tree, recursive, &kept)
            }
            result => result,
        }
        .call(|| format!("mount_setattr(set {:#x}, clear {:#x})", change.set, change.clear))?;
    }
    Ok(())
}

/// The attributes that are on and may therefore be locked, and the atime field, which is locked whole.
fn locked(tree: BorrowedFd<'_>) -> Result<u64> {
    let flags = fstatvfs(tree).call(|| "fstatvfs(source)".into())?.flags().bits();
    let mut locked = attr::ATIME;
    for (statvfs, attribute) in [
        (libc::ST_RDONLY, attr::RDONLY),
        (libc::ST_NOSUID, attr::NOSUID),
        (libc::ST_NODEV, attr::NODEV),
        (libc::ST_NOEXEC, attr::NOEXEC),
        (libc::ST_NODIRATIME, attr::NODIRATIME),
    ] {
        if flags & statvfs != 0 {
            locked |= attribute;
        }
    }
    Ok(locked)
}

/// mount_setattr(2) on an attached mount, by mount(2) where the kernel lacks it.
pub(super) fn setattr(tree: BorrowedFd<'_>, recursive: bool, attributes: &Attributes) -> nix::Result<()> {
    match mount::mount_setattr(tree, recursive, attributes) {
        Err(Errno::ENOSYS) => legacy::setattr(tree, recursive, attributes),
        result => result,
    }
}

fn set(tree: BorrowedFd<'_>, recursive: bool, change: Change, what: &str) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let attributes = Attributes { set: change.set, clear: change.clear, propagation: 0 };
    setattr(tree, recursive, &attributes).call(|| format!("mount_setattr({what}, set {:#x})", change.set))
}

/// A copy of mounts of the host that are shared is their peer: what is mounted in it would appear there.
pub(super) fn cut_off_tree(tree: BorrowedFd<'_>) -> Result<()> {
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    mount::mount_setattr(tree, true, &private).call(|| "mount_setattr(tree, MS_PRIVATE, RECURSIVE)".into())
}

/// Makes an attached mount read-only.
pub(super) fn seal(tree: BorrowedFd<'_>) -> nix::Result<()> {
    setattr(tree, false, &Attributes { set: attr::RDONLY, ..Attributes::default() })
}

/// Labels the root of a mount, as runc and crun do where the filesystem takes no context.
fn set_label(tree: BorrowedFd<'_>, label: &CStr) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(tree, ".", flags, Mode::empty()).call(|| "openat(mount, \".\")".into())?;
    // With the NUL, as libselinux writes it.
    xattr::set(root.as_fd(), c"security.selinux", label.to_bytes_with_nul())
        .call(|| format!("fsetxattr(mount, \"security.selinux\", {label:?})"))
        .context("set linux.mountLabel")
}

/// A tmpfs without a mode has the mode of the directory that it covers.
fn inherited_mode(filesystem: &Filesystem, target: &Target) -> Result<Option<CString>> {
    let has_mode = filesystem.data.iter().any(|word| word.to_bytes().starts_with(b"mode="));
    if target.made || has_mode || filesystem.fstype.as_c_str() != c"tmpfs" {
        return Ok(None);
    }
    let mode = fstat(&target.fd).call(|| "fstat(mount point)".into())?.st_mode & 0o7777;
    Ok(Some(cstring(format!("mode={mode:o}")).call(|| "mode".into())?))
}

/// All words for the filesystem, the label last.
fn words(filesystem: &Filesystem, inherited: Option<&CStr>) -> Vec<Vec<u8>> {
    let data = filesystem.data.iter().map(|word| word.to_bytes().to_vec());
    inherited.map(|mode| mode.to_bytes().to_vec()).into_iter().chain(data).collect()
}

/// mount(2) on the directory that `target` refers to: as its working directory, `"."` is that very
/// directory, whatever its name leads to by now.
fn mount_here(target: &OwnedFd, filesystem: &Filesystem, inherited: Option<&CStr>) -> Result<()> {
    fchdir(target).call(|| "fchdir(mount point)".into())?;
    let mut data = words(filesystem, inherited);
    data.extend(filesystem.label.as_ref().map(Label::word));
    let data = cstring(data.join(&b","[..])).call(|| "mount data".into())?;
    let (source, fstype) = (filesystem.source.as_c_str(), filesystem.fstype.as_c_str());
    let flags = MsFlags::from_bits_retain(filesystem.flags);
    nix::mount::mount(Some(source), c".", Some(fstype), flags, Some(data.as_c_str())).map_err(|errno| {
        let error = Error::syscall(
            format!("mount({source:?}, {fstype:?}, {:#x}, {data:?})", filesystem.flags),
            errno,
        );
        explain(error, filesystem, inherited, errno)
    })
}

/// A new filesystem as a detached mount.
fn detached(
    mount: &Mount,
    filesystem: &Filesystem,
    inherited: Option<&CStr>,
    pids: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let context = configure(filesystem, inherited, pids)?;
    let readonly = if filesystem.readonly_later { attr::RDONLY } else { 0 };
    context.mount(mount.attributes.set & !readonly).map_err(|errno| {
        let error = Error::syscall(format!("fsmount({:?})", filesystem.fstype), errno);
        explain_by(error, &context, filesystem, errno)
    })
}

fn configure(
    filesystem: &Filesystem,
    inherited: Option<&CStr>,
    pids: Option<BorrowedFd<'_>>,
) -> Result<mount::Filesystem> {
    let call = || format!("fsopen({:?})", filesystem.fstype);
    let context = mount::Filesystem::open(&filesystem.fstype).call(call)?;
    if let Some(pids) = pids {
        let set = context.set_descriptor(c"pidns", pids);
        set.map_err(|errno| {
            explain_by(Error::syscall("fsconfig(\"pidns\")", errno), &context, filesystem, errno)
        })?;
    }
    let set = |key: &[u8], value: Option<&[u8]>| -> nix::Result<()> {
        match value {
            Some(value) => context.set_string(&cstring(key)?, &cstring(value)?),
            None => context.set_flag(&cstring(key)?),
        }
    };
    let mut options = vec![(b"source".to_vec(), Some(filesystem.source.to_bytes().to_vec()))];
    for word in words(filesystem, inherited) {
        let at = word.iter().position(|byte| *byte == b'=');
        options.push(match at {
            Some(at) => (word[..at].to_vec(), Some(word[at + 1..].to_vec())),
            None => (word, None),
        });
    }
    let label = filesystem.label.as_ref();
    options.extend(
        label.map(|label| (label.option.to_bytes().to_vec(), Some(label.context.to_bytes().to_vec()))),
    );
    for (flag, name) in SUPERBLOCK_FLAGS {
        if filesystem.flags & flag != 0 {
            options.push((name.to_vec(), None));
        }
    }
    for (key, value) in options {
        set(&key, value.as_deref()).map_err(|errno| {
            let error = Error::syscall(format!("fsconfig({:?})", String::from_utf8_lossy(&key)), errno);
            explain_by(error, &context, filesystem, errno)
        })?;
    }
    Ok(context)
}

/// The words that fsconfig(2) has for the flags of mount(2) that belong to the superblock.
const SUPERBLOCK_FLAGS: [(u64, &[u8]); 5] = [
    (libc::MS_RDONLY, b"ro"),
    (libc::MS_SYNCHRONOUS, b"sync"),
    (libc::MS_DIRSYNC, b"dirsync"),
    (libc::MS_MANDLOCK, b"mand"),
    (libc::MS_LAZYTIME, b"lazytime"),
];

/// mount(2) gives a bare EINVAL; fsconfig(2) says which option it means.
fn explain(error: Error, filesystem: &Filesystem, inherited: Option<&CStr>, errno: Errno) -> Error {
    if errno != Errno::EINVAL {
        return remedy(error, filesystem, errno);
    }
    match configure(filesystem, inherited, None) {
        Err(better) if better.errno() == Some(Errno::EINVAL) => better,
        _ => error,
    }
}

fn explain_by(error: Error, context: &mount::Filesystem, filesystem: &Filesystem, errno: Errno) -> Error {
    match context.message() {
        Some(message) => error.remedy(format!("the kernel says: {message}")),
        None => remedy(error, filesystem, errno),
    }
}

fn remedy(error: Error, filesystem: &Filesystem, errno: Errno) -> Error {
    match (errno, filesystem.fstype.to_bytes()) {
        (Errno::ENODEV, _) => error.remedy("the kernel does not know this filesystem"),
        (Errno::EPERM, b"proc") => {
            error.remedy("it needs a pid namespace of its own, and in a user namespace a /proc without masks")
        }
        (Errno::EPERM, b"sysfs") => error.remedy("it needs a network namespace of its own"),
        (Errno::EPERM, b"mqueue") => error.remedy("it needs an ipc namespace of its own"),
        _ => error,
    }
}
