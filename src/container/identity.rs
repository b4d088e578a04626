//! Who a process is: its pid and the time it started, since a pid alone can be reused.
//!
//! Read from the host's own `/proc`, which the container cannot have touched.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Code, Error, Result};
use crate::sys::process::pidfd_open;
use crate::sys::procfs;

/// A process, for good: unequal to any later process with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// In the pid namespace of whoever wrote it.
    pub pid: i32,
    /// Clock ticks between boot and its start: field 22 of proc_pid_stat(5).
    pub start_time: u64,
}

/// What field 3 of proc_pid_stat(5) says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs, sleeps or is stopped by a signal.
    Alive,
    /// All of its threads have ended, and it only waits for its parent.
    Zombie,
}

impl ProcessId {
    /// The identity of a process that is there now.
    ///
    /// # Errors
    /// No such process.
    pub fn of(pid: Pid) -> Result<Self> {
        match look_at(pid.as_raw())? {
            Some(stat) => Ok(Self { pid: pid.as_raw(), start_time: stat.start_time }),
            None => Err(Error::syscall(format!("open(/proc/{pid}/stat)"), Errno::ESRCH)),
        }
    }

    /// Whether it is still there and not a zombie.
    ///
    /// # Errors
    /// The kernel's; a process that is gone is no error.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.look()?.is_some_and(|stat| stat.life == Life::Alive))
    }

    /// Whether it has ended or is about to, for somebody who has just killed it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_ending(&self) -> Result<bool> {
        let ends = |stat: Stat| stat.life == Life::Zombie || stat.exits || awaits_kill(self.pid);
        Ok(self.look()?.is_none_or(ends))
    }

    /// None when it is gone, or another process has its pid.
    fn look(&self) -> Result<Option<Stat>> {
        Ok(look_at(self.pid)?.filter(|stat| stat.start_time == self.start_time))
    }

    /// A pidfd of exactly this process, or None when it is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(Pid::from_raw(self.pid)) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(Error::syscall(format!("pidfd_open({})", self.pid), errno)),
        };
        // After the opening: the pid cannot be handed on while the descriptor says it is the same one.
        Ok(self.is_alive()?.then_some(pidfd))
    }
}

/// What proc_pid_stat(5) says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    life: Life,
    /// It has begun to exit.
    exits: bool,
    start_time: u64,
}

/// Whether a SIGKILL waits for the process, or it is gone.
fn awaits_kill(pid: i32) -> bool {
    let Ok(text) = procfs::read(&format!("/proc/{pid}/status")) else { return true };
    String::from_utf8_lossy(&text).lines().any(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
    })
}

fn look_at(pid: i32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    let text = match procfs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        Err(error) => return Err(error).call(|| format!("read({path})")),
    };
    parse_stat(&text)
        .map(Some)
        .ok_or_else(|| Error::new(Code::Kernel, format!("{path} is not as proc_pid_stat(5) says")))
}

/// A process whose first thread has ended is a zombie by its state, and lives in its others. The command name
/// stands in parentheses and may itself contain them.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    // Of linux/sched.h.
    const PF_EXITING: u32 = 0x4;
    const PF_SIGNALED: u32 = 0x400;
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace();
    // The state is field 3, the flags are field 9, the number of threads is field 20, the start time field 22.
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let threads: u32 = fields.nth(10)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let life = if matches!(state, "Z" | "X") && threads <= 1 { Life::Zombie } else { Life::Alive };
    // What a first thread did that has ended says nothing of the others.
    let exits = flags & (PF_EXITING | PF_SIGNALED) != 0 && state != "Z";
    Some(Stat { life, exits, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let text = b"42 (a) Z (b)) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 7777 1 1 1";
        assert_eq!(parse_stat(text), Some(Stat { life: Life::Alive, exits: false, start_time: 7777 }));
        let text = b"42 (x) Z 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 7777 1 1 1";
        assert_eq!(parse_stat(text), Some(Stat { life: Life::Zombie, exits: false, start_time: 7777 }));
        let text = b"42 (x) Z 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 2 0 7777 1 1 1";
        assert_eq!(
            parse_stat(text),
            Some(Stat { life: Life::Alive, exits: false, start_time: 7777 }),
            "another thread goes on"
        );
        assert_eq!(parse_stat(b"42 (x)"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let me = ProcessId::of(Pid::this()).unwrap();
        assert!(me.is_alive().unwrap());
        assert!(me.open().unwrap().is_some());
        let other = ProcessId { start_time: me.start_time + 1, ..me };
        assert!(!other.is_alive().unwrap());
        assert!(other.open().unwrap().is_none());
    }
}
