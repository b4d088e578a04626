//! `berth run`

use clap::Args;

use super::direct::{Direct, Flag, Flags};
use super::{Status, create::CreateFlags};
use crate::container::{self, Host, run::RunOptions};
use crate::error::Result;

/// Create a container, start it and wait for it
#[derive(Clone, Debug, Default, Args)]
pub struct Run {
    /// What is to be made.
    #[command(flatten)]
    pub flags: CreateFlags,
    /// Return once the container is started
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container's state after its process has exited
    #[arg(long)]
    pub keep: bool,
    /// Leave orphans of the container to their next reaper
    #[arg(long)]
    pub no_subreaper: bool,
    /// Name of the new container, unique on this root
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Flags for Run {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "-d" | "--detach" => self.detach = flag.on()?,
            "--keep" => self.keep = flag.on()?,
            "--no-subreaper" => self.no_subreaper = flag.on()?,
            _ => return self.flags.take(flag),
        }
        Some(())
    }
}

impl Direct for Run {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Run {
    /// What the flags mean.
    pub fn options(&self) -> Result<RunOptions> {
        Ok(RunOptions {
            create: self.flags.options()?,
            detach: self.detach,
            keep: self.keep,
            no_subreaper: self.no_subreaper,
        })
    }

    /// Runs the container; the status is its own.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        container::run::run(host, &self.id, &self.options()?).map(Status::from)
    }
}
