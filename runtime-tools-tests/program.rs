//! One program of the suite against one runtime: in a process of its own with private mounts, so that neither
//! a runtime that mounts on the host nor a program that leaves its containers behind reaches further than here.

use crate::host;
use crate::tap::{self, End};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The mounts under which a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// The machine's own cgroups.
    Host,
    /// `/sys/fs/cgroup` is cgroup2 and nothing else.
    Cgroup2,
}

/// What is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub layout: Layout,
    pub runtime: PathBuf,
    pub program: String,
    /// Where [`crate`]'s build put the programs.
    pub built: PathBuf,
    /// A directory of the job's own: state, bundles, output.
    pub directory: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Against a pass; see [`tap::failures`].
    pub failures: Vec<String>,
    /// What was there after the program's end and before we removed it: the suite's own untidiness.
    pub left_by_suite: Vec<String>,
    /// What was still there after all containers were deleted by force.
    pub left_by_runtime: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// The job itself could not be done.
    pub fn broken(why: String) -> Self {
        Self { failures: vec![why], ..Self::default() }
    }
}

impl Job {
    /// Whether other programs use the same cgroup.
    pub fn shares_a_cgroup(&self) -> bool {
        ["linux_cgroups_", "delete_"].iter().any(|start| self.program.starts_with(start))
    }

    /// Runs it in a new process of this program.
    pub fn run(&self) -> Outcome {
        match self.try_run() {
            Ok(outcome) => outcome,
            Err(error) => Outcome::broken(format!("the runner: {error}")),
        }
    }

    fn try_run(&self) -> std::io::Result<Outcome> {
        fs::create_dir_all(&self.directory)?;
        let output = Command::new(std::env::current_exe()?)
            .args(["--job", &serde_json::to_string(self)?])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        // Nothing is mounted there in this mount namespace.
        fs::remove_dir_all(&self.directory)?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            std::io::Error::other(format!(
                "{}: {error}: {}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            ))
        })
    }

    /// In the process of its own.
    pub fn run_here(&self) -> std::io::Result<Outcome> {
        isolate(self.layout)?;
        for directory in ["state", "tmp"] {
            fs::create_dir(self.directory.join(directory))?;
        }
        self.write_wrapper()?;
        if self.shares_a_cgroup() {
            // What a run that was killed has left would be taken for this one's.
            remove_cgroups(&host::cgroups_named(&host::NAMED_CGROUPS.map(str::to_owned)));
        }
        let end = self.run_program()?;
        let text = |name| {
            fs::read(self.directory.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut outcome = Outcome {
            failures: tap::failures(end, &text("stdout")?, &text("stderr")?),
            ..Outcome::default()
        };
        self.tidy(&mut outcome)?;
        if !outcome.left_by_runtime.is_empty() {
            // The suite goes on when a `delete` of its own fails, and says so only here.
            let said = text("stderr")?;
            outcome.left_by_suite.extend(said.lines().map(|line| format!("stderr: {line}")));
        }
        Ok(outcome)
    }

    fn wrapper(&self) -> PathBuf {
        self.directory.join("runtime")
    }

    /// The runtime as the suite calls it: with a state directory of the job's own, and with a record of the ids.
    fn write_wrapper(&self) -> std::io::Result<()> {
        let own = self.directory.display();
        let script = format!(
            "#!/bin/sh\nfor id; do :; done\n[ \"$1\" != create ] || echo \"$id\" >>{own}/ids\nexec {} --root {own}/state \"$@\"\n",
            self.runtime.display()
        );
        fs::write(self.wrapper(), script)?;
        fs::set_permissions(self.wrapper(), fs::Permissions::from_mode(0o755))
    }

    fn run_program(&self) -> std::io::Result<End> {
        let child = Command::new(self.built.join("validation").join(&self.program))
            .current_dir(&self.built)
            .env("RUNTIME", self.wrapper())
            .env("TMPDIR", self.directory.join("tmp"))
            .stdin(Stdio::null())
            .stdout(self.new_file("stdout")?)
            .stderr(self.new_file("stderr")?)
            .process_group(0)
            .spawn()?;
        await_child(child, limit())
    }

    fn new_file(&self, name: &str) -> std::io::Result<File> {
        File::options().write(true).create_new(true).open(self.directory.join(name))
    }

    /// Deletes what the program did not, and says what is there before and after.
    fn tidy(&self, outcome: &mut Outcome) -> std::io::Result<()> {
        for id in self.containers() {
            outcome.left_by_suite.push(format!("container {id}"));
            let delete = Command::new(self.wrapper())
                .args(["delete", "--force", &id])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()?;
            match await_child(delete, Duration::from_secs(30))? {
                End::Status(0) => {}
                end => outcome.left_by_runtime.push(format!("delete --force {id}: {end:?}")),
            }
        }
        let mut left: Vec<String> = self.containers().iter().map(|id| format!("state of {id}")).collect();
        left.extend(processes_left().into_iter().map(|(pid, name)| format!("process {pid} {name}")));
        left.extend(host::mounts_below(&self.directory).into_iter().map(|point| format!("mount {point}")));
        let (own, others): (Vec<PathBuf>, Vec<PathBuf>) =
            host::cgroups_named(&self.names()?).into_iter().partition(|path| self.made_by_suite(path));
        outcome.left_by_suite.extend(own.iter().map(|path| format!("cgroup {}", path.display())));
        left.extend(others.iter().map(|path| format!("cgroup {}", path.display())));
        remove_cgroups(&others);
        remove_cgroups(&own);
        outcome.left_by_runtime.extend(left);
        Ok(())
    }

    /// The ids in the state directory; crun keeps a cache there too.
    fn containers(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory.join("state")) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// Names of cgroups that this job's containers may have had.
    fn names(&self) -> std::io::Result<Vec<String>> {
        let ids = match fs::read_to_string(self.directory.join("ids")) {
            Ok(ids) => ids,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let named = host::NAMED_CGROUPS.into_iter().filter(|_| self.shares_a_cgroup());
        Ok(ids.lines().filter(|id| id.contains('-')).chain(named).map(str::to_owned).collect())
    }

    /// This program makes a cgroup itself, to see that the runtime leaves it alone, and does not get it removed:
    /// it removes it as if it were a directory with files.
    fn made_by_suite(&self, cgroup: &Path) -> bool {
        self.program == "delete_only_create_resources" && cgroup.ends_with("pids/cgrouptest")
    }
}

/// A mount namespace from which nothing comes out, with the layout's cgroups; an IPC namespace, because the suite
/// removes bundles in which the host's message queues may be mounted; and orphans are this process's to wait for.
fn isolate(layout: Layout) -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    if layout == Layout::Cgroup2 {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH)?;
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
    }
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// What one program may take; `BERTH_TEST_SLOW` multiplies it as it does the integration suite's limits.
fn limit() -> Duration {
    let slow = std::env::var("BERTH_TEST_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(60) * slow
}

/// Kills the child's process group when the time is up.
fn await_child(mut child: Child, limit: Duration) -> std::io::Result<End> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Status(status.code().unwrap_or(-1)));
        }
        if Instant::now() > deadline {
            let group = Pid::from_raw(-i32::try_from(child.id()).map_err(std::io::Error::other)?);
            kill(group, Signal::SIGKILL)?;
            child.wait()?;
            return Ok(End::Timeout);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Descendants that do not end within two seconds; they are killed.
fn processes_left() -> Vec<(i32, String)> {
    let mut left = Vec::new();
    for _ in 0..200 {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        left = host::descendants();
        if left.is_empty() {
            return left;
        }
        thread::sleep(Duration::from_millis(10));
    }
    for (pid, name) in &left {
        if let Err(errno) = kill(Pid::from_raw(*pid), Signal::SIGKILL) {
            eprintln!("kill {pid} {name}: {errno}");
        }
    }
    left
}

/// Removes cgroups, after killing what is in them.
fn remove_cgroups(paths: &[PathBuf]) {
    for path in paths {
        for _ in 0..100 {
            for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Ok(pid) = pid.parse()
                    && let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGKILL)
                {
                    eprintln!("kill {pid}: {errno}");
                }
            }
            match fs::remove_dir(path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => break,
            }
        }
    }
}
