//! What the container's process may do: user, capabilities, limits, labels, scheduling.
//!
//! [`plan`] turns `process` and `linux` of config.json into plain numbers and bytes in the parent;
//! each step is then one method, called by init (or the joining process of an exec) in this order,
//! after the parent's [`Plan::raise_hard_rlimits`]:
//!
//! 1. [`Plan::set_oom_score_adj`]: while the runtime's rights are still there.
//! 2. [`join_session_keyring`]: before anything could be looked up through the caller's keyring.
//! 3. [`Plan::write_sysctls`]: after the namespaces are there and, for the network, joined.
//! 4. [`Plan::set_exec_labels`]: before the id change, which takes the right to write `attr/exec`
//!    from a process that is no longer dumpable, and before a seccomp filter that may forbid it.
//! 5. [`Plan::set_scheduler`], [`Plan::set_io_priority`], [`Plan::set_memory_policy`],
//!    [`Plan::set_personality`], [`Plan::set_umask`]: scheduling needs CAP_SYS_NICE.
//! 6. [`Plan::set_no_new_privileges`].
//! 7. [`Plan::drop_bounding`]: needs CAP_SETPCAP, which the id change takes out of the effective set.
//! 8. [`Plan::become_user`]: groups, gid, uid with the permitted set kept; then
//!    [`Plan::set_capabilities`].
//! 9. [`Plan::set_rlimits`]: a small RLIMIT_NOFILE is the program's, not ours.
//! 10. Seccomp, with nothing after it but execve, so that the filter need not allow the steps before.
//!     Without no_new_privs it needs CAP_SYS_ADMIN ([`SECCOMP_RIGHT`]), which step 8 retains for it.

mod attributes;
mod capabilities;
mod environment;
mod host;
#[cfg(test)]
mod kernel_tests;
mod keyring;
mod labels;
mod rlimits;
mod scheduling;
mod sysctl;
mod user;

pub use capabilities::{BY_NUMBER as CAPABILITIES, Capabilities, SECCOMP_RIGHT};
pub use environment::{environment, has_home, home};
pub use host::Host;
pub use keyring::join_session_keyring;
pub use rlimits::Rlimit;
pub use scheduling::{CpuMask, MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, MemoryPolicy};
pub use sysctl::Sysctl;
pub use user::User;

use oci_spec::runtime::{Linux, Process};

use crate::error::Result;
use crate::sys::credentials::SchedAttr;

/// Everything that is applied to the container's process, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// User, groups and umask.
    pub user: User,
    /// The five sets. Without a `capabilities` object all are empty, as in runc and crun: silence
    /// never grants a right.
    pub capabilities: Capabilities,
    /// False unless asked for; resolved here, so that nobody tests `is_some` later.
    pub no_new_privileges: bool,
    /// In the order of config.json, no type twice.
    pub rlimits: Vec<Rlimit>,
    /// None: stays as inherited.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile of the program; never empty.
    pub apparmor_profile: Option<String>,
    /// SELinux context of the program; never empty.
    pub selinux_label: Option<String>,
    /// For sched_setattr(2).
    pub scheduler: Option<SchedAttr>,
    /// For ioprio_set(2): class << 13 | level.
    pub io_priority: Option<i32>,
    /// CPUs of an exec's process before it is moved into the container's cgroup. Not for init
    /// (config.md, execCPUAffinity).
    pub initial_cpus: Option<CpuMask>,
    /// CPUs of an exec's process after the move.
    pub final_cpus: Option<CpuMask>,
    /// For set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicy>,
    /// For personality(2).
    pub personality: Option<u64>,
    /// By name, each with its path below `/proc/sys`. Written by init alone, not by an exec.
    pub sysctls: Vec<Sysctl>,
}

impl Plan {
    /// Whether process.execCPUAffinity says nothing: then the process has the CPUs of its cpuset.
    pub fn affinity_is_free(&self) -> bool {
        self.initial_cpus.is_none() && self.final_cpus.is_none()
    }
}

/// Turns config.json into the plan, with what is known of the host (see [`Host::look`]). Pure.
///
/// Capabilities that cannot be had are warned of and left out (config.md, capabilities).
///
/// # Errors
/// A value that makes no sense (a limit listed twice, a sysctl without its namespace …), or a label for
/// a security module that is off; each names its field.
pub fn plan(process: &Process, linux: &Linux, host: &Host, warnings: &mut Vec<String>) -> Result<Plan> {
    let affinity = process.exec_cpu_affinity().as_ref();
    Ok(Plan {
        user: user::plan(process.user())?,
        capabilities: capabilities::plan(process.capabilities().as_ref(), linux, host, warnings),
        no_new_privileges: process.no_new_privileges() == Some(true),
        rlimits: rlimits::plan(process.rlimits().as_deref().unwrap_or_default())?,
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: labels::apparmor(process.apparmor_profile().as_deref(), host)?,
        selinux_label: labels::selinux(process.selinux_label().as_deref(), host)?,
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose()?,
        initial_cpus: scheduling::cpus("initial", affinity.and_then(|a| a.initial().as_deref()))?,
        final_cpus: scheduling::cpus("final", affinity.and_then(|a| a.cpu_affinity_final().as_deref()))?,
        memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
        personality: linux.personality().as_ref().map(attributes::personality).transpose()?,
        sysctls: sysctl::plan(linux)?,
    })
}
