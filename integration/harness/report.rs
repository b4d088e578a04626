//! What the payload said from inside.

use serde_json::Value;
use std::ops::Index;

/// The payload's report; indexes like its JSON.
#[derive(Debug)]
pub struct Report(pub Value);

impl Index<&str> for Report {
    type Output = Value;
    fn index(&self, key: &str) -> &Value {
        &self.0[key]
    }
}

impl Report {
    /// The first line of the text that is a report.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self::all(text).into_iter().next().unwrap_or_else(|| panic!("no report in {text:?}"))
    }

    pub fn all(text: &str) -> Vec<Self> {
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
        parsed.filter(|value| value["probes"].is_object()).map(Self).collect()
    }

    /// The result of a step before the report.
    #[track_caller]
    pub fn probe(&self, step: &str) -> &Value {
        self.0["probes"].get(step).unwrap_or_else(|| panic!("no step {step:?} in {}", self.0["probes"]))
    }

    /// The topmost mount at a destination.
    pub fn mount(&self, destination: &str) -> Option<&Value> {
        let mounts = self.0["mounts"].as_array().expect("mounts");
        mounts.iter().rev().find(|mount| mount["destination"] == destination)
    }

    /// Whether the topmost mount at a destination has a per-mount option or an option of its superblock.
    #[track_caller]
    pub fn mount_has(&self, destination: &str, option: &str) -> bool {
        let mount = self
            .mount(destination)
            .unwrap_or_else(|| panic!("nothing mounted at {destination}: {}", self.0["mounts"]));
        ["options", "super"]
            .iter()
            .any(|list| mount[*list].as_array().expect("options").iter().any(|entry| entry == option))
    }

    /// The names of a capability set.
    #[track_caller]
    pub fn capabilities(&self, set: &str) -> Vec<String> {
        let mask = self.0["capabilities"][set].as_u64().unwrap_or_else(|| panic!("no set {set}"));
        let mut names: Vec<String> = caps::all()
            .into_iter()
            .filter(|capability| mask & capability.bitmask() != 0)
            .map(|capability| capability.to_string())
            .collect();
        names.sort();
        names
    }

    /// `pid:[4026531836]`
    #[track_caller]
    pub fn namespace(&self, kind: &str) -> &str {
        self.0["namespaces"][kind].as_str().unwrap_or_else(|| panic!("no namespace {kind}"))
    }

    /// The numbers of the open descriptors.
    pub fn descriptors(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.0["fds"]
            .as_object()
            .expect("fds")
            .keys()
            .map(|key| key.parse().expect("a number"))
            .collect();
        numbers.sort_unstable();
        numbers
    }
}
