//! The last step of init and of a joining process: execve.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{UserProcess, agent};
use crate::error::{Call, Context, Error, Result};
use crate::{program, seccomp, security};

/// execve's arguments, made before the filter is loaded: memory may need a system call.
pub(super) struct Program {
    path: PathBuf,
    c_path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Told of the filter's listener, once it is known who we are.
    pub agent: Option<agent::Introduction>,
}

/// That the process is under its limits and its filter.
pub(super) struct Confined {
    /// Kept until execve closes it: close(2) may be among the calls that an agent decides about.
    _listener: Option<OwnedFd>,
}

impl Program {
    /// Looks the program up, with the container's root and the user's rights.
    ///
    /// # Errors
    /// It is not there or cannot be executed, in the words that engines match on.
    pub fn find(process: &UserProcess) -> Result<Self> {
        let env = environment(process)?;
        let command = process.args.first().ok_or_else(|| Error::invalid("process.args: is empty"))?;
        let path = program::find(command, &env)?;
        let c_string = |text: &[u8]| {
            CString::new(text).map_err(|_| Error::invalid("process.args or process.env: contains a NUL byte"))
        };
        let c_strings =
            |list: &[String]| list.iter().map(|text| c_string(text.as_bytes())).collect::<Result<_>>();
        Ok(Self {
            c_path: c_string(path.as_os_str().as_bytes())?,
            argv: c_strings(&process.args)?,
            env: c_strings(&env)?,
            path,
            agent: None,
        })
    }

    /// `NAME=VALUE`, as the program will get it.
    pub fn environment(&self) -> Vec<String> {
        self.env.iter().map(|entry| entry.to_string_lossy().into_owned()).collect()
    }

    /// Sets the limits and loads the filter. Nothing may come after it but execve: a profile need not allow anything
    /// else. One that notifies has to allow sendmsg too.
    ///
    /// # Errors
    /// The kernel's.
    pub fn confine(&self, process: &UserProcess, filter: Option<&seccomp::Program>) -> Result<Confined> {
        // As late as can be: a small RLIMIT_NOFILE, RLIMIT_FSIZE or RLIMIT_AS is the program's, not ours.
        process.security.set_rlimits()?;
        let listener = filter.map(|filter| self.load(filter, process)).transpose()?;
        Ok(Confined { _listener: listener.flatten() })
    }

    /// Executes the program.
    ///
    /// # Errors
    /// Why it cannot be; else it does not return.
    pub fn execute(&self, _confined: Confined) -> Result<Infallible> {
        let Err(errno) = nix::unistd::execve(&self.c_path, &self.argv, &self.env);
        Err(program::diagnose(&self.path, errno))
    }

    fn load(&self, filter: &seccomp::Program, process: &UserProcess) -> Result<Option<OwnedFd>> {
        if !process.security.no_new_privileges {
            process.security.raise(security::SECCOMP_RIGHT)?;
        }
        let intent = match process.seccomp.as_ref().is_some_and(seccomp::Checked::is_raw) {
            true => "load the program of run.oci.seccomp_bpf_data",
            false => "load the seccomp filter",
        };
        let listener = filter.install().context(intent)?;
        match (&listener, &self.agent) {
            (Some(listener), Some(agent)) => agent.send(listener.as_fd())?,
            // Its calls would wait for an answer for ever.
            (Some(_), None) => return Err(Error::invalid("linux.seccomp: notifies, but there is no agent")),
            (None, _) => {}
        }
        Ok(listener)
    }
}

/// Puts the process of a hook under the filter of the container's program.
pub fn confine(filter: &seccomp::Program, process: &UserProcess) -> Result<()> {
    if !process.security.no_new_privileges {
        process.security.raise(security::SECCOMP_RIGHT)?;
    }
    filter.install_without_listener()
}

/// `process.env`, what a socket-activated program needs to find its sockets, and HOME, which only the
/// container's own passwd knows.
fn environment(process: &UserProcess) -> Result<Vec<String>> {
    let mut env = process.env.clone();
    if process.listen_fds > 0 {
        env.push(format!("LISTEN_FDS={}", process.listen_fds));
        // As the program will see itself.
        env.push(format!("LISTEN_PID={}", nix::unistd::getpid()));
    }
    let passwd = if security::has_home(&env) { None } else { read_passwd()? };
    Ok(security::environment(&env, passwd.as_deref(), process.security.user.uid))
}

/// The container's passwd; None when it has none that can be read. What runs in the container may have
/// put anything in its place: a fifo must not hang an exec, nor a device fill its memory.
fn read_passwd() -> Result<Option<Vec<u8>>> {
    const PATH: &str = "/etc/passwd";
    const LONGEST: u64 = 4 << 20;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = match open(PATH, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        // The user may have no right to read it, or the image no such file, or one that leads nowhere.
        Err(_) => return Ok(None),
    };
    if !file.metadata().call(|| format!("fstat({PATH})"))?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).call(|| format!("read({PATH})"))?;
    Ok(Some(text))
}
