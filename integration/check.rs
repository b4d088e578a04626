//! `berth check`: what it finds in bundles, how it says so, and that it does nothing else.

use crate::engines_bundles::{self, CONTAINER, CTR, DOCKER, PODMAN, SANDBOX};
use crate::harness::host::{Listing, has_apparmor, hierarchies, hierarchy_of, is_v2};
use crate::harness::program::{Bounded, berth, directory, root};
use crate::harness::user::{ID, RANGE, RANGE_SIZE, User};
use crate::harness::*;
use crate::invalid::merge;
use crate::tests;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

tests! {
    text_is_for_people, json_is_for_programs, exit_codes, bundle_in_every_form, bundle_without_a_config,
    what_spec_writes_is_clean, long_lists_are_found, programs_that_cannot_run, systemds_path,
    controls_of_a_terminal_are_escaped, user_without_ranges, user_with_ranges,
    ; alone: engines_bundles_are_clean, every_broken_bundle_has_its_findings, create_and_start_agree,
}

const TABLE: &str = include_str!("check.json");

/// `SEVERITY PATH RULE` of each finding, sorted.
fn found(bundle: &Path, flags: &[&str]) -> Vec<String> {
    let mut words = flags.to_vec();
    let path = bundle.to_string_lossy();
    words.extend(["check", "--format", "json", &path]);
    findings(&berth(&words).done())
}

fn findings(done: &Done) -> Vec<String> {
    let report = report(done);
    let list = report["findings"].as_array().expect("findings");
    let word = |finding: &Value, name: &str| finding[name].as_str().expect("a string").to_owned();
    let mut lines: Vec<String> = list
        .iter()
        .map(|finding| {
            format!("{} {} {}", word(finding, "severity"), word(finding, "path"), word(finding, "rule"))
        })
        .collect();
    lines.sort();
    lines
}

fn report(done: &Done) -> Value {
    assert_eq!(done.stderr(), "", "{}", done.describe());
    serde_json::from_str(&done.stdout()).unwrap_or_else(|error| panic!("{error}: {}", done.describe()))
}

/// The bundles that the table starts from.
fn bases() -> BTreeMap<&'static str, Bundle> {
    BTreeMap::from([
        ("minimal", Bundle::new()),
        ("docker", engines_bundles::bundle(DOCKER, "")),
        ("ctr", engines_bundles::bundle(CTR, "")),
        ("podman", engines_bundles::bundle(PODMAN, "")),
        ("cri-sandbox", engines_bundles::bundle(SANDBOX, "")),
        ("cri-container", engines_bundles::bundle(CONTAINER, "/proc/self/ns")),
    ])
}

fn engines_bundles_are_clean() {
    let bases = bases();
    let before = Listing::take();
    for (name, bundle) in &bases {
        bundle.write();
        let done = berth(&["check", &bundle.path.to_string_lossy()]).done().ok();
        assert!(done.stdout().ends_with(": nothing is wrong\n"), "{name}: {}", done.describe());
        assert_eq!(done.stdout().lines().count(), 1, "{name}: {}", done.describe());
    }
    before.assert_unchanged("berth check");
    assert!(!root().exists(), "a state directory was made");
}

/// Writes each bundle of the table that is for this host; `look` gets its row and the bundle, and says what is
/// wrong about it.
fn each_case(mut look: impl FnMut(&Value, &Bundle) -> Result<(), String>) {
    let table: Value = serde_json::from_str(TABLE).expect("check.json");
    let bases = bases();
    let before = Listing::take();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for case in table["cases"].as_array().expect("cases") {
        let controller = case["controller"].as_str();
        if !is_for_this_host(case["layout"].as_str()) || !controller.is_none_or(has_controller) {
            continue;
        }
        let base = &bases[case["base"].as_str().unwrap_or("minimal")];
        let mut config = base.config.clone();
        merge(&mut config, case.get("config").unwrap_or(&json!({})));
        for (pointer, value) in case["set"].as_object().into_iter().flatten() {
            put(&mut config, pointer, value.clone());
        }
        let text = case["raw"].as_str().map_or_else(|| config.to_string(), str::to_owned);
        fs::write(base.path.join("config.json"), text).expect("config.json");
        wrong.extend(look(case, base).err().map(|text| format!("{}: {text}", case["name"])));
        looked_at += 1;
    }
    assert!(wrong.is_empty(), "{} of {looked_at} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(looked_at >= 150, "{looked_at} cases");
    before.assert_unchanged("the bundles of the table");
}

fn expected(case: &Value) -> Vec<&str> {
    let mut lines: Vec<&str> =
        case["findings"].as_array().expect("findings").iter().filter_map(Value::as_str).collect();
    lines.sort_unstable();
    lines
}

fn every_broken_bundle_has_its_findings() {
    each_case(|case, bundle| {
        let (found, expected) = (found(&bundle.path, &[]), expected(case));
        let same = found == expected;
        same.then_some(()).ok_or_else(|| format!("\n     found {found:?}\n  expected {expected:?}"))
    });
    assert!(!root().exists(), "a state directory was made");
}

/// What `check` calls an error, `create` or `start` refuses; all else they take.
fn create_and_start_agree() {
    each_case(|case, bundle| {
        let id = format!("test-{}-check", bundle::tag());
        let path = bundle.path.to_string_lossy();
        let created = berth(&["create", "--bundle", &path, &id]).done();
        let (mut done, mut what) = (created, "create");
        if done.status.success() {
            (done, what) = (berth(&["start", &id]).done(), "start");
        }
        berth(&["delete", "--force", &id]).done().ok();
        let has_errors = expected(case).iter().any(|line| line.starts_with("error"));
        match (has_errors, done.status.success()) {
            (true, false) | (false, true) => Ok(()),
            (true, true) => Err("nothing is refused".into()),
            (false, false) if case["unknown"] == true => Ok(()),
            (false, false) => Err(format!("{what} refuses it: {}", done.stderr())),
        }
    });
}

fn has_controller(name: &str) -> bool {
    // Those that a hybrid host has on cgroup2 are out of use.
    match (is_v2(), name) {
        (true, name) => hierarchy_of(name).is_some(),
        (false, "io") => on_v1("blkio"),
        (false, name) => on_v1(name),
    }
}

fn on_v1(controller: &str) -> bool {
    hierarchies().iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
}

/// A kernel with CONFIG_RT_GROUP_SCHED, whose new cgroups have no real time.
fn has_realtime_budgets() -> bool {
    let cpu =
        hierarchies().into_iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "cpu"));
    cpu.is_some_and(|cpu| cpu.mountpoint.join("cpu.rt_runtime_us").exists())
}

fn is_for_this_host(layout: Option<&str>) -> bool {
    let apparmor = has_apparmor();
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    match layout {
        None => true,
        Some("v1") => !is_v2(),
        Some("v2") => is_v2(),
        Some("v1-with-realtime") => has_realtime_budgets(),
        Some("v1-without-rdma") => !is_v2() && !has_controller("rdma"),
        Some("no-apparmor") => !apparmor,
        Some("no-selinux") => !selinux,
        Some("no-lsm") => !apparmor && !selinux,
        Some("no-resctrl") => {
            !fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - resctrl ")
        }
        Some(other) => panic!("{other}: no such layout"),
    }
}

/// Puts a value at a JSON pointer, at the end of an array one more.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    match config.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
        Value::Array(elements) => {
            let index: usize = name.parse().expect("an index");
            if index == elements.len() {
                elements.push(value);
            } else {
                elements[index] = value;
            }
        }
        object => object[name] = value,
    }
}

fn text_is_for_people() {
    let bundle = Bundle::new().set("/process/cwd", "tmp").set("/process/capabilites", json!({}));
    bundle.write();
    let path = bundle.path.to_string_lossy().into_owned();
    let done = berth(&["check", &path]).done();
    assert_eq!(
        done.stdout(),
        format!(
            "error: process.cwd: must be an absolute path, not \"tmp\"\n       process-cwd (config.md#process): start it with /\n\
             note: process.capabilites: the specification has no such member; did you mean capabilities?\n      unknown-member (config.md#extensibility)\n\
             {path}/config.json: 1 error, 1 note\n"
        )
    );
    assert_eq!((done.code(), done.stderr().as_str()), (1, ""), "{}", done.describe());
}

fn json_is_for_programs() {
    let bundle = Bundle::new().set("/process/cwd", "tmp").set("/ociVersion", "1.9.0");
    bundle.write();
    let path = bundle.path.to_string_lossy().into_owned();
    let done = berth(&["check", "--format", "json", &path]).done().exits(1);
    assert_eq!(
        report(&done),
        json!({
            "bundle": path, "errors": 1, "warnings": 1, "notes": 0,
            "findings": [
                { "severity": "error", "path": "process.cwd", "message": "must be an absolute path, not \"tmp\"",
                  "rule": "process-cwd", "section": "config.md#process", "remedy": "start it with /" },
                { "severity": "warning", "path": "ociVersion", "rule": "newer-version",
                  "message": "1.9.0 is newer than 1.3.0, which berth knows; what is new in it is ignored",
                  "section": "config.md#specification-version" },
            ]
        })
    );
    let clean = Bundle::new();
    clean.write();
    let done = berth(&["check", "--format=json", &clean.path.to_string_lossy()]).done().ok();
    assert_eq!(report(&done)["findings"], json!([]));
}

/// By the weightiest finding: nothing or notes 0, warnings 3, errors 1.
fn exit_codes() {
    for (code, pointer, value) in [
        (0, "/process/terminal", json!(false)),
        (0, "/extension", json!(1)),
        (3, "/ociVersion", json!("1.9.0")),
        (1, "/process/cwd", json!("x")),
    ] {
        let bundle = Bundle::new().set(pointer, value);
        bundle.write();
        berth(&["check", &bundle.path.to_string_lossy()]).done().exits(code);
        let both = bundle.set("/extension", json!(1));
        both.write();
        berth(&["check", &both.path.to_string_lossy()]).done().exits(code);
    }
    berth(&["check", "--format", "xml"]).done().fails("invalid value 'xml' for '--format <FORMAT>'");
    berth(&["check", "a", "--bundle", "b"]).done().fails("cannot be used with");
}

/// As an argument, by either flag, and where it is called.
fn bundle_in_every_form() {
    let bundle = Bundle::new();
    bundle.write();
    let path = bundle.path.to_string_lossy().into_owned();
    let line = format!("{path}/config.json: nothing is wrong\n");
    for words in [vec!["check", &path], vec!["check", "--bundle", &path], vec!["check", "-b", &path]] {
        assert_eq!(berth(&words).done().ok().stdout(), line, "{words:?}");
    }
    let mut here = berth(&["check"]);
    here.current_dir(&bundle.path);
    assert_eq!(here.done().ok().stdout(), line);
}

fn bundle_without_a_config() {
    let empty = directory().join("empty");
    fs::create_dir(&empty).expect("a directory");
    fs::write(empty.join("file"), "").expect("a file");
    for (bundle, words) in [
        (empty.clone(), "config.json not found; `berth spec` writes one to start from"),
        (empty.join("nowhere"), "config.json not found; there is no such directory"),
        (empty.join("file"), "is no directory; name the directory with config.json in it"),
    ] {
        let done = berth(&["check", &bundle.to_string_lossy()]).done();
        assert_eq!(done.stdout(), "");
        done.fails(words);
    }
}

fn what_spec_writes_is_clean() {
    let bundle = Bundle::new().file("/bin/sh", "#!/bin/payload\n", 0o755);
    berth(&["spec", "--bundle", &bundle.path.to_string_lossy()]).done().ok();
    assert_eq!(found(&bundle.path, &[]), [""; 0]);
}

/// What would be too long for the table.
fn long_lists_are_found() {
    let range = |at: u32| json!({ "containerID": at, "hostID": at + 1_000_000_000, "size": 1 });
    let first = json!({ "containerID": 0, "hostID": 100_000, "size": 65_536 });
    let list = |ranges: std::ops::Range<u32>| -> Vec<Value> {
        std::iter::once(first.clone()).chain(ranges.map(|at| range(3_000_000_000 - at))).collect()
    };
    let mapped =
        |ranges| Bundle::new().user_namespace(100_000, 65_536).set("/linux/uidMappings", list(ranges));
    let rule = |argument: u64| {
        json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": argument << 32 | argument, "op": "SCMP_CMP_EQ" },
            { "index": 1, "value": argument, "op": "SCMP_CMP_NE" }] })
    };
    let filter = |rules| Bundle::new().seccomp("SCMP_ACT_ERRNO", (0..rules).map(rule).collect());
    for (bundle, expected) in [
        (mapped(0..100), vec![]),
        (mapped(0..200), vec!["error linux.uidMappings id-mappings"]),
        (mapped(0..340), vec!["error linux.uidMappings id-mappings"; 2]),
        (filter(10), vec![]),
        (filter(2000), vec!["error linux.seccomp seccomp-filter"]),
    ] {
        bundle.write();
        assert_eq!(found(&bundle.path, &[]), expected);
    }
}

/// The program's file is looked at as init will see it: inside of the root, through its links.
fn programs_that_cannot_run() {
    let missing = "error process.args[0] program";
    let machine = "warning process.args[0] program-machine";
    // An ELF header for a 32-bit big-endian MIPS, which has nobody's interpreter.
    let mips: String =
        ["\u{7f}ELF\u{1}\u{2}\u{1}", &"\0".repeat(9), "\0\u{2}\0\u{8}", &"\0".repeat(40)].concat();
    for (text, mode, expected) in [
        ("#!/bin/payload\n", 0o755, None),
        ("#!/bin/payload\n", 0o644, Some(missing)),
        ("#!/no/such/interpreter\n", 0o755, Some(missing)),
        ("#!/tmp/../bin/payload\n", 0o755, None),
        (&mips, 0o755, Some(machine)),
    ] {
        let bundle = Bundle::new().file("/bin/app", text, mode).args(&["app"]);
        bundle.write();
        assert_eq!(found(&bundle.path, &[]), Vec::from_iter(expected), "{text:?} {mode:o}");
    }
    // A link out of the root leads to the container's own file, not to the host's.
    for (target, expected) in
        [("/bin/payload", None), ("/etc/passwd", Some(missing)), ("../../../bin/true", None)]
    {
        let bundle = Bundle::new().symlink(target, "/bin/app").args(&["/bin/app"]);
        bundle.write();
        assert_eq!(found(&bundle.path, &[]), Vec::from_iter(expected), "{target}");
    }
    let hook = directory().join("hook");
    fs::write(&hook, "#!/bin/sh\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o644)).expect("mode");
    let bundle = Bundle::new().hook_at("createRuntime", &hook.to_string_lossy(), &[]);
    bundle.write();
    assert_eq!(found(&bundle.path, &[]), ["error hooks.createRuntime[0].path hook-program"]);
}

/// With systemd cgroupsPath is no path.
fn systemds_path() {
    let bundle = Bundle::new();
    bundle.write();
    let driver = "--systemd-cgroup";
    assert_eq!(found(&bundle.path, &[driver]), ["error linux.cgroupsPath cgroups-path"]);
    let bundle = bundle.set("/linux/cgroupsPath", "system.slice:berth:x");
    bundle.write();
    assert_eq!(found(&bundle.path, &[driver]), [""; 0]);
}

fn controls_of_a_terminal_are_escaped() {
    let bundle = Bundle::new().set("/process/env", json!(["A\u{1b}]0;x\u{7}"]));
    bundle.write();
    let stdout = berth(&["check", &bundle.path.to_string_lossy()]).done().exits(1).stdout();
    assert!(stdout.contains("process.env[0]"), "{stdout}");
    assert!(stdout.chars().all(|c| c == '\n' || !c.is_control()), "{stdout:?}");
}

/// Checks as the user; the findings.
fn found_by(user: &User, bundle: Bundle) -> Vec<String> {
    let bundle = user.own(bundle);
    bundle.write();
    findings(&user.berth(&["check", "--format", "json", &bundle.path.to_string_lossy()]).done())
}

fn user_without_ranges() {
    let user = User::without_ranges();
    assert_eq!(found_by(&user, user.spec()), [""; 0]);
    assert_eq!(
        found_by(&user, Bundle::new()),
        ["error linux.namespaces rootless", "warning process.capabilities capability-missing"]
    );
    assert_eq!(
        found_by(&user, user.spec().set("/process/user/additionalGids", json!([0]))),
        ["error process.user.additionalGids groups-denied"]
    );
    let more = json!([{ "containerID": 0, "hostID": ID, "size": 1 }, { "containerID": 1, "hostID": RANGE, "size": 10 }]);
    assert_eq!(
        found_by(&user, user.spec().set("/linux/uidMappings", more)),
        ["error linux.uidMappings[1] id-range"]
    );
    let rule = match (has_controller("pids"), is_v2()) {
        (true, _) => "cgroup-rights",
        (false, true) => "controller",
        (false, false) => "resources",
    };
    assert_eq!(
        found_by(&user, user.spec().set("/linux/resources/pids", json!({ "limit": 5 }))),
        [format!("error linux.resources.pids.limit {rule}")]
    );
    let scheduler = json!({ "policy": "SCHED_FIFO", "priority": 1 });
    assert_eq!(
        found_by(&user, user.spec().set("/process/scheduler", scheduler)),
        ["error process.scheduler.policy scheduler-rights"]
    );
    assert_eq!(
        found_by(&user, user.spec().set("/process/oomScoreAdj", -5)),
        ["error process.oomScoreAdj oom-score-rights"]
    );
    assert!(!user.runtime_directory().join("berth").exists(), "a state directory was made");
}

fn user_with_ranges() {
    let user = User::with_ranges();
    let ranges = |size: u32| json!([{ "containerID": 0, "hostID": ID, "size": 1 }, { "containerID": 1, "hostID": RANGE, "size": size }]);
    let mapped = |size| {
        user.spec().set("/linux/uidMappings", ranges(size)).set("/linux/gidMappings", ranges(RANGE_SIZE))
    };
    assert_eq!(found_by(&user, mapped(RANGE_SIZE)), [""; 0]);
    assert_eq!(found_by(&user, mapped(RANGE_SIZE + 1)), ["error linux.uidMappings[1] id-range"]);
}
