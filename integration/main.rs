//! The integration suite: real containers, seen from inside by a payload and from outside by the host's files.
#![allow(missing_docs)]
// All of it is tests; without libtest clippy cannot know.
#![allow(clippy::expect_used)]

mod annotations;
mod apparmor;
mod capabilities;
mod cgroups;
mod check;
mod checkpoint;
mod checkpoint_errors;
mod checkpoint_mounts;
mod cli;
mod console;
mod devices;
mod engines_bundles;
mod events;
mod exec;
mod exec_attributes;
mod fds;
mod features;
mod flags;
mod freeze;
mod harness;
mod hooks;
mod interrupted;
mod invalid;
mod lifecycle;
mod live_mounts;
mod logs;
mod mounts;
mod namespaces;
mod netdevices;
mod process;
mod propagation;
mod ps;
mod rdt;
mod regression;
mod replay;
mod resources;
mod review;
mod rlimits;
mod rootless;
mod scheduling;
mod seccomp;
mod seccomp_programs;
mod selinux;
mod soak;
mod systemd;
mod terminal;
mod time_namespace;
mod transcript;
mod update;
mod userns;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::runner::main(&[
        ("lifecycle", lifecycle::TESTS),
        ("engines_bundles", engines_bundles::TESTS),
        ("invalid", invalid::TESTS),
        ("check", check::TESTS),
        ("regression", regression::TESTS),
        ("review", review::TESTS),
        ("namespaces", namespaces::TESTS),
        ("netdevices", netdevices::TESTS),
        ("rdt", rdt::TESTS),
        ("scheduling", scheduling::TESTS),
        ("userns", userns::TESTS),
        ("rootless", rootless::TESTS),
        ("time_namespace", time_namespace::TESTS),
        ("mounts", mounts::TESTS),
        ("live_mounts", live_mounts::TESTS),
        ("propagation", propagation::TESTS),
        ("devices", devices::TESTS),
        ("process", process::TESTS),
        ("capabilities", capabilities::TESTS),
        ("rlimits", rlimits::TESTS),
        ("seccomp", seccomp::TESTS),
        ("seccomp_programs", seccomp_programs::TESTS),
        ("selinux", selinux::TESTS),
        ("cgroups", cgroups::TESTS),
        ("resources", resources::TESTS),
        ("resources_systemd", resources::SCOPED),
        ("systemd", systemd::TESTS),
        ("freeze", freeze::TESTS),
        ("ps", ps::TESTS),
        ("update", update::TESTS),
        ("interrupted", interrupted::TESTS),
        ("events", events::TESTS),
        ("features", features::TESTS),
        ("hooks", hooks::TESTS),
        ("annotations", annotations::TESTS),
        ("apparmor", apparmor::TESTS),
        ("terminal", terminal::TESTS),
        ("console", console::TESTS),
        ("exec", exec::TESTS),
        ("exec_attributes", exec_attributes::TESTS),
        ("fds", fds::TESTS),
        ("replay", replay::TESTS),
        ("checkpoint", checkpoint::TESTS),
        ("checkpoint_errors", checkpoint_errors::TESTS),
        ("checkpoint_mounts", checkpoint_mounts::TESTS),
        ("logs", logs::TESTS),
        ("cli", cli::TESTS),
        ("transcript", transcript::TESTS),
        ("flags", flags::TESTS),
        ("soak", soak::TESTS),
    ])
}
