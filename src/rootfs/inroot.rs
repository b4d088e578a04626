//! Paths inside a rootfs: resolved once, below the root's descriptor, and handed out as descriptors.
//!
//! The content of the rootfs is hostile and may change while we look: components are swapped for
//! symlinks, directories are moved. openat2(2) with RESOLVE_IN_ROOT answers that in one call. Where
//! something is missing, or the kernel has no openat2 (before 5.6), [`Walk`] goes one component at a
//! time, holds a descriptor of every directory it is in, never asks the kernel about `..`, and makes
//! what is missing relative to such a descriptor (CVE-2021-30465, CVE-2024-45310).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Call, Error, Result};

/// As many symlinks as the kernel follows in one path.
const MAX_SYMLINKS: usize = 40;

/// How often a lookup is tried again because somebody renames what it walks through (EAGAIN), or a
/// component that appears and vanishes under us, before that somebody is called an attacker.
const MAX_RACES: usize = 128;

/// How a path is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Inside the root, as the container would see them.
    Follow,
    /// A symlink in the last component is itself meant.
    NotLast,
    /// None may be on the way (ELOOP).
    Refuse,
}

/// What is made where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A directory, 0755.
    Directory,
    /// An empty file, 0644, in directories of 0755.
    File,
}

/// A resolved path.
pub(super) struct Target {
    /// O_PATH.
    pub fd: OwnedFd,
    /// It was missing and has been made.
    pub made: bool,
}

/// An O_PATH descriptor of `path` as seen from `root`; None when it does not exist.
///
/// # Errors
/// ELOOP for a symlink where none may be, EACCES for what the caller may not reach.
pub fn find(root: BorrowedFd<'_>, path: &Path, symlinks: Symlinks) -> Result<Option<OwnedFd>> {
    match lookup(root, path, symlinks) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(Errno::ENOSYS | Errno::EAGAIN) => Walk::new(root, symlinks, None)?.resolve(path),
        Err(errno) => Err(failed(path, errno)),
    }
}

/// As [`find`], and makes what is missing below the root; `missing` is asked only then. Umask applies.
pub(super) fn find_or_make(
    root: BorrowedFd<'_>,
    path: &Path,
    symlinks: Symlinks,
    missing: impl FnOnce() -> Result<Missing>,
) -> Result<Target> {
    match lookup(root, path, symlinks) {
        Ok(fd) => return Ok(Target { fd, made: false }),
        Err(Errno::ENOENT | Errno::ENOSYS | Errno::EAGAIN) => {}
        Err(errno) => return Err(failed(path, errno)),
    }
    let missing = missing()?;
    if let Some(fd) = make_last(root, path, symlinks, missing) {
        return Ok(Target { fd, made: true });
    }
    let mut walk = Walk::new(root, symlinks, Some(missing))?;
    let fd = walk.resolve(path)?.ok_or_else(|| failed(path, Errno::ENOENT))?;
    Ok(Target { fd, made: walk.made })
}

/// Makes the last component where all others exist, the common case, in three calls. None for whatever
/// else is the matter: [`Walk`] knows.
fn make_last(root: BorrowedFd<'_>, path: &Path, symlinks: Symlinks, missing: Missing) -> Option<OwnedFd> {
    let (parent, name) = (path.parent()?, path.file_name()?);
    // The parent is never a last component: its symlinks are followed or refused.
    let symlinks = if symlinks == Symlinks::Refuse { Symlinks::Refuse } else { Symlinks::Follow };
    let parent = lookup(root, parent, symlinks).ok()?;
    make_one(parent.as_fd(), name, missing).ok()?;
    // Whatever was put in its place since then: it is a child of that directory and no symlink.
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(&parent, name, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve)).ok()
}

fn make_one(directory: BorrowedFd<'_>, name: &OsStr, missing: Missing) -> nix::Result<()> {
    match missing {
        Missing::File => mknodat(directory, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0),
        Missing::Directory => mkdirat(directory, name, Mode::from_bits_truncate(0o755)),
    }
}

/// The directory that holds the last component of `path`, made if missing, and that component.
pub(super) fn parent_of<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<(OwnedFd, &'a Path)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("{path:?} names no file")));
    };
    let target = find_or_make(root, parent, Symlinks::Follow, || Ok(Missing::Directory))?;
    Ok((target.fd, Path::new(name)))
}

fn failed(path: &Path, errno: Errno) -> Error {
    let error = Error::syscall(format!("openat2(rootfs, {path:?}, IN_ROOT)"), errno);
    match errno {
        Errno::ELOOP => error.remedy("a symlink or a magic link is in the way, and none is followed here"),
        Errno::EAGAIN => error.remedy("somebody keeps renaming what the path leads through"),
        _ => error,
    }
}

/// The common case, one system call.
fn lookup(root: BorrowedFd<'_>, path: &Path, symlinks: Symlinks) -> nix::Result<OwnedFd> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match symlinks {
        Symlinks::Follow => {}
        Symlinks::NotLast => flags |= OFlag::O_NOFOLLOW,
        Symlinks::Refuse => resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS,
    }
    let how = OpenHow::new().flags(flags).resolve(resolve);
    for _ in 0..MAX_RACES {
        match openat2(root, path, how) {
            // A rename or mount anywhere on the system during a `..`: the kernel wants to be asked again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// A walk through the rootfs, one component at a time.
struct Walk {
    /// The root and every directory entered from it: `..` is a pop, so no rename can lead outside.
    stack: Vec<OwnedFd>,
    symlinks: Symlinks,
    missing: Option<Missing>,
    made: bool,
}

impl Walk {
    fn new(root: BorrowedFd<'_>, symlinks: Symlinks, missing: Option<Missing>) -> Result<Self> {
        let root = root.try_clone_to_owned().call(|| "dup(rootfs)".into())?;
        Ok(Self { stack: vec![root], symlinks, missing, made: false })
    }

    /// None when a component is missing and nothing is to be made.
    fn resolve(&mut self, path: &Path) -> Result<Option<OwnedFd>> {
        let mut rest: VecDeque<OsString> = names(path).collect();
        let (mut followed, mut races) = (0, 0);
        // The object that the last component names, when it is no directory.
        let mut last = None;
        while let Some(name) = rest.pop_front() {
            if last.is_some() {
                return self.absent(path, Errno::ENOTDIR);
            }
            if name == ".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                }
                continue;
            }
            let Some((fd, stat)) = self.step(path, &name)? else {
                match self.missing {
                    None => return Ok(None),
                    Some(missing) => self.make(path, &name, missing, rest.is_empty())?,
                }
                // Open what is there now, whoever made it.
                rest.push_front(name);
                races += 1;
                if races > MAX_RACES {
                    return Err(failed(path, Errno::EAGAIN));
                }
                continue;
            };
            match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
                SFlag::S_IFDIR => self.stack.push(fd),
                SFlag::S_IFLNK if !(rest.is_empty() && self.symlinks == Symlinks::NotLast) => {
                    followed += 1;
                    if followed > MAX_SYMLINKS || self.symlinks == Symlinks::Refuse {
                        return Err(failed(path, Errno::ELOOP));
                    }
                    let target = self.read_link(path, &fd)?;
                    if target.is_absolute() {
                        self.stack.truncate(1);
                    }
                    for (at, name) in names(&target).enumerate() {
                        rest.insert(at, name);
                    }
                }
                _ => last = Some(fd),
            }
        }
        Ok(last.or_else(|| self.stack.pop()))
    }

    fn here(&self) -> BorrowedFd<'_> {
        // The root is never popped before the walk ends.
        self.stack[self.stack.len() - 1].as_fd()
    }

    /// Opens one component, whatever it is, without following it.
    fn step(&self, path: &Path, name: &OsString) -> Result<Option<(OwnedFd, FileStat)>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(self.here(), name.as_os_str(), flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd).call(|| format!("fstat({name:?} of {path:?})"))?;
                Ok(Some((fd, stat)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => {
                Err(Error::syscall(format!("openat({name:?} of {path:?}, O_PATH|O_NOFOLLOW)"), errno))
            }
        }
    }

    fn make(&mut self, path: &Path, name: &OsString, missing: Missing, is_last: bool) -> Result<()> {
        let missing = if is_last { missing } else { Missing::Directory };
        let made = make_one(self.here(), name, missing);
        match made {
            Ok(()) => self.made = true,
            // Somebody was faster; the next step looks at what he made.
            Err(Errno::EEXIST) => {}
            Err(errno) => {
                let error = Error::syscall(format!("mkdirat({name:?} of {path:?})"), errno);
                return Err(match errno {
                    Errno::EROFS => error.remedy("the mount point has to be in the read-only rootfs already"),
                    Errno::ENOSPC => error.remedy(
                        "the file system that it is on, the rootfs or a mount in it, is full, in bytes or in inodes",
                    ),
                    Errno::EDQUOT => error.remedy("the quota on the rootfs, or on a mount in it, is used up"),
                    _ => error,
                });
            }
        }
        Ok(())
    }

    fn read_link(&self, path: &Path, link: &OwnedFd) -> Result<std::path::PathBuf> {
        let call = || format!("readlinkat(a symlink of {path:?})");
        // A magic link's text is a host path that means nothing here, and what it really leads to is
        // not below the root.
        if fstatfs(link).call(call)?.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(failed(path, Errno::ELOOP));
        }
        Ok(readlinkat(link, "").call(call)?.into())
    }

    fn absent(&self, path: &Path, errno: Errno) -> Result<Option<OwnedFd>> {
        match self.missing {
            None => Ok(None),
            Some(_) => Err(failed(path, errno)),
        }
    }
}

/// The components that mean something, `..` among them.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::stat;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A directory with a rootfs and, beside it, what nobody may reach.
    struct Fixture {
        base: PathBuf,
        root: OwnedFd,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let base = std::env::temp_dir().join(format!("berth-inroot-{name}-{}", std::process::id()));
            std::fs::create_dir_all(base.join("rootfs/etc")).unwrap();
            std::fs::create_dir_all(base.join("host")).unwrap();
            std::fs::write(base.join("rootfs/etc/passwd"), "").unwrap();
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let root = nix::fcntl::open(&base.join("rootfs"), flags, Mode::empty()).unwrap();
            Self { base, root }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.base.join("rootfs").join(path)
        }

        /// Both resolvers find the same, and it is the file `expected` (None: nothing).
        fn check(&self, path: &str, expected: Option<&str>) {
            let fast = find(self.root.as_fd(), Path::new(path), Symlinks::Follow).unwrap();
            let slow = self.walk(path, Symlinks::Follow, None).unwrap();
            for fd in [fast, slow] {
                let found = fd.map(|fd| fstat(&fd).unwrap().st_ino);
                let expected = expected.map(|path| stat(&self.at(path)).unwrap().st_ino);
                assert_eq!(found, expected, "{path}");
            }
        }

        fn walk(&self, path: &str, symlinks: Symlinks, missing: Option<Missing>) -> Result<Option<OwnedFd>> {
            Walk::new(self.root.as_fd(), symlinks, missing).unwrap().resolve(Path::new(path))
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.base).unwrap();
        }
    }

    #[test]
    fn both_resolvers_stay_inside() {
        let fixture = Fixture::new("inside");
        symlink("/etc", fixture.at("absolute")).unwrap();
        symlink("../../../../etc", fixture.at("climbing")).unwrap();
        symlink("absolute/passwd", fixture.at("relative")).unwrap();
        symlink("/host", fixture.at("outside")).unwrap();
        symlink("loop", fixture.at("loop")).unwrap();
        fixture.check("/", Some(""));
        fixture.check("/..", Some(""));
        fixture.check("etc/../../etc/passwd", Some("etc/passwd"));
        fixture.check("/absolute/passwd", Some("etc/passwd"));
        fixture.check("/climbing/passwd", Some("etc/passwd"));
        fixture.check("/relative", Some("etc/passwd"));
        fixture.check("/outside", None);
        fixture.check("/etc/passwd/x", None);
        for errno in [
            find(fixture.root.as_fd(), Path::new("/loop"), Symlinks::Follow).unwrap_err().errno(),
            fixture.walk("/loop", Symlinks::Follow, None).unwrap_err().errno(),
            find(fixture.root.as_fd(), Path::new("/absolute"), Symlinks::Refuse).unwrap_err().errno(),
            fixture.walk("/absolute", Symlinks::Refuse, None).unwrap_err().errno(),
        ] {
            assert_eq!(errno, Some(Errno::ELOOP));
        }
    }

    #[test]
    fn the_last_symlink_can_be_meant_itself() {
        let fixture = Fixture::new("last");
        symlink("/etc", fixture.at("link")).unwrap();
        for fd in [
            find(fixture.root.as_fd(), Path::new("/link"), Symlinks::NotLast).unwrap(),
            fixture.walk("/link", Symlinks::NotLast, None).unwrap(),
        ] {
            assert_eq!(fstat(fd.unwrap()).unwrap().st_mode & libc::S_IFMT, libc::S_IFLNK);
        }
    }

    #[test]
    fn what_is_missing_is_made_inside() {
        let fixture = Fixture::new("made");
        symlink("/host/new", fixture.at("dangling")).unwrap();
        symlink("../run/resolv.conf", fixture.at("etc/resolv.conf")).unwrap();
        let make = |path: &str, missing| {
            find_or_make(fixture.root.as_fd(), Path::new(path), Symlinks::Follow, || Ok(missing)).unwrap()
        };
        assert!(make("/a/b/c", Missing::Directory).made);
        assert!(make("/a/b/d", Missing::File).made);
        assert!(!make("/a/b/d", Missing::File).made);
        // Through a dangling symlink, as the container would see it.
        assert!(make("/dangling/x", Missing::Directory).made);
        assert!(make("/etc/resolv.conf", Missing::File).made);
        assert!(fixture.at("a/b/c").is_dir() && fixture.at("a/b/d").is_file());
        assert!(fixture.at("host/new/x").is_dir());
        assert!(fixture.at("run/resolv.conf").is_file());
        assert_eq!(std::fs::read_dir(fixture.base.join("host")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let fixture = Fixture::new("way");
        let path = Path::new("/etc/passwd/x");
        let made = find_or_make(fixture.root.as_fd(), path, Symlinks::Follow, || Ok(Missing::File));
        assert_eq!(made.err().unwrap().errno(), Some(Errno::ENOTDIR));
    }

    #[test]
    fn magic_links_are_not_followed() {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open("/", flags, Mode::empty()).unwrap();
        let path = Path::new("/proc/self/root/etc");
        let fast = find(root.as_fd(), path, Symlinks::Follow).unwrap_err();
        let slow = Walk::new(root.as_fd(), Symlinks::Follow, None).unwrap().resolve(path).unwrap_err();
        assert_eq!((fast.errno(), slow.errno()), (Some(Errno::ELOOP), Some(Errno::ELOOP)));
    }

    /// CVE-2021-30465, CVE-2024-45310: a directory that keeps turning into a symlink to the host.
    #[test]
    fn a_race_never_leads_outside() {
        let fixture = Fixture::new("race");
        let host = fixture.base.join("host");
        std::fs::create_dir(fixture.at("volume")).unwrap();
        symlink("../../host", fixture.at("trap")).unwrap();
        symlink(&host, fixture.at("trap2")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let swap = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let at = nix::fcntl::AT_FDCWD;
                while !stop.load(Ordering::Relaxed) {
                    for trap in ["trap", "trap2"] {
                        let (volume, trap) = (fixture.at("volume"), fixture.at(trap));
                        nix::fcntl::renameat2(at, &volume, at, &trap, swap).unwrap();
                        nix::fcntl::renameat2(at, &volume, at, &trap, swap).unwrap();
                    }
                }
            });
            for round in 0..500 {
                let (missing, path) = match round % 2 {
                    0 => (Missing::Directory, format!("/volume/{round}/x")),
                    _ => (Missing::File, format!("/volume/{round}")),
                };
                // It may fail in a race; it may not succeed outside.
                let fast =
                    find_or_make(fixture.root.as_fd(), Path::new(&path), Symlinks::Follow, || Ok(missing));
                let slow = fixture.walk(&format!("{path}-walk"), Symlinks::Follow, Some(missing));
                assert!(fast.is_ok() || slow.is_ok() || round > 0);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0);
    }
}
