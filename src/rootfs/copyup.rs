//! `tmpcopyup`: a tmpfs that starts with the content of the directory it covers.
//!
//! The content is the image's and hostile: every entry is opened relative to its directory's
//! descriptor, symlinks are copied and never followed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::error::{Call, Context, Result};
use crate::sys::fs::{set_xattr, xattr, xattr_names};

/// Copies the content of the directory `from` (O_PATH is enough) into the directory `to`, and its
/// mode and owner: files, directories, symlinks, nodes, with owner, mode, times and extended
/// attributes. Attributes that a tmpfs does not store (`user.*` before Linux 6.6) are left out.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let from = openat(from, ".", directory, Mode::empty()).call(|| "openat(mount point, \".\")".into())?;
    let to = openat(to, ".", directory, Mode::empty()).call(|| "openat(tmpfs, \".\")".into())?;
    directory_content(from, to).context("tmpcopyup")
}

fn directory_content(from: OwnedFd, to: OwnedFd) -> Result<()> {
    let stat = fstat(&from).call(|| "fstat".into())?;
    let source = from.try_clone().call(|| "dup".into())?;
    let mut entries = Dir::from_fd(from).call(|| "fdopendir".into())?;
    for entry in entries.iter() {
        let entry = entry.call(|| "getdents".into())?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(source.as_fd(), to.as_fd(), name).with_context(|| name.to_string_lossy().into_owned())?;
        }
    }
    // After the content, which changes the times.
    attributes(source.as_fd(), to.as_fd(), &stat)
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).call(|| "fstatat".into())?;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).call(|| "mkdirat".into())?;
            let flags = flags | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let source = openat(from, name, flags, Mode::empty()).call(|| "openat".into())?;
            let copy = openat(to, name, flags, Mode::empty()).call(|| "openat".into())?;
            directory_content(source, copy)
        }
        SFlag::S_IFREG => {
            // O_NONBLOCK: were it swapped for a fifo, the open would wait for ever.
            let read = flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            let mut source = File::from(openat(from, name, read, Mode::empty()).call(|| "openat".into())?);
            let write = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let mut copy = File::from(openat(to, name, write, Mode::S_IRUSR).call(|| "openat".into())?);
            io::copy(&mut source, &mut copy).call(|| "copy".into())?;
            attributes(source.as_fd(), copy.as_fd(), &stat)
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).call(|| "readlinkat".into())?;
            symlinkat(target.as_os_str(), to, name).call(|| "symlinkat".into())?;
            owner(to, name, &stat)?;
            times(to, name, &stat)
        }
        kind => {
            // Devices, fifos, sockets.
            let mode = Mode::from_bits_truncate(stat.st_mode);
            mknodat(to, name, kind, mode, stat.st_rdev).call(|| "mknodat".into())?;
            owner(to, name, &stat)?;
            // chown(2) takes set-id bits away. The name is ours: nobody else can reach the tmpfs yet.
            fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).call(|| "fchmodat".into())?;
            times(to, name, &stat)
        }
    }
}

fn owner(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).call(|| "fchownat".into())
}

fn times(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<()> {
    let (accessed, modified) = timestamps(stat);
    utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink).call(|| "utimensat".into())
}

fn timestamps(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

/// Owner, mode, extended attributes and times of an open file or directory, in the order in which the
/// one does not undo the other.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(uid), Some(gid)).call(|| format!("fchown({uid}, {gid})"))?;
    fchmod(to, Mode::from_bits_truncate(stat.st_mode)).call(|| "fchmod".into())?;
    extended(from, to)?;
    let (accessed, modified) = timestamps(stat);
    nix::sys::stat::futimens(to, &accessed, &modified).call(|| "futimens".into())
}

fn extended(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let names = match xattr_names(from) {
        Err(Errno::ENOTSUP) => return Ok(()),
        names => names.call(|| "flistxattr".into())?,
    };
    for name in names {
        let value = xattr(from, &name).call(|| format!("fgetxattr({name:?})"))?;
        match set_xattr(to, &name, &value) {
            Ok(()) | Err(Errno::ENOTSUP) => {}
            // Attributes of the security modules are theirs to give in a user namespace.
            Err(Errno::EPERM) if name.to_bytes().starts_with(b"security.") => {}
            Err(errno) => return Err(errno).call(|| format!("fsetxattr({name:?})")),
        }
    }
    Ok(())
}
