//! containerd with its own client `ctr`, which drives the runc v2 shim as nerdctl and the CRI plugin do.

use crate::image;
use crate::site::{Bounded, Daemon, Done, Engine, Runtime, Scenario, Site, eventually};
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub struct Containerd {
    site: Site,
    daemon: RefCell<Daemon>,
}

impl Engine for Containerd {
    const NAME: &'static str = "containerd";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "both streams and the exit status", run: streams },
        Scenario { name: "in the background until it is killed", run: background },
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
        let mut command = Command::new("containerd");
        command.arg("--config").arg(site.path("config.toml"));
        let daemon = RefCell::new(Daemon::start(&mut command, &site.path("containerd.log")));
        let engine = Self { site, daemon };
        engine.daemon.borrow_mut().await_ready(|| engine.ctr(&["version"]).status.success());
        let archive = image::archive(&engine.site.directory);
        engine.ctr(&["image", "import", "--snapshotter", "native", archive.to_str().expect("UTF-8")]).ok();
        engine
    }

    fn stop(self) {
        self.daemon.borrow_mut().stop();
        self.site.remove();
    }
}

impl Containerd {
    fn state(&self) -> PathBuf {
        self.site.path("runtime")
    }

    fn ctr(&self, args: &[&str]) -> Done {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.site.path("sock"))
            .args(["--namespace", "berth-test"])
            .args(args)
            .done()
    }

    /// `ctr run` with the runtime under test.
    fn run(&self, flags: &[&str], id: &str, args: &[&str]) -> Done {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.site.path("sock")).args(["--namespace", "berth-test"]);
        command.args(["run", "--snapshotter", "native", "--runc-binary"]).arg(&self.site.runtime.path);
        command.arg("--runc-root").arg(self.state());
        command.args(flags).args([image::NAME, id]).args(args).done()
    }
}

fn streams(containerd: &Containerd) {
    let done =
        containerd.run(&["--rm"], "streams", &["sh", "-c", "echo $$; echo to stderr >&2; exit 5"]).exits(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\n", "to stderr\n"));
}

fn background(containerd: &Containerd) {
    containerd.run(&["--detach"], "background", &["sleep", "1000"]).ok();
    containerd.ctr(&["task", "kill", "--signal", "KILL", "background"]).ok();
    eventually("the task has stopped", || containerd.ctr(&["task", "list"]).ok().contains("STOPPED"));
    // It is what ctr itself exits with, in some versions only.
    let code = containerd.ctr(&["task", "delete", "background"]).code();
    assert!([0, 137].contains(&code), "task delete: {code}");
    containerd.ctr(&["container", "delete", "background"]).ok();
}
