//! config.json without its longest list.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Only the way to the list; whatever else is there is passed over.
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
struct Profile<'a> {
    #[serde(borrow)]
    syscalls: &'a RawValue,
}

/// The document with nothing in linux.seccomp.syscalls, which is nine tenths of what engines write; every other byte
/// stays. None where there is no such list.
pub fn without_syscalls(json: &[u8]) -> Option<Vec<u8>> {
    let document: Document<'_> = serde_json::from_slice(json).ok()?;
    let list = document.linux.seccomp.syscalls.get().as_bytes();
    let start = list.as_ptr().addr() - json.as_ptr().addr();
    Some([&json[..start], b"[]", &json[start + list.len()..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(text: &str) -> Option<String> {
        without_syscalls(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_the_list_is_taken_out() {
        let text = r#"{ "a": [1], "linux": {"b": {}, "seccomp": { "syscalls" : [ {"names": ["]", "x"]} ], "c": 0 }}, "d": "]" }"#;
        let expected =
            r#"{ "a": [1], "linux": {"b": {}, "seccomp": { "syscalls" : [], "c": 0 }}, "d": "]" }"#;
        assert_eq!(shortened(text).as_deref(), Some(expected));
    }

    #[test]
    fn without_a_list_there_is_nothing_to_take_out() {
        for text in
            [r#"{}"#, r#"{"linux": {}}"#, r#"{"linux": null}"#, r#"{"linux": {"seccomp": {"a": 1}}}"#, "{"]
        {
            assert_eq!(shortened(text), None, "{text}");
        }
        // Readers disagree about which of two counts.
        assert_eq!(shortened(r#"{"linux": {"seccomp": {"syscalls": [], "syscalls": [1]}}}"#), None);
    }

    #[test]
    fn what_an_engine_wrote_says_the_same_but_for_the_list() {
        let text = include_bytes!("../../integration/bundles/docker.json");
        let short = without_syscalls(text).unwrap();
        assert!(short.len() * 2 < text.len(), "{} of {} bytes", short.len(), text.len());
        let mut whole: serde_json::Value = serde_json::from_slice(text).unwrap();
        whole["linux"]["seccomp"]["syscalls"] = serde_json::json!([]);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&short).unwrap(), whole);
    }
}
