//! `berth features`

use clap::Args;

use super::{Status, print};
use crate::container;
use crate::error::{Error, Result};

/// Print what berth can do as JSON
#[derive(Clone, Debug, Args)]
pub struct Features {}

impl Features {
    /// Prints the Features structure as indented JSON.
    pub fn execute(&self) -> Result<Status> {
        let text = serde_json::to_string_pretty(&container::features())
            .map_err(|e| Error::invalid(format!("print the features: {e}")))?;
        print(&(text + "\n"))?;
        Ok(Status::DONE)
    }
}
