//! AppArmor profile and SELinux context of the container's program.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::{Host, Plan};
use crate::error::{Call, Context, Error, Result};

/// A label that nobody would enforce is an error, with the words of runc that engines know.
pub(super) fn check(plan: &Plan, host: &Host) -> Result<()> {
    if let Some(profile) = plan.apparmor_profile.as_deref().filter(|_| !host.apparmor) {
        // Engines on hosts without AppArmor still write its name for "none".
        if profile != "unconfined" {
            return Err(Error::unsupported(
                "apparmor: config provided apparmor profile but apparmor not supported",
            )
            .context(format!("process.apparmorProfile {profile:?}")));
        }
    }
    if plan.selinux_label.is_some() && !host.selinux {
        return Err(Error::unsupported(
            "selinux label is specified in config, but selinux is disabled or not supported",
        )
        .context("process.selinuxLabel"));
    }
    Ok(())
}

impl Plan {
    /// Sets the labels that take effect at execve(2), through `procfs`, the root of a procfs of our
    /// own: the container's `/proc` may be anything (CVE-2019-16884, CVE-2025-52881).
    ///
    /// The process must be dumpable here, or its files in `/proc` belong to the host's root.
    pub fn set_exec_labels(&self, procfs: BorrowedFd<'_>, host_has_apparmor: bool) -> Result<()> {
        if let Some(profile) = self.apparmor_profile.as_ref().filter(|_| host_has_apparmor) {
            apply_profile(procfs, profile)
                .with_context(|| format!("apply the apparmor profile {profile:?}"))?;
        }
        if let Some(label) = &self.selinux_label {
            write_attribute(procfs, "exec", label.as_bytes())
                .with_context(|| format!("set the selinux label {label:?}"))?;
        }
        Ok(())
    }
}

fn apply_profile(procfs: BorrowedFd<'_>, profile: &str) -> Result<()> {
    let command = format!("exec {profile}");
    // AppArmor has a directory of its own since Linux 5.8; `attr/exec` belongs to the first module in
    // the stack, which may be SELinux.
    match write_attribute(procfs, "apparmor/exec", command.as_bytes()) {
        Err(error) if error.errno() == Some(Errno::ENOENT) && !has_own_directory(procfs) => {
            write_attribute(procfs, "exec", command.as_bytes())
        }
        // The kernel's answer when no such profile is loaded.
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            Err(error.remedy("load the profile with apparmor_parser first"))
        }
        result => result,
    }
}

fn has_own_directory(procfs: BorrowedFd<'_>) -> bool {
    openat(procfs, "self/attr/apparmor", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

/// One write(2) to `/proc/self/attr/NAME`; an empty value resets the attribute.
pub(super) fn write_attribute(procfs: BorrowedFd<'_>, name: &str, value: &[u8]) -> Result<()> {
    let call = || format!("write(\"/proc/self/attr/{name}\", {:?})", String::from_utf8_lossy(value));
    let path = format!("self/attr/{name}");
    let fd = openat(procfs, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .call(|| format!("open(\"/proc/self/attr/{name}\", O_WRONLY)"))?;
    let written = File::from(fd).write(value).call(call)?;
    if written == value.len() {
        return Ok(());
    }
    Err(Error::syscall(call(), Errno::EMSGSIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_labels_that_nobody_would_enforce() {
        let on = Host { apparmor: true, selinux: true, ..Host::default() };
        let off = Host::default();
        let profile = |name: &str| Plan { apparmor_profile: Some(name.into()), ..Plan::default() };
        assert!(check(&profile("docker-default"), &on).is_ok());
        assert!(check(&profile("unconfined"), &off).is_ok());
        let error = check(&profile("docker-default"), &off).unwrap_err().to_string();
        assert!(error.ends_with("config provided apparmor profile but apparmor not supported"), "{error}");
        let label = Plan { selinux_label: Some("a:b:c:s0".into()), ..Plan::default() };
        assert!(check(&label, &on).is_ok());
        assert!(check(&label, &off).is_err());
    }
}
