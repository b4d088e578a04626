//! dockerd with `userns-remap`: root of its containers is an ordinary user of the host.

use super::{Docker, Setup, added, exec, life};
use crate::site::{Engine, Runtime, Scenario, eventually};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

/// The first of the host's ids that are the containers', and how many.
const RANGE: u32 = 700_000;
const SIZE: u32 = 65_536;

/// The user is known in the daemons' mount namespace alone: there is nothing to take away from the machine.
pub struct Remapped(Docker);

impl Engine for Remapped {
    const NAME: &'static str = "docker-userns";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "root is the user's", run: identity },
        Scenario { name: "streams and the exit status", run: |remapped| life::streams(&remapped.0) },
        Scenario { name: "run -it", run: |remapped| life::terminal(&remapped.0) },
        Scenario { name: "exec", run: |remapped| exec::attributes(&remapped.0) },
        Scenario { name: "exec -it", run: |remapped| exec::terminal(&remapped.0) },
        Scenario {
            name: "exec: missing, forbidden, wrong directory",
            run: |remapped| exec::errors(&remapped.0),
        },
        Scenario { name: "stop", run: |remapped| life::stop(&remapped.0) },
        Scenario { name: "pause and unpause", run: |remapped| life::pause(&remapped.0) },
        Scenario { name: "volumes", run: volumes },
        Scenario { name: "what root of the user may", run: rights },
        Scenario { name: "limits, a device, sysctls", run: limits },
        Scenario { name: "a device under another name", run: renamed_device },
        Scenario {
            name: "--pid, --ipc, --network container:",
            run: |remapped| super::sharing::container(&remapped.0),
        },
        Scenario { name: "--userns host", run: host },
        Scenario { name: "cp both ways", run: |remapped| super::files::copy(&remapped.0) },
        Scenario { name: "-p: a published port", run: |remapped| super::network::published(&remapped.0) },
    ];

    fn start(runtime: &Runtime) -> Self {
        let before = format!(
            "cd \"$(dirname \"$1\")\"
            for file in passwd group subuid subgid; do cp /etc/$file etc-$file; done
            echo 'berth-user:x:7777:7777::/nonexistent:/bin/sh' >>etc-passwd
            echo 'berth-user:x:7777:' >>etc-group
            echo 'berth-user:{RANGE}:{SIZE}' | tee etc-subuid >etc-subgid
            for file in passwd group subuid subgid; do mount --bind etc-$file /etc/$file; done
            "
        );
        let settings = serde_json::json!({ "userns-remap": "berth-user" });
        let flags = vec![added(runtime)];
        Self(Docker::launch(
            Self::NAME,
            runtime,
            Setup { settings, flags, before, named: true, ..Setup::default() },
        ))
    }

    fn stop(self) {
        self.0.end();
    }
}

fn identity(Remapped(docker): &Remapped) {
    let map = format!("0 {RANGE} {SIZE}");
    let script = "id -u; tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; stat -c '%u %g' / /bin/busybox /home/user /dev /dev/shm";
    let seen = docker.inside(&[], script);
    let lines: Vec<&str> = seen.lines().map(str::trim).collect();
    assert_eq!(lines[..3], ["0", &map, &map]);
    assert_eq!(lines[3..], ["0 0", "0 0", "1000 1000", "0 0", "0 0"], "{seen}");
    for (user, id) in [("root", RANGE), ("user", RANGE + 1000)] {
        docker.idle("owner", &["--user", user]);
        let status = fs::metadata(format!("/proc/{}/ns", docker.pid("owner"))).expect("its process");
        let lines = fs::read_to_string(format!("/proc/{}/status", docker.pid("owner"))).expect("its status");
        assert!(lines.contains(&format!("Uid:\t{id}\t{id}\t{id}\t{id}\n")), "{lines}");
        assert!([id, 0].contains(&status.uid()), "{}", status.uid());
        assert_eq!(docker.cli(&["exec", "owner", "id", "-un"]).ok(), user);
        docker.remove(&["owner"]);
    }
}

fn volumes(Remapped(docker): &Remapped) {
    let directory = docker.site.path("volume");
    for (name, owner) in [("theirs", RANGE), ("roots", 0)] {
        let path = directory.join(name);
        fs::create_dir_all(&path).expect("a directory");
        chown(&path, Some(owner), Some(owner)).expect("its owner");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
    }
    let volume = format!("{}:/in", directory.display());
    let script = "echo word >/in/theirs/file; cat /in/theirs/file; chown 1000 /in/theirs/file; stat -c %u /in/roots; ls /in/roots 2>&1 | grep -o denied";
    assert_eq!(docker.inside(&["--volume", &volume], script), "word\n65534\ndenied");
    let file = fs::metadata(directory.join("theirs/file")).expect("the file");
    assert_eq!((file.uid(), file.gid()), (RANGE + 1000, RANGE));
    assert_eq!(
        docker.inside(
            &["--volume", &format!("{volume}:ro")],
            "(echo x >/in/theirs/file) 2>&1 | grep -o Read-only"
        ),
        "Read-only"
    );
    assert_eq!(
        docker.inside(
            &["--volume", "named:/home/user"],
            "stat -c %u /home/user; touch /home/user/x && echo made"
        ),
        "1000\nmade"
    );
    docker.cli(&["volume", "rm", "named"]).ok();
    let flags = ["--read-only", "--tmpfs", "/tmp:uid=1000,mode=0700"];
    assert_eq!(
        docker.inside(
            &flags,
            "(echo x >/file) 2>&1 | grep -o Read-only; stat -c '%u %a' /tmp; touch /tmp/file && echo made"
        ),
        "Read-only\n1000 700\nmade"
    );
}

fn rights(Remapped(docker): &Remapped) {
    // All capabilities, in the user's namespace only.
    let script = "mkdir /m && mount -t tmpfs none /m && echo mounted; ip link add name dummy9 type bridge && echo linked; mknod /node c 1 3 2>&1 | grep -o permitted; echo 1 >/proc/sys/kernel/panic 2>/dev/null || echo refused";
    assert_eq!(
        docker.inside(
            &[
                "--cap-add",
                "ALL",
                "--security-opt",
                "seccomp=unconfined",
                "--security-opt",
                "apparmor=unconfined"
            ],
            script
        ),
        "mounted\nlinked\npermitted\nrefused"
    );
    // Docker refuses the combination itself.
    let error = docker.run(&["--rm", "--privileged"], &["true"]).exits(125).stderr;
    assert!(error.contains("incompatible with user namespaces"), "{error}");
    assert_eq!(
        docker.inside(&["--cap-drop", "ALL"], "grep CapEff /proc/self/status | cut -f 2"),
        "0000000000000000"
    );
    let nnp = "grep NoNewPrivs /proc/self/status | cut -f 2; grep Seccomp: /proc/self/status | cut -f 2";
    assert_eq!(docker.inside(&["--security-opt", "no-new-privileges"], nnp), "1\n2");
}

fn limits(Remapped(docker): &Remapped) {
    let flags = [
        "--memory",
        "64m",
        "--pids-limit",
        "30",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=77",
        "--ulimit",
        "nofile=100:200",
        "--device",
        "/dev/loop-control",
    ];
    docker.idle("limited", &flags);
    let memory = docker.cgroup_file("limited", "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (64 << 20).to_string());
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -Hn; stat -c %F /dev/loop-control; head -c 1 /dev/zero | wc -c";
    assert_eq!(docker.exec("limited", script), "77\n200\ncharacter special file\n1");
    docker.cli(&["update", "--memory", "80m", "--memory-swap", "80m", "limited"]).ok();
    let memory = docker.cgroup_file("limited", "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (80 << 20).to_string());
    docker.remove(&["limited"]);
}

/// mknod(2) is refused, so the host's node is bound; the bundle names the container's path only.
fn renamed_device(Remapped(docker): &Remapped) {
    let flags = ["--device", "/dev/zero:/dev/nothing/but", "--device", "/dev/full:/dev/sdz"];
    assert_eq!(
        docker.inside(
            &flags,
            "head -c 3 /dev/nothing/but | wc -c; (echo x >/dev/sdz) 2>&1 | grep -o 'No space'"
        ),
        "3\nNo space"
    );
}

fn host(Remapped(docker): &Remapped) {
    assert_eq!(
        docker.inside(&["--userns", "host"], "tr -s ' ' </proc/self/uid_map").trim(),
        "0 0 4294967295"
    );
    let flags = ["--userns", "host", "--privileged"];
    assert_eq!(docker.inside(&flags, "mkdir /m && mount -t tmpfs none /m && echo mounted"), "mounted");
    docker.idle("outside", &["--userns", "host"]);
    eventually("it answers", || docker.exec("outside", "echo word") == "word");
    docker.remove(&["outside"]);
}
