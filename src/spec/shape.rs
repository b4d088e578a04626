//! Arrays where objects belong.
//!
//! A derived `Deserialize` takes an array for a struct, element by element in the order of the
//! fields: `"linux": []` would be a container without namespaces. So the shape is checked beside
//! the types.

use serde_json::Value;

use super::document::Step;

/// Members that are structs of the specification.
const STRUCTS: [&str; 20] = [
    "root",
    "process",
    "user",
    "consoleSize",
    "capabilities",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
    "hooks",
    "linux",
    "resources",
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "network",
    "seccomp",
    "intelRdt",
    "memoryPolicy",
    "personality",
];

/// Members that are arrays or maps of structs. That `args` is one in seccomp and a list of strings in
/// process makes no difference: an array is wrong in both.
const COLLECTIONS: [&str; 24] = [
    "rlimits",
    "mounts",
    "uidMappings",
    "gidMappings",
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
    "namespaces",
    "devices",
    "netDevices",
    "timeOffsets",
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
    "hugepageLimits",
    "priorities",
    "rdma",
    "syscalls",
    "args",
];

/// Whether `json`, which is valid JSON, may have an array in the place of an object. A wrong yes only
/// costs the long way.
pub(super) fn may_have_misplaced_array(json: &[u8]) -> bool {
    let mut name = &json[..0];
    let mut at = 0;
    while let Some(found) = find(b'"', b'[', &json[at..]) {
        at += found;
        if json[at] == b'"' {
            let length = string_length(&json[at + 1..]);
            name = &json[at + 1..at + 1 + length];
            // The closing quote, which a text that ends in a string does not have.
            at = (at + 1 + length + 1).min(json.len());
            continue;
        }
        // Before the value of a member there is a colon.
        if json[..at].trim_ascii_end().last() != Some(&b':') || is_in(&STRUCTS, name) {
            return true;
        }
        at += 1;
    }
    false
}

fn is_in(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// Where the first of either lies. memchr(3)'s kin would ask the processor what it can do, which costs more in a virtual
/// machine than the whole document.
fn find(one: u8, other: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == one || *byte == other)
}

/// Bytes of a JSON string up to its closing quote.
pub(super) fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| find(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        // With what it escapes.
        at += 2;
    }
    text.len()
}

/// Calls `found` with the path of each array in the place of an object. Members that are not of the
/// specification may be what they like.
pub(super) fn misplaced_arrays(value: &Value, path: &mut Vec<Step>, found: &mut dyn FnMut(&[Step])) {
    let members = match value {
        Value::Object(members) => members,
        Value::Array(_) => return found(path),
        _ => return,
    };
    for (name, member) in members {
        path.push(Step::Member(name.clone()));
        if is_in(&STRUCTS, name.as_bytes()) {
            misplaced_arrays(member, path, found);
        } else if is_in(&COLLECTIONS, name.as_bytes()) {
            for (step, element) in elements(member) {
                path.push(step);
                misplaced_arrays(element, path, found);
                path.pop();
            }
        }
        path.pop();
    }
}

fn elements(collection: &Value) -> Vec<(Step, &Value)> {
    match collection {
        Value::Array(elements) => elements.iter().enumerate().map(|(at, v)| (Step::Element(at), v)).collect(),
        Value::Object(members) => members.iter().map(|(name, v)| (Step::Member(name.clone()), v)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_arrays_in_the_place_of_objects_only() {
        for (json, suspect) in [
            (r#"{"linux": {"namespaces": []}}"#, false),
            (r#"{"linux": []}"#, true),
            (r#"{"linux" : [ ]}"#, true),
            (r#"{"mounts": [["/proc"]]}"#, true),
            (r#"{"mounts": [{"a": 1}, ["/proc"]]}"#, true),
            (r#"{"a": "\"linux\": [", "args": ["[", "\\"], "b": [1]}"#, false),
            ("[]", true),
        ] {
            assert_eq!(may_have_misplaced_array(json.as_bytes()), suspect, "{json}");
        }
    }
}
