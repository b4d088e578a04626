//! Measures berth beside its peers and beside the floor (floor.c), all in one run.
//!
//! Round by round each runtime has its turn, so that a busy machine is busy for all of them. The clock
//! runs in a C program of a page or two (launch.c), which adds the same small constant to each.
//!
//! Environment: `BENCH_ROUNDS` (50), `BENCH_ONLY` (names of the runtimes to take, by commas),
//! `BENCH_TIMEOUT` (seconds for one command, 10), `BENCH_CASES=systemd` (only what goes through systemd). Needs root, `target/berth`, and what bench/peers.sh made.
//! Prints tables and writes target/bench.json.

mod bundle;
mod cases;
mod hierarchy;
mod report;
mod runtime;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Where the measurements of one layout are made: a process of its own, since it may leave the mount
/// namespace for one in which /sys/fs/cgroup is cgroup2.
const MEASURE: &str = "--measure";

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every measurement of berth itself succeeded.
fn bench() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, layout] = &arguments[..]
        && flag == MEASURE
    {
        let measured = cases::measure(layout)?;
        println!("{measured}");
        return Ok(true);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("needs root: it makes cgroups and containers");
    }
    let mut layouts = Vec::new();
    for layout in hierarchy::layouts()? {
        layouts.push(measure_apart(layout)?);
    }
    let document = report::document(layouts)?;
    let path = Path::new("target/bench.json");
    std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n")
        .context("write target/bench.json")?;
    report::print(&document);
    println!("\nall samples: {}", path.display());
    Ok(report::berth_succeeded(&document))
}

/// Measures one layout in a child process and returns its JSON.
fn measure_apart(layout: &str) -> Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args([MEASURE, layout])
        .stderr(Stdio::inherit())
        .output()
        .context("start the measuring process")?;
    if !output.status.success() {
        bail!("measuring on {layout} ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read the measurements")
}
