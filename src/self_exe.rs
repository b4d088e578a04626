//! Runs berth from a file that nobody can write to.
//!
//! Init is berth until it executes the container's program, so for a moment a process of the container
//! can reach the host's binary as `/proc/PID/exe`, and overwrite it once nobody runs it any more
//! (CVE-2019-5736). So whatever enters a container runs from a detached, read-only mount of the binary
//! that exists in no mount namespace: closing its last descriptor dissolves the mount, and
//! from then on writing to it gives EROFS and nothing can change that any more.
//! Where the kernel refuses such a mount (before Linux 5.12, or without CAP_SYS_ADMIN) it runs from a
//! sealed copy in memory.
//!
//! On x86_64 the entry point of the binary has done it nearly always, without an execve (`sys/early.rs`). What is here
//! checks that, and where it was not possible executes the file: the one re-exec of berth. It comes first of all, so that
//! nothing is done twice.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open, readlink};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::{Call, Context, Error, Result};
use crate::sys::{mount, process};

const EXE: &str = "/proc/self/exe";

/// Returns when the process runs from such a file, and else executes itself again from one.
///
/// # Errors
/// Neither of the two can be had.
pub fn ensure_unwritable() -> Result<()> {
    if is_unwritable()? {
        return Ok(());
    }
    let file = match read_only_mount() {
        Ok(mount) => mount,
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => {
            sealed_copy().context("copy berth into memory")?
        }
        Err(errno) => return Err(Error::syscall(format!("open_tree({EXE}, OPEN_TREE_CLONE)"), errno)),
    };
    let strings = |list: Vec<Vec<u8>>| -> Vec<CString> {
        // Neither an argument nor a variable can contain a NUL byte: the kernel has cut them at it.
        list.into_iter().filter_map(|bytes| CString::new(bytes).ok()).collect()
    };
    let argv = strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = strings(
        std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()).collect(),
    );
    let errno = process::execveat_fd(file.as_fd(), &argv, &env);
    Err(Error::syscall("execveat(berth, AT_EMPTY_PATH)", errno))
}

/// A read-only mount alone does not do: an administrator may remount the host's own later.
fn is_unwritable() -> Result<bool> {
    let link = readlink(EXE).call(|| format!("readlink({EXE})"))?;
    // A detached mount of a single file has no path above its own root.
    if link == OsStr::new("/") {
        return Ok(statvfs(EXE).call(|| format!("statvfs({EXE})"))?.flags().contains(FsFlags::ST_RDONLY));
    }
    if !link.as_bytes().starts_with(b"/memfd:") {
        return Ok(false);
    }
    let exe = open(EXE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).call(|| format!("open({EXE})"))?;
    let seals = fcntl(&exe, FcntlArg::F_GET_SEALS).call(|| format!("fcntl({EXE}, F_GET_SEALS)"))?;
    Ok(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn read_only_mount() -> nix::Result<OwnedFd> {
    let tree = mount::open_tree(mount::cwd(), EXE, mount::Clone::One, true)?;
    mount::mount_setattr(
        tree.as_fd(),
        false,
        &mount::Attributes { set: mount::attr::RDONLY, ..Default::default() },
    )?;
    Ok(tree)
}

fn sealed_copy() -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 wants to be told that it is executed; before it does not know the flag.
    let executable = flags | MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let copy = match memfd_create(c"berth", executable) {
        Err(Errno::EINVAL) => memfd_create(c"berth", flags),
        other => other,
    }
    .call(|| "memfd_create(\"berth\", ALLOW_SEALING)".into())?;
    let mut from = File::open(EXE).call(|| format!("open({EXE})"))?;
    let mut to = File::from(copy);
    std::io::copy(&mut from, &mut to).call(|| format!("copy({EXE}, memfd {})", to.as_raw_fd()))?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&to, FcntlArg::F_ADD_SEALS(seals)).call(|| "fcntl(memfd, F_ADD_SEALS)".into())?;
    Ok(to.into())
}
