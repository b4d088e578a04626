//! What is known of the host, gathered once. Everything is read; nothing is tried.
//!
//! Of what is large or has no end (files, devices, sysctls) only that is asked for which the document names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use nix::unistd::{AccessFlags, Uid, User, access};
use oci_spec::runtime::{LinuxDeviceType, Spec};

use super::program::{self, Program};
use super::rehearsal::Plans;
use crate::cgroups::Version;
use crate::error::{Call, Context, Result};
use crate::namespaces::Kind;
use crate::rootfs;
use crate::spec::hooks_by_kind;
use crate::sys::{credentials, spawn};

/// A range of ids: the first, and how many.
pub(in crate::container) type Range = (u32, u32);

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::container) enum Found {
    /// A directory.
    Directory,
    /// A regular file, and whether anybody may execute it.
    File { executable: bool },
    /// A Unix socket.
    Socket,
    /// A device, a fifo.
    Other,
    /// The caller may not look.
    Denied,
}

/// The host and the caller's rights on it.
#[derive(Clone, Debug, Default)]
pub(in crate::container) struct Host {
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
    /// Effective ids of the caller.
    pub uid: u32,
    pub gid: u32,
    /// The caller's effective capabilities, by bit.
    pub capabilities: u64,
    /// Names in `/proc/self/ns`.
    pub namespaces: BTreeSet<String>,
    /// Why the caller may make no user namespace.
    pub user_namespaces: Option<&'static str>,
    /// Ids of the caller's user namespace that mean somebody outside of it.
    pub uids: Vec<Range>,
    pub gids: Vec<Range>,
    /// What `/etc/subuid` and `/etc/subgid` grant to the caller.
    pub subuids: Vec<Range>,
    pub subgids: Vec<Range>,
    /// Which of newuidmap and newgidmap are installed.
    pub map_programs: BTreeSet<&'static str>,
    /// File systems that the kernel has or can load, as far as the document names them.
    pub filesystems: BTreeSet<String>,
    /// Which cgroup version the controllers are on; None without cgroups.
    pub version: Option<Version>,
    /// Controllers of cgroup v2.
    pub controllers: BTreeSet<String>,
    /// Controllers in whose hierarchy the caller may not make the container's cgroup; on v2 there is one, "".
    pub readonly_hierarchies: BTreeSet<String>,
    /// Whether each cgroup of v1 has a budget for real time, and a new one none (CONFIG_RT_GROUP_SCHED).
    pub realtime_budgets: bool,
    /// CPUs that are online, NUMA nodes with memory: ranges, both ends included. Empty: not known.
    pub cpus: Vec<Range>,
    pub nodes: Vec<Range>,
    /// Those that there could be; a cpuset can name no others.
    pub possible_cpus: Vec<Range>,
    pub possible_nodes: Vec<Range>,
    /// Sizes of huge pages as file names have them: `2MB`.
    pub page_sizes: BTreeSet<String>,
    /// Block devices of the document that are there: `8:0`.
    pub block_devices: BTreeSet<String>,
    /// Network interfaces and RDMA devices.
    pub interfaces: BTreeSet<String>,
    pub rdma: BTreeSet<String>,
    /// The caller's hard limits, by the kernel's number.
    pub hard_limits: BTreeMap<u32, u64>,
    /// `/proc/sys/fs/nr_open`.
    pub nr_open: u64,
    /// The caller's OOM score.
    pub oom_score_adj: i32,
    /// Sysctls of the document that are there, as paths below `/proc/sys`.
    pub sysctls: BTreeSet<String>,
    /// AppArmor profiles that are loaded; None if that cannot be read.
    pub profiles: Option<BTreeSet<String>>,
    /// Files of the host that the document names; what is missing is not in it.
    pub files: BTreeMap<PathBuf, Found>,
    /// The container's program.
    pub program: Program,
}

impl Host {
    /// Looks at what `spec` depends on.
    ///
    /// # Errors
    /// The kernel's on the caller's own rights.
    pub fn look(spec: &Spec, bundle: &Path, plans: &Plans) -> Result<Self> {
        let own = credentials::capget().call(|| "capget(self)".into()).context("read the caller's rights")?;
        let uid = nix::unistd::geteuid();
        let version = plans.cgroup.as_ref().map(|plan| plan.record().version());
        let root = spec.root().as_ref().filter(|root| !root.path().as_os_str().is_empty());
        let root = root.map(|root| bundle.join(root.path()));
        let limits = plans.security.rlimits.iter();
        Ok(Self {
            kernel: kernel()?,
            uid: uid.as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            capabilities: own.effective,
            namespaces: names("/proc/self/ns"),
            user_namespaces: why_no_user_namespace(uid),
            uids: mapped("/proc/self/uid_map"),
            gids: mapped("/proc/self/gid_map"),
            subuids: granted("/etc/subuid", uid),
            subgids: granted("/etc/subgid", uid),
            map_programs: ["newuidmap", "newgidmap"]
                .into_iter()
                .filter(|name| spawn::find_in_path(name).is_some())
                .collect(),
            filesystems: filesystems(spec),
            version,
            controllers: controllers(plans),
            readonly_hierarchies: readonly_hierarchies(plans),
            realtime_budgets: realtime_budgets(plans),
            cpus: ranges(&text("/sys/devices/system/cpu/online")),
            nodes: ranges(&text("/sys/devices/system/node/has_memory")),
            possible_cpus: ranges(&text("/sys/devices/system/cpu/possible")),
            possible_nodes: ranges(&text("/sys/devices/system/node/possible")),
            page_sizes: names("/sys/kernel/mm/hugepages").iter().filter_map(|name| page_size(name)).collect(),
            block_devices: block_devices(spec),
            interfaces: names("/sys/class/net"),
            rdma: names("/sys/class/infiniband"),
            hard_limits: limits
                .filter_map(|limit| Some((limit.resource, credentials::rlimit(limit.resource).ok()?.1)))
                .collect(),
            nr_open: text("/proc/sys/fs/nr_open").trim().parse().unwrap_or(u64::MAX),
            oom_score_adj: text("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
            sysctls: sysctls(plans),
            profiles: plans.security.apparmor_profile.as_ref().and_then(|_| profiles()),
            files: paths(spec, bundle).into_iter().filter_map(look_at).chain(other_names(spec)).collect(),
            program: root.map_or(Program::Unknown, |root| program::look(spec, &root)),
        })
    }

    /// Whether the caller has the capability with this number (capabilities(7)).
    pub fn can(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

/// A small file of the kernel, empty where there is none: what it would say is then not known.
fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The names in a directory, none where it is not there.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn kernel() -> Result<(u32, u32)> {
    let uname = nix::sys::utsname::uname().call(|| "uname()".into())?;
    Ok(release(&uname.release().to_string_lossy()))
}

/// `6.12.9-amd64` is 6.12.
fn release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The sysctls that forbid user namespaces to everybody, and to ordinary users.
fn why_no_user_namespace(uid: Uid) -> Option<&'static str> {
    let reads = |path: &str, value: &str| text(path).trim() == value;
    let of_users = !uid.is_root();
    if reads("/proc/sys/user/max_user_namespaces", "0") {
        Some("/proc/sys/user/max_user_namespaces is 0")
    } else if of_users && reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        Some("/proc/sys/kernel/unprivileged_userns_clone is 0")
    } else if of_users && reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        Some("/proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1")
    } else {
        None
    }
}

/// The first column and the last of uid_map and gid_map (user_namespaces(7)).
fn mapped(path: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
        let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((inside, count))
    };
    text(path).lines().filter_map(range).collect()
}

fn granted(path: &str, uid: Uid) -> Vec<Range> {
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    grants(&text(path), uid.as_raw(), &name)
}

/// `name:first:count` or `uid:first:count` (subuid(5)).
fn grants(table: &str, uid: u32, name: &str) -> Vec<Range> {
    let of_caller = |line: &str| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (who == name && !name.is_empty() || who == uid.to_string()).then_some(range)
    };
    table.lines().filter_map(of_caller).collect()
}

/// Those of the document's types that the kernel has, or could load as a module (modules.alias(5)).
fn filesystems(spec: &Spec) -> BTreeSet<String> {
    let known = text("/proc/filesystems");
    let known: BTreeSet<&str> = known.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    let types = spec.mounts().iter().flatten().filter_map(|mount| mount.typ().as_deref());
    // `fuse.sshfs` is a fuse.
    let types: BTreeSet<&str> = types.map(|typ| typ.split('.').next().unwrap_or(typ)).collect();
    let (known, unknown): (BTreeSet<&str>, BTreeSet<&str>) =
        types.iter().partition(|typ| known.contains(**typ));
    let mut all: BTreeSet<String> = known.into_iter().map(str::to_owned).collect();
    if !unknown.is_empty() {
        let release = text("/proc/sys/kernel/osrelease");
        let aliases = text(&format!("/lib/modules/{}/modules.alias", release.trim()));
        let is_loadable = |typ: &&str| {
            let alias = format!("fs-{typ}");
            aliases.lines().any(|line| line.split(' ').nth(1) == Some(alias.as_str()))
        };
        all.extend(unknown.into_iter().filter(is_loadable).map(str::to_owned));
    }
    all
}

/// What the root of cgroup2 has to give.
fn controllers(plans: &Plans) -> BTreeSet<String> {
    let record = plans.cgroup.as_ref().map(crate::cgroups::Plan::record);
    let unified = record.iter().flat_map(|record| record.directories()).find(|at| at.names.is_empty());
    let file = unified.map(|directory| directory.mountpoint.join("cgroup.controllers"));
    let words = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    words.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Where the nearest directory that is there, at or above the container's, cannot be written to.
fn readonly_hierarchies(plans: &Plans) -> BTreeSet<String> {
    let record = plans.cgroup.as_ref().map(crate::cgroups::Plan::record);
    let mut readonly = BTreeSet::new();
    for directory in record.iter().flat_map(|record| record.directories()) {
        let path = directory.host_path();
        let nearest = path.ancestors().find(|path| path.exists()).unwrap_or(&directory.mountpoint);
        if access(nearest, AccessFlags::W_OK).is_err() {
            let names = directory.names.iter().cloned();
            readonly.extend(names.chain(directory.names.is_empty().then(String::new)));
        }
    }
    readonly
}

fn realtime_budgets(plans: &Plans) -> bool {
    let record = plans.cgroup.as_ref().map(crate::cgroups::Plan::record);
    let mut all = record.iter().flat_map(|record| record.directories());
    let cpu = all.find(|directory| directory.names.iter().any(|name| name == "cpu"));
    cpu.is_some_and(|cpu| cpu.mountpoint.join("cpu.rt_runtime_us").exists())
}

/// `0-3,7` as (0, 3), (7, 7); strides (`0-7:2/4`) count as their whole range.
pub(super) fn ranges(list: &str) -> Vec<Range> {
    let range = |part: &str| {
        let part = part.split(':').next().unwrap_or(part).trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    list.trim().split(',').filter_map(range).collect()
}

/// `hugepages-2048kB` is `2MB`, as in the names of the controller's files.
fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
        kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
        kb => format!("{kb}KB"),
    })
}

/// `major:minor` of each device that linux.resources.blockIO names.
pub(super) fn block_io_devices(spec: &Spec) -> Vec<(String, String)> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(io) = resources.and_then(|resources| resources.block_io().as_ref()) else { return Vec::new() };
    let mut devices = Vec::new();
    let mut add = |list: &str, index: usize, major: i64, minor: i64| {
        devices.push((format!("linux.resources.blockIO.{list}[{index}]"), format!("{major}:{minor}")));
    };
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        add("weightDevice", index, device.major(), device.minor());
    }
    for (list, throttled) in [
        ("throttleReadBpsDevice", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device()),
    ] {
        for (index, device) in throttled.iter().flatten().enumerate() {
            add(list, index, device.major(), device.minor());
        }
    }
    devices
}

fn block_devices(spec: &Spec) -> BTreeSet<String> {
    let named = block_io_devices(spec).into_iter().map(|(_, number)| number);
    named.filter(|number| Path::new("/sys/dev/block").join(number).exists()).collect()
}

fn sysctls(plans: &Plans) -> BTreeSet<String> {
    let named = plans.security.sysctls.iter().map(|sysctl| sysctl.path.clone());
    named.filter(|path| Path::new("/proc/sys").join(path).exists()).collect()
}

fn profiles() -> Option<BTreeSet<String>> {
    let table = fs::read_to_string("/sys/kernel/security/apparmor/profiles").ok()?;
    // `docker-default (enforce)`
    Some(table.lines().filter_map(|line| Some(line.rsplit_once(" (")?.0.to_owned())).collect())
}

/// Every path of the host that the document names.
fn paths(spec: &Spec, bundle: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    all.extend(spec.root().iter().map(|root| bundle.join(root.path())));
    all.extend(
        spec.mounts().iter().flatten().filter_map(|mount| Some(bundle.join(mount.source().as_ref()?))),
    );
    let hooks = spec.hooks().iter().flat_map(hooks_by_kind);
    all.extend(hooks.flat_map(|(_, hooks)| hooks).flatten().map(|hook| hook.path().clone()));
    if let Some(linux) = spec.linux() {
        all.extend(linux.seccomp().iter().filter_map(|seccomp| seccomp.listener_path().clone()));
        all.extend(linux.devices().iter().flatten().map(|device| device.path().clone()));
    }
    all
}

/// The devices whose nodes have other paths on the host than in the container; `create` finds them too.
fn other_names(spec: &Spec) -> impl Iterator<Item = (PathBuf, Found)> {
    let devices = spec.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten();
    devices.filter_map(|device| {
        let kind = match device.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::P | LinuxDeviceType::A => return None,
        };
        let host = rootfs::device_named_by_number(kind, device.major(), device.minor())?;
        look_at(host).map(|(_, found)| (device.path().clone(), found))
    })
}

fn look_at(path: PathBuf) -> Option<(PathBuf, Found)> {
    let found = match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(metadata) if metadata.is_file() => {
            Found::File { executable: metadata.permissions().mode() & 0o111 != 0 }
        }
        Ok(metadata) if metadata.file_type().is_socket() => Found::Socket,
        Ok(_) => Found::Other,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Found::Denied,
        Err(_) => return None,
    };
    Some((path, found))
}

/// Whether the kernel has namespaces of the kind.
impl Host {
    pub fn has_namespaces(&self, kind: Kind) -> bool {
        self.namespaces.contains(kind.proc_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels() {
        for (text, version) in
            [("6.12.9-amd64", (6, 12)), ("5.4", (5, 4)), ("4.19-rc1", (4, 19)), ("x", (0, 0))]
        {
            assert_eq!(release(text), version, "{text}");
        }
    }

    #[test]
    fn grants_are_by_name_or_number() {
        let table = "anna:100000:65536\n1000:300000:10\n# comment\nbert:1:2\nanna:x:5\n";
        assert_eq!(grants(table, 1000, "anna"), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(grants(table, 1001, ""), []);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(ranges("0-3,7\n"), [(0, 3), (7, 7)]);
        assert_eq!(ranges("0-7:2/4"), [(0, 7)]);
        assert_eq!(ranges(""), []);
    }

    #[test]
    fn sizes_of_pages() {
        for (name, size) in
            [("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB"), ("hugepages-64kB", "64KB")]
        {
            assert_eq!(page_size(name).as_deref(), Some(size));
        }
        assert_eq!(page_size("other"), None);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.0", "root": {"path": "/"},
                "mounts": [{"destination": "/a", "type": "proc", "source": "/proc/self/exe"},
                    {"destination": "/b", "type": "nosuchfs", "source": "/no/such/file"}]}"#,
        )
        .unwrap();
        let host = Host::look(&spec, Path::new("/"), &Plans::default()).unwrap();
        assert!(host.kernel >= (4, 0) && host.has_namespaces(Kind::Mount));
        assert_eq!(host.filesystems, ["proc".to_owned()].into());
        assert_eq!(host.files.get(Path::new("/")), Some(&Found::Directory));
        assert_eq!(host.files.get(Path::new("/proc/self/exe")), Some(&Found::File { executable: true }));
        assert_eq!(host.files.len(), 2, "{:?}", host.files);
    }
}
