//! What was typed: one file per verb, thin.
//!
//! The flags are runc's, because engines send them by name; the demands are listed verb by verb in
//! runc's man pages (`runc-create.8` and so on). A verb turns its flags into the options of one
//! `container::` function, calls it and prints the result.

pub mod argv;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod global;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod run;
pub mod signal;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::container::Host;
use crate::error::{Call, Result};
use crate::{log, self_exe};
use global::Global;

/// What follows `berth ` in `--version`: go-runc and moby parse lines with these prefixes, CRI-O
/// reads them with stderr mixed in. The commit is set by the build.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("BERTH_COMMIT").unwrap_or("unknown");
    format!("version {}\ncommit: {commit}\nspec: {}", env!("CARGO_PKG_VERSION"), crate::spec::VERSION)
});

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    about = "An OCI container runtime",
    version = VERSION.as_str(),
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    override_usage = "berth [OPTIONS] <COMMAND>"
)]
pub struct Cli {
    /// Flags before the verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb with its own flags.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs, in the order of a container's life.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a container from a bundle; its process waits for start
    Create(create::Create),
    /// Start the process of a created container
    Start(start::Start),
    /// Print the state of a container as JSON
    State(state::State),
    /// Send a signal to the first process of a container
    Kill(kill::Kill),
    /// Delete a container and all that was made for it
    Delete(delete::Delete),
    /// Create a container, start it and wait for it
    Run(run::Run),
    /// List the containers of this root
    List(list::List),
    /// Write a config.json to start from
    Spec(spec::Spec),
}

impl Verb {
    /// Runs the verb; `Ok` carries the exit status.
    fn execute(&self, host: &Host) -> Result<u8> {
        match self {
            Self::Create(verb) => verb.execute(host),
            Self::Start(verb) => verb.execute(host),
            Self::State(verb) => verb.execute(host),
            Self::Kill(verb) => verb.execute(host),
            Self::Delete(verb) => verb.execute(host),
            Self::Run(verb) => verb.execute(host),
            Self::List(verb) => verb.execute(host),
            Self::Spec(verb) => verb.execute(),
        }
        .map(Status::into_inner)
    }
}

/// Exit status of a verb: most have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    /// Done; exits 0.
    pub const DONE: Self = Self(0);

    fn into_inner(self) -> u8 {
        self.0
    }
}

impl From<u8> for Status {
    fn from(status: u8) -> Self {
        Self(status)
    }
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os().collect()))
}

/// Parses, opens the log, runs the verb, prints its error once.
fn run(argv: Vec<OsString>) -> u8 {
    // Before anything else, or it would be done twice. A failure is told once the log is open.
    let sealed = if argv::enters_a_container(&argv) { self_exe::ensure_unwritable() } else { Ok(()) };
    let argv = argv::with_double_dashes(argv);
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error, &argv),
    };
    if let Err(error) = log::open(&cli.global.log()) {
        log::error(&error);
        return 1;
    }
    match sealed.and_then(|()| cli.global.host()).and_then(|host| cli.verb.execute(&host)) {
        Ok(status) => status,
        Err(error) => {
            log::error(&error);
            1
        }
    }
}

/// Writes to stdout; a reader that went away is an error like any other, not a panic.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).call(|| "write(stdout)".into())
}
