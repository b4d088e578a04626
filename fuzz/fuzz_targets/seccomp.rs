//! Any profile compiles to a program that the kernel's checks would pass, and whose answers are those
//! of the profile's words, and of the rules that explain them.
#![no_main]

#[path = "../../libseccomp-tests/src/reading.rs"]
mod reading;

use berth::seccomp::arch::Architecture;
use berth::seccomp::explain::{decide, disassemble};
use berth::seccomp::interpret::{Call, run};
use berth::seccomp::profile::{Action, Profile};
use berth::seccomp::table::Syscall;
use berth::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};
use reading::Reading;

#[derive(Arbitrary, Debug)]
struct Input {
    native: u8,
    default: (u8, Option<u16>),
    architectures: Vec<u8>,
    entries: Vec<Entry>,
    calls: Vec<(u8, u32, [Value; 6])>,
}

#[derive(Arbitrary, Debug)]
struct Entry {
    calls: Vec<u16>,
    action: (u8, Option<u16>),
    args: Vec<(u8, u8, Value, Value)>,
}

/// Small values meet more often than arbitrary ones.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Small(u8),
    High(u8),
    Any(u64),
}

impl Value {
    fn get(self) -> u64 {
        match self {
            Self::Small(value) => value.into(),
            Self::High(value) => u64::from(value) << 32,
            Self::Any(value) => value,
        }
    }
}

const NATIVE: [Architecture; 7] = [
    Architecture::X86_64,
    Architecture::Aarch64,
    Architecture::S390x,
    Architecture::Ppc64le,
    Architecture::Ppc64,
    Architecture::Riscv64,
    Architecture::Loongarch64,
];

const LISTED: [Arch; 10] = [
    Arch::ScmpArchX86_64,
    Arch::ScmpArchX86,
    Arch::ScmpArchX32,
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
    Arch::ScmpArchS390x,
    Arch::ScmpArchS390,
    Arch::ScmpArchPpc64le,
    Arch::ScmpArchPpc,
    Arch::ScmpArchMips,
];

fn pick<T: Copy>(of: &[T], by: usize) -> T {
    of[by % of.len()]
}

fn action(by: u8) -> LinuxSeccompAction {
    use LinuxSeccompAction::*;
    pick(
        &[
            ScmpActKill,
            ScmpActKillThread,
            ScmpActKillProcess,
            ScmpActTrap,
            ScmpActErrno,
            ScmpActNotify,
            ScmpActTrace,
            ScmpActLog,
            ScmpActAllow,
        ],
        by.into(),
    )
}

fn operator(by: u8) -> LinuxSeccompOperator {
    use LinuxSeccompOperator::*;
    pick(&[ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq], by.into())
}

fn profile(input: &Input, names: &[&'static str]) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(action(input.default.0));
    profile.set_default_errno_ret(input.default.1.map(u32::from));
    profile.set_architectures(Some(input.architectures.iter().map(|&by| pick(&LISTED, by.into())).collect()));
    let entries = input.entries.iter().map(|entry| {
        let mut syscall = LinuxSyscall::default();
        syscall.set_names(entry.calls.iter().map(|&by| pick(names, by.into()).to_owned()).collect());
        syscall.set_action(action(entry.action.0));
        syscall.set_errno_ret(entry.action.1.map(u32::from));
        let args = entry.args.iter().map(|(index, op, value, two)| {
            LinuxSeccompArgBuilder::default()
                .index(usize::from(index % 7))
                .op(operator(*op))
                .value(value.get())
                .value_two(two.get())
                .build()
                .expect("every field has a value")
        });
        syscall.set_args(Some(args.collect()));
        syscall
    });
    profile.set_syscalls(Some(entries.collect()));
    profile
}

/// What bpf_check_classic and seccomp_check_filter demand (net/core/filter.c, kernel/seccomp.c).
fn check(program: &[Instruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        let ahead = program.len() - at - 1;
        match instruction.code {
            0x20 => assert!(instruction.k < 64 && instruction.k % 4 == 0),
            0x54 | 0x06 => {}
            0x05 => assert!((instruction.k as usize) < ahead),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(instruction.jt.max(instruction.jf)) < ahead);
            }
            code => panic!("code {code:#x}"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06));
}

/// What the words of the profile leave open: nothing, where its architecture is listed and no entries
/// contradict each other. socketcall(2) and ipc(2) take rules of the calls behind them; Arm has a number
/// of two names.
fn agrees_with_words(words: &LinuxSeccomp, profile: &Profile, call: &Call, answer: Action) -> bool {
    let abi = call.abi();
    let name = abi.syscall(call.number).map(Syscall::name);
    let is_special = matches!(name, Some("socketcall" | "ipc" | "arm_sync_file_range" | "sync_file_range2"));
    if is_special || !profile.architectures.contains(&abi) {
        return true;
    }
    match reading::reading(words, call) {
        Reading::Is(action) => answer == action,
        Reading::Contradiction => true,
        Reading::Silence => {
            let is_newer = profile.answers_enosys && answer == Action::ENOSYS;
            answer == profile.default || is_newer
        }
    }
}

fuzz_target!(|input: Input| {
    let names: Vec<_> = Syscall::all().map(Syscall::name).chain(["no_such_call"]).collect();
    let words = profile(&input, &names);
    let native = pick(&NATIVE, input.native.into());
    let Ok(profile) = Profile::read_for(native, &words, &mut Vec::new()) else { return };
    let Ok(program) = profile.compile() else { return };
    check(&program);
    disassemble(&program);
    let architectures: Vec<_> = Architecture::all().collect();
    let named = input.entries.iter().flat_map(|entry| &entry.calls).map(|&by| pick(&names, by.into()));
    let named: Vec<_> = named.filter_map(Syscall::named).collect();
    for (at, (arch, number, arguments)) in input.calls.iter().enumerate() {
        let arch = pick(&architectures, (*arch).into());
        let call = named.get(at % named.len().max(1)).filter(|_| number % 4 != 0);
        let number = call.and_then(|call| arch.number(*call)).unwrap_or(*number);
        let call = Call { arch, number, arguments: arguments.map(Value::get) };
        let (answer, _) = run(&program, &call).expect("a program that runs");
        assert_eq!(answer, decide(&profile, &call).0, "{call:x?}");
        assert!(agrees_with_words(&words, &profile, &call, answer), "{answer} to {call:x?}");
    }
});
