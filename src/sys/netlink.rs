//! NETLINK_ROUTE (rtnetlink(7)): requests with attributes, and their answers.
//!
//! The kernel's structures are numbers in the byte order of the machine, each aligned to four bytes, so
//! that they can be written and read without `unsafe`.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// A connection to the kernel's routing tables, those of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Route {
    socket: OwnedFd,
    sequence: u32,
}

/// What the kernel answers: the type of the message (`RTM_*`) and what follows its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `RTM_NEWLINK` and the like.
    pub kind: u16,
    /// The structure of that type, then attributes.
    pub body: Vec<u8>,
}

/// A request in the making.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// All that match, not one (NLM_F_ROOT | NLM_F_MATCH).
const NLM_F_DUMP: u16 = 0x300;
/// Longer than any one answer: the kernel's dumps come in pieces of at most 32 KB (netlink(7)).
const LONGEST: usize = 64 * 1024;

impl Request {
    /// A request of type `kind` (`RTM_*`) with further `flags` (`NLM_F_CREATE` …); `fixed` is the structure
    /// that the type begins with, its length a multiple of four.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self { kind, flags, body: fixed.to_vec() }
    }

    /// Appends an attribute.
    ///
    /// # Errors
    /// EMSGSIZE when its length does not fit 16 bits.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> nix::Result<Self> {
        let length = u16::try_from(value.len() + 4).map_err(|_| Errno::EMSGSIZE)?;
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        Ok(self)
    }

    /// All after the header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn bytes(&self, flags: u16, sequence: u32) -> nix::Result<Vec<u8>> {
        let length = u32::try_from(HEADER + self.body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The port: the kernel fills it in.
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&self.body);
        Ok(bytes)
    }
}

impl Route {
    /// Opens one in the network namespace of the caller.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends the request; what the kernel answered before it said that all is well.
    ///
    /// # Errors
    /// The kernel's: EEXIST, ENODEV, EPERM …
    pub fn ask(&mut self, request: &Request) -> nix::Result<Vec<Answer>> {
        self.exchange(request, NLM_F_ACK)
    }

    /// The same for a request of which there may be many answers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dump(&mut self, request: &Request) -> nix::Result<Vec<Answer>> {
        self.exchange(request, NLM_F_DUMP)
    }

    fn exchange(&mut self, request: &Request, flags: u16) -> nix::Result<Vec<Answer>> {
        self.sequence += 1;
        let bytes = request.bytes(flags, self.sequence)?;
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if self.take(&buffer[..length], &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Whether the datagram holds the last of the answers.
    fn take(&self, mut datagram: &[u8], answers: &mut Vec<Answer>) -> nix::Result<bool> {
        while datagram.len() >= HEADER {
            let length = usize::try_from(u32_at(datagram, 0)).unwrap_or(0);
            let message = datagram.get(..length).filter(|message| message.len() >= HEADER);
            let message = message.ok_or(Errno::EBADMSG)?;
            let (kind, body) = (u16_at(message, 4), &message[HEADER..]);
            match kind {
                // What is left of an earlier request that failed half-way.
                _ if u32_at(message, 8) != self.sequence => {}
                // A negative errno, 0 for an acknowledgement. The end of a dump has one too.
                NLMSG_ERROR | NLMSG_DONE => {
                    let code = body.get(..4).map_or(0, |_| u32_at(body, 0).cast_signed());
                    return if code == 0 { Ok(true) } else { Err(Errno::from_raw(code.wrapping_neg())) };
                }
                _ => answers.push(Answer { kind, body: body.to_vec() }),
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }
}

/// The attributes that follow `fixed` bytes of an answer's body: type, without the bits that say how it is
/// encoded, and value.
pub fn attributes(body: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    /// NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    const ENCODING: u16 = 0xc000;
    let mut rest = body.get(fixed..).unwrap_or_default();
    let mut found = Vec::new();
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16_at(rest, 2) & !ENCODING, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The number at `at`; 0 beyond the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let number = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    number.map_or(0, u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let number = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    number.map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let request = Request::new(16, 0, &[0; 16]).attribute(3, b"eth0\0").unwrap();
        let request = request.attribute(28, &7_u32.to_ne_bytes()).unwrap();
        let bytes = request.bytes(NLM_F_ACK, 9).unwrap();
        assert_eq!(usize::try_from(u32_at(&bytes, 0)).unwrap(), bytes.len());
        assert_eq!(bytes.len() % 4, 0);
        let found = attributes(&bytes[HEADER..], 16);
        assert_eq!(found, [(3, &b"eth0\0"[..]), (28, &7_u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn nonsense_ends_a_list_of_attributes() {
        assert_eq!(attributes(&[3, 0, 1, 0], 0), []);
        assert_eq!(attributes(&[200, 0, 1, 0, 5], 0), []);
        assert_eq!(attributes(&[], 16), []);
    }

    #[test]
    fn the_loopback_has_the_first_index() {
        const RTM_GETLINK: u16 = 18;
        let mut route = Route::open().unwrap();
        let request = Request::new(RTM_GETLINK, 0, &[0; 16]).attribute(3, b"lo\0").unwrap();
        let answers = route.ask(&request).unwrap();
        assert_eq!(u32_at(&answers[0].body, 4), 1);
        let request = Request::new(RTM_GETLINK, 0, &[0; 16]).attribute(3, b"no-such\0").unwrap();
        assert_eq!(route.ask(&request).unwrap_err(), Errno::ENODEV);
    }
}
