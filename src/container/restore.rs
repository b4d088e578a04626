//! `restore`: a container whose processes CRIU makes from an image. All around them is made as for a new
//! container: the claim on the id, the cgroup, the mount points.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::birth::{Start, undo};
use super::checkpoint::refuse_delegated;
use super::create::CreateOptions;
use super::foreground::{self, Signals};
use super::identity::ProcessId;
use super::image::{Directories, ImageOptions, external_namespace_key};
use super::plan::{self, Planned};
use super::relay::Relay;
use super::state::{Lock, Record, StateDir};
use super::stdio::Descriptors;
use super::{Host, delete, notify_engine};
use crate::cgroups::{self, Cgroup, TasksFile};
use crate::criu::{
    self, ExternalMount, FIRST_DESCRIPTOR, Notification, Options, Service, Surroundings, Switch,
};
use crate::error::{Call, Code, Context, Error, Result};
use crate::init;
use crate::log;
use crate::namespaces::{Kind, bring_up_loopback, in_new, in_that_of};
use crate::security;
use crate::sys::affinity;
use crate::sys::process::{self, Child, pidfd_open};
use crate::sys::procfs::{self, Procfs};
use crate::sys::tty;

/// CRIU's log, in the work directory or the image's.
const LOG: &str = "restore.log";

/// Where the rootfs is bound for CRIU, in the state directory: it wants a mount of its own.
const ROOT: &str = "criu-root";

/// The first CRIU in which a profile can be changed, 3.16.
const CHANGES_PROFILES: i32 = 31_600;

/// The flags of `restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Those of `checkpoint` too.
    pub image: ImageOptions,
    /// Those of `create` too.
    pub create: CreateOptions,
    /// Return once the container is restored.
    pub detach: bool,
    /// Do not reap the container's orphans.
    pub no_subreaper: bool,
    /// `TYPE:NAME` instead of the image's profile.
    pub lsm_profile: Option<String>,
    /// Instead of the image's SELinux context of mounts.
    pub lsm_mount_context: Option<String>,
}

/// Restores a container from an image. In the foreground the result is its exit status, 128+n after signal
/// n; detached it is 0.
///
/// # Errors
/// The bundle or the image is wrong, the id is in use, CRIU cannot make one of the resources; nothing is
/// left behind then.
pub fn restore(host: &Host, id: &str, options: &RestoreOptions) -> Result<u8> {
    host.root.check_id(id)?;
    if options.create.console_socket.is_some() && !options.detach {
        return Err(Error::invalid(
            "--console-socket: only with --detach, in the foreground berth relays the terminal",
        ));
    }
    let start = if options.detach { Start::NowDetached } else { Start::NowInForeground };
    let mut planned = plan::make(host, id, &options.create, start)?;
    refuse_delegated(|key| planned.init.state.annotations.get(key).map(String::as_str))?;
    // CRIU makes its own.
    drop(planned.network.take());
    let descriptors = Descriptors::read(&options.image.path)?;
    let mount_points = criu::mount_points(&options.image.path)?;
    let version = criu::version()?;
    if (options.lsm_profile.is_some() || options.lsm_mount_context.is_some()) && version < CHANGES_PROFILES {
        return Err(Error::unsupported("--lsm-profile and --lsm-mount-context need CRIU 3.16"));
    }
    let signals = hold_signals(options)?;
    let (dir, lock) = host.root.claim(id)?;
    // CRIU mounts for itself.
    let record = Record { host_mount: None, ..planned.record(id) };
    let mut restoration =
        Restoration { planned, dir, record, options, descriptors, mount_points, init: None, terminal: None };
    if let Err(error) = restoration.go() {
        let Restoration { dir, record, init, .. } = &restoration;
        return Err(undo(dir, record, init.as_ref(), error).context(format!("restore container {id}")));
    }
    match signals {
        Some(signals) => restoration.stay(signals, lock),
        None => Ok(0),
    }
}

/// In the foreground, before anything is made: orphans of the container must find us, and no signal may be
/// lost.
fn hold_signals(options: &RestoreOptions) -> Result<Option<Signals>> {
    if options.detach {
        return Ok(None);
    }
    if !options.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).call(|| "prctl(PR_SET_CHILD_SUBREAPER, 1)".into())?;
    }
    Signals::hold().map(Some)
}

/// A restore under way.
struct Restoration<'a> {
    planned: Planned,
    dir: StateDir,
    record: Record,
    options: &'a RestoreOptions,
    descriptors: Descriptors,
    /// Where CRIU will mount something on files of the host.
    mount_points: Vec<PathBuf>,
    init: Option<Child>,
    /// The master of its terminal, when nobody else wants it.
    terminal: Option<OwnedFd>,
}

impl Restoration<'_> {
    fn go(&mut self) -> Result<()> {
        // Before anything of it exists: a crash from here on leaves something that can be found.
        self.dir.write(&self.record)?;
        // From here on the record says what is ours.
        self.record.cgroup = cgroups::Record::none();
        // Nothing that a restore mounts is ever seen on the host, or left there by a crash: both mount
        // namespaces end with what is done in them.
        in_new(Kind::Mount, || self.planned.init.rootfs.make_mount_points(&self.mount_points))?;
        let root = self.dir.path().join(ROOT);
        std::fs::DirBuilder::new().mode(0o711).create(&root).call(|| format!("mkdir({})", root.display()))?;
        // Our own directory: CRIU wants its path as the kernel has it, without symlinks.
        #[allow(clippy::disallowed_methods)]
        let root = root.canonicalize().call(|| format!("realpath({})", root.display()))?;
        in_new(Kind::Mount, || {
            self.planned.init.rootfs.bind_for_criu(&root)?;
            self.have_criu_restore(root.clone())
        })?;
        std::fs::remove_dir(&root).call(|| format!("rmdir({})", root.display()))
    }

    fn have_criu_restore(&mut self, root: PathBuf) -> Result<()> {
        let mut console_socket = match &self.options.create.console_socket {
            Some(path) => Some(notify_engine::connect_console(path)?),
            None => None,
        };
        // In the mount namespace that CRIU is in: it mounts in the directory that it works in.
        let directories = self.options.image.open(false, LOG)?;
        let namespaces = self.external_namespaces()?;
        let mut options = self.request(root, &directories)?;
        let end = usize::try_from(self.planned.init.process.first_private_descriptor()).unwrap_or(3);
        // Copies, above the stdio of CRIU's own: it closes what it is given, and has other uses for its stdin.
        // In a gap of what the caller gave lie our own.
        let is_ours = |number: i32| number > 2 && !process::is_inheritable(number);
        let given = self.descriptors.inherited(end).into_iter().filter_map(|(name, number)| {
            let descriptor = process::inherited(number).filter(|_| !is_ours(number))?;
            Some((name, descriptor))
        });
        let namespaces = namespaces.iter().map(|(name, fd)| ((*name).to_owned(), fd.as_fd()));
        let (names, descriptors): (Vec<_>, Vec<_>) = given.chain(namespaces).unzip();
        options.inherited = names.into_iter().zip(FIRST_DESCRIPTOR..).collect();
        let (cgroup, service) = self.start_criu(&descriptors)?;
        let service_pid = service.pid();
        let placed = self.place(&cgroup, service_pid)?;
        options.cgroup_roots = cgroup_roots(service_pid)?;
        self.serve(service, &options, directories.log(), &mut console_socket)?;
        let init = self.init.as_ref().map_or(service_pid, |init| init.pid);
        placed.as_ref().unwrap_or(&cgroup).seal(init).context("limit the cgroup")?;
        log::debug(|| format!("container {}: init is {:?}", self.record.id, self.init));
        Ok(())
    }

    /// Makes the cgroup and starts CRIU, on cgroup v1 in it.
    fn start_criu(&mut self, descriptors: &[BorrowedFd<'_>]) -> Result<(Cgroup, Service)> {
        let mut attempts = cgroups::Attempts::default();
        loop {
            let cgroup = self.planned.cgroup.create().context("make the cgroup")?;
            self.record.cgroup = cgroup.record().clone();
            self.record.cgroup_made = true;
            self.dir.write(&self.record)?;
            let init = &self.planned.init;
            let prepare = || {
                // CRIU's children become the container: what they inherit must be the container's.
                cgroup.tasks().iter().try_for_each(TasksFile::join)?;
                affinity::reset().call(|| "sched_setaffinity(every CPU)".into())?;
                let label = init.process.security.selinux_label.as_deref();
                init.process.keyring.as_ref().map_or(Ok(()), |id| {
                    let user_namespace = init.namespaces.has(Kind::User);
                    security::join_session_keyring(id, label, user_namespace, &Procfs::host()?)
                })
            };
            let surroundings =
                Surroundings { own_stdio: true, descriptors: descriptors.to_vec(), prepare: Some(&prepare) };
            match Service::start(&surroundings) {
                Ok(service) => return Ok((cgroup, service)),
                Err(error) => cgroup.retire(error, &mut attempts)?,
            }
            // What is written down is what will be made: killed before it is, we would leave it to nobody.
            (self.record.cgroup, self.record.cgroup_made) = (self.planned.cgroup.record(), false);
            self.dir.write(&self.record)?;
            self.record.cgroup = cgroups::Record::none();
        }
    }

    /// Puts CRIU where its children, the container's processes, shall be. Some when systemd has made the
    /// cgroup.
    fn place(&mut self, cgroup: &Cgroup, pid: Pid) -> Result<Option<Cgroup>> {
        if cgroup.clone_into().is_some() {
            cgroup.attach(pid).context("move CRIU into the cgroup")?;
        }
        let scope = self.planned.cgroup.begin(pid)?;
        if scope.is_some() {
            self.record.cgroup = self.planned.cgroup.record();
        }
        let placed = match scope {
            Some(scope) => Some(scope.finish().context("make the cgroup")?),
            None => None,
        };
        if let Some(placed) = &placed {
            self.record.cgroup = placed.record().clone();
        }
        self.planned.cgroup.limit_unified(cgroup).context("limit the cgroup")?;
        self.record.cgroup.identify()?;
        self.dir.write(&self.record)?;
        Ok(placed)
    }

    /// The request, but for what is known only once CRIU runs. Pure.
    fn request(&self, root: PathBuf, directories: &Directories) -> Result<Options> {
        let mut options = Options {
            log_file: LOG,
            root,
            lsm_profile: self.options.lsm_profile.clone(),
            lsm_mount_context: self.options.lsm_mount_context.clone(),
            ..self.options.image.criu(directories, &self.record.annotations)
        };
        options.set(Switch::EvasiveDevices, true);
        options.set(Switch::RestoreSibling, true);
        let host = procfs::read("/proc/self/mountinfo").call(|| "read(/proc/self/mountinfo)".into())?;
        for external in self.planned.init.rootfs.sources_of_external_mounts(&host) {
            options.external_mounts.push(ExternalMount::new(external.destination, external.source)?);
        }
        for join in &self.planned.init.namespaces.joins {
            match join.kind {
                Kind::Network | Kind::Pid => {}
                Kind::Cgroup => {
                    return Err(Error::unsupported(
                        "CRIU cannot restore into a cgroup namespace given by path",
                    ));
                }
                kind => options.joined.push((kind.proc_name(), join.path.clone())),
            }
        }
        Ok(options)
    }

    /// The namespaces of config.json that are not in the image, by CRIU's names for them.
    fn external_namespaces(&self) -> Result<Vec<(&'static str, OwnedFd)>> {
        let mut external = Vec::new();
        let plan = &self.planned.init.namespaces;
        // Opened and checked as for a new container: each has to be of its type.
        let mut opened = plan.open()?;
        for kind in [Kind::Network, Kind::Pid] {
            if let (Some(key), Some(joined)) = (external_namespace_key(kind), opened.get(kind)) {
                let fd = joined.as_fd().try_clone_to_owned().call(|| "dup(namespace)".into())?;
                external.push((key, fd));
            }
        }
        Ok(external)
    }

    fn serve(
        &mut self,
        service: Service,
        options: &Options,
        log: &Path,
        console_socket: &mut Option<OwnedFd>,
    ) -> Result<()> {
        service.serve(criu::Kind::Restore, options, log, &mut |notification| {
            let Notification { script, pid, descriptor } = notification;
            match (script.as_str(), pid, descriptor) {
                ("setup-namespaces", Some(pid), _) => {
                    self.set_up_network(Pid::from_raw(pid))?;
                    self.run_runtime_hooks(pid)
                }
                ("post-restore", Some(pid), _) => self.note_init(Pid::from_raw(pid)),
                ("orphan-pts-master", _, Some(master)) => self.hand_over(master, console_socket.take()),
                _ => Ok(()),
            }
        })?;
        match self.init {
            Some(_) => Ok(()),
            None => Err(Error::new(Code::Kernel, "criu has not said which process it restored")),
        }
    }

    /// CRIU makes a network namespace empty, and a connection is restored to addresses that are there.
    fn set_up_network(&self, pid: Pid) -> Result<()> {
        let init = &self.planned.init;
        if !init.namespaces.creates(Kind::Network) {
            return Ok(());
        }
        in_that_of(pid, Kind::Network, || {
            bring_up_loopback()?;
            init.process.security.write_network_sysctls(&Procfs::host()?)
        })
    }

    /// In the runtime's namespaces, once the container's exist (as runc).
    fn run_runtime_hooks(&mut self, pid: i32) -> Result<()> {
        if self.planned.prestart.is_empty() && self.planned.create_runtime.is_empty() {
            return Ok(());
        }
        let state = self.record.oci_state("created", pid).to_json()?;
        self.planned.run_runtime_hooks(&state)
    }

    /// The processes are there and do not run yet: the time to write them down and to tell the engine.
    fn note_init(&mut self, pid: Pid) -> Result<()> {
        let pidfd = pidfd_open(pid).call(|| format!("pidfd_open({pid})"))?;
        self.init = Some(Child { pid, pidfd });
        self.record.init = Some(ProcessId::of(pid)?);
        self.record.complete = true;
        self.dir.save_config(&self.planned.config)?;
        self.dir.write(&self.record)?;
        match &self.options.create.pid_file {
            Some(path) => notify_engine::write_pid_file(path, pid),
            None => Ok(()),
        }
    }

    fn hand_over(&mut self, master: OwnedFd, console_socket: Option<OwnedFd>) -> Result<()> {
        match console_socket {
            Some(socket) => init::send_master(socket.as_fd(), master.as_fd()),
            None => {
                self.terminal = Some(master);
                Ok(())
            }
        }
    }

    /// Waits for the end in the foreground, as `run` does.
    fn stay(self, mut signals: Signals, lock: Lock) -> Result<u8> {
        let Some(init) = &self.init else { return Ok(0) };
        let relay = match self.terminal {
            Some(master) => relay_restored(master).map(Some),
            None => Ok(None),
        };
        let relay = relay.map_err(|error| undo(&self.dir, &self.record, Some(init), error))?;
        // `kill`, `exec`, `delete` of others must not wait for our end.
        lock.release();
        let status = signals.forward_until_exit(init, relay)?;
        match self.dir.lock(Duration::from_secs(10)) {
            Ok(_lock) => delete::remove(&self.dir, &self.record)?,
            // Somebody has deleted it meanwhile.
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(status)
    }
}

/// The terminal has the attributes of the dump, made for whoever read it then.
fn relay_restored(master: OwnedFd) -> Result<Relay> {
    foreground::copy_terminal_size(master.as_fd())?;
    if foreground::reader_is_plain() {
        tty::clear_onlcr(master.as_fd())?;
    }
    Relay::start(master)
}

/// The cgroups of a process as CRIU is told them: controller and path, from `/proc/PID/cgroup`.
fn cgroup_roots(pid: Pid) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).call(|| format!("read({path})"))?;
    Ok(parse_cgroups(&text))
}

fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            roots.extend(controllers.split(',').map(|controller| (controller.to_owned(), path.to_owned())));
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::parse_cgroups;

    #[test]
    fn names_the_cgroup_of_each_controller() {
        let roots = parse_cgroups("3:cpu,cpuacct:/a:b\n1:name=systemd:/s\n0::/u\n");
        let roots: Vec<_> = roots.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
        assert_eq!(roots, [("cpu", "/a:b"), ("cpuacct", "/a:b"), ("name=systemd", "/s"), ("", "/u")]);
    }
}
