//! `berth start`

use clap::Args;

use super::Status;
use super::direct::{Direct, Flags};
use crate::container::{self, Host};
use crate::error::Result;

/// Start the process of a created container
#[derive(Clone, Debug, Default, Args)]
pub struct Start {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Flags for Start {}

impl Direct for Start {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Start {
    /// Starts the container's process.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        container::start(host, &self.id)?;
        Ok(Status::DONE)
    }
}
