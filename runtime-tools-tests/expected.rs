//! expected.toml: the programs that pass, and those that cannot, with the reason.

use serde::Deserialize;
use std::fs;
use std::path::Path;

/// The cgroups that a program finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cgroups {
    /// Controllers on v1, with or without a cgroup2 mount beside them.
    V1,
    V2,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expected {
    /// Programs without an exception.
    pub pass: Vec<String>,
    /// Programs of `pass` that are decided by who is faster: one pass of several tries is a pass.
    #[serde(default)]
    pub race: Vec<Race>,
    pub fail: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Race {
    pub program: String,
    /// For the reader of the file.
    #[serde(rename = "reason")]
    _reason: String,
}

/// Programs that fail, where, and why.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Failure {
    pub programs: Vec<String>,
    /// Only there; without it on both.
    pub cgroups: Option<Cgroups>,
    /// Where the machine has this file the programs are held to pass.
    pub unless_file: Option<String>,
    /// Where this process has this capability the programs are held to pass.
    pub unless_capability: Option<String>,
    /// Every failure of the program holds one of these texts; another failure is not accepted.
    pub shows: Vec<String>,
    pub reason: String,
    /// Why a peer's pass is none, where one passes.
    pub although: Option<String>,
    /// The program may pass by accident.
    #[serde(default)]
    pub sometimes: bool,
}

impl Expected {
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        basic_toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The exception that a program has here.
    pub fn failure(&self, program: &str, cgroups: Cgroups) -> Option<&Failure> {
        self.fail.iter().find(|failure| {
            failure.programs.iter().any(|name| name == program)
                && failure.cgroups.is_none_or(|own| own == cgroups)
                && !failure.is_lifted()
        })
    }

    pub fn tries(&self, program: &str) -> usize {
        const OF_A_RACE: usize = 8;
        if self.race.iter().any(|race| race.program == program) { OF_A_RACE } else { 1 }
    }

    /// What the list and the programs that were built do not say alike.
    pub fn faults(&self, programs: &[String]) -> Vec<String> {
        let excepted = || self.fail.iter().flat_map(|failure| &failure.programs);
        let listed = |name: &String| self.pass.contains(name) || excepted().any(|other| other == name);
        let unlisted =
            programs.iter().filter(|name| !listed(name)).map(|name| format!("{name}: is in no list"));
        let unknown = self.pass.iter().chain(excepted()).filter(|name| !programs.contains(name));
        let unknown = unknown.map(|name| format!("{name}: is listed, and no program of the suite"));
        unlisted.chain(unknown).collect()
    }
}

impl Failure {
    fn is_lifted(&self) -> bool {
        self.unless_file.as_ref().is_some_and(|file| Path::new(file).exists())
            || self.unless_capability.as_ref().is_some_and(|name| has_capability(name))
    }

    /// The failures that are not those of the list.
    pub fn unexplained<'a>(&self, failures: &'a [String]) -> Vec<&'a String> {
        failures.iter().filter(|text| !self.shows.iter().any(|shown| text.contains(shown))).collect()
    }
}

fn has_capability(name: &str) -> bool {
    name.parse()
        .is_ok_and(|capability| caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false))
}
