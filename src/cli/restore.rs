//! `berth restore`

use std::path::PathBuf;

use clap::Args;

use super::checkpoint::ImageFlags;

/// `berth restore`
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
    /// Enter the rootfs without pivot_root
    #[arg(long)]
    pub no_pivot: bool,
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
