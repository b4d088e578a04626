//! `create`: a container that waits to be started.

use std::path::PathBuf;

use super::Host;
use super::birth::{self, Start};
use crate::error::Result;

/// The flags that `create` and `run` share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// Absolute path of the directory with config.json.
    pub bundle: PathBuf,
    /// What is read instead of the bundle's config.json.
    pub config: Option<PathBuf>,
    /// Gets the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets init's pid.
    pub pid_file: Option<PathBuf>,
    /// MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors after stderr that the process inherits.
    pub preserve_fds: u32,
}

/// Creates a container; its program is executed by [`super::start`].
///
/// # Errors
/// Everything that can be wrong with the bundle or the host; nothing is left behind then.
pub fn create(host: &Host, id: &str, options: &CreateOptions) -> Result<()> {
    birth::bear(host, id, options, Start::Later).map(drop)
}
