//! Files and file systems of the host.

use std::path::Path;

use oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType, LinuxSeccompAction, Mount};

use super::super::host::Found;
use super::super::program::Program;
use super::{Case, Problems, capability};
use crate::spec::hooks_by_kind;

pub(super) fn rootfs(case: &Case, problems: &mut Problems) {
    let Some(root) = case.spec.root() else { return };
    let path = case.bundle.join(root.path());
    match case.host.files.get(&path) {
        Some(Found::Directory) => {}
        found => problems.add("root.path", format!("{} {}", path.display(), why_not(found, "directory"))),
    }
}

/// `does not exist`
fn why_not(found: Option<&Found>, wanted: &str) -> String {
    match found {
        None => "does not exist".into(),
        Some(Found::Denied) => "cannot be reached by the caller".into(),
        Some(_) => format!("is no {wanted}"),
    }
}

pub(super) fn program(case: &Case, problems: &mut Problems) {
    let message = match &case.host.program {
        Program::Missing(paths) if paths.is_empty() => "cannot be found: process.env has no PATH".into(),
        Program::Missing(paths) => {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("is not in the root file system; looked for {}", paths.join(", "))
        }
        Program::NotExecutable(path) => format!("{} is not executable", path.display()),
        Program::WithoutInterpreter(path) => {
            format!("its interpreter {} is not in the root file system", path.display())
        }
        Program::Unknown | Program::Found | Program::OfMachine(_) => return,
    };
    problems.add("process.args[0]", message);
}

pub(super) fn machine(case: &Case, problems: &mut Problems) {
    if let Program::OfMachine(machine) = &case.host.program {
        let own = std::env::consts::ARCH;
        problems.add("process.args[0]", format!("is a program for {machine}, this machine is {own}"));
    }
}

fn mounts<'a>(case: &Case<'a>) -> impl Iterator<Item = (usize, &'a Mount)> {
    case.spec.mounts().iter().flatten().enumerate()
}

fn has_option(mount: &Mount, words: &[&str]) -> bool {
    mount.options().iter().flatten().any(|option| words.contains(&option.as_str()))
}

fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || has_option(mount, &["bind", "rbind"])
}

pub(super) fn filesystem(case: &Case, problems: &mut Problems) {
    for (index, mount) in mounts(case) {
        let Some(typ) = mount.typ().as_deref() else { continue };
        // What a mount of type cgroup becomes depends on the host's version.
        let is_ours =
            is_bind(mount) || matches!(typ, "cgroup" | "cgroup2") || has_option(mount, &["remount"]);
        if !is_ours && !case.host.filesystems.contains(typ.split('.').next().unwrap_or(typ)) {
            problems.add(format!("mounts[{index}].type"), format!("this kernel has no file system {typ:?}"));
        }
    }
}

pub(super) fn bind_source(case: &Case, problems: &mut Problems) {
    for (index, mount) in mounts(case).filter(|(_, mount)| is_bind(mount) && !has_option(mount, &["remount"]))
    {
        let Some(source) = mount.source() else { continue };
        let path = case.bundle.join(source);
        // A symlink that leads nowhere is something to mount then.
        let itself = has_option(mount, &["src-nofollow", "copy-symlink"]);
        let found = case.host.files.get(&path);
        if !itself && matches!(found, None | Some(Found::Denied)) {
            problems.add(
                format!("mounts[{index}].source"),
                format!("{} {}", path.display(), why_not(found, "file")),
            );
        }
    }
}

/// mount_setattr(2), which maps ids and reaches the mounts below, is of Linux 5.12.
pub(super) fn mount_kernel(case: &Case, problems: &mut Problems) {
    const SINCE: (u32, u32) = (5, 12);
    const RECURSIVE: [&str; 18] = [
        "rro",
        "rrw",
        "rnosuid",
        "rsuid",
        "rnodev",
        "rdev",
        "rnoexec",
        "rexec",
        "rnodiratime",
        "rdiratime",
        "rnoatime",
        "ratime",
        "rrelatime",
        "rnorelatime",
        "rstrictatime",
        "rnostrictatime",
        "rnosymfollow",
        "rsymfollow",
    ];
    if case.host.kernel >= SINCE {
        return;
    }
    for (index, mount) in mounts(case) {
        let is_mapped = mount.uid_mappings().is_some() || has_option(mount, &["idmap", "ridmap"]);
        if is_mapped {
            problems.add(format!("mounts[{index}]"), "id mappings of mounts need Linux 5.12");
        } else if has_option(mount, &RECURSIVE) {
            problems.add(format!("mounts[{index}].options"), "recursive attributes need Linux 5.12");
        }
    }
}

/// All but those of startContainer, which are the container's files.
pub(super) fn hooks(case: &Case, problems: &mut Problems) {
    let Some(hooks) = case.spec.hooks() else { return };
    for (kind, hooks) in hooks_by_kind(hooks).into_iter().filter(|(kind, _)| *kind != "startContainer") {
        for (index, hook) in hooks.iter().flatten().enumerate() {
            let shown = hook.path().display();
            let message = match case.host.files.get(hook.path()) {
                Some(Found::File { executable: true }) => continue,
                Some(Found::File { executable: false }) => format!("{shown} is not executable"),
                found => format!("{shown} {}", why_not(found, "program")),
            };
            problems.add(format!("hooks.{kind}[{index}].path"), message);
        }
    }
}

pub(super) fn agent(case: &Case, problems: &mut Problems) {
    let Some(seccomp) = case.linux().and_then(|linux| linux.seccomp().as_ref()) else { return };
    let notifies =
        seccomp.syscalls().iter().flatten().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    let Some(path) = seccomp.listener_path().as_ref().filter(|_| notifies) else { return };
    let found = case.host.files.get(Path::new(path));
    if found != Some(&Found::Socket) {
        problems
            .add("linux.seccomp.listenerPath", format!("{} {}", path.display(), why_not(found, "socket")));
    }
}

/// Where mknod(2) is refused the host's node of the same path is bound.
pub(super) fn devices(case: &Case, problems: &mut Problems) {
    if case.host.can(capability::MKNOD) && !case.has_namespace(LinuxNamespaceType::User) {
        return;
    }
    let devices = case.linux().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    for (index, device) in devices.iter().enumerate() {
        let is_there = case.host.files.contains_key(device.path());
        if device.typ() != LinuxDeviceType::P && !is_there {
            problems.add(
                format!("linux.devices[{index}].path"),
                format!("nobody may make it here, and the host has no {} to bind", device.path().display()),
            );
        }
    }
}
