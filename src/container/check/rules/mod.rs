//! What the host must have for a document: pure functions of both.

mod files;
mod namespaces;
mod process;
mod resources;

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Spec};

use super::host::Host;
use super::rehearsal::Plans;
use crate::spec::{Finding, Problems, Rule};

/// What the rules look at.
pub(super) struct Case<'a> {
    /// The document, whose form is right.
    pub spec: &'a Spec,
    /// The directory that relative paths start from.
    pub bundle: &'a Path,
    /// What `create` would plan.
    pub plans: &'a Plans,
    /// The host.
    pub host: &'a Host,
}

impl<'a> Case<'a> {
    fn linux(&self) -> Option<&'a Linux> {
        self.spec.linux().as_ref()
    }

    fn resources(&self) -> Option<&'a LinuxResources> {
        self.linux().and_then(|linux| linux.resources().as_ref())
    }

    fn has_namespace(&self, typ: LinuxNamespaceType) -> bool {
        let namespaces = self.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        namespaces.iter().any(|namespace| namespace.typ() == typ)
    }
}

type Check = fn(&Case, &mut Problems);

/// Runs every rule in order; `found` gets what each has found before the next begins.
pub(super) fn run(case: &Case, mut found: impl FnMut(Vec<Finding>)) {
    for (rule, check) in RULES {
        let mut findings = Vec::new();
        check(case, &mut Problems::of(rule, &mut findings));
        found(findings);
    }
}

/// Numbers of capabilities(7).
mod capability {
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const MKNOD: u32 = 27;
}

/// Each rule with what enforces it.
pub(super) static RULES: &[(Rule, Check)] = {
    use Rule as R;
    use files as f;
    use namespaces as n;
    use process as p;
    use resources as r;
    &[
        (R::error("rootfs", "config.md#root", "unpack the root file system there"), f::rootfs),
        (R::error("program", "config.md#posix-process", "install it, or correct args and PATH"), f::program),
        (R::warning("program-machine", "config.md#posix-process", "it needs binfmt_misc"), f::machine),
        (
            R::error("filesystem", "config.md#mounts", "load its module, or another kernel has it"),
            f::filesystem,
        ),
        (R::error("bind-source", "config.md#mounts", "make it, or correct the path"), f::bind_source),
        (R::error("mount-kernel", "config.md#linux-mount-options", "boot a newer kernel"), f::mount_kernel),
        (
            R::error("hook-program", "config.md#posix-platform-hooks", "install it, or correct the path"),
            f::hooks,
        ),
        (R::error("seccomp-agent", "config-linux.md#seccomp", "start the agent first"), f::agent),
        (R::error("device-node", "config-linux.md#devices", "leave it out"), f::devices),
        (R::error("namespace-kernel", "config-linux.md#namespaces", "boot a kernel that has them"), n::kinds),
        (R::error("namespace-rights", "config-linux.md#namespaces", ASK_FOR_USER_NAMESPACE), n::rights),
        (R::error("user-namespace", "config-linux.md#namespaces", "ask the administrator"), n::user),
        (R::error("id-range", "config-linux.md#user-namespace-mappings", ""), n::id_ranges),
        (R::error("groups-denied", "config.md#posix-platform-user", "map them by newgidmap"), n::groups),
        (R::error("net-device", "config-linux.md#network-devices", ""), n::net_devices),
        (R::error("sysctl-kernel", "config-linux.md#sysctl", "load its module, or leave it out"), n::sysctls),
        (R::error("rlimit-rights", "config.md#posix-process", ""), p::rlimits),
        (R::error("oom-score-rights", "config.md#linux-process", "it needs CAP_SYS_RESOURCE"), p::oom_score),
        (
            R::error("scheduler-rights", "config.md#linux-process", "it needs CAP_SYS_NICE"),
            p::scheduler_rights,
        ),
        (R::error("scheduler-kernel", "config.md#linux-process", "take another policy"), p::scheduler_kernel),
        (
            R::error("scheduler-budget", "config-linux.md#cpu", "ask for cpu.realtimeRuntime"),
            p::scheduler_budget,
        ),
        (R::error("io-priority-rights", "config.md#linux-process", "it needs CAP_SYS_NICE"), p::io_priority),
        (R::error("apparmor-profile", "config.md#linux-process", "load it: apparmor_parser(8)"), p::apparmor),
        (R::error("memory-nodes", "config-linux.md#memory-policy", ""), p::memory_nodes),
        (
            R::error("memory-policy-kernel", "config-linux.md#memory-policy", "boot a newer kernel"),
            p::memory_policy,
        ),
        (R::error("controller", "config-linux.md#control-groups", ""), r::controllers),
        (R::error("cgroup-rights", "config-linux.md#control-groups", ASK_FOR_CGROUP), r::rights),
        (R::error("cpu-kernel", "config-linux.md#cpu", "boot a newer kernel"), r::cpu_kernel),
        (R::error("cpuset", "config-linux.md#cpu", ""), r::cpuset_refused),
        (R::warning("cpuset-offline", "config-linux.md#cpu", ""), r::cpuset_offline),
        (R::error("block-device", "config-linux.md#block-io", "/sys/dev/block has all"), r::block_devices),
        (R::error("hugepage-size", "config-linux.md#huge-page-limits", ""), r::page_sizes),
        (R::error("rdma-device", "config-linux.md#rdma", "/sys/class/infiniband has all"), r::rdma),
        (R::error("network-interface", "config-linux.md#network", "/sys/class/net has all"), r::interfaces),
    ]
};

const ASK_FOR_USER_NAMESPACE: &str = "it needs CAP_SYS_ADMIN, or a user namespace";
const ASK_FOR_CGROUP: &str = "have a cgroup delegated (--systemd-cgroup), or ask for no limits";
