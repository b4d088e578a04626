//! `berth exec`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::Status;
use super::direct::{Direct, Flag, Flags, operand, text};
use crate::container::exec::{Changes, ExecOptions, ProcessSource};
use crate::container::{self, Host};
use crate::error::{Context, Error, Result};

/// Run one more process in a container
#[derive(Clone, Debug, Default, Args)]
pub struct Exec {
    /// Unix socket that receives the descriptor of the terminal's master
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set an environment variable, NAME=VALUE
    #[arg(short, long, value_name = "VARIABLE")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// uid, or uid:gid
    #[arg(short, long, value_name = "UID[:GID]", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// A further group
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// File with the process object of a config.json
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return once the process is started
    #[arg(short, long)]
    pub detach: bool,
    /// File that gets the pid of the process
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Pass N more descriptors to the process, after stdio and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Run in this sub-cgroup of the container, [CONTROLLER:]PATH
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Vec<String>,
    /// Allow a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// The command; all that follows the id is its own
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

impl Flags for Exec {
    fn take(&mut self, flag: &mut Flag<'_, '_>) -> Option<()> {
        match flag.name {
            "--console-socket" => self.console_socket = Some(flag.path()?),
            "--pidfd-socket" => self.pidfd_socket = Some(flag.path()?),
            "--cwd" => self.cwd = Some(flag.path()?),
            "-e" | "--env" => self.env.push(flag.text()?),
            "-t" | "--tty" => self.tty = flag.on()?,
            "-u" | "--user" => self.user = Some(flag.text()?),
            "-g" | "--additional-gids" => self.additional_gids.push(flag.parsed()?),
            "-p" | "--process" => self.process = Some(flag.path()?),
            "-d" | "--detach" => self.detach = flag.on()?,
            "--pid-file" => self.pid_file = Some(flag.path()?),
            "--process-label" => self.process_label = Some(flag.text()?),
            "--apparmor" => self.apparmor = Some(flag.text()?),
            "--no-new-privs" => self.no_new_privs = flag.on()?,
            "-c" | "--cap" => self.cap.push(flag.text()?),
            "--preserve-fds" => self.preserve_fds = flag.parsed()?,
            "--cgroup" => self.cgroup.push(flag.text()?),
            "--ignore-paused" => self.ignore_paused = flag.on()?,
            _ => return None,
        }
        Some(())
    }
}

impl Direct for Exec {
    fn id(&mut self) -> &mut String {
        &mut self.id
    }

    fn operands(&mut self, words: &[OsString]) -> Option<()> {
        let (id, command) = words.split_first()?;
        self.id = operand(id)?;
        if let Some((program, arguments)) = command.split_first() {
            self.command.push(operand(program)?);
            for argument in arguments {
                self.command.push(text(argument)?);
            }
        }
        Some(())
    }
}

impl Exec {
    /// What the flags mean. What only an exec can find wrong with them, the missing command among it, is a
    /// failure of exec's own (255) and not one of the command line (1), as with runc.
    fn options(&self) -> Result<ExecOptions> {
        let process = match &self.process {
            Some(file) => ProcessSource::File(file.clone()),
            None => ProcessSource::Changes(Box::new(Changes {
                args: self.command.clone(),
                cwd: self.cwd.clone(),
                env: self.env.clone(),
                user: self.user.as_deref().map(parse_user).transpose()?,
                additional_gids: self.additional_gids.clone(),
                selinux_label: self.process_label.clone(),
                apparmor_profile: self.apparmor.clone(),
                no_new_privileges: self.no_new_privs,
                capabilities: self.cap.clone(),
            })),
        };
        Ok(ExecOptions {
            process,
            tty: self.tty,
            detach: self.detach,
            console_socket: self.console_socket.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            pid_file: self.pid_file.clone(),
            preserve_fds: self.preserve_fds,
            cgroup: self.cgroup.clone(),
            ignore_paused: self.ignore_paused,
        })
    }

    /// Runs the process; the status is its own.
    pub fn execute(&self, host: &Host) -> Result<Status> {
        let status = self.options().and_then(|options| container::exec::exec(host, &self.id, &options));
        status.context("exec failed").map(Status::from)
    }
}

/// Names would have to be looked up in the container's own files, which runc does not do either.
fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let refuse = |why: &str| Error::invalid(format!("--user {text}: {part:?} is {why}"));
        // parse would take "+0" too.
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse("not a numeric id"));
        }
        part.parse::<u32>().map_err(|_| refuse("no id: the last one is 4294967294"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}
