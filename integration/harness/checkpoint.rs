//! A container that is written to an image by CRIU and made again from it.

use super::bundle::Bundle;
use super::container::Container;
use super::program::{Bounded, Done, await_condition};
use super::skip;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where `integration/dependencies` puts a CRIU for kernels that are too new for Debian's; else $PATH.
pub fn path() -> String {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/criu");
    format!("{own}:{}", std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
}

/// Skips where CRIU does not work, by its own words.
pub fn require_criu() {
    let check = Command::new("criu").arg("check").env("PATH", path()).output();
    let reason = match &check {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let told: Vec<&str> = reason.lines().filter(|line| !line.trim().is_empty()).collect();
    skip(format!("criu does not work here: {}", told.join("; ")));
}

/// A container with a volume at /vol, and the directory of its image.
pub struct Case {
    pub container: Container,
    pub volume: PathBuf,
    pub image: PathBuf,
}

impl Case {
    pub fn new(bundle: Bundle) -> Self {
        require_criu();
        let volume = bundle.path.join("volume");
        fs::create_dir(&volume).expect("volume");
        let image = bundle.path.join("image");
        let container = bundle.bind(&volume, "/vol", &["bind"]).container();
        Self { container, volume, image }
    }

    pub fn counting() -> Self {
        Self::new(Bundle::new().steps(&["count:/vol/count"]))
    }

    pub fn checkpoint(&self, flags: &[&str]) -> Done {
        let mut command = self.container.verb("checkpoint", flags, &[]);
        command.arg("--image-path").arg(&self.image).env("PATH", path());
        command.done()
    }

    pub fn restore_command(&self, flags: &[&str]) -> Command {
        let mut command = self.container.command("restore", flags);
        command.arg("--image-path").arg(&self.image).arg("--pid-file").arg(self.container.pid_file());
        command.env("PATH", path());
        command
    }

    pub fn restore(&self, flags: &[&str]) -> Done {
        let mut all = vec!["--detach"];
        all.extend(flags);
        self.restore_command(&all).done()
    }

    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(self.volume.join("count")).unwrap_or_default();
        text.parse().unwrap_or(0)
    }

    /// The number grows above `than`.
    #[track_caller]
    pub fn await_more(&self, than: u64) {
        assert!(
            await_condition(|| self.count() > than),
            "the count stays at {} ({than} before)",
            self.count()
        );
    }

    /// Started and counting.
    #[track_caller]
    pub fn up(&mut self) {
        self.container.up();
        self.await_more(2);
    }

    #[track_caller]
    pub fn is_gone(&self) {
        self.container.verb("state", &[], &[]).done().fails("does not exist");
    }

    /// Runs, with the pid of the pid file, and `exec` gets in.
    #[track_caller]
    pub fn is_running(&self) {
        let state = self.container.state();
        assert_eq!(state["status"], "running", "{state}");
        assert_eq!(state["pid"], self.container.pid(), "{state}");
        let exec = self.container.verb("exec", &[], &["/bin/payload", "echo:inside"]).done().ok();
        assert_eq!(exec.stdout(), "inside\n");
    }
}
