//! --log, --log-format, --debug: what containerd and Podman parse.

use crate::harness::program::{Bounded, directory, path, root};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

tests! {
    json_error_is_one_line, text_error_is_one_line, error_is_on_stderr_once, log_is_appended, success_is_silent, debug_says_more,
    unknown_format_is_refused, log_that_cannot_be_opened, log_of_a_detached_container, log_level_of_crun, message_of_several_lines_stays_one,
}

fn berth(flags: &[&str], args: &[&str]) -> Done {
    let mut command = Command::new(path());
    command.arg("--root").arg(root()).args(flags).args(args).stdin(Stdio::null());
    command.done()
}

fn log_file() -> String {
    directory().join("the.log").to_string_lossy().into_owned()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")))
        .collect()
}

fn json_error_is_one_line() {
    let log = log_file();
    let done = berth(&["--log", &log, "--log-format", "json"], &["state", "nobody"]).exits(1);
    let text = fs::read_to_string(&log).expect("log");
    // Podman reads the whole file as one object.
    let lines = json_lines(&text);
    assert_eq!(lines.len(), 1, "{text}");
    let entry = &lines[0];
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().is_some_and(|text| text.contains("container does not exist")), "{entry}");
    let time = entry["time"].as_str().expect("time");
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "RFC 3339: {time}");
    assert!(done.stderr().contains("container does not exist"));
}

fn text_error_is_one_line() {
    let log = log_file();
    berth(&["--log", &log], &["state", "nobody"]).exits(1);
    let text = fs::read_to_string(&log).expect("log");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("level=error") && text.contains("msg=") && text.contains("container does not exist"),
        "{text}"
    );
}

fn error_is_on_stderr_once() {
    for flags in [vec![], vec!["--log-format", "json"], vec!["--log", "/dev/null"]] {
        let done = berth(&flags, &["state", "nobody"]).exits(1);
        let stderr = done.stderr();
        assert_eq!(stderr.matches("container does not exist").count(), 1, "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

fn log_is_appended() {
    let log = log_file();
    fs::write(&log, "{\"level\":\"info\",\"msg\":\"of another\"}\n").expect("log");
    berth(&["--log", &log, "--log-format", "json"], &["state", "one"]).exits(1);
    berth(&["--log", &log, "--log-format=json"], &["state", "two"]).exits(1);
    let lines = json_lines(&fs::read_to_string(&log).expect("log"));
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0]["msg"], "of another");
}

fn success_is_silent() {
    let log = log_file();
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.bundle.write();
    let bundle = container.bundle.path.to_string_lossy().into_owned();
    let id = container.id.clone();
    let done = berth(&["--log", &log, "--log-format", "json"], &["create", "--bundle", &bundle, &id]).ok();
    assert_eq!((done.stdout(), done.stderr()), (String::new(), String::new()));
    container.start();
    container.await_status("stopped");
    let text = fs::read_to_string(&log).unwrap_or_default();
    assert!(
        json_lines(&text).iter().all(|entry| entry["level"] != "error" && entry["level"] != "warning"),
        "{text}"
    );
}

fn debug_says_more() {
    let log = log_file();
    let container = Bundle::new().steps(&["exit:0"]).container();
    container.bundle.write();
    let bundle = container.bundle.path.to_string_lossy().into_owned();
    berth(&["--debug", "--log", &log, "--log-format", "json"], &["run", "--bundle", &bundle, &container.id])
        .ok();
    let lines = json_lines(&fs::read_to_string(&log).expect("log"));
    assert!(lines.iter().any(|entry| entry["level"] == "debug"), "{lines:?}");
}

fn unknown_format_is_refused() {
    let done = berth(&["--log-format", "nonsense"], &["list"]);
    assert_ne!(done.code(), 0, "{}", done.describe());
    assert!(
        done.stderr().contains("nonsense") || done.stderr().contains("log-format"),
        "{}",
        done.describe()
    );
}

fn log_that_cannot_be_opened() {
    let done = berth(&["--log", "/no/such/directory/log"], &["list"]);
    assert_eq!(done.code(), 1, "{}", done.describe());
    assert!(done.stderr().contains("/no/such/directory/log"), "{}", done.describe());
}

fn log_of_a_detached_container() {
    let log = log_file();
    let container = Bundle::new().bind("/none".as_ref(), "/mnt", &["bind"]).container();
    container.bundle.write();
    let bundle = container.bundle.path.to_string_lossy().into_owned();
    let done = berth(
        &["--log", &log, "--log-format", "json"],
        &["run", "--detach", "--bundle", &bundle, &container.id],
    )
    .exits(1);
    let lines = json_lines(&fs::read_to_string(&log).expect("log"));
    let errors: Vec<_> = lines.iter().filter(|entry| entry["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "{lines:?}");
    assert!(errors[0]["msg"].as_str().is_some_and(|text| text.contains("/none")), "{errors:?}");
    assert!(done.stderr().contains("/none"));
    assert_eq!(fs::metadata(&log).expect("log").permissions().mode() & 0o111, 0);
}

fn log_level_of_crun() {
    berth(&["--log-level", "debug"], &["list"]).ok();
    berth(&["--log-level=error"], &["list"]).ok();
}

fn message_of_several_lines_stays_one() {
    let log = log_file();
    let container = Bundle::new().args(&["/no\nsuch\ncommand"]).container();
    container.bundle.write();
    let bundle = container.bundle.path.to_string_lossy().into_owned();
    berth(&["--log", &log, "--log-format", "json"], &["run", "--bundle", &bundle, &container.id]).exits(1);
    let lines = json_lines(&fs::read_to_string(&log).expect("log"));
    assert_eq!(lines.iter().filter(|entry| entry["level"] == "error").count(), 1, "{lines:?}");
}
