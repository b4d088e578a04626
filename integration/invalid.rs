//! The table of invalid inputs: each gives its line and exit code, and changes nothing on the host.

use crate::harness::host::Listing;
use crate::harness::program::{Bounded, berth, path};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::process::{Command, Stdio};

tests! { ; alone: every_input_gives_its_line_and_leaves_nothing }

const TABLE: &str = include_str!("invalid.json");

fn every_input_gives_its_line_and_leaves_nothing() {
    let table: Value = serde_json::from_str(TABLE).expect("invalid.json");
    let cases = table["cases"].as_array().expect("cases");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What `berth spec` writes, without a terminal.
fn template(bundle: &Bundle) -> Value {
    let path = bundle.path.join("config.json");
    berth(&["spec", "--bundle", &bundle.path.to_string_lossy()]).done().ok();
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("config.json")).expect("spec's JSON");
    config["process"]["terminal"] = json!(false);
    config
}

fn check(case: &Value) -> Result<(), String> {
    let name = case["name"].as_str().expect("a name");
    let bundle = Bundle::new();
    let id = format!("test-{}-invalid", bundle::tag());
    let mut config = template(&bundle);
    if let Some(patch) = case.get("config") {
        merge(&mut config, patch);
    }
    let text = case["raw"].as_str().map_or_else(|| config.to_string(), str::to_owned);
    fs::write(bundle.path.join("config.json"), text).expect("config.json");

    let fill = |text: &str| text.replace("{bundle}", &bundle.path.to_string_lossy()).replace("{id}", &id);
    let default = json!(["create", "--bundle", "{bundle}", "{id}"]);
    let args = case.get("args").unwrap_or(&default).as_array().expect("args");
    let args: Vec<String> = args.iter().map(|arg| fill(arg.as_str().expect("an argument"))).collect();

    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let before = Listing::take();
    let done = if args.contains(&"--root") { bare(&args) } else { berth(&args) }.done();
    let changed = before.changes();
    let verdict = judge(case, &done, &fill, &changed);
    if verdict.is_err() {
        // Nothing of this case may stand in the way of the next.
        berth(&["delete", "--force", &id]).done();
    }
    verdict.map_err(|text| format!("{name}: {text}"))
}

/// A case that brings its own state root.
fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(args).stdin(Stdio::null());
    command
}

fn judge(
    case: &Value,
    done: &Done,
    fill: &impl Fn(&str) -> String,
    changed: &[String],
) -> Result<(), String> {
    let expected = i32::try_from(case["exit"].as_i64().unwrap_or(1)).expect("an exit code");
    let stderr = done.stderr();
    if done.code() != expected {
        return Err(format!("exit code {} and not {expected}: {stderr}", done.code()));
    }
    if stderr.lines().count() != 1 {
        return Err(format!("not one line: {stderr}"));
    }
    // The text format quotes the message.
    let stderr = stderr.replace("\\\"", "\"");
    for words in case["stderr"].as_array().expect("stderr") {
        let words = fill(words.as_str().expect("words"));
        if !stderr.contains(&words) {
            return Err(format!("{words:?} is not in: {stderr}"));
        }
    }
    if !changed.is_empty() {
        return Err(format!("it left: {changed:?}"));
    }
    Ok(())
}

/// RFC 7396, JSON Merge Patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        let object = target.as_object_mut().expect("an object");
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}
