//! From what the programs said to what it means: the table, and whether berth did what expected.toml says.

use crate::expected::{Cgroups, Expected, Failure};
use crate::program::{Layout, Outcome};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Indices into the fields of [`Suite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub layout: usize,
    pub runtime: usize,
    pub program: usize,
}

pub type Results = BTreeMap<Key, Outcome>;

/// What is run, and what is expected of it.
pub struct Suite {
    pub expected: Expected,
    pub programs: Vec<String>,
    /// The first is judged.
    pub runtimes: Vec<(String, PathBuf)>,
    pub layouts: Vec<Layout>,
}

/// What a result of the runtime that is judged means.
enum Verdict<'a> {
    Passed,
    Excused(&'a Failure),
    Failed(Vec<String>),
}

impl Suite {
    /// Everything, the programs last.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for layout in 0..self.layouts.len() {
            for runtime in 0..self.runtimes.len() {
                keys.extend((0..self.programs.len()).map(|program| Key { layout, runtime, program }));
            }
        }
        keys
    }

    /// Prints the table, the exceptions and the failures.
    pub fn conclude(&self, results: &Results, faults: &[String]) -> ExitCode {
        self.print_table(results);
        let (mut passed, mut excused, mut failed) = (0, 0, 0);
        let mut excuses: Vec<(&Failure, Vec<String>)> = Vec::new();
        for key in self.keys().into_iter().filter(|key| key.runtime == 0) {
            let name = format!("{} ({})", self.programs[key.program], self.title(key.layout));
            match self.verdict(key, results) {
                Verdict::Passed => passed += 1,
                Verdict::Excused(failure) => {
                    excused += 1;
                    match excuses.iter_mut().find(|(known, _)| std::ptr::eq(*known, failure)) {
                        Some((_, names)) => names.push(name),
                        None => excuses.push((failure, vec![name])),
                    }
                }
                Verdict::Failed(why) => {
                    failed += 1;
                    println!("FAILED: {name}");
                    why.iter().for_each(|line| println!("    {line}"));
                }
            }
        }
        for (failure, names) in excuses {
            println!("expected to fail: {}\n    {}", names.join(", "), one_line(&failure.reason));
            if let Some(although) = &failure.although {
                println!("    although: {}", one_line(although));
            }
        }
        for fault in faults {
            failed += 1;
            println!("FAILED: expected.toml: {fault}");
        }
        println!("\nruntime-tools: {passed} passed, {failed} failed, {excused} expected failures");
        ExitCode::from(u8::from(failed > 0))
    }

    fn verdict(&self, key: Key, results: &Results) -> Verdict<'_> {
        let program = &self.programs[key.program];
        let Some(outcome) = results.get(&key) else { return Verdict::Failed(vec!["no result".to_owned()]) };
        let mut why: Vec<String> =
            outcome.left_by_runtime.iter().map(|thing| format!("left behind: {thing}")).collect();
        if !why.is_empty() {
            why.extend(
                outcome.left_by_suite.iter().map(|thing| format!("left by the suite itself: {thing}")),
            );
        }
        let excuse = self.expected.failure(program, self.cgroups(key.layout));
        match excuse {
            None => why.extend(outcome.failures.iter().cloned()),
            Some(failure) if outcome.passed() => {
                if !failure.sometimes {
                    why.push("passes, and is expected to fail".to_owned());
                }
            }
            Some(failure) => {
                why.extend(failure.unexplained(&outcome.failures).into_iter().cloned());
                if failure.although.is_none() {
                    why.extend(self.passing_peers(key, results).map(|peer| format!("{peer} passes")));
                }
            }
        }
        match excuse {
            _ if !why.is_empty() => Verdict::Failed(why),
            Some(failure) if !outcome.passed() => Verdict::Excused(failure),
            _ => Verdict::Passed,
        }
    }

    fn passing_peers<'a>(&'a self, key: Key, results: &'a Results) -> impl Iterator<Item = &'a str> {
        self.runtimes.iter().enumerate().skip(1).filter_map(move |(runtime, (name, _))| {
            results.get(&Key { runtime, ..key }).filter(|outcome| outcome.passed()).map(|_| name.as_str())
        })
    }

    fn cgroups(&self, layout: usize) -> Cgroups {
        match self.layouts[layout] {
            Layout::Cgroup2 => Cgroups::V2,
            Layout::Host => Cgroups::V1,
        }
    }

    fn title(&self, layout: usize) -> &'static str {
        match self.layouts[layout] {
            Layout::Cgroup2 => "cgroup2",
            Layout::Host if Path::new("/sys/fs/cgroup/unified").exists() => "hybrid",
            Layout::Host => "cgroup v1",
        }
    }

    fn print_table(&self, results: &Results) {
        let columns: Vec<(usize, usize)> = (0..self.layouts.len())
            .flat_map(|layout| (0..self.runtimes.len()).map(move |runtime| (layout, runtime)))
            .collect();
        let row = |head: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>9}")).collect();
            println!("{head:<32}{cells}");
        };
        row("", columns.iter().map(|(layout, _)| self.title(*layout).to_owned()).collect());
        row("", columns.iter().map(|(_, runtime)| self.runtimes[*runtime].0.clone()).collect());
        let passed = |layout, runtime, program| {
            results.get(&Key { layout, runtime, program }).is_some_and(Outcome::passed)
        };
        for (program, name) in self.programs.iter().enumerate() {
            let cell = |&(layout, runtime): &(usize, usize)| {
                if passed(layout, runtime, program) { "pass" } else { "-" }.to_owned()
            };
            row(name, columns.iter().map(cell).collect());
        }
        let total = |&(layout, runtime): &(usize, usize)| {
            let passed = (0..self.programs.len()).filter(|program| passed(layout, runtime, *program)).count();
            format!("{passed}/{}", self.programs.len())
        };
        row("passed", columns.iter().map(total).collect());
        println!();
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
