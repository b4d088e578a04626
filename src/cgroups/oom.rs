//! Tells when a container runs out of memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::record::{Directory, Record, Version, open_directory};
use super::write::{open_at, read_at};
use crate::error::{Call, Code, Error, Result};

/// An RCU grace period and a turn of the kernel's worker, in ms.
const REMOVAL_IS_TOLD_WITHIN: u16 = 500;

/// A source of out-of-memory events. Poll its descriptor for POLLIN, then ask [`OomSource::take`].
#[derive(Debug)]
pub struct OomSource {
    /// The cgroup itself: its path can be another's by the time that it is gone.
    cgroup: OwnedFd,
    kind: Kind,
    /// Nothing more will come.
    ended: bool,
}

#[derive(Debug)]
enum Kind {
    /// Written to for each notice of memory.oom_control, and once when the cgroup is removed.
    V1(EventFd),
    /// Notified when memory.events changes.
    V2(Changes),
}

/// Whoever made the cgroup may remove it as soon as it is empty (systemd does), and with it the count of what emptied
/// it. That its memory.events has changed is still told then, and how often memory ran out, with that of its
/// siblings in the same moment, is in the parent's, which counts for all below it.
#[derive(Debug)]
struct Changes {
    inotify: Inotify,
    of_memory: WatchDescriptor,
    /// `oom_kill` of memory.events at the last look.
    kills: u64,
    parent: Option<PathBuf>,
    /// The parent's, no later than that.
    parents_kills: u64,
}

impl Changes {
    /// Whether memory.events is among what has changed since the last call.
    fn has_memory(&self) -> Result<bool> {
        match self.inotify.read_events() {
            Ok(events) => Ok(events
                .iter()
                .any(|event| event.wd == self.of_memory && event.mask.contains(AddWatchFlags::IN_MODIFY))),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => Err(Error::syscall("read(inotify)", errno)),
        }
    }

    /// The parent's count; the last one where there is none any more. The root of the hierarchy has none at all.
    fn of_parent(&self) -> u64 {
        let fd = self.parent.as_deref().map(open_directory).and_then(|opened| opened.ok().flatten());
        fd.and_then(|fd| kills(fd.as_fd()).ok().flatten()).unwrap_or(self.parents_kills)
    }

    /// As [`take_v1`].
    fn take(&mut self, cgroup: BorrowedFd<'_>) -> Result<(u64, bool)> {
        let memory_has_changed = self.has_memory()?;
        // Before the own: what comes between the two is new in the parent's next time, should that be all there is.
        let parents = self.of_parent();
        let Some(now) = kills(cgroup)? else {
            let new = self.of_parent().saturating_sub(self.parents_kills);
            return Ok((if memory_has_changed { new } else { 0 }, true));
        };
        let new = now.saturating_sub(std::mem::replace(&mut self.kills, now));
        // What has been counted here must not be found there again.
        self.parents_kills = if new > 0 { self.of_parent() } else { parents };
        Ok((new, new == 0 && is_empty(cgroup)))
    }
}

fn is_empty(cgroup: BorrowedFd<'_>) -> bool {
    read_at(cgroup, "cgroup.events").is_ok_and(|text| text.contains("populated 0"))
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
        let gone = || Error::new(Code::State, format!("cgroup {} is gone", directory.host_path().display()));
        let cgroup = directory.open()?.ok_or_else(gone)?;
        let kind = match self.version {
            Version::V1 => Kind::V1(watch_v1(cgroup.as_fd())?),
            Version::V2 => {
                let mut changes = watch_v2(directory)?;
                changes.parents_kills = changes.of_parent();
                changes.kills = kills(cgroup.as_fd())?.ok_or_else(gone)?;
                Kind::V2(changes)
            }
        };
        Ok(OomSource { cgroup, kind, ended: false })
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

/// How often the eventfd was written to since the last call.
fn signs(event: &EventFd) -> Result<u64> {
    match event.read() {
        Ok(count) => Ok(count),
        Err(Errno::EAGAIN) => Ok(0),
        Err(errno) => Err(Error::syscall("read(eventfd)", errno)),
    }
}

/// How often memory has run out since the last call, and whether that was all.
fn take_v1(event: &EventFd, cgroup: BorrowedFd<'_>) -> Result<(u64, bool)> {
    let count = signs(event)?;
    match open_at(cgroup, "memory.oom_control", OFlag::O_RDONLY) {
        Ok(_) => return Ok((count, false)),
        Err(Errno::ENOENT | Errno::ENODEV) => {}
        Err(errno) => return Err(Error::syscall("open(memory.oom_control)", errno)),
    }
    // One sign is that of the removal, which the kernel gives some time after the directory has gone: it may be among
    // those that are here or still come.
    let count = count + signs(event)?;
    if count == 0 {
        return Ok((0, true));
    }
    let later = match poll(
        &mut [PollFd::new(event.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(REMOVAL_IS_TOLD_WITHIN),
    ) {
        Ok(_) | Err(Errno::EINTR) => signs(event)?,
        Err(errno) => return Err(Error::syscall("poll(eventfd)", errno)),
    };
    Ok((count + later - 1, true))
}

fn watch_v2(directory: &Directory) -> Result<Changes> {
    let path = directory.host_path();
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .call(|| "inotify_init1(CLOEXEC|NONBLOCK)".into())?;
    let watch = |file: &str| {
        let path = path.join(file);
        let watch = inotify.add_watch(&path, AddWatchFlags::IN_MODIFY);
        watch.call(|| format!("inotify_add_watch({path:?}, IN_MODIFY)"))
    };
    let of_memory = watch("memory.events")?;
    // It tells that the container has ended.
    watch("cgroup.events")?;
    let parent = path.parent().map(Path::to_path_buf);
    Ok(Changes { inotify, of_memory, kills: 0, parent, parents_kills: 0 })
}

/// `oom_kill` of memory.events; None when the cgroup is gone.
fn kills(cgroup: BorrowedFd<'_>) -> Result<Option<u64>> {
    match read_at(cgroup, "memory.events") {
        Ok(text) => {
            Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).or(Some(0)))
        }
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
        Err(errno) => Err(Error::syscall("read(memory.events)", errno)),
    }
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
    /// What has happened since the last look. Blocks for no longer than the kernel takes to tell of a v1 cgroup's
    /// removal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> Result<OomEvent> {
        if self.ended {
            return Ok(OomEvent::Ended);
        }
        let (new, ended) = match &mut self.kind {
            Kind::V1(event) => take_v1(event, self.cgroup.as_fd())?,
            Kind::V2(changes) => changes.take(self.cgroup.as_fd())?,
        };
        self.ended = ended;
        Ok(match new {
            0 if ended => OomEvent::Ended,
            0 => OomEvent::Nothing,
            new => OomEvent::Oom(new),
        })
    }
}

impl AsFd for OomSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::V1(event) => event.as_fd(),
            Kind::V2(changes) => changes.inotify.as_fd(),
        }
    }
}
