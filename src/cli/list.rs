//! `berth list`

use clap::{Args, ValueEnum};
use regex_lite::Regex;

use super::{Status, print};
use crate::container::{self, Host, StateView};
use crate::error::{Error, Result};

/// List the containers of this root
#[derive(Clone, Debug, Args)]
pub struct List {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "table|json", hide_possible_values = true)]
    pub format: ListFormat,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--format` of list and ps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// An array, for programs.
    Json,
}

impl List {
    /// Prints the containers.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let states = container::list(host)?;
        print(&self.render(&states)?)?;
        Ok(Status::DONE)
    }

    fn render(&self, states: &[StateView]) -> Result<String> {
        if self.quiet {
            return Ok(states.iter().map(|state| format!("{}\n", state.id)).collect());
        }
        match self.format {
            ListFormat::Table => Ok(table(&rows(states))),
            ListFormat::Json => serde_json::to_string(states)
                .map(|text| text + "\n")
                .map_err(|e| Error::invalid(format!("print the states: {e}"))),
        }
    }
}

/// Ids of this root's containers that match `pattern` anywhere, as crun's `--regex` does.
pub(super) fn ids_matching(host: &Host, pattern: &str) -> Result<Vec<String>> {
    let regex = Regex::new(pattern).map_err(|e| Error::invalid(format!("--regex: {pattern}: {e}")))?;
    let ids = container::list(host)?.into_iter().map(|state| state.id);
    Ok(ids.filter(|id| regex.is_match(id)).collect())
}

fn rows(states: &[StateView]) -> Vec<[String; 6]> {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows = states.iter().map(|state| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.clone(),
            state.created.clone(),
            state.owner.clone(),
        ]
    });
    std::iter::once(header).chain(rows).collect()
}

/// Columns as runc pads them: three spaces after the longest cell, at least twelve wide, the last
/// column unpadded.
fn table(rows: &[[String; 6]]) -> String {
    let mut widths = [12; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for [first @ .., last] in rows {
        for (cell, width) in first.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_runcs_header() {
        assert_eq!(table(&rows(&[])), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }

    #[test]
    fn a_long_cell_widens_its_column() {
        let mut row = ["a", "1", "running", "/b", "2026", "root"].map(String::from);
        row[0] = "x".repeat(12);
        let header = rows(&[]).remove(0);
        let text = table(&[header, row]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ID             PID"), "{text}");
        assert!(lines[1].starts_with("xxxxxxxxxxxx   1"), "{text}");
    }
}
