//! `berth events`

use std::time::Duration;

use clap::Args;

use super::{Status, print};
use crate::container::Host;
use crate::container::events::{self, Event};
use crate::error::{Error, Result as Outcome};

/// Print what a container uses, and when it runs out of memory
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// Time between two statistics: 500ms, 5s, 1m30s
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION")]
    pub interval: Duration,
    /// Print the statistics once and exit
    #[arg(long)]
    pub stats: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

impl Events {
    /// Prints one event per line: one with `--stats`, else until the container has ended.
    pub fn execute(&self, host: &Host) -> Outcome<Status> {
        if self.stats {
            print_line(&events::stats(host, &self.id)?)?;
        } else {
            events::watch(host, &self.id, self.interval, print_line)?;
        }
        Ok(Status::DONE)
    }
}

fn print_line(event: &Event) -> Outcome<()> {
    let text = serde_json::to_string(event).map_err(|e| Error::invalid(format!("print an event: {e}")))?;
    print(&(text + "\n"))
}

/// A duration as Go prints them: numbers with a unit, one after another.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 500ms, 5s or 1m30s");
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = tail;
    }
    match Duration::try_from_secs_f64(total) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, milliseconds) in [("5s", 5_000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0s", "5", "s", "-1s", "1x", "1.2.3s", "1e400s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
