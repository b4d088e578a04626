//! Where one runtime performs: a directory with bundles and files, and a state root.

use crate::harness::bundle::tag;
use crate::harness::program::{Bounded, await_condition, directory};
use crate::harness::*;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Debian's runc, where it is installed.
pub fn runc() -> Option<PathBuf> {
    ["/usr/sbin/runc", "/usr/bin/runc"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// What a command line answered.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

/// One runtime, its directory and its state root. What it left is deleted in the end.
pub struct Stage {
    program: PathBuf,
    directory: PathBuf,
    root: PathBuf,
}

impl Stage {
    pub fn new(name: &str, program: PathBuf) -> Self {
        let stage = Self {
            program,
            directory: directory().join(name),
            root: directory().join(format!("{name}.run")),
        };
        for name in ["empty", "rootless"] {
            fs::create_dir_all(stage.directory.join(name)).expect("directory of the runtime");
        }
        stage.make_bundles(name);
        for (file, text) in [
            ("process.json", json!({ "args": ["/bin/payload", "exit:6"], "cwd": "/", "env": ["PATH=/bin"] })),
            (
                "terminal.json",
                json!({ "args": ["/bin/payload", "exit:6"], "cwd": "/", "env": ["PATH=/bin"], "terminal": true }),
            ),
            ("no-cwd.json", json!({ "args": ["/bin/payload", "exit:6"] })),
            ("relative-cwd.json", json!({ "args": ["/bin/payload", "exit:6"], "cwd": "tmp" })),
            ("empty.json", json!({})),
            ("limits.json", json!({ "memory": { "limit": 1 << 26 }, "pids": { "limit": 40 } })),
        ] {
            fs::write(stage.directory.join(file), text.to_string()).expect("file of the runtime");
        }
        stage
    }

    fn make_bundles(&self, runtime: &str) {
        let sleeper = |name| (name, Bundle::new().steps(&["sleep:1000"]));
        let program = |program: &str| Bundle::new().args(&[program]);
        for (name, bundle) in [
            sleeper("sleeper"),
            sleeper("sleeper-2"),
            ("exits", Bundle::new().steps(&["exit:3"])),
            ("echoes", Bundle::new().steps(&["echo:words", "complain:complaint"])),
            ("killed", Bundle::new().steps(&["spawn:/bin/payload:raise:SIGKILL", "exit:137"])),
            ("terminated", Bundle::new().steps(&["echo:words", "exit:143"])),
            ("terminal", Bundle::new().steps(&["sleep:1000"]).set("/process/terminal", true)),
            ("missing-program", program("/no/such/program")),
            ("missing-in-path", program("no-such-program")),
            ("not-executable", program("/etc/text")),
            ("is-a-directory", program("/etc")),
            ("without-args", Bundle::new().set("/process/args", json!([]))),
            ("without-process", Bundle::new().remove("/process")),
            ("without-rootfs", Bundle::new().set("/root/path", "no-such-rootfs")),
            ("relative-cwd", Bundle::new().set("/process/cwd", "tmp")),
            ("broken", Bundle::new()),
        ] {
            let mut bundle = bundle
                .file("/etc/text", "text", 0o644)
                .file("/bin/script-without-interpreter", "#!/no/such/interpreter\n", 0o755)
                .file("/bin/text-without-shebang", "text", 0o755);
            let path = self.directory.join(name);
            fs::rename(&bundle.path, &path).expect("name the bundle");
            bundle.path = path;
            bundle = bundle.set("/linux/cgroupsPath", format!("/berth-test/{}/{runtime}-{name}", tag()));
            bundle.write();
        }
        fs::write(self.directory.join("broken/config.json"), "{ \"ociVersion\": ").expect("config.json");
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        // Their own --root may follow.
        command.arg("--root").arg(&self.root).args(words).current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    /// Runs the line; names of the directories are the same in both answers.
    #[track_caller]
    pub fn perform(&self, line: &str, stdin: Option<&str>) -> Answer {
        let mut command = self.command(&words(line));
        if let Some(text) = stdin {
            let path = self.directory.join("stdin");
            fs::write(&path, text).expect("stdin");
            command.stdin(fs::File::open(path).expect("stdin"));
        }
        let done = command.done();
        let own = self.directory.to_string_lossy().into_owned();
        let text = |text: String| text.replace(&own, "DIRECTORY");
        Answer { code: done.code(), stdout: text(done.stdout()), stderr: text(done.stderr()) }
    }

    /// Waits until the container is there; what `state` says when it does not get there.
    pub fn await_status(&self, id: &str, status: &str) -> Result<(), String> {
        let line = format!("state {id}");
        let mut answer = self.perform(&line, None);
        let is_so = || {
            answer = self.perform(&line, None);
            serde_json::from_str::<Value>(&answer.stdout).is_ok_and(|state| state["status"] == status)
        };
        if await_condition(is_so) { Ok(()) } else { Err(answer.to_string()) }
    }

    #[track_caller]
    pub fn read_json(&self, file: &str) -> Value {
        let text = fs::read_to_string(self.directory.join(file));
        serde_json::from_str(&text.unwrap_or_else(|error| panic!("{file}: {error}"))).expect("JSON")
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let words = ["delete", "--force", &id].map(str::to_owned);
            if let Err(text) = self.command(&words).start().try_wait() {
                eprintln!("cleaning up: {text}");
            }
        }
    }
}

/// Splits at spaces; quotes keep them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}
