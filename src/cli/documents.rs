//! Shell completions and man pages: made from the command line itself and committed, so that packages have
//! them and the program does not carry them. A test says when they are out of date;
//! `BERTH_WRITE_DOCUMENTS=1 cargo test --lib committed_documents` writes them anew (`make documents`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// What a page says after its flags, in roff: `(verb, text)`, without a verb for `berth` itself.
const SECTIONS: [(&str, &str); 21] = [
    ("", include_str!("../../docs/man/sections/berth.roff")),
    ("check", include_str!("../../docs/man/sections/check.roff")),
    ("checkpoint", include_str!("../../docs/man/sections/checkpoint.roff")),
    ("create", include_str!("../../docs/man/sections/create.roff")),
    ("delete", include_str!("../../docs/man/sections/delete.roff")),
    ("events", include_str!("../../docs/man/sections/events.roff")),
    ("exec", include_str!("../../docs/man/sections/exec.roff")),
    ("features", include_str!("../../docs/man/sections/features.roff")),
    ("kill", include_str!("../../docs/man/sections/kill.roff")),
    ("list", include_str!("../../docs/man/sections/list.roff")),
    ("mounts", include_str!("../../docs/man/sections/mounts.roff")),
    ("pause", include_str!("../../docs/man/sections/pause.roff")),
    ("ps", include_str!("../../docs/man/sections/ps.roff")),
    ("restore", include_str!("../../docs/man/sections/restore.roff")),
    ("resume", include_str!("../../docs/man/sections/resume.roff")),
    ("run", include_str!("../../docs/man/sections/run.roff")),
    ("seccomp", include_str!("../../docs/man/sections/seccomp.roff")),
    ("spec", include_str!("../../docs/man/sections/spec.roff")),
    ("start", include_str!("../../docs/man/sections/start.roff")),
    ("state", include_str!("../../docs/man/sections/state.roff")),
    ("update", include_str!("../../docs/man/sections/update.roff")),
];

/// The whole command line with the flags of every verb laid out.
fn root() -> Command {
    // That of `--version` has several lines.
    let mut root = Cli::command().version(env!("CARGO_PKG_VERSION"));
    root.build();
    root
}

fn completions(root: &Command) -> BTreeMap<PathBuf, String> {
    let shells = [(Shell::Bash, "berth.bash"), (Shell::Zsh, "_berth"), (Shell::Fish, "berth.fish")];
    let written = shells.map(|(shell, name)| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut root.clone(), "berth", &mut text);
        let text = String::from_utf8(text).unwrap();
        let text = match shell {
            Shell::Bash => bash_with_ids(root, &text),
            Shell::Zsh => zsh_with_ids(&text),
            _ => fish_with_ids(root, &text),
        };
        (Path::new("completions").join(name), text)
    });
    written.into()
}

/// How the help of an argument begins that is a container which is there.
const CONTAINER: &str = "The container";

/// The verbs that take a container that is there, `mounts add` among them, with their flags.
fn verbs_on_containers(root: &Command) -> Vec<(String, &Command)> {
    let is_id =
        |arg: &Arg| arg.is_positional() && arg.get_help().is_some_and(|help| help.to_string() == CONTAINER);
    let mut verbs = Vec::new();
    for verb in root.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = verb.get_name();
        verbs.push((name.to_owned(), verb));
        verbs.extend(verb.get_subcommands().map(|below| (format!("{name} {}", below.get_name()), below)));
    }
    verbs.retain(|(_, verb)| verb.get_arguments().any(is_id));
    verbs
}

/// The flags of a command whose value is the next word, between blanks.
fn flags_with_values(command: &Command) -> String {
    let flags = command.get_arguments().filter(|arg| arg.get_action().takes_values());
    let spelled = flags.flat_map(|arg| {
        let short = arg.get_short().map(|letter| format!("-{letter}"));
        [short, arg.get_long().map(|name| format!("--{name}"))].into_iter().flatten()
    });
    format!(" {} ", spelled.collect::<Vec<_>>().join(" "))
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "clap_complete writes no {from:?}");
    text.replace(from, to)
}

/// What clap offers, and the ids where a container is expected.
fn bash_with_ids(root: &Command, text: &str) -> String {
    let verbs = verbs_on_containers(root);
    let cases: String = verbs
        .iter()
        .map(|(name, verb)| {
            format!("                \"{name}\") values=\"{}\" ;;\n", flags_with_values(verb))
        })
        .collect();
    let ids = include_str!("../../completions/ids/berth.bash")
        .replace("                CASES\n", &cases)
        .replace("GLOBAL", &flags_with_values(root));
    let (functions, registration) = text.split_at(text.rfind("\nif [[ \"${BASH_VERSINFO[0]}\"").unwrap() + 1);
    format!("{functions}{ids}{}", registration.replace("-F _berth ", "-F _berth_and_ids "))
}

fn zsh_with_ids(text: &str) -> String {
    let outer = "        words=($line[1] \"${words[@]}\")\n        (( CURRENT += 1 ))\n        curcontext=\"${curcontext%:*:*}:berth-command-$line[1]:\"\n";
    let text =
        replace_once(text, outer, &format!("        local berth_root=${{(Q)opt_args[--root]}}\n{outer}"));
    let mut text =
        text.replace(&format!(":id -- {CONTAINER}:_default"), &format!(":id -- {CONTAINER}:_berth_ids"));
    // A colon ends the name of a value, and what follows it would be taken for how to complete it.
    for name in ["UID[:GID]", "ADDRESS:PORT", "TYPE:NAME"] {
        text = text.replace(&format!("]:{name}:"), &format!("]:{}:", name.replace(':', "\\:")));
    }
    let registration = "\nif [ \"$funcstack[1]\" = \"_berth\" ]; then";
    replace_once(
        &text,
        registration,
        &format!("\n{}{registration}", include_str!("../../completions/ids/_berth")),
    )
}

fn fish_with_ids(root: &Command, text: &str) -> String {
    let mut text = format!("{text}\n{}", include_str!("../../completions/ids/berth.fish"));
    for (name, _) in verbs_on_containers(root) {
        let condition = match name.split_once(' ') {
            Some((verb, below)) => {
                format!("__fish_berth_using_subcommand {verb}; and __fish_seen_subcommand_from {below}")
            }
            None => format!("__fish_berth_using_subcommand {name}"),
        };
        text += &format!("complete -c berth -n \"{condition}\" -f -a \"(__fish_berth_ids)\"\n");
    }
    text
}

/// One page for berth and one for each verb. A verb's own verbs are on its page.
fn pages(root: &Command) -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::from([page(root, "berth", "")]);
    for verb in root.get_subcommands().filter(|verb| verb.get_name() != "help") {
        pages.extend([page(verb, &format!("berth-{}", verb.get_name()), verb.get_name())]);
    }
    pages
}

fn page(command: &Command, name: &str, verb: &str) -> (PathBuf, String) {
    let source = concat!("berth ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name).section("8").source(source).manual("berth");
    let mut text = Vec::new();
    man.render_title(&mut text).unwrap();
    let heading = |text: &mut Vec<u8>, title: &str| text.extend(format!(".SH {title}\n").bytes());
    heading(&mut text, "NAME");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    text.extend(format!("{} \\- {about}\n", name.replace('-', "\\-")).bytes());
    man.render_synopsis_section(&mut text).unwrap();
    man.render_options_section(&mut text).unwrap();
    if command.has_subcommands() {
        heading(&mut text, "COMMANDS");
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let about = below.get_about().map(ToString::to_string).unwrap_or_default();
        if verb.is_empty() {
            text.extend(format!(".TP\n\\fB{name}\\-{}\\fR(8)\n{about}\n", below.get_name()).bytes());
            continue;
        }
        let man = Man::new(below.clone());
        let mut details = format!(".SS {}\n{about}\n.PP\n", below.get_name()).into_bytes();
        man.render_synopsis_section(&mut details).unwrap();
        man.render_options_section(&mut details).unwrap();
        let details = String::from_utf8(details).unwrap();
        text.extend(details.replace(".SH SYNOPSIS\n", "").replace(".SH OPTIONS\n", ".PP\n").bytes());
    }
    if let Some((_, section)) = SECTIONS.iter().find(|(of, _)| *of == verb) {
        text.extend(section.bytes());
    }
    heading(&mut text, "SEE ALSO");
    let others = if verb.is_empty() { "" } else { "\\fBberth\\fR(8), " };
    text.extend(format!("{others}\\fBrunc\\fR(8), \\fBcrun\\fR(1), the OCI runtime specification\n").bytes());
    (Path::new("docs/man").join(format!("{name}.8")), String::from_utf8(text).unwrap())
}

#[test]
fn committed_documents_are_those_of_the_command_line() {
    let root = root();
    let documents: BTreeMap<PathBuf, String> = completions(&root).into_iter().chain(pages(&root)).collect();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BERTH_WRITE_DOCUMENTS").is_some() {
        for (path, text) in &documents {
            std::fs::write(repository.join(path), text).unwrap();
        }
    }
    for (path, text) in &documents {
        let committed = std::fs::read_to_string(repository.join(path)).unwrap_or_default();
        assert!(committed == *text, "{} is out of date: make documents", path.display());
    }
    // A verb that is gone leaves no page.
    for directory in ["completions", "docs/man"] {
        for entry in std::fs::read_dir(repository.join(directory)).unwrap() {
            let entry = entry.unwrap();
            let path = Path::new(directory).join(entry.file_name());
            assert!(
                documents.contains_key(&path) || entry.path().is_dir(),
                "{} is left over",
                path.display()
            );
        }
    }
}

#[test]
fn every_verb_has_a_page_and_every_section_a_verb() {
    let root = root();
    let pages = pages(&root);
    for verb in root.get_subcommands().map(Command::get_name).filter(|name| *name != "help") {
        assert!(pages.contains_key(Path::new(&format!("docs/man/berth-{verb}.8"))), "{verb}");
    }
    for (verb, section) in SECTIONS {
        assert!(verb.is_empty() || root.find_subcommand(verb).is_some(), "{verb}");
        assert!(section.starts_with(".SH DESCRIPTION\n") && section.ends_with('\n'), "{verb}: a section");
    }
    for (page, text) in pages {
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "SEE ALSO"] {
            assert!(text.contains(&format!(".SH {heading}\n")), "{}: {heading}", page.display());
        }
    }
}

/// What bash offers for the last of the words, where `berth` prints how it was called in place of ids.
fn offered(words: &str, last: usize) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/berth.bash");
    let words = format!("COMP_WORDS=({words}); COMP_CWORD={last}; word=${{COMP_WORDS[{last}]}}");
    let berth = "berth() { [ \"$*\" = 'list --quiet' ] && printf '%s\\n' web db || echo \"$1:$2\"; }";
    let line = format!(
        "source {script}; {berth}; {words}; _berth_and_ids berth \"$word\" \"${{COMP_WORDS[{last}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
    );
    let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn bash_offers_verbs_and_their_flags() {
    assert_eq!(offered("berth cr", 1), "create");
    assert_eq!(offered("berth exec --ign", 2), "--ignore-paused");
    assert_eq!(offered("berth list --format ''", 3), "table json");
    assert_eq!(offered("berth mounts ''", 2), "-h --help add remove help");
}

#[test]
fn bash_offers_the_ids_of_the_root() {
    for line in
        ["start", "kill", "delete -f", "exec --tty --user 5", "exec -d", "ps", "mounts add", "--debug state"]
    {
        let words = format!("berth {line} ''");
        assert_eq!(offered(&words, words.split(' ').count() - 1), "web db", "{line}");
    }
    assert_eq!(offered("berth start w", 2), "web");
    // What a state.json of somebody else's says is no command of ours.
    assert_eq!(offered("berth --root /\\$\\(echo\\ hi\\) start ''", 4), "--root:/$(echo hi)");
    assert_eq!(offered("berth --root /r start ''", 4), "--root:/r");
    assert_eq!(offered("berth --root = /r start ''", 5), "--root:/r");
    // A second word, the value of a flag, a name that is new.
    for (words, last) in
        [("berth kill web ''", 3), ("berth exec --user ''", 3), ("berth create ''", 2), ("berth start -", 2)]
    {
        assert!(!offered(words, last).contains("db"), "{words}");
    }
}

#[test]
fn every_shell_offers_ids_to_the_same_verbs() {
    let root = root();
    let verbs = verbs_on_containers(&root);
    let names: Vec<&str> = verbs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "start",
            "state",
            "kill",
            "delete",
            "exec",
            "pause",
            "resume",
            "ps",
            "update",
            "events",
            "checkpoint",
            "mounts add",
            "mounts remove"
        ]
    );
    let written = completions(&root);
    let count =
        |name: &str, what: &str| written[Path::new("completions").join(name).as_path()].matches(what).count();
    assert_eq!(count("_berth", &format!(":id -- {CONTAINER}:_berth_ids'")), names.len());
    assert_eq!(count("berth.fish", "-f -a \"(__fish_berth_ids)\""), names.len());
}
