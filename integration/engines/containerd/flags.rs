//! What the flags of `ctr run` make of a container, seen from inside it or in the host's files.

use super::{Containerd, PREFIX};
use crate::cgroups::{self, by_systemd, is_cgroup2};
use crate::require;
use crate::site::{Bounded, eventually, sh};
use crate::status::{PRINT, field, set};
use std::fs;
use std::path::Path;

pub fn streams(containerd: &Containerd) {
    let script = "echo $$; echo to stderr >&2; test -t 1 || echo no terminal; exit 5";
    let done = containerd.run(&["--rm"], "streams", &["sh", "-c", script]).exits(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1\nno terminal\n", "to stderr\n"));
}

pub fn terminal(containerd: &Containerd) {
    // Its size is that of script(1)'s terminal; what is typed comes back as the terminal's echo.
    let script = "tty; test -t 0 && test -t 2 && echo a terminal; read word; echo heard $word; exit 6";
    let command = containerd.run_command(&["--rm", "--tty"], "terminal", &["sh", "-c", script]);
    let done = containerd.on_terminal(&command, "hello\n").exits(6);
    for words in ["/dev/pts/0", "a terminal", "heard hello"] {
        assert!(done.stdout.contains(words), "{words:?} is missing: {}", done.describe());
    }
    containerd.nothing_left("terminal");
}

pub fn missing(containerd: &Containerd) {
    let done = containerd.run(&["--rm"], "missing", &["/no/such/program"]);
    assert!(!done.status.success(), "it claims to have run");
    let named = ["no such file or directory", "executable file not found"];
    assert!(named.iter().any(|words| done.stderr.contains(words)), "{}", done.describe());
    assert!(done.stderr.contains("/no/such/program"), "{}", done.describe());
    containerd.ctr(&["container", "delete", "missing"]);
    containerd.nothing_left("missing");
}

pub fn removed(containerd: &Containerd) {
    assert_eq!(containerd.prints(&[], "removed", "echo here"), "here");
    let containers = containerd.ctr(&["container", "list", "--quiet"]).ok();
    assert!(!containers.lines().any(|line| line == "removed"), "{containers}");
    containerd.nothing_left("removed");
}

pub fn limits(containerd: &Containerd) {
    let flags = ["--memory-limit", "33554432", "--cpus", "0.5", "--cpu-shares", "512"];
    containerd.begin(&flags, "limits", &["sleep", "1000"]);
    let file = |controller, v1, v2| containerd.cgroup("limits", controller, v1, v2);
    assert_eq!(file("memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    cgroups::assert_shares(&file("cpu", "cpu.shares", "cpu.weight"), 512);
    let quota = file("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota, if is_cgroup2() { "50000 100000" } else { "50000" });
    containerd.end("limits");

    // The limit is a limit: what needs more is killed.
    let script = "tail /dev/zero; echo $?";
    let code = containerd.prints(&["--memory-limit", "33554432"], "limits-oom", script);
    assert_eq!(code.lines().last(), Some("137"), "{code}");
}

pub fn quota(containerd: &Containerd) {
    let parent = containerd.parent.below("own");
    let word = parent.word();
    let path = if by_systemd() { format!("{word}:{PREFIX}:quota") } else { format!("{word}/quota") };
    let flags = ["--cpu-quota", "20000", "--cpu-period", "50000", "--cgroup", &path];
    containerd.begin(&flags, "quota", &["sleep", "1000"]);
    let directory = parent.container(PREFIX, "quota");
    let quota = cgroups::file(&directory, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota, if is_cgroup2() { "20000 50000" } else { "20000" });
    containerd.end("quota");
}

pub fn environment(containerd: &Containerd) {
    let file = containerd.site.path("env");
    fs::write(&file, "FROM_FILE=of two words\n").expect("env file");
    let flags = ["--env", "OF_FLAG=1", "--env-file", file.to_str().expect("UTF-8"), "--cwd", "/var/tmp"];
    let text = containerd.prints(&flags, "environment", "echo $OF_FLAG; echo $FROM_FILE; echo $PATH; pwd");
    assert_eq!(text, "1\nof two words\n/bin\n/var/tmp");
}

pub fn read_only(containerd: &Containerd) {
    let script = "touch /root/file || echo refused; touch /run/file && echo written";
    let done = containerd.run(&["--rm", "--read-only"], "read-only", &["sh", "-c", script]);
    assert!(done.stderr.contains("Read-only file system"), "{}", done.describe());
    assert_eq!(done.ok(), "refused\nwritten");
    assert_eq!(containerd.prints(&[], "writable", "touch /root/file && echo written"), "written");
}

pub fn mounts(containerd: &Containerd) {
    let directory = containerd.site.path("volume");
    fs::create_dir(&directory).expect("volume");
    fs::write(directory.join("word"), "of the host").expect("a file of the volume");
    let mount = |place: &str, options: &str| {
        format!("type=bind,src={},dst={place},options={options}", directory.display())
    };
    let (plain, only) = (mount("/new/writable", "rbind:rw"), mount("/new/fixed", "rbind:ro"));
    let tmpfs = "type=tmpfs,src=tmpfs,dst=/scratch,options=size=64k:nosuid";
    let script = "cat /new/fixed/word; echo; echo of the container >/new/writable/answer; \
                  touch /new/fixed/x 2>/dev/null || echo fixed; \
                  dd if=/dev/zero of=/scratch/big bs=1k count=100 2>/dev/null || echo full";
    let text = containerd.prints(&["--mount", &plain, "--mount", &only, "--mount", tmpfs], "mounts", script);
    assert_eq!(text, "of the host\nfixed\nfull");
    let answer = fs::read_to_string(directory.join("answer")).expect("what the container wrote");
    assert_eq!(answer, "of the container\n");
}

pub fn propagation(containerd: &Containerd) {
    // The optional fields of the root's line in mountinfo.
    let script = "awk '$5 == \"/\" { print $7 }' /proc/self/mountinfo";
    let shared = containerd.prints(&["--rootfs-propagation", "rshared"], "propagation", script);
    assert!(shared.starts_with("shared:"), "{shared}");
    // Without it what the host mounts may come in (a slave of a host whose mounts are shared), and nothing goes out.
    let plain = containerd.prints(&[], "propagation-none", script);
    assert!(plain == "-" || plain.starts_with("master:"), "{plain}");

    // A mount that the host makes later in a volume appears in a container that asked for it.
    let volume = containerd.site.path("propagated");
    let host = |line: &str| sh(&line.replace("VOLUME", volume.to_str().expect("UTF-8"))).ok();
    host("mkdir -p VOLUME && mount -t tmpfs tmpfs VOLUME && mkdir VOLUME/late && mount --make-shared VOLUME");
    let mount = format!("type=bind,src={},dst=/volume,options=rbind:rslave", volume.display());
    let flags = ["--mount", &mount, "--rootfs-propagation", "rslave"];
    containerd.begin(&flags, "propagated", &["sleep", "1000"]);
    host("mount -t tmpfs tmpfs VOLUME/late && touch VOLUME/late/file");
    assert_eq!(containerd.exec("propagated", "ls /volume/late"), "file");
    containerd.end("propagated");
    host("umount VOLUME/late && umount VOLUME");
}

pub fn device(containerd: &Containerd) {
    require!(Path::new("/dev/fuse").exists(), "no /dev/fuse here");
    let script = "test -c /dev/fuse && echo there; : </dev/fuse && echo open";
    assert_eq!(containerd.prints(&["--device", "/dev/fuse"], "device", script), "there\nopen");
    // Without it even a node that the container makes for itself does not open.
    let script = "test -c /dev/fuse || echo absent; mknod /root/fuse c 10 229 && echo made; (: </root/fuse)";
    let done = containerd.run(&["--rm"], "device-none", &["sh", "-c", script]);
    assert_eq!(done.stdout, "absent\nmade\n");
    assert!(done.stderr.contains("Operation not permitted"), "{}", done.describe());
}

pub fn privileged(containerd: &Containerd) {
    let own = fs::read_to_string("/proc/self/status").expect("status").replace('\t', " ");
    let flags = ["--privileged", "--env", "A=b"];
    let script = format!(
        "{PRINT}; mount -t tmpfs tmpfs /tmp && echo mounted; echo >/proc/sys/kernel/domainname && echo written"
    );
    let text = containerd.prints(&flags, "privileged", &script);
    assert_eq!(set(&text, "CapEff"), set(&own, "CapBnd"), "{text}");
    assert!(text.ends_with("mounted\nwritten"), "{text}");
    assert_eq!(field(&text, "Seccomp"), "0");

    let text = containerd.prints(&[], "unprivileged", &format!("{script} || true"));
    assert!(!text.contains("mounted") && !text.contains("written"), "{text}");
}

pub fn capabilities(containerd: &Containerd) {
    const SYS_TIME: u64 = 1 << 25;
    const CHOWN: u64 = 1;
    let before = set(&containerd.prints(&[], "capabilities-none", PRINT), "CapEff");
    let flags = ["--cap-add", "CAP_SYS_TIME", "--cap-drop", "CAP_CHOWN"];
    let after = set(&containerd.prints(&flags, "capabilities", PRINT), "CapEff");
    assert_eq!((before & SYS_TIME, before & CHOWN), (0, CHOWN));
    assert_eq!(after, (before | SYS_TIME) & !CHOWN);
    let done = containerd.run(
        &[&["--rm"], &flags[..]].concat(),
        "capabilities-used",
        &["chown", "1", "/etc/passwd"],
    );
    assert!(done.stderr.contains("Operation not permitted"), "{}", done.describe());
}

pub fn new_privileges(containerd: &Containerd) {
    assert_eq!(field(&containerd.prints(&[], "new-privileges-none", PRINT), "NoNewPrivs"), "1");
    let text = containerd.prints(&["--allow-new-privs"], "new-privileges", PRINT);
    assert_eq!(field(&text, "NoNewPrivs"), "0");
}

pub fn seccomp(containerd: &Containerd) {
    assert_eq!(field(&containerd.prints(&[], "seccomp-none", PRINT), "Seccomp"), "0");
    // The default profile denies a new user namespace, which the kernel would allow.
    let script = format!("{PRINT}; unshare -U true || echo refused");
    let text = containerd.prints(&["--seccomp"], "seccomp", &script);
    assert_eq!(field(&text, "Seccomp"), "2");
    assert!(text.ends_with("refused"), "{text}");
    let profile = containerd.site.path("profile.json");
    // 95 is EOPNOTSUPP, which mkdir(2) gives for no other reason here.
    let rule = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }] }"#;
    fs::write(&profile, rule).expect("profile");
    let flags = ["--rm", "--seccomp", "--seccomp-profile", profile.to_str().expect("UTF-8")];
    let done = containerd.run(&flags, "seccomp-profile", &["mkdir", "/tmp/directory"]);
    assert!(done.stderr.contains("not supported"), "{}", done.describe());
}

pub fn apparmor(containerd: &Containerd) {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    require!(enabled.starts_with('Y'), "no AppArmor in this kernel");
    let flags = ["--apparmor-default-profile", "berth-test.apparmor.d"];
    let text = containerd.prints(&flags, "apparmor", "cat /proc/self/attr/current");
    assert_eq!(text, "berth-test.apparmor.d (enforce)");
}

pub fn joined_namespaces(containerd: &Containerd) {
    let pid = containerd.begin(&[], "joined-first", &["sleep", "1000"]);
    let kinds = ["network", "ipc", "uts", "pid"];
    let files = ["net", "ipc", "uts", "pid"];
    let joins: Vec<String> =
        kinds.iter().zip(files).map(|(kind, file)| format!("{kind}:/proc/{pid}/ns/{file}")).collect();
    let flags: Vec<&str> = joins.iter().flat_map(|join| ["--with-ns", join]).collect();
    let script = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; ps -o args | grep -c '^sleep 1000'";
    let text = containerd.prints(&flags, "joined", script);
    let lines: Vec<&str> = text.lines().collect();
    for (line, file) in lines.iter().zip(files) {
        let first = fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("namespace");
        assert_eq!(Path::new(line), first, "{text}");
    }
    let first = fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("namespace");
    assert_ne!(Path::new(lines[4]), first, "the mount namespace is its own");
    assert_eq!(lines[5], "1", "the first container's process is seen");
    containerd.end("joined-first");
}

pub fn host_network(containerd: &Containerd) {
    let own = fs::read_link("/proc/self/ns/net").expect("namespace");
    let script = "readlink /proc/self/ns/net; cat /etc/hosts /etc/resolv.conf >/dev/null && echo files";
    let text = containerd.prints(&["--net-host"], "host-network", script);
    assert_eq!(text, format!("{}\nfiles", own.display()));
    let other = containerd.prints(
        &[],
        "own-network",
        "readlink /proc/self/ns/net; cat /proc/net/dev | tail -n +3 | wc -l",
    );
    assert_ne!(Path::new(other.lines().next().expect("a link")), own);
}

pub fn user_namespace(containerd: &Containerd) {
    let flags = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"];
    let script = "id -u; cat /proc/self/uid_map; touch /root/file && stat -c %u /root/file";
    let text = containerd.prints(&flags, "user-namespace", script);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536", "0"]);
    let pid = containerd.begin(&flags, "user-namespace-seen", &["sleep", "1000"]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Uid:\t200000\t200000"), "{status}");
    containerd.end("user-namespace-seen");
}

pub fn config(containerd: &Containerd) {
    // What `ctr run` has no flag for, in the config that ctr writes itself for another container.
    containerd.ctr(&["container", "create", crate::image::NAME, "config-model", "true"]).ok();
    let text = containerd.ctr(&["container", "info", "--spec", "config-model"]).ok();
    containerd.ctr(&["container", "delete", "config-model"]).ok();
    let mut spec: serde_json::Value = serde_json::from_str(&text).expect("a spec");
    let root = crate::image::rootfs(&containerd.site.path("config-bundle"));
    spec["root"] = serde_json::json!({ "path": root });
    spec["hostname"] = "named".into();
    spec["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000] });
    spec["process"]["rlimits"] = serde_json::json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    spec["process"]["args"] = serde_json::json!([
        "sh",
        "-c",
        "id -u; id -g; id -G; hostname; ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ping_group_range"
    ]);
    spec["linux"]["sysctl"] = serde_json::json!({ "net.ipv4.ping_group_range": "0 7" });
    spec["linux"]["cgroupsPath"] = containerd.cgroups_path("config").into();
    let file = containerd.site.path("config.json");
    fs::write(&file, spec.to_string()).expect("config.json");
    let mut command = containerd.command(&["run", "--rm"]);
    containerd.choose_runtime(&mut command);
    if by_systemd() {
        // ctr asks for it, and takes that of the config.
        command.arg("--cgroup").arg(containerd.cgroups_path("config"));
    }
    let text = command.arg("--config").arg(&file).arg("config").done().ok();
    assert_eq!(text, "1000\n1000\n1000 2000\nnamed\n100\n200\n0\t7");
    containerd.nothing_left("config");
}

pub fn rootfs(containerd: &Containerd) {
    let root = crate::image::rootfs(&containerd.site.path("own-rootfs"));
    fs::write(root.join("word"), "of this root").expect("a file");
    // Not --no-pivot: with that this ctr forgets the runtime's name.
    let flags = ["--rootfs", "--env", "PATH=/bin", "--annotation", "org.example.word=kept"];
    let mut flags: Vec<&str> = [&["--detach"], &flags[..]].concat();
    flags.push(root.to_str().expect("UTF-8"));
    containerd.run(&flags, "rootfs", &["sh", "-c", "cat /word >/copy; sleep 1000"]).ok();
    eventually("the container wrote", || {
        fs::read_to_string(root.join("copy")).is_ok_and(|text| text == "of this root")
    });
    let state = std::process::Command::new(&containerd.site.runtime.path)
        .arg("--root")
        .arg(containerd.state().join(&containerd.namespace))
        .args(["state", "rootfs"])
        .done()
        .ok();
    let state: serde_json::Value = serde_json::from_str(&state).expect("state");
    assert_eq!(state["annotations"]["org.example.word"], "kept", "{state}");
    assert_eq!(
        containerd.exec("rootfs", "ls /.. | grep -c own-rootfs || true"),
        "0",
        "no way out of the root"
    );
    containerd.end("rootfs");
}

pub fn files(containerd: &Containerd) {
    let (pid_file, log) = (containerd.site.path("pid"), containerd.site.path("container.log"));
    let uri = format!("file://{}", log.display());
    let flags = ["--pid-file", pid_file.to_str().expect("UTF-8"), "--log-uri", &uri];
    let script = "echo to the log; echo and this >&2; sleep 1000";
    let pid = containerd.begin(&flags, "files", &["sh", "-c", script]);
    assert_eq!(fs::read_to_string(&pid_file).expect("pid file"), pid.to_string());
    let read = || fs::read_to_string(&log).unwrap_or_default();
    eventually("both lines are in the log", || read().contains("to the log") && read().contains("and this"));
    containerd.end("files");

    containerd.begin(&["--null-io"], "null-io", &["sleep", "1000"]);
    assert_eq!(
        containerd.exec("null-io", "readlink /proc/1/fd/0; readlink /proc/1/fd/1"),
        "/dev/null\n/dev/null"
    );
    containerd.end("null-io");
}
