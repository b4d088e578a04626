//! What will be created and written, worked out before anything is touched.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxResources};
use serde::{Deserialize, Serialize};

use super::delegate::Delegated;
use super::devices::Rules;
use super::layout::{Layout, SYSTEMD_V1};
use super::path::place;
use super::record::{Directory, Record, Version};
use super::systemd::{self, Scope, Unit, user_manager};
use super::write::Write;
use super::{v1, v2};
use crate::caller::ordinary_user;
use crate::error::{Call, Error, Result};

/// Who makes the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// We do, through the file system.
    Cgroupfs,
    /// systemd does, as a transient scope.
    Systemd,
    /// Nobody: the container stays in our cgroup, without limits (crun's `--cgroup-manager disabled`).
    Disabled,
}

/// The finished plan of a container's cgroup.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) record: Record,
    /// In the order in which they are applied.
    pub(super) writes: Vec<Write>,
    /// Writes that would refuse the container's first process: `pids.max` 0 on v2.
    pub(super) late: Vec<Write>,
    pub(super) devices: Rules,
    /// With the systemd driver.
    pub(super) scope: Option<Scope>,
    /// Below the container's cgroup, what belongs to the container.
    pub(super) delegated: Option<Delegated>,
}

/// Plans the cgroup of container `id`. Pure, but for the names of drivers that the systemd driver reads
/// from /proc/devices.
///
/// # Errors
/// A value that is out of range or has no counterpart on this host's cgroup version, and a wanted
/// controller that is not mounted; each names the field.
pub fn plan(
    linux: Option<&Linux>,
    id: &str,
    layout: &Layout,
    driver: Driver,
    warnings: &mut Vec<String>,
) -> Result<Plan> {
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let list = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    let devices = Rules::new(list)?;
    let version = if layout.is_v2() { Version::V2 } else { Version::V1 };
    let mut writes = match (resources, version) {
        (None, _) => Vec::new(),
        (Some(resources), Version::V2) => v2::writes(resources, warnings)?,
        (Some(resources), Version::V1) => v1::writes(resources, warnings)?,
    };
    let mut record = Record { driver, version, directories: Vec::new(), unit: None };
    if driver == Driver::Disabled {
        if let Some(write) = writes.first() {
            warnings.push(format!("{} and other limits are ignored: cgroups are disabled", write.field));
        }
        return Ok(Plan {
            record,
            writes: Vec::new(),
            late: Vec::new(),
            devices,
            scope: None,
            delegated: None,
        });
    }
    if version == Version::V1 {
        refuse_unmounted(&writes, layout)?;
        // With a devices hierarchy missing, the filter would silently not be there.
        if !layout.v1.is_empty() && !layout.v1.iter().any(|h| h.has("devices")) {
            return Err(unmounted("devices", "linux.resources.devices"));
        }
    }
    let without_any = layout.v1.is_empty() && layout.unified.is_none();
    let user = if driver == Driver::Systemd || without_any { ordinary_user()? } else { None };
    // An ordinary user makes no device; root's container would open every one that it makes.
    if without_any && user.is_none() {
        return Err(unmounted("devices", "linux.resources.devices"));
    }
    let scope = match driver {
        Driver::Systemd => Some(scope(cgroups_path, id, resources, &devices, version, user.is_some())?),
        Driver::Cgroupfs | Driver::Disabled => None,
    };
    for hierarchy in layout.v1.iter().chain(layout.unified.as_ref()) {
        let path = match (&scope, user) {
            (None, _) => place(cgroups_path, id, hierarchy, version == Version::V2)?,
            (Some(scope), Some(uid)) => user_manager(hierarchy.own.as_deref(), uid).join(scope.unit.path()?),
            (Some(scope), None) => scope.unit.path()?,
        };
        record.directories.push(Directory {
            names: hierarchy.names.clone(),
            mountpoint: hierarchy.mountpoint.clone(),
            path,
            inode: None,
        });
    }
    record.unit = scope.as_ref().map(|scope| scope.unit.clone());
    if let (true, Some(write)) = (record.directories.is_empty(), writes.first()) {
        return Err(unmounted(&write.controller, &write.field));
    }
    // The kernel counts a process that is cloned into a cgroup against its limit, one that is moved
    // it does not (cgroup-v2.rst, "PID").
    let refuses_init =
        |write: &Write| version == Version::V2 && write.file == "pids.max" && write.value == "0";
    let late = writes.extract_if(.., |write| refuses_init(write)).collect();
    Ok(Plan { record, writes, late, devices, scope, delegated: None })
}

/// The scope that systemd shall make; for an ordinary `user` it is the user's own systemd.
fn scope(
    cgroups_path: Option<&Path>,
    id: &str,
    resources: Option<&LinuxResources>,
    devices: &Rules,
    version: Version,
    user: bool,
) -> Result<Scope> {
    let mut properties = match resources {
        Some(resources) => systemd::properties::limits(resources, version)?,
        None => Vec::new(),
    };
    // A user's systemd may filter no devices, and has no need to.
    if !user {
        let groups = std::fs::read_to_string("/proc/devices").call(|| "read(/proc/devices)".into())?;
        properties.extend(systemd::properties::devices(devices, version, &groups)?);
    }
    Ok(Scope { unit: Unit::new(cgroups_path, id, user)?, id: id.to_owned(), properties, subgroup: None })
}

/// On v1 a controller that is not mounted cannot be had.
fn refuse_unmounted(writes: &[Write], layout: &Layout) -> Result<()> {
    let missing = |write: &&Write| !layout.v1.iter().any(|h| h.has(&write.controller));
    match writes.iter().find(missing) {
        Some(write) => Err(unmounted(&write.controller, &write.field)),
        None => Ok(()),
    }
}

fn unmounted(controller: &str, field: &str) -> Error {
    Error::unsupported(format!("{field} needs the cgroup controller {controller}, which is not mounted"))
        .remedy(format!("mount it (mount -t cgroup -o {controller} …), or leave the field out"))
}

impl Plan {
    /// Whether its controllers are those of cgroup v1.
    pub fn is_v1(&self) -> bool {
        self.record.version == Version::V1
    }

    /// Each limit that is asked for: the controller that it needs, and where config.json has it.
    pub fn limits(&self) -> impl Iterator<Item = (&str, &str)> {
        // Files of the core and the pressure files need no controller.
        let needs_one = |write: &&Write| write.controller != "cgroup" && !write.file.ends_with(".pressure");
        let writes = self.writes.iter().chain(&self.late).filter(needs_one);
        writes.map(|write| (write.controller.as_ref(), write.field.as_ref()))
    }

    /// Adds the hierarchy `name=systemd` of cgroup v1 to a container whose controllers are on v2, and tells
    /// where in it the container is, and the caller.
    ///
    /// # Errors
    /// The host does not have it.
    pub fn add_systemd_v1(&mut self, layout: &Layout) -> Result<(Directory, Option<PathBuf>)> {
        let hierarchy = layout.systemd_v1()?.ok_or_else(|| {
            Error::unsupported("no cgroup v1 hierarchy name=systemd is mounted on this host").remedy(
                "mount it as root: mkdir /sys/fs/cgroup/systemd; \
                 mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd",
            )
        })?;
        let own = hierarchy.own.clone();
        if let Some(directory) = self.record.directories.iter().find(|directory| directory.has(SYSTEMD_V1)) {
            return Ok((directory.clone(), own));
        }
        // Where it is in the unified hierarchy: whoever looks for a container looks there.
        let path = self.record.unified().map(|unified| unified.path.clone());
        let mut directory = Directory {
            names: hierarchy.names,
            mountpoint: hierarchy.mountpoint,
            path: own.clone().unwrap_or_default(),
            inode: None,
        };
        if let Some(path) = path {
            directory.path = path;
            self.record.directories.insert(0, directory.clone());
        }
        Ok((directory, own))
    }

    /// All that must be known to clean up after a crash; save it before [`Plan::create`].
    pub fn record(&self) -> Record {
        self.record.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(v1: bool) -> Layout {
        let v2 = Layout::of_v2("/sys/fs/cgroup");
        let named = super::super::layout::Hierarchy {
            names: vec![SYSTEMD_V1.into()],
            mountpoint: "/named".into(),
            own: Some("session".into()),
        };
        let devices = super::super::layout::Hierarchy { names: vec!["devices".into()], ..named.clone() };
        if v1 { Layout { v1: vec![devices, named], ..v2 } } else { v2 }
    }

    fn planned(path: &str, v1: bool, driver: Driver) -> Plan {
        let linux = serde_json::from_str(&format!(r#"{{"cgroupsPath":"{path}"}}"#)).unwrap();
        plan(Some(&linux), "id", &layout(v1), driver, &mut Vec::new()).unwrap()
    }

    fn unified(plan: &Plan) -> &str {
        plan.record.unified().unwrap().path.to_str().unwrap()
    }

    #[test]
    fn a_subgroup_is_below_the_scope() {
        let mut scoped = planned("a.slice:p:n", false, Driver::Systemd);
        scoped.add_subgroup(Path::new("in/side")).unwrap();
        assert_eq!(unified(&scoped), "a.slice/p-n.scope/in/side");
        assert_eq!(scoped.scope.unwrap().subgroup, Some("in/side".into()));
        let error = planned("a.slice:p:n", true, Driver::Systemd).add_subgroup(Path::new("x")).unwrap_err();
        assert!(error.to_string().starts_with("needs cgroup v2"), "{error}");
    }

    #[test]
    fn what_is_delegated_is_no_part_of_the_path() {
        let mut plan = planned("/box", false, Driver::Cgroupfs);
        plan.delegate(Path::new("init"), Some(7)).unwrap();
        assert_eq!((unified(&plan), plan.delegated.is_some()), ("box", true));
        for (v1, driver) in [(true, Driver::Cgroupfs), (false, Driver::Disabled)] {
            planned("/box", v1, driver).delegate(Path::new("init"), None).unwrap_err();
        }
    }

    /// On a v1 host it is among the others already.
    #[test]
    fn the_hierarchy_of_systemd_is_there_once() {
        let mut plan = planned("/box", true, Driver::Cgroupfs);
        let before = plan.record.directories.len();
        let (directory, own) = plan.add_systemd_v1(&layout(true)).unwrap();
        assert_eq!((directory.host_path(), own), ("/named/box".into(), Some("session".into())));
        assert_eq!(plan.record.directories.len(), before);
    }

    /// Beside v2 it is one more, at the same path; and the caller's own without any cgroup.
    #[test]
    fn the_hierarchy_of_systemd_beside_v2() {
        for (driver, at, directories) in [(Driver::Cgroupfs, "box", 2), (Driver::Disabled, "session", 0)] {
            let mut plan = planned("/box", false, driver);
            let (directory, _) = plan.add_systemd_v1(&layout(true)).unwrap();
            assert_eq!((directory.path.to_str().unwrap(), directory.has(SYSTEMD_V1)), (at, true));
            assert_eq!(plan.record.directories.len(), directories);
            assert_eq!(plan.record.version, Version::V2);
        }
    }
}
