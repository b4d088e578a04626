//! The config.json that `berth spec` writes: runc's, key for key, with a cgroup namespace.

const ROOT: &str = include_str!("template.json");
const ROOTLESS: &str = include_str!("template-rootless.json");

/// A config.json to start from. `rootless` is the uid and gid that become root inside, for a caller
/// without rights: no network namespace, no cgroup limits, the host's sysfs.
pub fn template(rootless: Option<(u32, u32)>) -> String {
    match rootless {
        None => ROOT.to_owned(),
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
            let spec = parse(template(rootless).as_bytes(), &mut warnings).unwrap();
            assert_eq!(validate(&spec, &options), []);
            assert_eq!(warnings, [""; 0]);
        }
    }

    #[test]
    fn the_rootless_one_maps_the_caller() {
        let mut warnings = Vec::new();
        let spec = parse(template(Some((1000, 100))).as_bytes(), &mut warnings).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 100);
    }
}
