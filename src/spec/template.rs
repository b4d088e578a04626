//! The config.json that `berth spec` writes: runc's, key for key.

const ROOT: &str = include_str!("template.json");
const ROOTLESS: &str = include_str!("template-rootless.json");

/// Of [`ROOT`], where runc has it on cgroup v2 alone: on v1 its users look for the host's paths of cgroups.
const CGROUP_NAMESPACE: &str = ",\n\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n\t\t\t}";

/// A config.json to start from. `rootless` is the uid and gid that become root inside, for a caller
/// without rights: no network namespace, no cgroup limits, the host's sysfs. `is_v2`: the host's
/// controllers are those of cgroup v2.
pub fn template(rootless: Option<(u32, u32)>, is_v2: bool) -> String {
    match rootless {
        None if is_v2 => ROOT.to_owned(),
        None => ROOT.replace(CGROUP_NAMESPACE, ""),
        Some((uid, gid)) => ROOTLESS.replace("@UID@", &uid.to_string()).replace("@GID@", &gid.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ValidateOptions, parse, validate};

    #[test]
    fn both_templates_are_valid() {
        for (rootless, options) in [
            (None, ValidateOptions::default()),
            (Some((1000, 100)), ValidateOptions { rootless: true, ..ValidateOptions::default() }),
        ] {
            let mut warnings = Vec::new();
            let spec = parse(template(rootless, true).as_bytes(), &mut warnings).unwrap();
            assert_eq!(validate(&spec, &options), []);
            assert_eq!(warnings, [""; 0]);
        }
    }

    #[test]
    fn the_cgroup_namespace_is_for_cgroup_v2() {
        let kinds = |is_v2| {
            let spec = parse(template(None, is_v2).as_bytes(), &mut Vec::new()).unwrap();
            let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
            namespaces.iter().map(|namespace| namespace.typ().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kinds(true), "pid net ipc uts mnt cgroup");
        assert_eq!(kinds(false), "pid net ipc uts mnt");
    }

    #[test]
    fn the_rootless_one_maps_the_caller() {
        let mut warnings = Vec::new();
        let spec = parse(template(Some((1000, 100)), true).as_bytes(), &mut warnings).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
    }
}
