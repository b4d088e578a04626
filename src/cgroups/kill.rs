//! Signals every process of a container.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::record::{Record, Version};
use super::write::write_at;
use crate::error::{Code, Context, Error, Result};

impl Record {
    /// Sends `signal` to every process in the cgroup and those nested in it. No process that was
    /// there at the call escapes, nor do its children. SIGKILL also kills a frozen container; any
    /// other signal stays pending in one until it is thawed. Another's cgroup that has the path by now is left alone.
    pub fn kill(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            self.kill_all().context("kill all processes of the container")
        } else {
            self.signal_once(signal)
                .map(drop)
                .with_context(|| format!("send signal {signal} to all processes"))
        }
    }

    fn kill_all(&self) -> Result<()> {
        if self.kill_by_file()? && self.version == Version::V2 {
            return Ok(());
        }
        // Also after cgroup.kill on a hybrid host: a nested engine may have moved processes out of
        // the unified hierarchy, and a frozen v1 cgroup has to be thawed to die.
        let mut signalled = BTreeSet::new();
        for _ in 0..100 {
            let new = self.signal_once(libc::SIGKILL)?;
            if new.is_subset(&signalled) {
                return Ok(());
            }
            signalled.extend(new);
        }
        Err(Error::new(Code::Kernel, "processes appear faster than they can be killed")
            .remedy("freeze the container first (pause), then kill it"))
    }

    /// `cgroup.kill` (Linux 5.14): the kernel kills the whole tree, forks included. Whether it was there.
    fn kill_by_file(&self) -> Result<bool> {
        let Some(directory) = self.unified() else { return Ok(false) };
        let Some(fd) = directory.open()? else { return Ok(false) };
        match write_at(fd.as_fd(), "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            // EOPNOTSUPP: a threaded cgroup.
            Err((_, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV)) => Ok(false),
            Err((call, errno)) => Err(Error::syscall(
                format!("{call}({:?}, \"1\")", directory.host_path().join("cgroup.kill")),
                errno,
            )),
        }
    }

    /// Signals what is there now, frozen meanwhile so that nothing is forked between the look and the
    /// signal; the pids.
    fn signal_once(&self, signal: i32) -> Result<BTreeSet<i32>> {
        let pids = self.pids()?;
        if pids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let was_frozen = self.is_frozen()?;
        // Where nothing can be frozen, kill_all's second look finds what was forked.
        let frozen = was_frozen || self.freeze().is_ok();
        let result = self.pids().and_then(|pids| {
            pids.iter().try_for_each(|pid| send(*pid, signal))?;
            Ok(pids.into_iter().collect())
        });
        // On v1 a frozen process dies only once it is thawed.
        if signal == libc::SIGKILL {
            self.thaw_below()?;
        }
        if frozen && (!was_frozen || signal == libc::SIGKILL) {
            match self.thaw() {
                // Whoever waits for the container may have removed the cgroup when the last of it had ended.
                Err(error)
                    if error.code() == Code::State
                        || matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => {}
                thawed => thawed?,
            }
        }
        result
    }
}

/// A process that has ended meanwhile needs no signal.
fn send(pid: i32, signal: i32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid);
    let pidfd = match crate::sys::process::pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(Errno::ESRCH) => return Ok(()),
        Err(errno) => return Err(Error::syscall(format!("pidfd_open({pid})"), errno)),
    };
    match crate::sys::process::pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::syscall(format!("pidfd_send_signal({pid}, {signal})"), errno)),
    }
}
