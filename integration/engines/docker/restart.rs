//! What dockerd does by itself: restart policies and health checks.

use super::Docker;
use crate::site::eventually;

pub fn on_failure(docker: &Docker) {
    docker.start("failing", &["--restart", "on-failure:2"], &["sh", "-c", "echo run; exit 3"]);
    docker.await_state("failing", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 2 3");
    assert_eq!(docker.cli(&["logs", "failing"]).ok(), "run\nrun\nrun");
    docker.start("well", &["--restart", "on-failure:2"], &["true"]);
    docker.await_state("well", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "exited 0 0");
    docker.remove(&["failing", "well"]);
}

pub fn always(docker: &Docker) {
    docker.start("always", &["--restart", "always"], &["sh", "-c", "echo run; sleep 1000; exit 4"]);
    let first = docker.pid("always");
    docker.cli(&["exec", "always", "sh", "-c", "kill -9 $(pidof sleep)"]).ok();
    eventually("it runs again", || ![0, first].contains(&docker.pid("always")));
    assert_eq!(docker.inspect("always", "{{.RestartCount}}"), "1");
    assert_eq!(docker.cli(&["logs", "always"]).ok(), "run\nrun");
    // Stopped by hand it stays stopped.
    docker.cli(&["stop", "--time", "0", "always"]).ok();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(docker.inspect("always", "{{.State.Status}}"), "exited");
    docker.remove(&["always"]);
}

pub fn health(docker: &Docker) {
    let check = "test -e /well && echo it is well";
    let flags = [
        "--health-cmd",
        check,
        "--health-interval",
        "1s",
        "--health-retries",
        "2",
        "--health-timeout",
        "20s",
    ];
    docker.start("health", &flags, &["sh", "-c", "touch /well; sleep 1000"]);
    docker.await_state("health", "{{.State.Health.Status}}", "healthy");
    let output = docker.inspect("health", "{{(index .State.Health.Log 0).Output}}");
    assert_eq!(output, "it is well");
    docker.exec("health", "rm /well");
    docker.await_state("health", "{{.State.Health.Status}}", "unhealthy");
    let streak: u32 = docker.inspect("health", "{{.State.Health.FailingStreak}}").parse().expect("a number");
    assert!(streak >= 2, "{streak}");
    docker.remove(&["health"]);
}
