//! The runtimes, their command lines, and one timed call.

use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A runtime that takes runc's command line.
pub struct Runtime {
    /// As it is called in the tables.
    pub name: &'static str,
    /// Absolute path of the binary.
    pub path: PathBuf,
    /// The runtime's state directory (`--root`), on a tmpfs as in daily use.
    pub root: PathBuf,
    /// First line of `--version`.
    pub version: String,
}

/// One timed call.
#[derive(Clone, Copy)]
pub struct Sample {
    /// From before vfork to after wait4.
    pub milliseconds: f64,
    /// ru_maxrss of the direct child and what it waited for.
    pub maxrss_kib: u64,
    /// User and system time of the same.
    pub cpu_milliseconds: f64,
}

/// The runtimes that are here, berth first. `BENCH_ONLY` narrows them down.
pub fn find(state: &Path) -> Result<Vec<Runtime>> {
    let only = std::env::var("BENCH_ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    let mut runtimes = Vec::new();
    for (name, path) in [
        ("berth", "target/berth"),
        ("crun", "target/peers/crun"),
        ("runc", "target/peers/runc"),
        ("youki", "target/peers/youki"),
    ] {
        if !wanted(name) {
            continue;
        }
        let path = std::env::current_dir()?.join(path);
        if !path.exists() {
            if name == "berth" {
                bail!("{} is missing: run `make build`", path.display());
            }
            continue;
        }
        let output =
            Command::new(&path).arg("--version").output().with_context(|| format!("start {name}"))?;
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        runtimes.push(Runtime { name, path, root: state.join(name), version });
    }
    Ok(runtimes)
}

impl Runtime {
    /// A call of this runtime: `--root ROOT` and what follows.
    pub fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = vec![self.path.to_string_lossy().into_owned()];
        command.extend(["--root".to_owned(), self.root.to_string_lossy().into_owned()]);
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command
    }

    /// Removes a container that a failed or late call may have left. It is no error if there is none.
    pub fn forget(&self, id: &str) -> Result<()> {
        call(&self.command(&["delete", "--force", id])).map(|_| ()).or(Ok(()))
    }
}

/// Runs a command under target/bench/launch. An error says what the command printed last.
pub fn call(command: &[String]) -> Result<Sample> {
    call_within(timeout_seconds(), command)
}

/// The same with another limit.
pub fn call_within(seconds: u64, command: &[String]) -> Result<Sample> {
    let log = std::env::current_dir()?.join("target/bench/stderr");
    let stderr = fs::OpenOptions::new().create(true).write(true).truncate(true).open(&log)?;
    let output = Command::new("target/bench/launch")
        .arg((seconds * 1000).to_string())
        .args(command)
        .stderr(stderr)
        .output()
        .context("start target/bench/launch")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let reason = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(it said nothing)").to_owned()
    };
    let fields: Vec<&str> = printed.split_whitespace().collect();
    let [nanoseconds, maxrss, status, cpu] = fields[..] else {
        bail!("{}: {}", printed.trim(), reason());
    };
    if status != "0" {
        bail!("wait status {status}: {}", reason());
    }
    let nanoseconds: f64 =
        nanoseconds.parse().map_err(|error| anyhow!("launch printed {printed:?}: {error}"))?;
    let cpu: f64 = cpu.parse().map_err(|error| anyhow!("launch printed {printed:?}: {error}"))?;
    Ok(Sample { milliseconds: nanoseconds / 1e6, maxrss_kib: maxrss.parse()?, cpu_milliseconds: cpu / 1e3 })
}

/// How long one command may take before it counts as hung.
fn timeout_seconds() -> u64 {
    std::env::var("BENCH_TIMEOUT").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// System calls that a command makes with all its descendants, the measured /bin/true among them.
pub fn count_system_calls(command: &[String]) -> Result<u64> {
    let table = std::env::current_dir()?.join("target/bench/strace");
    let status = Command::new("timeout")
        .args([&(timeout_seconds() * 3).to_string(), "strace", "-f", "-c", "-o"])
        .arg(&table)
        .args(command)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .context("start strace")?;
    if !status.success() {
        bail!("under strace: {status}");
    }
    let text = fs::read_to_string(&table)?;
    let total = text.lines().rfind(|line| line.ends_with(" total"));
    let calls = total.and_then(|line| line.split_whitespace().nth(3));
    calls.and_then(|calls| calls.parse().ok()).ok_or_else(|| anyhow!("strace printed no total"))
}
