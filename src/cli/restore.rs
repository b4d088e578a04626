//! `berth restore`

use std::path::PathBuf;

use clap::Args;

use super::checkpoint::ImageFlags;
use super::{Status, global::absolute};
use crate::container::Host;
use crate::container::create::CreateOptions;
use crate::container::restore::{RestoreOptions, restore};
use crate::error::Result;

/// Make a container from an image
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The image.
    #[command(flatten)]
    pub image: ImageFlags,
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Unix socket that receives the descriptor of the terminal's master
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File that gets the pid of the container's first process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Return once the container is restored
    #[arg(short, long)]
    pub detach: bool,
    /// Leave orphans of the container to their next reaper
    #[arg(long)]
    pub no_subreaper: bool,
    /// Has no effect: CRIU enters the rootfs in its own way
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Give N more descriptors to the container, after stdio, for those that it had
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// LSM profile to use instead of the dumped one
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// LSM mount context to use instead of the dumped one
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// Name of the restored container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Restore {
    /// What the flags mean.
    pub fn options(&self) -> Result<RestoreOptions> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(RestoreOptions {
            image: self.image.options()?,
            create: CreateOptions {
                bundle: absolute(&self.bundle)?,
                config: None,
                // Both are used in another mount namespace, where the working directory is not the caller's.
                console_socket: self.console_socket.as_deref().map(absolute).transpose()?,
                pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
                pidfd_socket: None,
                no_pivot: self.no_pivot,
                no_new_keyring: self.no_new_keyring,
                preserve_fds: self.preserve_fds,
            },
            detach: self.detach,
            no_subreaper: self.no_subreaper,
            lsm_profile: given(&self.lsm_profile),
            lsm_mount_context: given(&self.lsm_mount_context),
        })
    }

    /// Restores the container; in the foreground the status is its own.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        restore(host, &self.id, &self.options()?).map(Status::from)
    }
}
