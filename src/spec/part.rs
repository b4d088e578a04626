//! What an exec reads of a container's config.json.
//!
//! Two thirds of it say how a container is made (mounts, devices, limits, hooks): who joins one passes over that, which
//! takes a third of the time of reading it into types.

use std::collections::HashMap;

use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxMemory, LinuxMemoryPolicy, LinuxNamespace, LinuxPersonality, LinuxResources,
    LinuxSeccomp, Process, Spec,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    oci_version: String,
    process: Process,
    annotations: Option<HashMap<String, String>>,
    linux: Option<LinuxPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinuxPart {
    uid_mappings: Option<Vec<LinuxIdMapping>>,
    gid_mappings: Option<Vec<LinuxIdMapping>>,
    namespaces: Option<Vec<LinuxNamespace>>,
    resources: Option<ResourcesPart>,
    seccomp: Option<LinuxSeccomp>,
    personality: Option<LinuxPersonality>,
    memory_policy: Option<LinuxMemoryPolicy>,
}

#[derive(Deserialize)]
struct ResourcesPart {
    memory: Option<LinuxMemory>,
}

/// The part of a document that [`parse`](super::parse) has taken once, as a document that has no more. None for one that
/// has to be adapted to the types of oci-spec.
pub(super) fn read(json: &[u8]) -> Option<Spec> {
    let Part { oci_version, process, annotations, linux } = json::read(json).ok()?;
    let mut spec: Spec = empty()?;
    spec.set_version(oci_version).set_process(Some(process)).set_annotations(annotations);
    let Some(part) = linux else { return Some(spec) };
    let mut linux: Linux = empty()?;
    if let Some(ResourcesPart { memory }) = part.resources {
        let mut resources: LinuxResources = empty()?;
        resources.set_memory(memory);
        linux.set_resources(Some(resources));
    }
    linux
        .set_uid_mappings(part.uid_mappings)
        .set_gid_mappings(part.gid_mappings)
        .set_namespaces(part.namespaces)
        .set_seccomp(part.seccomp)
        .set_personality(part.personality)
        .set_memory_policy(part.memory_policy);
    spec.set_linux(Some(linux));
    Some(spec)
}

/// Without any member. oci-spec's defaults have mounts, namespaces and paths that nobody asked for.
fn empty<T: DeserializeOwned>() -> Option<T> {
    serde_json::from_str("{}").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{parse, parse_for_exec};

    /// `whole` without what an exec has no use for.
    fn less(mut whole: Spec) -> Spec {
        whole.set_root(None).set_mounts(None).set_hostname(None).set_domainname(None).set_hooks(None);
        let Some(linux) = whole.linux_mut() else { return whole };
        linux.set_net_devices(None).set_sysctl(None).set_cgroups_path(None).set_devices(None);
        linux
            .set_rootfs_propagation(None)
            .set_masked_paths(None)
            .set_readonly_paths(None)
            .set_mount_label(None);
        linux.set_intel_rdt(None).set_time_offsets(None);
        if let Some(resources) = linux.resources_mut() {
            resources
                .set_devices(None)
                .set_cpu(None)
                .set_pids(None)
                .set_block_io(None)
                .set_hugepage_limits(None);
            resources.set_network(None).set_rdma(None).set_unified(None);
        }
        whole
    }

    #[track_caller]
    fn assert_reads_the_same(text: &[u8]) {
        let whole = parse(text, &mut Vec::new()).unwrap();
        // What falls back to the whole document has the rest of it too.
        assert_eq!(less(parse_for_exec(text).unwrap()), less(whole), "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn says_the_same_as_the_whole_document() {
        for engine in ["cri-container", "cri-sandbox", "ctr", "docker", "podman"] {
            let path = format!("{}/integration/bundles/{engine}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read(&path).unwrap();
            assert!(read(&text).is_some(), "{engine}");
            assert_reads_the_same(&text);
        }
    }

    #[test]
    fn what_has_to_be_adapted_is_read_as_a_whole() {
        let document = |process: &str, rest: &str| {
            format!(
                r#"{{"ociVersion": "1.3.0", "process": {{"cwd": "/", "args": ["sh"] {process}}}, "root": {{"path": "r"}} {rest}}}"#
            )
        };
        let user = r#", "user": {"uid": 1, "gid": 2}"#;
        for (process, rest) in [
            (user, ""),
            (user, r#", "linux": null"#),
            (user, r#", "linux": {"namespaces": [{"type": "pid", "path": ""}], "seccomp": null}"#),
            (
                user,
                r#", "linux": {"resources": {"memory": {"limit": 1}, "pids": {}}}, "annotations": {"a": "b"}"#,
            ),
            ("", ""),
            (
                r#", "user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": ["CAP_NOBODY", "CAP_KILL"]}"#,
                "",
            ),
            (r#", "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": ""}"#, ""),
            (r#", "user": {"uid": 0, "gid": 0}, "env": null, "apparmorProfile": "", "rlimits": []"#, ""),
            (
                r#", "user": {"uid": 0, "gid": 0}, "scheduler": {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}"#,
                "",
            ),
        ] {
            assert_reads_the_same(document(process, rest).as_bytes());
        }
    }
}
