//! The container's root filesystem: what it consists of ([`plan`], pure) and how it is put together
//! ([`Plan::open_sources`] in the parent, [`Plan::begin`], [`Plan::finish`] and [`Root::enter`] in the child).
//!
//! Attacker model: the image's content, and volumes that a running container changes while we build
//! another one, are hostile; the host's own paths and config.json are trusted. So a destination is
//! resolved once below the root's descriptor ([`inroot`]) and from then on only the descriptor is
//! used: a symlink that appears later changes nothing (CVE-2021-30465, CVE-2024-45310).
//!
//! Which calls mount, and why (medians of one call, Linux 6.18):
//! - a filesystem: `fchdir(destination)` and mount(2) on `"."`: two calls by descriptor, no procfs,
//!   every kernel; 8–20 µs, nearly all of it the superblock. fsopen(2) needs four calls and more, so
//!   it serves where its descriptor is needed (a read-only tmpfs that is still to be filled) and to
//!   ask the kernel why a mount was refused.
//! - a bind: open_tree(2), mount_setattr(2), move_mount(2), 1–4 µs each; attributes are set before
//!   the mount is visible anywhere.
//! - never a detached tree that is closed unattached: that costs an RCU grace period (80–500 µs).

mod attach;
mod build;
mod cgroup;
mod console;
mod copyup;
mod devices;
mod enter;
mod external;
mod hostfs;
mod idmap;
mod inroot;
mod legacy;
mod live;
mod mask;
mod on_host;
mod options;
mod plan;
mod source;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

pub use build::Root;
pub use console::open_pty;
pub use devices::named_by_number as device_named_by_number;
pub use external::External;
pub use inroot::{Symlinks, find};
pub use on_host::HostMount;
pub use options::mount_options;
pub use plan::{Plan, plan, rehearse_mounts};

/// What a plan is made from. Paths are the host's.
pub struct Request<'a> {
    /// The container's configuration.
    pub spec: &'a Spec,
    /// The bundle directory, absolute: a bind source that is not absolute is relative to it.
    pub bundle: &'a Path,
    /// `root.path` of the spec, made absolute.
    pub rootfs: &'a Path,
    /// Where the container's cgroups are; what a mount of type `cgroup` shows.
    pub cgroups: CgroupView,
    /// The hierarchy `name=systemd` of cgroup v1, and the destination of the mount in whose place it is shown.
    pub cgroup_v1: Option<(&'a Path, Hierarchy)>,
    /// The container has a user namespace that is not the caller's (new or joined).
    pub user_namespace: bool,
    /// The container has a new cgroup namespace.
    pub cgroup_namespace: bool,
    /// The container has a network namespace that its user namespace owns.
    pub network_namespace: bool,
    /// The container has a mount namespace of its own. Without one nothing but a chroot happens to
    /// `/`, and no propagation is ever changed.
    pub mount_namespace: bool,
    /// Which mount option `linux.mountLabel` becomes: `context`, `fscontext`, `defcontext` or `rootcontext`.
    pub label_option: &'static str,
    /// `--no-pivot`: MS_MOVE and chroot, for a root that pivot_root(2) refuses (initramfs).
    pub no_pivot: bool,
    /// Owner, in init's own user namespace, of what the runtime makes in the rootfs (0:0 unless root
    /// is not mapped).
    pub uid_gid_of_root: (u32, u32),
}

/// The host's cgroup file systems as far as the container may see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupView {
    /// The container has no cgroup of its own (driver `disabled`).
    #[default]
    None,
    /// One cgroup2 hierarchy.
    V2(Place),
    /// Hierarchies of cgroup v1, in the host's order. The cgroup2 hierarchy that a hybrid host has beside them is
    /// not shown, as runc does not: a systemd in the container would take it for its own, while Podman
    /// (`--systemd`) gives it that of v1, `name=systemd`.
    V1(Vec<Hierarchy>),
}

/// Where in a mounted hierarchy the container is. A leading `/` of a path means the mount point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the host mounts it: `/sys/fs/cgroup`, `/sys/fs/cgroup/memory`.
    pub mountpoint: PathBuf,
    /// The container's cgroup below it.
    pub path: PathBuf,
    /// The caller's cgroup below it, where the container stays if none can be made; None when it cannot be
    /// seen from the mount point.
    pub callers: Option<PathBuf>,
}

/// A mounted cgroup v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or its name: `["cpu", "cpuacct"]`, `["name=systemd"]`.
    pub names: Vec<String>,
    /// Where.
    pub at: Place,
}
