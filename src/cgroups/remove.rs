//! Removes a container's cgroup: also twice, also with cgroups nested in it, within a bounded time.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::create;
use super::record::{Directory, Record, collect_pids, open_directory, tree};
use super::wait::await_event;
use crate::error::{Call, Code, Context, Error, Result};
use crate::sys::xattr;

impl Record {
    /// Removes the container's cgroup in every hierarchy with all that are nested in it, and the
    /// parents that only led to it. What is gone already is fine. Kills nothing; waits at most
    /// `timeout` for processes that are about to end.
    ///
    /// The cgroup goes even if it was there before us: creating takes over only an empty one, and
    /// engines that make it themselves (Kubernetes, Podman) rely on the runtime to remove it.
    ///
    /// # Errors
    /// Processes are still in it; they are named. All that can be removed is removed first.
    pub fn remove(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        // The unified hierarchy can be waited for, and when it is empty the others are, too.
        let (unified, others): (Vec<_>, Vec<_>) = self.directories.iter().partition(|d| d.is_unified());
        // A unit goes by its name alone, and stopping it kills.
        let of_another = self.unit.is_some() && self.is_anothers()?;
        let mut result = if of_another { Ok(()) } else { self.stop_unit(deadline) };
        for directory in unified.into_iter().chain(others) {
            let removed = remove_directory(directory, deadline)
                .with_context(|| format!("remove cgroup {}", directory.host_path().display()));
            result = result.and(removed);
        }
        result
    }

    /// Marks the parents that a create which was killed had made and not yet marked, so that they are removed with the
    /// rest. For a record whose cgroup was only planned.
    ///
    /// # Errors
    /// The kernel's.
    pub fn finish_parents(&self) -> Result<()> {
        self.directories.iter().try_for_each(finish_parents)
    }

    /// Whether another's cgroup has the path of one of its directories.
    fn is_anothers(&self) -> Result<bool> {
        for directory in &self.directories {
            if directory.is_replaced()? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn remove_directory(directory: &Directory, deadline: Instant) -> Result<()> {
    let path = directory.host_path();
    let mut pause = Duration::from_micros(50);
    loop {
        if directory.is_replaced()? {
            return Ok(());
        }
        let blocked = match rmdir(&path) {
            Ok(()) | Err(Errno::ENOENT) => return remove_parents(directory),
            Err(Errno::EBUSY) => remove_tree(&path)?,
            Err(errno) => return Err(Error::syscall(format!("rmdir({path:?})"), errno)),
        };
        if !blocked {
            return remove_parents(directory);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(blockers(&path));
        }
        match directory.open()? {
            Some(fd) if directory.is_unified() => {
                await_event(fd.as_fd(), deadline, |events| events.lines().any(|line| line == "populated 0"))?;
            }
            // Nothing tells when a v1 cgroup becomes empty (but its release agent, which is not ours).
            _ => {
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(Duration::from_millis(10));
            }
        }
    }
}

/// One pass over the tree, children first; whether something is still busy.
fn remove_tree(path: &Path) -> Result<bool> {
    let mut blocked = false;
    for path in tree(path)?.iter().rev() {
        match rmdir(path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EBUSY) => blocked = true,
            Err(errno) => return Err(Error::syscall(format!("rmdir({path:?})"), errno)),
        }
    }
    Ok(blocked)
}

fn finish_parents(directory: &Directory) -> Result<()> {
    let mark = mark_of(directory);
    for parent in parents(directory) {
        let above = directory.mountpoint.join(parent.parent().unwrap_or(Path::new("")));
        let Some(intent) = create::intent(mark, parent) else { continue };
        match xattr::exists(&above, &intent) {
            Ok(true) => {}
            Ok(false) | Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(Error::syscall(format!("getxattr({above:?}, {intent:?})"), errno)),
        }
        let path = directory.mountpoint.join(parent);
        if let Some(made) = open_directory(&path)? {
            xattr::set(made.as_fd(), mark, b"").call(|| format!("setxattr({path:?}, {mark:?})"))?;
        }
        if let Some(above) = open_directory(&above)? {
            xattr::remove(above.as_fd(), &intent).call(|| format!("removexattr({intent:?})"))?;
        }
    }
    Ok(())
}

fn mark_of(directory: &Directory) -> &'static CStr {
    if directory.is_unified() { create::MARK_V2 } else { create::MARK_V1 }
}

/// Of the container's cgroup, the innermost first, without the hierarchy's root.
fn parents(directory: &Directory) -> impl Iterator<Item = &Path> {
    directory.path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty())
}

/// Removes the parents that carry our mark, as far as they are empty.
pub(super) fn remove_parents(directory: &Directory) -> Result<()> {
    let mark = mark_of(directory);
    for parent in parents(directory) {
        let path = directory.mountpoint.join(parent);
        match xattr::exists(&path, mark) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(Error::syscall(format!("getxattr({path:?}, {mark:?})"), errno)),
        }
        match rmdir(&path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Another container is still below it, and will remove it.
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => return Ok(()),
            Err(errno) => return Err(Error::syscall(format!("rmdir({path:?})"), errno)),
        }
    }
    Ok(())
}

fn blockers(path: &Path) -> Error {
    let mut pids = BTreeSet::new();
    if let Err(error) = collect_pids(path, &mut pids) {
        return error;
    }
    let names: Vec<String> = pids.iter().take(5).map(|pid| describe(*pid)).collect();
    let rest = pids.len().saturating_sub(names.len());
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    if names.is_empty() {
        return Error::syscall("rmdir", Errno::EBUSY)
            .remedy("its processes are outside of this pid namespace, or the kernel still uses it");
    }
    Error::new(Code::State, format!("still in use by pid {}{more}", names.join(", ")))
        .remedy("a process in state D or Z ends when its disk or its parent lets it")
}

/// `42 (sleep, state D)`, as far as /proc tells.
fn describe(pid: i32) -> String {
    // One that has ended meanwhile is told of by its pid alone.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain any byte, parentheses too.
    let stat = String::from_utf8_lossy(&stat);
    let name = stat.find('(').zip(stat.rfind(')')).map(|(from, to)| (&stat[from + 1..to], &stat[to..]));
    match name {
        Some((name, rest)) => format!("{pid} ({name}, state {})", rest.chars().nth(2).unwrap_or('?')),
        None => pid.to_string(),
    }
}

fn rmdir(path: &Path) -> nix::Result<()> {
    unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}
