//! Who makes the cgroups of containers, and where they are: the runtime itself, by the file system, below a path; or
//! systemd, as scopes below a slice.

use crate::leftovers;
use crate::site::Bounded;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cgroup driver that engines are told, or choose for themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    Cgroupfs,
    Systemd,
}

/// systemd's where it runs on cgroup v2, as Docker and Podman choose by themselves and a kubelet is told;
/// `BERTH_ENGINES_CGROUPS=cgroupfs` asks for the other on such a machine.
pub fn driver() -> Driver {
    let asked = std::env::var("BERTH_ENGINES_CGROUPS").unwrap_or_default();
    match asked.as_str() {
        "" if has_systemd() && is_cgroup2() => Driver::Systemd,
        "" | "cgroupfs" => Driver::Cgroupfs,
        "systemd" => Driver::Systemd,
        other => panic!("BERTH_ENGINES_CGROUPS={other}: cgroupfs or systemd is wanted"),
    }
}

pub fn by_systemd() -> bool {
    driver() == Driver::Systemd
}

/// As sd_booted(3) asks.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

pub fn is_cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// What is above the containers of one engine, of this run alone.
pub struct Parent {
    /// Without the `/` before a path or the `.slice` after a slice.
    name: String,
}

impl Parent {
    pub fn new(name: &str) -> Self {
        // A dash in a slice's name is a level of the tree.
        let name = if by_systemd() { name.replace('-', "_") } else { name.to_owned() };
        Self { name }
    }

    /// As an engine is told: `/NAME` or `NAME.slice`.
    pub fn word(&self) -> String {
        if by_systemd() { format!("{}.slice", self.name) } else { format!("/{}", self.name) }
    }

    /// systemd's own slice for services, where a scope is when nobody says where.
    pub fn is_system(&self) -> bool {
        self.name == "system"
    }

    /// One level deeper.
    pub fn below(&self, name: &str) -> Self {
        let separator = if by_systemd() { '-' } else { '/' };
        Self { name: format!("{}{separator}{name}", self.name) }
    }

    /// Its path from a hierarchy's root, without the first `/`.
    pub fn path(&self) -> PathBuf {
        if !by_systemd() {
            return PathBuf::from(&self.name);
        }
        let ends = self.name.match_indices('-').map(|(at, _)| at).chain([self.name.len()]);
        ends.map(|end| format!("{}.slice", &self.name[..end])).collect()
    }

    /// Where a container is: `ID` below the path, or the scope `PREFIX-ID.scope` below the slice.
    pub fn container(&self, prefix: &str, id: &str) -> PathBuf {
        self.path().join(if by_systemd() { format!("{prefix}-{id}.scope") } else { id.to_owned() })
    }

    /// Takes it away with all below: a runtime removes a container's cgroup, and that above is nobody's.
    pub fn remove(&self) {
        if by_systemd() {
            Command::new("systemctl").args(["stop", &self.word()]).done().ok();
            return;
        }
        leftovers::remove_cgroups(&self.word());
    }
}

/// Podman's own, which it leaves there: the cgroup of containers and conmon.
pub struct PodmansParent {
    /// It was there before, and stays.
    of_others: bool,
}

impl PodmansParent {
    const PATH: &str = "/libpod_parent";
    const SLICE: &str = "machine.slice";

    /// Before the first call of Podman.
    pub fn before() -> Self {
        Self { of_others: leftovers::has_cgroup(if by_systemd() { Self::SLICE } else { Self::PATH }) }
    }

    /// After the last.
    pub fn remove(self) {
        if self.of_others {
        } else if by_systemd() {
            Command::new("systemctl").args(["stop", Self::SLICE]).done().ok();
        } else {
            leftovers::remove_cgroups(Self::PATH);
        }
    }
}

/// What systemd says of a unit.
#[track_caller]
pub fn unit(name: &str, property: &str) -> String {
    Command::new("systemctl").args(["show", "--value", "--property", property, name]).done().ok()
}

/// Whether that is what cpu.shares or cpu.weight says of these shares. A weight comes by the formula that runtimes have
/// had since 2025, or by the linear one before, which Debian's runc has.
#[track_caller]
pub fn assert_shares(seen: &str, shares: u64) {
    let new = |log: f64| 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let weights = [new((shares as f64).log2()).to_string(), (1 + (shares - 2) * 9999 / 262_142).to_string()];
    let right = if is_cgroup2() { weights.contains(&seen.to_owned()) } else { seen == shares.to_string() };
    assert!(right, "{seen} for {shares} shares, whose weights are {weights:?}");
}

/// The root of cgroup2 and those of every v1 hierarchy.
pub fn roots() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mounted = table.lines().filter(|line| line.contains(" - cgroup"));
    mounted.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// A cgroup's file by its v1 controller and name or by its v2 name; without the last newline.
#[track_caller]
pub fn file(path: &Path, controller: &str, v1: &str, v2: &str) -> String {
    let root = Path::new("/sys/fs/cgroup");
    let path = path.strip_prefix("/").unwrap_or(path);
    let file =
        if is_cgroup2() { root.join(path).join(v2) } else { root.join(controller).join(path).join(v1) };
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim_end().to_owned()
}
