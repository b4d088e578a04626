//! The child's side of an exec: a process that joins a container, told top to bottom in [`become_member`].
//!
//! It is born in the container's cgroup and pid namespace, so its processes see it from its first
//! moment on, while it still holds things of the host. Therefore it is undumpable before it is born
//! (CVE-2016-9962), and what it needs of the host is opened by the parent.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::cwd::Missing;
use super::program::Program;
use super::sync::{FromInit, InitEnd};
use super::{OciState, Terminal, UserProcess, agent, become_root, user_process};
use crate::cgroups::TasksFile;
use crate::error::{Call, Context, Result};
use crate::namespaces::{Kind, Target};
use crate::rootfs;
use crate::sys::process;
use crate::sys::procfs::Procfs;

/// What a joining process holds of the world outside.
pub struct Newcomer<'a> {
    /// What to become.
    pub process: &'a UserProcess,
    /// Whose namespaces to join; the pid namespace is entered already.
    pub target: &'a Target,
    /// Born of a helper that had to enter the user namespace and has done [`before_user_namespace`].
    pub through_helper: bool,
    /// The root directory to change to, in a container without a mount namespace of its own.
    pub root: Option<OwnedFd>,
    /// The cgroup v1 files to write oneself into.
    pub tasks: &'a [TasksFile],
    /// The host's: the container's own `/proc` may be anything (CVE-2025-52881).
    pub procfs: Procfs,
    /// The seccomp agent, where the filter has one.
    pub agent: Option<OwnedFd>,
    /// The container's state, for the agent.
    pub state: OciState,
    /// The engine's console socket; without it the terminal goes to the parent.
    pub console_socket: Option<OwnedFd>,
    /// The parent.
    pub parent: InitEnd,
}

/// Becomes a process of the container, or tells the parent why not. Never returns.
pub fn run(mut newcomer: Newcomer<'_>) -> ! {
    let Err(error) = join(&mut newcomer);
    let told = newcomer.parent.send(&FromInit::Failed(error), None);
    process::exit_now(if told.is_ok() { 1 } else { 2 })
}

fn join(newcomer: &mut Newcomer<'_>) -> Result<Infallible> {
    let program = become_member(newcomer)?;
    // Nothing of the host while we wait; the owners of what is closed live in frames that never return.
    let mut needed = vec![newcomer.parent.as_fd()];
    needed.extend(program.agent.as_ref().map(agent::Introduction::descriptor));
    process::close_all_but(newcomer.process.first_private_descriptor(), &needed)?;
    newcomer.parent.send(&FromInit::Ready, None)?;
    let filter = newcomer.parent.expect_start(newcomer.process.seccomp.is_some())?;
    // From now on it is the container's: it may outlive berth.
    process::set_parent_death_signal(None)?;
    program.execute(newcomer.process, filter.as_ref())
}

/// What the helper does, where there is one, before it enters the container's user namespace: there the
/// process would not have the rights over its own files any more. It inherits what is written.
///
/// # Errors
/// The kernel's.
pub fn before_user_namespace(process: &UserProcess, procfs: &Procfs) -> Result<()> {
    process.write_own_files(procfs)
}

/// Everything but the wait and the execve.
fn become_member(newcomer: &mut Newcomer<'_>) -> Result<Program> {
    let user_process = newcomer.process;

    // First of all: an exec that is killed leaves no half-made process in the container.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    process::reset_signals()?;
    // What berth was called with beyond its stdio is nobody's business in there (CVE-2024-21626).
    process::cloexec_from(user_process.first_private_descriptor())?;
    nix::unistd::setsid().call(|| "setsid".into())?;

    // While the cgroup namespace is still the host's and the rights over both are there.
    newcomer.tasks.iter().try_for_each(TasksFile::join)?;
    // After the move: the container's cpuset bounds it (config.md, execCPUAffinity.final).
    if let Some(cpus) = &user_process.security.final_cpus {
        cpus.apply()?;
    }
    if !newcomer.through_helper {
        user_process.write_own_files(&newcomer.procfs)?;
    }

    newcomer.target.enter(newcomer.through_helper)?;
    if newcomer.target.has(Kind::User) {
        become_root()?;
        // The change of ids has cleared it.
        process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    }
    if let Some(root) = &newcomer.root {
        enter_root(root)?;
    }

    // From here on nothing but the container's own files is in sight.
    if let Some(terminal) = user_process.terminal {
        let slave = open_terminal(newcomer, terminal).context("give the process a terminal")?;
        user_process::make_controlling_terminal(slave.as_fd())?;
    }
    user_process::replace_null_devices()?;
    user_process.give_up_rights(&newcomer.procfs, newcomer.target.has(Kind::User), Missing::Refuse)?;
    let agent = introduction(newcomer)?;
    Program::find(user_process, agent)
}

/// What the seccomp agent will be told, about this process and not about init.
fn introduction(newcomer: &mut Newcomer<'_>) -> Result<Option<agent::Introduction>> {
    let (Some(socket), Some(address)) = (newcomer.agent.take(), &newcomer.process.agent) else {
        return Ok(None);
    };
    let pid = newcomer.procfs.own_pid()?;
    agent::Introduction::new(socket, address, pid, &newcomer.state).map(Some)
}

/// setns(2) changes the root with the mount namespace. Where that is the host's, the root would be too.
fn enter_root(root: &OwnedFd) -> Result<()> {
    let enter = || -> Result<()> {
        fchdir(root).call(|| "fchdir(root)".into())?;
        chroot(".").call(|| "chroot(root)".into())?;
        chdir("/").call(|| "chdir(\"/\")".into())
    };
    enter().context("enter the container's root")
}

/// Opens a pty of the container's own devpts, hands its master over, and returns its slave.
fn open_terminal(newcomer: &mut Newcomer<'_>, terminal: Terminal) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).call(|| "open(\"/\")".into())?;
    let (master, slave) = rootfs::open_pty(root.as_fd())?;
    terminal.apply_size(slave.as_fd())?;
    // Taken, so that the engine sees its end right after the message.
    match newcomer.console_socket.take() {
        Some(socket) => user_process::send_master(socket.as_fd(), master.as_fd())?,
        None => newcomer.parent.send(&FromInit::Terminal, Some(master.as_fd()))?,
    }
    Ok(slave)
}
