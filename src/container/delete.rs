//! `delete`, and the clean-up after a birth that failed: the same steps, since a crash can have left
//! any part of a container.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::state::{Record, StateDir};
use super::status::{self, Status};
use super::{Host, kill, plan};
use crate::error::{Call, Code, Context, Error, Result};
use crate::sys::spawn;
use crate::{cgroups, hooks, log, resctrl};

/// How long the processes and the cgroup of a container may take to go away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a stopped container; with `force` it is killed first, and an unknown id is no error.
///
/// # Errors
/// The container is not stopped, or something of it does not go away.
pub fn delete(host: &Host, id: &str, force: bool) -> Result<()> {
    let dir = match host.root.open(id) {
        Err(error) if force && error.code() == Code::NotFound => return Ok(()),
        other => other?,
    };
    if force {
        // A start or create that hangs in a hook holds the lock; it sees the end of init and gives up.
        if let Ok(Some(record)) = dir.read() {
            kill::all(&record)?;
        }
    }
    // A create that is under way ends within this time, or its lock is stuck and named.
    let _lock = match dir.lock(PATIENCE) {
        Err(error) if force && error.code() == Code::NotFound => return Ok(()),
        other => other?,
    };
    let record = match dir.read() {
        Err(error) if force => {
            log::warning(&format!("{error}; if it has a cgroup, that is left"));
            return dir.remove();
        }
        other => other?,
    };
    let Some(record) = record else {
        // The claim is all there is: create died before it made anything.
        return if force { dir.remove() } else { status::record(&dir).map(drop) };
    };
    // Creating under our lock: its create died, and init with it or about to.
    match status::of(&dir, &record)? {
        Status::Stopped | Status::Creating => {}
        _ if force => {}
        // `kill ID KILL` and `delete ID` on one line: it is as good as dead.
        _ if record.init.is_some_and(|init| init.is_ending().unwrap_or(false)) => wait_for_end(&record)?,
        other => {
            return Err(Error::new(
                Code::State,
                format!("cannot delete container {id} that is not stopped: {other}"),
            )
            .remedy("stop it first, or use --force"));
        }
    }
    remove(&dir, &record).with_context(|| format!("delete container {id}"))
}

/// Kills what is left, removes cgroup and state, runs the poststop hooks. Each step is repeatable.
pub(super) fn remove(dir: &StateDir, record: &Record) -> Result<()> {
    kill::all(record)?;
    wait_for_end(record)?;
    if record.cgroup_made {
        record.cgroup.remove(PATIENCE)?;
    } else if let Err(error) = remove_planned(&record.cgroup) {
        // A create died between planning its cgroup and saying that it is made. Empty directories of that
        // name are gone now; what is in use is not the container's.
        log::warning(&format!("the cgroup of container {} is left: {error}", record.id));
    }
    record.rdt.as_ref().map_or(Ok(()), resctrl::Record::remove).context("linux.intelRdt")?;
    if let Some(mount) = record.host_mount
        && let Some(why) = mount.remove(&record.rootfs).context("unmount the rootfs")?
    {
        log::warning(&format!("the mount of the rootfs of container {} is left: {why}", record.id));
    }
    dir.remove()?;
    run_poststop(record)
}

/// What is there of a cgroup that a create had planned when it died.
fn remove_planned(cgroup: &cgroups::Record) -> Result<()> {
    let finished = cgroup.finish_parents();
    cgroup.remove(Duration::from_secs(1)).and(finished)
}

fn wait_for_end(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    let Some(pidfd) = init.open()? else { return Ok(()) };
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut fds, timeout).call(|| format!("poll(pidfd of {})", init.pid))? == 0 {
        return Err(Error::new(Code::State, format!("process {} does not end", init.pid))
            .remedy("it may hang in the kernel: see /proc/PID/stack"));
    }
    Ok(())
}

/// After the container is gone; a failure is a warning and the others still run (runtime.md,
/// lifecycle, step 13).
fn run_poststop(record: &Record) -> Result<()> {
    if record.poststop.is_empty() {
        return Ok(());
    }
    let state = record.oci_state("stopped", 0).to_json()?;
    // What hooks undo matters more than what they say.
    let output = plan::hook_output(|key| record.annotation(key)).unwrap_or_else(|error| {
        log::warning(&error.to_string());
        hooks::Output::default()
    });
    let environment = &spawn::environment();
    let setting = hooks::Setting { state: &state, environment, output: &output, confine: None };
    for (index, hook) in record.poststop.iter().enumerate() {
        if let Err(error) = hooks::run(hooks::Kind::Poststop, index, hook, &setting) {
            log::warning(&error.to_string());
        }
    }
    Ok(())
}
