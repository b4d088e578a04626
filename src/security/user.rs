//! User, group and supplementary groups of the process.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat, major};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use oci_spec::runtime as oci;

use super::Plan;
use crate::error::{Call, Context, Error, Result};
use crate::sys::credentials;
use crate::sys::procfs::Procfs;

/// Numbers as the container sees them. config.json has no names, and no name of the image's
/// `/etc/passwd` is ever looked up for them (CVE-2016-3697).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Real, effective and saved user id.
    pub uid: u32,
    /// Real, effective and saved group id.
    pub gid: u32,
    /// All supplementary groups; the runtime's own are dropped.
    pub additional_gids: Vec<u32>,
    /// The caller's supplementary groups stay, and `additional_gids` are not set (crun's
    /// `run.oci.keep_original_groups`): where setgroups(2) is denied nobody can have both.
    pub keep_groups: bool,
    /// Permission bits that new files do not get; 0022 when config.json says nothing, as in runc.
    pub umask: u32,
}

pub(super) fn plan(user: &oci::User) -> Result<User> {
    const DEFAULT_UMASK: u32 = 0o022;
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    if umask > 0o777 {
        return Err(Error::invalid(format!("process.user.umask: {umask} is more than 511 (0777)")));
    }
    // The kernel takes this number for "no change".
    for (field, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == u32::MAX {
            return Err(Error::invalid(format!("process.user.{field}: {id} is no id")));
        }
    }
    Ok(User {
        uid: user.uid(),
        gid: user.gid(),
        additional_gids: user.additional_gids().clone().unwrap_or_default(),
        keep_groups: false,
        umask,
    })
}

impl Plan {
    /// Gives stdin, stdout and stderr to the user, who could otherwise not reopen them through
    /// `/dev/stdout`. Before [`Plan::become_user`], since it needs CAP_CHOWN.
    ///
    /// By descriptor only, and never a device but a terminal: the null device is everyone's, and what
    /// is called `/dev/null` in an image may be anything (CVE-2026-88265). Nor a file that was opened
    /// to be read: `berth run … < /etc/passwd` gives nobody the password file.
    pub fn own_stdio(&self) -> Result<()> {
        let own = |fd: BorrowedFd<'_>| -> nix::Result<()> {
            let stat = fstat(fd)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            let is_ours_to_give = match kind {
                SFlag::S_IFIFO | SFlag::S_IFSOCK => true,
                SFlag::S_IFCHR => is_terminal(stat.st_rdev),
                SFlag::S_IFREG => fcntl(fd, FcntlArg::F_GETFL)? & libc::O_ACCMODE != libc::O_RDONLY,
                _ => false,
            };
            if stat.st_uid == self.user.uid || !is_ours_to_give {
                return Ok(());
            }
            match fchown(fd, Some(Uid::from_raw(self.user.uid)), None) {
                // The descriptor is the caller's business: one that another user (or a user outside of
                // our namespace) owns, or a read-only file, was given to us as it is and works as it is.
                Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => Ok(()),
                result => result,
            }
        };
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for (fd, name) in [(stdin.as_fd(), "stdin"), (stdout.as_fd(), "stdout"), (stderr.as_fd(), "stderr")] {
            match own(fd) {
                // A closed stream has no owner.
                Err(Errno::EBADF) => {}
                result => result
                    .call(|| format!("fchown({name}, uid {})", self.user.uid))
                    .context("give the standard streams to the user")?,
            }
        }
        Ok(())
    }

    /// Becomes the user: groups, then gid, then uid, because each needs a right that the next takes
    /// away; the permitted set survives (PR_SET_KEEPCAPS) for [`Plan::set_capabilities`].
    ///
    /// Afterwards the process is not dumpable and has no parent death signal (prctl(2)): who relies
    /// on one sets it again.
    pub fn become_user(&self, procfs: &Procfs) -> Result<()> {
        credentials::keep_capabilities(true).call(|| "prctl(PR_SET_KEEPCAPS, 1)".into())?;
        self.set_ids(procfs)
            .with_context(|| format!("become uid {} gid {}", self.user.uid, self.user.gid))?;
        credentials::keep_capabilities(false).call(|| "prctl(PR_SET_KEEPCAPS, 0)".into())
    }

    fn set_ids(&self, procfs: &Procfs) -> Result<()> {
        if !self.user.keep_groups {
            set_groups(&self.user.additional_gids, procfs)?;
        }
        let User { uid, gid, .. } = &self.user;
        let group = Gid::from_raw(*gid);
        setresgid(group, group, group)
            .call(|| format!("setresgid({gid})"))
            .map_err(|error| unmapped(error, "this gid"))?;
        let user = Uid::from_raw(*uid);
        setresuid(user, user, user)
            .call(|| format!("setresuid({uid})"))
            .map_err(|error| unmapped(error, "this uid"))
    }
}

fn set_groups(gids: &[u32], procfs: &Procfs) -> Result<()> {
    let groups: Vec<Gid> = gids.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // In a rootless user namespace nobody may (user_namespaces(7), /proc/PID/setgroups). The groups
        // of the caller stay then, unavoidably; but no group that was asked for is silently missing.
        Err(Errno::EPERM) if setgroups_denied(procfs) => {
            if !groups.is_empty() {
                return Err(Error::unsupported(format!(
                    "process.user.additionalGids {gids:?}: setgroups is denied in this user namespace"
                ))
                .remedy("map the groups with newgidmap (/etc/subgid), or ask for none"));
            }
            Ok(())
        }
        result => result
            .call(|| format!("setgroups({gids:?})"))
            .map_err(|error| unmapped(error, "one of these groups")),
    }
}

fn unmapped(error: Error, what: &str) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => error.remedy(format!("{what} is not mapped in the user namespace")),
        _ => error,
    }
}

/// Where the kernel does not say so, setgroups(2) will.
fn setgroups_denied(procfs: &Procfs) -> bool {
    let mut text = String::new();
    procfs
        .open("self/setgroups", OFlag::O_RDONLY)
        .is_ok_and(|mut file| file.read_to_string(&mut text).is_ok() && text.trim() == "deny")
}

/// Terminals and pseudo terminals by their major number (Documentation/admin-guide/devices.txt):
/// 4 (ttyS, tty), 5 (console), 136 … 143 (pts), 229 (hvc).
fn is_terminal(device: libc::dev_t) -> bool {
    matches!(major(device), 4 | 5 | 136..=143 | 229)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<User> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn defaults_the_umask_and_keeps_numbers() {
        let user = planned(r#"{"uid": 1000, "gid": 5, "additionalGids": [7, 8], "username": "0"}"#).unwrap();
        assert_eq!(
            user,
            User { uid: 1000, gid: 5, additional_gids: vec![7, 8], keep_groups: false, umask: 0o022 }
        );
        assert_eq!(planned(r#"{"uid": 0, "gid": 0, "umask": 63}"#).unwrap().umask, 0o077);
        assert!(planned(r#"{"uid": 0, "gid": 0, "umask": 512}"#).is_err());
        assert!(planned(r#"{"uid": 4294967295, "gid": 0}"#).is_err());
    }
}
