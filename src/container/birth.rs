//! How a container comes to be: the parent's script, shared by `create` and `run`.
//!
//! The order is the architecture's: all that can fail without touching the host comes first, the
//! claim on the id second, and from the claim on every failure undoes what was made.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::conversation::{self, Conversation, Heard};
use super::create::CreateOptions;
use super::identity::ProcessId;
use super::plan::{self, Planned};
use super::state::{Lock, Record, StateDir};
use super::{Host, delete, foreground, notify_engine};
use crate::cgroups::{self, Cgroup, Driver};
use crate::error::{Call, Code, Context, Error, Result};
use crate::init::sync::{self, FromParent, InitEnd, ParentEnd};
use crate::init::{self, Newborn, gate};
use crate::namespaces::{self, Kind, Moved};
use crate::sys::beside::NewNetwork;
use crate::sys::process::{self, Child, Side, Whom};
use crate::sys::procfs::Procfs;
use crate::sys::socket;
use crate::{log, seccomp, security};

/// When the container's program is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By a later `start`.
    Later,
    /// At once; nobody waits for its end.
    NowDetached,
    /// At once; the caller waits and relays the terminal.
    NowInForeground,
}

/// A container that is created, or that runs already.
pub struct Born {
    /// Its state directory.
    pub dir: StateDir,
    /// Our hold on it.
    pub lock: Lock,
    /// What its `state.json` says.
    pub record: Record,
    /// Its first process.
    pub init: Child,
    /// In the foreground: the terminal's master.
    pub terminal: Option<OwnedFd>,
}

impl Born {
    /// Removes everything again because of `error`, which is given back; what could not be removed is
    /// said with it.
    pub fn remove_after(&self, error: Error) -> Error {
        undo(&self.dir, &self.record, Some(&self.init), error)
    }
}

/// Makes a container.
///
/// # Errors
/// The bundle is wrong, the id is in use, or the host refuses something; nothing is left behind.
pub fn bear(host: &Host, id: &str, options: &CreateOptions, start: Start) -> Result<Born> {
    host.root.check_id(id)?;
    let planned = plan::make(host, id, options, start)?;
    let (dir, lock) = host.root.claim(id)?;
    let record = planned.record(id);
    let mut birth = Birth {
        planned,
        dir,
        lock: Some(lock),
        record,
        options,
        start,
        init: None,
        expected: None,
        moved_in: false,
        devices: None,
    };
    match birth.go() {
        Ok((lock, init, terminal)) => Ok(Born { dir: birth.dir, lock, record: birth.record, init, terminal }),
        Err(error) => {
            // First: with init ends its network namespace, and with that what is only virtual.
            let error = match birth.devices.as_mut().map_or(Ok(()), Moved::bring_back) {
                Ok(()) => error,
                Err(also) => error.remedy(format!("and then: {also}")),
            };
            let error = match birth.end_who_is_expected() {
                Ok(()) => error,
                Err(also) => error.remedy(format!("and then: {also}")),
            };
            Err(undo(&birth.dir, &birth.record, birth.init.as_ref(), error))
        }
    }
}

/// A birth under way.
struct Birth<'a> {
    planned: Planned,
    dir: StateDir,
    lock: Option<Lock>,
    record: Record,
    options: &'a CreateOptions,
    start: Start,
    /// Until it is known who init is, its usher.
    init: Option<Child>,
    /// Some while `init` is the usher: who init is comes this way.
    expected: Option<OwnedFd>,
    /// The kernel could not put the clone into its cgroup: what it makes is not there either, perhaps.
    moved_in: bool,
    /// Network devices that are on their way into the container.
    devices: Option<Moved>,
}

type Terminal = Option<OwnedFd>;

impl Birth<'_> {
    fn go(&mut self) -> Result<(Lock, Child, Terminal)> {
        // Before anything of it exists: a crash from here on leaves something that can be found.
        self.dir.write(&self.record)?;
        // From here on the record says what is ours: a failure must not touch a cgroup of that name that
        // is somebody else's.
        self.record.cgroup = cgroups::Record::none();
        self.record.rdt = None;

        let (channel, cgroup) = self.clone_init()?;
        // The words of these lines are runc's, with which logs are read and by which its test suite goes.
        log::debug(|| {
            format!(
                "nsexec container setup: init is {}",
                self.init.as_ref().map_or(0, |init| init.pid.as_raw())
            )
        });
        // What follows is done while init makes its mounts.
        let cgroup = self.place(&channel, cgroup)?;

        let process = &self.planned.init.process;
        let filter = process.seccomp.as_ref().map(seccomp::Checked::compile).transpose()?;
        // A program that config.json has whole is quickly read from there.
        let compiled =
            filter.as_ref().filter(|_| !process.seccomp.as_ref().is_some_and(seccomp::Checked::is_raw));
        self.record.filter_saved = self.dir.save(&self.planned.config, compiled)?;

        let ahead = self.start_can_be_said_ahead(&cgroup);
        if ahead {
            self.say_start(&channel, filter.as_ref())?;
            // Nothing that it says before its program runs is a question: who sends to somebody who waits for it has to wake
            // the CPU that he waits on.
            channel.sleep_until_the_end();
        }
        let terminal = self.attend(&channel)?;
        log::debug(|| "child process in init(): the container is set up".into());
        // Init makes no more processes of its own, so limits that forbid them may come.
        let init = self.init.as_ref().ok_or_else(|| Error::new(Code::State, "init was never made"))?;
        cgroup.seal(init.pid).context("limit the cgroup")?;
        self.record.complete = true;
        if !ahead {
            self.say_start(&channel, filter.as_ref())?;
        }
        self.conversation(&channel)?.hear_until_end()?;
        if ahead {
            self.dir.write(&self.record)?;
        }
        log::debug(|| {
            format!("init: closing the pipe to signal completion: container {} is made", self.record.id)
        });
        match (self.lock.take(), self.init.take()) {
            (Some(lock), Some(init)) => Ok((lock, init, terminal)),
            _ => Err(Error::new(Code::State, "init was never made")),
        }
    }

    /// With `run` nothing has to come between init's being ready and its start, so init need not
    /// wait for the word. What is written down by then (the cgroup, init's identity) is enough to find
    /// it after a crash.
    fn start_can_be_said_ahead(&self, cgroup: &Cgroup) -> bool {
        self.start != Start::Later
            && !self.planned.init.runtime_hooks
            && self.planned.init.process.terminal.is_none()
            && self.expected.is_none()
            && !cgroup.is_sealed_later()
    }

    /// Writes down who init is, tells the engine, and lets init go on: it must not live on without a
    /// trace of it, and the engine must know of it before it can end.
    fn say_start(&mut self, channel: &ParentEnd, filter: Option<&seccomp::Program>) -> Result<()> {
        self.note_init()?;
        if let (Some(path), Some(init)) = (&self.options.pid_file, &self.init) {
            notify_engine::write_pid_file(path, init.pid)?;
        }
        let receivers = [&self.options.pidfd_socket, &self.planned.pidfd_receiver];
        for path in receivers.into_iter().flatten() {
            if let Some(init) = &self.init {
                notify_engine::send_pidfd(path, init)?;
            }
        }
        let agent = self.planned.init.process.agent.as_ref();
        let name = agent.and(self.init.as_ref()).map(|init| init.pid);
        channel.send_start(name, filter).or_else(|error| self.prefer_last_words(channel, error))
    }

    /// Makes the cgroup and init in it.
    fn clone_init(&mut self) -> Result<(ParentEnd, Cgroup)> {
        let gate = match self.start {
            Start::Later => Some(gate::make(&self.dir).map_err(|error| self.dir.name_what_is_full(error))?),
            Start::NowDetached | Start::NowInForeground => None,
        };
        let console_socket = match &self.options.console_socket {
            Some(path) => Some(notify_engine::connect_console(path)?),
            None => None,
        };
        let agent = match &self.planned.init.process.agent {
            Some(agent) => Some(notify_engine::connect_agent(&agent.path)?),
            None => None,
        };
        let mut joined = self.planned.init.namespaces.open()?;
        // A right that init does not have in a user namespace; what it inherits it can lower.
        self.planned.init.process.security.raise_hard_rlimits()?;
        // On cgroup v1 nothing is waited for while the cgroup is empty: each time that somebody removes it costs a clone.
        if self.planned.cgroup.is_v1() {
            join_new_network(&mut self.planned.network, &mut joined);
        }
        // Last of the preparations: what fails before it leaves no cgroup to remove.
        if let Some(rdt) = &self.planned.rdt {
            rdt.make(self.record.rdt.get_or_insert_default()).context("linux.intelRdt")?;
        }
        let mut attempts = cgroups::Attempts::default();
        let (parent, cgroup, in_cgroup) = loop {
            let cgroup = self.planned.cgroup.create().context("make the cgroup")?;
            self.record.cgroup = cgroup.record().clone();
            self.record.cgroup_made = true;
            let (parent, to_parent) = sync::channel()?;
            join_new_network(&mut self.planned.network, &mut joined);

            let usher = match self.planned.init.ushered {
                true => Some(socket::seqpacket_pair()?),
                false => None,
            };
            let (birth, to_birth) = usher.unzip();
            if !self.planned.init.may_begin_without_loopback() {
                finish_new_network(&mut self.planned.network)?;
            }
            let side = match clone_into(&self.planned.init, &mut joined, cgroup.clone_into()) {
                Ok(side) => side,
                Err(error) => {
                    self.start_over(&cgroup, self.planned.init.namespaces.explain(error), &mut attempts)?;
                    continue;
                }
            };
            let Side::Parent { child, in_cgroup } = side else {
                // The lock belongs to the open file, which the clone has copied: were ours left open, the
                // container would stay locked for as long as init waits to be started.
                drop((self.lock.take(), parent, birth));
                init::run(Newborn {
                    plan: &self.planned.init,
                    parent: Some(to_parent),
                    gate,
                    joined,
                    usher: to_birth,
                    tasks: cgroup.tasks(),
                    console_socket,
                    agent,
                    placed_by_parent: self.planned.cgroup.record().driver() == Driver::Systemd,
                })
            };
            // Ours of init's end must be closed, or its end would never be an end of file.
            drop::<(InitEnd, Option<OwnedFd>)>((to_parent, to_birth));
            (self.init, self.expected) = (Some(child), birth);
            match self.await_joined(&parent, &cgroup) {
                Ok(()) => break (parent, cgroup, in_cgroup),
                Err(error) => self.start_over(&cgroup, error, &mut attempts)?,
            }
        };
        finish_new_network(&mut self.planned.network)?;
        let Some(pid) = self.init.as_ref().map(|init| init.pid) else {
            return Err(Error::new(Code::State, "init was never made"));
        };
        self.moved_in = !in_cgroup && cgroup.clone_into().is_some();
        if self.moved_in {
            cgroup.attach(pid).context("move init into its cgroup")?;
        }
        // Its children will be there too.
        self.record.rdt.as_ref().map_or(Ok(()), |rdt| rdt.add(pid))?;
        if !self.planned.init.namespaces.devices.is_empty() {
            self.devices = Some(Moved::none_yet(network_of(&mut joined, pid)?)?);
        }
        Ok((parent, cgroup))
    }

    /// Undoes a clone that has failed, so that the next can be made if it was for a cgroup that somebody has removed.
    fn start_over(&mut self, cgroup: &Cgroup, error: Error, attempts: &mut cgroups::Attempts) -> Result<()> {
        // Not even the usher's clone is there: it joins before it makes that.
        self.expected = None;
        if let Some(Err(also)) = self.init.take().as_ref().map(conversation::end) {
            return Err(error.remedy(format!("and then: {also}")));
        }
        cgroup.retire(error, attempts)?;
        (self.record.cgroup, self.record.cgroup_made) = (cgroups::Record::none(), false);
        Ok(())
    }

    /// On cgroup v1 init joins its cgroup itself. Until then that is empty, and systemd may remove it.
    fn await_joined(&self, channel: &ParentEnd, cgroup: &Cgroup) -> Result<()> {
        if cgroup.tasks().is_empty() {
            return Ok(());
        }
        match self.conversation(channel)?.hear()? {
            Heard::Joined => Ok(()),
            other => Err(Error::new(Code::State, format!("{other:?} came before it was in its cgroup"))),
        }
    }

    /// Puts init into its cgroup, with its limits, and gives it its ids.
    fn place(&mut self, channel: &ParentEnd, cgroup: Cgroup) -> Result<Cgroup> {
        let Some(init) = &self.init else { return Err(Error::new(Code::State, "init was never made")) };
        let pid = init.pid;
        // First of all: systemd works while we do the rest.
        let scope = self.planned.cgroup.begin(pid);
        let scope = scope.or_else(|error| self.prefer_cause_of_death(channel, error))?;
        if scope.is_some() {
            // From now on there is a scope of that name, and it is ours.
            self.record.cgroup = self.planned.cgroup.record();
        }
        let namespaces = &self.planned.init.namespaces;
        if namespaces.creates(Kind::User) {
            self.set_up_from_outside(pid).or_else(|error| self.prefer_what_was_said(channel, error))?;
            channel.send(FromParent::IdsMapped).or_else(|error| self.hear_why(channel, error))?;
        }
        if let Some(word) = set_up(&self.planned.init, self.devices.as_mut(), init)? {
            channel.send(word).or_else(|error| self.hear_why(channel, error))?;
        }
        let Some(scope) = scope else {
            self.planned.cgroup.limit_unified(&cgroup).context("limit the cgroup")?;
            self.delegate(&cgroup)?;
            return Ok(cgroup);
        };
        let cgroup = scope.finish().or_else(|error| self.prefer_cause_of_death(channel, error))?;
        self.record.cgroup = cgroup.record().clone();
        self.record.cgroup.identify()?;
        self.delegate(&cgroup)?;
        channel.send(FromParent::Placed).or_else(|error| self.hear_why(channel, error))?;
        Ok(cgroup)
    }

    /// Hands the cgroup to the root of the container's user namespace, where that is to have it.
    fn delegate(&self, cgroup: &Cgroup) -> Result<()> {
        self.planned.cgroup_owner.map_or(Ok(()), |uid| cgroup.delegate(uid))
    }

    /// What init, in its new user namespace, has no right to do itself.
    fn set_up_from_outside(&self, init: Pid) -> Result<()> {
        let security = &self.planned.init.process.security;
        if security.oom_score_adj.is_some() {
            security.set_oom_score_adj(&Procfs::host()?, &init.to_string())?;
        }
        namespaces::write_id_maps(&self.planned.init.namespaces, init)
    }

    /// The files in /proc of a process that has failed are root's: for an ordinary user, EACCES.
    fn prefer_what_was_said(&self, channel: &ParentEnd, error: Error) -> Result<()> {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).call(|| "poll(init's channel)".into())? > 0 {
            self.conversation(channel)?.hear_until_end()?;
        }
        Err(error)
    }

    /// systemd makes no cgroup for a process that has ended; what that said last is the cause then.
    fn prefer_cause_of_death<T>(&self, channel: &ParentEnd, error: Error) -> Result<T> {
        if let Some(init) = &self.init
            && matches!(process::wait(Whom::One(init.pidfd.as_fd()), false), Ok(Some(_)))
        {
            self.conversation(channel)?.hear_until_end()?;
        }
        Err(error.context("make the cgroup"))
    }

    /// Serves init until it is ready.
    fn attend(&mut self, channel: &ParentEnd) -> Result<Terminal> {
        let mut terminal = None;
        loop {
            match self.conversation(channel)?.hear()? {
                Heard::Mounted => {
                    self.run_runtime_hooks()?;
                    channel.send(FromParent::HooksDone)?;
                }
                Heard::Terminal(master) => {
                    let sized =
                        self.planned.init.process.terminal.is_some_and(|terminal| terminal.size.is_some());
                    // Before the program can ask for it.
                    if !sized && self.start == Start::NowInForeground {
                        foreground::copy_terminal_size(master.as_fd())?;
                    }
                    terminal = Some(master);
                }
                Heard::Joined => {}
                Heard::Ready => {
                    self.learn_who_init_is()?;
                    return Ok(terminal);
                }
            }
        }
    }

    /// The usher has made init, and ends; init waits for a word of ours.
    fn learn_who_init_is(&mut self) -> Result<()> {
        let Some(birth) = self.expected.take() else { return Ok(()) };
        let Some(init) = process::adopt(&birth)? else {
            return Err(Error::new(Code::Kernel, "nobody has told who init is"));
        };
        // The usher's word to end.
        drop(birth);
        if let Some(usher) = self.init.replace(init) {
            process::wait(Whom::One(usher.pidfd.as_fd()), true).call(|| format!("waitid({})", usher.pid))?;
        }
        let Some(init) = &self.init else { return Ok(()) };
        // The usher may have been through before it was put there.
        if self.moved_in {
            self.record.cgroup.open()?.attach(init.pid).context("move init into its cgroup")?;
        }
        self.record.rdt.as_ref().map_or(Ok(()), |rdt| rdt.add(init.pid))?;
        self.planned.scheduler.set_scheduler_of(init.pid.as_raw())
    }

    /// A failed birth leaves no init whom we do not know.
    fn end_who_is_expected(&mut self) -> Result<()> {
        let (Some(birth), Some(usher)) = (self.expected.take(), &self.init) else { return Ok(()) };
        conversation::end(usher)?;
        process::adopt(&birth)?.map_or(Ok(()), |init| conversation::end(&init))
    }

    fn conversation<'a>(&'a self, channel: &'a ParentEnd) -> Result<Conversation<'a>> {
        let child = self.init.as_ref().ok_or_else(|| Error::new(Code::State, "init was never made"))?;
        Ok(Conversation { channel, child, has_memory_limit: self.planned.has_memory_limit })
    }

    /// Init was gone before it could be told to start; its last message says why, better than EPIPE.
    fn prefer_last_words(&mut self, channel: &ParentEnd, error: Error) -> Result<()> {
        self.attend(channel)?;
        self.hear_why(channel, error)
    }

    /// Init is gone; what it says last, if anything, is why.
    fn hear_why(&self, channel: &ParentEnd, error: Error) -> Result<()> {
        self.conversation(channel)?.hear_until_end()?;
        Err(if error.errno() == Some(Errno::EPIPE) {
            self.conversation(channel)?.untimely_end()
        } else {
            error
        })
    }

    /// In the runtime's namespaces, while init waits with its mounts made and the host still in reach.
    fn run_runtime_hooks(&mut self) -> Result<()> {
        // A hook may ask for the state of its container.
        self.note_init()?;
        let pid = self.record.init.map_or(0, |init| init.pid);
        // runtime.md, State: "creating" is step 2 of the lifecycle, and these are called after it.
        let state = self.record.oci_state("created", pid).to_json()?;
        self.planned.run_runtime_hooks(&state)
    }

    fn note_init(&mut self) -> Result<()> {
        if let (None, Some(init)) = (self.record.init, &self.init) {
            self.record.init = Some(ProcessId::of(init.pid)?);
        }
        self.dir.write(&self.record)
    }
}

/// Gives the container what init has no right to take; the word that init waits for then.
fn set_up(plan: &init::Plan, devices: Option<&mut Moved>, init: &Child) -> Result<Option<FromParent>> {
    if !plan.is_set_up_by_parent() {
        return Ok(None);
    }
    if let Some(moved) = devices {
        plan.namespaces.devices.iter().try_for_each(|device| moved.take(device))?;
    }
    let left = if plan.sysctls_by_parent { write_sysctls(&plan.process.security, init)? } else { Vec::new() };
    Ok(Some(FromParent::SetUp(left)))
}

/// In init's namespaces but the user namespace: with our rights. Those that are left to init.
fn write_sysctls(security: &security::Plan, init: &Child) -> Result<Vec<usize>> {
    let pidfd = init.pidfd.try_clone().call(|| "dup(init's pidfd)".into())?;
    let target = namespaces::Target::of(init.pid, pidfd, &[])?;
    process::in_a_child(|| {
        // Opened here: what is below /proc/sys is chosen by the namespaces of who opens it.
        target.enter_some(&[Kind::Ipc, Kind::Uts, Kind::Network])?;
        security.write_sysctls_that_we_may(&Procfs::host()?)
    })
}

/// The container's network namespace, made or joined.
fn network_of(joined: &mut namespaces::Opened, init: Pid) -> Result<File> {
    match joined.get(Kind::Network) {
        Some(network) => {
            let fd = network.as_fd().try_clone_to_owned().call(|| "dup(network namespace)".into())?;
            Ok(File::from(fd))
        }
        None => {
            let path = format!("/proc/{init}/ns/net");
            File::open(&path).call(|| format!("open({path})"))
        }
    }
}

/// Waits for the network namespace in the making, if there is one that is not joined yet.
fn join_new_network(network: &mut Option<NewNetwork>, joined: &mut namespaces::Opened) {
    if joined.get(Kind::Network).is_some() {
        return;
    }
    match network.as_mut().and_then(NewNetwork::namespace) {
        Some(namespace) => joined.add_new_network(namespace),
        None => *network = None,
    }
}

/// Waits for the loopback interface of the network namespace that was made beside us.
fn finish_new_network(network: &mut Option<NewNetwork>) -> Result<()> {
    let finished = network.take().map_or(Ok(()), NewNetwork::finish);
    finished.call(|| "ioctl(SIOCSIFFLAGS, lo, UP)".into()).context("bring up the loopback interface")
}

/// Clones init into its new namespaces, from where the joined ones allow it.
fn clone_into(
    plan: &init::Plan,
    joined: &mut namespaces::Opened,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
) -> Result<Side> {
    let namespaces = &plan.namespaces;
    let flags = namespaces.clone_flags(joined);
    // Set by the parent; in a new user namespace by init.
    let clocks = namespaces
        .time_offsets
        .as_deref()
        .filter(|_| namespaces.sets_clocks() && !namespaces.creates(Kind::User));
    // Where the parent could not come back from, only a helper goes: hooks are children of the parent.
    let enters_pid = namespaces.join(Kind::Pid).is_some() && !plan.ushered;
    let one_way = (enters_pid && !namespaces::may_return(Kind::Pid)?)
        || (clocks.is_some() && !namespaces::may_return(Kind::Time)?);
    // A new user namespace has no rights over namespaces of the host, so those are joined first.
    let joins_first = namespaces.creates(Kind::User) && !joined.is_empty();
    if namespaces.join(Kind::User).is_some() || joins_first || one_way {
        let prepare = || {
            let procfs = Procfs::host()?;
            // While we have the rights for it. Dropped, not restored: the helper ends.
            if let Some(clocks) = clocks {
                drop(namespaces::unshare_time(clocks, &procfs)?);
            }
            if namespaces.join(Kind::User).is_some() {
                // Init is born with the credentials of that namespace, in sight of who is there already:
                // not one instruction of it may run dumpable (CVE-2016-9962). What only a dumpable
                // process, or one with the runtime's rights, may say of itself is said here; a clone
                // inherits it.
                plan.process.write_own_files(&procfs)?;
                process::set_undumpable()?;
            }
            joined.enter_with_user()
        };
        return process::clone3_through(prepare, flags, cgroup).context("make init");
    }
    // Both change only where *children* are born, and are undone before the parent has others: hooks.
    let original_pid = if enters_pid { joined.enter_pid_for_children()? } else { None };
    let original_time = match clocks {
        Some(offsets) => {
            Procfs::host().and_then(|procfs| namespaces::unshare_time(offsets, &procfs)).map(Some)
        }
        None => Ok(None),
    };
    let (side, original_time) = match original_time {
        Ok(original) => (process::clone3(flags, cgroup).context("make init"), original),
        Err(error) => (Err(error), None),
    };
    if !matches!(side, Ok(Side::Child { .. })) {
        let back = original_pid.map_or(Ok(()), |pid| pid.restore(joined));
        let back = back.and_then(|()| original_time.map_or(Ok(()), namespaces::OriginalTime::restore));
        if let (Err(_), Ok(Side::Parent { child, .. })) = (&back, &side) {
            conversation::end(child)?;
        }
        back?;
    }
    side
}

/// Removes what a failed birth has made. What remains, if anything, is said with the first error.
pub(super) fn undo(dir: &StateDir, record: &Record, init: Option<&Child>, error: Error) -> Error {
    let remove = || -> Result<()> {
        if let Some(init) = init {
            conversation::end(init)?;
        }
        delete::remove(dir, record)
    };
    match remove() {
        Ok(()) => error,
        Err(also) => error.remedy(format!("something of the container is left: {also}")),
    }
}
