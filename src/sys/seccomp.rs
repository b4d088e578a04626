//! System calls: seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::cvt;

/// One instruction of classic BPF: code, jump distances if true and if false, constant
/// (linux/filter.h).
pub type Instruction = libc::sock_filter;

/// The kernel's limit on a program's instructions (BPF_MAXINSNS, linux/bpf_common.h).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Whether the kernel knows all these SECCOMP_FILTER_FLAG_* bits.
///
/// Flags are checked before the program is read, so that a known flag without a program is EFAULT
/// and an unknown one EINVAL (seccomp(2)).
pub fn knows_flags(flags: u64) -> bool {
    // SAFETY: the kernel reads no memory of ours through a null program; it answers EFAULT.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    answer == -1 && Errno::last() == Errno::EFAULT
}

/// Whether the kernel knows a return action, SECCOMP_RET_* without data. Linux 4.14.
pub fn knows_action(action: u32) -> nix::Result<bool> {
    // SAFETY: the kernel reads one u32 at the pointer, which outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    match cvt(answer) {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Attaches a filter to this thread for good; with SECCOMP_FILTER_FLAG_NEW_LISTENER among the flags
/// the listener is returned, close-on-exec.
///
/// The caller has no_new_privs or CAP_SYS_ADMIN in its user namespace, else EACCES. With TSYNC the
/// kernel may answer with the id of a thread that could not follow: ESRCH then.
pub fn set_filter(program: &[Instruction], flags: u64) -> nix::Result<Option<OwnedFd>> {
    let program = fprog(program)?;
    // SAFETY: `program` points to its `len` instructions, which outlive the call.
    let answer = cvt(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
        let fd = i32::try_from(answer).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: the kernel made this descriptor for us just now.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    if answer == 0 { Ok(None) } else { Err(Errno::ESRCH) }
}

/// As [`set_filter`] without flags, by prctl(2): for where seccomp(2) itself is refused with ENOSYS,
/// as by the profile of an outer container.
pub fn set_filter_prctl(program: &[Instruction]) -> nix::Result<()> {
    let program = fprog(program)?;
    // SAFETY: `program` points to its `len` instructions, which outlive the call.
    let answer =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    cvt(answer.into()).map(drop)
}

fn fprog(program: &[Instruction]) -> nix::Result<libc::sock_fprog> {
    Ok(libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        // The kernel only reads; the field is `*mut` because the C header says no const.
        filter: program.as_ptr().cast_mut(),
    })
}
