//! Filters under programs of other kinds: 32-bit, threaded, traced, and one that may do nothing at all.
//! What they do is seen by their end, by a tracer, or in the kernel's log.

use crate::harness::program::{await_condition, patience};
use crate::harness::*;
use crate::{require, tests};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

tests! {
    programs_of_32_bits, programs_of_32_bits_where_they_are_not_listed, threads_and_clone3_under_dockers_profile,
    nothing_but_execve, a_tracer_is_asked, nobody_traces, what_is_logged,
}

/// sched_get_priority_max(0) on x86_64 and on i386: nothing needs it.
const PROBE: i64 = libc::SYS_sched_get_priority_max;
const PROBE_I386: u8 = 159;

fn docker() -> Value {
    let config: Value = serde_json::from_str(include_str!("bundles/docker.json")).expect("docker.json");
    config["linux"]["seccomp"].clone()
}

/// An executable of nothing but this code, as small as the kernel takes it: one header, one segment.
fn elf(is_64bit: bool, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let (header, segment, machine) = if is_64bit { (64, 56, 62) } else { (52, 32, 3) };
    let size = header + segment + u64::try_from(code.len()).expect("a size");
    let mut file = vec![0x7f, b'E', b'L', b'F', if is_64bit { 2 } else { 1 }, 1, 1];
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: u64| file.extend(&value.to_le_bytes()[..2]);
    let word = |file: &mut Vec<u8>, value: u64| file.extend(&value.to_le_bytes()[..4]);
    let address = |file: &mut Vec<u8>, value: u64| {
        file.extend(&value.to_le_bytes()[..if is_64bit { 8 } else { 4 }]);
    };
    // Elf64_Ehdr: executable, machine, version, entry, segments, no sections, flags; elf(5).
    half(&mut file, 2);
    half(&mut file, machine);
    word(&mut file, 1);
    address(&mut file, BASE + header + segment);
    address(&mut file, header);
    address(&mut file, 0);
    word(&mut file, 0);
    for value in [header, segment, 1, 0, 0, 0] {
        half(&mut file, value);
    }
    // Elf64_Phdr: PT_LOAD of the whole file, readable and executable; 32-bit has the flags further behind.
    word(&mut file, 1);
    if is_64bit {
        word(&mut file, 5);
    }
    for value in [0, BASE, BASE, size, size] {
        address(&mut file, value);
    }
    if !is_64bit {
        word(&mut file, 5);
    }
    address(&mut file, 0x1000);
    file.extend(code);
    file
}

/// A 32-bit program that makes one call with null arguments, and exits with the errno.
fn i386(call: u8) -> Vec<u8> {
    elf(
        false,
        &[
            0xb8, call, 0, 0, 0, // mov eax, call
            0x31, 0xdb, // xor ebx, ebx
            0xcd, 0x80, // int 0x80
            0xf7, 0xd8, // neg eax
            0x89, 0xc3, // mov ebx, eax
            0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
            0xcd, 0x80, // int 0x80
        ],
    )
}

/// The exit code of a container that is this program.
fn exit_code(bundle: Bundle, program: &[u8]) -> i32 {
    let path = bundle.rootfs().join("bin/program");
    std::fs::write(&path, program).expect("program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    bundle.args(&["/bin/program"]).container().run().code()
}

fn runs_i386() -> bool {
    cfg!(target_arch = "x86_64") && exit_code(Bundle::new(), &i386(PROBE_I386)) == 0
}

/// Not a 64-bit program that makes such a call, but one that the kernel runs in 32 bits.
fn programs_of_32_bits() {
    require!(runs_i386(), "no 32-bit programs here");
    let rule = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33 }]);
    let filtered = || Bundle::new().seccomp("SCMP_ACT_ALLOW", rule.clone());
    assert_eq!(exit_code(filtered(), &i386(PROBE_I386)), 33);
    // Its number on x86_64 is another call here.
    assert_ne!(exit_code(filtered(), &i386(u8::try_from(PROBE).expect("a small number"))), 33);
    let by_docker = |call| exit_code(Bundle::new().set("/linux/seccomp", docker()), &i386(call));
    assert_eq!(by_docker(PROBE_I386), 0);
    const I386_SWAPOFF: u8 = 115;
    assert_eq!(by_docker(I386_SWAPOFF), 1, "EPERM, before the kernel looks at the null pointer");
}

fn programs_of_32_bits_where_they_are_not_listed() {
    require!(runs_i386(), "no 32-bit programs here");
    let mut profile = docker();
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    let bundle = Bundle::new().set("/linux/seccomp", profile);
    assert_eq!(exit_code(bundle, &i386(PROBE_I386)), 128 + libc::SIGSYS);
}

/// C libraries try clone3(2) first, whose flags no filter can see, and take clone(2) if there is no such
/// call. EPERM instead of ENOSYS would be the end of every program with threads.
fn threads_and_clone3_under_dockers_profile() {
    let clone3 = format!("syscall:{}:0:0", libc::SYS_clone3);
    let bundle = Bundle::new().set("/linux/seccomp", docker());
    let report = bundle.report_after(&[&clone3, "threads:8"]);
    assert_eq!(report.probe(&clone3), "ENOSYS");
    assert_eq!(report.probe("threads:8"), 28, "0 + 1 + … + 7");
    assert_eq!(Bundle::new().report_after(&[&clone3]).probe(&clone3), "EINVAL", "without a filter");
}

/// Nothing that init does behind the filter may need a call that the profile refuses. The program cannot
/// even exit, so its end is an instruction that there is not.
fn nothing_but_execve() {
    require!(cfg!(target_arch = "x86_64"), "the program is one for x86_64");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_ALLOW" }],
    });
    for no_new_privileges in [true, false] {
        for uid in [0, 1000] {
            let bundle = Bundle::new()
                .set("/process/noNewPrivileges", no_new_privileges)
                .set("/process/user", json!({ "uid": uid, "gid": uid }))
                .set("/linux/seccomp", profile.clone());
            const UD2: [u8; 2] = [0x0f, 0x0b];
            assert_eq!(exit_code(bundle, &elf(true, &UD2)), 128 + libc::SIGILL, "{no_new_privileges} {uid}");
        }
    }
}

fn traced() -> Bundle {
    let rules =
        json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_TRACE", "errnoRet": 4711 }]);
    Bundle::new().seccomp("SCMP_ACT_ALLOW", rules)
}

/// seccomp(2), SECCOMP_RET_TRACE: ENOSYS if there is no tracer.
fn nobody_traces() {
    let step = format!("syscall:{PROBE}:0");
    assert_eq!(traced().report_after(&[&step]).probe(&step), "ENOSYS");
}

/// The tracer is told of the call with the profile's errnoRet for a message, and lets it happen.
fn a_tracer_is_asked() {
    let step = format!("syscall:{PROBE}:0");
    let mut container = traced().steps(&[&step, "report"]).container();
    container.create();
    let seized =
        trace(libc::PTRACE_SEIZE, container.pid(), libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_TRACEFORK);
    require!(seized != Err(libc::EPERM), "ptrace(2) is not permitted");
    assert_eq!(seized, Ok(()));
    container.start();
    let mut messages = Vec::new();
    assert!(await_condition(|| {
        while let Some((pid, status)) = stopped() {
            let event = status >> 16;
            if event == libc::PTRACE_EVENT_SECCOMP {
                messages.push(event_message(pid));
            }
            let signal = if event == 0 { libc::WSTOPSIG(status) } else { 0 };
            assert_eq!(trace(libc::PTRACE_CONT, pid, signal), Ok(()));
        }
        container.status() == "stopped"
    }));
    assert_eq!(messages, [4711], "{}", container.output());
    assert_eq!(container.started_report().probe(&step), "ok");
}

#[allow(unsafe_code)]
fn trace(request: libc::c_uint, pid: i32, data: i32) -> Result<(), i32> {
    // SAFETY: these requests take integers.
    let answer = unsafe { libc::ptrace(request, pid, 0_usize, libc::c_long::from(data)) };
    if answer == 0 { Ok(()) } else { Err(nix::errno::Errno::last_raw()) }
}

/// A process that we trace and that has stopped just now.
#[allow(unsafe_code)]
fn stopped() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the kernel writes one int, which outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    (pid > 0 && libc::WIFSTOPPED(status)).then_some((pid, status))
}

#[allow(unsafe_code)]
fn event_message(pid: i32) -> libc::c_ulong {
    let mut message: libc::c_ulong = 0;
    // SAFETY: PTRACE_GETEVENTMSG writes one unsigned long, which outlives the call.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0_usize, &raw mut message) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    message
}

/// SCMP_ACT_LOG, and any other action under SECCOMP_FILTER_FLAG_LOG, is a record of the kernel's log where
/// nobody else takes the audit records. The kernel limits the rate of those, so it may take more than one.
fn what_is_logged() {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_logged").unwrap_or_default();
    require!(["log", "errno"].iter().all(|name| actions.contains(name)), "actions_logged is {actions:?}");
    let log = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let Ok(mut log) = log else { skip("the kernel's log cannot be read".into()) };
    // Killed calls always are.
    let killed = |log: &mut File| is_logged(log, "SCMP_ACT_KILL_PROCESS", &json!([]), "code=0x80000000");
    require!(await_condition(|| killed(&mut log)), "audit records are not in the kernel's log");
    for (action, flags, code) in [
        ("SCMP_ACT_LOG", json!([]), "code=0x7ffc0000"),
        ("SCMP_ACT_ERRNO", json!(["SECCOMP_FILTER_FLAG_LOG"]), "code=0x50000"),
    ] {
        let seen = await_condition(|| is_logged(&mut log, action, &flags, code));
        assert!(seen, "no record of {action} within {:?}", patience());
    }
    // Without the flag a refused call is no record.
    assert!(!is_logged(&mut log, "SCMP_ACT_ERRNO", &json!([]), "code=0x50000"));
}

/// Whether a call with this action leaves a record.
fn is_logged(log: &mut File, action: &str, flags: &Value, code: &str) -> bool {
    log.seek(SeekFrom::End(0)).expect("the end of the log");
    let step = format!("syscall:{PROBE}:0");
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": action }]);
    let bundle = Bundle::new().seccomp("SCMP_ACT_ALLOW", rules).set("/linux/seccomp/flags", flags.clone());
    bundle.report_after(&[&step]);
    let words = ["type=1326", "comm=\"payload\"", &format!("syscall={PROBE} "), code];
    records(log).iter().any(|record| words.iter().all(|word| record.contains(word)))
}

/// The records from the place of the file on: each read gives one, EPIPE if some were overwritten.
fn records(log: &mut File) -> Vec<String> {
    let (mut records, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        match log.read(&mut buffer) {
            Ok(length) => records.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return records,
            Err(error) => panic!("/dev/kmsg: {error}"),
        }
    }
}
