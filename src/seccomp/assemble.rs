//! An assembler of classic BPF that works from the last instruction to the first.
//!
//! Jumps only lead forwards, so every target is there before the jump to it: no labels to patch, and
//! a jump that is too far for its eight bits (conditional ones skip at most 255 instructions) gets a
//! step in between at once.

use super::profile::Action;
use crate::sys::seccomp::Instruction;

/// Codes of the instructions in use (linux/bpf_common.h); A is the accumulator.
pub(super) mod code {
    /// `A = *(u32 *)(seccomp_data + k)`
    pub const LOAD: u16 = 0x20;
    /// `A &= k`
    pub const AND: u16 = 0x54;
    /// `goto pc + k`
    pub const JUMP: u16 = 0x05;
    /// `A == k`
    pub const JUMP_EQUAL: u16 = 0x15;
    /// `A > k`
    pub const JUMP_GREATER: u16 = 0x25;
    /// `A >= k`
    pub const JUMP_GREATER_EQUAL: u16 = 0x35;
    /// `A & k`
    pub const JUMP_SET: u16 = 0x45;
    /// `return k`
    pub const RETURN: u16 = 0x06;
}

/// An instruction that has been written: its place counted from the program's end, the last is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// Where each action is returned, to share the instruction while it is near enough.
    returns: Vec<(Action, Label)>,
}

const FAR: usize = 255;

impl Assembler {
    pub fn new() -> Self {
        Self { reversed: Vec::with_capacity(512), returns: Vec::with_capacity(8) }
    }

    /// The program, and nothing more can be added.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// How many instructions a jump written now would skip to get there.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to.0
    }

    /// A place that returns the action.
    pub fn ret(&mut self, action: Action) -> Label {
        let known = self.returns.iter().position(|known| known.0 == action);
        if let Some(place) = known
            && self.distance(self.returns[place].1) <= FAR
        {
            return self.returns[place].1;
        }
        let label = self.push(code::RETURN, 0, 0, action.0);
        match known {
            Some(place) => self.returns[place].1 = label,
            None => self.returns.push((action, label)),
        }
        label
    }

    /// An instruction that only works on the accumulator, and then `next`.
    pub fn then(&mut self, code: u16, k: u32, next: Label) -> Label {
        self.reach(next, 0);
        self.push(code, 0, 0, k)
    }

    /// A comparison of the accumulator with `k`.
    pub fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // A step for one target puts the other one instruction further away.
        let yes = self.reach(yes, FAR - 1);
        let no = self.reach(no, FAR);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        match (u8::try_from(jt), u8::try_from(jf)) {
            (Ok(jt), Ok(jf)) => self.push(code, jt, jf, k),
            _ => unreachable!("reach() leaves both targets within {FAR}"),
        }
    }

    /// A place at most `limit` instructions away that leads to the target.
    fn reach(&mut self, target: Label, limit: usize) -> Label {
        let distance = self.distance(target);
        if distance <= limit {
            return target;
        }
        // A program is far below 2^32 instructions; the kernel's limit is checked at the end.
        self.push(code::JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_targets_get_a_step_in_between() {
        for padding in 250..260 {
            let mut assembler = Assembler::new();
            let no = assembler.ret(Action::KILL_THREAD);
            let yes = assembler.ret(Action::ALLOW);
            let mut next = yes;
            for _ in 0..padding {
                next = assembler.then(code::AND, u32::MAX, next);
            }
            assembler.branch(code::JUMP_EQUAL, 7, yes, no);
            let program = assembler.finish();
            let run = |value: u32| {
                let mut at = 1 + usize::from(if value == 7 { program[0].jt } else { program[0].jf });
                while program[at].code == code::JUMP {
                    at += 1 + usize::try_from(program[at].k).unwrap();
                }
                program[at].k
            };
            assert_eq!(run(7), Action::ALLOW.0, "{padding}");
            assert_eq!(run(8), Action::KILL_THREAD.0, "{padding}");
        }
    }

    #[test]
    fn returns_are_shared_while_near() {
        let mut assembler = Assembler::new();
        let first = assembler.ret(Action::ALLOW);
        assert_eq!(assembler.ret(Action::ALLOW), first);
        let mut next = first;
        for _ in 0..FAR {
            next = assembler.then(code::AND, 1, next);
        }
        assert_eq!(assembler.ret(Action::ALLOW), first);
        assembler.then(code::AND, 1, next);
        assert_ne!(assembler.ret(Action::ALLOW), first);
    }
}
