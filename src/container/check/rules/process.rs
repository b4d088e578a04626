//! Rights and kernel features that the process needs.

use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerPolicy, MemoryPolicyModeType};

use super::super::host::{Range, ranges};
use super::{Case, Problems, capability};

pub(super) fn rlimits(case: &Case, problems: &mut Problems) {
    let limits = case.plans.security.rlimits.iter().enumerate();
    for (index, limit) in limits {
        let path = format!("process.rlimits[{index}].hard");
        let own = case.host.hard_limits.get(&limit.resource).copied().unwrap_or(u64::MAX);
        if limit.resource == libc::RLIMIT_NOFILE && limit.hard > case.host.nr_open {
            let message = format!("{} is above /proc/sys/fs/nr_open, {}", limit.hard, case.host.nr_open);
            problems.add_with_remedy(path, message, "ask for less, or raise it");
        } else if limit.hard > own && !case.host.can(capability::SYS_RESOURCE) {
            let message = format!("{} is above the caller's own hard limit, {own}", limit.hard);
            problems.add_with_remedy(path, message, "raising it needs CAP_SYS_RESOURCE");
        }
    }
}

/// A score that was raised without the right may be lowered again to where it was; below 0 it was by a right.
pub(super) fn oom_score(case: &Case, problems: &mut Problems) {
    let own = case.host.oom_score_adj;
    if let Some(score) = case.plans.security.oom_score_adj
        && score < own.min(0)
        && !case.host.can(capability::SYS_RESOURCE)
    {
        problems.add("process.oomScoreAdj", format!("the caller may not lower it from {own} to {score}"));
    }
}

pub(super) fn scheduler_rights(case: &Case, problems: &mut Problems) {
    use LinuxSchedulerPolicy::{SchedDeadline, SchedFifo, SchedRr};
    let process = case.spec.process().as_ref();
    let Some(scheduler) = process.and_then(|process| process.scheduler().as_ref()) else { return };
    if case.host.can(capability::SYS_NICE) {
        return;
    }
    let policy = *scheduler.policy();
    if matches!(policy, SchedDeadline | SchedFifo | SchedRr) {
        problems.add("process.scheduler.policy", format!("the caller may not ask for {policy}"));
    } else if scheduler.nice().is_some_and(|nice| nice < 0) {
        problems.add("process.scheduler.nice", "the caller may not ask for less than 0");
    }
}

pub(super) fn scheduler_kernel(case: &Case, problems: &mut Problems) {
    let process = case.spec.process().as_ref();
    let scheduler = process.and_then(|process| process.scheduler().as_ref());
    if scheduler.is_some_and(|scheduler| *scheduler.policy() == LinuxSchedulerPolicy::SchedIso) {
        problems.add("process.scheduler.policy", "no kernel implements SCHED_ISO");
    }
}

/// sched(7): a process of a cgroup without a budget gets no policy of real time.
pub(super) fn scheduler_budget(case: &Case, problems: &mut Problems) {
    use LinuxSchedulerPolicy::{SchedFifo, SchedRr};
    let process = case.spec.process().as_ref();
    let scheduler = process.and_then(|process| process.scheduler().as_ref());
    let is_realtime = scheduler.is_some_and(|scheduler| matches!(scheduler.policy(), SchedFifo | SchedRr));
    let cpu = case.resources().and_then(|resources| resources.cpu().as_ref());
    let has_budget = cpu.and_then(|cpu| cpu.realtime_runtime()).is_some_and(|runtime| runtime > 0);
    if is_realtime && !has_budget && case.host.realtime_budgets {
        problems.add("process.scheduler", "a new cgroup has no real time to give on this host");
    }
}

pub(super) fn io_priority(case: &Case, problems: &mut Problems) {
    let process = case.spec.process().as_ref();
    let Some(io) = process.and_then(|process| process.io_priority().as_ref()) else { return };
    let may = case.host.can(capability::SYS_NICE) || case.host.can(capability::SYS_ADMIN);
    if matches!(io.class(), IOPriorityClass::IoprioClassRt) && !may {
        problems.add("process.ioPriority.class", "the caller may not ask for IOPRIO_CLASS_RT");
    }
}

pub(super) fn apparmor(case: &Case, problems: &mut Problems) {
    let profile = case.plans.security.apparmor_profile.as_deref().filter(|profile| *profile != "unconfined");
    if let (Some(profile), Some(loaded)) = (profile, &case.host.profiles)
        && !profile.split("//&").all(|one| loaded.contains(one))
    {
        problems.add("process.apparmorProfile", format!("no profile {profile:?} is loaded"));
    }
}

/// set_mempolicy(2): EINVAL when none of the nodes has memory.
pub(super) fn memory_nodes(case: &Case, problems: &mut Problems) {
    let Some(policy) = case.linux().and_then(|linux| linux.memory_policy().as_ref()) else { return };
    let nodes = ranges(policy.nodes().as_deref().unwrap_or_default());
    let has_memory = |range: &Range| case.host.nodes.iter().any(|own| own.0 <= range.1 && range.0 <= own.1);
    if case.host.nodes.is_empty() {
        problems.add_with_remedy("linux.memoryPolicy", "this kernel knows no NUMA nodes", "leave it out");
    } else if !nodes.is_empty() && !nodes.iter().any(has_memory) {
        problems.add_with_remedy(
            "linux.memoryPolicy.nodes",
            "none of them has memory",
            "/sys/devices/system/node/has_memory has all",
        );
    }
}

pub(super) fn memory_policy(case: &Case, problems: &mut Problems) {
    use MemoryPolicyModeType::{MpolPreferredMany, MpolWeightedInterleave};
    let Some(policy) = case.linux().and_then(|linux| linux.memory_policy().as_ref()) else { return };
    let since = match policy.mode() {
        MpolPreferredMany => (5, 15),
        MpolWeightedInterleave => (6, 9),
        _ => return,
    };
    if case.host.kernel < since {
        let (major, minor) = since;
        problems.add("linux.memoryPolicy.mode", format!("{} needs Linux {major}.{minor}", policy.mode()));
    }
}
