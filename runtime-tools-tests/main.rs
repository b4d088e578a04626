//! Runs opencontainers/runtime-tools' validation programs against berth and its peers, and holds berth to
//! expected.toml. `make runtime-tools` calls it.
//!
//! usage: runtime-tools BUILT EXPECTED NAME=RUNTIME... [-- WORD...]
//!
//! BUILT is what runtime-tools-tests/build made. The first runtime is the one that is judged; the others are there
//! for comparison. Words choose programs whose names hold one of them.
#![allow(missing_docs)]

mod expected;
mod host;
mod program;
mod tap;
mod verdict;

use expected::Expected;
use program::{Job, Layout, Outcome};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use verdict::{Key, Results, Suite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, [job])) if first == "--job" => run_job(job),
        _ => run_suite(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("runtime-tools: {error}");
        ExitCode::from(2)
    })
}

fn run_job(job: &str) -> Result<ExitCode, String> {
    let job: Job = serde_json::from_str(job).map_err(|error| error.to_string())?;
    let outcome = job.run_here().unwrap_or_else(|error| Outcome::broken(format!("the runner: {error}")));
    println!("{}", serde_json::to_string(&outcome).map_err(|error| error.to_string())?);
    Ok(ExitCode::SUCCESS)
}

fn run_suite(arguments: &[String]) -> Result<ExitCode, String> {
    let (arguments, words) = match arguments.iter().position(|argument| argument == "--") {
        Some(end) => (&arguments[..end], &arguments[end + 1..]),
        None => (arguments, &[][..]),
    };
    let [built, list, runtimes @ ..] = arguments else {
        return Err("usage: runtime-tools BUILT EXPECTED NAME=RUNTIME... [-- WORD...]".to_owned());
    };
    // The programs run elsewhere, and would call a missing runtime's refusal an error that they wait for.
    let absolute = |path: &str| match std::path::absolute(path) {
        Ok(found) if found.exists() => Ok(found),
        _ => Err(format!("{path}: is not there")),
    };
    let built = absolute(built)?;
    let expected = Expected::read(Path::new(list))?;
    let mut named = Vec::new();
    for runtime in runtimes {
        let (name, path) = runtime.split_once('=').ok_or(format!("{runtime}: no NAME=RUNTIME"))?;
        named.push((name.to_owned(), absolute(path)?));
    }
    let mut programs = programs(&built)?;
    let faults = expected.faults(&programs);
    programs.retain(|name| words.is_empty() || words.iter().any(|word| name.contains(word)));
    let suite = Suite { expected, programs, runtimes: named, layouts: layouts() };
    let results = run_all(&suite, &built)?;
    Ok(suite.conclude(&results, &faults))
}

/// The names of the programs.
fn programs(built: &Path) -> Result<Vec<String>, String> {
    let directory = built.join("validation");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// On a host that has cgroup2 alone the two are one.
fn layouts() -> Vec<Layout> {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        vec![Layout::Cgroup2]
    } else {
        vec![Layout::Host, Layout::Cgroup2]
    }
}

/// Every program on every layout with every runtime. Most of the time they sleep, so several run at once; those
/// that use the same cgroup do so one after the other.
fn run_all(suite: &Suite, built: &Path) -> Result<Results, String> {
    const AT_ONCE: usize = 4;
    let work = WorkDirectory::new().map_err(|error| format!("a directory below /var/tmp: {error}"))?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for key in suite.keys() {
        let job = Job {
            layout: suite.layouts[key.layout],
            runtime: suite.runtimes[key.runtime].1.clone(),
            program: suite.programs[key.program].clone(),
            built: built.to_owned(),
            directory: work.0.join(format!("{}.{}.{}", key.layout, key.runtime, key.program)),
        };
        if job.shares_a_cgroup() { alone.push((key, job)) } else { together.push((key, job)) }
    }
    let results = Mutex::new(BTreeMap::new());
    let queues = [Mutex::new(alone), Mutex::new(together)];
    let work_off = |queue: &Mutex<Vec<(Key, Job)>>| {
        loop {
            // A statement of its own: in the head of a `while let` the lock would be held through the body.
            let next = lock(queue).pop();
            let Some((key, job)) = next else { break };
            let mut outcome: Outcome = job.run();
            for _ in 1..suite.expected.tries(&job.program) {
                if outcome.passed() {
                    break;
                }
                outcome = job.run();
            }
            lock(&results).insert(key, outcome);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| work_off(&queues[0]));
        for _ in 1..AT_ONCE {
            scope.spawn(|| work_off(&queues[1]));
        }
    });
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// A panic of another thread ends the program anyway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Not below /tmp, which may be a tmpfs: each program unpacks a root file system.
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn new() -> std::io::Result<Self> {
        let path = PathBuf::from(format!("/var/tmp/berth-runtime-tools.{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}
