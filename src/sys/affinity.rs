//! CPU affinity (sched_setaffinity(2)).

use libc::{c_int, c_ulong};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::cvt;

/// NR_CPUS is 8192 at the most.
const WORDS: usize = 8192 / c_ulong::BITS as usize;
const EVERY_CPU: [c_ulong; WORDS] = [c_ulong::MAX; WORDS];
const NO_CPU: [c_ulong; WORDS] = [0; WORDS];

/// The calling thread runs on these CPUs only. `mask` has one bit per CPU, CPU 0 in the lowest bit of
/// the first word, and may be of any length (the C library's cpu_set_t ends at CPU 1023).
///
/// # Errors
/// EINVAL when the cpuset has none of them.
pub fn set(mask: &[c_ulong]) -> nix::Result<()> {
    set_of(0, mask)
}

/// Takes every CPU for the calling thread that its cpuset has. Since Linux 6.2 a mask that somebody asked for
/// outlives the move into another cgroup (da019032819a), so that a container would be held to the CPUs of whoever
/// called us. The kernel leaves out of the mask what the cpuset and the machine do not have.
///
/// Where a sandbox or a security module forbids the call, or no CPU of the cpuset is left, the mask stays as it is,
/// which is no more than the caller had.
///
/// # Errors
/// None is known.
pub fn reset() -> nix::Result<()> {
    match set(&EVERY_CPU) {
        Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS) => Ok(()),
        result => result,
    }
}

/// Takes the CPU that we run on from a process that was cloned just now; false if there is no other.
///
/// The kernel may queue a clone on its parent's CPU although another is idle, and leave it there until the parent
/// waits (seen on a virtual machine, whose idle CPUs may count as taken away by the host, `vcpu_is_preempted`):
/// what was cloned so that it works beside us would then begin when we have nothing to do any more.
///
/// The mask is inherited: whoever becomes a container's process [`reset`]s it. And it is in the way as soon as we
/// wait, or the other CPUs are busy: the process resets it when it runs, or we [`free`] it before we wait.
pub fn run_beside_us(process: Pid) -> bool {
    let mut mask = NO_CPU;
    // SAFETY: the kernel writes at most the number of bytes given, and any bits are numbers.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    // Of one CPU nothing is left, which the kernel refuses.
    match (got, own_cpu(&mut mask)) {
        (1.., Some((word, own))) => {
            *word &= !own;
            set_of(process.as_raw(), &mask).is_ok()
        }
        _ => false,
    }
}

/// Stays on the CPU that we run on, and what we clone with us, until somebody [`reset`]s it.
pub fn stay() {
    let mut mask = NO_CPU;
    if let Some((word, own)) = own_cpu(&mut mask) {
        *word = own;
        // About time and nothing else, as below.
        set(&mask).unwrap_or(());
    }
}

/// Takes back what was said to a process here. It is about time and about nothing else, so a kernel that refuses is no
/// error.
pub fn free(process: Pid) {
    set_of(process.as_raw(), &EVERY_CPU).unwrap_or(());
}

/// The word of `mask` that has the CPU that we run on, and its bit there.
fn own_cpu(mask: &mut [c_ulong]) -> Option<(&mut c_ulong, c_ulong)> {
    const WORD: usize = c_ulong::BITS as usize;
    // SAFETY: it has no argument.
    let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
    Some((mask.get_mut(cpu / WORD)?, 1 << (cpu % WORD)))
}

fn set_of(thread: c_int, mask: &[c_ulong]) -> nix::Result<()> {
    // SAFETY: the kernel reads at most the given number of bytes, which is the length of `mask`.
    cvt(unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size_of_val(mask), mask.as_ptr()) })?;
    Ok(())
}
