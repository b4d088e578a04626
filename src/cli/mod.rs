//! What was typed: one file per verb, thin.
//!
//! The flags are runc's, because engines send them by name; the demands are listed verb by verb in
//! runc's man pages (`runc-create.8` and so on). A verb turns its flags into the options of one
//! `container::` function, calls it and prints the result.

pub mod argv;
pub mod check;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod direct;
pub mod events;
pub mod exec;
pub mod features;
pub mod global;
pub mod kill;
pub mod list;
pub mod mounts;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod run;
pub mod seccomp;
pub mod signal;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;
mod usage;

#[cfg(test)]
mod documents;

use std::ffi::OsString;
use std::io::Write;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::container::Host;
use crate::error::{Call, Result};
use crate::sys::process;
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
    subcommand_required = true,
    args_override_self = true,
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
///
/// The flags of a verb are only laid out when it is the one that was typed, or its help is asked for: those
/// of all cost a tenth of a millisecond.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
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
    /// Run one more process in a container
    Exec(Box<exec::Exec>),
    /// List the containers of this root
    List(list::List),
    /// Stop all processes of a container
    Pause(pause::Pause),
    /// Let the processes of a paused container go on
    Resume(pause::Resume),
    /// Print the processes of a container
    Ps(ps::Ps),
    /// Change the limits of a container
    Update(Box<update::Update>),
    /// Print what a container uses, and when it runs out of memory
    Events(events::Events),
    /// Write the processes of a container to an image
    Checkpoint(Box<checkpoint::Checkpoint>),
    /// Make a container from an image
    Restore(Box<restore::Restore>),
    /// Change what is mounted in a container
    Mounts(mounts::Mounts),
    /// Write a config.json to start from
    Spec(spec::Spec),
    /// Say what is wrong with a bundle, and what this host lacks for it
    Check(check::Check),
    /// Print what berth can do as JSON
    Features(features::Features),
    /// Print what a seccomp profile does
    Seccomp(seccomp::Seccomp),
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
            Self::Exec(verb) => verb.execute(host),
            Self::List(verb) => verb.execute(host),
            Self::Pause(verb) => verb.execute(host),
            Self::Resume(verb) => verb.execute(host),
            Self::Ps(verb) => verb.execute(host),
            Self::Update(verb) => verb.execute(host),
            Self::Events(verb) => verb.execute(host),
            Self::Checkpoint(verb) => verb.execute(host),
            Self::Restore(verb) => verb.execute(host),
            Self::Mounts(verb) => verb.execute(host),
            Self::Spec(verb) => verb.execute(),
            Self::Check(verb) => verb.execute(host),
            Self::Features(verb) => verb.execute(),
            Self::Seccomp(verb) => verb.execute(),
        }
        .map(Status::into_inner)
    }

    /// What berth exits with when it fails itself: exec's status is the process's, so its own failure
    /// is a status that programs seldom use (runc exec).
    fn failure(&self) -> u8 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
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
pub fn main() -> u8 {
    match process::prepare() {
        Ok(()) => run(std::env::args_os().collect()),
        // There may be no standard error to say it on.
        Err(_) => 1,
    }
}

/// Parses, opens the log, runs the verb, prints its error once.
fn run(argv: Vec<OsString>) -> u8 {
    // Before anything else, or it would be done twice. A failure is told once the log is open.
    let sealed = if argv::enters_a_container(&argv) { self_exe::ensure_unwritable() } else { Ok(()) };
    let cli = match direct::read(&argv) {
        Some(cli) => cli,
        None => {
            let argv = argv::normalize(argv);
            match Cli::try_parse_from(&argv) {
                Ok(cli) => cli,
                Err(error) => return usage::answer(&error, &argv),
            }
        }
    };
    if let Err(error) = log::open(&cli.global.log()) {
        log::error(&error);
        return 1;
    }
    match sealed.and_then(|()| cli.global.host()).and_then(|host| cli.verb.execute(&host)) {
        Ok(status) => status,
        Err(error) => {
            log::error(&error);
            cli.verb.failure()
        }
    }
}

/// Writes to stdout; a reader that went away is an error like any other, not a panic.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).call(|| "write(stdout)".into())
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    fn parse(line: &str) -> Cli {
        let words = line.split_whitespace().map(OsString::from);
        let argv = argv::normalize(std::iter::once("berth".into()).chain(words).collect());
        Cli::try_parse_from(&argv).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Flags of a verb that is not offered yet.
    fn parse_later<T: Args>(line: &str) -> T {
        let command = T::augment_args(Command::new("verb").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace());
        T::from_arg_matches(&matches.unwrap_or_else(|error| panic!("{line}: {error}"))).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        let mut root = Cli::command();
        for (name, augment) in [
            ("exec", exec::Exec::augment_args as fn(Command) -> Command),
            ("ps", ps::Ps::augment_args),
            ("pause", pause::Pause::augment_args),
            ("resume", pause::Resume::augment_args),
            ("update", update::Update::augment_args),
            ("events", events::Events::augment_args),
            ("checkpoint", checkpoint::Checkpoint::augment_args),
            ("restore", restore::Restore::augment_args),
            ("features", features::Features::augment_args),
        ] {
            if root.find_subcommand(name).is_none() {
                root = root.subcommand(augment(Command::new(name)));
            }
        }
        root.debug_assert();
    }

    /// A verb's sentence stands at the verb for the list, and at its flags, which are laid out later.
    #[test]
    fn a_verb_says_the_same_in_the_list_and_in_its_own_help() {
        use clap::CommandFactory as _;
        let (listed, mut built) = (Cli::command(), Cli::command());
        built.build();
        for verb in listed.get_subcommands() {
            let full = built.find_subcommand(verb.get_name()).unwrap();
            assert_eq!(verb.get_about().unwrap().to_string(), full.get_about().unwrap().to_string());
        }
    }

    #[test]
    fn engines_command_lines_are_understood() {
        for line in [
            // containerd's shim, through go-runc
            "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup create \
             --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty/pty.sock x",
            "--root /r --log /l --log-format json --rootless=true start x",
            "--root /r state x",
            "--root /r kill --all x 9",
            "--root /r kill x 15",
            "--root /r delete --force x",
            "--root /r --criu /usr/sbin/criu delete x",
            // conmon, for Podman and CRI-O
            "--root=/r --systemd-cgroup create --bundle /b --pid-file /p --no-pivot --no-new-keyring x",
            "--cgroup-manager=disabled --log-level error --log=/l --log-format=json create -b /b --preserve-fds 3 x",
            // BuildKit
            "--log /l --log-format json run --bundle /b --keep --no-pivot x",
            "--debug run -d --pidfd-socket /s --no-subreaper x",
            "run -detach -bundle /b x",
            // by Go programs that spell every flag out
            "--systemd-cgroup=false --cgroup-manager cgroupfs run --detach=true --keep=0 -no-pivot=1 --bundle=/b x",
            "kill --all=true x KILL",
            // by hand
            "kill x KILL",
            "kill -r ^a.*",
            "list -q",
            "list --format json",
            "delete -rf x",
            "spec --rootless -b /b",
        ] {
            parse(line);
        }
    }

    #[test]
    fn create_and_run_pass_on_what_was_typed() {
        let Verb::Run(run) = parse("run -d --keep -b /b --pid-file p --preserve-fds 2 --no-pivot x").verb
        else {
            panic!("not run")
        };
        let options = run.options().unwrap();
        assert!(options.detach && options.keep && !options.no_subreaper);
        assert_eq!(options.create.bundle, std::path::Path::new("/b"));
        assert_eq!(options.create.pid_file.as_deref(), Some(std::path::Path::new("p")));
        assert_eq!(options.create.preserve_fds, 2);
        assert!(options.create.no_pivot && !options.create.no_new_keyring);
        let Verb::Create(create) = parse("create x").verb else { panic!("not create") };
        assert_eq!(create.flags.options().unwrap().bundle, std::env::current_dir().unwrap());
        let Verb::Kill(kill) = parse("kill x").verb else { panic!("not kill") };
        assert_eq!(kill.signal, 15);
    }

    #[test]
    fn the_flags_of_later_verbs_are_runcs() {
        let exec: exec::Exec = parse_later(
            "--console-socket /s --pidfd-socket /s --cwd / -e A=b --env C=d -t -u 1:2 -g 3 --additional-gids 4 -d \
             --pid-file /p --process-label l --apparmor a --no-new-privs -c CAP_KILL --cap CAP_CHOWN \
             --preserve-fds 1 --cgroup a --ignore-paused x ls -l --env",
        );
        assert_eq!(exec.env, ["A=b", "C=d"]);
        assert_eq!(exec.user.as_deref(), Some("1:2"));
        assert_eq!(exec.additional_gids, [3, 4]);
        assert_eq!(exec.command, ["ls", "-l", "--env"]);
        let exec: exec::Exec = parse_later("--process /p.json --detach --pid-file /p x");
        assert!(exec.detach && exec.command.is_empty());
        let ps: ps::Ps = parse_later("-f json x");
        assert_eq!(ps.format, list::ListFormat::Json);
        let ps: ps::Ps = parse_later("x -e -f json");
        assert_eq!(ps.options, ["-e", "-f", "json"]);
        let update: update::Update = parse_later(
            "--blkio-weight 10 --cpu-period 1 --cpu-quota -1 --cpu-burst 1 --cpu-share 2 --cpu-rt-period 1 \
             --cpu-rt-runtime 1 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-idle 1 --memory 1m --memory-reservation 1 \
             --memory-swap -1 --kernel-memory 1 --kernel-memory-tcp 1 --pids-limit -1 --l3-cache-schema a \
             --mem-bw-schema b x",
        );
        assert_eq!(
            (update.memory, update.memory_swap, update.cpu_quota),
            (Some(1 << 20), Some(-1), Some(-1))
        );
        parse_later::<update::Update>("-r - x");
        parse_later::<events::Events>("--stats --interval 1s x");
        parse_later::<checkpoint::Checkpoint>(
            "--image-path /i --work-path /w --parent-path ../p --leave-running --tcp-established --ext-unix-sk \
             --shell-job --lazy-pages --status-fd 3 --page-server 1.2.3.4:5 --file-locks --pre-dump \
             --manage-cgroups-mode soft --empty-ns network --auto-dedup --tcp-close --tcp-skip-in-flight \
             --link-remap x",
        );
        parse_later::<restore::Restore>(
            "--console-socket /s --image-path /i --work-path /w --tcp-established --ext-unix-sk --shell-job \
             --file-locks --manage-cgroups-mode strict -b /b -d --pid-file /p --no-subreaper --no-pivot \
             --empty-ns network --auto-dedup --lazy-pages --lsm-profile apparmor:x --lsm-mount-context c \
             --preserve-fds 1 --no-new-keyring x",
        );
        parse_later::<pause::Pause>("x");
        parse_later::<pause::Resume>("x");
        parse_later::<features::Features>("");
    }

    #[test]
    fn the_version_has_the_lines_that_engines_parse() {
        let error = Cli::try_parse_from(["berth", "--version"]).unwrap_err();
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("berth version "), "{text}");
        assert!(lines[1].starts_with("commit: "), "{text}");
        assert_eq!(lines[2..], ["spec: 1.3.0"]);
    }
}
