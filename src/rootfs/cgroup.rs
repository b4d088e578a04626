//! What a mount of type `cgroup` becomes. Pure.
//!
//! With a cgroup namespace the container mounts the filesystem itself and sees its own cgroup as the
//! root. Without one it gets a bind of its own cgroup and nothing above it.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::options::{Change, Options};
use super::plan::{Bind, Filesystem, Mount, Step, What, text};
use super::{CgroupView, Hierarchy, Place, Request};
use crate::error::{Error, Result};
use crate::sys::mount::{Clone, attr};

/// What every cgroup filesystem is mounted with, whatever the options say.
const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// Appends the steps for one mount of type `cgroup`.
pub(super) fn compile(
    request: &Request<'_>,
    destination: &Path,
    options: &Options,
    steps: &mut Vec<Step>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mounts = Mounts { request, options };
    match &request.cgroups {
        CgroupView::None => {
            warnings.push(format!(
                "mount at {}: the container has no cgroup to show, so nothing is mounted",
                destination.display()
            ));
        }
        CgroupView::V2(unified) => steps.push(mounts.v2(destination, unified)?),
        CgroupView::V1(hierarchies) => {
            steps.push(mounts.tmpfs(destination)?);
            for hierarchy in hierarchies {
                mounts.v1(destination, name_of(&hierarchy.at.mountpoint)?, hierarchy, steps)?;
            }
        }
    }
    Ok(())
}

/// Appends the steps that show `hierarchy`, `name=systemd`, alone: at the directory `systemd`, where an old
/// systemd looks for it, wherever the host has it.
pub(super) fn compile_v1(
    request: &Request<'_>,
    destination: &Path,
    options: &Options,
    hierarchy: &Hierarchy,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let mounts = Mounts { request, options };
    steps.push(mounts.tmpfs(destination)?);
    mounts.v1(destination, Path::new("systemd"), hierarchy, steps)
}

struct Mounts<'a> {
    request: &'a Request<'a>,
    options: &'a Options,
}

impl Mounts<'_> {
    fn v2(&self, destination: &Path, unified: &Place) -> Result<Step> {
        let own = own_cgroup(unified);
        let what = match self.request.cgroup_namespace {
            // A user namespace that does not own the cgroup namespace may not mount it: EPERM.
            true => What::Filesystem(Filesystem {
                fallback: Some(own),
                ..self.filesystem(c"cgroup2", &self.options.data)?
            }),
            false => What::Bind(own),
        };
        Ok(self.mount(destination.to_owned(), what))
    }

    /// One hierarchy at the directory `name`, that the host has for it, and links for its other names: the
    /// host's `cpu,cpuacct` is also found as `cpu` and as `cpuacct`.
    fn v1(
        &self,
        destination: &Path,
        name: &Path,
        hierarchy: &Hierarchy,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let what = match self.request.cgroup_namespace {
            true => {
                // A named hierarchy has no controllers, which the kernel wants to hear.
                let mut words = hierarchy.names.clone();
                if words.iter().any(|word| word.starts_with("name=")) {
                    words.insert(0, "none".into());
                }
                What::Filesystem(self.filesystem(c"cgroup", &words)?)
            }
            false => What::Bind(own_cgroup(&hierarchy.at)),
        };
        steps.push(self.mount(destination.join(name), what));
        for other in hierarchy.names.iter().filter(|other| !other.starts_with("name=")) {
            if Path::new(other) != name {
                steps.push(Step::Symlink { path: destination.join(other), target: name.to_owned() });
            }
        }
        Ok(())
    }

    /// The directory of v1's hierarchies; sealed last, because their mount points are made in it.
    fn tmpfs(&self, destination: &Path) -> Result<Step> {
        let readonly_later = self.options.attributes.set & attr::RDONLY != 0;
        let mut filesystem = self.filesystem(c"tmpfs", &["mode=755".into()])?;
        filesystem.flags &= !libc::MS_RDONLY;
        filesystem.readonly_later = readonly_later;
        Ok(self.mount(destination.to_owned(), What::Filesystem(filesystem)))
    }

    fn filesystem(&self, fstype: &std::ffi::CStr, words: &[String]) -> Result<Filesystem> {
        let data: Result<Vec<CString>> =
            words.iter().map(|word| text("cgroup hierarchy", word.as_bytes())).collect();
        Ok(Filesystem {
            fstype: fstype.to_owned(),
            source: c"cgroup".to_owned(),
            flags: self.options.mount_flags() | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            data: data?,
            label: None,
            label_of_root: None,
            copy_up: false,
            readonly_later: false,
            ordinary_directory: false,
            fallback: None,
        })
    }

    fn mount(&self, destination: PathBuf, what: What) -> Step {
        let Change { set, clear } = self.options.attributes;
        Step::Mount(Box::new(Mount {
            destination,
            destination_nofollow: false,
            what,
            attributes: Change { set: set | SAFE, clear: clear & !SAFE },
            recursive: self.options.recursive,
            propagation: self.options.propagation.clone(),
        }))
    }
}

/// The container's own cgroup, which exists only once the container is about to. One for which none could
/// be made (an ordinary user's, without limits) stays in the caller's.
fn own_cgroup(at: &Place) -> Bind {
    // The components alone: an empty path would leave a trailing slash.
    let below =
        |path: &Path| at.mountpoint.join(path.strip_prefix("/").unwrap_or(path)).components().collect();
    Bind {
        source: below(&at.path),
        otherwise: at.callers.as_deref().map(below),
        clone: Clone::One,
        follow: true,
        copy_symlink: false,
        must_be_procfs: false,
        idmap: None,
        by_child: true,
        tree: None,
    }
}

fn name_of(mountpoint: &Path) -> Result<&Path> {
    let name = mountpoint.file_name().map(Path::new);
    name.ok_or_else(|| Error::unsupported(format!("cgroup hierarchy mounted at {}", mountpoint.display())))
}
