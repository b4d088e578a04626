//! Stops and continues all processes of a container: `cgroup.freeze` (v2, Linux 5.2), the freezer (v1).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::record::{Directory, NO_CGROUP, Record, Version, open_directory, tree};
use super::wait::await_event;
use super::write::{read_at, write_at};
use crate::error::{Code, Context, Error, Result};

/// How long a freeze may take before it is taken back. A process in uninterruptible sleep (a dead
/// NFS server) freezes only when it wakes up.
const PATIENCE: Duration = Duration::from_secs(10);

impl Record {
    /// Whether the container is frozen (also when it is about to be).
    pub fn is_frozen(&self) -> Result<bool> {
        let Some((directory, file)) = self.freezer() else { return Ok(false) };
        let Some(fd) = directory.open()? else { return Ok(false) };
        match read_at(fd.as_fd(), file) {
            Ok(state) => Ok(matches!(state.trim(), "1" | "FROZEN" | "FREEZING")),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(Error::syscall(format!("read({:?})", directory.host_path().join(file)), errno)),
        }
    }

    /// Freezes all processes and returns when they are; takes it back when they do not within ten
    /// seconds.
    pub fn freeze(&self) -> Result<()> {
        let result = self.set_frozen(true);
        if result.is_err() && self.is_some() {
            // A container that is half frozen is worse than one that runs.
            self.set_frozen(false)?;
        }
        result.context("freeze the container")
    }

    /// Lets all processes go on.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false).context("thaw the container")
    }

    /// Whether SIGKILL alone does not end all that is in it. On cgroup v1 a frozen process dies only once it is thawed,
    /// and a container that may write to its cgroups can freeze those below its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn holds_frozen(&self) -> Result<bool> {
        if self.version == Version::V2 {
            return self.is_frozen();
        }
        for path in self.freezers()? {
            let Some(fd) = open_directory(&path)? else { continue };
            match read_at(fd.as_fd(), "freezer.state") {
                Ok(state) if state.trim() == "THAWED" => {}
                Ok(_) => return Ok(true),
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    return Err(Error::syscall(format!("read({:?})", path.join("freezer.state")), errno));
                }
            }
        }
        Ok(false)
    }

    /// Thaws all below the container's own cgroup on v1, where nothing in them would die. While that one is frozen
    /// nothing of it runs yet.
    pub(super) fn thaw_below(&self) -> Result<()> {
        if self.version == Version::V2 {
            return Ok(());
        }
        for path in self.freezers()?.iter().skip(1) {
            let Some(fd) = open_directory(path)? else { continue };
            match write_at(fd.as_fd(), "freezer.state", "THAWED") {
                Ok(()) | Err((_, Errno::ENOENT | Errno::ENODEV)) => {}
                Err((call, errno)) => {
                    let call = format!("{call}({:?}, \"THAWED\")", path.join("freezer.state"));
                    return Err(Error::syscall(call, errno));
                }
            }
        }
        Ok(())
    }

    /// The container's cgroup in the freezer's hierarchy, and then those nested in it.
    fn freezers(&self) -> Result<Vec<PathBuf>> {
        self.freezer_path()?.map_or_else(|| Ok(Vec::new()), |path| tree(&path))
    }

    /// The directory whose freezer stops the container's processes; [`None`] without one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn freezer_path(&self) -> Result<Option<PathBuf>> {
        match self.freezer() {
            Some((directory, _)) => Ok(directory.open()?.map(|_| directory.host_path())),
            None => Ok(None),
        }
    }

    /// The directory and file that hold the state.
    fn freezer(&self) -> Option<(&Directory, &'static str)> {
        match self.version {
            Version::V2 => self.unified().map(|directory| (directory, "cgroup.freeze")),
            Version::V1 => {
                let directory = self.directories.iter().find(|d| d.has("freezer"));
                directory.map(|directory| (directory, "freezer.state"))
            }
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let (directory, _) = self.freezer().ok_or_else(|| {
            let error = Error::unsupported("the container has no cgroup with a freezer");
            match self.is_some() {
                true => error.remedy("mount the v1 freezer controller, or use cgroup v2"),
                false => error.remedy(NO_CGROUP),
            }
        })?;
        let path = directory.host_path();
        let fd = directory
            .open()?
            .ok_or_else(|| Error::new(Code::State, format!("cgroup {} is gone", path.display())))?;
        match self.version {
            Version::V2 => freeze_v2(fd.as_fd(), frozen),
            Version::V1 => freeze_v1(fd.as_fd(), frozen),
        }
        .with_context(|| path.display().to_string())
    }
}

fn freeze_v2(fd: BorrowedFd<'_>, frozen: bool) -> Result<()> {
    let value = if frozen { "1" } else { "0" };
    write_at(fd, "cgroup.freeze", value).map_err(|(call, errno)| {
        let error = Error::syscall(format!("{call}(cgroup.freeze, {value:?})"), errno);
        if errno == Errno::ENOENT {
            error.remedy("the kernel's cgroup v2 has no freezer before 5.2")
        } else {
            error
        }
    })?;
    let line = format!("frozen {value}");
    if await_event(fd, Instant::now() + PATIENCE, |events| events.lines().any(|l| l == line))? {
        Ok(())
    } else {
        Err(slow(value))
    }
}

/// A process that forks while it is being frozen can leave the v1 freezer in FREEZING for ever, until
/// the state is written again; and a task that another freezer holds needs a thaw in between (runc:
/// fs/freezer.go, runc#2774). So each look writes the state again, and every now and then thaws first.
fn freeze_v1(fd: BorrowedFd<'_>, frozen: bool) -> Result<()> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    let set = |state: &str| {
        write_at(fd, "freezer.state", state)
            .map_err(|(call, errno)| Error::syscall(format!("{call}(freezer.state, {state:?})"), errno))
    };
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    for round in 1u32.. {
        set(state)?;
        let now =
            read_at(fd, "freezer.state").map_err(|errno| Error::syscall("read(freezer.state)", errno))?;
        if now.trim() == state {
            return Ok(());
        }
        if Instant::now() > deadline {
            break;
        }
        if frozen && round.is_multiple_of(50) {
            set("THAWED")?;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    Err(slow(state))
}

fn slow(state: &str) -> Error {
    let what = format!("the kernel did not reach state {state} within {} s", PATIENCE.as_secs());
    Error::new(Code::Kernel, what).remedy("a process may be in uninterruptible sleep (state D in ps)")
}
