//! `kill`: a signal to init, or to all of the container's processes.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::Host;
use super::state::Record;
use super::status::{self, Status};
use crate::error::{Code, Error, Result};
use crate::sys::process::pidfd_send_signal;

/// Sends `signal` to the container's init, or to all its processes.
///
/// # Errors
/// The container is not running; with `all` that is no error.
pub fn kill(host: &Host, id: &str, signal: i32, all: bool) -> Result<()> {
    let dir = host.root.open(id)?;
    let record = status::record(&dir)?;
    let now = status::of(&dir, &record)?;
    // What outlived its init without a pid namespace is the container's all the same.
    let outlived = now == Status::Stopped && signal == libc::SIGKILL && !record.own_pid_namespace;
    if outlived && record.cgroup_made && !record.cgroup.pids()?.is_empty() {
        return record.cgroup.kill(signal);
    }
    if now == Status::Stopped && !all {
        return Err(Error::new(Code::State, "container not running"));
    }
    if all && record.cgroup.is_some() {
        return record.cgroup.kill(signal);
    }
    if all && now == Status::Stopped {
        return Ok(());
    }
    match signal {
        libc::SIGKILL => self::all(&record),
        _ => signal_init(&record, signal),
    }
}

/// Kills everything of the container: its init, and what may live on in its cgroup.
pub(super) fn all(record: &Record) -> Result<()> {
    let gone = match signal_init(record, libc::SIGKILL) {
        Ok(()) => false,
        Err(error) if error.code() == Code::State => true,
        Err(error) => return Err(error),
    };
    // A cgroup that was only planned may be somebody else's.
    if !record.cgroup_made {
        return Ok(());
    }
    // With the init of a pid namespace all its processes end, and it waits for those that cannot.
    if record.own_pid_namespace && record.init.is_some() && (gone || !record.cgroup.holds_frozen()?) {
        return Ok(());
    }
    record.cgroup.kill(libc::SIGKILL)
}

fn signal_init(record: &Record, signal: i32) -> Result<()> {
    let not_running = || Error::new(Code::State, "container not running");
    let init = record.init.ok_or_else(not_running)?;
    let pidfd = init.open()?.ok_or_else(not_running)?;
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(not_running()),
        Err(errno) => Err(Error::syscall(format!("pidfd_send_signal({}, {signal})", init.pid), errno)),
    }
}
