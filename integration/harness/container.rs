//! One container of a test: its id, its bundle, its commands; gone when dropped, also after a panic.

use super::bundle::{Bundle, PAYLOAD};
use super::host;
use super::program::{Bounded, Done, Running, await_condition, berth};
use super::report::Report;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A container; the drop deletes it by force.
pub struct Container {
    pub id: String,
    pub bundle: Bundle,
    created: Option<Done>,
}

impl Container {
    pub fn new(bundle: Bundle) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("test-{}-{}", super::bundle::tag(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id, bundle, created: None }
    }

    /// `berth VERB FLAGS --bundle DIR ID`, config.json written.
    pub fn command(&self, verb: &str, flags: &[&str]) -> Command {
        self.bundle.write();
        let mut command = berth(&[verb]);
        command.args(flags).arg("--bundle").arg(&self.bundle.path).arg(&self.id);
        command
    }

    /// `berth VERB FLAGS ID WORDS`
    pub fn verb(&self, verb: &str, flags: &[&str], words: &[&str]) -> Command {
        let mut command = berth(&[verb]);
        command.args(flags).arg(&self.id).args(words);
        command
    }

    #[track_caller]
    pub fn try_create(&mut self, flags: &[&str]) -> &Done {
        let pid_file = self.pid_file();
        let mut command = self.command("create", flags);
        command.arg("--pid-file").arg(pid_file);
        self.created = Some(command.done());
        self.created.as_ref().expect("just set")
    }

    #[track_caller]
    pub fn create(&mut self) -> &mut Self {
        let done = self.try_create(&[]);
        assert!(done.status.success(), "{}", done.describe());
        self
    }

    #[track_caller]
    pub fn start(&mut self) -> &mut Self {
        self.verb("start", &[], &[]).done().ok();
        self
    }

    /// create and start.
    #[track_caller]
    pub fn up(&mut self) -> &mut Self {
        self.create().start()
    }

    /// What the container's process printed; create's own standard output was its.
    #[track_caller]
    pub fn output(&self) -> String {
        self.created.as_ref().expect("created").stdout()
    }

    #[track_caller]
    pub fn await_output(&self, words: &str) -> String {
        assert!(
            await_condition(|| self.output().contains(words)),
            "{words:?} did not come: {:?}",
            self.output()
        );
        self.output()
    }

    /// The report of a created and started payload.
    #[track_caller]
    pub fn started_report(&self) -> Report {
        assert!(
            await_condition(|| !Report::all(&self.output()).is_empty()),
            "no report in {:?}",
            self.output()
        );
        Report::parse(&self.output())
    }

    pub fn pid_file(&self) -> PathBuf {
        self.bundle.path.join("pid")
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        std::fs::read_to_string(self.pid_file()).expect("pid file").parse().expect("a pid without a newline")
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        let done = self.verb("state", &[], &[]).done().ok();
        serde_json::from_str(&done.stdout()).expect("state JSON")
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("status").to_owned()
    }

    #[track_caller]
    pub fn await_status(&self, status: &str) {
        assert!(await_condition(|| self.status() == status), "status is {} and not {status}", self.status());
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.verb("kill", &[], &[signal]).done().ok();
    }

    /// Kills, waits until it is stopped, deletes.
    #[track_caller]
    pub fn finish(&self) {
        self.kill("KILL");
        self.await_status("stopped");
        self.verb("delete", &[], &[]).done().ok();
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self) -> Done {
        self.command("run", &[]).done()
    }

    #[track_caller]
    pub fn run_in_background(&self, flags: &[&str]) -> Running {
        self.command("run", flags).start()
    }

    /// `run` of the payload with these steps and a report at the end.
    #[track_caller]
    pub fn report_after(mut self, steps: &[&str]) -> Report {
        let mut args = vec![PAYLOAD];
        args.extend(steps);
        args.push("report");
        super::bundle::set(&mut self.bundle.config, "/process/args", serde_json::json!(args));
        Report::parse(&self.run().ok().stdout())
    }

    #[track_caller]
    pub fn report(self) -> Report {
        self.report_after(&[])
    }

    /// `run` must fail before the process starts, with these words, and leave no state.
    #[track_caller]
    pub fn refused(&self, words: &str) -> Done {
        let done = self.run().fails(words);
        assert!(Report::all(&done.stdout()).is_empty(), "the process ran; {}", done.describe());
        self.verb("state", &[], &[]).done().fails("does not exist");
        done
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let result = self.verb("delete", &["--force"], &[]).start().try_wait();
        let trouble = match result {
            Ok(done) if done.status.success() => None,
            Ok(done) => Some(done.describe()),
            Err(text) => Some(text),
        };
        host::detach_mounts_below(&self.bundle.path);
        match trouble {
            Some(text) if std::thread::panicking() => eprintln!("cleaning up: {text}"),
            Some(text) => panic!("cleaning up: {text}"),
            None => {}
        }
    }
}

impl Bundle {
    pub fn container(self) -> Container {
        Container::new(self)
    }

    #[track_caller]
    pub fn report(self) -> Report {
        self.container().report()
    }

    #[track_caller]
    pub fn report_after(self, steps: &[&str]) -> Report {
        self.container().report_after(steps)
    }

    #[track_caller]
    pub fn refused(self, words: &str) -> Done {
        self.container().refused(words)
    }
}
