//! Runs every test in a process of its own: a timeout can end it, its descriptors and children are its
//! own, and what it leaves behind is seen.

use super::{Skip, Test, host, program};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SKIPPED: u8 = 77;
const SKIP_MARK: &str = "skipped: ";
/// A line of a test that the runner shows although it passed.
pub const RESULT_MARK: &str = "result: ";

/// Reasons that are expected on some machines and no failure in strict mode. `BERTH_TEST_EXPECTED_SKIPS`
/// (separated by `;`) takes the place of this list.
const EXPECTED_SKIPS: [&str; 10] = [
    "no CAP_SYS_RESOURCE here",
    "not a controller of cgroup v2 here",
    "no controller",
    "no systemd runs here",
    "only on cgroup",
    "no AppArmor in this kernel",
    "no SELinux in this kernel",
    "CRIU works here",
    "the kernel cannot track changed memory",
    "CRIU's page server does not work on this kernel",
];

/// The files of the suite: name and tests.
pub type Files = &'static [(&'static str, &'static [Test])];

const HELP: &str = "\
integration [--layout host|cgroup2|all] [--jobs N] [--exact] [--list] [--without WORD]… [FILTER…]

  BERTH                      the program under test (default: what cargo built)
  BERTH_TEST_PAYLOAD         the static payload (default: what cargo built)
  BERTH_TEST_SLOW            factor for every timeout
  BERTH_TEST_STRICT=1        an unexpected skip fails
  BERTH_SOAK                 containers of each soak test (default 24)
  BERTH_TEST_EXPECTED_SKIPS  reasons that may skip in strict mode, separated by ;
";

struct Options {
    layout: String,
    jobs: usize,
    exact: bool,
    list: bool,
    filters: Vec<String>,
    /// Words of names that are left out, whatever the filters say.
    without: Vec<String>,
}

struct Job {
    layout: &'static str,
    name: String,
    alone: bool,
}

enum Outcome {
    /// What it has to say, if anything.
    Passed(String),
    Failed(String),
    Skipped(String),
}

/// The runner, or in the child one test.
pub fn main(files: Files) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, layout, name] = args.as_slice()
        && flag == "--child"
    {
        return child(files, layout, name);
    }
    let options = match parse(args) {
        Ok(options) => options,
        Err(text) => {
            print!("{text}");
            return ExitCode::from(u8::from(text != HELP));
        }
    };
    let jobs = select(files, &options);
    if options.list {
        for job in &jobs {
            println!("{} {}: test", job.layout, job.name);
        }
        return ExitCode::SUCCESS;
    }
    run_all(&jobs, options.jobs)
}

fn parse(args: Vec<String>) -> Result<Options, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let (filters, without) = (Vec::new(), Vec::new());
    let mut options = Options { layout: "all".into(), jobs, exact: false, list: false, filters, without };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n"));
        match arg.as_str() {
            "--layout" => options.layout = value()?,
            "--jobs" | "--test-threads" => {
                options.jobs = value()?.parse().map_err(|error| format!("{arg}: {error}\n"))?;
            }
            "--without" => options.without.push(value()?),
            "--exact" => options.exact = true,
            "--list" => options.list = true,
            "--help" | "-h" => return Err(HELP.to_owned()),
            // What cargo and libtest's users pass out of habit.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--show-output" => {}
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}\n{HELP}")),
            _ => options.filters.push(arg),
        }
    }
    if !["host", "cgroup2", "all"].contains(&options.layout.as_str()) {
        return Err(format!("unknown layout {}\n{HELP}", options.layout));
    }
    Ok(options)
}

/// Tests × layouts. A host that has only cgroup2 is itself the second layout.
fn select(files: Files, options: &Options) -> Vec<Job> {
    let layouts: Vec<&'static str> = match options.layout.as_str() {
        "host" => vec!["host"],
        "cgroup2" => vec!["cgroup2"],
        _ if host::is_v2() => vec!["host"],
        _ => vec!["host", "cgroup2"],
    };
    let mut jobs = Vec::new();
    for layout in layouts {
        for (file, tests) in files {
            for test in *tests {
                let name = format!("{file}::{}", test.name);
                let wanted = options.filters.is_empty()
                    || options
                        .filters
                        .iter()
                        .any(|filter| if options.exact { *filter == name } else { name.contains(filter) });
                let unwanted = options.without.iter().any(|word| name.contains(word));
                if wanted && !unwanted {
                    jobs.push(Job { layout, name, alone: test.alone });
                }
            }
        }
    }
    jobs
}

fn run_all(jobs: &[Job], workers: usize) -> ExitCode {
    let begun = Instant::now();
    let directory = PathBuf::from(format!("/tmp/berth-test-{}", std::process::id()));
    prepare(&directory);
    println!(
        "program {}, {} on {}, {} tests",
        program::path().display(),
        std::env::consts::ARCH,
        host::layout(),
        jobs.len()
    );
    let before = Leftovers::of(&directory);

    let results = Mutex::new(Vec::new());
    let (alone, together): (Vec<_>, Vec<_>) = jobs.iter().enumerate().partition(|(_, job)| job.alone);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some((number, job)) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run_one(&directory, *number, job);
                    results.lock().expect("results").push((*number, outcome));
                }
            });
        }
    });
    for (number, job) in alone {
        let outcome = run_one(&directory, number, job);
        results.lock().expect("results").push((number, outcome));
    }

    let leaks = before.compare(&directory);
    // Ours alone: another suite may be running beside this one.
    host::remove_cgroups(host::cgroups_with(&format!("/berth-test/{}-", std::process::id())));
    host::remove_empty_cgroups("berth-test");
    if let Err(error) = fs::remove_dir_all(&directory) {
        println!("remove {}: {error}", directory.display());
    }
    conclude(jobs, results.into_inner().expect("results"), &leaks, begun.elapsed())
}

fn prepare(directory: &Path) {
    fs::create_dir_all(directory).expect("the suite's directory");
    // The roots of user namespaces must reach their rootfs, but list nothing here.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).expect("mode of the suite's directory");
    let payload = directory.join("payload");
    let built =
        std::env::var_os("BERTH_TEST_PAYLOAD").unwrap_or_else(|| env!("CARGO_BIN_EXE_payload").into());
    fs::copy(&built, &payload).unwrap_or_else(|error| panic!("the payload {}: {error}", built.display()));
    fs::set_permissions(&payload, fs::Permissions::from_mode(0o755)).expect("mode of the payload");
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
}

fn run_one(directory: &Path, number: usize, job: &Job) -> Outcome {
    let begun = Instant::now();
    let own = directory.join(number.to_string());
    let outcome = match run_child(&own, job) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(format!("the test's process: {error}")),
    };
    let text = match &outcome {
        Outcome::Passed(result) => format!("ok{result}"),
        Outcome::Failed(_) => "FAILED".to_owned(),
        Outcome::Skipped(reason) => format!("{SKIP_MARK}{reason}"),
    };
    println!("test {} {} ... {text} ({:.2} s)", job.layout, job.name, begun.elapsed().as_secs_f64());
    outcome
}

fn run_child(own: &Path, job: &Job) -> std::io::Result<Outcome> {
    fs::create_dir(own)?;
    fs::set_permissions(own, fs::Permissions::from_mode(0o755))?;
    let log = own.join("log");
    let file = fs::File::options().create(true).append(true).open(&log)?;
    let spawning = TESTS.lock().expect("tests");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--child", job.layout, &job.name])
        .env("BERTH_TEST_DIR", own)
        .env("RUST_BACKTRACE", "0")
        .env("RUST_LIB_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let mut running = spawning;
    running.insert(i32::try_from(child.id()).unwrap_or(0));
    drop(running);
    let deadline = Instant::now() + Duration::from_secs(60) * program::slow();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    TESTS.lock().expect("tests").remove(&i32::try_from(child.id()).unwrap_or(0));
    let text = fs::read_to_string(&log)?;
    let swept = sweep_orphans() + &sweep(own);
    Ok(match status.map(|status| status.code()) {
        None => Outcome::Failed(format!("{text}timeout of the whole test")),
        Some(Some(0)) if swept.is_empty() => {
            let result = text.lines().rev().find_map(|line| line.strip_prefix(RESULT_MARK));
            Outcome::Passed(result.map_or_else(String::new, |text| format!(": {text}")))
        }
        Some(Some(77)) if swept.is_empty() => {
            let reason = text.lines().rev().find_map(|line| line.strip_prefix(SKIP_MARK));
            Outcome::Skipped(reason.unwrap_or("no reason").to_owned())
        }
        Some(_) => Outcome::Failed(format!("{text}{swept}")),
    })
}

/// The tests' own processes; another child of the runner came to it when its test was killed.
static TESTS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills processes that outlived their test; says which.
fn sweep_orphans() -> String {
    let tests = TESTS.lock().expect("tests");
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut left = String::new();
    for (pid, parent, name) in host::processes() {
        if parent == own && !tests.contains(&pid) {
            left += &format!("process left: {pid} {name}\n");
            host::kill_process(pid);
        }
    }
    for pid in host::zombies_of_this_process() {
        // A test that has just ended is waited for by its own thread.
        if !tests.contains(&pid.as_raw())
            && let Err(errno) = nix::sys::wait::waitpid(pid, None)
        {
            left += &format!("wait for {pid}: {errno}\n");
        }
    }
    left
}

/// Removes what a test left; says what that was.
fn sweep(own: &Path) -> String {
    let mut left = String::new();
    let tag = format!("{}-{}", std::process::id(), own.file_name().unwrap_or_default().to_string_lossy());
    let cgroups: Vec<PathBuf> =
        host::cgroups_with(&tag).into_iter().filter(|path| !is_parent(path, &tag)).collect();
    if !cgroups.is_empty() {
        left += &format!("cgroups left: {cgroups:?}\n");
        let stay = host::remove_cgroups(cgroups);
        left += &format!("cgroups that cannot be removed: {stay:?}\n");
    }
    host::remove_cgroups(host::cgroups_with(&tag));
    let mounts = host::mounts_below(own);
    if !mounts.is_empty() {
        left += &format!("mounts left: {mounts:?}\n");
        host::detach_mounts_below(own);
    }
    if host::mounts_below(own).is_empty()
        && let Err(error) = fs::remove_dir_all(own)
    {
        left += &format!("remove {}: {error}\n", own.display());
    }
    left
}

/// The harness's own parent directory of a test's cgroups, which the runtime made on the way.
fn is_parent(path: &Path, tag: &str) -> bool {
    path.ends_with(Path::new("berth-test").join(tag))
}

/// What may not grow over the run of the suite.
struct Leftovers {
    processes: BTreeSet<i32>,
    mounts: BTreeSet<String>,
    run: BTreeSet<PathBuf>,
    programs: usize,
}

impl Leftovers {
    fn of(directory: &Path) -> Self {
        let mark = directory.to_string_lossy().into_owned();
        let marked = host::processes().into_iter().map(|(pid, _, _)| pid).filter(|pid| {
            let text = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&mark);
            *pid != i32::try_from(std::process::id()).unwrap_or(0)
                && (holds(&text("environ")) || holds(&text("cmdline")))
        });
        let run =
            fs::read_dir("/run/berth").map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        Self {
            processes: marked.collect(),
            mounts: host::mounts()
                .into_iter()
                .map(|mount| mount.line)
                .filter(|line| line.contains(&mark))
                .collect(),
            run: run.unwrap_or_default(),
            programs: pinned_programs(),
        }
    }

    fn compare(&self, directory: &Path) -> Vec<String> {
        let now = Self::of(directory);
        let mut leaks = Vec::new();
        leaks.extend(now.processes.difference(&self.processes).map(|pid| format!("process {pid}")));
        leaks.extend(now.mounts.difference(&self.mounts).map(|line| format!("mount {line}")));
        leaks.extend(now.run.difference(&self.run).map(|path| format!("state {}", path.display())));
        if now.programs > self.programs {
            leaks.push(format!("pinned BPF programs: {} before, {} after", self.programs, now.programs));
        }
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        leaks.extend(host::descendants(own).into_iter().map(|(pid, name)| format!("process {pid} {name}")));
        leaks
    }
}

/// BPF programs outlive their cgroup only when they are pinned.
fn pinned_programs() -> usize {
    fs::read_dir("/sys/fs/bpf").map_or(0, Iterator::count)
}

fn conclude(jobs: &[Job], mut results: Vec<(usize, Outcome)>, leaks: &[String], took: Duration) -> ExitCode {
    let strict = std::env::var("BERTH_TEST_STRICT").is_ok_and(|value| value == "1");
    let listed = std::env::var("BERTH_TEST_EXPECTED_SKIPS").ok();
    let expected = |reason: &str| match &listed {
        Some(list) => list.split(';').any(|words| !words.is_empty() && reason.contains(words)),
        None => EXPECTED_SKIPS.iter().any(|words| reason.contains(words)),
    };
    results.sort_by_key(|(number, _)| *number);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (number, outcome) in &results {
        let job = &jobs[*number];
        match outcome {
            Outcome::Passed(_) => passed += 1,
            Outcome::Skipped(reason) if strict && !expected(reason) => {
                failed += 1;
                println!("\n---- {} {}\nan unexpected skip: {reason}", job.layout, job.name);
            }
            Outcome::Skipped(_) => skipped += 1,
            Outcome::Failed(text) => {
                failed += 1;
                println!("\n---- {} {}\n{}", job.layout, job.name, text.trim_end());
            }
        }
    }
    if !leaks.is_empty() {
        failed += 1;
        println!("\n---- leaks of the whole suite\n{}", leaks.join("\n"));
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed, {failed} failed, {skipped} skipped; finished in {:.1} s",
        took.as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}

/// One test, in this process.
fn child(files: Files, layout: &str, name: &str) -> ExitCode {
    let found = files.iter().find_map(|(file, tests)| {
        let own = name.strip_prefix(file)?.strip_prefix("::")?;
        tests.iter().find(|test| test.name == own)
    });
    let Some(test) = found else {
        println!("no test {name}");
        return ExitCode::FAILURE;
    };
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    if layout == "cgroup2"
        && let Err(errno) = mount_cgroup2()
    {
        println!("a private cgroup2 at /sys/fs/cgroup: {errno}");
        return ExitCode::FAILURE;
    }
    let result = catch_unwind(AssertUnwindSafe(test.run));
    let left = processes_left();
    match result {
        Ok(()) if left.is_empty() => left_in_state_root(),
        Ok(()) => {
            println!("processes left: {left:?}");
            ExitCode::FAILURE
        }
        Err(panic) => match panic.downcast::<Skip>() {
            Ok(skip) => {
                println!("{SKIP_MARK}{}", skip.0);
                ExitCode::from(SKIPPED)
            }
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// A private mount namespace in which the host looks as one with cgroup v2 alone.
fn mount_cgroup2() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>)
}

/// Descendants that still live after all containers of the test were deleted; they are killed.
fn processes_left() -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).expect("a pid");
    let mut left = Vec::new();
    for _ in 0..100 {
        program::reap_orphans();
        left = host::descendants(own);
        if left.is_empty() {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for (pid, _) in &left {
        host::kill_process(*pid);
    }
    left
}

fn left_in_state_root() -> ExitCode {
    let left: Vec<PathBuf> = fs::read_dir(program::root())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    if left.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("state left: {left:?}");
    ExitCode::FAILURE
}
