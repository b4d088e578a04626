//! `checkpoint`: the processes of a container, written to an image by CRIU.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use oci_spec::runtime::Spec;

use super::image::{ImageOptions, external_namespace_key};
use super::state::{Record, StateDir};
use super::status::{self, Status};
use super::stdio::Descriptors;
use super::{Host, delete, plan};
use crate::cgroups::Layout;
use crate::criu::{
    self, ExternalMount, Features, Notification, Options, PageServer, Service, Surroundings, Switch,
};
use crate::error::{Call, Code, Context, Error, Result};
use crate::namespaces::{self, Kind};
use crate::spec::annotations;
use crate::sys::process::inherited;
use crate::sys::procfs;
use crate::{log, rootfs, spec};

/// CRIU's log, in the work directory or the image's.
const LOG: &str = "dump.log";

/// How long another command on the container may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The flags of `checkpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Those of `restore` too.
    pub image: ImageOptions,
    /// The previous image of a chain, relative to this one.
    pub parent: Option<PathBuf>,
    /// Let the container go on.
    pub leave_running: bool,
    /// Write its memory only, and let it go on.
    pub pre_dump: bool,
    /// Connections that are just being made may be lost.
    pub tcp_skip_in_flight: bool,
    /// Link files that were unlinked while open.
    pub link_remap: bool,
    /// Who gets the memory.
    pub page_server: Option<PageServer>,
    /// Gets a NUL byte once lazy pages are served.
    pub status_fd: Option<i32>,
}

/// Writes a container to an image. It is deleted then, unless it is to go on.
///
/// # Errors
/// It does not run; CRIU cannot write one of its resources. The container goes on as it was then.
pub fn checkpoint(host: &Host, id: &str, options: &CheckpointOptions) -> Result<()> {
    let dir = host.root.open(id)?;
    let _lock = dir.lock(PATIENCE)?;
    let record = status::record(&dir)?;
    match status::of(&dir, &record)? {
        Status::Running | Status::Paused => {}
        other => {
            return Err(Error::new(
                Code::State,
                format!("container cannot be checkpointed in {other} state"),
            ));
        }
    }
    write_image(&dir, &record, options).with_context(|| format!("checkpoint container {id}"))?;
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    delete::remove(&dir, &record).with_context(|| format!("delete container {id} after its checkpoint"))
}

fn write_image(dir: &StateDir, record: &Record, options: &CheckpointOptions) -> Result<()> {
    refuse_delegated(|key| record.annotation(key))?;
    let directories = options.image.open(true, LOG)?;
    check_parent(&options.image.path, options.parent.as_deref())?;
    let status_fd = options.status_fd.map(writable).transpose()?;
    let seen = Seen::look(record, &spec::parse(&dir.config()?, &mut Vec::new())?)?;
    let version = criu::version()?;
    log::debug(|| format!("criu {version}, {seen:?}"));
    criu::require(Features { memory_tracking: options.pre_dump, lazy_pages: options.image.lazy_pages })?;
    let common = options.image.criu(&directories, &record.annotations);
    let (kind, request) = plan(options, common, &record.rootfs, &seen)?;
    if !options.pre_dump {
        seen.descriptors.write(&options.image.path)?;
    }
    let mut notified = |notification: Notification| match (notification.script.as_str(), status_fd) {
        ("status-ready", Some(fd)) => {
            nix::unistd::write(fd, &[0]).map(drop).call(|| "write(--status-fd)".into())
        }
        _ => Ok(()),
    };
    let service = Service::start(&Surroundings::default())?;
    service.serve(kind, &request, directories.log(), &mut notified).map(drop)
}

/// CRIU makes the processes and their cgroup namespace in one cgroup; the annotation wants them in two.
pub(super) fn refuse_delegated<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Result<()> {
    match annotation(annotations::DELEGATE) {
        None | Some("") => Ok(()),
        Some(_) => {
            let path = annotations::path(annotations::DELEGATE);
            Err(Error::unsupported(format!(
                "{path}: CRIU cannot restore a container whose processes are below the root of its cgroup namespace"
            )))
        }
    }
}

/// What is found of the container and matters to an image.
#[derive(Debug)]
struct Seen {
    pid: i32,
    externals: Vec<rootfs::External>,
    /// The namespaces that are not the container's own, with their inodes.
    namespaces: Vec<(Kind, u64)>,
    freezer: Option<PathBuf>,
    descriptors: Descriptors,
}

impl Seen {
    fn look(record: &Record, spec: &Spec) -> Result<Self> {
        let pid = record
            .init
            .map(|init| init.pid)
            .ok_or_else(|| Error::new(Code::State, "container not running"))?;
        let read = |path: String| procfs::read(&path).call(|| format!("read({path})"));
        let container = read(format!("/proc/{pid}/mountinfo"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let plan = namespaces::plan(&linux)?;
        let view = plan::cgroup_view(&record.cgroup, &Layout::detect()?);
        let view = plan::Cgroups { view, systemd_v1: None };
        let rootfs = plan::rootfs(spec, &record.bundle, &record.rootfs, view, &plan, false, &mut Vec::new())?;
        let mut namespaces = Vec::new();
        for kind in [Kind::Network, Kind::Pid] {
            if plan.join(kind).is_some() {
                // The process's own: what the path of config.json leads to may have changed since.
                let path = format!("/proc/{pid}/ns/{}", kind.proc_name());
                let inode = std::fs::metadata(&path).call(|| format!("stat({path})"))?.ino();
                namespaces.push((kind, inode));
            }
        }
        Ok(Self {
            pid,
            externals: rootfs.external_mounts(&container, &read("/proc/self/mountinfo".into())?)?,
            namespaces,
            freezer: record.cgroup.freezer_path()?,
            descriptors: Descriptors::of(pid, &record.cgroup.pids()?, &container)?,
        })
    }
}

/// The request; `common` is what a restore would be asked too. Pure.
fn plan(
    flags: &CheckpointOptions,
    common: Options,
    rootfs: &Path,
    seen: &Seen,
) -> Result<(criu::Kind, Options)> {
    let mut options = Options {
        log_file: LOG,
        pid: Some(seen.pid),
        root: rootfs.to_owned(),
        freeze_cgroup: seen.freezer.clone(),
        parent: flags.parent.clone(),
        page_server: flags.page_server.clone(),
        ..common
    };
    options.set(Switch::LeaveRunning, flags.leave_running);
    options.set(Switch::TcpSkipInFlight, flags.tcp_skip_in_flight);
    options.set(Switch::LinkRemap, flags.link_remap);
    options.set(Switch::TrackMemory, flags.pre_dump || flags.parent.is_some());
    for (kind, inode) in &seen.namespaces {
        if let Some(key) = external_namespace_key(*kind) {
            options.external.push(format!("{}[{inode}]:{key}", kind.proc_name()));
        }
    }
    if flags.pre_dump {
        return Ok((criu::Kind::PreDump, options));
    }
    for external in &seen.externals {
        options.external_mounts.push(ExternalMount::named(&external.point, &external.destination)?);
    }
    options.external.extend(seen.descriptors.external_files());
    Ok((criu::Kind::Dump, options))
}

/// CRIU looks for it below the image, by a name that is kept in the image.
fn check_parent(image: &Path, parent: Option<&Path>) -> Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    if parent.is_absolute() {
        return Err(Error::invalid("--parent-path must be relative").remedy("it is relative to --image-path"));
    }
    let path = image.join(parent);
    let found = std::fs::metadata(&path).call(|| format!("stat({})", path.display()));
    match found.context("invalid --parent-path")?.is_dir() {
        true => Ok(()),
        false => Err(Error::invalid(format!("invalid --parent-path: {} is no directory", path.display()))),
    }
}

/// `--status-fd`: a descriptor that we were given, open for writing.
fn writable(number: i32) -> Result<BorrowedFd<'static>> {
    let invalid = |why: &str| Error::invalid(format!("invalid --status-fd argument {number}: {why}"));
    let fd = inherited(number).ok_or_else(|| invalid("not open"))?;
    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).call(|| format!("fcntl({number}, F_GETFL)"))?;
    match OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        true => Err(invalid("not writable")),
        false => Ok(fd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let external = |name: &str, point: &str| rootfs::External {
            destination: name.into(),
            point: point.into(),
            source: "/host".into(),
        };
        Seen {
            pid: 42,
            externals: vec![external("/etc/hosts", "/etc/hosts"), external("/conf", "/real/conf")],
            namespaces: vec![(Kind::Network, 7), (Kind::Pid, 8)],
            freezer: Some("/sys/fs/cgroup/c".into()),
            descriptors: Descriptors::default(),
        }
    }

    fn planned(flags: &CheckpointOptions) -> (criu::Kind, Options) {
        plan(flags, Options::default(), Path::new("/b/rootfs"), &seen()).unwrap()
    }

    #[test]
    fn a_dump_names_what_is_not_the_containers() {
        let (kind, options) = planned(&CheckpointOptions { leave_running: true, ..Default::default() });
        assert_eq!(kind, criu::Kind::Dump);
        assert_eq!((options.pid, options.root.as_path()), (Some(42), Path::new("/b/rootfs")));
        assert_eq!(options.freeze_cgroup.as_deref(), Some(Path::new("/sys/fs/cgroup/c")));
        assert_eq!(options.external, ["net[7]:extRootNetNS", "pid[8]:extRootPidNS"]);
        // By the destination, and never by what is there on the host.
        let named = options.external_mounts.iter().map(|mount| (mount.key.as_path(), mount.value.as_path()));
        let expected = [("/etc/hosts", "/etc/hosts"), ("/real/conf", "/conf")];
        assert_eq!(
            named.collect::<Vec<_>>(),
            expected.map(|(key, value)| (Path::new(key), Path::new(value)))
        );
        assert_eq!(options.switches, [Switch::LeaveRunning]);
    }

    #[test]
    fn a_chain_tracks_memory_and_a_pre_dump_has_no_mounts() {
        let (kind, options) = planned(&CheckpointOptions { pre_dump: true, ..Default::default() });
        assert_eq!(kind, criu::Kind::PreDump);
        assert_eq!(options.switches, [Switch::TrackMemory]);
        assert!(options.external_mounts.is_empty());
        let (kind, options) =
            planned(&CheckpointOptions { parent: Some("../p".into()), ..Default::default() });
        assert_eq!((kind, options.parent), (criu::Kind::Dump, Some("../p".into())));
        assert_eq!(options.switches, [Switch::TrackMemory]);
    }

    #[test]
    fn a_destination_that_could_stand_for_another_is_refused() {
        for is_point in [false, true] {
            let mut seen = seen();
            let external = &mut seen.externals[0];
            *(if is_point { &mut external.point } else { &mut external.destination }) = "/x]:/etc".into();
            assert!(plan(&CheckpointOptions::default(), Options::default(), Path::new("/r"), &seen).is_err());
        }
    }

    #[test]
    fn parents_are_below_the_image() {
        assert!(check_parent(Path::new("/"), None).is_ok());
        assert!(check_parent(Path::new("/"), Some(Path::new("tmp"))).is_ok());
        for bad in ["/tmp", "nowhere", "etc/passwd"] {
            assert!(check_parent(Path::new("/"), Some(Path::new(bad))).is_err(), "{bad}");
        }
    }
}
