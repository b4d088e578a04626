//! The process that the user asked for (`process` of config.json, or what `exec` runs): what it gets,
//! and what init and a joining process do alike to become it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fstat, makedev};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::{agent, cwd};
use crate::error::{Call, Result};
use crate::sys::procfs::Procfs;
use crate::sys::{process, socket, tty};
use crate::{seccomp, security};

/// A process of the container, finished before it exists.
pub struct UserProcess {
    /// Ids, capabilities, limits, labels.
    pub security: security::Plan,
    /// The profile. The parent compiles it while the process is in the making, and sends the filter with the
    /// word to start.
    pub seccomp: Option<seccomp::Checked>,
    /// Who answers the calls that the filter hands out; Some when it does.
    pub agent: Option<agent::Address>,
    /// `process.args`; not empty.
    pub args: Vec<String>,
    /// `process.env`.
    pub env: Vec<String>,
    /// `process.cwd`.
    pub cwd: PathBuf,
    /// Some when the process gets a terminal.
    pub terminal: Option<Terminal>,
    /// The id after which the session keyring is named; None to stay in the caller's.
    pub keyring: Option<String>,
    /// How many of the inherited descriptors are sockets by sd_listen_fds(3); they come first.
    pub listen_fds: u32,
    /// Among how many descriptors after stderr the program inherits those without CLOEXEC, the sockets included.
    pub preserve_fds: u32,
}

impl UserProcess {
    /// The first descriptor that the program does not inherit, nor any after it.
    pub fn first_private_descriptor(&self) -> i32 {
        i32::try_from(self.preserve_fds).unwrap_or(i32::MAX - 3).saturating_add(3)
    }

    /// What has to outlive the drop of capabilities, so that the filter can be loaded last.
    fn right_for_seccomp(&self) -> u64 {
        if self.seccomp.is_some() && !self.security.no_new_privileges { security::SECCOMP_RIGHT } else { 0 }
    }

    /// Writes to the process's own files in `/proc`, while they are still its own: what is written takes
    /// effect at execve and for all that follows.
    ///
    /// # Errors
    /// The kernel's, with the field of config.json that asked for it.
    pub fn write_own_files(&self, procfs: &Procfs) -> Result<()> {
        self.security.set_oom_score_adj(procfs, "self")?;
        self.security.set_exec_labels(procfs)
    }

    /// Takes away what the container's process must not have. The order inside is explained in
    /// [`security`]. `user_namespace`: the container has one other than the runtime's.
    ///
    /// # Errors
    /// The kernel's, with the field of config.json that asked for it.
    pub(super) fn give_up_rights(
        &self,
        procfs: &Procfs,
        user_namespace: bool,
        missing_cwd: cwd::Missing,
    ) -> Result<()> {
        let security = &self.security;
        if let Some(id) = &self.keyring {
            security::join_session_keyring(id, security.selinux_label.as_deref(), user_namespace, procfs)?;
        }
        security.set_scheduler()?;
        security.set_io_priority()?;
        security.set_memory_policy()?;
        security.set_personality()?;
        security.set_umask();
        security.set_no_new_privileges()?;
        let entered = cwd::enter_as_root(&self.cwd, missing_cwd)?;
        security.own_stdio()?;
        security.drop_bounding()?;
        security.become_user(procfs)?;
        // The change of ids has cleared it.
        process::set_parent_death_signal(Some(Signal::SIGKILL))?;
        security.set_capabilities(self.right_for_seccomp())?;
        if !entered {
            cwd::enter_as_user(&self.cwd)?;
        }
        cwd::check_inside_root()
    }
}

/// The terminal of the container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// `process.consoleSize`.
    pub size: Option<tty::Size>,
    /// Whether newlines are to come out as the process writes them (see [`tty::clear_onlcr`]).
    pub plain_newlines: bool,
}

impl Terminal {
    /// Makes the new terminal what was asked for. Here and not where its other end is read: the process may
    /// have written by then.
    pub(super) fn prepare(self, slave: BorrowedFd<'_>) -> Result<()> {
        if self.plain_newlines {
            tty::clear_onlcr(slave)?;
        }
        self.size.map_or(Ok(()), |size| tty::set_size(slave, size))
    }
}

/// Hands the terminal's master to the engine. The payload is the name; engines read only the descriptor.
///
/// # Errors
/// Nobody listens any more.
pub fn send_master(console_socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<()> {
    socket::send(console_socket, b"/dev/ptmx", &[master.as_raw_fd()])
}

/// The terminal becomes stdin, stdout and stderr and the controlling terminal of our session.
pub(super) fn make_controlling_terminal(slave: BorrowedFd<'_>) -> Result<()> {
    tty::set_controlling(slave)?;
    put_on_stdio(slave)
}

/// The terminal becomes stdin, stdout and stderr.
pub(super) fn put_on_stdio(slave: BorrowedFd<'_>) -> Result<()> {
    dup2_stdin(slave.as_fd()).call(|| "dup2(terminal, 0)".into())?;
    dup2_stdout(slave.as_fd()).call(|| "dup2(terminal, 1)".into())?;
    dup2_stderr(slave.as_fd()).call(|| "dup2(terminal, 2)".into())
}

/// Puts the container's null device in place of one that berth was called with as stdin, stdout or stderr.
/// That one is a file of the host: a root of the container that is the host's root as well could take
/// everybody's rights to it by fchmod(2), and no image could hold it. A container without a null device of
/// its own, as under a `/dev` that is somebody else's, keeps what the caller gave.
///
/// # Errors
/// The kernel's.
pub(super) fn replace_null_devices() -> Result<()> {
    let is_given = |number| process::inherited(number).is_some_and(is_null_device);
    let given = [is_given(0), is_given(1), is_given(2)];
    if given == [false; 3] {
        return Ok(());
    }
    // In an exec it may be anything by now, and must neither lead elsewhere nor hold us up.
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let own = open("/dev/null", flags, Mode::empty()).ok().filter(|fd| is_null_device(fd.as_fd()));
    let Some(own) = own else { return Ok(()) };
    fcntl(&own, FcntlArg::F_SETFL(OFlag::empty())).call(|| "fcntl(/dev/null)".into())?;
    if given[0] {
        dup2_stdin(&own).call(|| "dup2(/dev/null, 0)".into())?;
    }
    if given[1] {
        dup2_stdout(&own).call(|| "dup2(/dev/null, 1)".into())?;
    }
    if given[2] {
        dup2_stderr(&own).call(|| "dup2(/dev/null, 2)".into())?;
    }
    Ok(())
}

/// The character device 1:3, whatever its name.
fn is_null_device(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == makedev(1, 3))
}
