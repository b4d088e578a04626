//! What a program and its containers leave on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The cgroups that the suite gives its containers by name; no two programs with them may run at once.
pub const NAMED_CGROUPS: [&str; 2] = ["cgrouptest", "testdir"];

/// The mount points at or below a directory, in the order of mounting.
pub fn mounts_below(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(directory)).map(str::to_owned).collect()
}

/// The cgroups in which a part of the path is one of the names, the deepest first.
pub fn cgroups_named(names: &[String]) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        if let Some((mount, filesystem)) = line.split_once(" - ")
            && filesystem.starts_with("cgroup")
            && let Some(point) = mount.split(' ').nth(4)
        {
            collect(Path::new(point), names, false, &mut found);
        }
    }
    found
}

/// Depth first; `inside` where a directory above has one of the names. youki writes `:youki:ID`.
fn collect(directory: &Path, names: &[String], inside: bool, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let named = inside || names.iter().any(|word| name == *word || name.ends_with(&format!(":{word}")));
        collect(&entry.path(), names, named, found);
        if named {
            found.push(entry.path());
        }
    }
}

/// All live processes that descend from this one, with their commands.
pub fn descendants() -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let table: Vec<(i32, i32, String)> = entries.flatten().filter_map(|entry| row(&entry.path())).collect();
    let mut family = BTreeSet::from([i32::try_from(std::process::id()).unwrap_or(0)]);
    let mut found = Vec::new();
    loop {
        let before = family.len();
        for (pid, parent, command) in &table {
            if family.contains(parent) && family.insert(*pid) {
                found.push((*pid, command.clone()));
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// pid, parent and command of a process that is alive.
fn row(process: &Path) -> Option<(i32, i32, String)> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Some((pid, fields.next()?.parse().ok()?, name.split_once('(')?.1.to_owned()))
}
