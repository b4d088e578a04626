//! Unix sockets that carry descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    recv, recvmsg, sendmsg, socket, socketpair,
};

use crate::error::{Call, Error, Result};

/// A pair of connected SEQPACKET sockets: message boundaries are kept, and the end of the one side
/// is an end-of-file on the other.
///
/// # Errors
/// The kernel's.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)".into())
}

/// Connects to the listening stream socket at `path`, also when the path is longer than the 107
/// bytes of a socket address.
///
/// # Errors
/// The kernel's, with the path.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .call(|| "socket(AF_UNIX, SOCK_STREAM)".into())?;
    let address = match UnixAddr::new(path) {
        Ok(address) => address,
        Err(_) => return connect_long_path(fd, path),
    };
    connect(fd.as_raw_fd(), &address).call(|| format!("connect({})", path.display()))?;
    Ok(fd)
}

fn connect_long_path(fd: OwnedFd, path: &Path) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let node = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .call(|| format!("open({}, O_PATH)", path.display()))?;
    let short = format!("/proc/self/fd/{}", node.as_raw_fd());
    let address = UnixAddr::new(short.as_str()).call(|| format!("sockaddr_un({short})"))?;
    connect(fd.as_raw_fd(), &address).call(|| format!("connect({})", path.display()))?;
    Ok(fd)
}

/// Sends one message with descriptors. A message of a stream must have at least one byte.
///
/// # Errors
/// The kernel's; EPIPE when the other side is gone (never a signal).
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[RawFd]) -> Result<()> {
    let control = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &control };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::MSG_NOSIGNAL, None)
        .call(|| format!("sendmsg({} bytes, {} descriptors)", message.len(), fds.len()))
        .map(drop)
}

/// Receives one message of at most `longest` bytes and at most one descriptor. An empty one: the other side
/// has ended.
///
/// # Errors
/// The kernel's; a message that is longer.
pub fn receive(socket: BorrowedFd<'_>, longest: usize) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    // Its length first: a buffer for the longest would have to be cleared for each, and its pages brought.
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    let length = patiently(|| recv(socket.as_raw_fd(), &mut [], look)).call(|| "recv(MSG_PEEK)".into())?;
    if length > longest {
        let what = format!("a message of {length} bytes, at most {longest} are expected");
        return Err(Error::new(crate::error::Code::Kernel, what));
    }
    let mut buffer = vec![0; length];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = patiently(|| {
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
        // The iterator borrows both buffers for as long as the message lives.
        Ok((received.bytes, received.cmsgs()?.collect::<Vec<_>>()))
    });
    let (bytes, controls) = message.call(|| "recvmsg".into())?;
    let mut fd = None;
    for item in controls {
        if let ControlMessageOwned::ScmRights(fds) = item {
            for raw in fds {
                // SAFETY: the kernel has just installed this descriptor for us.
                fd = Some(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
    }
    buffer.truncate(bytes);
    Ok((buffer, fd))
}

/// Again when a signal came. ECONNRESET is said once, before what is still queued, when the other side ended
/// without reading all that we sent: its last words come with the next call.
fn patiently<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    let mut reset = false;
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) if !reset => reset = true,
            result => return result,
        }
    }
}
