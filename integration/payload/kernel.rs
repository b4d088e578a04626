//! The calls that have no safe wrapper; each returns the errno's name where it fails.

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::sync::atomic::{AtomicBool, Ordering};

fn named(result: libc::c_long) -> Result<i64, String> {
    Errno::result(result).map_err(|errno| format!("{errno:?}"))
}

/// Runs `probe` in a forked child, so that a filter that kills is a result and not the end.
fn in_child(probe: impl FnOnce() -> Result<i64, String>) -> String {
    let (reader, writer) = match nix::unistd::pipe() {
        Ok(pipe) => pipe,
        Err(errno) => return format!("pipe {errno:?}"),
    };
    // SAFETY: the program has one thread, so the child may run any code.
    match unsafe { fork() } {
        Err(errno) => format!("fork {errno:?}"),
        Ok(ForkResult::Child) => {
            let text = match probe() {
                Ok(value) => format!("ok {value}"),
                Err(name) => name,
            };
            let written = nix::unistd::write(&writer, text.as_bytes());
            // SAFETY: _exit does not return and runs no destructors of the parent's.
            unsafe { libc::_exit(i32::from(written.is_err())) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop(writer);
            let mut text = String::new();
            let read = std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text);
            match (waitpid(child, None), read) {
                (Ok(WaitStatus::Signaled(_, signal, _)), _) => signal.as_str().to_owned(),
                (Ok(WaitStatus::Exited(_, 0)), Ok(_)) => {
                    text.strip_prefix("ok 0").map_or(text.clone(), |_| "ok".to_owned())
                }
                (status, read) => format!("{status:?} {read:?}"),
            }
        }
    }
}

/// A raw system call with integer arguments.
pub fn syscall(number: i64, args: [i64; 6]) -> String {
    in_child(|| {
        // SAFETY: the tests pass numbers and null or small integer arguments; no memory of ours is
        // named, and the process ends right after.
        named(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) })
    })
}

/// Ends the calling thread and no other.
pub fn end_thread() {
    // SAFETY: exit(2) takes a number; who is left of the process names nothing of this thread's stack.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// [`syscall`] by `int 0x80`, the way of 32-bit x86 programs.
#[cfg(target_arch = "x86_64")]
pub fn syscall_i386(number: i32) -> String {
    in_child(|| {
        let result: i32;
        // SAFETY: `int 0x80` clobbers only what is listed; all arguments are zero. rbx is saved
        // because LLVM reserves it.
        unsafe {
            std::arch::asm!(
                "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
                inout("eax") number => result, in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if result < 0 { Err(format!("{:?}", Errno::from_raw(-result))) } else { Ok(i64::from(result)) }
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub fn syscall_i386(_number: i32) -> String {
    "no i386 here".to_owned()
}

/// personality(2) of this process.
pub fn personality() -> i64 {
    // SAFETY: 0xffffffff only asks.
    unsafe { libc::personality(0xffff_ffff).into() }
}

/// umask(2); the only way to read it without /proc sets it.
pub fn umask() -> u32 {
    // SAFETY: umask takes no pointer; it is put back at once.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        mask
    }
}

/// The scheduling policy, its priority and the nice value.
pub fn scheduler() -> (i32, i32, i32) {
    let mut parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameter` outlives the call; 0 is this process.
    unsafe {
        let policy = libc::sched_getscheduler(0);
        libc::sched_getparam(0, &raw mut parameter);
        (policy, parameter.sched_priority, libc::getpriority(libc::PRIO_PROCESS, 0))
    }
}

/// ioprio_get(2) of this process: class in the bits from 13 up.
pub fn ioprio() -> i64 {
    // SAFETY: integers only; 1 is IOPRIO_WHO_PROCESS.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
}

/// The serial of the session keyring, or the errno.
pub fn session_keyring() -> Result<i64, String> {
    // SAFETY: KEYCTL_GET_KEYRING_ID (0) of KEY_SPEC_SESSION_KEYRING (-3), do not create; integers only.
    named(unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) })
}

/// Window size of a terminal: rows, columns.
pub fn window_size(fd: i32) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some((size.ws_row, size.ws_col))
}

/// Whether the process has a controlling terminal.
pub fn foreground_group(fd: i32) -> i32 {
    // SAFETY: integers only.
    unsafe { libc::tcgetpgrp(fd) }
}

/// Forks children that wait until all were tried; returns how many were born.
pub fn fork_bomb(count: usize) -> (usize, String) {
    let mut children = Vec::new();
    let mut stopped = "none".to_owned();
    for _ in 0..count {
        // SAFETY: one thread; the child only pauses until it is killed.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => loop {
                nix::unistd::pause();
            },
            Ok(ForkResult::Parent { child }) => children.push(child),
            Err(errno) => {
                stopped = format!("{errno:?}");
                break;
            }
        }
    }
    for child in &children {
        if nix::sys::signal::kill(*child, nix::sys::signal::SIGKILL).is_ok() {
            let _status = waitpid(*child, None);
        }
    }
    (children.len(), stopped)
}

static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Whether SIGPIPE was ignored when the program was executed.
pub fn pipe_was_ignored() -> bool {
    PIPE_WAS_IGNORED.load(Ordering::Relaxed)
}

extern "C" fn record_pipe_action() {
    // SAFETY: with no new action sigaction only writes the old one, into memory that outlives the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let result = libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action);
        PIPE_WAS_IGNORED.store(result == 0 && action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
}

/// Runs before main and before Rust's runtime, which ignores SIGPIPE itself.
// SAFETY: the C runtime calls each entry of this section once, as a function of this type.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD_PIPE_ACTION: extern "C" fn() = record_pipe_action;
