//! create, start, state, kill, delete, list.

use crate::harness::program::{Bounded, await_condition, berth, root};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::*;
use crate::tests;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

tests! {
    runs_to_the_end, states_in_order, state_has_the_fields_of_the_spec, pid_file_has_no_newline,
    id_in_use_is_refused, bad_ids_are_refused, unknown_id_does_not_exist, signal_to_a_stopped_container,
    start_twice, start_of_a_stopped_container, delete_of_a_running_container, delete_of_a_created_container,
    force_delete_of_an_unknown_id_succeeds, force_delete_of_a_running_container, kill_of_a_created_container,
    kill_takes_names_and_numbers, kill_all_of_a_stopped_container_succeeds, later_edits_of_the_config_have_no_effect,
    concurrent_creates_of_one_id, create_killed_at_any_instant_leaves_nothing, init_dies_with_its_creator_before_created,
    list_shows_containers, list_of_an_empty_root, state_directory_is_private, failing_command_at_create,
    command_that_is_not_executable, annotations_are_in_the_state, delete_is_idempotent_with_force, the_runtime_may_be_moved,
    foreground_run_leaves_no_state, run_keep_leaves_the_state, run_detached_returns_while_it_runs,
    pidfd_socket_gets_the_first_process, orphans_come_to_run_unless_told, containers_by_regex,
    killed_and_deleted_on_one_line, lives_on_without_its_first_thread, a_bundle_that_is_a_trap,
}

fn sleeper() -> Bundle {
    Bundle::new().steps(&["echo:started", "sleep:1000"])
}

fn runs_to_the_end() {
    let report = Bundle::new().report();
    assert_eq!(report["pid"], 1);
    assert_eq!(report["args"], json!(["/bin/payload", "report"]));
}

fn states_in_order() {
    let mut container = sleeper().container();
    container.create();
    assert_eq!(container.status(), "created");
    assert!(!container.output().contains("started"), "the process ran before start");
    container.start();
    container.await_output("started");
    assert_eq!(container.status(), "running");
    container.kill("KILL");
    container.await_status("stopped");
    assert_eq!(container.state()["pid"], 0);
    container.verb("delete", &[], &[]).done().ok();
    container.verb("state", &[], &[]).done().fails("does not exist");
}

fn state_has_the_fields_of_the_spec() {
    let mut container = sleeper().container();
    container.create();
    let state = container.state();
    assert_eq!(state["id"], container.id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], container.pid());
    assert_eq!(state["bundle"], container.bundle.path.to_str().expect("a path"));
    assert_eq!(state["rootfs"], container.bundle.rootfs().to_str().expect("a path"));
    assert!(state["owner"].is_string(), "{state}");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
    let created = state["created"].as_str().expect("created");
    assert!(created.contains('T') && created.ends_with('Z'), "RFC 3339: {created}");
    let text = container.verb("state", &[], &[]).done().ok().stdout();
    assert!(text.starts_with("{\n  \"ociVersion\""), "indented: {text}");
}

fn pid_file_has_no_newline() {
    let mut container = sleeper().container();
    container.create();
    let text = fs::read_to_string(container.pid_file()).expect("pid file");
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty(), "{text:?}");
    assert_eq!(container.state()["pid"].to_string(), text);
}

fn id_in_use_is_refused() {
    let mut container = sleeper().container();
    container.create();
    container.command("create", &[]).done().fails("container with given ID already exists");
    assert_eq!(container.status(), "created", "the first one is untouched");
}

fn bad_ids_are_refused() {
    let bundle = sleeper();
    bundle.write();
    for id in ["", ".", "..", "a/b", "../../etc", "a b", "ä", "a\nb", "*"] {
        let mut command = berth(&["create"]);
        command.arg("--bundle").arg(&bundle.path).arg(id);
        let done = command.done();
        assert_eq!(done.code(), 1, "{id:?}: {}", done.describe());
        let stderr = done.stderr();
        assert!(
            stderr.contains("container ID") || stderr.contains("container id"),
            "{id:?}: {}",
            done.describe()
        );
        if !id.is_empty() {
            assert!(stderr.contains("invalid container ID format"), "{id:?}: {}", done.describe());
        }
    }
    assert!(fs::read_dir(root()).map_or(0, Iterator::count) == 0, "nothing in the state root");
}

fn unknown_id_does_not_exist() {
    for args in [
        ["state", "nobody"].as_slice(),
        &["start", "nobody"],
        &["kill", "nobody", "KILL"],
        &["delete", "nobody"],
    ] {
        berth(args).done().fails("container does not exist");
    }
}

fn signal_to_a_stopped_container() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.up();
    container.await_status("stopped");
    container.verb("kill", &[], &["TERM"]).done().fails("container not running");
}

fn start_twice() {
    let mut container = sleeper().container();
    container.up();
    container.verb("start", &[], &[]).done().fails("cannot start an already running container");
    assert_eq!(container.status(), "running");
}

fn start_of_a_stopped_container() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.up();
    container.await_status("stopped");
    container.verb("start", &[], &[]).done().fails("cannot start a container that has stopped");
}

fn delete_of_a_running_container() {
    let mut container = sleeper().container();
    container.up();
    let words = format!("cannot delete container {} that is not stopped: running", container.id);
    container.verb("delete", &[], &[]).done().fails(&words);
    assert_eq!(container.status(), "running");
}

/// runtime.md, Delete: a container that is not stopped is an error; the peers all accept `created`.
fn delete_of_a_created_container() {
    let mut container = sleeper().container();
    container.create();
    container.verb("delete", &[], &[]).done().fails("that is not stopped: created");
    assert_eq!(container.status(), "created");
}

fn force_delete_of_an_unknown_id_succeeds() {
    berth(&["delete", "--force", "nobody"]).done().ok();
}

fn force_delete_of_a_running_container() {
    let mut container = sleeper().container();
    container.up();
    let pid = container.pid();
    container.verb("delete", &["-f"], &[]).done().ok();
    assert!(!host::processes().iter().any(|(other, _, _)| *other == pid), "{pid} lives");
    container.verb("state", &[], &[]).done().fails("does not exist");
}

fn kill_of_a_created_container() {
    let mut container = sleeper().container();
    container.create();
    container.kill("KILL");
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
}

fn kill_takes_names_and_numbers() {
    let mut container = Bundle::new().steps(&["signals:SIGHUP,SIGUSR1,SIGUSR2,SIGINT,SIGTERM"]).container();
    container.up();
    container.await_output("ready");
    for (argument, name) in [("HUP", "SIGHUP"), ("SIGUSR1", "SIGUSR1"), ("12", "SIGUSR2"), ("int", "SIGINT")]
    {
        container.kill(argument);
        container.await_output(name);
    }
    container.verb("kill", &[], &["NONSENSE"]).done().fails("NONSENSE");
    container.verb("kill", &[], &["99"]).done().exits(1);
    // No signal named: SIGTERM.
    container.verb("kill", &[], &[]).done().ok();
    container.await_status("stopped");
}

fn kill_all_of_a_stopped_container_succeeds() {
    let mut container = Bundle::new().steps(&["exit:0"]).container();
    container.up();
    container.await_status("stopped");
    container.verb("kill", &["--all"], &["KILL"]).done().ok();
}

fn later_edits_of_the_config_have_no_effect() {
    let mut container = Bundle::new().steps(&["report", "sleep:1000"]).container();
    container.create();
    container.bundle.config = json!({ "ociVersion": "9.9.9", "process": { "args": ["/nonsense"] } });
    container.bundle.write();
    container.start();
    assert_eq!(container.started_report()["args"], json!(["/bin/payload", "report", "sleep:1000"]));
    assert_ne!(container.state()["ociVersion"], "9.9.9");
    fs::write(container.bundle.path.join("config.json"), "not JSON").expect("config.json");
    container.kill("KILL");
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
}

fn concurrent_creates_of_one_id() {
    let container = sleeper().container();
    let running: Vec<_> = (0..6).map(|_| container.command("create", &[]).start()).collect();
    let done: Vec<Done> = running.into_iter().map(program::Running::wait).collect();
    let winners = done.iter().filter(|done| done.status.success()).count();
    assert_eq!(winners, 1, "{done:?}");
    for loser in done.into_iter().filter(|done| !done.status.success()) {
        loser.fails("container with given ID already exists");
    }
    assert_eq!(container.status(), "created");
}

/// A create that is killed after any time leaves only what `delete --force` removes.
fn create_killed_at_any_instant_leaves_nothing() {
    for round in 0..24_u32 {
        let container = sleeper().container();
        let mut running = container.command("create", &[]).start();
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 1_300 * u64::from(slow())));
        running.child.kill().expect("kill create");
        running.wait();
        container.verb("delete", &["--force"], &[]).done().ok();
        container.verb("state", &[], &[]).done().fails("does not exist");
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(
            await_condition(|| host::descendants(own).is_empty()),
            "round {round}: {:?}",
            host::descendants(own)
        );
        let cgroups = host::cgroups_with(&container.bundle.cgroup_path());
        assert!(cgroups.is_empty(), "round {round}: {cgroups:?}");
        let state: Vec<_> =
            fs::read_dir(root()).map(|entries| entries.flatten().collect()).unwrap_or_default();
        assert!(state.is_empty(), "round {round}: {state:?}");
    }
}

/// Without any delete: no process survives a create that was killed before it finished.
fn init_dies_with_its_creator_before_created() {
    for round in 0..8_u32 {
        let container = sleeper().hook("prestart", &["sleep:1000"]).container();
        let mut running = container.command("create", &[]).start();
        let own = i32::try_from(std::process::id()).expect("a pid");
        let hook_runs = || host::descendants(own).iter().any(|(_, name)| name == "payload");
        assert!(await_condition(hook_runs), "round {round}: the hook did not start");
        running.child.kill().expect("kill create");
        running.wait();
        let berths =
            || host::descendants(own).into_iter().filter(|(_, name)| name != "payload").collect::<Vec<_>>();
        assert!(await_condition(|| berths().is_empty()), "round {round}: {:?}", berths());
        for (pid, _) in host::descendants(own) {
            host::kill_process(pid);
        }
    }
}

fn list_shows_containers() {
    let mut first = sleeper().container();
    first.up();
    let mut second = sleeper().container();
    second.create();
    let quiet = berth(&["list", "-q"]).done().ok().stdout();
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut expected = vec![first.id.as_str(), second.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let table = berth(&["list"]).done().ok().stdout();
    let head: Vec<&str> = table.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert!(
        table.contains(&first.pid().to_string()) && table.contains("running") && table.contains("created"),
        "{table}"
    );
    let text = berth(&["list", "--format", "json"]).done().ok().stdout();
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let found = listed.as_array().expect("an array").iter().find(|entry| entry["id"] == first.id.as_str());
    assert_eq!(found.expect("the first")["status"], "running");
}

fn list_of_an_empty_root() {
    assert_eq!(berth(&["list", "-q"]).done().ok().stdout(), "");
    let text = berth(&["list", "-f", "json"]).done().ok().stdout();
    assert!(["null", "[]"].contains(&text.trim()), "{text:?}");
    berth(&["list", "-f", "nonsense"]).done().exits(1);
}

fn state_directory_is_private() {
    let mut container = sleeper().container();
    container.create();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("state").permissions().mode() & 0o7777;
    assert_eq!(mode(&root()) & 0o077, 0, "state root {:o}", mode(&root()));
    for entry in fs::read_dir(root()).expect("state root").flatten() {
        assert_eq!(mode(&entry.path()) & 0o066, 0, "{:?}", entry.path());
    }
}

fn failing_command_at_create() {
    let mut container = Bundle::new().args(&["/does/not/exist"]).container();
    let done = container.try_create(&[]);
    assert_eq!(done.code(), 1, "{}", done.describe());
    let stderr = done.stderr();
    assert!(stderr.contains("no such file or directory") && stderr.contains("/does/not/exist"), "{stderr}");
    container.verb("state", &[], &[]).done().fails("does not exist");
    Bundle::new().args(&["no-such-command"]).refused("executable file not found in $PATH");
}

fn command_that_is_not_executable() {
    Bundle::new().file("/etc/text", "text", 0o644).args(&["/etc/text"]).refused("permission denied");
    Bundle::new().args(&["/etc"]).refused("permission denied");
}

fn annotations_are_in_the_state() {
    let mut container =
        sleeper().set("/annotations", json!({ "one": "1", "two.with/slash": "" })).container();
    container.create();
    assert_eq!(container.state()["annotations"], json!({ "one": "1", "two.with/slash": "" }));
}

fn delete_is_idempotent_with_force() {
    let mut container = sleeper().container();
    container.up();
    for _ in 0..3 {
        container.verb("delete", &["--force"], &[]).done().ok();
    }
}

/// `state` and `delete` of a container whose bundle has gone.
fn the_runtime_may_be_moved() {
    let mut container = sleeper().container();
    container.up();
    let moved = container.bundle.path.with_extension("moved");
    fs::rename(&container.bundle.path, &moved).expect("move the bundle");
    assert_eq!(container.status(), "running");
    container.kill("KILL");
    container.await_status("stopped");
    container.verb("delete", &[], &[]).done().ok();
    fs::rename(&moved, &container.bundle.path).expect("move it back");
}

fn foreground_run_leaves_no_state() {
    let container = Bundle::new().steps(&["echo:done"]).container();
    assert_eq!(container.run().ok().stdout(), "done\n");
    container.verb("state", &[], &[]).done().fails("does not exist");
    assert!(host::cgroups_with(&container.bundle.cgroup_path()).is_empty());
}

fn run_keep_leaves_the_state() {
    let container = Bundle::new().steps(&["echo:done"]).container();
    container.command("run", &["--keep"]).done().ok();
    assert_eq!(container.status(), "stopped");
    container.verb("delete", &[], &[]).done().ok();
}

fn run_detached_returns_while_it_runs() {
    let container = sleeper().container();
    container.command("run", &["--detach"]).done().ok();
    assert_eq!(container.status(), "running");
    container.finish();
}

fn pidfd_socket_gets_the_first_process() {
    let socket = ConsoleSocket::new();
    let flags = ["--pidfd-socket", socket.path.to_str().expect("path")];
    let is_pidfd_of = |pid: i32| {
        let message = socket.receive();
        assert_eq!(message.descriptors.len(), 1);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", message.descriptors[0].as_raw_fd()));
        assert!(info.expect("fdinfo").contains(&format!("Pid:\t{pid}\n")), "not a pidfd of {pid}");
    };
    let mut created = sleeper().container();
    assert!(created.try_create(&flags).status.success());
    is_pidfd_of(created.pid());
    let running = sleeper().container();
    let pid_file = running.pid_file();
    let all = [&flags[..], &["--detach", "--pid-file", pid_file.to_str().expect("path")]].concat();
    running.command("run", &all).done().ok();
    is_pidfd_of(running.pid());
}

/// Without a pid namespace of its own nobody in the container waits for its orphans.
fn orphans_come_to_run_unless_told() {
    for (flags, comes_to_run) in [(&[][..], true), (&["--no-subreaper"][..], false)] {
        // A child that makes a child and ends.
        let steps = ["background:background:sleep:1000", "echo:started", "sleep:1000"];
        let container = Bundle::new().without_namespace("pid").steps(&steps).container();
        let running = container.run_in_background(flags);
        running.await_stdout("started");
        let init = container.state()["pid"].as_i64().expect("a pid");
        let run = i64::from(running.child.id());
        let own = i64::from(std::process::id());
        let reaper = if comes_to_run { run } else { own };
        let is_there = || {
            let text = container.verb("ps", &["--format", "json"], &[]).done().ok().stdout();
            let pids: Vec<i64> = serde_json::from_str(&text).expect("pids");
            host::processes().iter().any(|(pid, parent, _)| {
                i64::from(*pid) != init && pids.contains(&i64::from(*pid)) && i64::from(*parent) == reaper
            })
        };
        assert!(await_condition(is_there), "{flags:?}: the orphan did not come to {reaper}");
        container.kill("KILL");
        running.wait();
    }
}

fn containers_by_regex() {
    let mut containers = [sleeper().container(), sleeper().container(), sleeper().container()];
    for (number, container) in containers.iter_mut().enumerate() {
        container.id = format!("{}-{}", if number < 2 { "even" } else { "odd" }, container.id);
        container.up();
        container.await_output("started");
    }
    berth(&["kill", "--regex", "^even-", "KILL"]).done().ok();
    containers[0].await_status("stopped");
    containers[1].await_status("stopped");
    assert_eq!(containers[2].status(), "running");
    berth(&["delete", "--regex", "^even-.*"]).done().ok();
    let listed = berth(&["list", "-q"]).done().ok().stdout();
    assert_eq!(listed.lines().collect::<Vec<_>>(), [containers[2].id.as_str()]);
    berth(&["delete", "-r", "-f", "."]).done().ok();
    assert_eq!(berth(&["list", "-q"]).done().ok().stdout(), "");
    berth(&["kill", "-r", "(", "KILL"]).done().fails("--regex");
}

/// As README has it; what was killed needs a moment to die.
fn killed_and_deleted_on_one_line() {
    for _ in 0..15 {
        let mut container = sleeper().container();
        container.create().start();
        container.kill("KILL");
        container.verb("delete", &[], &[]).done().ok();
    }
}

/// For /proc/PID/stat such a process is a zombie.
fn lives_on_without_its_first_thread() {
    let mut container = Bundle::new().steps(&["echo:started", "outlive:1000"]).container();
    container.up();
    container.await_output("started");
    let stat = format!("/proc/{}/stat", container.pid());
    assert!(
        await_condition(|| fs::read_to_string(&stat).expect("stat").contains(") Z ")),
        "it has not ended"
    );
    assert_eq!(container.status(), "running");
    container.verb("delete", &[], &[]).done().fails("not stopped");
    container.finish();
}

/// Not a word of it may be waited for.
fn a_bundle_that_is_a_trap() {
    let bundle = Bundle::new();
    let config = bundle.path.join("config.json");
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    for verb in ["create", "check"] {
        let mut command = berth(&[verb]);
        match verb {
            "create" => command.arg("--bundle").arg(&bundle.path).arg("trap"),
            _ => command.arg(&bundle.path),
        };
        command.done().fails("no regular file");
    }
    fs::remove_file(&config).expect("fifo");
    let bundle = bundle.set("/root/path", "fifo");
    nix::unistd::mkfifo(&bundle.path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    bundle.write();
    let mut check = berth(&["check"]);
    check.arg(&bundle.path);
    assert_ne!(check.done().code(), 0);
}
