//! One row per rule of the document: what is changed in a good one, and what is said of it.

use serde_json::{Value, json};

use super::set;

/// Changes by their JSON pointers, and words of the refusal.
type Row = (Vec<(&'static str, Value)>, &'static str);

pub fn all() -> impl Iterator<Item = Row> {
    [document(), namespaces_and_devices(), limits(), filter(), words_and_types()].into_iter().flatten()
}

/// Ten ids.
fn maps() -> Value {
    json!([{"containerID": 0, "hostID": 1000, "size": 10}])
}

fn in_user_namespace(change: (&'static str, Value)) -> Vec<(&'static str, Value)> {
    vec![
        ("/linux/namespaces", json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}])),
        ("/linux/uidMappings", maps()),
        ("/linux/gidMappings", maps()),
        change,
    ]
}

fn seccomp(more: Value) -> Vec<(&'static str, Value)> {
    let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
    profile.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    set("/linux/seccomp", profile)
}

/// What is not of Linux alone, and the mounts.
fn document() -> Vec<Row> {
    vec![
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
                json!({"destination": "/a", "source": "/a", "type": "bind", "uidMappings": maps()}),
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
    ]
}

/// Namespaces with what needs them, and devices.
fn namespaces_and_devices() -> Vec<Row> {
    vec![
        (
            set("/linux/namespaces/-", json!({"type": "network"})),
            "linux.namespaces[5].type: network is there twice",
        ),
        (
            set("/linux/namespaces/0/path", json!("proc/1/ns/pid")),
            r#"linux.namespaces[0].path: must be an absolute path, not "proc/1/ns/pid""#,
        ),
        (set("/linux/namespaces/0/type", json!("net")), "linux.namespaces[0].type: unknown value `net`"),
        (set("/linux/uidMappings", maps()), "linux.uidMappings: needs a user namespace"),
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
    ]
}

/// `linux.resources` and what else is asked of the kernel's files.
fn limits() -> Vec<Row> {
    vec![
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
    ]
}

/// `linux.seccomp`.
fn filter() -> Vec<Row> {
    vec![
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
    ]
}

/// Words of a list, and values of another type.
fn words_and_types() -> Vec<Row> {
    vec![
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
    ]
}
