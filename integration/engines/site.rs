//! Where an engine lives during the tests: a directory of its own, and commands with a time limit.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A runtime under comparison: the name in an engine's configuration and its absolute path.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub name: String,
    pub path: PathBuf,
}

impl Runtime {
    pub fn new(name: &str, path: &str) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|error| format!("the runtime {path}: {error}\n"))?;
        if !path.is_file() {
            return Err(format!("no runtime at {}\n", path.display()));
        }
        Ok(Self { name: name.to_owned(), path })
    }
}

/// A running engine, and what is tried with it. `start` and each scenario panic where something is not as it
/// should be; `stop` must end all that was started, whatever the scenarios left.
pub trait Engine: Sized + 'static {
    const NAME: &'static str;
    const SCENARIOS: &'static [Scenario<Self>];
    fn start(runtime: &Runtime) -> Self;
    fn stop(self);
}

/// One row of the table.
pub struct Scenario<E> {
    /// What is seen, in words.
    pub name: &'static str,
    pub run: fn(&E),
}

/// A skip, told from a failure by its type.
pub struct Skip(pub String);

/// Skips the scenario, with a reason, where the condition does not hold.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            std::panic::resume_unwind(Box::new($crate::site::Skip(format!($($reason)+))));
        }
    };
}

/// A directory for one engine with one runtime. Short, for the length of a socket's path.
pub struct Site {
    pub directory: PathBuf,
    pub runtime: Runtime,
}

impl Site {
    /// `/var/tmp/berth-engines-PID/NAME-RUNTIME`: not below /tmp, which may be a small tmpfs.
    pub fn new(engine: &str, runtime: &Runtime) -> Self {
        let directory =
            PathBuf::from(format!("/var/tmp/berth-engines-{}/{engine}-{}", std::process::id(), runtime.name));
        fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        Self { directory, runtime: runtime.clone() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Removes the directory, after unmounting what a failure left in it.
    pub fn remove(&self) {
        for mount in crate::leftovers::mounts_below(&self.directory) {
            sh(&format!("umount -l {mount:?}"));
        }
        fs::remove_dir_all(&self.directory)
            .unwrap_or_else(|error| panic!("remove {}: {error}", self.directory.display()));
        if let Some(parent) = self.directory.parent()
            && fs::read_dir(parent).is_ok_and(|mut entries| entries.next().is_none())
        {
            fs::remove_dir(parent).unwrap_or_else(|error| panic!("remove {}: {error}", parent.display()));
        }
    }
}

/// `BERTH_TEST_SLOW`, by which every time limit is multiplied.
pub fn slow() -> u32 {
    std::env::var("BERTH_TEST_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// How many clients of an engine one machine bears at the same time.
pub fn at_once() -> usize {
    if slow() < 5 { 50 } else { 5 }
}

/// Whether we have CAP_SYS_RESOURCE: hard limits can be raised, and processes protected from the OOM killer.
pub fn may_exceed_limits() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let own = fs::read_to_string("/proc/self/status").expect("status").replace('\t', " ");
    crate::status::set(&own, "CapEff") & CAP_SYS_RESOURCE != 0
}

/// A PATH where CRIU is found: first where `integration/dependencies` puts one for kernels that are too new for
/// Debian's.
pub fn criu_path() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/criu");
    format!("{own}:{}", std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Done {
    pub line: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit code; a signal is shown as its negative number.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    /// Its standard output without the last newline, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{}", self.describe());
        self.stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code; {}", self.describe());
        self
    }

    pub fn describe(&self) -> String {
        format!(
            "{}: {}\nstdout: {}\nstderr: {}",
            self.line,
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Commands with a time limit. Their output goes to files: what a container holds open does not hold us.
pub trait Bounded {
    /// Within 60 seconds, on a slow machine more; killed and a panic after that.
    fn done(&mut self) -> Done;
    fn done_within(&mut self, limit: Duration) -> Done;
}

impl Bounded for Command {
    #[track_caller]
    fn done(&mut self) -> Done {
        self.done_within(Duration::from_secs(60))
    }

    #[track_caller]
    fn done_within(&mut self, limit: Duration) -> Done {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("berth-engines-{}-{number}", std::process::id()));
        let (stdout, stderr) = (base.with_extension("out"), base.with_extension("err"));
        let create = |path: &Path| {
            File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let line = format!("{self:?}");
        self.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let mut child = self.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let status = wait(&mut child, limit * slow());
        let take = |path: &Path| {
            let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            fs::remove_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            text.unwrap_or_default()
        };
        let (stdout, stderr) = (take(&stdout), take(&stderr));
        let Some(status) = status else {
            panic!("{line}: still running after {:?}\nstdout: {stdout}\nstderr: {stderr}", limit * slow());
        };
        Done { line, status, stdout, stderr }
    }
}

/// The status of a child, or `None` after it had to be killed.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("kill a child");
            child.wait().expect("wait for a killed child");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A shell command, for what is one line there; its output is not looked at.
pub fn sh(line: &str) -> Done {
    Command::new("sh").args(["-c", line]).done()
}

/// Waits up to 30 seconds, on a slow machine more, for a condition.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30) * slow();
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A daemon: started with its log in a file, ended by SIGTERM, by SIGKILL if it does not listen.
pub struct Daemon {
    child: Child,
    pub log: PathBuf,
}

impl Daemon {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().append(true).create(true).open(log).expect("the log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log")).stderr(file);
        let line = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Waits until it answers; panics with the end of its log where it ends before.
    #[track_caller]
    pub fn await_ready(&mut self, mut answers: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60) * slow();
        while !answers() {
            let ended = self.child.try_wait().expect("wait for a daemon");
            assert!(ended.is_none(), "it ended at once: {}", self.tail());
            assert!(Instant::now() < deadline, "it does not answer: {}", self.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub fn stop(&mut self) {
        if self.child.try_wait().expect("wait for a daemon").is_some() {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("SIGTERM to a daemon");
        if wait(&mut self.child, Duration::from_secs(30) * slow()).is_none() {
            panic!("{pid} had to be killed: {}", self.tail());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            self.child.wait().expect("wait for a killed daemon");
        }
    }
}
