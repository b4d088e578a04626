//! Every flag of runc and of berth is in `flags.txt` with the tests that see what it does.

use crate::harness::program::{Bounded, directory, path};
use crate::transcript::runc;
use crate::{require, tests};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

tests! { every_test_of_the_table_uses_its_flag, runcs_flags_are_in_the_table, berths_flags_are_those_of_the_table }

/// Where the tests of the table are.
const SOURCES: [(&str, &str); 26] = [
    ("apparmor", include_str!("apparmor.rs")),
    ("cgroups", include_str!("cgroups.rs")),
    ("check", include_str!("check.rs")),
    ("checkpoint", include_str!("checkpoint.rs")),
    ("checkpoint_errors", include_str!("checkpoint_errors.rs")),
    ("checkpoint_network", include_str!("checkpoint_network.rs")),
    ("checkpoint_streams", include_str!("checkpoint_streams.rs")),
    ("cli", include_str!("cli.rs")),
    ("events", include_str!("events.rs")),
    ("exec", include_str!("exec.rs")),
    ("exec_attributes", include_str!("exec_attributes.rs")),
    ("exec_namespaces", include_str!("exec_namespaces.rs")),
    ("exec_streams", include_str!("exec_streams.rs")),
    ("fds", include_str!("fds.rs")),
    ("lifecycle", include_str!("lifecycle.rs")),
    ("logs", include_str!("logs.rs")),
    ("mounts", include_str!("mounts.rs")),
    ("process", include_str!("process.rs")),
    ("ps", include_str!("ps.rs")),
    ("rdt", include_str!("rdt.rs")),
    ("review", include_str!("review.rs")),
    ("seccomp", include_str!("seccomp.rs")),
    ("selinux", include_str!("selinux.rs")),
    ("systemd", include_str!("systemd.rs")),
    ("terminal", include_str!("terminal.rs")),
    ("update", include_str!("update.rs")),
];

struct Row {
    verb: &'static str,
    flag: &'static str,
    tests: Vec<&'static str>,
}

fn table() -> Vec<Row> {
    let lines = include_str!("flags.txt").lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| {
        let mut words = line.split(' ');
        let verb = words.next().expect("a verb").trim_start_matches('-');
        Row { verb, flag: words.next().expect("a flag"), tests: words.collect() }
    });
    rows.collect()
}

/// The text between `fn NAME() {` and the brace that ends it.
fn body(test: &str) -> &'static str {
    let (file, name) = test.split_once("::").expect("file::test");
    let source = SOURCES.iter().find(|(name, _)| *name == file);
    let (_, source) = source.unwrap_or_else(|| panic!("{test}: no such file"));
    let begin = source.find(&format!("\nfn {name}() {{\n")).unwrap_or_else(|| panic!("{test}: no such test"));
    let rest = &source[begin + 1..];
    rest.split_once("\n}\n").map_or(rest, |(body, _)| body)
}

fn every_test_of_the_table_uses_its_flag() {
    let mut wrong = Vec::new();
    for row in table() {
        assert!(!row.tests.is_empty(), "{} {}: no test", row.verb, row.flag);
        let short = short_of(row.verb, row.flag);
        for test in &row.tests {
            let body = body(test);
            let names = [Some(row.flag.to_owned()), short.clone()];
            let used = names.iter().flatten().any(|name| {
                [format!("\"{name}\""), format!("\"{name}="), format!("\"{name} ")]
                    .iter()
                    .any(|text| body.contains(text.as_str()))
            });
            if !used {
                wrong.push(format!("{test} does not use {} of {:?}", row.flag, row.verb));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn help(program: &Path, verb: &str) -> String {
    let mut command = Command::new(program);
    command.args((!verb.is_empty()).then_some(verb)).arg("--help").stdin(Stdio::null());
    command.done().ok().stdout()
}

/// Long flags at the beginning of a line of help, with or without the short one before.
fn flags_in(help: &str) -> BTreeSet<String> {
    let words = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = if line.starts_with("--") { line } else { line.strip_prefix('-')?.split_once(", ")?.1 };
        let name: String = long.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        name.starts_with("--").then_some(name)
    });
    words.collect()
}

/// `-e` for `--env`, from berth's help.
fn short_of(verb: &str, flag: &str) -> Option<String> {
    let help = help(&path(), verb);
    let line = help.lines().map(str::trim_start).find(|line| {
        line.starts_with('-') && line.split([' ', ',']).any(|word| word == flag) && !line.starts_with("--")
    })?;
    line.split(',').next().map(str::to_owned)
}

/// The verbs in a list of commands.
fn verbs_in(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| !line.to_ascii_lowercase().starts_with("commands:")).skip(1);
    let names = list
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| name.trim_end_matches(',').to_owned());
    names.filter(|name| name != "help").collect()
}

fn runcs_flags_are_in_the_table() {
    let runc = runc();
    require!(runc.is_some(), "runc is not installed here (integration/dependencies installs it)");
    let runc = runc.expect("just seen");
    let rows = table();
    let verbs = verbs_in(&help(&runc, ""));
    assert!(verbs.len() >= 15, "{verbs:?}");
    let ours = verbs_in(&help(&path(), ""));
    for verb in std::iter::once("").chain(verbs.iter().map(String::as_str)) {
        assert!(verb.is_empty() || ours.iter().any(|name| name == verb), "no {verb}");
        for flag in flags_in(&help(&runc, verb)) {
            let found = rows.iter().any(|row| row.verb == verb && row.flag == flag);
            assert!(found || flag == "--help", "runc {verb} {flag} is not in flags.txt");
        }
    }
}

fn berths_flags_are_those_of_the_table() {
    let rows = table();
    for verb in std::iter::once(String::new()).chain(verbs_in(&help(&path(), ""))) {
        for flag in flags_in(&help(&path(), &verb)) {
            let found = rows.iter().any(|row| row.verb == verb && row.flag == flag);
            assert!(found || flag == "--help", "berth {verb} {flag} is not in flags.txt");
        }
    }
    // Some are hidden: only a parser tells whether it knows them.
    for row in rows {
        let mut command = Command::new(path());
        command.args((!row.verb.is_empty()).then_some(row.verb)).arg(row.flag);
        // Some do what they say (spec writes a file).
        command.stdin(Stdio::null()).current_dir(directory());
        let stderr = command.done().stderr();
        assert!(!stderr.contains("not defined"), "{} {}: {stderr}", row.verb, row.flag);
    }
}
