//! What checkpoint and restore refuse, and how they say why CRIU has failed.

use crate::harness::checkpoint::{Case, path};
use crate::harness::program::{self, Bounded, root};
use crate::harness::*;
use crate::tests;
use std::fs;

tests! {
    states_in_which_there_is_nothing_to_write, wrong_flags, criu_is_missing, criu_lacks_rights, failed_dump_names_its_cause,
    failed_restore_leaves_nothing,
}

fn states_in_which_there_is_nothing_to_write() {
    let mut case = Case::counting();
    case.container.create();
    case.checkpoint(&[]).fails("cannot be checkpointed in created state");
    case.container.start();
    case.container.kill("KILL");
    case.container.await_status("stopped");
    case.checkpoint(&[]).fails("cannot be checkpointed in stopped state");
    program::berth(&["checkpoint", "nobody"]).done().fails("container does not exist: nobody");
}

fn wrong_flags() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&["--parent-path", "/tmp"]).fails("--parent-path must be relative");
    case.checkpoint(&["--parent-path", "nowhere"]).fails("invalid --parent-path");
    case.checkpoint(&["--empty-ns", "pid"]).fails("is not supported");
    case.checkpoint(&["--page-server", "nowhere"]).fails("--page-server ADDRESS:PORT");
    case.checkpoint(&["--manage-cgroups-mode", "hard"]).fails("manage-cgroups-mode");
    case.checkpoint(&["--lazy-pages", "--status-fd", "77"]).fails("invalid --status-fd argument 77");
    case.is_running();
    let nowhere = case.restore(&[]);
    // The id is in use, whatever else is wrong.
    assert_eq!(nowhere.code(), 1);
    case.is_running();
    case.container.finish();
    case.restore(&[]).fails("read the image (--image-path)");
    case.restore(&["--empty-ns", "pid"]).fails("is not supported");
    case.is_gone();
}

fn criu_is_missing() {
    let mut case = Case::counting();
    case.up();
    let mut command = case.container.verb("checkpoint", &[], &[]);
    command.arg("--image-path").arg(&case.image).env("PATH", "/nowhere");
    command.done().fails("criu is not in $PATH");
    case.is_running();
}

fn criu_lacks_rights() {
    let mut case = Case::counting();
    case.up();
    for dropped in ["-sys_admin", "-sys_admin,-checkpoint_restore"] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--bounding-set", dropped]).arg(program::path()).arg("--root").arg(root());
        command.args(["checkpoint", "--image-path"]).arg(&case.image).arg(&case.container.id);
        command.env("PATH", path());
        let done = command.done().fails("checkpoint container");
        // Where it gets as far as the dump, that says it.
        let is_told =
            ["CRIU lacks rights", "Operation not permitted"].map(|words| done.stderr().contains(words));
        assert!(is_told.contains(&true), "{}", done.describe());
        assert!(!done.stderr().contains("newer CRIU"), "{}", done.describe());
        case.is_running();
    }
}

/// A file of the host that no image holds: CRIU's own words and its log are named, and the container lives.
fn failed_dump_names_its_cause() {
    let bundle = Bundle::new().capabilities(&["bounding", "effective", "permitted"], &["CAP_SYS_ADMIN"]);
    let mut case = Case::new(bundle.steps(&["converse:/vol/count"]));
    case.up();
    let done = case.checkpoint(&[]).fails("criu dump: ");
    let log = case.image.join("dump.log");
    assert!(done.stderr().contains(&format!("its log is {}", log.display())), "{}", done.describe());
    assert!(log.exists());
    case.is_running();
}

fn failed_restore_leaves_nothing() {
    let mut case = Case::counting();
    case.up();
    case.checkpoint(&[]).ok();
    // Other tests mount below their own directories at the same time.
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let is_foreign = |line: &&str| {
            line.contains("/berth-test-") && !line.contains(&*program::directory().to_string_lossy())
        };
        let lines: Vec<String> = table.lines().filter(|line| !is_foreign(line)).map(str::to_owned).collect();
        lines
    };
    let before = mounts();
    let pages = case.image.join("pagemap-1.img");
    fs::rename(&pages, case.image.join("elsewhere")).expect("rename");
    let done = case.restore(&[]).fails("criu restore: ");
    assert!(done.stderr().contains("restore.log"), "{}", done.describe());
    case.is_gone();
    assert!(!root().join(&case.container.id).exists());
    assert_eq!(mounts(), before);
    assert!(host::cgroups_with(&case.container.bundle.cgroup_path()).is_empty());
    fs::rename(case.image.join("elsewhere"), &pages).expect("rename");
    case.restore(&[]).ok();
    case.is_running();
}
