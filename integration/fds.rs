//! Descriptors: only the standard streams inside, nothing of berth's or the caller's.

use crate::harness::program::{Bounded, directory, path, root};
use crate::harness::*;
use crate::tests;
use std::fs;
use std::process::{Command, Stdio};

tests! {
    only_standard_streams_are_open, callers_descriptors_stay_outside, preserved_descriptors, preserve_more_than_there_are,
    standard_streams_are_the_callers, closed_standard_streams, created_init_holds_nothing_of_the_host, root_is_not_reachable_by_descriptors,
}

/// `run` below a shell that opens descriptors which are inherited.
fn with_descriptors(container: &Container, redirections: &str, flags: &[&str]) -> Done {
    let command = container.command("run", flags);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirections}")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    shell.done()
}

fn only_standard_streams_are_open() {
    let report = Bundle::new().report();
    assert_eq!(report.descriptors(), [0, 1, 2], "{}", report["fds"]);
}

fn callers_descriptors_stay_outside() {
    let container = Bundle::new().container();
    let done = with_descriptors(&container, "3</etc/passwd 7</ 9>/dev/null", &[]).ok();
    let report = Report::parse(&done.stdout());
    assert_eq!(report.descriptors(), [0, 1, 2], "{}", report["fds"]);
}

fn preserved_descriptors() {
    let container = Bundle::new().container();
    let done =
        with_descriptors(&container, "3</etc/passwd 4</etc/group 5</etc/hosts", &["--preserve-fds", "2"])
            .ok();
    let report = Report::parse(&done.stdout());
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4], "{}", report["fds"]);
}

fn preserve_more_than_there_are() {
    let container = Bundle::new().container();
    let done = with_descriptors(&container, "3</etc/passwd", &["--preserve-fds", "5"]);
    if done.status.success() {
        let report = Report::parse(&done.stdout());
        assert!(report.descriptors().into_iter().all(|fd| fd <= 3), "{}", report["fds"]);
    } else {
        done.exits(1);
    }
}

fn standard_streams_are_the_callers() {
    let container = Bundle::new().steps(&["echo:to stdout", "complain:to stderr"]).container();
    let done = container.run().ok();
    assert_eq!((done.stdout().as_str(), done.stderr().as_str()), ("to stdout\n", "to stderr\n"));
}

/// A caller without standard streams must not get a socket or file of berth's as the container's.
fn closed_standard_streams() {
    let out = directory().join("report");
    let step = "report:/tmp/report";
    let container = Bundle::new().steps(&[step]).container();
    let done = with_descriptors(&container, "<&- >&- 2>&-", &[]);
    assert_eq!(done.code(), 0, "{}", done.describe());
    let text = fs::read_to_string(container.bundle.rootfs().join("tmp/report")).expect("report");
    let report = Report::parse(&text);
    for (fd, target) in report["fds"].as_object().expect("fds") {
        let target = target.as_str().unwrap_or_default();
        assert!(target == "/dev/null" || target == "/null" || target == "/tmp/report", "{fd} is {target}");
    }
    assert!(!out.exists());
}

/// Init that waits for start is in reach of whoever shares its pid namespace: no descriptor of it may lead
/// to a directory other than the container's root.
fn created_init_holds_nothing_of_the_host() {
    let mut container = Bundle::new().steps(&["sleep:1000"]).container();
    container.create();
    let pid = container.pid();
    let rootfs = host::identity(&container.bundle.rootfs());
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("fds").flatten() {
        let directory = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
        if directory && host::identity(&entry.path()) != rootfs {
            found.push((entry.file_name(), fs::read_link(entry.path()).expect("target")));
        }
    }
    assert!(found.is_empty(), "directories: {found:?}");
    let state = root().to_string_lossy().into_owned();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd");
    assert!(!cwd.to_string_lossy().contains(&state), "{}", cwd.display());
}

fn root_is_not_reachable_by_descriptors() {
    let steps: Vec<String> = (3..20).map(|fd| format!("list:/proc/self/fd/{fd}")).collect();
    let report = Bundle::new().report_after(&steps.iter().map(String::as_str).collect::<Vec<_>>());
    for step in &steps {
        let listed = report.probe(step);
        assert!(listed["error"].is_string() || step.ends_with("/fd/3"), "{step}: {listed}");
    }
    assert!(path().exists());
}
