//! `run` in the foreground: forwards signals, relays the terminal, reaps, and gives the exit status.
//!
//! One loop over poll(2), no threads.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::Termios;

use crate::error::{Call, Result};
use crate::log;
use crate::sys::mount::open_pty_peer;
use crate::sys::process::{Child, Whom, inherited, pidfd_send_signal, wait};
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

/// The signals of the foreground process, held back until [`Signals::forward_until_exit`] reads them.
#[derive(Debug)]
pub struct Signals(SignalFd);

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
        Ok(Self(fd))
    }

    /// Forwards signals and terminal traffic until `init` ends; returns its exit status, 128+n after
    /// signal n. Other children (a subreaper gets them) are reaped on the way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forward_until_exit(&mut self, init: &Child, mut terminal: Option<Relay>) -> Result<u8> {
        loop {
            self.wait_for_something(terminal.as_mut())?;
            while let Some(info) = self.0.read_signal().call(|| "read(signalfd)".into())? {
                let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                if signal == libc::SIGCHLD {
                    continue;
                }
                if signal == libc::SIGWINCH
                    && let Some(relay) = &terminal
                {
                    // A terminal that was hung up has no size; the container keeps the one it had.
                    if let Err(error) = copy_terminal_size(relay.master.as_fd()) {
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
                    relay.drain()?;
                }
                return Ok(status);
            }
        }
    }

    fn wait_for_something(&self, terminal: Option<&mut Relay>) -> Result<()> {
        let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let Some(relay) = terminal else {
            return poll_all(&mut fds);
        };
        let (mut to_master, mut from_master) = (PollFlags::empty(), PollFlags::empty());
        if relay.open {
            from_master |= PollFlags::POLLIN;
            if !relay.typed.is_empty() {
                from_master |= PollFlags::POLLOUT;
            } else if relay.stdin_open {
                to_master |= PollFlags::POLLIN;
            }
            fds.push(PollFd::new(relay.master.as_fd(), from_master));
        }
        let mut stdin_at = None;
        if let Some(stdin) = inherited(0).filter(|_| !to_master.is_empty()) {
            stdin_at = Some(fds.len());
            fds.push(PollFd::new(stdin, to_master));
        }
        poll_all(&mut fds)?;
        let happened = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (master, stdin) =
            (if relay.open { happened(1) } else { PollFlags::empty() }, stdin_at.map(happened));
        if master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            relay.pump_output()?;
        }
        if stdin.is_some_and(|events| !events.is_empty()) {
            relay.read_input()?;
        }
        relay.write_input()
    }
}

fn poll_all(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).call(|| "poll".into()),
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

/// Carries bytes between the caller's stdin/stdout and the container's terminal.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// A slave of our own, never read: without any the master answers EIO, also between two programs of
    /// the container that open the terminal one after the other.
    _slave: OwnedFd,
    open: bool,
    stdout_open: bool,
    stdin_open: bool,
    /// Typed but not yet taken by the container.
    typed: VecDeque<u8>,
    last_typed: Option<u8>,
    /// The attributes of the caller's terminal before it was made raw.
    before: Option<Termios>,
}

impl Relay {
    /// Starts relaying: the caller's terminal, when it is one, becomes raw until the relay ends.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(master: OwnedFd) -> Result<Self> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).call(|| "fcntl(master, O_NONBLOCK)".into())?;
        let slave = open_pty_peer(&master).call(|| "ioctl(master, TIOCGPTPEER)".into())?;
        let mut relay = Self {
            master,
            _slave: slave,
            open: true,
            stdout_open: true,
            stdin_open: true,
            typed: VecDeque::new(),
            last_typed: None,
            before: None,
        };
        if let Some(host) = host_terminal() {
            relay.before = Some(tty::make_raw(host)?);
        }
        Ok(relay)
    }

    fn pump_output(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(&self.master, &mut buffer) {
            Ok(0) => self.open = false,
            Ok(length) => self.put_out(&buffer[..length]),
            Err(Errno::EIO) => self.open = false,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno).call(|| "read(master)".into()),
        }
        Ok(())
    }

    /// When nobody reads our stdout any more the container goes on all the same; what it prints is lost.
    fn put_out(&mut self, bytes: &[u8]) {
        self.stdout_open = self.stdout_open && write_all_to_stdout(bytes).is_ok();
    }

    fn read_input(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let Some(stdin) = inherited(0) else {
            self.stdin_open = false;
            return Ok(());
        };
        match nix::unistd::read(stdin, &mut buffer) {
            Ok(length) if length > 0 => {
                self.typed.extend(&buffer[..length]);
                self.last_typed = buffer[..length].last().copied();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Of a file or a pipe: the container sees it as it would of a terminal. A last line without its newline
            // takes one to be read and one to be the end.
            Ok(_) => {
                self.stdin_open = false;
                let unfinished = self.last_typed.is_some_and(|byte| byte != b'\n');
                let end = tty::end_of_file(self.master.as_fd())?;
                self.typed.extend(std::iter::repeat_n(end, 1 + usize::from(unfinished)).flatten());
            }
            // EIO of a terminal that was hung up: nothing more will be typed.
            Err(_) => self.stdin_open = false,
        }
        Ok(())
    }

    fn write_input(&mut self) -> Result<()> {
        while self.open && !self.typed.is_empty() {
            let (front, _) = self.typed.as_slices();
            match nix::unistd::write(&self.master, front) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EIO) => self.open = false,
                Err(errno) => return Err(errno).call(|| "write(master)".into()),
            }
        }
        Ok(())
    }

    /// Everything that the container wrote before it ended.
    fn drain(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        loop {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).call(|| "poll(master)".into()),
            }
            let mut buffer = [0; 16 * 1024];
            match nix::unistd::read(&self.master, &mut buffer) {
                Ok(0) | Err(Errno::EIO | Errno::EAGAIN) => return Ok(()),
                Ok(length) => self.put_out(&buffer[..length]),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).call(|| "read(master)".into()),
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let (Some(before), Some(host)) = (&self.before, host_terminal()) {
            // Nothing more can be done for a terminal that refuses its own attributes, but to say it.
            if let Err(error) = tty::restore(host, before) {
                log::warning(&format!("the terminal stays in raw mode: {error}; `stty sane` sets it right"));
            }
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
fn host_terminal() -> Option<BorrowedFd<'static>> {
    inherited(0).filter(|fd| nix::unistd::isatty(fd).unwrap_or(false))
}

fn write_all_to_stdout(mut bytes: &[u8]) -> Result<()> {
    let Some(stdout) = inherited(1) else { return Ok(()) };
    while !bytes.is_empty() {
        match nix::unistd::write(stdout, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(stdout, PollFlags::POLLOUT)];
                poll_all(&mut fds)?;
            }
            Err(errno) => return Err(errno).call(|| "write(stdout)".into()),
        }
    }
    Ok(())
}
