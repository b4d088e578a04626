//! What a validation program says: TAP 13 on stdout, its exit status, and sometimes only a diagnostic.

use serde_json::Value;
use std::collections::BTreeMap;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Status(i32),
    Timeout,
}

/// Everything that speaks against a pass, one line each; nothing is a pass.
///
/// A program may print several streams, one after the other, each with a plan of its own. One that expects the
/// runtime to refuse prints nothing at all where it is content. Six programs about hooks (`prestart` …) assert
/// nothing: they print what is wrong as the `error` of a YAML block and exit with 0. For them that is the failure.
pub fn failures(end: End, stdout: &str, stderr: &str) -> Vec<String> {
    let mut failures = Vec::new();
    match end {
        End::Status(0) => {}
        End::Status(status) => failures.push(format!("exit status {status}: {}", last_words(stderr))),
        End::Timeout => failures.push("timeout".to_owned()),
    }
    let mut stream = Stream::default();
    let mut asserted = 0;
    let mut errors = Vec::new();
    for line in stdout.lines() {
        if line.starts_with("TAP version") {
            failures.extend(std::mem::take(&mut stream).fault());
            stream.open = true;
        } else if let Some(plan) = line.strip_prefix("1..") {
            stream.plan = plan.trim().parse().ok();
        } else if let Some(assertion) = Assertion::parse(line) {
            stream.assertions += 1;
            asserted += 1;
            if !assertion.holds {
                // Then the runtime failed, and what it said is on stderr.
                let words = if is_exit_status(assertion.description) { last_words(stderr) } else { "" };
                failures.push(format!("not ok: {} {words}", assertion.description).trim_end().to_owned());
            }
        } else if let Some(error) = error_of(line) {
            errors.push(format!("error: {error}"));
        }
    }
    failures.extend(stream.fault());
    if asserted == 0 {
        failures.extend(errors);
    }
    failures
}

/// One TAP stream.
#[derive(Default)]
struct Stream {
    open: bool,
    assertions: usize,
    plan: Option<usize>,
}

impl Stream {
    /// A stream that breaks off: whatever came after was not checked.
    fn fault(self) -> Option<String> {
        match self.plan {
            _ if !self.open => None,
            None => Some(format!("no plan after {} assertions", self.assertions)),
            Some(plan) if plan != self.assertions => {
                Some(format!("{} assertions of {plan} planned", self.assertions))
            }
            Some(_) => None,
        }
    }
}

struct Assertion<'a> {
    /// Also where it is marked as not done or not yet to be expected.
    holds: bool,
    description: &'a str,
}

impl<'a> Assertion<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (ok, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("ok ")?),
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let description = rest.strip_prefix("- ").unwrap_or(rest);
        Some(Self { holds: ok || description.contains("# TODO"), description })
    }
}

fn error_of(line: &str) -> Option<String> {
    let block: BTreeMap<String, Value> = serde_json::from_str(line.trim()).ok()?;
    let error = block.get("error")?.as_str()?;
    (!error.is_empty()).then(|| error.replace('\n', " "))
}

/// The last line that says something: Go's wording of an exit status does not, nor does the suite's link to
/// the specification.
fn last_words(stderr: &str) -> &str {
    let says = |line: &&str| {
        !line.trim().is_empty()
            && !is_exit_status(line)
            && !line.starts_with("Refer to: ")
            && !line.starts_with("Clean: ")
    };
    stderr.lines().rev().find(says).unwrap_or("nothing on stderr")
}

fn is_exit_status(line: &str) -> bool {
    line.strip_prefix("exit status ").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(stdout: &str) -> bool {
        failures(End::Status(0), stdout, "").is_empty()
    }

    #[test]
    fn a_stream_passes_when_all_that_was_planned_holds() {
        assert!(passes("TAP version 13\nok 1 - one\nok 2 # SKIP two\nnot ok 3 - three # TODO\n1..3\n"));
        assert!(!passes("TAP version 13\nok 1 - one\nnot ok 2 - two\n1..2\n"));
    }

    #[test]
    fn a_stream_that_breaks_off_fails() {
        assert!(!passes("TAP version 13\nok 1 - one\n"));
        assert!(!passes("TAP version 13\n1..2\nok 1 - one\n"));
        assert!(!passes("TAP version 13\nok 1 - one\nTAP version 13\nok 1 - two\n1..1\n"));
        assert!(passes("TAP version 13\nok 1 - one\n1..1\nTAP version 13\nok 1 - two\n1..1\n"));
    }

    #[test]
    fn the_end_of_the_program_counts() {
        assert!(passes(""));
        assert_eq!(failures(End::Status(1), "", "a\nb\nexit status 1\n\n"), ["exit status 1: b"]);
        assert_eq!(
            failures(End::Status(0), "not ok 1 - exit status 1", "why\n"),
            ["not ok: exit status 1 why"]
        );
        assert_eq!(failures(End::Timeout, "", ""), ["timeout"]);
    }

    #[test]
    fn an_error_counts_where_nothing_is_asserted() {
        let error = "TAP version 13\n  ---\n  {\"error\":\"wrong\\norder\"}\n  ...\n1..0\n";
        assert_eq!(failures(End::Status(0), error, ""), ["error: wrong order"]);
        assert!(passes(
            "TAP version 13\nok 1 - refused\n  ---\n  {\"error\":\"exit status 1\"}\n  ...\n1..1\n"
        ));
    }
}
