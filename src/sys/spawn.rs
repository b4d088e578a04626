//! Runs another program of the host or of the container: fork, execve, wait with a time limit.
//!
//! Used for hooks and for newuidmap. A plain fork is enough: berth is small and has no threads, so
//! everything may be called in the child. A failed execve comes back as its errno through a pipe
//! that closes on success.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libc::{c_int, c_long};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};

use super::cvt;
use super::process::{self, Whom};
use crate::error::{Error, Result};

/// Where an output of the program goes.
#[derive(Debug, Default)]
pub enum Stream<'a> {
    /// Where the caller's goes.
    #[default]
    Inherited,
    /// To this descriptor.
    To(BorrowedFd<'a>),
    /// Into memory of ours, for [`Exit::last_line`]. A file, not a pipe: a program that leaves a
    /// daemon behind neither keeps us waiting for the end nor loses its stderr.
    Captured,
}

impl Stream<'_> {
    /// The same stream once more.
    pub fn share(&self) -> Stream<'_> {
        match self {
            Stream::Inherited => Stream::Inherited,
            Stream::To(fd) => Stream::To(*fd),
            Stream::Captured => Stream::Captured,
        }
    }
}

/// A program that is about to be run.
pub struct Spawn<'a> {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Its stdin; `/dev/null`'s content (an empty file) when None.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Its stdout.
    pub stdout: Stream<'a>,
    /// Its stderr.
    pub stderr: Stream<'a>,
    /// What it finds at 3 and above; all else is closed.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Done in the child before the execve, with the descriptors still the caller's.
    pub prepare: Option<&'a dyn Fn() -> Result<()>>,
    /// What the child does last, when it may lose the right to all but execve.
    pub confine: Option<&'a dyn Fn() -> Result<()>>,
}

/// A program that runs. Dropped without [`Child::wait`] it stays a zombie until its parent ends.
#[must_use = "nobody else waits for it"]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    captured: Option<File>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Exit {
    /// Its status.
    pub status: Status,
    captured: Option<File>,
}

/// What became of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself or by a signal.
    Ended(process::Exit),
    /// It ran longer than it may and was killed.
    TimedOut(Duration),
}

impl Status {
    /// Whether it exited with 0.
    pub fn is_success(self) -> bool {
        self == Status::Ended(process::Exit::Code(0))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Ended(process::Exit::Code(status)) => write!(f, "exit status {status}"),
            Status::Ended(process::Exit::Signal(number)) => match Signal::try_from(*number) {
                Ok(Signal::SIGSYS) => f.write_str("killed by SIGSYS (bad system call)"),
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            Status::TimedOut(limit) => write!(f, "killed after its timeout of {} s", limit.as_secs()),
        }
    }
}

fn strings(texts: &[String]) -> Result<Vec<CString>> {
    texts
        .iter()
        .map(|text| {
            CString::new(text.as_bytes()).map_err(|_| Error::invalid(format!("{text:?} contains a NUL byte")))
        })
        .collect()
}

impl<'a> Spawn<'a> {
    /// `arguments` include argv\[0\]; `environment` is all that the program gets.
    pub fn new(path: &Path, arguments: &[String], environment: &[String]) -> Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::invalid(format!("{path:?} contains a NUL byte")))?;
        Ok(Self {
            path,
            arguments: strings(arguments)?,
            environment: strings(environment)?,
            stdin: None,
            stdout: Stream::Inherited,
            stderr: Stream::Inherited,
            descriptors: Vec::new(),
            prepare: None,
            confine: None,
        })
    }

    /// Forks and executes. The errno is the fork's, or the child's on its way to a successful execve.
    pub fn start(&self) -> nix::Result<Child> {
        let (errno_in, errno_out) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map(|(r, w)| (File::from(r), w))?;
        let captured = match (&self.stdout, &self.stderr) {
            (Stream::Captured, _) | (_, Stream::Captured) => Some(memory_file(c"output")?),
            _ => None,
        };
        // SAFETY: berth has no threads, so the child has no lock that a vanished thread holds and may
        // call anything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(errno_in);
                self.become_program(errno_out, captured.as_ref())
            }
            ForkResult::Parent { child } => {
                drop(errno_out);
                let pidfd = match process::pidfd_open(child) {
                    Ok(pidfd) => pidfd,
                    Err(errno) => {
                        // Nobody could wait for it with a limit. Its pid is its own until it is reaped.
                        nix::sys::signal::kill(child, Signal::SIGKILL)?;
                        nix::sys::wait::waitpid(child, None)?;
                        return Err(errno);
                    }
                };
                match failure(errno_in)? {
                    None => Ok(Child { pid: child, pidfd, captured }),
                    Some(errno) => {
                        reap(pidfd.as_fd())?;
                        Err(errno)
                    }
                }
            }
        }
    }

    fn become_program(&self, errno_out: OwnedFd, captured: Option<&File>) -> ! {
        // Above the numbers that the program's own descriptors get.
        let end = c_int::try_from(3 + self.descriptors.len()).unwrap_or(c_int::MAX);
        let old = errno_out;
        let (errno, errno_out) = match fcntl(&old, FcntlArg::F_DUPFD_CLOEXEC(end)) {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(copy) => (self.execute(captured), unsafe { OwnedFd::from_raw_fd(copy) }),
            Err(errno) => (errno, old),
        };
        // Nobody is left to be told when the parent does not read this either.
        File::from(errno_out).write_all(&(errno as i32).to_ne_bytes()).ok();
        process::exit_now(127)
    }

    /// The child's way to execve; returns only with what went wrong.
    fn execute(&self, captured: Option<&File>) -> Errno {
        // Only errno fits through the pipe; the steps before execve hardly fail.
        let errno = |error: Error| error.errno().unwrap_or(Errno::EIO);
        let prepare = || -> nix::Result<()> {
            if let Some(prepare) = self.prepare {
                prepare().map_err(errno)?;
            }
            let null;
            let stdin = match self.stdin {
                Some(fd) => fd,
                None => {
                    null = memory_file(c"empty")?;
                    null.as_fd()
                }
            };
            let source = |stream: &Stream<'a>, own: c_int| match stream {
                Stream::Inherited => own,
                Stream::To(fd) => fd.as_raw_fd(),
                Stream::Captured => captured.map_or(own, AsRawFd::as_raw_fd),
            };
            let streams = [stdin.as_raw_fd(), source(&self.stdout, 1), source(&self.stderr, 2)];
            let more = self.descriptors.iter().map(AsRawFd::as_raw_fd);
            let first_closed = place(&streams.into_iter().chain(more).collect::<Vec<_>>())?;
            process::cloexec_from(first_closed)
                .and_then(|()| process::reset_signals())
                // A hook of a berth that was killed would go on with a container that nobody makes.
                .and_then(|()| process::set_parent_death_signal(Some(nix::sys::signal::Signal::SIGKILL)))
                .and_then(|()| self.confine.map_or(Ok(()), |confine| confine()))
                .map_err(errno)
        };
        if let Err(errno) = prepare() {
            return errno;
        }
        match nix::unistd::execve(&self.path, &self.arguments, &self.environment) {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }
}

/// What the child writes before it gives up; None when its execve has closed the pipe.
fn failure(mut pipe: File) -> nix::Result<Option<Errno>> {
    let mut errno = Vec::new();
    pipe.read_to_end(&mut errno)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(<[u8; 4]>::try_from(errno.as_slice()).ok().map(|errno| Errno::from_raw(i32::from_ne_bytes(errno))))
}

/// Puts descriptors at 0, 1, 2 and so on, whichever numbers they have now; the number after the last.
fn place(sources: &[c_int]) -> nix::Result<c_int> {
    let end = c_int::try_from(sources.len()).map_err(|_| Errno::EMFILE)?;
    // First all above, so that no dup2 overwrites a source that is still needed; CLOEXEC, so that only
    // the copies at their places outlive the execve.
    let mut copies = Vec::with_capacity(sources.len());
    for source in sources {
        // SAFETY: all arguments are numbers; a bad descriptor is EBADF.
        copies.push(cvt(c_long::from(unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, end) }))?);
    }
    for (target, copy) in (0..).zip(copies) {
        let copy = c_int::try_from(copy).map_err(|_| Errno::EBADF)?;
        // SAFETY: this is the child right before its execve: no object of ours uses a number below `end`
        // any more, but the pipe that tells of a failure, which is above (see `start`).
        cvt(c_long::from(unsafe { libc::dup2(copy, target) }))?;
    }
    Ok(end)
}

impl Child {
    /// Its pid, which is its own until [`Child::wait`] has reaped it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end and reaps. After `limit` the program is killed (SIGKILL) and reaped.
    pub fn wait(self, limit: Option<Duration>) -> nix::Result<Exit> {
        let ended = match self.poll_end(limit) {
            Ok(ended) => ended,
            Err(errno) => {
                // Whatever poll's trouble is, no program is left behind running.
                kill(self.pidfd.as_fd())?;
                reap(self.pidfd.as_fd())?;
                return Err(errno);
            }
        };
        if !ended {
            kill(self.pidfd.as_fd())?;
        }
        let exit = reap(self.pidfd.as_fd())?;
        let status = match limit {
            Some(limit) if !ended => Status::TimedOut(limit),
            _ => Status::Ended(exit),
        };
        Ok(Exit { status, captured: self.captured })
    }

    /// Whether the program ended within the limit.
    fn poll_end(&self, limit: Option<Duration>) -> nix::Result<bool> {
        let deadline = limit.map(|limit| Instant::now().checked_add(limit));
        loop {
            let timeout = match deadline {
                // A limit beyond the clock's range is none.
                None | Some(None) => PollTimeout::NONE,
                Some(Some(deadline)) => {
                    // One more millisecond, since poll's unit cuts the rest off.
                    let left = deadline.saturating_duration_since(Instant::now());
                    let millis = if left.is_zero() { 0 } else { left.as_millis().saturating_add(1) };
                    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut watched = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) => match deadline {
                    Some(Some(deadline)) if Instant::now() >= deadline => return Ok(false),
                    _ => {}
                },
                Ok(_) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Exit {
    /// The captured output, with U+FFFD for what is no UTF-8; empty when nothing was captured.
    pub fn output(&self) -> std::io::Result<String> {
        let Some(mut file) = self.captured.as_ref() else {
            return Ok(String::new());
        };
        let mut output = Vec::new();
        file.seek(std::io::SeekFrom::Start(0))?;
        file.read_to_end(&mut output)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// The last line of the captured output, shortened; empty when there is none.
    pub fn last_line(&self) -> String {
        const TAIL: u64 = 4096;
        let Some(mut file) = self.captured.as_ref() else {
            return String::new();
        };
        let mut tail = Vec::new();
        let read = || -> std::io::Result<usize> {
            let length = file.seek(std::io::SeekFrom::End(0))?;
            file.seek(std::io::SeekFrom::Start(length.saturating_sub(TAIL)))?;
            file.take(TAIL).read_to_end(&mut tail)
        };
        // It only adorns an error that is reported anyway.
        if { read }().is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&tail);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|c| !c.is_control()).take(500).collect()
    }
}

fn reap(pidfd: BorrowedFd<'_>) -> nix::Result<process::Exit> {
    // A blocking wait for one child returns with that child.
    process::wait(Whom::One(pidfd), true)?.map(|(_, exit)| exit).ok_or(Errno::ECHILD)
}

/// SIGKILL; a process that has ended is fine.
fn kill(pidfd: BorrowedFd<'_>) -> nix::Result<()> {
    match process::pidfd_send_signal(pidfd, libc::SIGKILL) {
        Err(Errno::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// An anonymous file in memory (memfd_create(2)), CLOEXEC and not executable.
pub fn memory_file(name: &std::ffi::CStr) -> nix::Result<File> {
    let create = |flags| {
        // SAFETY: `name` is a string that ends with NUL.
        cvt(c_long::from(unsafe { libc::memfd_create(name.as_ptr(), flags) }))
    };
    // Where vm.memfd_noexec is 2 only a file that can never be executed is allowed; before Linux 6.3
    // the flag is unknown.
    let fd = match create(libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => create(libc::MFD_CLOEXEC),
        other => other,
    }?;
    let fd = c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Our own environment, as far as it is UTF-8: `NAME=VALUE` each.
pub fn environment() -> Vec<String> {
    let pairs = std::env::vars_os();
    pairs.filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?))).collect()
}

/// A program of the host in the runtime's own PATH.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| {
            file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Runs the steps of a test in a child of its own, whose panic is the test's: what they take away
/// or enter does not come back. The child has one thread, as berth has, and 30 seconds.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn in_child(steps: impl FnOnce()) {
    // SAFETY: the C library's fork leaves its own locks in order, and the test harness's threads hold no
    // other that the steps use.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // SAFETY: a number; the signal ends us.
            unsafe { libc::alarm(30) };
            // The harness would keep the message in this process's memory.
            std::panic::set_hook(Box::new(|panic| {
                nix::unistd::write(std::io::stderr(), format!("{panic}\n").as_bytes()).unwrap_or(0);
            }));
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps)).is_err();
            process::exit_now(i32::from(failed))
        }
        ForkResult::Parent { child } => {
            let pidfd = process::pidfd_open(child).unwrap();
            assert_eq!(reap(pidfd.as_fd()).unwrap(), process::Exit::Code(0), "in the child");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

    fn shell(script: &str) -> Spawn<'static> {
        let arguments = ["sh", "-c", script].map(String::from);
        let mut spawn = Spawn::new(Path::new("/bin/sh"), &arguments, &[]).unwrap();
        spawn.stderr = Stream::Captured;
        spawn.stdout = Stream::Captured;
        spawn
    }

    #[test]
    fn reports_exit_signal_and_last_line() {
        let exit = shell("echo one; echo two >&2; exit 3").start().unwrap().wait(None).unwrap();
        assert_eq!(exit.status, Status::Ended(process::Exit::Code(3)));
        assert_eq!(exit.last_line(), "two");
        let exit = shell("kill -TERM $$").start().unwrap().wait(None).unwrap();
        assert_eq!(exit.status.to_string(), "killed by SIGTERM");
        assert_eq!(exit.last_line(), "");
    }

    #[test]
    fn reports_a_failed_execve() {
        let spawn = Spawn::new(Path::new("/nowhere/program"), &["x".into()], &[]).unwrap();
        assert_eq!(spawn.start().err(), Some(Errno::ENOENT));
        let spawn = Spawn::new(Path::new("/dev/null"), &["x".into()], &[]).unwrap();
        assert_eq!(spawn.start().err(), Some(Errno::EACCES));
    }

    #[test]
    fn kills_after_the_limit() {
        let before = Instant::now();
        let exit = shell("exec sleep 60").start().unwrap().wait(Some(Duration::from_millis(50))).unwrap();
        assert!(matches!(exit.status, Status::TimedOut(_)));
        assert!(before.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn does_not_wait_for_a_daemon_left_behind() {
        let before = Instant::now();
        let exit = shell("sleep 3 & exit 0").start().unwrap().wait(None).unwrap();
        assert!(exit.status.is_success());
        assert!(before.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn gives_default_signals_an_exact_environment_and_no_descriptors() {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).unwrap();
        let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr -s '\\n\\t' '  '; ls /proc/self/fd | tr '\\n' ' '; cat /proc/$$/environ | tr '\\0' ' '";
        let arguments = ["sh", "-c", script].map(String::from);
        let mut spawn = Spawn::new(Path::new("/bin/sh"), &arguments, &["A=1".into()]).unwrap();
        spawn.stdout = Stream::Captured;
        let exit = spawn.start().unwrap().wait(None).unwrap();
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&mask), None).unwrap();
        // ls has its own descriptor 3 on the directory.
        let line = exit.last_line();
        let said: Vec<_> = line.split_whitespace().collect();
        assert_eq!(said[1], "0000000000000000", "{line}");
        // Signals 32 and 33 are the C library's own; it does not reset what was inherited for them.
        assert_eq!(u64::from_str_radix(said[3], 16).unwrap() & !(0b11 << 31), 0, "{line}");
        assert_eq!(said[4..], ["0", "1", "2", "3", "A=1"], "{line}");
    }
}
