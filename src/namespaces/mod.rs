//! The container's namespaces: which are made, which are joined, in what order, and what is set in
//! them (id maps, clock offsets, loopback, host name).
//!
//! The plan is pure; every step that touches the kernel is one function, called by the parent, by
//! its helper process or by init as its documentation says.

mod devices;
mod idmap;
mod join;
#[cfg(test)]
mod kernel_tests;
mod target;
mod time;
mod uts;
mod visit;

pub use devices::{Moved, NetDevice};
pub use idmap::{IdMap, write_id_maps};
pub use join::{Joined, Opened, OriginalPid, may_return};
pub use target::Target;
pub use time::{OriginalTime, unshare_time};
pub use uts::{set_domainname, set_hostname};
pub use visit::{in_new, in_that_of};

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::{Call, Context, Error, Result};
use crate::sys;

/// A type of namespace, namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// user_namespaces(7).
    User,
    /// cgroup_namespaces(7).
    Cgroup,
    /// ipc_namespaces(7).
    Ipc,
    /// uts_namespaces(7).
    Uts,
    /// network_namespaces(7).
    Network,
    /// pid_namespaces(7).
    Pid,
    /// time_namespaces(7).
    Time,
    /// mount_namespaces(7).
    Mount,
}

impl Kind {
    /// All kinds in the order in which they are joined: the user namespace first because it gives the
    /// rights over the others, the mount namespace last because host paths end there.
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Cgroup, Kind::Ipc, Kind::Uts, Kind::Network, Kind::Pid, Kind::Time, Kind::Mount];

    /// The `CLONE_NEW*` flag.
    pub fn flag(self) -> u64 {
        let flag = match self {
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Uts => libc::CLONE_NEWUTS,
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::Time => libc::CLONE_NEWTIME,
            Kind::Mount => libc::CLONE_NEWNS,
        };
        u64::from(flag.cast_unsigned())
    }

    /// The spec's name of the type (config-linux.md, Namespaces).
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Network => "network",
            Kind::Pid => "pid",
            Kind::Time => "time",
            Kind::Mount => "mount",
        }
    }

    /// The name of the link below `/proc/PID/ns`.
    pub fn proc_name(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Mount => "mnt",
            other => other.name(),
        }
    }

    /// The kind of one `CLONE_NEW*` flag.
    fn of_flag(flag: u64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.flag() == flag)
    }
}

impl From<LinuxNamespaceType> for Kind {
    fn from(kind: LinuxNamespaceType) -> Self {
        match kind {
            LinuxNamespaceType::User => Kind::User,
            LinuxNamespaceType::Cgroup => Kind::Cgroup,
            LinuxNamespaceType::Ipc => Kind::Ipc,
            LinuxNamespaceType::Uts => Kind::Uts,
            LinuxNamespaceType::Network => Kind::Network,
            LinuxNamespaceType::Pid => Kind::Pid,
            LinuxNamespaceType::Time => Kind::Time,
            LinuxNamespaceType::Mount => Kind::Mount,
        }
    }
}

/// A namespace that exists and is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// What the path must lead to.
    pub kind: Kind,
    /// Absolute, in the runtime's mount namespace.
    pub path: PathBuf,
}

/// What the container's namespaces will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The `CLONE_NEW*` flags of all namespaces that are made.
    pub new: u64,
    /// The namespaces that are joined, in the order of [`Kind::ALL`].
    pub joins: Vec<Join>,
    /// Empty without a new user namespace.
    pub uid_map: Vec<IdMap>,
    /// Empty without a new user namespace.
    pub gid_map: Vec<IdMap>,
    /// Devices of the host that move into the network namespace.
    pub devices: Vec<NetDevice>,
    /// What is written to `/proc/PID/timens_offsets`: lines of `clock seconds nanoseconds`.
    pub time_offsets: Option<String>,
}

/// Decides which namespaces are made and which joined. Pure.
pub fn plan(linux: &Linux) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut seen = 0;
    for namespace in linux.namespaces().iter().flatten() {
        let kind = Kind::from(namespace.typ());
        if seen & kind.flag() != 0 {
            return Err(Error::invalid(format!("linux.namespaces: {} is listed twice", kind.name())));
        }
        seen |= kind.flag();
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                if !path.is_absolute() {
                    return Err(Error::invalid(format!(
                        "linux.namespaces: the path {path:?} of the {} namespace is not absolute",
                        kind.name()
                    )));
                }
                plan.joins.push(Join { kind, path: path.clone() });
            }
            // Engines write an empty path for "new".
            _ => plan.new |= kind.flag(),
        }
    }
    plan.joins.sort_by_key(|join| join.kind);
    if plan.creates(Kind::User) {
        plan.uid_map = idmap::from_spec("linux.uidMappings", linux.uid_mappings().as_deref())?;
        plan.gid_map = idmap::from_spec("linux.gidMappings", linux.gid_mappings().as_deref())?;
    }
    plan.devices = devices::from_spec(linux);
    if !plan.devices.is_empty() && !plan.has(Kind::Network) {
        return Err(Error::invalid("linux.netDevices: needs a network namespace"));
    }
    plan.time_offsets = time::offsets(linux.time_offsets().as_ref())?;
    if plan.time_offsets.is_some() && !plan.creates(Kind::Time) {
        return Err(Error::invalid("linux.timeOffsets: needs a new time namespace"));
    }
    Ok(plan)
}

impl Plan {
    /// Whether a namespace of the kind is made.
    pub fn creates(&self, kind: Kind) -> bool {
        self.new & kind.flag() != 0
    }

    /// The namespace of the kind that is joined.
    pub fn join(&self, kind: Kind) -> Option<&Join> {
        self.joins.iter().find(|join| join.kind == kind)
    }

    /// Whether the container has a namespace of the kind, made or joined, other than the runtime's.
    pub fn has(&self, kind: Kind) -> bool {
        self.creates(kind) || self.join(kind).is_some()
    }

    /// What `uid` of a new user namespace is outside; None when it is not mapped.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        self.uid_map.iter().find_map(|map| {
            let offset = uid.checked_sub(map.container).filter(|offset| *offset < map.size)?;
            map.host.checked_add(offset)
        })
    }

    /// What clone3(2) makes: all that is new but the cgroup namespace ([`Plan::unshare_cgroup`]) and a
    /// time namespace with offsets ([`unshare_time`]), whose clocks could no longer be set once a
    /// process lives in it. Without offsets clone3 makes it too (Linux 5.6). What is among `joined` although
    /// it is new, the network namespace, exists already.
    pub fn clone_flags(&self, joined: &Opened) -> u64 {
        let mut later = Kind::Cgroup.flag() | joined.flags();
        if self.time_offsets.is_some() {
            later |= Kind::Time.flag();
        }
        self.new & !later
    }

    /// Whether the new network namespace may be one that the runtime has made before the clone. Not with a
    /// user namespace: that shall own it.
    pub fn takes_network(&self) -> bool {
        self.creates(Kind::Network) && !self.has(Kind::User)
    }

    /// Says what stands behind the kernel's refusal to make the new namespaces.
    pub fn explain(&self, error: Error) -> Error {
        let missing = Kind::ALL
            .into_iter()
            .find(|kind| self.creates(*kind) && !Path::new("/proc/self/ns").join(kind.proc_name()).exists());
        if let Some(kind) = missing {
            return error.remedy(format!("this kernel has no {} namespaces", kind.name()));
        }
        let reads =
            |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        match error.errno() {
            Some(Errno::ENOSPC) => error.remedy("a limit in /proc/sys/user/max_*_namespaces is reached"),
            Some(Errno::EPERM) if !self.creates(Kind::User) => {
                error.remedy("it needs CAP_SYS_ADMIN; without it, ask for a user namespace too")
            }
            Some(Errno::EPERM) if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
                error.remedy("users may make user namespaces once /proc/sys/kernel/unprivileged_userns_clone is 1")
            }
            Some(Errno::EPERM | Errno::EACCES)
                if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") =>
            {
                error.remedy("AppArmor restricts user namespaces (/proc/sys/kernel/apparmor_restrict_unprivileged_userns)")
            }
            _ => error,
        }
    }

    /// Whether [`unshare_time`] has to be called with `time_offsets`: by the parent before the clone,
    /// or, with a new user namespace, by init, which has the rights over its clocks only there.
    pub fn sets_clocks(&self) -> bool {
        self.creates(Kind::Time) && self.time_offsets.is_some()
    }

    /// Init makes its cgroup namespace. It must be in its own cgroup by now: the cgroup in which the
    /// call is made becomes the root that the container sees, so clone3 would show it the parent's.
    pub fn unshare_cgroup(&self) -> Result<()> {
        if !self.creates(Kind::Cgroup) {
            return Ok(());
        }
        sys::namespace::unshare(Kind::Cgroup.flag())
            .call(|| "unshare(CLONE_NEWCGROUP)".into())
            .context("make the cgroup namespace")
    }
}

/// Brings `lo` up in the network namespace of the caller, which is a new one.
pub fn bring_up_loopback() -> Result<()> {
    sys::namespace::set_interface_up("lo")
        .call(|| "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)".into())
        .context("bring up the loopback interface")
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxBuilder, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder};

    fn new(kind: LinuxNamespaceType) -> LinuxNamespace {
        LinuxNamespaceBuilder::default().typ(kind).build().unwrap()
    }

    fn joined(kind: LinuxNamespaceType, path: &str) -> LinuxNamespace {
        LinuxNamespaceBuilder::default().typ(kind).path(path).build().unwrap()
    }

    fn linux(namespaces: Vec<LinuxNamespace>) -> Linux {
        LinuxBuilder::default().namespaces(namespaces).build().unwrap()
    }

    #[test]
    fn splits_new_namespaces_between_clone_and_init() {
        use LinuxNamespaceType::{Cgroup, Mount, Pid, Time};
        let plan = plan(&linux(vec![new(Pid), new(Mount), new(Cgroup), new(Time)])).unwrap();
        assert_eq!(
            plan.clone_flags(&Opened::default()),
            Kind::Pid.flag() | Kind::Mount.flag() | Kind::Time.flag()
        );
        assert!(plan.creates(Kind::Cgroup) && plan.has(Kind::Cgroup));
        assert!(!plan.has(Kind::User));
        assert!(!plan.sets_clocks());
    }

    #[test]
    fn keeps_a_time_namespace_with_offsets_out_of_the_clone() {
        let mut linux = linux(vec![new(LinuxNamespaceType::Time)]);
        let offset: oci_spec::runtime::LinuxTimeOffset = serde_json::from_str(r#"{"secs": 7}"#).unwrap();
        linux.set_time_offsets(Some([("boottime".to_string(), offset)].into()));
        let plan = plan(&linux).unwrap();
        assert_eq!(plan.clone_flags(&Opened::default()), 0);
        assert!(plan.sets_clocks());
        assert_eq!(plan.time_offsets.as_deref(), Some("boottime 7 0\n"));
    }

    #[test]
    fn joins_the_user_namespace_first_and_the_mount_namespace_last() {
        use LinuxNamespaceType::{Mount, Network, User};
        let plan =
            plan(&linux(vec![joined(Mount, "/m"), joined(Network, "/n"), joined(User, "/u")])).unwrap();
        let kinds: Vec<_> = plan.joins.iter().map(|join| join.kind).collect();
        assert_eq!(kinds, [Kind::User, Kind::Network, Kind::Mount]);
        assert_eq!(plan.new, 0);
    }

    #[test]
    fn refuses_duplicates_and_relative_paths() {
        use LinuxNamespaceType::Pid;
        let twice = plan(&linux(vec![new(Pid), joined(Pid, "/p")])).unwrap_err();
        assert_eq!(twice.to_string(), "linux.namespaces: pid is listed twice");
        assert!(plan(&linux(vec![joined(Pid, "proc/1/ns/pid")])).is_err());
    }

    #[test]
    fn takes_an_empty_path_for_new() {
        assert_eq!(plan(&linux(vec![joined(LinuxNamespaceType::Ipc, "")])).unwrap().new, Kind::Ipc.flag());
    }

    #[test]
    fn keeps_maps_only_with_a_new_user_namespace() {
        let map = LinuxIdMappingBuilder::default().host_id(1000_u32).size(1_u32).build().unwrap();
        let mut linux = linux(vec![joined(LinuxNamespaceType::User, "/u")]);
        linux.set_uid_mappings(Some(vec![map]));
        assert!(plan(&linux).unwrap().uid_map.is_empty());
    }

    #[test]
    fn explains_refusals() {
        let refused = |plan: Plan, errno| plan.explain(Error::syscall("clone3", errno)).to_string();
        let pid = Plan { new: Kind::Pid.flag(), ..Plan::default() };
        assert!(refused(pid.clone(), Errno::EPERM).contains("needs CAP_SYS_ADMIN"));
        assert!(refused(pid, Errno::ENOSPC).contains("max_*_namespaces"));
    }

    #[test]
    fn knows_every_kind_by_its_flag() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_flag(kind.flag()), Some(kind));
        }
        assert_eq!(Kind::of_flag(1), None);
    }
}
