//! Members that the specification does not have. They are ignored (config.md#extensibility), which is worth
//! a word where somebody has misspelt one that it has.

use serde_json::Value;

use super::document::Step;
use super::finding::{Finding, Rule};

pub(super) static UNKNOWN: Rule = Rule::note("unknown-member", "config.md#extensibility", "");

/// The members of each structure by its path; lists and maps of structures have the path of the list or map.
const MEMBERS: [(&str, &str); 48] = [
    ("", "ociVersion root mounts process hostname domainname hooks annotations linux"),
    ("hooks", "prestart createRuntime createContainer startContainer poststart poststop"),
    ("hooks.prestart", HOOK),
    ("hooks.createRuntime", HOOK),
    ("hooks.createContainer", HOOK),
    ("hooks.startContainer", HOOK),
    ("hooks.poststart", HOOK),
    ("hooks.poststop", HOOK),
    (
        "linux",
        "uidMappings gidMappings sysctl resources cgroupsPath namespaces devices netDevices seccomp \
         rootfsPropagation maskedPaths readonlyPaths mountLabel intelRdt memoryPolicy personality timeOffsets",
    ),
    ("linux.devices", "path type major minor fileMode uid gid"),
    ("linux.gidMappings", ID_MAPPING),
    ("linux.intelRdt", "closID schemata l3CacheSchema memBwSchema enableMonitoring enableCMT enableMBM"),
    ("linux.memoryPolicy", "mode nodes flags"),
    ("linux.namespaces", "type path"),
    ("linux.netDevices", "name"),
    ("linux.personality", "domain flags"),
    ("linux.resources", "devices memory cpu pids blockIO hugepageLimits network rdma unified"),
    (
        "linux.resources.blockIO",
        "weight leafWeight weightDevice throttleReadBpsDevice throttleWriteBpsDevice throttleReadIOPSDevice \
         throttleWriteIOPSDevice",
    ),
    ("linux.resources.blockIO.throttleReadBpsDevice", THROTTLE),
    ("linux.resources.blockIO.throttleReadIOPSDevice", THROTTLE),
    ("linux.resources.blockIO.throttleWriteBpsDevice", THROTTLE),
    ("linux.resources.blockIO.throttleWriteIOPSDevice", THROTTLE),
    ("linux.resources.blockIO.weightDevice", "major minor weight leafWeight"),
    ("linux.resources.cpu", "shares quota burst period realtimeRuntime realtimePeriod cpus mems idle"),
    ("linux.resources.devices", "allow type major minor access"),
    ("linux.resources.hugepageLimits", "pageSize limit"),
    (
        "linux.resources.memory",
        "limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate",
    ),
    ("linux.resources.network", "classID priorities"),
    ("linux.resources.network.priorities", "name priority"),
    ("linux.resources.pids", "limit"),
    ("linux.resources.rdma", "hcaHandles hcaObjects"),
    (
        "linux.seccomp",
        "defaultAction defaultErrnoRet architectures flags listenerPath listenerMetadata syscalls",
    ),
    ("linux.seccomp.syscalls", "names action errnoRet args"),
    ("linux.seccomp.syscalls.args", "index value valueTwo op"),
    ("linux.timeOffsets", "secs nanosecs"),
    ("linux.uidMappings", ID_MAPPING),
    ("mounts", "destination source type options uidMappings gidMappings"),
    ("mounts.gidMappings", ID_MAPPING),
    ("mounts.uidMappings", ID_MAPPING),
    (
        "process",
        "terminal consoleSize user args env cwd capabilities rlimits noNewPrivileges apparmorProfile \
         oomScoreAdj selinuxLabel ioPriority scheduler execCPUAffinity",
    ),
    ("process.capabilities", "bounding permitted inheritable effective ambient"),
    ("process.consoleSize", "height width"),
    ("process.execCPUAffinity", "initial final"),
    ("process.ioPriority", "class priority"),
    ("process.rlimits", "type soft hard"),
    ("process.scheduler", "policy nice priority flags runtime deadline period"),
    ("process.user", "uid gid umask additionalGids username"),
    ("root", "path readonly"),
];

const HOOK: &str = "path args env timeout";
const ID_MAPPING: &str = "containerID hostID size";
const THROTTLE: &str = "major minor rate";

/// Where the names of members are the caller's.
const MAPS: [&str; 6] = [
    "annotations",
    "linux.sysctl",
    "linux.netDevices",
    "linux.resources.rdma",
    "linux.resources.unified",
    "linux.timeOffsets",
];

/// Members of other platforms, which are theirs to know.
const FOREIGN: [&str; 6] = ["solaris", "windows", "vm", "zos", "freebsd", "process.commandLine"];

/// All members of `document` that the specification does not have.
pub(super) fn unknown(document: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(document, "", &mut Vec::new(), &mut found);
    found
}

fn members_of(structure: &str) -> Option<impl Iterator<Item = &'static str>> {
    let entry = MEMBERS.iter().find(|(path, _)| *path == structure);
    entry.map(|(_, members)| members.split_ascii_whitespace())
}

/// `structure` is where the specification describes what `value` is.
fn walk(value: &Value, structure: &str, at: &mut Vec<Step>, found: &mut Vec<Finding>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                at.push(Step::Element(index));
                walk(element, structure, at, found);
                at.pop();
            }
        }
        Value::Object(entries) if MAPS.contains(&structure) && !is_entry(structure, at) => {
            for (name, entry) in entries {
                at.push(Step::Member(name.clone()));
                walk(entry, structure, at, found);
                at.pop();
            }
        }
        Value::Object(entries) => {
            for (name, member) in entries.iter().filter(|(_, member)| !member.is_null()) {
                at.push(Step::Member(name.clone()));
                let below = if structure.is_empty() { name.clone() } else { format!("{structure}.{name}") };
                let known = members_of(structure).map(|mut all| all.any(|known| known == name));
                if known == Some(true) {
                    walk(member, &below, at, found);
                } else if known == Some(false) && !FOREIGN.contains(&below.as_str()) {
                    let message = format!("the specification has no such member{}", hint(structure, name));
                    found.push(Finding::new(&UNKNOWN, super::document::path(at), message));
                }
                at.pop();
            }
        }
        _ => {}
    }
}

/// Whether the place is an entry of the map, and no longer the map itself.
fn is_entry(map: &str, at: &[Step]) -> bool {
    at.len() > map.split('.').count()
}

/// `; did you mean cwd?`, or where the member belongs.
fn hint(structure: &str, name: &str) -> String {
    if let Some(near) = members_of(structure).and_then(|mut all| all.find(|known| is_near(known, name))) {
        return format!("; did you mean {near}?");
    }
    let mut elsewhere =
        MEMBERS.iter().filter(|(_, members)| members.split_ascii_whitespace().any(|known| known == name));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(("", _)), None) => format!("; {name} belongs at the top"),
        (Some((place, _)), None) => format!("; {name} belongs into {place}"),
        _ => String::new(),
    }
}

/// Whether one was probably meant as the other: the same letters, or no more than two wrong.
fn is_near(known: &str, name: &str) -> bool {
    let letters = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let (known, name) = (letters(known), letters(name));
    known == name || (known.len() > 3 && distance(known.as_bytes(), name.as_bytes()) <= 2)
}

/// How many bytes have to be put in, taken out or changed (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(document: &Value) -> Vec<String> {
        unknown(document).iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
    }

    #[test]
    fn the_table_has_what_oci_spec_has() {
        let mut table: Vec<String> = Vec::new();
        for (structure, members) in MEMBERS {
            let dot = if structure.is_empty() { "" } else { "." };
            table.extend(members.split_ascii_whitespace().map(|name| format!("{structure}{dot}{name}")));
        }
        table.sort();
        let known: Vec<String> = super::super::conformance::specified_fields().into_iter().collect();
        let differ: Vec<_> = known.iter().filter(|name| !table.contains(name)).collect();
        assert_eq!((differ, table.len()), (vec![], known.len()), "{table:?}");
    }

    #[test]
    fn what_is_not_there_is_named_with_what_may_be_meant() {
        let document = json!({
            "ociVersion": "1.0.0", "hostName": "a", "windows": {"x": 1}, "seccomp": {}, "extension": {"a": [1]},
            "process": {"Args": [], "capabilites": {}, "commandLine": "x", "rlimits": [{"type": "a", "max": 1}]},
            "annotations": {"any.thing": "x"},
            "hooks": {"prestart": [{"path": "/a", "timeuot": 1}]},
            "linux": {"sysctl": {"net.core.x": "1"}, "netDevices": {"eth0": {"nam": "a"}, "eth1": {"name": "b"}},
                "resources": {"memory": {"limits": 1, "maximum": null}, "unified": {"memory.high": "1"}}}
        });
        assert_eq!(
            said(&document),
            [
                "extension: the specification has no such member",
                "hooks.prestart[0].timeuot: the specification has no such member; did you mean timeout?",
                "hostName: the specification has no such member; did you mean hostname?",
                "linux.netDevices.eth0.nam: the specification has no such member; did you mean name?",
                "linux.resources.memory.limits: the specification has no such member; did you mean limit?",
                "process.Args: the specification has no such member; did you mean args?",
                "process.capabilites: the specification has no such member; did you mean capabilities?",
                "process.rlimits[0].max: the specification has no such member",
                "seccomp: the specification has no such member; seccomp belongs into linux",
            ]
        );
        assert_eq!(said(&json!([1])), Vec::<String>::new());
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("cwd", "cwd", 0), ("cwd", "cdw", 2), ("limit", "limits", 1), ("a", "", 1)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
