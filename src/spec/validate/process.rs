//! `process`

use std::collections::HashSet;
use std::hash::Hash;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, LinuxSchedulerPolicy};

use super::namespaces::MAX_ID_MAPPINGS;
use super::resources::is_list;
use super::{Config, Problems};

/// The specification needs it for `start` only, but then it is too late to say so.
pub(super) fn required(config: &Config, problems: &mut Problems) {
    if config.process().is_none() {
        problems.add("process", "is required");
    }
}

pub(super) fn cwd(config: &Config, problems: &mut Problems) {
    if let Some(process) = config.process() {
        problems.need_absolute("process.cwd", process.cwd());
    }
}

pub(super) fn terminal(config: &Config, problems: &mut Problems) {
    let Some(process) = config.process() else { return };
    let terminal = process.terminal().unwrap_or_default();
    if terminal && config.options.detached && !config.options.console_socket {
        problems
            .add("process.terminal", "needs --console-socket: nobody is left to relay a detached terminal");
    }
    if config.options.console_socket && !terminal {
        problems.add("process.terminal", "must be true for --console-socket to receive a terminal");
    }
}

/// Ignored without a terminal, as the specification says.
pub(super) fn console_size(config: &Config, problems: &mut Problems) {
    let Some(process) = config.process().filter(|process| process.terminal().unwrap_or_default()) else {
        return;
    };
    let Some(size) = process.console_size() else { return };
    for (name, value) in [("height", size.height()), ("width", size.width())] {
        // struct winsize of ioctl_tty(2) has unsigned short.
        if value > u64::from(u16::MAX) {
            problems
                .add(format!("process.consoleSize.{name}"), format!("must be at most 65535, not {value}"));
        }
    }
}

pub(super) fn args(config: &Config, problems: &mut Problems) {
    let Some(process) = config.process() else { return };
    match process.args().as_deref() {
        None | Some([]) => problems.add("process.args", "must name a command"),
        // With the words by which engines tell a missing command (exit 127).
        Some([command, ..]) if command.is_empty() => {
            problems.add("process.args[0]", "\"\": executable file not found in $PATH");
        }
        Some(_) => {}
    }
}

pub(super) fn env(config: &Config, problems: &mut Problems) {
    let entries = config.process().and_then(|process| process.env().as_deref()).unwrap_or_default();
    for (index, entry) in entries.iter().enumerate() {
        let name = entry.split_once('=').map(|(name, _)| name);
        if name.is_none_or(str::is_empty) {
            problems.add(format!("process.env[{index}]"), format!("must be NAME=VALUE, not {entry:?}"));
        }
    }
}

pub(super) fn rlimits(config: &Config, problems: &mut Problems) {
    let rlimits = config.process().and_then(|process| process.rlimits().as_deref()).unwrap_or_default();
    for (index, rlimit) in rlimits.iter().enumerate() {
        let path = format!("process.rlimits[{index}]");
        if rlimits[..index].iter().any(|earlier| earlier.typ() == rlimit.typ()) {
            problems.add(format!("{path}.type"), format!("{} is there twice", rlimit.typ()));
        }
        if rlimit.soft() > rlimit.hard() {
            problems.add(
                format!("{path}.soft"),
                format!("{} must not be greater than hard, {}", rlimit.soft(), rlimit.hard()),
            );
        }
    }
}

pub(super) fn user(config: &Config, problems: &mut Problems) {
    let Some(user) = config.process().map(|process| process.user()) else { return };
    if let Some(umask) = user.umask()
        && umask > 0o777
    {
        problems.add("process.user.umask", format!("must be at most 0777 (511), not {umask}"));
    }
    // The kernel takes this number for "no change".
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (name, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == u32::MAX {
            problems.add(format!("process.user.{name}"), format!("{id} is no id"));
        }
    }
    for (index, _) in groups.iter().enumerate().filter(|(_, gid)| **gid == u32::MAX) {
        problems.add(format!("process.user.additionalGids[{index}]"), format!("{} is no id", u32::MAX));
    }
    // In a joined user namespace the ids are those that it maps.
    let Some(linux) = config.linux().filter(|_| config.has_new_namespace(LinuxNamespaceType::User)) else {
        return;
    };
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    need_mapped(problems, "process.user.uid", user.uid(), uids);
    need_mapped(problems, "process.user.gid", user.gid(), gids);
    for (index, gid) in groups.iter().enumerate() {
        need_mapped(problems, &format!("process.user.additionalGids[{index}]"), *gid, gids);
    }
}

fn need_mapped(problems: &mut Problems, path: &str, id: u32, mappings: &[LinuxIdMapping]) {
    let is_mapped = mappings.len() > MAX_ID_MAPPINGS
        || mappings.iter().any(|mapping| {
            id.checked_sub(mapping.container_id()).is_some_and(|offset| offset < mapping.size())
        });
    // Mappings that are missing altogether, or too many, are a finding of their own.
    if !mappings.is_empty() && !is_mapped {
        problems.add(path, format!("{id} is not mapped in the user namespace"));
    }
}

/// capset(2) refuses an effective capability that is not permitted. That ambient ones need to be
/// permitted and inheritable is not an error: runc's own template has them without.
pub(super) fn capabilities(config: &Config, problems: &mut Problems) {
    let Some(sets) = config.process().and_then(|process| process.capabilities().as_ref()) else { return };
    for capability in missing_from(sets.permitted(), sets.effective()) {
        problems.add("process.capabilities.effective", format!("CAP_{capability} is not in permitted"));
    }
}

fn missing_from<'a, T: Hash + Eq + ToString>(
    all: &Option<HashSet<T>>,
    some: &'a Option<HashSet<T>>,
) -> Vec<String> {
    let is_missing = |one: &&'a T| !all.as_ref().is_some_and(|all| all.contains(*one));
    let mut names: Vec<String> = some.iter().flatten().filter(is_missing).map(T::to_string).collect();
    names.sort();
    names
}

pub(super) fn oom_score_adj(config: &Config, problems: &mut Problems) {
    if let Some(score) = config.process().and_then(|process| process.oom_score_adj())
        && !(-1000..=1000).contains(&score)
    {
        problems.add("process.oomScoreAdj", format!("must be between -1000 and 1000, not {score}"));
    }
}

pub(super) fn scheduler(config: &Config, problems: &mut Problems) {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};
    let Some(scheduler) = config.process().and_then(|process| process.scheduler().as_ref()) else { return };
    let policy = *scheduler.policy();
    if let Some(nice) = *scheduler.nice()
        && !(-20..=19).contains(&nice)
    {
        problems.add("process.scheduler.nice", format!("must be between -20 and 19, not {nice}"));
    }
    let priority = scheduler.priority().unwrap_or_default();
    match policy {
        SchedFifo | SchedRr if !(1..=99).contains(&priority) => problems.add(
            "process.scheduler.priority",
            format!("must be between 1 and 99 with {policy}, not {priority}"),
        ),
        SchedFifo | SchedRr => {}
        _ if priority != 0 => problems
            .add("process.scheduler.priority", format!("is for SCHED_FIFO and SCHED_RR only, not {policy}")),
        _ => {}
    }
    let times = [
        ("runtime", scheduler.runtime()),
        ("deadline", scheduler.deadline()),
        ("period", scheduler.period()),
    ];
    for (name, time) in times {
        if time.is_some_and(|time| time != 0) && policy != SchedDeadline {
            problems.add(
                format!("process.scheduler.{name}"),
                format!("is for SCHED_DEADLINE only, not {policy}"),
            );
        }
    }
}

/// What the kernel's __checkparam_dl() takes (sched(7)): 1024 ns ≤ runtime ≤ deadline ≤ period.
pub(super) fn deadline(config: &Config, problems: &mut Problems) {
    const MIN_RUNTIME: u64 = 1024;
    let Some(scheduler) = config.process().and_then(|process| process.scheduler().as_ref()) else { return };
    if *scheduler.policy() != LinuxSchedulerPolicy::SchedDeadline {
        return;
    }
    let (runtime, deadline) =
        (scheduler.runtime().unwrap_or_default(), scheduler.deadline().unwrap_or_default());
    if runtime < MIN_RUNTIME {
        problems
            .add("process.scheduler.runtime", format!("must be at least {MIN_RUNTIME} ns, not {runtime}"));
    }
    if deadline < runtime || deadline == 0 {
        problems.add(
            "process.scheduler.deadline",
            format!("must be at least runtime, {runtime}, not {deadline}"),
        );
    }
    if let Some(period @ 1..) = *scheduler.period()
        && period < deadline
    {
        problems
            .add("process.scheduler.period", format!("must be at least deadline, {deadline}, not {period}"));
    }
}

pub(super) fn io_priority(config: &Config, problems: &mut Problems) {
    if let Some(io) = config.process().and_then(|process| process.io_priority().as_ref())
        && !(0..=7).contains(&io.priority())
    {
        problems
            .add("process.ioPriority.priority", format!("must be between 0 and 7, not {}", io.priority()));
    }
}

pub(super) fn cpu_affinity(config: &Config, problems: &mut Problems) {
    let affinity = config.process().and_then(|process| process.exec_cpu_affinity().as_ref());
    let Some(affinity) = affinity else { return };
    for (name, list) in [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())] {
        if let Some(list) = list
            && !is_cpu_list(list)
        {
            let path = format!("process.execCPUAffinity.{name}");
            problems.add(path, format!("must be a list like 0-3,7, not {list:?}"));
        }
    }
}

/// Whether this is a list of `execCPUAffinity`: without the spaces and strides of cpuset(7).
pub(in crate::spec) fn is_cpu_list(list: &str) -> bool {
    list.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-')) && is_list(list)
}
