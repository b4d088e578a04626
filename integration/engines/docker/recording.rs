//! The session that README.md shows, typed into a terminal of tmux(1). With BERTH_WRITE_RECORDING=FILE what is on the
//! screen becomes that picture; each run of the scenario checks that what it shows is still true.

use super::Docker;
use crate::image;
use crate::require;
use crate::site::{Bounded, eventually, sh};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

const COLUMNS: usize = 96;
const ROWS: usize = 34;

/// What is typed, and the words that tell that it is done.
const SESSION: [(&str, &str); 8] = [
    (
        "docker info -f 'docker {{.ServerVersion}}:{{range $name, $_ := .Runtimes}} {{$name}}{{end}}'",
        ": berth",
    ),
    ("docker run --rm --runtime=berth busybox echo hello from a container", "\nhello from a container\n"),
    ("docker run --rm -it --runtime=berth --memory=64m --cpus=0.5 --hostname=inside busybox", "/ #"),
    ("hostname; ps; grep -E 'CapEff|Seccomp:' /proc/self/status", "\nSeccomp:"),
    (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; exit",
        "67108864",
    ),
    ("docker run -d --name web --runtime=berth --read-only busybox httpd -f -p 80", ""),
    (
        "docker exec web touch /file; docker inspect web -f '{{.HostConfig.Runtime}} {{.State.Status}}'",
        "berth running",
    ),
    ("docker run --rm --runtime=berth busybox no-such-program; echo $?; docker rm -f web", "127\nweb\n"),
];

pub fn session(docker: &Docker) {
    require!(docker.word == "berth", "README shows berth");
    docker.cli(&["tag", image::NAME, "busybox"]).ok();
    let window = Window::open(docker);
    for (line, expected) in SESSION {
        let prompts = window.text().matches(PROMPT).count();
        window.line(line);
        eventually(&format!("the answer to {line}\n{}", window.text()), || {
            let text = window.text();
            let answered = text.matches(PROMPT).count() > prompts || text.ends_with("/ #");
            answered && text.contains(expected)
        });
    }
    if let Some(path) = std::env::var_os("BERTH_WRITE_RECORDING") {
        std::fs::write(path, picture(&window.capture(&["-e"]))).expect("the picture");
    }
    docker.cli(&["rmi", "busybox"]).ok();
}

/// The prompt begins a line.
const PROMPT: &str = "\n$";

/// A shell in a window of a tmux server of its own; both end when it is dropped.
struct Window {
    socket: PathBuf,
}

impl Window {
    fn open(docker: &Docker) -> Self {
        let window = Self { socket: docker.site.path("tmux") };
        let size = [COLUMNS, ROWS].map(|number| number.to_string());
        let mut command =
            window.command(&["-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1]]);
        let path = |name: &str| docker.site.path(name).display().to_string();
        // What is typed is bold. A session as anybody has it: the daemon is found by the environment.
        command.args([
            "env",
            "-u",
            "TMUX",
            "PATH=/usr/bin:/bin",
            "PS0=\\e[0m",
            "PS1=\\[\\e[32m\\]$\\[\\e[0;1m\\] ",
        ]);
        command
            .arg(format!("DOCKER_HOST=unix://{}", path("sock")))
            .arg(format!("DOCKER_CONFIG={}", path("client")));
        command.args(["bash", "--norc", "--noprofile"]).done().ok();
        eventually("a prompt", || window.text() == "$");
        // So that each prompt follows a newline.
        window.line("clear; echo");
        eventually("a prompt on the second line", || window.text() == PROMPT);
        window
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words);
        command
    }

    fn capture(&self, flags: &[&str]) -> String {
        self.command(&[&["capture-pane", "-p"], flags].concat()).done().ok()
    }

    fn text(&self) -> String {
        self.capture(&[])
    }

    fn line(&self, text: &str) {
        self.command(&["send-keys", "-l", text]).done().ok();
        self.command(&["send-keys", "Enter"]).done().ok();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        sh(&format!("tmux -S {:?} kill-server", self.socket));
    }
}

/// An SVG of a screen as `tmux capture-pane -e` prints it.
fn picture(screen: &str) -> String {
    const CELL: (f64, f64) = (8.4, 18.0);
    let lines: Vec<&str> = screen.trim_matches('\n').lines().collect();
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let (width, height) = (COLUMNS as f64 * CELL.0 + 32.0, lines.len() as f64 * CELL.1 + 60.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1d2021\"/>\n\
         <g fill=\"#504945\"><circle cx=\"20\" cy=\"18\" r=\"6\"/><circle cx=\"40\" cy=\"18\" r=\"6\"/><circle cx=\"60\" cy=\"18\" r=\"6\"/></g>\n\
         <g fill=\"#d5c4a1\" xml:space=\"preserve\">\n"
    );
    let mut style = Style::default();
    for (line, y) in lines.iter().zip((1..).map(|row| 36.0 + f64::from(row) * CELL.1)) {
        writeln!(svg, "<text x=\"16\" y=\"{y:.0}\">{}</text>", spans(line, &mut style)).expect("a string");
    }
    svg + "</g>\n</svg>\n"
}

/// What of a terminal's attributes the session uses: ECMA-48's SGR.
#[derive(Default)]
struct Style {
    bold: bool,
    green: bool,
}

impl Style {
    fn take(&mut self, code: &str) {
        match code {
            "1" => self.bold = true,
            "32" => self.green = true,
            "39" => self.green = false,
            _ => *self = Self::default(),
        }
    }

    fn attributes(&self) -> &'static str {
        match self {
            Self { green: true, .. } => " fill=\"#b8bb26\"",
            Self { bold: true, .. } => " fill=\"#fbf1c7\" font-weight=\"bold\"",
            _ => "",
        }
    }
}

/// One line; the style is carried on to the next.
fn spans(line: &str, style: &mut Style) -> String {
    let mut out = String::new();
    for (index, part) in line.split("\x1b[").enumerate() {
        let text = match part.split_once('m') {
            Some((codes, rest)) if index > 0 => {
                codes.split(';').for_each(|code| style.take(code));
                rest
            }
            _ => part,
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        match style.attributes() {
            _ if text.is_empty() => {}
            "" => out.push_str(&text),
            attributes => write!(out, "<tspan{attributes}>{text}</tspan>").expect("a string"),
        }
    }
    out
}
