//! `berth checkpoint`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Status, global::absolute};
use crate::container::Host;
use crate::container::checkpoint::{CheckpointOptions, checkpoint};
use crate::container::image::ImageOptions;
use crate::criu::{self, PageServer};
use crate::error::Result;

/// Where the image is when nobody says, below the working directory.
const DEFAULT_IMAGE: &str = "checkpoint";

/// Flags that `checkpoint` and `restore` share.
#[derive(Clone, Debug, Args)]
pub struct ImageFlags {
    /// Directory of the image [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory of CRIU's log and work files [default: that of the image]
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
    /// Create a namespace of this type without restoring what is in it; "network" always is
    #[arg(long, value_name = "NAMESPACE", value_parser = parse_empty_namespace)]
    pub empty_ns: Vec<String>,
    /// Remove duplicates in the memory images
    #[arg(long)]
    pub auto_dedup: bool,
    /// Copy memory on demand through userfaultfd
    #[arg(long)]
    pub lazy_pages: bool,
}

impl ImageFlags {
    /// What the flags mean.
    pub fn options(&self) -> Result<ImageOptions> {
        let path = self.image_path.as_deref().filter(|path| !path.as_os_str().is_empty());
        let work = self.work_path.as_deref().filter(|path| !path.as_os_str().is_empty());
        Ok(ImageOptions {
            path: absolute(path.unwrap_or(DEFAULT_IMAGE.as_ref()))?,
            work: work.map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            tcp_close: self.tcp_close,
            external_unix_sockets: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            cgroups_mode: self.manage_cgroups_mode.unwrap_or(CgroupsMode::Soft).into(),
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
        })
    }
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

impl From<CgroupsMode> for criu::CgroupsMode {
    fn from(mode: CgroupsMode) -> Self {
        match mode {
            CgroupsMode::Soft => Self::Soft,
            CgroupsMode::Full => Self::Full,
            CgroupsMode::Strict => Self::Strict,
            CgroupsMode::Ignore => Self::Ignore,
        }
    }
}

/// Write the processes of a container to an image
#[derive(Clone, Debug, Args)]
pub struct Checkpoint {
    /// The image.
    #[command(flatten)]
    pub image: ImageFlags,
    /// Directory of the previous image, for a chain of pre-dumps; relative to --image-path
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Leave the container running
    #[arg(long)]
    pub leave_running: bool,
    /// Lose TCP connections that are just being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Link files that were unlinked while open
    #[arg(long)]
    pub link_remap: bool,
    /// Descriptor that gets a NUL byte once lazy pages are served
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_page_server)]
    pub page_server: Option<PageServer>,
    /// Dump memory only and leave the container running
    #[arg(long)]
    pub pre_dump: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Checkpoint {
    /// What the flags mean.
    pub fn options(&self) -> Result<CheckpointOptions> {
        Ok(CheckpointOptions {
            image: self.image.options()?,
            parent: self.parent_path.clone().filter(|path| !path.as_os_str().is_empty()),
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            page_server: self.page_server.clone(),
            // runc's default.
            status_fd: self.status_fd.filter(|fd| *fd != -1),
        })
    }

    /// Writes the container to an image.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        checkpoint(host, &self.id, &self.options()?)?;
        Ok(Status::DONE)
    }
}

fn parse_empty_namespace(text: &str) -> Result<String, String> {
    match text {
        "network" => Ok(text.into()),
        _ => Err(format!("namespace {text:?} is not supported")),
    }
}

/// `1.2.3.4:5`, `name:5` or `[::1]:5`.
fn parse_page_server(text: &str) -> Result<PageServer, String> {
    let usage = || "use --page-server ADDRESS:PORT to specify page server".to_owned();
    let (address, port) = text.rsplit_once(':').ok_or_else(usage)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = match bare {
        Some(address) => address,
        None if address.contains(':') => return Err(usage()),
        None => address,
    };
    if address.is_empty() || port.is_empty() {
        return Err(usage());
    }
    let port = port.parse().map_err(|_| "invalid port number".to_owned())?;
    Ok(PageServer { address: address.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_page_servers_address() {
        let server = |address: &str, port| Ok(PageServer { address: address.into(), port });
        assert_eq!(parse_page_server("1.2.3.4:5"), server("1.2.3.4", 5));
        assert_eq!(parse_page_server("[::1]:65535"), server("::1", 65_535));
        for bad in ["", "a", "a:", ":1", "::1:5", "a:b", "a:65536", "[]:1"] {
            assert!(parse_page_server(bad).is_err(), "{bad}");
        }
    }
}
