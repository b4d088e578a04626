//! Changes the limits of a running container: all of them, or none.
//!
//! ```text
//! read what is there ─► files ─► systemd's properties ─► files again ─► devices
//!         └──────────────── all of it set back when anything is refused
//! ```
//!
//! The files first, because only they know how to shrink memory without killing. Again after systemd,
//! because it writes its own idea of a value (whole percents of a quota) and, with each value that it is
//! told of, all others of that controller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::controllers;
use super::create::{replace_filter, write_list};
use super::devices::Rules;
use super::record::{NO_CGROUP, Record, Version};
use super::systemd::message::Property;
use super::systemd::properties;
use super::write::{Otherwise, Write, read_at, write_at};
use super::{v1, v2};
use crate::error::{Call, Code, Context, Error, Result};
use previous::previous;

mod previous;

/// The weight of a cgroup against its siblings, on v2 and on v1. The kernel takes none while it is idle.
const WEIGHTS: [&str; 2] = ["cpu.weight", "cpu.shares"];

/// No value: whatever comes of the others.
const UNTOLD: &str = "";

/// New limits of a container.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// What is to change. The swap limit of cgroup v2 can be worked out only together with the memory
    /// limit: give both, such as the container's resources with the changes merged in.
    pub changes: &'a LinuxResources,
    /// All that the container was given so far.
    pub before: &'a LinuxResources,
}

/// An update, worked out.
struct Planned {
    changes: Vec<Write>,
    /// Files that are to stay as they are and that systemd may write when it is told of the changes.
    kept: Vec<Write>,
    properties: Vec<Property>,
    /// The new list and the one to go back to.
    devices: Option<(Rules, Rules)>,
}

/// One value that is to change, or to stay, with the one to go back to.
struct Change {
    directory: BorrowedDirectory,
    /// As it will be written; `file` is the one that this kernel has.
    write: Write,
    previous: String,
}

/// An open cgroup directory and its path for errors; shared by the changes in it.
#[derive(Clone)]
struct BorrowedDirectory {
    fd: Rc<OwnedFd>,
    path: PathBuf,
}

impl Record {
    /// Sets new limits; what they do not mention stays as it is. The device filter is replaced without
    /// a moment in which there is none, and only if the changes have a device list. Values that are what
    /// the kernel has already are not written.
    ///
    /// # Errors
    /// The kernel or systemd refuses a value: the error names it, and all values are what they were
    /// before. A memory limit below what is in use, and the rest cannot be reclaimed: the numbers are
    /// given, no process is killed.
    pub fn update(&self, update: &Update<'_>, warnings: &mut Vec<String>) -> Result<()> {
        let planned = self.plan_update(update, warnings)?;
        let changes = self.changes(&planned)?;
        let memory = update.changes.memory();
        let check_only = memory.and_then(|memory| memory.check_before_update()) == Some(true);
        changes.iter().try_for_each(|change| change.refuse_overfull(check_only))?;
        let unit = self.unit_values(&planned.properties)?;
        let mut told = false;
        let Err(error) = self.carry_out(&planned, &changes, &mut told) else { return Ok(()) };
        match self.set_back(&planned, &changes, told.then_some(unit.as_slice())) {
            Ok(()) => Err(error.remedy("all limits are as they were before")),
            Err(left) => Err(error.context(format!("(and then: {left})"))),
        }
    }

    /// `told`: whether systemd has heard of it.
    fn carry_out(&self, planned: &Planned, changes: &[Change], told: &mut bool) -> Result<()> {
        reach(changes.iter().map(|change| (change, &change.write.value)))?;
        if !planned.properties.is_empty() {
            *told = true;
            self.tell_systemd(&planned.properties, planned.devices.is_some())?;
            reach(changes.iter().map(|change| (change, &change.write.value)))?;
        }
        match &planned.devices {
            Some((rules, _)) => self.replace_devices(rules),
            None => Ok(()),
        }
    }

    /// systemd first, because it writes files too; those backwards, so that each step leads to a state
    /// that the kernel has accepted before.
    fn set_back(&self, planned: &Planned, changes: &[Change], unit: Option<&[Property]>) -> Result<()> {
        let set_back = || {
            if let Some(unit) = unit {
                self.tell_systemd(unit, planned.devices.is_some())?;
            }
            reach(changes.iter().rev().map(|change| (change, &change.previous)))?;
            match (&planned.devices, self.version) {
                (Some((_, rules)), Version::V1) => self.replace_devices(rules),
                // v2's filter is exchanged as a whole, and last.
                _ => Ok(()),
            }
        };
        set_back().context("set back the limits")
    }

    /// On v1 systemd denies all devices before it allows those of its new list, and a process that opens
    /// /dev/null in between would be refused: so none runs meanwhile (as with runc).
    fn tell_systemd(&self, properties: &[Property], devices: bool) -> Result<()> {
        let freeze = devices && self.version == Version::V1 && self.unit.is_some() && !self.is_frozen()?;
        if freeze {
            self.freeze()?;
        }
        let told = self.update_unit(properties);
        if freeze {
            self.thaw()?;
        }
        told
    }

    fn plan_update(&self, update: &Update<'_>, warnings: &mut Vec<String>) -> Result<Planned> {
        if !self.is_some() {
            return Err(Error::unsupported("the container has no cgroup of its own").remedy(NO_CGROUP));
        }
        let writes = |resources: &LinuxResources, warnings: &mut Vec<String>| match self.version {
            Version::V1 => v1::writes(resources, warnings),
            Version::V2 => v2::writes(resources, warnings),
        };
        let changes = writes(update.changes, warnings)?;
        let mut kept = match &self.unit {
            // Its warnings were given when the container was created.
            Some(_) => writes(update.before, &mut Vec::new())?,
            None => Vec::new(),
        };
        let goes_idle = changes.iter().any(|write| write.file == "cpu.idle");
        kept.retain(|write| {
            // What is per device systemd leaves alone.
            !write.value.contains(':')
                && changes.iter().all(|new| new.file != write.file)
                && !(goes_idle && WEIGHTS.contains(&write.file.as_ref()))
        });
        // All that could fail for devices without touching the kernel fails before the first write.
        let list = |resources: &LinuxResources| {
            let rules = Rules::new(resources.devices().as_deref().unwrap_or_default())?;
            if self.version == Version::V1 {
                rules.list()?;
            }
            Ok(rules)
        };
        let devices = match update.changes.devices() {
            Some(_) => Some((list(update.changes)?, list(update.before)?)),
            None => None,
        };
        let properties = self.unit_properties(update.changes, devices.as_ref().map(|(rules, _)| rules))?;
        Ok(Planned { changes, kept, properties, devices })
    }

    /// What systemd has to know, so that a daemon-reload does not set the old values back.
    fn unit_properties(&self, resources: &LinuxResources, rules: Option<&Rules>) -> Result<Vec<Property>> {
        let Some(unit) = &self.unit else { return Ok(Vec::new()) };
        let mut list = properties::limits(resources, self.version)?;
        if let Some(rules) = rules.filter(|_| !unit.user) {
            let groups = std::fs::read_to_string("/proc/devices").call(|| "read(/proc/devices)".into())?;
            list.extend(properties::devices(rules, self.version, &groups)?);
        }
        Ok(list)
    }

    /// Opens the directories, finds the files and reads the values that are there now.
    fn changes(&self, planned: &Planned) -> Result<Vec<Change>> {
        let mut open = Vec::with_capacity(self.directories.len());
        for directory in &self.directories {
            let path = directory.host_path();
            let fd = directory
                .open()?
                .ok_or_else(|| Error::new(Code::State, format!("cgroup {} is gone", path.display())))?;
            open.push((directory, BorrowedDirectory { fd: fd.into(), path }));
        }
        if self.version == Version::V2
            && let Some(directory) = self.unified()
        {
            let root = super::create::open_root(&directory.mountpoint)?;
            controllers::enable(root.as_fd(), directory, planned.changes.iter())?;
        }
        let home = |write: &Write| {
            let home = open.iter().find(|(directory, _)| match self.version {
                Version::V1 => directory.has(&write.controller),
                Version::V2 => directory.is_unified(),
            });
            home.map(|(_, directory)| directory).ok_or_else(|| {
                let what = format!("{} needs the cgroup controller {}", write.field, write.controller);
                Error::unsupported(what)
                    .remedy("the container was created without it; mount it and create the container anew")
            })
        };
        let mut changes = Vec::with_capacity(planned.changes.len() + planned.kept.len());
        for write in &planned.changes {
            let directory = home(write)?;
            changes.extend(Change::find(write, directory)?);
            if write.file == "cpu.idle" && write.value != "0" {
                changes.extend(Change::weight_lost_with(write, directory)?);
            }
        }
        for write in &planned.kept {
            changes.extend(Change::find(write, home(write)?)?.map(Change::stay));
        }
        Ok(changes)
    }

    fn replace_devices(&self, rules: &Rules) -> Result<()> {
        for directory in &self.directories {
            let filtered = match self.version {
                Version::V1 => directory.has("devices"),
                Version::V2 => directory.is_unified(),
            };
            if filtered && let Some(fd) = directory.open()? {
                match self.version {
                    Version::V1 => write_list(rules, fd.as_fd(), &directory.host_path())?,
                    Version::V2 => replace_filter(rules, fd.as_fd(), &directory.host_path())?,
                }
            }
        }
        Ok(())
    }
}

/// Writes each of the values that is not there already.
///
/// Some fit only once others are set: a memory limit above the old limit of memory and swap, a period
/// below the old quota, a burst above the old quota. So what is refused as not fitting is tried again,
/// as long as anything else went through.
fn reach<'a>(values: impl Iterator<Item = (&'a Change, &'a String)>) -> Result<()> {
    let mut pending = Vec::new();
    for (change, value) in values {
        pending.extend(change.towards(value)?);
    }
    while !pending.is_empty() {
        let before = pending.len();
        let mut refusal = None;
        for change in std::mem::take(&mut pending) {
            match change.apply() {
                Ok(()) => {}
                Err(error) if error.errno() == Some(Errno::EINVAL) => {
                    refusal.get_or_insert(error);
                    pending.push(change);
                }
                Err(error) => return Err(error),
            }
        }
        if pending.len() == before
            && let Some(refusal) = refusal
        {
            return Err(refusal);
        }
    }
    Ok(())
}

impl Change {
    /// [`None`] when there is no such file and no need of one.
    fn find(write: &Write, directory: &BorrowedDirectory) -> Result<Option<Self>> {
        let text = match read_at(directory.fd.as_fd(), &write.file) {
            Ok(text) => text,
            Err(Errno::ENOENT) => match &write.otherwise {
                Otherwise::Instead(other) => return Self::find(other, directory),
                Otherwise::Skip => return Ok(None),
                Otherwise::Refuse => {
                    let call = format!("open({:?})", directory.path.join(write.file.as_ref()));
                    return Err(Error::syscall(call, Errno::ENOENT).context(format!("set {}", write.field)));
                }
            },
            // A file that can only be written cannot be set back either.
            Err(errno) => {
                let call = format!("read({:?})", directory.path.join(write.file.as_ref()));
                return Err(Error::syscall(call, errno).context(format!("set {}", write.field)));
            }
        };
        let previous = previous(&write.file, &write.value, &text).into_owned();
        let write = Write { otherwise: Otherwise::Refuse, ..write.clone() };
        Ok(Some(Self { directory: directory.clone(), write, previous }))
    }

    /// A cgroup that becomes idle loses its weight, and does not get it back by itself.
    fn weight_lost_with(idle: &Write, directory: &BorrowedDirectory) -> Result<Option<Self>> {
        for file in WEIGHTS {
            let write = Write { file: file.into(), otherwise: Otherwise::Skip, ..idle.clone() };
            if let Some(change) = Self::find(&write, directory)? {
                return Ok(Some(Self { write: Write { value: UNTOLD.into(), ..change.write }, ..change }));
            }
        }
        Ok(None)
    }

    /// Keeps the value that is there now.
    fn stay(mut self) -> Self {
        self.write.value.clone_from(&self.previous);
        self
    }

    /// The change that leads from what the kernel has now to `value`; [`None`] if that is it.
    fn towards(&self, value: &str) -> Result<Option<Self>> {
        if value == UNTOLD {
            return Ok(None);
        }
        let write = Write { value: value.to_owned(), ..self.write.clone() };
        Ok(Self::find(&write, &self.directory)?.filter(|change| change.previous != value))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.directory.fd.as_ref().as_fd()
    }

    fn path(&self) -> &Path {
        &self.directory.path
    }

    fn apply(&self) -> Result<()> {
        if self.write.file == "memory.max" {
            return self.shrink();
        }
        match self.write.apply(self.fd(), self.path()) {
            // v1's memory.limit_in_bytes reclaims by itself and gives up.
            Err(error) if error.errno() == Some(Errno::EBUSY) => match self.excess()? {
                Some(numbers) => Err(overfull(numbers, "the rest cannot be reclaimed")),
                None => Err(error),
            },
            result => result,
        }
    }

    /// The memory in use and the new limit, when the limit is below it.
    fn excess(&self) -> Result<Option<(u64, u64)>> {
        let usage = match self.write.file.as_ref() {
            "memory.max" => "memory.current",
            "memory.limit_in_bytes" => "memory.usage_in_bytes",
            _ => return Ok(None),
        };
        let text = read_at(self.fd(), usage)
            .map_err(|errno| Error::syscall(format!("read({:?})", self.path().join(usage)), errno))?;
        let numbers = text.trim().parse().ok().zip(self.write.value.parse().ok());
        Ok(numbers.filter(|(used, limit): &(u64, u64)| used > limit))
    }

    /// The spec's checkBeforeUpdate: refuse a limit below the use at once.
    fn refuse_overfull(&self, check_only: bool) -> Result<()> {
        match self.excess()? {
            Some(numbers) if check_only => Err(overfull(numbers, "checkBeforeUpdate forbids it")),
            _ => Ok(()),
        }
    }

    /// Lowers memory.max. Below the use the kernel would kill processes to get there; memory.high
    /// makes it reclaim first, and holds what is running back until the limit is set.
    fn shrink(&self) -> Result<()> {
        if self.excess()?.is_none() {
            return self.write.apply(self.fd(), self.path());
        }
        let high = |value: &str| {
            write_at(self.fd(), "memory.high", value).map_err(|(call, errno)| {
                let path = self.path().join("memory.high");
                Error::syscall(format!("{call}({path:?}, {value:?})"), errno)
                    .context("reclaim memory before the limit is set")
            })
        };
        let before = read_at(self.fd(), "memory.high")
            .map_err(|errno| Error::syscall(format!("read({:?})", self.path().join("memory.high")), errno))?;
        high(&self.write.value)?;
        let result = match self.excess() {
            Ok(Some(numbers)) => Err(overfull(numbers, "the rest cannot be reclaimed")),
            Ok(None) => self.write.apply(self.fd(), self.path()),
            Err(error) => Err(error),
        };
        high(before.trim())?;
        result
    }
}

fn overfull((used, limit): (u64, u64), why: &str) -> Error {
    let what = format!("linux.resources.memory.limit: {limit} bytes, but {used} bytes are in use and {why}");
    Error::new(Code::State, what).remedy("stop processes in the container, or choose a higher limit")
}
