//! `mounts`

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::namespaces::each_id_mapping;
use super::{Config, Problems};

/// Options that make a mount of something that is there already, so that it needs no type.
const WITHOUT_TYPE: [&str; 11] = [
    "bind",
    "rbind",
    "remount",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
];

/// A relative destination is one below `/` (config.md#mounts allows it for compatibility).
pub(super) fn destinations(config: &Config, problems: &mut Problems) {
    for (path, mount) in mounts(config) {
        if mount.destination().as_os_str().is_empty() {
            problems.add(format!("{path}.destination"), "must not be empty");
        }
    }
}

pub(super) fn sources(config: &Config, problems: &mut Problems) {
    for (path, mount) in mounts(config) {
        if is_bind(mount) && mount.source().is_none() {
            problems.add(format!("{path}.source"), "a bind mount needs a source");
        }
    }
}

pub(super) fn types(config: &Config, problems: &mut Problems) {
    for (path, mount) in mounts(config) {
        let options = mount.options().as_deref().unwrap_or_default();
        if mount.typ().is_none() && !options.iter().any(|option| WITHOUT_TYPE.contains(&option.as_str())) {
            problems.add(format!("{path}.type"), "is needed for all but bind mounts and remounts");
        }
    }
}

pub(super) fn id_mappings(config: &Config, problems: &mut Problems) {
    for (path, mount) in mounts(config) {
        let uids = mount.uid_mappings().iter().flatten().count();
        let gids = mount.gid_mappings().iter().flatten().count();
        if (uids == 0) != (gids == 0) {
            problems.add(path.clone(), "needs both uidMappings and gidMappings or neither");
        }
        let options = mount.options().iter().flatten();
        let is_idmapped = options.clone().any(|option| matches!(option.as_str(), "idmap" | "ridmap"));
        if is_idmapped && uids + gids == 0 && !config.has_namespace(LinuxNamespaceType::User) {
            problems.add(format!("{path}.options"), "idmap needs mappings of its own or a user namespace");
        }
        for (name, mappings) in [("uidMappings", mount.uid_mappings()), ("gidMappings", mount.gid_mappings())]
        {
            each_id_mapping(problems, &format!("{path}.{name}"), mappings.as_deref().unwrap_or_default());
        }
    }
}

pub(in crate::spec) fn mounts<'a>(config: &Config<'a>) -> impl Iterator<Item = (String, &'a Mount)> {
    let mounts = config.spec.mounts().as_deref().unwrap_or_default();
    mounts.iter().enumerate().map(|(index, mount)| (format!("mounts[{index}]"), mount))
}

fn is_bind(mount: &Mount) -> bool {
    let by_option = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    // `remount,bind` changes what is at the destination and has no source.
    let is_remount = mount.options().iter().flatten().any(|option| option == "remount");
    (by_option || mount.typ().as_deref() == Some("bind")) && !is_remount
}
