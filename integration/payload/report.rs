//! All that a process can learn about itself, as JSON.

use crate::kernel;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The report; `probes` are the results of the steps before it.
pub fn report(probes: &Map<String, Value>) -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let hex = |name| field(name).and_then(|text| u64::from_str_radix(text, 16).ok());
    let numbers = |name| -> Vec<u64> {
        field(name).unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (policy, priority, nice) = kernel::scheduler();
    json!({
        "pid": std::process::id(),
        "ppid": nix::unistd::getppid().as_raw(),
        "sid": nix::unistd::getsid(None).map(nix::unistd::Pid::as_raw).unwrap_or(-1),
        "pgid": nix::unistd::getpgrp().as_raw(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map_err(|error| error.to_string()),
        "exe": link("/proc/self/exe"),
        "uid": numbers("Uid"),
        "gid": numbers("Gid"),
        "groups": numbers("Groups"),
        "umask": kernel::umask(),
        "capabilities": {
            "inheritable": hex("CapInh"), "permitted": hex("CapPrm"), "effective": hex("CapEff"),
            "bounding": hex("CapBnd"), "ambient": hex("CapAmb"),
        },
        "signals": { "blocked": hex("SigBlk"), "ignored": hex("SigIgn"), "pipe_ignored_at_start": kernel::pipe_was_ignored() },
        "no_new_privs": field("NoNewPrivs"),
        "seccomp": field("Seccomp"),
        "seccomp_filters": field("Seccomp_filters"),
        "dumpable_memory": field("CoreDumping"),
        "rlimits": rlimits(),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "hostname": nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).ok(),
        "domainname": domainname(),
        "mounts": mounts(),
        "fds": descriptors(),
        "cgroup": text("/proc/self/cgroup").unwrap_or_default().lines().collect::<Vec<_>>(),
        "namespaces": namespaces(),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "tty": terminals(),
        "dev": devices(),
        "links": links(),
        "personality": kernel::personality(),
        "scheduler": { "policy": policy, "priority": priority, "nice": nice },
        "ioprio": kernel::ioprio(),
        "keyring": kernel::session_keyring().map_or_else(Value::from, Value::from),
        "clocks": { "monotonic": clock(nix::time::ClockId::CLOCK_MONOTONIC), "boottime": clock(nix::time::ClockId::CLOCK_BOOTTIME) },
        "timens_offsets": text("/proc/self/timens_offsets"),
        "interfaces": interfaces(),
        "probes": probes,
    })
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

fn link(path: impl AsRef<Path>) -> Option<String> {
    fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}

fn domainname() -> Option<String> {
    nix::sys::utsname::uname().ok().map(|name| name.domainname().to_string_lossy().into_owned())
}

fn clock(id: nix::time::ClockId) -> Option<i64> {
    nix::time::clock_gettime(id).ok().map(|time| time.tv_sec())
}

fn rlimits() -> Value {
    use nix::sys::resource::{Resource::*, getrlimit};
    let all = [
        ("RLIMIT_AS", RLIMIT_AS),
        ("RLIMIT_CORE", RLIMIT_CORE),
        ("RLIMIT_CPU", RLIMIT_CPU),
        ("RLIMIT_DATA", RLIMIT_DATA),
        ("RLIMIT_FSIZE", RLIMIT_FSIZE),
        ("RLIMIT_LOCKS", RLIMIT_LOCKS),
        ("RLIMIT_MEMLOCK", RLIMIT_MEMLOCK),
        ("RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", RLIMIT_NICE),
        ("RLIMIT_NOFILE", RLIMIT_NOFILE),
        ("RLIMIT_NPROC", RLIMIT_NPROC),
        ("RLIMIT_RSS", RLIMIT_RSS),
        ("RLIMIT_RTPRIO", RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", RLIMIT_RTTIME),
        ("RLIMIT_SIGPENDING", RLIMIT_SIGPENDING),
        ("RLIMIT_STACK", RLIMIT_STACK),
    ];
    all.into_iter()
        .filter_map(|(name, resource)| {
            let (soft, hard) = getrlimit(resource).ok()?;
            Some((name.to_owned(), json!({ "soft": soft, "hard": hard })))
        })
        .collect::<Map<_, _>>()
        .into()
}

/// /proc/self/mountinfo as proc_pid_mountinfo(5) describes it.
fn mounts() -> Value {
    let table = text("/proc/self/mountinfo").unwrap_or_default();
    let parsed = table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        Some(json!({
            "id": mount.first()?, "parent": mount.get(1)?, "device": mount.get(2)?, "root": mount.get(3)?,
            "destination": mount.get(4)?, "options": mount.get(5)?.split(',').collect::<Vec<_>>(),
            "propagation": mount.get(6..)?, "type": filesystem.first()?, "source": filesystem.get(1)?,
            "super": filesystem.get(2)?.split(',').collect::<Vec<_>>(),
        }))
    });
    parsed.collect()
}

fn descriptors() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let open: Map<String, Value> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), link(entry.path())))
        // The directory that is being read; the pid in its name may be that of another pid namespace's view.
        .filter(|(_, target)| {
            !target.as_deref().is_some_and(|target| target.starts_with("/proc/") && target.ends_with("/fd"))
        })
        .map(|(fd, target)| (fd, json!(target)))
        .collect();
    open.into()
}

fn namespaces() -> Value {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    kinds
        .iter()
        .map(|kind| ((*kind).to_owned(), json!(link(format!("/proc/self/ns/{kind}")))))
        .collect::<Map<_, _>>()
        .into()
}

fn terminals() -> Value {
    (0..3)
        .map(|fd| {
            kernel::window_size(fd).map_or(Value::Null, |(rows, columns)| {
                json!({
                    "name": link(format!("/proc/self/fd/{fd}")), "rows": rows, "columns": columns,
                    "foreground": kernel::foreground_group(fd),
                })
            })
        })
        .collect()
}

fn devices() -> Value {
    let Ok(entries) = fs::read_dir("/dev") else { return Value::Null };
    entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), stat(&entry.path())))
        .collect::<Map<_, _>>()
        .into()
}

fn links() -> Value {
    ["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/ptmx", "/dev/core"]
        .iter()
        .map(|path| ((*path).to_owned(), json!(link(path))))
        .collect::<Map<_, _>>()
        .into()
}

fn interfaces() -> Value {
    let Ok(list) = nix::ifaddrs::getifaddrs() else { return Value::Null };
    list.map(|interface| {
        json!({
            "name": interface.interface_name,
            "up": interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP),
            "address": interface.address.map(|address| address.to_string()),
        })
    })
    .collect()
}

/// lstat(2): type, mode in octal, major and minor of a device, owner.
pub fn stat(path: &Path) -> Value {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return errno(&error).into(),
    };
    let kind = meta.file_type();
    let name = match () {
        () if kind.is_char_device() => "c",
        () if kind.is_block_device() => "b",
        () if kind.is_fifo() => "p",
        () if kind.is_socket() => "s",
        () if kind.is_symlink() => "l",
        () if kind.is_dir() => "d",
        () => "f",
    };
    json!({
        "type": name,
        "mode": format!("{:04o}", meta.permissions().mode() & 0o7777),
        "major": nix::sys::stat::major(meta.rdev()), "minor": nix::sys::stat::minor(meta.rdev()),
        "uid": meta.uid(), "gid": meta.gid(), "size": meta.size(), "inode": meta.ino(),
    })
}

/// `EPERM` and the like.
pub fn errno(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |raw| format!("{:?}", nix::errno::Errno::from_raw(raw)))
}
