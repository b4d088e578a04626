//! Docker: dockerd with a containerd, a network namespace and a cgroup of its own, driven by the package's client.
//!
//! Three daemons: one that knows the runtime under test by `--add-runtime`, one whose daemon.json makes it the
//! default, and one that remaps its containers to the ids of an ordinary user.

mod build;
mod default;
mod errors;
mod exec;
mod files;
mod life;
mod network;
mod recording;
mod remapped;
mod resources;
mod restart;
mod rights;
mod sharing;
mod systemd;

pub use default::AsDefault;
pub use remapped::Remapped;

use crate::cgroups::{Parent, by_systemd, is_cgroup2};
use crate::image;
use crate::leftovers;
use crate::site::{Bounded, Daemon, Done, Engine, Runtime, Scenario, Site, sh, slow};
use crate::terminal::Terminal;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The package's client. Another one may come first in PATH.
const CLIENT: &str = "/usr/bin/docker";
/// What the daemon's configuration calls the runtime under test: the name runc is dockerd's own.
fn word(runtime: &Runtime) -> String {
    if runtime.name == "runc" { "the-runc".to_owned() } else { runtime.name.clone() }
}

/// `dockerd --add-runtime` with the runtime under test.
fn added(runtime: &Runtime) -> String {
    format!("--add-runtime={}={}", word(runtime), runtime.path.display())
}

/// A running dockerd.
pub struct Docker {
    site: Site,
    /// Its name for the runtime under test.
    word: String,
    /// Its namespaces are those of dockerd, which may be started anew in them.
    containerd: RefCell<Daemon>,
    dockerd: RefCell<Daemon>,
    /// The flags of `docker run` and `create` that name the runtime.
    named: Vec<String>,
    flags: Vec<String>,
    /// The parent of its containers' cgroups.
    parent: Parent,
}

/// How a daemon differs from the plain one.
#[derive(Default)]
struct Setup {
    /// daemon.json.
    settings: serde_json::Value,
    /// Further flags of dockerd.
    flags: Vec<String>,
    /// Shell lines before the daemons start; with any, they get a mount namespace.
    before: String,
    /// Containers name the runtime with `--runtime`.
    named: bool,
    /// With systemd's driver nothing says where containers are: they are in system.slice.
    in_system_slice: bool,
}

impl Engine for Docker {
    const NAME: &'static str = "docker";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "run: both streams and the exit status", run: life::streams },
        Scenario { name: "run -i: standard input", run: life::input },
        Scenario { name: "run -it: terminal, size, Ctrl-C", run: life::terminal },
        Scenario { name: "run --rm leaves nothing", run: life::nothing },
        Scenario { name: "start again, restart, wait, rename", run: life::again },
        Scenario { name: "logs: streams apart, tail, follow", run: life::logs },
        Scenario { name: "kill: a signal that is handled, KILL", run: life::kill },
        Scenario { name: "stop: handled, and after the grace period", run: life::stop },
        Scenario { name: "pause and unpause", run: life::pause },
        Scenario { name: "top", run: life::top },
        Scenario { name: "--init reaps", run: life::init },
        Scenario { name: "50 containers at once", run: life::many },
        Scenario { name: "exec: user, directory, environment, status", run: exec::attributes },
        Scenario { name: "exec -it: a shell, its size, Ctrl-C", run: exec::terminal },
        Scenario { name: "exec -d and --privileged", run: exec::background },
        Scenario { name: "exec: missing, forbidden, wrong directory", run: exec::errors },
        Scenario { name: "a missing command is 127", run: errors::missing },
        Scenario { name: "a command that may not run is 126", run: errors::forbidden },
        Scenario { name: "a directory that cannot be", run: errors::directory },
        Scenario { name: "a mount that cannot be", run: errors::mount },
        Scenario { name: "a user that is not there", run: errors::user },
        Scenario { name: "restart policy on-failure:2", run: restart::on_failure },
        Scenario { name: "restart policy always", run: restart::always },
        Scenario { name: "health: healthy, then unhealthy", run: restart::health },
        Scenario { name: "limits in the cgroup's files", run: resources::limits },
        Scenario { name: "update", run: resources::update },
        Scenario { name: "--cpuset-cpus", run: resources::cpuset },
        Scenario { name: "an OOM kill is reported", run: resources::oom },
        Scenario { name: "stats --no-stream", run: resources::stats },
        Scenario { name: "--ulimit", run: resources::ulimit },
        Scenario { name: "--cgroup-parent", run: resources::cgroup_parent },
        Scenario { name: "a scope of systemd's, reloaded and stopped", run: systemd::scope },
        Scenario { name: "--shm-size, --oom-score-adj", run: resources::rest },
        Scenario { name: "--user, --group-add, --workdir, --env, --hostname", run: rights::identity },
        Scenario { name: "--cap-add, --cap-drop", run: rights::capabilities },
        Scenario { name: "--privileged", run: rights::privileged },
        Scenario { name: "what is masked and read-only", run: rights::masks },
        Scenario { name: "no-new-privileges", run: rights::no_new_privileges },
        Scenario { name: "seccomp: default, FILE, unconfined", run: rights::seccomp },
        Scenario { name: "apparmor", run: rights::apparmor },
        Scenario { name: "--sysctl", run: rights::sysctl },
        Scenario { name: "--device", run: rights::devices },
        Scenario { name: "--pid, --ipc, --network container:", run: sharing::container },
        Scenario { name: "--pid, --ipc, --uts, --network, --cgroupns host", run: sharing::host },
        Scenario { name: "--read-only and --tmpfs", run: files::read_only },
        Scenario { name: "-v and --mount: rw, ro, volumes", run: files::volumes },
        Scenario { name: "-v rslave, rshared, rprivate", run: files::propagation },
        Scenario { name: "cp both ways", run: files::copy },
        Scenario { name: "commit and diff", run: files::commit },
        Scenario { name: "--network none, --add-host, --dns", run: network::none },
        Scenario { name: "-p: a published port", run: network::published },
        Scenario { name: "a network of its own, joined while running", run: network::connect },
        Scenario { name: "three services on a bridge network", run: network::services },
        Scenario { name: "what README shows", run: recording::session },
    ];

    fn start(runtime: &Runtime) -> Self {
        Self::launch(
            Self::NAME,
            runtime,
            Setup { flags: vec![added(runtime)], named: true, ..Setup::default() },
        )
    }

    fn stop(self) {
        self.end();
    }
}

impl Docker {
    fn launch(name: &str, runtime: &Runtime, setup: Setup) -> Self {
        let site = Site::new(name, runtime);
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = {:?}\n",
            site.path("containerd"),
            site.path("containerd-state"),
            site.path("containerd.sock"),
        );
        fs::write(site.path("config.toml"), configuration).expect("config.toml");
        // The name that BuildKit finds in PATH; it tells what it is called with.
        fs::create_dir_all(site.path("bin")).expect("a directory");
        let calls = site.path("runc-calls");
        let wrapper = format!("#!/bin/sh\necho \" $*\" >>{calls:?}\nexec {:?} \"$@\"\n", runtime.path);
        fs::write(site.path("bin/runc"), wrapper).expect("a wrapper");
        sh(&format!("chmod +x {:?}", site.path("bin/runc"))).ok();
        let mut settings = setup.settings;
        if settings.is_null() {
            settings = serde_json::json!({});
        }
        fs::write(site.path("daemon.json"), settings.to_string()).expect("daemon.json");
        let mut unshare = Command::new("unshare");
        unshare.arg("--net");
        if !setup.before.is_empty() {
            unshare.args(["--mount", "--propagation", "slave"]);
        }
        let script = format!("set -e; ip link set lo up; {}exec containerd --config \"$1\"", setup.before);
        unshare.args(["sh", "-c", &script, "sh"]).arg(site.path("config.toml"));
        let mut containerd = Daemon::start(&mut unshare, &site.path("containerd.log"));
        let address = site.path("containerd.sock");
        containerd.await_ready(|| {
            Command::new("ctr").arg("--address").arg(&address).arg("version").done().status.success()
        });
        let parent = if setup.in_system_slice && by_systemd() {
            Parent::new("system")
        } else {
            Parent::new(&format!("berth-engines-{}-{name}-{}", std::process::id(), runtime.name))
        };
        let named = if setup.named { vec!["--runtime".to_owned(), word(runtime)] } else { Vec::new() };
        let dockerd = Self::dockerd(&site, &containerd, &parent, &setup.flags);
        let docker = Self {
            site,
            word: word(runtime),
            containerd: RefCell::new(containerd),
            dockerd: RefCell::new(dockerd),
            named,
            flags: setup.flags,
            parent,
        };
        docker.dockerd.borrow_mut().await_ready(|| docker.cli(&["version"]).status.success());
        let archive = image::archive(&docker.site.directory);
        docker.cli(&["load", "--quiet", "--input", archive.to_str().expect("UTF-8")]).ok();
        docker
    }

    /// dockerd in containerd's namespaces. Directly below nsenter(1), which executes it.
    fn dockerd(site: &Site, containerd: &Daemon, parent: &Parent, flags: &[String]) -> Daemon {
        let mut command = Command::new("nsenter");
        command.args(["--target", &containerd.pid().to_string(), "--net", "--mount", "dockerd"]);
        let flag = |name: &str, file: &str| format!("--{name}={}", site.path(file).display());
        command.args([
            flag("config-file", "daemon.json"),
            flag("data-root", "data"),
            flag("exec-root", "exec"),
            flag("pidfile", "pid"),
            flag("containerd", "containerd.sock"),
            format!("--host=unix://{}", site.path("sock").display()),
        ]);
        if !parent.is_system() {
            command.arg(format!("--cgroup-parent={}", parent.word()));
        }
        if !by_systemd() {
            // Whatever systemd does on this machine.
            command.arg("--exec-opt=native.cgroupdriver=cgroupfs");
        }
        // Nothing leaves the network namespace.
        command.args([
            "--bip=172.30.99.1/24",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]);
        // A `runc` that a scenario lays there comes before the machine's.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", site.path("bin").display()));
        Daemon::start(command.args(flags), &site.path("dockerd.log"))
    }

    /// Ends what scenarios have left, both daemons and all they made.
    fn end(self) {
        let containers = self.cli(&["ps", "--all", "--quiet"]).ok();
        if !containers.is_empty() {
            let ids: Vec<&str> = containers.lines().collect();
            self.cli(&[&["rm", "--force", "--volumes"][..], &ids].concat()).ok();
        }
        self.dockerd.borrow_mut().stop();
        self.containerd.borrow_mut().stop();
        // Each serves one container and ends with it.
        let shims =
            leftovers::end_processes(&format!("-address {}", self.site.path("containerd.sock").display()));
        if !self.parent.is_system() {
            self.parent.remove();
        }
        self.site.remove();
        assert!(shims.is_empty(), "shims outlived their containers: {shims:?}");
    }

    fn client(&self) -> Command {
        let mut command = Command::new(CLIENT);
        command.arg("--config").arg(self.site.path("client"));
        command.arg("--host").arg(format!("unix://{}", self.site.path("sock").display()));
        command
    }

    /// The client as a shell line begins with it.
    fn line(&self) -> String {
        let path = |name: &str| self.site.path(name).display().to_string();
        format!("{CLIENT} --config {} --host unix://{}", path("client"), path("sock"))
    }

    fn cli(&self, args: &[&str]) -> Done {
        self.client().args(args).done()
    }

    /// `docker run FLAGS IMAGE ARGS` with the runtime under test.
    fn run(&self, flags: &[&str], args: &[&str]) -> Done {
        self.run_image(image::NAME, flags, args)
    }

    fn run_image(&self, image: &str, flags: &[&str], args: &[&str]) -> Done {
        self.client().arg("run").args(&self.named).args(flags).arg(image).args(args).done()
    }

    /// What a shell script prints in a container of its own.
    #[track_caller]
    fn inside(&self, flags: &[&str], script: &str) -> String {
        self.run(&[&["--rm"], flags].concat(), &["sh", "-c", script]).ok()
    }

    /// A container in the background.
    #[track_caller]
    fn start(&self, name: &str, flags: &[&str], args: &[&str]) {
        self.run(&[&["--detach", "--name", name], flags].concat(), args).ok();
    }

    /// One that does nothing until it is removed, and is removed at once.
    #[track_caller]
    fn idle(&self, name: &str, flags: &[&str]) {
        self.start(name, flags, &["sh", "-c", "trap exit TERM; sleep 1000 & wait"]);
    }

    /// What a shell script prints in a container that runs.
    #[track_caller]
    fn exec(&self, name: &str, script: &str) -> String {
        self.cli(&["exec", name, "sh", "-c", script]).ok()
    }

    #[track_caller]
    fn inspect(&self, name: &str, template: &str) -> String {
        self.cli(&["inspect", "--format", template, name]).ok()
    }

    /// Waits until a line of `docker inspect` is as wanted.
    #[track_caller]
    fn await_state(&self, name: &str, template: &str, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(30) * slow();
        loop {
            let seen = self.inspect(name, template);
            if seen == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{template} of {name} is {seen:?}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The pid of a container's first process, as the host sees it.
    #[track_caller]
    fn pid(&self, name: &str) -> u32 {
        self.inspect(name, "{{.State.Pid}}").parse().expect("a pid")
    }

    #[track_caller]
    fn remove(&self, names: &[&str]) {
        self.cli(&[&["rm", "--force", "--volumes"], names].concat()).ok();
    }

    /// The client on a terminal: `docker run -it …` as typed.
    fn terminal(&self, words: &str) -> Terminal {
        Terminal::open(&self.site, &format!("{} {words}", self.line()))
    }

    /// A shell line whose `docker` is this daemon's client.
    fn shell(&self, line: &str) -> Done {
        let script = format!("docker() {{ {} \"$@\"; }}\n{line}", self.line());
        Command::new("sh").args(["-c", &script]).done()
    }

    /// The flags that name the runtime, as a part of a shell line.
    fn named(&self) -> String {
        self.named.join(" ")
    }

    /// A file of the cgroup of a container's first process, by its names on v1 and on v2.
    #[track_caller]
    fn cgroup_file(&self, name: &str, controller: &str, v1: &str, v2: &str) -> String {
        let (directory, is_v2) = cgroup_of(self.pid(name), controller);
        let path = directory.join(if is_v2 { v2 } else { v1 });
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    /// Ends dockerd and starts it anew in the same namespaces; containers may live on.
    fn restart_daemon(&self, between: impl FnOnce()) {
        self.dockerd.borrow_mut().stop();
        between();
        *self.dockerd.borrow_mut() =
            Self::dockerd(&self.site, &self.containerd.borrow(), &self.parent, &self.flags);
        self.dockerd.borrow_mut().await_ready(|| self.cli(&["version"]).status.success());
    }

    /// The ids that the runtime itself knows.
    fn runtime_list(&self) -> Vec<String> {
        let mut list = Command::new(&self.site.runtime.path);
        list.arg("--root").arg(self.runtime_root()).args(["list", "--quiet"]);
        list.done().ok().lines().map(str::to_owned).collect()
    }

    /// Where dockerd lets the runtime keep its state, whatever the runtime's name.
    fn runtime_root(&self) -> PathBuf {
        self.site.path("exec/runtime-runc/moby")
    }

    /// Runs a command in the daemon's network namespace, where its bridges are.
    fn beside(&self, line: &str) -> Done {
        let pid = self.containerd.borrow().pid().to_string();
        Command::new("nsenter").args(["--target", &pid, "--net", "sh", "-c", line]).done()
    }
}

/// Where a process is for a controller, and whether that is cgroup v2.
fn cgroup_of(pid: u32, controller: &str) -> (PathBuf, bool) {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("/proc/PID/cgroup");
    // A machine of cgroup v2 alone may be a container on one with v1, whose kernel tells of both.
    for line in lines.lines().filter(|_| !is_cgroup2()) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        if names.split(',').any(|name| name == controller) {
            return (Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/')), false);
        }
    }
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup v2 path");
    (Path::new("/sys/fs/cgroup").join(path), true)
}
