//! `run` in the foreground: forwards signals, relays the terminal ([`relay`]), reaps, and gives the exit status.
//!
//! One loop over poll(2), no threads.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::relay::{self, Relay};
use crate::error::{Call, Result};
use crate::log;
use crate::sys::process::{Child, Whom, has_ended, inherited, pidfd_send_signal, wait};
use crate::sys::tty;

/// Signals that the kernel sends about the caller itself, not requests to be passed on.
const OWN: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
    Signal::SIGPIPE,
];

/// Signals that end nobody who has no handler for them.
const IGNORED: [i32; 7] =
    [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// The signals of the foreground process, held back until [`Signals::forward_until_exit`] reads them.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// Read ahead.
    early: Option<i32>,
}

impl Signals {
    /// Holds every signal back from now on: before the clone, so that none is lost between. Init
    /// unblocks them again before it executes the program.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hold() -> Result<Self> {
        let mut held = SigSet::all();
        for signal in OWN {
            held.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&held), None).call(|| "sigprocmask(all)".into())?;
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .call(|| "signalfd(all)".into())?;
        Ok(Self { fd, early: None })
    }

    /// Sleeps until a signal comes that is to be forwarded, or `pid`, a child, ends.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sleep_beside(&mut self, pid: Pid) -> Result<()> {
        loop {
            while let Some(signal) = self.read()? {
                if signal != libc::SIGCHLD {
                    self.early = Some(signal);
                    return Ok(());
                }
            }
            // What was read may have been the sign of another child's end and of this one's.
            if has_ended(pid).call(|| format!("waitid({pid}, WNOWAIT)"))? {
                self.early = Some(libc::SIGCHLD);
                return Ok(());
            }
            self.wait_for_something(None)?;
        }
    }

    /// The next signal that has come.
    fn read(&mut self) -> Result<Option<i32>> {
        if let Some(signal) = self.early.take() {
            return Ok(Some(signal));
        }
        let info = self.fd.read_signal().call(|| "read(signalfd)".into())?;
        Ok(info.map(|info| i32::try_from(info.ssi_signo).unwrap_or(0)))
    }

    /// Forwards signals and terminal traffic until `init` ends; returns its exit status, 128+n after
    /// signal n. Other children (a subreaper gets them) are reaped on the way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forward_until_exit(&mut self, init: &Child, mut terminal: Option<Relay>) -> Result<u8> {
        loop {
            if self.early.is_none() {
                self.wait_for_something(terminal.as_mut())?;
            }
            while let Some(signal) = self.read()? {
                if signal == libc::SIGCHLD {
                    continue;
                }
                if signal == libc::SIGWINCH
                    && let Some(relay) = &terminal
                {
                    // A terminal that was hung up has no size; the container keeps the one it had.
                    if let Err(error) = copy_terminal_size(relay.master()) {
                        log::debug(|| error.to_string());
                    }
                    continue;
                }
                match pidfd_send_signal(init.pidfd.as_fd(), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        return Err(errno).call(|| format!("pidfd_send_signal({}, {signal})", init.pid));
                    }
                }
            }
            if let Some(status) = reap(init)? {
                if let Some(relay) = &mut terminal {
                    self.drain(relay)?;
                }
                return Ok(status);
            }
        }
    }

    /// Waits for a signal, and carries what there is to carry meanwhile.
    fn wait_for_something(&self, terminal: Option<&mut Relay>) -> Result<()> {
        match terminal {
            Some(relay) => relay.carry(self.fd.as_fd(), PollTimeout::NONE).map(drop),
            None => {
                relay::poll_all(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
                    .map(drop)
            }
        }
    }

    /// Carries what the container wrote before it ended. We wait for a reader of it until a signal comes that would
    /// have ended us.
    fn drain(&mut self, relay: &mut Relay) -> Result<()> {
        relay.close_input();
        let mut hurried = false;
        loop {
            let wait = relay.has_printed() && !hurried;
            let timeout = if wait { PollTimeout::NONE } else { PollTimeout::ZERO };
            if !relay.carry(self.fd.as_fd(), timeout)? {
                return Ok(());
            }
            while let Some(signal) = self.read()? {
                hurried |= !IGNORED.contains(&signal);
            }
        }
    }
}

/// Reaps every child that has ended; Some when `init` was among them.
fn reap(init: &Child) -> Result<Option<u8>> {
    let mut status = None;
    loop {
        match wait(Whom::Any, false) {
            Ok(None) | Err(Errno::ECHILD) => return Ok(status),
            Ok(Some((pid, exit))) if pid == init.pid => status = Some(exit.status()),
            Ok(Some(_)) => {}
            Err(errno) => return Err(errno).call(|| "waitid(P_ALL, WNOHANG)".into()),
        }
    }
}

/// Whether what the container's terminal prints goes to a reader who is no terminal, and would see a `\r` before
/// each newline that the process never wrote.
pub fn reader_is_plain() -> bool {
    host_terminal().is_none()
}

/// Gives the container's terminal the size of the caller's, if that has one.
///
/// # Errors
/// The kernel's.
pub fn copy_terminal_size(master: BorrowedFd<'_>) -> Result<()> {
    match host_terminal() {
        Some(host) => tty::set_size(master, tty::size(host)?),
        None => Ok(()),
    }
}

/// The caller's stdin, when it is a terminal.
pub(super) fn host_terminal() -> Option<BorrowedFd<'static>> {
    inherited(0).filter(|fd| nix::unistd::isatty(fd).unwrap_or(false))
}
