//! `linux.namespaces` and the members that need one of them.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};

use super::{Config, Problems, sorted};

/// The kernel takes this many lines in uid_map and gid_map (user_namespaces(7)).
pub(super) const MAX_ID_MAPPINGS: usize = 340;

/// The smallest page, and how many lines of a map fit into it at least: three numbers of ten digits each.
const PAGE: usize = 4096;
const MIN_LINES_OF_A_PAGE: usize = PAGE / 33;

/// Longest name that sethostname(2) and setdomainname(2) take.
const MAX_UTS_NAME: usize = 64;

pub(super) fn unique(config: &Config, problems: &mut Problems) {
    let namespaces = config.namespaces();
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespaces[..index].iter().any(|earlier| earlier.typ() == namespace.typ()) {
            let name = spec_name(namespace.typ());
            problems.add(format!("linux.namespaces[{index}].type"), format!("{name} is there twice"));
        }
    }
}

/// The specification's word; oci-spec prints the file name below /proc/PID/ns.
fn spec_name(typ: LinuxNamespaceType) -> String {
    match typ {
        LinuxNamespaceType::Mount => "mount".into(),
        LinuxNamespaceType::Network => "network".into(),
        other => other.to_string(),
    }
}

pub(super) fn paths(config: &Config, problems: &mut Problems) {
    for (index, namespace) in config.namespaces().iter().enumerate() {
        if let Some(path) = namespace.path() {
            problems.need_absolute(format!("linux.namespaces[{index}].path"), path);
        }
    }
}

pub(super) fn rootless(config: &Config, problems: &mut Problems) {
    if config.options.rootless && !config.has_namespace(LinuxNamespaceType::User) {
        problems.add("linux.namespaces", "a caller who is not root needs a user namespace");
    }
}

pub(super) fn hostname(config: &Config, problems: &mut Problems) {
    uts_name(config, problems, "hostname", config.spec.hostname().as_deref());
}

pub(super) fn domainname(config: &Config, problems: &mut Problems) {
    uts_name(config, problems, "domainname", config.spec.domainname().as_deref());
}

fn uts_name(config: &Config, problems: &mut Problems, member: &str, name: Option<&str>) {
    let Some(name) = name else { return };
    if !config.has_namespace(LinuxNamespaceType::Uts) {
        problems.add(member, "needs a uts namespace");
    }
    if name.len() > MAX_UTS_NAME {
        problems.add(member, format!("must be at most {MAX_UTS_NAME} bytes, not {}", name.len()));
    }
}

/// Both mappings with a new user namespace, neither without one. With a path they are those of the
/// namespace that is joined: engines repeat them.
pub(super) fn id_mappings(config: &Config, problems: &mut Problems) {
    let Some(linux) = config.linux() else { return };
    let is_new = config.has_new_namespace(LinuxNamespaceType::User);
    for (name, mappings) in [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())] {
        let path = format!("linux.{name}");
        let mappings = mappings.as_deref().unwrap_or_default();
        if !mappings.is_empty() && !config.has_namespace(LinuxNamespaceType::User) {
            problems.add(&path, "needs a user namespace");
        }
        if mappings.is_empty() && is_new {
            problems.add(&path, "is required for a new user namespace");
        }
        if mappings.len() > MAX_ID_MAPPINGS {
            problems
                .add(&path, format!("must have at most {MAX_ID_MAPPINGS} entries, not {}", mappings.len()));
        }
        // The kernel takes a map in one write that is shorter than a page.
        let line =
            |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
        if mappings.len() > MIN_LINES_OF_A_PAGE
            && mappings.iter().map(|map| line(map).len()).sum::<usize>() >= PAGE
        {
            problems.add(&path, format!("must be less than {PAGE} bytes as text: use fewer ranges"));
        }
        each_id_mapping(problems, &path, mappings);
    }
}

pub(super) fn each_id_mapping(problems: &mut Problems, path: &str, mappings: &[LinuxIdMapping]) {
    let (mut inside, mut outside) = (Ranges::default(), Ranges::default());
    for (index, mapping) in mappings.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if mapping.size() == 0 {
            problems.add(format!("{path}.size"), "must be greater than zero");
        }
        for (name, first) in [("containerID", mapping.container_id()), ("hostID", mapping.host_id())] {
            if first.checked_add(mapping.size()).is_none() {
                problems.add(format!("{path}.{name}"), "the range goes beyond the last id, 4294967294");
            }
        }
        let overlaps_inside = inside.add(mapping.container_id(), mapping.size());
        let overlaps_outside = outside.add(mapping.host_id(), mapping.size());
        if overlaps_inside || overlaps_outside {
            problems.add(&path, "overlaps with an earlier range");
        }
    }
}

/// A set of ids as ranges that are apart, end by start: a list of mappings is checked in n log n, since anybody
/// may write a long one.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Takes a range in, and says whether one of its ids was there already.
    fn add(&mut self, first: u32, size: u32) -> bool {
        let (mut start, mut end) = (u64::from(first), u64::from(first) + u64::from(size));
        let mut overlaps = false;
        // Each that is met is taken out for good, so that all calls together look at each range twice at most.
        while start < end
            && let Some((&earlier, &its_end)) = self.0.range(..end).next_back()
            && its_end > start
        {
            overlaps = true;
            self.0.remove(&earlier);
            (start, end) = (start.min(earlier), end.max(its_end));
        }
        if start < end {
            self.0.insert(start, end);
        }
        overlaps
    }
}

pub(super) fn time_offsets(config: &Config, problems: &mut Problems) {
    let Some(offsets) = config.linux().and_then(|linux| linux.time_offsets().as_ref()) else { return };
    if offsets.is_empty() {
        return;
    }
    match config.namespace(LinuxNamespaceType::Time) {
        None => problems.add("linux.timeOffsets", "needs a time namespace"),
        Some(namespace) if namespace.path().is_some() => {
            problems.add("linux.timeOffsets", "cannot be set in a time namespace that is joined");
        }
        Some(_) => {}
    }
    for (clock, offset) in sorted(offsets) {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            problems
                .add("linux.timeOffsets", format!("unknown clock {clock:?}, expected monotonic or boottime"));
        }
        if offset.nanosecs().is_some_and(|nanoseconds| nanoseconds >= 1_000_000_000) {
            problems.add(format!("linux.timeOffsets.{clock}.nanosecs"), "must be less than a second");
        }
    }
}

pub(super) fn net_devices(config: &Config, problems: &mut Problems) {
    let Some(devices) = config.linux().and_then(|linux| linux.net_devices().as_ref()) else { return };
    if !devices.is_empty() && !config.has_namespace(LinuxNamespaceType::Network) {
        problems.add("linux.netDevices", "needs a network namespace");
    }
    let mut names = BTreeSet::new();
    for (host_name, device) in sorted(devices) {
        let name = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host_name);
        let other = Some(name).filter(|name| *name != host_name);
        for name in [host_name.as_str()].into_iter().chain(other) {
            if !is_device_name(name) {
                problems.add("linux.netDevices", format!("{name:?} is not a name of a network device"));
            }
        }
        if !names.insert(name) {
            problems.add("linux.netDevices", format!("two devices are to be named {name:?}"));
        }
    }
}

/// The kernel's dev_valid_name().
pub(super) fn is_device_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn ranges_know_what_was_there() {
        let mut ranges = Ranges::default();
        for (first, size, expected) in [
            (10, 5, false),
            (15, 5, false),
            (0, 10, false),
            (14, 1, true),
            (30, 0, false),
            (100, 1, false),
            (19, 82, true),
            (u32::MAX, u32::MAX, false),
            (50, 1, true),
            (u32::MAX, 1, true),
            (101, 9, false),
        ] {
            assert_eq!(ranges.add(first, size), expected, "{first} {size}");
        }
    }

    /// Quadratic, it would take minutes.
    #[test]
    fn a_long_list_is_no_burden() {
        let mut ranges = Ranges::default();
        assert!((0..1_000_000).all(|id| !ranges.add(id * 2, 1)));
        assert!((0..1_000_000).all(|id| ranges.add(id * 2, 2)));
    }
}
