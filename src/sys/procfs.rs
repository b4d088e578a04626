//! A procfs that no container can have touched.
//!
//! A container's `/proc` may be overmounted or replaced (CVE-2019-16884, CVE-2025-52881), so whatever
//! goes to `/proc/self/attr` or `/proc/sys` goes through a [`Procfs`] and never through a path. Lookups
//! neither leave the filesystem (an overmounted file is an error, not a surprise) nor follow magic
//! links.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Call, Error, Result};
use crate::sys::mount::{Filesystem, attr};

/// The inode number of the root directory of every procfs (`PROC_ROOT_INO`).
const ROOT_INODE: u64 = 1;

/// The root directory of a trusted procfs, close-on-exec.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// A new detached procfs of the caller's pid namespace; the host's ([`Procfs::host`]) where the
    /// kernel has no fsopen(2) (5.2) or refuses a new one (a user namespace whose `/proc` is masked).
    ///
    /// Making and dissolving it costs 0.1 ms and more, an RCU grace period; before pivot_root
    /// [`Procfs::host`] is as safe and free.
    pub fn detached() -> Result<Self> {
        let mount = || -> nix::Result<OwnedFd> {
            Filesystem::open(c"proc")?.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
        };
        match mount() {
            Ok(mount) => Ok(Self(mount)),
            Err(Errno::ENOSYS | Errno::EPERM) => Self::host(),
            Err(errno) => Err(Error::syscall("fsmount(proc)", errno)),
        }
    }

    /// The `/proc` of the mount namespace that the caller is in, checked to be the root of a procfs.
    /// Only before pivot_root, while that is the host's.
    pub fn host() -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = open("/proc", flags, Mode::empty()).call(|| "open(\"/proc\", O_PATH)".into())?;
        let magic = fstatfs(&root).call(|| "fstatfs(\"/proc\")".into())?.filesystem_type();
        let inode = fstat(&root).call(|| "fstat(\"/proc\")".into())?.st_ino;
        if magic != PROC_SUPER_MAGIC || inode != ROOT_INODE {
            return Err(Error::unsupported("/proc is not the root of a procfs").remedy("mount proc at /proc"));
        }
        Ok(Self(root))
    }

    /// Opens `path` (relative: `self/attr/exec`, `sys/net/ipv4/ip_forward`) with `flags` and
    /// O_CLOEXEC. EXDEV means that something is mounted over it.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlag) -> Result<File> {
        let path = path.as_ref();
        // openat2(2) takes O_NOCTTY for a mistake where nothing is opened but the path.
        let plain = if flags.contains(OFlag::O_PATH) { OFlag::empty() } else { OFlag::O_NOCTTY };
        let flags = flags | OFlag::O_CLOEXEC | plain;
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let fd = match openat2(&self.0, path, OpenHow::new().flags(flags).resolve(resolve)) {
            Err(Errno::ENOSYS) => self.open_plainly(path, flags)?,
            result => result.call(|| format!("openat2(proc, {path:?}, BENEATH|NO_XDEV)"))?,
        };
        Ok(File::from(fd))
    }

    /// Writes `value` to `path` in one write(2), as the kernel's files want it.
    pub fn write(&self, path: impl AsRef<Path>, value: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        self.open(path, OFlag::O_WRONLY)?
            .write_all(value.as_ref())
            .call(|| format!("write(proc, {path:?}, {:?})", String::from_utf8_lossy(value.as_ref())))
    }

    /// For kernels without openat2(2): no components that climb, and the result must be procfs.
    fn open_plainly(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        if !path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            return Err(Error::invalid(format!("{path:?} is no path below /proc")));
        }
        let call = || format!("openat(proc, {path:?})");
        let fd = openat(&self.0, path, flags, Mode::empty()).call(call)?;
        if fstatfs(&fd).call(call)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Error::syscall(call(), Errno::EXDEV));
        }
        Ok(fd)
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a whole file of a kernel's file system (procfs, sysfs, cgroupfs) by its path. Such a file says that
/// its size is 0, so `std::fs::read` feels its way up from 32 bytes, and the kernel makes the text anew for
/// each step.
///
/// # Errors
/// The kernel's.
pub fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn reads_below_the_hosts_proc_and_nowhere_else() {
        let proc = Procfs::host().unwrap();
        let mut name = String::new();
        proc.open("self/comm", OFlag::O_RDONLY).unwrap().read_to_string(&mut name).unwrap();
        assert!(!name.is_empty());
        let climb = proc.open("../etc/passwd", OFlag::O_RDONLY).unwrap_err();
        assert_eq!(climb.errno(), Some(Errno::EXDEV));
        let magic = proc.open("self/exe", OFlag::O_RDONLY).unwrap_err();
        assert_eq!(magic.errno(), Some(Errno::ELOOP));
        assert!(proc.open("self/attr", OFlag::O_PATH).is_ok(), "a directory, for its path alone");
    }
}
