//! `--log`, `--log-format`, `--debug`: the only printer of errors and warnings.
//!
//! Engines read the log: Podman parses the whole file as one JSON object, containerd takes the last
//! line whose level is `error`. So each message is exactly one line, written by one write(2) to a
//! file opened for append, and an error is there once.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::{Call, Code, Context, Error, Result};

static LOG: OnceLock<Log> = OnceLock::new();

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`, as logrus prints it.
    #[default]
    Text,
    /// One object per line with `level`, `msg` and `time`.
    Json,
}

/// How much a message matters, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever looks for a bug.
    Debug,
    /// Nothing is wrong.
    Info,
    /// Something was asked for that berth ignores, as the spec wants.
    #[default]
    #[value(alias = "warn")]
    Warning,
    /// What was asked for was not done.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What the flags say about the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The file; stderr without one.
    pub file: Option<PathBuf>,
    /// Of each line.
    pub format: Format,
    /// Lowest level that is written.
    pub level: Level,
}

struct Log {
    /// `None`: stderr is the log.
    file: Option<File>,
    format: Format,
    level: Level,
}

/// Opens the log for this process. Until then, and after a failure, messages go to stderr.
pub fn open(options: &Options) -> Result<()> {
    // /dev/stderr is runc's default; opened as a file it would get each error twice.
    let path = options.file.as_deref().filter(|path| *path != Path::new("/dev/stderr"));
    let file = path.map(open_for_append).transpose()?;
    LOG.set(Log { file, format: options.format, level: options.level })
        .map_err(|_| Error::invalid("the log is open already"))
}

fn open_for_append(path: &Path) -> Result<File> {
    // std sets O_CLOEXEC.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .call(|| format!("open({}, O_APPEND)", path.display()))
        .context("open the log")
}

/// Reports the failure that ends this command: one line in the log, one on stderr.
pub fn error(error: &Error) {
    let message = error.to_string();
    write(Level::Error, &message, Some(error.code()));
    if LOG.get().is_some_and(|log| log.file.is_some()) {
        // A failed write to stderr has no place left to be reported.
        write_to_stderr(&(one_line(&message).into_owned() + "\n"));
    }
}

/// Reports something that was ignored, as the spec wants.
pub fn warning(message: &str) {
    write(Level::Warning, message, None);
}

/// Reports for whoever looks for a bug; `message` is only made with `--debug`.
pub fn debug(message: impl FnOnce() -> String) {
    if LOG.get().is_some_and(|log| log.level <= Level::Debug) {
        write(Level::Debug, &message(), None);
    }
}

fn write(level: Level, message: &str, code: Option<Code>) {
    let log = LOG.get();
    if level < log.map_or(Level::Warning, |log| log.level) {
        return;
    }
    let line = line(log.map_or(Format::Text, |log| log.format), SystemTime::now(), level, message, code);
    match log.and_then(|log| log.file.as_ref()) {
        // A full disk must not hide the message.
        Some(mut file) => {
            if file.write_all(line.as_bytes()).is_err() {
                write_to_stderr(&line);
            }
        }
        None => write_to_stderr(&line),
    }
}

/// One write(2), so that lines of several processes do not mix. A caller that closed stderr wants
/// no messages, so the result says nothing to anyone.
fn write_to_stderr(line: &str) {
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

/// A whole line of the log, with its newline.
fn line(format: Format, now: SystemTime, level: Level, message: &str, code: Option<Code>) -> String {
    #[derive(Serialize)]
    struct Entry<'a> {
        level: Level,
        msg: &'a str,
        time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    }
    let time = timestamp(now);
    let entry = Entry { level, msg: message, time: &time, code };
    match (format, serde_json::to_string(&entry)) {
        (Format::Json, Ok(json)) => json + "\n",
        // Strings and names always serialise; the text form stands in all the same.
        _ => format!("time={:?} level={} msg={:?}\n", time, level.as_str(), message),
    }
}

/// Control characters escaped, so that a file name with a newline in it cannot forge a second line.
fn one_line(message: &str) -> Cow<'_, str> {
    if message.contains(char::is_control) {
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Cow::Owned(message.chars().map(escape).collect())
    } else {
        Cow::Borrowed(message)
    }
}

/// RFC 3339 in UTC with nanoseconds, `2026-11-22T02:48:55.123456789Z`. A time before 1970 is 1970.
pub fn timestamp(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let nanoseconds = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// Year, month and day of the Gregorian calendar from days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin on 1 March have the leap day at their end, where it shifts nothing.
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097); // eras of 400 years
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, 5)
    }

    #[test]
    fn prints_dates_as_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000005Z"),
            (951_782_399, "2000-02-28T23:59:59.000000005Z"),
            (951_782_400, "2000-02-29T00:00:00.000000005Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000005Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000005Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000005Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), expected);
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_runcs_keys() {
        let message = "open \"/a\nb\"\u{1b}[0m";
        let line = line(Format::Json, at(0), Level::Error, message, Some(Code::NotFound));
        assert_eq!(line.lines().count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], message);
        assert_eq!(value["time"], "1970-01-01T00:00:00.000000005Z");
        assert_eq!(value["code"], "not-found");
    }

    #[test]
    fn a_text_line_is_logruss() {
        let line = line(Format::Text, at(0), Level::Warning, "a \"b\"\nc", None);
        assert_eq!(line, "time=\"1970-01-01T00:00:00.000000005Z\" level=warning msg=\"a \\\"b\\\"\\nc\"\n");
    }

    #[test]
    fn newlines_and_escapes_cannot_leave_their_line() {
        assert_eq!(one_line("plain é"), "plain é");
        assert_eq!(one_line("a\nlevel=error\u{1b}[2J\t"), "a\\nlevel=error\\u{1b}[2J\\t");
    }

    #[test]
    fn levels_are_ordered() {
        assert!(Level::Debug < Level::Info && Level::Info < Level::Warning && Level::Warning < Level::Error);
    }
}
