//! What a hostile review found, one test per finding: each did harm, hung, or said the wrong thing once.

use crate::harness::program::{Bounded, Running, await_condition, berth, directory, root};
use crate::harness::*;
use crate::{require, tests};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

tests! {
    foreign_cgroup_without_a_pid_namespace, foreign_cgroup_with_a_pid_namespace, foreign_cgroup_of_a_create_that_fails_earlier,
    neighbour_sees_nothing_of_init, new_user_namespace_with_a_joined_network, last_words_before_the_id_maps,
    reader_of_the_relay_goes_away, terminal_is_closed_and_opened_again, id_given_to_another_while_stopped,
    delete_while_a_hook_hangs, list_beside_what_cannot_be_read, a_directory_with_the_record_of_another, kill_all_without_a_cgroup, frozen_by_hand_before_the_start,
    more_descriptors_than_there_can_be,
}

fn sleeper() -> Bundle {
    Bundle::new().steps(&["sleep:1000"])
}

/// A live process of the test in the cgroup that a bundle names.
struct Squatter {
    process: Running,
    cgroup: String,
}

impl Squatter {
    fn new(cgroup: &str) -> Self {
        let mut command = Command::new(bundle::host_payload());
        command.arg("sleep:1000").stdin(Stdio::null());
        let squatter = Self { process: command.start(), cgroup: cgroup.to_owned() };
        host::make_cgroups(cgroup);
        let pid = squatter.process.child.id().to_string();
        let files = squatter.cgroups().into_iter().map(|path| path.join("cgroup.procs"));
        // A fresh cpuset of v1 takes nobody in; one hierarchy is enough.
        let taken = files.filter(|file| fs::write(file, &pid).is_ok()).count();
        assert!(taken > 0, "no cgroup takes {pid}");
        squatter
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        host::cgroups_with(&self.cgroup)
    }

    #[track_caller]
    fn assert_lives(&mut self) {
        // A SIGKILL takes its time to be seen.
        std::thread::sleep(Duration::from_millis(20) * slow());
        let ended = self.process.child.try_wait().expect("wait");
        assert!(ended.is_none(), "the process of the foreign cgroup ended: {ended:?}");
        let pid = self.process.child.id().to_string();
        let listed = |path: &PathBuf| {
            fs::read_to_string(path.join("cgroup.procs"))
                .is_ok_and(|text| text.lines().any(|line| line == pid))
        };
        assert!(self.cgroups().iter().any(listed), "moved out of its cgroup");
    }

    fn leave(self) {
        let cgroups = self.cgroups();
        drop(self.process);
        assert_eq!(host::remove_cgroups(cgroups), Vec::<PathBuf>::new());
    }
}

/// `create` and `run` beside the squatter: refused with these words and without a wait for anything.
#[track_caller]
fn refused_beside_a_squatter(bundle: Bundle, words: &str) {
    let mut squatter = Squatter::new(&bundle.cgroup_path());
    let mut container = bundle.container();
    for verb in ["create", "run"] {
        let begun = Instant::now();
        let done = if verb == "create" {
            container.try_create(&[]);
            container.command("create", &[]).done().fails(words)
        } else {
            container.run().fails(words)
        };
        assert!(begun.elapsed() < Duration::from_secs(3) * slow(), "{verb} took {:?}", begun.elapsed());
        assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
        squatter.assert_lives();
        assert!(!root().join(&container.id).exists(), "{verb} left a state directory");
        container.verb("state", &[], &[]).done().fails("does not exist");
    }
    container.verb("delete", &["--force"], &[]).done().ok();
    squatter.assert_lives();
    squatter.leave();
}

fn foreign_cgroup_without_a_pid_namespace() {
    refused_beside_a_squatter(sleeper().without_namespace("pid"), "not empty");
}

fn foreign_cgroup_with_a_pid_namespace() {
    refused_beside_a_squatter(sleeper(), "not empty");
}

fn foreign_cgroup_of_a_create_that_fails_earlier() {
    let missing = directory().join("no-such-namespace").to_string_lossy().into_owned();
    let bundle = || sleeper().namespace("network", Some(&missing));
    refused_beside_a_squatter(bundle().without_namespace("pid"), "no-such-namespace");
    refused_beside_a_squatter(bundle(), "no-such-namespace");
}

/// CVE-2016-9962 and its kin: who shares user and pid namespace with a container that is being made, and
/// has all capabilities there, reaches neither the host's files nor descriptors through its init.
fn neighbour_sees_nothing_of_init() {
    const SETS: [&str; 3] = ["bounding", "effective", "permitted"];
    const NAMES: [&str; 4] = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"];
    let marker = directory().join("marker");
    fs::write(&marker, "the host's").expect("marker");
    let watch = format!("watch:{}", marker.display());
    let mapped = || Bundle::new().user_namespace(100_000, 65_536).capabilities(&SETS, &NAMES);
    let mut neighbour = mapped().steps(&[&watch]).container();
    neighbour.up();
    neighbour.await_output("spying");
    let mut bundle =
        mapped().remove("/linux/uidMappings").remove("/linux/gidMappings").steps(&["sleep:1000"]);
    for kind in ["user", "pid"] {
        bundle = bundle.namespace(kind, Some(&format!("/proc/{}/ns/{kind}", neighbour.pid())));
    }
    // Init waits with the host still in sight; the hook itself is a process of the runtime's namespaces.
    let pause = format!("sleep:{}", 0.3 * f64::from(slow()).min(10.0));
    let mut joiner = bundle.hook("createRuntime", &[&pause]).container();
    joiner.create();
    let seen = neighbour.output();
    assert!(seen.contains("saw init"), "the neighbour was not in time: {seen:?}");
    assert!(!seen.contains("reached"), "{seen}");
    joiner.start();
    let seen = neighbour.output();
    assert!(!seen.contains("reached"), "{seen}");
}

fn new_user_namespace_with_a_joined_network() {
    let mut owner = sleeper().container();
    owner.up();
    let path = format!("/proc/{}/ns/net", owner.pid());
    let report = Bundle::new().user_namespace(100_000, 65_536).namespace("network", Some(&path)).report();
    assert_eq!(report.namespace("net"), host::namespace(&owner.pid().to_string(), "net"));
    assert_ne!(report.namespace("user"), host::namespace("self", "user"));
    assert_eq!(report["uid"][0], 0);
}

/// Init ends while the message that its ids are mapped is still unread: its own error is what counts.
fn last_words_before_the_id_maps() {
    for _ in 0..5 {
        let container = sleeper().user_namespace(100_000, 65_536).container();
        let command = container.command("run", &[]);
        // Only init calls it.
        let mut strace = Command::new("strace");
        strace.args([
            "-qq",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=setsid",
            "-e",
            "inject=setsid:error=EPERM",
        ]);
        strace.arg(command.get_program()).args(command.get_args());
        let done = strace.done().fails("setsid");
        assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
    }
}

/// `run` with its stdout in a pipe of ours and /dev/null as stdin.
fn run_into_a_pipe(container: &Container) -> (Running, File) {
    let (read, write): (OwnedFd, OwnedFd) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    let command = container.command("run", &[]);
    let mut shell = Command::new("/bin/sh");
    // `start` gives it a file as stdout; the shell gives it the pipe instead.
    shell
        .args(["-c", "exec \"$@\" >&0 </dev/null", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    shell.stdin(Stdio::from(write));
    let running = shell.start();
    (running, File::from(read))
}

#[track_caller]
fn read_until(pipe: &mut File, words: &str) {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(words) {
        let mut polled = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLIN)];
        let wait = nix::poll::PollTimeout::try_from(program::patience()).expect("patience");
        assert_eq!(nix::poll::poll(&mut polled, wait).expect("poll"), 1, "{words:?} did not come");
        let mut buffer = [0; 4096];
        let length = pipe.read(&mut buffer).expect("pipe");
        assert!(length > 0, "the output ended: {:?}", String::from_utf8_lossy(&text));
        text.extend(&buffer[..length]);
    }
}

fn reader_of_the_relay_goes_away() {
    let container = Bundle::new()
        .set("/process/terminal", true)
        .steps(&["signals:SIGUSR1,SIGTERM", "create:/tmp/went-on", "exit:42"])
        .container();
    let (running, mut pipe) = run_into_a_pipe(&container);
    read_until(&mut pipe, "ready");
    drop(pipe);
    for _ in 0..3 {
        container.kill("USR1");
        // Time for the relay to fail; too little of it only makes the test weaker.
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(container.status(), "running");
    }
    container.kill("TERM");
    let done = running.wait().exits(42);
    assert_eq!(done.stderr(), "");
    assert!(container.bundle.rootfs().join("tmp/went-on").exists());
    container.verb("state", &[], &[]).done().fails("does not exist");
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

/// Between two programs that use the terminal nobody has it open, and reading the master gives EIO.
fn terminal_is_closed_and_opened_again() {
    let container = Bundle::new()
        .set("/process/terminal", true)
        .steps(&["echo:before", "leave-terminal:0.3", "echo:after", "exit:7"])
        .container();
    let (running, mut pipe) = run_into_a_pipe(&container);
    read_until(&mut pipe, "before");
    read_until(&mut pipe, "after");
    running.wait().exits(7);
}

/// The state letter of a process, `T` when stopped.
fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn is_unlocked(state_directory: &Path) -> bool {
    let directory = File::open(state_directory).expect("state directory");
    nix::fcntl::Flock::lock(directory, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
}

fn id_given_to_another_while_stopped() {
    use nix::sys::signal::{Signal, kill};
    let mut container = Bundle::new().steps(&["echo:up", "sleep:1000"]).container();
    let foreground = container.run_in_background(&[]);
    foreground.await_stdout("up");
    // The program runs before berth has given the container free; stopped earlier it would keep it.
    assert!(await_condition(|| is_unlocked(&root().join(&container.id))));
    let pid = nix::unistd::Pid::from_raw(foreground.child.id().cast_signed());
    kill(pid, Signal::SIGSTOP).expect("SIGSTOP");
    assert!(await_condition(|| process_state(foreground.child.id()) == Some('T')));
    container.verb("delete", &["--force"], &[]).done().ok();
    container.up();
    kill(pid, Signal::SIGCONT).expect("SIGCONT");
    // 128 and SIGKILL: how its own container ended.
    foreground.wait().exits(137);
    assert_eq!(container.status(), "running");
    assert!(!host::cgroups_with(&container.bundle.cgroup_path()).is_empty(), "its cgroup was removed");
    container.finish();
}

fn delete_while_a_hook_hangs() {
    let mut container =
        sleeper().hook_at("startContainer", "/bin/payload", &["create:/tmp/hook", "sleep:30"]).container();
    container.create();
    let pid = container.pid();
    let start = container.verb("start", &[], &[]).start();
    let hook = container.bundle.rootfs().join("tmp/hook");
    assert!(await_condition(|| hook.exists()), "the hook does not run");
    let begun = Instant::now();
    container.verb("delete", &["--force"], &[]).done().ok();
    assert!(begun.elapsed() < Duration::from_secs(5) * slow(), "delete took {:?}", begun.elapsed());
    start.wait().fails("the container was ended before its program was executed");
    assert!(!root().join(&container.id).exists());
    assert!(await_condition(|| !Path::new(&format!("/proc/{pid}")).exists()), "init is left");
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
}

fn list_beside_what_cannot_be_read() {
    let mut good = sleeper().container();
    good.up();
    let mut broken = sleeper().container();
    broken.up();
    let stray = root().join("stray");
    fs::write(&stray, "not a container").expect("stray file");
    let state = root().join(&broken.id).join("state.json");
    let text = fs::read(&state).expect("state.json");
    fs::write(&state, &text[..text.len() / 2]).expect("truncated state.json");

    let done = berth(&["list", "--format", "json"]).done().ok();
    let listed: Value = serde_json::from_str(&done.stdout()).expect("JSON");
    let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|view| &view["id"]).collect();
    assert_eq!(ids, [&json!(good.id)]);
    let stderr = done.stderr();
    assert_eq!(stderr.lines().count(), 1, "one warning: {stderr}");
    assert!(stderr.contains(&broken.id), "{stderr}");
    fs::remove_file(&stray).expect("stray file");

    // What it was made of is not known any more, so its process and cgroup stay, with a warning.
    let pid = broken.pid();
    let done = broken.verb("delete", &["--force"], &[]).done().ok();
    assert_eq!(done.stderr().lines().count(), 1, "one warning: {}", done.describe());
    assert!(!root().join(&broken.id).exists());
    host::kill_process(pid);
    let stay = host::remove_cgroups(host::cgroups_with(&broken.bundle.cgroup_path()));
    assert_eq!(stay, Vec::<PathBuf>::new());
    assert_eq!(good.status(), "running");
}

/// The directory's name is what commands take, and nothing of the other container is touched by that name.
fn a_directory_with_the_record_of_another() {
    let mut good = sleeper().container();
    good.up();
    let copy = root().join("copy");
    fs::create_dir(&copy).expect("copy");
    fs::copy(root().join(&good.id).join("state.json"), copy.join("state.json")).expect("copy of state.json");
    let done = berth(&["list", "--quiet"]).done().ok();
    assert_eq!(done.stdout().lines().collect::<Vec<_>>(), [&good.id]);
    let words = "it is that of container";
    assert!(done.stderr().contains(words) && done.stderr().contains(&good.id), "{}", done.describe());
    for command in [["state", "copy"].as_slice(), &["kill", "copy", "KILL"], &["delete", "copy"]] {
        berth(command).done().fails(words);
    }
    berth(&["delete", "--force", "copy"]).done().ok();
    assert!(!copy.exists());
    assert_eq!(good.status(), "running");
}

fn kill_all_without_a_cgroup() {
    let container = Bundle::new().steps(&["signals:SIGTERM"]).container();
    container.bundle.write();
    let mut create = berth(&["--cgroup-manager", "disabled", "create", "--bundle"]);
    create.arg(&container.bundle.path).arg(&container.id);
    let created = create.done().ok();
    assert_eq!(host::cgroups_with(&container.bundle.cgroup_path()), Vec::<PathBuf>::new());
    container.verb("start", &[], &[]).done().ok();
    assert!(await_condition(|| created.stdout().contains("ready")), "{}", created.describe());
    container.verb("kill", &["--all"], &["TERM"]).done().ok();
    container.await_status("stopped");
    // Nobody is left to be reached, which `--all` does not mind.
    container.verb("kill", &["--all"], &["TERM"]).done().ok();
    container.verb("delete", &[], &[]).done().ok();
}

fn frozen_by_hand_before_the_start() {
    let mut container = Bundle::new().steps(&["echo:started", "sleep:1000"]).container();
    let (hierarchy, file, frozen, thawed) = if host::is_v2() {
        let root = host::hierarchies().into_iter().find(|one| one.controllers.is_empty());
        (root.map(|one| one.mountpoint), "cgroup.freeze", "1", "0")
    } else {
        (host::hierarchy_of("freezer"), "freezer.state", "FROZEN", "THAWED")
    };
    require!(hierarchy.is_some(), "no freezer here");
    container.create();
    let path = container.bundle.cgroup_path();
    let file = hierarchy.expect("checked above").join(path.trim_start_matches('/')).join(file);
    let set = |value: &str| {
        assert!(await_condition(|| {
            fs::write(&file, value).expect("freezer");
            fs::read_to_string(&file).expect("freezer").trim() == value
        }));
    };
    set(frozen);
    assert_eq!(container.status(), "paused");
    container.verb("start", &[], &[]).done().fails("cannot start");
    set(thawed);
    assert_eq!(container.status(), "created");
    container.start();
    container.await_output("started");
}

fn more_descriptors_than_there_can_be() {
    for number in ["4294967295", "4294967292", "1048577"] {
        let container = sleeper().container();
        let begun = Instant::now();
        let done = container.command("run", &["--preserve-fds", number]).done().fails("--preserve-fds");
        assert_eq!(done.stderr().lines().count(), 1, "{}", done.describe());
        assert!(begun.elapsed() < Duration::from_secs(3) * slow());
        container.verb("state", &[], &[]).done().fails("does not exist");
    }
}
