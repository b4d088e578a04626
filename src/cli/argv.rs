//! Flags as Go programs spell them, where clap spells them otherwise: long ones with one dash (go-runc
//! sends `restore … -no-subreaper`), and switches with a value (`--systemd-cgroup=true`).

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

/// Spells the flags of berth and of the verb as clap does.
///
/// What belongs to the container (the command of exec, the options of ps) is left as it is.
pub fn normalize(mut argv: Vec<OsString>) -> Vec<OsString> {
    // Nearly always there is nothing to do, and the walk below is not needed.
    if argv.iter().skip(1).any(|word| has_one_dash(word) || has_boolean(word)) {
        let mut root = Cli::command();
        root.build();
        let words = argv.split_off(1);
        argv.extend(rewrite(&root, words));
    }
    argv
}

/// A dash and more than one letter: a long flag, a cluster of short ones, or one with its value.
fn has_one_dash(word: &OsString) -> bool {
    matches!(word.as_encoded_bytes(), [b'-', second, third, ..] if *second != b'-' && *third != b'=')
}

fn has_boolean(word: &OsString) -> bool {
    let value = word.to_str().filter(|text| text.starts_with('-')).and_then(|text| text.split_once('='));
    value.is_some_and(|(_, value)| parse_bool(value).is_some())
}

/// Go's `strconv.ParseBool`, with which runc reads switches.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Walks the words as the parser will, changing the flags of `root` and of the verb it finds.
fn rewrite(root: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut command = root;
    let mut inside_verb = false;
    let mut rewritten = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        if text.starts_with('-') && text != "--" {
            let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
            let flag = find(command, name);
            rewritten.extend(match flag {
                Some(flag) => respell(word, flag),
                None => Some(word),
            });
            // The next word is this flag's value, whatever it looks like.
            if flag.is_some_and(takes_value) && !text.contains('=') {
                rewritten.extend(words.next());
            }
            continue;
        }
        rewritten.push(word);
        match root.find_subcommand(&text) {
            Some(verb) if !inside_verb => {
                command = verb;
                inside_verb = true;
            }
            // The id; flags may follow.
            _ if inside_verb && text != "--" && !has_words_of_its_own(command) => {}
            _ => break,
        }
    }
    rewritten.extend(words);
    rewritten
}

/// `word`, which gives `flag`, for clap; nothing for a switch that is turned off.
fn respell(word: OsString, flag: &Arg) -> Option<OsString> {
    let mut dashed = OsString::from(if has_one_dash(&word) { "-" } else { "" });
    dashed.push(word);
    let given = dashed.to_str().and_then(|text| text.split_once('='));
    match given.map(|(name, value)| (name, parse_bool(value))) {
        Some((name, Some(on))) if matches!(flag.get_action(), ArgAction::SetTrue) => on.then(|| name.into()),
        _ => Some(dashed),
    }
}

/// The flag of this name; a single letter is a short flag.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut letters = name.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => command.get_arguments().find(|arg| arg.get_short() == Some(letter)),
        _ => command.get_arguments().find(|arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
        }),
    }
}

fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values()
}

fn has_words_of_its_own(command: &Command) -> bool {
    command.get_arguments().any(Arg::is_trailing_var_arg_set)
}

/// Whether a process of this command may get into a container: then it runs from a file that the
/// container cannot write to ([`crate::self_exe`]). Found by the words alone, before the command line is
/// parsed: a false alarm (`berth state run`) costs a millisecond and nothing else.
pub fn enters_a_container(argv: &[OsString]) -> bool {
    argv.iter().skip(1).any(|word| ["create", "run", "exec", "restore"].iter().any(|verb| word == verb))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn rewritten(root: &Command, line: &str) -> String {
        let words = rewrite(root, line.split(' ').map(OsString::from).collect());
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    /// With all that clap lays out when it parses.
    pub fn whole_command() -> Command {
        let mut root = Cli::command();
        root.build();
        root
    }

    #[test]
    fn adds_the_second_dash_to_known_flags_only() {
        let root = whole_command();
        for (typed, meant) in [
            ("restore -no-subreaper --bundle /b x", "restore --no-subreaper --bundle /b x"),
            ("-root /r -log-format json state x", "--root /r --log-format json state x"),
            ("-root=/r state x", "--root=/r state x"),
            ("run -detach -bundle /b x", "run --detach --bundle /b x"),
            ("kill x -9", "kill x -9"),
            ("delete -rf x", "delete -rf x"),
            ("create -b -bundle x", "create -b -bundle x"),
            ("exec -tty x ls -tty -cwd", "exec --tty x ls -tty -cwd"),
            ("exec -cwd / x ls", "exec --cwd / x ls"),
            ("exec -e A=b -cwd / x ls -env", "exec -e A=b --cwd / x ls -env"),
            ("create -- -bundle", "create -- -bundle"),
            ("unknown -root", "unknown -root"),
        ] {
            assert_eq!(rewritten(&root, typed), meant);
        }
    }

    #[test]
    fn switches_take_gos_booleans() {
        let root = whole_command();
        for (typed, meant) in [
            ("--systemd-cgroup=true --debug=false state x", "--systemd-cgroup state x"),
            ("--rootless=true delete -force=1 x", "--rootless=true delete --force x"),
            ("delete --force=0 x", "delete x"),
            ("delete -f=T x --regex=FALSE", "delete -f x"),
            ("create -b=1 --bundle=true --no-pivot=true x", "create -b=1 --bundle=true --no-pivot x"),
            ("--log --debug=true create x", "--log --debug=true create x"),
            ("exec -t=true -no-new-privs=f x ls --color=true -t=1", "exec -t x ls --color=true -t=1"),
            ("delete -- --force=true", "delete -- --force=true"),
            // For clap to refuse.
            ("delete -force=maybe x", "delete --force=maybe x"),
            ("delete --frob=true x", "delete --frob=true x"),
        ] {
            assert_eq!(rewritten(&root, typed), meant);
        }
    }

    #[test]
    fn every_switch_of_every_verb_can_be_turned_off() {
        let root = whole_command();
        for verb in std::iter::once(&root).chain(root.get_subcommands()) {
            let switches = verb.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
            for name in switches.filter_map(Arg::get_long) {
                let before = if verb.get_name() == root.get_name() { "" } else { verb.get_name() };
                let typed = format!("{before} --{name}=false").trim_start().to_owned();
                assert_eq!(rewritten(&root, &typed), before, "{typed}");
            }
        }
    }
}
