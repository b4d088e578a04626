//! The cases: what is run, and how often.

use crate::bundle::Bundle;
use crate::hierarchy::{self, Hierarchy};
use crate::report;
use crate::runtime::{self, Runtime, Sample, call, call_within, count_system_calls};
use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rounds before the counted ones: the page cache and the kernel's own caches fill.
const WARM_UP: usize = 2;
/// Smallest step of the search for a memory limit.
const LIMIT_STEP: u64 = 64 << 10;
/// Execs per round whose processor time is added up: 1,000 with the 50 rounds that are quoted.
const EXECS_PER_ROUND: usize = 20;
/// Seconds for a run under a limit: a runtime that has lost a process to it may wait for that process forever.
const LIMIT_SECONDS: u64 = 2;
/// A limit under which every runtime works.
const LIMIT_START: u64 = 128 << 20;

/// Everything that is measured on one layout ("v1" or "v2"), as JSON.
pub fn measure(layout: &str) -> Result<Value> {
    let hierarchy = Hierarchy::enter(layout)?;
    let work = Work::make()?;
    let runtimes = runtime::find(&work.state)?;
    let mut stripped = Vec::new();
    let docker = fs::read_to_string("integration/bundles/docker.json")
        .context("read integration/bundles/docker.json")?;
    let docker: Value = serde_json::from_str(&docker)?;
    let mut bundles = BTreeMap::new();
    for (name, config) in [("spec", template(&runtimes, &work)?), ("docker", docker)] {
        bundles.insert(name, Bundle::make(&work.bundles.join(name), config, &hierarchy, &mut stripped)?);
    }
    let suite = Suite { hierarchy, runtimes, bundles };
    let versions: BTreeMap<_, _> = suite.runtimes.iter().map(|one| (one.name, &one.version)).collect();
    if only_systemd() {
        return Ok(json!({
            "layout": layout,
            "controllers": suite.hierarchy.controllers,
            "versions": versions,
            "cases": [suite.through_systemd()?],
        }));
    }
    let mut cases = vec![
        suite.run("spec", "run of spec's bundle", Hook::Without)?,
        suite.run("docker", "run of docker.json", Hook::Without)?,
        suite.run("docker", "run of docker.json with its prestart hook", Hook::With)?,
        suite.lifecycle()?,
        suite.state()?,
        suite.exec()?,
    ];
    // Not in the mount namespace that hides the layout systemd works on.
    if hierarchy::layouts()?.first() == Some(&layout) && Path::new("/run/systemd/private").exists() {
        cases.push(suite.through_systemd()?);
    }
    let mut measured = json!({
        "layout": layout,
        "controllers": suite.hierarchy.controllers,
        "stripped_resources": stripped,
        "versions": versions,
        "cases": cases,
        "system_calls": suite.system_calls()?,
        "exec_cpu": suite.exec_cpu()?,
        "smallest_memory_limit_kib": suite.smallest_limits()?,
    });
    if suite.hierarchy.v2 {
        measured["floor_steps_us"] = suite.floor_steps()?;
    }
    Ok(measured)
}

fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50).max(1)
}

/// `BENCH_CASES=systemd`: that case alone. In the emulated machine all of them would take hours.
fn only_systemd() -> bool {
    std::env::var("BENCH_CASES").is_ok_and(|cases| cases == "systemd")
}

/// Directories of one measuring process; removed when it is dropped.
struct Work {
    bundles: PathBuf,
    state: PathBuf,
}

impl Work {
    fn make() -> Result<Work> {
        let name = format!("berth-bench-{}", std::process::id());
        let bundles = std::env::current_dir()?.join("target/bench").join(&name);
        let state = Path::new("/run").join(&name);
        fs::create_dir_all(&bundles)?;
        fs::create_dir_all(&state)?;
        // As /run is wherever containers run; here it may be part of a disk, whose journal would be measured too.
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), none).context("mount a tmpfs")?;
        Ok(Work { bundles, state })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.state, MntFlags::MNT_DETACH) {
            eprintln!("bench: {} is left mounted: {error}", self.state.display());
        }
        for directory in [&self.bundles, &self.state] {
            if let Err(error) = fs::remove_dir_all(directory) {
                eprintln!("bench: {} is left behind: {error}", directory.display());
            }
        }
    }
}

/// What the first runtime's `spec` writes; all run the same.
fn template(runtimes: &[Runtime], work: &Work) -> Result<Value> {
    let first = runtimes.first().ok_or_else(|| anyhow!("no runtime to measure"))?;
    let directory = work.bundles.join("template");
    fs::create_dir_all(&directory)?;
    let status = Command::new(&first.path).arg("spec").current_dir(&directory).status()?;
    let text = fs::read_to_string(directory.join("config.json"))
        .with_context(|| format!("{} spec: {status}", first.name))?;
    Ok(serde_json::from_str(&text)?)
}

#[derive(Clone, Copy, PartialEq)]
enum Hook {
    With,
    Without,
}

struct Suite {
    hierarchy: Hierarchy,
    runtimes: Vec<Runtime>,
    bundles: BTreeMap<&'static str, Bundle>,
}

/// Samples of one contender, or why it has none.
struct Entry {
    name: String,
    samples: Vec<Sample>,
    failures: Vec<String>,
    out: bool,
}

impl Entry {
    fn new(name: &str) -> Entry {
        Entry { name: name.to_owned(), samples: Vec::new(), failures: Vec::new(), out: false }
    }

    /// What the rounds need could not be prepared.
    fn drop_out(&mut self, error: &anyhow::Error) {
        self.failures.push(format!("{error:#}"));
        self.out = true;
    }

    /// A contender that failed in each warm-up round is not asked again: its time limit would be waited for
    /// in every round.
    fn is_out(&self, round: usize) -> bool {
        self.out || (round >= WARM_UP && self.samples.is_empty() && self.failures.len() >= WARM_UP)
    }

    fn take(&mut self, round: usize, sample: Result<Sample>) {
        match sample {
            Ok(sample) if round >= WARM_UP => self.samples.push(sample),
            Ok(_) => self.failures.clear(),
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }
}

/// All rounds. Each is in another order: the kernel goes on with what a container was after its end (network
/// namespaces above all), and who always followed the same contender would always pay for it.
fn interleave(entries: &mut [Entry], mut sample: impl FnMut(usize) -> Result<Sample>) {
    for round in 0..WARM_UP + rounds() {
        for index in permutation(entries.len(), round) {
            if !entries[index].is_out(round) {
                entries[index].take(round, sample(index));
            }
        }
    }
}

/// The numbers below `count` in an order of their own for each round; all orders come once before one comes again.
fn permutation(count: usize, round: usize) -> Vec<usize> {
    // A prime above every count steps through all orders, and far from one to the next.
    let mut number = round * 37;
    let mut rest: Vec<usize> = (0..count).collect();
    let mut order = Vec::with_capacity(count);
    while !rest.is_empty() {
        let choices = rest.len();
        order.push(rest.remove(number % choices));
        number /= choices;
    }
    order
}

impl Suite {
    /// One for each runtime, in their order.
    fn entries(&self) -> Vec<Entry> {
        self.runtimes.iter().map(|runtime| Entry::new(runtime.name)).collect()
    }

    /// A call that leaves no container behind, even when it fails.
    fn call_alone(runtime: &Runtime, arguments: &[&str]) -> Result<Sample> {
        let sample = call(&runtime.command(arguments));
        if sample.is_err() {
            runtime.forget("bench")?;
        }
        sample
    }

    fn config(&self, bundle: &str, runtime: &Runtime, hook: Hook) -> Result<String> {
        let program = std::env::current_dir()?.join("target/bench/true");
        let directory = self.bundles[bundle].write(runtime.name, &self.hierarchy, |config| match hook {
            Hook::With => config["hooks"]["prestart"][0]["path"] = json!(program),
            Hook::Without => {
                if let Some(config) = config.as_object_mut() {
                    config.remove("hooks");
                }
            }
        })?;
        Ok(directory.to_string_lossy().into_owned())
    }

    /// `run` in the foreground until /bin/true has ended and nothing of the container is left. The floor
    /// takes part where the bundle has no hook, which it would not run.
    fn run(&self, bundle: &str, title: &str, hook: Hook) -> Result<Value> {
        eprintln!("bench: {title}");
        let mut floor = vec!["target/bench/floor".to_owned()];
        floor.extend(self.bundles[bundle].floor_arguments(&self.hierarchy)?);
        let mut directories = Vec::new();
        for runtime in &self.runtimes {
            directories.push(self.config(bundle, runtime, hook)?);
        }
        let mut entries = self.entries();
        if hook == Hook::Without {
            entries.push(Entry::new("floor"));
        }
        interleave(&mut entries, |index| match self.runtimes.get(index) {
            Some(runtime) => Self::call_alone(runtime, &["run", "--bundle", &directories[index], "bench"]),
            None => call(&floor),
        });
        if hook == Hook::Without {
            entries.rotate_right(1);
        }
        Ok(case(title, &entries))
    }

    /// `run` of docker.json in a scope that systemd makes.
    fn through_systemd(&self) -> Result<Value> {
        eprintln!("bench: {}", report::SYSTEMD_CASE);
        let mut directories = Vec::new();
        for runtime in &self.runtimes {
            let directory = self.bundles["docker"].write(runtime.name, &self.hierarchy, |config| {
                config["linux"]["cgroupsPath"] = json!(format!("system.slice:bench:{}", runtime.name));
                if let Some(config) = config.as_object_mut() {
                    config.remove("hooks");
                }
                // crun refuses Docker's deny rule of one device, which systemd has no words for,
                // and hands it the weight of zero, which means unset.
                let resources = &mut config["linux"]["resources"];
                if let Some(rules) = resources["devices"].as_array_mut() {
                    rules.retain(|rule| rule["allow"] == true || rule.get("major").is_none());
                }
                if let Some(resources) = resources.as_object_mut() {
                    resources.remove("blockIO");
                }
            })?;
            directories.push(directory.to_string_lossy().into_owned());
        }
        let mut entries = self.entries();
        interleave(&mut entries, |index| {
            let arguments = ["--systemd-cgroup", "run", "--bundle", &directories[index], "bench"];
            Self::call_alone(&self.runtimes[index], &arguments)
        });
        Ok(case(report::SYSTEMD_CASE, &entries))
    }

    /// create, start and delete of docker.json, each timed, with a pause before delete in which /bin/true ends.
    fn lifecycle(&self) -> Result<Value> {
        let title = "create + start + delete of docker.json";
        eprintln!("bench: {title}");
        let mut directories = Vec::new();
        for runtime in &self.runtimes {
            directories.push(self.config("docker", runtime, Hook::Without)?);
        }
        let mut entries = self.entries();
        interleave(&mut entries, |index| {
            let sample = lifecycle(&self.runtimes[index], &directories[index]);
            if sample.is_err() {
                self.runtimes[index].forget("bench")?;
            }
            sample
        });
        Ok(case(title, &entries))
    }

    /// `state` of a container that waits for its start.
    fn state(&self) -> Result<Value> {
        let title = "state";
        eprintln!("bench: {title}");
        let mut entries = self.entries();
        for (runtime, entry) in self.runtimes.iter().zip(&mut entries) {
            let directory = self.config("docker", runtime, Hook::Without)?;
            if let Err(error) = call(&runtime.command(&["create", "--bundle", &directory, "bench"])) {
                entry.drop_out(&error.context("create"));
            }
        }
        interleave(&mut entries, |index| call(&self.runtimes[index].command(&["state", "bench"])));
        for runtime in &self.runtimes {
            runtime.forget("bench")?;
        }
        Ok(case(title, &entries))
    }

    /// Starts docker.json's container with a program that waits, for each runtime; why not, where it fails.
    fn start_all(&self, entries: &mut [Entry]) -> Result<()> {
        for (runtime, entry) in self.runtimes.iter().zip(entries) {
            let directory = self.bundles["docker"].write(runtime.name, &self.hierarchy, |config| {
                config["process"]["args"] = json!(["/bin/pause"]);
                if let Some(config) = config.as_object_mut() {
                    config.remove("hooks");
                }
            })?;
            let directory = directory.to_string_lossy().into_owned();
            let started = call(&runtime.command(&["create", "--bundle", &directory, "bench"]))
                .and_then(|_| call(&runtime.command(&["start", "bench"])));
            if let Err(error) = started {
                entry.drop_out(&error.context("start"));
            }
        }
        Ok(())
    }

    /// `exec` of /bin/true in a container that runs.
    fn exec(&self) -> Result<Value> {
        eprintln!("bench: {}", report::EXEC_CASE);
        let mut entries = self.entries();
        self.start_all(&mut entries)?;
        interleave(&mut entries, |index| {
            call(&self.runtimes[index].command(&["exec", "bench", "/bin/true"]))
        });
        for runtime in &self.runtimes {
            runtime.forget("bench")?;
        }
        Ok(case(report::EXEC_CASE, &entries))
    }

    /// Processor time that many execs need, as the probes of an orchestrator make them.
    fn exec_cpu(&self) -> Result<Value> {
        let count = EXECS_PER_ROUND * rounds();
        eprintln!("bench: processor time of {count} execs");
        let mut entries = self.entries();
        self.start_all(&mut entries)?;
        let mut seconds = serde_json::Map::new();
        for (runtime, entry) in self.runtimes.iter().zip(&entries) {
            let mut total = 0.0;
            let mut failed = entry.failures.first().cloned();
            for _ in 0..count {
                if failed.is_some() {
                    break;
                }
                match call(&runtime.command(&["exec", "bench", "/bin/true"])) {
                    Ok(sample) => total += sample.cpu_milliseconds,
                    Err(error) => failed = Some(format!("{error:#}")),
                }
            }
            let value = failed.map_or_else(|| json!(total / 1e3), |reason| json!({ "failed": reason }));
            seconds.insert(runtime.name.to_owned(), value);
            runtime.forget("bench")?;
        }
        Ok(json!({ "execs": count, "seconds": seconds }))
    }

    /// System calls of one `run` of docker.json by all processes that take part.
    fn system_calls(&self) -> Result<Value> {
        eprintln!("bench: system calls");
        let mut counts = serde_json::Map::new();
        let mut floor = vec!["target/bench/floor".to_owned()];
        floor.extend(self.bundles["docker"].floor_arguments(&self.hierarchy)?);
        counts.insert("floor".to_owned(), count_system_calls(&floor).map_or_else(failure, Value::from));
        for runtime in &self.runtimes {
            let directory = self.config("docker", runtime, Hook::Without)?;
            let count = count_system_calls(&runtime.command(&["run", "--bundle", &directory, "bench"]));
            if count.is_err() {
                runtime.forget("bench")?;
            }
            counts.insert(runtime.name.to_owned(), count.map_or_else(failure, Value::from));
        }
        Ok(Value::Object(counts))
    }

    /// The smallest `linux.resources.memory.limit`, in KiB, under which `run` of docker.json works three times
    /// in a row; null where the layout has no memory controller.
    fn smallest_limits(&self) -> Result<Value> {
        if !self.hierarchy.has("memory") {
            return Ok(Value::Null);
        }
        eprintln!("bench: smallest memory limit");
        let mut limits = serde_json::Map::new();
        for runtime in &self.runtimes {
            let limit = self.smallest_limit(runtime)?;
            limits.insert(runtime.name.to_owned(), limit.map_or_else(failure, Value::from));
        }
        Ok(Value::Object(limits))
    }

    fn smallest_limit(&self, runtime: &Runtime) -> Result<Result<u64>> {
        let (mut fails, mut works) = (0, LIMIT_START);
        if let Err(error) = self.runs_within(runtime, works)? {
            return Ok(Err(error));
        }
        while works - fails > LIMIT_STEP {
            let middle = (fails + works) / 2;
            match self.runs_within(runtime, middle)? {
                Ok(()) => works = middle,
                Err(_) => fails = middle,
            }
        }
        Ok(Ok(works >> 10))
    }

    fn runs_within(&self, runtime: &Runtime, limit: u64) -> Result<Result<()>> {
        self.config("docker", runtime, Hook::Without)?;
        let directory = self.bundles["docker"].write(runtime.name, &self.hierarchy, |config| {
            config["linux"]["resources"]["memory"] = json!({ "limit": limit });
            if let Some(config) = config.as_object_mut() {
                config.remove("hooks");
            }
        })?;
        for _ in 0..3 {
            let sample = call_within(
                LIMIT_SECONDS,
                &runtime.command(&["run", "--bundle", &directory.to_string_lossy(), "bench"]),
            );
            if let Err(error) = sample {
                runtime.forget("bench")?;
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Medians of the floor's own steps on docker.json, in microseconds, in their order.
    fn floor_steps(&self) -> Result<Value> {
        let mut steps: Vec<(String, Vec<f64>)> = Vec::new();
        for _ in 0..rounds() {
            let output = Command::new("target/bench/floor")
                .arg("--steps")
                .args(self.bundles["docker"].floor_arguments(&self.hierarchy)?)
                .output()?;
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                let Some((name, microseconds)) = line.split_once('\t') else { continue };
                let microseconds =
                    microseconds.parse().with_context(|| format!("floor --steps printed {line:?}"))?;
                match steps.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) => values.push(microseconds),
                    None => steps.push((name.to_owned(), vec![microseconds])),
                }
            }
        }
        let medians = steps
            .iter_mut()
            .map(|(name, values)| json!({ "step": name, "median": report::quantile(values, 0.5) }));
        Ok(medians.collect())
    }
}

fn lifecycle(runtime: &Runtime, directory: &str) -> Result<Sample> {
    let create = call(&runtime.command(&["create", "--bundle", directory, "bench"])).context("create")?;
    let start = call(&runtime.command(&["start", "bench"])).context("start")?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    let delete = call(&runtime.command(&["delete", "bench"])).context("delete")?;
    Ok(Sample {
        milliseconds: create.milliseconds + start.milliseconds + delete.milliseconds,
        maxrss_kib: create.maxrss_kib.max(start.maxrss_kib).max(delete.maxrss_kib),
        cpu_milliseconds: create.cpu_milliseconds + start.cpu_milliseconds + delete.cpu_milliseconds,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_or_else wants")]
fn failure(error: anyhow::Error) -> Value {
    json!({ "failed": format!("{error:#}") })
}

fn case(title: &str, entries: &[Entry]) -> Value {
    let results: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut times: Vec<f64> = entry.samples.iter().map(|sample| sample.milliseconds).collect();
            let raw = times.clone();
            json!({
                "runtime": entry.name,
                "median_ms": report::quantile(&mut times, 0.5),
                "p90_ms": report::quantile(&mut times, 0.9),
                "min_ms": report::quantile(&mut times, 0.0),
                "peak_rss_kib": entry.samples.iter().map(|sample| sample.maxrss_kib).max(),
                "samples_ms": raw,
                "failures": entry.failures,
            })
        })
        .collect();
    json!({ "case": title, "results": results })
}
