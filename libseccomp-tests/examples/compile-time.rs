//! How long berth and libseccomp take for the engines' profiles, and how far a call has to go through
//! what they make: `cargo run --release --example compile-time`.

use std::time::{Duration, Instant};

use berth::seccomp::arch::Architecture;
use berth::seccomp::interpret::{Call, run};
use berth::seccomp::profile::Profile;
use libseccomp_tests::{Runc, context, export};
use oci_spec::runtime::LinuxSeccomp;

const PROFILES: [(&str, &str); 4] = [
    ("docker", include_str!("../../src/seccomp/testdata/docker.json")),
    ("ctr", include_str!("../../src/seccomp/testdata/ctr.json")),
    ("podman", include_str!("../../src/seccomp/testdata/podman.json")),
    ("cri-container", include_str!("../../src/seccomp/testdata/cri-container.json")),
];

fn median(times: usize, mut work: impl FnMut()) -> Duration {
    let mut durations: Vec<_> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    durations.sort_unstable();
    durations[times / 2]
}

fn main() {
    println!(
        "profile        berth: µs  first µs  instructions  steps mean/max   libseccomp: µs  instructions  steps mean/max   ratio"
    );
    for (name, text) in PROFILES {
        let profile: LinuxSeccomp = serde_json::from_str(text).expect("a profile");
        let compile =
            || berth::seccomp::compile(&profile, &mut Vec::new()).expect("a filter").expect("a filter");
        let start = Instant::now();
        let program = compile();
        let first = start.elapsed();
        let ours = median(1000, || drop(std::hint::black_box(compile())));
        let theirs = median(50, || {
            drop(std::hint::black_box(export(&context(&profile).expect("rules")).expect("a filter")))
        });
        let runc = Runc::new(&profile).expect("a filter");
        let numbers: Vec<u32> =
            (0..450).filter(|number| Architecture::X86_64.syscall(*number).is_some()).collect();
        let steps = |of: &dyn Fn(&Call) -> usize| {
            let steps: Vec<usize> = numbers
                .iter()
                .map(|&number| of(&Call { arch: Architecture::X86_64, number, arguments: [0; 6] }))
                .collect();
            (
                steps.iter().sum::<usize>() as f64 / steps.len() as f64,
                steps.iter().copied().max().unwrap_or(0),
            )
        };
        let checked =
            Profile::read(&profile, &mut Vec::new()).expect("a profile").compile().expect("a filter");
        let our_steps = steps(&|call| run(&checked, call).expect("a program").1);
        let their_steps = steps(&|call| runc.steps(call));
        println!(
            "{name:<14} {:>9.1} {:>9.1} {:>13} {:>10.1}/{:<4} {:>16.1} {:>13} {:>10.1}/{:<4} {:>7.1}",
            ours.as_secs_f64() * 1e6,
            first.as_secs_f64() * 1e6,
            program.len(),
            our_steps.0,
            our_steps.1,
            theirs.as_secs_f64() * 1e6,
            runc.len(),
            their_steps.0,
            their_steps.1,
            theirs.as_secs_f64() / ours.as_secs_f64(),
        );
    }
}
