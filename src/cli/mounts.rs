//! `berth mounts`: what is mounted in a container that is there, as crun has it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Status;
use crate::container::{Host, mounts};
use crate::error::Result;

/// Change what is mounted in a container
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Mounts {
    /// What to do with the mounts.
    #[command(subcommand)]
    pub change: Change,
}

/// The verbs below `berth mounts`.
#[derive(Clone, Debug, Subcommand)]
pub enum Change {
    /// Mount what the file lists
    Add(Listed),
    /// Unmount what is at the destinations that the file lists
    Remove(Listed),
}

/// Whose mounts, and which.
#[derive(Clone, Debug, Args)]
pub struct Listed {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// File with an array of mounts as config.json has it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl Mounts {
    /// Changes the mounts.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let (change, listed) = match &self.change {
            Change::Add(listed) => (mounts::Change::Add, listed),
            Change::Remove(listed) => (mounts::Change::Remove, listed),
        };
        mounts::mounts(host, &listed.id, change, &listed.file)?;
        Ok(Status::DONE)
    }
}
