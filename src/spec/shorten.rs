//! config.json for those who have the seccomp filter already.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// Only the way to the profile; whatever else is there is passed over.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    linux: Section<'a>,
}

#[derive(Deserialize)]
struct Section<'a> {
    #[serde(borrow)]
    seccomp: Profile<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    #[serde(borrow)]
    default_action: &'a RawValue,
    #[serde(borrow)]
    syscalls: &'a RawValue,
}

/// The document with nothing in linux.seccomp.syscalls, which is two thirds of what engines write; every byte outside of
/// the profile stays. Whoever takes the profile for the whole one has a filter that lets nothing pass. None where there
/// is no such list.
pub fn without_syscalls(json: &[u8]) -> Option<Vec<u8>> {
    let Profile { default_action, syscalls } = json::read::<Document<'_>>(json).ok()?.linux.seccomp;
    let mut changes =
        [(default_action, &br#""SCMP_ACT_ERRNO""#[..]), (syscalls, b"[]")].map(|(value, instead)| {
            (value.get().as_ptr().addr() - json.as_ptr().addr(), value.get().len(), instead)
        });
    changes.sort_unstable_by_key(|(start, ..)| *start);
    let mut rest = 0;
    let mut text = Vec::with_capacity(json.len());
    for (start, length, instead) in changes {
        text.extend_from_slice(&json[rest..start]);
        text.extend_from_slice(instead);
        rest = start + length;
    }
    text.extend_from_slice(&json[rest..]);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(text: &str) -> Option<String> {
        without_syscalls(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_the_profile_is_changed() {
        let text = r#"{ "a": [1], "linux": {"b": {}, "seccomp": { "syscalls" : [ {"names": ["]", "x"]} ], "defaultAction": "SCMP_ACT_ALLOW" , "c": 0 }}, "d": "]" }"#;
        let expected = r#"{ "a": [1], "linux": {"b": {}, "seccomp": { "syscalls" : [], "defaultAction": "SCMP_ACT_ERRNO" , "c": 0 }}, "d": "]" }"#;
        assert_eq!(shortened(text).as_deref(), Some(expected));
    }

    #[test]
    fn without_a_list_there_is_nothing_to_take_out() {
        for text in [
            r#"{}"#,
            r#"{"linux": {}}"#,
            r#"{"linux": null}"#,
            r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}"#,
            r#"{"linux": {"seccomp": {"syscalls": []}}}"#,
            "{",
        ] {
            assert_eq!(shortened(text), None, "{text}");
        }
        // Readers disagree about which of two counts.
        let twice =
            r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "syscalls": [], "syscalls": [1]}}}"#;
        assert_eq!(shortened(twice), None);
    }

    #[test]
    fn what_an_engine_wrote_says_the_same_but_for_the_profile() {
        let text = include_bytes!("../../integration/bundles/docker.json");
        let short = without_syscalls(text).unwrap();
        assert!(short.len() * 2 < text.len(), "{} of {} bytes", short.len(), text.len());
        let mut whole: serde_json::Value = serde_json::from_slice(text).unwrap();
        whole["linux"]["seccomp"]["syscalls"] = serde_json::json!([]);
        whole["linux"]["seccomp"]["defaultAction"] = serde_json::json!("SCMP_ACT_ERRNO");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&short).unwrap(), whole);
    }
}
