//! What an engine gets besides the exit status: the pid file, the pidfd, the console.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Pid;

use crate::error::{Call, Context, Error, Result};
use crate::sys::fs;
use crate::sys::process::Child;
use crate::sys::socket;

/// Writes the decimal pid without a newline (go-runc gives the text to Atoi as it is); the file
/// appears whole, by rename.
///
/// # Errors
/// The kernel's.
pub fn write_pid_file(path: &Path, pid: Pid) -> Result<()> {
    let write = || -> Result<()> {
        let name =
            path.file_name().ok_or_else(|| Error::invalid(format!("{} names no file", path.display())))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let mut file =
            create_new(&temporary).call(|| format!("open({}, O_CREAT|O_EXCL)", temporary.display()))?;
        let result = file
            .write_all(pid.to_string().as_bytes())
            .call(|| format!("write({})", temporary.display()))
            .and_then(|()| {
                std::fs::rename(&temporary, path)
                    .call(|| format!("rename({}, {})", temporary.display(), path.display()))
            });
        if let Err(error) = result {
            std::fs::remove_file(&temporary).call(|| format!("unlink({})", temporary.display()))?;
            return Err(error);
        }
        Ok(())
    };
    write().map_err(|error| error.full(fs::directory_of(path))).context("write the pid file")
}

fn create_new(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Connects to the engine's console socket; init sends the master by it.
///
/// # Errors
/// Nobody listens.
pub fn connect_console(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).context("reach the console socket")
}

/// Connects to the seccomp agent; init hands it the listener by it.
///
/// # Errors
/// Nobody listens.
pub fn connect_agent(path: &Path) -> Result<OwnedFd> {
    // The beginning is runc's.
    socket::connect_stream(path)
        .context("failed to connect with seccomp agent specified in linux.seccomp.listenerPath")
}

/// Sends init's pidfd: one message, one descriptor.
///
/// # Errors
/// Nobody listens.
pub fn send_pidfd(path: &Path, init: &Child) -> Result<()> {
    let send = || {
        let socket = socket::connect_stream(path)?;
        socket::send(socket.as_fd(), b"pidfd", &[init.pidfd.as_raw_fd()])
    };
    send().context("send the pidfd to the pidfd socket")
}
