//! Changes the limits of a running container: all of them, or none.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::controllers;
use super::create::{replace_filter, write_list};
use super::devices::Rules;
use super::record::{Record, Version};
use super::systemd::message::Property;
use super::systemd::properties;
use super::write::{Otherwise, Write, read_at, write_at};
use super::{v1, v2};
use crate::error::{Call, Code, Context, Error, Result};

/// One value that is to change, with the one to go back to.
struct Change {
    directory: BorrowedDirectory,
    /// As it will be written; `file` is the one that this kernel has.
    write: Write,
    previous: String,
}

/// An open cgroup directory and its path for errors; shared by the changes in it.
#[derive(Clone)]
struct BorrowedDirectory {
    fd: std::rc::Rc<OwnedFd>,
    path: PathBuf,
}

impl Record {
    /// Sets `resources`; what they do not mention stays as it is. The device filter is replaced
    /// without a moment in which there is none, and only if `resources` has a device list.
    ///
    /// The swap limit of cgroup v2 can be worked out only together with the memory limit: give both,
    /// such as the container's resources with the changes merged in. Values that are what the kernel
    /// has already are not written.
    ///
    /// # Errors
    /// The kernel refuses a value: the error names it, and all values are what they were before. A
    /// memory limit below what is in use, and the rest cannot be reclaimed: the numbers are given,
    /// no process is killed.
    pub fn update(&self, resources: &LinuxResources, warnings: &mut Vec<String>) -> Result<()> {
        let (writes, rules) = self.plan_update(resources, warnings)?;
        let mut pending = self.changes(&writes)?;
        let check_only = resources.memory().as_ref().and_then(|m| m.check_before_update()) == Some(true);
        for change in &pending {
            change.refuse_overfull(check_only)?;
        }
        let properties = self.unit_properties(resources, rules.as_ref())?;
        let mut done: Vec<Change> = Vec::with_capacity(pending.len());
        // systemd takes all properties or none, so it goes after the files, which can be set back.
        let result = apply_all(&mut pending, &mut done)
            .and_then(|()| self.update_unit(&properties))
            .and_then(|()| rules.map_or(Ok(()), |rules| self.replace_devices(&rules)));
        let Err(error) = result else { return Ok(()) };
        // Backwards, so that each step leads to a state that the kernel has accepted before.
        for change in done.iter().rev() {
            if let Err(left) = change.undo() {
                return Err(error.context(format!("(and then: {left})")));
            }
        }
        Err(error.remedy("all limits are as they were before"))
    }

    fn plan_update(
        &self,
        resources: &LinuxResources,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<Write>, Option<Rules>)> {
        if !self.is_some() {
            return Err(Error::unsupported("the container has no cgroup of its own")
                .remedy("create it with rights to a cgroup (root, or --systemd-cgroup)"));
        }
        let writes = match self.version {
            Version::V1 => v1::writes(resources, warnings)?,
            Version::V2 => v2::writes(resources, warnings)?,
        };
        // All that could fail for devices without touching the kernel fails before the first write.
        let rules = resources.devices().as_deref().map(Rules::new).transpose()?;
        if self.version == Version::V1
            && let Some(rules) = &rules
        {
            rules.list()?;
        }
        Ok((writes, rules))
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
    fn changes(&self, writes: &[Write]) -> Result<Vec<Change>> {
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
            controllers::enable(root.as_fd(), directory, writes.iter())?;
        }
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            let home = open.iter().find(|(directory, _)| match self.version {
                Version::V1 => directory.has(&write.controller),
                Version::V2 => directory.is_unified(),
            });
            let Some((_, directory)) = home else {
                let what = format!("{} needs the cgroup controller {}", write.field, write.controller);
                return Err(Error::unsupported(what)
                    .remedy("the container was created without it; mount it and create the container anew"));
            };
            changes.extend(Change::find(write, directory)?);
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

/// Some values fit only once others are set: a memory limit above the old limit of memory and swap, a
/// period below the old quota, a burst above the old quota. So what is refused as not fitting is
/// tried again, as long as anything else went through.
fn apply_all(pending: &mut Vec<Change>, done: &mut Vec<Change>) -> Result<()> {
    while !pending.is_empty() {
        let before = pending.len();
        let mut refusal = None;
        for change in std::mem::take(pending) {
            match change.apply() {
                Ok(()) => done.push(change),
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
    /// [`None`] when the kernel has the value already, or no file and no need of one.
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
        if previous == write.value {
            return Ok(None);
        }
        let write = Write { otherwise: Otherwise::Refuse, ..write.clone() };
        Ok(Some(Self { directory: directory.clone(), write, previous }))
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

    fn undo(&self) -> Result<()> {
        let write = Write { value: self.previous.clone(), ..self.write.clone() };
        let back = Self { directory: self.directory.clone(), write, previous: String::new() };
        back.apply().context("set back the limits")
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

/// What to write into `file` to undo `value`, from the file's present `text`.
fn previous<'a>(file: &str, value: &str, text: &'a str) -> Cow<'a, str> {
    let line = |key: &str| text.lines().find(|line| line.split([' ', '\t']).next() == Some(key));
    let key = value.split(' ').next().unwrap_or_default();
    match file {
        // "oom_kill_disable 0\nunder_oom 0\n…", of which the first may be written.
        "memory.oom_control" => {
            line("oom_kill_disable").and_then(|l| l.split(' ').nth(1)).unwrap_or("0").into()
        }
        // "8:0 rbps=1000 wbps=max riops=max wiops=max"; no line, no limit.
        "io.max" => {
            let name = value.split(' ').nth(1).and_then(|pair| pair.split('=').next()).unwrap_or_default();
            let pair = line(key).and_then(|line| {
                line.split(' ').find(|pair| pair.split('=').next().is_some_and(|n| n == name))
            });
            match pair {
                Some(pair) => format!("{key} {pair}").into(),
                None => format!("{key} {name}=max").into(),
            }
        }
        // "default 100\n8:0 200", or the number alone; per device when the value names one.
        "io.weight" | "io.bfq.weight" | "blkio.bfq.weight" | "blkio.weight" if !value.contains(' ') => {
            line("default").map_or_else(|| text.trim(), |line| line.trim_start_matches("default ")).into()
        }
        "io.weight" | "io.bfq.weight" => {
            line(key).map_or_else(|| format!("{key} default").into(), Into::into)
        }
        // "8:0 1000"; 0 takes the line away.
        "blkio.weight_device" | "blkio.bfq.weight_device" | "blkio.leaf_weight_device" => {
            line(key).map_or_else(|| format!("{key} 0").into(), Into::into)
        }
        file if file.starts_with("blkio.throttle.") => {
            line(key).map_or_else(|| format!("{key} 0").into(), Into::into)
        }
        "rdma.max" => {
            line(key).map_or_else(|| format!("{key} hca_handle=max hca_object=max").into(), Into::into)
        }
        "net_prio.ifpriomap" => line(key).map_or_else(|| format!("{key} 0").into(), Into::into),
        // An empty list (cpuset) is written as an empty line: a write of nothing never reaches the kernel.
        _ if text.trim().is_empty() => "\n".into(),
        _ => text.trim().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_file_can_be_set_back() {
        let io = "8:0 rbps=1000 wbps=max riops=max wiops=5\n";
        for (file, value, text, expected) in [
            ("memory.max", "100", "max\n", "max"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpu.max", "5 10", "max 100000\n", "max 100000"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", "0"),
            ("io.max", "8:0 wiops=9", io, "8:0 wiops=5"),
            ("io.max", "8:0 rbps=9", io, "8:0 rbps=1000"),
            ("io.max", "8:16 rbps=9", io, "8:16 rbps=max"),
            ("io.weight", "7", "default 100\n8:0 50\n", "100"),
            ("io.weight", "8:0 7", "default 100\n8:0 50\n", "8:0 50"),
            ("io.weight", "8:16 7", "default 100\n8:0 50\n", "8:16 default"),
            ("blkio.bfq.weight", "7", "100\n", "100"),
            ("blkio.throttle.read_bps_device", "8:0 7", "8:0 1000\n", "8:0 1000"),
            ("blkio.throttle.read_bps_device", "8:0 7", "", "8:0 0"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 3\n", "eth0 3"),
        ] {
            assert_eq!(previous(file, value, text), expected, "{file} {value}");
        }
    }
}
