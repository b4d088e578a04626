//! System call filters: an OCI profile becomes a program of classic BPF, the kernel runs it on every
//! call.
//!
//! [`profile`] checks the profile and puts it into our terms, `rules` says what it means for an
//! architecture, `compile` makes the program from that, with the numbers of [`table`]. All this is
//! done in the parent: what can be wrong with a profile is found before there is a child, and the
//! program made while the child makes its mounts. The child only [installs](Program::install) it.
//!
//! What a profile means is what runc and libseccomp have made of it, since that is what profiles have
//! been tried with; where we differ the function says so and why.

pub mod arch;
mod assemble;
mod compile;
pub mod explain;
pub mod interpret;
pub mod profile;
pub mod raw;
mod rules;
pub mod table;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};

use crate::error::{Call as _, Error, Result};
use crate::sys::seccomp::{self as sys, Instruction};
use profile::{Action, Profile};
use table::Syscall;

/// The flags of a profile that are understood, and their bits.
pub const FLAGS: [(Flag, u64); 4] = [
    (Flag::SeccompFilterFlagLog, libc::SECCOMP_FILTER_FLAG_LOG),
    (Flag::SeccompFilterFlagSpecAllow, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    (Flag::SeccompFilterFlagTsync, libc::SECCOMP_FILTER_FLAG_TSYNC),
    // The kernel refuses it without a listener: there is nothing to wait for.
    (
        Flag::SeccompFilterFlagWaitKillableRecv,
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ),
];

/// The [`FLAGS`] that this kernel knows.
pub fn supported_flags() -> Vec<Flag> {
    FLAGS.into_iter().filter(|(_, bits)| sys::knows_flags(*bits)).map(|(flag, _)| flag).collect()
}

/// A profile, or a program that somebody else has made, that can be had on this machine.
#[derive(Debug)]
pub struct Checked {
    source: Source,
    /// SECCOMP_FILTER_FLAG_*, all known to this kernel.
    flags: u64,
}

#[derive(Debug)]
enum Source {
    Profile(Profile),
    Raw(Vec<Instruction>),
    /// What [`Checked::compile`] made of a profile before.
    Compiled(Vec<Instruction>),
}

/// A finished filter.
#[derive(Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*, all known to this kernel.
    flags: u64,
}

/// Reads a profile for this machine; `None` if it filters nothing.
///
/// Unknown system calls and architectures are skipped with a warning. An error is of kind `Invalid`
/// if the profile breaks the specification's rules, and `Unsupported` if this kernel lacks a flag or
/// an action that it names.
pub fn check(profile: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Option<Checked>> {
    let checked = Profile::read(profile, warnings)?;
    if checked.filters_nothing(profile) {
        return Ok(None);
    }
    require_actions(&checked)?;
    let flags = flags(profile, checked.notifies(), warnings)?;
    Ok(Some(Checked { source: Source::Profile(checked), flags }))
}

/// [`check`] and [`Checked::compile`] in one.
pub fn compile(profile: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Option<Program>> {
    check(profile, warnings)?.map(|checked| checked.compile()).transpose()
}

impl Checked {
    /// Whether [`Program::install`] will return a listener.
    pub fn notifies(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Whether it is no profile but a program: [`raw::check`].
    pub fn is_raw(&self) -> bool {
        matches!(self.source, Source::Raw(_))
    }

    /// A program that was checked and compiled before, on this machine.
    pub fn again(program: Program) -> Self {
        Self { source: Source::Compiled(program.instructions), flags: program.flags }
    }

    /// Makes the program. An error is of kind `Invalid`: it takes more than the kernel's 4096 instructions.
    pub fn compile(&self) -> Result<Program> {
        let instructions = match &self.source {
            Source::Profile(profile) => profile.compile()?,
            Source::Raw(instructions) | Source::Compiled(instructions) => instructions.clone(),
        };
        Ok(Program { instructions, flags: self.flags })
    }
}

impl Program {
    /// How many instructions it has, 1 to 4096.
    #[allow(clippy::len_without_is_empty, reason = "a program always ends with a return")]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether this machine's own call of the number is let pass without asking anybody.
    pub fn allows(&self, number: libc::c_long) -> bool {
        let Ok(number) = u32::try_from(number) else { return false };
        let call = interpret::Call { arch: arch::NATIVE, number, arguments: [0; 6] };
        let passes = |action: Action| [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG].contains(&action.0);
        interpret::run(&self.instructions, &call).is_ok_and(|(action, _)| passes(action))
    }

    /// The instructions, as the kernel gets them.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Of [`Self::to_bytes`].
    pub fn size(&self) -> usize {
        size_of::<u64>() + size_of_val(self.instructions.as_slice())
    }

    /// For the way from the parent to the child, and for a file of this machine: the flags, then the
    /// instructions, all in this machine's order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend(self.flags.to_ne_bytes());
        for instruction in &self.instructions {
            let ([code_0, code_1], [k_0, k_1, k_2, k_3]) =
                (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
            bytes.extend_from_slice(&[code_0, code_1, instruction.jt, instruction.jf, k_0, k_1, k_2, k_3]);
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) gave; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk()?;
        Some(Self { instructions: instructions(rest)?, flags: u64::from_ne_bytes(*flags) })
    }

    /// Attaches the filter to the calling process for good; `Some` is the close-on-exec listener of a
    /// profile with `SCMP_ACT_NOTIFY`.
    ///
    /// The process has no_new_privs or CAP_SYS_ADMIN in its user namespace, else EACCES
    /// (seccomp(2)). It makes one system call, unless seccomp(2) is refused with ENOSYS and no flag
    /// was asked for: then prctl(2) does the same.
    pub fn install(&self) -> Result<Option<OwnedFd>> {
        self.install_with(self.flags)
    }

    /// As [`Self::install`], where nobody answers notifications: the kernel answers them with ENOSYS
    /// (seccomp_unotify(2)).
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn install_without_listener(&self) -> Result<()> {
        const OF_A_LISTENER: u64 =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        self.install_with(self.flags & !OF_A_LISTENER).map(drop)
    }

    fn install_with(&self, flags: u64) -> Result<Option<OwnedFd>> {
        // SPEC_ALLOW alone may be our own default: without it the container is only slower.
        let needs_flags = flags & !libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW != 0;
        match sys::set_filter(&self.instructions, flags) {
            Err(Errno::ENOSYS) if !needs_flags => sys::set_filter_prctl(&self.instructions)
                .map(|()| None)
                .call(|| format!("prctl(PR_SET_SECCOMP, {} instructions)", self.len())),
            answer => {
                answer.call(|| format!("seccomp(SET_MODE_FILTER, {:#x}, {} instructions)", flags, self.len()))
            }
        }
    }
}

/// Instructions as the kernel has them in memory; `None` for none, or a part of one.
fn instructions(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (instructions, []) = bytes.as_chunks::<{ size_of::<Instruction>() }>() else { return None };
    let instruction = |&[code_0, code_1, jt, jf, k_0, k_1, k_2, k_3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([code_0, code_1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k_0, k_1, k_2, k_3]),
    };
    (!instructions.is_empty()).then(|| instructions.iter().map(instruction).collect())
}

/// Refuses a profile with a system call that no architecture has, which [`check`] skips with a warning.
///
/// # Errors
/// The first of them, by its JSON path.
pub fn require_known_calls(profile: &LinuxSeccomp) -> Result<()> {
    for (index, rule) in profile.syscalls().iter().flatten().enumerate() {
        let unknown =
            rule.names().iter().enumerate().find(|(_, name)| Syscall::named_after(None, name).is_none());
        if let Some((at, name)) = unknown {
            let path = format!("linux.seccomp.syscalls[{index}].names[{at}]");
            return Err(Error::invalid(format!("{path}: unknown system call {name:?}")));
        }
    }
    Ok(())
}

/// The kernel takes an action that it does not know for KILL, so a profile that asks for one is
/// refused instead. Only the actions younger than Linux 4.9 are asked for, which is what every
/// supported kernel has.
fn require_actions(profile: &Profile) -> Result<()> {
    for (action, name, since) in [
        (Action::LOG, "SCMP_ACT_LOG", "4.14"),
        (Action::KILL_PROCESS, "SCMP_ACT_KILL_PROCESS", "4.14"),
        (Action::NOTIFY, "SCMP_ACT_NOTIFY", "5.0"),
    ] {
        let is_used = profile.default == action || profile.entries.iter().any(|entry| entry.action == action);
        if is_used && !sys::knows_action(action.0).call(|| format!("seccomp(GET_ACTION_AVAIL, {name})"))? {
            return Err(Error::unsupported(format!("seccomp: {name} needs Linux {since}")));
        }
    }
    Ok(())
}

/// The profile's flags as bits. Those it asks for must be known to the kernel; without any list
/// SPEC_ALLOW is set if it is known, as runc does: the mitigation that it leaves out slows down every
/// container, and Linux 5.16 no longer has it on by default.
fn flags(profile: &LinuxSeccomp, notifies: bool, warnings: &mut Vec<String>) -> Result<u64> {
    let mut bits = 0;
    match profile.flags() {
        None if sys::knows_flags(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) => {
            bits |= libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        }
        None => {}
        Some(flags) => {
            for flag in flags {
                if *flag == Flag::SeccompFilterFlagWaitKillableRecv && !notifies {
                    warnings.push(format!("seccomp: {flag} has no effect without SCMP_ACT_NOTIFY"));
                    continue;
                }
                let known = FLAGS.into_iter().find(|(other, _)| other == flag);
                let (_, bit) =
                    known.ok_or_else(|| Error::unsupported(format!("seccomp: unknown flag {flag}")))?;
                if !sys::knows_flags(bit) {
                    return Err(Error::unsupported(format!("seccomp: this kernel does not know {flag}")));
                }
                bits |= bit;
            }
        }
    }
    if notifies {
        bits |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        if bits & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
            // Both want the return value; with this flag TSYNC reports by errno. Linux 5.7.
            bits |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        }
        if !sys::knows_flags(bits) {
            return Err(Error::unsupported(format!(
                "seccomp: this kernel does not take the flags {bits:#x} together"
            )));
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
