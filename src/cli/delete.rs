//! `berth delete`

use clap::Args;

use super::direct::{Direct, Flag, Flags};
use super::{Status, list::ids_matching};
use crate::container::{self, Host};
use crate::error::{Code, Result};

/// Delete a container and all that was made for it
#[derive(Clone, Debug, Default, Args)]
pub struct Delete {
    /// Kill a container that still runs; succeed if there is none
    #[arg(short, long)]
    pub force: bool,
    /// The id is a regular expression: delete every container that matches
    #[arg(short, long)]
    pub regex: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Flags for Delete {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "-f" | "--force" => self.force = flag.on()?,
            "-r" | "--regex" => self.regex = flag.on()?,
            _ => return None,
        }
        Some(())
    }
}

impl Direct for Delete {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Delete {
    /// Deletes the container.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        if !self.regex {
            self.delete(host, &self.id)?;
            return Ok(Status::DONE);
        }
        for id in ids_matching(host, &self.id)? {
            self.delete(host, &id)?;
        }
        Ok(Status::DONE)
    }

    fn delete(&self, host: &Host, id: &str) -> Result<()> {
        match container::delete(host, id, self.force) {
            // Engines clean up with `delete --force` without knowing how far create came.
            Err(error) if self.force && error.code() == Code::NotFound => Ok(()),
            result => result,
        }
    }
}
