//! A piece of work in another namespace, after which the caller is back in its own.

use std::fs::File;
use std::os::fd::AsFd;

use nix::unistd::Pid;

use super::Kind;
use crate::error::{Call, Context, Result};
use crate::sys::namespace::{setns, unshare};

/// Does `work` in a new namespace, which ends with it unless something that was started meanwhile lives
/// on in it. For a mount namespace the working directory is `/` afterwards.
///
/// # Errors
/// The kernel's, or those of `work`.
pub fn in_new<T>(kind: Kind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    elsewhere(kind, || unshare(kind.flag()).call(|| format!("unshare({})", kind.name())), work)
}

/// Does `work` in the namespace of process `pid`.
///
/// # Errors
/// The kernel's, or those of `work`.
pub fn in_that_of<T>(pid: Pid, kind: Kind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = format!("/proc/{pid}/ns/{}", kind.proc_name());
    let namespace = File::open(&path).call(|| format!("open({path})"))?;
    elsewhere(kind, || setns(namespace.as_fd(), kind.flag()).call(|| format!("setns({path})")), work)
}

fn elsewhere<T>(kind: Kind, go: impl FnOnce() -> Result<()>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = format!("/proc/self/ns/{}", kind.proc_name());
    let own = File::open(&path).call(|| format!("open({path})"))?;
    go()?;
    let result = work();
    let back = setns(own.as_fd(), kind.flag())
        .call(|| format!("setns({path})"))
        .with_context(|| format!("go back to the runtime's {} namespace", kind.name()));
    // What `work` says is the cause, also of being left elsewhere.
    let done = result?;
    back.map(|()| done)
}
