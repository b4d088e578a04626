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
    let mut name = json.get(..0).unwrap_or_default();
    // The last byte outside of strings that is no space: a colon before the value of a member.
    let mut before = b' ';
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let length = string_length(&json[at + 1..]);
                name = &json[at + 1..at + 1 + length];
                at += 1 + length;
            }
            b'[' if before != b':' || is_in(&STRUCTS, name) => return true,
            byte if !byte.is_ascii_whitespace() => before = *byte,
            _ => {}
        }
        at += 1;
    }
    false
}

fn is_in(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// Bytes of a JSON string up to its closing quote.
pub(super) fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    end.unwrap_or(text.len())
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
