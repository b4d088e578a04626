//! The working directory of the container's process.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::chdir;

use crate::error::{Call, Code, Context, Error, Result};
use crate::sys::process::raw_getcwd;

/// What to do with a working directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is made, as runc does for a container.
    Make,
    /// It is an error, as in runc's exec: a misspelled path must not change the container.
    Refuse,
}

/// Enters the directory with the rights of the container's root; false when root may not (a file
/// system that squashes root): then the user tries.
///
/// Called after the change of root: the path can lead nowhere else.
///
/// # Errors
/// It is no directory, or cannot be made.
pub fn enter_as_root(cwd: &Path, missing: Missing) -> Result<bool> {
    match chdir(cwd) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EPERM) => Ok(false),
        Err(Errno::ENOENT) if missing == Missing::Make => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(cwd)
                .call(|| format!("mkdir({})", cwd.display()))
                .context("make the working directory (process.cwd)")?;
            enter_as_user(cwd).map(|()| true)
        }
        Err(errno) => Err(cannot_enter(cwd, errno)),
    }
}

/// Enters the directory with the rights that the caller has now.
///
/// # Errors
/// The kernel's.
pub fn enter_as_user(cwd: &Path) -> Result<()> {
    chdir(cwd).map_err(|errno| cannot_enter(cwd, errno))
}

fn cannot_enter(cwd: &Path, errno: Errno) -> Error {
    Error::syscall(format!("chdir({})", cwd.display()), errno)
        .context("enter the working directory (process.cwd)")
}

/// Refuses a working directory outside of the root: `cwd` may be `/proc/self/fd/N` of a directory that
/// leaked from the host (CVE-2024-21626).
///
/// # Errors
/// It is outside, or has no path.
pub fn check_inside_root() -> Result<()> {
    let path = raw_getcwd().call(|| "getcwd".into())?;
    if path.first() == Some(&b'/') {
        return Ok(());
    }
    Err(Error::new(Code::Invalid, "process.cwd: the working directory is outside of the container's root"))
}
