//! What has become of a container, as `state` and `list` tell it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Host;
use super::state::{Record, StateDir};
use crate::error::{Code, Error, Result};
use crate::init::gate;
use crate::log;

/// The states of runtime.md#state, and `paused` as runc has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// It waits to be started.
    Created,
    /// The user's process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What `state` prints, in this order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    /// Version of the runtime-spec.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// In the caller's pid namespace; 0 once stopped.
    pub pid: i32,
    /// Now.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root filesystem.
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    /// Those of config.json.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created it.
    pub owner: String,
}

/// The record of a container that has one.
///
/// # Errors
/// `create` has not got so far: for everybody else the container does not exist yet.
pub fn record(dir: &StateDir) -> Result<Record> {
    dir.read()?.ok_or_else(|| {
        Error::new(Code::NotFound, format!("container does not exist: {} is only being created", dir.id()))
            .remedy(format!("`berth delete --force {}` removes what a crashed create left", dir.id()))
    })
}

/// Asks the kernel.
///
/// # Errors
/// The kernel's.
pub fn of(dir: &StateDir, record: &Record) -> Result<Status> {
    let alive = match &record.init {
        Some(init) => init.is_alive()?,
        None => false,
    };
    if_init_is(alive, dir, record)
}

/// The same for who knows already whether its first process is `alive`.
///
/// # Errors
/// The kernel's.
pub fn if_init_is(alive: bool, dir: &StateDir, record: &Record) -> Result<Status> {
    if !record.complete {
        // A create that died takes init with it, so an unlocked, incomplete container is a dead one.
        return Ok(if alive || dir.is_locked()? { Status::Creating } else { Status::Stopped });
    }
    Ok(match () {
        () if !alive => Status::Stopped,
        // Before the gate: a frozen init cannot be started.
        () if record.cgroup.is_frozen()? => Status::Paused,
        () if gate::is_waiting(dir)? => Status::Created,
        () => Status::Running,
    })
}

/// What `berth state ID` prints.
///
/// # Errors
/// No such container.
pub fn state(host: &Host, id: &str) -> Result<StateView> {
    let dir = host.root.open(id)?;
    let record = record(&dir)?;
    view(&dir, record)
}

/// All containers below the root, by id.
///
/// # Errors
/// The root cannot be read. A container that vanishes while it is looked at is left out, one that cannot
/// be read is named in the log.
pub fn list(host: &Host) -> Result<Vec<StateView>> {
    let mut views = Vec::new();
    for id in host.root.ids()? {
        let seen = host.root.open(&id).and_then(|dir| {
            let record = record(&dir)?;
            view(&dir, record)
        });
        match seen {
            Ok(view) => views.push(view),
            Err(error) if error.code() == Code::NotFound => {}
            // One that cannot be read must not hide the others.
            Err(error) => log::warning(&format!("container {id}: {error}")),
        }
    }
    Ok(views)
}

fn view(dir: &StateDir, record: Record) -> Result<StateView> {
    let status = of(dir, &record)?;
    let pid = match (&record.init, status) {
        (_, Status::Stopped) | (None, _) => 0,
        (Some(init), _) => init.pid,
    };
    Ok(StateView {
        oci_version: record.oci_version,
        id: record.id,
        pid,
        status,
        bundle: record.bundle.to_string_lossy().into_owned(),
        rootfs: record.rootfs.to_string_lossy().into_owned(),
        created: record.created,
        annotations: record.annotations,
        owner: owner_name(record.owner),
    })
}

/// The user's name in /etc/passwd; a uid without one is printed as `#uid`. The file is read here and
/// not by getpwuid(3): a static program cannot load the C library's name services.
fn owner_name(uid: u32) -> String {
    if uid == 0 {
        return "root".into();
    }
    // Without one nobody has a name; one that is not UTF-8 in some line is good for the others.
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    name_in(&String::from_utf8_lossy(&passwd), uid).map_or_else(|| format!("#{uid}"), str::to_owned)
}

fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn finds_the_name_of_a_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000), Some("ann"));
        assert_eq!(name_in(passwd, 1001), None);
    }
}
