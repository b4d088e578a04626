//! Gives a container's cgroup, or one below it, to the container (cgroups(7), Delegation; config-linux.md,
//! Cgroup ownership).

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Pid, Uid, fchown, fchownat};

use super::controllers;
use super::create::{Cgroup, make_directory, open_below};
use super::plan::Plan;
use super::record::{Directory, Version};
use super::write::write_at;
use crate::error::{Call, Context, Error, Result};

/// The files whose owner may make cgroups below and move processes there, one a line (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// What the specification has in place of a missing list.
const FALLBACK: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// A cgroup below the container's that has no limits and belongs to the container: its processes are there,
/// and the container's own, with the limits, has none. It is removed with that, as all that are nested in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delegated {
    /// Relative to the container's cgroup, without `..`.
    path: PathBuf,
    /// Whom it is given to, on the host; None leaves it to root.
    owner: Option<u32>,
}

impl Plan {
    /// Lets the container be in, and manage, the cgroup `below` its own.
    ///
    /// # Errors
    /// The host has cgroup v1, where a container could take what it has not been given (cgroups(7)); the
    /// container has no cgroup.
    pub fn delegate(&mut self, below: &Path, owner: Option<u32>) -> Result<()> {
        if self.record.version == Version::V1 {
            return Err(Error::unsupported("needs cgroup v2: a cgroup of v1 cannot be given away safely")
                .remedy("leave it out"));
        }
        if self.record.directories.is_empty() {
            return Err(Error::unsupported("needs a cgroup of the container's own")
                .remedy("leave it out, or choose another --cgroup-manager than disabled"));
        }
        self.delegated = Some(Delegated { path: below.to_owned(), owner });
        Ok(())
    }
}

impl Delegated {
    /// Makes the cgroup below `container` and moves init into it: after the namespace has been made, whose
    /// root stays the container's cgroup. Then that one has no processes, and may give its controllers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take_in(&self, init: Pid, container: BorrowedFd<'_>, directory: &Directory) -> Result<()> {
        let shown = directory.host_path();
        let take_in = || {
            let mut levels: Vec<&Path> =
                self.path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
            levels.reverse();
            for level in levels {
                make_directory(container, level)?;
            }
            let fd = open_below(container, &self.path)?;
            let file = shown.join(&self.path).join("cgroup.procs");
            write_at(fd.as_fd(), "cgroup.procs", &init.to_string())
                .map_err(|(call, errno)| Error::syscall(format!("{call}({file:?}, \"{init}\")"), errno))?;
            controllers::hand_down(container, &self.path, &shown)?;
            self.owner.map_or(Ok(()), |uid| give(fd.as_fd(), uid))
        };
        take_in().with_context(|| format!("delegate the cgroup {}", shown.join(&self.path).display()))
    }
}

impl Cgroup {
    /// Makes `uid` the owner of the directory and of the files that delegation is about. The files of its
    /// limits stay ours. On cgroup v1, where delegation is not safe, nothing happens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let Some(fd) = self.unified.as_ref().filter(|_| self.record.version == Version::V2) else {
            return Ok(());
        };
        give(fd.as_fd(), uid).context("give the cgroup to the container")
    }
}

fn give(cgroup: BorrowedFd<'_>, uid: u32) -> Result<()> {
    let owner = Some(Uid::from_raw(uid));
    fchown(cgroup, owner, None).call(|| format!("fchown(cgroup, {uid})"))?;
    for file in list()?.lines() {
        match fchownat(cgroup, file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Not every cgroup has every file.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).call(|| format!("fchownat(cgroup, {file:?}, {uid})")),
        }
    }
    Ok(())
}

fn list() -> Result<String> {
    match std::fs::read_to_string(LIST) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(FALLBACK.to_owned()),
        result => result.call(|| format!("read({LIST})")),
    }
}
