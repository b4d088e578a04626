//! SELinux: labels of processes and of mounts. The machine of `make vm-test-selinux` has a policy that permits all
//! and says so; what a process is labelled as is the same as where it enforces.

use crate::exec::{exec, refused, report, sleeper, up};
use crate::harness::program::Bounded;
use crate::harness::*;
use crate::{require, tests};
use std::path::Path;

tests! {
    the_programs_label, beside_everything_else_that_restricts_it, an_exec_has_the_containers_label, a_label_for_an_exec_alone,
    mounts_have_the_label, a_label_of_the_root_or_of_the_file_system, a_label_that_the_policy_does_not_know, without_selinux,
}

const CURRENT: &str = "read:/proc/self/attr/current";
// Debian's policy has no types for containers; these are as good to be seen.
const PROCESS: &str = "system_u:system_r:unconfined_t:s0:c1";
const OTHER: &str = "system_u:system_r:unconfined_t:s0:c2";
const FILES: &str = "system_u:object_r:tmp_t:s0:c1";

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn needs_selinux() {
    require!(has_selinux(), "no SELinux in this kernel");
}

fn labelled() -> Bundle {
    sleeper().set("/process/selinuxLabel", PROCESS)
}

fn the_programs_label() {
    needs_selinux();
    for no_new_privileges in [false, true] {
        let report = labelled().set("/process/noNewPrivileges", no_new_privileges).report_after(&[CURRENT]);
        assert_eq!(label(&report), PROCESS, "no_new_privs {no_new_privileges}");
    }
}

/// The kernel ends the text with a NUL.
fn label(report: &Report) -> &str {
    report.probe(CURRENT).as_str().expect("a label").trim_end_matches('\0')
}

/// As the Kubernetes engines ask for it: a user without capabilities, no new privileges, a seccomp filter.
fn beside_everything_else_that_restricts_it() {
    needs_selinux();
    let refuses =
        json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33 }]);
    let report = labelled()
        .set("/linux/mountLabel", FILES)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/process/noNewPrivileges", true)
        .set("/process/capabilities", json!({}))
        .seccomp("SCMP_ACT_ALLOW", refuses)
        .report_after(&[CURRENT]);
    assert_eq!(label(&report), PROCESS);
    assert_eq!((&report["seccomp"], &report["uid"][0]), (&json!("2"), &json!(1000)));
}

fn an_exec_has_the_containers_label() {
    needs_selinux();
    let container = up(labelled());
    assert_eq!(label(&report(&container, &[], &[CURRENT])), PROCESS);
}

fn a_label_for_an_exec_alone() {
    needs_selinux();
    let container = up(labelled());
    assert_eq!(label(&report(&container, &["--process-label", OTHER], &[CURRENT])), OTHER);
    assert_eq!(label(&report(&container, &[], &[CURRENT])), PROCESS);
}

fn mounts_have_the_label() {
    needs_selinux();
    let report =
        labelled().set("/linux/mountLabel", FILES).push("/linux/maskedPaths", json!("/proc/acpi")).report();
    for destination in ["/dev", "/dev/pts", "/dev/shm"] {
        let context = format!("context={FILES}");
        assert!(report.mount_has(destination, &context), "{destination}: {:?}", report.mount(destination));
    }
}

/// defcontext is for file systems that keep labels of their own, which none of a container's mounts is.
fn a_label_of_the_root_or_of_the_file_system() {
    needs_selinux();
    for option in ["rootcontext", "fscontext"] {
        let annotations = json!({ "run.oci.mount_context_type": option });
        let report = labelled().set("/linux/mountLabel", FILES).set("/annotations", annotations).report();
        let mount = report.mount("/dev/shm");
        assert!(report.mount_has("/dev/shm", &format!("{option}={FILES}")), "{option}: {mount:?}");
        assert!(!report.mount_has("/dev/shm", &format!("context={FILES}")), "{option}: {mount:?}");
    }
}

fn a_label_that_the_policy_does_not_know() {
    needs_selinux();
    let unknown = "system_u:system_r:berth_no_such_t:s0";
    sleeper().set("/process/selinuxLabel", unknown).refused("/proc/self/attr/");
    let container = up(sleeper());
    refused(&exec(&container, &["--process-label", unknown], &["echo:ran"]).done(), "/proc/self/attr/");
}

fn without_selinux() {
    require!(!has_selinux(), "SELinux is in this kernel");
    let container = up(sleeper());
    let done = exec(&container, &["--process-label", "a:b:c:s0"], &["echo:ran"]).done();
    refused(&done, "selinux label is specified");
    labelled().refused("selinux label is specified");
}
