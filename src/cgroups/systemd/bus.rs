//! A connection to a systemd manager: synchronous, one call at a time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::message::{Body, Call, Message, Value, length, method_call};
use crate::caller::ordinary_user;
use crate::error::{self, Code, Error, Result};

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// How long systemd may take for one call or job. Its own default for starting a unit is 90 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// For how long systemd may take no connection. When it executes itself anew (an upgrade does that) it
/// closes all of them and is back within moments.
const ABSENCE: Duration = Duration::from_secs(5);

/// systemd's answer to a call that it refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.systemd1.NoSuchUnit`
    pub name: String,
    pub text: String,
}

/// A call's outcome that the caller may want to look at: systemd's refusals are not yet errors.
pub(super) type Answer<T = Vec<String>> = std::result::Result<T, Refusal>;

pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Connected to systemd itself, which has no bus names and sends its signals to everybody.
    direct: bool,
    /// Signals that came while we waited for a reply.
    signals: VecDeque<Message>,
}

/// Calls that may be made twice: `talk` begins anew with another connection when systemd goes away.
pub(super) fn ask<T>(user: bool, mut talk: impl FnMut(&mut Bus) -> Result<T>) -> Result<T> {
    while_away(|| talk(&mut Bus::connect(user)?))
}

/// Tries again for as long as systemd is away.
pub(super) fn while_away<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut away = Away::since(Instant::now());
    loop {
        match attempt() {
            Err(error) if is_away(&error) && away.may_return(&error, Instant::now()) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// How long to wait for a systemd that is away. One that takes connections and closes them lives: on a
/// loaded machine with many units each of its new beginnings takes seconds, and upgrades make several.
struct Away {
    /// It took a connection.
    seen: Instant,
    end: Instant,
}

impl Away {
    fn since(now: Instant) -> Self {
        Self { seen: now, end: now + PATIENCE }
    }

    fn may_return(&mut self, error: &Error, now: Instant) -> bool {
        if error.errno() != Some(Errno::ECONNREFUSED) {
            self.seen = now;
        }
        now < self.end.min(self.seen + ABSENCE)
    }
}

/// What a connection that systemd has closed, or does not take now, fails with.
pub(super) fn is_away(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNREFUSED))
}

impl Bus {
    /// Connects to the system's manager, or to the caller's own (`user`).
    ///
    /// systemd's own socket first: it saves the way through the bus daemon twice and works where
    /// there is none; systemctl does the same as root.
    pub fn connect(user: bool) -> Result<Self> {
        let (direct, bus) = sockets(user)?;
        let mut bus = match Self::open(&direct, true) {
            Ok(connection) => return Ok(connection),
            Err(_) => Self::open(&bus, false).map_err(|error| {
                error.remedy("is systemd running here? without it leave out --systemd-cgroup")
            })?,
        };
        bus.call(
            &Call {
                destination: Some("org.freedesktop.DBus"),
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "Hello",
            },
            &Body::default(),
        )?
        .map_err(|refusal| refused("Hello", &refusal))?;
        // Without a subscriber systemd sends no signals to the bus.
        bus.manager("Subscribe", &Body::default())?.map_err(|refusal| refused("Subscribe", &refusal))?;
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        bus.call(
            &Call {
                destination: Some("org.freedesktop.DBus"),
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "AddMatch",
            },
            &Body::default().string(rule),
        )?
        .map_err(|refusal| refused("AddMatch", &refusal))?;
        Ok(bus)
    }

    fn open(path: &Path, direct: bool) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|e| io(&format!("connect({path:?})"), &e))?;
        let mut bus = Self { stream, serial: 0, direct, signals: VecDeque::new() };
        bus.authenticate().map_err(|error| error.context(format!("authenticate at {path:?}")))?;
        Ok(bus)
    }

    /// EXTERNAL: the socket's peer credentials are the proof.
    ///
    /// BEGIN goes with it and no call before the answer, as systemd's own client does: systemd does not
    /// wake up for a call that it reads together with BEGIN.
    fn authenticate(&mut self) -> Result<()> {
        // As the socket's other side sees us, also when we are root of a user namespace.
        let uid = ordinary_user()?.unwrap_or_default().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        // "OK ", a UUID of 32 digits, "\r\n"; signals may follow at once. Anything else is a refusal.
        let mut answer = [0; 3];
        self.receive(&mut answer, Instant::now() + PATIENCE)?;
        if answer != *b"OK " {
            return Err(Error::new(Code::Unsupported, "systemd refuses AUTH EXTERNAL"));
        }
        self.receive(&mut [0; 34], Instant::now() + PATIENCE)
    }

    /// Calls a method of systemd's manager.
    pub fn manager(&mut self, member: &str, body: &Body) -> Result<Answer> {
        let destination = (!self.direct).then_some(MANAGER);
        self.call(&Call { destination, path: MANAGER_PATH, interface: MANAGER_INTERFACE, member }, body)
    }

    /// The value of a scope's property.
    pub fn unit_property(&mut self, unit: &str, name: &str) -> Result<Answer<Value>> {
        let destination = (!self.direct).then_some(MANAGER);
        let path = unit_path(unit);
        let interface = "org.freedesktop.DBus.Properties";
        let call = Call { destination, path: &path, interface, member: "Get" };
        let body = Body::default().string("org.freedesktop.systemd1.Scope").string(name);
        match self.exchange(&call, &body)? {
            Ok(Message { value: Some(value), .. }) => Ok(Ok(value)),
            Ok(_) => Err(Error::new(Code::Unsupported, format!("{unit}: {name} has no value that we know"))),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn call(&mut self, call: &Call<'_>, body: &Body) -> Result<Answer> {
        Ok(self.exchange(call, body)?.map(|reply| reply.arguments))
    }

    fn exchange(&mut self, call: &Call<'_>, body: &Body) -> Result<Answer<Message>> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&method_call(serial, call, body))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline).map_err(|e| e.context(format!("call {}", call.member)))?;
            match message.kind {
                2 if message.reply_to == serial => return Ok(Ok(message)),
                3 if message.reply_to == serial => {
                    let text = message.arguments.into_iter().next().unwrap_or_default();
                    return Ok(Err(Refusal { name: message.error, text }));
                }
                4 => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Waits until systemd is through with a job; its result, `done` if all is well.
    pub fn job_result(&mut self, job: &str, deadline: Option<Instant>) -> Result<String> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.next(deadline).map_err(|e| e.context("wait for systemd's job"))?,
            };
            // JobRemoved(u id, o job, s unit, s result)
            if message.kind == 4
                && message.member == "JobRemoved"
                && let [_, removed, _, result, ..] = message.arguments.as_slice()
                && removed == job
            {
                return Ok(result.clone());
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Message> {
        let mut header = [0; 16];
        self.receive(&mut header, deadline)?;
        let garbled = || Error::new(Code::Unsupported, "not a D-Bus message");
        let length = length(&header).ok_or_else(garbled)?;
        let mut bytes = vec![0; length];
        bytes[..16].copy_from_slice(&header);
        self.receive(&mut bytes[16..], deadline)?;
        Message::parse(&bytes).ok_or_else(garbled)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|e| io("write to systemd", &e))
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(|e| io("setsockopt(RCVTIMEO)", &e))?;
        self.stream.read_exact(buffer).map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                Error::new(Code::Unsupported, "systemd does not answer").remedy("see systemctl list-jobs")
            }
            std::io::ErrorKind::UnexpectedEof => {
                Error::syscall("read from systemd, which has closed the connection", Errno::ECONNRESET)
                    .remedy("try again")
            }
            _ => io("read from systemd", &e),
        })
    }
}

fn io(call: &str, error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => Error::syscall(call, Errno::from_raw(errno)),
        None => Error::new(Code::Kernel, format!("{call}: {error}")),
    }
}

/// A refusal that is an error.
pub(super) fn refused(member: &str, refusal: &Refusal) -> error::Error {
    // The bus daemon's words for a peer that has gone while it was asked.
    if refusal.name.ends_with(".DBus.Error.NoReply") || refusal.name.ends_with(".DBus.Error.Disconnected") {
        return Error::syscall(format!("call {member} ({})", refusal.text), Errno::ECONNRESET);
    }
    Error::new(Code::Unsupported, format!("systemd refuses {member}: {} ({})", refusal.text, refusal.name))
}

/// The object of a unit: its name, with all but ASCII letters and digits as `_` and two hex digits
/// (systemd: bus_label_escape).
fn unit_path(unit: &str) -> String {
    let escaped: String = unit
        .bytes()
        .enumerate()
        .map(|(at, byte)| match byte {
            b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            b'0'..=b'9' if at > 0 => char::from(byte).to_string(),
            _ => format!("_{byte:02x}"),
        })
        .collect();
    format!("{MANAGER_PATH}/unit/{escaped}")
}

/// systemd's own socket, and the bus's.
fn sockets(user: bool) -> Result<(PathBuf, PathBuf)> {
    if !user {
        return Ok(("/run/systemd/private".into(), "/run/dbus/system_bus_socket".into()));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).ok_or_else(|| {
        Error::unsupported("XDG_RUNTIME_DIR is not set, so the user's systemd cannot be found")
            .remedy("log in with a session (loginctl enable-linger), or leave out --systemd-cgroup")
    })?;
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next());
    let bus = named.map_or_else(|| runtime.join("bus"), PathBuf::from);
    Ok((runtime.join("systemd/private"), bus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_that_begins_anew_is_waited_for() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let refused = Error::syscall("connect", Errno::ECONNREFUSED);
        let reset = Error::syscall("read", Errno::ECONNRESET);

        let mut nobody = Away::since(begun);
        assert!(nobody.may_return(&refused, after(4)));
        assert!(!nobody.may_return(&refused, after(5)));

        let mut busy = Away::since(begun);
        assert!(busy.may_return(&reset, after(6)));
        assert!(busy.may_return(&refused, after(10)));
        assert!(busy.may_return(&reset, after(29)));
        assert!(!busy.may_return(&reset, after(30)));
    }

    #[test]
    fn units_have_paths() {
        assert_eq!(unit_path("1a-b.scope"), "/org/freedesktop/systemd1/unit/_31a_2db_2escope");
    }
}
