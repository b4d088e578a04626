//! AppArmor: the profile confines the container's program and nothing else of it.

use crate::exec::{exec, refused, report, sleeper, up};
use crate::harness::bundle::tag;
use crate::harness::host::has_apparmor;
use crate::harness::program::{Bounded, directory};
use crate::harness::*;
use crate::{require, tests};
use std::fs;
use std::process::Command;

tests! {
    a_profile_confines_the_program, beside_everything_else_that_restricts_it, an_exec_has_the_containers_profile,
    a_profile_for_an_exec_alone, unconfined_is_a_profile, a_profile_that_is_not_loaded, without_apparmor, check_knows_what_is_loaded,
}

const CURRENT: &str = "read:/proc/self/attr/current";
const SECRET: &str = "read:/secret";

/// A profile that allows everything but to read `/secret`, loaded until this is dropped.
struct Profile {
    name: String,
}

impl Profile {
    /// Skips where the kernel has no AppArmor.
    fn load(suffix: &str) -> Self {
        require!(has_apparmor(), "no AppArmor in this kernel");
        let profile = Profile { name: format!("berth-test-{}-{suffix}", tag()) };
        let text = format!(
            "profile {} flags=(attach_disconnected) {{\n file,\n capability,\n network,\n signal,\n unix,\n ptrace,\n deny /secret r,\n}}\n",
            profile.name
        );
        profile.parser("--replace", &text);
        profile
    }

    fn parser(&self, action: &str, text: &str) {
        let file = directory().join(&self.name);
        fs::write(&file, text).expect("profile");
        let mut command = Command::new("apparmor_parser");
        command.args([action, "--skip-cache"]).arg(&file);
        command.done().ok();
    }

    fn enforced(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove", &format!("profile {} {{}}\n", self.name));
    }
}

fn with_secret() -> Bundle {
    sleeper().file("/secret", "told", 0o644)
}

fn a_profile_confines_the_program() {
    let profile = Profile::load("own");
    for no_new_privileges in [false, true] {
        let bundle = || with_secret().set("/process/noNewPrivileges", no_new_privileges);
        let free = bundle().report_after(&[CURRENT, SECRET]);
        assert_eq!((free.probe(CURRENT), free.probe(SECRET)), (&json!("unconfined"), &json!("told")));
        let confined =
            bundle().set("/process/apparmorProfile", profile.name.as_str()).report_after(&[CURRENT, SECRET]);
        assert_eq!(confined.probe(CURRENT), &json!(profile.enforced()));
        assert_eq!(confined.probe(SECRET)["error"], "EACCES");
    }
}

/// As the Kubernetes engines ask for it: a user without capabilities, no new privileges, a seccomp filter.
fn beside_everything_else_that_restricts_it() {
    let profile = Profile::load("all");
    let refuses =
        json!([{ "names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33 }]);
    let report = with_secret()
        .set("/process/apparmorProfile", profile.name.as_str())
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/process/noNewPrivileges", true)
        .set("/process/capabilities", json!({}))
        .seccomp("SCMP_ACT_ALLOW", refuses)
        .report_after(&[CURRENT, SECRET]);
    assert_eq!(report.probe(CURRENT), &json!(profile.enforced()));
    assert_eq!(report.probe(SECRET)["error"], "EACCES");
    assert_eq!((&report["seccomp"], &report["uid"][0]), (&json!("2"), &json!(1000)));
}

fn an_exec_has_the_containers_profile() {
    let profile = Profile::load("init");
    let container = up(with_secret().set("/process/apparmorProfile", profile.name.as_str()));
    let report = report(&container, &[], &[CURRENT, SECRET]);
    assert_eq!(report.probe(CURRENT), &json!(profile.enforced()));
    assert_eq!(report.probe(SECRET)["error"], "EACCES");
}

fn a_profile_for_an_exec_alone() {
    let profile = Profile::load("exec");
    let container = up(with_secret());
    let inside = report(&container, &["--apparmor", &profile.name], &[CURRENT, SECRET]);
    assert_eq!(inside.probe(CURRENT), &json!(profile.enforced()));
    assert_eq!(inside.probe(SECRET)["error"], "EACCES");
    let other = report(&container, &[], &[CURRENT, SECRET]);
    assert_eq!((other.probe(CURRENT), other.probe(SECRET)), (&json!("unconfined"), &json!("told")));
}

/// Engines name a profile on every exec where the host has AppArmor.
fn unconfined_is_a_profile() {
    require!(has_apparmor(), "no AppArmor in this kernel");
    let report = with_secret().set("/process/apparmorProfile", "unconfined").report_after(&[CURRENT]);
    assert_eq!(report.probe(CURRENT), &json!("unconfined"));
}

fn a_profile_that_is_not_loaded() {
    require!(has_apparmor(), "no AppArmor in this kernel");
    let missing = "berth-no-such-profile";
    // Podman looks for the file.
    let done = with_secret().set("/process/apparmorProfile", missing).refused("/proc/self/attr/");
    assert!(done.stderr().contains("apparmor_parser"), "{}", done.describe());
    let container = up(sleeper());
    refused(&exec(&container, &["--apparmor", missing], &["echo:ran"]).done(), "/proc/self/attr/");
}

fn without_apparmor() {
    require!(!has_apparmor(), "AppArmor is in this kernel");
    let container = up(sleeper());
    report(&container, &["--apparmor", "unconfined"], &[]);
    refused(&exec(&container, &["--apparmor", "some-profile"], &["echo:ran"]).done(), "apparmor");
    with_secret().set("/process/apparmorProfile", "some-profile").refused("apparmor");
}

fn check_knows_what_is_loaded() {
    let profile = Profile::load("check");
    let check = |name: &str| {
        let bundle = with_secret().set("/process/apparmorProfile", name);
        bundle.write();
        program::berth(&["check", &bundle.path.to_string_lossy()]).done()
    };
    check(&profile.name).ok();
    let done = check("berth-no-such-profile");
    assert!(done.stdout().contains("process.apparmorProfile"), "{}", done.describe());
}
