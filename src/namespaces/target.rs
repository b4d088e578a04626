//! The namespaces of a process that runs: those that an exec joins.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::{Join, Kind, Plan};
use crate::error::{Call, Code, Context, Error, Result};
use crate::sys;

/// A process and the kinds of namespaces in which it is elsewhere than the caller. All are joined through
/// its one pidfd (Linux 5.8): no path of them can be exchanged meanwhile, and the process cannot be another
/// one.
#[derive(Debug)]
pub struct Target {
    pid: Pid,
    pidfd: OwnedFd,
    differing: u64,
}

impl Target {
    /// Compares the namespaces of `pid`, whose pidfd this is, with the caller's. It is asked where the
    /// process is now, not what config.json says: it may have unshared some. Not asked for are those kinds of which it
    /// was given one of its own (`made`): at worst the caller is there already, and joins what it is in.
    ///
    /// # Errors
    /// The process has ended ([`Code::State`]), or may not be looked at.
    pub fn of(pid: Pid, pidfd: OwnedFd, made: &[Kind]) -> Result<Self> {
        let (own, its) = (Links::of("self")?, Links::of(pid)?);
        let mut differing = 0;
        for kind in Kind::ALL {
            // Nobody joins the user namespace that he is in (EINVAL).
            if kind != Kind::User && made.contains(&kind) {
                differing |= kind.flag();
                continue;
            }
            // A kernel without this kind has one for all.
            if let Some(own) = own.read(kind)?
                && its.read(kind)?.as_ref() != Some(&own)
            {
                differing |= kind.flag();
            }
        }
        let target = Self { pid, pidfd, differing };
        target.check_identity()?;
        Ok(target)
    }

    /// What was read below `/proc/PID` was this process's if the process is still there.
    fn check_identity(&self) -> Result<()> {
        match sys::process::pidfd_send_signal(self.pidfd.as_fd(), 0) {
            // EPERM: it is there, and not ours to signal.
            Ok(()) | Err(Errno::EPERM) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::new(Code::State, "the process has ended")),
            Err(errno) => Err(Error::syscall(format!("pidfd_send_signal({}, 0)", self.pid), errno)),
        }
    }

    /// Whether the process is in another namespace of the kind than the caller was.
    pub fn has(&self, kind: Kind) -> bool {
        self.differing & kind.flag() != 0
    }

    /// The calling process enters all of them; into the pid namespace its children are born. One call: the
    /// kernel does all or nothing, the user namespace first, whose rights the others may need.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> Result<()> {
        self.set(self.differing)
    }

    /// A helper process enters only these kinds, with the rights that it has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter_some(&self, kinds: &[Kind]) -> Result<()> {
        self.set(self.differing & kinds.iter().fold(0, |flags, kind| flags | kind.flag()))
    }

    fn set(&self, kinds: u64) -> Result<()> {
        if kinds == 0 {
            return Ok(());
        }
        match sys::namespace::setns(self.pidfd.as_fd(), kinds) {
            // Linux before 5.8 takes no pidfd.
            Err(Errno::EINVAL) => self.set_by_files(kinds),
            result => result
                .call(|| format!("setns(pidfd, {})", sys::process::describe_flags(kinds)))
                .map_err(|error| match error.errno() {
                    Some(Errno::ESRCH) => error.remedy("the container has ended"),
                    _ => error,
                }),
        }
        .context("join the container's namespaces")
    }

    /// Each namespace by its own file; all are opened before the first is entered.
    fn set_by_files(&self, kinds: u64) -> Result<()> {
        let joins = Kind::ALL.into_iter().filter(|kind| kinds & kind.flag() != 0).map(|kind| {
            let path = format!("/proc/{}/ns/{}", self.pid, kind.proc_name()).into();
            Join { kind, path }
        });
        let mut opened = Plan { joins: joins.collect(), ..Plan::default() }.open()?;
        self.check_identity()?;
        opened.enter()
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// `/proc/PID/ns`. From here the way to each link is short.
struct Links {
    path: String,
    directory: OwnedFd,
}

impl Links {
    fn of(process: impl std::fmt::Display) -> Result<Self> {
        let path = format!("/proc/{process}/ns");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path.as_str(), flags, Mode::empty()).call(|| format!("open({path}, O_PATH)"))?;
        Ok(Self { path, directory })
    }

    /// The name that tells one namespace from another; None where the kernel has none of the kind.
    fn read(&self, kind: Kind) -> Result<Option<OsString>> {
        match readlinkat(&self.directory, kind.proc_name()) {
            Err(Errno::ENOENT) => Ok(None),
            link => link.map(Some).call(|| format!("readlink({}/{})", self.path, kind.proc_name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_nowhere_else() {
        let me = Pid::this();
        let target = Target::of(me, sys::process::pidfd_open(me).unwrap(), &[]).unwrap();
        assert!(Kind::ALL.into_iter().all(|kind| !target.has(kind)));
        target.enter().unwrap();
    }
}
