//! `berth state`

use clap::Args;

use super::direct::{Direct, Flags};
use super::{Status, print};
use crate::container::{self, Host};
use crate::error::{Error, Result};

/// Print the state of a container as JSON
#[derive(Clone, Debug, Default, Args)]
pub struct State {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Flags for State {}

impl Direct for State {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }
}

impl State {
    /// Prints the state as indented JSON.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let state = container::state(host, &self.id)?;
        let text = serde_json::to_string_pretty(&state)
            .map_err(|e| Error::invalid(format!("print the state: {e}")))?;
        print(&(text + "\n"))?;
        Ok(Status::DONE)
    }
}
