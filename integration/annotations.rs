//! Annotations that ask for what config.json has no field for.

use crate::harness::program::{Bounded, await_condition, directory};
use crate::harness::terminal::ConsoleSocket;
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

tests! {
    keep_original_groups, pidfd_receiver, seccomp_receiver, an_engine_is_told_that_they_are_unsafe,
    hooks_write_to_files, hooks_of_run_and_of_a_failed_birth, hooks_without_their_file,
    unknown_system_calls_are_refused, a_program_in_place_of_the_profile, a_program_that_is_none,
    a_program_with_an_agent, labels_become_other_options, a_subgroup_without_systemd,
    a_delegated_cgroup, a_delegated_cgroup_of_another_user, delegation_is_refused,
    the_hierarchy_of_an_old_systemd, an_old_systemd_without_a_hierarchy, values_that_make_no_sense,
}

/// What Podman's `--group-add keep-groups` becomes.
fn keep_original_groups() {
    let groups = |bundle: Bundle, additional: Value| {
        let container = bundle.set("/process/user/additionalGids", additional).container();
        let berth = container.command("run", &[]);
        let mut command = Command::new("setpriv");
        command.args(["--groups", "5,6"]).arg(berth.get_program()).args(berth.get_args());
        command.stdin(Stdio::null());
        let done = command.done().ok();
        (Report::parse(&done.stdout())["groups"].clone(), done.stderr())
    };
    let keeping =
        |value: &str| Bundle::new().set("/annotations", json!({ "run.oci.keep_original_groups": value }));
    assert_eq!(groups(Bundle::new(), json!([])).0, json!([]));
    assert_eq!(groups(keeping("0"), json!([7])).0, json!([7]));
    assert_eq!(groups(keeping("1"), json!([])).0, json!([5, 6]));
    let (kept, warning) = groups(keeping("1"), json!([7]));
    assert_eq!(kept, json!([5, 6]));
    assert!(warning.contains("additionalGids: ignored"), "{warning}");
}

fn pidfd_receiver() {
    let socket = ConsoleSocket::new();
    let annotations = json!({ "run.oci.pidfd_receiver": socket.path });
    let mut container = Bundle::new().set("/annotations", annotations).steps(&["sleep:1000"]).container();
    container.create();
    let message = socket.receive();
    assert_eq!(message.descriptors.len(), 1);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", message.descriptors[0].as_raw_fd()));
    assert!(info.expect("fdinfo").contains(&format!("Pid:\t{}\n", container.pid())));
}

/// It prints `ran`, and the agent at the socket gets its listener and its state.
#[track_caller]
fn introduces_itself(container: &Container, socket: &ConsoleSocket) {
    assert_eq!(container.run().ok().stdout(), "ran\n");
    let message = socket.receive();
    assert_eq!(message.descriptors.len(), 1);
    let state: Value = serde_json::from_slice(&message.payload).expect("the state of the process");
    assert_eq!((&state["fds"], &state["state"]["id"]), (&json!(["seccompFd"]), &json!(container.id)));
}

/// As linux.seccomp.listenerPath, which did not exist when crun began with it.
fn seccomp_receiver() {
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_NOTIFY" }]);
    let bundle = || Bundle::new().seccomp("SCMP_ACT_ALLOW", rules.clone()).steps(&["echo:ran"]);
    bundle().refused("linux.seccomp.listenerPath");
    let socket = ConsoleSocket::new();
    let container =
        bundle().set("/annotations", json!({ "run.oci.seccomp.receiver": socket.path })).container();
    introduces_itself(&container, &socket);
}

fn an_engine_is_told_that_they_are_unsafe() {
    let features: Value =
        serde_json::from_str(&program::berth(&["features"]).done().ok().stdout()).expect("features");
    let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().expect("a list");
    assert!(listed.contains(&json!("run.oci.")), "{listed:?}");
}

fn annotated(bundle: Bundle, key: &str, value: &str) -> Bundle {
    bundle.set(&format!("/annotations/{key}"), value)
}

fn file(name: &str) -> PathBuf {
    directory().join(name)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of each kind that says its name to stdout and stderr, each with a file of its own.
fn talkative() -> Bundle {
    let bundle = HOOKS.into_iter().fold(Bundle::new(), |bundle, kind| {
        let steps = [format!("echo:{kind}"), format!("complain:{kind}!")];
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match kind {
            "startContainer" => bundle.hook_at(kind, bundle::PAYLOAD, &steps),
            _ => bundle.hook(kind, &steps),
        }
    });
    let bundle = annotated(bundle, "run.oci.hooks.stdout", &file("hooks.out").to_string_lossy());
    annotated(bundle, "run.oci.hooks.stderr", &file("hooks.err").to_string_lossy())
}

fn hooks_write_to_files() {
    let (out, err) = (file("hooks.out"), file("hooks.err"));
    fs::write(&out, "before\n").expect("a file with a line");
    let mut container = talkative().steps(&["report", "sleep:1000"]).container();
    container.create();
    assert_eq!(lines(&out), ["before", "prestart", "createRuntime", "createContainer"]);
    container.start();
    // Neither file is the program's.
    let links = container.started_report()["fds"].to_string();
    assert!(!links.contains("hooks."), "{links}");
    container.finish();
    let all = HOOKS.map(str::to_owned);
    assert_eq!(lines(&out)[1..], all);
    assert_eq!(lines(&err), all.map(|kind| format!("{kind}!")));
    assert_eq!(fs::metadata(&err).expect("its mode").permissions().mode() & 0o777, 0o600);
}

fn hooks_of_run_and_of_a_failed_birth() {
    let (out, err) = (file("hooks.out"), file("hooks.err"));
    let done = talkative().steps(&["echo:program"]).container().run().ok();
    assert_eq!((done.stdout().as_str(), done.stderr().as_str()), ("program\n", ""));
    assert_eq!((lines(&out).len(), lines(&err).len()), (HOOKS.len(), HOOKS.len()));
    // The error has no last line of the hook's: that is in the file.
    let failing = talkative().hook("createContainer", &["complain:why", "exit:7"]);
    let done = failing.refused("exit status 7");
    assert!(!done.stderr().contains("why"), "{}", done.describe());
    assert!(lines(&err).contains(&"why".to_owned()));
    // Of stdout alone: the error has the last line of stderr.
    let failing = talkative().hook("createContainer", &["complain:why", "exit:7"]);
    let mut failing = failing.remove("/annotations/run.oci.hooks.stderr");
    failing.config["hooks"]["prestart"] = json!([]);
    failing.refused("exit status 7: why");
}

fn hooks_without_their_file() {
    let nowhere = file("nowhere/hooks.out").to_string_lossy().into_owned();
    annotated(talkative(), "run.oci.hooks.stdout", &nowhere).refused("for the hooks' output");
    // What is undone after the container's end is undone all the same.
    let gone = file("gone");
    fs::create_dir(&gone).expect("a directory");
    let bundle = talkative().hook("poststop", &[&format!("create:{}:x", file("undone").display())]);
    let bundle = annotated(bundle, "run.oci.hooks.stdout", &gone.join("out").to_string_lossy());
    let mut container = bundle.steps(&["sleep:1000"]).container();
    container.up();
    fs::remove_dir_all(&gone).expect("the directory goes");
    container.kill("KILL");
    container.await_status("stopped");
    let done = container.verb("delete", &[], &[]).done().ok();
    assert!(done.stderr().contains("for the hooks' output"), "{}", done.describe());
    assert!(file("undone").exists());
}

fn unknown_system_calls_are_refused() {
    let rules = json!([
        { "names": ["getcwd"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["close", "made_up_call"], "action": "SCMP_ACT_ALLOW" },
    ]);
    let bundle = |value: &str| {
        let bundle = Bundle::new().seccomp("SCMP_ACT_ALLOW", rules.clone());
        annotated(bundle, "run.oci.seccomp_fail_unknown_syscall", value)
    };
    assert_eq!(bundle("0").report()["seccomp"], "2");
    let done = bundle("1").refused("linux.seccomp.syscalls[1].names[1]: unknown system call");
    assert!(done.stderr().contains("run.oci.seccomp_fail_unknown_syscall"), "{}", done.describe());
    // A call of another architecture is known.
    let rules = json!([{ "names": ["socketcall", "arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW" }]);
    let known = Bundle::new().seccomp("SCMP_ACT_ALLOW", rules);
    assert_eq!(annotated(known, "run.oci.seccomp_fail_unknown_syscall", "1").report()["seccomp"], "2");
}

/// sched_get_priority_max(2), which nothing needs.
const PROBE: i64 = libc::SYS_sched_get_priority_max;

/// A program of classic BPF as base64: this answer for the probe, and all else allowed.
fn program(answer: u32) -> String {
    let probe = u32::try_from(PROBE).expect("a number");
    let instructions: [(u16, u8, u8, u32); 4] = [
        (0x20, 0, 0, 0),           // load the number
        (0x15, 0, 1, probe),       // is it the probe's?
        (0x06, 0, 0, answer),      // return
        (0x06, 0, 0, 0x7fff_0000), // return SECCOMP_RET_ALLOW
    ];
    encoded(&instructions.map(|(code, jt, jf, k)| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[jt, jf]);
        bytes[4..].copy_from_slice(&k.to_ne_bytes());
        bytes
    }))
}

fn encoded(instructions: &[[u8; 8]]) -> String {
    let path = file("program");
    fs::write(&path, instructions.concat()).expect("program");
    let mut command = Command::new("base64");
    command.arg("-w0").arg(&path);
    command.done().ok().stdout()
}

const BPF: &str = "run.oci.seccomp_bpf_data";

/// SECCOMP_RET_ERRNO with EDOM.
const EDOM: u32 = 0x0005_0000 | 33;

fn a_program_in_place_of_the_profile() {
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7 }]);
    let probe = format!("syscall:{PROBE}:0");
    for bundle in [Bundle::new(), Bundle::new().seccomp("SCMP_ACT_ALLOW", rules)] {
        let mut container =
            annotated(bundle, BPF, &program(EDOM)).steps(&[&probe, "report", "sleep:1000"]).container();
        container.up();
        let report = container.started_report();
        assert!(report.probe(&probe).as_str().expect("text").starts_with("EDOM"), "{}", report.probe(&probe));
        assert_eq!((&report["seccomp"], &report["seccomp_filters"]), (&json!("2"), &json!("1")));
        let exec = container.verb("exec", &[], &[bundle::PAYLOAD, &probe, "report"]).done().ok();
        let exec = Report::parse(&exec.stdout());
        assert!(exec.probe(&probe).as_str().expect("text").starts_with("EDOM"), "{}", exec.probe(&probe));
    }
}

fn a_program_that_is_none() {
    for (data, words) in [
        ("no base64", "is no base64"),
        ("", "0 bytes are no program"),
        ("Zm9v", "3 bytes are no program"),
        (encoded(&[[0; 8]; 4097]).as_str(), "has 4097 instructions"),
    ] {
        let done = annotated(Bundle::new(), BPF, data).refused(words);
        assert!(done.stderr().contains("annotations["), "{}", done.describe());
    }
    // Well formed, and nothing that the kernel takes: no code, no return at the end, a jump beyond it.
    for instruction in [[0xff; 8], [0x20, 0, 0, 0, 0, 0, 0, 0], [0x05, 0, 0, 0, 9, 0, 0, 0]] {
        let bundle = annotated(Bundle::new(), BPF, &encoded(&[instruction]));
        let done = bundle.container().run().fails(BPF);
        assert!(done.stderr().contains("(EINVAL)"), "{}", done.describe());
        assert_eq!(done.stdout(), "");
    }
}

fn a_program_with_an_agent() {
    const NOTIFY: u32 = 0x7fc0_0000;
    annotated(Bundle::new(), BPF, &program(NOTIFY)).refused("run.oci.seccomp.receiver");
    let socket = ConsoleSocket::new();
    let bundle = annotated(Bundle::new(), BPF, &program(NOTIFY)).steps(&["echo:ran"]);
    let container = annotated(bundle, "run.oci.seccomp.receiver", &socket.path.to_string_lossy()).container();
    introduces_itself(&container, &socket);
}

/// Where SELinux is off no kernel knows the option, and says so by its name.
fn labels_become_other_options() {
    require!(!Path::new("/sys/fs/selinux/enforce").exists(), "SELinux is on here");
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    for option in ["context", "fscontext", "defcontext", "rootcontext"] {
        let bundle = annotated(Bundle::new(), "run.oci.mount_context_type", option);
        let done = bundle.set("/linux/mountLabel", label).refused("mount tmpfs at /dev");
        let seen = done.stderr().contains(&format!(r#"fsconfig(\"{option}\")"#));
        assert!(seen, "{}", done.describe());
    }
}

fn a_subgroup_without_systemd() {
    let container = annotated(Bundle::new(), "run.oci.systemd.subgroup", "sub").container();
    let done = container.run().ok();
    assert!(done.stderr().contains("run.oci.systemd.subgroup"), "{}", done.describe());
    let report = Report::parse(&done.stdout());
    assert!(report["cgroup"].to_string().contains(&container.bundle.cgroup_path()), "{}", report["cgroup"]);
    assert!(!report["cgroup"].to_string().contains("/sub"), "{}", report["cgroup"]);
    // Empty, as CRI-O's users write it, it is what is done anyway.
    let done = annotated(Bundle::new(), "run.oci.systemd.subgroup", "").container().run().ok();
    assert_eq!(done.stderr(), "");
}

const DELEGATE: &str = "run.oci.delegate-cgroup";

/// With a cgroup namespace and a mount that shows it.
fn with_cgroups(bundle: Bundle) -> Bundle {
    bundle.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"])
}

/// The line of the unified hierarchy in /proc/self/cgroup.
fn unified(report: &Report) -> String {
    let all = report["cgroup"].as_array().expect("lines").iter().filter_map(Value::as_str);
    all.filter_map(|line| line.strip_prefix("0::")).next().expect("a unified hierarchy").to_owned()
}

fn a_delegated_cgroup() {
    require!(host::is_v2(), "only on cgroup v2");
    let limited = host::hierarchy_of("pids").is_some();
    let mut bundle = with_cgroups(Bundle::new());
    if limited {
        bundle = bundle.set("/linux/resources/pids", json!({ "limit": 50 }));
    }
    let path = bundle.cgroup_path();
    let steps =
        ["mkdir:/sys/fs/cgroup/a/init/below", "read:/sys/fs/cgroup/cgroup.procs", "report", "sleep:1000"];
    let mut container = annotated(bundle, DELEGATE, "/a/init").steps(&steps).container();
    container.up();
    let report = container.started_report();
    // The root of the namespace is the container's cgroup, in which there is nobody.
    assert_eq!(unified(&report), "/a/init");
    assert_eq!(report.probe(steps[0]), "ok");
    assert_eq!(report.probe(steps[1]), "");
    let outer = host::cgroups_with(&path).into_iter().min().expect("the cgroup");
    let inner = outer.join("a/init");
    let text = |path: PathBuf| fs::read_to_string(path).expect("a file of the cgroup").trim().to_owned();
    assert_eq!(text(inner.join("cgroup.procs")), container.pid().to_string());
    if limited {
        assert_eq!(text(outer.join("pids.max")), "50");
        assert_eq!(text(inner.join("pids.max")), "max");
    }
    let given = text(outer.join("a/cgroup.subtree_control"));
    assert_eq!(given, text(outer.join("cgroup.controllers")), "all controllers go down");
    // Everything is about all of it.
    let exec = container.verb("exec", &[], &[bundle::PAYLOAD, "report"]).done().ok();
    let place = unified(&Report::parse(&exec.stdout()));
    assert_eq!(place, if given.is_empty() { "/" } else { "/a/init" });
    let listed = container.verb("ps", &["--format", "json"], &[]).done().ok().stdout();
    assert_eq!(listed.trim(), format!("[{}]", container.pid()));
    container.verb("pause", &[], &[]).done().ok();
    assert!(await_condition(|| text(inner.join("cgroup.events")).contains("frozen 1")));
    container.verb("resume", &[], &[]).done().ok();
    let image = file("image").to_string_lossy().into_owned();
    let done = container.verb("checkpoint", &["--image-path", &image], &[]).done();
    assert!(done.fails("CRIU cannot restore").stderr().contains(DELEGATE));
    container.finish();
    assert!(host::cgroups_with(&path).is_empty());
    // As `run` does it, in one.
    let bundle = with_cgroups(Bundle::new());
    assert_eq!(unified(&annotated(bundle, DELEGATE, "init").report()), "/init");
}

fn a_delegated_cgroup_of_another_user() {
    require!(host::is_v2(), "only on cgroup v2");
    const BASE: u32 = 300_000;
    let bundle = with_cgroups(Bundle::new().user_namespace(BASE, 1000)).set("/process/user/uid", 7);
    let path = bundle.cgroup_path();
    let steps = [
        "mkdir:/sys/fs/cgroup/init/below",
        "write:/sys/fs/cgroup/init/below/cgroup.procs:0",
        "report",
        "sleep:1000",
    ];
    let mut container = annotated(bundle, DELEGATE, "init").steps(&steps).container();
    container.up();
    let report = container.started_report();
    assert_eq!((report.probe(steps[0]), report.probe(steps[1])), (&json!("ok"), &json!("ok")));
    assert_eq!(unified(&report), "/init/below");
    let inner = host::cgroups_with(&path).into_iter().min().expect("the cgroup").join("init");
    let owner = |path: PathBuf| fs::metadata(path).expect("a file of the cgroup").uid();
    assert_eq!((owner(inner.clone()), owner(inner.join("cgroup.procs"))), (BASE + 7, BASE + 7));
    assert_eq!(owner(inner.join("cgroup.freeze")), 0);
}

fn delegation_is_refused() {
    if host::is_v2() {
        let bundle = annotated(Bundle::new(), DELEGATE, "init").container();
        bundle.bundle.write();
        let mut command = program::berth(&["--cgroup-manager=disabled", "run", "--bundle"]);
        command.arg(&bundle.bundle.path).arg(&bundle.id);
        command.done().fails("needs a cgroup of the container's own");
    } else {
        let done = annotated(Bundle::new(), DELEGATE, "init").refused("needs cgroup v2");
        assert!(done.stderr().contains(DELEGATE), "{}", done.describe());
    }
}

const CGROUP_V1: &str = "run.oci.systemd.force_cgroup_v1";

/// The mount point of the hierarchy `name=systemd`; undone with the test.
struct Hierarchy {
    mountpoint: PathBuf,
    mounted: bool,
}

impl Hierarchy {
    fn found_or_mounted() -> Self {
        let named = |one: &host::Hierarchy| one.controllers.iter().any(|name| name == "name=systemd");
        if let Some(there) = host::hierarchies().into_iter().find(named) {
            return Self { mountpoint: there.mountpoint, mounted: false };
        }
        // Not made for the test: every process of the machine would be in it from then on, also those that CRIU dumps.
        let own = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
        require!(own.contains(":name=systemd:"), "only on cgroup hosts that have systemd's old hierarchy");
        let mountpoint = file("named");
        fs::create_dir(&mountpoint).expect("mount point");
        let mut mount = Command::new("mount");
        mount.args(["-t", "cgroup", "-o", "none,name=systemd", "cgroup"]).arg(&mountpoint);
        let done = mount.done();
        require!(done.status.success(), "this kernel has no cgroup v1: {}", done.stderr().trim());
        Self { mountpoint, mounted: true }
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        if self.mounted {
            host::detach_mounts_below(&self.mountpoint);
        }
    }
}

fn the_hierarchy_of_an_old_systemd() {
    let hierarchy = Hierarchy::found_or_mounted();
    let steps = ["list:/sys/fs/cgroup", "mkdir:/sys/fs/cgroup/systemd/below", "report", "sleep:1000"];
    for namespaced in [true, false] {
        let bundle = with_cgroups(Bundle::new());
        let bundle = if namespaced { bundle } else { bundle.without_namespace("cgroup") };
        let path = bundle.cgroup_path();
        let mut container = annotated(bundle, CGROUP_V1, "/sys/fs/cgroup").steps(&steps).container();
        container.up();
        let report = container.started_report();
        assert_eq!(report.probe(steps[0]), &json!(["systemd"]));
        assert_eq!(report.probe(steps[1]), "ok");
        assert_eq!(report.mount("/sys/fs/cgroup").expect("a mount")["type"], "tmpfs");
        let named = report.mount("/sys/fs/cgroup/systemd").expect("the hierarchy");
        assert_eq!(named["type"], "cgroup");
        assert!(named["super"].to_string().contains("name=systemd"), "{named}");
        // The container sees its own cgroup as the root, and has one of its own there.
        let own = hierarchy.mountpoint.join(path.trim_start_matches('/'));
        assert!(own.join("below").is_dir(), "{}", own.display());
        let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroup");
        let line = table.lines().find(|line| line.contains(":name=systemd:")).expect("the hierarchy");
        assert!(line.ends_with(&path), "{line}");
        let exec = container.verb("exec", &[], &[bundle::PAYLOAD, "report"]).done().ok();
        assert_eq!(Report::parse(&exec.stdout())["cgroup"], report["cgroup"]);
        // What is mounted later need not have that destination.
        let later = file("mounts.json");
        let list = json!([{ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" }]);
        fs::write(&later, list.to_string()).expect("mounts.json");
        program::berth(&["mounts", "add", &container.id, &later.to_string_lossy()]).done().ok();
        container.finish();
        assert!(!own.exists(), "{}", own.display());
    }
}

fn an_old_systemd_without_a_hierarchy() {
    let named = |one: &host::Hierarchy| one.controllers.iter().any(|name| name == "name=systemd");
    require!(!host::hierarchies().iter().any(named), "only on cgroup hosts without systemd's old hierarchy");
    let bundle = annotated(with_cgroups(Bundle::new()), CGROUP_V1, "/sys/fs/cgroup");
    let done = bundle.refused("mount -t cgroup -o none,name=systemd");
    assert!(done.stderr().contains(CGROUP_V1), "{}", done.describe());
}

fn values_that_make_no_sense() {
    for (key, value, words) in [
        ("run.oci.hooks.stdout", "out", "must be an absolute path"),
        ("run.oci.hooks.stderr", "", "must be an absolute path"),
        ("run.oci.seccomp.receiver", "socket", "must be an absolute path"),
        (
            "run.oci.mount_context_type",
            "seclabel",
            "must be one of context, fscontext, defcontext, rootcontext",
        ),
        (DELEGATE, "../other", "must not lead upwards"),
        ("run.oci.systemd.subgroup", "a/../../b", "must not lead upwards"),
        (CGROUP_V1, "sys/fs/cgroup", "must be an absolute path"),
        (CGROUP_V1, "/nowhere", "no mount has the destination /nowhere"),
        ("run.oci.handler", "wasm", "is not supported"),
        ("run.oci.seccomp.plugins", "plugin.so", "is not supported"),
        ("run.oci.timens_offset", "7 1 0", "is not supported"),
    ] {
        let done = annotated(Bundle::new(), key, value).refused(words);
        assert!(done.stderr().contains(&format!(r#"annotations[\"{key}\"]"#)), "{}", done.describe());
    }
}
