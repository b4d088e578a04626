//! Filters for people: which rule of a profile decides a call, and a listing of a program with names
//! in place of numbers.

use std::fmt;

use super::arch::{Architecture, X32_BIT};
use super::assemble::code;
use super::compile::{ARGUMENTS, BAD_ARCHITECTURE, NUMBER, SKIPPED, TOKEN};
use super::interpret::Call;
use super::profile::{Action, Profile};
use super::rules::{Rule, Rules};
use crate::sys::seccomp::Instruction;

/// Why a call gets its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The element of the profile's `syscalls` with this index.
    Entry(usize),
    /// No entry names the call, or none whose conditions hold.
    Default,
    /// Its number is above all that the profile names.
    Newer,
    /// The profile does not list the architecture.
    UnlistedArchitecture,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(index) => write!(f, "syscalls[{index}]"),
            Self::Default => f.write_str("defaultAction"),
            Self::Newer => f.write_str("newer than every call that the profile names"),
            Self::UnlistedArchitecture => f.write_str("architecture not listed"),
        }
    }
}

/// What a call gets and why, found from the rules and not from the program: the two must agree.
pub fn decide(profile: &Profile, call: &Call) -> (Action, Reason) {
    let arch = call.abi();
    let is_listed = |arch| profile.architectures.contains(&arch);
    if !is_listed(arch) {
        let is_skipped = call.number == SKIPPED && is_listed(Architecture::X86_64);
        return if arch == Architecture::X32 && is_skipped {
            (profile.default, Reason::Default)
        } else {
            (BAD_ARCHITECTURE, Reason::UnlistedArchitecture)
        };
    }
    let rules = Rules::of(profile, arch);
    let Some(tried) = rules.of_number(call.number) else {
        return if rules.is_newer(call.number) {
            (Action::ENOSYS, Reason::Newer)
        } else {
            (profile.default, Reason::Default)
        };
    };
    let holds =
        |rule: &&Rule<'_>| rule.conditions.iter().all(|condition| condition.holds(&call.arguments, arch));
    match tried.iter().find(holds) {
        Some(rule) => (rule.action, Reason::Entry(rule.entry)),
        None => (profile.default, Reason::Default),
    }
}

/// A program as text: one line per instruction, jumps by the number of their target, system calls,
/// arguments and actions by name.
pub fn disassemble(program: &[Instruction]) -> String {
    let mut listing = Listing { known: vec![Known::default(); program.len()], text: String::new() };
    for (at, instruction) in program.iter().enumerate() {
        listing.line(at, *instruction);
    }
    listing.text
}

/// What is known when an instruction is reached. Jumps lead forwards, so one pass finds it.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Whose section it is in.
    arch: Option<Architecture>,
    /// The offset of the word in the accumulator.
    loaded: Option<u32>,
}

struct Listing {
    known: Vec<Known>,
    text: String,
}

impl Listing {
    fn line(&mut self, at: usize, Instruction { code, jt, jf, k }: Instruction) {
        let known = self.known.get(at).copied().unwrap_or_default();
        let words = match code {
            code::LOAD => {
                self.reach(at + 1, Known { loaded: Some(k), ..known });
                format!("load {}", word(known.arch, k))
            }
            code::AND => {
                self.reach(at + 1, known);
                format!("and {k:#x}")
            }
            code::JUMP => {
                let target = at.saturating_add(1).saturating_add(usize::try_from(k).unwrap_or(usize::MAX));
                self.reach(target, known);
                format!("goto {target}")
            }
            code::RETURN => format!("return {}", Action(k)),
            _ => {
                let (yes, no) = (at + 1 + usize::from(jt), at + 1 + usize::from(jf));
                let arch = Architecture::all().find(|arch| arch.token() == k);
                let is_section = known.loaded == Some(TOKEN) && code == code::JUMP_EQUAL;
                self.reach(yes, if is_section { Known { arch, ..known } } else { known });
                self.reach(no, known);
                format!("if {} {} goto {yes} else {no}", comparison(code), value(known, k))
            }
        };
        self.text.push_str(&format!("{at:4}  {words}\n"));
    }

    fn reach(&mut self, at: usize, known: Known) {
        if let Some(place) = self.known.get_mut(at) {
            *place = Known { arch: known.arch.or(place.arch), loaded: known.loaded };
        }
    }
}

fn comparison(code: u16) -> String {
    match code {
        code::JUMP_EQUAL => "=".into(),
        code::JUMP_GREATER => ">".into(),
        code::JUMP_GREATER_EQUAL => ">=".into(),
        code::JUMP_SET => "has a bit of".into(),
        _ => format!("(code {code:#x})"),
    }
}

/// The word at an offset of struct seccomp_data.
fn word(arch: Option<Architecture>, offset: u32) -> String {
    match offset {
        NUMBER => "number".into(),
        TOKEN => "architecture".into(),
        _ if offset >= ARGUMENTS => {
            let first = offset.is_multiple_of(8);
            let is_low = first == arch.is_none_or(Architecture::is_little_endian);
            format!("argument {} {}", (offset - ARGUMENTS) / 8, if is_low { "low" } else { "high" })
        }
        _ => format!("word at {offset}"),
    }
}

fn value(known: Known, k: u32) -> String {
    match known.loaded {
        Some(TOKEN) => Architecture::all()
            .find(|arch| arch.token() == k)
            .map_or(format!("{k:#x}"), |arch| arch.name().into()),
        Some(NUMBER) => {
            let call = known.arch.map(|arch| Call { arch, number: k, arguments: [0; 6] });
            let name = call.and_then(|call| call.abi().syscall(k));
            match (name, k >= X32_BIT) {
                (Some(name), false) => format!("{k} ({})", name.name()),
                (Some(name), true) => format!("{k:#x} (x32 {})", name.name()),
                (None, false) => k.to_string(),
                (None, true) => format!("{k:#x}"),
            }
        }
        _ => format!("{k:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::interpret::run;
    use super::super::table::Syscall;
    use super::*;

    fn profile(text: &str) -> Profile {
        let profile = serde_json::from_str(text).unwrap();
        Profile::read_for(Architecture::X86_64, &profile, &mut Vec::new()).unwrap()
    }

    #[test]
    fn reasons_agree_with_the_program() {
        for text in [
            include_str!("testdata/docker.json"),
            include_str!("testdata/podman.json"),
            r#"{"defaultAction": "SCMP_ACT_TRAP", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        ] {
            let profile = profile(text);
            let program = profile.compile().unwrap();
            for arch in [Architecture::X86_64, Architecture::X86, Architecture::Arm] {
                let numbers = [0, X32_BIT].map(|base| (base..base + 600).step_by(11)).into_iter().flatten();
                for number in numbers.chain([u32::MAX, 0x8000_0000, 0x3fff_ffff]) {
                    for argument in [0, 8, 9, 16, 0x1000_0000, 1 << 32, u64::MAX] {
                        let call = Call { arch, number, arguments: [argument; 6] };
                        assert_eq!(decide(&profile, &call).0, run(&program, &call).unwrap().0, "{call:x?}");
                    }
                }
            }
        }
    }

    /// Found by the fuzz target.
    #[test]
    fn skipped_call_of_an_unlisted_architecture() {
        let json = serde_json::from_str(r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#).unwrap();
        let profile = Profile::read_for(Architecture::Aarch64, &json, &mut Vec::new()).unwrap();
        let call = Call { arch: Architecture::X86_64, number: SKIPPED, arguments: [0; 6] };
        assert_eq!(decide(&profile, &call), (BAD_ARCHITECTURE, Reason::UnlistedArchitecture));
        assert_eq!(run(&profile.compile().unwrap(), &call).unwrap().0, BAD_ARCHITECTURE);
    }

    #[test]
    fn reasons() {
        let profile = profile(include_str!("testdata/docker.json"));
        let reason = |arch: Architecture, name: &str, argument| {
            let number = arch.number(Syscall::named(name).unwrap()).unwrap();
            decide(&profile, &Call { arch, number, arguments: [argument; 6] }).1.to_string()
        };
        assert_eq!(reason(Architecture::X86_64, "read", 0), "syscalls[0]");
        assert_eq!(reason(Architecture::X86_64, "personality", 8), "syscalls[3]");
        assert_eq!(reason(Architecture::X86_64, "personality", 9), "defaultAction");
        assert_eq!(reason(Architecture::X32, "clone3", 9), "syscalls[10]");
        assert_eq!(reason(Architecture::X86_64, "mseal", 9), "newer than every call that the profile names");
        assert_eq!(reason(Architecture::Arm, "read", 9), "architecture not listed");
    }

    #[test]
    fn listing() {
        let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30,
                "args": [{"index": 1, "value": 512, "valueTwo": 512, "op": "SCMP_CMP_MASKED_EQ"}]}]});
        let program = profile(&json.to_string()).compile().unwrap();
        assert_eq!(
            disassemble(&program),
            "   0  load architecture
   1  if = x86_64 goto 2 else 10
   2  load number
   3  if >= 0x40000000 (x32 read) goto 9 else 4
   4  if = 83 (mkdir) goto 5 else 11
   5  load argument 1 low
   6  and 0x200
   7  if = 0x200 goto 8 else 11
   8  return ERRNO(EROFS)
   9  if >= 0xffffffff goto 11 else 10
  10  return KILL_THREAD
  11  return ALLOW
"
        );
    }
}
