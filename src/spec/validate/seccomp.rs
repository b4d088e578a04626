//! `linux.seccomp`

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::{Config, Problems};
use crate::spec::annotations;

/// Highest errno that a filter can return (seccomp(2), SECCOMP_RET_ERRNO: the kernel's MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;

fn seccomp<'a>(config: &Config<'a>) -> Option<&'a LinuxSeccomp> {
    config.linux().and_then(|linux| linux.seccomp().as_ref())
}

pub(super) fn default_action(config: &Config, problems: &mut Problems) {
    let Some(seccomp) = seccomp(config) else { return };
    if seccomp.default_action() == LinuxSeccompAction::ScmpActNotify {
        // Handing over the listener is a system call itself, and would wait for an answer to it.
        problems.add("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default");
    }
    let path = "linux.seccomp.defaultErrnoRet";
    errno(problems, path, seccomp.default_action(), seccomp.default_errno_ret());
}

pub(super) fn listener(config: &Config, problems: &mut Problems) {
    let Some(seccomp) = seccomp(config) else { return };
    match seccomp.listener_path() {
        // The annotation's own rule speaks of it.
        Some(path) if annotations::seccomp_receiver(config.spec).as_ref() == Some(path) => {}
        Some(path) => problems.need_absolute("linux.seccomp.listenerPath", path),
        None => {
            if syscalls_of(seccomp).iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify) {
                problems.add("linux.seccomp.listenerPath", "is required for SCMP_ACT_NOTIFY");
            }
            if seccomp.listener_metadata().is_some() {
                problems.add("linux.seccomp.listenerMetadata", "must not be set without listenerPath");
            }
        }
    }
}

pub(super) fn syscalls(config: &Config, problems: &mut Problems) {
    let rules = seccomp(config).map(syscalls_of).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("linux.seccomp.syscalls[{index}]");
        if rule.names().is_empty() {
            problems.add(format!("{path}.names"), "must name at least one system call");
        }
        // Init hands the listener over by sendmsg, and reports what goes wrong there by write: with
        // the filter loaded, and nobody to answer yet.
        let own = rule.names().iter().find(|name| matches!(name.as_str(), "write" | "sendmsg"));
        if let (LinuxSeccompAction::ScmpActNotify, Some(name)) = (rule.action(), own) {
            problems.add(
                format!("{path}.action"),
                format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall"),
            );
        }
        errno(problems, &format!("{path}.errnoRet"), rule.action(), rule.errno_ret());
        for (argument, condition) in rule.args().iter().flatten().enumerate() {
            if condition.index() > 5 {
                problems.add(
                    format!("{path}.args[{argument}].index"),
                    format!("must be between 0 and 5, not {}", condition.index()),
                );
            }
        }
    }
}

fn syscalls_of(seccomp: &LinuxSeccomp) -> &[LinuxSyscall] {
    seccomp.syscalls().as_deref().unwrap_or_default()
}

/// "When the action doesn't support an errno, the runtime MUST print an error and fail".
fn errno(problems: &mut Problems, path: &str, action: LinuxSeccompAction, errno: Option<u32>) {
    let Some(errno) = errno else { return };
    match action {
        LinuxSeccompAction::ScmpActErrno if errno > MAX_ERRNO => {
            problems.add(path, format!("must be at most {MAX_ERRNO}, not {errno}"));
        }
        // The tracer gets 16 bits (SECCOMP_RET_DATA).
        LinuxSeccompAction::ScmpActTrace if errno > u32::from(u16::MAX) => {
            problems.add(path, format!("must be at most {}, not {errno}", u16::MAX));
        }
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace => {}
        other => problems.add(path, format!("{other} returns no errno")),
    }
}
