//! `berth checkpoint`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Flags that `checkpoint` and `restore` share.
#[derive(Clone, Debug, Args)]
pub struct ImageFlags {
    /// Directory of the image
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory of CRIU's log and work files
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow established TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Restore TCP connections as closed
    #[arg(long)]
    pub tcp_close: bool,
    /// Allow unix sockets whose peer is outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow jobs of a shell
    #[arg(long)]
    pub shell_job: bool,
    /// Handle file locks
    #[arg(long)]
    pub file_locks: bool,
    /// How CRIU treats the cgroups
    #[arg(long, value_enum, value_name = "soft|full|strict|ignore", hide_possible_values = true)]
    pub manage_cgroups_mode: Option<CgroupsMode>,
    /// Create a namespace of this type without restoring what is in it
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// Remove duplicates in the memory images
    #[arg(long)]
    pub auto_dedup: bool,
    /// Copy memory on demand through userfaultfd
    #[arg(long)]
    pub lazy_pages: bool,
}

/// `--manage-cgroups-mode`, see criu(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupsMode {
    /// Restore the properties of cgroups that CRIU made.
    Soft,
    /// Restore all cgroups and their properties.
    Full,
    /// As full, and fail when one exists.
    Strict,
    /// Leave cgroups alone.
    Ignore,
}

/// `berth checkpoint`
#[derive(Clone, Debug, Args)]
pub struct Checkpoint {
    /// The image.
    #[command(flatten)]
    pub image: ImageFlags,
    /// Directory of the previous image, for a chain of pre-dumps
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Leave the container running
    #[arg(long)]
    pub leave_running: bool,
    /// Descriptor on which CRIU says that the lazy pages server is ready
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Dump memory only and leave the container running
    #[arg(long)]
    pub pre_dump: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}
