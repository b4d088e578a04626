//! The integration suite: real containers, seen from inside by a payload and from outside by the host's files.
#![allow(missing_docs)]

mod capabilities;
mod cgroups;
mod devices;
mod harness;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod rlimits;
mod seccomp;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::runner::main(&[
        ("lifecycle", lifecycle::TESTS),
        ("namespaces", namespaces::TESTS),
        ("mounts", mounts::TESTS),
        ("devices", devices::TESTS),
        ("process", process::TESTS),
        ("capabilities", capabilities::TESTS),
        ("rlimits", rlimits::TESTS),
        ("seccomp", seccomp::TESTS),
        ("cgroups", cgroups::TESTS),
        ("hooks", hooks::TESTS),
    ])
}
