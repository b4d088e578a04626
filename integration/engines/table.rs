//! Results of all scenarios with all runtimes.

use crate::site::Runtime;
use std::process::ExitCode;
use std::time::Instant;

pub enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Row {
    name: String,
    runtime: String,
    outcome: Outcome,
}

#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, name: String, runtime: &Runtime, outcome: Outcome, begun: Instant) {
        let word = match &outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::Failed(text) => format!("FAILED\n{text}"),
            Outcome::Skipped(reason) => format!("skipped: {reason}"),
        };
        println!("{:6} {name} ... {word} ({:.1} s)", runtime.name, begun.elapsed().as_secs_f64());
        self.0.push(Row { name, runtime: runtime.name.clone(), outcome });
    }

    /// Prints the table. Only what the first runtime fails is a failure.
    pub fn conclude(&self, runtimes: &[Runtime]) -> ExitCode {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.0 {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        // Engine by engine, however the runs followed on one another.
        names.sort_by_key(|name| name.split("::").next().map(str::to_owned));
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        println!(
            "\n{:width$}  {}",
            "",
            runtimes.iter().map(|one| format!("{:8}", one.name)).collect::<String>()
        );
        for name in names {
            let cells = runtimes.iter().map(|one| format!("{:8}", self.word(name, &one.name)));
            println!("{name:width$}  {}", cells.collect::<String>().trim_end());
        }
        let first = runtimes.first().map_or("", |one| one.name.as_str());
        let own: Vec<&Row> = self.0.iter().filter(|row| row.runtime == first).collect();
        let skipped = own.iter().filter(|row| matches!(row.outcome, Outcome::Skipped(_))).count();
        let unexpected = own.iter().filter(|row| unexpected_skip(&row.outcome)).count();
        let failed = own.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_))).count() + unexpected;
        let passed = own.len() - failed - (skipped - unexpected);
        println!("\nengines: {passed} passed, {failed} failed, {} skipped", skipped - unexpected);
        ExitCode::from(u8::from(failed > 0 || own.is_empty()))
    }

    fn word(&self, name: &str, runtime: &str) -> &'static str {
        let row = self.0.iter().find(|row| row.name == name && row.runtime == runtime);
        match row.map(|row| &row.outcome) {
            None => "-",
            Some(Outcome::Passed) => "ok",
            Some(Outcome::Failed(_)) => "FAILED",
            Some(Outcome::Skipped(_)) => "skipped",
        }
    }
}

fn unexpected_skip(outcome: &Outcome) -> bool {
    let Outcome::Skipped(reason) = outcome else { return false };
    let strict = std::env::var("BERTH_TEST_STRICT").is_ok_and(|value| value == "1");
    let expected = std::env::var("BERTH_TEST_EXPECTED_SKIPS").unwrap_or_default();
    strict && !expected.split(';').any(|words| !words.is_empty() && reason.contains(words))
}
