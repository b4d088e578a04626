//! Processes: clone3, pidfd, signals of the caller's own, leaving without destructors.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;

use super::cvt;
use super::heap;
use crate::error::{Call, Error, Result};
use crate::json;

/// Which side of a clone the caller is on.
pub enum Side {
    /// The new process.
    Child {
        /// Whether it was born in `cgroup`.
        in_cgroup: bool,
    },
    /// The one that called; the child's pid as the caller's pid namespace numbers it.
    Parent {
        /// The new process.
        child: Child,
        /// False when the kernel could not put it into `cgroup` at birth (before Linux 5.7, or
        /// clone3 refused by a seccomp filter): the caller then writes the pid to `cgroup.procs`.
        in_cgroup: bool,
    },
}

/// A child by number and by descriptor; the descriptor is the identity, the number can be reused
/// once it is reaped.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// The arguments of clone3(2) for a process of ours, with SIGCHLD at its end.
pub(super) struct Clone3 {
    arguments: Arguments,
    pidfd: RawFd,
}

/// clone_args of linux/sched.h.
#[repr(C)]
#[derive(Default)]
pub(super) struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl Clone3 {
    /// Of [`Self::arguments`], in bytes.
    pub const SIZE: usize = size_of::<Arguments>();

    #[allow(clippy::cast_sign_loss)] // constants and open descriptors
    pub fn new(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Self {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        let mut arguments = Arguments { flags, exit_signal: exit_signal(flags), ..Arguments::default() };
        if let Some(directory) = cgroup {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = directory.as_raw_fd() as u64;
        }
        Self { arguments, pidfd: -1 }
    }

    /// For the call.
    pub fn arguments(&self) -> *const Arguments {
        &raw const self.arguments
    }

    /// For a call that makes a pidfd too, during which this value must stay where it is.
    #[allow(clippy::cast_sign_loss)] // a constant
    fn arguments_with_pidfd(&mut self) -> *const Arguments {
        self.arguments.flags |= libc::CLONE_PIDFD as u64;
        self.arguments.pidfd = &raw mut self.pidfd as u64;
        self.arguments()
    }

    /// The parent's side of such a call that succeeded.
    fn child(self, pid: i64) -> Child {
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(self.pidfd) };
        Child { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(-1)), pidfd }
    }
}

/// clone3(2) without shared memory, as fork(2) with `flags` (`CLONE_NEW*`, `CLONE_PARENT`), a pidfd,
/// SIGCHLD at its end and optionally born in the cgroup v2 directory `cgroup`. Falls back to clone(2)
/// where clone3 is refused with ENOSYS.
///
/// berth has no threads, so the child may go on in Rust as after fork(2).
///
/// # Errors
/// The kernel's, with the flags decoded.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut call = Clone3::new(flags, cgroup);
    // SAFETY: the arguments are valid for the size given and outlive the call; without CLONE_VM
    // and with a null stack the child runs on its own copy of this stack, as after fork(2).
    let ret = unsafe { libc::syscall(libc::SYS_clone3, call.arguments_with_pidfd(), Clone3::SIZE) };
    let (pid, in_cgroup) = match cvt(ret) {
        Ok(pid) => (pid, cgroup.is_some()),
        Err(Errno::ENOSYS) => (clone_before_5_3(flags, &mut call.pidfd)?, false),
        // Before Linux 5.7 the last member of the arguments is unknown.
        Err(Errno::E2BIG | Errno::EINVAL) if cgroup.is_some() => return clone3(flags, None),
        Err(errno) => return Err(Error::syscall(format!("clone3({})", describe_flags(flags)), errno)),
    };
    if pid == 0 {
        heap::forget();
        return Ok(Side::Child { in_cgroup });
    }
    Ok(Side::Parent { child: call.child(pid), in_cgroup })
}

/// clone(2) of a child of our own parent's, as fork(2). The kernel writes its pid to `told` before it runs. True in the
/// clone.
///
/// # Errors
/// The kernel's.
pub(super) fn clone_sibling(told: &AtomicI32) -> Result<bool> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    // SAFETY: no shared memory, no new stack; `told` outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, told.as_ptr(), 0usize, 0usize) };
    let is_clone = cvt(ret).call(|| "clone(PARENT|PARENT_SETTID)".into())? == 0;
    if is_clone {
        heap::forget();
    }
    Ok(is_clone)
}

/// The kernel refuses an exit signal together with CLONE_PARENT: the caller's is used.
#[allow(clippy::cast_sign_loss)] // constants
fn exit_signal(flags: u64) -> u64 {
    if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 }
}

/// As [`clone3`], but from a helper process that first does `prepare`: joins a user namespace that the
/// caller itself must not be moved into. The new process is nevertheless the caller's child
/// (CLONE_PARENT).
///
/// # Errors
/// Those of `prepare` and of the clones; the helper was killed.
#[allow(clippy::cast_sign_loss)] // constants
pub fn clone3_through(
    prepare: impl FnOnce() -> Result<()>,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Side> {
    let (reader, writer) = report()?;
    let helper = match clone3(0, None)? {
        Side::Parent { child, .. } => child,
        Side::Child { .. } => {
            match prepare().and_then(|()| clone3(flags | libc::CLONE_PARENT as u64, cgroup)) {
                Ok(side @ Side::Child { .. }) => return Ok(side),
                Ok(Side::Parent { child, in_cgroup }) => {
                    leave_report(&writer, &Ok((child.pid.as_raw(), in_cgroup)))
                }
                Err(error) => leave_report::<(i32, bool)>(&writer, &Err(error)),
            }
        }
    };
    drop(writer);
    let (pid, in_cgroup) = hear_report(reader, &helper)?;
    Ok(Side::Parent { child: own(Pid::from_raw(pid))?, in_cgroup })
}

/// The last act of a process that has prepared itself to be somebody's like: clones itself as its parent's child
/// (CLONE_PARENT), tells the parent who that is, and ends. Returns in the clone.
///
/// # Errors
/// The clone's.
#[allow(clippy::cast_sign_loss)] // constants
pub fn become_sibling(birth: OwnedFd) -> Result<()> {
    match clone3(libc::CLONE_PARENT as u64, None)? {
        // A clone that holds it would keep the parent waiting for an usher that was killed.
        Side::Child { .. } => {
            drop(birth);
            Ok(())
        }
        Side::Parent { child, .. } => {
            // The number alone: how many descriptors may be on their way is a limit of the user's, which processes
            // of a container that share its uid can use up (unix(7), ETOOMANYREFS).
            let number = child.pid.as_raw().to_ne_bytes();
            // A parent that is gone is no more to be told; the clone sees its end as well.
            let told = super::socket::send(birth.as_fd(), &number, &[]);
            if told.is_ok() {
                sleep_until_either_ends(&birth, &child);
            }
            exit_now(i32::from(told.is_err()))
        }
    }
}

/// The clone may be on our CPU, waiting for our own end, which takes its time; so that can wait until the parent has
/// closed its end of `birth`. Or until the clone has ended: of that the parent may learn only when nobody is left
/// at the other end of what it shares with us both.
fn sleep_until_either_ends(birth: &OwnedFd, clone: &Child) {
    let events = |fd| PollFd::new(fd, PollFlags::POLLIN);
    // With an error we only end sooner.
    poll(&mut [events(birth.as_fd()), events(clone.pidfd.as_fd())], PollTimeout::NONE)
        .map(drop)
        .unwrap_or(());
}

/// The parent's side of [`become_sibling`], with the other end of the socket pair; None when it came to no clone.
///
/// # Errors
/// The kernel's.
pub fn adopt(birth: &OwnedFd) -> Result<Option<Child>> {
    let (message, _) = super::socket::receive(birth.as_fd(), size_of::<i32>())?;
    let Ok(number) = <[u8; 4]>::try_from(message.as_slice()) else { return Ok(None) };
    own(Pid::from_raw(i32::from_ne_bytes(number))).map(Some)
}

/// A child that another process has made for us. Nobody has reaped it: the number is nobody else's. Who has told us may have
/// been robbed of the means to do so, and a number that is no child's is not believed.
///
/// # Errors
/// The kernel's; the child is ended then.
pub fn own(pid: Pid) -> Result<Child> {
    // ECHILD: no child of ours.
    has_ended(pid).call(|| format!("waitid({pid}, WNOWAIT)"))?;
    match pidfd_open(pid) {
        Ok(pidfd) => Ok(Child { pid, pidfd }),
        Err(errno) => {
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).call(|| format!("kill({pid})"))?;
            waitid(libc::P_PID, pid.as_raw().cast_unsigned(), libc::WEXITED)
                .call(|| format!("waitid({pid})"))?;
            Err(errno).call(|| format!("pidfd_open({pid})"))
        }
    }
}

/// Both ends of what a child that helps tells its parent.
fn report() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)".into())
}

fn leave_report<T: serde::Serialize>(writer: &OwnedFd, report: &Result<T>) -> ! {
    let sent = serde_json::to_vec(report).is_ok_and(|text| nix::unistd::write(writer, &text).is_ok());
    exit_now(i32::from(!sent))
}

fn hear_report<T: serde::de::DeserializeOwned>(reader: OwnedFd, child: &Child) -> Result<T> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(reader), &mut text).call(|| "read(pipe)".into())?;
    wait(Whom::One(child.pidfd.as_fd()), true).call(|| format!("waitid({})", child.pid))?;
    json::read(&text).unwrap_or_else(|_| {
        Err(Error::new(crate::error::Code::Kernel, "a child that was to help was killed"))
    })
}

/// Does `work` in a child of its own and waits for it: namespaces that it enters are not the caller's.
///
/// # Errors
/// Those of `work`; the child was killed.
pub fn in_a_child<T>(work: impl FnOnce() -> Result<T>) -> Result<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let (reader, writer) = report()?;
    let child = match clone3(0, None)? {
        Side::Parent { child, .. } => child,
        Side::Child { .. } => leave_report(&writer, &work()),
    };
    drop(writer);
    hear_report(reader, &child)
}

/// Makes the process opaque to others of its user: no ptrace, no `/proc/PID/fd` (prctl
/// PR_SET_DUMPABLE; execve sets it back). CVE-2016-9962: a container process must not be able to take
/// descriptors from a process that is on its way into the container.
///
/// # Errors
/// The kernel's.
pub fn set_undumpable() -> Result<()> {
    nix::sys::prctl::set_dumpable(false).call(|| "prctl(PR_SET_DUMPABLE, 0)".into())
}

/// Whether others of its user may look into the process.
pub fn is_dumpable() -> bool {
    // SAFETY: it has no argument. 2 means that root alone may, which nobody can set.
    (unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }) == 1
}

/// Takes [`set_undumpable`] back.
///
/// # Errors
/// The kernel's; none is known.
pub fn set_dumpable() -> Result<()> {
    nix::sys::prctl::set_dumpable(true).call(|| "prctl(PR_SET_DUMPABLE, 1)".into())
}

#[allow(clippy::cast_sign_loss)] // constants
fn clone_before_5_3(flags: u64, pidfd: &mut RawFd) -> Result<libc::c_long> {
    // The low byte is the exit signal here, so CLONE_NEWTIME cannot be said.
    if flags & 0xff != 0 {
        return Err(Error::unsupported("a new time namespace needs clone3(2), which is refused here"));
    }
    let flags = flags | libc::CLONE_PIDFD as u64 | exit_signal(flags);
    // SAFETY: as in clone3: no shared memory, no new stack; the pidfd is stored where parent_tid points.
    let ret =
        unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, std::ptr::from_mut(pidfd), 0usize, 0usize) };
    cvt(ret).call(|| format!("clone({})", describe_flags(flags)))
}

/// The `CLONE_NEW*` names in `flags`, joined by `|`.
pub fn describe_flags(flags: u64) -> String {
    const NAMES: [(u64, &str); 8] = [
        (0x0002_0000, "NEWNS"),
        (0x0200_0000, "NEWCGROUP"),
        (0x0400_0000, "NEWUTS"),
        (0x0800_0000, "NEWIPC"),
        (0x1000_0000, "NEWUSER"),
        (0x2000_0000, "NEWPID"),
        (0x4000_0000, "NEWNET"),
        (0x0000_0080, "NEWTIME"),
    ];
    let names: Vec<&str> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "0".into() } else { names.join("|") }
}

/// pidfd_open(2).
///
/// # Errors
/// ESRCH when there is no such process.
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers; the descriptor returned is new and ours.
    let ret = cvt(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) });
    match ret {
        #[allow(clippy::cast_possible_truncation)] // a descriptor fits an int
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        // The answers for a number that is by now a thread's, and before Linux 6.13 for one that is only still the id of a
        // session or a process group: the process itself is gone.
        Err(Errno::ENOENT) => Err(Errno::ESRCH),
        Err(Errno::EINVAL) if pid.as_raw() > 0 => Err(Errno::ESRCH),
        Err(errno) => Err(errno),
    }
}

/// pidfd_send_signal(2); `signal` may be a real-time signal, or 0 to ask whether it is there.
///
/// # Errors
/// ESRCH when the process is gone.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: integers and a null siginfo.
    cvt(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, 0) }).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// exit(3) with this status.
    Code(u8),
    /// A signal, also a real-time one.
    Signal(i32),
}

impl Exit {
    /// The status as a shell tells it: 128+n after signal n.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)),
        }
    }
}

/// Which children to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Whom<'a> {
    /// Any child.
    Any,
    /// This one.
    One(BorrowedFd<'a>),
    /// A child by its pid, which nobody else gets before it is reaped.
    Numbered(Pid),
}

/// waitid(2): reaps a child that has ended. None: `block` is false and none has ended yet.
///
/// # Errors
/// ECHILD when there is nobody to wait for.
pub fn wait(whom: Whom<'_>, block: bool) -> nix::Result<Option<(Pid, Exit)>> {
    let (kind, id) = match whom {
        Whom::Any => (libc::P_ALL, 0),
        Whom::One(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned()),
        Whom::Numbered(pid) => (libc::P_PID, pid.as_raw().cast_unsigned()),
    };
    let info = waitid(kind, id, libc::WEXITED | if block { 0 } else { libc::WNOHANG })?;
    // SAFETY: after a successful waitid these members of the union are the valid ones.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        _ => Exit::Signal(status),
    };
    Ok(Some((Pid::from_raw(pid), exit)))
}

/// Whether a child has ended; it is left to be reaped.
///
/// # Errors
/// ECHILD when it is no child of ours.
pub fn has_ended(pid: Pid) -> nix::Result<bool> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let info = waitid(libc::P_PID, pid.as_raw().cast_unsigned(), flags)?;
    // SAFETY: as in `wait`.
    Ok(unsafe { info.si_pid() } != 0)
}

/// Not nix's, for which an end by a real-time signal is an error.
fn waitid(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> nix::Result<libc::siginfo_t> {
    loop {
        // SAFETY: a siginfo_t of zeros is valid, and the kernel fills it while it is borrowed here.
        let (ret, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::waitid(kind, id, &raw mut info, flags), info)
        };
        match cvt(ret.into()) {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| info),
        }
    }
}

/// What Rust's runtime does before `main` and a program cannot do without: a write to a pipe without
/// reader is an error and not SIGPIPE, and descriptors 0 to 2 are open (POSIX lets the kernel hand them
/// out again; a state file opened as 2 would be written over with messages).
///
/// # Errors
/// The kernel's.
pub fn prepare() -> Result<()> {
    // SAFETY: neither installs a handler. A caller who ignores the ends of its children hands that on, and then the kernel
    // reaps ours: nobody could wait for them, and their numbers would be anybody's.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: `standard` is an array of as many entries as are said.
    let closed = unsafe { libc::poll(standard.as_mut_ptr(), standard.len() as libc::nfds_t, 0) };
    if closed > 0 {
        for fd in standard.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
            // The lowest free number, in ascending order: the closed one itself.
            // SAFETY: the path is a C string. Who opened the descriptor keeps it open for good.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            if opened != fd.fd {
                return Err(Errno::last()).call(|| format!("open(/dev/null) as descriptor {}", fd.fd));
            }
        }
    }
    Ok(())
}

/// Ends the process at once, without destructors or buffered output: for children, whose memory is
/// a copy of the parent's, or the parent's own.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) touches nothing of the process.
    unsafe { libc::_exit(status) }
}

/// Every signal at its default and unblocked, as a new program expects (Rust ignores SIGPIPE, and
/// berth blocks what it reads by signalfd).
///
/// # Errors
/// The kernel's on the signal mask.
pub fn reset_signals() -> Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no handler. SIGKILL and SIGSTOP, and the two that the C library
        // keeps for itself, answer EINVAL and have no disposition to reset.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).call(|| "sigprocmask(empty)".into())
}

/// The signal that the caller gets when its parent ends (prctl PR_SET_PDEATHSIG); None clears it.
/// The kernel clears it too when the credentials change, so it is set again after a change of ids.
///
/// # Errors
/// The kernel's.
pub fn set_parent_death_signal(signal: Option<Signal>) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(signal).call(|| format!("prctl(PR_SET_PDEATHSIG, {signal:?})"))
}

/// Sets CLOEXEC on every descriptor from `first` on: what the caller's caller left open without it.
/// Only while `/proc` is the host's, which a kernel without close_range(2)'s flag (5.11) needs.
///
/// # Errors
/// The kernel's.
pub fn cloexec_from(first: RawFd) -> Result<()> {
    match close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) {
        Err(Errno::ENOSYS | Errno::EINVAL) => {}
        result => return result.call(|| format!("close_range({first}, max, CLOEXEC)")),
    }
    for entry in std::fs::read_dir("/proc/self/fd").call(|| "opendir(\"/proc/self/fd\")".into())? {
        let entry = entry.call(|| "readdir(\"/proc/self/fd\")".into())?;
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd < first {
            continue;
        }
        // SAFETY: sets a flag on a descriptor number; one that is gone answers EBADF.
        let ret = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        if ret < 0 && Errno::last() != Errno::EBADF {
            return Err(Error::syscall(format!("fcntl({fd}, F_SETFD, FD_CLOEXEC)"), Errno::last()));
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on but those of `keep`, and of those between stderr and `first`, which the
/// program is to inherit, what has CLOEXEC and is therefore our own, in a gap. Whoever owned the others must not use
/// or drop them any more: for a process that only waits and executes a program.
///
/// # Errors
/// The kernel's; before Linux 5.9 the descriptors are closed one by one up to the soft limit.
pub fn close_all_but(first: RawFd, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    for fd in (3..first).filter(|fd| has_cloexec(*fd) == Some(true)) {
        if !keep.iter().any(|kept| kept.as_raw_fd() == fd) {
            // SAFETY: as in close_range: nobody uses the descriptor any more.
            unsafe { libc::close(fd) };
        }
    }
    let mut from = first;
    for fd in kept.into_iter().map(Some).chain([None]) {
        let to = fd.map_or(RawFd::MAX, |fd| fd - 1);
        if from <= to {
            match close_range(from, to, 0) {
                Err(Errno::ENOSYS) => close_one_by_one(from, to)?,
                result => result.call(|| format!("close_range({from}, {to})"))?,
            }
        }
        from = fd.map_or(RawFd::MAX, |fd| fd + 1);
    }
    Ok(())
}

fn close_one_by_one(from: RawFd, to: RawFd) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).call(|| "getrlimit(NOFILE)".into())?;
    let end = RawFd::try_from(soft).unwrap_or(RawFd::MAX).min(to.saturating_add(1));
    for fd in from..end {
        // SAFETY: as in close_range: nobody uses these descriptors any more. EBADF: it was not open.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

fn close_range(from: RawFd, to: RawFd, flags: u32) -> nix::Result<()> {
    // SAFETY: the callers vouch that the descriptors they close are used no more.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) }).map(drop)
}

/// execveat(fd, "", AT_EMPTY_PATH): runs the program that `fd` refers to. Returns only on failure.
pub fn execveat_fd(fd: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both lists are null-terminated arrays of C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// getcwd(2) as the kernel answers: a directory outside of the caller's root begins with
/// `(unreachable)`. The C library would hide that by walking up the tree itself.
///
/// # Errors
/// ENOENT when the directory has been removed.
pub fn raw_getcwd() -> nix::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; libc::PATH_MAX.unsigned_abs() as usize];
    // SAFETY: the kernel writes at most the length given into the buffer, with the final NUL.
    let length = cvt(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    buffer.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(buffer)
}

/// Whether a descriptor is open and would survive execve(2).
pub fn is_inheritable(fd: RawFd) -> bool {
    has_cloexec(fd) == Some(false)
}

/// None when it is not open.
fn has_cloexec(fd: RawFd) -> Option<bool> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    (flags >= 0).then_some(flags & libc::FD_CLOEXEC != 0)
}

/// Takes a descriptor number that was inherited (stdin to stderr, `--preserve-fds`) as borrowed.
/// None when it is not open.
pub fn inherited(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: F_GETFD only asks.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and the inherited descriptors are never closed by us.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}
