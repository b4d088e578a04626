//! `berth kill`

use std::ffi::OsString;

use clap::Args;

use super::direct::{Direct, Flag, Flags, only, operand};
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

impl Default for Kill {
    fn default() -> Self {
        Self { all: false, regex: false, id: String::new(), signal: libc::SIGTERM }
    }
}

impl Flags for Kill {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "-a" | "--all" => self.all = flag.on()?,
            "-r" | "--regex" => self.regex = flag.on()?,
            _ => return None,
        }
        Some(())
    }
}

impl Direct for Kill {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }

    fn operands(&mut self, words: &[OsString]) -> Option<()> {
        let (id, signal) = words.split_first()?;
        self.id = operand(id)?;
        if !signal.is_empty() {
            self.signal = signal::parse(&only(signal)?).ok()?;
        }
        Some(())
    }
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
