//! Who the program is and what it may do.

use super::Docker;
use crate::require;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn identity(docker: &Docker) {
    assert_eq!(
        docker.inside(&["--user", "user"], "id"),
        "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)"
    );
    let flags = ["--user", "1000:2000", "--group-add", "3000", "--group-add", "root"];
    let groups = docker.inside(&flags, "id -u; id -g; id -G");
    let mut lines = groups.lines();
    assert_eq!((lines.next(), lines.next()), (Some("1000"), Some("2000")), "{groups}");
    let mut all: Vec<&str> = lines.next().unwrap_or("").split(' ').collect();
    all.sort_unstable();
    assert_eq!(all, ["0", "2000", "3000"], "{groups}");
    // No name in the image: an id alone is enough.
    assert_eq!(docker.inside(&["--user", "4321"], "id -u; id -g"), "4321\n0");
    let flags = ["--workdir", "/tmp", "--env", "WORD=a b", "--env", "EMPTY=", "--hostname", "host.example"];
    let script = "pwd; echo \"$WORD\"; echo ${EMPTY-unset}; hostname; echo $HOSTNAME; echo $HOME; grep -c host.example /etc/hosts";
    assert_eq!(docker.inside(&flags, script), "/tmp\na b\n\nhost.example\nhost.example\n/root\n1");
    assert_eq!(
        docker.inside(&["--domainname", "inner.example"], "cat /proc/sys/kernel/domainname"),
        "inner.example"
    );
    assert_eq!(docker.inside(&["--user", "user"], "echo $HOME"), "/home/user");
}

/// CapEff, CapBnd and CapInh of the program, as hex.
fn sets(docker: &Docker, flags: &[&str]) -> [u64; 3] {
    let text = docker.inside(flags, "cat /proc/self/status");
    ["CapEff", "CapBnd", "CapInh"].map(|set| {
        let line = text.lines().find(|line| line.starts_with(set)).expect("a capability set");
        u64::from_str_radix(line.rsplit('\t').next().expect("a mask"), 16).expect("hex")
    })
}

pub fn capabilities(docker: &Docker) {
    const DEFAULT: u64 = 0xa804_25fb;
    const CHOWN: u64 = 1;
    const NET_ADMIN: u64 = 1 << 12;
    let [effective, bounding, inheritable] = sets(docker, &[]);
    assert_eq!([effective, bounding], [DEFAULT, DEFAULT]);
    // CVE-2022-24769: older Docker lists them as inheritable too, and then the runtime has to do so.
    assert!([0, DEFAULT].contains(&inheritable), "{inheritable:x}");
    let flags = ["--cap-drop", "CHOWN", "--cap-add", "NET_ADMIN"];
    assert_eq!(sets(docker, &flags)[..2], [(DEFAULT & !CHOWN) | NET_ADMIN; 2]);
    assert_eq!(sets(docker, &["--cap-drop", "ALL"]), [0; 3]);
    assert_eq!(sets(docker, &["--cap-drop", "ALL", "--cap-add", "CHOWN"])[..2], [CHOWN; 2]);
    assert_eq!(sets(docker, &["--user", "1000"])[..2], [0, DEFAULT]);
    // What that means.
    docker.run(&["--rm", "--cap-drop", "CHOWN"], &["chown", "1000", "/tmp"]).exits(1);
    docker.run(&["--rm"], &["chown", "1000", "/tmp"]).exits(0);
    docker.run(&["--rm"], &["ip", "link", "add", "dummy9", "type", "dummy"]).exits(2);
    docker.run(&["--rm", "--cap-add", "NET_ADMIN"], &["ip", "link", "set", "lo", "down"]).exits(0);
}

pub fn privileged(docker: &Docker) {
    let done = docker.inside(
        &["--privileged"],
        "mkdir /m && mount -t tmpfs none /m && echo mounted; ls /dev | wc -l; grep Seccomp: /proc/self/status | tr -d '\\t'; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only; cat /proc/kcore 2>/dev/null | head -c 4 | wc -c; ls -d /dev/kmsg",
    );
    let lines: Vec<&str> = done.lines().collect();
    assert_eq!(lines[0], "mounted");
    let devices: u32 = lines[1].parse().expect("a number");
    assert!(devices > 20, "{done}");
    assert_eq!(lines[2], "Seccomp:0");
    assert_eq!(lines[3], "0");
    assert_eq!(lines.last(), Some(&"/dev/kmsg"));
    // dockerd names those that it knows, which may be fewer than the kernel's.
    let all = sets(docker, &["--privileged"])[0];
    assert!(all.count_ones() > 35, "{all:x}");
}

pub fn masks(docker: &Docker) {
    let masked = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l";
    assert_eq!(docker.inside(&[], masked), "0\n0");
    let cgroup = "$(ls -d /sys/fs/cgroup/memory 2>/dev/null || echo /sys/fs/cgroup)/x";
    for path in ["/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity", cgroup] {
        let line = format!("(case {path} in */x) mkdir {path};; *) echo x >{path};; esac) 2>&1");
        let done = docker.run(&["--rm"], &["sh", "-c", &line]).exits(1);
        assert!(done.stdout.contains("Read-only file system"), "{}", done.describe());
    }
    // With systempaths=unconfined nothing is masked.
    let script = "(echo changed >/proc/sys/kernel/hostname) && hostname";
    assert_eq!(
        docker.inside(&["--security-opt", "systempaths=unconfined", "--cap-add", "SYS_ADMIN"], script),
        "changed"
    );
}

pub fn no_new_privileges(docker: &Docker) {
    let line = "grep NoNewPrivs /proc/self/status | cut -f 2";
    assert_eq!(docker.inside(&["--security-opt", "no-new-privileges"], line), "1");
    assert_eq!(docker.inside(&[], line), "0");
    // A set-uid program makes root of the user, and with the option does not. root has no password there.
    let script =
        "mkdir /raise; cp /bin/busybox /raise/su; chmod 4755 /raise/su; sed -i s/root:x:/root::/ /etc/passwd";
    docker.run(&["--name", "raise"], &["sh", "-c", script]).ok();
    docker.cli(&["commit", "raise", "localhost/raise:test"]).ok();
    let raise = |flag: &str| {
        let flags = ["--rm", "--user", "1000", "--security-opt", flag];
        docker.run_image("localhost/raise:test", &flags, &["/raise/su", "-c", "id -u", "root"])
    };
    assert_eq!(raise("no-new-privileges=false").ok(), "0");
    let refused = raise("no-new-privileges=true").exits(1);
    assert!(refused.stderr.contains("must be suid"), "{}", refused.describe());
    docker.cli(&["rm", "raise"]).ok();
    docker.cli(&["rmi", "localhost/raise:test"]).ok();
}

pub fn seccomp(docker: &Docker) {
    let mode = "grep Seccomp: /proc/self/status | cut -f 2";
    assert_eq!(docker.inside(&[], mode), "2");
    assert_eq!(docker.inside(&["--security-opt", "seccomp=unconfined"], mode), "0");
    let profile = docker.site.path("profile.json");
    let text = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
            { "names": ["fchmodat", "chmod"], "action": "SCMP_ACT_ERRNO" },
        ],
    });
    fs::write(&profile, text.to_string()).expect("a profile");
    let option = format!("seccomp={}", profile.display());
    let done = docker.inside(
        &["--security-opt", &option],
        "mkdir /a 2>&1; chmod 700 /tmp 2>&1; touch /b && echo made; grep Seccomp: /proc/self/status | cut -f 2",
    );
    let lines: Vec<&str> = done.lines().collect();
    assert!(lines[0].contains("No space left"), "{done}");
    assert!(lines[1].contains("not permitted"), "{done}");
    assert_eq!(lines[2..], ["made", "2"], "{done}");
    docker.idle("seccomp", &["--security-opt", &option]);
    docker.cli(&["exec", "seccomp", "mkdir", "/a"]).exits(1);
    docker.remove(&["seccomp"]);
    // The default profile knows what is unusual: a new user namespace needs CAP_SYS_ADMIN.
    docker.run(&["--rm"], &["unshare", "-U", "true"]).exits(1);
}

pub fn apparmor(docker: &Docker) {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    require!(enabled.trim() == "Y", "no AppArmor in this kernel");
    let label = docker.inside(&[], "cat /proc/self/attr/current");
    assert_eq!(label, "docker-default (enforce)");
    let label = docker.inside(&["--security-opt", "apparmor=unconfined"], "cat /proc/self/attr/current");
    assert_eq!(label, "unconfined");
}

pub fn sysctl(docker: &Docker) {
    let flags = [
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=77",
        "--sysctl",
        "kernel.msgmax=4444",
        "--sysctl",
        "fs.mqueue.msg_max=55",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max";
    assert_eq!(docker.inside(&flags, script), "77\n4444\n55");
    // What belongs to the host is refused: by the client, or by the runtime.
    docker.run(&["--rm", "--sysctl", "kernel.panic=1"], &["true"]).exits(125);
}

pub fn devices(docker: &Docker) {
    // One that not every container has, and that root may open without more.
    let device =
        ["/dev/fuse", "/dev/loop-control", "/dev/net/tun"].into_iter().find(|path| Path::new(path).exists());
    require!(device.is_some(), "neither /dev/fuse nor /dev/loop-control nor /dev/net/tun on this machine");
    let device = device.unwrap_or_default();
    let number = fs::metadata(device).expect("a device").rdev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let open = |path: &str| {
        format!(
            "for how in '<' '>>'; do eval \"(: $how{path}) 2>/dev/null\" && echo opens || echo refused; done"
        )
    };
    let mine = |access: &str| {
        docker.inside(&["--device", &format!("{device}:/dev/mine{access}")], &open("/dev/mine"))
    };
    assert_eq!(mine(""), "opens\nopens");
    assert_eq!(mine(":r"), "opens\nrefused");
    assert_eq!(mine(":w"), "refused\nopens");
    assert_eq!(mine(":rm"), "opens\nrefused");
    // Without it the node can be made, and not be opened.
    let made = format!("mknod /made c {major} {minor} && {}", open("/made"));
    assert_eq!(docker.inside(&[], &made), "refused\nrefused");
    let rule = ["--device-cgroup-rule", &format!("c {major}:{minor} r")];
    assert_eq!(docker.inside(&rule, &made), "opens\nrefused");
    // In a later process of the container too.
    docker.idle("device", &["--device", &format!("{device}:/dev/mine:r")]);
    assert_eq!(docker.exec("device", &open("/dev/mine")), "opens\nrefused");
    docker.remove(&["device"]);
    // The usual ones are there and are what they should be.
    let usual = "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x >/dev/null; ls -l /dev/fd | cut -d '>' -f 2; (: >/dev/full; echo x >/dev/full) 2>&1 | grep -c 'No space'";
    assert_eq!(docker.inside(&[], usual), "3\n3\n /proc/self/fd\n1");
}
