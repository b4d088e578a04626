//! What nix and std lack about files: extended attributes by descriptor, and reading what anybody may have made.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;

/// How a file that may be anybody's is opened, beside the access mode: a fifo must not hang us, nor a terminal
/// become ours.
pub const UNTRUSTED: i32 = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

/// All of a file that may be anybody's, opened with [`UNTRUSTED`]: a device must not fill our memory.
///
/// # Errors
/// It is no regular file, or longer than 64 MiB.
pub fn read_regular(file: File) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 64 << 20;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if about.len() > LONGEST {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1);
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The directory that a file is in; of a bare name the working directory.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The names of all extended attributes of the open file `fd` (not O_PATH) that the caller may see.
pub fn xattr_names(fd: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let list = sized(|buffer, size| {
        // SAFETY: the kernel writes at most `size` bytes to `buffer`, which is that large or null.
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.cast(), size) }
    })?;
    Ok(list
        .split(|byte| *byte == 0)
        .filter_map(|name| CString::new(name).ok())
        .filter(|n| !n.is_empty())
        .collect())
}

/// The value of the extended attribute `name` of the open file `fd`.
pub fn xattr(fd: BorrowedFd<'_>, name: &CStr) -> nix::Result<Vec<u8>> {
    sized(|buffer, size| {
        // SAFETY: as above; `name` is a C string.
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer, size) }
    })
}

/// Sets the extended attribute `name` of the open file `fd`.
pub fn set_xattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: `value` is readable for its length, `name` is a C string.
    let ret =
        unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// Asks for the size, then for the content, again while it grows in between (ERANGE).
fn sized(call: impl Fn(*mut libc::c_void, usize) -> isize) -> nix::Result<Vec<u8>> {
    loop {
        let size = Errno::result(call(std::ptr::null_mut(), 0))?.unsigned_abs();
        let mut buffer = vec![0; size];
        if size == 0 {
            return Ok(buffer);
        }
        match Errno::result(call(buffer.as_mut_ptr().cast(), size)) {
            Ok(size) => {
                buffer.truncate(size.unsigned_abs());
                return Ok(buffer);
            }
            Err(Errno::ERANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
}
