//! Clock offsets of a new time namespace (time_namespaces(7), Linux 5.6).

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use oci_spec::runtime::LinuxTimeOffset;

use super::Kind;
use crate::error::{Call, Context, Error, Result};
use crate::sys;
use crate::sys::procfs::Procfs;

/// The text for `timens_offsets`, in a fixed order; None without an offset.
pub(super) fn offsets(offsets: Option<&HashMap<String, LinuxTimeOffset>>) -> Result<Option<String>> {
    let mut clocks: Vec<_> = offsets.into_iter().flatten().collect();
    clocks.sort_by_key(|(clock, _)| *clock);
    let mut text = String::new();
    for (clock, offset) in clocks {
        if clock != "monotonic" && clock != "boottime" {
            return Err(Error::invalid(format!("linux.timeOffsets: the clock {clock:?} has no offset"))
                .remedy("use monotonic or boottime"));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            return Err(Error::invalid(format!(
                "linux.timeOffsets.{clock}.nanosecs: {nanoseconds} is more than 999999999"
            )));
        }
        text.push_str(&format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0)));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// The caller's time namespace before [`unshare_time`].
#[derive(Debug)]
pub struct OriginalTime(OwnedFd);

/// Makes a time namespace for the caller's children, and for itself from its next execve(2) on, and
/// sets its clocks. `procfs` must show the caller.
///
/// The caller must be dumpable, or its files in `/proc` belong to the host's root.
///
/// Called by the parent right before the clone, which then goes back with [`OriginalTime::restore`].
/// With a new user namespace only init has the rights (CAP_SYS_TIME in the namespace's owner), so it
/// calls this itself and drops the result: execve moves a process into its children's time namespace since
/// Linux 6.2 (commit 2b5f9dad32ed; before, only its children are moved).
pub fn unshare_time(offsets: &str, procfs: &Procfs) -> Result<OriginalTime> {
    // A magic link, which a Procfs never follows; the caller's own /proc is as good for what is only
    // gone back to.
    let path = "/proc/self/ns/time";
    let original =
        File::open(path).call(|| format!("open({path:?})")).context("open the runtime's time namespace")?;
    sys::namespace::unshare(Kind::Time.flag())
        .call(|| "unshare(CLONE_NEWTIME)".into())
        .context("make the time namespace")?;
    let write = || {
        let path = "self/timens_offsets";
        let mut file = procfs.open(path, OFlag::O_WRONLY)?;
        file.write_all(offsets.as_bytes()).call(|| format!("write(\"/proc/{path}\", {offsets:?})"))
    };
    write().context("set the clocks of the time namespace").map_err(|error| match error.errno() {
        Some(Errno::ERANGE) => error.remedy("a clock may not become negative or pass half of its range"),
        _ => error,
    })?;
    Ok(OriginalTime(original.into()))
}

impl OriginalTime {
    /// The parent goes back after the clone.
    pub fn restore(self) -> Result<()> {
        sys::namespace::setns(self.0.as_fd(), Kind::Time.flag())
            .call(|| "setns(time)".into())
            .context("go back to the runtime's time namespace")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<String>> {
        let map: HashMap<String, LinuxTimeOffset> = serde_json::from_str(json).unwrap();
        offsets(Some(&map))
    }

    #[test]
    fn writes_clocks_in_order() {
        let text =
            parse(r#"{"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 86400}}"#).unwrap();
        assert_eq!(text.as_deref(), Some("boottime 86400 0\nmonotonic -5 7\n"));
        assert_eq!(parse("{}").unwrap(), None);
        assert_eq!(offsets(None).unwrap(), None);
    }

    #[test]
    fn refuses_other_clocks_and_overflowing_nanoseconds() {
        assert!(parse(r#"{"realtime": {"secs": 1}}"#).is_err());
        assert!(parse(r#"{"boottime": {"nanosecs": 1000000000}}"#).is_err());
    }
}
