//! `berth check`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Status, global::absolute, print};
use crate::container::Host;
use crate::container::check::{self, Line, Report};
use crate::error::{Error, Result};
use crate::spec::Severity;

/// What `check` exits with when there are warnings and no errors.
const WARNED: u8 = 3;

/// Say what is wrong with a bundle, and what this host lacks for it
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Directory with config.json [default: .]
    #[arg(value_name = "BUNDLE")]
    pub directory: Option<PathBuf>,
    /// Directory with config.json, as for create
    #[arg(short, long, value_name = "DIR", conflicts_with = "directory")]
    pub bundle: Option<PathBuf>,
    /// How to print the findings
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One object for programs.
    Json,
}

impl Check {
    /// Prints what is found.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let directory = self.directory.as_ref().or(self.bundle.as_ref());
        let bundle = absolute(&directory.cloned().unwrap_or_else(|| ".".into()))?;
        let report = check::check(&bundle, host.driver)?;
        match self.format {
            Format::Text => print(&text(&report))?,
            Format::Json => {
                let json = serde_json::to_string_pretty(&report)
                    .map_err(|error| Error::invalid(format!("the findings as JSON: {error}")))?;
                print(&format!("{json}\n"))?;
            }
        }
        Ok(Status::from(match report.worst() {
            Some(Severity::Error) => 1,
            Some(Severity::Warning) => WARNED,
            Some(Severity::Note) | None => 0,
        }))
    }
}

/// A paragraph for each finding, and their number.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.findings {
        text.push_str(&paragraph(line));
    }
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let counts = [(report.errors, "error"), (report.warnings, "warning"), (report.notes, "note")];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(number, _)| *number != 0)
        .map(|(number, what)| count(number, what))
        .collect();
    let summary = if counts.is_empty() { "nothing is wrong".to_owned() } else { counts.join(", ") };
    text + &format!("{}: {summary}\n", report.bundle.join(crate::spec::CONFIG).display())
}

/// ```text
/// error: process.cwd: must be an absolute path, not "tmp"
///        process-cwd (config.md#process): start it with /
/// ```
fn paragraph(line: &Line) -> String {
    let severity = line.severity.name();
    let indent = " ".repeat(severity.len() + 2);
    let colon = if line.path.is_empty() { "" } else { ": " };
    let mut text = format!("{severity}: {}{colon}{}\n", visible(&line.path), visible(&line.message));
    let remedy = line.remedy.as_ref().map_or(String::new(), |remedy| format!(": {}", visible(remedy)));
    let written = writeln!(text, "{indent}{} ({}){remedy}", line.rule, line.section);
    debug_assert!(written.is_ok(), "a String takes all that is written");
    text
}

/// What comes from the document must not speak to the terminal.
fn visible(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_paragraph() {
        let line = Line {
            severity: Severity::Warning,
            path: "process.env[1]".into(),
            message: "A\u{1b}[2J is there twice".into(),
            rule: "env-twice",
            section: "config.md#posix-process",
            remedy: Some("keep one".into()),
        };
        assert_eq!(
            paragraph(&line),
            "warning: process.env[1]: A\\u{1b}[2J is there twice\n         env-twice (config.md#posix-process): keep one\n"
        );
        let line = Line { path: String::new(), remedy: None, ..line };
        assert!(paragraph(&line).starts_with("warning: A"));
        assert!(paragraph(&line).ends_with("env-twice (config.md#posix-process)\n"));
    }

    #[test]
    fn the_end_counts() {
        let report = Report { bundle: "/b".into(), errors: 2, warnings: 0, notes: 1, findings: Vec::new() };
        assert_eq!(text(&report), "/b/config.json: 2 errors, 1 note\n");
        assert_eq!(text(&Report { errors: 0, notes: 0, ..report }), "/b/config.json: nothing is wrong\n");
    }
}
