//! Namespaces, and what lives in them.

use oci_spec::runtime::LinuxIdMapping;

use super::super::host::Range;
use super::{Case, Problems, capability};
use crate::namespaces::Kind;
use crate::spec::member;

pub(super) fn kinds(case: &Case, problems: &mut Problems) {
    let namespaces = case.linux().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        let kind = Kind::from(namespace.typ());
        if !case.host.has_namespaces(kind) {
            problems.add(
                format!("linux.namespaces[{index}].type"),
                format!("this kernel has no {} namespaces", kind.name()),
            );
        }
    }
}

/// Of an ordinary user the specification's rules ask for a user namespace.
pub(super) fn rights(case: &Case, problems: &mut Problems) {
    let makes_any = case.plans.namespaces.new != 0;
    let may = case.host.can(capability::SYS_ADMIN) || case.plans.namespaces.has(Kind::User);
    if makes_any && !may && case.host.uid == 0 {
        problems.add("linux.namespaces", "the caller may not make namespaces");
    }
}

pub(super) fn user(case: &Case, problems: &mut Problems) {
    if let (true, Some(why)) = (case.plans.namespaces.creates(Kind::User), case.host.user_namespaces) {
        problems.add("linux.namespaces", format!("the caller may make no user namespace: {why}"));
    }
}

/// Which ids of the host the caller may map, and by which means.
struct Rights<'a> {
    member: &'static str,
    own: u32,
    privileged: bool,
    visible: &'a [Range],
    granted: &'a [Range],
    table: &'static str,
    program: &'static str,
}

fn rights_over_ids<'a>(case: &Case<'a>) -> [(Rights<'a>, &'a [LinuxIdMapping]); 2] {
    let (host, linux) = (case.host, case.linux());
    let uids = Rights {
        member: "linux.uidMappings",
        own: host.uid,
        privileged: host.can(capability::SETUID),
        visible: &host.uids,
        granted: &host.subuids,
        table: "/etc/subuid",
        program: "newuidmap",
    };
    let gids = Rights {
        member: "linux.gidMappings",
        own: host.gid,
        privileged: host.can(capability::SETGID),
        visible: &host.gids,
        granted: &host.subgids,
        table: "/etc/subgid",
        program: "newgidmap",
    };
    let mappings = linux.map(|linux| (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref()));
    let (of_uids, of_gids) = mappings.unwrap_or_default();
    [(uids, of_uids.unwrap_or_default()), (gids, of_gids.unwrap_or_default())]
}

/// The caller's own id alone, which everyone may map.
fn is_own_id(rights: &Rights, mappings: &[LinuxIdMapping]) -> bool {
    matches!(mappings, [one] if one.host_id() == rights.own && one.size() == 1)
}

pub(super) fn id_ranges(case: &Case, problems: &mut Problems) {
    if !case.plans.namespaces.creates(Kind::User) {
        return;
    }
    for (rights, mappings) in rights_over_ids(case) {
        if is_own_id(&rights, mappings) || mappings.is_empty() {
            continue;
        }
        if !rights.privileged && !case.host.map_programs.contains(rights.program) {
            problems.add_with_remedy(
                rights.member,
                format!("{} is not installed, and the caller may map only its own id", rights.program),
                "install the package uidmap, or map only the caller's own id with size 1",
            );
            continue;
        }
        for (index, mapping) in mappings.iter().enumerate() {
            let range = (mapping.host_id(), mapping.size());
            let is_own = range == (rights.own, 1);
            let (allowed, whose, remedy) = match rights.privileged {
                true => (covers(rights.visible, range), "in the caller's user namespace", "map others"),
                false => {
                    (is_own || covers(rights.granted, range), rights.table, "add them there, or map others")
                }
            };
            if !allowed {
                let last = u64::from(range.0) + u64::from(range.1) - 1;
                let where_not =
                    if rights.privileged { whose.to_owned() } else { format!("granted by {whose}") };
                problems.add_with_remedy(
                    format!("{}[{index}]", rights.member),
                    format!("the host's ids {} to {last} are not {where_not}", range.0),
                    remedy,
                );
            }
        }
    }
}

/// Whether every id of `wanted` is in one of the ranges, several of which may follow one another.
fn covers(ranges: &[Range], wanted: Range) -> bool {
    let (mut next, end) = (u64::from(wanted.0), u64::from(wanted.0) + u64::from(wanted.1));
    while next < end {
        let holds =
            |range: &&Range| (u64::from(range.0)..u64::from(range.0) + u64::from(range.1)).contains(&next);
        let Some(range) = ranges.iter().find(holds) else { return false };
        next = u64::from(range.0) + u64::from(range.1);
    }
    true
}

/// Who maps only its own gid has to deny setgroups(2) (user_namespaces(7)).
pub(super) fn groups(case: &Case, problems: &mut Problems) {
    let [_, (rights, mappings)] = rights_over_ids(case);
    let denied =
        case.plans.namespaces.creates(Kind::User) && !rights.privileged && is_own_id(&rights, mappings);
    let groups = &case.plans.security.user.additional_gids;
    if denied && !groups.is_empty() {
        problems.add(
            "process.user.additionalGids",
            "setgroups is denied where only the caller's own gid is mapped",
        );
    }
}

pub(super) fn net_devices(case: &Case, problems: &mut Problems) {
    let devices = case.linux().and_then(|linux| linux.net_devices().as_ref());
    let mut names: Vec<&String> = devices.into_iter().flatten().map(|(name, _)| name).collect();
    names.sort();
    for name in names {
        let path = member("linux.netDevices", name);
        if !case.host.interfaces.contains(name) {
            problems.add_with_remedy(path, "the host has no such device", "/sys/class/net has all");
        } else if name == "lo" {
            problems
                .add(path, "each network namespace has a loopback device of its own, and none can be moved");
        } else if !case.host.can(capability::NET_ADMIN) {
            problems.add_with_remedy(path, "the caller may not move it", "it needs CAP_NET_ADMIN");
        }
    }
}

/// Files of a network device may come with the device.
pub(super) fn sysctls(case: &Case, problems: &mut Problems) {
    for sysctl in &case.plans.security.sysctls {
        let of_device =
            ["net/ipv4/conf/", "net/ipv6/conf/", "net/ipv4/neigh/", "net/ipv6/neigh/", "net/mpls/conf/"];
        let may_come = of_device.iter().any(|prefix| sysctl.path.starts_with(prefix));
        if !may_come && !case.host.sysctls.contains(&sysctl.path) {
            problems.add(
                member("linux.sysctl", &sysctl.name),
                format!("this kernel has no /proc/sys/{}", sysctl.path),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn ranges_may_follow_one_another() {
        let ranges = [(100, 10), (110, 10), (200, 5)];
        for (wanted, expected) in [
            ((100, 10), true),
            ((105, 10), true),
            ((119, 1), true),
            ((119, 2), false),
            ((200, 6), false),
            ((0, 1), false),
        ] {
            assert_eq!(covers(&ranges, wanted), expected, "{wanted:?}");
        }
        assert!(covers(&[(0, u32::MAX)], (4_000_000_000, 5)));
    }
}
