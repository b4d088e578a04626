//! What a config.json must be, as a list of small checks. All of them run, and each may find any
//! number of problems, so that the caller mends the document once.
//!
//! A check looks at the document alone. Rules that depend on the host (does this namespace exist, has
//! this cgroup a controller) belong to those who use the value.

mod linux;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod sysctl;

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Process, Spec};

use super::Finding;

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
    let config = Config { spec, options };
    let mut problems = Problems::default();
    for (section, check) in CHECKS {
        problems.section = section;
        check(&config, &mut problems);
    }
    problems.found
}

type Check = fn(&Config, &mut Problems);

/// Each check with the section of the runtime specification that it enforces.
const CHECKS: &[(&str, Check)] = &[
    ("config.md#specification-version", version),
    ("config.md#root", root),
    ("config.md#process", process::required),
    ("config.md#process", process::cwd),
    ("config.md#process", process::terminal),
    ("config.md#process", process::console_size),
    ("config.md#posix-process", process::args),
    ("config.md#posix-process", process::env),
    ("config.md#posix-process", process::rlimits),
    ("config.md#posix-platform-user", process::user),
    ("config.md#linux-process", process::capabilities),
    ("config.md#linux-process", process::oom_score_adj),
    ("config.md#linux-process", process::scheduler),
    ("config.md#linux-process", process::io_priority),
    ("config.md#linux-process", process::cpu_affinity),
    ("config.md#mounts", mounts::destinations),
    ("config.md#mounts", mounts::sources_and_types),
    ("config.md#mounts", mounts::id_mappings),
    ("config.md#hostname", namespaces::hostname),
    ("config.md#domainname", namespaces::domainname),
    ("config.md#posix-platform-hooks", hooks),
    ("config.md#annotations", annotations),
    ("config-linux.md#namespaces", namespaces::unique),
    ("config-linux.md#namespaces", namespaces::paths),
    ("config-linux.md#namespaces", namespaces::rootless),
    ("config-linux.md#user-namespace-mappings", namespaces::id_mappings),
    ("config-linux.md#offset-for-time-namespace", namespaces::time_offsets),
    ("config-linux.md#network-devices", namespaces::net_devices),
    ("config-linux.md#devices", linux::devices),
    ("config-linux.md#allowed-device-list", resources::device_rules),
    ("config-linux.md#memory", resources::memory),
    ("config-linux.md#cpu", resources::cpu),
    ("config-linux.md#block-io", resources::block_io),
    ("config-linux.md#huge-page-limits", resources::hugepage_limits),
    ("config-linux.md#rdma", resources::rdma),
    ("config-linux.md#unified", resources::unified),
    ("config-linux.md#intelrdt", linux::intel_rdt),
    ("config-linux.md#memory-policy", linux::memory_policy),
    ("config-linux.md#sysctl", sysctl::namespaced),
    ("config-linux.md#seccomp", seccomp::default_action),
    ("config-linux.md#seccomp", seccomp::listener),
    ("config-linux.md#seccomp", seccomp::syscalls),
    ("config-linux.md#rootfs-mount-propagation", linux::rootfs_propagation),
    ("config-linux.md#masked-paths", linux::masked_paths),
    ("config-linux.md#readonly-paths", linux::readonly_paths),
    ("config-linux.md#personality", linux::personality),
];

/// The document with shorthands for what the checks ask most.
struct Config<'a> {
    spec: &'a Spec,
    options: &'a Options,
}

impl<'a> Config<'a> {
    fn process(&self) -> Option<&'a Process> {
        self.spec.process().as_ref()
    }

    fn linux(&self) -> Option<&'a Linux> {
        self.spec.linux().as_ref()
    }

    fn namespaces(&self) -> &'a [LinuxNamespace] {
        self.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default()
    }

    fn namespace(&self, typ: LinuxNamespaceType) -> Option<&'a LinuxNamespace> {
        self.namespaces().iter().find(|namespace| namespace.typ() == typ)
    }

    fn has_namespace(&self, typ: LinuxNamespaceType) -> bool {
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

/// What was found so far.
#[derive(Default)]
struct Problems {
    section: &'static str,
    found: Vec<Finding>,
}

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Finding { path: path.into(), section: self.section, message: message.into() });
    }

    fn need_absolute(&mut self, path: impl Into<String>, value: &Path) {
        if !value.is_absolute() {
            self.add(path, format!("must be an absolute path, not {value:?}"));
        }
    }
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
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, hooks) in kinds {
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

fn annotations(config: &Config, problems: &mut Problems) {
    if config.spec.annotations().as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        problems.add("annotations", "a key must not be empty");
    }
}
