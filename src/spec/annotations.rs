//! Annotations by which engines ask for what config.json has no field for; crun's names and meanings, see its
//! man page. docs/annotations.md tells users of them. Pure.
//!
//! They let a container at things of the host, so `features` lists their prefix as unsafe
//! (potentiallyUnsafeConfigAnnotations): an engine must not take them from its users unseen.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

/// The prefix of all of them.
pub const PREFIX: &str = "run.oci.";

/// The process keeps the caller's supplementary groups (Podman's `--group-add keep-groups`).
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Unix socket that receives a pidfd of init, as `--pidfd-socket` does.
const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// File to which the stdout of all hooks is appended.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";

/// File to which the stderr of all hooks is appended.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";

/// A system call in linux.seccomp that no architecture has is an error.
pub const SECCOMP_STRICT: &str = "run.oci.seccomp_fail_unknown_syscall";

/// A program of classic BPF, as base64, in place of linux.seccomp.
pub const SECCOMP_BPF: &str = "run.oci.seccomp_bpf_data";

/// Unix socket that receives the seccomp listener, where there is no listenerPath.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";

/// Below its scope, the cgroup of a container that systemd makes one for.
pub const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// Below the container's cgroup, one without limits that its processes are in and may manage.
pub const DELEGATE: &str = "run.oci.delegate-cgroup";

/// The destination of a mount, in whose place the hierarchy `name=systemd` of cgroup v1 is mounted.
pub const FORCE_CGROUP_V1: &str = "run.oci.systemd.force_cgroup_v1";

/// Which mount option linux.mountLabel becomes.
pub const CONTEXT_TYPE: &str = "run.oci.mount_context_type";

/// What crun understands and berth cannot do: the annotation, why, and what can be done.
pub const IMPOSSIBLE: [(&str, &str, &str); 3] = [
    (
        "run.oci.handler",
        "is not supported: berth executes programs of the kernel's formats alone",
        "use crun for it",
    ),
    (
        "run.oci.seccomp.plugins",
        "is not supported: a static binary loads no shared objects",
        "let a service listen at run.oci.seccomp.receiver",
    ),
    (
        "run.oci.timens_offset",
        "is not supported: the specification has a field for it",
        "write linux.timeOffsets",
    ),
];

/// One of the annotations, also an empty one.
pub fn of<'a>(spec: &'a Spec, key: &str) -> Option<&'a str> {
    spec.annotations().as_ref()?.get(key).map(String::as_str)
}

/// Where an annotation is in config.json: `annotations["run.oci.hooks.stdout"]`.
pub fn path(key: &str) -> String {
    format!("annotations[{key:?}]")
}

/// Whether the process keeps the caller's groups.
pub fn keeps_groups(spec: &Spec) -> bool {
    of(spec, KEEP_GROUPS).is_some_and(|value| !matches!(value, "" | "0"))
}

/// Who gets init's pidfd.
pub fn pidfd_receiver(spec: &Spec) -> Option<PathBuf> {
    of(spec, PIDFD_RECEIVER).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether a system call that nobody knows is an error; as in crun anything but 0 says so.
pub fn refuses_unknown_calls(spec: &Spec) -> bool {
    of(spec, SECCOMP_STRICT).is_some_and(|value| value != "0")
}

/// Who gets the seccomp listener.
pub fn seccomp_receiver(spec: &Spec) -> Option<PathBuf> {
    of(spec, SECCOMP_RECEIVER).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The cgroup that [`SUBGROUP`] or [`DELEGATE`] names, relative to the one that it lies in; None for none.
pub fn cgroup_below(spec: &Spec, key: &str) -> Option<PathBuf> {
    of(spec, key).and_then(below).filter(|path| !path.as_os_str().is_empty())
}

/// A path that can lead nowhere but down, a leading `/` left out; None for one with `..`.
pub fn below(text: &str) -> Option<PathBuf> {
    let mut below = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(below)
}

/// The destination of the mount that is to show cgroup v1.
pub fn cgroup_v1(spec: &Spec) -> Option<&Path> {
    of(spec, FORCE_CGROUP_V1).map(Path::new)
}

/// The mount option that linux.mountLabel becomes; see mount(8), "context=".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextType {
    /// Of all files, whatever the file system says of them.
    #[default]
    Context,
    /// Of the file system itself.
    Fscontext,
    /// Of files without a label.
    Defcontext,
    /// Of the root directory, before it can be seen.
    Rootcontext,
}

impl ContextType {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Context, Self::Fscontext, Self::Defcontext, Self::Rootcontext];

    /// The option's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Fscontext => "fscontext",
            Self::Defcontext => "defcontext",
            Self::Rootcontext => "rootcontext",
        }
    }

    /// None for any other word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == word)
    }

    /// The one that is asked for; `context` without a word.
    pub fn of(spec: &Spec) -> Self {
        of(spec, CONTEXT_TYPE).and_then(Self::parse).unwrap_or_default()
    }
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

    #[test]
    fn unknown_calls_are_an_error_unless_told_otherwise() {
        for (annotations, expected) in [
            ("{}", false),
            (r#"{"run.oci.seccomp_fail_unknown_syscall":"0"}"#, false),
            (r#"{"run.oci.seccomp_fail_unknown_syscall":"1"}"#, true),
            (r#"{"run.oci.seccomp_fail_unknown_syscall":""}"#, true),
        ] {
            assert_eq!(refuses_unknown_calls(&spec(annotations)), expected, "{annotations}");
        }
    }

    #[test]
    fn cgroups_below_lead_nowhere_but_down() {
        for (text, expected) in [
            ("", Some("")),
            ("/", Some("")),
            ("init", Some("init")),
            ("/a/./b/", Some("a/b")),
            ("a/../b", None),
            ("..", None),
        ] {
            assert_eq!(below(text), expected.map(PathBuf::from), "{text}");
        }
        let none = spec(r#"{"run.oci.systemd.subgroup":"","run.oci.delegate-cgroup":"/init"}"#);
        assert_eq!(cgroup_below(&none, SUBGROUP), None);
        assert_eq!(cgroup_below(&none, DELEGATE), Some("init".into()));
    }

    #[test]
    fn four_words_say_what_a_label_is_of() {
        for one in ContextType::ALL {
            assert_eq!(ContextType::parse(one.name()), Some(one));
        }
        assert_eq!(ContextType::parse("seclabel"), None);
        assert_eq!(ContextType::of(&spec("{}")), ContextType::Context);
        let asked = spec(r#"{"run.oci.mount_context_type":"rootcontext"}"#);
        assert_eq!(ContextType::of(&asked), ContextType::Rootcontext);
    }
}
