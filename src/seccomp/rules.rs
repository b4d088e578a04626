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
use std::ops::Range;

use super::arch::{Architecture, X32_BIT};
use super::profile::{Action, Condition, Entry, Operator, Profile};
use super::table::Syscall;

/// The end of the numbers that are system calls; behind it Arm has its private ones, which say
/// nothing about how new a profile is (asm/unistd.h, __ARM_NR_BASE).
const ORDINARY_END: u32 = 0x000f_0000;

/// What is done with one system call number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict<'r> {
    Return(Action),
    /// Tried in this order; the profile's default if none holds.
    Try(&'r [Rule<'r>]),
}

/// Conditions that hold together, and what is done then.
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
    /// By number, each once: where its rules are in `rules`. One without conditions is alone.
    calls: Vec<(u32, Range<usize>)>,
    rules: Vec<Rule<'p>>,
    /// The largest number that the profile knows, if unknown calls above it are to get ENOSYS.
    pub newest: Option<u32>,
    /// On s390 a number above 255 comes in a register behind svc 0, and stays 0 when the kernel does
    /// not know it (arch/s390/kernel/syscall.c); no real call is numbered 0.
    zero_is_unknown: bool,
}

impl<'p> Rules<'p> {
    pub fn of(profile: &'p Profile, arch: Architecture) -> Self {
        let mut collected = Collected::new(arch);
        for entry in &profile.entries {
            collected.add(entry, profile.default);
        }
        let newest = collected.newest.filter(|_| profile.answers_enosys);
        let Collected { mut numbered, rules: collected, .. } = collected;
        // Rules of one call stay in the profile's order.
        numbered.sort_unstable();
        let mut calls = Vec::with_capacity(numbered.len());
        let mut rules = Vec::with_capacity(collected.len());
        for same in numbered.chunk_by(|a, b| a.0 == b.0) {
            let start = rules.len();
            let of_call = || same.iter().map(|(_, rule)| &collected[*rule]);
            if let Some(rule) = of_call().find(|rule| rule.conditions.is_empty()) {
                rules.push(rule.clone());
            } else {
                rules.extend(of_call().cloned());
                rules[start..].sort_by(|a, b| specific_first(a, b, width(arch)));
            }
            calls.push((same[0].0, start..rules.len()));
        }
        let zero_is_unknown = matches!(arch, Architecture::S390 | Architecture::S390x);
        Self { calls, rules, newest, zero_is_unknown }
    }

    /// The numbers that the profile decides, ascending.
    pub fn calls(&self) -> impl Iterator<Item = (u32, Verdict<'_>)> {
        self.calls.iter().map(|(number, range)| {
            let verdict = match &self.rules[range.clone()] {
                [rule] if rule.conditions.is_empty() => Verdict::Return(rule.action),
                rules => Verdict::Try(rules),
            };
            (*number, verdict)
        })
    }

    /// The rules that are tried for a number, in their order; `None` if no entry names it.
    pub fn of_number(&self, number: u32) -> Option<&[Rule<'p>]> {
        let place = self.calls.binary_search_by_key(&number, |call| call.0).ok()?;
        Some(&self.rules[self.calls[place].1.clone()])
    }

    /// Whether a number that no entry names stands for a call that the profile's author cannot have
    /// known.
    pub fn is_newer(&self, number: u32) -> bool {
        self.newest.is_some_and(|newest| number > newest || self.zero_is_unknown && number == 0)
    }
}

/// The rules of an architecture as they come in.
struct Collected<'p> {
    arch: Architecture,
    multiplexers: Option<Multiplexers>,
    /// Numbers with the place of a rule in `rules`, which many share.
    numbered: Vec<(u32, usize)>,
    rules: Vec<Rule<'p>>,
    newest: Option<u32>,
}

impl<'p> Collected<'p> {
    fn new(arch: Architecture) -> Self {
        let multiplexers = Multiplexers::of(arch);
        Self { arch, multiplexers, numbered: Vec::with_capacity(512), rules: Vec::new(), newest: None }
    }

    fn add(&mut self, entry: &'p Entry, default: Action) {
        let redundant = entry.action == default;
        let start = self.rules.len();
        if !redundant {
            self.rules.extend(entry.alternatives.iter().map(|conditions| Rule {
                entry: entry.index,
                action: entry.action,
                conditions: comparing(conditions, self.arch),
            }));
        }
        let own = start..self.rules.len();
        for &call in &entry.calls {
            let number = self.arch.number(call);
            self.newest = self.newest.max(number.filter(|number| number & !X32_BIT < ORDINARY_END));
            if let Some(number) = number {
                self.numbered.extend(own.clone().map(|rule| (number, rule)));
            }
            if let Some(multiplexers) = &self.multiplexers
                && !redundant
                && let Some((number, condition)) = multiplexers.way(call, entry, default)
            {
                self.numbered.push((number, self.rules.len()));
                let conditions = Cow::Owned(vec![condition]);
                self.rules.push(Rule { entry: entry.index, action: entry.action, conditions });
            }
        }
    }
}

/// The bits of an argument that count.
fn width(arch: Architecture) -> u64 {
    if arch.is_64bit() { u64::MAX } else { u64::from(u32::MAX) }
}

/// The conditions that compare anything: the bits of a mask that the architecture's arguments do not
/// have compare nothing, and a mask without any other is no condition at all.
fn comparing(conditions: &[Condition], arch: Architecture) -> Cow<'_, [Condition]> {
    let compares =
        |condition: &Condition| condition.operator != Operator::MaskedEq || condition.mask & width(arch) != 0;
    if conditions.iter().all(compares) {
        Cow::Borrowed(conditions)
    } else {
        conditions.iter().filter(|condition| compares(condition)).copied().collect()
    }
}

/// The order of libseccomp's decision tree: the rule on the higher argument first, equality before
/// upper before lower bounds, the narrower bound before the wider. For rules on one argument it is
/// the more specific one first. Where conditions are the same libseccomp refuses the profile; here
/// the stricter action wins.
fn specific_first(a: &Rule<'_>, b: &Rule<'_>, width: u64) -> Ordering {
    for (a, b) in a.conditions.iter().zip(b.conditions.iter()) {
        let order = Reverse(place(a, width)).cmp(&Reverse(place(b, width)));
        if order.is_ne() {
            return order;
        }
    }
    Reverse(a.conditions.len())
        .cmp(&Reverse(b.conditions.len()))
        .then(a.action.severity().cmp(&b.action.severity()))
}

/// Larger is earlier.
fn place(condition: &Condition, width: u64) -> (u8, u8, u64, u64) {
    let value = condition.value & width;
    let (class, value) = match condition.operator {
        Operator::Eq | Operator::Ne | Operator::MaskedEq => (3, value),
        Operator::Le | Operator::Lt => (2, !value),
        Operator::Ge | Operator::Gt => (1, value),
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

    /// The multiplexer of a call and the condition under which it is that call, if the entry's rule is
    /// to hold there too.
    ///
    /// The entry's own conditions cannot be looked at there. So one that makes the profile stricter is
    /// taken to hold, and one that makes it milder is taken not to.
    fn way(&self, call: Syscall, entry: &Entry, default: Action) -> Option<(u32, Condition)> {
        let (number, value, mask) = self.place(call)?;
        let unconditional = entry.alternatives.iter().any(Vec::is_empty);
        let holds = unconditional || entry.action.severity() < default.severity();
        holds.then_some((number, Condition { argument: 0, operator: Operator::MaskedEq, value, mask }))
    }

    /// The multiplexer's number, the value of its first argument and the bits of that which count.
    fn place(&self, call: Syscall) -> Option<(u32, u64, u64)> {
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
