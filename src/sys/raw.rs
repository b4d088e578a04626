//! System calls without the C library: for the moments when it has not started yet ([`super::early`]), and
//! for a process that shares our memory and with it the place of our `errno` ([`super::beside`]).

use core::arch::asm;

/// One system call; below zero the result is the negative errno.
///
/// # Safety
/// The arguments are right for `number`.
pub unsafe fn syscall(number: libc::c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> i64 {
    // SAFETY: the caller vouches for the arguments; the kernel does not look at more than the call has.
    unsafe { syscall6(number, a, b, c, d, e, 0) }
}

/// The same for the calls that have six (mmap).
///
/// # Safety
/// The arguments are right for `number`.
pub unsafe fn syscall6(
    number: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> i64 {
    let result: i64;
    // SAFETY: the caller vouches for the arguments; the instruction changes rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
