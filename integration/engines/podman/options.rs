//! Flags of `podman run`, seen from inside the container and in the kernel's files.

use super::Podman;
use crate::cgroups::{by_systemd, has_systemd};
use crate::image;
use crate::require;
use crate::site::{Bounded, sh};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

pub fn read_only(podman: &Podman) {
    let script = "touch /new 2>/dev/null && exit 1; touch /tmp/new /scratch/new && stat -f -c %T /scratch; df -m /scratch | tail -1";
    let text = podman.run("--read-only --tmpfs /scratch:size=3m", script).ok();
    assert!(text.starts_with("tmpfs\n"), "{text}");
    assert!(text.contains(" 3 "), "{text}");
    podman.run("--read-only --read-only-tmpfs=false", "touch /tmp/new").exits(1);
}

pub fn volumes(podman: &Podman) {
    let volume = podman.directory("volume");
    fs::write(volume.join("file"), "text").expect("a file");
    podman.give(&volume.join("file"));
    let path = volume.display();
    let text = podman
        .run(
            &format!("-v {path}:/ro:ro -v {path}:/rw:z"),
            "touch /ro/x 2>/dev/null; touch /rw/y; cat /ro/file; ls /ro",
        )
        .ok();
    assert_eq!(text, "textfile\ny");
    // Given to the container's user.
    podman.run(&format!("--user 1000:1000 -v {path}:/own:U"), "touch /own/z && test -O /own/file").ok();
    let mapped = if podman.user.is_some() { crate::user::RANGE + 999 } else { 1000 };
    assert_eq!(fs::metadata(volume.join("file")).expect("the file").uid(), mapped);
    let named = podman.run("-v named:/named", "echo kept >/named/file");
    named.ok();
    assert_eq!(podman.run("-v named:/named", "cat /named/file").ok(), "kept");
    podman.podman(&["volume", "rm", "named"]).ok();
    for propagation in ["rprivate", "rslave", "rshared"] {
        let flags = format!("-v {path}:/volume:{propagation}");
        let line = podman.run(&flags, "grep ' /volume ' /proc/self/mountinfo").ok();
        let (shared, slave) = (line.contains("shared:"), line.contains("master:"));
        match propagation {
            "rprivate" => assert!(!shared && !slave, "{line}"),
            "rshared" => assert!(shared, "{line}"),
            // A slave of what is private is private.
            _ => assert!(!shared, "{line}"),
        }
    }
}

pub fn idmapped_volume(podman: &Podman) {
    let volume = podman.directory("idmapped");
    fs::write(volume.join("file"), "").expect("a file");
    chown(volume.join("file"), Some(1000), Some(1000)).expect("its owner");
    let flags =
        format!("--uidmap 0:100000:5000 --gidmap 0:100000:5000 -v {}:/volume:idmap", volume.display());
    let owner = podman.run(&flags, "stat -c %u:%g /volume/file; touch /volume/new").ok();
    assert_eq!(owner, "1000:1000");
    assert_eq!(fs::metadata(volume.join("new")).expect("the new file").uid(), 0);
}

pub fn devices(podman: &Podman) {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(["--device", "/dev/null:/dev/nothing:rw", "--device-cgroup-rule", "c 240:7 r"]);
    // Nobody serves the numbers 240:7 and 240:8: who may open them hears that there is no such device.
    let script =
        "stat -c %t:%T /dev/nothing && echo x >/dev/nothing && mknod /allowed c 240 7 && mknod /other c 240 8
        head -c 1 /allowed; head -c 1 /other; echo x >/allowed";
    args.extend([image::NAME, "sh", "-c", script]);
    let done = podman.podman(&args).exits(1);
    assert_eq!(done.stdout, "1:3\n");
    let refusals: Vec<&str> =
        done.stderr.lines().map(|line| line.rsplit(": ").next().unwrap_or(line)).collect();
    let (allowed, refused) = ("No such device or address", "Operation not permitted");
    assert_eq!(refusals, [allowed, refused, refused], "{}", done.describe());
}

pub fn limits_of_processes(podman: &Podman) {
    let flags = "--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=4000 --sysctl kernel.msgmax=9000 --sysctl net.ipv4.ip_forward=1";
    let text = podman
        .run(
            flags,
            "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward",
        )
        .ok();
    assert_eq!(text, "100\n200\n0\n9000\n1");
    podman.run("--sysctl kernel.pid_max=10000", "true").exits(125);
}

/// The capability sets of the container's process, bounding and effective.
fn sets(podman: &Podman, flags: &str) -> (u64, u64) {
    let text = podman.run(flags, "grep -E 'CapBnd|CapEff' /proc/self/status").ok();
    let set = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a set");
        u64::from_str_radix(line.split_whitespace().nth(1).expect("a number"), 16).expect("hexadecimal")
    };
    (set("CapBnd"), set("CapEff"))
}

pub fn capabilities(podman: &Podman) {
    const CHOWN: u64 = 1 << 0;
    const NET_RAW: u64 = 1 << 13;
    const SYS_ADMIN: u64 = 1 << 21;
    let (bounding, effective) = sets(podman, "");
    assert!(effective & CHOWN != 0 && effective & SYS_ADMIN == 0 && bounding == effective, "{effective:x}");
    assert_eq!(sets(podman, "--cap-drop all --cap-add net_raw"), (NET_RAW, NET_RAW));
    assert_eq!(sets(podman, "--cap-drop chown").1 & CHOWN, 0);
    // An ordinary user has them only when told so.
    assert_eq!(sets(podman, "--user 1000").1, 0);
    assert_eq!(sets(podman, "--user 1000 --cap-add net_raw").1 & NET_RAW, NET_RAW);
}

pub fn no_new_privileges(podman: &Podman) {
    let word = |flags: &str| podman.run(flags, "grep NoNewPrivs /proc/self/status").ok().replace('\t', " ");
    assert_eq!(word("--security-opt no-new-privileges"), "NoNewPrivs: 1");
    assert_eq!(word(""), "NoNewPrivs: 0");
}

pub fn seccomp(podman: &Podman) {
    let mode = |flags: &str| podman.run(flags, "grep -w Seccomp /proc/self/status").ok().replace('\t', " ");
    assert_eq!(mode(""), "Seccomp: 2");
    assert_eq!(mode("--security-opt seccomp=unconfined"), "Seccomp: 0");
    // What Podman's own profile refuses.
    podman.run("", "unshare --mount true").exits(1);
    let profile = podman.home.join("profile.json");
    let text = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    fs::write(&profile, text.to_string()).expect("the profile");
    podman.give(&profile);
    let done = podman.run(&format!("--security-opt seccomp={}", profile.display()), "mkdir /new").exits(1);
    assert!(done.stderr.contains("not supported"), "{}", done.describe());
}

pub fn masks(podman: &Podman) {
    let script = "head -c 5 /proc/version; grep -c ' /proc/keys ' /proc/self/mounts; ls /sys/kernel | wc -l";
    assert_eq!(podman.run("", "head -c 5 /proc/version").ok(), "Linux");
    let text = podman
        .run("--security-opt mask=/proc/version:/sys/kernel --security-opt unmask=/proc/keys", script)
        .stdout;
    assert_eq!(text, "0\n0\n");
    let writable = "grep ' /proc/sys ' /proc/self/mounts | grep -c '[( ,]ro'";
    assert_eq!(podman.run("", writable).stdout.trim(), "1");
    assert_eq!(podman.run("--security-opt unmask=ALL", writable).stdout.trim(), "0");
}

pub fn apparmor(podman: &Podman) {
    require!(Path::new("/sys/kernel/security/apparmor/profiles").exists(), "no AppArmor in this kernel");
    let label = podman.run("--security-opt apparmor=unconfined", "cat /proc/self/attr/current").ok();
    assert_eq!(label, "unconfined");
    // Podman's own profile, which it loads.
    let label = podman.run("", "cat /proc/self/attr/current").ok();
    assert!(label.starts_with("containers-default-") && label.ends_with(" (enforce)"), "{label}");
    // It looks for itself whether a profile is loaded.
    let done = podman.run("--security-opt apparmor=not-loaded", "true").exits(126);
    assert!(done.stderr.contains("specified but not loaded"), "{}", done.describe());
}

pub fn privileged(podman: &Podman) {
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let bounding = own.lines().find(|line| line.starts_with("CapBnd")).expect("a set").replace('\t', " ");
    let script = "grep CapBnd /proc/self/status; grep -w Seccomp /proc/self/status; ls /dev/kmsg; mount -t tmpfs x /mnt && echo mounted";
    let text = podman.run("--privileged", &format!("mkdir /mnt; {script}")).ok().replace('\t', " ");
    assert_eq!(text, format!("{bounding}\nSeccomp: 0\n/dev/kmsg\nmounted"));
    let masked = podman.run("--privileged", "grep -c -E ' /proc/(keys|sys|acpi) ' /proc/self/mounts").stdout;
    assert_eq!(masked.trim(), "0");
}

pub fn init(podman: &Podman) {
    let packaged =
        ["/usr/libexec/podman/catatonit", "/usr/bin/catatonit"].iter().find(|path| Path::new(path).exists());
    let Some(path) = packaged else {
        require!(false, "the package catatonit is missing");
        return;
    };
    let flags = format!("--init --init-path {path}");
    let done = podman
        .run(
            &flags,
            "cat /proc/1/comm; (sleep 0.1 &) ; sleep 0.3; grep -l ') Z ' /proc/[0-9]*/stat | wc -l; exit 3",
        )
        .exits(3);
    assert_eq!(done.stdout, "podman-init\n0\n");
}

pub fn process(podman: &Podman) {
    let flags = "--user 1000:2000 --workdir /home/user --env WORD=said --hostname named --env-host=false";
    let text = podman.run(flags, "id -u; id -g; pwd; echo $WORD; hostname; echo $container").ok();
    assert_eq!(text, "1000\n2000\n/home/user\nsaid\nnamed\npodman");
    assert_eq!(podman.run("--user user --group-add 3000", "id -G").ok(), "1000 2000 3000");
    assert_eq!(podman.run("--umask 0077", "umask").ok(), "0077");
}

/// A file of the container's own cgroup, which is mounted in it.
fn cgroup_file(podman: &Podman, flags: &str, v1: &str, v2: &str) -> String {
    podman.run(flags, &format!("cd /sys/fs/cgroup; cat {v1} 2>/dev/null || cat {v2}")).ok()
}

pub fn resources(podman: &Podman) {
    let flags = "--memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 33 --cpuset-cpus 0 --cpu-shares 512";
    assert_eq!(cgroup_file(podman, flags, "memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert!(
        ["50000", "50000 100000"]
            .contains(&cgroup_file(podman, flags, "cpu/cpu.cfs_quota_us", "cpu.max").as_str())
    );
    assert_eq!(cgroup_file(podman, flags, "pids/pids.max", "pids.max"), "33");
    assert_eq!(cgroup_file(podman, flags, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    podman.run("--pids-limit 5", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done").exits(2);
}

/// Of Podman's OOMKilled nothing is said here: Debian 12's conmon does not see the event on cgroup v1, with no runtime.
pub fn out_of_memory(podman: &Podman) {
    podman.up(
        "oom",
        "--memory=16m --memory-swap=16m",
        "(x=x; while :; do x=$x$x; done); echo $?; sleep 2; exit 9",
    );
    assert_eq!(podman.podman(&["wait", "oom"]).ok(), "9");
    assert_eq!(podman.podman(&["logs", "oom"]).stdout, "137\n");
    podman.remove("oom");
}

/// Where a process is, as the host sees it.
fn cgroups_of(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups")
}

pub fn cgroups_without_conmon(podman: &Podman) {
    podman.up("without", "--cgroups=no-conmon", "sleep 1000");
    let pid = |which: &str| podman.inspect("without", &format!("{{{{.State.{which}}}}}"));
    let (conmon, container) = (cgroups_of(&pid("ConmonPid")), cgroups_of(&pid("Pid")));
    assert!(!conmon.contains("libpod") && container.contains("/libpod-"), "{conmon}, {container}");
    podman.remove("without");
}

/// crun's `--cgroup-manager=disabled`.
pub fn cgroups_disabled(podman: &Podman) {
    let own = fs::read_to_string("/proc/self/cgroup").expect("our cgroup");
    let seen = podman.run("--cgroups=disabled --cgroupns=host", "cat /proc/self/cgroup").ok();
    if podman.user.is_some() && by_systemd() {
        // Podman is in a scope that the user's systemd made for it.
        assert!(!seen.contains("libpod") && seen.contains("/podman-"), "{seen}");
    } else {
        assert_eq!(seen, own.trim_end());
    }
}

const SERVICE: &str = "berth-engines-split.service";

/// A command as a service of systemd's, as Podman's units run it, and not in the cgroup of the tests.
fn as_service(command: &Command) -> Command {
    let mut service = Command::new("systemd-run");
    service.args(["--quiet", "--wait", "--pipe", "--collect", "--property=Delegate=yes", "--unit", SERVICE]);
    for (name, value) in command.get_envs() {
        service.arg(format!("--setenv={}={}", name.display(), value.unwrap_or_default().display()));
    }
    service.arg(command.get_program()).args(command.get_args());
    service
}

pub fn cgroups_split(podman: &Podman) {
    let unified = sh("stat -f -c %T /sys/fs/cgroup").ok() == "cgroup2fs";
    require!(unified, "Podman splits its own cgroup on cgroup v2 only");
    let flags = ["run", "--rm", "--network=none", "--cgroups=split", "--cgroupns=host", image::NAME];
    let mut command = podman.client(&[&flags[..], &["cat", "/proc/self/cgroup"]].concat());
    if has_systemd() {
        command = as_service(&command);
    }
    let cgroup = command.done().ok();
    assert!(cgroup.contains("/libpod-payload-"), "{cgroup}");
    assert!(!has_systemd() || cgroup.contains(SERVICE), "{cgroup}");
}

pub fn cgroup_namespace(podman: &Podman) {
    let text = podman.run("--cgroupns=private", "cat /proc/self/cgroup; readlink /proc/self/ns/cgroup").ok();
    assert!(!text.contains("libpod"), "{text}");
    assert!(
        !text.contains(&fs::read_link("/proc/self/ns/cgroup").expect("our namespace").display().to_string()),
        "{text}"
    );
}

pub fn secret(podman: &Podman) {
    let file = podman.home.join("secret");
    fs::write(&file, "hidden").expect("the secret");
    podman.give(&file);
    podman.podman(&["secret", "create", "word", &file.to_string_lossy()]).ok();
    assert_eq!(
        podman.run("--secret word,mode=0400", "cat /run/secrets/word; stat -c %a /run/secrets/word").ok(),
        "hidden400"
    );
    assert_eq!(podman.run("--secret word,type=env,target=WORD", "echo $WORD").ok(), "hidden");
    podman.podman(&["secret", "rm", "word"]).ok();
}
