//! Small attributes of the process: OOM score, personality, umask.

use std::io::Write as _;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

use super::Plan;
use crate::error::{Call, Context, Error, Result};
use crate::sys::credentials;
use crate::sys::procfs::Procfs;

/// `linux.personality` as personality(2) takes it. The spec defines no flag yet.
pub(super) fn personality(personality: &LinuxPersonality) -> Result<u64> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::invalid(format!("linux.personality.flags: {flag:?} is not supported")));
    }
    // linux/personality.h
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

impl Plan {
    /// Writes `/proc/PROCESS/oom_score_adj`, where `process` is a number or `self`. Untouched when config.json
    /// says nothing. A value below the lowest that the process may return to needs CAP_SYS_RESOURCE in the
    /// initial user namespace, so that a process in a new user namespace cannot lower its own.
    ///
    /// The process must be dumpable here, or the file belongs to the host's root.
    pub fn set_oom_score_adj(&self, procfs: &Procfs, process: &str) -> Result<()> {
        let Some(value) = self.oom_score_adj else {
            return Ok(());
        };
        let write = || {
            let path = format!("{process}/oom_score_adj");
            let mut file = procfs.open(&path, OFlag::O_WRONLY)?;
            file.write_all(value.to_string().as_bytes())
                .call(|| format!("write(\"/proc/{path}\", \"{value}\")"))
                .map_err(|error| match error.errno() {
                    Some(Errno::EACCES) => {
                        error.remedy("lowering it needs CAP_SYS_RESOURCE in the initial user namespace")
                    }
                    Some(Errno::EINVAL) => error.remedy("it is -1000 … 1000"),
                    _ => error,
                })
        };
        write().context("set process.oomScoreAdj")
    }

    /// personality(2), which survives execve(2).
    pub fn set_personality(&self) -> Result<()> {
        let Some(persona) = self.personality else {
            return Ok(());
        };
        credentials::personality(persona)
            .call(|| format!("personality({persona:#x})"))
            .context("set linux.personality")?;
        Ok(())
    }

    /// umask(2): config.json's, or 0022. After the last file is made: it would take bits from mount
    /// points and devices.
    pub fn set_umask(&self) {
        umask(Mode::from_bits_truncate(self.user.umask));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_personalities() {
        let parse = |json: &str| personality(&serde_json::from_str(json).unwrap());
        assert_eq!(parse(r#"{"domain": "LINUX32"}"#).unwrap(), 8);
        assert_eq!(parse(r#"{"domain": "LINUX", "flags": []}"#).unwrap(), 0);
        assert!(parse(r#"{"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}"#).is_err());
    }
}
