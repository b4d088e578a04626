//! CPU and I/O scheduling, CPU affinity, NUMA memory policy.

use libc::c_ulong;
use nix::errno::Errno;
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, Scheduler,
};

use super::Plan;
use crate::error::{Call, Context, Error, Result};
use crate::sys::affinity;
use crate::sys::credentials::{self, SchedAttr};

/// A set of CPUs, one bit each, of any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuMask(Vec<c_ulong>);

/// For set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy {
    mode: i32,
    nodes: Vec<c_ulong>,
}

/// Above any kernel's CPUs (8192 on x86) and NUMA nodes (1024): a larger number is a mistake, and must
/// not make us allocate its mask.
const MAX_BIT: usize = 1 << 16;

/// A list like `0-3,7` as a bit mask (the List Format of cpuset(7)).
fn bits(field: &str, list: &str) -> Result<Vec<c_ulong>> {
    const WORD: usize = c_ulong::BITS as usize;
    let wrong = |what: &str| Error::invalid(format!("{field}: {what} in {list:?}"));
    let mut mask: Vec<c_ulong> = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong("a range that is none"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong("a range that ends before it starts"));
        }
        if last >= MAX_BIT {
            return Err(wrong("a number that no machine has"));
        }
        if mask.len() <= last / WORD {
            mask.resize(last / WORD + 1, 0);
        }
        for bit in first..=last {
            mask[bit / WORD] |= 1 << (bit % WORD);
        }
    }
    Ok(mask)
}

/// One half of `process.execCPUAffinity`.
pub(super) fn cpus(half: &str, list: Option<&str>) -> Result<Option<CpuMask>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    bits(&format!("process.execCPUAffinity.{half}"), list).map(|mask| Some(CpuMask(mask)))
}

impl std::fmt::Display for CpuMask {
    /// One number in hexadecimal, of which CPU 0 is the lowest bit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = self.0.iter().rev().skip_while(|word| **word == 0);
        write!(f, "{:#x}", words.next().unwrap_or(&0))?;
        let digits = c_ulong::BITS as usize / 4;
        words.try_for_each(|word| write!(f, "{word:0digits$x}"))
    }
}

impl CpuMask {
    /// sched_setaffinity(2) of the calling process.
    pub fn apply(&self) -> Result<()> {
        affinity::set(&self.0)
            .call(|| format!("sched_setaffinity({:x?})", self.0))
            .context("set process.execCPUAffinity")
            .map_err(|error| match error.errno() {
                Some(Errno::EINVAL) => error.remedy("none of these CPUs is in the cpuset and online"),
                _ => error,
            })
    }
}

/// `process.scheduler` (sched_setattr(2)).
pub(super) fn scheduler(scheduler: &Scheduler) -> Result<SchedAttr> {
    let wrong = |what: String| Err(Error::invalid(format!("process.scheduler.{what}")));
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return wrong(format!("nice: {nice} is not in -20 … 19"));
    }
    let priority = scheduler.priority().unwrap_or(0);
    let real_time = matches!(policy, LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr);
    if real_time != (1..=99).contains(&priority) {
        return wrong(format!(
            "priority: {priority}; it is 1 … 99 with SCHED_FIFO and SCHED_RR and 0 otherwise"
        ));
    }
    let (runtime, deadline, period) = (
        scheduler.runtime().unwrap_or(0),
        scheduler.deadline().unwrap_or(0),
        scheduler.period().unwrap_or(0),
    );
    if policy != LinuxSchedulerPolicy::SchedDeadline && (runtime, deadline, period) != (0, 0, 0) {
        return wrong("policy: runtime, deadline and period are for SCHED_DEADLINE".into());
    }
    Ok(SchedAttr {
        policy: policy_number(policy),
        flags: scheduler.flags().iter().flatten().fold(0, |flags, &flag| flags | flag_bit(flag)),
        nice,
        priority: priority.unsigned_abs(),
        runtime,
        deadline,
        period,
        ..SchedAttr::default()
    })
}

/// linux/sched.h; 4 is SCHED_ISO's, which no kernel implements: it answers EINVAL.
fn policy_number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

/// `SCHED_FLAG_*` of linux/sched.h.
fn flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// `process.ioPriority` as ioprio_set(2) takes it.
pub(super) fn io_priority(priority: &LinuxIOPriority) -> Result<i32> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match i32::try_from(priority.priority()) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => Err(Error::invalid(format!(
            "process.ioPriority.priority: {} is not in 0 … 7",
            priority.priority()
        ))),
    }
}

/// The modes of set_mempolicy(2) (linux/mempolicy.h).
pub const MEMORY_POLICY_MODES: [(MemoryPolicyModeType, i32); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0),
    (MemoryPolicyModeType::MpolPreferred, 1),
    (MemoryPolicyModeType::MpolBind, 2),
    (MemoryPolicyModeType::MpolInterleave, 3),
    (MemoryPolicyModeType::MpolLocal, 4),
    (MemoryPolicyModeType::MpolPreferredMany, 5),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6),
];

/// The flags that may be added to a mode.
pub const MEMORY_POLICY_FLAGS: [(MemoryPolicyFlagType, i32); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, 1 << 13),
    (MemoryPolicyFlagType::MpolFRelativeNodes, 1 << 14),
    (MemoryPolicyFlagType::MpolFStaticNodes, 1 << 15),
];

fn number<T: PartialEq + std::fmt::Display>(table: &[(T, i32)], name: &T) -> Result<i32> {
    let known = table.iter().find(|(other, _)| other == name);
    known.map(|(_, number)| *number).ok_or_else(|| Error::unsupported(format!("linux.memoryPolicy: {name}")))
}

/// `linux.memoryPolicy` (set_mempolicy(2), linux/mempolicy.h).
pub(super) fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let mode = number(&MEMORY_POLICY_MODES, &policy.mode())?;
    let flags = policy
        .flags()
        .iter()
        .flatten()
        .try_fold(0, |flags, flag| Ok::<_, Error>(flags | number(&MEMORY_POLICY_FLAGS, flag)?))?;
    let nodes = match policy.nodes().as_deref() {
        None | Some("") => Vec::new(),
        Some(list) => bits("linux.memoryPolicy.nodes", list)?,
    };
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

impl Plan {
    /// sched_setattr(2). Before the capabilities are set: real time policies and a smaller nice need
    /// CAP_SYS_NICE.
    pub fn set_scheduler(&self) -> Result<()> {
        self.set_scheduler_of(0)
    }

    /// The same for another process.
    pub fn set_scheduler_of(&self, pid: i32) -> Result<()> {
        let Some(attr) = self.scheduler else {
            return Ok(());
        };
        credentials::sched_setattr(pid, attr)
            .call(|| format!("sched_setattr({attr:?})"))
            .context("set process.scheduler")
            .map_err(|error| {
                needs_nice(error, "CAP_SYS_NICE, and real time on cgroup v1 a cpu.rt_runtime_us,")
            })
    }

    /// Takes a scheduler out that a clone would not inherit: SCHED_DEADLINE, under which there is no clone, and
    /// whatever has SCHED_FLAG_RESET_ON_FORK. In the new plan there is nothing else.
    #[must_use]
    pub fn split_off_scheduler(&mut self) -> Plan {
        const SCHED_DEADLINE: u32 = 6;
        const RESET_ON_FORK: u64 = 1;
        let lost = |attr: &SchedAttr| attr.policy == SCHED_DEADLINE || attr.flags & RESET_ON_FORK != 0;
        Plan { scheduler: self.scheduler.take_if(|attr| lost(attr)), ..Plan::default() }
    }

    /// ioprio_set(2). Before the capabilities are set, for the same reason.
    pub fn set_io_priority(&self) -> Result<()> {
        let Some(value) = self.io_priority else {
            return Ok(());
        };
        credentials::ioprio_set(value)
            .call(|| format!("ioprio_set(class {}, level {})", value >> 13, value & 7))
            .context("set process.ioPriority")
            .map_err(|error| needs_nice(error, "CAP_SYS_NICE or CAP_SYS_ADMIN"))
    }

    /// set_mempolicy(2), which survives execve(2). After the process is in its cgroup, whose cpuset
    /// bounds the nodes.
    pub fn set_memory_policy(&self) -> Result<()> {
        let Some(policy) = &self.memory_policy else {
            return Ok(());
        };
        credentials::set_mempolicy(policy.mode, &policy.nodes)
            .call(|| format!("set_mempolicy({:#x}, nodes {:x?})", policy.mode, policy.nodes))
            .context("set linux.memoryPolicy")
    }
}

fn needs_nice(error: Error, capability: &str) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => error.remedy(format!("it needs {capability} on the host")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_shown_as_one_number() {
        let shown = |list: &str| cpus("initial", Some(list)).unwrap().unwrap().to_string();
        assert_eq!((shown("0-1").as_str(), shown("7").as_str()), ("0x3", "0x80"));
        assert_eq!(shown("0,64"), "0x10000000000000001");
    }

    #[test]
    fn reads_lists_beyond_1024_cpus() {
        assert_eq!(bits("x", "0-3,7").unwrap(), [0b1000_1111]);
        let many = bits("x", "2000").unwrap();
        assert_eq!((many.len(), many[31]), (32, 1 << 16));
        assert!(bits("x", "3-1").unwrap_err().to_string().contains("ends before it starts"));
        assert!(bits("x", "99999999999").is_err());
        assert!(bits("x", "70000").is_err());
        assert!(bits("x", "").is_err());
    }

    fn attr(json: &str) -> Result<SchedAttr> {
        scheduler(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn translates_schedulers() {
        let fifo = attr(r#"{"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RECLAIM"]}"#);
        let fifo = fifo.unwrap();
        assert_eq!((fifo.policy, fifo.priority, fifo.flags), (1, 5, 2));
        let deadline = r#"{"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}"#;
        let deadline = attr(deadline).unwrap();
        assert_eq!((deadline.policy, deadline.runtime, deadline.deadline, deadline.period), (6, 1, 2, 3));
        assert_eq!(attr(r#"{"policy": "SCHED_OTHER", "nice": -5}"#).unwrap().nice, -5);
    }

    #[test]
    fn refuses_schedulers_that_make_no_sense() {
        assert!(attr(r#"{"policy": "SCHED_OTHER", "nice": 20}"#).is_err());
        assert!(attr(r#"{"policy": "SCHED_OTHER", "priority": 1}"#).is_err());
        assert!(attr(r#"{"policy": "SCHED_FIFO"}"#).is_err());
        assert!(attr(r#"{"policy": "SCHED_BATCH", "runtime": 1}"#).is_err());
    }

    #[test]
    fn translates_io_priorities() {
        let io = |json: &str| io_priority(&serde_json::from_str(json).unwrap());
        assert_eq!(io(r#"{"class": "IOPRIO_CLASS_BE", "priority": 4}"#).unwrap(), 2 << 13 | 4);
        assert!(io(r#"{"class": "IOPRIO_CLASS_RT", "priority": 8}"#).is_err());
    }

    #[test]
    fn translates_memory_policies() {
        let json = r#"{"mode": "MPOL_BIND", "nodes": "0,1", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let policy = memory_policy(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(policy, MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![0b11] });
    }
}
