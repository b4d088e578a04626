//! `exec`: one more process in a container that is there.
//!
//! The same story as a birth, with namespaces that exist and one clone. The container's lock is not
//! taken: any number of execs run beside each other, and none hinders a `kill` or `delete`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use oci_spec::runtime::{Capability, Linux, LinuxCapabilities, Process, Spec};
use serde::Deserialize;
use serde::de::value::{Error as NameError, StrDeserializer};

use super::conversation::{self, Conversation, Heard};
use super::foreground::{self, Signals};
use super::relay::Relay;
use super::state::{Record, StateDir};
use super::status::{self, Status};
use super::{Host, notify_engine, plan};
use crate::cgroups::{self, Cgroup};
use crate::error::{Call, Code, Context, Error, Result};
use crate::init::UserProcess;
use crate::init::join::{self, Newcomer};
use crate::init::sync::{self, FromInit};
use crate::namespaces::{Kind, Target};
use crate::sys::heap;
use crate::sys::process::{self, Child, Exit};
use crate::sys::procfs::Procfs;
use crate::sys::vfork::{self, Memory, Offspring};
use crate::{log, seccomp, security, spec};

/// The flags of `exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// What is run.
    pub process: ProcessSource,
    /// Give the process a terminal.
    pub tty: bool,
    /// Return once the program is executed.
    pub detach: bool,
    /// Gets the master of the process's terminal.
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets the process's pid.
    pub pid_file: Option<PathBuf>,
    /// Descriptors after stderr that the process inherits.
    pub preserve_fds: u32,
    /// Where below the container's cgroup; empty for the container's own.
    pub cgroup: Vec<String>,
    /// Do not refuse a paused container; the process waits until it is resumed.
    pub ignore_paused: bool,
}

/// Where the process comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessSource {
    /// `--process FILE`: the process object of a config.json.
    File(PathBuf),
    /// The container's own process with these changes.
    Changes(Box<Changes>),
}

impl Default for ProcessSource {
    fn default() -> Self {
        Self::Changes(Box::default())
    }
}

/// What differs from `process` of the container's config.json.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The command.
    pub args: Vec<String>,
    /// Instead of `cwd`.
    pub cwd: Option<PathBuf>,
    /// Added to `env`; a later entry of a name wins.
    pub env: Vec<String>,
    /// Instead of uid and, if given, gid.
    pub user: Option<(u32, Option<u32>)>,
    /// Added to `additionalGids`.
    pub additional_gids: Vec<u32>,
    /// Instead of `selinuxLabel`.
    pub selinux_label: Option<String>,
    /// Instead of `apparmorProfile`.
    pub apparmor_profile: Option<String>,
    /// Set `noNewPrivileges`.
    pub no_new_privileges: bool,
    /// Added to the bounding, effective and permitted capabilities.
    pub capabilities: Vec<String>,
}

/// Runs a process in the container. In the foreground the result is its exit status, 128+n after signal
/// n; detached it is 0.
///
/// # Errors
/// The container is in no state for it, or something refuses; nothing of the process is left then.
pub fn exec(host: &Host, id: &str, options: &ExecOptions) -> Result<u8> {
    if options.console_socket.is_some() && !options.detach {
        return Err(Error::invalid(
            "--console-socket: only with --detach, in the foreground berth relays the terminal",
        ));
    }
    let (dir, record, init) = find(host, id, options.ignore_paused)?;
    let mut warnings = Vec::new();
    let planned = plan(&dir, &record, options, &mut warnings);
    warnings.iter().for_each(|warning| log::warning(warning));
    let planned = planned?;
    // Before the clone, so that none is lost between.
    let mut signals = if options.detach { None } else { Some(Signals::hold()?) };

    let Made { channel, child, start } = make(&planned, &record, init, options)?;
    // The words of these lines are runc's, with which logs are read and by which its test suite goes.
    log::debug(|| format!("nsexec container setup: the process is {}, in container {id}", child.pid));
    let conversation =
        Conversation { channel: &channel, child: &child, has_memory_limit: planned.has_memory_limit };
    match attend(&conversation, &planned, start, options, signals.as_mut()) {
        Ok(relay) => match &mut signals {
            Some(signals) => {
                let status = signals.forward_until_exit(&child, relay);
                // We end.
                heap::forget();
                status
            }
            None => Ok(0),
        },
        Err(error) => Err(match conversation::end(&child) {
            Ok(()) => error,
            Err(also) => error.remedy(format!("its process is left: {also}")),
        }),
    }
}

/// The container and its first process, if it is in a state for an exec.
fn find(host: &Host, id: &str, ignore_paused: bool) -> Result<(StateDir, Record, Init)> {
    let dir = host.root.open(id)?;
    let record = status::record(&dir)?;
    let refuse = |why: &str| Err(Error::new(Code::State, format!("cannot exec in a {why}")));
    let pidfd = record.init.map_or(Ok(None), |init| init.open())?;
    let status = status::if_init_is(pidfd.is_some(), &dir, &record)?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if ignore_paused => {}
        Status::Paused => return refuse("paused container (use --ignore-paused to override)"),
        Status::Stopped => return refuse("stopped container"),
        Status::Creating => return refuse("container that is being created"),
    }
    match record.init.zip(pidfd) {
        Some((init, pidfd)) => Ok((dir, record, Init { pid: Pid::from_raw(init.pid), pidfd, status })),
        None => refuse("stopped container"),
    }
}

/// The container's first process.
struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    /// Of the container.
    status: Status,
}

/// All that the process becomes, finished before it exists.
struct Planned {
    process: UserProcess,
    /// Set from outside once the process is there, because nobody inherits it.
    scheduler: security::Plan,
    has_memory_limit: bool,
    below: Vec<cgroups::Below>,
    /// The kinds of namespaces that were made for the container.
    made: Vec<Kind>,
}

impl Planned {
    /// What the process has to be told, to introduce itself to a seccomp agent.
    fn name_of(&self, child: &Child) -> Option<Pid> {
        self.process.agent.as_ref().map(|_| child.pid)
    }
}

fn plan(
    dir: &StateDir,
    record: &Record,
    options: &ExecOptions,
    warnings: &mut Vec<String>,
) -> Result<Planned> {
    // The config.json of `create`: later edits of the bundle have no effect. Its warnings were told then.
    let mut container = spec::parse_for_exec(&dir.config()?)?;
    let mut process = match &options.process {
        ProcessSource::File(path) => {
            let text = std::fs::read(path).call(|| format!("read({})", path.display()));
            let text = text.context("read the process (--process)")?;
            let mut found = Vec::new();
            let process = spec::parse_process(&named(path), &text, &mut found);
            warnings.extend(found.iter().map(|warning| format!("{}: {warning}", named(path))));
            process?
        }
        ProcessSource::Changes(changes) => change(&container, changes, warnings)?,
    };
    // A file says itself whether there is a terminal, and --tty changes nothing of it (runc).
    if !matches!(options.process, ProcessSource::File(_)) {
        process.set_terminal(Some(options.tty));
    }
    let before = container.process_mut().replace(process.clone());
    check(&container, before.as_ref(), options)?;
    let linux = container.linux().clone().unwrap_or_default();
    let keyring = record.own_keyring.then(|| record.id.clone());
    let filter = match record.filter_saved {
        true => Some(seccomp::Checked::again(dir.filter()?)),
        false => plan::seccomp_filter(&container, warnings)?,
    };
    let mut process =
        plan::user_process(&container, &process, filter, keyring, options.preserve_fds, warnings)?;
    if let Some(terminal) = &mut process.terminal {
        terminal.plain_newlines = !options.detach && foreground::reader_is_plain();
    }
    Ok(Planned {
        scheduler: process.security.split_off_scheduler(),
        process,
        has_memory_limit: plan::has_memory_limit(&linux),
        made: namespaces_made(&linux),
        below: options.cgroup.iter().map(|text| cgroups::Below::parse(text)).collect::<Result<_>>()?,
    })
}

/// Not the time namespace: an init that makes its own is in it only from its execve on, before Linux 6.2 never, and who has
/// no rights over the host's cannot join that again.
fn namespaces_made(linux: &Linux) -> Vec<Kind> {
    let all = linux.namespaces().iter().flatten();
    let made =
        all.filter(|namespace| namespace.path().is_none()).map(|namespace| Kind::from(namespace.typ()));
    made.filter(|kind| *kind != Kind::Time).collect()
}

/// What the errors in a process file are told of.
fn named(path: &Path) -> String {
    format!("--process {}", path.display())
}

/// Refuses what the checks of a config.json find, each by the file or the flag that says it: the config.json
/// itself was checked by `create`.
fn check(container: &Spec, before: Option<&Process>, options: &ExecOptions) -> Result<()> {
    let validate = spec::ValidateOptions {
        rootless: !nix::unistd::geteuid().is_root(),
        detached: options.detach,
        console_socket: options.console_socket.is_some(),
    };
    let found = spec::validate_exec(container, &validate);
    if found.is_empty() {
        return Ok(());
    }
    let told = found.into_iter().map(|mut finding| match &options.process {
        ProcessSource::File(path) => match finding.path.strip_prefix("process.") {
            Some(member) => {
                finding.path = member.to_owned();
                format!("{}: {finding}", named(path))
            }
            None => format!("{}: {finding}", spec::CONFIG),
        },
        ProcessSource::Changes(changes) => match flag_of(&finding.path, changes, before) {
            Some(flag) => {
                finding.path = flag.to_owned();
                finding.to_string()
            }
            None => format!("{}: {finding}", spec::CONFIG),
        },
    });
    Err(Error::invalid(told.collect::<Vec<_>>().join("; ")))
}

/// The flag to which the value at `path` of the changed config.json is due. What the flags add stands behind
/// what was there `before`.
fn flag_of(path: &str, changes: &Changes, before: Option<&Process>) -> Option<&'static str> {
    let (member, index) = match path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
        Some((member, index)) => (member, index.parse().unwrap_or(0)),
        None => (path, 0),
    };
    let count = |list: Option<usize>| list.unwrap_or(0);
    let envs = || count(before.and_then(|process| Some(process.env().as_ref()?.len())));
    let groups = || count(before.and_then(|process| Some(process.user().additional_gids().as_ref()?.len())));
    match member {
        "process.args" => Some("COMMAND"),
        "process.terminal" => Some("--tty"),
        "process.cwd" if changes.cwd.is_some() => Some("--cwd"),
        "process.env" if index >= envs() => Some("--env"),
        "process.user.uid" if changes.user.is_some() => Some("--user"),
        "process.user.gid" if matches!(changes.user, Some((_, Some(_)))) => Some("--user"),
        "process.user.additionalGids" if index >= groups() => Some("--additional-gids"),
        _ => None,
    }
}

/// The container's process as the flags change it.
fn change(container: &Spec, changes: &Changes, warnings: &mut Vec<String>) -> Result<Process> {
    let process = container.process().clone();
    let mut process = process.ok_or_else(|| Error::invalid("the container has no process to take after"))?;
    process.set_args(Some(changes.args.clone()));
    // Where the terminal of the first process ends says nothing of this one's.
    process.set_console_size(None);
    let mut env = process.env().clone().unwrap_or_default();
    env.extend_from_slice(&changes.env);
    process.set_env(Some(env));
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(label) = &changes.selinux_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &changes.apparmor_profile {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if changes.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    let user = process.user_mut();
    if let Some((uid, gid)) = changes.user {
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    groups.extend_from_slice(&changes.additional_gids);
    user.set_additional_gids(Some(groups));
    if !changes.capabilities.is_empty() {
        let sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
        process.set_capabilities(Some(add_capabilities(sets, &changes.capabilities, warnings)));
    }
    Ok(process)
}

/// Adds to what the process may use and may gain, and never to what its programs inherit
/// (CVE-2022-29162); a capability that config.json has them inherit is added to the ambient set as well, as
/// runc does: without it a user other than root would lose it at execve.
fn add_capabilities(
    mut sets: LinuxCapabilities,
    names: &[String],
    warnings: &mut Vec<String>,
) -> LinuxCapabilities {
    let mut added = Vec::new();
    for name in names {
        match Capability::deserialize(StrDeserializer::<NameError>::new(name)) {
            Ok(capability) => added.push(capability),
            Err(_) => warnings.push(format!("--cap: unknown capability {name:?} ignored")),
        }
    }
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(&added);
        Some(set)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_permitted(with(sets.permitted()));
    sets.set_effective(with(sets.effective()));
    let inherited =
        |capability: &&Capability| sets.inheritable().as_ref().is_some_and(|set| set.contains(capability));
    let mut ambient = sets.ambient().clone().unwrap_or_default();
    ambient.extend(added.iter().filter(inherited));
    sets.set_ambient(Some(ambient));
    sets
}

/// oci-spec's default is not empty.
fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    none
}

/// The process in the container's namespaces and cgroup.
struct Made {
    channel: sync::ParentEnd,
    child: Child,
    start: Start,
}

/// The word that the process waits for.
enum Start {
    /// Before it was asked for: the process need not wait.
    SaidAhead,
    /// With this filter.
    ToBeSaid(Option<seccomp::Program>),
}

/// Clones the process.
fn make(planned: &Planned, record: &Record, init: Init, options: &ExecOptions) -> Result<Made> {
    let console_socket = match &options.console_socket {
        Some(path) => Some(notify_engine::connect_console(path)?),
        None => None,
    };
    let agent = match &planned.process.agent {
        Some(agent) => Some(notify_engine::connect_agent(&agent.path)?),
        None => None,
    };
    let security = &planned.process.security;
    // A right that the process does not have in a user namespace; what it inherits it can lower.
    security.raise_hard_rlimits()?;
    let procfs = Procfs::host()?;
    let Init { pid, pidfd, status } = init;
    let state = record.oci_state(&status.to_string(), pid.as_raw());
    let target = Target::of(pid, pidfd, &planned.made)?;
    let root = if target.has(Kind::Mount) { None } else { Some(root_of(pid)?) };
    let cgroup = open_cgroup(planned, record, pid)?;
    let (parent, to_parent) = sync::channel()?;
    // Before the move into the container's cgroup (config.md, execCPUAffinity.initial).
    if let Some(cpus) = &security.initial_cpus {
        cpus.apply()?;
        // The words in which runc's log has it, and by which its test suite and youki's look for it.
        log::debug(|| format!("nsexec: affinity: {cpus}"));
    }

    let filter = planned.process.seccomp.as_ref().map(seccomp::Checked::compile).transpose()?;
    let said = start_can_be_said_ahead(planned, record) && parent.has_room_for(filter.as_ref())?;
    if said {
        parent.send_start(None, filter.as_ref())?;
    }
    let offspring = Offspring::none()?;
    // Who shares its memory cannot change its time namespace. And ours is not for a process that the container sees.
    let memory = if target.has(Kind::Pid) && !target.has(Kind::Time) { Memory::Ours } else { Memory::Copy };
    let clone = |cgroup: &Cgroup| {
        let newcomer = Newcomer {
            process: &planned.process,
            target: &target,
            root: root.as_ref().map(AsFd::as_fd),
            cgroup,
            procfs: &procfs,
            agent: agent.as_ref().map(AsFd::as_fd),
            state: &state,
            console_socket: console_socket.as_ref().map(AsFd::as_fd),
            parent: &to_parent,
            waits_for_nobody: said,
            offspring: &offspring,
        };
        vfork::clone3_and_wait(memory, cgroup.clone_into(), join::run, &newcomer)
    };
    let cloned = match clone(&cgroup) {
        // No process may be beside cgroups that have controllers.
        Err(error) if refused_by_cgroup(&error) && planned.below.is_empty() => {
            clone(&record.cgroup.open_beside(pid)?.ok_or(error)?)
        }
        cloned => cloned,
    };
    let how = cloned.map_err(explain).context("make the process")?;
    // Ours of its end must be closed, or its end would never be an end of file.
    drop(to_parent);
    let child = match offspring.pid() {
        Some(pid) => process::own(pid)?,
        None => return Err(last_words(&parent, how, planned)),
    };
    let settle = || -> Result<Start> {
        record.rdt.as_ref().map_or(Ok(()), |rdt| rdt.add(child.pid))?;
        planned.scheduler.set_scheduler_of(child.pid.as_raw())?;
        Ok(if said { Start::SaidAhead } else { Start::ToBeSaid(filter) })
    };
    match settle() {
        Ok(start) => Ok(Made { channel: parent, child, start }),
        Err(error) => {
            conversation::end(&child)?;
            Err(error)
        }
    }
}

/// Whether nothing of ours has to come between the process's clone and its program: it is born with all that is set
/// from outside, nobody has to be told of it first, and no terminal is relayed before it can write to it.
fn start_can_be_said_ahead(planned: &Planned, record: &Record) -> bool {
    planned.process.terminal.is_none()
        && planned.process.agent.is_none()
        && planned.scheduler.scheduler.is_none()
        && record.rdt.is_none()
}

/// The container's root directory, by the kernel's own link and not by a path.
pub(super) fn root_of(init: Pid) -> Result<OwnedFd> {
    let path = format!("/proc/{init}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).call(|| format!("open({path}, O_PATH)"))
}

fn open_cgroup(planned: &Planned, record: &Record, init: Pid) -> Result<Cgroup> {
    if !planned.below.is_empty() {
        return record.cgroup.open_below(&planned.below).context("open the container's cgroup");
    }
    match record.cgroup.open() {
        Err(error) if error.code() == Code::State => record.cgroup.open_beside(init)?.ok_or(error),
        opened => opened,
    }
    .context("open the container's cgroup")
}

/// An ordinary user may move processes only below a cgroup that is its own (cgroups(7), Delegation).
fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EACCES) => error.remedy(
            "our own cgroup and the container's lie in no cgroup of yours: \
             try it with `systemd-run --user --scope`",
        ),
        _ => error,
    }
}

fn refused_by_cgroup(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EBUSY | Errno::EOPNOTSUPP))
}

/// Why the usher, which ended so, has made no process.
fn last_words(channel: &sync::ParentEnd, how: Exit, planned: &Planned) -> Error {
    loop {
        match channel.receive() {
            Err(error) | Ok(Some((FromInit::Failed(error), _))) => return error,
            // Its terminal.
            Ok(Some(_)) => {}
            Ok(None) => return conversation::untimely(Some(how), planned.has_memory_limit),
        }
    }
}

/// Serves the process until its program runs, then tells the engine. The relay is for the foreground.
fn attend(
    conversation: &Conversation<'_>,
    planned: &Planned,
    start: Start,
    options: &ExecOptions,
    signals: Option<&mut Signals>,
) -> Result<Option<Relay>> {
    if matches!(start, Start::SaidAhead) {
        // Awake we would be in the way of the process. In the foreground nobody asks us whether its program runs.
        let told = options.pid_file.is_some() || options.pidfd_socket.is_some();
        match signals.filter(|_| !told) {
            Some(signals) => signals.sleep_beside(conversation.child.pid)?,
            None => conversation.channel.sleep_until_the_end(),
        }
    }
    let mut relay = None;
    loop {
        match conversation.hear()? {
            Heard::Terminal(master) => {
                let sized = planned.process.terminal.is_some_and(|terminal| terminal.size.is_some());
                // Before the program can ask for it.
                if !sized {
                    foreground::copy_terminal_size(master.as_fd())?;
                }
                relay = Some(Relay::start(master)?);
            }
            Heard::Ready => {
                log::debug(|| "child process in init(): it has joined the container".into());
                break;
            }
            Heard::Joined | Heard::Mounted => return Err(Error::new(Code::State, "an exec mounts nothing")),
        }
    }
    if let Start::ToBeSaid(filter) = start {
        conversation.say_start(planned.name_of(conversation.child), filter.as_ref())?;
    }
    log::debug(|| "setns_init: about to exec".into());
    conversation.hear_until_end()?;
    // Not before: for conmon a missing pid file is the sign that the program does not run.
    if let Some(path) = &options.pid_file {
        notify_engine::write_pid_file(path, conversation.child.pid)?;
    }
    if let Some(path) = &options.pidfd_socket {
        notify_engine::send_pidfd(path, conversation.child)?;
    }
    Ok(relay)
}
