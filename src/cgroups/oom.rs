//! Tells when a container runs out of memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::record::{Directory, Record, Version};
use super::write::{open_at, read_at};
use crate::error::{Call, Code, Error, Result};

/// A source of out-of-memory events. Poll its descriptor for POLLIN, then ask [`OomSource::take`].
#[derive(Debug)]
pub struct OomSource {
    directory: Directory,
    kind: Kind,
    /// `oom_kill` of memory.events at the last look.
    kills: u64,
}

#[derive(Debug)]
enum Kind {
    /// Notified by memory.oom_control; also when the cgroup is removed.
    V1(EventFd),
    /// Notified when memory.events changes.
    V2(Inotify),
}

impl Record {
    /// Starts to watch.
    ///
    /// # Errors
    /// The container has no memory cgroup (any more).
    pub fn oom_source(&self) -> Result<OomSource> {
        let directory = match self.version {
            Version::V1 => self.directories.iter().find(|directory| directory.has("memory")),
            Version::V2 => self.unified(),
        };
        let directory = directory.ok_or_else(|| {
            Error::unsupported("the container has no memory cgroup, which tells when memory runs out")
        })?;
        let path = directory.host_path();
        let fd = directory
            .open()?
            .ok_or_else(|| Error::new(Code::State, format!("cgroup {} is gone", path.display())))?;
        let (kind, kills) = match self.version {
            Version::V1 => (Kind::V1(watch_v1(fd.as_fd())?), 0),
            Version::V2 => (Kind::V2(watch_v2(directory)?), kills(fd.as_fd())?),
        };
        Ok(OomSource { directory: directory.clone(), kind, kills })
    }
}

/// cgroup-v1/memory.rst, "OOM Control": an eventfd is registered with cgroup.event_control.
fn watch_v1(fd: BorrowedFd<'_>) -> Result<EventFd> {
    use std::os::fd::AsRawFd;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_value_and_flags(0, flags).call(|| "eventfd()".into())?;
    let control: OwnedFd =
        open_at(fd, "memory.oom_control", OFlag::O_RDONLY).call(|| "open(memory.oom_control)".into())?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    super::write::write_at(fd, "cgroup.event_control", &line)
        .map_err(|(call, errno)| Error::syscall(format!("{call}(cgroup.event_control, {line:?})"), errno))?;
    Ok(event)
}

fn watch_v2(directory: &Directory) -> Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .call(|| "inotify_init1(CLOEXEC|NONBLOCK)".into())?;
    for file in ["memory.events", "cgroup.events"] {
        // The second one tells that the container has ended.
        let path = directory.host_path().join(file);
        inotify
            .add_watch(&path, AddWatchFlags::IN_MODIFY)
            .call(|| format!("inotify_add_watch({path:?}, IN_MODIFY)"))?;
    }
    Ok(inotify)
}

fn kills(fd: BorrowedFd<'_>) -> Result<u64> {
    let text = read_at(fd, "memory.events").map_err(|errno| Error::syscall("read(memory.events)", errno))?;
    Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0))
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomEvent {
    /// Nothing of interest.
    Nothing,
    /// Memory ran out this often since the last look.
    Oom(u64),
    /// The cgroup is empty or gone: nothing will happen any more.
    Ended,
}

impl OomSource {
    /// What has happened since the last look; does not block.
    pub fn take(&mut self) -> Result<OomEvent> {
        let count = match &self.kind {
            Kind::V1(event) => match event.read() {
                Ok(count) => Some(count),
                Err(Errno::EAGAIN) => None,
                Err(errno) => return Err(Error::syscall("read(eventfd)", errno)),
            },
            Kind::V2(inotify) => match inotify.read_events() {
                Ok(_) | Err(Errno::EAGAIN) => None,
                Err(errno) => return Err(Error::syscall("read(inotify)", errno)),
            },
        };
        let Some(fd) = self.directory.open()? else { return Ok(OomEvent::Ended) };
        match (&self.kind, count) {
            (Kind::V1(_), Some(count)) => Ok(OomEvent::Oom(count)),
            (Kind::V1(_), None) => Ok(OomEvent::Nothing),
            (Kind::V2(_), _) => {
                let now = kills(fd.as_fd())?;
                let new = now.saturating_sub(std::mem::replace(&mut self.kills, now));
                let ended =
                    || read_at(fd.as_fd(), "cgroup.events").is_ok_and(|text| text.contains("populated 0"));
                Ok(match new {
                    0 if ended() => OomEvent::Ended,
                    0 => OomEvent::Nothing,
                    new => OomEvent::Oom(new),
                })
            }
        }
    }
}

impl AsFd for OomSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::V1(event) => event.as_fd(),
            Kind::V2(inotify) => inotify.as_fd(),
        }
    }
}
