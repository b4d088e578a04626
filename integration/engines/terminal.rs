//! A command on a real terminal: script(1) holds the pty, the test types and looks.

use crate::site::{Site, eventually, slow, wait};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One command that is being typed to.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: PathBuf,
}

impl Terminal {
    /// A shell line on a terminal of 40 rows and 100 columns.
    pub fn open(site: &Site, line: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let screen = site.path(&format!("screen-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let file = File::options().write(true).create_new(true).open(&screen).expect("the screen");
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(format!("stty rows 40 cols 100; {line}"))
            .arg("/dev/null")
            .stdin(Stdio::piped())
            .stderr(file.try_clone().expect("the screen"))
            .stdout(file)
            .spawn()
            .expect("script(1)");
        let keys = child.stdin.take().expect("a piped standard input");
        Self { child, keys, screen }
    }

    /// All that was on the screen so far. What was typed is there too: the terminal echoes it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.screen).expect("the screen")).replace("\r\n", "\n")
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("type");
    }

    #[track_caller]
    pub fn await_text(&self, words: &str) {
        eventually(&format!("{words:?} on the terminal"), || self.text().contains(words));
    }

    /// The exit code of the command, which has to end by itself, and the whole screen.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let status = wait(&mut self.child, Duration::from_secs(30) * slow());
        let text = self.text();
        let status = status.unwrap_or_else(|| panic!("the command on the terminal does not end:\n{text}"));
        (status.code(), text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            self.child.wait().expect("wait for script(1)");
        }
    }
}
