//! What the words of a profile say of a call, read without any thought of how a filter is made: what the
//! fuzz target and the comparison with libseccomp hold the filters against.

use berth::seccomp::arch::Architecture;
use berth::seccomp::interpret::Call;
use berth::seccomp::profile::Action;
use berth::seccomp::table::Syscall;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// The answer for a call of an architecture that the profile lists.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// All the entries that match say the same, or none matches and the default holds.
    Is(Action),
    /// Entries that match say different things.
    Contradiction,
    /// No entry names the call.
    Silence,
}

/// Reads a profile. socketcall(2) and ipc(2) are taken for calls like others.
pub fn reading(profile: &LinuxSeccomp, call: &Call) -> Reading {
    let Some(name) = call.abi().syscall(call.number).map(Syscall::name) else { return Reading::Silence };
    let (mut is_named, mut answer) = (false, None);
    for entry in entries(profile, name) {
        is_named = true;
        let args = entry.args().as_deref().unwrap_or_default();
        let mut indices: Vec<_> = args.iter().map(LinuxSeccompArg::index).collect();
        indices.sort_unstable();
        let matches = if indices.windows(2).any(|pair| pair[0] == pair[1]) {
            args.iter().any(|arg| holds(arg, call))
        } else {
            args.iter().all(|arg| holds(arg, call))
        };
        if matches {
            let action = Action(entry.action().as_u32(entry.errno_ret()));
            if answer.is_some_and(|other| other != action) {
                return Reading::Contradiction;
            }
            answer = Some(action);
        }
    }
    let default = Action(profile.default_action().as_u32(profile.default_errno_ret()));
    if is_named { Reading::Is(answer.unwrap_or(default)) } else { Reading::Silence }
}

/// The entries that name a call, but for those that repeat the default, which libseccomp skips.
pub fn entries<'p>(profile: &'p LinuxSeccomp, name: &'p str) -> impl Iterator<Item = &'p LinuxSyscall> {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    profile
        .syscalls()
        .iter()
        .flatten()
        .filter(move |entry| entry.action().as_u32(entry.errno_ret()) != default)
        .filter(move |entry| entry.names().iter().any(|other| other == name))
}

fn holds(arg: &LinuxSeccompArg, call: &Call) -> bool {
    use Architecture::{Aarch64, Loongarch64, Ppc64, Ppc64le, Riscv64, S390x, X86_64};
    let is_64bit = matches!(call.abi(), X86_64 | Aarch64 | Riscv64 | Loongarch64 | Ppc64le | Ppc64 | S390x);
    let cut = |value: u64| if is_64bit { value } else { value & 0xffff_ffff };
    let (argument, value) = (cut(call.arguments[arg.index()]), cut(arg.value()));
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => argument != value,
        LinuxSeccompOperator::ScmpCmpLt => argument < value,
        LinuxSeccompOperator::ScmpCmpLe => argument <= value,
        LinuxSeccompOperator::ScmpCmpEq => argument == value,
        LinuxSeccompOperator::ScmpCmpGe => argument >= value,
        LinuxSeccompOperator::ScmpCmpGt => argument > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => argument & value == arg.value_two().unwrap_or(0) & value,
    }
}
