//! Flags, outputs and exit codes that programs depend on.

use crate::harness::program::{Bounded, berth_in, directory, path, root};
use crate::harness::*;
use crate::tests;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

tests! {
    version_has_its_lines, root_of_slash_is_refused, unknown_command, unknown_flag, missing_id, help_succeeds, global_flags_of_clients,
    flags_with_equals_and_single_letters, bundle_defaults_to_the_working_directory, config_that_lies_elsewhere, spec_makes_a_bundle_that_runs, spec_does_not_overwrite,
    spec_rootless, foreground_forwards_signals, foreground_exit_code_of_a_killed_container, pid_file_of_run, missing_bundle,
    missing_config, extra_arguments_are_refused, root_is_made, relative_bundle, stdout_of_create_is_the_containers, kill_of_a_foreground_run_forwards_term,
    pid_file_in_a_missing_directory, id_may_hold_these_characters, relative_root,
}

fn bare(args: &[&str]) -> Done {
    let mut command = Command::new(path());
    command.args(args).stdin(Stdio::null());
    command.done()
}

fn version_has_its_lines() {
    let done = bare(&["--version"]).ok();
    let (stdout, stderr) = (done.stdout(), done.stderr());
    assert_eq!(stderr, "");
    let lines: Vec<&str> = stdout.lines().collect();
    let first: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!((first[1], first.len()), ("version", 3), "{stdout}");
    assert!(first[2].starts_with(|first: char| first.is_ascii_digit()), "{stdout}");
    assert!(lines.iter().any(|line| line.starts_with("commit: ")), "{stdout}");
    assert!(lines.iter().any(|line| line.starts_with("spec: 1.")), "{stdout}");
    assert_eq!(bare(&["-v"]).ok().stdout(), stdout);
}

fn root_of_slash_is_refused() {
    for root in ["/", "//", "/./"] {
        let done = bare(&["--root", root, "list"]);
        assert_ne!(done.code(), 0, "{root}: {}", done.describe());
    }
}

fn unknown_command() {
    let done = bare(&["nonsense"]);
    assert!(done.code() > 0, "{}", done.describe());
    assert!(done.stderr().contains("nonsense") || done.stdout().contains("nonsense"), "{}", done.describe());
}

fn unknown_flag() {
    let done = bare(&["create", "--nonsense", "id"]);
    assert!(done.code() > 0, "{}", done.describe());
    assert!(done.stderr().contains("nonsense"), "{}", done.describe());
}

fn missing_id() {
    for verb in ["create", "start", "state", "kill", "delete", "run"] {
        let done = bare(&["--root", root().to_str().expect("root"), verb]);
        assert!(done.code() > 0, "{verb}: {}", done.describe());
        assert!(!done.stderr().is_empty(), "{verb}");
    }
}

fn extra_arguments_are_refused() {
    for args in [["state", "one", "two"], ["start", "one", "two"], ["delete", "one", "two"]] {
        let done = berth_in(&root(), &args).done();
        assert!(done.code() > 0, "{args:?}: {}", done.describe());
    }
}

fn help_succeeds() {
    let help = bare(&["--help"]).ok().stdout();
    for verb in ["create", "start", "state", "kill", "delete", "run", "list", "spec"] {
        assert!(help.contains(verb), "{verb}: {help}");
        let own = bare(&[verb, "--help"]).ok();
        assert!(own.stdout().contains(verb) && own.stderr().is_empty(), "{}", own.describe());
    }
}

/// All of them before the verb, as go-runc, conmon and CRI-O send them.
fn global_flags_of_clients() {
    let root = root().to_string_lossy().into_owned();
    let log = directory().join("log").to_string_lossy().into_owned();
    for flags in [
        vec!["--root", root.as_str(), "--log", log.as_str(), "--log-format", "json"],
        vec!["--root", &root, "--rootless", "auto"],
        vec!["--root", &root, "--rootless=false"],
        vec!["--root", &root, "--criu", "/usr/sbin/criu"],
        vec!["--root", &root, "--debug", "--log", &log],
        vec!["--root", &root, "--cgroup-manager", "cgroupfs"],
        vec!["--root", &root, "--cgroup-manager=disabled"],
    ] {
        let mut args = flags.clone();
        args.extend(["list", "-q"]);
        let done = bare(&args);
        assert_eq!(done.code(), 0, "{flags:?}: {}", done.describe());
    }
}

fn flags_with_equals_and_single_letters() {
    let container = Bundle::new().steps(&["exit:0"]).container();
    container.bundle.write();
    let bundle = container.bundle.path.to_string_lossy().into_owned();
    berth_in(&root(), &["run", "-b", &bundle, &container.id]).done().ok();
    berth_in(&root(), &["run", &format!("--bundle={bundle}"), &container.id]).done().ok();
    berth_in(&root(), &["run", "-d", "-b", &bundle, &container.id]).done().ok();
    container.await_status("stopped");
    berth_in(&root(), &["delete", "-f", &container.id]).done().ok();
}

/// As with crun: another file, by a path that starts where the caller is, for the same bundle.
fn config_that_lies_elsewhere() {
    let mut container = Bundle::new().steps(&["echo:elsewhere"]).container();
    container.bundle.write();
    let (inside, outside) = (container.bundle.path.join("config.json"), directory().join("elsewhere.json"));
    fs::rename(inside, &outside).expect("rename");
    let mut command = container.command("run", &["--config", "elsewhere.json"]);
    fs::remove_file(container.bundle.path.join("config.json")).expect("config.json");
    command.current_dir(directory());
    assert_eq!(command.done().ok().stdout(), "elsewhere\n");
    let done = container.try_create(&["-f", "/no/such/config.json"]);
    assert!(done.stderr().contains("/no/such/config.json"), "{}", done.describe());
}

fn bundle_defaults_to_the_working_directory() {
    let container = Bundle::new().steps(&["echo:here"]).container();
    container.bundle.write();
    let mut command = berth_in(&root(), &["run", &container.id]);
    command.current_dir(&container.bundle.path);
    assert_eq!(command.done().ok().stdout(), "here\n");
}

fn relative_bundle() {
    let mut container = Bundle::new().steps(&["sleep:100"]).container();
    container.bundle.write();
    let name = container.bundle.path.file_name().expect("name").to_string_lossy().into_owned();
    let mut command = berth_in(&root(), &["create", "--bundle", &name, &container.id]);
    command.current_dir(directory());
    command.done().ok();
    assert_eq!(container.state()["bundle"], container.bundle.path.to_str().expect("path"), "absolute");
    container.start();
}

fn relative_root() {
    let mut command = Command::new(path());
    command.args(["--root", "relative", "list", "-q"]).current_dir(directory()).stdin(Stdio::null());
    command.done().ok();
    let container = Bundle::new().steps(&["sleep:100"]).container();
    container.bundle.write();
    let mut command = berth_in("relative".as_ref(), &["create", "--bundle"]);
    command.arg(&container.bundle.path).arg(&container.id).current_dir(directory());
    command.done().ok();
    let absolute = directory().join("relative");
    berth_in(&absolute, &["state", &container.id]).done().ok();
    berth_in(&absolute, &["delete", "--force", &container.id]).done().ok();
}

fn spec_makes_a_bundle_that_runs() {
    let mut container = Bundle::new().container();
    let mut command = Command::new(path());
    command.arg("spec").current_dir(&container.bundle.path).stdin(Stdio::null());
    assert_eq!(command.done().ok().stdout(), "");
    let text = fs::read_to_string(container.bundle.path.join("config.json")).expect("config.json");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&config["process"]["args"], &config["process"]["terminal"]), (&json!(["sh"]), &json!(true)));
    assert_eq!(config["root"]["readonly"], true);
    container.bundle.config = config;
    super::harness::bundle::set(&mut container.bundle.config, "/process/terminal", json!(false));
    let report = container.report();
    assert_eq!((&report["hostname"], &report["no_new_privs"]), (&report["hostname"], &json!("1")));
    assert_eq!(report.capabilities("effective"), ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    assert!(report.mount("/sys/fs/cgroup").is_some());
}

fn spec_does_not_overwrite() {
    let bundle = Bundle::new();
    fs::write(bundle.path.join("config.json"), "mine").expect("config.json");
    let done = bare(&["spec", "--bundle", bundle.path.to_str().expect("path")]).exits(1);
    assert!(done.stderr().contains("exists"), "{}", done.describe());
    assert_eq!(fs::read_to_string(bundle.path.join("config.json")).expect("config.json"), "mine");
}

fn spec_rootless() {
    let bundle = Bundle::new();
    bare(&["spec", "--rootless", "-b", bundle.path.to_str().expect("path")]).ok();
    let config: Value =
        serde_json::from_str(&fs::read_to_string(bundle.path.join("config.json")).expect("config.json"))
            .expect("JSON");
    let kinds: Vec<_> = config["linux"]["namespaces"]
        .as_array()
        .expect("namespaces")
        .iter()
        .map(|entry| entry["type"].clone())
        .collect();
    assert!(kinds.contains(&json!("user")) && !kinds.contains(&json!("network")), "{kinds:?}");
    assert_eq!(config["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": 0, "size": 1 }]));
}

fn foreground_forwards_signals() {
    let container = Bundle::new().steps(&["signals:SIGHUP,SIGUSR1,SIGINT,SIGTERM"]).container();
    let running = container.run_in_background(&[]);
    running.await_stdout("ready");
    let pid = Pid::from_raw(running.child.id().cast_signed());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGINT] {
        kill(pid, signal).expect("kill");
        running.await_stdout(signal.as_str());
    }
    kill(pid, Signal::SIGTERM).expect("kill");
    assert_eq!(running.wait().code(), 0, "the payload ends in order");
}

fn kill_of_a_foreground_run_forwards_term() {
    let container = Bundle::new().without_namespace("pid").steps(&["echo:ready", "sleep:1000"]).container();
    let running = container.run_in_background(&[]);
    running.await_stdout("ready");
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGTERM).expect("kill");
    assert_eq!(running.wait().code(), 128 + 15);
}

fn foreground_exit_code_of_a_killed_container() {
    let container = Bundle::new().steps(&["echo:ready", "sleep:1000"]).container();
    let running = container.run_in_background(&[]);
    running.await_stdout("ready");
    container.kill("KILL");
    assert_eq!(running.wait().code(), 128 + 9);
}

fn pid_file_of_run() {
    let container = Bundle::new().steps(&["echo:ready", "sleep:1000"]).container();
    let file = container.pid_file();
    let running = container.run_in_background(&["--pid-file", file.to_str().expect("path")]);
    running.await_stdout("ready");
    assert!(program::await_condition(|| file.exists()));
    assert_eq!(container.state()["pid"], container.pid());
    container.kill("KILL");
    running.wait();
}

fn pid_file_in_a_missing_directory() {
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    container.command("create", &["--pid-file", "/no/such/directory/pid"]).done().fails("/no/such/directory");
    container.verb("state", &[], &[]).done().fails("does not exist");
}

fn missing_bundle() {
    let done = berth_in(&root(), &["create", "--bundle", "/no/such/bundle", "id"]).done().exits(1);
    assert!(done.stderr().contains("/no/such/bundle"), "{}", done.describe());
}

fn missing_config() {
    let done =
        berth_in(&root(), &["create", "--bundle", directory().to_str().expect("path"), "id"]).done().exits(1);
    assert!(done.stderr().contains("config.json"), "{}", done.describe());
    assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
}

fn root_is_made() {
    let fresh = directory().join("fresh/state");
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    container.bundle.write();
    berth_in(&fresh, &["create", "--bundle", container.bundle.path.to_str().expect("path"), &container.id])
        .done()
        .ok();
    let mode = fs::metadata(&fresh).expect("root").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    berth_in(&fresh, &["delete", "--force", &container.id]).done().ok();
}

fn stdout_of_create_is_the_containers() {
    let mut container = Bundle::new().steps(&["echo:only this"]).container();
    container.up();
    container.await_status("stopped");
    assert_eq!(container.output(), "only this\n");
}

fn id_may_hold_these_characters() {
    for id in ["a", "A-b_c.d+e", "0123456789", &"x".repeat(200)] {
        let bundle = Bundle::new().steps(&["exit:0"]);
        bundle.write();
        berth_in(&root(), &["run", "--bundle", bundle.path.to_str().expect("path"), id]).done().ok();
    }
}
