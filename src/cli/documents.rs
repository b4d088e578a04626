//! Shell completions and man pages: made from the command line itself and committed, so that packages have
//! them and the program does not carry them. A test says when they are out of date;
//! `BERTH_WRITE_DOCUMENTS=1 cargo test --lib committed_documents` writes them anew (`make documents`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// What a page says after its flags, in roff: `(verb, text)`, without a verb for `berth` itself.
const SECTIONS: [(&str, &str); 9] = [
    ("", include_str!("../../docs/man/sections/berth.roff")),
    ("check", include_str!("../../docs/man/sections/check.roff")),
    ("create", include_str!("../../docs/man/sections/create.roff")),
    ("delete", include_str!("../../docs/man/sections/delete.roff")),
    ("exec", include_str!("../../docs/man/sections/exec.roff")),
    ("kill", include_str!("../../docs/man/sections/kill.roff")),
    ("run", include_str!("../../docs/man/sections/run.roff")),
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
        (Path::new("completions").join(name), String::from_utf8(text).unwrap())
    });
    written.into()
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
        assert!(section.starts_with(".SH ") && section.ends_with('\n'), "{verb}: a section");
    }
}

/// As a shell calls it: the words so far, and what it offers for the last.
#[test]
fn bash_offers_verbs_and_their_flags() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/berth.bash");
    let offered = |words: &str, last: usize| {
        let words = format!("COMP_WORDS=({words}); COMP_CWORD={last}; word=${{COMP_WORDS[{last}]}}");
        let line = format!(
            "source {script}; {words}; _berth berth \"$word\" \"${{COMP_WORDS[{last}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offered("berth cr", 1), "create");
    assert_eq!(offered("berth exec --ign", 2), "--ignore-paused");
    assert_eq!(offered("berth list --format ''", 3), "table json");
}
