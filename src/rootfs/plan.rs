//! The spec compiled to steps. Pure: every decision that needs no look at the host is made here and
//! tested without root.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, Mount as SpecMount};

use super::options::{Change, Options, Propagation};
use super::{Request, cgroup, devices, idmap, on_host};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{Clone, attr, cstring};

/// mount(2) takes one page of data, NUL included.
const DATA_LIMIT: usize = 4096;

/// What may be mounted below `/proc`: files that lxcfs emulates and knobs that engines cover, the same
/// as runc allows. All else could hide or fake what security depends on (CVE-2019-16884).
const ALLOWED_BELOW_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// How the root filesystem will be built: finished data.
#[derive(Debug)]
pub struct Plan {
    /// Absolute path on the host.
    pub(super) rootfs: PathBuf,
    pub(super) mount_namespace: bool,
    /// Without a mount namespace, where something is mounted: the rootfs is a mount of its own among the host's
    /// until the container is deleted.
    pub(super) on_host: bool,
    /// That mount, which [`Plan::open_sources`] makes.
    pub(super) host_tree: Option<on_host::Tree>,
    pub(super) user_namespace: bool,
    /// What becomes of the copied host mounts before anything else; None leaves them as they are.
    pub(super) host_propagation: Option<u64>,
    /// What becomes of the container's root mount last.
    pub(super) root_propagation: Option<Propagation>,
    pub(super) steps: Vec<Step>,
    /// None when `/dev` is a bind of the caller's: then it is not ours to fill.
    pub(super) devices: Option<Vec<devices::Node>>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) readonly: Vec<PathBuf>,
    pub(super) readonly_root: bool,
    pub(super) entry: Entry,
    /// `process.cwd`: made while the root can still be written to.
    pub(super) cwd: Option<PathBuf>,
    /// `linux.mountLabel`, for the masks.
    pub(super) label: Option<Label>,
}

/// `linux.mountLabel`: a mount option.
#[derive(Clone, Debug)]
pub(super) struct Label {
    /// `context`, or one of its three like.
    pub option: CString,
    /// The SELinux context.
    pub context: CString,
}

impl Label {
    /// As mount(2) takes it. Quoted: a context may hold commas.
    pub fn word(&self) -> Vec<u8> {
        [self.option.to_bytes(), b"=\"", self.context.to_bytes(), b"\""].concat()
    }
}

/// How the process gets into its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Pivot,
    Move,
    Chroot,
}

/// One thing to do in the rootfs, in order.
#[derive(Debug)]
pub(super) enum Step {
    Mount(Box<Mount>),
    /// A symlink, made unless something is there.
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
}

impl Step {
    /// Whether it needs the container's cgroup to be there, and the caller in it.
    pub fn shows_cgroup(&self) -> bool {
        match self {
            Self::Mount(mount) => match &mount.what {
                What::Bind(bind) => bind.by_child,
                What::Filesystem(filesystem) => {
                    matches!(filesystem.fstype.to_bytes(), b"cgroup" | b"cgroup2")
                }
            },
            Self::Symlink { .. } => false,
        }
    }
}

/// One mount.
#[derive(Debug)]
pub(super) struct Mount {
    /// Absolute, without `.` and `..`, as the container sees it.
    pub destination: PathBuf,
    /// Mount on a symlink itself.
    pub destination_nofollow: bool,
    pub what: What,
    pub attributes: Change,
    pub recursive: Change,
    pub propagation: Vec<Propagation>,
}

#[derive(Debug)]
pub(super) enum What {
    Bind(Bind),
    Filesystem(Filesystem),
}

/// A part of the host's tree.
#[derive(Debug)]
pub(super) struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Bound in its place when there is no `source`.
    pub otherwise: Option<PathBuf>,
    pub clone: Clone,
    pub follow: bool,
    /// Make a symlink again instead of mounting it.
    pub copy_symlink: bool,
    /// It is to cover `/proc`, so it must be the root of a procfs.
    pub must_be_procfs: bool,
    pub idmap: Option<idmap::Idmap>,
    /// It exists only once the child does (the container's cgroup): the parent cannot open it.
    pub by_child: bool,
    /// The detached copy, when the parent opened it.
    pub tree: Option<OwnedFd>,
}

/// A new filesystem.
#[derive(Debug)]
pub(super) struct Filesystem {
    pub fstype: CString,
    pub source: CString,
    /// `MS_*`.
    pub flags: u64,
    /// `key=value` and `flag` words.
    pub data: Vec<CString>,
    /// SELinux context of its files.
    pub label: Option<Label>,
    /// SELinux context of its root alone: a mqueue takes no other.
    pub label_of_root: Option<CString>,
    pub copy_up: bool,
    /// Mounted writable and sealed at the very end: mount points and devices are made in it.
    pub readonly_later: bool,
    /// procfs and sysfs: no symlink may lead to the destination (CVE-2023-27561, CVE-2025-54867).
    pub ordinary_directory: bool,
    /// Bound instead when the kernel refuses a new one (EPERM, EBUSY).
    pub fallback: Option<Bind>,
}

impl Plan {
    /// Whether a filesystem of the type is mounted at `destination`.
    pub(super) fn mounts_filesystem(&self, fstype: &CStr, destination: &Path) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Mount(mount) => match &mount.what {
                What::Filesystem(filesystem) => {
                    filesystem.fstype.as_c_str() == fstype && mount.destination == destination
                }
                What::Bind(_) => false,
            },
            Step::Symlink { .. } => false,
        })
    }
}

/// Compiles the request. No system call is made. What is ignored is named in `warnings`.
///
/// # Errors
/// [`Code::Invalid`](crate::error::Code::Invalid) with the JSON path of what makes no sense;
/// [`Code::Unsupported`](crate::error::Code::Unsupported) for what berth does not do.
pub fn plan(request: &Request<'_>, warnings: &mut Vec<String>) -> Result<Plan> {
    let default = Linux::default();
    let linux = request.spec.linux().as_ref();
    let mounts = request.spec.mounts().as_deref().unwrap_or_default();
    let masked = paths(linux.and_then(|linux| linux.masked_paths().as_deref()), "linux.maskedPaths")?;
    let readonly = paths(linux.and_then(|linux| linux.readonly_paths().as_deref()), "linux.readonlyPaths")?;
    let readonly_root =
        request.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly) == Some(true);
    let mounts_something = !mounts.is_empty() || !masked.is_empty() || !readonly.is_empty() || readonly_root;
    let label = label(request, linux)?;
    let mut steps = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        compile(request, linux.unwrap_or(&default), mount, label.as_ref(), &mut steps, warnings)
            .with_context(|| format!("mounts[{index}]"))?;
    }
    let devices = match steps.iter().any(covers_dev) {
        true => None,
        false => Some(devices::nodes(linux, request.uid_gid_of_root)?),
    };
    let (host_propagation, root_propagation) = propagation(linux)?;
    let cwd = request.spec.process().as_ref().map(|process| absolute(process.cwd()));
    Ok(Plan {
        rootfs: request.rootfs.to_owned(),
        mount_namespace: request.mount_namespace,
        on_host: !request.mount_namespace && mounts_something,
        host_tree: None,
        user_namespace: request.user_namespace,
        host_propagation,
        root_propagation,
        steps,
        devices,
        masked,
        readonly,
        readonly_root,
        entry: match (request.mount_namespace, request.no_pivot) {
            (false, _) => Entry::Chroot,
            (true, true) => Entry::Move,
            (true, false) => Entry::Pivot,
        },
        cwd: cwd.filter(|cwd| cwd != Path::new("/")),
        label,
    })
}

/// Each mount of the spec compiled by itself, for what it refuses and warns of: `said` gets the mount's index,
/// its warnings and its error. No system call is made.
pub fn rehearse_mounts(request: &Request<'_>, mut said: impl FnMut(usize, Vec<String>, Option<Error>)) {
    let default = Linux::default();
    let linux = request.spec.linux().as_ref().unwrap_or(&default);
    for (index, mount) in request.spec.mounts().iter().flatten().enumerate() {
        let mut warnings = Vec::new();
        let compiled = compile(request, linux, mount, None, &mut Vec::new(), &mut warnings);
        said(index, warnings, compiled.err());
    }
}

/// The copied host mounts first, the container's root mount last.
///
/// With a shared root the host's mounts stay in the peer groups they are in, so that an `rshared`
/// volume means what it says. Everything else is cut off recursively, also for the words without
/// `r`: the word is about the root mount alone, and a submount left shared would carry the
/// container's mounts to the host.
fn propagation(linux: Option<&Linux>) -> Result<(Option<u64>, Option<Propagation>)> {
    let Some(word) = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).filter(|w| !w.is_empty())
    else {
        return Ok((Some(libc::MS_SLAVE), None));
    };
    let root = Propagation::parse(word)
        .ok_or_else(|| Error::invalid(format!("linux.rootfsPropagation: {word:?} is no propagation")))?;
    let host = match root.flag {
        libc::MS_SHARED => None,
        libc::MS_SLAVE => Some(libc::MS_SLAVE),
        _ => Some(libc::MS_PRIVATE),
    };
    Ok((host, Some(root)))
}

/// One mount of the spec becomes one step, or several for the hierarchies of cgroup v1.
fn compile(
    request: &Request<'_>,
    linux: &Linux,
    mount: &SpecMount,
    label: Option<&Label>,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if mount.destination().as_os_str().is_empty() {
        return Err(Error::invalid("destination: empty"));
    }
    let destination = absolute(mount.destination());
    if destination == Path::new("/") && !request.mount_namespace {
        // It would cover the mount that `delete` takes off the host.
        return Err(Error::unsupported("destination: a mount at / without a mount namespace"));
    }
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default(), warnings)
        .with_context(|| format!("options of {}", destination.display()))?;
    if let Some((at, hierarchy)) = &request.cgroup_v1
        && absolute(at) == destination
    {
        return cgroup::compile_v1(request, &destination, &options, hierarchy, steps);
    }
    let idmap = idmap::plan(mount, &options, linux)?;
    let clone = options.bind.or((fstype == "bind").then_some(Clone::One));
    let what = if let Some(clone) = clone {
        What::Bind(bind(request, mount, &options, clone, idmap, warnings)?)
    } else if idmap.is_some() {
        return Err(Error::unsupported("id mappings of a mount that is no bind mount"));
    } else if fstype == "cgroup" || fstype == "cgroup2" {
        return cgroup::compile(request, &destination, &options, steps, warnings);
    } else {
        What::Filesystem(filesystem(request, mount, fstype, &destination, &options, label)?)
    };
    check_below_proc(&destination, &what)?;
    steps.push(Step::Mount(Box::new(Mount {
        destination_nofollow: options.destination_nofollow,
        destination,
        attributes: options.attributes,
        recursive: options.recursive,
        propagation: options.propagation,
        what,
    })));
    Ok(())
}

fn bind(
    request: &Request<'_>,
    mount: &SpecMount,
    options: &Options,
    clone: Clone,
    idmap: Option<idmap::Idmap>,
    warnings: &mut Vec<String>,
) -> Result<Bind> {
    let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    let Some(source) = source else {
        return Err(Error::invalid("source: a bind mount needs one"));
    };
    if options.copy_up {
        return Err(Error::invalid("options: tmpcopyup is for a tmpfs, not for a bind mount"));
    }
    for word in &options.data {
        warnings.push(format!(
            "mount at {}: option {word:?} means nothing for a bind mount",
            mount.destination().display()
        ));
    }
    Ok(Bind {
        source: request.bundle.join(source),
        otherwise: None,
        clone,
        follow: !options.source_nofollow && !options.copy_symlink,
        copy_symlink: options.copy_symlink,
        must_be_procfs: absolute(mount.destination()) == Path::new("/proc"),
        idmap,
        by_child: false,
        tree: None,
    })
}

fn filesystem(
    request: &Request<'_>,
    mount: &SpecMount,
    fstype: &str,
    destination: &Path,
    options: &Options,
    label: Option<&Label>,
) -> Result<Filesystem> {
    if fstype.is_empty() {
        return Err(Error::invalid("type: missing, and the options do not say bind or rbind"));
    }
    if options.copy_up && fstype != "tmpfs" {
        return Err(Error::invalid(format!("options: tmpcopyup is for a tmpfs, not for {fstype}")));
    }
    let length: usize = options.data.iter().map(|word| word.len() + 1).sum();
    if length > DATA_LIMIT {
        return Err(Error::invalid(format!("options: {length} bytes, and the kernel takes {DATA_LIMIT}")));
    }
    let source = mount.source().as_deref().map_or(OsStr::new(fstype), Path::as_os_str);
    let readonly = options.attributes.set & attr::RDONLY != 0;
    // Like runc: a tmpfs is filled by later mounts, /dev by the devices; both are sealed at the end.
    let readonly_later = readonly && (fstype == "tmpfs" || destination == Path::new("/dev"));
    let flags = options.mount_flags();
    let words = options.data.iter().map(|word| text("options", word.as_bytes()));
    Ok(Filesystem {
        fstype: text("type", fstype.as_bytes())?,
        source: text("source", source.as_bytes())?,
        flags: if readonly_later { flags & !libc::MS_RDONLY } else { flags },
        data: words.collect::<Result<_>>()?,
        // Kernels refuse a context for the filesystems that label their files themselves.
        label: label.filter(|_| !matches!(fstype, "proc" | "sysfs" | "mqueue")).cloned(),
        label_of_root: label.filter(|_| fstype == "mqueue").map(|label| label.context.clone()),
        copy_up: options.copy_up,
        readonly_later,
        // Devices are made in /dev by its name afterwards, so it must be what it is called.
        ordinary_directory: matches!(fstype, "proc" | "sysfs") || destination == Path::new("/dev"),
        fallback: (fstype == "sysfs" && request.user_namespace && !request.network_namespace)
            .then(host_sysfs),
    })
}

/// A sysfs shows a network namespace, and only its owner may mount one. Without a network namespace of
/// its own a user namespace's container gets the host's, as engines expect.
fn host_sysfs() -> Bind {
    Bind {
        source: PathBuf::from("/sys"),
        otherwise: None,
        clone: Clone::Recursive,
        follow: true,
        copy_symlink: false,
        must_be_procfs: false,
        idmap: None,
        by_child: true,
        tree: None,
    }
}

/// Below `/proc` only what is harmless, on `/proc` only a procfs.
fn check_below_proc(destination: &Path, what: &What) -> Result<()> {
    if !destination.starts_with("/proc") {
        return Ok(());
    }
    let is_procfs = match what {
        What::Filesystem(filesystem) => filesystem.fstype.as_c_str() == c"proc",
        What::Bind(bind) => bind.must_be_procfs,
    };
    let allowed = match destination == Path::new("/proc") {
        true => is_procfs,
        false => ALLOWED_BELOW_PROC.iter().any(|path| Path::new(path) == destination),
    };
    if allowed {
        return Ok(());
    }
    let path = destination.display();
    Err(Error::invalid(match destination == Path::new("/proc") {
        true => format!("destination: only a procfs may be mounted at {path}"),
        false => format!(
            "destination: {path} is inside /proc, and a mount there could hide or fake what security rests on"
        ),
    }))
}

/// Whether the step puts somebody else's `/dev` in place.
fn covers_dev(step: &Step) -> bool {
    matches!(step, Step::Mount(mount)
        if mount.destination == Path::new("/dev") && matches!(mount.what, What::Bind(_)))
}

fn label(request: &Request<'_>, linux: Option<&Linux>) -> Result<Option<Label>> {
    let context = linux.and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    let label = |context: &str| -> Result<Label> {
        Ok(Label {
            option: text("the option of linux.mountLabel", request.label_option.as_bytes())?,
            context: text("linux.mountLabel", context.as_bytes())?,
        })
    };
    context.map(label).transpose()
}

/// Absolute paths, as the container sees them.
fn paths(list: Option<&[String]>, field: &str) -> Result<Vec<PathBuf>> {
    let check = |(index, path): (usize, &String)| match path.starts_with('/') {
        true => Ok(absolute(Path::new(path))),
        false => Err(Error::invalid(format!("{field}[{index}]: {path:?} is not absolute"))),
    };
    list.unwrap_or_default().iter().enumerate().map(check).collect()
}

/// Resolves `path` against `/` and removes `.`, `..` and doubled slashes, by the letters alone: the
/// spec's paths are the caller's, and `..` never climbs above the container's root.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// `bytes` for the kernel; NUL would cut them short.
pub(super) fn text(field: &str, bytes: &[u8]) -> Result<CString> {
    cstring(bytes).map_err(|_| Error::invalid(format!("{field}: it contains a NUL byte")))
}

#[cfg(test)]
mod tests;
