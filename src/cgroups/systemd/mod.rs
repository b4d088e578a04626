//! The systemd driver: a container is a transient scope.
//!
//! ```text
//! Plan::create   v1: the directories of hierarchies that systemd does not manage
//! clone3         init is born in our cgroup, goes on with its mounts
//! Plan::begin    StartTransientUnit with init's pid; does not wait
//!                … id maps, mounts …
//! Start::finish  waits for the job; then limits and device filter in the scope's directories
//! ```
//!
//! Until [`Start::finish`] has returned, init is without limits and must run nothing of the
//! container's: no hook, no program. A cgroup namespace is to be unshared only after it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::controllers;
use super::create::{Attempts, Cgroup, make_directory, open_below, open_root};
use super::plan::{Driver, Plan};
use super::record::{Directory, Record, Version};
use super::write::write_at;
use crate::error::{Call, Code, Context, Error, Result};
use bus::{Bus, Refusal, refused};
use message::{Body, Property, Value};
pub(super) use unit::{Unit, user_manager};

mod bus;
pub(super) mod message;
pub(super) mod properties;
mod unit;

/// Properties that older systemds do not know (versions 236, 242, 244, 246). The kernel's files get the values
/// from us anyway.
const NEWER: [&str; 4] = ["CollectMode", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"];

/// What systemd v1 support makes directories for; the other hierarchies are ours.
const MANAGED: [&str; 7] = ["cpu", "cpuacct", "memory", "blkio", "devices", "pids", "name=systemd"];

/// Whether systemd makes this directory.
pub(super) fn manages(version: Version, directory: &Directory) -> bool {
    directory.is_unified() || (version == Version::V1 && MANAGED.iter().any(|name| directory.has(name)))
}

/// The part of a plan that systemd carries out.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub unit: Unit,
    pub id: String,
    pub properties: Vec<Property>,
    /// The container's cgroup is not the scope's but this one below it, which we make.
    pub subgroup: Option<PathBuf>,
}

/// A scope that systemd is making.
pub struct Start<'a> {
    plan: &'a Plan,
    /// [`None`] when systemd went away after it had taken the job.
    job: Option<(Bus, String)>,
    pid: u32,
}

impl Plan {
    /// Adds the `org.systemd.property.*` annotations. The cgroupfs driver has no use for them.
    pub fn annotate(&mut self, annotations: &HashMap<String, String>) -> Result<()> {
        let Some(scope) = &mut self.scope else { return Ok(()) };
        for (key, value) in annotations {
            if let Some(name) = key.strip_prefix("org.systemd.property.") {
                let property = properties::annotation(name, value)?;
                scope.properties.retain(|(name, _)| *name != property.0);
                scope.properties.push(property);
            }
        }
        Ok(())
    }

    /// Makes a cgroup below the scope the container's.
    ///
    /// # Errors
    /// The host has cgroup v1, where that is of no use: systemd and the container have different hierarchies.
    pub fn add_subgroup(&mut self, below: &Path) -> Result<()> {
        if self.record.version == Version::V1 {
            return Err(Error::unsupported("needs cgroup v2").remedy("leave it out, or make it empty"));
        }
        let Some(scope) = &mut self.scope else { return Ok(()) };
        for directory in self.record.directories.iter_mut().filter(|directory| directory.is_unified()) {
            directory.path.push(below);
            scope.subgroup = Some(below.to_owned());
        }
        Ok(())
    }

    /// Asks systemd for the scope with init in it; [`None`] with another driver. Does not wait.
    ///
    /// # Errors
    /// systemd cannot be reached; a unit of that name is there; a property is refused.
    pub fn begin(&self, pid: nix::unistd::Pid) -> Result<Option<Start<'_>>> {
        let Some(scope) = &self.scope else { return Ok(None) };
        let pid = u32::try_from(pid.as_raw()).unwrap_or(0);
        let mut asked = false;
        let job = bus::while_away(|| {
            let mut bus = Bus::connect(scope.unit.user)?;
            match scope.start(&mut bus, self.record.version, pid) {
                // It went away between taking the job and saying so.
                Err(error) if asked && error.code() == Code::Exists => Ok(None),
                answer => {
                    asked = true;
                    Ok(Some((bus, answer?)))
                }
            }
        });
        let intent = || format!("start {} in {}", scope.unit.name, scope.unit.slice);
        Ok(Some(Start { plan: self, job: job.with_context(intent)?, pid }))
    }
}

impl Scope {
    /// The job.
    fn start(&self, bus: &mut Bus, version: Version, pid: u32) -> Result<String> {
        let mut properties = properties::scope(&self.id, &self.unit.slice, version, pid);
        // The later one of a name wins: limits over defaults, annotations over both.
        properties.retain(|(name, _)| self.properties.iter().all(|(other, _)| other != name));
        properties.extend_from_slice(&self.properties);
        let mut answer = self.call(bus, &properties)?;
        if let Err(refusal) = &answer {
            if refusal.name.ends_with(".UnitExists") {
                // A failed scope of a container that is no more; a living one stays and refuses again.
                reset_failed(bus, &self.unit.name)?;
                answer = self.call(bus, &properties)?;
            } else if is_unknown_property(refusal) {
                properties.retain(|(name, _)| !NEWER.contains(&name.as_str()));
                answer = self.call(bus, &properties)?;
            }
        }
        match answer {
            Ok(arguments) => arguments
                .into_iter()
                .next()
                .ok_or_else(|| Error::new(Code::Unsupported, "systemd's answer has no job")),
            Err(refusal) if refusal.name.ends_with(".UnitExists") => {
                Err(refused("StartTransientUnit", &refusal)
                    .with_code(Code::Exists)
                    .remedy(format!("systemctl stop {}, or use another linux.cgroupsPath", self.unit.name)))
            }
            Err(refusal) => Err(refused("StartTransientUnit", &refusal)),
        }
    }

    fn call(&self, bus: &mut Bus, properties: &[Property]) -> Result<bus::Answer> {
        let body = Body::default()
            .string(&self.unit.name)
            .string("replace")
            .properties(properties)
            .no_auxiliary_units();
        bus.manager("StartTransientUnit", &body)
    }
}

fn is_unknown_property(refusal: &Refusal) -> bool {
    refusal.name.ends_with(".PropertyReadOnly") || refusal.name.ends_with(".UnknownProperty")
}

impl Start<'_> {
    /// Waits until init is in its scope, then sets the limits and the device filter.
    ///
    /// # Errors
    /// The job fails; the kernel refuses a value. The scope is left for [`Record::remove`].
    pub fn finish(mut self) -> Result<Cgroup> {
        self.await_job()?;
        let record = &self.plan.record;
        for directory in record.directories.iter().filter(|directory| manages(record.version, directory)) {
            let path = directory.host_path();
            self.enter_subgroup(directory)?;
            let fd = match directory.open()? {
                Some(fd) => fd,
                // v1: systemd was built or told (DefaultControllers) to leave this one alone.
                None if record.version == Version::V1 && !directory.is_unified() => {
                    self.make_and_enter(directory, &path)?
                }
                None if directory.is_unified() && record.version == Version::V1 => continue,
                None => {
                    let what = format!("systemd made no cgroup {}", path.display());
                    return Err(Error::new(Code::State, what).remedy("has init died? see the log"));
                }
            };
            if directory.is_unified() && record.version == Version::V2 {
                // systemd hands down the controllers that it has properties for; huge pages and RDMA it
                // does not know.
                let root = open_root(&directory.mountpoint)?;
                let wanted = self.plan.writes.iter().chain(&self.plan.late);
                controllers::enable(root.as_fd(), directory, wanted)?;
            }
            self.plan.limit(directory, fd.as_fd(), &path)?;
        }
        let mut cgroup = self.made()?.open()?;
        cgroup.late.clone_from(&self.plan.late);
        cgroup.delegated.clone_from(&self.plan.delegated);
        Ok(cgroup)
    }

    /// Puts init into a cgroup of v1 that systemd does not make; being empty it may be removed by it before.
    fn make_and_enter(&self, directory: &Directory, path: &Path) -> Result<OwnedFd> {
        let pid = self.pid.to_string();
        let mut attempts = Attempts::default();
        loop {
            let (fd, _) = self.plan.make(directory)?;
            let Err((call, errno)) = write_at(fd.as_fd(), "cgroup.procs", &pid) else { return Ok(fd) };
            let error = Error::syscall(format!("{call}({:?}, {pid:?})", path.join("cgroup.procs")), errno);
            let made = Record { directories: vec![directory.opened_as(&fd)], ..self.plan.record.clone() };
            if !attempts.are_worth(&error, &made) {
                return Err(error);
            }
        }
    }

    /// The plan's record without a hierarchy of v1 beside v2 in which an ordinary user could make nothing.
    fn made(&self) -> Result<Record> {
        let mut record = self.plan.record.clone();
        if record.version == Version::V2 {
            let mut made = Vec::with_capacity(record.directories.len());
            for directory in record.directories {
                if directory.is_unified() || directory.open()?.is_some() {
                    made.push(directory);
                }
            }
            record.directories = made;
        }
        Ok(record)
    }

    /// Moves init from its scope into the cgroup below that is to be the container's. First of all, because
    /// a cgroup with processes cannot give controllers to its children.
    fn enter_subgroup(&self, directory: &Directory) -> Result<()> {
        let below = self.plan.scope.as_ref().and_then(|scope| scope.subgroup.as_deref());
        let Some(below) = below.filter(|_| directory.is_unified()) else { return Ok(()) };
        let root = open_root(&directory.mountpoint)?;
        let mut levels: Vec<&Path> = directory.path.ancestors().take(below.components().count()).collect();
        levels.reverse();
        for level in levels {
            make_directory(root.as_fd(), level)?;
        }
        let fd = open_below(root.as_fd(), &directory.path)?;
        let pid = self.pid.to_string();
        write_at(fd.as_fd(), "cgroup.procs", &pid).map_err(|(call, errno)| {
            let file = directory.host_path().join("cgroup.procs");
            Error::syscall(format!("{call}({file:?}, {pid:?})"), errno)
        })
    }
}

impl Start<'_> {
    fn await_job(&mut self) -> Result<()> {
        let name = self.plan.scope.as_ref().map_or("the scope", |scope| scope.unit.name.as_str());
        let result = match &mut self.job {
            Some((bus, job)) => bus.job_result(job, None),
            None => return self.await_placement(name),
        };
        match result {
            // After it has executed itself anew it goes on with its jobs, and tells nobody.
            Err(error) if bus::is_away(&error) => self.await_placement(name),
            Err(error) => Err(error),
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                Err(Error::new(Code::Unsupported, format!("systemd's job for {name} ended as {result}"))
                    .remedy(format!("see systemctl status {name}")))
            }
        }
    }

    /// Without a word of systemd: its last step is to put init into the scope.
    fn await_placement(&self, name: &str) -> Result<()> {
        let path = format!("/proc/{}/cgroup", self.pid);
        let deadline = Instant::now() + bus::PATIENCE;
        loop {
            let table = std::fs::read_to_string(&path).call(|| format!("read({path})"))?;
            if table.lines().any(|line| line.rsplit('/').next() == Some(name)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("systemd went away and did not put the container into {name}");
                return Err(Error::new(Code::Unsupported, what).remedy("try again"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Record {
    /// Stops the scope and forgets that it failed. What is gone already is fine.
    pub(super) fn stop_unit(&self, deadline: Instant) -> Result<()> {
        let (Driver::Systemd, Some(unit)) = (self.driver, &self.unit) else { return Ok(()) };
        bus::ask(unit.user, |bus| {
            let body = Body::default().string(&unit.name).string("replace");
            match bus.manager("StopUnit", &body)? {
                Ok(arguments) => {
                    // The result does not matter: what counts is whether the directories can be removed.
                    if let Some(job) = arguments.first() {
                        let patience = deadline.max(Instant::now() + Duration::from_secs(1));
                        bus.job_result(job, Some(patience))?;
                    }
                }
                Err(refusal) if refusal.name.ends_with(".NoSuchUnit") => {}
                Err(refusal) => return Err(refused("StopUnit", &refusal)),
            }
            reset_failed(bus, &unit.name)
        })
    }

    /// What systemd has now for these properties, as it is to be told again to go back. One that it
    /// does not know is left out.
    pub(super) fn unit_values(&self, properties: &[Property]) -> Result<Vec<Property>> {
        let (Driver::Systemd, Some(unit)) = (self.driver, &self.unit) else { return Ok(Vec::new()) };
        if properties.is_empty() {
            return Ok(Vec::new());
        }
        let mut names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        bus::ask(unit.user, |bus| {
            let mut values = Vec::with_capacity(names.len());
            for name in &names {
                match bus.unit_property(&unit.name, name)? {
                    // systemd shows the last device first.
                    Ok(Value::Pairs(mut list)) => {
                        list.reverse();
                        values.extend(properties::replacing(name, Value::Pairs(list)));
                    }
                    Ok(value) => values.extend(properties::replacing(name, value)),
                    Err(refusal) if is_unknown_property(&refusal) => {}
                    Err(refusal) => return Err(refused(&format!("Get({name})"), &refusal)),
                }
            }
            Ok(values)
        })
    }

    /// Tells systemd the new limits. Nothing to do with another driver.
    pub(super) fn update_unit(&self, properties: &[Property]) -> Result<()> {
        let (Driver::Systemd, Some(unit)) = (self.driver, &self.unit) else { return Ok(()) };
        if properties.is_empty() {
            return Ok(());
        }
        let set = |bus: &mut Bus, properties: &[Property]| {
            // Runtime only: a container does not outlive the boot.
            bus.manager(
                "SetUnitProperties",
                &Body::default().string(&unit.name).bool(true).properties(properties),
            )
        };
        bus::ask(unit.user, |bus| {
            let mut answer = set(bus, properties)?;
            if answer.as_ref().is_err_and(is_unknown_property) {
                let older: Vec<Property> =
                    properties.iter().filter(|(name, _)| !NEWER.contains(&name.as_str())).cloned().collect();
                answer = set(bus, &older)?;
            }
            answer.map(drop).map_err(|refusal| refused("SetUnitProperties", &refusal))
        })
    }
}

/// A unit that is not loaded has not failed.
fn reset_failed(bus: &mut Bus, unit: &str) -> Result<()> {
    match bus.manager("ResetFailedUnit", &Body::default().string(unit))? {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.name.ends_with(".NoSuchUnit") => Ok(()),
        Err(refusal) => Err(refused("ResetFailedUnit", &refusal)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command};

    use oci_spec::runtime::Linux;

    use super::super::layout::Layout;
    use super::*;

    /// A scope as systemd leaves it, with a process in it; both gone with the test.
    struct Made {
        scope: PathBuf,
        child: Child,
    }

    impl Drop for Made {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            for below in ["in/side/payload", "in/side", "in", ""] {
                fs::remove_dir(self.scope.join(below)).unwrap();
            }
            fs::remove_dir(self.scope.parent().unwrap()).unwrap();
        }
    }

    /// What is done once systemd has made the scope needs no systemd, but the kernel's cgroup2.
    #[test]
    fn init_goes_on_from_the_scope_into_its_subgroup() {
        let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .into_iter()
            .find(|mountpoint| Path::new(mountpoint).join("cgroup.subtree_control").exists());
        let Some(mountpoint) = unified.filter(|_| nix::unistd::geteuid().is_root()) else {
            eprintln!("skipped: needs root and a cgroup2 mount");
            return;
        };
        let linux: Linux = serde_json::from_str(r#"{"cgroupsPath":"berthtestsub.slice:p:n"}"#).unwrap();
        let layout = Layout::of_v2(mountpoint);
        let mut plan =
            super::super::plan(Some(&linux), "n", &layout, Driver::Systemd, &mut Vec::new()).unwrap();
        plan.add_subgroup(Path::new("in/side")).unwrap();
        plan.delegate(Path::new("payload"), Some(7)).unwrap();

        let scope = Path::new(mountpoint).join("berthtestsub.slice/p-n.scope");
        fs::create_dir_all(&scope).unwrap();
        let made = Made { scope, child: Command::new("sleep").arg("600").spawn().unwrap() };
        let pid = made.child.id();
        fs::write(made.scope.join("cgroup.procs"), pid.to_string()).unwrap();
        // As after a systemd that went away: it is looked for in the scope, and found there.
        let cgroup = Start { plan: &plan, job: None, pid }.finish().unwrap();

        let place = || fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(
            place().lines().any(|line| line == "0::/berthtestsub.slice/p-n.scope/in/side"),
            "{}",
            place()
        );
        assert_eq!(cgroup.record().unified().unwrap().host_path(), made.scope.join("in/side"));
        let filters = crate::sys::bpf::device_filters(cgroup.clone_into().unwrap()).unwrap();
        assert_eq!(filters.len(), 1, "limits are those of the subgroup");

        assert!(cgroup.is_sealed_later());
        cgroup.seal(nix::unistd::Pid::from_raw(pid.try_into().unwrap())).unwrap();
        assert!(place().lines().any(|line| line.ends_with("/p-n.scope/in/side/payload")), "{}", place());
        let owner = |file: &str| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(made.scope.join("in/side").join(file)).unwrap().uid()
        };
        assert_eq!((owner("payload"), owner("payload/cgroup.procs"), owner("cgroup.procs")), (7, 7, 0));
        let controllers = |file: &str| fs::read_to_string(made.scope.join("in/side").join(file)).unwrap();
        assert_eq!(controllers("cgroup.controllers"), controllers("cgroup.subtree_control"));
    }
}
