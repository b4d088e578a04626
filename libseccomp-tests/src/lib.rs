//! The filter that runc would load for a profile: libseccomp's, behind runc's ENOSYS stub.

pub mod reading;

use std::io::{Read, Seek};

use berth::seccomp::arch::Architecture;
use berth::seccomp::interpret::{Call, run};
use berth::seccomp::profile::Action;
use berth::seccomp::table::Syscall;
use berth::sys::seccomp::Instruction;
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

/// A filter as runc puts it together.
pub struct Runc {
    program: Vec<Instruction>,
    /// The architectures of the ENOSYS stub with the largest number that the profile names.
    newest: Vec<(Architecture, u32)>,
}

impl Runc {
    /// An error where libseccomp refuses the profile, and so runc the container.
    pub fn new(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        Ok(Self { program: parse(&export(&context(profile)?)?), newest: newest(profile) })
    }

    /// The answer to a call.
    pub fn answer(&self, call: &Call) -> Action {
        let is_x32 = call.number & 0x4000_0000 != 0;
        for &(arch, newest) in &self.newest {
            let of_kind = match arch {
                Architecture::X86_64 => !is_x32,
                Architecture::X32 => is_x32,
                _ => true,
            };
            if arch.token() == call.arch.token() && of_kind && call.number > newest {
                return Action::ENOSYS;
            }
        }
        run(&self.program, call).expect("libseccomp's program is one that we can run").0
    }
}

/// libseccomp's part, as far as it can be compared: without reading the program back.
pub fn context(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(arch.to_string().parse()?)?;
    }
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    if entries.iter().map(|entry| entry.names().len()).sum::<usize>() > 32 {
        context.set_ctl_optimize(2)?;
    }
    context.set_ctl_nnp(false)?;
    for entry in entries {
        let action = action(entry.action(), entry.errno_ret());
        if action != default {
            for name in entry.names() {
                add(&mut context, entry, name, action)?;
            }
        }
    }
    Ok(context)
}

fn add(
    context: &mut ScmpFilterContext,
    entry: &LinuxSyscall,
    name: &str,
    action: ScmpAction,
) -> Result<(), SeccompError> {
    let Ok(call) = ScmpSyscall::from_name(name) else { return Ok(()) };
    let conditions: Vec<_> = entry.args().iter().flatten().map(comparison).collect();
    let mut indices: Vec<_> = entry.args().iter().flatten().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    if conditions.is_empty() {
        context.add_rule(action, call)?;
    } else if indices.windows(2).any(|pair| pair[0] == pair[1]) {
        for condition in conditions {
            context.add_rule_conditional(action, call, &[condition])?;
        }
    } else {
        context.add_rule_conditional(action, call, &conditions)?;
    }
    Ok(())
}

fn comparison(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let index = u32::try_from(arg.index()).expect("an index below 6");
    let (operator, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    ScmpArgCompare::new(index, operator, datum)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = u16::try_from(errno.unwrap_or(1)).expect("an errno");
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno.into()),
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

/// libseccomp's program as bytes.
pub fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let fd =
        nix::sys::memfd::memfd_create("filter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(fd);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read a memfd");
    Ok(bytes)
}

/// The instructions of [`export`]'s bytes.
pub fn parse(bytes: &[u8]) -> Vec<Instruction> {
    bytes
        .chunks_exact(8)
        .map(|bytes| Instruction {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect()
}

/// runc's rule: on each listed architecture and the native one the largest number among the names,
/// unless the default action carries calls out or is ENOSYS itself.
///
/// libseccomp answers with a pseudo number where a call also goes through socketcall(2) or ipc(2), so
/// runc overlooks that accept4, number 364 on x86, is newer than 340. Here its own number counts.
fn newest(profile: &LinuxSeccomp) -> Vec<(Architecture, u32)> {
    let default = profile.default_action();
    if matches!(
        default,
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    ) || profile.default_errno_ret() == Some(38)
    {
        return Vec::new();
    }
    let mut architectures = vec![Architecture::X86_64];
    architectures.extend(profile.architectures().iter().flatten().filter_map(|&arch| Architecture::of(arch)));
    architectures
        .into_iter()
        .filter_map(|arch| {
            let entries = profile.syscalls().iter().flatten();
            let numbers =
                entries.flat_map(LinuxSyscall::names).filter_map(|name| match resolve(name, arch) {
                    Resolved::Number(number) => Some(number),
                    Resolved::Multiplexed => Syscall::named(name).and_then(|call| arch.number(call)),
                    Resolved::Nowhere => None,
                });
            Some((arch, numbers.max()?))
        })
        .collect()
}

/// What libseccomp makes of a name on an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A system call of its own.
    Number(u32),
    /// A way through socketcall(2) or ipc(2), perhaps besides a number of its own.
    Multiplexed,
    /// It has none there, or does not know the name.
    Nowhere,
}

/// Resolves a name with libseccomp.
pub fn resolve(name: &str, arch: Architecture) -> Resolved {
    let token = match arch {
        Architecture::X86_64 => ScmpArch::X8664,
        Architecture::X86 => ScmpArch::X86,
        Architecture::X32 => ScmpArch::X32,
        Architecture::Aarch64 => ScmpArch::Aarch64,
        Architecture::Arm => ScmpArch::Arm,
        Architecture::Riscv64 => ScmpArch::Riscv64,
        Architecture::Ppc64le => ScmpArch::Ppc64Le,
        Architecture::Ppc64 => ScmpArch::Ppc64,
        Architecture::Ppc => ScmpArch::Ppc,
        Architecture::S390x => ScmpArch::S390X,
        Architecture::S390 => ScmpArch::S390,
        Architecture::Loongarch64 => return Resolved::Nowhere, // libseccomp 2.6
    };
    let Ok(call) = ScmpSyscall::from_name_by_arch(name, token) else { return Resolved::Nowhere };
    let number = call.as_raw_syscall();
    // Its pseudo numbers: -101 to -120 are SYS_* of linux/net.h, -201 to -224 those of linux/ipc.h.
    match u32::try_from(number) {
        Ok(number) => Resolved::Number(number),
        Err(_) if (-224..=-101).contains(&number) => Resolved::Multiplexed,
        Err(_) => Resolved::Nowhere,
    }
}
