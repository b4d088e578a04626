//! The parent's half of what [`crate::init::sync`] draws: with init at a birth, with a joining process at an exec.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::{Call, Code, Error, Result};
use crate::init::sync::{FromInit, ParentEnd};
use crate::seccomp;
use crate::sys::process::{Child, Exit, Whom, pidfd_send_signal, wait};

/// What the child says before it is ready, as far as the parent has to do something.
#[derive(Debug)]
pub enum Heard {
    /// [`FromInit::Joined`].
    Joined,
    /// [`FromInit::Mounted`].
    Mounted,
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// [`FromInit::Ready`].
    Ready,
}

/// One child and the channel to it.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    /// Our end.
    pub channel: &'a ParentEnd,
    /// Who is at the other end.
    pub child: &'a Child,
    /// Whether it may be killed for its memory.
    pub has_memory_limit: bool,
}

impl Conversation<'_> {
    /// The next thing to do.
    ///
    /// # Errors
    /// The child's own, or how it ended.
    pub fn hear(&self) -> Result<Heard> {
        match self.channel.receive()? {
            Some((FromInit::Joined, _)) => Ok(Heard::Joined),
            Some((FromInit::Mounted, _)) => Ok(Heard::Mounted),
            Some((FromInit::Terminal, Some(master))) => Ok(Heard::Terminal(master)),
            Some((FromInit::Ready, _)) => Ok(Heard::Ready),
            Some((FromInit::Failed(error), _)) => Err(error),
            Some((FromInit::Terminal, None)) => {
                Err(Error::new(Code::Kernel, "no descriptor came with the terminal"))
            }
            None => Err(self.untimely_end()),
        }
    }

    /// Lets the child go on, as [`ParentEnd::send_start`]. It may be gone: its last message says why, better than EPIPE.
    ///
    /// # Errors
    /// The child's own, or how it ended.
    pub fn say_start(&self, name: Option<Pid>, filter: Option<&seccomp::Program>) -> Result<()> {
        self.channel.send_start(name, filter).or_else(|error| {
            self.hear_until_end()?;
            Err(if error.errno() == Some(Errno::EPIPE) { self.untimely_end() } else { error })
        })
    }

    /// After `Start`: the end of file is the child's execve, or init's wait at the gate.
    ///
    /// # Errors
    /// The child's own.
    pub fn hear_until_end(&self) -> Result<()> {
        match self.channel.receive()? {
            None => Ok(()),
            Some((FromInit::Failed(error), _)) => Err(error),
            Some((other, _)) => Err(Error::new(Code::State, format!("{other:?} came after the start"))),
        }
    }

    /// How it ended, when it should not have.
    pub fn untimely_end(&self) -> Error {
        let end = wait(Whom::One(self.child.pidfd.as_fd()), true).ok().flatten();
        untimely(end.map(|(_, how)| how), self.has_memory_limit)
    }
}

/// What a child has ended of before it was what it was to be.
pub fn untimely(how: Option<Exit>, has_memory_limit: bool) -> Error {
    let (how, killed) = match how {
        Some(Exit::Signal(signal)) => (format!("was ended by signal {signal}"), signal == libc::SIGKILL),
        _ => ("ended".to_owned(), false),
    };
    let error = Error::new(Code::State, format!("the process {how} before it was made"));
    if killed && has_memory_limit {
        return error.remedy("the memory limit may be too small for a process to start");
    }
    error
}

/// Kills and reaps a child that is not to be; that it is gone already is no error.
///
/// # Errors
/// The kernel's.
pub fn end(child: &Child) -> Result<()> {
    match pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => {
            return Err(Error::syscall(format!("pidfd_send_signal({}, SIGKILL)", child.pid), errno));
        }
    }
    match wait(Whom::One(child.pidfd.as_fd()), true) {
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(errno) => Err(errno).call(|| format!("waitid({})", child.pid)),
    }
}
