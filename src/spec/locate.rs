//! The JSON path of a value that does not fit its type.
//!
//! serde_json says line and column only. A reader that followed the path on its way would be a second
//! `Deserializer`, for which all of oci-spec's types would be in the binary once more.

use super::document::Step;
use super::shape::string_length;

/// Steps to the value in `json` that `error` is about. `json` is what [`serde_json::to_vec`] wrote, so it
/// is one line without spaces.
pub(super) fn locate(json: &[u8], error: &serde_json::Error) -> Vec<Step> {
    // In bytes, from 1: the last that was read, or the one that could not be read on.
    let last = error.column().saturating_sub(1);
    // A scalar has been read when it is refused, and an object when a member turns out to be missing.
    // But an object or array in another value's place is refused by a look at its first byte.
    let is_next = error.is_data() && matches!(json.get(last), Some(b':' | b',' | b'['));
    steps_to(json, if is_next { last + 1 } else { last })
}

/// Steps to the innermost value that the byte at `place` belongs to. Names, commas and closing brackets
/// belong to their object or array.
fn steps_to(json: &[u8], place: usize) -> Vec<Step> {
    // One for each object and array that is open.
    let mut steps = Vec::new();
    let mut at = 0;
    while let Some(first) = json.get(at) {
        let end = at + token_length(&json[at..]);
        let is_name = *first == b'"' && json.get(end) == Some(&b':');
        if place < end {
            if is_name || matches!(first, b':' | b',' | b'}' | b']') {
                steps.pop();
            }
            return steps;
        }
        match (first, steps.last_mut()) {
            // Until its first name is read.
            (b'{', _) => steps.push(Step::Member(String::new())),
            (b'[', _) => steps.push(Step::Element(0)),
            (b'}' | b']', _) => drop(steps.pop()),
            (b',', Some(Step::Element(index))) => *index += 1,
            (b'"', Some(Step::Member(name))) if is_name => *name = unquote(&json[at..end]),
            _ => {}
        }
        at = end;
    }
    Vec::new()
}

/// Bytes of the token that `json` begins with; it is not empty.
fn token_length(json: &[u8]) -> usize {
    match json {
        [b'{' | b'}' | b'[' | b']' | b',' | b':', ..] => 1,
        [b'"', text @ ..] => (string_length(text) + 2).min(json.len()),
        _ => json.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(json.len()),
    }
}

fn unquote(name: &[u8]) -> String {
    serde_json::from_slice(name).unwrap_or_else(|_| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;
    use crate::spec::document::path;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read counts")]
    struct Document {
        text: Option<String>,
        number: Option<u8>,
        answer: Option<bool>,
        kind: Option<Kind>,
        list: Option<Vec<String>>,
        kinds: Option<Vec<Kind>>,
        map: Option<HashMap<String, String>>,
        inner: Option<Inner>,
        inners: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read counts")]
    struct Inner {
        needed: String,
        more: Option<i64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Good,
    }

    fn located(text: &str) -> String {
        let json = serde_json::to_vec(&serde_json::from_str::<Value>(text).unwrap()).unwrap();
        let error = serde_json::from_slice::<Document>(&json).unwrap_err();
        path(&locate(&json, &error))
    }

    #[test]
    fn finds_what_serde_refuses() {
        for (text, expected) in [
            // A scalar, at the end of its parent and before another member.
            (r#"{"text": 1}"#, "text"),
            (r#"{"number": "a, b: [c]", "text": "x"}"#, "number"),
            (r#"{"number": -1, "text": "x"}"#, "number"),
            (r#"{"number": 256}"#, "number"),
            (r#"{"number": 1.5e3, "text": "x"}"#, "number"),
            (r#"{"answer": "yes", "text": "x"}"#, "answer"),
            (r#"{"text": true, "number": 1}"#, "text"),
            (r#"{"list": "a"}"#, "list"),
            (r#"{"list": ["a", null, "b"]}"#, "list[1]"),
            (r#"{"list": [1]}"#, "list[0]"),
            (r#"{"inner": 5, "text": "x"}"#, "inner"),
            // An object or array in the place of something else.
            (r#"{"text": {"a": 1}}"#, "text"),
            (r#"{"text": []}"#, "text"),
            (r#"{"list": {}, "text": "x"}"#, "list"),
            (r#"{"list": [{}]}"#, "list[0]"),
            (r#"{"list": ["a", ["b"], "c"]}"#, "list[1]"),
            (r#"{"map": []}"#, "map"),
            (r#"{"map": {"a": "b", "c.d": {}, "e": "f"}}"#, r#"map["c.d"]"#),
            // A value of no enum.
            (r#"{"kind": "bad", "text": "x"}"#, "kind"),
            (r#"{"kinds": ["good", "bad"]}"#, "kinds[1]"),
            (r#"{"kind": 5, "text": "x"}"#, "kind"),
            (r#"{"kind": [1]}"#, "kind"),
            (r#"{"kind": {}}"#, "kind"),
            (r#"{"kind": {"bad": 1}}"#, "kind"),
            (r#"{"kinds": [[]]}"#, "kinds[0]"),
            (r#"{"kinds": ["good", true, "good"]}"#, "kinds[1]"),
            // A member that is missing.
            (r#"{"inner": {}}"#, "inner"),
            (r#"{"inner": {"more": 1}, "text": "x"}"#, "inner"),
            (r#"{"inners": [{"needed": "a"}, {"more": 2}, {"needed": "b"}]}"#, "inners[1]"),
            (r#"{"inners": [{"needed": "a"}, {"needed": "b", "more": {}}]}"#, "inners[1].more"),
            // Names that need unquoting, and brackets in strings before.
            (r#"{"map": {"a\"]}, {": "\\\"}]", "b\\": 1}}"#, r#"map["b\\"]"#),
            (r#"{"extension": [[], {}, [{"a": []}]], "text": 1}"#, "text"),
        ] {
            assert_eq!(located(text), expected, "{text}");
        }
    }

    #[test]
    fn each_byte_has_a_value() {
        let json = br#"{"a":[10,{"b":""}],"c":{}}"#;
        let paths: Vec<String> = (0..=json.len()).map(|place| path(&steps_to(json, place))).collect();
        let mut expected = vec![""; 5];
        expected
            .extend(["a", "a[0]", "a[0]", "a", "a[1]", "a[1]", "a[1]", "a[1]", "a[1]", "a[1].b", "a[1].b"]);
        expected.extend(["a[1]", "a"]);
        expected.extend([""; 5]);
        expected.extend(["c", "c", "", ""]);
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_place_outside_is_the_whole() {
        for json in ["", "\"", "{", "[[", "{\"a", "]]", ",:"] {
            for place in [json.len(), usize::MAX] {
                assert!(steps_to(json.as_bytes(), place).is_empty(), "{json}");
            }
        }
    }
}
