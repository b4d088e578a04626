//! `berth pause` and `berth resume`

use clap::Args;

use super::Status;
use crate::container::{self, Host};
use crate::error::Result;

/// Stop all processes of a container
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Pause {
    /// Freezes the container's processes.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        container::pause(host, &self.id)?;
        Ok(Status::DONE)
    }
}

/// Let the processes of a paused container go on
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Resume {
    /// Lets the container's processes go on.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        container::resume(host, &self.id)?;
        Ok(Status::DONE)
    }
}
