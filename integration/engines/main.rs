//! The engines themselves run containers with berth, and with runc for comparison.
//!
//! Each engine is the machine's own package, started here with a root, a state directory and a socket of its
//! own, once per runtime; every scenario of it runs against each. Afterwards nothing may be left. The last
//! words are a table of scenarios × runtimes.

#![allow(clippy::expect_used, reason = "a test says what it expected by failing")]

mod cgroups;
mod containerd;
mod cri;
mod docker;
mod documents;
mod hierarchies;
mod image;
mod leftovers;
mod podman;
mod site;
mod status;
mod table;
mod terminal;
mod user;

use site::{Engine, Runtime, Scenario, Skip};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;
use table::{Outcome, Table};

const HELP: &str = "\
engines [--runtime NAME=PATH]… [--list] [FILTER…]

  NAME is the word that the engine's configuration gives the runtime; the first one is the one under test,
  what fails for the others is shown and is no failure. Default: berth=target/berth runc=(from PATH).
  A filter is a part of `engine::scenario`.

  BERTH_ENGINES_CGROUPS      cgroupfs or systemd: the engines' cgroup driver (default: systemd's where it runs on cgroup v2)
  BERTH_PROBE_SECONDS        how long Kubernetes' exec probes go on, one each second (default 60)
  BERTH_TEST_SLOW            factor for every timeout
  BERTH_TEST_STRICT=1        a skip fails, unless its reason is in BERTH_TEST_EXPECTED_SKIPS (separated by ;)
";

struct Options {
    runtimes: Vec<Runtime>,
    list: bool,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            print!("{text}");
            return ExitCode::from(u8::from(text != HELP));
        }
    };
    if !options.list
        && let Err(error) = hierarchies::hide_plain_directories()
    {
        eprintln!("engines: mounts of /sys/fs/cgroup without what is no hierarchy: {error}");
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    for runtime in &options.runtimes {
        run::<containerd::Containerd>(runtime, &options, &mut table);
        run::<docker::Docker>(runtime, &options, &mut table);
        run::<docker::AsDefault>(runtime, &options, &mut table);
        run::<docker::Remapped>(runtime, &options, &mut table);
        run::<cri::Cri>(runtime, &options, &mut table);
        run::<podman::Podman>(runtime, &options, &mut table);
        run::<podman::Rootless>(runtime, &options, &mut table);
    }
    // The page is about berth.
    run::<documents::Documents>(&options.runtimes[0], &options, &mut table);
    if options.list {
        return ExitCode::SUCCESS;
    }
    table.conclude(&options.runtimes)
}

/// All wanted scenarios of one engine with one runtime; the engine is not started when there are none.
fn run<E: Engine>(runtime: &Runtime, options: &Options, table: &mut Table) {
    let full = |scenario: &Scenario<E>| format!("{}::{}", E::NAME, scenario.name);
    let wanted: Vec<_> = E::SCENARIOS
        .iter()
        .filter(|scenario| {
            options.filters.is_empty() || options.filters.iter().any(|filter| full(scenario).contains(filter))
        })
        .collect();
    if options.list {
        wanted.iter().for_each(|scenario| println!("{}", full(scenario)));
        return;
    }
    if wanted.is_empty() {
        return;
    }
    let before = leftovers::Leftovers::take();
    let engine = match guarded(|| E::start(runtime)) {
        Ok(engine) => engine,
        Err(outcome) => {
            table.add(format!("{}::start", E::NAME), runtime, outcome, Instant::now());
            return;
        }
    };
    for scenario in wanted {
        let begun = Instant::now();
        let outcome = match guarded(|| (scenario.run)(&engine)) {
            Ok(()) => Outcome::Passed,
            Err(outcome) => outcome,
        };
        table.add(full(scenario), runtime, outcome, begun);
    }
    let begun = Instant::now();
    let outcome = match guarded(|| engine.stop()) {
        Ok(()) => match before.changes() {
            changes if changes.is_empty() => Outcome::Passed,
            changes => Outcome::Failed(changes.join("\n")),
        },
        Err(outcome) => outcome,
    };
    table.add(format!("{}::nothing is left", E::NAME), runtime, outcome, begun);
}

/// What a panic meant: a skip with its reason or a failure.
fn guarded<T>(what: impl FnOnce() -> T) -> Result<T, Outcome> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| match panic.downcast::<Skip>() {
        Ok(skip) => Outcome::Skipped(skip.0),
        Err(panic) => Outcome::Failed(match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
        }),
    })
}

fn parse(args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { runtimes: Vec::new(), list: false, filters: Vec::new() };
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runtime" => {
                let value = args.next().unwrap_or_default();
                let (name, path) = value
                    .split_once('=')
                    .ok_or_else(|| format!("--runtime {value}: NAME=PATH is wanted\n"))?;
                options.runtimes.push(Runtime::new(name, path)?);
            }
            "--list" => options.list = true,
            "--help" | "-h" => return Err(HELP.to_owned()),
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}\n{HELP}")),
            _ => options.filters.push(arg),
        }
    }
    if options.runtimes.is_empty() {
        options.runtimes =
            vec![Runtime::new("berth", "target/berth")?, Runtime::new("runc", "/usr/sbin/runc")?];
    }
    Ok(options)
}
