//! `events`: what a container uses, and when it runs out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::Host;
use super::freeze::live_record;
use super::state::Record;
use crate::cgroups::stats::Stats;
use crate::cgroups::{OomEvent, OomSource};
use crate::error::{Code, Error, Result};

/// One line of `events`, in the shape of runc (opencontainers/runc: types/events.go).
#[derive(Clone, Debug, Serialize)]
pub struct Event<'a> {
    /// `stats` or `oom`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container's id.
    pub id: &'a str,
    /// The figures of `stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Stats>,
}

/// What the container uses now.
///
/// # Errors
/// It is not running.
pub fn stats<'a>(host: &Host, id: &'a str) -> Result<Event<'a>> {
    figures(&watched(host, id)?, id)?.ok_or_else(|| not_running(id))
}

/// Gives `emit` the figures after each `interval`, and an event whenever memory has run out, until the
/// container's cgroup has no more processes (v1: until it is removed).
///
/// # Errors
/// The container is not running or has no memory cgroup; `emit`'s own.
pub fn watch(
    host: &Host,
    id: &str,
    interval: Duration,
    mut emit: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    let record = watched(host, id)?;
    let mut source = record.cgroup.oom_source()?;
    let mut next = Instant::now() + interval;
    loop {
        await_event(&source, next)?;
        if tell(&mut source, id, &mut emit)? {
            return Ok(());
        }
        if Instant::now() >= next {
            next += interval;
            // Without them the source tells that it was the end; not yet, where v1's hierarchies go one by one.
            if let Some(event) = figures(&record, id)? {
                emit(&event)?;
            }
        }
    }
}

/// Gives `emit` all that `source` has; true when it was the last. Nobody tells the end a second time, so what is
/// left after an event is looked at as well.
fn tell(source: &mut OomSource, id: &str, emit: &mut impl FnMut(&Event) -> Result<()>) -> Result<bool> {
    loop {
        match source.take()? {
            OomEvent::Ended => return Ok(true),
            OomEvent::Nothing => return Ok(false),
            OomEvent::Oom(count) => {
                let event = Event { kind: "oom", id, data: None };
                (0..count).try_for_each(|_| emit(&event))?;
            }
        }
    }
}

fn watched(host: &Host, id: &str) -> Result<Record> {
    let dir = host.root.open(id)?;
    live_record(&dir).map_err(|error| match error.code() {
        Code::State => not_running(id),
        _ => error,
    })
}

/// In runc's words.
fn not_running(id: &str) -> Error {
    Error::new(Code::State, format!("container with id {id} is not running"))
}

/// [`None`] when a cgroup is removed while its files are read: the others' figures would be half of the truth.
fn figures<'a>(record: &Record, id: &'a str) -> Result<Option<Event<'a>>> {
    match record.cgroup.stats() {
        Ok(stats) => Ok(Some(Event { kind: "stats", id, data: Some(stats) })),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for a sign of `source`, at most until `deadline`.
fn await_event(source: &OomSource, deadline: Instant) -> Result<()> {
    // One more millisecond, since poll's unit cuts the rest off.
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(source.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::syscall("poll(memory events)", errno)),
    }
}
