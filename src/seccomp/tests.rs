//! What profiles come out as, asked of the interpreter and, where it matters, of the kernel.

use nix::errno::Errno;
use serde_json::json;

use super::arch::Architecture;
use super::interpret::{Call, run};
use super::profile::Action;
use super::table::Syscall;
use super::*;

const DOCKER: &str = include_str!("testdata/docker.json");
const CTR: &str = include_str!("testdata/ctr.json");
const PODMAN: &str = include_str!("testdata/podman.json");
const CRI: &str = include_str!("testdata/cri-container.json");

const EPERM: Action = Action::errno(1);

/// A filter and what was said when it was made, as on an x86_64 machine.
struct Filter {
    instructions: Vec<Instruction>,
    warnings: Vec<String>,
}

impl Filter {
    fn new(profile: &serde_json::Value) -> Self {
        Self::on(Architecture::X86_64, profile)
    }

    fn on(native: Architecture, profile: &serde_json::Value) -> Self {
        let mut warnings = Vec::new();
        let checked = checked(native, profile, &mut warnings).unwrap();
        Self { instructions: checked.compile().unwrap(), warnings }
    }

    fn ask(&self, arch: Architecture, name: &str, arguments: &[u64]) -> Action {
        let number = arch.number(Syscall::named(name).unwrap()).unwrap();
        self.ask_number(arch, number, arguments)
    }

    fn ask_number(&self, arch: Architecture, number: u32, arguments: &[u64]) -> Action {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&self.instructions, &Call { arch, number, arguments: all }).unwrap().0
    }

    fn native(&self, name: &str, arguments: &[u64]) -> Action {
        self.ask(Architecture::X86_64, name, arguments)
    }
}

fn checked(native: Architecture, profile: &serde_json::Value, warnings: &mut Vec<String>) -> Result<Profile> {
    Profile::read_for(native, &serde_json::from_value(profile.clone()).unwrap(), warnings)
}

fn refusal(profile: &serde_json::Value) -> String {
    checked(Architecture::X86_64, profile, &mut Vec::new()).unwrap_err().to_string()
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn docker_profile() {
    let filter = Filter::new(&parsed(DOCKER));
    assert_eq!(filter.warnings, Vec::<String>::new());
    for arch in [Architecture::X86_64, Architecture::X86, Architecture::X32] {
        assert_eq!(filter.ask(arch, "read", &[]), Action::ALLOW, "{arch:?}");
        assert_eq!(filter.ask(arch, "ptrace", &[]), Action::ALLOW, "{arch:?}");
        assert_eq!(filter.ask(arch, "mount", &[]), EPERM, "{arch:?}");
        assert_eq!(filter.ask(arch, "bpf", &[]), EPERM, "{arch:?}");
        assert_eq!(filter.ask(arch, "clone3", &[]), Action::ENOSYS, "{arch:?}");
        for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
            assert_eq!(filter.ask(arch, "personality", &[persona]), Action::ALLOW, "{arch:?} {persona:#x}");
        }
        assert_eq!(filter.ask(arch, "personality", &[1]), EPERM, "{arch:?}");
        assert_eq!(filter.ask(arch, "clone", &[0x11]), Action::ALLOW, "{arch:?}");
        assert_eq!(filter.ask(arch, "clone", &[0x1000_0000]), EPERM, "{arch:?}: CLONE_NEWUSER");
        let newest = arch.number(Syscall::named("process_mrelease").unwrap()).unwrap();
        assert_eq!(filter.ask_number(arch, newest, &[]), Action::ALLOW, "{arch:?}");
    }
    assert_eq!(filter.native("personality", &[1 << 32]), EPERM);
    assert_eq!(filter.native("clone", &[1 << 40 | 0x11]), Action::ALLOW);
    assert_eq!(filter.ask(Architecture::Aarch64, "read", &[]), Action::KILL_THREAD);
}

/// The kernel compiles a filter and asks it about each number when it is loaded, so both the length and
/// the ways through it are time of every start.
#[test]
fn engines_profiles_are_small_and_shallow() {
    for (name, text) in [("docker", DOCKER), ("ctr", CTR), ("podman", PODMAN), ("cri", CRI)] {
        let filter = Filter::new(&parsed(text));
        assert!(filter.instructions.len() < 280, "{name}: {}", filter.instructions.len());
        for arch in [Architecture::X86_64, Architecture::X86] {
            let steps =
                |number| run(&filter.instructions, &Call { arch, number, arguments: [0; 6] }).unwrap().1;
            let steps: Vec<_> = (0..460).map(steps).collect();
            let (deepest, sum) = (steps.iter().max().unwrap(), steps.iter().sum::<usize>());
            assert!(*deepest < 20, "{name} {arch:?}: {deepest} instructions for the slowest call");
            assert!(sum < 12 * steps.len(), "{name} {arch:?}: {sum} instructions for all calls");
        }
    }
}

/// seccomp_is_const_allow (kernel/seccomp.c): the kernel answers a call without the filter later if
/// nothing but loads of number and architecture, AND and jumps come before its ALLOW.
#[test]
fn what_is_always_allowed_is_seen_to_be() {
    let filter = Filter::new(&parsed(DOCKER));
    for call in Syscall::all().filter(|call| Architecture::X86_64.number(*call).is_some()) {
        let is_allowed = |argument| filter.native(call.name(), &[argument; 6]) == Action::ALLOW;
        let depends = matches!(call.name(), "clone" | "personality");
        let number = Architecture::X86_64.number(call).unwrap();
        assert_eq!(
            is_const_allow(&filter.instructions, number),
            is_allowed(0) && !depends,
            "{}",
            call.name()
        );
    }
}

fn is_const_allow(program: &[Instruction], number: u32) -> bool {
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let holds = match code {
            0x20 if k == 0 => {
                accumulator = number;
                true
            }
            0x20 if k == 4 => {
                accumulator = Architecture::X86_64.token();
                true
            }
            0x06 => return Action(k) == Action::ALLOW,
            0x05 => {
                at += usize::try_from(k).unwrap();
                true
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => return false,
        };
        at += 1 + usize::from(if holds { jt } else { jf });
    }
}

#[test]
fn actions_and_their_values() {
    for (action, errno, expected) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(13), 0x0005_000d),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0xffff), 0x7ff0_ffff),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
    ] {
        let mut entry = json!({"names": ["mkdir"], "action": action});
        if let Some(errno) = errno {
            entry["errnoRet"] = json!(errno);
        }
        let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}));
        assert_eq!(filter.native("mkdir", &[]).0, expected, "{action} {errno:?}");
        assert_eq!(filter.native("rmdir", &[]), Action::ALLOW);
    }
}

#[test]
fn default_errno() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    assert_eq!(filter.native("mkdir", &[]), EPERM);
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99}));
    assert_eq!(filter.native("mkdir", &[]), Action::errno(99));
}

#[test]
fn errno_where_there_is_none_is_refused() {
    let text = refusal(&json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}));
    assert_eq!(text, "defaultErrnoRet with SCMP_ACT_ALLOW, which has no errno");
    let text = refusal(&json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}));
    assert_eq!(text, "seccomp: syscalls[0]: errnoRet with SCMP_ACT_KILL, which has no errno");
    let text = refusal(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}));
    assert_eq!(text, "defaultErrnoRet 4096 with SCMP_ACT_ERRNO is above 4095");
}

#[test]
fn notify_that_would_stop_the_runtime_is_refused() {
    assert!(refusal(&json!({"defaultAction": "SCMP_ACT_NOTIFY"})).contains("default action"));
    let text = refusal(&json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}]}));
    assert_eq!(text, "seccomp: syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall");
}

#[test]
fn argument_index_is_checked() {
    let text = refusal(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}));
    assert_eq!(text, "seccomp: syscalls[0]: argument index 6 is above 5");
}

#[test]
fn unknown_names_are_skipped_with_a_warning() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["no_such_call", "read", "cacheflush"], "action": "SCMP_ACT_ALLOW"}]}));
    assert_eq!(filter.warnings, ["seccomp: unknown system call \"no_such_call\" is skipped"]);
    assert_eq!(filter.native("read", &[]), Action::ALLOW);
}

const VALUES: [u64; 14] = [
    0,
    1,
    5,
    6,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x5_0000_0001,
    0x5_0000_0005,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0005,
    u64::MAX,
];

/// Every operator on pairs of values that differ in one word, in both and in the sign.
#[test]
fn operators_compare_64_bits_unsigned() {
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_NE", |a, v| a != v),
        ("SCMP_CMP_LT", |a, v| a < v),
        ("SCMP_CMP_LE", |a, v| a <= v),
        ("SCMP_CMP_EQ", |a, v| a == v),
        ("SCMP_CMP_GE", |a, v| a >= v),
        ("SCMP_CMP_GT", |a, v| a > v),
    ];
    for native in [Architecture::X86_64, Architecture::S390x] {
        for (operator, holds) in operators {
            for value in VALUES {
                let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_S390"],
                    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 3, "value": value, "op": operator}]}]});
                let filter = Filter::on(native, &profile);
                for argument in VALUES {
                    let answer = filter.ask(native, "mkdir", &[0, 0, 0, argument]);
                    let expected = if holds(argument, value) { EPERM } else { Action::ALLOW };
                    assert_eq!(answer, expected, "{native:?}: {argument:#x} {operator} {value:#x}");
                }
            }
        }
    }
}

#[test]
fn arguments_of_32_bit_architectures_have_a_low_word_only() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": u64::MAX, "op": "SCMP_CMP_EQ"}]}]}));
    for arch in [Architecture::X86, Architecture::X32] {
        assert_eq!(filter.ask(arch, "mkdir", &[0xffff_ffff]), EPERM, "{arch:?}");
        assert_eq!(filter.ask(arch, "mkdir", &[u64::MAX]), EPERM, "{arch:?}");
    }
    assert_eq!(filter.native("mkdir", &[0xffff_ffff]), Action::ALLOW);
}

#[test]
fn masked_equality_has_the_mask_first() {
    for mask in VALUES {
        for datum in VALUES {
            let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 5, "value": mask, "valueTwo": datum, "op": "SCMP_CMP_MASKED_EQ"}]}]}));
            for argument in VALUES {
                let answer = filter.native("mkdir", &[0, 0, 0, 0, 0, argument]);
                let expected = if argument & mask == datum & mask { EPERM } else { Action::ALLOW };
                assert_eq!(answer, expected, "{argument:#x} & {mask:#x} == {datum:#x}");
            }
        }
    }
}

fn socket_rule(args: serde_json::Value) -> serde_json::Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args}]})
}

#[test]
fn conditions_on_different_arguments_hold_together() {
    let filter = Filter::new(&socket_rule(json!([
        {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
    ])));
    assert_eq!(filter.native("socket", &[16, 7, 9]), Action::ALLOW);
    assert_eq!(filter.native("socket", &[16, 7, 8]), EPERM);
    assert_eq!(filter.native("socket", &[15, 7, 9]), EPERM);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let filter = Filter::new(&socket_rule(json!([
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"},
    ])));
    assert_eq!(filter.native("socket", &[1, 0]), Action::ALLOW);
    assert_eq!(filter.native("socket", &[2, 0]), Action::ALLOW);
    assert_eq!(filter.native("socket", &[7, 3]), Action::ALLOW);
    assert_eq!(filter.native("socket", &[7, 0]), EPERM);
}

/// Values of one argument are compared one after the other, whatever their upper halves and actions.
#[test]
fn choices_of_one_argument() {
    let entry = |value: u64, errno: u32| {
        json!({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let values: Vec<u64> = (0..600).map(|n| if n % 3 == 0 { n } else { ((n % 3) << 32) | n }).collect();
    let entries: Vec<_> =
        values.iter().map(|value| entry(*value, u32::try_from(value % 1000).unwrap())).collect();
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries,
        "architectures": ["SCMP_ARCH_X86"]}));
    for value in values {
        let errno = Action::errno(u16::try_from(value % 1000).unwrap());
        assert_eq!(filter.native("ioctl", &[0, value]), errno, "{value:#x}");
        assert_eq!(filter.native("ioctl", &[0, value ^ 4 << 32]), Action::ALLOW, "{value:#x}");
    }
    assert_eq!(filter.native("ioctl", &[0, 600]), Action::ALLOW);
    assert_eq!(
        filter.ask(Architecture::X86, "ioctl", &[0, 599]),
        filter.native("ioctl", &[0, 2 << 32 | 599])
    );
}

#[test]
fn podman_sockets() {
    let filter = Filter::new(&parsed(PODMAN));
    assert_eq!(filter.native("socket", &[16, 3, 9]), Action::errno(22), "AF_NETLINK, NETLINK_AUDIT");
    assert_eq!(filter.native("socket", &[16, 3, 0]), Action::ALLOW);
    assert_eq!(filter.native("socket", &[2, 1, 9]), Action::ALLOW);
    assert_eq!(filter.ask_number(Architecture::X86_64, 600, &[]), Action::ENOSYS, "the default");
    assert_eq!(filter.native("bpf", &[]), EPERM);
}

#[test]
fn entry_without_conditions_decides_alone() {
    let conditional = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]});
    let plain = json!({"names": ["mkdir"], "action": "SCMP_ACT_ALLOW"});
    let trap = json!({"names": ["mkdir"], "action": "SCMP_ACT_TRAP"});
    for (entries, expected) in [
        (json!([conditional, plain]), Action::ALLOW),
        (json!([plain, conditional]), Action::ALLOW),
        (json!([conditional, trap, plain]), Action::TRAP),
        (json!([plain, trap]), Action::ALLOW),
    ] {
        let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": entries}));
        assert_eq!(filter.native("mkdir", &[5]), expected, "{entries}");
        assert_eq!(filter.native("mkdir", &[6]), expected, "{entries}");
    }
}

#[test]
fn the_more_specific_condition_is_tried_first() {
    let entry = |value: u64, operator: &str, errno: u32| {
        json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 0, "value": value, "op": operator}]})
    };
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        entry(100, "SCMP_CMP_GE", 2), entry(200, "SCMP_CMP_GE", 3), entry(150, "SCMP_CMP_EQ", 4)]}));
    for (argument, expected) in [
        (99, Action::ALLOW),
        (100, Action::errno(2)),
        (150, Action::errno(4)),
        (199, Action::errno(2)),
        (200, Action::errno(3)),
        (1 << 32, Action::errno(3)),
    ] {
        assert_eq!(filter.native("mkdir", &[argument]), expected, "{argument}");
    }
}

#[test]
fn the_stricter_of_equal_conditions_wins() {
    let entry = |action: &str| json!({"names": ["mkdir"], "action": action, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]});
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [entry("SCMP_ACT_ALLOW"), entry("SCMP_ACT_KILL_PROCESS"), entry("SCMP_ACT_LOG")]}));
    assert_eq!(filter.native("mkdir", &[1]), Action::KILL_PROCESS);
}

#[test]
fn calls_newer_than_the_profile_get_enosys() {
    let profile = |default: &str| {
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_KILL"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})
    };
    for (default, action) in
        [("SCMP_ACT_ERRNO", EPERM), ("SCMP_ACT_KILL", Action::KILL_THREAD), ("SCMP_ACT_TRAP", Action::TRAP)]
    {
        let filter = Filter::new(&profile(default));
        for arch in [Architecture::X86_64, Architecture::X86, Architecture::X32] {
            assert_eq!(filter.ask(arch, "openat2", &[]), Action::KILL_THREAD);
            assert_eq!(filter.ask(arch, "clone3", &[]), action, "below the newest");
            assert_eq!(filter.ask(arch, "pidfd_getfd", &[]), Action::ENOSYS);
            assert_eq!(filter.ask(arch, "file_setattr", &[]), Action::ENOSYS);
        }
    }
    for permissive in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let filter = Filter::new(&profile(permissive));
        assert_ne!(filter.native("file_setattr", &[]), Action::ENOSYS, "{permissive}");
    }
}

/// runc counts a name that only repeats the default among those that the profile knows.
#[test]
fn names_that_repeat_the_default_are_known() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["openat2"], "action": "SCMP_ACT_ERRNO"}, {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}));
    assert_eq!(filter.native("clone3", &[]), EPERM);
    assert_eq!(filter.native("pidfd_getfd", &[]), Action::ENOSYS);
}

#[test]
fn profile_without_known_calls_has_no_newest() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    assert_eq!(filter.native("file_setattr", &[]), EPERM);
}

#[test]
fn large_numbers_of_s390_get_enosys() {
    let filter = Filter::on(
        Architecture::S390x,
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390"],
            "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_ALLOW"}]}),
    );
    for arch in [Architecture::S390, Architecture::S390x] {
        assert_eq!(filter.ask_number(arch, 0, &[]), Action::ENOSYS);
        assert_eq!(filter.ask(arch, "exit", &[]), EPERM);
        assert_eq!(filter.ask(arch, "openat2", &[]), Action::ALLOW);
    }
}

#[test]
fn private_calls_of_arm_do_not_make_a_profile_new() {
    let filter = Filter::on(
        Architecture::Aarch64,
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"],
            "syscalls": [{"names": ["openat2", "set_tls"], "action": "SCMP_ACT_ALLOW"}]}),
    );
    assert_eq!(filter.ask(Architecture::Arm, "openat2", &[]), Action::ALLOW);
    assert_eq!(filter.ask(Architecture::Arm, "pidfd_getfd", &[]), Action::ENOSYS);
    assert_eq!(filter.ask(Architecture::Arm, "set_tls", &[]), Action::ALLOW);
}

#[test]
fn unlisted_architectures_are_killed() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}));
    assert_eq!(filter.native("read", &[]), Action::ALLOW);
    for arch in [Architecture::X86, Architecture::X32, Architecture::Aarch64] {
        assert_eq!(filter.ask(arch, "read", &[]), Action::KILL_THREAD, "{arch:?}");
    }
    assert_eq!(filter.ask_number(Architecture::X86_64, u32::MAX, &[]), Action::ALLOW, "skipped by a tracer");
}

#[test]
fn native_architecture_needs_no_listing() {
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}));
    for arch in [Architecture::X86_64, Architecture::X86] {
        assert_eq!(filter.ask(arch, "read", &[]), Action::ALLOW, "{arch:?}");
        assert_eq!(filter.ask(arch, "mkdir", &[]), EPERM, "{arch:?}");
    }
}

/// Both have one token, and so one section of the program, whichever of them are listed.
#[test]
fn x32_is_listed_without_x86_64() {
    let filter = Filter::on(
        Architecture::Aarch64,
        &json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    assert_eq!(filter.ask(Architecture::X32, "mkdir", &[]), EPERM);
    assert_eq!(filter.ask(Architecture::X32, "read", &[]), Action::ALLOW);
    assert_eq!(filter.ask(Architecture::X86_64, "read", &[]), Action::KILL_THREAD);
}

#[test]
fn architectures_that_cannot_be_compiled_are_reported() {
    let filter = Filter::new(
        &json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_SHEB"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    assert_eq!(
        filter.warnings,
        [
            "seccomp: architecture s390x has another byte order than x86_64; its calls are killed",
            "seccomp: no system call table for SCMP_ARCH_SHEB; its calls are killed",
        ]
    );
    assert_eq!(filter.ask(Architecture::S390x, "read", &[]), Action::KILL_THREAD);
}

#[test]
fn socket_and_ipc_rules_hold_for_their_multiplexers() {
    let filter = Filter::new(
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["bind", "send", "shmget"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["listen"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        ]}),
    );
    let x86 = |name: &str, arguments: &[u64]| filter.ask(Architecture::X86, name, arguments);
    assert_eq!(x86("bind", &[]), Action::ALLOW);
    assert_eq!(x86("socketcall", &[2]), Action::ALLOW, "bind");
    assert_eq!(x86("socketcall", &[9]), Action::ALLOW, "send");
    assert_eq!(x86("socketcall", &[1]), EPERM, "socket: its domain cannot be seen, so it is not allowed");
    assert_eq!(x86("socketcall", &[4]), Action::KILL_THREAD, "listen: cannot be seen, so it is forbidden");
    assert_eq!(x86("socketcall", &[5]), EPERM, "accept is not named");
    assert_eq!(x86("ipc", &[23]), Action::ALLOW, "shmget");
    assert_eq!(x86("ipc", &[0x1_0017]), Action::ALLOW, "shmget with a version");
    assert_eq!(x86("ipc", &[1]), EPERM);
}

#[test]
fn a_profile_that_asks_for_nothing_is_no_filter() {
    let compiled = |profile: serde_json::Value| {
        compile(&serde_json::from_value(profile).unwrap(), &mut Vec::new()).unwrap()
    };
    assert!(compiled(json!({"defaultAction": "SCMP_ACT_ALLOW"})).is_none());
    assert!(
        compiled(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [], "architectures": []})).is_none()
    );
    assert!(compiled(json!({"defaultAction": "SCMP_ACT_LOG"})).is_some());
    assert!(
        compiled(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]})).is_some()
    );
}

fn all_names() -> Vec<&'static str> {
    Syscall::all().map(Syscall::name).collect()
}

/// The issue's bound: every call by name, conditions on twenty, three architectures.
#[test]
fn every_call_named_and_twenty_with_conditions_fit() {
    let names = all_names();
    let mut entries = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    let mut alternate: Vec<_> = names.iter().step_by(2).collect();
    let conditional: Vec<_> = alternate.split_off(alternate.len() - 20);
    entries[0]["names"] = json!(alternate);
    for name in conditional {
        entries.push(json!({"names": [name], "action": "SCMP_ACT_LOG", "args": [
            {"index": 0, "value": 1u64 << 40, "op": "SCMP_CMP_GT"},
            {"index": 1, "value": 0xff00_ff00_ff00_ff00u64, "valueTwo": 0x1100_1100_1100_1100u64, "op": "SCMP_CMP_MASKED_EQ"},
            {"index": 2, "value": 7, "op": "SCMP_CMP_NE"},
        ]}));
    }
    let filter = Filter::new(&json!({"defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": entries}));
    assert!(filter.instructions.len() <= sys::MAX_INSTRUCTIONS, "{}", filter.instructions.len());
}

#[test]
fn program_beyond_the_kernels_limit_is_refused() {
    let entries: Vec<_> = (0..1100)
        .map(|value| json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": value, "op": "SCMP_CMP_NE"}]}))
        .collect();
    let profile = checked(
        Architecture::X86_64,
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries}),
        &mut Vec::new(),
    );
    let text = profile.unwrap().compile().unwrap_err().to_string();
    assert!(text.starts_with("seccomp: the profile takes 44"), "{text}");
    assert!(text.contains("the kernel's limit is 4096; use fewer conditions"), "{text}");
}

#[test]
fn flags_become_bits() {
    let bits = |profile: serde_json::Value| {
        let mut warnings = Vec::new();
        let program = compile(&serde_json::from_value(profile).unwrap(), &mut warnings).unwrap().unwrap();
        (program.flags, warnings)
    };
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    assert_eq!(bits(profile.clone()).0, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    profile["flags"] = json!([]);
    assert_eq!(bits(profile.clone()).0, 0);
    profile["flags"] =
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    assert_eq!(bits(profile.clone()).0, 7);
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    let (flags, warnings) = bits(profile.clone());
    assert_eq!(flags, 0);
    assert_eq!(
        warnings,
        ["seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no effect without SCMP_ACT_NOTIFY"]
    );
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY");
    assert_eq!(
        bits(profile.clone()).0,
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    );
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_TSYNC"]);
    assert_eq!(
        bits(profile).0,
        libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    );
}

/// Attaches the filter to a thread of its own, and asks there.
fn under<T: Send>(profile: serde_json::Value, ask: impl FnOnce(Option<OwnedFd>) -> T + Send) -> T {
    let program = compile(&serde_json::from_value(profile).unwrap(), &mut Vec::new()).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                ask(program.install().unwrap())
            })
            .join()
            .unwrap()
    })
}

#[test]
fn the_kernel_agrees() {
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
        {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 39,
            "args": [{"index": 0, "value": 0x7777_7777, "op": "SCMP_CMP_GE"}]}]});
    for flags in [json!([]), json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])] {
        profile["flags"] = flags;
        let answers = under(profile.clone(), |listener| {
            assert!(listener.is_none());
            let group = |pid| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
            (nix::sys::utsname::uname().map(drop), group(0x7777_7777).map(drop), group(0).map(drop))
        });
        assert_eq!(answers, (Err(Errno::EPROTO), Err(Errno::ENOTEMPTY), Ok(())));
    }
}

#[test]
fn notify_gives_a_listener() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    under(profile, |listener| {
        let flags = nix::fcntl::fcntl(listener.unwrap(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    });
}

#[test]
fn a_program_survives_the_way_to_the_child() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let program = compile(&serde_json::from_str(profile).unwrap(), &mut Vec::new()).unwrap().unwrap();
    let bytes = program.to_bytes();
    let arrived = Program::from_bytes(&bytes).unwrap();
    assert_eq!(arrived.flags, program.flags);
    assert_eq!(arrived.instructions.len(), program.instructions.len());
    for (arrived, sent) in arrived.instructions.iter().zip(&program.instructions) {
        assert_eq!((arrived.code, arrived.jt, arrived.jf, arrived.k), (sent.code, sent.jt, sent.jf, sent.k));
    }
    for broken in [&bytes[..8], &bytes[..bytes.len() - 1], &[]] {
        assert!(Program::from_bytes(broken).is_none());
    }
}
