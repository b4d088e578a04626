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
    match take_every() {
        Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS) => Ok(()),
        result => result,
    }
}

/// As [`reset`], for who had more CPUs before.
///
/// # Errors
/// The kernel's.
pub fn take_every() -> nix::Result<()> {
    set(&EVERY_CPU)
}

/// Takes the CPU that we run on from a process that was cloned just now; false if there is no other.
///
/// The kernel may queue a clone on its parent's CPU although another is idle, and leave it there until the parent
/// waits (seen on a virtual machine, whose idle CPUs may count as taken away by the host, `vcpu_is_preempted`):
/// what was cloned so that it works beside us would then begin when we have nothing to do any more.
///
/// The mask is in the way as soon as we wait, or the other CPUs are busy: we [`free`] the process before we wait.
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

/// Stays on the CPU that we run on, as what we clone does, until it [`take_every`]s. False where that is refused.
pub fn stay() -> bool {
    let mut mask = NO_CPU;
    match own_cpu(&mut mask) {
        Some((word, own)) => {
            *word = own;
            set(&mask).is_ok()
        }
        None => false,
    }
}

/// Takes back what was said to a process here. It is about time and about nothing else, so a kernel that refuses is no
/// error.
pub fn free(process: Pid) {
    set_of(process.as_raw(), &EVERY_CPU).unwrap_or(());
}

/// The word of `mask` that has the CPU that we run on, and its bit there. sched_getcpu(3) would not do: it reads what the
/// kernel writes into the memory of a thread, which a process that shares it (`vfork`) finds as its parent left it.
fn own_cpu(mask: &mut [c_ulong]) -> Option<(&mut c_ulong, c_ulong)> {
    const WORD: usize = c_ulong::BITS as usize;
    let (mut cpu, none) = (0_u32, 0_usize);
    // SAFETY: the kernel writes the one number that it gets an address for.
    cvt(unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, none, none) }).ok()?;
    let cpu = usize::try_from(cpu).ok()?;
    Some((mask.get_mut(cpu / WORD)?, 1 << (cpu % WORD)))
}

fn set_of(thread: c_int, mask: &[c_ulong]) -> nix::Result<()> {
    // SAFETY: the kernel reads at most the given number of bytes, which is the length of `mask`.
    cvt(unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, size_of_val(mask), mask.as_ptr()) })?;
    Ok(())
}
