//! What may not be left when an engine has stopped: processes, mounts, cgroups, network namespaces, files
//! below /run, BPF programs, units of systemd.

use crate::cgroups;
use crate::site::Bounded;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What engines, runtimes and systemd make the first time that they run, and keep.
const KEPT: [&str; 11] = [
    "cgroup /sys/fs/cgroup/podman_probe",
    "directory /run/berth",
    "directory /run/containerd",
    "directory /run/containerd/fifo",
    "directory /run/containerd/runc",
    "directory /run/containerd/s",
    "directory /run/docker",
    "directory /run/docker/plugins",
    "directory /run/runc",
    "directory /run/systemd/system.control",
    "directory /run/systemd/transient",
];

/// A listing of the host, one line for each thing.
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        lines.extend(marked_processes());
        lines.extend(mounts().into_iter().map(|path| format!("mount {}", path.display())));
        directories(Path::new("/sys/fs/cgroup"), 12, "cgroup", &mut lines);
        directories(Path::new("/run"), 3, "directory", &mut lines);
        for directory in ["/run/netns", "/run/docker/netns"] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            lines.extend(entries.map(|entry| format!("network namespace {}", entry.path().display())));
        }
        lines.extend(programs());
        lines.extend(units());
        lines.retain(|line| !KEPT.contains(&line.as_str()));
        // Another run of these tests is none of ours.
        lines.retain(|line| !line.contains("berth-engines-") || line.contains(&mark()));
        Self(lines)
    }

    /// What is there now and was not then. Engines end things in the background: it is waited for up to ten seconds.
    pub fn changes(&self) -> Vec<String> {
        let mut left = Vec::new();
        for _ in 0..100 {
            left = Self::take().0.difference(&self.0).cloned().collect();
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        left
    }
}

/// What all directories and cgroups of this run have in their names.
fn mark() -> String {
    format!("berth-engines-{}", std::process::id())
}

/// Processes that have this run's directory in their command line or environment, other than this one.
fn marked_processes() -> Vec<String> {
    let mark = mark();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let found = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let text = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let marked = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(&mark);
        let line = String::from_utf8_lossy(&text("cmdline")).replace('\0', " ");
        (pid != std::process::id() && (line.contains(&mark) || marked(text("environ"))))
            .then(|| format!("process {pid} {line}"))
    });
    found.collect()
}

/// Kills processes whose command line contains these words, after they had five seconds to end by themselves. They
/// have to be words that only processes of this run have. What had to be killed, as pid and command line.
pub fn end_processes(words: &str) -> Vec<String> {
    let find = || -> Vec<(u32, String)> {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let found = entries.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(words) && pid != std::process::id()).then_some((pid, line))
        });
        found.collect()
    };
    for _ in 0..50 {
        if find().is_empty() {
            return Vec::new();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let found = find();
    for (pid, _) in &found {
        let killed = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        );
        assert!(matches!(killed, Ok(()) | Err(nix::errno::Errno::ESRCH)), "kill {pid}: {killed:?}");
    }
    found.into_iter().map(|(pid, line)| format!("{pid} {line}")).collect()
}

fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let paths = table.lines().filter_map(|line| line.split(' ').nth(4));
    paths.map(|path| PathBuf::from(path.replace("\\040", " "))).collect()
}

/// The mounts at or below a directory, the last first.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mut below: Vec<PathBuf> = mounts().into_iter().filter(|path| path.starts_with(directory)).collect();
    below.reverse();
    below
}

fn directories(directory: &Path, depth: usize, word: &str, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            lines.insert(format!("{word} {}", entry.path().display()));
            if depth > 1 {
                directories(&entry.path(), depth - 1, word, lines);
            }
        }
    }
}

/// Removes a cgroup of our own with all below, in every hierarchy; there are no processes left in it.
pub fn remove_cgroups(path: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).expect("cgroups").flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([top.to_owned()]) {
        let own = hierarchy.join(path.trim_start_matches('/'));
        let mut found = BTreeSet::new();
        directories(&own, 12, "", &mut found);
        // In reverse, what is below comes first.
        let below = found.iter().rev().map(|line| PathBuf::from(line.trim_start()));
        for cgroup in below.chain([own.clone()]).filter(|cgroup| cgroup.is_dir()) {
            fs::remove_dir(&cgroup).unwrap_or_else(|error| panic!("{}: {error}", cgroup.display()));
        }
    }
}

/// Whether a cgroup of this path is in any hierarchy.
pub fn has_cgroup(path: &str) -> bool {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).expect("cgroups").flatten().map(|entry| entry.path());
    hierarchies.chain([top.to_owned()]).any(|hierarchy| hierarchy.join(path.trim_start_matches('/')).exists())
}

/// systemd's scopes and slices, whatever their state, and all units that have failed.
fn units() -> Vec<String> {
    if !cgroups::has_systemd() {
        return Vec::new();
    }
    let list = |which: &str| {
        let mut command = Command::new("systemctl");
        command.args(["list-units", "--all", "--plain", "--no-legend", which]).done().ok()
    };
    let text = list("--type=scope,slice") + "\n" + &list("--failed");
    // UNIT LOAD ACTIVE SUB DESCRIPTION
    let units = text.lines().filter(|line| !line.trim().is_empty());
    units
        .map(|line| format!("unit {}", line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")))
        .collect()
}

/// The BPF programs of the kernel by id, as bpftool(8) lists them; where systemd has some of its own, which it loads
/// anew when it is reloaded, by their number.
fn programs() -> Vec<String> {
    const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
    let mut found = Vec::new();
    // union bpf_attr: start_id, next_id, open_flags.
    let mut attr = [0_u32; 32];
    // SAFETY: the attribute is larger than what the command reads and writes of it.
    while unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, attr.as_mut_ptr(), size_of_val(&attr)) }
        == 0
    {
        let name = if cgroups::has_systemd() { found.len() } else { attr[1] as usize };
        found.push(format!("BPF program {name}"));
        attr[0] = attr[1];
        attr[1] = 0;
    }
    found
}
