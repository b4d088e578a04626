//! An interpreter of the classic BPF that seccomp allows: what would the kernel answer?

use super::arch::{Architecture, X32_BIT};
use super::assemble::code;
use super::compile::{ARGUMENTS, NUMBER, TOKEN};
use super::profile::Action;
use crate::error::{Error, Result};
use crate::sys::seccomp::Instruction;

/// A system call as a filter sees it (struct seccomp_data).
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Whose call it is.
    pub arch: Architecture,
    /// Its number, the x32 bit included.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Call {
    /// Whose number it is: x32 and x86_64 have one token, and the kernel tells their calls apart by the
    /// number.
    pub fn abi(&self) -> Architecture {
        match self.arch {
            Architecture::X86_64 | Architecture::X32 if self.number >= X32_BIT => Architecture::X32,
            Architecture::X32 => Architecture::X86_64,
            other => other,
        }
    }

    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            NUMBER => Some(self.number),
            TOKEN => Some(self.arch.token()),
            8 | 12 => Some(0), // the instruction pointer, which no rule asks for
            _ => {
                let place = usize::try_from(offset.checked_sub(ARGUMENTS)?).ok()?;
                let argument = self.arguments.get(place / 8)?;
                let [low, high] = [*argument, *argument >> 32].map(|half| half & u64::from(u32::MAX));
                let first = if self.arch.is_little_endian() { [low, high] } else { [high, low] };
                (place % 4 == 0).then(|| first[place % 8 / 4]).and_then(|word| u32::try_from(word).ok())
            }
        }
    }
}

/// Runs the program on a call: the answer and how many instructions it took. An error for a program
/// that the kernel would not accept.
pub fn run(program: &[Instruction], call: &Call) -> Result<(Action, usize)> {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    for steps in 1.. {
        let Some(&Instruction { code, jt, jf, k }) = program.get(at) else {
            return Err(Error::invalid(format!("BPF: no instruction {at}")));
        };
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            code::LOAD => {
                accumulator = call
                    .word(k)
                    .ok_or_else(|| Error::invalid(format!("BPF: instruction {}: no word at {k}", at - 1)))?;
            }
            code::AND => accumulator &= k,
            code::JUMP => at = at.saturating_add(usize::try_from(k).unwrap_or(usize::MAX)),
            code::JUMP_EQUAL => at += jump(accumulator == k),
            code::JUMP_GREATER => at += jump(accumulator > k),
            code::JUMP_GREATER_EQUAL => at += jump(accumulator >= k),
            code::JUMP_SET => at += jump(accumulator & k != 0),
            code::RETURN => return Ok((Action(k), steps)),
            _ => return Err(Error::invalid(format!("BPF: instruction {}: code {code:#x}", at - 1))),
        }
    }
    Err(Error::invalid("BPF: endless program"))
}
