//! Carries bytes between the caller's stdin and stdout and the container's terminal.
//!
//! Nothing in here waits but [`Relay::carry`], and that for signals too: a reader of our stdout who does not read must
//! not keep a signal from the container.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::Termios;

use super::foreground::host_terminal;
use crate::error::{Call, Result};
use crate::log;
use crate::sys::mount::open_pty_peer;
use crate::sys::process::inherited;
use crate::sys::tty;

/// The container's terminal and ours.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// A slave of our own, never read: without any the master answers EIO, also between two programs of
    /// the container that open the terminal one after the other.
    _slave: OwnedFd,
    open: bool,
    stdin_open: bool,
    /// None when nobody reads it any more: the container goes on all the same, and what it prints is lost.
    stdout: Option<Stdout>,
    /// Printed but not yet taken by who reads our stdout.
    printed: VecDeque<u8>,
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
            stdin_open: true,
            stdout: Stdout::open(),
            printed: VecDeque::new(),
            typed: VecDeque::new(),
            last_typed: None,
            before: None,
        };
        if let Some(host) = host_terminal() {
            relay.before = Some(tty::make_raw(host)?);
        }
        Ok(relay)
    }

    /// The master of the container's terminal.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Takes nothing more from stdin.
    pub fn close_input(&mut self) {
        self.stdin_open = false;
        self.typed.clear();
    }

    /// Whether something that the container has printed is still to be written.
    pub fn has_printed(&self) -> bool {
        !self.printed.is_empty()
    }

    /// Waits until there is something to carry, or `signals` can be read, and carries it. False when the time is up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn carry(&mut self, signals: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool> {
        let mut fds = vec![PollFd::new(signals, PollFlags::POLLIN)];
        let mut watch = |fd, events: PollFlags| {
            (!events.is_empty()).then(|| {
                fds.push(PollFd::new(fd, events));
                fds.len() - 1
            })
        };
        let when = |condition, events| if condition { events } else { PollFlags::empty() };
        // No more is read than is written: a reader who does not keep up slows the container down, as a terminal does.
        let master = watch(
            self.master.as_fd(),
            when(self.open && self.printed.is_empty(), PollFlags::POLLIN)
                | when(self.open && !self.typed.is_empty(), PollFlags::POLLOUT),
        );
        let stdin = inherited(0).and_then(|fd| {
            watch(fd, when(self.open && self.stdin_open && self.typed.is_empty(), PollFlags::POLLIN))
        });
        let stdout = self
            .stdout
            .as_ref()
            .and_then(|stdout| watch(stdout.as_fd(), when(!self.printed.is_empty(), PollFlags::POLLOUT)));
        let something = poll_all(&mut fds, timeout)?;
        let events = |at: Option<usize>| at.and_then(|at| fds[at].revents()).unwrap_or(PollFlags::empty());
        let (master, stdin, stdout) = (events(master), events(stdin), events(stdout));

        if master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.read_output()?;
        }
        if !stdout.is_empty() {
            self.write_output();
        }
        if !stdin.is_empty() {
            self.read_input()?;
        }
        self.write_input()?;
        Ok(something)
    }

    fn read_output(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.open = false,
            Ok(length) if self.stdout.is_some() => self.printed.extend(&buffer[..length]),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno).call(|| "read(master)".into()),
        }
        Ok(())
    }

    /// As much as is taken at once.
    fn write_output(&mut self) {
        let Some(stdout) = &self.stdout else { return };
        let (front, _) = self.printed.as_slices();
        match stdout.write(front) {
            Ok(written) => drop(self.printed.drain(..written)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => {
                // That a reader has gone is nothing to be told of.
                if ![Errno::EPIPE, Errno::EIO, Errno::ECONNRESET].contains(&errno) {
                    log::warning(&format!("write(stdout): {}: what follows is lost", errno.desc()));
                }
                self.stdout = None;
                self.printed.clear();
            }
        }
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

/// The device of every master (Linux, devices.txt).
const PTMX: libc::dev_t = libc::makedev(5, 2);

/// Our stdout, as something that never waits.
///
/// O_NONBLOCK belongs to the open file, which is others' too. So a terminal or a pipe is opened anew, and a socket has a
/// flag of the call. All else, a file above all, where another open file would have another offset, is written to in
/// portions that fit where poll(2) says that there is room.
#[derive(Debug)]
enum Stdout {
    Reopened(OwnedFd),
    Socket(BorrowedFd<'static>),
    /// With the size of a portion.
    Inherited(BorrowedFd<'static>, usize),
}

impl Stdout {
    fn open() -> Option<Self> {
        let fd = inherited(1)?;
        // The room of which poll(2) speaks: in a pipe a page (pipe(7)), on a terminal any.
        let (page, byte) = (4096, 1);
        let Ok(stat) = fstat(fd) else { return Some(Self::Inherited(fd, page)) };
        let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
        if kind == SFlag::S_IFSOCK {
            return Some(Self::Socket(fd));
        }
        let is_terminal = nix::unistd::isatty(fd).unwrap_or(false);
        // To open the master of a pty anew is to make another pty.
        if kind == SFlag::S_IFIFO || (is_terminal && stat.st_rdev != PTMX) {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            // Another user's we may not open.
            if let Ok(reopened) = open("/proc/self/fd/1", flags, Mode::empty()) {
                return Some(Self::Reopened(reopened));
            }
        }
        Some(Self::Inherited(fd, if is_terminal { byte } else { page }))
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        match self {
            Self::Reopened(fd) => nix::unistd::write(fd, bytes),
            Self::Socket(fd) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(std::os::fd::AsRawFd::as_raw_fd(fd), bytes, flags)
            }
            Self::Inherited(fd, portion) => nix::unistd::write(fd, &bytes[..bytes.len().min(*portion)]),
        }
    }
}

impl AsFd for Stdout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Reopened(fd) => fd.as_fd(),
            Self::Socket(fd) | Self::Inherited(fd, _) => *fd,
        }
    }
}

/// Whether there is something to do with any of the descriptors.
///
/// # Errors
/// The kernel's.
pub(super) fn poll_all(fds: &mut [PollFd<'_>], timeout: PollTimeout) -> Result<bool> {
    match poll(fds, timeout) {
        // A signal that is not held.
        Err(Errno::EINTR) => Ok(true),
        polled => Ok(polled.call(|| "poll".into())? > 0),
    }
}
