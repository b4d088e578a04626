//! Resource limits (getrlimit(2)).

use nix::errno::Errno;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use super::Plan;
use crate::error::{Call, Context, Error, Result};
use crate::sys::credentials;

/// One limit; `u64::MAX` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The kernel's number.
    pub resource: u32,
    /// `RLIMIT_NOFILE`.
    pub name: String,
    /// What is enforced.
    pub soft: u64,
    /// How far the process may raise the soft limit.
    pub hard: u64,
}

fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// config.md, rlimits: "If `rlimits` contains duplicated entries with same `type`, the runtime MUST
/// generate an error".
pub(super) fn plan(limits: &[PosixRlimit]) -> Result<Vec<Rlimit>> {
    let mut planned: Vec<Rlimit> = Vec::with_capacity(limits.len());
    for limit in limits {
        let (resource, name) = (number(limit.typ()), limit.typ().to_string());
        if planned.iter().any(|earlier| earlier.resource == resource) {
            return Err(Error::invalid(format!("process.rlimits: {name} is listed twice")));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return Err(Error::invalid(format!(
                "process.rlimits: {name} has a soft limit of {soft} above its hard limit of {hard}"
            )));
        }
        planned.push(Rlimit { resource, name, soft, hard });
    }
    Ok(planned)
}

impl Plan {
    /// Raises the caller's own hard limits as far as the container's need it; the parent's step before
    /// the clone. That takes CAP_SYS_RESOURCE in the initial user namespace, which init does not have
    /// in a user namespace; what init inherits it can lower. Soft limits stay: a small RLIMIT_FSIZE is meant
    /// for the container, not for its making.
    pub fn raise_hard_rlimits(&self) -> Result<()> {
        for limit in &self.rlimits {
            let (soft, hard) = credentials::rlimit(limit.resource)
                .call(|| format!("prlimit({})", limit.name))
                .with_context(|| format!("limit {}", limit.name))?;
            if limit.hard > hard {
                set(limit, soft, limit.hard)?;
            }
        }
        Ok(())
    }

    /// Sets the caller's limits; init's step. After [`Plan::raise_hard_rlimits`] in the parent it needs
    /// no right, so it comes last of all but the filter: with a small RLIMIT_NOFILE or RLIMIT_AS init
    /// could not do its own work.
    pub fn set_rlimits(&self) -> Result<()> {
        self.rlimits.iter().try_for_each(|limit| set(limit, limit.soft, limit.hard))
    }
}

fn set(limit: &Rlimit, soft: u64, hard: u64) -> Result<()> {
    let name = &limit.name;
    credentials::set_rlimit(limit.resource, soft, hard)
        .call(|| format!("prlimit({name}, soft {soft}, hard {hard})"))
        .with_context(|| format!("limit {name}"))
        .map_err(|error| explain(error, limit))
}

fn explain(error: Error, limit: &Rlimit) -> Error {
    if error.errno() != Some(Errno::EPERM) {
        return error;
    }
    match credentials::rlimit(limit.resource) {
        Ok((_, hard)) if limit.hard > hard => error.remedy(format!(
            "raising the hard limit from {hard} needs CAP_SYS_RESOURCE in the initial user namespace"
        )),
        _ if limit.resource == libc::RLIMIT_NOFILE => {
            error.remedy("it may not be above /proc/sys/fs/nr_open")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Vec<Rlimit>> {
        plan(&serde_json::from_str::<Vec<PosixRlimit>>(json).unwrap())
    }

    #[test]
    fn keeps_order_and_values() {
        let limits =
            planned(r#"[{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 18446744073709551615}]"#).unwrap();
        assert_eq!(limits[0].resource, libc::RLIMIT_NOFILE);
        assert_eq!((limits[0].soft, limits[0].hard), (5, u64::MAX));
    }

    #[test]
    fn refuses_duplicates_and_soft_above_hard() {
        let twice =
            r#"[{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]"#;
        assert_eq!(planned(twice).unwrap_err().to_string(), "process.rlimits: RLIMIT_CPU is listed twice");
        assert!(planned(r#"[{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]"#).is_err());
    }
}
