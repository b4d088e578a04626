//! Gives a container's cgroup to the root of its user namespace, so that what runs in there (systemd, a
//! nested engine) can make cgroups of its own below.
//!
//! Only cgroup v2 can be delegated: the limits of the cgroup itself stay the host's, since just the files
//! for dividing it are given away (cgroup-v2.rst, "Model of Delegation").

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};

use super::plan::Plan;
use crate::error::{Call, Result};

/// The kernel's list of files that the owner of a delegated cgroup needs (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// Where there is no list: the files that cgroup-v2.rst names.
const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Plan {
    /// The cgroup shall belong to this user of the host. Without a meaning on cgroup v1.
    pub fn delegate_to(&mut self, owner: u32) {
        self.owner = Some(owner);
    }
}

/// Changes the owner of a cgroup and of the files that a delegated one needs.
///
/// # Errors
/// EPERM, when we are neither root nor the owner already.
pub(super) fn delegate(fd: BorrowedFd<'_>, path: &Path, owner: u32) -> Result<()> {
    let uid = Some(Uid::from_raw(owner));
    let list = match std::fs::read_to_string(LIST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => FILES.to_owned(),
        list => list.call(|| format!("read({LIST:?})"))?,
    };
    fchown(fd, uid, None).call(|| format!("fchown({path:?}, {owner})"))?;
    for file in list.lines() {
        match fchownat(fd, file, uid, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The list also has files of controllers that this cgroup does not have.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).call(|| format!("fchownat({:?}, {owner})", path.join(file))),
        }
    }
    Ok(())
}
