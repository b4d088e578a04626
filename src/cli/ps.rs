//! `berth ps`

use clap::Args;

use super::list::ListFormat;
use super::{Status, print};
use crate::container::{self, Host};
use crate::error::{Error, Result};

/// Print the processes of a container
#[derive(Clone, Debug, Args)]
pub struct Ps {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "table|json", hide_possible_values = true)]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Options of ps(1) for the table [default: -ef]
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

impl Ps {
    /// Prints the container's processes.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let text = match self.format {
            ListFormat::Table => container::process_table(host, &self.id, &self.options)?,
            ListFormat::Json => serde_json::to_string(&container::processes(host, &self.id)?)
                .map(|text| text + "\n")
                .map_err(|e| Error::invalid(format!("print the pids: {e}")))?,
        };
        print(&text)?;
        Ok(Status::DONE)
    }
}
