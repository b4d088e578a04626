//! Extended attributes, for which nix has no wrappers.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::cvt;

/// Sets `name` to `value` on an open file or directory (not an O_PATH one).
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the name is NUL-terminated, the value is given with its length; both outlive the call.
    let ret =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    cvt(ret.into()).map(drop)
}

/// Takes `name` off an open file or directory (not an O_PATH one); that it has none is no error.
pub fn remove(file: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    let ret = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    match cvt(ret.into()) {
        Err(Errno::ENODATA) => Ok(()),
        removed => removed.map(drop),
    }
}

/// Whether `path` (a symlink itself, not its target) carries the attribute. False also where the
/// file system has no such attributes or the caller may not see them.
///
/// # Errors
/// ENOENT when there is no such path.
pub fn exists(path: &Path, name: &CStr) -> nix::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both strings are NUL-terminated; a size of 0 asks for the length and writes nothing.
    let ret = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    match cvt(i64::try_from(ret).unwrap_or(-1)) {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}
