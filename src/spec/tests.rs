//! Tests of reading and checking whole documents: one row per rule.

use serde_json::{Value, json};

use super::*;

/// A document without a fault, and with one of most things.
fn valid() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["A=b"], "cwd": "/"},
        "hostname": "berth",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}],
            "resources": {}
        }
    })
}

/// `valid` with the value at each JSON pointer replaced, `null` removing it.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut document = valid();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("no parent of {pointer}"));
        match parent {
            Value::Array(elements) if name == "-" => elements.push(value.clone()),
            Value::Array(elements) => elements[name.parse::<usize>().unwrap()] = value.clone(),
            Value::Object(members) if value.is_null() => drop(members.remove(name)),
            Value::Object(members) => drop(members.insert(name.into(), value.clone())),
            _ => panic!("{pointer} is below a value without members"),
        }
    }
    document
}

fn read(document: &Value) -> Result<Spec> {
    parse(document.to_string().as_bytes(), &mut Vec::new())
}

fn refusal(document: &Value, options: &ValidateOptions) -> String {
    let result = read(document).and_then(|spec| check(&spec, options));
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

fn set(pointer: &str, value: Value) -> Vec<(&str, Value)> {
    vec![(pointer, value)]
}

#[test]
fn each_rule_finds_its_fault() {
    let user = json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}]);
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let in_user_namespace = |change: (&'static str, Value)| {
        vec![
            ("/linux/namespaces", user.clone()),
            ("/linux/uidMappings", maps.clone()),
            ("/linux/gidMappings", maps.clone()),
            change,
        ]
    };
    let seccomp = |more: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        profile.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set("/linux/seccomp", profile)
    };
    let rows: Vec<(Vec<(&str, Value)>, &str)> = vec![
        (set("/ociVersion", json!("1.0")), r#"ociVersion: must be a semantic version like 1.3.0, not "1.0""#),
        (
            set("/ociVersion", json!("2.0.0")),
            "ociVersion: 2.0.0 is not supported; berth knows 1.0.0 to 1.3.0",
        ),
        (set("/ociVersion", json!("0.6.0")), "ociVersion: 0.6.0 is not supported"),
        (
            set("/ociVersion", Value::Null),
            "config.json: ociVersion: is required (config.md#specification-version)",
        ),
        (set("/root", Value::Null), "root: is required (config.md#root)"),
        (set("/root/path", json!("")), "root.path: is required"),
        (set("/process", Value::Null), "process: is required"),
        (
            set("/process/cwd", json!("tmp")),
            r#"process.cwd: must be an absolute path, not "tmp" (config.md#process)"#,
        ),
        (set("/process/cwd", Value::Null), "process: missing field `cwd`"),
        (
            vec![
                ("/process/terminal", json!(true)),
                ("/process/consoleSize", json!({"height": 70000, "width": 1})),
            ],
            "process.consoleSize.height: must be at most 65535, not 70000",
        ),
        (set("/process/args", Value::Null), "process.args: must name a command"),
        (set("/process/args", json!([])), "process.args: must name a command"),
        (set("/process/args", json!([""])), r#"process.args[0]: "": executable file not found in $PATH"#),
        (set("/process/args", json!(["a\u{0}b"])), "process.args[0]: contains a NUL character"),
        (set("/process/env/-", json!("PATH")), r#"process.env[1]: must be NAME=VALUE, not "PATH""#),
        (set("/process/env/-", json!("=x")), r#"process.env[1]: must be NAME=VALUE, not "=x""#),
        (
            set(
                "/process/rlimits",
                json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 2, "hard": 2}]),
            ),
            "process.rlimits[1].type: RLIMIT_CORE is there twice",
        ),
        (
            set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])),
            "process.rlimits[0].soft: 2 must not be greater than hard, 1",
        ),
        (
            set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "hard": 1}])),
            "process.rlimits[0]: missing field `soft`",
        ),
        (
            set("/process/rlimits", json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}])),
            "process.rlimits[0].type: unknown value `RLIMIT_FOO`",
        ),
        (set("/process/user/umask", json!(512)), "process.user.umask: must be at most 0777 (511), not 512"),
        (in_user_namespace(("/process/user/uid", json!(10))), "process.user.uid: 10 is not mapped"),
        (
            in_user_namespace(("/process/user/additionalGids", json!([0, 77]))),
            "process.user.additionalGids[1]: 77 is not mapped",
        ),
        (
            set("/process/capabilities", json!({"effective": ["CAP_KILL"], "permitted": []})),
            "process.capabilities.effective: CAP_KILL is not in permitted",
        ),
        (
            set("/process/oomScoreAdj", json!(1001)),
            "process.oomScoreAdj: must be between -1000 and 1000, not 1001",
        ),
        (
            set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 20})),
            "process.scheduler.nice: must be between -20 and 19",
        ),
        (
            set("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 1})),
            "process.scheduler.priority: is for SCHED_FIFO and SCHED_RR only",
        ),
        (
            set("/process/scheduler", json!({"policy": "SCHED_FIFO", "runtime": 1})),
            "process.scheduler.runtime: is for SCHED_DEADLINE only",
        ),
        (
            set("/process/scheduler", json!({"policy": "SCHED_X"})),
            "process.scheduler.policy: unknown value `SCHED_X`",
        ),
        (
            set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8})),
            "process.ioPriority.priority: must be between 0 and 7, not 8",
        ),
        (set("/process/execCPUAffinity", json!({"initial": "a"})), "process.execCPUAffinity.initial:"),
        (
            set("/process/execCPUAffinity", json!({"initial": "1", "final": "3-1"})),
            r#"process.execCPUAffinity.final: must be a list like 0-3,7, not "3-1" (config.md#linux-process)"#,
        ),
        (set("/mounts/0/destination", json!("")), "mounts[0].destination: must not be empty"),
        (set("/mounts/0/destination", Value::Null), "mounts[0]: missing field `destination`"),
        (
            set("/mounts/0", json!({"destination": "/a", "type": "bind"})),
            "mounts[0].source: a bind mount needs a source",
        ),
        (
            set("/mounts/0", json!({"destination": "/a", "options": ["rbind"]})),
            "mounts[0].source: a bind mount needs a source",
        ),
        (set("/mounts/0", json!({"destination": "/a", "source": "/a"})), "mounts[0].type: is needed"),
        (
            set(
                "/mounts/0",
                json!({"destination": "/a", "source": "/a", "type": "bind", "uidMappings": maps}),
            ),
            "mounts[0]: needs both uidMappings and gidMappings or neither",
        ),
        (
            set(
                "/mounts/0",
                json!({"destination": "/a", "source": "/a", "type": "bind", "options": ["idmap"]}),
            ),
            "mounts[0].options: idmap needs mappings of its own or a user namespace",
        ),
        (
            vec![("/linux/namespaces", json!([])), ("/domainname", json!("d"))],
            "hostname: needs a uts namespace (config.md#hostname); domainname: needs a uts namespace (config.md#domainname)",
        ),
        (set("/hostname", json!("h".repeat(65))), "hostname: must be at most 64 bytes, not 65"),
        (
            set("/hooks", json!({"prestart": [{"path": "bin/hook"}]})),
            r#"hooks.prestart[0].path: must be an absolute path, not "bin/hook" (config.md#posix-platform-hooks)"#,
        ),
        (
            set("/hooks", json!({"poststop": [{"path": "/h"}, {"path": "/h", "timeout": 0}]})),
            "hooks.poststop[1].timeout: must be greater than zero, not 0",
        ),
        (set("/annotations", json!({"": "x"})), "annotations: a key must not be empty"),
        (
            set("/linux/namespaces/-", json!({"type": "network"})),
            "linux.namespaces[5].type: network is there twice",
        ),
        (
            set("/linux/namespaces/0/path", json!("proc/1/ns/pid")),
            r#"linux.namespaces[0].path: must be an absolute path, not "proc/1/ns/pid""#,
        ),
        (set("/linux/namespaces/0/type", json!("net")), "linux.namespaces[0].type: unknown value `net`"),
        (set("/linux/uidMappings", maps.clone()), "linux.uidMappings: needs a user namespace"),
        (
            set("/linux/namespaces/-", json!({"type": "user"})),
            "linux.uidMappings: is required for a new user namespace",
        ),
        (
            in_user_namespace(("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 0}]))),
            "linux.uidMappings[0].size: must be greater than zero",
        ),
        (
            in_user_namespace((
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 0, "size": 5}, {"containerID": 4, "hostID": 9, "size": 1}]),
            )),
            "linux.uidMappings[1]: overlaps with an earlier range",
        ),
        (
            in_user_namespace((
                "/linux/gidMappings",
                json!([{"containerID": 0, "hostID": 4294967295_u32, "size": 5}]),
            )),
            "linux.gidMappings[0].hostID: the range goes beyond the last id",
        ),
        (
            set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})),
            "linux.timeOffsets: needs a time namespace",
        ),
        (
            vec![
                ("/linux/namespaces/-", json!({"type": "time"})),
                ("/linux/timeOffsets", json!({"realtime": {"secs": 1}})),
            ],
            r#"linux.timeOffsets: unknown clock "realtime", expected monotonic or boottime"#,
        ),
        (
            vec![
                ("/linux/namespaces/-", json!({"type": "time"})),
                ("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}})),
            ],
            "linux.timeOffsets.boottime.nanosecs: must be less than a second",
        ),
        (
            vec![
                ("/linux/namespaces/-", json!({"type": "time", "path": "/ns"})),
                ("/linux/timeOffsets", json!({"boottime": {"secs": 1}})),
            ],
            "linux.timeOffsets: cannot be set in a time namespace that is joined",
        ),
        (
            set("/linux/netDevices", json!({"eth/0": {}})),
            r#"linux.netDevices: "eth/0" is not a name of a network device"#,
        ),
        (
            set("/linux/netDevices", json!({"eth0": {"name": "a"}, "eth1": {"name": "a"}})),
            r#"linux.netDevices: two devices are to be named "a""#,
        ),
        (
            set("/linux/devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}])),
            "linux.devices[0].path: must be an absolute path",
        ),
        (
            set("/linux/devices", json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}])),
            "linux.devices[0].type: must be c, b, u or p",
        ),
        (
            set("/linux/devices", json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}])),
            "linux.devices[0].type: unknown value `z`",
        ),
        (
            set("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1}])),
            "linux.devices[0]: missing field `minor`",
        ),
        (
            set("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 4096, "minor": 1}])),
            "linux.devices[0].major: must be between 0 and 4095, not 4096",
        ),
        (
            set("/linux/resources/devices", json!([{"allow": true, "access": "rx"}])),
            r#"linux.resources.devices[0].access: must be letters of rwm, not "rx""#,
        ),
        (
            set("/linux/resources/devices", json!([{"allow": true, "type": "p", "access": "r"}])),
            "linux.resources.devices[0].type: must be a, b or c",
        ),
        (
            set("/linux/resources/devices", json!([{"allow": true, "major": -2}])),
            "linux.resources.devices[0].major: must be a device number or -1",
        ),
        (
            set("/linux/resources/memory", json!({"limit": 10, "swap": 5})),
            "linux.resources.memory.swap: is memory and swap together",
        ),
        (
            set("/linux/resources/memory", json!({"limit": -2})),
            "linux.resources.memory.limit: must be a number of bytes or -1",
        ),
        (
            set("/linux/resources/memory", json!({"swappiness": 101})),
            "linux.resources.memory.swappiness: must be between 0 and 100, not 101",
        ),
        (
            set("/linux/resources/cpu", json!({"cpus": "3-1"})),
            r#"linux.resources.cpu.cpus: must be a list like 0-3,7, not "3-1""#,
        ),
        (set("/linux/resources/cpu", json!({"idle": 2})), "linux.resources.cpu.idle: must be 0 or 1, not 2"),
        (
            set("/linux/resources/cpu", json!({"quota": -5})),
            "linux.resources.cpu.quota: must be microseconds or -1",
        ),
        (
            set("/linux/resources/blockIO", json!({"weight": 5})),
            "linux.resources.blockIO.weight: must be between 10 and 1000, not 5",
        ),
        (
            set("/linux/resources/hugepageLimits", json!([{"pageSize": "2M", "limit": 1}])),
            r#"linux.resources.hugepageLimits[0].pageSize: must be a size like 2MB or 1GB, not "2M""#,
        ),
        (
            set("/linux/resources/rdma", json!({"mlx": {}})),
            r#"linux.resources.rdma: "mlx" needs hcaHandles or hcaObjects"#,
        ),
        (
            set("/linux/resources/unified", json!({"../x.y": "1"})),
            r#"linux.resources.unified: "../x.y" is not a file of a controller"#,
        ),
        (
            set("/linux/intelRdt", json!({"closID": ".."})),
            r#"linux.intelRdt.closID: must be the name of a directory, not "..""#,
        ),
        (
            set("/linux/intelRdt", json!({"schemata": ["L3:0=f\nMB:0=10"]})),
            "linux.intelRdt.schemata[0]: must be one line",
        ),
        (
            set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"})),
            "linux.memoryPolicy.nodes: is required with MPOL_BIND",
        ),
        (
            set("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"})),
            "linux.memoryPolicy.nodes: must be empty with MPOL_LOCAL",
        ),
        (
            set("/linux/sysctl", json!({"kernel.panic": "1"})),
            r#"linux.sysctl["kernel.panic"]: does not belong to a namespace"#,
        ),
        (
            set("/linux/sysctl", json!({"kernel.hostname": "x"})),
            r#"linux.sysctl["kernel.hostname"]: conflicts with hostname"#,
        ),
        (
            set("/linux/sysctl", json!({"net/../kernel/panic": "1"})),
            r#"linux.sysctl["net/../kernel/panic"]: is not a name of a sysctl"#,
        ),
        (
            set("/linux/sysctl", json!({"net.//.kernel.panic": "1"})),
            r#"linux.sysctl["net.//.kernel.panic"]: is not a name of a sysctl"#,
        ),
        (
            vec![
                ("/linux/namespaces", json!([{"type": "uts"}])),
                ("/linux/sysctl", json!({"net.core.somaxconn": "1"})),
            ],
            r#"linux.sysctl["net.core.somaxconn"]: needs a namespace of type network"#,
        ),
        (
            seccomp(json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default",
        ),
        (
            seccomp(json!({"defaultAction": "SCMP_ACT_FOO"})),
            "linux.seccomp.defaultAction: unknown value `SCMP_ACT_FOO`",
        ),
        (
            seccomp(json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW returns no errno",
        ),
        (
            seccomp(json!({"defaultErrnoRet": 5000})),
            "linux.seccomp.defaultErrnoRet: must be at most 4095, not 5000",
        ),
        (seccomp(json!({"architectures": ["X86"]})), "linux.seccomp.architectures[0]: unknown value `X86`"),
        (
            seccomp(json!({"listenerPath": "s"})),
            r#"linux.seccomp.listenerPath: must be an absolute path, not "s""#,
        ),
        (
            seccomp(json!({"listenerMetadata": "m"})),
            "linux.seccomp.listenerMetadata: must not be set without listenerPath",
        ),
        (
            seccomp(json!({"syscalls": [{"names": ["open"], "action": "SCMP_ACT_NOTIFY"}]})),
            "linux.seccomp.listenerPath: is required for SCMP_ACT_NOTIFY",
        ),
        (
            seccomp(
                json!({"listenerPath": "/s", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}),
            ),
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            seccomp(json!({"syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]})),
            "linux.seccomp.syscalls[0].names: must name at least one",
        ),
        (
            seccomp(
                json!({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            ),
            "linux.seccomp.syscalls[0].args[0].index: must be between 0 and 5, not 6",
        ),
        (
            seccomp(
                json!({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "EQ"}]}]}),
            ),
            "linux.seccomp.syscalls[0].args[0].op: unknown value `EQ`",
        ),
        (
            set("/linux/rootfsPropagation", json!("public")),
            r#"linux.rootfsPropagation: must be shared, slave, private or unbindable, not "public""#,
        ),
        (
            set("/linux/maskedPaths", json!(["proc/kcore"])),
            r#"linux.maskedPaths[0]: must be an absolute path, not "proc/kcore""#,
        ),
        (
            set("/linux/personality", json!({"domain": "LINUX64"})),
            "linux.personality.domain: unknown value `LINUX64`",
        ),
        (
            set("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]})),
            r#"linux.personality.flags[0]: unknown flag "X""#,
        ),
        (set("/process/args", json!(["sh", 1])), "process.args[1]: expected a string, found integer `1`"),
        (set("/process/user/uid", json!(-1)), "process.user.uid: expected u32, found integer `-1`"),
        (set("/linux", json!([])), "linux: expected an object, found an array"),
        (set("/mounts/-", json!(["/a"])), "mounts[1]: expected an object, found an array"),
        (
            set("/linux/namespaces", json!([{"type": 5}])),
            "linux.namespaces[0].type: expected a string, found integer `5`",
        ),
        (
            set("/linux/namespaces", json!([{"type": ["pid"]}])),
            "linux.namespaces[0].type: expected a string, found sequence",
        ),
        (
            set("/linux/seccomp", json!({"defaultAction": {"SCMP_ACT_ALLOW": 1}})),
            "linux.seccomp.defaultAction: expected a string, found map",
        ),
        (set("/linux", json!("x")), "linux: expected struct Linux, found string \"x\""),
        (
            set("/linux/sysctl", json!({"net.a": 1})),
            r#"linux.sysctl["net.a"]: expected a string, found integer `1`"#,
        ),
    ];
    for (changes, expected) in rows {
        let message = refusal(&with(&changes), &ValidateOptions::default());
        assert!(message.contains(expected), "{changes:?}\n   gave: {message}\n wanted: {expected}");
        assert_eq!(message.lines().count(), 1);
    }
}

#[test]
fn the_command_line_and_the_document_must_agree() {
    let detached = ValidateOptions { detached: true, ..ValidateOptions::default() };
    let with_socket = ValidateOptions { console_socket: true, ..detached };
    let terminal = with(&[("/process/terminal", json!(true))]);
    assert!(refusal(&terminal, &detached).contains("process.terminal: needs --console-socket"));
    assert_eq!(refusal(&terminal, &with_socket), "");
    assert!(refusal(&valid(), &with_socket).contains("process.terminal: must be true"));
    let rootless = ValidateOptions { rootless: true, ..ValidateOptions::default() };
    assert!(refusal(&valid(), &rootless).contains("a caller who is not root needs a user namespace"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let document = with(&[
        ("/process/cwd", json!("x")),
        ("/process/args", json!(["sh", 5])),
        ("/process/oomScoreAdj", json!("low")),
        ("/root/path", json!("")),
        ("/mounts/0/destination", json!(3)),
    ]);
    let message = refusal(&document, &ValidateOptions::default());
    assert!(message.starts_with("config.json: 5 problems: "), "{message}");
    for part in
        ["process.args[1]", "process.oomScoreAdj", "mounts[0].destination", "process.cwd", "root.path"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn what_the_types_are_too_strict_for_is_read() {
    for (what, changes) in [
        ("valid", vec![]),
        ("no user", set("/process/user", Value::Null)),
        ("pre-release version", set("/ociVersion", json!("1.0.2-dev+build.5"))),
        ("unknown arrays", set("/extension", json!({"linux": [[1]]}))),
        ("unknown members", set("/process/shellPath", json!({"a": [1]}))),
        ("other platforms", set("/windows", json!(5))),
        ("vm", set("/vm", json!({"hypervisor": 5}))),
        (
            "empty type of a device rule",
            set("/linux/resources/devices", json!([{"allow": false, "type": "", "access": "rwm"}])),
        ),
        ("access is optional", set("/linux/resources/devices", json!([{"allow": false}]))),
        (
            "wildcards",
            set(
                "/linux/resources/devices",
                json!([{"allow": true, "type": "c", "major": -1, "minor": -1, "access": "m"}]),
            ),
        ),
        (
            "unlimited huge pages",
            set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": u64::MAX}])),
        ),
        (
            "scheduler flags",
            set(
                "/process/scheduler",
                json!({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2048, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]}),
            ),
        ),
        ("empty affinity", set("/process/execCPUAffinity", json!({"initial": "", "final": "0-3,7"}))),
        (
            "null device",
            set("/linux/devices", json!([{"path": "/dev/zero", "type": "c", "major": 0, "minor": 0}])),
        ),
        ("fifo without numbers", set("/linux/devices", json!([{"path": "/dev/fifo", "type": "p"}]))),
        (
            "core limit of zero",
            set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}])),
        ),
        (
            "intelRdt",
            set("/linux/intelRdt", json!({"enableCMT": true, "enableMBM": true, "l3CacheSchema": "L3:0=f"})),
        ),
        (
            "sysctl with slashes",
            set("/linux/sysctl", json!({"net/ipv4/ip_forward": "1", "fs.mqueue.msg_max": "5"})),
        ),
        ("Docker's propagation", set("/linux/rootfsPropagation", json!("rslave"))),
        ("console without a terminal", set("/process/consoleSize", json!({"height": 70000, "width": 0}))),
        ("relative destination", set("/mounts/0/destination", json!("proc"))),
    ] {
        assert_eq!(refusal(&with(&changes), &ValidateOptions::default()), "", "{what}");
    }
}

#[test]
fn without_a_linux_section_there_is_nothing_of_it() {
    let spec = read(&with(&[("/linux", Value::Null)])).unwrap();
    assert_eq!(serde_json::to_value(spec.linux()).unwrap(), json!({}));
    let message = refusal(&with(&[("/linux", Value::Null)]), &ValidateOptions::default());
    assert!(message.contains("hostname: "), "{message}");
}

#[test]
fn null_is_absent() {
    let text = r#"{"ociVersion": "1.0.0", "root": {"path": "r", "readonly": null}, "hooks": null, "mounts": null,
        "process": {"user": {"uid": null, "gid": 5}, "args": ["a"], "env": null, "cwd": "/"},
        "linux": {"resources": {"pids": {"limit": null}, "memory": null}, "devices": null}}"#;
    let spec = parse(text.as_bytes(), &mut Vec::new()).unwrap();
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
    assert!(spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().is_none());
    assert!(check(&spec, &ValidateOptions::default()).is_ok());
}

#[test]
fn a_limit_of_zero_is_not_an_absent_one() {
    let pids = |value: Value| {
        let spec = read(&with(&[("/linux/resources/pids", value)])).unwrap();
        spec.linux()
            .as_ref()
            .and_then(|l| l.resources().as_ref())
            .and_then(|r| r.pids().as_ref())
            .map(|p| p.limit())
    };
    assert_eq!(pids(json!({"limit": 0})), Some(0));
    assert_eq!(pids(json!({"limit": -1})), Some(-1));
    assert_eq!(pids(json!({})), None);
}

#[test]
fn empty_strings_are_absent() {
    let spec = read(&with(&[
        ("/linux/namespaces/0/path", json!("")),
        ("/linux/cgroupsPath", json!("")),
        ("/linux/rootfsPropagation", json!("")),
        ("/process/apparmorProfile", json!("")),
        ("/hostname", json!("")),
    ]))
    .unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.namespaces().as_ref().unwrap()[0].path(), &None);
    assert_eq!(linux.cgroups_path(), &None);
    assert_eq!(linux.rootfs_propagation(), &None);
    assert_eq!(spec.hostname(), &None);
    assert_eq!(spec.process().as_ref().unwrap().apparmor_profile(), &None);
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let names = json!(["CAP_KILL", "CAP_MADE_UP"]);
    let document =
        with(&[("/process/capabilities", json!({"bounding": names, "effective": [], "permitted": names}))]);
    let mut warnings = Vec::new();
    let spec = parse(document.to_string().as_bytes(), &mut warnings).unwrap();
    let sets = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    assert_eq!(
        warnings,
        [
            "process.capabilities.bounding: unknown capability \"CAP_MADE_UP\" ignored",
            "process.capabilities.permitted: unknown capability \"CAP_MADE_UP\" ignored",
        ]
    );
}

#[test]
fn a_newer_minor_version_is_a_warning() {
    let mut warnings = Vec::new();
    let document = with(&[("/ociVersion", json!("1.9.0"))]).to_string();
    let spec = parse(document.as_bytes(), &mut warnings).unwrap();
    assert!(check(&spec, &ValidateOptions::default()).is_ok());
    assert_eq!(
        warnings,
        ["ociVersion: 1.9.0 is newer than 1.3.0, which berth knows; what is new in it is ignored"]
    );
}

#[test]
fn what_is_no_json_is_refused_with_its_line() {
    for (text, expected) in [
        ("", "config.json: EOF while parsing a value at line 1 column 0"),
        ("{\n \"ociVersion\": }", "config.json: expected value at line 2 column 16"),
        ("{} x", "config.json: "),
        ("[]", "config.json: must be a JSON object"),
        ("null", "config.json: must be a JSON object"),
        (r#"{"ociVersion": "1.0.0", "ociVersion": "1.0.1"}"#, "config.json: duplicate field `ociVersion`"),
        (r#"{"linux": [], "hostname": "a", "hostname": "b"}"#, "config.json: duplicate field `hostname`"),
    ] {
        let message = parse(text.as_bytes(), &mut Vec::new()).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{text}: {message}");
        assert_eq!(message.lines().count(), 1);
    }
    assert!(parse(b"{\"ociVersion\": \"\xff\"}", &mut Vec::new()).is_err());
    let deep = "[".repeat(100_000);
    assert!(parse(deep.as_bytes(), &mut Vec::new()).is_err());
}

#[test]
fn exec_reads_a_process_alone() {
    let mut warnings = Vec::new();
    let json = br#"{"args": ["ls"], "cwd": "/", "capabilities": {"bounding": ["CAP_NEW"]}, "env": null}"#;
    let process = parse_process(json, &mut warnings).unwrap();
    assert_eq!(process.args().as_deref(), Some(["ls".to_owned()].as_slice()));
    assert_eq!(warnings.len(), 1);
    let error = parse_process(br#"{"args": "ls", "cwd": "/"}"#, &mut warnings).unwrap_err();
    assert_eq!(error.to_string(), "process: args: expected a sequence, found string \"ls\"");
    let error = parse_process(br#"{"args": ["ls"]}"#, &mut warnings).unwrap_err();
    assert_eq!(error.to_string(), "process: missing field `cwd`");
}

#[test]
fn semantic_versions() {
    use super::validate::parse_semver;
    for (text, version) in [("1.0.2-dev", (1, 0, 2)), ("1.3.0", (1, 3, 0)), ("1.0.0-rc.1+x-y.7", (1, 0, 0))] {
        assert_eq!(parse_semver(text), Some(version), "{text}");
    }
    for text in [
        "", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "v1.0.0", "1.0.0-", "1.0.0+", "1..0", "+1.0.0",
        "1.0.0 ",
    ] {
        assert_eq!(parse_semver(text), None, "{text}");
    }
}

#[test]
fn a_bundle_without_a_config_is_not_a_missing_command() {
    let error = super::read(Path::new("/proc/self/no-bundle")).unwrap_err().to_string();
    assert_eq!(
        error,
        "bundle /proc/self/no-bundle: config.json not found; `berth spec` writes one to start from"
    );
}

/// JSON pointer and path of each value below `value`.
fn places(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
    let members: Vec<(String, String, &Value)> = match value {
        Value::Object(members) => {
            let dot = if path.is_empty() { "" } else { "." };
            members.iter().map(|(name, v)| (name.clone(), format!("{path}{dot}{name}"), v)).collect()
        }
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(at, v)| (at.to_string(), format!("{path}[{at}]"), v)).collect()
        }
        _ => Vec::new(),
    };
    for (name, path, value) in members {
        let pointer = format!("{pointer}/{name}");
        found.push((pointer.clone(), path.clone()));
        places(value, &pointer, &path, found);
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named_wherever_it_is() {
    let mut rich = valid();
    let hook = json!({"path": "/a", "args": ["a"], "env": ["A=b"], "timeout": 1});
    let device = json!({"major": 1, "minor": 2, "rate": 3});
    merge(
        &mut rich,
        &json!({
            "process": {"capabilities": {"bounding": ["CAP_KILL"]}, "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
                "terminal": false, "scheduler": {"policy": "SCHED_OTHER", "flags": []}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                "execCPUAffinity": {"initial": "0", "final": "1"}, "user": {"umask": 1, "additionalGids": [1, 2]}},
            "hooks": {"createRuntime": [hook, hook], "poststop": [hook]},
            "annotations": {"a": "b", "c": "d"},
            "linux": {
                "devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}],
                "sysctl": {"a": "b"},
                "intelRdt": {"closID": "a", "enableCMT": true},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"],
                    "syscalls": [{"names": ["a", "b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}]},
                "resources": {"memory": {"limit": 1, "swappiness": 2}, "cpu": {"shares": 1, "cpus": "0"}, "pids": {"limit": 1},
                    "blockIO": {"weight": 10, "throttleReadBpsDevice": [device, device]}, "unified": {"a": "b"},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                    "network": {"classID": 1, "priorities": [{"name": "a", "priority": 1}]}},
                "personality": {"domain": "LINUX", "flags": []}
            }
        }),
    );
    let mut all = Vec::new();
    places(&rich, "", "", &mut all);
    let mut refused = 0;
    for (pointer, path) in &all {
        for wrong in [json!({}), json!([1]), json!(-7.5), json!("x"), json!(true)] {
            let mut document = rich.clone();
            *document.pointer_mut(pointer).unwrap() = wrong.clone();
            let message = refusal(&document, &ValidateOptions::default());
            let Some((before, _)) = message.split_once(": expected ") else { continue };
            let named = before.rsplit([' ', ';']).next().unwrap();
            // An array of one number in the place of an object with a number first is seen through.
            assert!(named == path || wrong.is_array() && named == format!("{path}[0]"), "{wrong}: {message}");
            refused += 1;
        }
    }
    assert!(refused > 2 * all.len(), "{refused} of {}", all.len());
}

/// RFC 7396.
fn merge(document: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else { return *document = patch.clone() };
    if !document.is_object() {
        *document = json!({});
    }
    let members = document.as_object_mut().unwrap();
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[test]
fn the_table_of_invalid_inputs_says_what_is_said() {
    let table: Value = serde_json::from_str(include_str!("../../integration/invalid.json")).unwrap();
    let options = ValidateOptions { detached: true, ..ValidateOptions::default() };
    for case in table["cases"].as_array().unwrap() {
        let mut document: Value = serde_json::from_str(&template(None, true)).unwrap();
        document["process"]["terminal"] = false.into();
        merge(&mut document, &case["config"].as_object().map_or(json!({}), |patch| patch.clone().into()));
        let text = case["raw"].as_str().map_or(document.to_string(), str::to_owned);
        let result = parse(text.as_bytes(), &mut Vec::new()).and_then(|spec| check(&spec, &options));
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        if case["args"].is_array() || case["host"] == true {
            assert_eq!(message, "", "{}", case["name"]);
            continue;
        }
        assert_eq!(message.lines().count(), 1, "{}", case["name"]);
        for part in case["stderr"].as_array().unwrap() {
            assert!(
                message.contains(part.as_str().unwrap()),
                "{}\n   gave: {message}\n wanted: {part}",
                case["name"]
            );
        }
    }
}

#[test]
fn guesses_from_the_text_whether_a_network_is_made() {
    let guess = |namespaces: &str, rest: &str| {
        let text = format!(
            r#"{{"linux": {{"resources": {{"network": {{"classID": 1}}}}, "namespaces": [{namespaces}]{rest}}}}}"#
        );
        super::seems_to_make_a_network(text.as_bytes())
    };
    assert!(guess(r#"{"type": "pid"}, {"type": "network"}"#, ""));
    assert!(guess(r#"{"type":"network"}"#, ""));
    assert!(!guess(r#"{"type": "network", "path": "/proc/1/ns/net"}, {"type": "pid"}"#, ""));
    assert!(!guess(r#"{"path": "/proc/1/ns/net", "type": "network"}"#, ""));
    assert!(!guess(r#"{"type": "network"}, {"type": "user"}"#, r#", "uidMappings": []"#));
    assert!(!guess(r#"{"type": "pid"}"#, ""));
    assert!(!super::seems_to_make_a_network(b"\"network\""));
    assert!(!super::seems_to_make_a_network(&[0xff]));
}
