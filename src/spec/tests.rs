//! Tests of reading and checking whole documents: one row per rule.

use serde_json::{Value, json};

use super::*;

mod rules;

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
    for (changes, expected) in rules::all() {
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
            "process.capabilities.bounding: ignoring unknown or unavailable capabilities: [CAP_MADE_UP]",
            "process.capabilities.permitted: ignoring unknown or unavailable capabilities: [CAP_MADE_UP]",
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
    let process = parse_process("p.json", json, &mut warnings).unwrap();
    assert_eq!(process.args().as_deref(), Some(["ls".to_owned()].as_slice()));
    assert_eq!(warnings.len(), 1);
    let error = parse_process("p.json", br#"{"args": "ls", "cwd": "/"}"#, &mut warnings).unwrap_err();
    assert_eq!(error.to_string(), "p.json: args: expected a sequence, found string \"ls\"");
    let error = parse_process("p.json", br#"{"args": ["ls"]}"#, &mut warnings).unwrap_err();
    assert_eq!(error.to_string(), "p.json: missing field `cwd`");
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
    assert_eq!(error, "bundle /proc/self/no-bundle: config.json not found; there is no such directory");
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

#[test]
fn a_document_is_text_also_where_nobody_looks() {
    let mut text = valid().to_string().into_bytes();
    text.truncate(text.len() - 1);
    text.extend_from_slice(b", \"of nobody's\": \"\xff\"}");
    let error = parse(&text, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("config.json: invalid unicode"), "{error}");
}
