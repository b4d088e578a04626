//! AppArmor profile and SELinux context of the container's program.

use std::io::Write as _;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Host, Plan};
use crate::error::{Call, Context, Error, Result};
use crate::sys::procfs::Procfs;

/// The AppArmor profile to set, if any. A profile that nobody would enforce is an error, with the
/// words of runc that engines know; all but `unconfined`, which asks for nothing.
pub(super) fn apparmor(profile: Option<&str>, host: &Host) -> Result<Option<String>> {
    match profile {
        None | Some("") => Ok(None),
        Some("unconfined") if !host.apparmor => Ok(None),
        Some(profile) if !host.apparmor => {
            Err(Error::unsupported("apparmor: config provided apparmor profile but apparmor not supported")
                .context(format!("process.apparmorProfile {profile:?}")))
        }
        Some(profile) => Ok(Some(profile.to_string())),
    }
}

/// The SELinux context to set, if any; an error without SELinux, as above.
pub(super) fn selinux(label: Option<&str>, host: &Host) -> Result<Option<String>> {
    match label {
        None | Some("") => Ok(None),
        Some(label) if !host.selinux => Err(Error::unsupported(
            "selinux label is specified in config, but selinux is disabled or not supported",
        )
        .context(format!("process.selinuxLabel {label:?}"))),
        Some(label) => Ok(Some(label.to_string())),
    }
}

impl Plan {
    /// Sets the labels that take effect at execve(2), through a procfs that no
    /// container can have touched (CVE-2019-16884, CVE-2025-52881).
    ///
    /// The process must be dumpable here, or its files in `/proc` belong to the host's root.
    pub fn set_exec_labels(&self, procfs: &Procfs) -> Result<()> {
        if let Some(profile) = &self.apparmor_profile {
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

fn apply_profile(procfs: &Procfs, profile: &str) -> Result<()> {
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

fn has_own_directory(procfs: &Procfs) -> bool {
    procfs.open("self/attr/apparmor", OFlag::O_PATH).is_ok()
}

/// One write(2) to `/proc/self/attr/NAME`; an empty value resets the attribute.
pub(super) fn write_attribute(procfs: &Procfs, name: &str, value: &[u8]) -> Result<()> {
    // Podman matches on `/proc/…/attr/…` to tell a label from other failures.
    let call = || format!("write(\"/proc/self/attr/{name}\", {:?})", String::from_utf8_lossy(value));
    let written = procfs
        .open(format!("self/attr/{name}"), OFlag::O_WRONLY)
        .with_context(|| format!("open /proc/self/attr/{name}"))?
        .write(value)
        .call(call)?;
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
        assert_eq!(apparmor(Some("docker-default"), &on).unwrap().as_deref(), Some("docker-default"));
        assert_eq!(apparmor(Some("unconfined"), &off).unwrap(), None);
        assert_eq!(apparmor(Some(""), &off).unwrap(), None);
        let error = apparmor(Some("docker-default"), &off).unwrap_err().to_string();
        assert!(error.ends_with("config provided apparmor profile but apparmor not supported"), "{error}");
        assert_eq!(selinux(Some("a:b:c:s0"), &on).unwrap().as_deref(), Some("a:b:c:s0"));
        assert!(selinux(Some("a:b:c:s0"), &off).is_err());
    }
}
