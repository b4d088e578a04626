//! What a pod's security context and volumes make of a container, seen from inside.

use super::{Cri, require_network};
use crate::cgroups::is_cgroup2;
use crate::require;
use crate::site::sh;
use crate::status::{PRINT, field, set};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A patch of a container's security context.
fn context(patch: Value) -> Value {
    json!({ "linux": { "security_context": patch } })
}

pub fn users(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    let ids = json!({
        "run_as_user": { "value": 1000 }, "run_as_group": { "value": 3000 }, "supplemental_groups": [4000, 5000],
    });
    let text = pod.prints("id -u; id -g; id -G; touch /tmp/file && stat -c %u:%g /tmp/file", &context(ids));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("1000", "3000", "1000:3000"), "{text}");
    for group in ["3000", "4000", "5000"] {
        assert!(lines[2].split(' ').any(|word| word == group), "{group} is missing: {text}");
    }
    let text = pod.prints("id -un; id -u; pwd", &context(json!({ "run_as_username": "user" })));
    assert_eq!(text, "user\n1000\n/");
    pod.end();
}

pub fn capabilities(cri: &Cri) {
    const CHOWN: u64 = 1;
    const SYS_TIME: u64 = 1 << 25;
    let pod = cri.pod(&json!({}));
    let plain = set(&pod.prints(PRINT, &json!({})), "CapEff");
    let changes =
        json!({ "capabilities": { "add_capabilities": ["SYS_TIME"], "drop_capabilities": ["CHOWN"] } });
    let text = pod.prints(PRINT, &context(changes));
    assert_eq!((plain & CHOWN, plain & SYS_TIME), (CHOWN, 0));
    assert_eq!(set(&text, "CapEff"), (plain | SYS_TIME) & !CHOWN);
    assert_eq!(set(&text, "CapBnd"), set(&text, "CapEff"));
    let only =
        json!({ "capabilities": { "add_capabilities": ["NET_BIND_SERVICE"], "drop_capabilities": ["ALL"] } });
    assert_eq!(set(&pod.prints(PRINT, &context(only)), "CapEff"), 1 << 10);
    pod.end();
}

pub fn privileged(cri: &Cri) {
    let pod = cri.pod(&context(json!({ "privileged": true })));
    let script = format!(
        "{PRINT}; mount -t tmpfs tmpfs /mnt && echo mounted; echo >/proc/sys/kernel/domainname && echo written; \
         test -c /dev/fuse && : </dev/fuse && echo device; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only"
    );
    // /mnt is not in the image.
    let text = pod.prints(&format!("mkdir -p /mnt; {script}; true"), &context(json!({ "privileged": true })));
    let own = fs::read_to_string("/proc/self/status").expect("status").replace('\t', " ");
    assert_eq!(set(&text, "CapEff"), set(&own, "CapBnd"), "{text}");
    assert_eq!(field(&text, "Seccomp"), "0");
    assert!(text.contains("mounted\nwritten"), "{text}");
    assert_eq!(text.contains("device"), Path::new("/dev/fuse").exists(), "{text}");
    assert!(text.ends_with('0'), "the cgroups are writable: {text}");
    pod.end();
}

pub fn hardening(cri: &Cri) {
    let pod = cri.pod(&json!({}));
    assert_eq!(field(&pod.prints(PRINT, &context(json!({ "no_new_privs": true }))), "NoNewPrivs"), "1");
    assert_eq!(field(&pod.prints(PRINT, &json!({})), "NoNewPrivs"), "0");
    let script = "touch /file 2>&1; touch /dev/shm/file && echo shared memory";
    let text = pod.prints(script, &context(json!({ "readonly_rootfs": true })));
    assert_eq!(text, "touch: /file: Read-only file system\nshared memory");
    // procMount: Default hides and protects, Unmasked does not.
    let script = "cat /proc/timer_list | wc -c; echo >/proc/sys/kernel/domainname || echo read-only";
    let paths = json!({ "masked_paths": ["/proc/timer_list"], "readonly_paths": ["/proc/sys"] });
    let sys_admin = json!({ "capabilities": { "add_capabilities": ["SYS_ADMIN"] } });
    let mut patch = paths;
    patch["capabilities"] = sys_admin["capabilities"].clone();
    assert_eq!(pod.prints(script, &context(patch)), "0\nread-only");
    pod.end();
}

pub fn seccomp(cri: &Cri) {
    // ProfileType: RuntimeDefault 0, Unconfined 1, Localhost 2.
    let pod = cri.pod(&json!({}));
    let with = |kind: i32, reference: &str| {
        context(json!({ "seccomp": { "profile_type": kind, "localhost_ref": reference } }))
    };
    let script = format!("{PRINT}; unshare -U true 2>/dev/null && echo allowed || echo refused");
    let text = pod.prints(&script, &with(1, ""));
    assert!(field(&text, "Seccomp") == "0" && text.ends_with("allowed"), "{text}");
    let text = pod.prints(&script, &with(0, ""));
    assert!(field(&text, "Seccomp") == "2" && text.ends_with("refused"), "{text}");
    let profile = cri.site.path("profile.json");
    let rule = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }"#;
    fs::write(&profile, rule).expect("profile");
    let script = "mkdir /tmp/directory 2>&1 | grep -c 'not supported'";
    let local = with(2, profile.to_str().expect("UTF-8"));
    assert_eq!(pod.prints(script, &local), "1");
    // An exec is under the same filter.
    let container = pod.container("sleep 1000", &local);
    assert_eq!(container.exec(script)["stdout"], "1\n");
    pod.end();
}

pub fn apparmor(cri: &Cri) {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    require!(enabled.starts_with('Y'), "no AppArmor in this kernel");
    let pod = cri.pod(&json!({}));
    let label = "cat /proc/self/attr/current";
    let text = pod.prints(label, &context(json!({ "apparmor": { "profile_type": 0 } })));
    assert_eq!(text, "cri-containerd.apparmor.d (enforce)");
    assert_eq!(pod.prints(label, &context(json!({ "apparmor": { "profile_type": 1 } }))), "unconfined");
    pod.end();
}

pub fn user_namespace(cri: &Cri) {
    let version = cri.ok("Version", &json!({}))["runtime_version"].as_str().expect("a version").to_owned();
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|word| word.parse::<u32>().ok());
    let new_enough = (numbers.next(), numbers.next()) >= (Some(1), Some(7));
    require!(new_enough, "containerd {version} gives pods no user namespaces (since 1.7)");
    let ids = json!([{ "container_id": 0, "host_id": 200_000, "length": 65536 }]);
    let options = json!({
        "network": 0, "pid": 1, "ipc": 0, "userns_options": { "mode": 0, "uids": ids, "gids": ids },
    });
    require_network();
    let pod = cri.pod(&context(json!({ "namespace_options": options })));
    let text = pod.prints("cat /proc/self/uid_map", &json!({}));
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    pod.end();
}

pub fn devices(cri: &Cri) {
    require!(Path::new("/dev/fuse").exists(), "no /dev/fuse here");
    let pod = cri.pod(&json!({}));
    let device = json!({ "devices": [{ "host_path": "/dev/fuse", "container_path": "/dev/of-mine", "permissions": "r" }] });
    let script = "ls -l /dev/of-mine | awk '{ print $5, $6 }'; : </dev/of-mine && echo read; \
                  (: >>/dev/of-mine) 2>/dev/null || echo not written; test -e /dev/fuse || echo under its own name only";
    let text = pod.prints(script, &device);
    assert_eq!(text, "10, 229\nread\nnot written\nunder its own name only");
    pod.end();
}

pub fn mounts(cri: &Cri) {
    let volume = cri.site.path("volume");
    let host = |line: &str| sh(&line.replace("VOLUME", volume.to_str().expect("UTF-8"))).ok();
    host(
        "mkdir -p VOLUME && mount -t tmpfs tmpfs VOLUME && mkdir VOLUME/host VOLUME/pod && mount --make-shared VOLUME",
    );
    // MountPropagation: PRIVATE 0, HOST_TO_CONTAINER 1, BIDIRECTIONAL 2.
    let mount = |place: &str, propagation: i32, readonly: bool| json!({ "host_path": volume, "container_path": place, "propagation": propagation, "readonly": readonly });
    let pod = cri.pod(&context(json!({ "privileged": true })));
    let mut patch = context(json!({ "privileged": true }));
    patch["mounts"] = json!([
        mount("/none", 0, false),
        mount("/slave", 1, false),
        mount("/shared", 2, false),
        mount("/fixed", 0, true)
    ]);
    let container = pod.container("sleep 1000", &patch);
    let text = container.exec_prints("touch /none/written; touch /fixed/x 2>&1; true");
    assert_eq!(text, "touch: /fixed/x: Read-only file system");
    assert!(volume.join("written").exists());
    host("mount -t tmpfs tmpfs VOLUME/host && touch VOLUME/host/file");
    assert_eq!(
        container.exec_prints("ls /none/host /slave/host/file /shared/host/file 2>/dev/null; true"),
        "/shared/host/file\n/slave/host/file\n\n/none/host:"
    );
    container.exec_prints(
        "mount -t tmpfs tmpfs /shared/pod && touch /shared/pod/file && mount -t tmpfs tmpfs /slave/pod",
    );
    assert!(volume.join("pod/file").exists(), "what the container mounts in a shared volume, the host sees");
    container.stop(0);
    assert!(volume.join("pod/file").exists());
    pod.end();
    host("umount VOLUME/pod && umount VOLUME/host && umount VOLUME");
    assert_eq!(crate::leftovers::mounts_below(&volume), Vec::<std::path::PathBuf>::new());
}

pub fn surroundings(cri: &Cri) {
    let sysctls = json!({ "kernel.shm_rmid_forced": "1" });
    let pod = cri.pod(&json!({ "linux": { "sysctls": sysctls } }));
    let patch = json!({
        "envs": [{ "key": "WORD", "value": "of two words" }], "working_dir": "/var/tmp", "args": ["a", "b"],
    });
    let script = "echo $WORD; pwd; echo $0 $1; cat /proc/sys/kernel/shm_rmid_forced; cat /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | sort -u | head -n 1";
    let text = pod.prints(script, &patch);
    assert_eq!(text, "of two words\n/var/tmp\na b\n1\n1");
    // A read-only view of its own cgroup, with its own limits.
    let file = if is_cgroup2() {
        "/sys/fs/cgroup/memory.max"
    } else {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    };
    let patch = json!({ "linux": { "resources": { "memory_limit_in_bytes": 67_108_864 } } });
    let text = pod.prints(&format!("cat {file}; echo 1 2>/dev/null >{file} || echo refused"), &patch);
    assert_eq!(text, "67108864\nrefused");
    pod.end();
}
