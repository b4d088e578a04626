//! Rules to classic BPF.
//!
//! ```text
//! load the architecture    = x86_64 → its section, = x86 → its section, else kill
//! section:                 load the number, binary search over spans of numbers
//! span:                    compare with its few exceptions, else what holds for all others
//! leaf:                    return the action, or try the conditions on the arguments first
//! ```
//!
//! x86_64 and x32 have the same token and one section: the x32 bit puts their numbers into different
//! ranges.
//!
//! The kernel pays for a filter when it is loaded, which every start of a container waits for: it
//! compiles each instruction, and asks the program about every number that it has, so that what is always
//! allowed is answered without the filter later (Linux 5.11, seccomp_cache_prepare). So the program is
//! short, and the search has the shortest way to where most numbers are. It may use no more than loads of
//! number and architecture, AND and the jumps before it returns ALLOW: the kernel takes anything else for a
//! look at the arguments.

use super::arch::{Architecture, X32_BIT};
use super::assemble::{Assembler, Label, code};
use super::profile::{Action, Condition, Operator, Profile};
use super::rules::{Rule, Rules, Verdict};
use crate::error::{Error, Result};
use crate::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

/// Offsets in struct seccomp_data (linux/seccomp.h).
pub(super) const NUMBER: u32 = 0;
pub(super) const TOKEN: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// What a call of an architecture that the profile does not list gets, as libseccomp's default for
/// SCMP_FLTATR_ACT_BADARCH has it and runc leaves it.
pub(super) const BAD_ARCHITECTURE: Action = Action::KILL_THREAD;

/// The number that a tracer gives a call to have it skipped.
pub(super) const SKIPPED: u32 = u32::MAX;

/// Numbers from `start` up to the next range's.
struct Range<'r> {
    start: u32,
    verdict: Verdict<'r>,
}

impl Profile {
    /// The program for all architectures of the profile, at most [`MAX_INSTRUCTIONS`] long; an error
    /// of kind `Invalid` if it would be longer.
    pub fn compile(&self) -> Result<Vec<Instruction>> {
        program(self)
    }
}

fn program(profile: &Profile) -> Result<Vec<Instruction>> {
    let mut assembler = Assembler::new();
    let mut sections = Vec::new();
    // The last comparison is written first, so the native architecture's is reached first.
    for &arch in profile.architectures.iter().rev() {
        let arch = match arch {
            Architecture::X32 if profile.architectures.contains(&Architecture::X86_64) => continue,
            Architecture::X32 => Architecture::X86_64,
            other => other,
        };
        sections.push((arch.token(), section(profile, arch, &mut assembler)));
    }
    let mut next = assembler.ret(BAD_ARCHITECTURE);
    for (token, section) in sections {
        next = assembler.branch(code::JUMP_EQUAL, token, section, next);
    }
    assembler.then(code::LOAD, TOKEN, next);
    let program = assembler.finish();
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(format!(
            "seccomp: the profile takes {} BPF instructions, the kernel's limit is {MAX_INSTRUCTIONS}",
            program.len()
        ))
        .remedy("use fewer conditions on arguments or list fewer architectures"));
    }
    Ok(program)
}

/// The part for the calls of one architecture, x32's included in x86_64's.
fn section(profile: &Profile, arch: Architecture, assembler: &mut Assembler) -> Label {
    let rules = |arch| profile.architectures.contains(&arch).then(|| Rules::of(profile, arch));
    let own = rules(arch);
    let x32 = if arch == Architecture::X86_64 { rules(Architecture::X32) } else { None };
    let mut ranges = Ranges::default();
    match &own {
        Some(own) => ranges.fill(0, own, profile.default),
        None => ranges.push(0, Verdict::Return(BAD_ARCHITECTURE)),
    }
    if arch == Architecture::X86_64 {
        match &x32 {
            Some(x32) => ranges.fill(X32_BIT, x32, profile.default),
            None => {
                ranges.push(X32_BIT, Verdict::Return(BAD_ARCHITECTURE));
                // The x32 bit is set in it by accident.
                ranges.push(SKIPPED, Verdict::Return(profile.default));
            }
        }
    }
    let spans = ranges.spans();
    let tree = Tree { arch, default: profile.default, spans: &spans }.search(0..spans.len(), assembler);
    assembler.then(code::LOAD, NUMBER, tree)
}

#[derive(Default)]
struct Ranges<'r>(Vec<Range<'r>>);

impl<'r> Ranges<'r> {
    /// Begins a range; one that equals the last only lengthens it.
    fn push(&mut self, start: u32, verdict: Verdict<'r>) {
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Range { start, verdict });
        }
    }

    /// All numbers from `start` on, by the rules of one architecture.
    fn fill(&mut self, start: u32, rules: &'r Rules<'r>, default: Action) {
        let mut next = start;
        if next == 0 && rules.is_newer(next) {
            self.push(next, Verdict::Return(Action::ENOSYS));
            next += 1;
        }
        for (number, verdict) in rules.calls() {
            if next < number {
                self.unnamed(next, Some(number), rules, default);
            }
            self.push(number, verdict);
            next = number.saturating_add(1);
        }
        self.unnamed(next, None, rules, default);
    }

    /// The ranges in as few spans as they go into.
    fn spans(&self) -> Vec<Span<'_, 'r>> {
        let mut spans = Vec::with_capacity(self.0.len());
        let mut left = &*self.0;
        while let Some((first, others)) = left.split_first() {
            let is_exception = |pair: &[Range<'_>]| {
                matches!(pair, [exception, next]
                    if exception.start + 1 == next.start && next.verdict == first.verdict)
            };
            let exceptions =
                others.chunks(2).take_while(|pair| is_exception(pair)).take(MAX_EXCEPTIONS).count();
            let (span, behind) = left.split_at(1 + 2 * exceptions);
            spans.push(Span(span));
            left = behind;
        }
        spans
    }

    /// The numbers from `start` to before `end` that no entry names: the default for those that the
    /// profile's author could have named, ENOSYS behind.
    fn unnamed(&mut self, start: u32, end: Option<u32>, rules: &Rules<'_>, default: Action) {
        let first = if rules.is_newer(start) { Action::ENOSYS } else { default };
        self.push(start, Verdict::Return(first));
        if let Some(unknown) = rules.newest.map(|newest| newest.saturating_add(1))
            && start < unknown
            && end.is_none_or(|end| unknown < end)
        {
            self.push(unknown, Verdict::Return(Action::ENOSYS));
        }
    }
}

/// Ranges of which the first, the third and so on have the same verdict, and the second, the fourth and
/// so on hold one number each: the exceptions. Comparing with an exception takes one instruction, while
/// telling both its sides from it would take two.
struct Span<'s, 'r>(&'s [Range<'r>]);

/// More exceptions than this are as many comparisons in a row for a number that is none of them.
const MAX_EXCEPTIONS: usize = 3;

impl Span<'_, '_> {
    fn start(&self) -> u32 {
        self.0.first().map_or(0, |range| range.start)
    }
}

/// A binary search over spans.
struct Tree<'s, 'r> {
    arch: Architecture,
    default: Action,
    spans: &'s [Span<'s, 'r>],
}

impl Tree<'_, '_> {
    /// Finds the span of the number in the accumulator among some of the spans.
    fn search(&self, spans: std::ops::Range<usize>, assembler: &mut Assembler) -> Label {
        if spans.len() <= 1 {
            return match self.spans.get(spans.start) {
                Some(span) => self.decide(span, assembler),
                None => assembler.ret(self.default),
            };
        }
        let middle = self.middle(&spans);
        let above = self.search(middle..spans.end, assembler);
        let below = self.search(spans.start..middle, assembler);
        assembler.branch(code::JUMP_GREATER_EQUAL, self.spans[middle].start(), above, below)
    }

    /// The span at which the search goes on in two halves of about the same weight.
    fn middle(&self, spans: &std::ops::Range<usize>) -> usize {
        let ends = self.weight_before(spans.start) + self.weight_before(spans.end);
        (spans.start + 1..spans.end)
            .min_by_key(|middle| (2 * self.weight_before(*middle)).abs_diff(ends))
            .unwrap_or(spans.start + 1)
    }

    /// Each number that there may be a call of weighs one, and each span one more.
    fn weight_before(&self, span: usize) -> usize {
        /// A little above the largest number of a call (linux/unistd.h). Behind it are x32's and Arm's,
        /// and the many that mean nothing.
        const NUMBERS: usize = 512;
        let start = self.spans.get(span).and_then(|span| usize::try_from(span.start()).ok());
        span + start.map_or(NUMBERS, |start| start.min(NUMBERS))
    }

    /// Tells the exceptions of a span from the others.
    fn decide(&self, span: &Span<'_, '_>, assembler: &mut Assembler) -> Label {
        let Some((first, others)) = span.0.split_first() else { return assembler.ret(self.default) };
        let usual = self.leaf(first, assembler);
        others.iter().step_by(2).rev().fold(usual, |next, exception| {
            let verdict = self.leaf(exception, assembler);
            assembler.branch(code::JUMP_EQUAL, exception.start, verdict, next)
        })
    }

    fn leaf(&self, range: &Range<'_>, assembler: &mut Assembler) -> Label {
        let is_x32 = self.arch == Architecture::X86_64 && range.start & X32_BIT != 0;
        match range.verdict {
            Verdict::Return(action) => assembler.ret(action),
            Verdict::Try(rules) => {
                let arch = if is_x32 { Architecture::X32 } else { self.arch };
                attempts(rules, self.default, arch, assembler)
            }
        }
    }
}

/// Tries rules in their order, then returns the default.
fn attempts(rules: &[Rule<'_>], default: Action, arch: Architecture, assembler: &mut Assembler) -> Label {
    let mut otherwise = assembler.ret(default);
    let mut left = rules;
    while let [.., last] = left {
        let group = left.iter().rev().take_while(|rule| is_choice(rule, last, arch)).count();
        let (before, together) = left.split_at(left.len() - group.max(1));
        otherwise = match together {
            [rule] => attempt(rule, otherwise, arch, assembler),
            rules => choice(rules, otherwise, arch, assembler),
        };
        left = before;
    }
    otherwise
}

/// One rule: all its conditions.
fn attempt(rule: &Rule<'_>, otherwise: Label, arch: Architecture, assembler: &mut Assembler) -> Label {
    let action = assembler.ret(rule.action);
    rule.conditions
        .iter()
        .rev()
        .fold(action, |then, condition| test(condition, then, otherwise, arch, assembler))
}

/// Whether two rules each compare nothing but the low word of the same argument with a value.
fn is_choice(a: &Rule<'_>, b: &Rule<'_>, arch: Architecture) -> bool {
    match (&*a.conditions, &*b.conditions) {
        ([a], [b]) => {
            let [high_a, high_b] = [a, b].map(|condition| condition.value >> 32);
            a.operator == Operator::Eq
                && b.operator == Operator::Eq
                && a.argument == b.argument
                && (high_a == high_b || !arch.is_64bit())
        }
        _ => false,
    }
}

/// Rules of which [`is_choice`] holds: the argument is loaded once for all. Docker's profile lists the
/// allowed values of personality(2) like this.
fn choice(rules: &[Rule<'_>], otherwise: Label, arch: Architecture, assembler: &mut Assembler) -> Label {
    let Some(words) = rules.first().map(|rule| Words::of(&rule.conditions[0], arch)) else {
        return otherwise;
    };
    let mut chosen = otherwise;
    for rule in rules.iter().rev() {
        let action = assembler.ret(rule.action);
        chosen = assembler.branch(code::JUMP_EQUAL, half(rule.conditions[0].value, 0), action, chosen);
    }
    chosen = assembler.then(code::LOAD, words.low.offset, chosen);
    words.high.as_ref().map_or(chosen, |high| equal_word(high, chosen, otherwise, assembler))
}

/// One condition on one argument.
fn test(
    condition: &Condition,
    yes: Label,
    no: Label,
    arch: Architecture,
    assembler: &mut Assembler,
) -> Label {
    let words = Words::of(condition, arch);
    match condition.operator {
        Operator::Eq | Operator::MaskedEq => equal(&words, yes, no, assembler),
        Operator::Ne => equal(&words, no, yes, assembler),
        Operator::Gt => above(&words, code::JUMP_GREATER, yes, no, assembler),
        Operator::Ge => above(&words, code::JUMP_GREATER_EQUAL, yes, no, assembler),
        Operator::Lt => above(&words, code::JUMP_GREATER_EQUAL, no, yes, assembler),
        Operator::Le => above(&words, code::JUMP_GREATER, no, yes, assembler),
    }
}

/// The 32-bit words of a condition's argument: BPF compares no more at a time.
struct Words {
    low: Word,
    /// `None` on an architecture whose arguments have 32 bits.
    high: Option<Word>,
}

struct Word {
    offset: u32,
    value: u32,
    mask: u32,
}

impl Words {
    fn of(condition: &Condition, arch: Architecture) -> Self {
        let offset = ARGUMENTS + 8 * u32::from(condition.argument);
        let (low, high) = if arch.is_little_endian() { (0, 4) } else { (4, 0) };
        let word = |offset, shift| Word {
            offset,
            value: half(condition.value, shift),
            mask: half(condition.mask, shift),
        };
        Self { low: word(offset + low, 0), high: arch.is_64bit().then(|| word(offset + high, 32)) }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a half is what is wanted")]
fn half(value: u64, shift: u32) -> u32 {
    (value >> shift) as u32
}

/// `argument & mask == value`
fn equal(words: &Words, yes: Label, no: Label, assembler: &mut Assembler) -> Label {
    let low = equal_word(&words.low, yes, no, assembler);
    words.high.as_ref().map_or(low, |high| equal_word(high, low, no, assembler))
}

fn equal_word(word: &Word, yes: Label, no: Label, assembler: &mut Assembler) -> Label {
    let compared = match (word.mask, word.value) {
        (0, _) => return yes,
        (u32::MAX, value) => assembler.branch(code::JUMP_EQUAL, value, yes, no),
        (mask, 0) => assembler.branch(code::JUMP_SET, mask, no, yes),
        (mask, value) => {
            let compared = assembler.branch(code::JUMP_EQUAL, value, yes, no);
            assembler.then(code::AND, mask, compared)
        }
    };
    assembler.then(code::LOAD, word.offset, compared)
}

/// `argument > value` or `>=`: the high words decide unless they are equal.
fn above(words: &Words, comparison: u16, yes: Label, no: Label, assembler: &mut Assembler) -> Label {
    let low = assembler.branch(comparison, words.low.value, yes, no);
    let low = assembler.then(code::LOAD, words.low.offset, low);
    let Some(high) = &words.high else { return low };
    let tie = assembler.branch(code::JUMP_EQUAL, high.value, low, no);
    let above = assembler.branch(code::JUMP_GREATER, high.value, yes, tie);
    assembler.then(code::LOAD, high.offset, above)
}
