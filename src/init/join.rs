//! The child's side of an exec: a process that joins a container.
//!
//! The container's processes see it from the moment on at which it is in their pid namespace, and one with
//! CAP_SYS_PTRACE takes from it what it has: being undumpable (CVE-2016-9962) is no shield where the container
//! has no user namespace of its own. So an usher, in the container's cgroup and still in the host's pid namespace,
//! does all that needs something of the host: it enters every namespace and the root, gives up the rights, closes what
//! the container must not have ([`become_member`]), and only then clones the process ([`join`]), a sibling of its own
//! by CLONE_PARENT. What is left to be taken then is what the process is going to be, but for its filter and limits.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::cwd::Missing;
use super::program::Program;
use super::sync::{FromInit, InitEnd};
use super::{OciState, Terminal, UserProcess, agent, become_root, user_process};
use crate::cgroups::{Cgroup, TasksFile};
use crate::error::{Call, Context, Result};
use crate::namespaces::{Kind, Target};
use crate::rootfs;
use crate::sys::procfs::Procfs;
use crate::sys::vfork::Offspring;
use crate::sys::{affinity, process, tty};

/// What a joining process holds of the world outside.
pub struct Newcomer<'a> {
    /// What to become.
    pub process: &'a UserProcess,
    /// Whose namespaces to join.
    pub target: &'a Target,
    /// The root directory to change to, in a container without a mount namespace of its own.
    pub root: Option<BorrowedFd<'a>>,
    /// The container's cgroup, or one below it.
    pub cgroup: &'a Cgroup,
    /// The host's: the container's own `/proc` may be anything (CVE-2025-52881).
    pub procfs: &'a Procfs,
    /// The seccomp agent, where the filter has one.
    pub agent: Option<BorrowedFd<'a>>,
    /// The container's state, for the agent.
    pub state: &'a OciState,
    /// The engine's console socket; without it the terminal goes to the parent.
    pub console_socket: Option<BorrowedFd<'a>>,
    /// The parent.
    pub parent: &'a InitEnd,
    /// Whether the word to start is there already.
    pub waits_for_nobody: bool,
    /// Where the parent learns who the usher's clone is.
    pub offspring: &'a Offspring,
}

/// Becomes the usher, whose clone is the process; either tells the parent why not. `in_cgroup`: the usher was born in
/// its cgroup of the unified hierarchy, if it is to be in one. Never returns.
pub fn run(newcomer: &Newcomer<'_>, in_cgroup: bool) -> ! {
    let Err(error) = become_member(newcomer, in_cgroup).and_then(|stays| {
        match newcomer.offspring.make().context("make the process")? {
            true => join(newcomer, stays),
            // Its word to the parent is the clone's.
            false => process::exit_now(0),
        }
    });
    let told = newcomer.parent.send(&FromInit::Failed(error), None);
    process::exit_now(if told.is_ok() { 1 } else { 2 })
}

/// The usher: everything that the clone inherits. Whether that is one CPU only.
fn become_member(newcomer: &Newcomer<'_>, in_cgroup: bool) -> Result<bool> {
    let user_process = newcomer.process;

    // First of all: an exec that is killed leaves no half-made process.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    // Not in the caller's session: who types Ctrl-C means the program, and opens no terminal for us. Nor may the clone be
    // in it before it has a session of its own: whoever gets hold of it there would have the caller's terminal.
    nix::unistd::setsid().call(|| "setsid".into())?;
    process::reset_signals()?;

    // While the cgroup namespace is still the host's and the rights over both are there.
    newcomer.cgroup.tasks().iter().try_for_each(TasksFile::join)?;
    if !in_cgroup {
        newcomer
            .cgroup
            .attach(nix::unistd::getpid())
            .context("move the process into the container's cgroup")?;
    }
    // After the move: the container's cpuset bounds it (config.md, execCPUAffinity.final).
    let security = &user_process.security;
    if let Some(cpus) = &security.final_cpus {
        cpus.apply()?;
    }
    // A process that waits for nobody comes right after us, and has no other CPU to wake for it.
    let stays = security.affinity_is_free() && newcomer.waits_for_nobody && affinity::stay();
    if security.affinity_is_free() && !stays {
        affinity::reset().call(|| "sched_setaffinity(every CPU)".into())?;
    }
    // In the container's user namespace the process would not have the rights over its own files any more.
    user_process.write_own_files(newcomer.procfs)?;

    // Before any namespace of the container, whose processes may be our equals in uid.
    process::set_undumpable()?;
    newcomer.target.enter()?;
    if newcomer.target.has(Kind::User) {
        become_root()?;
        // The change of ids has cleared it.
        process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    }
    if let Some(root) = newcomer.root {
        enter_root(root)?;
    }

    // From here on nothing but the container's own files is in sight.
    if let Some(terminal) = user_process.terminal {
        let slave = open_terminal(newcomer, terminal).context("give the process a terminal")?;
        user_process::put_on_stdio(slave.as_fd())?;
    }
    user_process::replace_null_devices()?;
    user_process.give_up_rights(newcomer.procfs, newcomer.target.has(Kind::User), Missing::Refuse)?;

    // Where fs.suid_dumpable is 1 each change of rights has taken it back.
    process::set_undumpable()?;
    // What berth was called with beyond its stdio is nobody's business in there (CVE-2024-21626), nor is anything of
    // the host that we hold; the owners of what is closed live in frames that never return.
    let mut needed = vec![newcomer.parent.as_fd()];
    needed.extend(newcomer.agent);
    process::close_all_but(user_process.first_private_descriptor(), &needed)?;
    Ok(stays)
}

/// The process itself, in the container's pid namespace; still where the usher was if it `stays`.
fn join(newcomer: &Newcomer<'_>, stays: bool) -> Result<Infallible> {
    let user_process = newcomer.process;
    become_leader(newcomer.parent, user_process.terminal.is_some())?;
    let mut program = Program::find(user_process)?;
    newcomer.parent.send(&FromInit::Ready, None)?;
    program.agent = introduction(newcomer)?;
    let filter = newcomer.parent.expect_start(user_process.seccomp.is_some())?;
    // From now on it is the container's: it may outlive berth.
    process::set_parent_death_signal(None)?;
    if stays {
        affinity::take_every().call(|| "sched_setaffinity(every CPU)".into())?;
    }
    let confined = program.confine(user_process, filter.as_ref())?;
    program.execute(confined)
}

/// The first steps of a process that an usher has made, for what a clone does not inherit.
pub(super) fn become_leader(parent: &InitEnd, has_terminal: bool) -> Result<()> {
    // The parent may have ended before; its word to start could be there all the same.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    parent.expect_parent()?;
    nix::unistd::setsid().call(|| "setsid".into())?;
    if has_terminal {
        tty::set_controlling(std::io::stdin().as_fd())?;
    }
    Ok(())
}

/// What the seccomp agent will be told, about this process and not about init.
fn introduction(newcomer: &Newcomer<'_>) -> Result<Option<agent::Introduction>> {
    let (Some(socket), Some(address)) = (newcomer.agent, &newcomer.process.agent) else {
        return Ok(None);
    };
    // The number that the host knows; in here it is another.
    let pid = newcomer.parent.expect_name()?;
    let socket = socket.try_clone_to_owned().call(|| "dup(agent)".into())?;
    agent::Introduction::new(socket, address, pid, newcomer.state).map(Some)
}

/// setns(2) changes the root with the mount namespace. Where that is the host's, the root would be too.
fn enter_root(root: BorrowedFd<'_>) -> Result<()> {
    let enter = || -> Result<()> {
        fchdir(root).call(|| "fchdir(root)".into())?;
        chroot(".").call(|| "chroot(root)".into())?;
        chdir("/").call(|| "chdir(\"/\")".into())
    };
    enter().context("enter the container's root")
}

/// Opens a pty of the container's own devpts, hands its master over, and returns its slave.
fn open_terminal(newcomer: &Newcomer<'_>, terminal: Terminal) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).call(|| "open(\"/\")".into())?;
    let (master, slave) = rootfs::open_pty(root.as_fd())?;
    terminal.prepare(slave.as_fd())?;
    match newcomer.console_socket {
        Some(socket) => user_process::send_master(socket, master.as_fd())?,
        None => newcomer.parent.send(&FromInit::Terminal, Some(master.as_fd()))?,
    }
    Ok(slave)
}
