//! What would become of a bundle here, without making anything of it.
//!
//! Three sources, in this order: the document ([`spec::examine`]), the plans that `create` would make
//! ([`rehearsal`]), and the host ([`rules`], pure functions of the document and a [`host::Host`] whose facts
//! are gathered once). Nothing is said twice about a member: who breaks the specification hears that alone.
//! The last two are left out while the form of the document is wrong.

mod host;
mod program;
mod rehearsal;
mod rules;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroups::Driver;
use crate::error::Result;
use crate::spec::{self, Finding, Severity, ValidateOptions};
use host::Host;
use rules::Case;

/// All that is to be said about a bundle.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its directory.
    pub bundle: PathBuf,
    /// How many findings are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// How many are notes.
    pub notes: usize,
    /// Each of them.
    pub findings: Vec<Line>,
}

/// A finding as it is printed.
#[derive(Debug, Serialize)]
pub struct Line {
    /// How much it weighs.
    pub severity: Severity,
    /// Where in config.json: `process.args[1]`; empty for the document itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// The rule's name.
    pub rule: &'static str,
    /// The section of the runtime specification that it comes from.
    pub section: &'static str,
    /// What can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl From<&Finding> for Line {
    fn from(finding: &Finding) -> Self {
        Self {
            severity: finding.rule.severity,
            path: finding.path.clone(),
            message: finding.message.clone(),
            rule: finding.rule.name,
            section: finding.rule.section,
            remedy: finding.best_remedy().map(str::to_owned),
        }
    }
}

impl Report {
    /// The weightiest of the findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|line| line.severity).max()
    }
}

/// Checks the bundle at `bundle`, an absolute path, for a container made with `driver`. Reads only.
///
/// # Errors
/// config.json cannot be read, or what tells of the host.
pub fn check(bundle: &Path, driver: Driver) -> Result<Report> {
    let rootless = !nix::unistd::geteuid().is_root();
    let options = ValidateOptions { rootless, ..ValidateOptions::default() };
    let examined = spec::examine(&spec::read(bundle)?, &options);
    let mut findings = examined.findings;
    if let Some(spec) = &examined.spec {
        let mut of_plans = Vec::new();
        let plans = rehearsal::rehearse(spec, bundle, driver, &mut of_plans)?;
        add(&mut findings, of_plans);
        let host = Host::look(spec, bundle, &plans)?;
        let case = Case { spec, bundle, plans: &plans, host: &host };
        rules::run(&case, |of_rule| add(&mut findings, of_rule));
    }
    Ok(report(bundle, &findings))
}

/// The new ones but those about what is known to be an error.
fn add(findings: &mut Vec<Finding>, mut new: Vec<Finding>) {
    let is_known = |one: &Finding| {
        findings
            .iter()
            .filter(|known| known.rule.severity == Severity::Error)
            .any(|known| one.is_within(&known.path) || known.is_within(&one.path))
    };
    new.retain(|one| !is_known(one));
    findings.append(&mut new);
}

fn report(bundle: &Path, findings: &[Finding]) -> Report {
    let mut findings: Vec<Line> = findings.iter().map(Line::from).collect();
    // What prevents the container comes first, in the order in which it was found.
    findings.sort_by_key(|line| std::cmp::Reverse(line.severity));
    let count = |severity| findings.iter().filter(|line| line.severity == severity).count();
    Report {
        bundle: bundle.to_owned(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        notes: count(Severity::Note),
        findings,
    }
}
