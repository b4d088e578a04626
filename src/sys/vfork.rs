//! A process on our own memory while we wait for its end, as vfork(2) makes one.
//!
//! fork(2) copies the page tables; after that each page that either side writes is copied, each page of code is
//! mapped once more, and all of it is taken down at the process's end. For one that only enters namespaces and makes the
//! process that was asked for, that is as much work as its own. It needs no copy: it runs below our frames, on our
//! stack, and we stand still.
//!
//! So it may do what a forked process may: the C library's `errno` and the heap are nobody else's meanwhile. What it
//! opens, closes, enters and gives up is its own. The kernel does not choose it when memory runs out; where it kills the
//! whole cgroup (memory.oom.group), it kills us with it, whose memory it is.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::process::{self, Exit, Side, Whom};
use super::{cvt, heap};
use crate::error::{Call, Result};

/// Whose memory the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Ours, where that can be. Not for a process that is to change its time namespace, which the kernel refuses to who
    /// shares its memory; nor for one that others may come to see as their equal.
    Ours,
    /// A copy.
    Copy,
}

/// Where a process leaves us the pid of a clone of its own, which is our child (CLONE_PARENT). The kernel writes it
/// before the clone runs, so nobody who is killed can keep it from us; and the clone does not have the page, so nobody who
/// gets hold of it can name us another.
#[derive(Debug)]
pub struct Offspring(NonNull<AtomicI32>);

impl Offspring {
    /// Nobody yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn none() -> Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes, of zeros, which are a valid AtomicI32.
        let page =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicI32>(), protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(Errno::last()).call(|| "mmap(SHARED|ANONYMOUS)".into());
        }
        NonNull::new(page.cast()).map(Self).ok_or(Errno::EFAULT).call(|| "mmap(SHARED|ANONYMOUS)".into())
    }

    /// Its pid in the pid namespace of who made it, once it is made.
    pub fn pid(&self) -> Option<Pid> {
        match self.slot().load(Ordering::Acquire) {
            0 => None,
            pid => Some(Pid::from_raw(pid)),
        }
    }

    /// Makes it: a clone of the caller, and its parent's child. True in the clone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(&self) -> Result<bool> {
        // SAFETY: the page is ours, and is left as it is here.
        let ret =
            unsafe { libc::madvise(self.0.as_ptr().cast(), size_of::<AtomicI32>(), libc::MADV_DONTFORK) };
        cvt(ret.into()).call(|| "madvise(DONTFORK)".into())?;
        // The kernel says nothing when it finds no memory for the page, so it has to be there.
        self.slot().store(0, Ordering::Release);
        process::clone_sibling(self.slot())
    }

    fn slot(&self) -> &AtomicI32 {
        // SAFETY: the page is mapped until the end of `self`.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the page any more, and the kernel rounds the length up to it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}

/// Clones a process that does `life` with `what`, born in `cgroup` if that is possible (`life` is told whether it was), and
/// waits for its end; how it ended.
///
/// # Errors
/// The kernel's, with the flags decoded.
pub fn clone3_and_wait<T>(
    memory: Memory,
    cgroup: Option<BorrowedFd<'_>>,
    life: fn(&T, bool) -> !,
    what: &T,
) -> Result<Exit> {
    let dumpable = process::is_dumpable();
    let on_ours = match memory {
        Memory::Ours => imp::clone3_on_our_memory(cgroup, &Life { life, what }).transpose()?,
        Memory::Copy => None,
    };
    #[allow(clippy::cast_sign_loss)] // a constant
    let vfork = libc::CLONE_VFORK as u64;
    let pid = match on_ours {
        Some(pid) => pid,
        None => match process::clone3(vfork, cgroup)? {
            Side::Parent { child, .. } => child.pid,
            Side::Child { in_cgroup } => life(what, in_cgroup),
        },
    };
    let ended = process::wait(Whom::Numbered(pid), true);
    let (_, how) = ended.and_then(|end| end.ok_or(Errno::ECHILD)).call(|| format!("waitid({pid})"))?;
    if matches!(how, Exit::Signal(_)) {
        // In the middle of anything. The C library's heap has the blocks above 32 KiB alone.
        heap::renew();
    }
    // It may have made the memory undumpable, which is ours. Not before its end: until then the memory is that of a
    // process with the container's rights, which somebody there may be allowed to trace.
    if dumpable {
        process::set_dumpable()?;
    }
    Ok(how)
}

/// What a process is made for.
struct Life<'a, T> {
    life: fn(&T, bool) -> !,
    what: &'a T,
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    use super::*;

    pub fn clone3_on_our_memory<T>(_: Option<BorrowedFd<'_>>, _: &Life<'_, T>) -> Option<Result<Pid>> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use core::arch::asm;

    use super::*;
    use crate::error::Error;
    use crate::sys::process::Clone3;

    /// None where the kernel or a seccomp filter does not have the call, or not with a cgroup.
    pub fn clone3_on_our_memory<T>(
        cgroup: Option<BorrowedFd<'_>>,
        life: &Life<'_, T>,
    ) -> Option<Result<Pid>> {
        #[allow(clippy::cast_sign_loss)] // constants
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
        let call = Clone3::new(flags, cgroup);
        let result: i64;
        // SAFETY: the new process begins behind the system call, with our registers and our stack pointer. It only grows
        // the stack below our frame, which is why the block may not promise `nostack`, and never comes back: `begin` does
        // not return. We go on when it has ended, with our registers and our frame as they were. `call` and `life` outlive
        // the call.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                // The end of what a debugger follows.
                "xor ebp, ebp",
                "mov rdi, {life}",
                "call {begin}",
                "ud2",
                "2:",
                life = in(reg) life,
                begin = sym begin::<T>,
                inlateout("rax") libc::SYS_clone3 => result,
                in("rdi") call.arguments(),
                in("rsi") Clone3::SIZE,
                // Not `lateout`: the new process needs its inputs after the call has changed these.
                out("rcx") _,
                out("r11") _,
            );
        }
        if result > 0 {
            return Some(Ok(Pid::from_raw(i32::try_from(result).unwrap_or(-1))));
        }
        match Errno::from_raw(i32::try_from(-result).unwrap_or(libc::EINVAL)) {
            Errno::ENOSYS | Errno::E2BIG | Errno::EINVAL => None,
            errno => Some(Err(Error::syscall("clone3(VM|VFORK)", errno))),
        }
    }

    /// Where the process begins: always in its cgroup, for without it there is no such call.
    extern "C" fn begin<T>(life: &Life<'_, T>) -> ! {
        (life.life)(life.what, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    use crate::sys::process::exit_now;

    struct Errand {
        offspring: Offspring,
        word: AtomicI32,
    }

    fn run(errand: &Errand, _: bool) -> ! {
        errand.word.store(7, Ordering::Relaxed);
        // Deep enough to write over the frames of who waits, if it were not below them.
        let page = std::hint::black_box([1_u8; 4096]);
        process::set_undumpable().unwrap();
        match errand.offspring.make() {
            Ok(true) => {
                // Nobody else's: the process that was asked for is a copy.
                errand.word.store(9, Ordering::Relaxed);
                exit_now(i32::from(page[4095]) + 1)
            }
            made => exit_now(if made.is_ok() { 3 } else { 4 }),
        }
    }

    #[test]
    fn what_it_makes_is_our_child_and_a_copy() {
        for (memory, word) in [(Memory::Ours, 7), (Memory::Copy, 0)] {
            let errand = Errand { offspring: Offspring::none().unwrap(), word: AtomicI32::new(0) };
            assert_eq!(clone3_and_wait(memory, None, run, &errand).unwrap(), Exit::Code(3), "{memory:?}");
            let made = process::own(errand.offspring.pid().unwrap()).unwrap();
            let ended = process::wait(Whom::One(made.pidfd.as_fd()), true).unwrap().unwrap();
            assert_eq!(ended, (made.pid, Exit::Code(2)), "{memory:?}");
            let expected = if cfg!(target_arch = "x86_64") { word } else { 0 };
            assert_eq!(errand.word.load(Ordering::Relaxed), expected, "{memory:?}");
            assert!(process::is_dumpable(), "{memory:?}");
        }
    }

    #[test]
    fn a_signal_ends_it_alone() {
        fn die(signal: &i32, _: bool) -> ! {
            // SAFETY: it ends this process.
            unsafe { libc::kill(libc::getpid(), *signal) };
            exit_now(0)
        }
        for memory in [Memory::Ours, Memory::Copy] {
            for signal in [libc::SIGKILL, libc::SIGRTMIN() + 1] {
                assert_eq!(clone3_and_wait(memory, None, die, &signal).unwrap(), Exit::Signal(signal));
            }
        }
    }
}
