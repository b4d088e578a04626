//! Podman and Buildah of an ordinary user: the runtime runs as root of the user namespace that Podman makes.
//!
//! Without systemd or on cgroup v1 such a user has no cgroups: what needs them (pause, stats, limits) Podman refuses.

use super::{Podman, builds, life, options, sharing};
use crate::cgroups::by_systemd;
use crate::image;
use crate::require;
use crate::site::{Bounded, Engine, Runtime, Scenario, Site};
use crate::user::{GROUP, ID, RANGE, User};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

pub struct Rootless(Podman);

impl Engine for Rootless {
    const NAME: &'static str = "rootless podman";
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario { name: "both streams and the exit status", run: |own| life::streams(&own.0) },
        Scenario { name: "standard input", run: |own| life::input(&own.0) },
        Scenario { name: "a terminal", run: |own| life::terminal(&own.0) },
        Scenario { name: "a missing command is 127, an unusable one 126", run: |own| life::missing(&own.0) },
        Scenario {
            name: "run --detach, exec, top, logs, inspect, stop",
            run: |own| life::background(&own.0),
        },
        Scenario { name: "exec with a terminal and as another user", run: |own| life::exec_options(&own.0) },
        Scenario { name: "kill, wait", run: |own| life::kill(&own.0) },
        Scenario { name: "create, start --attach, restart", run: |own| life::create(&own.0) },
        Scenario { name: "--rm leaves no container", run: |own| life::remove(&own.0) },
        Scenario { name: "cp into and out of a running container", run: |own| life::copy(&own.0) },
        Scenario { name: "healthcheck", run: |own| life::healthcheck(&own.0) },
        Scenario {
            name: "runtime by path, and by name from containers.conf",
            run: |own| life::runtime_by_path(&own.0),
        },
        Scenario { name: "pause, unpause", run: |own| life::pause(with_cgroups(own)) },
        Scenario { name: "stats", run: |own| life::stats(with_cgroups(own)) },
        Scenario { name: "--memory, --pids-limit in a scope of the user's", run: limits },
        Scenario {
            name: "out of memory kills the process",
            run: |own| options::out_of_memory(with_cgroups(own)),
        },
        Scenario { name: "the user's ids", run: ids },
        Scenario { name: "--userns=keep-id", run: keep_id },
        Scenario { name: "--group-add keep-groups", run: keep_groups },
        Scenario { name: "--userns=nomap, --uidmap", run: maps },
        Scenario { name: "--read-only, --tmpfs", run: |own| options::read_only(&own.0) },
        Scenario { name: "-v ro, U, z, and propagation", run: |own| options::volumes(&own.0) },
        Scenario { name: "--cap-add, --cap-drop", run: |own| options::capabilities(&own.0) },
        Scenario { name: "--security-opt no-new-privileges", run: |own| options::no_new_privileges(&own.0) },
        Scenario { name: "--security-opt seccomp", run: |own| options::seccomp(&own.0) },
        Scenario { name: "--security-opt mask, unmask", run: |own| options::masks(&own.0) },
        Scenario { name: "--init", run: |own| options::init(&own.0) },
        Scenario { name: "--user, --workdir, --env, --hostname", run: |own| options::process(&own.0) },
        Scenario { name: "--privileged has no more than the user", run: privileged },
        Scenario { name: "--cgroups=disabled", run: |own| options::cgroups_disabled(&own.0) },
        Scenario { name: "--secret", run: |own| options::secret(&own.0) },
        Scenario {
            name: "--pid, --ipc, --network, --uts of a container or the host",
            run: |own| sharing::namespaces(&own.0),
        },
        Scenario { name: "a pod shares its namespaces", run: |own| sharing::pod(&own.0) },
        Scenario { name: "a pod with one pid namespace", run: |own| sharing::pod_with_pids(&own.0) },
        Scenario { name: "play kube", run: |own| sharing::kube(&own.0) },
        Scenario { name: "build", run: |own| builds::podman(&own.0) },
        Scenario { name: "commit", run: |own| builds::commit(&own.0) },
        Scenario { name: "buildah bud", run: |own| builds::bud(&own.0) },
        Scenario { name: "buildah run", run: |own| builds::run(&own.0) },
        Scenario {
            name: "buildah run with volumes, capabilities and a user",
            run: |own| builds::run_options(&own.0),
        },
    ];

    fn start(runtime: &Runtime) -> Self {
        for program in ["newuidmap", "newgidmap"] {
            require!(
                fs::exists(format!("/usr/bin/{program}")).expect("/usr/bin"),
                "the package uidmap is missing"
            );
        }
        let site = Site::new("user", runtime);
        let user = User::new(&site);
        let home = user.home.clone();
        Self(Podman::prepare(site, Some(user), home))
    }

    fn stop(self) {
        self.0.podman(&["pod", "rm", "--all", "--force", "--time=0"]).ok();
        self.0.podman(&["rm", "--all", "--force", "--time=0"]).ok();
        // Ends the process that holds Podman's user namespace.
        self.0.podman(&["system", "migrate"]).ok();
        self.0.finish();
    }
}

/// Where the user has cgroups.
fn with_cgroups(own: &Rootless) -> &Podman {
    require!(by_systemd(), "an ordinary user has no cgroups: the driver is not systemd's");
    &own.0
}

/// The user's systemd may give memory and processes (`Delegate=` of user@.service).
fn limits(own: &Rootless) {
    let podman = with_cgroups(own);
    podman.up("limited", "--memory=64m --memory-swap=64m --pids-limit=33", "sleep 1000");
    let file = |name: &str| podman.exec("limited", &format!("cat /sys/fs/cgroup/{name}"));
    assert_eq!([file("memory.max"), file("memory.swap.max"), file("pids.max")], ["67108864", "0", "33"]);
    let pid = podman.inspect("limited", "{{.State.Pid}}");
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    let id = podman.inspect("limited", "{{.Id}}");
    let scope = format!("/user@{ID}.service/user.slice/libpod-{id}.scope");
    assert!(cgroup.contains(&scope), "{cgroup}");
    podman.remove("limited");
    let left = format!("/sys/fs/cgroup/user.slice/user-{ID}.slice{scope}");
    assert!(!fs::exists(&left).expect("cgroups"), "{left}");
}

fn ids(own: &Rootless) {
    let podman = &own.0;
    let text = podman.run("", "cat /proc/self/uid_map; id -u").ok();
    let words: Vec<u32> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(words, [0, ID, 1, 1, RANGE, 65_536, 0]);
    podman.up("ids", "--user 1000", "sleep 1000");
    let pid = podman.inspect("ids", "{{.State.Pid}}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    assert!(status.contains(&format!("Uid:\t{}", RANGE + 999)), "{status}");
    podman.remove("ids");
}

fn keep_id(own: &Rootless) {
    let podman = &own.0;
    let volume = podman.directory("kept");
    let flags = format!("--userns=keep-id -v {}:/volume", volume.display());
    assert_eq!(
        podman.run(&flags, "id -u; id -g; touch /volume/new; stat -c %u /volume/new").ok(),
        format!("{ID}\n{ID}\n{ID}")
    );
    podman.up("kept", "--userns=keep-id", "sleep 1000");
    assert_eq!(podman.exec("kept", "id -u"), ID.to_string());
    assert_eq!(podman.podman(&["exec", "--user", "root", "kept", "id", "-u"]).ok(), "0");
    podman.remove("kept");
}

/// crun's annotation run.oci.keep_original_groups: the groups of the user that the container cannot name.
fn keep_groups(own: &Rootless) {
    let podman = &own.0;
    let volume = podman.directory("group");
    fs::write(volume.join("file"), "for the group").expect("a file");
    chown(volume.join("file"), Some(0), Some(GROUP)).expect("its group");
    fs::set_permissions(volume.join("file"), PermissionsExt::from_mode(0o640)).expect("its mode");
    let flags = format!("-v {}:/volume", volume.display());
    podman.run(&flags, "cat /volume/file").exits(1);
    let text = podman.run(&format!("--group-add keep-groups {flags}"), "cat /volume/file; echo; id -G").ok();
    assert!(text.starts_with("for the group\n") && text.ends_with("65534"), "{text}");
    podman.up("groups", &format!("--group-add keep-groups {flags}"), "sleep 1000");
    assert_eq!(podman.exec("groups", "cat /volume/file"), "for the group");
    podman.remove("groups");
}

fn maps(own: &Rootless) {
    let podman = &own.0;
    let map = podman.run("--uidmap 0:1:1000 --gidmap 0:1:1000", "cat /proc/self/uid_map").ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1", "1000"]);
    // The user's own id is none of the container's.
    let map = podman.run("--userns=nomap", "cat /proc/self/uid_map").ok();
    assert_eq!(map.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "1"]);
}

fn privileged(own: &Rootless) {
    let podman = &own.0;
    let script = "mkdir /mnt && mount -t tmpfs x /mnt && echo mounted; ! mknod /null c 1 3 2>/dev/null && echo no device; cat /proc/self/uid_map";
    let text = podman.run("--privileged", script).ok();
    assert!(text.starts_with("mounted\nno device\n"), "{text}");
    let done = podman
        .client(&["run", "--rm", "--privileged", "--network=host", image::NAME, "hostname", "changed"])
        .done();
    assert!(!done.stderr.contains("level=error"), "{}", done.describe());
}
