//! Long flags with one dash, as Go programs take them: go-runc sends `restore … -no-subreaper`.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// Gives each `-long-name` that is a flag of berth or of the verb its second dash.
///
/// What belongs to the container (the command of exec, the options of ps) is left as it is.
pub fn with_double_dashes(mut argv: Vec<OsString>) -> Vec<OsString> {
    // Nearly always there is none, and the walk below is not needed.
    if argv.iter().skip(1).any(is_candidate) {
        let mut root = Cli::command();
        root.build();
        rewrite(&root, argv.get_mut(1..).unwrap_or_default());
    }
    argv
}

/// A dash and more than one letter: a long flag, a cluster of short ones, or one with its value.
fn is_candidate(word: &OsString) -> bool {
    matches!(word.as_encoded_bytes(), [b'-', second, _, ..] if *second != b'-')
}

/// Walks the words as the parser will, changing the flags of `root` and of the verb it finds.
fn rewrite(root: &Command, words: &mut [OsString]) {
    let mut command = root;
    let mut inside_verb = false;
    let mut words = words.iter_mut();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else { continue };
        if text == "--" {
            return;
        }
        if text.starts_with('-') {
            let name = text.trim_start_matches('-').split('=').next().unwrap_or_default();
            let flag = find(command, name);
            if is_candidate(word) && flag.is_some() {
                let mut dashed = OsString::from("-");
                dashed.push(&*word);
                *word = dashed;
            }
            // The next word is this flag's value, whatever it looks like.
            if flag.is_some_and(takes_value) && !word.as_encoded_bytes().contains(&b'=') {
                words.next();
            }
        } else if !inside_verb {
            let Some(verb) = root.find_subcommand(text) else { return };
            command = verb;
            inside_verb = true;
        } else if command.get_arguments().any(Arg::is_trailing_var_arg_set) {
            return;
        }
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

/// Whether a process of this command may get into a container: then it runs from a file that the
/// container cannot write to ([`crate::self_exe`]). Found by the words alone, before the command line is
/// parsed: a false alarm (`berth state run`) costs a millisecond and nothing else.
pub fn enters_a_container(argv: &[OsString]) -> bool {
    argv.iter().skip(1).any(|word| ["create", "run", "exec", "restore"].iter().any(|verb| word == verb))
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::cli::{exec::Exec, restore::Restore};

    fn rewritten(root: &Command, line: &str) -> String {
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        rewrite(root, &mut words);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    fn with_later_verbs() -> Command {
        let mut root = Cli::command()
            .subcommand(Restore::augment_args(Command::new("restore")))
            .subcommand(Exec::augment_args(Command::new("exec")));
        root.build();
        root
    }

    #[test]
    fn adds_the_second_dash_to_known_flags_only() {
        let root = with_later_verbs();
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
}
