//! What parent and init say to each other while a container is born. A process that joins a container
//! (exec) says the same, without hooks and id maps.
//!
//! ```text
//!  parent                                    init
//!    │ ◄─────── Joined ─────────────────────── │   only with cgroups of v1, which nobody removes any more
//!    │ ──────── IdsMapped ───────────────────► │   only with a new user namespace
//!    │ ──────── SetUp ───────────────────────► │   only when init cannot do all of it
//!    │ ──────── Placed ──────────────────────► │   only when systemd makes the cgroup: init mounts meanwhile
//!    │ ◄─────── Mounted ────────────────────── │   only with prestart or createRuntime hooks
//!    │ ──────── HooksDone ───────────────────► │
//!    │ ◄─────── Terminal + master ──────────── │   only when the parent relays a terminal
//!    │ ◄─────── Ready ──────────────────────── │   everything that can fail has been done
//!    │ ──────── Name ────────────────────────► │   only with a seccomp agent
//!    │ ──────── (seccomp filter) ────────────► │   only with a profile: it was compiled meanwhile
//!    │ ──────── Start ───────────────────────► │   `run`; after `create` it comes by the start fifo. Said ahead of
//!    │                                         │   Ready where nothing of the parent's comes between
//!    │ ◄─────── (end of file) ──────────────── │   execve closed the socket: the container runs
//! ```
//!
//! A process that joins a pid namespace that is there is none of it before it has nothing of the host left: an usher says
//! all that comes before Ready, and then clones it. It says Ready. Init is told nothing before the parent knows who it is;
//! an exec's process finds the word to start waiting where nothing of the parent's comes between.
//!
//! At any point init may say `Failed` and end, and either side's end is an end-of-file on the other:
//! nobody waits for somebody who is gone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Code, Error, Result};
use crate::json;
use crate::seccomp;
use crate::sys::socket;

/// The longest message: an error with paths in it.
const LONGEST: usize = 64 * 1024;

/// What init says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// Init is in its cgroups of v1.
    Joined,
    /// The mounts are made and the old root can still be reached: the hooks of the runtime
    /// namespace may run now.
    Mounted,
    /// The master side of the container's terminal travels with this message.
    Terminal,
    /// Only the start is missing.
    Ready,
    /// The birth ends here.
    Failed(Error),
}

/// What the parent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromParent {
    /// uid_map and gid_map are written.
    IdsMapped,
    /// Init is in its cgroup, with its limits.
    Placed,
    /// In the namespaces is what only the parent may have the right to put there: linux.netDevices, and with
    /// a user namespace linux.sysctl, but for those with these indices: the kernel refused them.
    SetUp(Vec<usize>),
    /// The hooks succeeded.
    HooksDone,
    /// To a process that has to introduce itself to a seccomp agent: its pid as the runtime sees it.
    Name(i32),
    /// Execute the program.
    Start,
}

/// The parent's end.
#[derive(Debug)]
pub struct ParentEnd(OwnedFd);

/// Init's end.
#[derive(Debug)]
pub struct InitEnd(OwnedFd);

/// Both ends of a new channel.
///
/// # Errors
/// The kernel's.
pub fn channel() -> Result<(ParentEnd, InitEnd)> {
    let (parent, init) = socket::seqpacket_pair()?;
    Ok((ParentEnd(parent), InitEnd(init)))
}

impl ParentEnd {
    /// Says something to init.
    ///
    /// # Errors
    /// EPIPE when init is gone: [`Self::receive`] then has its last word.
    pub fn send(&self, message: FromParent) -> Result<()> {
        socket::send(self.0.as_fd(), &encode(&message)?, &[])
    }

    /// Tells init its `name`, if an agent is to know it, gives it the filter that it shall load, and lets it go on.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_start(&self, name: Option<Pid>, filter: Option<&seccomp::Program>) -> Result<()> {
        if let Some(pid) = name {
            self.send(FromParent::Name(pid.as_raw()))?;
        }
        if let Some(filter) = filter {
            socket::send(self.0.as_fd(), &filter.to_bytes(), &[])?;
        }
        self.send(FromParent::Start)
    }

    /// Whether [`Self::send_start`] does not wait for a reader: net.core.wmem_default may be small.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_room_for(&self, filter: Option<&seccomp::Program>) -> Result<bool> {
        let room = getsockopt(&self.0, sockopt::SndBuf).call(|| "getsockopt(SO_SNDBUF)".into())?;
        // The kernel counts what it takes for a message, which is less than twice its length and a page.
        Ok(room > 2 * filter.map_or(0, seccomp::Program::size) + 4096)
    }

    /// Sleeps until init has executed its program or ended, whatever it says before that. It ends sooner when the kernel
    /// refuses: whoever goes on waits again, for a message.
    pub fn sleep_until_the_end(&self) {
        let mut hang_up = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut hang_up, PollTimeout::NONE).map(drop).unwrap_or(());
    }

    /// The next message and its descriptor; None when init executed its program or ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self) -> Result<Option<(FromInit, Option<OwnedFd>)>> {
        let (message, fd) = socket::receive(self.0.as_fd(), LONGEST)?;
        if message.is_empty() {
            return Ok(None);
        }
        Ok(Some((decode(&message)?, fd)))
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for InitEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl InitEnd {
    /// Says something to the parent.
    ///
    /// # Errors
    /// EPIPE when the parent is gone.
    pub fn send(&self, message: &FromInit, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let raw = fd.map(|fd| fd.as_raw_fd());
        let mut bytes = encode(message)?;
        if let FromInit::Failed(error) = message
            && bytes.len() > LONGEST
        {
            bytes = encode(&FromInit::Failed(shortened(error)))?;
        }
        socket::send(self.0.as_fd(), &bytes, raw.as_slice())
    }

    /// Waits for `expected`.
    ///
    /// # Errors
    /// The parent ended, or said something else.
    pub fn expect(&self, expected: &FromParent) -> Result<()> {
        match decode(&self.receive()?)? {
            message if message == *expected => Ok(()),
            other => Err(unexpected(&format!("{expected:?}"), &other)),
        }
    }

    /// Waits for [`FromParent::SetUp`]; the sysctls that are left.
    ///
    /// # Errors
    /// The parent ended, or said something else.
    pub fn expect_set_up(&self) -> Result<Vec<usize>> {
        match decode(&self.receive()?)? {
            FromParent::SetUp(left) => Ok(left),
            other => Err(unexpected("SetUp", &other)),
        }
    }

    /// Waits for [`FromParent::Name`].
    ///
    /// # Errors
    /// The parent ended, or said something else.
    pub fn expect_name(&self) -> Result<i32> {
        match decode(&self.receive()?)? {
            FromParent::Name(pid) => Ok(pid),
            other => Err(unexpected("Name", &other)),
        }
    }

    /// Waits for the filter, if one is `expected`, and for [`FromParent::Start`].
    ///
    /// # Errors
    /// The parent ended, or said something else.
    pub fn expect_start(&self, filter_expected: bool) -> Result<Option<seccomp::Program>> {
        let mut filter = None;
        if filter_expected {
            filter = seccomp::Program::from_bytes(&self.receive()?);
            if filter.is_none() {
                return Err(Error::new(Code::State, "expected a seccomp filter from the runtime"));
            }
        }
        self.expect(&FromParent::Start)?;
        Ok(filter)
    }

    /// That the parent lives: what it has said may still be read when it does not.
    ///
    /// # Errors
    /// It ended.
    pub fn expect_parent(&self) -> Result<()> {
        let mut hang_up = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        match poll(&mut hang_up, PollTimeout::ZERO).call(|| "poll(channel)".into())? {
            0 => Ok(()),
            _ => Err(parent_ended()),
        }
    }

    fn receive(&self) -> Result<Vec<u8>> {
        match socket::receive(self.0.as_fd(), LONGEST)? {
            (message, _) if message.is_empty() => Err(parent_ended()),
            (message, _) => Ok(message),
        }
    }
}

fn parent_ended() -> Error {
    Error::new(Code::State, "the runtime ended before the process was made")
}

/// Its beginning and its end: a path may be as long as a message, and the cause stands behind it.
fn shortened(error: &Error) -> Error {
    const PART: usize = 1024;
    let text: Vec<char> = error.to_string().chars().collect();
    let end = text.len().saturating_sub(PART);
    let (begin, end) = (&text[..PART.min(text.len())], &text[end..]);
    Error::new(error.code(), format!("{} [...] {}", String::from_iter(begin), String::from_iter(end)))
}

fn unexpected(expected: &str, message: &FromParent) -> Error {
    Error::new(Code::State, format!("expected {expected} from the runtime, got {message:?}"))
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(message)
        .map_err(|error| Error::new(Code::Kernel, format!("encode a message: {error}")))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    json::read(bytes).map_err(|error| Error::new(Code::Kernel, format!("decode a message: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn an_error_reaches_the_parent_whole() {
        let (parent, init) = channel().unwrap();
        let error = Error::syscall("fsmount(proc)", Errno::EPERM).context("mount proc at /proc");
        let text = error.to_string();
        init.send(&FromInit::Failed(error), None).unwrap();
        match parent.receive().unwrap() {
            Some((FromInit::Failed(error), None)) => assert_eq!(error.to_string(), text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_that_is_too_long_keeps_its_cause() {
        let (parent, init) = channel().unwrap();
        let error = Error::syscall("execve", Errno::E2BIG).context("x".repeat(200_000));
        init.send(&FromInit::Failed(error), None).unwrap();
        match parent.receive().unwrap() {
            Some((FromInit::Failed(error), None)) => {
                assert!(error.to_string().ends_with("(E2BIG)"), "{error}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_one_side_is_seen_by_the_other() {
        let (parent, init) = channel().unwrap();
        drop(init);
        assert!(parent.receive().unwrap().is_none());
        let (parent, init) = channel().unwrap();
        drop(parent);
        assert!(init.expect(&FromParent::Start).is_err());
    }

    #[test]
    fn a_parent_that_ended_is_known_for_it_before_its_words_are_read() {
        let (parent, init) = channel().unwrap();
        parent.send_start(None, None).unwrap();
        init.expect_parent().unwrap();
        drop(parent);
        assert!(init.expect_parent().is_err());
        init.expect(&FromParent::Start).unwrap();
    }

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (parent, init) = channel().unwrap();
        let (_other, fd) = socket::seqpacket_pair().unwrap();
        init.send(&FromInit::Terminal, Some(fd.as_fd())).unwrap();
        assert!(matches!(parent.receive().unwrap(), Some((FromInit::Terminal, Some(_)))));
    }
}
