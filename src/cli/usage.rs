//! Answers to a command line that is not one: help, version, usage errors.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::{Cli, global::Global, print};
use crate::error::Error;
use crate::log;

/// Prints help or version on stdout, a usage error as one line in the log and on stderr; returns the
/// exit code.
pub(super) fn answer(error: &clap::Error, argv: &[OsString]) -> u8 {
    let answer = match error.kind() {
        ErrorKind::DisplayHelp => Some(error.to_string()),
        ErrorKind::DisplayVersion => Some(version(argv, error.to_string())),
        _ => None,
    };
    if let Some(text) = answer {
        return match print(&text) {
            Ok(()) => 0,
            Err(error) => {
                log::error(&error);
                1
            }
        };
    }
    let help = format!("see {} --help", command_of(argv));
    let usage =
        Error::invalid(message(error)).remedy(match misplaced(error, argv).or_else(|| suggestion(error)) {
            Some(meant) => format!("{meant} {help}"),
            None => help,
        });
    // The engine reads the cause from its log, so the flags of the log are looked for even so.
    if let Some(global) = salvage(argv)
        && let Err(error) = log::open(&global.log())
    {
        log::error(&error);
    }
    log::error(&usage);
    1
}

/// What `--version` prints. A tool that calls berth by the name runc (`make install-runc-alias`) drops all lines
/// unless the first is `runc version X` (go-runc's parseVersion); the truth is in what semver calls build metadata:
/// `runc version 0.1.0+berth`.
fn version(argv: &[OsString], text: String) -> String {
    let name = argv.first().and_then(|path| Path::new(path).file_name());
    if name != Some(OsStr::new("runc")) {
        return text;
    }
    let prefix = concat!("berth version ", env!("CARGO_PKG_VERSION"));
    text.replacen(prefix, concat!("runc version ", env!("CARGO_PKG_VERSION"), "+berth"), 1)
}

/// clap's finding in one line, in the words that clients of runc look for: Podman finds out whether
/// a flag is known by giving it without its value and reading `flag needs an argument`.
fn message(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    match (error.kind(), flag, value) {
        (ErrorKind::UnknownArgument, Some(flag), _) if flag.starts_with('-') => {
            format!("flag provided but not defined: {flag}")
        }
        (ErrorKind::InvalidValue, Some(flag), Some(value)) if value.is_empty() => {
            let name = flag.split(' ').next().unwrap_or_default();
            format!("flag needs an argument: {name}")
        }
        (ErrorKind::InvalidSubcommand, ..) => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("unknown command: {name}")
        }
        (ErrorKind::MissingRequiredArgument, Some(missing), _) => format!("missing argument: {missing}"),
        (ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ..) => {
            "no command given".into()
        }
        _ => first_line(&error.to_string()),
    }
}

/// What was probably meant, as a question.
fn suggestion(error: &clap::Error) -> Option<String> {
    let meant = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        Some(ContextValue::Strings(words)) if !words.is_empty() => Some(words.join(" or ")),
        _ => None,
    };
    let word = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    word.into_iter().find_map(meant).map(|word| format!("did you mean {word}?"))
}

/// The sentence of clap's message, without its label and the advice below it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// That a flag is known, but on the other side of the verb.
fn misplaced(error: &clap::Error, argv: &[OsString]) -> Option<String> {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag,
        _ => return None,
    };
    let mut root = Cli::command();
    root.build();
    let verb = root.find_subcommand(verb_of(&root, argv)?)?;
    let has = |command: &Command| {
        let mut spelled = command.get_arguments().filter_map(Arg::get_long);
        flag.strip_prefix("--").is_some_and(|name| spelled.any(|long| long == name))
    };
    let side = if has(verb) { "behind" } else { "before" };
    (has(verb) || has(&root)).then(|| format!("it belongs {side} {};", verb.get_name()))
}

/// `berth create`, as far as the words name a verb.
fn command_of(argv: &[OsString]) -> String {
    verb_of(&Cli::command(), argv).map_or_else(|| "berth".into(), |verb| format!("berth {verb}"))
}

fn verb_of<'a>(root: &Command, argv: &'a [OsString]) -> Option<&'a str> {
    let mut words = argv.iter().skip(1).filter_map(|word| word.to_str());
    words.find(|word| root.find_subcommand(word).is_some())
}

/// The flags before the verb of a line that has an error somewhere.
fn salvage(argv: &[OsString]) -> Option<Global> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(argv).ok()?;
    Global::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use clap::{Args, Parser};

    use super::*;
    use crate::cli::restore::Restore;

    fn refused(line: &str) -> String {
        let words = std::iter::once("berth").chain(line.split_whitespace());
        message(&Cli::try_parse_from(words).unwrap_err())
    }

    #[test]
    fn says_what_is_wrong_in_one_line() {
        for (line, expected) in [
            ("", "no command given"),
            ("frobnicate", "unknown command: frobnicate"),
            ("create --frob x", "flag provided but not defined: --frob"),
            ("create -x x", "flag provided but not defined: -x"),
            ("create x y", "unexpected argument 'y' found"),
            ("create", "missing argument: <CONTAINER-ID>"),
            ("create --bundle", "flag needs an argument: --bundle"),
            (
                "create --preserve-fds many x",
                "invalid value 'many' for '--preserve-fds <N>': invalid digit found in string",
            ),
            ("kill x NOPE", "invalid value 'NOPE' for '[SIGNAL]': unknown signal \"NOPE\""),
            ("--log-format xml state x", "invalid value 'xml' for '--log-format <text|json>'"),
            (
                "--rootless maybe state x",
                "invalid value 'maybe' for '--rootless <auto|true|false>': expected auto, true or false",
            ),
        ] {
            assert_eq!(refused(line), expected, "{line}");
        }
    }

    #[test]
    fn asks_for_what_was_probably_meant() {
        for (line, expected) in [
            ("creat x", Some("did you mean create?")),
            ("kil x", Some("did you mean kill?")),
            ("frobnicate", None),
            ("create --bundel /b x", Some("did you mean --bundle?")),
            ("--rot /r list", Some("did you mean --root?")),
            ("create --frobnicate x", None),
            ("list --format jsno", Some("did you mean json?")),
        ] {
            let words = std::iter::once("berth").chain(line.split_whitespace());
            assert_eq!(suggestion(&Cli::try_parse_from(words).unwrap_err()).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn says_on_which_side_of_the_verb_a_flag_belongs() {
        for (line, expected) in [
            ("--bundle /b create x", Some("it belongs behind create;")),
            ("create --root /r x", Some("it belongs before create;")),
            ("list --frobnicate", None),
            ("--frobnicate", None),
        ] {
            let argv: Vec<OsString> =
                std::iter::once("berth").chain(line.split_whitespace()).map(OsString::from).collect();
            let error = Cli::try_parse_from(&argv).unwrap_err();
            assert_eq!(misplaced(&error, &argv).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn answers_to_the_name_runc() {
        let number = env!("CARGO_PKG_VERSION");
        for (name, first) in [
            ("berth", format!("berth version {number}")),
            ("/usr/local/bin/berth", format!("berth version {number}")),
            ("runc", format!("runc version {number}+berth")),
            ("/usr/local/bin/runc", format!("runc version {number}+berth")),
        ] {
            let argv = [name, "--version"].map(OsString::from);
            let answer = Cli::try_parse_from(&argv).unwrap_err();
            let text = version(&argv, answer.to_string());
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines[0], first);
            assert_eq!(lines.len(), 3, "{text}");
            assert!(lines[1].starts_with("commit: ") && lines[2].starts_with("spec: "), "{text}");
        }
    }

    #[test]
    fn answers_podmans_probe() {
        let restore = Restore::augment_args(Command::new("restore"));
        let error = restore.try_get_matches_from(["restore", "--lsm-mount-context"]).unwrap_err();
        assert_eq!(message(&error), "flag needs an argument: --lsm-mount-context");
    }

    #[test]
    fn finds_the_log_of_a_line_with_an_error() {
        let argv = ["berth", "--log", "/l", "--log-format", "json", "create", "--nope"].map(OsString::from);
        let global = salvage(&argv).unwrap();
        assert_eq!(global.log, Some("/l".into()));
        assert_eq!(global.log_format, log::Format::Json);
        assert_eq!(command_of(&argv), "berth create");
    }
}
