//! `/dev`: the devices and links that every container has, and those of `linux.devices`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};

use super::build::Root;
use super::inroot::{self, Missing, Symlinks};
use super::legacy;
use super::plan::absolute;
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Clone};

/// A device node to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Absolute path in the container; where mknod(2) is refused, the host's node of the same path is bound, or
    /// the one that the kernel names.
    pub path: PathBuf,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: SFlag,
    /// 0 for a fifo.
    pub device: libc::dev_t,
    /// Permission bits.
    pub mode: u32,
    pub owner: (u32, u32),
}

/// The devices that the spec promises in every container, with major and minor.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that the spec promises, with their targets.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The default devices, then `linux.devices`, which may replace them. Pure.
pub(super) fn nodes(linux: Option<&Linux>, owner: (u32, u32)) -> Result<Vec<Node>> {
    let default = |(path, major, minor): (&str, u64, u64)| Node {
        path: path.into(),
        kind: SFlag::S_IFCHR,
        device: makedev(major, minor),
        mode: 0o666,
        owner,
    };
    let mut nodes: Vec<Node> = DEFAULT.into_iter().map(default).collect();
    for (index, device) in
        linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default().iter().enumerate()
    {
        let node = node(device, owner).with_context(|| format!("linux.devices[{index}]"))?;
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn node(device: &LinuxDevice, owner: (u32, u32)) -> Result<Node> {
    if device.path().as_os_str().is_empty() {
        return Err(Error::invalid("path: empty"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Error::invalid("type: \"a\" is no kind of node, only of cgroup rules"));
        }
    };
    let number = |field: &str, value: i64| {
        let number = u32::try_from(value).map(u64::from);
        number.map_err(|_| Error::invalid(format!("{field}: {value} is no device number")))
    };
    Ok(Node {
        path: absolute(device.path()),
        kind,
        device: match kind {
            SFlag::S_IFIFO => 0,
            _ => makedev(number("major", device.major())?, number("minor", device.minor())?),
        },
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(owner.0), device.gid().unwrap_or(owner.1)),
    })
}

impl Root {
    /// Makes the nodes and the links in `/dev`. The image's `/dev` may be a symlink; it is resolved
    /// inside the root (CVE-2026-41579, CVE-2026-47766).
    pub(super) fn fill_dev(&self, nodes: &[Node], user_namespace: bool) -> Result<()> {
        // A symlink of the image could lead into a volume of the host (CVE-2026-41579, CVE-2026-47766).
        let dev =
            inroot::find_or_make(self.fd(), Path::new("/dev"), Symlinks::Refuse, || Ok(Missing::Directory))
                .context("/dev")?
                .fd;
        for node in nodes {
            self.make_node(&dev, node, user_namespace)
                .with_context(|| format!("device {}", node.path.display()))?;
        }
        for (name, target) in LINKS {
            link(&dev, name, target)?;
        }
        // As runc and Docker have it, only where the host has a kcore.
        if std::fs::exists("/proc/kcore").call(|| "stat(\"/proc/kcore\")".into())? {
            link(&dev, "core", "/proc/kcore")?;
        }
        link_ptmx(&dev)
    }

    fn make_node(&self, dev: &OwnedFd, node: &Node, user_namespace: bool) -> Result<()> {
        // A fifo needs no right; nodes of a user namespace's mknod(2) are refused by every kernel.
        if user_namespace && node.kind != SFlag::S_IFIFO {
            return self.bind_node(node);
        }
        let elsewhere;
        // Nearly all are right in /dev, which is open already.
        let (parent, name) = match (node.path.parent(), node.path.file_name()) {
            (Some(parent), Some(name)) if parent == Path::new("/dev") => (dev, Path::new(name)),
            _ => {
                let (parent, name) = inroot::parent_of(self.fd(), &node.path)?;
                elsewhere = parent;
                (&elsewhere, name)
            }
        };
        match mknodat(parent, name, node.kind, Mode::from_bits_truncate(node.mode), node.device) {
            Ok(()) if node.owner == (0, 0) => Ok(()),
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
                fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .call(|| format!("fchownat({uid}, {gid})"))
            }
            Err(Errno::EEXIST) => check_node(parent, name, node),
            Err(Errno::EPERM) => self.bind_node(node),
            Err(errno) => Err(Error::syscall("mknodat", errno)),
        }
    }

    /// The host's node over an empty file.
    fn bind_node(&self, node: &Node) -> Result<()> {
        let host = match open_host_node(&node.path, node) {
            // `docker run --device /dev/loop0:/dev/disk`: the path is the container's alone.
            Err(error) => match named_by_kernel(node) {
                Some(path) => open_host_node(&path, node)?,
                None => return Err(error),
            },
            host => host?,
        };
        let target = inroot::find_or_make(self.fd(), &node.path, Symlinks::NotLast, || Ok(Missing::File))?;
        if !target.made {
            let stat = fstat(&target.fd).call(|| "fstat".into())?;
            if is_node(&stat, node) {
                return Ok(());
            }
            if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
                return Err(mismatch(node));
            }
        }
        bind_file(&host, &target.fd)
    }
}

/// Where the host has the node, as far as that can be found out.
pub(super) fn host_path(node: &Node) -> PathBuf {
    match open_host_node(&node.path, node) {
        Ok(_) => node.path.clone(),
        Err(_) => named_by_kernel(node).unwrap_or_else(|| node.path.clone()),
    }
}

fn open_host_node(path: &Path, node: &Node) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let host = open(path, flags, Mode::empty()).call(|| format!("open(the host's {})", path.display()))?;
    let stat = fstat(&host).call(|| "fstat(the host's node)".into())?;
    if is_node(&stat, node) {
        return Ok(host);
    }
    Err(Error::unsupported("mknod is refused, and the host's node is another device"))
}

/// The path at which devtmpfs has a device (Documentation/ABI/stable/sysfs-dev; DEVNAME since Linux 2.6.31).
fn named_by_kernel(node: &Node) -> Option<PathBuf> {
    named_by_number(node.kind, libc::major(node.device).into(), libc::minor(node.device).into())
}

/// The same for a character or block device by its numbers.
pub fn named_by_number(kind: SFlag, major: i64, minor: i64) -> Option<PathBuf> {
    let kind = match kind {
        SFlag::S_IFCHR => "char",
        SFlag::S_IFBLK => "block",
        _ => return None,
    };
    let event = std::fs::read_to_string(format!("/sys/dev/{kind}/{major}:{minor}/uevent")).ok()?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// Binds one file over another.
pub(super) fn bind_file(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    match mount::open_tree(source.as_fd(), c"", Clone::One, true) {
        Ok(tree) => mount::move_mount(tree.as_fd(), target.as_fd()).call(|| "move_mount".into()),
        Err(Errno::ENOSYS) => {
            legacy::bind(source.as_fd(), target.as_fd(), false).call(|| "mount(MS_BIND)".into())
        }
        Err(errno) => Err(Error::syscall("open_tree(CLONE)", errno)),
    }
}

/// The spec: a node that is there already and does not match is an error. runc and crun pass over it.
fn check_node(parent: &OwnedFd, name: &Path, node: &Node) -> Result<()> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).call(|| "fstatat".into())?;
    if is_node(&stat, node) { Ok(()) } else { Err(mismatch(node)) }
}

fn mismatch(node: &Node) -> Error {
    let (major, minor) = (libc::major(node.device), libc::minor(node.device));
    let asked = match node.kind {
        SFlag::S_IFBLK => format!("block device {major}:{minor}"),
        SFlag::S_IFIFO => "fifo".to_owned(),
        _ => format!("character device {major}:{minor}"),
    };
    Error::invalid(format!("what is there is not the {asked} that is asked for"))
}

fn is_node(stat: &FileStat, node: &Node) -> bool {
    let same_kind = stat.st_mode & libc::S_IFMT == node.kind.bits();
    same_kind && (node.kind == SFlag::S_IFIFO || stat.st_rdev == node.device)
}

/// An existing entry stays: images bring their own.
fn link(dev: &OwnedFd, name: &str, target: &str) -> Result<()> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Error::syscall(format!("symlinkat({target:?}, /dev/{name})"), errno)),
    }
}

/// `/dev/ptmx` of the image would be the host's multiplexer: it is replaced by the container's own.
fn link_ptmx(dev: &OwnedFd) -> Result<()> {
    if let Err(Errno::EEXIST) = symlinkat("pts/ptmx", dev, "ptmx") {
        unlinkat(dev, "ptmx", UnlinkatFlags::NoRemoveDir).call(|| "unlinkat(/dev/ptmx)".into())?;
        return symlinkat("pts/ptmx", dev, "ptmx").call(|| "symlinkat(\"pts/ptmx\", /dev/ptmx)".into());
    }
    Ok(())
}
