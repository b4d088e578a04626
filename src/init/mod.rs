//! The child's side: the birth of a container, told top to bottom in [`be_born`].
//!
//! Init is a clone of the parent: it has the finished [`Plan`] in its memory and parses nothing. It
//! has lost its hold on the parent when [`sync`] says so, and on the host when it executes the
//! container's program.

pub mod agent;
mod cwd;
pub mod gate;
pub mod join;
mod program;
pub mod sync;
mod user_process;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use oci_spec::runtime::Hook;
use serde::Serialize;

use crate::cgroups::TasksFile;
use crate::error::{Call, Context, Error, Result};
use crate::namespaces::{self, Kind};
use crate::security::Sysctl;
use crate::sys::affinity;
use crate::sys::process;
use crate::sys::procfs::Procfs;
use crate::{hooks, rootfs, seccomp};
use cwd::Missing;
use program::{Confined, Program};
use sync::{FromInit, FromParent, InitEnd};

pub use user_process::{Terminal, UserProcess, send_master};

/// All that init does, finished before it exists.
pub struct Plan {
    /// What is made, what is joined.
    pub namespaces: namespaces::Plan,
    /// For the uts namespace.
    pub hostname: Option<String>,
    /// For the uts namespace.
    pub domainname: Option<String>,
    /// Mounts, devices, masks, root.
    pub rootfs: rootfs::Plan,
    /// What the container's own process gets and is.
    pub process: UserProcess,
    /// Init is made in a pid namespace that is there, by an usher who stays outside of it (see [`join`]). Before Linux
    /// 6.17 that cannot be: a procfs shows the pid namespace of who mounts it.
    pub ushered: bool,
    /// The caller is no root: what it may do with the container's namespaces, it may as their owner.
    pub by_user: bool,
    /// The parent tries the sysctls first: their files belong to whoever owns the namespace that they are
    /// of, which may be the host's root, and before Linux 6.10 some are the host's root's in any case.
    pub sysctls_by_parent: bool,
    /// Prestart or createRuntime hooks wait for the mounts.
    pub runtime_hooks: bool,
    /// Run in the container's namespaces before pivot_root.
    pub create_container: Vec<Hook>,
    /// Run in the container right before its program.
    pub start_container: Vec<Hook>,
    /// Where both write.
    pub hook_output: hooks::Output,
    /// The state that hooks read.
    pub state: OciState,
}

impl Plan {
    /// Whether init may be cloned while the helper that has made its network namespace brings the loopback up there.
    /// Not where the parent changes its time namespace and back, for which it must share its memory with nobody
    /// (EUSERS), nor where hooks run or an interface's values are written before init hears a word of the parent's: that
    /// it comes up changes some of them.
    pub fn may_begin_without_loopback(&self) -> bool {
        !self.namespaces.sets_clocks()
            && self.create_container.is_empty()
            && !self.process.security.sysctls.iter().any(Sysctl::is_of_loopback)
    }

    /// Whether init has to wait for [`FromParent::SetUp`].
    pub fn is_set_up_by_parent(&self) -> bool {
        self.sysctls_by_parent || !self.namespaces.devices.is_empty()
    }
}

/// The state as the spec has it for hooks (runtime.md, State).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    /// Version of the runtime-spec.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: String,
    /// As the reader's pid namespace numbers it; left out once there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Those of config.json.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl OciState {
    /// The JSON text.
    ///
    /// # Errors
    /// A path that is no Unicode.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::invalid(format!("encode the state: {error}")))
    }
}

/// What a newborn holds of the world outside.
pub struct Newborn<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The parent; None once it has gone its way.
    pub parent: Option<InitEnd>,
    /// Some when `start` comes by a later call; None when the parent says it.
    pub gate: Option<gate::Waiting>,
    /// Namespaces to join; the pid namespace is entered already, or by the usher for init.
    pub joined: namespaces::Opened,
    /// Some when we are not init but its usher, who makes it in a pid namespace that is there (see [`join`]); by it the
    /// parent learns who init is.
    pub usher: Option<OwnedFd>,
    /// The cgroup v1 files to write oneself into.
    pub tasks: &'a [TasksFile],
    /// The engine's console socket; without it the terminal goes to the parent.
    pub console_socket: Option<OwnedFd>,
    /// The connection to the seccomp agent, for [`Plan::agent`].
    pub agent: Option<OwnedFd>,
    /// The parent has systemd put us into our cgroup, and says when it is done.
    pub placed_by_parent: bool,
}

impl Newborn<'_> {
    fn say(&self, message: &FromInit, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.parent.as_ref().map_or(Ok(()), |parent| parent.send(message, fd))
    }

    fn expect(&self, word: FromParent) -> Result<()> {
        self.parent.as_ref().map_or(Ok(()), |parent| parent.expect(&word))
    }
}

/// Becomes the container, or tells whoever waits why not. Never returns.
pub fn run(mut newborn: Newborn<'_>) -> ! {
    let Err(error) = be_born(&mut newborn);
    // Until the container is created the parent listens, afterwards whoever called `start`. When
    // neither can be told there is nobody else; the exit status alone says that it did not start.
    let told = match (newborn.parent, newborn.gate) {
        (Some(parent), _) => parent.send(&FromInit::Failed(error), None),
        (None, Some(gate)) => gate.refuse(&error),
        (None, None) => Ok(()),
    };
    process::exit_now(if told.is_ok() { 1 } else { 2 })
}

fn be_born(newborn: &mut Newborn<'_>) -> Result<Infallible> {
    become_container(newborn)?;
    if let Some(birth) = newborn.usher.take() {
        join_pid_namespace(newborn, birth)?;
    }
    let mut program = Program::find(&newborn.plan.process)?;
    let filter = match wait_for_start(newborn, &mut program)? {
        Started::Confined(confined) => return program.execute(confined),
        Started::With(filter) => filter,
    };
    let plan = newborn.plan;
    if !plan.start_container.is_empty() {
        // What is executed there is the image's: under the filter, as with runc.
        let confine = || filter.as_ref().map_or(Ok(()), |filter| program::confine(filter, &plan.process));
        let environment = program.environment();
        run_hooks(plan, hooks::Kind::StartContainer, &plan.start_container, &environment, Some(&confine))?;
    }
    // Now, because after the filter is loaded there may be no write(2) any more.
    newborn.gate.as_ref().map_or(Ok(()), gate::Waiting::announce)?;
    let confined = program.confine(&plan.process, filter.as_ref())?;
    program.execute(confined)
}

/// How init comes from its wait.
enum Started {
    /// With the filter to load.
    With(Option<seccomp::Program>),
    /// With nothing left to do but execve.
    Confined(Confined),
}

/// Everything but the wait and the execve; whatever it opens of the host is closed when it returns.
fn become_container(newborn: &mut Newborn<'_>) -> Result<()> {
    let plan = newborn.plan;

    // First of all: a parent that dies from here on takes us with it, so that a killed `create`
    // leaves no process. The end of the channel covers the instant before.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    // Before all that takes time: what is empty may be removed by others. That the files were opened by the parent is
    // right enough, in whatever user namespace we are.
    newborn.tasks.iter().try_for_each(TasksFile::join)?;
    if !newborn.tasks.is_empty() {
        newborn.say(&FromInit::Joined, None)?;
    }
    process::reset_signals()?;
    // What berth was called with beyond its stdio is nobody's business in there (CVE-2024-21626).
    process::cloexec_from(plan.process.first_private_descriptor())?;
    nix::unistd::setsid().call(|| "setsid".into())?;
    // The host's /proc, while it is in sight: the container's own may be anything (CVE-2025-52881).
    let procfs = Procfs::host()?;
    // With a joined user namespace they were written before the clone; with a new one the parent, which has
    // the right to lower it, sets the OOM score.
    if plan.namespaces.creates(Kind::User) {
        plan.process.security.set_exec_labels(&procfs)?;
    } else if plan.namespaces.join(Kind::User).is_none() {
        plan.process.write_own_files(&procfs)?;
    }
    // Nobody else is in a new user namespace, and the namespaces that it could not join are entered. Until
    // its ids are mapped we stay dumpable: an ordinary user, and newuidmap(1), may write the maps of a
    // process only while its files in /proc are that user's.
    if plan.namespaces.creates(Kind::User) {
        newborn.expect(FromParent::IdsMapped)?;
    }
    // Before the first step towards the container: whoever is in its namespaces already, with whatever
    // capabilities there, must not look into a process that has the host's mounts and descriptors
    // (CVE-2016-9962). The owner of our memory is the host's user namespace until execve.
    process::set_undumpable()?;

    // Before any other step: the rights over all else come from the user namespace.
    newborn.joined.enter()?;
    if plan.namespaces.has(Kind::User) {
        become_root()?;
        // The change of ids has cleared it.
        process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    }

    affinity::reset().call(|| "sched_setaffinity(every CPU)".into())?;
    set_up_namespaces(plan, &mut newborn.joined)?;

    // First: a sysctl may be about a device that the parent moves here.
    let left = match &newborn.parent {
        Some(parent) if plan.is_set_up_by_parent() => Some(parent.expect_set_up()?),
        _ => None,
    };
    plan.process.security.write_sysctls(&procfs, left.filter(|_| plan.sysctls_by_parent).as_deref())?;

    let pids = if plan.ushered { newborn.joined.get(Kind::Pid) } else { None };
    let mut root = plan.rootfs.begin(pids.as_ref().map(|pids| pids.as_fd()))?;
    // As late as can be, because systemd takes its time. From here on there are the container's cgroup
    // and its limits, which hooks must find, and files that the image chooses.
    if newborn.placed_by_parent {
        newborn.expect(FromParent::Placed)?;
    }
    // Now that we are in our cgroup: it is the root that the namespace shows.
    plan.namespaces.unshare_cgroup()?;
    plan.rootfs.finish(&mut root)?;
    let terminal = match plan.process.terminal {
        Some(terminal) => Some(open_terminal(newborn, &root, terminal)?),
        None => None,
    };
    if plan.runtime_hooks {
        newborn.say(&FromInit::Mounted, None)?;
        newborn.expect(FromParent::HooksDone)?;
    }
    // After createRuntime, and with the host's paths still in reach (config.md#createcontainer-hooks).
    run_hooks(plan, hooks::Kind::CreateContainer, &plan.create_container, &[], None)?;
    root.enter(&plan.rootfs)?;

    // From here on nothing but the container's own files is in sight.
    if let Some(slave) = terminal {
        // Whose session has it does not give it to another, and its end would be a hang-up.
        match &newborn.usher {
            Some(_) => user_process::put_on_stdio(slave.as_fd())?,
            None => user_process::make_controlling_terminal(slave.as_fd())?,
        }
    }
    user_process::replace_null_devices()?;
    plan.process.give_up_rights(&procfs, plan.namespaces.has(Kind::User), Missing::Make)
}

/// The end of the usher: init goes on from here.
fn join_pid_namespace(newborn: &Newborn<'_>, birth: OwnedFd) -> Result<()> {
    close_what_is_the_hosts(newborn, Some(birth.as_fd()))?;
    process::become_sibling(birth).context("make init")?;
    let has_terminal = newborn.plan.process.terminal.is_some();
    newborn.parent.as_ref().map_or(Ok(()), |parent| join::become_leader(parent, has_terminal))
}

/// Others may be in the container's namespaces, or join them: they must find nothing of the host in our hands.
/// The owners of what is closed here live in frames that never return.
fn close_what_is_the_hosts(newborn: &Newborn<'_>, birth: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut needed = newborn.gate.as_ref().map_or(Vec::new(), |gate| gate.descriptors().to_vec());
    needed.extend(birth);
    needed.extend(newborn.agent.as_ref().map(AsFd::as_fd));
    needed.extend(newborn.parent.as_ref().map(AsFd::as_fd));
    if !newborn.plan.start_container.is_empty() {
        needed.extend(newborn.plan.hook_output.descriptors());
    }
    process::close_all_but(newborn.plan.process.first_private_descriptor(), &needed)
}

/// What the seccomp agent will be told. The pid is the runtime's number for us (runtime.md, Container
/// Process State).
fn introduction(newborn: &mut Newborn<'_>) -> Result<Option<agent::Introduction>> {
    let plan = newborn.plan;
    let (Some(socket), Some(address)) = (newborn.agent.take(), &plan.process.agent) else { return Ok(None) };
    let pid = newborn.parent.as_ref().map_or(Ok(0), InitEnd::expect_name)?;
    // With hooks of start the filter is loaded only then.
    let later = newborn.gate.is_some() && !plan.start_container.is_empty();
    let status = if later { "created" } else { "creating" };
    let state = OciState { status: status.into(), pid, ..plan.state.clone() };
    agent::Introduction::new(socket, address, state.pid, &state).map(Some)
}

fn wait_for_start(newborn: &mut Newborn<'_>, program: &mut Program) -> Result<Started> {
    if newborn.gate.is_some() {
        // The wait may be long. Before `create` is told that we are ready, or others could be quicker.
        close_what_is_the_hosts(newborn, None)?;
        let namespaces = &newborn.plan.namespaces;
        if newborn.plan.by_user && namespaces.creates(Kind::User) && namespaces.creates(Kind::Pid) {
            // Our memory is the initial user namespace's until execve, where a user may look into no
            // undumpable process; and without that nobody joins us (exec in a created container). Who is in
            // our namespaces from now on has come by the user's own exec, and there is nothing of the
            // host left in our hands.
            process::set_dumpable()?;
        }
    }
    newborn.say(&FromInit::Ready, None)?;
    program.agent = introduction(newborn)?;
    let filtered = newborn.plan.process.seccomp.is_some();
    let filter = newborn.parent.as_ref().map_or(Ok(None), |parent| parent.expect_start(filtered))?;
    // The parent has written down that the container exists: from now on it may end without us.
    process::set_parent_death_signal(None)?;
    let Some(gate) = &newborn.gate else { return Ok(Started::With(filter)) };
    // As runc does: there are agents that wait for the listener before they let the container be started.
    let confined = match filter.as_ref().filter(|filter| can_wait_under(filter, newborn.plan, program)) {
        Some(filter) => {
            gate.announce()?;
            Some(program.confine(&newborn.plan.process, Some(filter))?)
        }
        None => None,
    };
    newborn.parent = None;
    gate.wait()?;
    Ok(confined.map_or(Started::With(filter), Started::Confined))
}

/// Whether the filter has an agent and allows what comes between its load and execve: the end of the parent's channel,
/// the wait, and no hook.
fn can_wait_under(filter: &seccomp::Program, plan: &Plan, program: &Program) -> bool {
    program.agent.is_some()
        && plan.start_container.is_empty()
        && [libc::SYS_close, libc::SYS_read, libc::SYS_execve].into_iter().all(|call| filter.allows(call))
}

/// Becomes the root of the user namespace. One that does not map root is left as it is: what needs
/// no more than capabilities works, and for the rest the kernel's answer says why.
///
/// # Errors
/// The kernel's.
pub fn become_root() -> Result<()> {
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    match nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid)) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno).call(|| "setresuid(0)".into()).context("become root of the user namespace"),
    }
}

/// Names, clocks and loopback: what can only be set from inside.
fn set_up_namespaces(plan: &Plan, joined: &mut namespaces::Opened) -> Result<()> {
    let namespaces = &plan.namespaces;
    if let Some(offsets) = &namespaces.time_offsets
        && namespaces.sets_clocks()
        && namespaces.creates(Kind::User)
    {
        // Our own file in /proc is ours only while we are dumpable. In a new user namespace without a
        // neighbour in the pid namespace nobody is there to use the moment.
        let alone = namespaces.creates(Kind::Pid);
        if alone {
            process::set_dumpable()?;
        }
        // Dropped, not restored: execve moves us into it.
        drop(namespaces::unshare_time(offsets, &Procfs::host()?)?);
        process::set_undumpable()?;
    }
    if let Some(name) = &plan.hostname {
        namespaces::set_hostname(name)?;
    }
    if let Some(name) = &plan.domainname {
        namespaces::set_domainname(name)?;
    }
    // One that was made beside the parent (sys::beside) is joined as others are; its loopback is up before anything of
    // the container's runs.
    if namespaces.creates(Kind::Network) && joined.get(Kind::Network).is_none() {
        namespaces::bring_up_loopback()?;
    }
    Ok(())
}

/// Opens a pty of the container's own devpts, hands its master over, and returns its slave.
fn open_terminal(newborn: &mut Newborn<'_>, root: &rootfs::Root, terminal: Terminal) -> Result<OwnedFd> {
    let mut open = || -> Result<OwnedFd> {
        let (master, slave) = root.open_pty()?;
        terminal.prepare(slave.as_fd())?;
        root.bind_console(slave.as_fd())?;
        // Taken, so that the engine sees its end right after the message.
        match newborn.console_socket.take() {
            Some(socket) => user_process::send_master(socket.as_fd(), master.as_fd())?,
            None => newborn.say(&FromInit::Terminal, Some(master.as_fd()))?,
        }
        Ok(slave)
    };
    open().context("give the process a terminal")
}

/// What the process of a hook does right before execve.
type Confine<'a> = Option<&'a dyn Fn() -> Result<()>>;

/// Hooks inside of the container see nothing of the caller's environment.
fn run_hooks(
    plan: &Plan,
    kind: hooks::Kind,
    list: &[Hook],
    environment: &[String],
    confine: Confine<'_>,
) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    // In the container's pid namespace: the number that the hook itself can use.
    let state =
        OciState { status: "created".into(), pid: nix::unistd::getpid().as_raw(), ..plan.state.clone() };
    let state = state.to_json()?;
    let setting = hooks::Setting { state: &state, environment, output: &plan.hook_output, confine };
    hooks::run_all(kind, list, &setting)
}
