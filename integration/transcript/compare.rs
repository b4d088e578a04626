//! In what two answers differ, for a program that reads them.

use super::CLIENTS_STRINGS;
use super::stage::Answer;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What differs, each as one line.
pub fn differences(runc: &Answer, berth: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if runc.code != berth.code {
        found.push(format!("exit code {}, runc's {}", berth.code, runc.code));
    }
    found.extend(outputs(&runc.stdout, &berth.stdout));
    found.extend(complaints(runc, berth));
    found
}

fn outputs(runc: &str, berth: &str) -> Vec<String> {
    if let (Ok(theirs), Ok(ours)) = (serde_json::from_str(runc), serde_json::from_str(berth)) {
        return shapes(&theirs, &ours);
    }
    if is_usage(runc) || is_usage(berth) {
        // For people; nobody parses it.
        let told = |text| if is_usage(text) { "usage" } else { "no usage" };
        return match (told(runc), told(berth)) {
            (theirs, ours) if theirs == ours => Vec::new(),
            (theirs, ours) => vec![format!("stdout: {ours}, runc's {theirs}")],
        };
    }
    if is_table(runc) && is_table(berth) {
        let outline = |text: &str| {
            let header: Vec<String> =
                text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            (header, text.lines().count())
        };
        return unequal("table", &outline(runc), &outline(berth));
    }
    unequal("text", &without_name(runc), &without_name(berth))
}

fn unequal<T: PartialEq + std::fmt::Debug>(what: &str, runc: &T, berth: &T) -> Vec<String> {
    if runc == berth { Vec::new() } else { vec![format!("stdout: {what} {berth:?}, runc's {runc:?}")] }
}

/// `--version`: the words at the beginning of each line count.
fn without_name(text: &str) -> Vec<String> {
    let is_version = text.lines().any(|line| line.starts_with("commit: "));
    let lines = text.lines().map(|line| match line.split_once(' ') {
        Some((_, rest)) if is_version && rest.starts_with("version ") => "NAME version".to_owned(),
        Some((word, _)) if is_version => word.to_owned(),
        _ => line.to_owned(),
    });
    lines.collect()
}

fn is_usage(text: &str) -> bool {
    text.contains("USAGE:") || text.contains("Usage: ")
}

fn is_table(text: &str) -> bool {
    ["ID ", "UID ", "PID "].iter().any(|title| text.trim_start().starts_with(title))
}

/// By keys and types; the elements of an array count as one.
pub fn shapes(runc: &Value, berth: &Value) -> Vec<String> {
    let (theirs, ours) = (shape(runc), shape(berth));
    let paths: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (theirs.get(path), ours.get(path)) {
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(theirs), Some(ours)) => found.push(format!("{path}: {ours:?}, runc's {theirs:?}")),
            (Some(_), None) => found.push(format!("{path}: only runc's")),
            _ => found.push(format!("{path}: only berth's")),
        }
    }
    // One line for an object, not one for each of its keys.
    let parents: Vec<String> = found
        .iter()
        .filter_map(|line| line.strip_suffix("'s")?.split_once(": only"))
        .map(|(path, _)| path.to_owned())
        .collect();
    found.retain(|line| {
        !parents.iter().any(|parent| {
            line.strip_prefix(parent.as_str())
                .is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
        })
    });
    found
}

/// Each place in the value with the types that are found there.
fn shape(value: &Value) -> BTreeMap<String, BTreeSet<&'static str>> {
    fn walk(path: &str, value: &Value, places: &mut BTreeMap<String, BTreeSet<&'static str>>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        places.entry(path.to_owned()).or_default().insert(kind);
        match value {
            Value::Array(elements) => {
                elements.iter().for_each(|element| walk(&format!("{path}[]"), element, places));
            }
            Value::Object(members) => {
                members.iter().for_each(|(key, member)| walk(&format!("{path}.{key}"), member, places));
            }
            _ => {}
        }
    }
    let mut places = BTreeMap::new();
    walk("$", value, &mut places);
    places
}

/// One line for a failure, none for a success, and every string of clients that runc's has.
fn complaints(runc: &Answer, berth: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    for words in CLIENTS_STRINGS {
        if runc.stderr.contains(words) && !berth.stderr.contains(words) {
            found.push(format!("stderr: without {words:?}: {}", berth.stderr.trim_end()));
        }
    }
    let lines = berth.stderr.lines().count();
    match berth.code {
        0 if lines > 0 && runc.stderr.is_empty() => {
            found.push(format!("stderr: a warning: {}", berth.stderr.trim_end()));
        }
        // The program's own exit code is no failure of the runtime.
        code if code != 0 && lines > 1 => found.push(format!("stderr: {lines} lines")),
        code if code != 0 && lines == 0 && !runc.stderr.is_empty() => {
            found.push(format!("stderr: silent, runc's {}", runc.stderr.trim_end()));
        }
        _ => {}
    }
    found
}
