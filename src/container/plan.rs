//! From config.json to finished plans: everything that can be computed, and can fail, before the host
//! is touched.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::{Hook, Hooks, Linux, LinuxMemory, LinuxPids, Mount, Process, Spec};

use super::Host;
use super::birth::Start;
use super::create::CreateOptions;
use super::foreground;
use super::state::Record;
use crate::error::{Context, Error, Result};
use crate::init::agent::Address;
use crate::init::{self, OciState, UserProcess};
use crate::namespaces::{self, Kind};
use crate::spec::annotations;
use crate::sys::beside::NewNetwork;
use crate::sys::{mount, process, spawn, tty};
use crate::{cgroups, hooks, log, resctrl, rootfs, seccomp, security, spec};

/// All that a birth needs.
pub struct Planned {
    /// What init does.
    pub init: init::Plan,
    /// Its network namespace in the making, if that is not left to the clone.
    pub network: Option<NewNetwork>,
    /// What is made for its processes.
    pub cgroup: cgroups::Plan,
    /// Who gets the cgroup: the host's uid of the container's process.
    pub cgroup_owner: Option<u32>,
    /// Their share of caches and memory bandwidth.
    pub rdt: Option<resctrl::Found>,
    /// config.json as it was read.
    pub config: Vec<u8>,
    /// Hooks of the runtime's namespaces, deprecated kind.
    pub prestart: Vec<Hook>,
    /// Hooks of the runtime's namespaces.
    pub create_runtime: Vec<Hook>,
    /// Whether a process of the container may be killed for its memory.
    pub has_memory_limit: bool,
    /// Set from outside, where init would not inherit it from its usher.
    pub scheduler: security::Plan,
    /// Gets init's pidfd, besides `--pidfd-socket`.
    pub pidfd_receiver: Option<PathBuf>,
    rootfs: PathBuf,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

/// Reads, checks and compiles the bundle. Warnings go to the log.
///
/// # Errors
/// All that is wrong with the bundle; what this host cannot do.
pub fn make(host: &Host, id: &str, options: &CreateOptions, start: Start) -> Result<Planned> {
    let mut warnings = Vec::new();
    let planned = compile(host, id, options, start, &mut warnings);
    warnings.iter().for_each(|warning| log::warning(warning));
    planned
}

fn compile(
    host: &Host,
    id: &str,
    options: &CreateOptions,
    start: Start,
    warnings: &mut Vec<String>,
) -> Result<Planned> {
    let config = match &options.config {
        Some(file) => spec::read_file(file)?,
        None => spec::read(&options.bundle)?,
    };
    // The one thing that is made before all is planned, because it takes the longest; it leaves no trace, and
    // if it was not wanted, or an error comes first, it is dropped.
    let network = spec::seems_to_make_a_network(&config).then(NewNetwork::begin).flatten();
    let spec = &spec::parse(&config, warnings)?;
    spec::check(
        spec,
        &spec::ValidateOptions {
            rootless: !nix::unistd::geteuid().is_root(),
            detached: start != Start::NowInForeground,
            console_socket: options.console_socket.is_some(),
        },
    )?;
    let linux = linux_of(spec);
    let process =
        spec.process().as_ref().ok_or_else(|| Error::invalid("config.json: process: is missing"))?;
    let keyring = (!options.no_new_keyring).then(|| id.to_owned());
    let namespaces = namespaces::plan(&linux)?;
    let filter = seccomp_filter(spec, warnings)?;
    let mut user_process = user_process(spec, process, filter, keyring, options.preserve_fds, warnings)?;
    if let Some(terminal) = &mut user_process.terminal {
        terminal.plain_newlines = start == Start::NowInForeground && foreground::reader_is_plain();
    }

    let hooks = spec.hooks().clone().unwrap_or_default();
    let ushered = is_ushered(spec, &hooks, &namespaces);
    let scheduler = match ushered {
        true => user_process.security.split_off_scheduler(),
        false => security::Plan::default(),
    };
    let rdt = match linux.intel_rdt() {
        Some(rdt) => Some(resctrl::plan(rdt, id).find().context("linux.intelRdt")?),
        None => None,
    };
    let layout = cgroups::Layout::detect()?;
    let mut cgroup = cgroups::plan(spec.linux().as_ref(), id, &layout, host.driver, warnings)?;
    let systemd_v1 = annotate(&mut cgroup, spec, &layout, &namespaces, warnings)?;
    log::debug(|| {
        format!("container {id}: bundle {}, cgroup {:?}", options.bundle.display(), cgroup.record())
    });
    let root = options.bundle.join(spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path()));
    let view = Cgroups { view: cgroup_view(&cgroup.record(), &layout), systemd_v1 };
    let mut rootfs =
        self::rootfs(spec, &options.bundle, &root, view, &namespaces, options.no_pivot, warnings)?;
    rootfs.open_sources()?;
    let prestart = hooks.prestart().clone().unwrap_or_default();
    let create_runtime = hooks.create_runtime().clone().unwrap_or_default();

    let init = init::Plan {
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        rootfs,
        sysctls_by_parent: sysctls_by_parent(&user_process, &namespaces),
        process: user_process,
        ushered,
        by_user: !nix::unistd::geteuid().is_root(),
        runtime_hooks: !prestart.is_empty() || !create_runtime.is_empty(),
        create_container: hooks.create_container().clone().unwrap_or_default(),
        start_container: hooks.start_container().clone().unwrap_or_default(),
        hook_output: hook_output(|key| annotations::of(spec, key))?,
        state: oci_state(spec, id, options),
        namespaces,
    };
    Ok(Planned {
        network: network.filter(|_| init.namespaces.takes_network()),
        cgroup_owner: cgroup_owner(spec, &init.namespaces),
        init,
        cgroup,
        rdt,
        has_memory_limit: has_memory_limit(&linux),
        scheduler,
        pidfd_receiver: annotations::pidfd_receiver(spec),
        rootfs: root,
        poststart: hooks.poststart().clone().unwrap_or_default(),
        poststop: hooks.poststop().clone().unwrap_or_default(),
        prestart,
        create_runtime,
        config,
    })
}

/// Whether init is made by an usher ([`init::Plan::ushered`]): with a pid namespace that is there. Not
///
/// - with a user namespace: what neighbours see is undumpable, and of a user namespace in which they have no rights;
/// - with hooks that come before the program: they are told of init, which would not be there yet, and those of
///   createContainer are in the neighbours' sight with the host's mounts themselves;
/// - with offsets of a time namespace, for which the parent may need a helper that enters all namespaces;
/// - with room for one process.
fn is_ushered(spec: &Spec, hooks: &Hooks, namespaces: &namespaces::Plan) -> bool {
    // Nearly every container has a pid namespace of its own.
    if namespaces.join(Kind::Pid).is_none() {
        return false;
    }
    let is_empty = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_none_or(Vec::is_empty);
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let pids = resources.and_then(|resources| resources.pids().as_ref()).map(LinuxPids::limit);
    let unified = resources.and_then(|resources| resources.unified().as_ref());
    !namespaces.has(Kind::User)
        && namespaces.time_offsets.is_none()
        && is_empty(hooks.prestart())
        && is_empty(hooks.create_runtime())
        && is_empty(hooks.create_container())
        && !pids.is_some_and(|limit| (0..=1).contains(&limit))
        && !unified.is_some_and(|unified| unified.contains_key("pids.max"))
        && mount::procfs_takes_a_pid_namespace()
}

/// What the container is shown of cgroups.
pub(super) struct Cgroups {
    /// By a mount of type `cgroup`.
    pub view: rootfs::CgroupView,
    /// In place of the mount that [`annotations::FORCE_CGROUP_V1`] names.
    pub systemd_v1: Option<rootfs::Hierarchy>,
}

/// Adds to the cgroup's plan what annotations ask for. The hierarchy of cgroup v1 that is to be shown, if any.
///
/// # Errors
/// What this host does not have, or cgroup v1 cannot do; each names its annotation.
pub(super) fn annotate(
    cgroup: &mut cgroups::Plan,
    spec: &Spec,
    layout: &cgroups::Layout,
    namespaces: &namespaces::Plan,
    warnings: &mut Vec<String>,
) -> Result<Option<rootfs::Hierarchy>> {
    let Some(all) = spec.annotations() else { return Ok(None) };
    cgroup.annotate(all)?;
    // Before the others: it is where the container is without them.
    let systemd_v1 = match annotations::cgroup_v1(spec) {
        Some(_) => {
            let added = cgroup.add_systemd_v1(layout);
            let (at, callers) = added.with_context(|| annotations::path(annotations::FORCE_CGROUP_V1))?;
            let place = rootfs::Place { mountpoint: at.mountpoint, path: at.path, callers };
            Some(rootfs::Hierarchy { names: at.names, at: place })
        }
        None => None,
    };
    if let Some(below) = annotations::cgroup_below(spec, annotations::SUBGROUP) {
        let path = annotations::path(annotations::SUBGROUP);
        match cgroup.record().driver() {
            cgroups::Driver::Systemd => cgroup.add_subgroup(&below).with_context(|| path)?,
            _ => warnings.push(format!("{path}: ignored, because systemd does not make the cgroup")),
        }
    }
    if let Some(below) = annotations::cgroup_below(spec, annotations::DELEGATE) {
        let owner = match spec.process() {
            Some(process) if namespaces.creates(Kind::User) => namespaces.host_uid(process.user().uid()),
            _ => None,
        };
        cgroup.delegate(&below, owner).with_context(|| annotations::path(annotations::DELEGATE))?;
    }
    Ok(systemd_v1)
}

/// The plan of the root filesystem.
///
/// # Errors
/// A mount that makes no sense, or that berth does not do.
pub(super) fn rootfs(
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
    cgroups: Cgroups,
    namespaces: &namespaces::Plan,
    no_pivot: bool,
    warnings: &mut Vec<String>,
) -> Result<rootfs::Plan> {
    rootfs::plan(
        &rootfs::Request {
            spec,
            bundle,
            rootfs,
            cgroups: cgroups.view,
            cgroup_v1: annotations::cgroup_v1(spec).zip(cgroups.systemd_v1),
            user_namespace: namespaces.has(Kind::User),
            cgroup_namespace: namespaces.creates(Kind::Cgroup),
            network_namespace: namespaces.creates(Kind::Network),
            mount_namespace: namespaces.has(Kind::Mount),
            label_option: annotations::ContextType::of(spec).name(),
            no_pivot,
            uid_gid_of_root: (0, 0),
        },
        warnings,
    )
}

impl Planned {
    /// Runs the hooks of the runtime's namespaces that come before the container's program; `state` is what
    /// they read.
    ///
    /// # Errors
    /// That of the first hook that fails.
    pub fn run_runtime_hooks(&self, state: &[u8]) -> Result<()> {
        let environment = &spawn::environment();
        let setting = hooks::Setting { state, environment, output: &self.init.hook_output, confine: None };
        hooks::run_all(hooks::Kind::Prestart, &self.prestart, &setting)?;
        hooks::run_all(hooks::Kind::CreateRuntime, &self.create_runtime, &setting)
    }

    /// What `state.json` says before anything is made.
    pub fn record(&self, id: &str) -> Record {
        let state = &self.init.state;
        Record {
            oci_version: state.oci_version.clone(),
            id: id.into(),
            bundle: state.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: log::timestamp(SystemTime::now()),
            owner: nix::unistd::geteuid().as_raw(),
            annotations: state.annotations.clone(),
            init: None,
            complete: false,
            own_pid_namespace: self.init.namespaces.creates(Kind::Pid),
            own_keyring: self.init.process.keyring.is_some(),
            cgroup: self.cgroup.record(),
            cgroup_made: false,
            filter_saved: false,
            host_mount: self.init.rootfs.host_mount(),
            rdt: self.rdt.as_ref().map(|rdt| rdt.record().clone()),
            poststart: self.poststart.clone(),
            poststop: self.poststop.clone(),
        }
    }
}

/// Opens where hooks write; `get` is how an annotation is had.
///
/// # Errors
/// A file cannot be opened.
pub(super) fn hook_output<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<hooks::Output> {
    hooks::Output::open(
        get(annotations::HOOKS_STDOUT).map(Path::new),
        get(annotations::HOOKS_STDERR).map(Path::new),
    )
}

/// What init, or the joining process of an exec, is to become. `spec` is the container's, and `seccomp` its
/// filter; `keyring` is the id that its session keyring is named after.
///
/// # Errors
/// A value that makes no sense, or that this host cannot give; a descriptor that is not open.
pub(super) fn user_process(
    spec: &Spec,
    process: &Process,
    seccomp: Option<seccomp::Checked>,
    keyring: Option<String>,
    preserve_fds: u32,
    warnings: &mut Vec<String>,
) -> Result<UserProcess> {
    let inherited = inherited_descriptors(preserve_fds)?;
    let agent = seccomp.as_ref().is_some_and(seccomp::Checked::notifies).then(|| agent(spec)).flatten();
    let linux = linux_of(spec);
    let mut security = security::plan(process, &linux, &security::Host::look(process)?, warnings)?;
    let keep_groups = annotations::keeps_groups(spec);
    security.user.keep_groups = keep_groups;
    if keep_groups && !security.user.additional_gids.is_empty() {
        warnings
            .push(format!("process.user.additionalGids: ignored because of {}", annotations::KEEP_GROUPS));
    }
    Ok(UserProcess {
        security,
        seccomp,
        agent,
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        terminal: terminal(process),
        keyring,
        listen_fds: inherited.listen,
        preserve_fds: inherited.all,
    })
}

/// The section, not copied: a seccomp profile is long.
fn linux_of(spec: &Spec) -> Cow<'_, Linux> {
    spec.linux().as_ref().map_or_else(|| Cow::Owned(Linux::default()), Cow::Borrowed)
}

/// `linux.seccomp`, or the program that an annotation has in its place.
///
/// # Errors
/// What is wrong with it; what this kernel does not have.
pub(super) fn seccomp_filter(spec: &Spec, warnings: &mut Vec<String>) -> Result<Option<seccomp::Checked>> {
    if let Some(program) = annotations::of(spec, annotations::SECCOMP_BPF) {
        let checked = seccomp::raw::check(program, agent(spec).is_some());
        return checked.map(Some).with_context(|| annotations::path(annotations::SECCOMP_BPF));
    }
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    if annotations::refuses_unknown_calls(spec) {
        seccomp::require_known_calls(profile)
            .map_err(|error| error.remedy(format!("leave out {}", annotations::SECCOMP_STRICT)))?;
    }
    seccomp::check(profile, warnings)
}

/// Who answers the calls that the container's filter hands out.
fn agent(spec: &Spec) -> Option<Address> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let metadata = profile.and_then(|profile| profile.listener_metadata().clone());
    let path = profile.and_then(|profile| profile.listener_path().clone());
    Some(Address { path: path.or_else(|| annotations::seccomp_receiver(spec))?, metadata })
}

/// config-linux.md, Cgroup ownership: only with a mount of it that may be written to, of a cgroup namespace of
/// its own. Without a user namespace there is nobody to give it to who does not have the host's rights.
fn cgroup_owner(spec: &Spec, namespaces: &namespaces::Plan) -> Option<u32> {
    let is_writable = |mount: &Mount| {
        mount.typ().as_deref() == Some("cgroup")
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount.options().iter().flatten().any(|option| option == "ro")
    };
    if !namespaces.creates(Kind::User)
        || !namespaces.creates(Kind::Cgroup)
        || !spec.mounts().iter().flatten().any(is_writable)
    {
        return None;
    }
    namespaces.host_uid(spec.process().as_ref()?.user().uid())
}

/// An ordinary user has no more rights than the root of its user namespace.
fn sysctls_by_parent(process: &UserProcess, namespaces: &namespaces::Plan) -> bool {
    let any = !process.security.sysctls.is_empty();
    any && namespaces.has(Kind::User) && nix::unistd::geteuid().is_root()
}

/// Whether a process of the container may be killed for its memory.
pub(super) fn has_memory_limit(linux: &Linux) -> bool {
    let memory = linux.resources().as_ref().and_then(|resources| resources.memory().as_ref());
    memory.and_then(LinuxMemory::limit).is_some_and(|limit| limit > 0)
}

/// The descriptors after stderr that the program inherits.
struct Inherited {
    /// Of socket activation, sd_listen_fds(3).
    listen: u32,
    /// Those and `--preserve-fds`.
    all: u32,
}

fn inherited_descriptors(preserve: u32) -> Result<Inherited> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // They are meant for us only when the pid says so.
    let listen =
        number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0);
    // The check below must end soon: no process has more descriptors than this.
    let all = listen.checked_add(preserve).filter(|all| *all <= 1 << 20).ok_or_else(|| {
        Error::invalid(format!("--preserve-fds: {preserve} is more descriptors than a process can have"))
    })?;
    // What we opened ourselves has CLOEXEC and is no gift of the caller's.
    let is_given = |fd: &u32| i32::try_from(*fd).is_ok_and(process::is_inheritable);
    if let Some(missing) = (3..3 + listen).find(|fd| !is_given(fd)) {
        return Err(Error::invalid(format!("LISTEN_FDS: descriptor {missing} is not open")));
    }
    // As with crun, more may be asked for than there are: the range ends with the last.
    let all = (3..3 + all).rev().find(is_given).map_or(0, |last| last - 2);
    Ok(Inherited { listen, all })
}

fn terminal(process: &Process) -> Option<init::Terminal> {
    if !process.terminal().unwrap_or(false) {
        return None;
    }
    let characters = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    let size = process
        .console_size()
        .as_ref()
        .map(|size| tty::Size { rows: characters(size.height()), columns: characters(size.width()) });
    Some(init::Terminal { size, plain_newlines: false })
}

fn oci_state(spec: &Spec, id: &str, options: &CreateOptions) -> OciState {
    let annotations: BTreeMap<String, String> = spec.annotations().iter().flatten().map(clone_pair).collect();
    OciState {
        oci_version: spec.version().clone(),
        id: id.into(),
        status: "creating".into(),
        pid: 0,
        bundle: options.bundle.clone(),
        annotations,
    }
}

fn clone_pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// What a mount of type `cgroup` shows.
pub(super) fn cgroup_view(record: &cgroups::Record, layout: &cgroups::Layout) -> rootfs::CgroupView {
    let place = |directory: &cgroups::Directory| rootfs::Place {
        mountpoint: directory.mountpoint.clone(),
        path: directory.path.clone(),
        callers: layout.own(&directory.mountpoint).map(Path::to_owned),
    };
    let (v2, v1): (Vec<_>, Vec<_>) =
        record.directories().iter().partition(|directory| directory.names.is_empty());
    match (record.version(), v2.first()) {
        _ if record.directories().is_empty() => rootfs::CgroupView::None,
        (cgroups::Version::V2, Some(directory)) => rootfs::CgroupView::V2(place(directory)),
        _ => rootfs::CgroupView::V1(
            v1.into_iter()
                .map(|directory| rootfs::Hierarchy { names: directory.names.clone(), at: place(directory) })
                .collect(),
        ),
    }
}
