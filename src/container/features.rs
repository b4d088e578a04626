//! `features`: what berth can do, whatever this host can (features.md of the runtime specification).
//!
//! The lists are those that the code itself works with, so that none can promise what is not there.

use serde_json::{Value, json};

use super::image;
use crate::hooks;
use crate::namespaces::Kind;
use crate::spec::annotations;
use crate::{rootfs, seccomp, security, spec};

/// The oldest specification whose config.json is understood.
const OLDEST: &str = "1.0.0";

/// Annotations by which a config.json gets at more than its container: an engine that lets others set
/// annotations has to hold these back. A trailing dot makes a prefix.
const UNSAFE_ANNOTATIONS: [&str; 3] =
    ["org.systemd.property.", image::CONFIG_ANNOTATION, annotations::PREFIX];

/// The Features structure.
pub fn features() -> Value {
    json!({
        "ociVersionMin": OLDEST,
        "ociVersionMax": spec::VERSION,
        "hooks": hooks::Kind::ALL.map(hooks::Kind::name),
        "mountOptions": rootfs::mount_options(),
        "linux": linux(),
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
    })
}

fn linux() -> Value {
    let mut namespaces = Kind::ALL.map(Kind::name);
    namespaces.sort_unstable();
    json!({
        "namespaces": namespaces,
        "capabilities": security::CAPABILITIES.as_slice(),
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": seccomp(),
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": {
            "modes": security::MEMORY_POLICY_MODES.map(|(mode, _)| mode),
            "flags": security::MEMORY_POLICY_FLAGS.map(|(flag, _)| flag),
        },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

fn seccomp() -> Value {
    json!({
        "enabled": true,
        "actions": seccomp::profile::ACTIONS,
        "operators": seccomp::profile::OPERATORS.map(|(operator, _)| operator),
        "archs": seccomp::arch::Architecture::all().map(|arch| arch.oci()).collect::<Vec<_>>(),
        "knownFlags": seccomp::FLAGS.map(|(flag, _)| flag),
        // The one part that the specification lets depend on the kernel.
        "supportedFlags": seccomp::supported_flags(),
    })
}
