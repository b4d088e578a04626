//! What a profile means for one architecture: for each system call number either an action or a list
//! of conditions, in the order in which they are tried.
//!
//! The meaning is libseccomp's, because that is what profiles have been written against:
//! - an entry without conditions decides its call alone, and the first of several such;
//! - else the first condition that holds decides, in libseccomp's order (see [`specific_first`]),
//!   and the default if none does;
//! - a rule for a socket or System V IPC call holds for its way through socketcall(2) or ipc(2) too.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};

use super::arch::Architecture;
use super::profile::{Action, Condition, Entry, Operator, Profile};
use super::table::Syscall;

/// The end of the numbers that are system calls; behind it Arm has its private ones, which say
/// nothing about how new a profile is (asm/unistd.h, __ARM_NR_BASE).
const ORDINARY_END: u32 = 0x000f_0000;

/// What is done with one system call number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'p> {
    Return(Action),
    /// Tried in this order; the profile's default if none holds.
    Try(Vec<Rule<'p>>),
}

/// Conditions that hold together, at least one, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule<'p> {
    /// The entry of the profile that says so.
    pub entry: usize,
    pub action: Action,
    pub conditions: Cow<'p, [Condition]>,
}

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Rules<'p> {
    /// By number, each once.
    pub calls: Vec<(u32, Verdict<'p>)>,
    /// The largest number that the profile knows, if unknown calls above it are to get ENOSYS.
    pub newest: Option<u32>,
}

impl<'p> Rules<'p> {
    pub fn of(profile: &'p Profile, arch: Architecture) -> Self {
        let multiplexers = Multiplexers::of(arch);
        let mut numbered = Vec::with_capacity(512);
        let mut newest = None;
        for entry in &profile.entries {
            let redundant = entry.action == profile.default;
            for &call in &entry.calls {
                let number = arch.number(call);
                newest = newest.max(number.filter(|number| *number & !super::arch::X32_BIT < ORDINARY_END));
                if redundant {
                    continue;
                }
                if let Some(number) = number {
                    push(&mut numbered, number, entry, arch);
                }
                if let Some(multiplexers) = &multiplexers {
                    multiplexers.push(&mut numbered, call, entry, profile.default);
                }
            }
        }
        // Stable: rules of one call stay in the profile's order.
        numbered.sort_by_key(|(number, _)| *number);
        let mut calls: Vec<(u32, Verdict<'p>)> = Vec::with_capacity(numbered.len() + 1);
        let newest = newest.filter(|_| profile.answers_enosys);
        if newest.is_some() && matches!(arch, Architecture::S390 | Architecture::S390x) {
            // A number above 255 comes in a register behind svc 0, and stays 0 when the kernel does
            // not know it (arch/s390/kernel/syscall.c); no real call is numbered 0.
            calls.push((0, Verdict::Return(Action::ENOSYS)));
        }
        for (number, rule) in numbered {
            match calls.last_mut() {
                Some((last, verdict)) if *last == number => verdict.add(rule),
                _ => calls.push((number, Verdict::first(rule))),
            }
        }
        for (_, verdict) in &mut calls {
            if let Verdict::Try(rules) = verdict {
                rules.sort_by(specific_first);
            }
        }
        Self { calls, newest }
    }

    /// What is done with a number that no entry names.
    pub fn unnamed(&self, number: u32, default: Action) -> Action {
        if self.newest.is_some_and(|newest| number > newest) { Action::ENOSYS } else { default }
    }
}

impl<'p> Verdict<'p> {
    fn first(rule: Rule<'p>) -> Self {
        if rule.conditions.is_empty() { Self::Return(rule.action) } else { Self::Try(vec![rule]) }
    }

    fn add(&mut self, rule: Rule<'p>) {
        match self {
            Self::Return(_) => {}
            Self::Try(_) if rule.conditions.is_empty() => *self = Self::Return(rule.action),
            Self::Try(rules) => rules.push(rule),
        }
    }
}

/// Adds a rule per alternative of the entry.
fn push<'p>(numbered: &mut Vec<(u32, Rule<'p>)>, number: u32, entry: &'p Entry, arch: Architecture) {
    // The bits of a mask that the architecture's arguments do not have compare nothing, and a mask
    // without any other is no condition at all.
    let width = if arch.is_64bit() { u64::MAX } else { u64::from(u32::MAX) };
    let empty =
        |condition: &Condition| condition.operator == Operator::MaskedEq && condition.mask & width == 0;
    for alternative in &entry.alternatives {
        let conditions: Cow<'p, [Condition]> = if alternative.iter().any(empty) {
            alternative.iter().filter(|condition| !empty(condition)).copied().collect()
        } else {
            Cow::Borrowed(alternative)
        };
        numbered.push((number, Rule { entry: entry.index, action: entry.action, conditions }));
    }
}

/// The order of libseccomp's decision tree: the rule on the higher argument first, equality before
/// upper before lower bounds, the narrower bound before the wider. For rules on one argument it is
/// the more specific one first. Where conditions are the same libseccomp refuses the profile; here
/// the stricter action wins.
fn specific_first(a: &Rule<'_>, b: &Rule<'_>) -> Ordering {
    for (a, b) in a.conditions.iter().zip(b.conditions.iter()) {
        let order = Reverse(place(a)).cmp(&Reverse(place(b)));
        if order.is_ne() {
            return order;
        }
    }
    Reverse(a.conditions.len())
        .cmp(&Reverse(b.conditions.len()))
        .then(a.action.severity().cmp(&b.action.severity()))
}

/// Larger is earlier.
fn place(condition: &Condition) -> (u8, u8, u64, u64) {
    let (class, value) = match condition.operator {
        Operator::Eq | Operator::Ne | Operator::MaskedEq => (3, condition.value),
        Operator::Le | Operator::Lt => (2, !condition.value),
        Operator::Ge | Operator::Gt => (1, condition.value),
    };
    (condition.argument, class, value, condition.mask)
}

/// socketcall(2) and ipc(2) of the architectures that have them: one number for a family of calls,
/// told apart by the first argument, their real arguments behind a pointer.
struct Multiplexers {
    socketcall: u32,
    ipc: u32,
}

impl Multiplexers {
    fn of(arch: Architecture) -> Option<Self> {
        let number = |name| Syscall::named(name).and_then(|call| arch.number(call));
        Some(Self { socketcall: number("socketcall")?, ipc: number("ipc")? })
    }

    /// The entry's rule for a call's way through its multiplexer.
    ///
    /// Conditions cannot be looked at there. So a condition that makes the profile stricter is taken
    /// to hold, and one that makes it milder is taken not to.
    fn push<'p>(&self, numbered: &mut Vec<(u32, Rule<'p>)>, call: Syscall, entry: &Entry, default: Action) {
        let Some((number, which, mask)) = self.way(call) else { return };
        let unconditional = entry.alternatives.iter().any(Vec::is_empty);
        if !unconditional && entry.action.severity() >= default.severity() {
            return;
        }
        let way = Condition { argument: 0, operator: Operator::MaskedEq, value: which, mask };
        let conditions = Cow::Owned(vec![way]);
        numbered.push((number, Rule { entry: entry.index, action: entry.action, conditions }));
    }

    /// The multiplexer's number, the value of its first argument and the bits of that which count.
    fn way(&self, call: Syscall) -> Option<(u32, u64, u64)> {
        // linux/net.h, SYS_*, and linux/ipc.h.
        let (ipc, which) = match call.name() {
            "socket" => (false, 1),
            "bind" => (false, 2),
            "connect" => (false, 3),
            "listen" => (false, 4),
            "accept" => (false, 5),
            "getsockname" => (false, 6),
            "getpeername" => (false, 7),
            "socketpair" => (false, 8),
            "send" => (false, 9),
            "recv" => (false, 10),
            "sendto" => (false, 11),
            "recvfrom" => (false, 12),
            "shutdown" => (false, 13),
            "setsockopt" => (false, 14),
            "getsockopt" => (false, 15),
            "sendmsg" => (false, 16),
            "recvmsg" => (false, 17),
            "accept4" => (false, 18),
            "recvmmsg" => (false, 19),
            "sendmmsg" => (false, 20),
            "semop" => (true, 1),
            "semget" => (true, 2),
            "semctl" => (true, 3),
            "semtimedop" => (true, 4),
            "msgsnd" => (true, 11),
            "msgrcv" => (true, 12),
            "msgget" => (true, 13),
            "msgctl" => (true, 14),
            "shmat" => (true, 21),
            "shmdt" => (true, 22),
            "shmget" => (true, 23),
            "shmctl" => (true, 24),
            _ => return None,
        };
        if ipc {
            // The upper half of ipc's first argument is a version (ipc/syscall.c).
            Some((self.ipc, which, 0xffff))
        } else {
            Some((self.socketcall, which, u64::from(u32::MAX)))
        }
    }
}
