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

/// An RCU grace period and a turn of the kernel's worker.
const REMOVAL_IS_TOLD_WITHIN: u16 = 500;

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
    parent: Option<PathBuf>,
    /// `oom_kill` of the parent at the last look.
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

    /// By how much the parent's count has grown since the last call.
    fn parents_new_kills(&mut self) -> u64 {
        // The root of the hierarchy has no count, and a parent may be gone too.
        let fd = self.parent.as_deref().map(open_directory).and_then(|opened| opened.ok().flatten());
        let now = fd.and_then(|fd| kills(fd.as_fd()).ok()).unwrap_or(self.parents_kills);
        now.saturating_sub(std::mem::replace(&mut self.parents_kills, now))
    }
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
            Version::V2 => {
                let mut changes = watch_v2(directory)?;
                changes.parents_new_kills();
                (Kind::V2(changes), kills(fd.as_fd())?)
            }
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

/// How often the eventfd was written to since the last call.
fn signs(event: &EventFd) -> Result<u64> {
    match event.read() {
        Ok(count) => Ok(count),
        Err(Errno::EAGAIN) => Ok(0),
        Err(errno) => Err(Error::syscall("read(eventfd)", errno)),
    }
}

/// Those of memory running out among `count` signs of a cgroup that is gone. The last sign is that of the removal,
/// which the kernel gives some time after the directory has gone: a single one may be of either kind, until a
/// second comes or, for as long as that takes it at most, none does.
fn signs_of_a_removed(event: &EventFd, count: u64) -> Result<u64> {
    if count != 1 {
        return Ok(count.saturating_sub(1));
    }
    match poll(
        &mut [PollFd::new(event.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(REMOVAL_IS_TOLD_WITHIN),
    ) {
        Ok(_) | Err(Errno::EINTR) => signs(event),
        Err(errno) => Err(Error::syscall("poll(eventfd)", errno)),
    }
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
    Ok(Changes { inotify, of_memory, parent, parents_kills: 0 })
}

/// The cgroup and its count; None when it is gone, or goes while we look.
fn look(directory: &Directory) -> Result<Option<(OwnedFd, u64)>> {
    let Some(fd) = directory.open()? else { return Ok(None) };
    match kills(fd.as_fd()) {
        Ok(count) => Ok(Some((fd, count))),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
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
    /// What has happened since the last look. Blocks for no longer than the kernel takes to tell of a v1 cgroup's removal.
    pub fn take(&mut self) -> Result<OomEvent> {
        match &mut self.kind {
            Kind::V1(event) => {
                let count = signs(event)?;
                Ok(match self.directory.open()? {
                    Some(_) if count > 0 => OomEvent::Oom(count),
                    Some(_) => OomEvent::Nothing,
                    None => match signs_of_a_removed(event, count)? {
                        0 => OomEvent::Ended,
                        new => OomEvent::Oom(new),
                    },
                })
            }
            Kind::V2(changes) => {
                let memory_has_changed = changes.has_memory()?;
                let alive = look(&self.directory)?;
                let parents_new = changes.parents_new_kills();
                let Some((fd, now)) = alive else {
                    let ran_out = memory_has_changed && parents_new > 0;
                    return Ok(if ran_out { OomEvent::Oom(parents_new) } else { OomEvent::Ended });
                };
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
            Kind::V2(changes) => changes.inotify.as_fd(),
        }
    }
}
