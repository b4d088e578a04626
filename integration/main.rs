//! The integration suite: real containers, seen from inside by a payload and from outside by the host's files.
#![allow(missing_docs)]
// All of it is tests; without libtest clippy cannot know.
#![allow(clippy::expect_used)]

mod capabilities;
mod cgroups;
mod cli;
mod devices;
mod engines_bundles;
mod events;
mod exec;
mod fds;
mod features;
mod freeze;
mod harness;
mod hooks;
mod interrupted;
mod invalid;
mod lifecycle;
mod logs;
mod mounts;
mod namespaces;
mod process;
mod propagation;
mod ps;
mod regression;
mod resources;
mod review;
mod rlimits;
mod seccomp;
mod seccomp_programs;
mod soak;
mod systemd;
mod terminal;
mod time_namespace;
mod update;
mod userns;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::runner::main(&[
        ("lifecycle", lifecycle::TESTS),
        ("engines_bundles", engines_bundles::TESTS),
        ("invalid", invalid::TESTS),
        ("regression", regression::TESTS),
        ("review", review::TESTS),
        ("namespaces", namespaces::TESTS),
        ("userns", userns::TESTS),
        ("time_namespace", time_namespace::TESTS),
        ("mounts", mounts::TESTS),
        ("propagation", propagation::TESTS),
        ("devices", devices::TESTS),
        ("process", process::TESTS),
        ("capabilities", capabilities::TESTS),
        ("rlimits", rlimits::TESTS),
        ("seccomp", seccomp::TESTS),
        ("seccomp_programs", seccomp_programs::TESTS),
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
        ("terminal", terminal::TESTS),
        ("exec", exec::TESTS),
        ("fds", fds::TESTS),
        ("logs", logs::TESTS),
        ("cli", cli::TESTS),
        ("soak", soak::TESTS),
    ])
}
