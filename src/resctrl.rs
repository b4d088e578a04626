//! `linux.intelRdt`: shares of caches and of memory bandwidth, by the resctrl file system
//! (Documentation/filesystems/resctrl.rst; config-linux.md, IntelRdt).
//!
//! A class of service is a directory, `schemata` its shares, `tasks` its processes; a child inherits its
//! parent's class. [`plan`] is pure; [`Plan::find`] looks at the host; [`Record`] is what `state.json`
//! keeps; [`Change`] is `update`'s part. Only directories that berth made are ever removed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Code, Context, Error, Result};
use crate::sys::{mountinfo, procfs};

pub use change::{Change, check_host};

mod change;

const MOUNTS: &str = "/proc/self/mountinfo";

/// What config.json asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The class; None for one of the container's own, with its id as name.
    class: Option<String>,
    id: String,
    /// The lines for `schemata`, in order; empty to leave it alone.
    schemata: Vec<String>,
    /// Whether the processes get a monitoring group of their own.
    monitored: bool,
    /// Events that the host must be able to count.
    events: Vec<&'static [&'static str]>,
}

/// Where a container's processes are, and what was made for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The directories whose `tasks` list the processes: the class, then the monitoring group.
    groups: Vec<PathBuf>,
    /// Those of them that are ours, as far as is known before they are made.
    made: Vec<PathBuf>,
}

/// The plan for this host.
#[derive(Clone, Debug)]
pub struct Found {
    plan: Plan,
    root: PathBuf,
    record: Record,
}

/// Pure.
pub fn plan(rdt: &LinuxIntelRdt, id: &str) -> Plan {
    let mut events: Vec<&'static [&'static str]> = Vec::new();
    // Older than enableMonitoring: counting needs no more than a kernel and a processor that can.
    #[allow(deprecated)]
    if rdt.enable_cmt() == &Some(true) {
        events.push(&["llc_occupancy"]);
    }
    #[allow(deprecated)]
    if rdt.enable_mbm() == &Some(true) {
        events.push(&["mbm_total_bytes", "mbm_local_bytes"]);
    }
    Plan {
        class: rdt.clos_id().clone(),
        id: id.to_owned(),
        schemata: schemata(rdt),
        monitored: rdt.enable_monitoring() == &Some(true),
        events,
    }
}

/// The older fields first, `schemata` last. A bandwidth of its own replaces one within l3CacheSchema.
fn schemata(rdt: &LinuxIntelRdt) -> Vec<String> {
    let bandwidth = rdt.mem_bw_schema().as_deref().filter(|text| !text.is_empty());
    let caches = rdt.l3_cache_schema().as_deref().unwrap_or_default().lines();
    let caches = caches.filter(|line| bandwidth.is_none() || !line.trim_start().starts_with("MB:"));
    let last = rdt.schemata().iter().flatten().map(String::as_str);
    let all = caches.chain(bandwidth).chain(last);
    all.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

impl Plan {
    /// Finds the file system, and what will have to be made in it.
    ///
    /// # Errors
    /// No resctrl is mounted; a class that is only named is not there; one that is there has other shares.
    pub fn find(self) -> Result<Found> {
        let root = root()?.ok_or_else(|| {
            Error::unsupported("no resctrl file system is mounted").remedy(
                "mount it (mount -t resctrl resctrl /sys/fs/resctrl), if processor and kernel have it",
            )
        });
        self.find_below(root?)
    }

    fn find_below(self, root: PathBuf) -> Result<Found> {
        self.check_events(&root)?;
        let class = match self.class.as_deref() {
            // The class of all that is in no other (runtime-spec 1.3).
            Some("/") => root.clone(),
            Some(name) => root.join(name),
            None => root.join(&self.id),
        };
        let mut record = Record { groups: vec![class.clone()], made: Vec::new() };
        if class.is_dir() {
            self.check_existing(&class)?;
        } else if self.class.is_some() && self.schemata.is_empty() {
            return Err(Error::invalid(format!("closID: there is no class {}", class.display()))
                .remedy("make it first, or say with schemata what it shall be"));
        } else {
            record.made.push(class.clone());
        }
        if self.monitored {
            let group = class.join("mon_groups").join(&self.id);
            record.made.push(group.clone());
            record.groups.push(group);
        }
        Ok(Found { plan: self, root, record })
    }

    fn check_events(&self, root: &Path) -> Result<()> {
        if self.events.is_empty() && !self.monitored {
            return Ok(());
        }
        let path = root.join("info/L3_MON/mon_features");
        let known = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            result => result.call(|| format!("read({})", path.display()))?,
        };
        let can = |events: &&[&str]| known.lines().any(|event| events.contains(&event.trim()));
        match self.events.iter().find(|events| !can(events)) {
            Some(events) => {
                Err(Error::unsupported(format!("this host cannot count {}", events.join(" or ")))
                    .remedy(format!("{} lists what it can", path.display())))
            }
            None if known.is_empty() => {
                Err(Error::unsupported("this host can monitor nothing").remedy("leave enableMonitoring out"))
            }
            None => Ok(()),
        }
    }

    fn check_existing(&self, class: &Path) -> Result<()> {
        if self.class.is_none() {
            let what = format!("{} is there already, and not this container's", class.display());
            return Err(Error::new(Code::Exists, what).remedy("remove it, or name it as closID"));
        }
        has_shares(class, &self.schemata.join("\n"))
    }
}

/// A class that has other processes too keeps its shares: they have to be those that are asked for
/// (config-linux.md, IntelRdt: `closID`).
fn has_shares(class: &Path, wanted: &str) -> Result<()> {
    let wants = shares(wanted);
    if wants.is_empty() {
        return Ok(());
    }
    let has = shares(&read_schemata(class)?);
    match wants.into_iter().find(|(part, share)| has.get(part) != Some(share)) {
        None => Ok(()),
        Some(((resource, domain), share)) => {
            let own = has.get(&(resource.clone(), domain.clone())).map_or("nothing", String::as_str);
            Err(Error::invalid(format!(
                "closID: the class {} has {own} of {resource}:{domain}, and {share} is asked for",
                class.display()
            )))
        }
    }
}

fn read_schemata(class: &Path) -> Result<String> {
    let path = class.join("schemata");
    std::fs::read_to_string(&path).call(|| format!("read({})", path.display()))
}

/// All lines in one write(2): the kernel reads them all before it takes one.
fn write_schemata(class: &Path, lines: &[String]) -> Result<()> {
    let text = lines.join("\n") + "\n";
    let path = class.join("schemata");
    std::fs::write(&path, &text).call(|| format!("write({}, {text:?})", path.display()))
}

/// What the kernel has to say about its last refusal (`info/last_cmd_status`).
fn explain(error: Error, root: &Path) -> Error {
    match std::fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(status) if status.trim() != "ok" && !status.trim().is_empty() => error.remedy(status.trim()),
        _ => error,
    }
}

/// Where the file system is, if it is mounted.
fn root() -> Result<Option<PathBuf>> {
    let table = procfs::read(MOUNTS).call(|| format!("read({MOUNTS})"))?;
    Ok(mounted_at(&table))
}

/// The last resctrl in a mountinfo.
fn mounted_at(table: &[u8]) -> Option<PathBuf> {
    let mut mounts = mountinfo::mounts(table).rev();
    mounts.find(|mount| mount.fstype == b"resctrl").map(|mount| mount.point.into_owned())
}

/// `L3:0=7f;1=1f` as what each domain of each resource has: ("L3", "0") → "7f". Spaces and leading zeros
/// mean nothing.
fn shares(text: &str) -> BTreeMap<(String, String), String> {
    let mut shares = BTreeMap::new();
    for (resource, domains) in text.lines().filter_map(|line| line.split_once(':')) {
        for (domain, share) in domains.split(';').filter_map(|part| part.split_once('=')) {
            let share = share.trim().trim_start_matches('0').to_ascii_lowercase();
            shares.insert((resource.trim().to_owned(), domain.trim().to_owned()), share);
        }
    }
    shares
}

impl Found {
    /// All that will be made, for `state.json`.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Makes the groups; `made` gets each directory as it is made.
    ///
    /// # Errors
    /// The kernel's, with its own words (`info/last_cmd_status`).
    pub fn make(&self, made: &mut Record) -> Result<()> {
        made.groups.clone_from(&self.record.groups);
        for directory in &self.record.made {
            let call = || format!("mkdir({})", directory.display());
            match std::fs::create_dir(directory) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let what = format!("{} is there already", directory.display());
                    return Err(Error::new(Code::Exists, what).remedy("another container may be using it"));
                }
                result => result.call(call).map_err(|error| self.explain(error))?,
            }
            made.made.push(directory.clone());
        }
        let class = &self.record.groups[0];
        if self.plan.schemata.is_empty() || !self.record.made.contains(class) {
            return Ok(());
        }
        write_schemata(class, &self.plan.schemata)
            .map_err(|error| self.explain(error))
            .context("set the shares of the class")
    }

    fn explain(&self, error: Error) -> Error {
        explain(error, &self.root)
    }
}

impl Record {
    /// Puts a process into the groups.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, pid: Pid) -> Result<()> {
        self.groups.iter().try_for_each(|group| {
            let path = group.join("tasks");
            std::fs::write(&path, pid.to_string())
                .call(|| format!("write({}, \"{pid}\")", path.display()))
                .context("linux.intelRdt: put the process into its class")
        })
    }

    /// Removes what is ours; a class that other processes have joined since is left to them.
    ///
    /// # Errors
    /// The kernel's; that something is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        self.made.iter().rev().filter(|group| !is_in_use(group)).try_for_each(|group| {
            let removed = match std::fs::remove_dir(group) {
                // The kernel's directories go with all that is in them.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => std::fs::remove_dir_all(group),
                result => result,
            };
            match removed {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => result.call(|| format!("rmdir({})", group.display())),
            }
        })
    }
}

/// Whether processes are in the class. Who has ended is listed until the parent has seen it, as the
/// container's own init may be when it is deleted.
fn is_in_use(group: &Path) -> bool {
    let lives = |pid: &str| {
        let stat = std::fs::read(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        // proc_pid_stat(5): the state is what follows the name, which may have parentheses in it.
        let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
        state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
    };
    std::fs::read_to_string(group.join("tasks")).is_ok_and(|tasks| tasks.split_whitespace().any(lives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Plan {
        plan(&serde_json::from_str(json).unwrap(), "box")
    }

    #[test]
    fn schemata_come_last_and_bandwidth_once() {
        let both = r#"{"l3CacheSchema": "L3:0=f;1=f\nMB:0=20", "memBwSchema": "MB:0=70"}"#;
        assert_eq!(planned(both).schemata, ["L3:0=f;1=f", "MB:0=70"]);
        let one = r#"{"l3CacheSchema": "L3:0=f\nMB:0=20"}"#;
        assert_eq!(planned(one).schemata, ["L3:0=f", "MB:0=20"]);
        let all = r#"{"memBwSchema": "MB:0=70", "schemata": ["L2:0=3", "MB:0=30"]}"#;
        assert_eq!(planned(all).schemata, ["MB:0=70", "L2:0=3", "MB:0=30"]);
        assert_eq!(planned(r#"{"l3CacheSchema": "", "schemata": []}"#).schemata, [""; 0]);
    }

    #[test]
    fn shares_are_compared_by_domain() {
        let kernels = "    L3:0=007ff;1=7FF\n    MB:0=100;1= 70\n";
        let known = shares(kernels);
        for (text, equal) in [("L3:1=7ff", true), ("MB:1=70", true), ("L3:0=7fe", false), ("L2:0=7ff", false)]
        {
            assert_eq!(
                shares(text).iter().all(|(part, share)| known.get(part) == Some(share)),
                equal,
                "{text}"
            );
        }
    }

    #[test]
    fn the_mount_is_found() {
        let table = b"29 23 0:25 / /mnt/\xff rw - tmpfs tmpfs rw\n\
                     30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                     41 23 0:38 / /sys/fs/resctrl rw,relatime shared:4 - resctrl resctrl rw\n";
        assert_eq!(mounted_at(table), Some("/sys/fs/resctrl".into()));
        assert_eq!(mounted_at(b"30 23 0:26 / /resctrl rw - tmpfs resctrl rw\n"), None);
    }
}
