//! The child's side: the birth of a container, told top to bottom in [`be_born`].
//!
//! Init is a clone of the parent: it has the finished [`Plan`] in its memory and parses nothing. It
//! has lost its hold on the parent when [`sync`] says so, and on the host when it executes the
//! container's program.

pub mod agent;
mod cwd;
pub mod gate;
pub mod sync;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use oci_spec::runtime::Hook;
use serde::Serialize;

use crate::cgroups::TasksFile;
use crate::error::{Call, Context, Error, Result};
use crate::namespaces::{self, Kind};
use crate::sys::procfs::Procfs;
use crate::sys::{process, socket, tty};
use crate::{hooks, program, rootfs, seccomp, security};
use sync::{FromInit, FromParent, InitEnd};

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
    /// Ids, capabilities, limits, labels.
    pub security: security::Plan,
    /// The filter, compiled.
    pub seccomp: Option<seccomp::Program>,
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
    /// Prestart or createRuntime hooks wait for the mounts.
    pub runtime_hooks: bool,
    /// Run in the container's namespaces before pivot_root.
    pub create_container: Vec<Hook>,
    /// Run in the container right before its program.
    pub start_container: Vec<Hook>,
    /// The state that hooks read.
    pub state: OciState,
    /// The id after which the session keyring is named; None to stay in the caller's.
    pub keyring: Option<String>,
    /// How many descriptors after stderr the program inherits.
    pub preserve_fds: u32,
}

impl Plan {
    /// The first descriptor that the program does not inherit.
    fn first_private_descriptor(&self) -> i32 {
        i32::try_from(self.preserve_fds).unwrap_or(i32::MAX - 3).saturating_add(3)
    }

    /// What has to outlive the drop of capabilities, so that the filter can be loaded last.
    fn right_for_seccomp(&self) -> u64 {
        if self.seccomp.is_some() && !self.security.no_new_privileges { security::SECCOMP_RIGHT } else { 0 }
    }
}

/// The terminal of the container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// `process.consoleSize`.
    pub size: Option<tty::Size>,
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
    /// Namespaces to join; the pid namespace is entered already.
    pub joined: namespaces::Opened,
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
        self.parent.as_ref().map_or(Ok(()), |parent| parent.expect(word))
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
    let program = become_container(newborn)?;
    wait_for_start(newborn, &program)?;
    let plan = newborn.plan;
    run_hooks(plan, hooks::Kind::StartContainer, &plan.start_container, "created")?;
    program.execute(plan)
}

/// Everything but the wait and the execve; whatever it opens of the host is closed when it returns.
fn become_container(newborn: &mut Newborn<'_>) -> Result<Program> {
    let plan = newborn.plan;

    // First of all: a parent that dies from here on takes us with it, so that a killed `create`
    // leaves no process. The end of the channel covers the instant before.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    process::reset_signals()?;
    // What berth was called with beyond its stdio is nobody's business in there (CVE-2024-21626).
    process::cloexec_from(plan.first_private_descriptor())?;
    nix::unistd::setsid().call(|| "setsid".into())?;
    // The host's /proc, while it is in sight: the container's own may be anything (CVE-2025-52881).
    let procfs = Procfs::host()?;
    // While our own files there are still ours: they take effect at execve and for all that follows.
    plan.security.set_oom_score_adj(&procfs)?;
    plan.security.set_exec_labels(&procfs)?;
    // Before the first step towards the container: whoever is in its namespaces already, with whatever
    // capabilities there, must not look into a process that has the host's mounts and descriptors
    // (CVE-2016-9962). The owner of our memory is the host's user namespace until execve.
    process::set_undumpable()?;

    // Before any other step: the rights over all else come from the user namespace.
    newborn.joined.enter()?;
    if plan.namespaces.has(Kind::User) {
        if plan.namespaces.creates(Kind::User) {
            newborn.expect(FromParent::IdsMapped)?;
        }
        become_root()?;
        // The change of ids has cleared it.
        process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    }

    // Before the cgroup namespace is made: the cgroup we are in then is the root that it shows.
    newborn.tasks.iter().try_for_each(TasksFile::join)?;
    if newborn.placed_by_parent {
        newborn.expect(FromParent::Placed)?;
    }
    plan.namespaces.unshare_cgroup()?;
    set_up_namespaces(plan)?;

    plan.security.write_sysctls(&procfs)?;
    let agent = introduction(newborn, &procfs)?;

    let root = plan.rootfs.build()?;
    let terminal = match plan.terminal {
        Some(terminal) => Some(open_terminal(newborn, &root, terminal)?),
        None => None,
    };
    if plan.runtime_hooks {
        newborn.say(&FromInit::Mounted, None)?;
        newborn.expect(FromParent::HooksDone)?;
    }
    // After createRuntime, and with the host's paths still in reach (config.md#createcontainer-hooks).
    run_hooks(plan, hooks::Kind::CreateContainer, &plan.create_container, "creating")?;
    root.enter(&plan.rootfs)?;

    // From here on nothing but the container's own files is in sight.
    if let Some(slave) = terminal {
        become_session_leader_of(slave.as_fd())?;
    }
    give_up_rights(plan, &procfs)?;
    Program::find(plan, agent)
}

/// What the seccomp agent will be told. The pid is the runtime's number for us (runtime.md, Container
/// Process State), which only the host's /proc knows in here.
fn introduction(newborn: &mut Newborn<'_>, procfs: &Procfs) -> Result<Option<agent::Introduction>> {
    let plan = newborn.plan;
    let (Some(socket), Some(address)) = (newborn.agent.take(), &plan.agent) else { return Ok(None) };
    let status = if newborn.gate.is_some() { "created" } else { "creating" };
    let state = OciState { status: status.into(), pid: procfs.own_pid()?, ..plan.state.clone() };
    agent::Introduction::new(socket, address, &state).map(Some)
}

fn wait_for_start(newborn: &mut Newborn<'_>, program: &Program) -> Result<()> {
    newborn.say(&FromInit::Ready, None)?;
    newborn.expect(FromParent::Start)?;
    // The parent has written down that the container exists: from now on it may end without us.
    process::set_parent_death_signal(None)?;
    let Some(gate) = &newborn.gate else { return Ok(()) };
    newborn.parent = None;
    // The wait may be long, and others may join the container meanwhile: they must find nothing of the
    // host in our hands. The owners of what is closed here live in frames that never return.
    let mut needed = gate.descriptors().to_vec();
    needed.extend(program.agent.as_ref().map(agent::Introduction::descriptor));
    process::close_all_but(newborn.plan.first_private_descriptor(), &needed)?;
    gate.wait()
}

/// Becomes the root of the user namespace. One that does not map root is left as it is: what needs
/// no more than capabilities works, and for the rest the kernel's answer says why.
fn become_root() -> Result<()> {
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    match nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid)) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno).call(|| "setresuid(0)".into()).context("become root of the user namespace"),
    }
}

/// Names, clocks and loopback: what can only be set from inside.
fn set_up_namespaces(plan: &Plan) -> Result<()> {
    let namespaces = &plan.namespaces;
    if let Some(offsets) = &namespaces.time_offsets
        && namespaces.sets_clocks()
        && namespaces.creates(Kind::User)
    {
        // Our own file in /proc is ours only while we are dumpable. In a new user namespace without a
        // neighbour in the pid namespace nobody is there to use the moment.
        let alone = namespaces.creates(Kind::Pid);
        if alone {
            nix::sys::prctl::set_dumpable(true).call(|| "prctl(PR_SET_DUMPABLE, 1)".into())?;
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
    if namespaces.creates(Kind::Network) {
        namespaces::bring_up_loopback()?;
    }
    Ok(())
}

/// Opens a pty of the container's own devpts, hands its master over, and returns its slave.
fn open_terminal(newborn: &mut Newborn<'_>, root: &rootfs::Root, terminal: Terminal) -> Result<OwnedFd> {
    let mut open = || -> Result<OwnedFd> {
        let (master, slave) = root.open_pty()?;
        if let Some(size) = terminal.size {
            tty::set_size(slave.as_fd(), size)?;
        }
        root.bind_console(slave.as_fd())?;
        // Taken, so that the engine sees its end right after the message.
        match newborn.console_socket.take() {
            // The payload is the name; engines read only the descriptor.
            Some(socket) => socket::send(socket.as_fd(), b"/dev/ptmx", &[master.as_raw_fd()])?,
            None => newborn.say(&FromInit::Terminal, Some(master.as_fd()))?,
        }
        Ok(slave)
    };
    open().context("give the process a terminal")
}

/// The terminal becomes stdin, stdout and stderr and the controlling terminal of our session.
fn become_session_leader_of(slave: BorrowedFd<'_>) -> Result<()> {
    tty::set_controlling(slave)?;
    nix::unistd::dup2_stdin(slave).call(|| "dup2(terminal, 0)".into())?;
    nix::unistd::dup2_stdout(slave).call(|| "dup2(terminal, 1)".into())?;
    nix::unistd::dup2_stderr(slave).call(|| "dup2(terminal, 2)".into())
}

fn run_hooks(plan: &Plan, kind: hooks::Kind, list: &[Hook], status: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    // In the container's pid namespace: the number that the hook itself can use.
    let state = OciState { status: status.into(), pid: nix::unistd::getpid().as_raw(), ..plan.state.clone() };
    let state = state.to_json()?;
    list.iter().try_for_each(|hook| hooks::run(kind, hook, &hooks::Setting::captured(&state)))
}

/// Takes away what the container's process must not have. The order inside is explained in
/// [`security`].
fn give_up_rights(plan: &Plan, procfs: &Procfs) -> Result<()> {
    let security = &plan.security;
    if let Some(id) = &plan.keyring {
        let other_users = plan.namespaces.has(Kind::User);
        security::join_session_keyring(id, security.selinux_label.as_deref(), other_users, procfs)?;
    }
    security.set_scheduler()?;
    security.set_io_priority()?;
    security.set_memory_policy()?;
    security.set_personality()?;
    security.set_umask();
    security.set_no_new_privileges()?;
    let entered = cwd::enter_as_root(&plan.cwd)?;
    security.own_stdio()?;
    security.drop_bounding()?;
    security.become_user(procfs)?;
    // The change of ids has cleared it.
    process::set_parent_death_signal(Some(Signal::SIGKILL))?;
    security.set_capabilities(plan.right_for_seccomp())?;
    if !entered {
        cwd::enter_as_user(&plan.cwd)?;
    }
    cwd::check_inside_root()
}

/// execve's arguments, made before the filter is loaded: memory may need a system call.
struct Program {
    path: PathBuf,
    c_path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    agent: Option<agent::Introduction>,
}

impl Program {
    fn find(plan: &Plan, agent: Option<agent::Introduction>) -> Result<Self> {
        let env = environment(plan)?;
        let command = plan.args.first().ok_or_else(|| Error::invalid("process.args: is empty"))?;
        let path = program::find(command, &env)?;
        let c_string = |text: &[u8]| {
            CString::new(text).map_err(|_| Error::invalid("process.args or process.env: contains a NUL byte"))
        };
        let c_strings =
            |list: &[String]| list.iter().map(|text| c_string(text.as_bytes())).collect::<Result<_>>();
        Ok(Self {
            c_path: c_string(path.as_os_str().as_bytes())?,
            argv: c_strings(&plan.args)?,
            env: c_strings(&env)?,
            path,
            agent,
        })
    }

    /// Nothing may come after the filter but execve: a profile need not allow anything else. One that
    /// notifies has to allow sendmsg too.
    fn execute(&self, plan: &Plan) -> Result<Infallible> {
        // As late as can be: a small RLIMIT_NOFILE, RLIMIT_FSIZE or RLIMIT_AS is the program's, not ours.
        plan.security.set_rlimits()?;
        // Kept until execve closes it: close(2) may be among the calls that an agent decides about.
        let _listener = match &plan.seccomp {
            Some(filter) => self.load(filter, &plan.security)?,
            None => None,
        };
        let Err(errno) = nix::unistd::execve(&self.c_path, &self.argv, &self.env);
        Err(program::diagnose(&self.path, errno))
    }

    fn load(&self, filter: &seccomp::Program, security: &security::Plan) -> Result<Option<OwnedFd>> {
        if !security.no_new_privileges {
            security.raise(security::SECCOMP_RIGHT)?;
        }
        let listener = filter.install().context("load the seccomp filter")?;
        match (&listener, &self.agent) {
            (Some(listener), Some(agent)) => agent.send(listener.as_fd())?,
            // Its calls would wait for an answer for ever.
            (Some(_), None) => return Err(Error::invalid("linux.seccomp: notifies, but there is no agent")),
            (None, _) => {}
        }
        Ok(listener)
    }
}

/// `process.env` and HOME, which only the container's own passwd knows.
fn environment(plan: &Plan) -> Result<Vec<String>> {
    let passwd = if plan.env.iter().any(|entry| entry.len() > 5 && entry.starts_with("HOME=")) {
        None
    } else {
        match std::fs::read("/etc/passwd") {
            Ok(text) => Some(text),
            // The user may have no right to read it, or the image no such file.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR)) =>
            {
                None
            }
            Err(error) => return Err(error).call(|| "read(/etc/passwd)".into()),
        }
    };
    Ok(security::environment(&plan.env, passwd.as_deref(), plan.security.user.uid))
}
