//! The container's terminal: a pty of its own devpts, and `/dev/console`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat, makedev, umask};
use nix::sys::statfs::{FsType, fstatfs};

use super::attach::is_symlink;
use super::build::Root;
use super::devices::bind_file;
use super::inroot::{self, Missing, Symlinks};
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{open_pty_peer, unlock_pty};

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: FsType = FsType(0x1cd1);

impl Root {
    /// A new pty of the container's own devpts: master and slave, both close-on-exec and neither the
    /// controlling terminal. The slave comes through the master, not by its name in `/dev/pts`
    /// (CVE-2025-52565).
    pub fn open_pty(&self) -> Result<(OwnedFd, OwnedFd)> {
        open_pty(self.fd())
    }

    /// Makes `slave` the container's `/dev/console`, by descriptor on both sides. A symlink of the image
    /// is not followed (CVE-2026-88264).
    pub fn bind_console(&self, slave: BorrowedFd<'_>) -> Result<()> {
        let console = Path::new("console");
        let bind = || {
            let old = umask(Mode::empty());
            let target = inroot::find_or_make(self.fd(), Path::new("/dev"), Symlinks::Refuse, || {
                Ok(Missing::Directory)
            })
            .and_then(|dev| {
                inroot::find_or_make(dev.fd.as_fd(), console, Symlinks::NotLast, || Ok(Missing::File))
            });
            umask(old);
            let target = target?.fd;
            if is_symlink(&fstat(&target).call(|| "fstat".into())?) {
                return Err(Error::invalid("it is a symlink in the image"));
            }
            let slave = slave.as_fd().try_clone_to_owned().call(|| "dup(slave)".into())?;
            bind_file(&slave, &target)
        };
        bind().context("bind the terminal at /dev/console")
    }
}

const DEVPTS_REMEDY: &str = "a terminal needs a mount of type devpts at /dev/pts";

/// As [`Root::open_pty`], below the root directory of a container that runs: for an exec that has joined
/// its mount namespace. What is mounted at `/dev/pts` is what its processes have left there, so
/// nothing of it is taken on trust.
pub fn open_pty(root: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let master = open_ptmx(root).context("pty of the container's /dev/pts")?;
    unlock_pty(&master).call(|| "ioctl(ptmx, TIOCSPTLCK, 0)".into())?;
    let slave = open_pty_peer(&master).call(|| "ioctl(ptmx, TIOCGPTPEER)".into())?;
    Ok((master, slave))
}

fn open_ptmx(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let pts = inroot::find(root, Path::new("/dev/pts"), Symlinks::Follow)?
        .ok_or_else(|| Error::invalid("the container has no /dev/pts").remedy(DEVPTS_REMEDY))?;
    if fstatfs(&pts).call(|| "fstatfs(/dev/pts)".into())?.filesystem_type() != DEVPTS_MAGIC {
        return Err(Error::invalid("/dev/pts is not a devpts").remedy(DEVPTS_REMEDY));
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let master = match openat2(&pts, "ptmx", OpenHow::new().flags(flags).resolve(resolve)) {
        Err(Errno::ENOSYS) => openat(&pts, "ptmx", flags, Mode::empty()),
        result => result,
    }
    .call(|| "openat2(/dev/pts, \"ptmx\", O_RDWR)".into())?;
    let stat = fstat(&master).call(|| "fstat(ptmx)".into())?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != makedev(5, 2) {
        return Err(Error::invalid("/dev/pts/ptmx is not the pty multiplexer 5:2"));
    }
    Ok(master)
}
