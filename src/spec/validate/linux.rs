//! Members of `linux` that need no namespace: devices, paths, the process's environment.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::{Config, Problems};

/// `MKDEV` of the kernel has 12 bits for the major and 20 for the minor number.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

pub(super) fn devices(config: &Config, problems: &mut Problems) {
    let devices = config.linux().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut first = BTreeMap::new();
    for (index, device) in devices.iter().enumerate() {
        let path = format!("linux.devices[{index}]");
        problems.need_absolute(format!("{path}.path"), device.path());
        if device.typ() == LinuxDeviceType::A {
            problems.add(format!("{path}.type"), "must be c, b, u or p: \"a\" is for the device cgroup");
        }
        if device.typ() != LinuxDeviceType::P {
            device_number(problems, &path, device);
        }
        // Unbuffered ones are character devices.
        let kind = |device: &LinuxDevice| match device.typ() {
            LinuxDeviceType::U => LinuxDeviceType::C,
            other => other,
        };
        let numbers = (kind(device), device.major(), device.minor());
        if *first.entry(device.path()).or_insert(numbers) != numbers {
            problems.add(
                format!("{path}.path"),
                format!("{:?} is there already as another device", device.path()),
            );
        }
    }
}

fn device_number(problems: &mut Problems, path: &str, device: &LinuxDevice) {
    for (name, number, max) in [("major", device.major(), MAX_MAJOR), ("minor", device.minor(), MAX_MINOR)] {
        if !(0..=max).contains(&number) {
            problems.add(format!("{path}.{name}"), format!("must be between 0 and {max}, not {number}"));
        }
    }
}

pub(super) fn rootfs_propagation(config: &Config, problems: &mut Problems) {
    let Some(propagation) = config.linux().and_then(|linux| linux.rootfs_propagation().as_deref()) else {
        return;
    };
    // The specification has no recursive ones; Docker writes them.
    let word = propagation.strip_prefix('r').unwrap_or(propagation);
    if !matches!(word, "shared" | "slave" | "private" | "unbindable") {
        problems.add(
            "linux.rootfsPropagation",
            format!("must be shared, slave, private or unbindable, not {propagation:?}"),
        );
    }
}

pub(super) fn masked_paths(config: &Config, problems: &mut Problems) {
    let paths = config.linux().and_then(|linux| linux.masked_paths().as_deref());
    absolute(problems, "linux.maskedPaths", paths.unwrap_or_default());
}

pub(super) fn readonly_paths(config: &Config, problems: &mut Problems) {
    let paths = config.linux().and_then(|linux| linux.readonly_paths().as_deref());
    absolute(problems, "linux.readonlyPaths", paths.unwrap_or_default());
}

fn absolute(problems: &mut Problems, member: &str, paths: &[String]) {
    for (index, path) in paths.iter().enumerate() {
        problems.need_absolute(format!("{member}[{index}]"), Path::new(path));
    }
}

pub(super) fn personality(config: &Config, problems: &mut Problems) {
    let Some(personality) = config.linux().and_then(|linux| linux.personality().as_ref()) else { return };
    for (index, flag) in personality.flags().iter().flatten().enumerate() {
        problems.add(
            format!("linux.personality.flags[{index}]"),
            format!("unknown flag {flag:?}: the specification has none"),
        );
    }
}

pub(super) fn memory_policy(config: &Config, problems: &mut Problems) {
    use MemoryPolicyFlagType::{MpolFRelativeNodes, MpolFStaticNodes};
    use MemoryPolicyModeType::{MpolDefault, MpolLocal, MpolPreferred};
    let Some(policy) = config.linux().and_then(|linux| linux.memory_policy().as_ref()) else { return };
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    let mode = policy.mode();
    match mode {
        MpolDefault | MpolLocal if !nodes.is_empty() => {
            problems.add("linux.memoryPolicy.nodes", format!("must be empty with {mode}"));
        }
        MpolDefault | MpolLocal | MpolPreferred => {}
        _ if nodes.is_empty() => problems.add("linux.memoryPolicy.nodes", format!("is required with {mode}")),
        _ => {}
    }
    if !nodes.is_empty() && !super::is_cpu_list(nodes) {
        problems.add("linux.memoryPolicy.nodes", format!("must be a list like 0-3,7, not {nodes:?}"));
    }
    let flags = policy.flags().as_deref().unwrap_or_default();
    if flags.contains(&MpolFRelativeNodes) && flags.contains(&MpolFStaticNodes) {
        problems.add("linux.memoryPolicy.flags", "has both MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES");
    }
    let about_nodes = flags.iter().find(|flag| matches!(flag, MpolFRelativeNodes | MpolFStaticNodes));
    if let (MpolLocal | MpolPreferred, Some(flag), true) = (mode, about_nodes, nodes.is_empty()) {
        problems.add("linux.memoryPolicy.flags", format!("{flag} needs nodes, and {mode} has none"));
    }
}

pub(super) fn intel_rdt(config: &Config, problems: &mut Problems) {
    let Some(rdt) = config.linux().and_then(|linux| linux.intel_rdt().as_ref()) else { return };
    // "/" is the class of all that is in no other.
    if let Some(clos_id) = rdt.clos_id().as_ref().filter(|clos_id| *clos_id != "/")
        && (matches!(clos_id.as_str(), "" | "." | "..") || clos_id.contains(['/', '\n']))
    {
        problems.add("linux.intelRdt.closID", format!("must be the name of a directory, not {clos_id:?}"));
    }
    // Several lines of l3CacheSchema have a meaning, though they should not be there.
    if let Some(schema) = rdt.mem_bw_schema().as_deref().filter(|schema| !schema.is_empty()) {
        if schema.contains('\n') {
            problems.add("linux.intelRdt.memBwSchema", "must be one line");
        }
        if !schema.starts_with("MB:") {
            problems.add("linux.intelRdt.memBwSchema", format!("must start with MB:, not {schema:?}"));
        }
    }
    for (index, line) in rdt.schemata().iter().flatten().enumerate() {
        if line.contains('\n') {
            problems.add(format!("linux.intelRdt.schemata[{index}]"), "must be one line");
        }
    }
}
