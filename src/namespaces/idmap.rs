//! User and group id maps of a new user namespace (user_namespaces(7)).

use std::fs::OpenOptions;
use std::io::Write as _;

use nix::errno::Errno;
use nix::unistd::{Gid, Pid, Uid};
use oci_spec::runtime::LinuxIdMapping;

use super::Plan;
use crate::error::{Call, Context, Error, Result};
use crate::sys;

/// One range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first id inside.
    pub container: u32,
    /// The first id outside.
    pub host: u32,
    /// How many ids.
    pub size: u32,
}

/// The kernel's UID_GID_MAP_MAX_EXTENTS (since Linux 4.15).
const MAX_RANGES: usize = 340;

/// The kernel takes the map in one write that is shorter than a page (user_namespaces(7)); 4096 is
/// the smallest page.
const MAX_BYTES: usize = 4096;

/// The ranges of a mapping list of config.json. A list above the kernel's limits is refused here:
/// the kernel would say no more than EINVAL, and an overlong list once overflowed a length field in
/// runc (CVE-2021-43784).
pub(super) fn from_spec(field: &str, mappings: Option<&[LinuxIdMapping]>) -> Result<Vec<IdMap>> {
    let maps: Vec<IdMap> = mappings
        .unwrap_or_default()
        .iter()
        .map(|map| IdMap { container: map.container_id(), host: map.host_id(), size: map.size() })
        .collect();
    if maps.len() > MAX_RANGES {
        return Err(Error::invalid(format!(
            "{field}: {} ranges, the kernel takes at most {MAX_RANGES}",
            maps.len()
        )));
    }
    let bytes = lines(&maps).len();
    if bytes >= MAX_BYTES {
        return Err(Error::invalid(format!(
            "{field}: {bytes} bytes as text, the kernel takes less than {MAX_BYTES}"
        ))
        .remedy("use fewer ranges"));
    }
    Ok(maps)
}

/// The text of `/proc/PID/uid_map`.
fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container, map.host, map.size)).collect()
}

/// Which of the two maps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    User,
    Group,
}

impl Ids {
    fn file(self) -> &'static str {
        match self {
            Ids::User => "uid_map",
            Ids::Group => "gid_map",
        }
    }

    /// The setuid program of shadow that maps ids which `/etc/subuid` and `/etc/subgid` grant.
    fn program(self) -> &'static str {
        match self {
            Ids::User => "newuidmap",
            Ids::Group => "newgidmap",
        }
    }

    /// The capability with which the kernel lets the caller map any id.
    fn capability(self) -> u32 {
        match self {
            Ids::User => 7,  // CAP_SETUID
            Ids::Group => 6, // CAP_SETGID
        }
    }

    fn grants(self) -> &'static str {
        match self {
            Ids::User => "/etc/subuid",
            Ids::Group => "/etc/subgid",
        }
    }

    fn own(self) -> u32 {
        match self {
            Ids::User => Uid::effective().as_raw(),
            Ids::Group => Gid::effective().as_raw(),
        }
    }
}

/// How a map gets into the kernel.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// The caller may map any id of its namespace.
    Privileged,
    /// The caller maps its own id and nothing else, which everyone may; for the group map the kernel
    /// wants setgroups(2) denied first, lest a process drops a group that denies it something
    /// (Linux 3.19, CVE-2014-8989).
    OwnId,
    /// newuidmap or newgidmap does it.
    Program,
}

fn way(maps: &[IdMap], privileged: bool, own: u32) -> Way {
    match maps {
        _ if privileged => Way::Privileged,
        [map] if map.host == own && map.size == 1 => Way::OwnId,
        _ => Way::Program,
    }
}

/// Writes both maps of the process `pid`, which lives in the plan's new user namespace and waits for
/// it. Called by the parent (or by the helper in a joined user namespace), from the namespace in
/// which the maps' host ids are meant.
///
/// Group map first: a privileged writer does not care, and for an unprivileged one `setgroups` must
/// be denied before anyone uses the namespace.
pub fn write_id_maps(plan: &Plan, pid: Pid) -> Result<()> {
    for (ids, maps) in [(Ids::Group, &plan.gid_map), (Ids::User, &plan.uid_map)] {
        if !maps.is_empty() {
            write_map(pid, ids, maps)
                .with_context(|| format!("write the {} of the container", ids.file()))?;
        }
    }
    Ok(())
}

fn write_map(pid: Pid, ids: Ids, maps: &[IdMap]) -> Result<()> {
    let effective = sys::credentials::capget().call(|| "capget(self)".into())?.effective;
    let privileged = effective & (1 << ids.capability()) != 0;
    match way(maps, privileged, ids.own()) {
        Way::Privileged => write_proc(pid, ids.file(), &lines(maps)),
        Way::OwnId => {
            if ids == Ids::Group {
                write_proc(pid, "setgroups", "deny")?;
            }
            write_proc(pid, ids.file(), &lines(maps))
        }
        Way::Program => run_program(pid, ids, maps),
    }
}

/// One write(2), as the kernel demands: a second one to the same map is EPERM.
fn write_proc(pid: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let mut to = OpenOptions::new().write(true).open(&path).call(|| format!("open({path:?}, O_WRONLY)"))?;
    to.write_all(text.as_bytes()).call(|| format!("write({path:?}, {text:?})")).map_err(|error| {
        match error.errno() {
            Some(Errno::EPERM) => {
                error.remedy("the caller may not map these ids from its own user namespace")
            }
            Some(Errno::EINVAL) => error.remedy("ranges must not overlap, be empty or pass the last id"),
            _ => error,
        }
    })
}

fn run_program(pid: Pid, ids: Ids, maps: &[IdMap]) -> Result<()> {
    let program = ids.program();
    let path = sys::spawn::find_in_path(program).ok_or_else(|| {
        Error::unsupported(format!("{program} is not installed, and the caller may map only its own id"))
            .remedy("install the package uidmap, or map only the caller's own id with size 1")
    })?;
    let mut arguments = vec![program.to_string(), pid.to_string()];
    arguments.extend(maps.iter().flat_map(|map| [map.container, map.host, map.size].map(|n| n.to_string())));
    let mut spawn = sys::spawn::Spawn::new(&path, &arguments, &[])?;
    spawn.stderr = sys::spawn::Stream::Captured;
    let exit = spawn
        .start()
        .call(|| format!("execve({path:?})"))?
        .wait(None)
        .call(|| format!("wait for {program}"))?;
    if exit.status.is_success() {
        return Ok(());
    }
    Err(Error::unsupported(format!("{program}: {}: {}", exit.status, exit.last_line()))
        .remedy(format!("{} must grant the mapped ids to the caller", ids.grants())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxIdMappingBuilder;

    fn mapping(container: u32, host: u32, size: u32) -> LinuxIdMapping {
        LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size).build().unwrap()
    }

    #[test]
    fn writes_one_line_per_range() {
        let maps = from_spec("x", Some(&[mapping(0, 1000, 1), mapping(1, 100_000, 65536)])).unwrap();
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n");
    }

    #[test]
    fn cve_2021_43784_an_overlong_list_is_a_clear_error() {
        let many = |n: u32| (0..n).map(|i| mapping(i, i, 1)).collect::<Vec<_>>();
        assert!(from_spec("linux.uidMappings", Some(&many(340))).is_ok());
        let error = from_spec("linux.uidMappings", Some(&many(10_000))).unwrap_err();
        assert_eq!(error.to_string(), "linux.uidMappings: 10000 ranges, the kernel takes at most 340");
        let long: Vec<_> = (0..200).map(|i| mapping(4_000_000_000 + i, 4_000_000_000 + i, 1)).collect();
        assert!(from_spec("x", Some(&long)).unwrap_err().to_string().contains("bytes as text"));
    }

    #[test]
    fn chooses_the_way() {
        let own = [IdMap { container: 0, host: 1000, size: 1 }];
        let more = [own[0], IdMap { container: 1, host: 100_000, size: 65536 }];
        assert_eq!(way(&more, true, 0), Way::Privileged);
        assert_eq!(way(&own, false, 1000), Way::OwnId);
        assert_eq!(way(&own, false, 1001), Way::Program);
        assert_eq!(way(&more, false, 1000), Way::Program);
    }
}
