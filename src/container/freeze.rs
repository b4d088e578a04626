//! `pause` and `resume`: stops and continues all processes of a container.

use std::time::Duration;

use super::Host;
use super::state::{Record, StateDir};
use super::status::{self, Status};
use crate::error::{Code, Error, Result};

/// How long another command on the container may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Freezes the container's processes; returns once all of them are.
///
/// # Errors
/// It is neither running nor created, or a process cannot be frozen (then none is).
pub fn pause(host: &Host, id: &str) -> Result<()> {
    let dir = host.root.open(id)?;
    let _lock = dir.lock(PATIENCE)?;
    let record = status::record(&dir)?;
    match status::of(&dir, &record)? {
        Status::Running | Status::Created => record.cgroup.freeze(),
        other => Err(Error::new(Code::State, format!("container not running or created: {other}"))),
    }
}

/// Lets a paused container go on.
///
/// # Errors
/// It is not paused.
pub fn resume(host: &Host, id: &str) -> Result<()> {
    let dir = host.root.open(id)?;
    let _lock = dir.lock(PATIENCE)?;
    let record = status::record(&dir)?;
    match status::of(&dir, &record)? {
        Status::Paused => record.cgroup.thaw(),
        _ => Err(Error::new(Code::State, "container not paused")),
    }
}

/// The record of a container that has processes.
///
/// # Errors
/// It has stopped, or is only being created.
pub(super) fn live_record(dir: &StateDir) -> Result<Record> {
    let record = status::record(dir)?;
    match status::of(dir, &record)? {
        Status::Created | Status::Running | Status::Paused => Ok(record),
        Status::Stopped | Status::Creating => Err(Error::new(Code::State, "container not running")),
    }
}
