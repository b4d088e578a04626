//! Command lines that need no explanation.
//!
//! clap lays out every flag with its help before it reads the first word, a twentieth of the time of an exec. So the
//! verbs that engines wait for are read here, flag by flag beside the fields that clap fills. Whatever is not plainly
//! right (an unknown flag, a missing value, short flags in one word, Go's spellings, a flag behind the id) is left as a
//! whole to clap, which knows what else could have been meant and has the words for it. That both understand the same
//! is tested with every flag of clap's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;
use std::str::FromStr;

use clap::ValueEnum;

use super::{Cli, Verb, global::Global};

/// Flags that can be read one by one.
pub trait Flags: Default {
    /// Takes in what a flag says. None where that is not plain, and for every flag of who has none.
    fn take(&mut self, _: &mut Flag<'_, '_>) -> Option<()> {
        None
    }
}

/// A verb: its flags, and the words behind them.
pub trait Direct: Flags {
    /// The container's id, which each verb has.
    fn id(&mut self) -> &mut String;

    /// Takes in the words; the id is the first, and most verbs have no other. None as in [`Flags::take`].
    fn operands(&mut self, words: &[OsString]) -> Option<()> {
        *self.id() = only(words)?;
        Some(())
    }
}

/// A flag, with what may be its value.
pub struct Flag<'words, 'line> {
    /// With its dashes.
    pub name: &'line str,
    attached: Option<&'line OsStr>,
    behind: &'words mut slice::Iter<'line, OsString>,
}

impl Flag<'_, '_> {
    /// A switch.
    pub fn on(&self) -> Option<bool> {
        self.attached.is_none().then_some(true)
    }

    /// A path.
    pub fn path(&mut self) -> Option<PathBuf> {
        self.value().map(PathBuf::from)
    }

    /// Any text.
    pub fn text(&mut self) -> Option<String> {
        text(self.value()?)
    }

    /// A number, or what else can be read.
    pub fn parsed<T: FromStr>(&mut self) -> Option<T> {
        self.value()?.to_str()?.parse().ok()
    }

    /// One of some words.
    pub fn one_of<T: ValueEnum>(&mut self) -> Option<T> {
        T::from_str(self.value()?.to_str()?, false).ok()
    }

    fn value(&mut self) -> Option<&OsStr> {
        let value = match self.attached {
            Some(value) => value,
            None => self.behind.next().filter(|word| !has_dash(word))?,
        };
        (!value.is_empty()).then_some(value)
    }
}

/// Reads a whole command line, with the name of the program in front.
pub fn read(argv: &[OsString]) -> Option<Cli> {
    let mut words = argv.get(1..)?.iter();
    let global: Global = flags(&mut words)?;
    let verb = match words.next()?.to_str()? {
        "create" => Verb::Create(all(words)?),
        "start" => Verb::Start(all(words)?),
        "state" => Verb::State(all(words)?),
        "kill" => Verb::Kill(all(words)?),
        "delete" => Verb::Delete(all(words)?),
        "run" => Verb::Run(all(words)?),
        "exec" => Verb::Exec(Box::new(all(words)?)),
        _ => return None,
    };
    Some(Cli { global, verb })
}

fn all<T: Direct>(mut words: slice::Iter<'_, OsString>) -> Option<T> {
    let mut read: T = flags(&mut words)?;
    read.operands(words.as_slice())?;
    Some(read)
}

fn flags<T: Flags>(words: &mut slice::Iter<'_, OsString>) -> Option<T> {
    let mut read = T::default();
    while let Some(word) = words.as_slice().first().filter(|word| has_dash(word)) {
        words.next();
        let bytes = word.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').filter(|_| bytes.starts_with(b"--"));
        let (name, attached) = match equals {
            Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
            None => (bytes, None),
        };
        read.take(&mut Flag { name: std::str::from_utf8(name).ok()?, attached, behind: words })?;
    }
    Some(read)
}

/// A word with none behind it.
pub fn only(words: &[OsString]) -> Option<String> {
    match words {
        [word] => operand(word),
        _ => None,
    }
}

/// A word that is no flag: clap finds flags behind the id too.
pub fn operand(word: &OsString) -> Option<String> {
    if has_dash(word) { None } else { text(word) }
}

/// A word that may look like a flag.
pub fn text(word: &OsStr) -> Option<String> {
    word.to_str().map(str::to_owned)
}

fn has_dash(word: &OsString) -> bool {
    word.as_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command, Parser as _};

    use super::*;
    use crate::cli::argv::{self, tests::whole_command};

    const VERBS: [&str; 7] = ["create", "start", "state", "kill", "delete", "run", "exec"];

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("berth").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    /// What clap makes of a line, if it is right.
    fn by_clap(line: &str) -> Option<String> {
        Cli::try_parse_from(argv::normalize(words(line))).ok().map(|cli| format!("{cli:?}"))
    }

    /// A value that this flag takes.
    fn value_of(flag: &Arg) -> String {
        let listed = flag.get_possible_values();
        match flag.get_id().as_str() {
            "rootless" => "true".into(),
            _ if !listed.is_empty() => listed[listed.len() - 1].get_name().to_owned(),
            _ => "1".into(),
        }
    }

    /// Each way in which the flags of a command can be written.
    fn spellings(command: &Command) -> Vec<String> {
        let mut all = Vec::new();
        for flag in command.get_arguments().filter(|flag| !flag.is_positional()) {
            if matches!(flag.get_id().as_str(), "help" | "version") {
                continue;
            }
            let value = value_of(flag);
            let takes_value = flag.get_action().takes_values();
            if let Some(short) = flag.get_short() {
                all.push(if takes_value { format!("-{short} {value}") } else { format!("-{short}") });
            }
            for long in flag.get_long_and_visible_aliases().unwrap_or_default() {
                match takes_value {
                    true => all.extend([format!("--{long} {value}"), format!("--{long}={value}")]),
                    false => all.push(format!("--{long}")),
                }
            }
        }
        all
    }

    #[test]
    fn every_flag_is_read_as_clap_reads_it() {
        let root = whole_command();
        let mut lines: Vec<String> =
            spellings(&root).into_iter().map(|flag| format!("{flag} state x")).collect();
        for verb in VERBS {
            let flags = spellings(root.find_subcommand(verb).unwrap());
            lines.push(format!("{verb} x"));
            lines.extend(flags.iter().map(|flag| format!("{verb} {flag} x")));
            // Twice, and all of them.
            lines.extend(flags.iter().map(|flag| format!("{verb} {flag} {flag} x")));
            lines.push(format!("{verb} {} x", flags.join(" ")));
        }
        lines.extend(
            ["kill x 9", "kill x SIGHUP", "kill --all x KILL", "exec x ls", "exec -t x ls -l --cwd / --"]
                .map(String::from),
        );
        for line in lines {
            let direct = read(&words(&line)).map(|cli| format!("{cli:?}"));
            assert!(direct.is_some(), "{line}");
            assert_eq!(direct, by_clap(&line), "{line}");
        }
    }

    /// Lines of right and wrong words: what is read here is what clap reads.
    #[test]
    fn no_line_is_read_otherwise_than_by_clap() {
        let root = whole_command();
        let odd = [
            "--",
            "-",
            "-x",
            "--frob",
            "--frob=1",
            "=",
            "--root",
            "--bundle",
            "--bundle=",
            "-b",
            "-b=1",
            "-b1",
            "-td",
            "-dt",
            "--tty=true",
            "--force=0",
            "-force",
            "-bundle",
            "--env",
            "-e",
            "-9",
            "x",
            "y",
            "1",
            "KILL",
            "run",
            "exec",
            "state",
            "é",
            "--é",
            "--log-level",
            "loud",
            "--preserve-fds",
            "-1",
            "--preserve-fds=+1",
            "4294967296",
            "--help",
            "-h",
            "-v",
            "--version",
            "--rootless=maybe",
        ];
        let mut state = 1_u32;
        let mut next = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 8).unwrap() % below
        };
        let mut read_here = 0;
        for round in 0..10_000 {
            let verb = VERBS[round % VERBS.len()];
            let own = spellings(root.find_subcommand(verb).unwrap());
            let of_all = spellings(&root);
            let mut line = Vec::new();
            for _ in 0..next(3) {
                line.push(if next(6) == 0 { odd[next(odd.len())] } else { &of_all[next(of_all.len())] });
            }
            line.push(verb);
            for _ in 0..next(5) {
                match own.len() {
                    0 => line.push(odd[next(odd.len())]),
                    _ if next(4) == 0 => line.push(odd[next(odd.len())]),
                    count => line.push(&own[next(count)]),
                }
            }
            line.extend((0..next(3)).map(|at| ["x", "9"][at]));
            let line = line.join(" ");
            if let Some(cli) = read(&words(&line)) {
                assert_eq!(Some(format!("{cli:?}")), by_clap(&line), "{line}");
                read_here += 1;
            }
        }
        assert!(read_here > 1000, "{read_here}");
    }

    #[test]
    fn a_value_may_be_empty_for_clap_alone() {
        for line in [&["exec", "--cwd", "", "x", "ls"][..], &["exec", "--env", "", "x", "ls"], &["state", ""]]
        {
            let argv: Vec<OsString> = std::iter::once(&"berth").chain(line).map(OsString::from).collect();
            if let Some(cli) = read(&argv) {
                assert_eq!(format!("{cli:?}"), format!("{:?}", Cli::try_parse_from(&argv).unwrap()));
            }
        }
    }
}
