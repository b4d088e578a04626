//! The gate between `create` and `start`: a fifo in the state directory.
//!
//! Init opens it for reading and writing before it loses sight of the host, and reads one byte when
//! all else is done; execve closes it. So whether a container is only created or has been started is
//! a fact that the kernel keeps, not a word in a file that a crash could leave wrong: opening the
//! fifo for writing without blocking succeeds while init waits and gives ENXIO once it has executed
//! its program or is gone.
//!
//! The answer goes the other way by a second fifo: `start` opens it for reading before it opens the
//! gate; init holds it for writing until execve. One byte announces the execve and the end of file is its
//! success; an error comes as text. An end of file without the byte is that of an init that was killed.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::mkfifoat;

use crate::error::{Call, Code, Error, Result};
use crate::json;

/// What `start` writes to.
pub const START: &str = "start.fifo";
/// What `start` reads.
pub const ANSWER: &str = "answer.fifo";

/// What init answers right before execve.
const ANNOUNCED: u8 = b'+';

/// Init's side: waits to be started.
#[derive(Debug)]
pub struct Waiting {
    start: OwnedFd,
    answer: OwnedFd,
}

/// Makes the fifos in the state directory and opens init's side of them.
///
/// # Errors
/// The kernel's.
pub fn make(directory: impl AsFd) -> Result<Waiting> {
    let directory = directory.as_fd();
    let open = |name: &str| -> Result<OwnedFd> {
        mkfifoat(directory, name, Mode::from_bits_truncate(0o600))
            .call(|| format!("mkfifoat(state, {name:?})"))?;
        // For reading and writing: opening does not wait for another side, and a visitor who opens
        // the other side and leaves again causes no end of file.
        openat(directory, name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .call(|| format!("openat(state, {name:?}, O_RDWR)"))
    };
    Ok(Waiting { start: open(START)?, answer: open(ANSWER)? })
}

impl Waiting {
    /// The descriptors that must stay open until execve.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.start.as_fd(), self.answer.as_fd()]
    }

    /// Blocks until `start` opens the gate.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> Result<()> {
        let mut byte = [0];
        loop {
            match nix::unistd::read(self.start.as_fd(), &mut byte) {
                Ok(1) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::syscall("read(start.fifo)", errno)),
            }
        }
    }

    /// Tells `start` that the program is about to be executed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn announce(&self) -> Result<()> {
        nix::unistd::write(&self.answer, &[ANNOUNCED]).call(|| "write(answer.fifo)".into()).map(drop)
    }

    /// Tells `start` why the program does not run.
    ///
    /// # Errors
    /// The kernel's; there is nobody left to tell.
    pub fn refuse(self, error: &Error) -> Result<()> {
        let text = serde_json::to_vec(error)
            .map_err(|e| Error::new(Code::Kernel, format!("encode an error: {e}")))?;
        let mut file = std::fs::File::from(self.answer);
        file.write_all(&text).call(|| "write(answer.fifo)".into())
    }
}

/// Whether init still waits at the gate.
///
/// # Errors
/// The kernel's.
pub fn is_waiting(directory: impl AsFd) -> Result<bool> {
    Ok(open_start(directory)?.is_some())
}

/// None when nobody waits at the gate.
fn open_start(directory: impl AsFd) -> Result<Option<OwnedFd>> {
    match openat(directory, START, OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENXIO | Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::syscall("openat(state, \"start.fifo\", O_WRONLY|O_NONBLOCK)", errno)),
    }
}

/// Opens the gate and waits for the answer. `path` is only named in messages.
///
/// # Errors
/// Nobody waits ([`Code::State`]), or the error that init met instead of executing the program.
pub fn open(directory: impl AsFd, path: &Path) -> Result<()> {
    let directory = directory.as_fd();
    // Before the gate opens: the answer must not be missed. Non-blocking only for the opening.
    let answer =
        openat(directory, ANSWER, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
            .call(|| format!("open({}/{ANSWER})", path.display()))?;
    nix::fcntl::fcntl(&answer, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))
        .call(|| "fcntl(answer.fifo, F_SETFL, 0)".into())?;
    let nobody = || Error::new(Code::State, "nobody waits to be started");
    let start = open_start(directory)?.ok_or_else(nobody)?;
    match nix::unistd::write(&start, &[0]) {
        // Init ended between the two calls.
        Err(Errno::EPIPE) => return Err(nobody()),
        written => written.call(|| "write(start.fifo)".into())?,
    };
    drop(start);
    let mut text = Vec::new();
    std::fs::File::from(answer).read_to_end(&mut text).call(|| "read(answer.fifo)".into())?;
    let error = match text.strip_prefix(&[ANNOUNCED]) {
        Some([]) => return wait_until_closed(directory),
        Some(error) => error,
        None if text.is_empty() => {
            return Err(Error::new(Code::State, "the container was ended before its program was executed"));
        }
        None => &text,
    };
    match json::read::<Error>(error) {
        Ok(error) => Err(error),
        Err(error) => Err(Error::new(Code::Kernel, format!("decode the answer of init: {error}"))),
    }
}

/// execve closes the two fifos one after the other, so the end of the answer may be seen while the
/// gate still looks held; whoever asks for the state after us must see the container running.
fn wait_until_closed(directory: BorrowedFd<'_>) -> Result<()> {
    for _ in 0..10_000 {
        if !is_waiting(directory)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    // A throttled container takes its time; started it is.
    Ok(())
}
