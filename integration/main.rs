//! The integration suite: real containers, seen from inside by a payload and from outside by the host's files.
#![allow(missing_docs)]

mod capabilities;
mod devices;
mod harness;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod rlimits;

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
    ])
}
