//! From config.json to finished plans: everything that can be computed, and can fail, before the host
//! is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::{Hook, Linux, LinuxMemory, Process, Spec};

use super::Host;
use super::birth::Start;
use super::create::CreateOptions;
use super::state::Record;
use crate::error::{Error, Result};
use crate::init::agent::Address;
use crate::init::{self, OciState, UserProcess};
use crate::namespaces::{self, Kind};
use crate::sys::beside::NewNetwork;
use crate::sys::{process, tty};
use crate::{cgroups, log, rootfs, seccomp, security, spec};

/// All that a birth needs.
pub struct Planned {
    /// What init does.
    pub init: init::Plan,
    /// Its network namespace in the making, if that is not left to the clone.
    pub network: Option<NewNetwork>,
    /// What is made for its processes.
    pub cgroup: cgroups::Plan,
    /// config.json as it was read.
    pub config: Vec<u8>,
    /// Hooks of the runtime's namespaces, deprecated kind.
    pub prestart: Vec<Hook>,
    /// Hooks of the runtime's namespaces.
    pub create_runtime: Vec<Hook>,
    /// Whether a process of the container may be killed for its memory.
    pub has_memory_limit: bool,
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
    let config = spec::read(&options.bundle)?;
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
    let linux = spec.linux().clone().unwrap_or_default();
    let process =
        spec.process().as_ref().ok_or_else(|| Error::invalid("config.json: process: is missing"))?;
    let keyring = (!options.no_new_keyring).then(|| id.to_owned());
    let namespaces = namespaces::plan(&linux)?;
    refuse_what_would_be_ignored(&linux)?;
    let user_process = user_process(process, &linux, keyring, options.preserve_fds, warnings)?;

    let layout = cgroups::Layout::detect()?;
    let mut cgroup = cgroups::plan(spec.linux().as_ref(), id, &layout, host.driver, warnings)?;
    if let Some(annotations) = spec.annotations() {
        cgroup.annotate(annotations)?;
    }
    log::debug(|| {
        format!("container {id}: bundle {}, cgroup {:?}", options.bundle.display(), cgroup.record())
    });
    let root = spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path());
    let root = options.bundle.join(root);
    let mut rootfs = rootfs::plan(
        &rootfs::Request {
            spec,
            bundle: &options.bundle,
            rootfs: &root,
            cgroups: cgroup_view(&cgroup.record()),
            user_namespace: namespaces.has(Kind::User),
            cgroup_namespace: namespaces.creates(Kind::Cgroup),
            network_namespace: namespaces.creates(Kind::Network),
            mount_namespace: namespaces.has(Kind::Mount),
            no_pivot: options.no_pivot,
            uid_gid_of_root: (0, 0),
        },
        warnings,
    )?;
    rootfs.open_sources()?;
    let hooks = spec.hooks().clone().unwrap_or_default();
    let prestart = hooks.prestart().clone().unwrap_or_default();
    let create_runtime = hooks.create_runtime().clone().unwrap_or_default();

    let init = init::Plan {
        hostname: spec.hostname().clone(),
        domainname: spec.domainname().clone(),
        rootfs,
        process: user_process,
        runtime_hooks: !prestart.is_empty() || !create_runtime.is_empty(),
        create_container: hooks.create_container().clone().unwrap_or_default(),
        start_container: hooks.start_container().clone().unwrap_or_default(),
        state: oci_state(spec, id, options),
        namespaces,
    };
    Ok(Planned {
        network: network.filter(|_| init.namespaces.takes_network()),
        init,
        cgroup,
        has_memory_limit: has_memory_limit(&linux),
        rootfs: root,
        poststart: hooks.poststart().clone().unwrap_or_default(),
        poststop: hooks.poststop().clone().unwrap_or_default(),
        prestart,
        create_runtime,
        config,
    })
}

impl Planned {
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
            poststart: self.poststart.clone(),
            poststop: self.poststop.clone(),
        }
    }
}

/// What init, or the joining process of an exec, is to become. `linux` is the container's; `keyring` is
/// the id that its session keyring is named after.
///
/// # Errors
/// A value that makes no sense, or that this host cannot give; a descriptor that is not open.
pub(super) fn user_process(
    process: &Process,
    linux: &Linux,
    keyring: Option<String>,
    preserve_fds: u32,
    warnings: &mut Vec<String>,
) -> Result<UserProcess> {
    let inherited = inherited_descriptors(preserve_fds)?;
    let seccomp = match linux.seccomp() {
        Some(profile) => seccomp::check(profile, warnings)?,
        None => None,
    };
    let agent = linux.seccomp().as_ref().zip(seccomp.as_ref()).filter(|(_, checked)| checked.notifies());
    let agent = agent.and_then(|(profile, _)| {
        let metadata = profile.listener_metadata().clone();
        Some(Address { path: profile.listener_path().clone()?, metadata })
    });
    Ok(UserProcess {
        security: security::plan(process, linux, &security::Host::look(process)?, warnings)?,
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

/// Whether a process of the container may be killed for its memory.
pub(super) fn has_memory_limit(linux: &Linux) -> bool {
    let memory = linux.resources().as_ref().and_then(|resources| resources.memory().as_ref());
    memory.and_then(LinuxMemory::limit).is_some_and(|limit| limit > 0)
}

/// Fields that berth understands but cannot carry out yet. A container without what was asked for must not
/// look like one that has it.
fn refuse_what_would_be_ignored(linux: &Linux) -> Result<()> {
    let refused = [
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
    ];
    match refused.into_iter().find(|(_, asked)| *asked) {
        Some((field, _)) => Err(Error::unsupported(format!("{field}: berth cannot do this yet"))
            .remedy("see the table in README of what works")),
        None => Ok(()),
    }
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
    for fd in 3..3 + all {
        // What we opened ourselves has CLOEXEC and is no gift of the caller's.
        if !i32::try_from(fd).is_ok_and(process::is_inheritable) {
            return Err(Error::invalid(format!("--preserve-fds: descriptor {fd} is not open"))
                .remedy("leave it open, without CLOEXEC, when berth is called"));
        }
    }
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
    Some(init::Terminal { size })
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
fn cgroup_view(record: &cgroups::Record) -> rootfs::CgroupView {
    let unified = |directory: &cgroups::Directory| rootfs::Unified {
        mountpoint: directory.mountpoint.clone(),
        path: directory.path.clone(),
    };
    let (v2, v1): (Vec<_>, Vec<_>) =
        record.directories().iter().partition(|directory| directory.names.is_empty());
    match (record.version(), v2.first()) {
        _ if record.directories().is_empty() => rootfs::CgroupView::None,
        (cgroups::Version::V2, Some(directory)) => rootfs::CgroupView::V2(unified(directory)),
        (_, v2) => rootfs::CgroupView::V1 {
            hierarchies: v1
                .into_iter()
                .map(|directory| rootfs::Hierarchy {
                    names: directory.names.clone(),
                    mountpoint: directory.mountpoint.clone(),
                    path: directory.path.clone(),
                })
                .collect(),
            unified: v2.map(|directory| unified(directory)),
        },
    }
}
