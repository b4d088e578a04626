//! Each rule about the host with a document that needs something, a host that lacks it and one that has it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::host::{Found, Host};
use super::program::Program;
use super::rehearsal::{self, Plans};
use super::rules::{self, Case};
use crate::cgroups::{self, Driver, Layout, Version};
use crate::namespaces::{self, Kind};
use crate::security;
use crate::spec::{self, Rule};

/// A host that has what the documents of the tests need, with a caller who may do all.
fn host() -> Host {
    Host {
        kernel: (6, 15),
        capabilities: u64::MAX,
        namespaces: Kind::ALL.into_iter().map(|kind| kind.proc_name().to_owned()).collect(),
        uids: vec![(0, u32::MAX)],
        gids: vec![(0, u32::MAX)],
        filesystems: words("proc tmpfs fuse"),
        version: Some(Version::V2),
        controllers: words("cpu cpuset memory pids io"),
        cpus: vec![(0, 3)],
        nodes: vec![(0, 0)],
        possible_cpus: vec![(0, 3)],
        possible_nodes: vec![(0, 1)],
        page_sizes: words("2MB"),
        block_devices: words("8:0"),
        interfaces: words("lo eth0"),
        rdma: words("mlx"),
        nr_open: 1 << 20,
        sysctls: words("net/core/somaxconn"),
        files: [("/b/rootfs", Found::Directory), ("/bin/hook", Found::File { executable: true })]
            .into_iter()
            .map(|(path, found)| (path.into(), found))
            .collect(),
        program: Program::Found,
        ..Host::default()
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn layout() -> Layout {
    Layout::of_v2("/sys/fs/cgroup")
}

/// What the rules say of a document that has `change` for its own members.
fn said(change: Value, host: &Host) -> Vec<String> {
    let mut document = json!({
        "ociVersion": "1.3.0", "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"}
    });
    for (name, value) in change.as_object().unwrap() {
        document[name] = value.clone();
    }
    let warnings = &mut Vec::new();
    let spec = spec::parse(document.to_string().as_bytes(), warnings).unwrap();
    let linux = spec.linux().clone().unwrap();
    let rights = security::Host {
        known: u64::MAX,
        bounding: u64::MAX,
        permitted: u64::MAX,
        apparmor: true,
        selinux: true,
    };
    let plans = Plans {
        cgroup: cgroups::plan(spec.linux().as_ref(), "id", &layout(), Driver::Cgroupfs, warnings).ok(),
        security: security::plan(spec.process().as_ref().unwrap(), &linux, &rights, warnings).unwrap(),
        namespaces: namespaces::plan(&linux).unwrap(),
    };
    let mut lines = Vec::new();
    let case = Case { spec: &spec, bundle: Path::new("/b"), plans: &plans, host };
    rules::run(&case, |found| {
        lines.extend(
            found
                .iter()
                .map(|finding| format!("{} {}: {}", finding.rule.name, finding.path, finding.message)),
        );
    });
    lines
}

fn process(more: Value) -> Value {
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"});
    process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "process": process })
}

fn in_user_namespace(ranges: Value) -> Value {
    json!({"linux": {"namespaces": [{"type": "user"}], "uidMappings": ranges, "gidMappings": ranges}})
}

fn resources(resources: Value) -> Value {
    json!({"linux": {"resources": resources}})
}

/// A document, what the host lacks for it, and what is said then.
type Row = (Value, fn(&mut Host), &'static str);

/// The host that lacks nothing has nothing to say.
fn check(rows: Vec<Row>) {
    for (document, lack, expected) in rows {
        let mut lacking = host();
        lack(&mut lacking);
        assert_eq!(said(document.clone(), &lacking), [expected], "{document}");
        assert_eq!(said(document.clone(), &host()), [""; 0], "{document}");
    }
}

#[test]
fn files() {
    let bind = json!({"mounts": [{"destination": "/a", "type": "bind", "source": "/bin/hook"}]});
    let hook = json!({"hooks": {"poststop": [{"path": "/bin/hook"}]}});
    check(vec![
        (json!({}), |host| host.files.clear(), "rootfs root.path: /b/rootfs does not exist"),
        (
            json!({}),
            |host| {
                host.files.insert("/b/rootfs".into(), Found::Denied);
            },
            "rootfs root.path: /b/rootfs cannot be reached by the caller",
        ),
        (
            json!({}),
            |host| host.program = Program::Missing(vec!["/bin/sh".into(), "/sh".into()]),
            "program process.args[0]: is not in the root file system; looked for /bin/sh, /sh",
        ),
        (
            json!({}),
            |host| host.program = Program::Missing(Vec::new()),
            "program process.args[0]: cannot be found: process.env has no PATH",
        ),
        (
            json!({}),
            |host| host.program = Program::WithoutInterpreter("/lib/ld.so".into()),
            "program process.args[0]: its interpreter /lib/ld.so is not in the root file system",
        ),
        (
            json!({}),
            |host| host.program = Program::NotExecutable("/bin/sh".into()),
            "program process.args[0]: /bin/sh is not executable",
        ),
        (
            json!({"mounts": [{"destination": "/a", "type": "fuse.sshfs", "source": "x"}]}),
            |host| {
                host.filesystems.remove("fuse");
            },
            "filesystem mounts[0].type: this kernel has no file system \"fuse.sshfs\"",
        ),
        (
            bind.clone(),
            |host| {
                host.files.remove(Path::new("/bin/hook"));
            },
            "bind-source mounts[0].source: /bin/hook does not exist",
        ),
        (
            json!({
                "mounts": [{"destination": "/a", "type": "tmpfs", "source": "x", "options": ["rro"]}],
                "linux": {"namespaces": [{"type": "mount"}]}
            }),
            |host| host.kernel = (5, 10),
            "mount-kernel mounts[0].options: recursive attributes need Linux 5.12",
        ),
        (
            hook.clone(),
            |host| {
                host.files.insert("/bin/hook".into(), Found::File { executable: false });
            },
            "hook-program hooks.poststop[0].path: /bin/hook is not executable",
        ),
        (
            hook,
            |host| {
                host.files.insert("/bin/hook".into(), Found::Directory);
            },
            "hook-program hooks.poststop[0].path: /bin/hook is no program",
        ),
        (
            json!({"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]}}),
            |host| host.capabilities = 0,
            "device-node linux.devices[0].path: nobody may make it here, and the host has no /dev/x to bind",
        ),
    ]);
    let foreign = Host { program: Program::OfMachine("mips".into()), ..host() };
    let own = std::env::consts::ARCH;
    assert_eq!(
        said(json!({}), &foreign),
        [format!("program-machine process.args[0]: is a program for mips, this machine is {own}")]
    );
}

#[test]
fn namespaces_and_ids() {
    let ranges = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    check(vec![
        (
            json!({"linux": {"namespaces": [{"type": "time"}]}}),
            |host| {
                host.namespaces.remove("time");
            },
            "namespace-kernel linux.namespaces[0].type: this kernel has no time namespaces",
        ),
        (
            json!({"linux": {"namespaces": [{"type": "uts"}]}}),
            |host| host.capabilities = 0,
            "namespace-rights linux.namespaces: the caller may not make namespaces",
        ),
        (
            in_user_namespace(ranges.clone()),
            |host| host.user_namespaces = Some("/x is 0"),
            "user-namespace linux.namespaces: the caller may make no user namespace: /x is 0",
        ),
        (
            in_user_namespace(ranges.clone()),
            |host| host.uids = vec![(0, 65536)],
            "id-range linux.uidMappings[0]: the host's ids 100000 to 100009 are not in the caller's user namespace",
        ),
        (
            json!({"linux": {"namespaces": [{"type": "network"}], "netDevices": {"eth0": {}}}}),
            |host| {
                host.interfaces.remove("eth0");
            },
            "net-device linux.netDevices.eth0: the host has no such device",
        ),
        (
            json!({"linux": {"namespaces": [{"type": "network"}], "sysctl": {"net.core.somaxconn": "1"}}}),
            |host| host.sysctls.clear(),
            "sysctl-kernel linux.sysctl[\"net.core.somaxconn\"]: this kernel has no /proc/sys/net/core/somaxconn",
        ),
    ]);
}

#[test]
fn an_ordinary_users_ids() {
    let user = Host {
        uid: 1000,
        gid: 1000,
        capabilities: 0,
        subuids: vec![(100_000, 10)],
        subgids: vec![(100_000, 10)],
        map_programs: ["newuidmap", "newgidmap"].into(),
        ..host()
    };
    let own = json!({"containerID": 0, "hostID": 1000, "size": 1});
    let more =
        |size: u32| in_user_namespace(json!([own, {"containerID": 1, "hostID": 100_000, "size": size}]));
    assert_eq!(said(in_user_namespace(json!([own])), &user), [""; 0]);
    assert_eq!(said(more(10), &user), [""; 0]);
    assert_eq!(
        said(more(11), &user),
        [
            "id-range linux.uidMappings[1]: the host's ids 100000 to 100010 are not granted by /etc/subuid",
            "id-range linux.gidMappings[1]: the host's ids 100000 to 100010 are not granted by /etc/subgid",
        ]
    );
    let without = Host { map_programs: BTreeSet::new(), ..user.clone() };
    assert_eq!(
        said(more(10), &without)[0],
        "id-range linux.uidMappings: newuidmap is not installed, and the caller may map only its own id"
    );
    let mut groups = in_user_namespace(json!([own]));
    groups["process"] =
        json!({"user": {"uid": 0, "gid": 0, "additionalGids": [0]}, "args": ["sh"], "cwd": "/"});
    assert_eq!(
        said(groups, &user),
        [
            "groups-denied process.user.additionalGids: setgroups is denied where only the caller's own gid is mapped"
        ]
    );
}

#[test]
fn rights_of_the_process() {
    let limit = |hard: u64| process(json!({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": hard}]}));
    check(vec![
        (
            limit(2048),
            |host| {
                host.capabilities = 0;
                host.hard_limits = [(libc::RLIMIT_NOFILE, 1024)].into();
            },
            "rlimit-rights process.rlimits[0].hard: 2048 is above the caller's own hard limit, 1024",
        ),
        (
            limit(2048),
            |host| host.nr_open = 1024,
            "rlimit-rights process.rlimits[0].hard: 2048 is above /proc/sys/fs/nr_open, 1024",
        ),
        (
            process(json!({"oomScoreAdj": -5})),
            |host| host.capabilities = 0,
            "oom-score-rights process.oomScoreAdj: the caller may not lower it from 0 to -5",
        ),
        (
            process(json!({"scheduler": {"policy": "SCHED_RR", "priority": 1}})),
            |host| host.capabilities = 0,
            "scheduler-rights process.scheduler.policy: the caller may not ask for SCHED_RR",
        ),
        (
            process(json!({"scheduler": {"policy": "SCHED_OTHER", "nice": -1}})),
            |host| host.capabilities = 0,
            "scheduler-rights process.scheduler.nice: the caller may not ask for less than 0",
        ),
        (
            process(json!({"scheduler": {"policy": "SCHED_RR", "priority": 1}})),
            |host| host.realtime_budgets = true,
            "scheduler-budget process.scheduler: a new cgroup has no real time to give on this host",
        ),
        (
            process(json!({"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1}})),
            |host| host.capabilities = 0,
            "io-priority-rights process.ioPriority.class: the caller may not ask for IOPRIO_CLASS_RT",
        ),
        (
            process(json!({"apparmorProfile": "docker-default"})),
            |host| host.profiles = Some(BTreeSet::new()),
            "apparmor-profile process.apparmorProfile: no profile \"docker-default\" is loaded",
        ),
        (
            json!({"linux": {"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1"}}}),
            |host| host.nodes = vec![(2, 3)],
            "memory-nodes linux.memoryPolicy.nodes: none of them has memory",
        ),
        (
            json!({"linux": {"memoryPolicy": {"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}}}),
            |host| host.kernel = (6, 8),
            "memory-policy-kernel linux.memoryPolicy.mode: MPOL_WEIGHTED_INTERLEAVE needs Linux 6.9",
        ),
    ]);
    let nobodys = process(json!({"scheduler": {"policy": "SCHED_ISO"}}));
    assert_eq!(
        said(nobodys, &host()),
        ["scheduler-kernel process.scheduler.policy: no kernel implements SCHED_ISO"]
    );
}

#[test]
fn cgroups_of_the_host() {
    check(vec![
        (
            resources(json!({"pids": {"limit": 5}})),
            |host| {
                host.controllers.remove("pids");
            },
            "controller linux.resources.pids.limit: this host has no cgroup controller pids",
        ),
        (
            resources(json!({"memory": {"limit": 5000}})),
            |host| {
                host.readonly_hierarchies.insert(String::new());
            },
            "cgroup-rights linux.resources.memory.limit: the caller may not make a cgroup for it",
        ),
        (
            resources(json!({"cpu": {"idle": 1}})),
            |host| host.kernel = (5, 14),
            "cpu-kernel linux.resources.cpu.idle: it needs Linux 5.15",
        ),
        (
            resources(json!({"cpu": {"cpus": "0-2"}})),
            |host| host.cpus = vec![(0, 1)],
            "cpuset-offline linux.resources.cpu.cpus: not all of these CPUs are online",
        ),
        (
            resources(json!({"cpu": {"cpus": "0-2"}})),
            |host| (host.cpus, host.possible_cpus) = (vec![(0, 1)], vec![(0, 1)]),
            "cpuset linux.resources.cpu.cpus: not all of these CPUs are online",
        ),
        (
            resources(json!({"cpu": {"mems": "0"}})),
            |host| host.nodes = vec![(1, 1)],
            "cpuset-offline linux.resources.cpu.mems: not all of these nodes have memory",
        ),
        (
            resources(json!({"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}]}})),
            |host| host.block_devices.clear(),
            "block-device linux.resources.blockIO.throttleReadIOPSDevice[0]: the host has no block device 8:0",
        ),
    ]);
    let mut v1 = host();
    v1.version = Some(Version::V1);
    assert_eq!(
        said(resources(json!({"cpu": {"cpus": "7"}})), &v1),
        ["cpuset linux.resources.cpu.cpus: not all of these CPUs are online"]
    );
}

/// All rules, in the order in which they are looked at.
fn rules_of_check() -> Vec<&'static Rule> {
    let mut rules = spec::rules();
    rules.extend(rehearsal::RULES);
    rules.extend(rules::RULES.iter().map(|(rule, _)| rule));
    rules
}

#[test]
fn names_of_rules_are_unique_and_all_have_a_section() {
    let rules = rules_of_check();
    let count = |name: &str| rules.iter().filter(|rule| rule.name == name).count();
    let twice: BTreeSet<&str> = rules.iter().map(|rule| rule.name).filter(|name| count(name) > 1).collect();
    // The list that the types refuse and the one that the rule refuses are one rule.
    assert_eq!(twice, ["cpu-affinity"].into());
    for rule in &rules {
        let known = ["config.md#", "config-linux.md#", "schema/config-schema.json"];
        assert!(known.iter().any(|start| rule.section.starts_with(start)), "{}: {}", rule.name, rule.section);
    }
}

/// Of a host that is here in the integration suite's table, of others in the tests above.
#[test]
fn every_rule_is_seen_to_be_broken() {
    const SEEN: [&str; 3] = [
        include_str!("../../../integration/check.json"),
        include_str!("../../../integration/check.rs"),
        include_str!("tests.rs"),
    ];
    let is_seen = |rule: &Rule| {
        let in_suite = SEEN[..2].iter().any(|text| text.contains(&format!(" {}\"", rule.name)));
        in_suite || SEEN[2].contains(&format!("\"{} ", rule.name))
    };
    let unseen: Vec<&str> =
        rules_of_check().into_iter().filter(|rule| !is_seen(rule)).map(|rule| rule.name).collect();
    // The one is about flags of create; the other's are what the rules of the specification find first.
    assert_eq!(unseen, ["process-terminal", "process-plan"]);
}

/// `BERTH_WRITE_DOCUMENTS=1` writes it anew, as `make documents` does.
#[test]
fn committed_documents_have_every_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let mut table = String::from("| rule | severity | section | remedy |\n| --- | --- | --- | --- |\n");
    let mut seen = BTreeSet::new();
    for rule in rules_of_check().into_iter().filter(|rule| seen.insert(rule.name)) {
        let Rule { name, section, remedy, .. } = rule;
        table += &format!("| `{name}` | {} | {section} | {remedy} |\n", rule.severity.name());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, _) = text.split_once("| rule |").unwrap();
    let fresh = format!("{head}{table}");
    if std::env::var_os("BERTH_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == fresh, "docs/check.md is out of date: make documents");
}
