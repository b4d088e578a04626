//! dockerd with the runtime under test as its default, by daemon.json, and with live-restore.

use super::{Docker, Setup, build, word};
use crate::site::{Engine, Runtime, Scenario, eventually};
use std::path::Path;

/// Nothing that its scenarios type names a runtime.
pub struct AsDefault(pub(super) Docker);

impl Engine for AsDefault {
    const NAME: &'static str = "docker-default";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "named nowhere, it runs all", run: named_nowhere },
        Scenario { name: "build: each instruction, a RUN that fails", run: build::classic },
        Scenario { name: "build by BuildKit, which runs `runc`", run: build::buildkit },
        Scenario { name: "live-restore: exec and stop under a new daemon", run: live_restore },
        Scenario { name: "live-restore: what ended meanwhile", run: ended_meanwhile },
        Scenario { name: "a container started again by a new daemon", run: started_again },
    ];

    fn start(runtime: &Runtime) -> Self {
        let settings = serde_json::json!({
            "runtimes": { word(runtime): { "path": runtime.path } },
            "default-runtime": word(runtime),
            "live-restore": true,
        });
        Self(Docker::launch(
            Self::NAME,
            runtime,
            Setup { settings, in_system_slice: true, ..Setup::default() },
        ))
    }

    fn stop(self) {
        self.0.end();
    }
}

fn named_nowhere(AsDefault(docker): &AsDefault) {
    assert_eq!(docker.cli(&["info", "--format", "{{.DefaultRuntime}}"]).ok(), docker.word);
    docker.idle("default", &[]);
    assert_eq!(docker.inspect("default", "{{.HostConfig.Runtime}}"), docker.word);
    let template = format!("{{{{(index .Runtimes \"{}\").Path}}}}", docker.word);
    let path = docker.cli(&["info", "--format", &template]).ok();
    assert_eq!(Path::new(&path), docker.site.runtime.path);
    assert_eq!(docker.runtime_list(), [docker.inspect("default", "{{.Id}}")]);
    assert_eq!(docker.exec("default", "echo inside"), "inside");
    docker.remove(&["default"]);
}

fn live_restore(AsDefault(docker): &AsDefault) {
    docker.start(
        "lives-on",
        &[],
        &["sh", "-c", "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done"],
    );
    let pid = docker.pid("lives-on");
    let count = || docker.exec("lives-on", "cat /count").parse::<u32>().unwrap_or(0);
    eventually("it counts", || count() > 1);
    let before = count();
    docker.restart_daemon(|| {
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "it ended with the daemon");
    });
    assert_eq!(docker.inspect("lives-on", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    assert!(count() > before);
    docker.cli(&["pause", "lives-on"]).ok();
    docker.cli(&["unpause", "lives-on"]).ok();
    docker.cli(&["stop", "--time", "20", "lives-on"]).ok();
    assert_eq!(docker.inspect("lives-on", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
    docker.remove(&["lives-on"]);
}

fn ended_meanwhile(AsDefault(docker): &AsDefault) {
    docker.start("ends", &[], &["sh", "-c", "while ! [ -e /end ]; do sleep 0.1; done; exit 6"]);
    let pid = docker.pid("ends");
    docker.restart_daemon(|| {
        std::fs::write(format!("/proc/{pid}/root/end"), "").expect("a file in the container");
        eventually("it ended", || !Path::new(&format!("/proc/{pid}")).exists());
    });
    docker.await_state("ends", "{{.State.Status}} {{.State.ExitCode}}", "exited 6");
    docker.remove(&["ends"]);
}

fn started_again(AsDefault(docker): &AsDefault) {
    docker.start("again", &["--restart", "unless-stopped"], &["sh", "-c", "echo run; sleep 1000"]);
    let pid = docker.pid("again");
    docker.restart_daemon(|| {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("kill");
    });
    docker.await_state("again", "{{.State.Status}}", "running");
    assert_ne!(docker.pid("again"), pid);
    docker.remove(&["again"]);
}
