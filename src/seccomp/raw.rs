//! A filter that somebody else has compiled: classic BPF as seccomp(2) takes it, as base64 text.

use nix::errno::Errno;

use super::interpret::{self, Call};
use super::profile::Action;
use super::{Checked, Source, arch, assemble, instructions};
use crate::error::{Error, Result};
use crate::sys::seccomp::{self as sys, Instruction, MAX_INSTRUCTIONS};

/// Reads a program. Its form is checked here; whether it is a filter at all the kernel says when it is
/// loaded, and without one the container does not start. With `has_agent` it gets a listener, as in crun
/// whether or not it hands out calls: which ones it does may depend on what it computes.
///
/// # Errors
/// `Invalid`: no base64, no whole instructions, more of them than the kernel takes; it hands out calls and
/// there is no agent, or calls that the runtime itself needs on the way to the agent. `Unsupported`: this
/// kernel has no listeners.
pub fn check(text: &str, has_agent: bool) -> Result<Checked> {
    let bytes = decode(text).ok_or_else(|| Error::invalid("is no base64 (RFC 4648, with padding)"))?;
    let program = instructions(&bytes).ok_or_else(|| {
        Error::invalid(format!("{} bytes are no program: an instruction has 8", bytes.len()))
    })?;
    if program.len() > MAX_INSTRUCTIONS {
        let length = program.len();
        return Err(Error::invalid(format!(
            "has {length} instructions, and the kernel takes {MAX_INSTRUCTIONS}"
        )));
    }
    let notify =
        |one: &Instruction| one.code == assemble::code::RETURN && Action(one.k).kind() == Action::NOTIFY.0;
    if !has_agent && program.iter().any(notify) {
        return Err(Error::invalid("hands out calls (SECCOMP_RET_USER_NOTIF), and nobody is to answer them")
            .remedy("name a socket in run.oci.seccomp.receiver"));
    }
    if has_agent {
        refuse_own_calls(&program)?;
    }
    let mut flags = if has_agent { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    if sys::knows_flags(flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        flags |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    } else if !sys::knows_flags(flags) {
        return Err(Error::unsupported("a listener needs Linux 5.0"));
    }
    Ok(Checked { source: Source::Raw(program), flags })
}

/// As in a profile: until the agent has the listener nobody can answer, and the runtime would wait for ever.
/// What the interpreter cannot run, because no profile becomes it, passes.
fn refuse_own_calls(program: &[Instruction]) -> Result<()> {
    for (name, number) in [("write", libc::SYS_write), ("sendmsg", libc::SYS_sendmsg)] {
        let number = u32::try_from(number).map_err(|_| Error::syscall(name, Errno::EOVERFLOW))?;
        let call = Call { arch: arch::NATIVE, number, arguments: [0; 6] };
        if interpret::run(program, &call).is_ok_and(|(action, _)| action.kind() == Action::NOTIFY.0) {
            return Err(Error::invalid(format!(
                "SECCOMP_RET_USER_NOTIF cannot be used for the {name} syscall"
            )));
        }
    }
    Ok(())
}

/// RFC 4648, section 4, strict: full groups of four, padding at the end alone, no bits left over.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (groups, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(groups.len() * 3);
    for (index, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0;
        for character in &group[..4 - padding] {
            bits = bits << 6 | sextet(*character)?;
        }
        bits <<= 6 * padding;
        let [_, decoded @ ..] = bits.to_be_bytes();
        let (kept, left_over) = decoded.split_at(3 - padding);
        if left_over.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn sextet(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(program: &[Instruction]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bytes: Vec<u8> = program
            .iter()
            .flat_map(|one| [&one.code.to_ne_bytes()[..], &[one.jt, one.jf], &one.k.to_ne_bytes()].concat())
            .collect();
        let group = |chunk: &[u8]| {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            let character = |at: usize| match at <= chunk.len() {
                true => char::from(ALPHABET[usize::try_from(bits >> (18 - 6 * at) & 63).unwrap()]),
                false => '=',
            };
            (0..4).map(character).collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    fn instruction(code: u16, jt: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf: 0, k }
    }

    fn answer(action: Action) -> Instruction {
        instruction(assemble::code::RETURN, 0, action.0)
    }

    fn refusal(program: &[Instruction], has_agent: bool) -> String {
        check(&encode(program), has_agent).unwrap_err().to_string()
    }

    #[test]
    fn decodes_the_examples_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("+/+/", "\u{fb}\u{ff}\u{bf}"),
        ] {
            let expected: Vec<u8> = expected.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            assert_eq!(decode(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_base64() {
        for text in ["Z", "Zg", "Zg=", "Zg==Zg==", "Z===", "====", "Zh==", "Zm9=", "Zm9v\n", "Zm9-", "=m9v"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_program() {
        let text = |text: &str| check(text, false).unwrap_err().to_string();
        assert_eq!(text("not base64!"), "is no base64 (RFC 4648, with padding)");
        assert_eq!(text(""), "0 bytes are no program: an instruction has 8");
        assert_eq!(text("Zm9v"), "3 bytes are no program: an instruction has 8");
        let long = vec![answer(Action::ALLOW); MAX_INSTRUCTIONS + 1];
        assert_eq!(refusal(&long, false), "has 4097 instructions, and the kernel takes 4096");
        check(&encode(&long[1..]), false).unwrap();
    }

    #[test]
    fn keeps_the_instructions_as_they_are() {
        let program = [instruction(assemble::code::LOAD, 0, 4), answer(Action::errno(7))];
        let compiled = check(&encode(&program), false).unwrap().compile().unwrap();
        let fields = |one: &Instruction| (one.code, one.jt, one.jf, one.k);
        assert!(compiled.instructions().iter().map(fields).eq(program.iter().map(fields)));
        let checked = check(&encode(&program), false).unwrap();
        assert!(checked.is_raw() && !checked.notifies());
        assert!(check(&encode(&program), true).unwrap().notifies());
    }

    #[test]
    fn handing_out_calls_takes_an_agent_and_leaves_it_the_way() {
        let notify = |call: i64| {
            let number = u32::try_from(call).unwrap();
            vec![
                instruction(assemble::code::LOAD, 0, 0),
                Instruction { jf: 1, ..instruction(assemble::code::JUMP_EQUAL, 0, number) },
                answer(Action::NOTIFY),
                answer(Action::ALLOW),
            ]
        };
        assert!(refusal(&notify(libc::SYS_mkdirat), false).contains("nobody is to answer"));
        check(&encode(&notify(libc::SYS_mkdirat)), true).unwrap();
        assert!(refusal(&notify(libc::SYS_sendmsg), true).contains("the sendmsg syscall"));
        assert!(refusal(&notify(libc::SYS_write), true).contains("the write syscall"));
        assert!(refusal(&[answer(Action::NOTIFY)], true).contains("the write syscall"));
    }
}
