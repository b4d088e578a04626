//! What a config.json may be, but hardly should: rules that `check` looks at and `create` does not.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Hooks, IOPriorityClass, LinuxNamespaceType, LinuxSchedulerPolicy, LinuxSeccompAction, LinuxSyscall, Spec,
};

use super::finding::{Finding, Problems, Rule};
use super::validate::{Check, Config, mounts, run};
use super::{ValidateOptions, annotations};

/// Everything that is worth a word and no error.
pub(super) fn advise(spec: &Spec, options: &ValidateOptions) -> Vec<Finding> {
    run(ADVICE, spec, options)
}

pub(super) static ADVICE: &[(Rule, Check)] = {
    use Rule as R;
    &[
        (R::note("console-size-unused", "config.md#process", "leave it out"), console_size),
        (
            R::warning(
                "env-twice",
                "config.md#posix-process",
                "keep one: programs differ in which they take",
            ),
            env,
        ),
        (R::note("nice-unused", "config.md#linux-process", "leave it out"), nice),
        (R::note("io-priority-unused", "config.md#linux-process", "leave it out"), io_priority),
        (R::note("relative-destination", "config.md#mounts", "start it with /"), relative_destination),
        (R::warning("options-contradict", "config.md#linux-mount-options", "keep one of them"), options),
        (R::warning("hook-env", "config.md#posix-platform-hooks", "write NAME=VALUE"), hook_env),
        (R::note("annotation-key", "config.md#annotations", "use the reverse of a domain"), annotation_keys),
        (
            R::warning("memory-reservation", "config-linux.md#memory", "make it smaller than limit"),
            reservation,
        ),
        (R::warning("unified-twice", "config-linux.md#unified", "say it once"), unified),
        (
            R::warning("seccomp-contradiction", "config-linux.md#seccomp", "keep one of the rules"),
            contradiction,
        ),
        (R::note("listener-unused", "config-linux.md#seccomp", "leave it out"), listener),
        (
            R::warning("propagation-unused", "config-linux.md#rootfs-mount-propagation", "leave it out"),
            propagation,
        ),
    ]
};

fn console_size(config: &Config, problems: &mut Problems) {
    let Some(process) = config.process() else { return };
    // Engines write 0 × 0 for none.
    let has_size = process.console_size().is_some_and(|size| (size.height(), size.width()) != (0, 0));
    if has_size && !process.terminal().unwrap_or_default() {
        problems.add("process.consoleSize", "is ignored without a terminal");
    }
}

fn env(config: &Config, problems: &mut Problems) {
    let mut names = BTreeSet::new();
    let entries = config.process().and_then(|process| process.env().as_deref()).unwrap_or_default();
    for (index, entry) in entries.iter().enumerate() {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        if !names.insert(name) {
            problems.add(format!("process.env[{index}]"), format!("{name} is there twice"));
        }
    }
}

fn nice(config: &Config, problems: &mut Problems) {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};
    let Some(scheduler) = config.process().and_then(|process| process.scheduler().as_ref()) else { return };
    let policy = *scheduler.policy();
    if scheduler.nice().is_some_and(|nice| nice != 0) && matches!(policy, SchedDeadline | SchedFifo | SchedRr)
    {
        problems.add("process.scheduler.nice", format!("means nothing with {policy}"));
    }
}

fn io_priority(config: &Config, problems: &mut Problems) {
    let Some(io) = config.process().and_then(|process| process.io_priority().as_ref()) else { return };
    if matches!(io.class(), IOPriorityClass::IoprioClassIdle) && io.priority() != 0 {
        problems.add("process.ioPriority.priority", "means nothing with IOPRIO_CLASS_IDLE");
    }
}

/// config.md#mounts: "This value SHOULD be an absolute path".
fn relative_destination(config: &Config, problems: &mut Problems) {
    for (path, mount) in mounts::mounts(config) {
        let destination = mount.destination();
        if destination.is_relative() && !destination.as_os_str().is_empty() {
            problems.add(format!("{path}.destination"), format!("{destination:?} is taken as one below /"));
        }
    }
}

fn options(config: &Config, problems: &mut Problems) {
    const PAIRS: [(&str, &str); 5] =
        [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("sync", "async")];
    for (path, mount) in mounts::mounts(config) {
        let place = |word: &str| mount.options().iter().flatten().position(|option| option == word);
        for (one, other) in PAIRS {
            if let (Some(first), Some(second)) = (place(one), place(other)) {
                let wins = if first > second { one } else { other };
                problems.add(
                    format!("{path}.options"),
                    format!("has {one} and {other}; the later counts: {wins}"),
                );
            }
        }
    }
}

fn hook_env(config: &Config, problems: &mut Problems) {
    let Some(hooks) = config.spec.hooks() else { return };
    for (kind, hooks) in hooks_by_kind(hooks) {
        for (index, hook) in hooks.iter().flatten().enumerate() {
            for (at, entry) in hook.env().iter().flatten().enumerate() {
                if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                    problems.add(
                        format!("hooks.{kind}[{index}].env[{at}]"),
                        format!("must be NAME=VALUE, not {entry:?}"),
                    );
                }
            }
        }
    }
}

type List = Option<Vec<oci_spec::runtime::Hook>>;

/// The six lists of hooks in the order in which they run, each with its name.
pub fn hooks_by_kind(hooks: &Hooks) -> [(&'static str, &List); 6] {
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ]
}

/// config.md#annotations: "Keys SHOULD be named using a reverse domain notation".
fn annotation_keys(config: &Config, problems: &mut Problems) {
    let keys: BTreeSet<&String> = config.spec.annotations().iter().flatten().map(|(key, _)| key).collect();
    for key in keys.into_iter().filter(|key| !key.is_empty() && !key.contains('.')) {
        problems.add(format!("annotations[{key:?}]"), "is no key like org.example.key");
    }
}

fn reservation(config: &Config, problems: &mut Problems) {
    let resources = config.linux().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    if let Some((Some(limit @ 1..), Some(reservation))) =
        memory.map(|memory| (memory.limit(), memory.reservation()))
        && reservation > limit
    {
        problems.add(
            "linux.resources.memory.reservation",
            format!("{reservation} is more than limit, {limit}, so that it protects nothing"),
        );
    }
}

/// Of a member and a file of `unified` for the same limit the file is written last.
fn unified(config: &Config, problems: &mut Problems) {
    let Some(resources) = config.linux().and_then(|linux| linux.resources().as_ref()) else { return };
    let (memory, cpu) = (resources.memory().as_ref(), resources.cpu().as_ref());
    let typed = [
        ("cpu.max", "cpu.quota", cpu.is_some_and(|cpu| cpu.quota().is_some())),
        ("cpu.weight", "cpu.shares", cpu.is_some_and(|cpu| cpu.shares().is_some())),
        ("memory.low", "memory.reservation", memory.is_some_and(|memory| memory.reservation().is_some())),
        ("memory.max", "memory.limit", memory.is_some_and(|memory| memory.limit().is_some())),
        ("memory.swap.max", "memory.swap", memory.is_some_and(|memory| memory.swap().is_some())),
        ("pids.max", "pids.limit", resources.pids().is_some()),
    ];
    let files = resources.unified().as_ref();
    for (file, member, is_set) in typed {
        if is_set && files.is_some_and(|files| files.contains_key(file)) {
            problems.add(
                format!("linux.resources.unified[{file:?}]"),
                format!("takes the place of linux.resources.{member}"),
            );
        }
    }
}

/// Two rules without conditions that say different things of one call: only one of them can hold. But
/// engines append to what they allow refusals of all that needs a capability which the container lacks.
fn contradiction(config: &Config, problems: &mut Problems) {
    let seccomp = config.linux().and_then(|linux| linux.seccomp().as_ref());
    let rules = seccomp.and_then(|seccomp| seccomp.syscalls().as_deref()).unwrap_or_default();
    let unconditional = |rule: &LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
    let answer = |rule: &LinuxSyscall| (rule.action(), rule.errno_ret());
    let is_engines = |earlier: &LinuxSyscall, later: &LinuxSyscall| {
        earlier.action() == LinuxSeccompAction::ScmpActAllow
            && later.action() == LinuxSeccompAction::ScmpActErrno
    };
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| unconditional(rule)) {
        for name in rule.names() {
            let differs = |earlier: &LinuxSyscall| {
                unconditional(earlier)
                    && answer(earlier) != answer(rule)
                    && !is_engines(earlier, rule)
                    && earlier.names().contains(name)
            };
            if let Some(earlier) = rules[..index].iter().position(differs) {
                let (here, there) = (rule.action(), rules[earlier].action());
                problems.add(
                    format!("linux.seccomp.syscalls[{index}]"),
                    format!("says {here} of {name}, and syscalls[{earlier}] says {there}"),
                );
            }
        }
    }
}

/// config-linux.md#seccomp: without SCMP_ACT_NOTIFY the listener "is ignored".
fn listener(config: &Config, problems: &mut Problems) {
    let Some(seccomp) = config.linux().and_then(|linux| linux.seccomp().as_ref()) else { return };
    let notifies = |rule: &LinuxSyscall| rule.action() == LinuxSeccompAction::ScmpActNotify;
    let is_replaced = annotations::of(config.spec, annotations::SECCOMP_BPF).is_some();
    if seccomp.listener_path().is_some() && !is_replaced && !seccomp.syscalls().iter().flatten().any(notifies)
    {
        problems.add("linux.seccomp.listenerPath", "is ignored: no rule has SCMP_ACT_NOTIFY");
    }
}

fn propagation(config: &Config, problems: &mut Problems) {
    let is_set = config.linux().is_some_and(|linux| linux.rootfs_propagation().is_some());
    if is_set && !config.has_namespace(LinuxNamespaceType::Mount) {
        problems.add("linux.rootfsPropagation", "is ignored without a mount namespace");
    }
}
