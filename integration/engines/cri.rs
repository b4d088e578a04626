//! Kubernetes' Container Runtime Interface through containerd's plugin: pods and their containers as the
//! kubelet asks for them, the runtime named as a RuntimeClass's handler.

mod pods;
mod security;

use crate::cgroups::{self, Parent, by_systemd};
use crate::image;
use crate::require;
use crate::site::{Bounded, Daemon, Engine, Runtime, Scenario, Site, eventually, may_exceed_limits, sh};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The sandbox's image: a program that waits.
const PAUSE: &str = "localhost/pause:test";

pub struct Cri {
    site: Site,
    client: PathBuf,
    /// The cgroup above all pods of this run.
    parent: Parent,
    /// The directory of CNI's namespaces was there before: ip-netns(8) makes it a mount, which stays.
    namespaces_of_others: bool,
    daemon: RefCell<Daemon>,
}

/// The mount points of CNI's namespaces, which containerd makes and leaves.
const NAMESPACES: &str = "/run/netns";

impl Engine for Cri {
    const NAME: &'static str = "cri";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "a RuntimeClass's handler, and an unknown one", run: pods::handler },
        Scenario { name: "a pod's container lives and its log is kept", run: pods::life },
        Scenario { name: "containers of a pod share namespaces", run: pods::shared_namespaces },
        Scenario { name: "a shared pid namespace", run: pods::shared_pids },
        Scenario { name: "hostPID, hostIPC, hostNetwork", run: pods::host_namespaces },
        Scenario { name: "a network of the pod's own", run: pods::network },
        Scenario { name: "resources, and their update", run: pods::resources },
        Scenario { name: "a scope below the pod's slice", run: pods::scope },
        Scenario { name: "stats", run: pods::stats },
        Scenario { name: "exec sync: streams, status, timeout, missing command", run: pods::exec_sync },
        Scenario { name: "exec with streams and with a terminal", run: pods::exec_streams },
        Scenario { name: "attach", run: pods::attach },
        Scenario { name: "exec probes every second", run: pods::probes },
        Scenario { name: "stop: SIGTERM, SIGKILL after the grace period", run: pods::stop },
        Scenario { name: "OOMKilled", run: pods::oom },
        Scenario { name: "a missing command, and a crash that is begun anew", run: pods::crashes },
        Scenario { name: "containerd restarted under running pods", run: pods::restart },
        Scenario { name: "runAsUser, runAsGroup, supplementalGroups", run: security::users },
        Scenario { name: "capabilities added and dropped", run: security::capabilities },
        Scenario { name: "privileged", run: security::privileged },
        Scenario { name: "noNewPrivileges, readOnlyRootFilesystem, procMount", run: security::hardening },
        Scenario { name: "seccomp: RuntimeDefault, Localhost, Unconfined", run: security::seccomp },
        Scenario { name: "AppArmor profiles", run: security::apparmor },
        Scenario { name: "user namespaces", run: security::user_namespace },
        Scenario { name: "devices", run: security::devices },
        Scenario { name: "mounts with propagation", run: security::mounts },
        Scenario { name: "sysctls, host name, environment, working directory", run: security::surroundings },
    ];

    fn start(runtime: &Runtime) -> Self {
        let client = client();
        let site = Site::new(Self::NAME, runtime);
        let parent = Parent::new(&format!("berth-test-cri-{}", std::process::id()));
        configure(&site);
        let namespaces_of_others = std::path::Path::new(NAMESPACES).exists();
        let daemon = RefCell::new(launch(&site));
        let engine = Self { site, client, parent, namespaces_of_others, daemon };
        engine.await_ready();
        engine.import(&image::archive(&engine.site.directory));
        engine.import(&pause_image(&engine.site));
        engine
    }

    fn stop(self) {
        for pod in self.list("ListPodSandbox", "items") {
            let id = json!({ "pod_sandbox_id": pod["id"] });
            self.ok("StopPodSandbox", &id);
            self.ok("RemovePodSandbox", &id);
        }
        self.daemon.borrow_mut().stop();
        if !self.namespaces_of_others && fs::exists(NAMESPACES).expect(NAMESPACES) {
            fs::remove_dir(NAMESPACES).expect("what containerd made for namespaces, empty");
        }
        self.parent.remove();
        self.site.remove();
    }
}

/// The client, built when it is not there: it has dependencies that berth's own tests do not pay for. Where there is
/// no compiler, `BERTH_TEST_CRI_CLIENT` names one that was built.
fn client() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_TEST_CRI_CLIENT") {
        return PathBuf::from(path);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("target/cri-client");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Command::new(cargo)
        .args(["build", "--locked", "--quiet", "--target", &triple, "--target-dir"])
        .arg(&directory)
        .current_dir(root.join("integration/engines/cri-client"))
        .done_within(Duration::from_secs(600))
        .ok();
    directory.join(triple).join("debug/cri-client")
}

/// config.toml as docs/engines.md has it, with directories of its own; and a network that needs no bridge.
fn configure(site: &Site) {
    let Runtime { name, path } = &site.runtime;
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
    let network = site.path("cni");
    // A pod's own process has -998, which not everybody may set.
    let restrict = !may_exceed_limits();
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n\
         disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = {:?}\n\
         [{plugin}]\nsandbox_image = {PAUSE:?}\nrestrict_oom_score_adj = {restrict}\n\
         [{plugin}.cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = {network:?}\n\
         [{plugin}.containerd]\nsnapshotter = \"native\"\ndefault_runtime_name = {name:?}\n\
         [{plugin}.containerd.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n\
         pod_annotations = [\"org.example.*\"]\n\
         [{plugin}.containerd.runtimes.{name}.options]\nBinaryName = {path:?}\nRoot = {:?}\nSystemdCgroup = {}\n",
        site.path("root"),
        site.path("state"),
        site.path("sock"),
        site.path("runtime"),
        by_systemd(),
    );
    fs::write(site.path("config.toml"), config).expect("config.toml");
    fs::create_dir(&network).expect("the network's directory");
    let addresses = json!({
        "type": "host-local",
        "dataDir": site.path("addresses"),
        "ranges": [[{ "subnet": "10.111.0.0/24" }]],
    });
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "berth-test",
        "plugins": [{ "type": "ptp", "ipMasq": false, "ipam": addresses }],
    });
    fs::write(network.join("10-ptp.conflist"), list.to_string()).expect("the network's configuration");
}

fn launch(site: &Site) -> Daemon {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(site.path("config.toml"));
    Daemon::start(&mut command, &site.path("containerd.log"))
}

/// The benchmark's program that waits, static, alone in an image; `BERTH_TEST_PAUSE` names one that was built.
fn pause_image(site: &Site) -> PathBuf {
    let directory = site.path("pause");
    let root = directory.join("rootfs");
    fs::create_dir_all(&root).expect("the image's root");
    let program = root.join("pause");
    if let Some(path) = std::env::var_os("BERTH_TEST_PAUSE") {
        fs::copy(path, program).expect("a copy of the program");
    } else {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/pause.c");
        Command::new("cc").args(["-static", "-O2", source, "-o"]).arg(program).done().ok();
    }
    image::pack(&directory, &root, PAUSE, json!({ "Entrypoint": ["/pause"] }))
}

/// Puts what `patch` says over `base`, object by object.
fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

impl Cri {
    fn await_ready(&self) {
        self.daemon.borrow_mut().await_ready(|| self.call("Status", &json!({})).is_ok());
    }

    /// Into the plugin's own containerd namespace; it hears of the image by an event.
    fn import(&self, archive: &Path) {
        let ctr = || {
            let mut command = Command::new("ctr");
            command.arg("--address").arg(self.site.path("sock")).args(["--namespace", "k8s.io", "image"]);
            command.env("CONTAINERD_SNAPSHOTTER", "native");
            command
        };
        ctr().arg("import").arg(archive).done().ok();
        let known = || ctr().arg("list").done().ok();
        eventually("the plugin knows the image", || {
            known().lines().skip(1).all(|line| line.contains("io.cri-containerd.image=managed"))
        });
    }

    /// A call; the response, or what the client printed on stderr.
    fn call(&self, method: &str, request: &Value) -> Result<Value, String> {
        let mut command = Command::new(&self.client);
        command.arg(self.site.path("sock")).arg(method).arg(request.to_string());
        let done = command.done_within(Duration::from_secs(120));
        if !done.status.success() {
            return Err(done.stderr.trim_end().to_owned());
        }
        Ok(serde_json::from_str(&done.stdout).expect("a response in JSON"))
    }

    #[track_caller]
    fn ok(&self, method: &str, request: &Value) -> Value {
        self.call(method, request).unwrap_or_else(|error| panic!("{method}({request}): {error}"))
    }

    #[track_caller]
    fn list(&self, method: &str, field: &str) -> Vec<Value> {
        self.ok(method, &json!({}))[field].as_array().expect("a list").clone()
    }

    /// A pod on the host's network, changed by the patch.
    #[track_caller]
    fn pod(&self, patch: &Value) -> Pod<'_> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pod-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let parent = self.parent.below(&name.replace('-', "_"));
        let logs = self.site.path("logs").join(&name);
        fs::create_dir_all(&logs).expect("the directory of logs");
        let mut config = json!({
            "metadata": { "name": name, "uid": name, "namespace": "berth-test", "attempt": 0 },
            "log_directory": logs,
            "linux": {
                "cgroup_parent": Path::new("/").join(parent.path()),
                // NamespaceMode: POD 0, CONTAINER 1, NODE 2.
                "security_context": { "namespace_options": { "network": 2, "pid": 1, "ipc": 0 } },
            },
        });
        merge(&mut config, patch);
        let request = json!({ "config": config, "runtime_handler": self.site.runtime.name });
        let id = self.ok("RunPodSandbox", &request)["pod_sandbox_id"].as_str().expect("an id").to_owned();
        Pod { cri: self, id, parent, config }
    }

    /// What the client heard on a stream that `Exec` or `Attach` opened.
    #[track_caller]
    fn stream(&self, method: &str, request: &Value, script: &Value) -> Value {
        let mut script = script.clone();
        script["url"] = self.ok(method, request)["url"].clone();
        let done = Command::new(&self.client).arg("stream").arg(script.to_string()).done().ok();
        serde_json::from_str(&done).expect("a stream's outcome in JSON")
    }
}

/// A sandbox with its configuration, which each of its containers needs again.
struct Pod<'a> {
    cri: &'a Cri,
    id: String,
    /// As the kubelet has it: a cgroup of the pod's own, which this one does not make.
    parent: Parent,
    config: Value,
}

impl Pod<'_> {
    /// A container of the busybox image that runs a script, changed by the patch; created.
    #[track_caller]
    fn create(&self, script: &str, patch: &Value) -> Result<Container<'_>, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("container-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut config = json!({
            "metadata": { "name": name, "attempt": 0 },
            "image": { "image": image::NAME },
            "command": ["sh", "-c", script],
            "log_path": format!("{name}.log"),
            "linux": {
                "resources": { "oom_score_adj": 500 },
                "security_context": {
                    "namespace_options":
                        self.config["linux"]["security_context"]["namespace_options"].clone(),
                },
            },
        });
        merge(&mut config, patch);
        let request = json!({ "pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config });
        let id =
            self.cri.call("CreateContainer", &request)?["container_id"].as_str().expect("an id").to_owned();
        let log = Path::new(self.config["log_directory"].as_str().expect("logs")).join(format!("{name}.log"));
        Ok(Container { pod: self, id, log })
    }

    /// Created and started.
    #[track_caller]
    fn container(&self, script: &str, patch: &Value) -> Container<'_> {
        let container = self.create(script, patch).unwrap_or_else(|error| panic!("CreateContainer: {error}"));
        self.cri.ok("StartContainer", &json!({ "container_id": container.id }));
        container
    }

    /// What a script prints in a container with the patch, which ends with 0.
    #[track_caller]
    fn prints(&self, script: &str, patch: &Value) -> String {
        let container = self.container(script, patch);
        container.ends_with(0);
        container.output("stdout")
    }

    /// Pid of the sandbox's process.
    #[track_caller]
    fn pid(&self) -> i64 {
        let status = self.cri.ok("PodSandboxStatus", &json!({ "pod_sandbox_id": self.id, "verbose": true }));
        information(&status)["pid"].as_i64().expect("a pid")
    }

    /// Stops and removes it with its containers; nothing of it may be left.
    #[track_caller]
    fn end(self) {
        let id = json!({ "pod_sandbox_id": self.id });
        let containers = self.cri.list("ListContainers", "containers");
        self.cri.ok("StopPodSandbox", &id);
        self.cri.ok("RemovePodSandbox", &id);
        let own = containers.iter().filter(|container| container["pod_sandbox_id"] == self.id.as_str());
        for id in own.map(|container| container["id"].as_str().expect("an id")).chain([self.id.as_str()]) {
            let state = self.cri.site.path("runtime").join("k8s.io").join(id);
            assert!(!state.exists(), "state is left: {}", state.display());
        }
    }
}

/// The `info` of a verbose status.
#[track_caller]
fn information(status: &Value) -> Value {
    serde_json::from_str(status["info"]["info"].as_str().expect("verbose info")).expect("info in JSON")
}

struct Container<'a> {
    pod: &'a Pod<'a>,
    id: String,
    log: PathBuf,
}

/// ContainerState.
const RUNNING: i64 = 1;
const EXITED: i64 = 2;

impl Container<'_> {
    fn request(&self) -> Value {
        json!({ "container_id": self.id })
    }

    #[track_caller]
    fn status(&self) -> Value {
        self.pod.cri.ok("ContainerStatus", &self.request())["status"].clone()
    }

    /// Pid of its first process.
    #[track_caller]
    fn pid(&self) -> i64 {
        let status = self.pod.cri.ok("ContainerStatus", &json!({ "container_id": self.id, "verbose": true }));
        information(&status)["pid"].as_i64().expect("a pid")
    }

    #[track_caller]
    fn await_state(&self, state: i64) -> Value {
        eventually(&format!("container state {state}"), || self.status()["state"] == state);
        self.status()
    }

    #[track_caller]
    fn ends_with(&self, code: i64) {
        let status = self.await_state(EXITED);
        assert_eq!(status["exit_code"], code, "{status}; {}", self.text());
    }

    /// `ExecSync` of a script.
    #[track_caller]
    fn exec(&self, script: &str) -> Value {
        let request = json!({ "container_id": self.id, "cmd": ["sh", "-c", script], "timeout": 60 });
        self.pod.cri.ok("ExecSync", &request)
    }

    /// Its standard output; it must succeed.
    #[track_caller]
    fn exec_prints(&self, script: &str) -> String {
        let done = self.exec(script);
        assert_eq!(done["exit_code"], 0, "{done}");
        done["stdout"].as_str().expect("stdout").trim_end().to_owned()
    }

    #[track_caller]
    fn stop(&self, grace: i64) {
        self.pod.cri.ok("StopContainer", &json!({ "container_id": self.id, "timeout": grace }));
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One of its streams by its log: each line is time, stream, F or P, text.
    #[track_caller]
    fn output(&self, stream: &str) -> String {
        let text = self.text();
        let lines = text.lines().filter_map(|line| {
            let mut words = line.splitn(4, ' ').skip(1);
            let (name, _) = (words.next()?, words.next()?);
            (name == stream).then_some(words.next()?)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A file of its cgroup.
    #[track_caller]
    fn cgroup(&self, controller: &str, v1: &str, v2: &str) -> String {
        cgroups::file(&self.pod.parent.container("cri-containerd", &self.id), controller, v1, v2)
    }
}

/// Skips where the CNI's plugins are not installed or cannot make a pair of devices.
fn require_network() {
    require!(Path::new("/usr/lib/cni/ptp").exists(), "no CNI plugins in /usr/lib/cni");
    let pair = sh("ip link add berth-test0 type veth peer name berth-test1 && ip link del berth-test0");
    require!(pair.status.success(), "no pairs of network devices here: {}", pair.stderr.trim_end());
}
