//! Waits for `cgroup.events` of cgroup v2: the kernel notifies its pollers (cgroup-v2.rst).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::uio::pread;

use super::write::open_at;
use crate::error::{Error, Result};

/// Returns whether `done` became true of the text of cgroup.events before `deadline`. A cgroup that
/// is removed meanwhile has no more events: done.
pub(super) fn await_event(
    cgroup: BorrowedFd<'_>,
    deadline: Instant,
    done: impl Fn(&str) -> bool,
) -> Result<bool> {
    let file = match open_at(cgroup, "cgroup.events", OFlag::O_RDONLY) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(true),
        Err(errno) => return Err(Error::syscall("open(cgroup.events)", errno)),
    };
    loop {
        // Reading arms the notification, so that no change between it and poll is missed.
        let mut buffer = [0; 256];
        match pread(&file, &mut buffer, 0) {
            Ok(n) if done(&String::from_utf8_lossy(&buffer[..n])) => return Ok(true),
            Ok(_) => {}
            Err(Errno::ENODEV) => return Ok(true),
            Err(errno) => return Err(Error::syscall("read(cgroup.events)", errno)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::syscall("poll(cgroup.events)", errno)),
        }
    }
}
