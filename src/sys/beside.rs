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

use nix::errno::Errno;

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

    /// Waits for the namespace, and gives it once; its `lo` is perhaps still down. None when the kernel refused a step of
    /// it: who makes it by clone3(2) then learns why.
    pub fn namespace(&mut self) -> Option<OwnedFd> {
        #[cfg(target_arch = "x86_64")]
        return self.0.namespace();
        #[cfg(not(target_arch = "x86_64"))]
        match self.0 {}
    }

    /// Waits until `lo` is up in the namespace that was given.
    ///
    /// # Errors
    /// The kernel's. ESRCH when the helper was killed.
    pub fn finish(self) -> Result<(), Errno> {
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
    use std::time::{Duration, Instant};

    use libc::{c_int, c_short, c_void};
    use nix::errno::Errno;
    use nix::unistd::Pid;

    use crate::sys::{affinity, raw};

    /// What the helper has to tell while it has told nothing, and for good when it is killed.
    const NOTHING_YET: c_int = -libc::ESRCH;

    /// What the helper writes and we read.
    struct Answers {
        /// A futex: 0 once the namespace is told. The kernel sets it too, at the helper's end.
        waits: AtomicI32,
        /// A descriptor, or below zero an errno.
        namespace: AtomicI32,
        /// The same for the loopback interface: 0 when it is up.
        loopback: AtomicI32,
    }

    /// From linux/sockios.h.
    const SIOCGSKNS: usize = 0x894c;

    /// How long we watch for the namespace before we sleep.
    const PATIENCE: Duration = Duration::from_micros(150);

    /// The deepest call is [`make`] and a system call, which runs on a stack of the kernel's.
    const STACK: usize = 8192;

    #[repr(align(16))]
    struct Stack(#[allow(dead_code)] [u8; STACK]);

    /// The process that shares our memory. Its stack and its answer must stay where they are until it has
    /// ended: see [`Drop`].
    pub struct Helper {
        /// None once it has been waited for.
        pid: Option<c_int>,
        /// Another CPU than ours is there for it.
        has_a_cpu: bool,
        _stack: Box<MaybeUninit<Stack>>,
        answers: Box<Answers>,
    }

    impl Helper {
        pub fn start() -> Option<Self> {
            let mut stack = Box::<Stack>::new_uninit();
            let answers = Box::new(Answers {
                waits: AtomicI32::new(1),
                namespace: AtomicI32::new(NOTHING_YET),
                loopback: AtomicI32::new(NOTHING_YET),
            });
            let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID;
            let argument = (&raw const *answers).cast_mut().cast::<c_void>();
            let none = std::ptr::null_mut::<c_void>();
            // SAFETY: the stack is aligned, grows down from its end and belongs to the new process alone until
            // `drop` has waited for it; `answers` too outlives it. No CLONE_VFORK: we go on. Without an exit
            // signal its end is no SIGCHLD, and only a wait that asks for such children finds it.
            let pid = unsafe {
                let stack = stack.as_mut_ptr().add(1).cast();
                libc::clone(make, stack, flags, argument, none, none, answers.waits.as_ptr())
            };
            (pid > 0).then(|| {
                let has_a_cpu = affinity::run_beside_us(Pid::from_raw(pid));
                Self { pid: Some(pid), has_a_cpu, _stack: stack, answers }
            })
        }

        pub fn namespace(&mut self) -> Option<OwnedFd> {
            let waits = &self.answers.waits;
            // Mostly it is nearly done when we ask, and to be woken takes longer than that.
            let impatient = Instant::now() + if self.has_a_cpu { PATIENCE } else { Duration::ZERO };
            while waits.load(Ordering::Acquire) != 0 && Instant::now() < impatient {
                std::hint::spin_loop();
            }
            if let Some(pid) = self.pid.filter(|_| waits.load(Ordering::Acquire) != 0) {
                // Ours is free now.
                affinity::free(Pid::from_raw(pid));
            }
            while waits.load(Ordering::Acquire) != 0 {
                let none = std::ptr::null::<libc::timespec>();
                // SAFETY: the futex is ours and lives. Whether it was woken, interrupted or came too late is looked at
                // above. Not FUTEX_PRIVATE_FLAG: the kernel's own wake at the helper's end is none.
                unsafe { libc::syscall(libc::SYS_futex, waits.as_ptr(), libc::FUTEX_WAIT, 1, none) };
            }
            self.take_namespace()
        }

        pub fn finish(mut self) -> Result<(), Errno> {
            self.reap();
            match self.answers.loopback.load(Ordering::Acquire) {
                0 => Ok(()),
                errno => Err(Errno::from_raw(-errno)),
            }
        }

        fn take_namespace(&self) -> Option<OwnedFd> {
            let fd: RawFd = self.answers.namespace.swap(NOTHING_YET, Ordering::AcqRel);
            // SAFETY: the helper has left the descriptor open in our common table; nobody else knows of it, and
            // it is told once.
            (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
        }

        /// Waits for the end of the helper, once: its pid can be another child's afterwards.
        fn reap(&mut self) {
            let Some(pid) = self.pid.take() else { return };
            affinity::free(Pid::from_raw(pid));
            loop {
                // SAFETY: no status is asked for. __WALL finds a child without an exit signal.
                let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
                if ended >= 0 || Errno::last() != Errno::EINTR {
                    break;
                }
            }
        }
    }

    impl Drop for Helper {
        fn drop(&mut self) {
            self.reap();
            drop(self.take_namespace());
        }
    }

    /// The helper's whole life.
    extern "C" fn make(answers: *mut c_void) -> c_int {
        // SAFETY: `start` passes the address of answers that outlive this process.
        let answers = unsafe { &*answers.cast::<Answers>() };
        // SAFETY: only raw system calls follow, with numbers and the addresses of local values and of the answers.
        unsafe {
            // A signal to the caller's group is for us all, and what it ends is not this process alone.
            let every_signal = u64::MAX;
            let block = libc::SIG_BLOCK.cast_unsigned() as usize;
            let set = &raw const every_signal as usize;
            raw::syscall(libc::SYS_rt_sigprocmask, block, set, 0, size_of::<u64>(), 0);
            match namespace() {
                Ok((socket, namespace)) => {
                    tell(answers, namespace);
                    answers.loopback.store(bring_loopback_up(socket), Ordering::Release);
                    raw::syscall(libc::SYS_close, socket, 0, 0, 0, 0);
                }
                Err(errno) => tell(answers, errno),
            }
        }
        0
    }

    /// # Safety
    /// As [`namespace`].
    unsafe fn tell(answers: &Answers, namespace: c_int) {
        answers.namespace.store(namespace, Ordering::Release);
        answers.waits.store(0, Ordering::Release);
        let wake = libc::FUTEX_WAKE.cast_unsigned() as usize;
        // SAFETY: the futex lives as long as we.
        unsafe { raw::syscall(libc::SYS_futex, answers.waits.as_ptr() as usize, wake, 1, 0, 0) };
    }

    /// A new network namespace: a socket in it and a descriptor of it, both close-on-exec, or below zero an errno.
    ///
    /// # Safety
    /// For a process that shares nothing but memory and descriptors with others: it changes its namespace.
    unsafe fn namespace() -> Result<(usize, c_int), c_int> {
        let number = |value: c_int| value.cast_unsigned() as usize;
        // SAFETY: see each call's manual page; the ioctl gets no argument.
        unsafe {
            let made = raw::syscall(libc::SYS_unshare, number(libc::CLONE_NEWNET), 0, 0, 0, 0);
            if made < 0 {
                return Err(short(made));
            }
            let kind = number(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
            let socket = raw::syscall(libc::SYS_socket, number(libc::AF_INET), kind, 0, 0, 0);
            let Ok(descriptor) = usize::try_from(socket) else { return Err(short(socket)) };
            // The socket's namespace, without a look into /proc (Linux 4.9).
            let namespace = raw::syscall(libc::SYS_ioctl, descriptor, SIOCGSKNS, 0, 0, 0);
            if namespace < 0 {
                raw::syscall(libc::SYS_close, descriptor, 0, 0, 0, 0);
                return Err(short(namespace));
            }
            Ok((descriptor, short(namespace)))
        }
    }

    /// 0, or below zero an errno.
    ///
    /// # Safety
    /// `socket` is open.
    unsafe fn bring_loopback_up(socket: usize) -> c_int {
        let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        (name[0], name[1]) = (b'l'.cast_signed(), b'o'.cast_signed());
        let up = c_short::try_from(libc::IFF_UP).unwrap_or(0);
        let request = libc::ifreq {
            ifr_name: name,
            // What the kernel has of its own among the flags (IFF_LOOPBACK, IFF_RUNNING) it keeps.
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: up },
        };
        let set_flags = usize::try_from(libc::SIOCSIFFLAGS).unwrap_or(0);
        // SAFETY: netdevice(7): the request lives until the call returns.
        short(unsafe { raw::syscall(libc::SYS_ioctl, socket, set_flags, &raw const request as usize, 0, 0) })
    }

    fn short(result: i64) -> c_int {
        c_int::try_from(result).unwrap_or(NOTHING_YET)
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
        let Some(mut new) = NewNetwork::begin() else { return };
        let fd = new.namespace().unwrap();
        assert!(new.namespace().is_none());
        new.finish().unwrap();
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
