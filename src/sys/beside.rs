//! A network namespace that is made beside us, while we go on.
//!
//! The kernel takes 0.4 ms for it, four times what the rest of a container's clone3(2) takes, and another
//! 0.07 ms for its loopback interface. A process on another processor can do both while the parent compiles its
//! plans. It is no copy of us: it shares our memory, on a stack of its own, and our descriptors, so that it
//! costs no page table and leaves us the namespace as a descriptor.
//!
//! Such a process may not call the C library, which would write into *our* thread-local storage (`errno`).
//! It makes a handful of raw system calls and ends.

use std::os::fd::OwnedFd;

/// A network namespace in the making.
pub struct NewNetwork(
    #[cfg(target_arch = "x86_64")] imp::Helper,
    #[cfg(not(target_arch = "x86_64"))] std::convert::Infallible,
);

impl NewNetwork {
    /// Begins. None where this is not possible; the namespace is then made by clone3(2) as the others are.
    pub fn begin() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return imp::Helper::start().map(Self);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Waits for the namespace, in which `lo` is up. None when the kernel refused a step of it: who makes it
    /// by clone3(2) then learns why.
    pub fn finish(self) -> Option<OwnedFd> {
        #[cfg(target_arch = "x86_64")]
        return self.0.finish();
        #[cfg(not(target_arch = "x86_64"))]
        match self.0 {}
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::mem::MaybeUninit;
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};
    use std::sync::atomic::{AtomicI32, Ordering};

    use libc::{c_int, c_short, c_void};
    use nix::unistd::Pid;

    use crate::sys::{affinity, raw};

    /// What the helper has to tell: a descriptor, or below zero what went wrong.
    const NOTHING_YET: c_int = -1;

    /// From linux/sockios.h.
    const SIOCGSKNS: usize = 0x894c;

    /// The deepest call is [`make`] and a system call, which runs on a stack of the kernel's.
    const STACK: usize = 8192;

    #[repr(align(16))]
    struct Stack(#[allow(dead_code)] [u8; STACK]);

    /// The process that shares our memory. Its stack and its answer must stay where they are until it has
    /// ended: see [`Drop`].
    pub struct Helper {
        /// None once it has been waited for.
        pid: Option<c_int>,
        _stack: Box<MaybeUninit<Stack>>,
        answer: Box<AtomicI32>,
    }

    impl Helper {
        pub fn start() -> Option<Self> {
            let mut stack = Box::<Stack>::new_uninit();
            let answer = Box::new(AtomicI32::new(NOTHING_YET));
            let flags = libc::CLONE_VM | libc::CLONE_FILES;
            let argument = (&raw const *answer).cast_mut().cast::<c_void>();
            // SAFETY: the stack is aligned, grows down from its end and belongs to the new process alone until
            // `drop` has waited for it; `answer` too outlives it. No CLONE_VFORK: we go on. Without an exit
            // signal its end is no SIGCHLD, and only a wait that asks for such children finds it.
            let pid = unsafe { libc::clone(make, stack.as_mut_ptr().add(1).cast(), flags, argument) };
            (pid > 0).then(|| {
                affinity::run_beside_us(Pid::from_raw(pid));
                Self { pid: Some(pid), _stack: stack, answer }
            })
        }

        pub fn finish(mut self) -> Option<OwnedFd> {
            self.reap()
        }

        /// Waits for the end of the helper, once: its pid can be another child's afterwards.
        fn reap(&mut self) -> Option<OwnedFd> {
            let pid = self.pid.take()?;
            // Ours is free now.
            affinity::free(Pid::from_raw(pid));
            loop {
                // SAFETY: no status is asked for. __WALL finds a child without an exit signal.
                let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
                if ended >= 0 || nix::errno::Errno::last() != nix::errno::Errno::EINTR {
                    break;
                }
            }
            let fd: RawFd = self.answer.load(Ordering::Acquire);
            // SAFETY: the helper has left the descriptor open in our common table; nobody else knows of it, and
            // nobody comes here twice.
            (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
        }
    }

    impl Drop for Helper {
        fn drop(&mut self) {
            drop(self.reap());
        }
    }

    /// The helper's whole life.
    extern "C" fn make(answer: *mut c_void) -> c_int {
        // SAFETY: `start` passes the address of an AtomicI32 that outlives this process.
        let answer = unsafe { &*answer.cast::<AtomicI32>() };
        // SAFETY: only raw system calls follow, with numbers and the addresses of local values.
        answer.store(unsafe { namespace_with_loopback() }, Ordering::Release);
        0
    }

    /// The descriptor of a new network namespace, close-on-exec, or below zero an errno.
    ///
    /// # Safety
    /// For a process that shares nothing but memory and descriptors with others: it changes its namespace.
    unsafe fn namespace_with_loopback() -> c_int {
        let number = |value: c_int| value.cast_unsigned() as usize;
        let short = |result: i64| c_int::try_from(result).unwrap_or(NOTHING_YET);
        let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        (name[0], name[1]) = (b'l'.cast_signed(), b'o'.cast_signed());
        let up = c_short::try_from(libc::IFF_UP).unwrap_or(0);
        let request = libc::ifreq {
            ifr_name: name,
            // What the kernel has of its own among the flags (IFF_LOOPBACK, IFF_RUNNING) it keeps.
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
        };
        // SAFETY: see each call's manual page; the ioctls get the request, and no argument.
        unsafe {
            let made = raw::syscall(libc::SYS_unshare, number(libc::CLONE_NEWNET), 0, 0, 0, 0);
            if made < 0 {
                return short(made);
            }
            let kind = number(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
            let socket = raw::syscall(libc::SYS_socket, number(libc::AF_INET), kind, 0, 0, 0);
            let Ok(descriptor) = usize::try_from(socket) else { return short(socket) };
            let mut result = raw::syscall(
                libc::SYS_ioctl,
                descriptor,
                usize::try_from(libc::SIOCSIFFLAGS).unwrap_or(0),
                &raw const request as usize,
                0,
                0,
            );
            if result >= 0 {
                // The socket's namespace, without a look into /proc (Linux 4.9).
                result = raw::syscall(libc::SYS_ioctl, descriptor, SIOCGSKNS, 0, 0, 0);
            }
            raw::syscall(libc::SYS_close, descriptor, 0, 0, 0, 0);
            short(result)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::sys::{namespace, spawn};

    #[test]
    fn the_namespace_is_new_and_its_loopback_is_up() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let Some(new) = NewNetwork::begin() else { return };
        let fd = new.finish().unwrap();
        assert_eq!(namespace::nstype(fd.as_fd()), Ok(libc::CLONE_NEWNET.cast_unsigned().into()));
        spawn::in_child(move || {
            let own = || std::fs::read_link("/proc/self/ns/net").unwrap();
            let before = own();
            namespace::setns(fd.as_fd(), libc::CLONE_NEWNET.cast_unsigned().into()).unwrap();
            assert_ne!(own(), before);
            // ENETUNREACH while the interface is down.
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.1:9").unwrap();
        });
    }

    #[test]
    fn what_is_not_used_leaves_nothing() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        spawn::in_child(move || {
            let before = open();
            drop(NewNetwork::begin());
            assert_eq!(open(), before);
        });
    }
}
