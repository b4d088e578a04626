//! A real terminal: a shell in a window of tmux(1), with a server of the test's own.

use super::program::{Bounded, await_condition, directory};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A window with a shell in it; the server ends when it is dropped.
pub struct Window {
    socket: PathBuf,
}

impl Window {
    pub fn is_possible() -> bool {
        ["/usr/bin/tmux", "/bin/tmux"].iter().any(|path| std::path::Path::new(path).exists())
    }

    /// 80 columns, 24 rows.
    #[track_caller]
    pub fn open() -> Self {
        let window = Self { socket: directory().join("tmux") };
        let mut command = window.command(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        // As words: as one it would go through a shell, and bash takes PS1 away.
        command.args(["env", "PS1=outside$ ", "ENV=", "/bin/sh"]);
        command.done().ok();
        window.await_text("outside$");
        window
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words).stdin(Stdio::null());
        command
    }

    /// All that was on the screen, with what has scrolled away.
    #[track_caller]
    pub fn text(&self) -> String {
        self.command(&["capture-pane", "-p", "-J", "-S", "-"]).done().ok().stdout()
    }

    #[track_caller]
    pub fn await_text(&self, words: &str) {
        let seen = await_condition(|| self.text().contains(words));
        assert!(seen, "{words:?} did not come:\n{}", self.text().trim_end());
    }

    /// Types the text and Enter.
    #[track_caller]
    pub fn line(&self, text: &str) {
        self.command(&["send-keys", "-l", text]).done().ok();
        self.key("Enter");
    }

    /// A key as tmux calls it: `C-c`.
    #[track_caller]
    pub fn key(&self, name: &str) {
        self.command(&["send-keys", name]).done().ok();
    }

    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.command(&["resize-window", "-x", &columns, "-y", &rows]).done().ok();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let Err(text) = self.command(&["kill-server"]).start().try_wait() {
            eprintln!("cleaning up: {text}");
        }
        // The server is a daemon: it came to this test, and ends a moment after it was told to.
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let is_gone = || !super::host::descendants(own).iter().any(|(_, name)| name.starts_with("tmux"));
        if !await_condition(is_gone) {
            eprintln!("cleaning up: tmux does not end");
        }
    }
}
