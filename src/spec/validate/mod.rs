//! What a config.json must be, as a list of small checks. All of them run, and each may find any
//! number of problems, so that the caller mends the document once.
//!
//! A check looks at the document alone. Rules that depend on the host (does this namespace exist, has
//! this cgroup a controller) belong to those who use the value.

mod annotations;
mod linux;
pub(super) mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod sysctl;

use std::collections::HashMap;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Process, Spec};

use super::advice::hooks_by_kind;
use super::finding::Problems;
use super::{Finding, Rule};

pub(super) use process::is_cpu_list;

/// How the command line and the caller's rights bear on the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The caller is not root, so it needs a user namespace.
    pub rootless: bool,
    /// berth returns before the process ends (`create`, `run --detach`), so it cannot relay a
    /// terminal.
    pub detached: bool,
    /// There is a `--console-socket`.
    pub console_socket: bool,
}

/// Checks the document; an empty list is a valid one.
pub fn validate(spec: &Spec, options: &Options) -> Vec<Finding> {
    CHECKS.iter().flat_map(|checks| run(checks, spec, options)).collect()
}

/// Checks what an exec changes in a document that was checked before: the process, and who calls.
pub fn validate_exec(spec: &Spec, options: &Options) -> Vec<Finding> {
    run(OF_EXEC, spec, options)
}

/// Every finding of `checks`, in their order.
pub(super) fn run(checks: &'static [(Rule, Check)], spec: &Spec, options: &Options) -> Vec<Finding> {
    let config = Config { spec, options };
    let mut found = Vec::new();
    for (rule, check) in checks {
        check(&config, &mut Problems::of(rule, &mut found));
    }
    found
}

pub(super) type Check = fn(&Config, &mut Problems);

/// Each rule of the specification with what enforces it, in the order in which findings are told.
pub(super) static CHECKS: [&[(Rule, Check)]; 3] = [OF_DOCUMENT, OF_EXEC, OF_CONTAINER];

static OF_DOCUMENT: &[(Rule, Check)] = &[
    (Rule::error("version", "config.md#specification-version", "write 1.0.0 to 1.3.0"), version),
    (Rule::error("root", "config.md#root", "name the directory of the root file system"), root),
];

static OF_EXEC: &[(Rule, Check)] = {
    use Rule as R;
    use process as p;
    &[
        (R::error("process", "config.md#process", ""), p::required),
        (R::error("process-cwd", "config.md#process", "start it with /"), p::cwd),
        (R::error("process-terminal", "config.md#process", ""), p::terminal),
        (R::error("console-size", "config.md#process", ""), p::console_size),
        (R::error("process-args", "config.md#posix-process", "name the program to run"), p::args),
        (R::error("process-env", "config.md#posix-process", "write NAME=VALUE, or leave it out"), p::env),
        (R::error("rlimits", "config.md#posix-process", ""), p::rlimits),
        (R::error("process-user", "config.md#posix-platform-user", ""), p::user),
        (R::error("capabilities", "config.md#linux-process", "add it to permitted"), p::capabilities),
        (R::error("oom-score-adj", "config.md#linux-process", ""), p::oom_score_adj),
        (R::error("scheduler", "config.md#linux-process", ""), p::scheduler),
        (
            R::error("scheduler-deadline", "config.md#linux-process", "see sched(7), SCHED_DEADLINE"),
            p::deadline,
        ),
        (R::error("io-priority", "config.md#linux-process", ""), p::io_priority),
        (R::error("cpu-affinity", "config.md#linux-process", ""), p::cpu_affinity),
        (
            R::error("rootless", "config-linux.md#namespaces", "see berth spec --rootless"),
            namespaces::rootless,
        ),
    ]
};

static OF_CONTAINER: &[(Rule, Check)] = {
    use Rule as R;
    use linux as l;
    use mounts as m;
    use namespaces as n;
    use resources as r;
    &[
        (R::error("mount-destination", "config.md#mounts", ""), m::destinations),
        (R::error("mount-source", "config.md#mounts", ""), m::sources),
        (R::error("mount-type", "config.md#mounts", "name a file system of /proc/filesystems"), m::types),
        (R::error("mount-mappings", "config.md#posix-platform-mounts", ""), m::id_mappings),
        (R::error("hostname", "config.md#hostname", ADD_UTS_NAMESPACE), n::hostname),
        (R::error("domainname", "config.md#domainname", ADD_UTS_NAMESPACE), n::domainname),
        (R::error("hooks", "config.md#posix-platform-hooks", ""), hooks),
        (R::error("annotations", "config.md#annotations", ""), annotations::keys),
        (
            R::error("annotation-value", "config.md#annotations", "see docs/annotations.md"),
            annotations::values,
        ),
        (R::error("namespaces", "config-linux.md#namespaces", "list each type once"), n::unique),
        (R::error("namespace-path", "config-linux.md#namespaces", "start it with /"), n::paths),
        (R::error("id-mappings", "config-linux.md#user-namespace-mappings", ""), n::id_mappings),
        (R::error("time-offsets", "config-linux.md#offset-for-time-namespace", ""), n::time_offsets),
        (R::error("net-devices", "config-linux.md#network-devices", ""), n::net_devices),
        (R::error("devices", "config-linux.md#devices", ""), l::devices),
        (R::error("device-rules", "config-linux.md#allowed-device-list", ""), r::device_rules),
        (R::error("memory", "config-linux.md#memory", ""), r::memory),
        (R::error("cpu", "config-linux.md#cpu", ""), r::cpu),
        (R::error("cpu-bandwidth", "config-linux.md#cpu", ""), r::cpu_bandwidth),
        (R::error("pids", "config-linux.md#pids", ""), r::pids),
        (R::error("block-io", "config-linux.md#block-io", ""), r::block_io),
        (R::error("hugepage-limits", "config-linux.md#huge-page-limits", ""), r::hugepage_limits),
        (R::error("network", "config-linux.md#network", ""), r::network),
        (R::error("rdma", "config-linux.md#rdma", ""), r::rdma),
        (R::error("unified", "config-linux.md#unified", ""), r::unified),
        (R::error("intel-rdt", "config-linux.md#intelrdt", ""), l::intel_rdt),
        (R::error("memory-policy", "config-linux.md#memory-policy", ""), l::memory_policy),
        (R::error("sysctl", "config-linux.md#sysctl", ""), sysctl::namespaced),
        (R::error("seccomp-default", "config-linux.md#seccomp", ""), seccomp::default_action),
        (R::error("seccomp-listener", "config-linux.md#seccomp", ""), seccomp::listener),
        (R::error("seccomp-syscalls", "config-linux.md#seccomp", ""), seccomp::syscalls),
        (
            R::error("rootfs-propagation", "config-linux.md#rootfs-mount-propagation", ""),
            l::rootfs_propagation,
        ),
        (R::error("masked-paths", "config-linux.md#masked-paths", ""), l::masked_paths),
        (R::error("readonly-paths", "config-linux.md#readonly-paths", ""), l::readonly_paths),
        (R::error("personality", "config-linux.md#personality", ""), l::personality),
    ]
};

const ADD_UTS_NAMESPACE: &str = "add {\"type\": \"uts\"} to linux.namespaces";

/// The document with shorthands for what the checks ask most.
pub(super) struct Config<'a> {
    pub spec: &'a Spec,
    options: &'a Options,
}

impl<'a> Config<'a> {
    pub fn process(&self) -> Option<&'a Process> {
        self.spec.process().as_ref()
    }

    pub fn linux(&self) -> Option<&'a Linux> {
        self.spec.linux().as_ref()
    }

    fn namespaces(&self) -> &'a [LinuxNamespace] {
        self.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default()
    }

    fn namespace(&self, typ: LinuxNamespaceType) -> Option<&'a LinuxNamespace> {
        self.namespaces().iter().find(|namespace| namespace.typ() == typ)
    }

    pub fn has_namespace(&self, typ: LinuxNamespaceType) -> bool {
        self.namespace(typ).is_some()
    }

    /// Whether the container gets a namespace of its own, which nobody has set up before.
    fn has_new_namespace(&self, typ: LinuxNamespaceType) -> bool {
        self.namespace(typ).is_some_and(|namespace| namespace.path().is_none())
    }
}

/// The members of a map by name, so that the same document always gives the same findings.
fn sorted<V>(map: &HashMap<String, V>) -> Vec<(&String, &V)> {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

fn version(config: &Config, problems: &mut Problems) {
    let version = config.spec.version();
    match parse_semver(version) {
        None if version.is_empty() => problems.add("ociVersion", "is required"),
        None => problems.add("ociVersion", format!("must be a semantic version like 1.3.0, not {version:?}")),
        Some((1, ..)) => {}
        Some(_) => problems.add(
            "ociVersion",
            format!("{version} is not supported; berth knows 1.0.0 to {}", super::VERSION),
        ),
    }
}

/// Major, minor and patch of a version as semver.org 2.0.0 has it.
pub(super) fn parse_semver(text: &str) -> Option<(u64, u64, u64)> {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre_release) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let is_identifier =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let are_identifiers = |list: Option<&str>| list.is_none_or(|list| list.split('.').all(is_identifier));
    if !are_identifiers(build) || !are_identifiers(pre_release) {
        return None;
    }
    let number = |part: &str| {
        let is_canonical = part == "0" || !part.starts_with(['0', '+']);
        is_canonical.then(|| part.parse::<u64>().ok()).flatten()
    };
    match core.split('.').map(number).collect::<Option<Vec<_>>>()?.as_slice() {
        [major, minor, patch] => Some((*major, *minor, *patch)),
        _ => None,
    }
}

fn root(config: &Config, problems: &mut Problems) {
    match config.spec.root() {
        None => problems.add("root", "is required"),
        Some(root) if root.path().as_os_str().is_empty() => problems.add("root.path", "is required"),
        Some(_) => {}
    }
}

fn hooks(config: &Config, problems: &mut Problems) {
    let Some(hooks) = config.spec.hooks() else { return };
    for (kind, hooks) in hooks_by_kind(hooks) {
        for (index, hook) in hooks.iter().flatten().enumerate() {
            let path = format!("hooks.{kind}[{index}]");
            problems.need_absolute(format!("{path}.path"), hook.path());
            if let Some(timeout) = hook.timeout()
                && timeout <= 0
            {
                problems.add(format!("{path}.timeout"), format!("must be greater than zero, not {timeout}"));
            }
        }
    }
}
