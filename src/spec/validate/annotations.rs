//! `annotations`: their keys, and the values of those that berth understands.

use std::path::Path;

use super::{Config, Problems, mounts};
use crate::spec::annotations::{self, ContextType};

/// config.md#annotations: "Keys MUST NOT be an empty string."
pub(super) fn keys(config: &Config, problems: &mut Problems) {
    if config.spec.annotations().as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        problems.add("annotations", "a key must not be empty");
    }
}

/// Whoever asks by an annotation means it as he would mean a field: what makes no sense is refused.
pub(super) fn values(config: &Config, problems: &mut Problems) {
    // `start` and `delete` may be called from elsewhere than `create` was.
    for key in [annotations::HOOKS_STDOUT, annotations::HOOKS_STDERR] {
        if let Some(path) = annotations::of(config.spec, key) {
            problems.need_absolute(annotations::path(key), Path::new(path));
        }
    }
    if let Some(path) = annotations::seccomp_receiver(config.spec) {
        problems.need_absolute(annotations::path(annotations::SECCOMP_RECEIVER), &path);
    }
    if let Some(word) = annotations::of(config.spec, annotations::CONTEXT_TYPE)
        && ContextType::parse(word).is_none()
    {
        let words = ContextType::ALL.map(ContextType::name).join(", ");
        problems.add(
            annotations::path(annotations::CONTEXT_TYPE),
            format!("must be one of {words}, not {word:?}"),
        );
    }
    for key in [annotations::SUBGROUP, annotations::DELEGATE] {
        if let Some(text) = annotations::of(config.spec, key)
            && annotations::below(text).is_none()
        {
            problems.add(annotations::path(key), format!("must not lead upwards, as {text:?} does"));
        }
    }
    cgroup_v1(config, problems);
    for (key, reason, remedy) in annotations::IMPOSSIBLE {
        if annotations::of(config.spec, key).is_some_and(|value| !value.is_empty()) {
            problems.add_with_remedy(annotations::path(key), reason, remedy);
        }
    }
}

/// The annotation is about a mount of the document.
fn cgroup_v1(config: &Config, problems: &mut Problems) {
    let Some(path) = annotations::cgroup_v1(config.spec) else { return };
    let at = annotations::path(annotations::FORCE_CGROUP_V1);
    if !path.is_absolute() {
        problems.need_absolute(at, path);
    } else if !mounts::mounts(config).any(|(_, mount)| mount.destination() == path) {
        problems.add_with_remedy(
            at,
            format!("no mount has the destination {}", path.display()),
            "name the mount that shows the cgroups, in most containers /sys/fs/cgroup",
        );
    }
}
