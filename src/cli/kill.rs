//! `berth kill`

use clap::Args;

use super::{Status, list::ids_matching, signal};
use crate::container::{self, Host};
use crate::error::Result;

/// Send a signal to the first process of a container
#[derive(Clone, Debug, Args)]
pub struct Kill {
    /// Send the signal to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// The id is a regular expression: signal every container that matches
    #[arg(short, long)]
    pub regex: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Name, with or without SIG, or number
    #[arg(default_value = "SIGTERM", value_parser = signal::parse)]
    pub signal: i32,
}

impl Kill {
    /// Sends the signal.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        if !self.regex {
            container::kill(host, &self.id, self.signal, self.all)?;
            return Ok(Status::DONE);
        }
        for id in ids_matching(host, &self.id)? {
            container::kill(host, &id, self.signal, self.all)?;
        }
        Ok(Status::DONE)
    }
}
