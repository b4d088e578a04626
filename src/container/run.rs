//! `run`: create and start in one, and in the foreground wait and delete too.

use super::birth::{self, Born, Start};
use super::create::CreateOptions;
use super::foreground::Signals;
use super::relay::Relay;
use super::{Host, delete, start};
use crate::error::{Call, Error, Result};
use crate::sys::heap;

/// The flags of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Those of `create`.
    pub create: CreateOptions,
    /// Return once the program is executed.
    pub detach: bool,
    /// Do not delete the container when it ends.
    pub keep: bool,
    /// Do not reap the container's orphans.
    pub no_subreaper: bool,
}

/// Runs a container. In the foreground the result is the program's exit status, 128+n after signal n;
/// detached it is 0.
///
/// # Errors
/// As `create` and `start`; nothing is left behind then.
pub fn run(host: &Host, id: &str, options: &RunOptions) -> Result<u8> {
    if options.detach {
        let born = birth::bear(host, id, &options.create, Start::NowDetached)?;
        return start_or_remove(&born).map(|()| 0);
    }
    if options.create.console_socket.is_some() {
        return Err(Error::invalid(
            "--console-socket: only with --detach, in the foreground berth relays the terminal",
        ));
    }
    // Before the clone: orphans of the container must find us, and no signal may be lost.
    if !options.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).call(|| "prctl(PR_SET_CHILD_SUBREAPER, 1)".into())?;
    }
    let mut signals = Signals::hold()?;
    let mut born = birth::bear(host, id, &options.create, Start::NowInForeground)?;
    let terminal = match born.terminal.take().map(Relay::start).transpose() {
        Ok(terminal) => terminal,
        Err(error) => return Err(born.remove_after(error)),
    };
    start_or_remove(&born)?;
    // Not needed any more, and `kill`, `exec`, `delete` of others must not wait for our end.
    let Born { dir, lock, record, init, .. } = born;
    lock.release();
    let status = signals.forward_until_exit(&init, terminal)?;
    // We end.
    heap::forget();
    if !options.keep {
        let lock = dir.lock(std::time::Duration::from_secs(10));
        match lock {
            Ok(_lock) => delete::remove(&dir, &record)?,
            // Somebody has deleted it meanwhile.
            Err(error) if error.code() == crate::error::Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(status)
}

fn start_or_remove(born: &Born) -> Result<()> {
    start::run_poststart(&born.record).map_err(|error| born.remove_after(error))
}
