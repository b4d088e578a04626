//! What is wrong with a config.json, and by which rule.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing: something is ignored, as the specification wants it.
    Note,
    /// The container can be made, but not as asked, or perhaps not here.
    Warning,
    /// The container cannot be made.
    Error,
}

impl Severity {
    /// `error`
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that a config.json must be, or that the host must have for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its stable name: `process-cwd`.
    pub name: &'static str,
    /// The section of the runtime specification that says so: `config.md#process`.
    pub section: &'static str,
    /// What it means to break it.
    pub severity: Severity,
    /// What can be done, unless the finding knows better; empty where its message says it all.
    pub remedy: &'static str,
}

impl Rule {
    /// A rule without which no container can be made.
    pub const fn error(name: &'static str, section: &'static str, remedy: &'static str) -> Self {
        Self { name, section, severity: Severity::Error, remedy }
    }

    /// A rule without which the container is not the one that was asked for.
    pub const fn warning(name: &'static str, section: &'static str, remedy: &'static str) -> Self {
        Self { name, section, severity: Severity::Warning, remedy }
    }

    /// A rule that says what is passed over.
    pub const fn note(name: &'static str, section: &'static str, remedy: &'static str) -> Self {
        Self { name, section, severity: Severity::Note, remedy }
    }
}

/// One place at which a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: `process.args[1]`; empty for the document itself.
    pub path: String,
    /// The rule.
    pub rule: &'static Rule,
    /// What: `must be an absolute path, not "a"`.
    pub message: String,
    /// What can be done about this one, if its rule does not say it.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding with the remedy of its rule.
    pub fn new(rule: &'static Rule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), rule, message: message.into(), remedy: None }
    }

    /// With a remedy of its own.
    #[must_use]
    pub fn with_remedy(self, remedy: Option<&str>) -> Self {
        Self { remedy: remedy.map(str::to_owned), ..self }
    }

    /// What can be done about it, where that is known.
    pub fn best_remedy(&self) -> Option<&str> {
        self.remedy.as_deref().or(Some(self.rule.remedy)).filter(|remedy| !remedy.is_empty())
    }

    /// Whether it is about `path` or something in it.
    pub fn is_within(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path);
        rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// `process.cwd: must be an absolute path, not "a" (config.md#process)`; of the document's form, which the
/// JSON schema has, without its section.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if self.rule.section != SCHEMA {
            write!(f, " ({})", self.rule.section)?;
        }
        Ok(())
    }
}

/// What is found by one rule.
#[derive(Debug)]
pub struct Problems<'a> {
    rule: &'static Rule,
    found: &'a mut Vec<Finding>,
}

impl<'a> Problems<'a> {
    /// What breaks `rule` goes to `found`.
    pub fn of(rule: &'static Rule, found: &'a mut Vec<Finding>) -> Self {
        Self { rule, found }
    }

    /// One more place.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Finding::new(self.rule, path, message));
    }

    /// One more place, with what can be done about it there.
    pub fn add_with_remedy(&mut self, path: impl Into<String>, message: impl Into<String>, remedy: &str) {
        self.found.push(Finding::new(self.rule, path, message).with_remedy(Some(remedy)));
    }

    /// One more place unless `value` is absolute.
    pub fn need_absolute(&mut self, path: impl Into<String>, value: &Path) {
        if !value.is_absolute() {
            self.add(path, format!("must be an absolute path, not {value:?}"));
        }
    }
}

/// The section of rules about the form of the document.
pub(super) const SCHEMA: &str = "schema/config-schema.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_a_path() {
        static RULE: Rule = Rule::note("x", "config.md", "");
        let within = |at: &str, path: &str| Finding::new(&RULE, at, "").is_within(path);
        for (at, path, expected) in [
            ("mounts[1].type", "mounts[1]", true),
            ("mounts[1]", "mounts[1]", true),
            ("mounts[1]", "mounts", true),
            ("mounts[10]", "mounts[1]", false),
            ("process.user.uid", "process.user", true),
            ("process.username", "process.user", false),
            ("process", "", true),
            ("process", "process.user", false),
        ] {
            assert_eq!(within(at, path), expected, "{at} in {path}");
        }
    }

    #[test]
    fn a_finding_has_its_own_remedy_or_that_of_its_rule() {
        static RULE: Rule = Rule::error("x", "config.md#root", "make it");
        let finding = Finding::new(&RULE, "root", "is missing");
        assert_eq!(finding.best_remedy(), Some("make it"));
        assert_eq!(finding.to_string(), "root: is missing (config.md#root)");
        assert_eq!(finding.with_remedy(Some("mend it")).best_remedy(), Some("mend it"));
        static BARE: Rule = Rule::error("y", SCHEMA, "");
        assert_eq!(Finding::new(&BARE, "", "no JSON").best_remedy(), None);
        assert_eq!(Finding::new(&BARE, "", "no JSON").to_string(), "no JSON");
    }
}
