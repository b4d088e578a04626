//! Reads one cgroup's files; the parsers of their few shapes.

use std::path::PathBuf;

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::{BlkioEntry, Pressure, PressureData};
use crate::cgroups::write::read_at;
use crate::error::{Error, Result};

/// The directory of one controller; without one all figures are zero.
pub(super) struct Files {
    pub directory: Option<(OwnedFd, PathBuf)>,
}

impl Files {
    /// A file's text; [`None`] when this kernel or configuration does not have it.
    pub fn text(&self, file: &str) -> Result<Option<String>> {
        let Some((fd, path)) = &self.directory else { return Ok(None) };
        match read_at(fd.as_fd(), file) {
            Ok(text) => Ok(Some(text)),
            // EOPNOTSUPP: PSI is compiled in and switched off.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::syscall(format!("read({:?})", path.join(file)), errno)),
        }
    }

    /// A single number; `max` is 2^64-1. 0 without the file.
    pub fn number(&self, file: &str) -> Result<u64> {
        Ok(self.text(file)?.map_or(0, |text| number(&text)))
    }

    /// Lines of `key value`.
    pub fn table(&self, file: &str) -> Result<Vec<(String, u64)>> {
        let text = self.text(file)?.unwrap_or_default();
        Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(k, v)| (k.to_owned(), number(v))).collect())
    }

    /// A pressure file.
    pub fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        Ok(self.text(file)?.map(|text| pressure(&text)))
    }

    /// v1's `8:0 Read 4096`, or `8:0 4096` without the kind; the total over all devices is left out.
    pub fn devices(&self, file: &str) -> Result<Vec<BlkioEntry>> {
        let text = self.text(file)?.unwrap_or_default();
        Ok(text.lines().filter_map(device).collect())
    }
}

/// The value of one key; 0 when it is missing.
pub(super) fn value(table: &[(String, u64)], key: &str) -> u64 {
    table.iter().find(|(name, _)| name == key).map_or(0, |(_, value)| *value)
}

pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().map(number).collect()
}

fn device(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (op, value) = match (words.next()?, words.next()) {
        (op, Some(value)) => (op.to_owned(), value),
        (value, None) => (String::new(), value),
    };
    Some(BlkioEntry { major: number(major), minor: number(minor), op, value: number(value) })
}

fn pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let mut data = PressureData::default();
        let kind = words.next();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let average = || value.parse().unwrap_or(0.0);
            match key {
                "avg10" => data.avg10 = average(),
                "avg60" => data.avg60 = average(),
                "avg300" => data.avg300 = average(),
                "total" => data.total = number(value),
                _ => {}
            }
        }
        match kind {
            Some("some") => pressure.some = data,
            Some("full") => pressure.full = data,
            _ => {}
        }
    }
    pressure
}

/// A cpuset list, `0-2,7`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let mut list = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u16>(), to.parse::<u16>()) {
            list.extend(from..=to);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0u16; 0]);
        let text = "some avg10=97.42 avg60=0.00 avg300=1.50 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let parsed = pressure(text);
        assert_eq!(
            (parsed.some.avg10, parsed.some.avg300, parsed.some.total, parsed.full.total),
            (97.42, 1.5, 1234, 5)
        );
        let entry = device("8:16 Read 4096").unwrap();
        assert_eq!((entry.major, entry.minor, entry.op.as_str(), entry.value), (8, 16, "Read", 4096));
        assert_eq!(device("8:16 7").unwrap().value, 7);
        assert_eq!(device("Total 0"), None);
        assert_eq!(number("max\n"), u64::MAX);
    }
}
