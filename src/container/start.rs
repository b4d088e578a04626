//! `start`: opens the gate and runs the poststart hooks.

use std::time::Duration;

use super::state::Record;
use super::status::{self, Status};
use super::{Host, kill, plan};
use crate::error::{Code, Error, Result};
use crate::hooks;
use crate::init::gate;
use crate::sys::spawn;

/// Starts a created container: returns once the user's program has been executed.
///
/// # Errors
/// It is not in the state `created`, its program could not be executed, or a poststart hook failed
/// (the container is stopped then).
pub fn start(host: &Host, id: &str) -> Result<()> {
    let dir = host.root.open(id)?;
    let _lock = dir.lock(Duration::from_secs(10))?;
    let record = status::record(&dir)?;
    match status::of(&dir, &record)? {
        Status::Created => {}
        Status::Stopped => return Err(Error::new(Code::State, "cannot start a container that has stopped")),
        Status::Running => return Err(Error::new(Code::State, "cannot start an already running container")),
        Status::Paused => {
            return Err(Error::new(Code::State, "cannot start a container in the paused state")
                .remedy("resume it first"));
        }
        Status::Creating => {
            return Err(Error::new(Code::State, "cannot start a container that is being created"));
        }
    }
    gate::open(&dir, dir.path())?;
    run_poststart(&record)
}

/// The hooks after the program was started; when one fails the container is stopped (runtime.md,
/// lifecycle, step 9).
pub(super) fn run_poststart(record: &Record) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let state = record.oci_state("running", record.init.map_or(0, |init| init.pid)).to_json()?;
    let run_all = || {
        let output = &plan::hook_output(|key| record.annotation(key))?;
        let environment = &spawn::environment();
        let setting = hooks::Setting { state: &state, environment, output, confine: None };
        hooks::run_all(hooks::Kind::Poststart, &record.poststart, &setting)
    };
    run_all().map_err(|error| match kill::all(record) {
        Ok(()) => error,
        Err(also) => error.remedy(format!("the container could not be stopped: {also}")),
    })
}
