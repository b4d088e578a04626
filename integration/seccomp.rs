//! Profiles seen from inside: actions, errnos, conditions, architectures.

use crate::harness::program::{Bounded, berth, directory, path, patience, root};
use crate::harness::*;
use crate::{require, tests};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

tests! {
    mode_is_filter, errno_of_a_rule, default_action_and_errno, conditions_on_arguments, masked_equality, conditions_on_64_bits,
    several_conditions_are_a_conjunction, several_entries_for_one_syscall, killing_actions, unknown_names_are_skipped,
    without_no_new_privileges, i386_rules, other_architectures_are_not_a_way_around, x32_rules, allow_everything_filters_nothing,
    log_action_allows, unknown_action_is_refused, rules_win_over_the_default, empty_names_are_refused, filter_count,
    applies_to_a_user_without_capabilities, default_allow_with_errno_for_some,
    an_agent_answers, an_agent_answers_what_was_created, an_agent_has_the_listener_when_a_container_is_created, an_agent_answers_for_an_exec, an_agent_must_be_there, an_agent_is_not_asked_for_hooks, notify_of_the_runtimes_own_calls_is_refused,
    profiles_are_explained,
}

/// sched_get_priority_max(policy): nothing needs it, and its argument is free.
const PROBE: i64 = libc::SYS_sched_get_priority_max;

fn probe(argument: i64) -> String {
    format!("syscall:{PROBE}:{argument}")
}

fn rule(action: &str, errno: i32, conditions: Value) -> Value {
    json!({ "names": ["sched_get_priority_max"], "action": action, "errnoRet": errno, "args": conditions })
}

fn condition(index: u32, op: &str, value: u64) -> Value {
    json!({ "index": index, "op": op, "value": value })
}

/// The results of the probe with these arguments, under rules over a default of allow.
fn results(rules: Value, arguments: &[i64]) -> Vec<String> {
    let steps: Vec<String> = arguments.iter().map(|argument| probe(*argument)).collect();
    let report = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", rules)
        .report_after(&steps.iter().map(String::as_str).collect::<Vec<_>>());
    let text = |step: &String| {
        report.probe(step).as_str().expect("text").split(' ').next().expect("a word").to_owned()
    };
    steps.iter().map(text).collect()
}

fn mode_is_filter() {
    let report =
        Bundle::new().seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))])).report();
    assert_eq!(report["seccomp"], "2");
    assert_eq!(Bundle::new().report()["seccomp"], "0");
}

fn filter_count() {
    let report =
        Bundle::new().seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))])).report();
    assert_eq!(report["seccomp_filters"], "1");
}

fn errno_of_a_rule() {
    assert_eq!(results(json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]), &[0]), ["EDOM"]);
    // seccomp: errnoRet is optional and EPERM without it.
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO" }]);
    assert_eq!(results(rules, &[0]), ["EPERM"]);
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }]);
    assert_eq!(results(rules, &[1]), ["ok"]);
}

/// A default of ERRNO with a list of what is allowed, as the engines have it: the probe is not on it.
fn engine_profile(default_errno: Option<i32>) -> Value {
    let docker: Value = serde_json::from_str(include_str!("bundles/docker.json")).expect("docker.json");
    let mut profile = docker["linux"]["seccomp"].clone();
    for rule in profile["syscalls"].as_array_mut().expect("rules") {
        rule["names"].as_array_mut().expect("names").retain(|name| name != "sched_get_priority_max");
    }
    if let Some(errno) = default_errno {
        profile["defaultErrnoRet"] = json!(errno);
    }
    profile
}

fn default_action_and_errno() {
    let step = probe(0);
    for (errno, name) in [(None, "EPERM"), (Some(38), "ENOSYS"), (Some(33), "EDOM")] {
        let report = Bundle::new().set("/linux/seccomp", engine_profile(errno)).report_after(&[&step]);
        assert_eq!(report.probe(&step), name);
    }
}

fn conditions_on_arguments() {
    let with =
        |op: &str| results(json!([rule("SCMP_ACT_ERRNO", 33, json!([condition(0, op, 3)]))]), &[1, 3, 5]);
    assert_eq!(with("SCMP_CMP_EQ"), ["ok", "EDOM", "ok"]);
    assert_eq!(with("SCMP_CMP_NE"), ["EDOM", "ok", "EDOM"]);
    assert_eq!(with("SCMP_CMP_LT"), ["EDOM", "ok", "ok"]);
    assert_eq!(with("SCMP_CMP_LE"), ["EDOM", "EDOM", "ok"]);
    assert_eq!(with("SCMP_CMP_GT"), ["ok", "ok", "EDOM"]);
    assert_eq!(with("SCMP_CMP_GE"), ["ok", "EDOM", "EDOM"]);
}

fn masked_equality() {
    let masked = json!([{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 6, "valueTwo": 2 }]);
    assert_eq!(
        results(json!([rule("SCMP_ACT_ERRNO", 33, masked)]), &[1, 2, 3, 6]),
        ["ok", "EDOM", "EDOM", "ok"]
    );
}

/// Both halves of the register count: the kernel looks at 32 bits of this argument, the filter at 64.
fn conditions_on_64_bits() {
    let high = 1_i64 << 32;
    let with = |op: &str, value: i64| {
        results(
            json!([rule("SCMP_ACT_ERRNO", 33, json!([condition(0, op, value.cast_unsigned())]))]),
            &[0, 1, high, high + 1],
        )
    };
    assert_eq!(with("SCMP_CMP_EQ", high), ["ok", "ok", "EDOM", "ok"]);
    assert_eq!(with("SCMP_CMP_EQ", 1), ["ok", "EDOM", "ok", "ok"]);
    assert_eq!(with("SCMP_CMP_GT", 1), ["ok", "ok", "EDOM", "EDOM"]);
    assert_eq!(with("SCMP_CMP_LT", high + 1), ["EDOM", "EDOM", "EDOM", "ok"]);
    assert_eq!(with("SCMP_CMP_GE", high), ["ok", "ok", "EDOM", "EDOM"]);
}

fn several_conditions_are_a_conjunction() {
    let both = json!([condition(0, "SCMP_CMP_EQ", 1), condition(1, "SCMP_CMP_EQ", 7)]);
    let steps =
        [format!("syscall:{PROBE}:1:7"), format!("syscall:{PROBE}:1:8"), format!("syscall:{PROBE}:2:7")];
    let report = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, both)]))
        .report_after(&steps.each_ref().map(String::as_str));
    let hit: Vec<bool> = steps.iter().map(|step| report.probe(step) == "EDOM").collect();
    assert_eq!(hit, [true, false, false]);
    // libseccomp, and runc after it: two conditions on one argument of one rule are alternatives.
    let same = json!([condition(0, "SCMP_CMP_EQ", 1), condition(0, "SCMP_CMP_EQ", 2)]);
    assert_eq!(results(json!([rule("SCMP_ACT_ERRNO", 33, same)]), &[0, 1, 2]), ["ok", "EDOM", "EDOM"]);
}

fn several_entries_for_one_syscall() {
    let rules = json!([
        rule("SCMP_ACT_ERRNO", 33, json!([condition(0, "SCMP_CMP_EQ", 1)])),
        rule("SCMP_ACT_ERRNO", 34, json!([condition(0, "SCMP_CMP_EQ", 2)])),
    ]);
    assert_eq!(results(rules, &[0, 1, 2]), ["ok", "EDOM", "ERANGE"]);
}

fn killing_actions() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let rules = json!([{ "names": ["sched_get_priority_max"], "action": action }]);
        assert_eq!(results(rules, &[0]), ["SIGSYS"], "{action}");
    }
}

/// config-linux.md, Seccomp: a name that is not known is a warning in the log at most.
fn unknown_names_are_skipped() {
    let rules = json!([
        { "names": ["no_such_call", "sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33 },
        { "names": ["another_unknown"], "action": "SCMP_ACT_KILL" },
    ]);
    assert_eq!(results(rules, &[0]), ["EDOM"]);
}

/// The filter must be loaded while the right to do so is still held, and not be lost on the way.
fn without_no_new_privileges() {
    let step = probe(0);
    let report = Bundle::new()
        .set("/process/noNewPrivileges", false)
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]))
        .report_after(&[&step]);
    assert_eq!((&report["seccomp"], &report["no_new_privs"]), (&json!("2"), &json!("0")));
    assert_eq!(report.probe(&step), "EDOM");
}

fn applies_to_a_user_without_capabilities() {
    let step = probe(0);
    for privileges in [true, false] {
        let report = Bundle::new()
            .set("/process/noNewPrivileges", privileges)
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
            .capabilities(&["bounding", "effective", "permitted"], &[])
            .set("/linux/seccomp", engine_profile(Some(33)))
            .report_after(&[&step]);
        assert_eq!((report.probe(&step), &report["seccomp"]), (&json!("EDOM"), &json!("2")));
    }
}

/// 159 is sched_get_priority_max of i386, 20 is getpid.
fn i386_rules() {
    let free = Bundle::new().report_after(&["i386:20"]);
    let works = free.probe("i386:20").as_str().is_some_and(|text| text.starts_with("ok"));
    require!(works, "no 32-bit system calls here");
    let report = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]))
        .report_after(&["i386:159", "i386:20"]);
    assert_eq!(report.probe("i386:159"), "EDOM");
    assert!(
        report.probe("i386:20").as_str().is_some_and(|text| text.starts_with("ok")),
        "{}",
        report.probe("i386:20")
    );
    // The number of the 64-bit table (146) is another call there: writev, which is allowed.
    let report = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]))
        .report_after(&["i386:146"]);
    assert_ne!(report.probe("i386:146"), "EDOM");
}

fn other_architectures_are_not_a_way_around() {
    let mut profile = engine_profile(None);
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    profile["syscalls"]
        .as_array_mut()
        .expect("rules")
        .push(json!({ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ALLOW" }));
    let step = probe(0);
    let x32 = format!("syscall:{}:0", PROBE | 0x4000_0000);
    let report = Bundle::new().set("/linux/seccomp", profile).report_after(&[&step, "i386:20", &x32]);
    assert!(report.probe(&step).as_str().is_some_and(|text| text.starts_with("ok")));
    let refused = |step: &str| matches!(report.probe(step).as_str(), Some("SIGSYS" | "EPERM" | "ENOSYS"));
    assert!(refused("i386:20"), "{}", report.probe("i386:20"));
    assert!(refused(&x32), "{}", report.probe(&x32));
}

fn x32_rules() {
    require!(cfg!(target_arch = "x86_64"), "only on x86_64");
    let step = format!("syscall:{}:0", PROBE | 0x4000_0000);
    let report = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]))
        .report_after(&[&step]);
    assert_eq!(report.probe(&step), "EDOM");
}

fn allow_everything_filters_nothing() {
    let step = probe(0);
    let report = Bundle::new()
        .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }))
        .report_after(&[&step]);
    assert!(report.probe(&step).as_str().is_some_and(|text| text.starts_with("ok")));
}

fn log_action_allows() {
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_LOG" }]);
    assert_eq!(results(rules, &[0]), ["ok"]);
}

fn unknown_action_is_refused() {
    Bundle::new()
        .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NONSENSE" }))
        .refused("SCMP_ACT_NONSENSE");
    let rules = json!([{ "names": ["mount"], "action": "SCMP_ACT_NONSENSE" }]);
    Bundle::new().seccomp("SCMP_ACT_ALLOW", rules).refused("SCMP_ACT_NONSENSE");
    let operator = json!([rule("SCMP_ACT_ERRNO", 33, json!([condition(0, "SCMP_CMP_NONSENSE", 1)]))]);
    Bundle::new().seccomp("SCMP_ACT_ALLOW", operator).refused("SCMP_CMP_NONSENSE");
    let index = json!([rule("SCMP_ACT_ERRNO", 33, json!([condition(6, "SCMP_CMP_EQ", 1)]))]);
    Bundle::new().seccomp("SCMP_ACT_ALLOW", index).refused("");
}

fn rules_win_over_the_default() {
    let mut profile = engine_profile(Some(33));
    let allow = json!({ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ALLOW", "args": [condition(0, "SCMP_CMP_EQ", 1)] });
    profile["syscalls"].as_array_mut().expect("rules").push(allow);
    let steps = [probe(0), probe(1)];
    let report =
        Bundle::new().set("/linux/seccomp", profile).report_after(&steps.each_ref().map(String::as_str));
    assert_eq!((report.probe(&steps[0]), report.probe(&steps[1])), (&json!("EDOM"), &json!("ok 99")));
}

/// config-linux.md: names MUST contain at least one entry.
fn empty_names_are_refused() {
    Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([{ "names": [], "action": "SCMP_ACT_ERRNO" }]))
        .refused("names");
}

fn default_allow_with_errno_for_some() {
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }]);
    let container = Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", rules)
        .steps(&["mkdir:/tmp/new", "create:/tmp/file", "report"])
        .container();
    let mut command = std::process::Command::new(path());
    container.bundle.write();
    command
        .arg("--root")
        .arg(root())
        .arg("--log")
        .arg(directory().join("log.text"))
        .args(["run", "--bundle"]);
    command.arg(&container.bundle.path).arg(&container.id).stdin(std::process::Stdio::null());
    let report = Report::parse(&command.done().ok().stdout());
    assert_eq!(
        (report.probe("mkdir:/tmp/new"), report.probe("create:/tmp/file")),
        (&json!("EACCES"), &json!("ok"))
    );
}

/// Accepts one connection and one message, answers one call with this value; the message. The thread
/// panics when nobody comes.
fn agent(socket: UnixListener, answer: i64) -> JoinHandle<Value> {
    #[allow(clippy::disallowed_methods)] // the suite is no runtime
    std::thread::spawn(move || {
        let (message, listener) = receive(&socket);
        let mut notification = libc::seccomp_notif {
            id: 0,
            pid: 0,
            flags: 0,
            data: libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] },
        };
        ioctl(&listener, RECEIVE, &mut notification);
        assert_eq!(i64::from(notification.data.nr), PROBE);
        let mut response = libc::seccomp_notif_resp { id: notification.id, val: answer, error: 0, flags: 0 };
        ioctl(&listener, SEND, &mut response);
        message
    })
}

/// SECCOMP_IOCTL_NOTIF_RECV and _SEND (linux/seccomp.h).
const RECEIVE: libc::Ioctl = 0xc050_2100;
const SEND: libc::Ioctl = 0xc018_2101;

#[allow(unsafe_code)]
fn ioctl<T>(listener: &OwnedFd, request: libc::Ioctl, structure: &mut T) {
    // SAFETY: the structure is the one of the request, and outlives the call.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), request, std::ptr::from_mut(structure)) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[allow(unsafe_code)]
fn receive(socket: &UnixListener) -> (Value, OwnedFd) {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    socket.set_nonblocking(true).expect("nonblocking");
    let deadline = std::time::Instant::now() + patience();
    let (connection, _) = loop {
        match socket.accept() {
            Ok(accepted) => break accepted,
            Err(error) => assert!(std::time::Instant::now() < deadline, "no connection: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    connection.set_nonblocking(false).expect("blocking");
    connection.set_read_timeout(Some(patience())).expect("timeout");
    let mut text = [0; 4096];
    let mut control = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
        .expect("a message");
    let fds: Vec<RawFd> = message
        .cmsgs()
        .expect("control data")
        .flat_map(|item| match item {
            ControlMessageOwned::ScmRights(fds) => fds,
            _ => Vec::new(),
        })
        .collect();
    let length = message.bytes;
    let [fd] = fds[..] else { panic!("{} descriptors", fds.len()) };
    // SAFETY: the kernel has just installed it for us.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    (serde_json::from_slice(&text[..length]).expect("one JSON object"), listener)
}

fn notifying(socket: &std::path::Path, step: &str) -> Bundle {
    let rules = json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_NOTIFY" }]);
    Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", rules)
        .set("/linux/seccomp/listenerPath", socket.to_string_lossy().into_owned())
        .set("/linux/seccomp/listenerMetadata", "some words")
        .set("/annotations", json!({ "a": "b" }))
        .steps(&[step, "report"])
}

/// runtime.md, Container Process State: the message and what it says; the agent's answer is the call's.
fn an_agent_answers() {
    let path = directory().join("agent");
    let agent = agent(UnixListener::bind(&path).expect("socket"), 4711);
    let step = probe(0);
    let container = notifying(&path, &step).container();
    let report = Report::parse(&container.run().ok().stdout());
    assert_eq!(report.probe(&step), "ok 4711");
    let message = agent.join().expect("an agent");
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!((&message["ociVersion"], &message["metadata"]), (&json!("1.0.2"), &json!("some words")));
    assert_eq!(
        (&message["state"]["id"], &message["state"]["status"]),
        (&json!(container.id), &json!("creating"))
    );
    assert_eq!(message["state"]["annotations"], json!({ "a": "b" }));
    assert_eq!(message["pid"], message["state"]["pid"]);
}

/// The hook is under the filter all the same; the kernel answers what nobody listens to.
fn an_agent_is_not_asked_for_hooks() {
    let path = directory().join("agent");
    let agent = agent(UnixListener::bind(&path).expect("socket"), 4711);
    let step = probe(0);
    let container = notifying(&path, &step)
        .hook_at("startContainer", "/bin/payload", &[&step, "report:/tmp/hook"])
        .container();
    assert_eq!(Report::parse(&container.run().ok().stdout()).probe(&step), "ok 4711");
    let hook =
        std::fs::read_to_string(container.bundle.rootfs().join("tmp/hook")).expect("the hook's report");
    assert_eq!(Report::parse(&hook).probe(&step), "ENOSYS");
    agent.join().expect("an agent");
}

fn an_agent_answers_what_was_created() {
    let path = directory().join("agent");
    let agent = agent(UnixListener::bind(&path).expect("socket"), 4711);
    let step = probe(0);
    let mut container = notifying(&path, &step).set("/process/noNewPrivileges", false).container();
    container.create();
    let pid = container.pid();
    container.start();
    assert_eq!(container.started_report().probe(&step), "ok 4711");
    let message = agent.join().expect("an agent");
    // The runtime's number, not the container's.
    assert_eq!(message["pid"], json!(pid));
    assert_eq!(message["state"]["status"], "creating");
}

/// Some let a container be started only when they have its listener (youki's tests are one).
fn an_agent_has_the_listener_when_a_container_is_created() {
    let path = directory().join("agent");
    let socket = UnixListener::bind(&path).expect("socket");
    let mut container = notifying(&path, "echo:started").steps(&["echo:started", "sleep:1000"]).container();
    container.create();
    let (message, _listener) = receive(&socket);
    assert_eq!(message["pid"], json!(container.pid()));
    assert_eq!(container.status(), "created");
    let pid = container.pid();
    let seccomp = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        status.lines().find(|line| line.starts_with("Seccomp:")).map(str::to_owned)
    };
    assert_eq!(seccomp().as_deref(), Some("Seccomp:\t2"));
    container.start();
    container.await_output("started");
    container.finish();

    // Not where the profile forbids what comes between: nobody would come out of it.
    let path = directory().join("later");
    let socket = UnixListener::bind(&path).expect("socket");
    let bundle = notifying(&path, "echo:started").steps(&["echo:started", "sleep:1000"]);
    let forbidding = json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO" });
    let mut rules = bundle.config["linux"]["seccomp"]["syscalls"].clone();
    rules.as_array_mut().expect("rules").push(forbidding);
    let mut container = bundle.set("/linux/seccomp/syscalls", rules).container();
    container.create();
    container.start();
    let (message, _listener) = receive(&socket);
    assert_eq!(message["pid"], json!(container.pid()));
    container.await_output("started");
    container.finish();
}

/// Each process has a filter and a listener of its own, and is introduced as itself.
fn an_agent_answers_for_an_exec() {
    let path = directory().join("agent");
    let socket = UnixListener::bind(&path).expect("socket");
    let mut container = notifying(&path, "echo:started").steps(&["echo:started", "sleep:1000"]).container();
    container.up();
    let (inits, _listener) = receive(&socket);
    let agent = agent(socket, 4711);
    let step = probe(0);
    let done = program::Bounded::done(container.verb("exec", &[], &["/bin/payload", &step, "report"])).ok();
    assert_eq!(Report::parse(&done.stdout()).probe(&step), "ok 4711");
    let message = agent.join().expect("an agent");
    assert_eq!((&inits["pid"], &message["state"]["pid"]), (&json!(container.pid()), &json!(container.pid())));
    assert_ne!(message["pid"], inits["pid"]);
    assert_eq!(message["state"]["status"], "running");
}

fn an_agent_must_be_there() {
    let path = directory().join("nobody");
    notifying(&path, "echo:x").refused("failed to connect with seccomp agent");
    // It is not bothered for a profile that has no question to it.
    Bundle::new()
        .seccomp("SCMP_ACT_ALLOW", json!([rule("SCMP_ACT_ERRNO", 33, json!([]))]))
        .set("/linux/seccomp/listenerPath", path.to_string_lossy().into_owned())
        .report();
}

fn notify_of_the_runtimes_own_calls_is_refused() {
    for call in ["write", "sendmsg"] {
        let rules = json!([{ "names": [call], "action": "SCMP_ACT_NOTIFY" }]);
        Bundle::new()
            .seccomp("SCMP_ACT_ALLOW", rules)
            .set("/linux/seccomp/listenerPath", "/nobody")
            .refused(&format!("SCMP_ACT_NOTIFY cannot be used for the {call} syscall"));
    }
}

fn profiles_are_explained() {
    let config = directory().join("config.json");
    std::fs::write(&config, include_str!("bundles/docker.json")).expect("config.json");
    let bare = directory().join("profile.json");
    let docker: Value = serde_json::from_str(include_str!("bundles/docker.json")).expect("docker.json");
    std::fs::write(&bare, docker["linux"]["seccomp"].to_string()).expect("profile");
    for file in [&config, &bare] {
        let file = file.to_string_lossy();
        let ask = |words: &[&str]| {
            let mut args = vec!["seccomp"];
            args.extend(words);
            berth(&args).done().ok().stdout()
        };
        assert!(ask(&["compile", &file]).contains("return ALLOW"));
        assert!(ask(&["test", &file, "read"]).starts_with("ALLOW: syscalls["));
        assert!(ask(&["test", &file, "--arch", "x86", "open"]).starts_with("ALLOW: syscalls["));
        assert!(ask(&["test", &file, "kexec_load"]).starts_with("ERRNO(EPERM): defaultAction"));
        assert!(ask(&["test", &file, "personality", "0xffffffff"]).starts_with("ALLOW"));
        assert!(ask(&["test", &file, "personality", "1234"]).starts_with("ERRNO(EPERM)"));
        assert!(ask(&["test", &file, "--arch", "arm", "read"]).contains("architecture not listed"));
    }
    let file = bare.to_string_lossy().into_owned();
    berth(&["seccomp", "test", &file, "frobnicate"]).done().fails("no architecture has a system call");
    berth(&["seccomp", "test", &file, "--arch", "vax", "read"]).done().fails("expected one of x86_64");
    berth(&["seccomp", "compile", "/nonexistent"]).done().fails("no such file");
}
