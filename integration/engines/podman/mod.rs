//! Podman, as root and as an ordinary user: conmon starts the runtime, keeps the container's streams and learns of
//! its end.
//!
//! Storage, state and locks are in the site's directory; the storage driver copies, so that it works where overlayfs
//! cannot be stacked. There is no daemon to start.

mod builds;
mod life;
mod options;
mod rootless;
mod sharing;
mod system;

use crate::cgroups::{PodmansParent, by_systemd};
use crate::image;
use crate::site::{Bounded, Done, Engine, Runtime, Scenario, Site, may_exceed_limits};
use crate::user::User;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use rootless::Rootless;

/// Podman's commands, of root or of a user.
pub struct Podman {
    pub site: Site,
    pub user: Option<User>,
    /// The directory of its storage, and where a container's volumes can be made.
    pub home: PathBuf,
    /// `--runroot`, which Podman wants to be short.
    state: PathBuf,
    parent: PodmansParent,
}

impl Engine for Podman {
    const NAME: &'static str = "podman";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "both streams and the exit status", run: life::streams },
        Scenario { name: "standard input", run: life::input },
        Scenario { name: "a terminal", run: life::terminal },
        Scenario { name: "a missing command is 127, an unusable one 126", run: life::missing },
        Scenario { name: "run --detach, exec, top, logs, inspect, stop", run: life::background },
        Scenario { name: "exec with a terminal and as another user", run: life::exec_options },
        Scenario { name: "kill, wait", run: life::kill },
        Scenario { name: "pause, unpause", run: life::pause },
        Scenario { name: "stats", run: life::stats },
        Scenario { name: "create, start --attach, restart", run: life::create },
        Scenario { name: "--restart=on-failure", run: life::restart_policy },
        Scenario { name: "--rm leaves no container", run: life::remove },
        Scenario { name: "cp into and out of a running container", run: life::copy },
        Scenario { name: "healthcheck", run: life::healthcheck },
        Scenario { name: "hooks of --hooks-dir", run: life::hooks },
        Scenario { name: "runtime by path, and by name from containers.conf", run: life::runtime_by_path },
        Scenario { name: "container checkpoint, restore", run: life::checkpoint },
        Scenario { name: "--read-only, --tmpfs", run: options::read_only },
        Scenario { name: "-v ro, U, z, and propagation", run: options::volumes },
        Scenario { name: "-v idmap in a user namespace", run: options::idmapped_volume },
        Scenario { name: "--device, --device-cgroup-rule", run: options::devices },
        Scenario { name: "--ulimit, --sysctl", run: options::limits_of_processes },
        Scenario { name: "--cap-add, --cap-drop", run: options::capabilities },
        Scenario { name: "--security-opt no-new-privileges", run: options::no_new_privileges },
        Scenario { name: "--security-opt seccomp", run: options::seccomp },
        Scenario { name: "--security-opt mask, unmask", run: options::masks },
        Scenario { name: "--security-opt apparmor", run: options::apparmor },
        Scenario { name: "--privileged", run: options::privileged },
        Scenario { name: "--init", run: options::init },
        Scenario { name: "--user, --workdir, --env, --hostname", run: options::process },
        Scenario { name: "--memory, --cpus, --pids-limit in the cgroup's files", run: options::resources },
        Scenario { name: "out of memory kills the process", run: options::out_of_memory },
        Scenario { name: "--cgroups=no-conmon", run: options::cgroups_without_conmon },
        Scenario { name: "--cgroups=disabled", run: options::cgroups_disabled },
        Scenario { name: "--cgroups=split", run: options::cgroups_split },
        Scenario { name: "--cgroupns=private", run: options::cgroup_namespace },
        Scenario { name: "--secret", run: options::secret },
        Scenario { name: "--uidmap, --gidmap", run: sharing::id_maps },
        Scenario { name: "--userns=auto", run: sharing::automatic_user_namespace },
        Scenario {
            name: "--pid, --ipc, --network, --uts of a container or the host",
            run: sharing::namespaces,
        },
        Scenario { name: "a pod shares its namespaces", run: sharing::pod },
        Scenario { name: "a pod with one pid namespace", run: sharing::pod_with_pids },
        Scenario { name: "play kube", run: sharing::kube },
        Scenario { name: "--systemd: mounts, cgroup, stop signal", run: system::mounts },
        Scenario { name: "systemd starts and stops in a container", run: system::boots },
        Scenario { name: "build", run: builds::podman },
        Scenario { name: "commit", run: builds::commit },
        Scenario { name: "buildah bud", run: builds::bud },
        Scenario { name: "buildah run", run: builds::run },
        Scenario { name: "buildah run with volumes, capabilities and a user", run: builds::run_options },
    ];

    fn start(runtime: &Runtime) -> Self {
        let site = Site::new(Self::NAME, runtime);
        let home = site.directory.clone();
        Self::prepare(site, None, home)
    }

    fn stop(self) {
        self.podman(&["rm", "--all", "--force", "--time=0"]).ok();
        self.podman(&["pod", "rm", "--all", "--force", "--time=0"]).ok();
        self.finish();
    }
}

impl Podman {
    fn prepare(site: Site, user: Option<User>, home: PathBuf) -> Self {
        let parent = PodmansParent::before();
        let state = site.path("run");
        fs::create_dir(&state).expect("a directory");
        let podman = Self { site, user, home, state, parent };
        podman.give(&podman.state);
        podman.configure();
        let archive = image::archive(&podman.site.directory);
        podman.podman(&["load", "--input", archive.to_str().expect("UTF-8")]).ok();
        podman
    }

    /// The lines of docs/engines.md, which has a test of its own; no lock in /dev/shm that outlives the test; and
    /// limits that can be set without CAP_SYS_RESOURCE, where that is missing.
    fn configure(&self) {
        let Runtime { name, path } = &self.site.runtime;
        let supports = if name == "berth" { "runtime_supports_nocgroup = [\"berth\"]\n" } else { "" };
        let limits = limits_of_processes();
        let text = format!(
            "[containers]\n{limits}\
             [engine]\nruntime = {name:?}\nlock_type = \"file\"\nruntime_supports_json = [{name:?}]\n{supports}\
             [engine.runtimes]\n{name} = [{path:?}]\n"
        );
        fs::write(self.site.path("containers.conf"), text).expect("containers.conf");
    }

    /// The storage of Podman and of Buildah, which is the same.
    fn storage(&self) -> Vec<String> {
        let root = self.home.join("root");
        let path = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            "--root".into(),
            path(&root),
            "--runroot".into(),
            path(&self.state),
            "--storage-driver".into(),
            "vfs".into(),
        ]
    }

    /// A command with the engine's environment, of the user where there is one.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.user {
            Some(user) => user.command(program),
            None => Command::new(program),
        };
        // conmon writes a file of the name "oom" where it was started.
        command.current_dir(&self.site.directory);
        command.env("CONTAINERS_CONF", self.site.path("containers.conf"));
        // A newer CRIU than Debian's, where integration/dependencies has unpacked one.
        let newer = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criu");
        let path = std::env::var("PATH").expect("PATH");
        command.env("PATH", format!("{}:{path}", newer.display()));
        command
    }

    /// `podman ARGS`, not yet started.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = self.command("podman");
        command.args(self.storage()).arg("--tmpdir").arg(self.state.join("libpod"));
        command.arg("--network-config-dir").arg(self.home.join("networks"));
        if !by_systemd() {
            command.args(["--cgroup-manager", "cgroupfs"]);
        }
        command.args(["--events-backend", "file"]).args(args);
        command
    }

    pub fn podman(&self, args: &[&str]) -> Done {
        self.client(args).done()
    }

    /// `podman run --rm --network none FLAGS` with a shell script, the flags in one text.
    pub fn run(&self, flags: &str, script: &str) -> Done {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags.split_whitespace());
        args.extend([image::NAME, "sh", "-c", script]);
        self.podman(&args)
    }

    /// A container in the background that runs a shell script; it is removed by [`Podman::remove`].
    #[track_caller]
    pub fn up(&self, name: &str, flags: &str, script: &str) {
        let mut args = vec!["run", "--detach", "--name", name, "--network", "none"];
        args.extend(flags.split_whitespace());
        args.extend([image::NAME, "sh", "-c", script]);
        self.podman(&args).ok();
    }

    /// What `podman exec` prints.
    #[track_caller]
    pub fn exec(&self, name: &str, script: &str) -> String {
        self.podman(&["exec", name, "sh", "-c", script]).ok()
    }

    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.podman(&["inspect", "--type", "container", "--format", template, name]).ok()
    }

    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.podman(&["rm", "--force", "--time=0", name]).ok();
    }

    pub fn buildah(&self, args: &[&str]) -> Done {
        let mut command = self.command("buildah");
        command.args(self.storage()).args(args);
        command.env("BUILDAH_RUNTIME", &self.site.runtime.path).env("BUILDAH_ISOLATION", "oci");
        command.done()
    }

    /// A file or directory that the engine's user owns.
    pub fn give(&self, path: &Path) {
        if self.user.is_some() {
            chown(path, Some(crate::user::ID), Some(crate::user::ID)).expect("its owner");
        }
    }

    /// A new directory beside the storage.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir(&path).expect("a directory");
        self.give(&path);
        path
    }

    /// What is left of the engine itself.
    fn finish(mut self) {
        if let Some(user) = &mut self.user {
            user.stop();
        }
        self.parent.remove();
        self.site.remove();
    }
}

/// Lines of `[containers]`: Podman's own limits are beyond what a machine without CAP_SYS_RESOURCE grants, or one that
/// keeps the controller of pids on cgroup v1.
pub fn limits_of_processes() -> String {
    let ulimits = "default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n";
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let lacks_pids = controllers.is_ok_and(|names| !names.split_whitespace().any(|name| name == "pids"));
    let lines = [(!may_exceed_limits(), ulimits), (lacks_pids, "pids_limit = 0\n")];
    lines.iter().filter(|(applies, _)| *applies).map(|(_, line)| *line).collect()
}
