//! What a filter costs, berth's beside libseccomp's optimised one: to compile, to load, and for each system
//! call of a process that has it. `make bench-seccomp`; it fails where Docker's profile misses a bound.
//!
//! All is measured in one run and in turns, since a machine is not equally fast at all times. The calls do
//! next to nothing, so that the filter is as much of their time as it can be:
//!
//! - `getppid` is always allowed, and since Linux 5.11 the kernel then does not ask the filter at all;
//! - `writev`, the last name of the list, likewise;
//! - `personality` depends on its argument, which is compared with five values: the filter runs;
//! - `swapoff` is refused: the filter runs, and the call is not made.

use std::time::{Duration, Instant};

use berth::seccomp::arch::Architecture;
use berth::seccomp::interpret::{Call, run};
use berth::sys::seccomp::{Instruction, set_filter};
use libseccomp_tests::{context, export, parse};
use oci_spec::runtime::LinuxSeccomp;

const PROFILES: [(&str, &str); 4] = [
    ("docker", include_str!("../../src/seccomp/testdata/docker.json")),
    ("ctr", include_str!("../../src/seccomp/testdata/ctr.json")),
    ("podman", include_str!("../../src/seccomp/testdata/podman.json")),
    ("cri-container", include_str!("../../src/seccomp/testdata/cri-container.json")),
];

/// How often all is measured. Of compilations and loads the median is printed; of calls, whose differences
/// are less than what a busy machine adds, the fastest.
const ROUNDS: usize = 300;

/// Calls whose time is taken together: few enough that some rounds are not interrupted.
const CALLS: u32 = 500;

const PROBES: [(&str, libc::c_long, u64); 4] = [
    ("getppid", libc::SYS_getppid, 0),
    ("writev", libc::SYS_writev, u64::MAX),
    ("personality", libc::SYS_personality, 0xffff_ffff),
    ("swapoff", libc::SYS_swapoff, 0),
];

/// The bounds for Docker's profile. Where the kernel does not ask the filter both cost the same, and the
/// clock says so only to a few hundredths.
const COMPILE: Duration = Duration::from_micros(150);
const COMPILE_RATIO: f64 = 20.0;
const CALL_RATIO: f64 = 1.03;

#[derive(Default)]
struct Costs {
    compile: Vec<Duration>,
    load: Vec<Duration>,
    calls: [Vec<Duration>; PROBES.len()],
}

fn main() {
    let mut missed = Vec::new();
    for (name, text) in PROFILES {
        let profile: LinuxSeccomp = serde_json::from_str(text).expect("a profile");
        let [none, ours, theirs] = measure(&profile);
        println!("{name:<18} {:>9} {:>9} {:>11} {:>9}", "no filter", "berth", "libseccomp", "ratio");
        let [our_program, their_program] = [compile(&profile), parse(&compile_theirs(&profile))];
        let [our_steps, their_steps] = [&our_program, &their_program].map(|program| steps(program));
        row("instructions", None, our_program.len() as f64, their_program.len() as f64);
        row("  way, mean", None, our_steps.0, their_steps.0);
        row("  way, longest", None, our_steps.1, their_steps.1);
        let compiled = row("compile, µs", None, 1e6 * median(&ours.compile), 1e6 * median(&theirs.compile));
        println!("{:<18} {:>9} {:>9.1}", "  the first time", "", 1e6 * ours.compile[0].as_secs_f64());
        row("load, µs", None, 1e6 * median(&ours.load), 1e6 * median(&theirs.load));
        let mut dear = Vec::new();
        for (probe, (call, ..)) in PROBES.into_iter().enumerate() {
            let [none, ours, theirs] =
                [&none, &ours, &theirs].map(|costs| 1e9 * fastest(&costs.calls[probe]));
            if row(&format!("{call}, ns"), Some(none), ours, theirs) * CALL_RATIO < 1.0 {
                dear.push(format!("{call} is dearer than under libseccomp's filter"));
            }
        }
        println!();
        if name == "docker" {
            missed = dear;
            if median(&ours.compile) > COMPILE.as_secs_f64() || compiled < COMPILE_RATIO {
                missed.push(format!("compile: {COMPILE:?} and 1/{COMPILE_RATIO} of libseccomp's time"));
            }
        }
    }
    missed.iter().for_each(|bound| eprintln!("missed: {bound}"));
    std::process::exit(i32::from(!missed.is_empty()));
}

/// Prints a line; how many times libseccomp's figure is ours.
fn row(what: &str, none: Option<f64>, ours: f64, theirs: f64) -> f64 {
    let none = none.map(|none| format!("{none:.1}")).unwrap_or_default();
    println!("{what:<18} {none:>9} {ours:>9.1} {theirs:>11.1} {:>9.2}", theirs / ours);
    theirs / ours
}

/// Without a filter, with berth's, with libseccomp's.
fn measure(profile: &LinuxSeccomp) -> [Costs; 3] {
    let mut costs = [(); 3].map(|()| Costs::default());
    for _ in 0..ROUNDS {
        let [none, ours, theirs] = &mut costs;
        none.probe(&[]);
        let start = Instant::now();
        let program = std::hint::black_box(compile(profile));
        ours.compile.push(start.elapsed());
        ours.probe(&program);
        let start = Instant::now();
        let program = std::hint::black_box(compile_theirs(profile));
        theirs.compile.push(start.elapsed());
        theirs.probe(&parse(&program));
    }
    costs
}

fn compile(profile: &LinuxSeccomp) -> Vec<Instruction> {
    let program = berth::seccomp::compile(profile, &mut Vec::new()).expect("a filter").expect("a filter");
    program.instructions().to_vec()
}

fn compile_theirs(profile: &LinuxSeccomp) -> Vec<u8> {
    export(&context(profile).expect("rules")).expect("a filter")
}

impl Costs {
    /// Loads a program, if it is one, in a thread of its own, and makes the calls there.
    fn probe(&mut self, program: &[Instruction]) {
        let under = || {
            nix::sys::prctl::set_no_new_privs().expect("no_new_privs");
            let start = Instant::now();
            if !program.is_empty() {
                set_filter(program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).expect("load the filter");
            }
            (start.elapsed(), PROBES.map(|(_, number, argument)| time_of_calls(number, argument)))
        };
        let (load, calls) = std::thread::scope(|scope| scope.spawn(under).join()).expect("a thread");
        self.load.push(load);
        self.calls.iter_mut().zip(calls).for_each(|(times, time)| times.push(time));
    }
}

fn time_of_calls(number: libc::c_long, argument: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: a bad descriptor, a null path, a question about the personality: no memory is named.
        std::hint::black_box(unsafe { libc::syscall(number, argument, 0, 0) });
    }
    start.elapsed()
}

/// The instructions from the first to the return: mean and maximum over all x86_64 calls.
fn steps(program: &[Instruction]) -> (f64, f64) {
    let calls = (0..450).filter(|number| Architecture::X86_64.syscall(*number).is_some());
    let steps: Vec<f64> = calls
        .map(|number| Call { arch: Architecture::X86_64, number, arguments: [0; 6] })
        .map(|call| run(program, &call).expect("a program").1 as f64)
        .collect();
    (steps.iter().sum::<f64>() / steps.len() as f64, steps.iter().copied().fold(0.0, f64::max))
}

/// In seconds for one call.
fn fastest(durations: &[Duration]) -> f64 {
    durations.iter().min().map_or(f64::NAN, Duration::as_secs_f64) / f64::from(CALLS)
}

/// In seconds.
fn median(durations: &[Duration]) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2].as_secs_f64()
}
