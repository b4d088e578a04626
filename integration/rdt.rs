//! `linux.intelRdt`, in a copy of a resctrl file system: hardly any machine that runs tests has the real one.
//! The copy is plain files; berth finds it by a mount table that has a line for it.

use crate::harness::program::{self, Bounded, Done, directory};
use crate::harness::*;
use crate::{require, tests};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

tests! {
    class_of_its_own, named_class_is_made, bandwidth_replaces_the_one_in_the_caches_schema, existing_class_with_these_shares,
    existing_class_with_other_shares_is_refused, class_that_is_only_named, class_that_is_missing_is_refused, root_class,
    monitoring_group, monitoring_that_the_host_lacks_is_refused, class_is_gone_after_a_failed_birth, exec_joins_the_class,
    class_in_use_is_left, class_with_a_zombie_is_removed, without_resctrl_is_refused, nothing_is_touched_without_the_field, update_sets_the_shares,
    update_of_a_shared_class_is_refused, update_without_a_class_is_refused, update_that_the_kernel_refuses,
    update_of_what_the_host_lacks_is_refused, update_sets_shares_back_with_the_limits, shares_without_a_cgroup,
}

/// The copy, with one class that somebody else made.
fn resctrl() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
    let root = directory().join("resctrl");
    for group in ["mon_groups", "info/L3", "info/MB", "info/L3_MON", "gold/mon_groups"] {
        fs::create_dir_all(root.join(group)).expect("directory");
    }
    fs::write(root.join("info/L3_MON/mon_features"), "llc_occupancy\nmbm_total_bytes\n").expect("features");
    for class in ["", "gold"] {
        fs::write(root.join(class).join("schemata"), "    L3:0=00f;1=7ff\n    MB:0=100;1= 70\n")
            .expect("schemata");
        fs::write(root.join(class).join("tasks"), "").expect("tasks");
    }
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = format!("999 1 0:99 / {} rw,relatime - resctrl resctrl rw\n", root.display());
    fs::write(directory().join("mountinfo"), table + &line).expect("a mount table");
    root
}

/// The command, with the mount table of [`resctrl`].
fn with_table(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "mount --bind \"$1\" /proc/$$/mountinfo && shift && exec \"$@\"", "sh"]);
    shell.arg(directory().join("mountinfo")).arg(command.get_program()).args(command.get_args());
    shell
}

fn with_rdt(rdt: Value) -> Container {
    Bundle::new().steps(&["sleep:1000"]).set("/linux/intelRdt", rdt).container()
}

#[track_caller]
fn create(container: &Container) {
    let pid_file = container.pid_file().to_string_lossy().into_owned();
    with_table(&container.command("create", &["--pid-file", &pid_file])).done().ok();
}

#[track_caller]
fn refused(container: &Container, words: &str) {
    with_table(&container.command("run", &[])).done().fails(words);
    container.verb("state", &[], &[]).done().fails("does not exist");
}

#[track_caller]
fn text(group: &Path, name: &str) -> String {
    fs::read_to_string(group.join(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", group.display()))
}

#[track_caller]
fn assert_has(group: &Path, container: &Container) {
    assert_eq!(text(group, "tasks"), container.pid().to_string(), "{}", group.display());
}

fn class_of_its_own() {
    let root = resctrl();
    let container = with_rdt(json!({ "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=70" }));
    create(&container);
    let class = root.join(&container.id);
    assert_eq!(text(&class, "schemata"), "L3:0=f\nMB:0=70\n");
    assert_has(&class, &container);
    container.finish();
    assert!(!class.exists());
}

fn named_class_is_made() {
    let root = resctrl();
    let container =
        with_rdt(json!({ "closID": "silver", "memBwSchema": "MB:0=70", "schemata": ["L2:0=3", "MB:0=30"] }));
    create(&container);
    assert_eq!(text(&root.join("silver"), "schemata"), "MB:0=70\nL2:0=3\nMB:0=30\n");
    assert_has(&root.join("silver"), &container);
    container.finish();
    assert!(!root.join("silver").exists());
}

fn bandwidth_replaces_the_one_in_the_caches_schema() {
    let root = resctrl();
    let container = with_rdt(json!({ "l3CacheSchema": "L3:0=f\nMB:0=20", "memBwSchema": "MB:0=70" }));
    create(&container);
    assert_eq!(text(&root.join(&container.id), "schemata"), "L3:0=f\nMB:0=70\n");
    container.finish();
}

fn existing_class_with_these_shares() {
    let root = resctrl();
    let before = text(&root.join("gold"), "schemata");
    let container =
        with_rdt(json!({ "closID": "gold", "l3CacheSchema": "L3:0=f;1=7ff", "memBwSchema": "MB:1=70" }));
    create(&container);
    assert_has(&root.join("gold"), &container);
    assert_eq!(text(&root.join("gold"), "schemata"), before);
    container.finish();
    assert!(root.join("gold").exists(), "it was not ours");
}

fn existing_class_with_other_shares_is_refused() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "gold", "schemata": ["L3:0=f;1=7fe"] }));
    refused(&container, "has 7ff of L3:1, and 7fe is asked for");
    assert_eq!(text(&root.join("gold"), "tasks"), "");
}

fn class_that_is_only_named() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "gold" }));
    create(&container);
    assert_has(&root.join("gold"), &container);
    container.finish();
    assert!(root.join("gold").exists());
}

fn class_that_is_missing_is_refused() {
    let root = resctrl();
    refused(&with_rdt(json!({ "closID": "silver" })), "there is no class");
    assert!(!root.join("silver").exists());
}

fn root_class() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "/", "enableMonitoring": true }));
    create(&container);
    assert_has(&root, &container);
    assert_has(&root.join("mon_groups").join(&container.id), &container);
    container.finish();
    assert_eq!(fs::read_dir(root.join("mon_groups")).expect("mon_groups").count(), 0);
}

fn monitoring_group() {
    let root = resctrl();
    let container =
        with_rdt(json!({ "closID": "gold", "enableMonitoring": true, "enableCMT": true, "enableMBM": true }));
    create(&container);
    let group = root.join("gold/mon_groups").join(&container.id);
    assert_has(&group, &container);
    container.finish();
    assert!(!group.exists() && root.join("gold").exists());
}

fn monitoring_that_the_host_lacks_is_refused() {
    let root = resctrl();
    let features = root.join("info/L3_MON/mon_features");
    fs::write(&features, "llc_occupancy\n").expect("features");
    refused(&with_rdt(json!({ "closID": "gold", "enableMBM": true })), "cannot count mbm_total_bytes");
    fs::remove_file(features).expect("no features");
    refused(&with_rdt(json!({ "closID": "gold", "enableMonitoring": true })), "can monitor nothing");
    refused(&with_rdt(json!({ "closID": "gold", "enableCMT": true })), "cannot count llc_occupancy");
}

fn class_is_gone_after_a_failed_birth() {
    let root = resctrl();
    let bundle = Bundle::new().set("/linux/intelRdt", json!({ "closID": "silver", "schemata": ["L3:0=f"] }));
    refused(&bundle.hook("createRuntime", &["exit:3"]).container(), "createRuntime");
    assert!(!root.join("silver").exists());
}

fn exec_joins_the_class() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "gold" }));
    create(&container);
    container.verb("start", &[], &[]).done().ok();
    container.verb("exec", &[], &["/bin/payload", "exit:7"]).done().exits(7);
    let joined = text(&root.join("gold"), "tasks");
    assert_ne!(joined, container.pid().to_string(), "the file has who came last");
    container.finish();
}

fn class_in_use_is_left() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "silver", "schemata": ["L3:0=f"] }));
    create(&container);
    // Another container has come.
    fs::write(root.join("silver/tasks"), std::process::id().to_string()).expect("tasks");
    container.finish();
    assert!(root.join("silver").exists());
}

/// As init is for a moment, until whoever adopted it has seen its end.
fn class_with_a_zombie_is_removed() {
    let root = resctrl();
    let container = with_rdt(json!({ "closID": "silver", "schemata": ["L3:0=f"] }));
    create(&container);
    // sleep(1) waits for nobody, as a shell would; it is there before its child ends.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "sleep 1 & echo $!; exec sleep 1000"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut parent = shell.spawn().expect("a process");
    let mut zombie = String::new();
    let mut stdout = BufReader::new(parent.stdout.take().expect("stdout"));
    stdout.read_line(&mut zombie).expect("a pid");
    let stat = format!("/proc/{}/stat", zombie.trim());
    let has_ended = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
    assert!(program::await_condition(has_ended), "it goes on");
    fs::write(root.join("silver/tasks"), &zombie).expect("tasks");
    container.finish();
    assert!(has_ended(), "somebody has waited for it");
    parent.kill().and_then(|()| parent.wait()).expect("the end");
    assert!(!root.join("silver").exists());
}

fn without_resctrl_is_refused() {
    Bundle::new()
        .set("/linux/intelRdt", json!({ "closID": "gold" }))
        .refused("no resctrl file system is mounted");
}

fn nothing_is_touched_without_the_field() {
    let root = resctrl();
    let container = Bundle::new().container();
    with_table(&container.command("run", &[])).done().ok();
    assert_eq!(text(&root, "tasks"), "");
    assert_eq!(fs::read_dir(&root).expect("resctrl").count(), 5, "nothing new");
}

#[track_caller]
fn update(container: &Container, flags: &[&str]) -> Done {
    with_table(&container.verb("update", flags, &[])).done()
}

/// A container in a class of its own, with what the kernel shows for it.
fn with_own_class(root: &Path) -> (Container, PathBuf) {
    let container = with_rdt(json!({ "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=70" }));
    create(&container);
    let class = root.join(&container.id);
    fs::write(class.join("schemata"), AS_THE_KERNEL).expect("schemata");
    (container, class)
}

const AS_THE_KERNEL: &str = "    L3:0=00f;1=7ff\n    MB:0= 70;1=100\n";

fn saved_rdt(container: &Container) -> Value {
    let config =
        fs::read(program::root().join(&container.id).join("config.json")).expect("saved config.json");
    serde_json::from_slice::<Value>(&config).expect("JSON")["linux"]["intelRdt"].clone()
}

fn update_sets_the_shares() {
    let root = resctrl();
    let (container, class) = with_own_class(&root);
    update(&container, &["--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=30"]).ok();
    assert_eq!(text(&class, "schemata"), "L3:0=3\nMB:0=30\n");
    // One alone says nothing of the other.
    update(&container, &["--mem-bw-schema", "MB:0=20", "--l3-cache-schema", ""]).ok();
    assert_eq!(text(&class, "schemata"), "MB:0=20\n");
    assert_eq!(saved_rdt(&container), json!({ "l3CacheSchema": "L3:0=3", "memBwSchema": "MB:0=20" }));
    // A file of limits has no room for them, so they count beside it.
    let file = directory().join("resources.json");
    fs::write(&file, "{}").expect("resources");
    update(&container, &["-r", &file.to_string_lossy(), "--l3-cache-schema", "L3:0=1"]).ok();
    assert_eq!(text(&class, "schemata"), "L3:0=1\n");
    update(&container, &["--mem-bw-schema", "L3:0=f"]).fails("must be one line that starts with MB:");
    assert_eq!(text(&class, "schemata"), "L3:0=1\n");
    container.finish();
    assert!(!class.exists());
}

/// Whoever shares the class was promised its shares.
fn update_of_a_shared_class_is_refused() {
    let root = resctrl();
    let before = text(&root.join("gold"), "schemata");
    let container = with_rdt(json!({ "closID": "gold" }));
    create(&container);
    let done = update(&container, &["--l3-cache-schema", "L3:0=3"]);
    done.fails("has f of L3:0, and 3 is asked for");
    update(&container, &["--l3-cache-schema", "L3:0=f"]).ok();
    assert_eq!(text(&root.join("gold"), "schemata"), before);
    container.finish();
}

fn update_without_a_class_is_refused() {
    let root = resctrl();
    let container = Bundle::new().steps(&["sleep:1000"]).container();
    create(&container);
    let done = update(&container, &["--l3-cache-schema", "L3:0=3"]);
    done.fails("updating a non-existent Intel RDT configuration is not supported");
    assert!(!root.join(&container.id).exists(), "no class is made");
    assert_eq!(saved_rdt(&container), Value::Null);
}

fn update_that_the_kernel_refuses() {
    let root = resctrl();
    let (container, class) = with_own_class(&root);
    let schemata = class.join("schemata");
    // The one file of a copy that refuses to be written, for whoever it is.
    for flags in [MsFlags::MS_BIND, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY] {
        mount(Some(&schemata), &schemata, None::<&str>, flags, None::<&str>).expect("a read-only schemata");
    }
    fs::write(root.join("info/last_cmd_status"), "Mask out of range\n").expect("status");
    let before = pids_limit(&container);
    let done = update(&container, &["--l3-cache-schema", "L3:0=fffff", "--pids-limit", "5"]);
    done.fails("Mask out of range").fails("set the shares of the class");
    assert_eq!(text(&class, "schemata"), AS_THE_KERNEL);
    assert_eq!(pids_limit(&container), before, "all, or nothing");
    assert_eq!(saved_rdt(&container)["l3CacheSchema"], "L3:0=f");
    nix::mount::umount(&schemata).expect("writable again");
    container.finish();
}

fn pids_limit(container: &Container) -> Option<String> {
    let cgroup = container.bundle.cgroup_path();
    host::hierarchy_of("pids").map(|_| host::control("pids", &cgroup, "pids.max", "pids.max"))
}

fn update_of_what_the_host_lacks_is_refused() {
    let root = resctrl();
    let (container, class) = with_own_class(&root);
    for (directory, flag, line, words) in [
        ("info/L3", "--l3-cache-schema", "L3:0=3", "Intel RDT/CAT: l3 cache schema is not enabled"),
        ("info/MB", "--mem-bw-schema", "MB:0=3", "Intel RDT/MBA: memory bandwidth schema is not enabled"),
    ] {
        fs::remove_dir(root.join(directory)).expect("info");
        update(&container, &[flag, line]).fails(words);
    }
    // Divided for code and data apart.
    fs::create_dir(root.join("info/L3CODE")).expect("info");
    update(&container, &["--l3-cache-schema", "L3CODE:0=3"]).ok();
    assert_eq!(text(&class, "schemata"), "L3CODE:0=3\n");
    container.finish();
}

fn update_sets_shares_back_with_the_limits() {
    require!(host::hierarchy_of("cpu").is_some(), "no controller cpu here");
    let root = resctrl();
    let (container, class) = with_own_class(&root);
    // The kernel takes no period below a millisecond.
    let done = update(&container, &["--mem-bw-schema", "MB:0=30", "--cpu-period", "10"]);
    done.fails("all limits are as they were before");
    assert_eq!(text(&class, "schemata"), "    MB:0= 70;1=100\n", "its line is written back");
    assert_eq!(saved_rdt(&container)["memBwSchema"], "MB:0=70");
    container.finish();
}

/// A container that has no limits may have shares.
fn shares_without_a_cgroup() {
    let root = resctrl();
    let mut bundle = Bundle::new().steps(&["sleep:1000"]).set("/linux/intelRdt", json!({}));
    bundle.config["linux"].as_object_mut().expect("linux").remove("resources");
    let container = bundle.container();
    let create = container.command("create", &["--pid-file", &container.pid_file().to_string_lossy()]);
    let mut without = program::berth(&["--cgroup-manager", "disabled"]);
    without.args(create.get_args().skip_while(|word| *word != "create"));
    with_table(&without).done().ok();
    let schemata = root.join(&container.id).join("schemata");
    fs::write(&schemata, AS_THE_KERNEL).expect("schemata");
    update(&container, &["--mem-bw-schema", "MB:0=30"]).ok();
    assert_eq!(fs::read_to_string(&schemata).expect("schemata"), "MB:0=30\n");
    update(&container, &["--pids-limit", "9"]).fails("no cgroup of its own");
    container.finish();
}
