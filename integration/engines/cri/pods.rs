//! Pods and containers as the kubelet starts, watches and ends them.

use super::{Cri, EXITED, RUNNING, launch, require_network};
use crate::cgroups::{assert_shares, by_systemd, is_cgroup2, unit};
use crate::require;
use crate::site::{eventually, may_exceed_limits, sh, slow};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn handler(cri: &Cri) {
    let pod = cri.pod(&json!({ "annotations": { "org.example.word": "kept" } }));
    let status = cri.ok("PodSandboxStatus", &json!({ "pod_sandbox_id": pod.id }))["status"].clone();
    assert_eq!((&status["state"], &status["runtime_handler"]), (&json!(0), &json!(cri.site.runtime.name)));
    // Its state is where the handler's `Root` says, written by the handler's binary.
    assert!(cri.site.path("runtime/k8s.io").join(&pod.id).is_dir());
    // The kernel looks for others first when memory is short.
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.pid())).expect("its score");
    assert!(!may_exceed_limits() || score == "-998\n", "{score}");
    pod.end();
    let config = json!({ "metadata": { "name": "n", "uid": "u", "namespace": "berth-test" } });
    let refused = cri.call("RunPodSandbox", &json!({ "config": config, "runtime_handler": "no-such" }));
    let error = refused.expect_err("an unknown handler");
    assert!(error.contains("no runtime for \"no-such\" is configured"), "{error}");
}

pub fn life(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let created = pod.create("echo out; echo err >&2; exit 3", &json!({})).expect("created");
    assert_eq!(created.status()["state"], 0);
    cri.ok("StartContainer", &created.request());
    let status = created.await_state(EXITED);
    assert_eq!((&status["exit_code"], &status["reason"]), (&json!(3), &json!("Error")), "{status}");
    assert_eq!((created.output("stdout"), created.output("stderr")), ("out".into(), "err".into()));
    cri.ok("RemoveContainer", &created.request());
    assert!(pod.prints("echo done", &json!({})) == "done");
    pod.end();
}

const NAMESPACES: &str = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done";

pub fn shared_namespaces(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let first = pod.container("echo shared >/dev/shm/word; sleep 1000", &json!({}));
    let second = pod.container("sleep 1000", &json!({}));
    let (one, two) = (first.exec_prints(NAMESPACES), second.exec_prints(NAMESPACES));
    let (one, two): (Vec<_>, Vec<_>) = (one.lines().collect(), two.lines().collect());
    assert_eq!(one[..3], two[..3], "net, ipc, uts");
    assert_ne!(one[3], two[3], "pid");
    assert_ne!(one[4], two[4], "mnt");
    let sandbox = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", pod.pid())).expect("a namespace");
    assert_eq!((Path::new(one[1]), Path::new(one[2])), (&*sandbox("ipc"), &*sandbox("uts")));
    eventually("the shared /dev/shm", || second.exec("cat /dev/shm/word")["stdout"] == "shared\n");
    pod.end();
}

pub fn shared_pids(cri: &Cri) {
    let options = json!({ "network": 2, "pid": 0, "ipc": 0 });
    let pod = cri.pod(&json!({ "linux": { "security_context": { "namespace_options": options } } }));
    let first = pod.container("sleep 1000", &json!({}));
    let second = pod.container("sleep 2000", &json!({}));
    let list = second.exec_prints("ps -o pid,args");
    for process in ["1 /pause", "sleep 1000", "sleep 2000"] {
        assert!(list.contains(process), "{process} is missing: {list}");
    }
    // A container of a shared pid namespace ends with all of its processes, and with no other's.
    let third = pod.container("sleep 3000 & sleep 4000 & wait", &json!({}));
    eventually("its children run", || second.exec_prints("ps -o args").matches("sleep 4000").count() == 2);
    third.stop(0);
    let list = second.exec_prints("ps -o args");
    assert!(!list.contains("sleep 4000") && !list.contains("sleep 3000"), "{list}");
    assert_eq!(first.status()["state"], RUNNING);
    pod.end();
}

pub fn host_namespaces(cri: &Cri) {
    let options = json!({ "network": 2, "pid": 2, "ipc": 2 });
    let pod = cri.pod(&json!({ "linux": { "security_context": { "namespace_options": options } } }));
    let container = pod.container("sleep 1000", &json!({}));
    let text = container.exec_prints(NAMESPACES);
    let lines: Vec<&str> = text.lines().collect();
    for (line, name) in [(0, "net"), (1, "ipc"), (3, "pid")] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        assert_eq!(Path::new(lines[line]), own, "{text}");
    }
    assert_eq!(container.exec_prints("readlink /proc/$$/ns/mnt"), lines[4]);
    // In the host's pid namespace it ends with its children, although nobody's pid 1 ends.
    let many = pod.container("sleep 3333 & sleep 3334 & wait", &json!({}));
    eventually("its children run", || container.exec_prints("ps -o args").contains("\nsleep 3334"));
    many.stop(0);
    let list = container.exec_prints("ps -o args");
    assert!(!list.contains("\nsleep 3333") && !list.contains("\nsleep 3334"), "children are left");
    pod.end();
}

pub fn network(cri: &Cri) {
    require_network();
    let options = json!({ "network": 0, "pid": 1, "ipc": 0 });
    let linux = json!({ "security_context": { "namespace_options": options } });
    let pod = cri.pod(&json!({ "hostname": "of-the-pod", "linux": linux }));
    assert_eq!(pod.prints("hostname", &json!({})), "of-the-pod");
    let server = pod.container("echo answer | nc -l -p 4567 127.0.0.1", &json!({}));
    let script = "ip -o -4 addr show eth0 | awk '{ print $4 }'; \
                  for i in $(seq 50); do nc 127.0.0.1 4567 </dev/null && exit; sleep 0.1; done; exit 1";
    let text = pod.prints(script, &json!({}));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("10.111.0.") && lines[1] == "answer", "{text}");
    server.ends_with(0);
    pod.end();
}

pub fn resources(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let limits = json!({
        "cpu_period": 100_000, "cpu_quota": 20_000, "cpu_shares": 204, "memory_limit_in_bytes": 67_108_864,
        "cpuset_cpus": "0", "oom_score_adj": 700,
    });
    let container = pod.container("sleep 1000", &json!({ "linux": { "resources": limits } }));
    let memory = || container.cgroup("memory", "memory.limit_in_bytes", "memory.max");
    let quota = || container.cgroup("cpu", "cpu.cfs_quota_us", "cpu.max");
    let v2 = is_cgroup2();
    assert_eq!(memory(), "67108864");
    assert_eq!(quota(), if v2 { "20000 100000" } else { "20000" });
    assert_shares(&container.cgroup("cpu", "cpu.shares", "cpu.weight"), 204);
    assert_eq!(container.cgroup("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(
        container.exec_prints("cat /proc/1/oom_score_adj; grep Cpus_allowed_list /proc/self/status"),
        "700\nCpus_allowed_list:\t0"
    );

    let update =
        |linux| cri.ok("UpdateContainerResources", &json!({ "container_id": container.id, "linux": linux }));
    update(
        json!({ "cpu_period": 100_000, "cpu_quota": 30_000, "cpu_shares": 512, "memory_limit_in_bytes": 134_217_728 }),
    );
    assert_eq!(memory(), "134217728");
    assert_eq!(quota(), if v2 { "30000 100000" } else { "30000" });
    assert_shares(&container.cgroup("cpu", "cpu.shares", "cpu.weight"), 512);
    assert_eq!(container.cgroup("cpuset", "cpuset.cpus", "cpuset.cpus"), "0", "what is not named stays");
    // Downwards as well.
    update(json!({ "memory_limit_in_bytes": 50_331_648 }));
    assert_eq!(memory(), "50331648");
    pod.end();
}

pub fn scope(cri: &Cri) {
    require!(by_systemd(), "the cgroup driver is not systemd's");
    let pod = cri.pod(&json!({}));
    let limits = json!({ "cpu_period": 100_000, "cpu_quota": 20_000, "memory_limit_in_bytes": 67_108_864 });
    let container = pod.container("sleep 1000", &json!({ "linux": { "resources": limits } }));
    let scope = format!("cri-containerd-{}.scope", container.id);
    let wanted = [("Slice", pod.parent.word()), ("MemoryMax", "67108864".into()), ("Delegate", "yes".into())];
    for (name, value) in &wanted {
        assert_eq!(&unit(&scope, name), value, "{name}");
    }
    assert_eq!(unit(&format!("cri-containerd-{}.scope", pod.id), "Slice"), pod.parent.word());
    // As the kubelet limits a pod, when its containers run already.
    sh(&format!("systemctl set-property --runtime {} MemoryMax=80M TasksMax=90", pod.parent.word())).ok();
    sh("systemctl daemon-reload").ok();
    sh(&format!("systemctl revert {}", pod.parent.word())).ok();
    assert_eq!(container.cgroup("memory", "", "memory.max"), "67108864");
    assert_eq!(container.cgroup("cpu", "", "cpu.max"), "20000 100000");
    assert_eq!(container.exec_prints("echo in"), "in");
    pod.end();
    assert_eq!(unit(&scope, "LoadState"), "not-found");
}

pub fn stats(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let script = "dd if=/dev/zero of=/dev/shm/eight bs=1M count=8 2>/dev/null; n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); done; sleep 1000";
    let container = pod.container(script, &json!({}));
    let figure = |what: &str, name: &str| {
        let stats = cri.ok("ContainerStats", &container.request())["stats"].clone();
        stats[what][name]["value"].as_u64().unwrap_or(0)
    };
    eventually("eight mebibytes of memory", || figure("memory", "working_set_bytes") >= 8 << 20);
    eventually("some processor time", || figure("cpu", "usage_core_nano_seconds") > 1_000_000);
    pod.end();
}

pub fn exec_sync(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let container = pod.container("sleep 1000", &json!({}));
    let done = container.exec("echo out; echo err >&2; exit 9");
    assert_eq!(done, json!({ "stdout": "out\n", "stderr": "err\n", "exit_code": 9 }));
    // Much of it, which no pipe holds at once.
    let much = container.exec("seq 100000");
    assert!(much["stdout"].as_str().is_some_and(|text| text.ends_with("\n99999\n100000\n")));
    let begun = Instant::now();
    let request = json!({ "container_id": container.id, "cmd": ["sleep", "50"], "timeout": 1 });
    let error = cri.call("ExecSync", &request).expect_err("a timeout");
    assert!(error.contains("timeout") && begun.elapsed() < Duration::from_secs(20) * slow(), "{error}");
    eventually("what was too slow is killed", || !container.exec_prints("ps -o args").contains("sleep 50"));
    let request = json!({ "container_id": container.id, "cmd": ["/no/such/program"] });
    let error = cri.call("ExecSync", &request).expect_err("a missing command");
    assert!(error.contains("no such file or directory"), "{error}");
    pod.end();
}

pub fn exec_streams(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let container = pod.container("sleep 1000", &json!({}));
    let exec = |tty: bool, script: &str, play: &serde_json::Value| {
        let request = json!({
            "container_id": container.id, "cmd": ["sh", "-c", script], "tty": tty,
            "stdin": true, "stdout": true, "stderr": !tty,
        });
        cri.stream("Exec", &request, play)
    };
    let say = json!({ "say": [{ "after": "ask", "input": "word\n" }] });
    let done = exec(false, "echo ask; read x; echo heard $x; echo aside >&2; exit 4", &say);
    assert_eq!(
        (&done["stdout"], &done["stderr"]),
        (&json!("ask\nheard word\n"), &json!("aside\n")),
        "{done}"
    );
    assert_eq!(done["status"]["details"]["causes"][0]["message"], "4", "{done}");

    let say = json!({ "size": [91, 37], "say": [{ "after": "ask", "input": "word\n" }] });
    // The size comes by a message of its own, maybe after the start.
    let script = "tty; until [ \"$(stty size)\" = '37 91' ]; do sleep 0.1; done; stty size; echo ask; read x; echo heard $x";
    let done = exec(true, script, &say);
    let text = done["stdout"].as_str().expect("stdout");
    for words in ["/dev/pts/", "37 91\r\n", "heard word\r\n"] {
        assert!(text.contains(words), "{words:?} is missing: {done}");
    }
    assert_eq!(done["status"]["status"], "Success", "{done}");
    pod.end();
}

pub fn attach(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    // containerd passes the input on before it has connected the output: an answer at once can be lost.
    let script = "while read x; do sleep 0.5; echo heard $x; [ $x = end ] && exit 5; done";
    for tty in [false, true] {
        let container = pod.container(script, &json!({ "stdin": true, "tty": tty }));
        let request = json!({
            "container_id": container.id, "stdin": true, "stdout": true, "stderr": !tty, "tty": tty,
        });
        // Left and come back to: it goes on.
        let say = json!({ "say": [{ "after": "", "input": "one\n" }], "leave_at": "heard one" });
        let done = cri.stream("Attach", &request, &say);
        assert!(done["stdout"].as_str().is_some_and(|text| text.contains("heard one")), "{done}");
        assert_eq!(container.status()["state"], RUNNING);
        let say = json!({ "say": [{ "after": "", "input": "two\nend\n" }] });
        let done = cri.stream("Attach", &request, &say);
        assert!(done["stdout"].as_str().is_some_and(|text| text.contains("heard two")), "{done}");
        container.ends_with(5);
        assert!(container.output("stdout").contains("heard one"), "the log has it too");
    }
    pod.end();
}

/// As the kubelet probes: a minute long, or as long as `BERTH_PROBE_SECONDS` says.
pub fn probes(cri: &Cri) {
    let seconds = std::env::var("BERTH_PROBE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let pod = cri.pod(&json!({}));
    let container = pod.container("touch /tmp/healthy; while :; do sleep 1; done", &json!({}));
    eventually("it is ready", || container.exec("cat /tmp/healthy")["exit_code"] == 0);
    let request = json!({ "container_id": container.id, "cmd": ["cat", "/tmp/healthy"], "timeout": 10 });
    let mut latencies: Vec<Duration> = Vec::new();
    for _ in 0..seconds {
        let begun = Instant::now();
        let done = cri.ok("ExecSync", &request);
        latencies.push(begun.elapsed());
        assert_eq!(done["exit_code"], 0, "a probe failed: {done}");
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    latencies.sort();
    let (median, last) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!(
        "{:6} {} probes, none failed: median {median:.1?}, slowest {last:.1?}",
        cri.site.runtime.name,
        latencies.len()
    );
    // A probe leaves nothing behind in the container.
    assert_eq!(
        container.exec_prints("ls /proc | grep -c '^[0-9]*$'").parse::<u32>().map(|count| count < 8),
        Ok(true)
    );
    pod.end();
}

pub fn stop(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let polite = pod
        .container("trap 'echo bye; exit 42' TERM; touch /tmp/set; while :; do sleep 0.1; done", &json!({}));
    eventually("the trap is set", || polite.exec("test -e /tmp/set")["exit_code"] == 0);
    polite.stop(60);
    let status = polite.status();
    assert_eq!((&status["state"], &status["exit_code"]), (&json!(EXITED), &json!(42)), "{status}");
    assert_eq!(polite.output("stdout"), "bye");

    let deaf = pod.container("trap '' TERM; touch /tmp/set; while :; do sleep 0.1; done", &json!({}));
    eventually("the trap is set", || deaf.exec("test -e /tmp/set")["exit_code"] == 0);
    let begun = Instant::now();
    deaf.stop(2);
    assert!(begun.elapsed() >= Duration::from_secs(2), "the grace period was cut short");
    let status = deaf.status();
    assert_eq!((&status["state"], &status["exit_code"]), (&json!(EXITED), &json!(137)), "{status}");
    // Twice is once.
    deaf.stop(0);
    pod.end();
}

pub fn oom(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let limit = json!({ "linux": { "resources": { "memory_limit_in_bytes": 16_777_216 } } });
    let container = pod.container("exec tail /dev/zero", &limit);
    let status = container.await_state(EXITED);
    assert_eq!((&status["exit_code"], &status["reason"]), (&json!(137), &json!("OOMKilled")), "{status}");
    pod.end();
}

pub fn crashes(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let container = pod.create("", &json!({ "command": ["/no/such/program"] })).expect("created");
    let error = cri.call("StartContainer", &container.request()).expect_err("a missing command");
    assert!(error.contains("no such file or directory"), "{error}");
    let status = container.status();
    assert_eq!((&status["state"], &status["reason"]), (&json!(EXITED), &json!("StartError")), "{status}");
    assert_eq!(status["exit_code"], 128);
    cri.ok("RemoveContainer", &container.request());
    // The kubelet's next attempt is a new container of the same name.
    for attempt in 0..3 {
        let name = json!({ "metadata": { "name": "crashing", "attempt": attempt } });
        let container = pod.container("sh -c 'kill -SEGV $$'; exit $?", &name);
        container.ends_with(139);
        cri.ok("RemoveContainer", &container.request());
    }
    pod.end();
}

pub fn restart(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let container = pod.container("trap 'exit 42' TERM; while :; do sleep 0.1; done", &json!({}));
    let pid = container.pid();
    cri.daemon.borrow_mut().stop();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "it ended with containerd");
    *cri.daemon.borrow_mut() = launch(&cri.site);
    cri.await_ready();
    assert_eq!((&container.status()["state"], container.pid()), (&json!(RUNNING), pid));
    assert_eq!(container.exec_prints("echo in"), "in");
    container.stop(30);
    container.ends_with(42);
    pod.prints("echo another", &json!({}));
    pod.end();
}
