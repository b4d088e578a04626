//! Runs the program under test, with a timeout on everything.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// By how much a machine is slower than an ordinary one (`BERTH_TEST_SLOW`, at least 1): every timeout is multiplied by it.
pub fn slow() -> u32 {
    std::env::var("BERTH_TEST_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// How long one command may take.
pub fn patience() -> Duration {
    Duration::from_secs(10) * slow()
}

/// The program under test: `BERTH`, or what cargo built.
pub fn path() -> PathBuf {
    std::env::var_os("BERTH").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_berth")), PathBuf::from)
}

/// The directory that is this test's own; the runner made it.
pub fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os("BERTH_TEST_DIR").expect("BERTH_TEST_DIR is set by the runner"))
}

/// The state root of this test.
pub fn root() -> PathBuf {
    directory().join("run")
}

/// `berth --root ROOT ARGS`, standard input from /dev/null.
pub fn berth(args: &[&str]) -> Command {
    berth_in(&root(), args)
}

/// The same with another state root.
pub fn berth_in(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.arg("--root").arg(root).args(args).stdin(Stdio::null());
    command
}

/// How a command ended, and what it printed. Both streams are files: a container that holds them open does not hold us.
#[derive(Debug)]
pub struct Done {
    pub line: String,
    pub status: ExitStatus,
    pub stdout_file: PathBuf,
    pub stderr_file: PathBuf,
}

impl Done {
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout_file).expect("stdout")
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr_file).expect("stderr")
    }

    /// The exit code; a signal is shown as its negative number.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{}", self.describe());
        self
    }

    /// It failed with exit code 1 and one line that holds `words`.
    #[track_caller]
    pub fn fails(self, words: &str) -> Self {
        assert_eq!(self.code(), 1, "exit code; {}", self.describe());
        let stderr = self.stderr();
        assert!(stderr.contains(words), "stderr should hold {words:?}; {}", self.describe());
        self
    }

    /// It failed with this exit code and one line that holds `words`.
    #[track_caller]
    pub fn fails_with(self, code: i32, words: &str) -> Self {
        let done = self.exits(code);
        assert!(done.stderr().contains(words), "stderr should hold {words:?}; {}", done.describe());
        done
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code; {}", self.describe());
        self
    }

    pub fn describe(&self) -> String {
        let short: String = self.stdout().chars().take(400).collect();
        format!("{}: {}\nstdout: {short}\nstderr: {}", self.line, self.status, self.stderr())
    }
}

/// A command that was started, with its output in files. Killed when dropped.
pub struct Running {
    pub child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).expect("stdout")
    }

    /// Waits until the standard output satisfies the condition.
    #[track_caller]
    pub fn await_stdout(&self, what: &str) {
        let seen = await_condition(|| self.stdout().contains(what));
        assert!(seen, "{}: {what:?} did not come; stdout: {}", self.line, self.stdout());
    }

    #[track_caller]
    pub fn wait(self) -> Done {
        self.try_wait().unwrap_or_else(|text| panic!("{text}"))
    }

    /// The same without a panic, for what cleans up after one.
    pub fn try_wait(mut self) -> Result<Done, String> {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Ok(Done {
                    line: self.line.clone(),
                    status,
                    stdout_file: self.stdout.clone(),
                    stderr_file: self.stderr.clone(),
                });
            }
            if Instant::now() > deadline {
                let stderr = fs::read_to_string(&self.stderr).unwrap_or_default();
                let (line, stdout) = (&self.line, self.stdout());
                return Err(format!(
                    "{line}: still running after {:?}\nstdout: {stdout}\nstderr: {stderr}",
                    patience()
                ));
            }
            reap_orphans();
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            self.child.wait().expect("wait for a killed command");
        }
        COMMANDS.lock().expect("commands").remove(&self.child.id());
    }
}

/// The commands that are waited for by their handles; every other child is an orphan that came to us.
static COMMANDS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Waits for dead children that nobody else waits for: containers' processes come to the test when their
/// creator ends, as they come to a shim, and a pid namespace ends only when all of them are reaped.
pub fn reap_orphans() {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let known = COMMANDS.lock().expect("commands");
    while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = waitid(Id::All, look) {
        let mut dead = vec![pid];
        if known.contains(&pid.as_raw().cast_unsigned()) {
            // It hides the others from waitid(2).
            dead = super::host::zombies_of_this_process();
            dead.retain(|pid| !known.contains(&pid.as_raw().cast_unsigned()));
        }
        if dead.is_empty() {
            return;
        }
        for pid in dead {
            if let Err(errno) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                eprintln!("wait for {pid}: {errno}");
            }
        }
    }
}

/// Extension of a command: start or run it with output in files and a timeout.
pub trait Bounded {
    fn start(self) -> Running;
    fn done(self) -> Done;
}

impl Bounded for Command {
    #[track_caller]
    fn start(mut self) -> Running {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| directory().join(format!("{name}.{number}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let open = |path: &Path| File::options().append(true).create(true).open(path).expect("output file");
        let line = format!("{self:?}");
        self.stdout(open(&stdout)).stderr(open(&stderr));
        // Held from before it exists: another thread must not take it for an orphan.
        let mut commands = COMMANDS.lock().expect("commands");
        let spawned = self.spawn();
        if let Ok(child) = &spawned {
            commands.insert(child.id());
        }
        drop(commands);
        let child = spawned.unwrap_or_else(|error| panic!("{line}: {error}"));
        Running { child, line, stdout, stderr }
    }

    #[track_caller]
    fn done(self) -> Done {
        self.start().wait()
    }
}

/// Polls until the condition holds or patience ends; says which.
pub fn await_condition(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience();
    loop {
        if condition() {
            return true;
        }
        reap_orphans();
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
