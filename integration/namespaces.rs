//! New namespaces, joined ones, and what belongs to them: names, loopback, sysctls.

use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};

tests! {
    new_namespaces_differ_from_the_host, namespaces_that_are_not_listed_are_the_hosts, joins_by_path,
    path_of_another_type_is_refused, missing_path_is_refused, duplicate_type_is_refused, hostname_and_domainname,
    hostname_without_uts_namespace_is_refused, loopback_is_up, pid_one_and_its_view, joined_pid_namespace_is_entered,
    nobody_robs_who_joins_a_pid_namespace, who_is_killed_on_the_way_in_keeps_nobody_waiting, all_of_a_birth_works_in_a_joined_pid_namespace,
    new_cgroup_namespace_shows_its_root, sysctls_are_set, values_of_the_loopback_stay, sysctl_names_with_slashes, sysctl_outside_of_a_namespace_is_refused,
    relative_namespace_path_is_refused, network_namespace_shared_by_two,
}

const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn new_namespaces_differ_from_the_host() {
    let report = Bundle::new().namespace("cgroup", None).report();
    for (_, name) in KINDS {
        assert_ne!(report.namespace(name), host::namespace("self", name), "{name}");
    }
    for name in ["user", "time"] {
        assert_eq!(report.namespace(name), host::namespace("self", name), "{name}");
    }
}

fn namespaces_that_are_not_listed_are_the_hosts() {
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("pid", "pid")] {
        let mut bundle = Bundle::new().without_namespace(kind);
        if kind == "network" {
            // The kernel mounts sysfs only for the owner of the network namespace; here that is the same user.
            bundle = bundle.without_mount("/sys");
        }
        let report = bundle.report();
        assert_eq!(report.namespace(name), host::namespace("self", name), "{name}");
        assert_ne!(report.namespace("uts"), host::namespace("self", "uts"));
    }
}

/// A running container whose namespaces others join.
fn sandbox() -> Container {
    let mut sandbox = Bundle::new()
        .namespace("cgroup", None)
        .set("/hostname", "sandbox")
        .steps(&["sleep:1000"])
        .container();
    sandbox.up();
    sandbox
}

fn joins_by_path() {
    let sandbox = sandbox();
    let pid = sandbox.pid().to_string();
    let mut bundle = Bundle::new().remove("/hostname");
    for (kind, name) in KINDS {
        if kind != "mount" {
            bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
        }
    }
    let report = bundle.report();
    for (kind, name) in KINDS {
        let theirs = host::namespace(&pid, name);
        assert_eq!(
            report.namespace(name) == theirs,
            kind != "mount",
            "{name}: {} and {theirs}",
            report.namespace(name)
        );
    }
    assert_eq!(report["hostname"], "sandbox");
}

fn path_of_another_type_is_refused() {
    let done = Bundle::new().namespace("network", Some("/proc/self/ns/uts")).refused("");
    assert!(
        done.stderr().contains("/proc/self/ns/uts") || done.stderr().contains("namespace"),
        "{}",
        done.describe()
    );
    Bundle::new().namespace("ipc", Some("/dev/null")).refused("");
}

fn missing_path_is_refused() {
    Bundle::new().namespace("network", Some("/does/not/exist")).refused("/does/not/exist");
}

/// config-linux.md, Namespaces: the path is an absolute one.
fn relative_namespace_path_is_refused() {
    Bundle::new().namespace("network", Some("ns/net")).refused("");
}

fn duplicate_type_is_refused() {
    Bundle::new().push("/linux/namespaces", json!({ "type": "pid" })).refused("");
    Bundle::new().push("/linux/namespaces", json!({ "type": "nonsense" })).refused("");
}

fn hostname_and_domainname() {
    let report = Bundle::new().set("/hostname", "one").set("/domainname", "two.example").report();
    assert_eq!((&report["hostname"], &report["domainname"]), (&json!("one"), &json!("two.example")));
}

fn hostname_without_uts_namespace_is_refused() {
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    Bundle::new().without_namespace("uts").refused("");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"), before);
}

fn loopback_is_up() {
    let report = Bundle::new().report();
    let interfaces = report["interfaces"].as_array().expect("interfaces");
    let loopback: Vec<_> = interfaces.iter().filter(|interface| interface["name"] == "lo").collect();
    assert!(
        !loopback.is_empty() && loopback.iter().all(|interface| interface["up"] == true),
        "{interfaces:?}"
    );
    let has = |start: &str| {
        loopback
            .iter()
            .any(|interface| interface["address"].as_str().is_some_and(|text| text.starts_with(start)))
    };
    assert!(has("127.0.0.1"), "{interfaces:?}");
    assert!(interfaces.iter().all(|interface| interface["name"] == "lo"), "{interfaces:?}");
}

fn pid_one_and_its_view() {
    let report = Bundle::new().report_after(&["list:/proc"]);
    assert_eq!((&report["pid"], &report["ppid"]), (&json!(1), &json!(0)));
    let entries = report.probe("list:/proc").as_array().expect("entries");
    let pids: Vec<_> =
        entries.iter().filter(|name| name.as_str().is_some_and(|name| name.parse::<i32>().is_ok())).collect();
    assert_eq!(pids, ["1"]);
}

fn joined_pid_namespace_is_entered() {
    let sandbox = sandbox();
    let path = format!("/proc/{}/ns/pid", sandbox.pid());
    let report = Bundle::new().namespace("pid", Some(&path)).report_after(&["read:/proc/1/cmdline"]);
    assert_ne!(report["pid"], 1);
    assert!(report.probe("read:/proc/1/cmdline").as_str().is_some_and(|line| line.contains("sleep:1000")));
}

/// A neighbour in the pid namespace with CAP_SYS_PTRACE sees no process of ours that has something of the host.
fn nobody_robs_who_joins_a_pid_namespace() {
    require!(host::kernel_is_at_least(6, 17), "procfs has no option pidns in this kernel");
    let marker = program::directory().join("of-the-host");
    std::fs::write(&marker, "secret").expect("marker");
    let tracer = ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_CHROOT"];
    let sets = ["bounding", "permitted", "effective"];
    let mut neighbour = Bundle::new().capabilities(&sets, &tracer).steps(&["sleep:1000"]).container();
    neighbour.up();
    let path = format!("/proc/{}/ns/pid", neighbour.pid());
    let robbing = format!("rob:2:{}", marker.display());
    let robber = neighbour.verb("exec", &[], &[bundle::PAYLOAD, &robbing, "report"]).start();
    while robber.stdout().is_empty() {
        let joining = Bundle::new().namespace("pid", Some(&path)).capabilities(&sets, &tracer);
        joining.steps(&["exit:0"]).container().run().ok();
    }
    let found = Report::parse(&robber.wait().ok().stdout()).probe(&robbing).clone();
    assert!(found["seen"].as_u64() > Some(0), "no joining process was ever seen");
    assert_eq!(found["taken"], json!([]));
}

/// Neither `create` nor `exec` waits for ever when what it makes is killed by a neighbour before it has said a word.
fn who_is_killed_on_the_way_in_keeps_nobody_waiting() {
    let mut neighbour = Bundle::new().steps(&["sleep:1000"]).container();
    neighbour.up();
    let path = format!("/proc/{}/ns/pid", neighbour.pid());
    let slaying = "slay:2";
    let slayer = neighbour.verb("exec", &[], &[bundle::PAYLOAD, slaying, "report"]).start();
    let mut failed = (0, 0);
    while slayer.stdout().is_empty() {
        let joining = Bundle::new().namespace("pid", Some(&path)).steps(&["sleep:1000"]).container();
        failed.0 += u32::from(!joining.command("create", &[]).done().status.success());
        failed.1 +=
            u32::from(!neighbour.verb("exec", &[], &[bundle::PAYLOAD, "exit:0"]).done().status.success());
    }
    let slain = Report::parse(&slayer.wait().ok().stdout()).probe(slaying).as_u64();
    assert!(slain > Some(0) && failed.0 > 0 && failed.1 > 0, "{slain:?} were killed, {failed:?} failed");
}

/// Init is a sibling of who prepares it there: what a clone does not inherit is its own all the same.
fn all_of_a_birth_works_in_a_joined_pid_namespace() {
    let sandbox = sandbox();
    let path = format!("/proc/{}/ns/pid", sandbox.pid());
    let bundle = || Bundle::new().namespace("pid", Some(&path));

    let mut container = bundle()
        .set(
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
        )
        .steps(&["report", "sleep:1000"])
        .container();
    container.create();
    assert_eq!(container.status(), "created");
    let pid = container.pid();
    assert_eq!(host::namespace(&pid.to_string(), "pid"), host::namespace(&sandbox.pid().to_string(), "pid"));
    container.start();
    let report = container.started_report();
    assert_eq!(report["sid"], report["pid"], "it leads a session");
    assert_eq!(report["scheduler"]["policy"], 0x4000_0000, "SCHED_RESET_ON_FORK");
    assert_eq!(container.pid(), pid);
    container.finish();

    let report = bundle().set("/process/terminal", true).report();
    assert_eq!(report["tty"][0]["foreground"], report["pid"], "a controlling terminal: {}", report["tty"]);

    // A child that fails late, and one that ends.
    let done = bundle().set("/process/args", json!(["/no/such/program"])).container().run();
    assert!(done.stderr().contains("no such file or directory"), "{}", done.describe());
    let code = bundle().steps(&["exit:7"]).container().run().code();
    assert_eq!(code, 7);
}

fn new_cgroup_namespace_shows_its_root() {
    let report = Bundle::new().namespace("cgroup", None).report();
    for line in report["cgroup"].as_array().expect("lines") {
        assert!(line.as_str().is_some_and(|line| line.ends_with(":/")), "{line}");
    }
    let bundle = Bundle::new();
    let path = bundle.cgroup_path();
    let report = bundle.report();
    let lines = report["cgroup"].as_array().expect("lines");
    assert!(lines.iter().any(|line| line.as_str().is_some_and(|line| line.ends_with(&path))), "{lines:?}");
}

fn sysctls_are_set() {
    let sysctls = json!({ "net.ipv4.ip_unprivileged_port_start": "123", "kernel.shmmax": "68719476736", "fs.mqueue.msg_max": "20" });
    let paths = ["net/ipv4/ip_unprivileged_port_start", "kernel/shmmax", "fs/mqueue/msg_max"]
        .map(|path| format!("read:/proc/sys/{path}"));
    let steps: Vec<&str> = paths.iter().map(String::as_str).collect();
    let report = Bundle::new().set("/linux/sysctl", sysctls).report_after(&steps);
    assert_eq!(
        steps.iter().map(|step| report.probe(step).as_str().expect("text")).collect::<Vec<_>>(),
        ["123", "68719476736", "20"]
    );
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("sysctl");
    assert_ne!(host.trim(), "123");
}

/// The kernel sets it back when the interface comes up.
fn values_of_the_loopback_stay() {
    let path = "/proc/sys/net/ipv6/conf/lo/mtu";
    require!(std::path::Path::new(path).exists(), "no IPv6 in this kernel");
    let step = format!("read:{path}");
    let bundle = Bundle::new().set("/linux/sysctl", json!({ "net.ipv6.conf.lo.mtu": "1400" }));
    assert_eq!(bundle.report_after(&[&step]).probe(&step), "1400");
}

/// sysctl.d(5): a first separator `/` makes `/` the separator and keeps dots.
fn sysctl_names_with_slashes() {
    let report = Bundle::new()
        .set("/linux/sysctl", json!({ "net/ipv4/conf/lo/forwarding": "1" }))
        .report_after(&["read:/proc/sys/net/ipv4/conf/lo/forwarding"]);
    assert_eq!(report.probe("read:/proc/sys/net/ipv4/conf/lo/forwarding"), "1");
}

fn sysctl_outside_of_a_namespace_is_refused() {
    let value = |path: &str| std::fs::read_to_string(path).expect("sysctl");
    let before = value("/proc/sys/vm/overcommit_memory");
    for (bundle, name) in [
        (Bundle::new(), "vm.overcommit_memory"),
        (Bundle::new().without_namespace("network").without_mount("/sys"), "net.ipv4.ip_forward"),
        (Bundle::new().without_namespace("ipc").without_mount("/dev/mqueue"), "kernel.shmmax"),
        (Bundle::new(), "net/../vm/overcommit_memory"),
    ] {
        bundle.set("/linux/sysctl", json!({ name: "1" })).refused("sysctl");
    }
    assert_eq!(value("/proc/sys/vm/overcommit_memory"), before);
}

fn network_namespace_shared_by_two() {
    let sandbox = sandbox();
    let path = format!("/proc/{}/ns/net", sandbox.pid());
    let report = Bundle::new().namespace("network", Some(&path)).report();
    assert_eq!(report.namespace("net"), host::namespace(&sandbox.pid().to_string(), "net"));
    sandbox.verb("state", &[], &[]).done().ok();
}
