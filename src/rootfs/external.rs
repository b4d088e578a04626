//! The mounts of a container that show the host's files: an image that CRIU writes has only their names,
//! and a restore mounts what config.json says for each name.
//!
//! The name is the mount's destination in config.json, never what the image or the container's own files
//! make of it. CRIU knows mounts by their paths, and mounts by path, so two things may not be asked of files
//! that others can change (CVE-2026-119101, CVE-2026-115520):
//!
//! - Where a destination has led to, through a symlink of the rootfs, when the container is dumped. The kernel
//!   is asked: the mount is the one that shows that file or directory of that file system.
//! - Where CRIU will get when it restores. No symlink may be on the way to a mount point of the image.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::attach::seal;
use super::build::{Root, cut_off};
use super::devices::host_path;
use super::inroot::{self, Missing, Symlinks};
use super::plan::{Mount, Plan, Step, What};
use super::source;
use crate::error::{Call, Context, Error, Result};
use crate::sys::mount::{self, Clone};
use crate::sys::mountinfo::{self, Mount as Entry};

/// How a directory is opened that is only gone through.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A mount that no image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Where config.json wants it in the container; its name.
    pub destination: PathBuf,
    /// Where it is, when a symlink has led it elsewhere.
    pub point: PathBuf,
    /// What it shows of the host.
    pub source: PathBuf,
}

/// What the plan may have put there.
struct Candidate {
    external: External,
    /// The mounts below the source came along.
    recursive: bool,
    /// It is there for sure: config.json asks for it.
    certain: bool,
}

impl Plan {
    /// The external mounts of a container that lives: `container` is the mountinfo of its first process,
    /// `host` the caller's own.
    ///
    /// # Errors
    /// A mount of config.json is not in the container, or cannot be restored.
    pub fn external_mounts(&self, container: &[u8], host: &[u8]) -> Result<Vec<External>> {
        let container: Vec<Entry> = mountinfo::mounts(container).collect();
        let host: Vec<Entry> = mountinfo::mounts(host).collect();
        let candidates = self.candidates();
        let mut externals: Vec<External> = Vec::new();
        for candidate in &candidates {
            let External { destination, source, .. } = &candidate.external;
            // A masked directory is covered by a tmpfs, which an image holds.
            let there = |entry: &Entry| {
                entry.point == *destination && (candidate.certain || entry.fstype != b"tmpfs")
            };
            let taken = |point: &Path| {
                candidates.iter().any(|other| other.external.destination == point)
                    || externals.iter().any(|other| other.point == point)
            };
            let point = match container.iter().any(there) {
                true => Some(destination.clone()),
                false => led_elsewhere(source, &container, &host, taken),
            };
            let Some(point) = point else {
                if !candidate.certain {
                    continue;
                }
                return Err(Error::unsupported(format!(
                    "the mount at {} is not in the container any more, or shows something else than {}",
                    destination.display(),
                    source.display()
                ))
                .remedy("CRIU cannot restore what config.json does not tell"));
            };
            if candidate.recursive {
                let below = below(&host, source, destination, &point);
                externals.extend(below.filter_map(|(device, external)| {
                    let same = |entry: &Entry| entry.point == external.point && entry.device == device;
                    container.iter().any(same).then_some(external)
                }));
            }
            externals.push(External { point, ..candidate.external.clone() });
        }
        self.refuse_idmapped()?;
        Ok(unique(externals))
    }

    /// All names that an image of this container may have, with what is to be mounted for each. `host` is
    /// the caller's mountinfo.
    pub fn sources_of_external_mounts(&self, host: &[u8]) -> Vec<External> {
        let host: Vec<Entry> = mountinfo::mounts(host).collect();
        let mut externals = Vec::new();
        for candidate in self.candidates() {
            let External { destination, source, point } = &candidate.external;
            if candidate.recursive {
                let below = below(&host, source, destination, point);
                externals.extend(below.map(|(_, external)| external));
            }
            externals.push(candidate.external);
        }
        unique(externals)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for mount in self.mounts() {
            let (bind, certain) = match &mount.what {
                // With copy-symlink what became of it may be a symlink.
                What::Bind(bind) => (bind, !bind.copy_symlink),
                // The kernel may have refused a new sysfs there, and the bind is what was mounted.
                What::Filesystem(filesystem) => match &filesystem.fallback {
                    Some(bind) if filesystem.fstype.as_c_str() == c"sysfs" => (bind, false),
                    _ => continue,
                },
            };
            // The host's own path, as the mountinfo has it.
            #[allow(clippy::disallowed_methods)]
            let source = bind.source.canonicalize().unwrap_or_else(|_| bind.source.clone());
            let external = External::at(&mount.destination, source);
            let recursive = bind.clone == Clone::Recursive;
            candidates.push(Candidate { external, recursive, certain });
        }
        let file = |destination: &Path, source: &Path| Candidate {
            external: External::at(destination, source.to_owned()),
            recursive: false,
            certain: false,
        };
        candidates.extend(self.masked.iter().map(|path| file(path, Path::new("/dev/null"))));
        // Where mknod(2) was refused.
        candidates.extend(self.devices.iter().flatten().map(|node| file(&node.path, &host_path(node))));
        candidates
    }

    fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.steps.iter().filter_map(|step| match step {
            Step::Mount(mount) => Some(&**mount),
            Step::Symlink { .. } => None,
        })
    }

    /// CRIU would mount the source without the mapping: other owners than the container had.
    fn refuse_idmapped(&self) -> Result<()> {
        let mapped = |mount: &&Mount| matches!(&mount.what, What::Bind(bind) if bind.idmap.is_some());
        match self.mounts().find(mapped) {
            Some(mount) => Err(Error::unsupported(format!(
                "the mount at {} has id mappings, which CRIU cannot restore",
                mount.destination.display()
            ))),
            None => Ok(()),
        }
    }

    /// Binds the rootfs with all that is mounted in it at `root`, a directory of the caller's mount namespace
    /// that is thrown away afterwards: CRIU wants a mount of its own. It takes that as it is, so what
    /// `root.readonly` asks for is done here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_for_criu(&self, root: &Path) -> Result<()> {
        cut_off(libc::MS_SLAVE)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        nix::mount::mount(Some(&self.rootfs), root, None::<&Path>, flags, None::<&Path>)
            .call(|| format!("mount({}, {}, BIND|REC)", self.rootfs.display(), root.display()))?;
        if !self.readonly_root {
            return Ok(());
        }
        let root = open(root, DIRECTORY, Mode::empty()).call(|| format!("open({})", root.display()))?;
        seal(root.as_fd()).call(|| "mount_setattr(rootfs, MOUNT_ATTR_RDONLY)".into())
    }

    /// Makes the mount points that the rootfs lacks, as the birth of a container does: CRIU makes none, and
    /// one volume may have to hold the mount point of the next.
    ///
    /// The mounts that this takes stay in the caller's mount namespace, which has to be one that is
    /// thrown away afterwards.
    ///
    /// `restored` are the places of the image where CRIU will mount something on the rootfs or a volume.
    ///
    /// # Errors
    /// A symlink is on the way to one of them; a mount point cannot be made.
    pub fn make_mount_points(&self, restored: &[PathBuf]) -> Result<()> {
        self.refuse_idmapped()?;
        cut_off(libc::MS_SLAVE)?;
        let root = open(&self.rootfs, DIRECTORY, Mode::empty()).call(|| "open(rootfs)".into());
        let made = root.and_then(|root| {
            // Nothing is made either where a symlink of the rootfs leads.
            refuse_symlinks(&root, restored)?;
            let root = Root::new(root);
            let made = self.make_all_mount_points(&root);
            root.restore_umask();
            // With those of the volumes, which are mounted now.
            made.and_then(|()| refuse_symlinks(root.fd(), restored))
        });
        made.with_context(|| format!("rootfs {}", self.rootfs.display()))
    }

    fn make_all_mount_points(&self, root: &Root) -> Result<()> {
        for mount in self.mounts() {
            // What is in a file system of the container's own comes with its image.
            let inside_another = |other: &Mount| {
                matches!(other.what, What::Filesystem(_))
                    && mount.destination != other.destination
                    && mount.destination.starts_with(&other.destination)
            };
            if !self.mounts().any(inside_another) {
                root.make_mount_point(mount)
                    .with_context(|| format!("mount point {}", mount.destination.display()))?;
            }
        }
        Ok(())
    }
}

impl Root {
    fn make_mount_point(&self, mount: &Mount) -> Result<()> {
        let source = match &mount.what {
            What::Bind(bind) if bind.copy_symlink => return Ok(()),
            What::Bind(bind) => Some(source::open_path(bind)?),
            What::Filesystem(_) => None,
        };
        let missing = || -> Result<Missing> {
            let Some(source) = &source else { return Ok(Missing::Directory) };
            let mode = fstat(source).call(|| "fstat(source)".into())?.st_mode;
            Ok(match SFlag::from_bits_truncate(mode & libc::S_IFMT) {
                SFlag::S_IFDIR => Missing::Directory,
                _ => Missing::File,
            })
        };
        let target = inroot::find_or_make(self.fd(), &mount.destination, Symlinks::Follow, missing)?;
        if let Some(source) = source {
            let tree = mount::open_tree(source.as_fd(), c"", Clone::Recursive, true)
                .call(|| "open_tree(source, CLONE|RECURSIVE)".into())?;
            mount::move_mount(tree.as_fd(), target.fd.as_fd()).call(|| "move_mount".into())?;
        }
        Ok(())
    }
}

impl External {
    fn at(destination: &Path, source: PathBuf) -> Self {
        Self { destination: destination.to_owned(), point: destination.to_owned(), source }
    }
}

/// CRIU follows a symlink that it finds on its way, out of the rootfs too. What is not there yet can be none.
fn refuse_symlinks(root: impl AsFd, points: &[PathBuf]) -> Result<()> {
    points.iter().try_for_each(|point| {
        let found = inroot::find(root.as_fd(), point, Symlinks::Refuse);
        found.map(drop).with_context(|| format!("mount point {} of the image", point.display()))
    })
}

/// Where the container has the mount that shows `source`, if its destination led through a symlink: which
/// directory of which file system a mount shows is the kernel's word, and the container's files have no part
/// in it. `taken` is what stands for another mount; of two that show the same, either will do.
fn led_elsewhere(
    source: &Path,
    container: &[Entry],
    host: &[Entry],
    taken: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    // What was mounted last covers what was there before.
    let mount = host.iter().rev().find(|entry| source.starts_with(&entry.point))?;
    let rest = source.strip_prefix(&mount.point).ok()?;
    let root = if rest.as_os_str().is_empty() { mount.root.to_path_buf() } else { mount.root.join(rest) };
    let shows = |entry: &&Entry| entry.device == mount.device && entry.root == root && !taken(&entry.point);
    container.iter().find(shows).map(|entry| entry.point.to_path_buf())
}

/// The mounts of the host below `source`, as they are below `destination`, which is at `point`; each with its
/// device.
fn below<'a>(
    host: &'a [Entry],
    source: &'a Path,
    destination: &'a Path,
    point: &'a Path,
) -> impl Iterator<Item = (&'a [u8], External)> {
    host.iter().filter_map(move |entry| {
        let rest = entry.point.strip_prefix(source).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        let external = External {
            destination: destination.join(rest),
            point: point.join(rest),
            source: entry.point.to_path_buf(),
        };
        Some((entry.device, external))
    })
}

/// The last of each destination: what config.json mounts later covers what it mounted before.
fn unique(externals: Vec<External>) -> Vec<External> {
    let mut kept: Vec<External> = Vec::with_capacity(externals.len());
    for external in externals.into_iter().rev() {
        if kept.iter().all(|other| other.destination != external.destination) {
            kept.push(external);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests;
