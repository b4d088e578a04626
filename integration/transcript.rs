//! The same command lines to Debian's runc and to berth: same exit code, same shape of stdout, and in
//! stderr the words that engines look for.
//!
//! A scene is a file of lines that build on each other. Both runtimes do them in a directory and a state
//! root of their own, with the same files in it. What differs on purpose is in `differences.json`, with the
//! reason; an entry that nothing needs any more is a failure too.

mod compare;
mod stage;

use crate::harness::*;
use crate::{require, tests};
use compare::differences;
use serde::Deserialize;
use stage::Stage;

pub use stage::runc;

tests! {
    global_flags, creating, a_life, running, executing, limiting, listing, the_scenes_are_long_enough,
    every_string_of_clients_is_looked_for,
}

const SCENES: [(&str, &str); 7] = [
    ("global", include_str!("transcript/global.txt")),
    ("create", include_str!("transcript/create.txt")),
    ("life", include_str!("transcript/life.txt")),
    ("run", include_str!("transcript/run.txt")),
    ("exec", include_str!("transcript/exec.txt")),
    ("limits", include_str!("transcript/limits.txt")),
    ("listing", include_str!("transcript/listing.txt")),
];

/// Substrings of error messages that containerd, CRI-O, Podman, Docker, kubelet and runc's own suite match.
const CLIENTS_STRINGS: [&str; 13] = [
    "container with given ID already exists",
    "invalid container ID format",
    "container does not exist",
    "container not running",
    "container not paused",
    "cannot start an already running container",
    "cannot start a container that has stopped",
    "cannot exec in a paused container (use --ignore-paused to override)",
    "cannot delete container one that is not stopped: running",
    "exec failed",
    "no such file or directory",
    "executable file not found in $PATH",
    "permission denied",
];

/// One line of a scene.
enum Entry {
    /// `$ WORDS`, then `< STDIN` and any number of `! WORDS OF BERTH'S STDERR`.
    Command { text: String, stdin: Option<String>, expected: Vec<String> },
    /// `@await ID STATUS`
    Await { id: String, status: String },
    /// `@json FILE`: both have written it, in the same shape.
    Json(String),
}

fn parse(scene: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in scene.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_once(' ').expect("a mark and words");
        match (mark, entries.last_mut()) {
            ("$", _) => {
                entries.push(Entry::Command { text: rest.to_owned(), stdin: None, expected: Vec::new() })
            }
            ("<", Some(Entry::Command { stdin, .. })) => *stdin = Some(rest.to_owned()),
            ("!", Some(Entry::Command { expected, .. })) => expected.push(rest.to_owned()),
            ("@await", _) => {
                let (id, status) = rest.split_once(' ').expect("@await ID STATUS");
                entries.push(Entry::Await { id: id.to_owned(), status: status.to_owned() });
            }
            ("@json", _) => entries.push(Entry::Json(rest.to_owned())),
            _ => panic!("no such line in a scene: {line}"),
        }
    }
    entries
}

/// What may differ from runc, and why.
#[derive(Deserialize)]
struct Accepted {
    /// `*` for all scenes.
    scene: String,
    /// Only on this layout of cgroups (`host::layout`); everywhere without it.
    #[serde(default)]
    layout: Option<String>,
    /// It depends on the moment, so that it may not be seen.
    #[serde(default)]
    sometimes: bool,
    /// Lines, each with what differs as the test says it; `*` at an end stands for anything.
    lines: Vec<String>,
    difference: String,
    reason: String,
}

impl Accepted {
    fn covers(&self, line: &str, difference: &str) -> bool {
        self.lines.iter().any(|pattern| fits(pattern, line)) && fits(&self.difference, difference)
    }
}

/// A pattern with `*` at the beginning, the end, or both.
fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => text.contains(pattern.trim_matches('*')),
        (Some(end), None) => text.ends_with(end),
        (None, Some(begin)) => text.starts_with(begin),
        (None, None) => pattern == text,
    }
}

fn accepted(scene: &str) -> Vec<Accepted> {
    let all: Vec<Accepted> =
        serde_json::from_str(include_str!("transcript/differences.json")).expect("differences.json");
    let here = |entry: &Accepted| entry.layout.as_deref().is_none_or(|only| only == host::layout());
    all.into_iter().filter(|entry| fits(&entry.scene, scene) && here(entry)).collect()
}

#[track_caller]
fn play(name: &str) {
    let (_, text) = SCENES.iter().find(|(scene, _)| *scene == name).expect("a scene");
    let runc = runc();
    require!(runc.is_some(), "runc is not installed here (integration/dependencies installs it)");
    let (runc, berth) = (Stage::new("runc", runc.expect("just seen")), Stage::new("berth", program::path()));
    let accepted = accepted(name);
    let mut used = vec![false; accepted.len()];
    let (mut surprises, mut last) = (Vec::new(), String::new());
    for entry in parse(text) {
        let found = match &entry {
            Entry::Command { text, stdin, expected } => {
                last.clone_from(text);
                let ours = berth.perform(text, stdin.as_deref());
                for words in expected {
                    assert!(ours.stderr.contains(words), "$ {text}\n{words:?} is not in\n{ours}");
                }
                differences(&runc.perform(text, stdin.as_deref()), &ours)
                    .into_iter()
                    .map(|difference| (text.clone(), difference))
                    .collect()
            }
            Entry::Await { id, status } => {
                for stage in [&runc, &berth] {
                    let state = stage.await_status(id, status);
                    assert!(
                        state.is_ok(),
                        "{stage}: {id} is not {status} after $ {last}: {state:?}\n{surprises:#?}"
                    );
                }
                Vec::new()
            }
            Entry::Json(file) => {
                let found = compare::shapes(&runc.read_json(file), &berth.read_json(file));
                found.into_iter().map(|difference| (format!("@json {file}"), difference)).collect()
            }
        };
        for (line, difference) in found {
            let covering = accepted.iter().position(|entry| entry.covers(&line, &difference));
            match covering {
                Some(index) => used[index] = true,
                None => surprises.push(format!("$ {line}\n    {difference}")),
            }
        }
    }
    for (entry, used) in accepted.iter().zip(used) {
        assert!(!entry.reason.is_empty(), "{:?}: a reason", entry.lines);
        if !used && !entry.sometimes && entry.scene != "*" {
            surprises.push(format!("{:?}: {}: nothing differs so any more", entry.lines, entry.difference));
        }
    }
    assert!(surprises.is_empty(), "{} surprises\n{}", surprises.len(), surprises.join("\n"));
}

fn global_flags() {
    play("global");
}

fn creating() {
    play("create");
}

fn a_life() {
    play("life");
}

fn running() {
    play("run");
}

fn executing() {
    play("exec");
}

fn limiting() {
    require!(host::hierarchy_of("memory").is_some(), "memory is not a controller of cgroup v2 here");
    play("limits");
}

fn listing() {
    play("listing");
}

fn the_scenes_are_long_enough() {
    let commands = |text| parse(text).iter().filter(|entry| matches!(entry, Entry::Command { .. })).count();
    let total: usize = SCENES.iter().map(|(_, text)| commands(text)).sum();
    assert!(total >= 150, "{total} lines");
}

fn every_string_of_clients_is_looked_for() {
    let expected: Vec<String> = SCENES
        .iter()
        .flat_map(|(_, text)| parse(text))
        .flat_map(|entry| match entry {
            Entry::Command { expected, .. } => expected,
            Entry::Await { .. } | Entry::Json(_) => Vec::new(),
        })
        .collect();
    for words in CLIENTS_STRINGS {
        assert!(expected.iter().any(|line| line.contains(words)), "no line looks for {words:?}");
    }
}
