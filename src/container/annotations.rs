//! Annotations by which engines ask for what config.json has no field for; crun's names, see its man page.
//!
//! They let a container at things of the host, so `features` lists their prefix as unsafe
//! (potentiallyUnsafeConfigAnnotations): an engine must not take them from its users unseen.

use std::path::PathBuf;

use oci_spec::runtime::Spec;

/// The prefix of all of them.
pub const PREFIX: &str = "run.oci.";

/// The process keeps the caller's supplementary groups (Podman's `--group-add keep-groups`).
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Unix socket that receives a pidfd of init, as `--pidfd-socket` does.
const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

fn value<'a>(spec: &'a Spec, key: &str) -> Option<&'a str> {
    spec.annotations().as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether the process keeps the caller's groups.
pub fn keeps_groups(spec: &Spec) -> bool {
    value(spec, KEEP_GROUPS).is_some_and(|value| value != "0")
}

/// Who gets init's pidfd.
pub fn pidfd_receiver(spec: &Spec) -> Option<PathBuf> {
    value(spec, PIDFD_RECEIVER).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(annotations: &str) -> Spec {
        serde_json::from_str(&format!(r#"{{ "ociVersion": "1.0.0", "annotations": {annotations} }}"#))
            .unwrap()
    }

    #[test]
    fn reads_what_crun_reads() {
        for (annotations, keeps) in [
            ("{}", false),
            (r#"{"run.oci.keep_original_groups":"1"}"#, true),
            (r#"{"run.oci.keep_original_groups":"0"}"#, false),
        ] {
            assert_eq!(keeps_groups(&spec(annotations)), keeps, "{annotations}");
        }
        let receiver = pidfd_receiver(&spec(r#"{"run.oci.pidfd_receiver":"/s"}"#));
        assert_eq!(receiver, Some("/s".into()));
        assert_eq!(pidfd_receiver(&spec(r#"{"run.oci.pidfd_receiver":""}"#)), None);
    }
}
