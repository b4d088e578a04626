//! The blocks of docs/engines.md, each used as it is written there.
//!
//! They name `/usr/local/bin/berth`: everything here runs in a mount namespace in which that is the runtime under
//! test. What isolates an engine from the machine's own is given beside the block, never in it.

use crate::cgroups::{Parent, PodmansParent, by_systemd};
use crate::image;
use crate::podman::limits_of_processes;
use crate::site::{Bounded, Daemon, Done, Engine, Runtime, Scenario, Site};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub struct Documents {
    site: Site,
    archive: String,
    parent: Parent,
    podmans: PodmansParent,
}

impl Engine for Documents {
    const NAME: &'static str = "docs/engines.md";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "config.toml is containerd's", run: containerd },
        Scenario { name: "dockerd runs with daemon.json", run: docker },
        Scenario { name: "Podman runs with containers.conf", run: podman },
        Scenario { name: "Buildah builds with the environment", run: buildah },
        Scenario { name: "nerdctl's line names the binary", run: nerdctl },
        Scenario { name: "crio.conf parses", run: crio },
        Scenario { name: "buildkitd.toml parses", run: buildkit },
        Scenario { name: "Podman plays the manifest of Kubernetes", run: kubernetes },
    ];

    fn start(runtime: &Runtime) -> Self {
        let site = Site::new("docs", runtime);
        fs::create_dir(site.path("bin")).expect("a directory");
        fs::copy(&runtime.path, site.path("bin/berth")).expect("a copy of the runtime");
        let archive = image::archive(&site.directory).to_string_lossy().into_owned();
        let parent = Parent::new(&format!("berth-engines-{}-docs", std::process::id()));
        Self { site, archive, parent, podmans: PodmansParent::before() }
    }

    fn stop(self) {
        self.podman(&["pod", "rm", "--all", "--force", "--time=0"]).ok();
        self.podman(&["rm", "--all", "--force", "--time=0"]).ok();
        self.parent.remove();
        self.podmans.remove();
        self.site.remove();
    }
}

/// The blocks of one kind below a heading.
fn blocks(heading: &str, kind: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/engines.md");
    let page = fs::read_to_string(path).expect("docs/engines.md");
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let fence = format!("```{kind}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest).to_owned()).collect()
}

/// The only one.
fn block(heading: &str, kind: &str) -> String {
    let mut blocks = blocks(heading, kind);
    assert_eq!(blocks.len(), 1, "blocks of {kind} below {heading}");
    blocks.remove(0)
}

fn toml(heading: &str) -> Value {
    let text = block(heading, "toml");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{heading}: {error}\n{text}"))
}

const BERTH: &str = "/usr/local/bin/berth";

impl Documents {
    /// The block as a file.
    fn file(&self, heading: &str, kind: &str, name: &str) -> PathBuf {
        let path = self.site.path(name);
        fs::write(&path, block(heading, kind)).expect("a block as a file");
        path
    }

    /// A program for which the runtime is at [`BERTH`].
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        let script = "mount --bind $1 /usr/local/bin || exit; shift; exec \"$@\"";
        command.args(["--mount", "--propagation", "slave", "sh", "-c", script, "sh"]);
        command.arg(self.site.path("bin")).arg(program);
        command
    }

    fn podman(&self, args: &[&str]) -> Done {
        let configuration = self.site.path("containers.conf");
        let text = block("Podman and Buildah", "toml") + "[containers]\n" + &limits_of_processes();
        fs::write(&configuration, text).expect("containers.conf");
        let mut command = self.command("podman");
        let path = |name: &str| self.site.path(name);
        command
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .arg("--tmpdir")
            .arg(path("tmp"));
        command.arg("--network-config-dir").arg(path("networks"));
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]);
        if !by_systemd() {
            command.args(["--cgroup-manager", "cgroupfs"]);
        }
        command.args(args).env("CONTAINERS_CONF", configuration).done()
    }
}

fn containerd(documents: &Documents) {
    let block = documents.file("containerd", "toml", "containerd-block.toml");
    let main = documents.site.path("containerd.toml");
    fs::write(&main, format!("version = 2\nimports = [{block:?}]\n")).expect("config.toml");
    let mut command = documents.command("containerd");
    let text = command.arg("--config").arg(&main).args(["config", "dump"]).done().ok();
    let all: Value = toml::from_str(&text).expect("what containerd runs with");
    let plugin = &all["plugins"]["io.containerd.grpc.v1.cri"]["containerd"];
    assert_eq!(plugin["default_runtime_name"], "berth");
    let runtime = &plugin["runtimes"]["berth"];
    assert_eq!(
        (&runtime["runtime_type"], &runtime["options"]["BinaryName"]),
        (&"io.containerd.runc.v2".into(), &BERTH.into())
    );
    // What the block does not say is containerd's own.
    assert!(plugin["snapshotter"].is_string() && all["grpc"]["address"].is_string(), "{text}");
}

fn docker(documents: &Documents) {
    let block = documents.file("Docker", "json", "daemon.json");
    let path = |name: &str| documents.site.path(name);
    let host = format!("unix://{}", path("docker.sock").display());
    let mut command = documents.command("dockerd");
    command
        .arg("--config-file")
        .arg(block)
        .arg("--data-root")
        .arg(path("data"))
        .arg("--exec-root")
        .arg(path("exec"));
    command.arg("--pidfile").arg(path("pid")).args(["--host", &host, "--bridge=none", "--iptables=false"]);
    command.args(["--storage-driver=vfs", "--cgroup-parent", &documents.parent.word()]);
    let mut daemon = Daemon::start(&mut command, &path("dockerd.log"));
    let docker = |args: &[&str]| Command::new("docker").args(["--host", &host]).args(args).done();
    daemon.await_ready(|| docker(&["version"]).status.success());
    docker(&["load", "--input", &documents.archive]).ok();
    let info = docker(&["info", "--format", "{{.DefaultRuntime}} {{(index .Runtimes \"berth\").Path}}"]).ok();
    assert_eq!(info, format!("berth {BERTH}"));
    for flags in [&[][..], &["--runtime", "berth"]] {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([image::NAME, "echo", "inside"]);
        assert_eq!(docker(&args).ok(), "inside");
    }
    daemon.stop();
}

fn podman(documents: &Documents) {
    documents.podman(&["load", "--input", &documents.archive]).ok();
    let info =
        documents.podman(&["info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"]).ok();
    assert_eq!(info, format!("berth {BERTH}"));
    for flags in [&[][..], &["--cgroups=disabled"]] {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([image::NAME, "echo", "inside"]);
        assert_eq!(documents.podman(&args).ok(), "inside");
    }
    // The cause comes from the runtime's log, which Podman reads as JSON.
    let done = documents.podman(&["run", "--rm", "--network", "none", image::NAME, "/none"]).exits(127);
    assert!(
        done.stderr.contains("no such file or directory") && !done.stderr.contains("\"msg\""),
        "{}",
        done.describe()
    );
}

/// The lines of the page after one another, in a shell in the context that they name `.`.
fn buildah(documents: &Documents) {
    let context = documents.site.path("context");
    fs::create_dir(&context).expect("a context");
    fs::write(context.join("Containerfile"), format!("FROM {}\nRUN echo built\n", image::NAME))
        .expect("Containerfile");
    documents.podman(&["load", "--input", &documents.archive]).ok();
    let lines = block("Podman and Buildah", "sh");
    let storage = documents.site.path("storage.conf");
    let path = |name: &str| documents.site.path(name).display().to_string();
    let text =
        format!("[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n", path("root"), path("run"));
    fs::write(&storage, text).expect("storage.conf");
    let mut command = documents.command("sh");
    // A network would have to be configured on this machine.
    let script = lines.replace("buildah bud ", "buildah bud --network=none ");
    command
        .args(["-ec", &format!("cd $CONTEXT\n{script}")])
        .env("CONTEXT", context)
        .env("CONTAINERS_STORAGE_CONF", storage);
    let text = command.done().ok();
    assert!(text.lines().any(|line| line == "built"), "{text}");
}

/// Debian 12 has no nerdctl: what is said of its line is that it runs the binary.
fn nerdctl(_: &Documents) {
    assert!(block("nerdctl", "sh").contains(&format!("--runtime {BERTH} ")));
}

fn crio(_: &Documents) {
    let runtime = &toml("CRI-O")["crio"]["runtime"];
    assert_eq!(runtime["default_runtime"], "berth");
    let table = &runtime["runtimes"]["berth"];
    assert_eq!((&table["runtime_path"], &table["runtime_type"]), (&BERTH.into(), &"oci".into()));
    assert!(table["runtime_root"].is_string() && table["monitor_path"].is_string(), "{table}");
}

fn buildkit(_: &Documents) {
    let worker = &toml("BuildKit")["worker"]["oci"];
    assert_eq!((&worker["enabled"], &worker["binary"]), (&true.into(), &BERTH.into()));
}

fn kubernetes(documents: &Documents) {
    let manifest = documents.file("Kubernetes", "yaml", "manifest.yaml");
    let text = fs::read_to_string(&manifest).expect("the manifest");
    assert!(text.contains("kind: RuntimeClass\n") && text.contains("\nhandler: berth\n"), "{text}");
    documents.podman(&["load", "--input", &documents.archive]).ok();
    documents.podman(&["tag", image::NAME, "docker.io/library/alpine:latest"]).ok();
    let manifest = manifest.to_string_lossy();
    documents.podman(&["play", "kube", "--network=none", &manifest]).ok();
    let template = "{{.State.Status}} {{.OCIRuntime}}";
    let state = documents.podman(&["inspect", "--format", template, "example-shell"]).ok();
    assert_eq!(state, "running berth");
    documents.podman(&["play", "kube", "--down", &manifest]).ok();
}
