//! Gives a container's cgroup to the container (cgroups(7), Delegation; config-linux.md, Cgroup ownership).

use std::io::ErrorKind;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};

use super::create::Cgroup;
use super::record::Version;
use crate::error::{Call, Context, Result};

/// The files whose owner may make cgroups below and move processes there, one a line (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// What the specification has in place of a missing list.
const FALLBACK: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

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
        let owner = Some(Uid::from_raw(uid));
        let chown = || {
            fchown(fd, owner, None).call(|| format!("fchown(cgroup, {uid})"))?;
            for file in list()?.lines() {
                match fchownat(fd.as_fd(), file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    // Not every cgroup has every file.
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno).call(|| format!("fchownat(cgroup, {file:?}, {uid})")),
                }
            }
            Ok(())
        };
        chown().context("give the cgroup to the container")
    }
}

fn list() -> Result<String> {
    match std::fs::read_to_string(LIST) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(FALLBACK.to_owned()),
        result => result.call(|| format!("read({LIST})")),
    }
}
