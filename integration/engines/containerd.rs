//! containerd with its own client `ctr`, which drives the runc v2 shim as nerdctl and the CRI plugin do.

mod flags;
mod tasks;

use crate::cgroups::{self, Parent};
use crate::image;
use crate::site::{Bounded, Daemon, Done, Engine, Runtime, Scenario, Site, criu_path, eventually};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Containerd {
    site: Site,
    /// containerd's, which is also the name of the cgroup above all containers of this run.
    namespace: String,
    parent: Parent,
    /// The directories of FIFOs that were there before.
    fifos: Vec<PathBuf>,
    daemon: RefCell<Daemon>,
}

impl Engine for Containerd {
    const NAME: &'static str = "containerd";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "both streams and the exit status", run: flags::streams },
        Scenario { name: "a terminal", run: flags::terminal },
        Scenario { name: "a missing command is named", run: flags::missing },
        Scenario { name: "--rm leaves nothing", run: flags::removed },
        Scenario { name: "--memory-limit, --cpus, --cpu-shares", run: flags::limits },
        Scenario { name: "--cpu-quota, --cpu-period, --cgroup", run: flags::quota },
        Scenario { name: "--env, --env-file, --cwd", run: flags::environment },
        Scenario { name: "--read-only", run: flags::read_only },
        Scenario { name: "--mount, writable and read-only", run: flags::mounts },
        Scenario { name: "--rootfs-propagation", run: flags::propagation },
        Scenario { name: "--device", run: flags::device },
        Scenario { name: "--privileged", run: flags::privileged },
        Scenario { name: "--cap-add, --cap-drop", run: flags::capabilities },
        Scenario { name: "--allow-new-privs", run: flags::new_privileges },
        Scenario { name: "--seccomp, the default and a profile", run: flags::seccomp },
        Scenario { name: "--apparmor-default-profile", run: flags::apparmor },
        Scenario { name: "--with-ns", run: flags::joined_namespaces },
        Scenario { name: "--net-host", run: flags::host_network },
        Scenario { name: "--uidmap, --gidmap", run: flags::user_namespace },
        Scenario { name: "--config: user, host name, sysctl, rlimit", run: flags::config },
        Scenario { name: "--rootfs, --annotation", run: flags::rootfs },
        Scenario { name: "--pid-file, --log-uri, --null-io", run: flags::files },
        Scenario { name: "in the background until it is killed", run: tasks::background },
        Scenario { name: "kill with SIGTERM that is handled, --all", run: tasks::kill },
        Scenario { name: "attach to a running one", run: tasks::attach },
        Scenario { name: "exec: exit status, --cwd, --user", run: tasks::exec },
        Scenario { name: "exec with a terminal", run: tasks::exec_terminal },
        Scenario { name: "exec --detach, then kill --exec-id", run: tasks::exec_detached },
        Scenario { name: "pause and resume", run: tasks::pause },
        Scenario { name: "ps and metrics", run: tasks::figures },
        Scenario { name: "events: start, oom, exit", run: tasks::events },
        Scenario { name: "checkpoint, then restored from the image", run: tasks::checkpoint },
        Scenario { name: "50 at once", run: tasks::fifty },
        Scenario { name: "containerd restarted under running ones", run: tasks::restart },
    ];

    fn start(runtime: &Runtime) -> Self {
        let site = Site::new(Self::NAME, runtime);
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = {:?}\n",
            site.path("root"),
            site.path("state"),
            site.path("sock"),
        );
        fs::write(site.path("config.toml"), config).expect("config.toml");
        let namespace = format!("berth-test-{}", std::process::id());
        let daemon = RefCell::new(launch(&site));
        let parent = Parent::new(&namespace);
        let engine = Self { site, namespace, parent, fifos: entries(FIFOS), daemon };
        engine.await_ready();
        let archive = image::archive(&engine.site.directory);
        engine.ctr(&["image", "import", archive.to_str().expect("UTF-8")]).ok();
        engine
    }

    fn stop(self) {
        for id in self.ctr(&["task", "list", "--quiet"]).ok().lines() {
            self.ctr(&["task", "delete", "--force", id]);
        }
        self.daemon.borrow_mut().stop();
        // ctr leaves the FIFOs of what it restored or could not execute, and the shim the directory of a
        // restored container's state, which is not where --runc-root says.
        for left in entries(FIFOS).iter().filter(|path| !self.fifos.contains(path)) {
            fs::remove_dir_all(left).unwrap_or_else(|error| panic!("{}: {error}", left.display()));
        }
        let state = Path::new("/run/containerd/runc").join(&self.namespace);
        if state.exists() {
            fs::remove_dir(&state).unwrap_or_else(|error| panic!("{}: {error}", state.display()));
        }
        self.parent.remove();
        self.site.remove();
    }
}

/// Where ctr puts the FIFOs of its tasks.
const FIFOS: &str = "/run/containerd/fifo";

fn entries(directory: &str) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// containerd, which hands its PATH on to the shims and so to the runtime: CRIU is looked for there.
pub fn launch(site: &Site) -> Daemon {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(site.path("config.toml")).env("PATH", criu_path());
    Daemon::start(&mut command, &site.path("containerd.log"))
}

/// What ctr names the scopes of containers, which engines prefix with their own names.
const PREFIX: &str = "berth-test";

impl Containerd {
    fn await_ready(&self) {
        self.daemon.borrow_mut().await_ready(|| self.ctr(&["version"]).status.success());
    }

    /// The directory of the runtime's state (`--runc-root`).
    fn state(&self) -> PathBuf {
        self.site.path("runtime")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.site.path("sock"))
            .args(["--namespace", &self.namespace])
            .args(args);
        // The native snapshotter copies: it works wherever this runs, also where overlayfs cannot be stacked.
        command.env("CONTAINERD_SNAPSHOTTER", "native");
        command
    }

    fn ctr(&self, args: &[&str]) -> Done {
        self.command(args).done()
    }

    /// `ctr run` with the runtime under test.
    fn run_command(&self, flags: &[&str], id: &str, args: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        self.choose_runtime(&mut command);
        if cgroups::by_systemd() && !flags.contains(&"--cgroup") {
            command.arg("--cgroup").arg(self.cgroups_path(id));
        }
        // Who brings a root file system names it instead of the image.
        let image = if flags.contains(&"--rootfs") { &[][..] } else { &[image::NAME] };
        command.args(flags).args(image).arg(id).args(args);
        command
    }

    /// The flags of `ctr run` for the runtime under test and its cgroup driver.
    fn choose_runtime(&self, command: &mut Command) {
        command.arg("--runc-binary").arg(&self.site.runtime.path).arg("--runc-root").arg(self.state());
        if cgroups::by_systemd() {
            command.arg("--runc-systemd-cgroup");
        }
    }

    /// `linux.cgroupsPath`, which is ctr's own where the runtime makes the cgroup.
    fn cgroups_path(&self, id: &str) -> String {
        let parent = self.parent.word();
        if cgroups::by_systemd() { format!("{parent}:{PREFIX}:{id}") } else { format!("{parent}/{id}") }
    }

    /// A file of a container's cgroup.
    #[track_caller]
    fn cgroup(&self, id: &str, controller: &str, v1: &str, v2: &str) -> String {
        cgroups::file(&self.parent.container(PREFIX, id), controller, v1, v2)
    }

    fn run(&self, flags: &[&str], id: &str, args: &[&str]) -> Done {
        self.run_command(flags, id, args).done()
    }

    /// What a shell script prints in a container of these flags; it must succeed.
    #[track_caller]
    fn prints(&self, flags: &[&str], id: &str, script: &str) -> String {
        let flags = [&["--rm"], flags].concat();
        self.run(&flags, id, &["sh", "-c", script]).ok()
    }

    /// The container in the background, running; its pid.
    #[track_caller]
    fn begin(&self, flags: &[&str], id: &str, args: &[&str]) -> i32 {
        let flags = [&["--detach"], flags].concat();
        self.run(&flags, id, args).ok();
        let (pid, status) = self.task(id).unwrap_or_else(|| panic!("{id}: no task"));
        assert_eq!(status, "RUNNING", "{id}");
        pid
    }

    /// Pid and status of a task.
    #[track_caller]
    fn task(&self, id: &str) -> Option<(i32, String)> {
        let list = self.ctr(&["task", "list"]).ok();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id))?;
        let mut words = line.split_whitespace().skip(1);
        let pid = words.next()?.parse().ok()?;
        Some((pid, words.next()?.to_owned()))
    }

    #[track_caller]
    fn await_stopped(&self, id: &str) {
        eventually(&format!("{id} has stopped"), || {
            self.task(id).is_none_or(|(_, status)| status == "STOPPED")
        });
    }

    /// What `ctr task exec` prints; it must succeed.
    #[track_caller]
    fn exec(&self, id: &str, script: &str) -> String {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let name = format!("exec-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.ctr(&["task", "exec", "--exec-id", &name, id, "sh", "-c", script]).ok()
    }

    /// Kills it, deletes task and container; afterwards nothing of it may be left.
    #[track_caller]
    fn end(&self, id: &str) {
        self.ctr(&["task", "kill", "--signal", "KILL", id]).ok();
        self.await_stopped(id);
        self.delete(id);
    }

    /// Deletes a stopped one; nothing of it may be left.
    #[track_caller]
    fn delete(&self, id: &str) {
        // The task's exit code is what ctr itself exits with.
        let done = self.ctr(&["task", "delete", id]);
        assert!(!done.stderr.contains("rpc error"), "{}", done.describe());
        self.ctr(&["container", "delete", id]).ok();
        self.nothing_left(id);
    }

    /// No state of the runtime, no cgroup, no mount.
    #[track_caller]
    fn nothing_left(&self, id: &str) {
        let state = self.state().join(&self.namespace).join(id);
        assert!(!state.exists(), "state is left: {}", state.display());
        for root in cgroups::roots() {
            let path = root.join(self.parent.container(PREFIX, id));
            assert!(!path.exists(), "a cgroup is left: {}", path.display());
        }
        let mounts = crate::leftovers::mounts_below(&self.site.path("state"));
        let left: Vec<_> =
            mounts.iter().filter(|path| path.components().any(|part| part.as_os_str() == id)).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
    }

    /// A command line on a terminal of its own, made by script(1), and what is typed there after a while.
    fn on_terminal(&self, command: &Command, typed: &str) -> Done {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted: Vec<String> =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))).collect();
        let line = format!("CONTAINERD_SNAPSHOTTER=native {}", quoted.join(" "));
        // The words wait until the container has a terminal to read them from.
        let script = "{ sleep 2; printf '%s' \"$TYPED\"; sleep 1; } | script --quiet --return --command \"$LINE\" /dev/null";
        Command::new("sh").args(["-c", script]).env("TYPED", typed).env("LINE", line).done()
    }
}
