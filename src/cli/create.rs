//! `berth create`

use std::path::PathBuf;

use clap::Args;

use super::direct::{Direct, Flag, Flags};
use super::{Status, global::absolute};
use crate::container::{self, Host, create::CreateOptions};
use crate::error::Result;

/// Flags that `create` and `run` share.
#[derive(Clone, Debug, Args)]
pub struct CreateFlags {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// File to use instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Unix socket that receives the descriptor of the terminal's master
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's first process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the pid of the container's first process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Enter the rootfs without pivot_root, for a host that runs from its initramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N more descriptors to the container, after stdio and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

impl Default for CreateFlags {
    fn default() -> Self {
        Self {
            bundle: ".".into(),
            config: None,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
        }
    }
}

impl Flags for CreateFlags {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "-b" | "--bundle" => self.bundle = flag.path()?,
            "-f" | "--config" => self.config = Some(flag.path()?),
            "--console-socket" => self.console_socket = Some(flag.path()?),
            "--pidfd-socket" => self.pidfd_socket = Some(flag.path()?),
            "--pid-file" => self.pid_file = Some(flag.path()?),
            "--no-pivot" => self.no_pivot = flag.on()?,
            "--no-new-keyring" => self.no_new_keyring = flag.on()?,
            "--preserve-fds" => self.preserve_fds = flag.parsed()?,
            _ => return None,
        }
        Some(())
    }
}

impl CreateFlags {
    /// What the flags mean.
    pub fn options(&self) -> Result<CreateOptions> {
        Ok(CreateOptions {
            bundle: absolute(&self.bundle)?,
            config: self.config.clone(),
            console_socket: self.console_socket.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            pid_file: self.pid_file.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
        })
    }
}

/// Create a container from a bundle; its process waits for start
#[derive(Clone, Debug, Default, Args)]
pub struct Create {
    /// What is to be made.
    #[command(flatten)]
    pub flags: CreateFlags,
    /// Name of the new container, unique on this root
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Flags for Create {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        self.flags.take(flag)
    }
}

impl Direct for Create {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Create {
    /// Creates the container.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        container::create::create(host, &self.id, &self.flags.options()?)?;
        Ok(Status::DONE)
    }
}
