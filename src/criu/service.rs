//! One `criu swrk`: a CRIU that serves a single request over a socket and ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::log::{errors_in, last_errors, missing_right};
use super::request::{self, Features, Kind, Options};
use super::response::Response;
use super::wire::Message;
use crate::error::{Call, Code, Context, Error, Result};
use crate::log;
use crate::sys::socket;
use crate::sys::spawn::{Child, Spawn, Stream, environment, find_in_path};

/// The oldest CRIU that berth works with, 3.15: it can leave a pid namespace out of an image, and says by
/// notification when lazy pages are served.
const OLDEST: i32 = 31_500;

/// As much as CRIU itself reads in one message.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// What a CRIU process gets from us.
#[derive(Default)]
pub struct Surroundings<'a> {
    /// Its stdio is ours, for the processes that it restores; else it has none.
    pub own_stdio: bool,
    /// What is at 3 and above, for [`Options::inherited`].
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Done by the new process before it becomes CRIU.
    pub prepare: Option<&'a dyn Fn() -> Result<()>>,
}

/// Something that CRIU tells in the middle of its work, and waits for us to agree.
#[derive(Debug)]
pub struct Notification {
    /// `post-restore`, `setup-namespaces` …: criu(8), "Action scripts".
    pub script: String,
    /// Of the first restored process, in our pid namespace.
    pub pid: Option<i32>,
    /// The master of a terminal, with `orphan-pts-master`.
    pub descriptor: Option<OwnedFd>,
}

/// A CRIU process that waits for its request.
pub struct Service {
    socket: OwnedFd,
    process: Child,
}

impl Service {
    /// Starts CRIU.
    ///
    /// # Errors
    /// It is not there.
    pub fn start(surroundings: &Surroundings<'_>) -> Result<Self> {
        let program = program()?;
        let (ours, theirs) = socket::seqpacket_pair()?;
        let number = 3 + surroundings.descriptors.len();
        let arguments = ["criu".to_owned(), "swrk".to_owned(), number.to_string()];
        // It runs other programs (tar, ip, iptables-restore) by their names.
        let environment = environment();
        let null = std::fs::File::open("/dev/null").call(|| "open(\"/dev/null\")".into())?;
        let mut spawn = Spawn::new(&program, &arguments, &environment)?;
        if surroundings.own_stdio {
            spawn.stdin = crate::sys::process::inherited(0);
        } else {
            (spawn.stdout, spawn.stderr) = (Stream::To(null.as_fd()), Stream::Captured);
        }
        spawn.descriptors.extend(surroundings.descriptors.iter().copied());
        spawn.descriptors.push(theirs.as_fd());
        spawn.prepare = surroundings.prepare;
        let process = spawn.start().call(|| format!("execve({}, swrk)", program.display()))?;
        Ok(Self { socket: ours, process })
    }

    /// Its pid; a process restored by [`super::Switch::RestoreSibling`] is not its child but ours.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Has a request served: `notified` is asked to agree with each notification, and what it returns when
    /// it does not is the error. CRIU has ended when this returns.
    ///
    /// # Errors
    /// CRIU's, with the last errors of the log at `log_path`.
    pub fn serve(
        self,
        kind: Kind,
        options: &Options,
        log_path: &Path,
        notified: &mut dyn FnMut(Notification) -> Result<()>,
    ) -> Result<Response> {
        let mut refusal = None;
        let heard = self.converse(&request::with_options(kind, options), &mut |notification| {
            log::debug(|| format!("criu: {}", notification.script));
            notified(notification).map_err(|error| refusal = Some(error)).is_ok()
        });
        let heard = self.end(kind, heard);
        match (refusal, heard) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(response)) if response.success && response.kind == Some(kind) => Ok(response),
            (None, heard) => Err(explain(kind, heard, log_path)),
        }
    }

    /// Has a question answered.
    fn answer(self, kind: Kind, question: &Message) -> Result<Response> {
        let heard = self.converse(question, &mut |_| false);
        let response = self.end(kind, heard)?;
        match response.success {
            true => Ok(response),
            false => Err(without_log(kind, &response)),
        }
    }

    fn converse(&self, request: &Message, agree: &mut dyn FnMut(Notification) -> bool) -> Result<Response> {
        socket::send(self.socket.as_fd(), request.as_bytes(), &[])?;
        loop {
            let (answer, descriptor) = socket::receive(self.socket.as_fd(), LONGEST_MESSAGE)?;
            if answer.is_empty() {
                return Err(Error::new(Code::Kernel, "it ended without an answer"));
            }
            let response = Response::parse(&answer)?;
            if response.kind != Some(Kind::Notify) {
                return Ok(response);
            }
            let script = response.script.unwrap_or_default();
            let well = agree(Notification { script, pid: response.pid, descriptor });
            socket::send(self.socket.as_fd(), request::notified(well).as_bytes(), &[])?;
        }
    }

    /// Waits for the end of the process, which comes by itself once its socket is closed.
    fn end(self, kind: Kind, heard: Result<Response>) -> Result<Response> {
        let Self { socket, process } = self;
        drop(socket);
        let exit = process.wait(None).call(|| "waitid(criu)".into())?;
        heard.map_err(|error| {
            let said = exit.last_line();
            let error = error.context(format!("criu {}, {}", kind.name(), exit.status));
            if said.is_empty() { error } else { error.remedy(format!("it said: {said}")) }
        })
    }
}

/// Why a request was not served.
fn explain(kind: Kind, heard: Result<Response>, log_path: &Path) -> Error {
    let from_log = errors_in(log_path);
    let error = match (heard, from_log) {
        (Ok(response), from_log) => {
            let why = from_log.or(response.message).unwrap_or_else(|| match response.errno {
                Some(errno) => format!("errno {errno}"),
                None => "it does not say why".into(),
            });
            Error::new(Code::Kernel, format!("criu {}: {why}", kind.name()))
        }
        (Err(error), Some(why)) => error.context(why),
        (Err(error), None) => error,
    };
    match log_path.exists() {
        true => error.remedy(format!("its log is {}", log_path.display())),
        false => error,
    }
}

/// Why a question was not answered. A question has no log; but what keeps CRIU from answering is what `criu check`
/// finds.
fn without_log(kind: Kind, response: &Response) -> Error {
    // It only adorns an error that is reported anyway.
    let found = check().unwrap_or_default();
    let error = |why: &str| Error::unsupported(format!("criu {}: {why}", kind.name()));
    if let Some(why) = missing_right(&found) {
        return error(why).remedy("CRIU lacks rights: call berth as root of the host, with all capabilities");
    }
    let why = last_errors(&found).or_else(|| response.message.clone());
    error(why.as_deref().unwrap_or("it does not say why"))
        .remedy("this CRIU does not work on this kernel: `criu check` says more; a newer CRIU may help")
}

/// What `criu check` prints.
fn check() -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let program = program()?;
    let (arguments, environment) = (["criu".to_owned(), "check".to_owned()], environment());
    let mut spawn = Spawn::new(&program, &arguments, &environment)?;
    (spawn.stdout, spawn.stderr) = (Stream::Captured, Stream::Captured);
    let check = spawn.start().call(|| format!("execve({}, check)", program.display()))?;
    check
        .wait(Some(PATIENCE))
        .call(|| "waitid(criu check)".into())?
        .output()
        .call(|| "read(criu check)".into())
}

/// The CRIU in `$PATH`.
fn program() -> Result<PathBuf> {
    find_in_path("criu").ok_or_else(|| {
        Error::unsupported("criu is not in $PATH").remedy("install the package criu (https://criu.org)")
    })
}

/// The version of the CRIU in `$PATH`, as 31600 for 3.16.
///
/// # Errors
/// There is none, or it is too old.
pub fn version() -> Result<i32> {
    let service = Service::start(&Surroundings::default())?;
    let version = service
        .answer(Kind::Version, &request::plain(Kind::Version))
        .context("ask criu for its version")?
        .version;
    match version < OLDEST {
        true => Err(Error::unsupported(format!("criu {} is too old", dotted(version)))
            .remedy(format!("install {} or newer", dotted(OLDEST)))),
        false => Ok(version),
    }
}

/// Refuses what CRIU and the kernel cannot do.
///
/// # Errors
/// One of the features is missing.
pub fn require(features: Features) -> Result<()> {
    let service = Service::start(&Surroundings::default())?;
    let has = service
        .answer(Kind::FeatureCheck, &request::feature_check(features))
        .context("ask criu for its features")?
        .features;
    for (wanted, there, what, need) in [
        (
            features.memory_tracking,
            has.memory_tracking,
            "--pre-dump: the kernel cannot track changed memory",
            "it needs CONFIG_MEM_SOFT_DIRTY",
        ),
        (
            features.lazy_pages,
            has.lazy_pages,
            "--lazy-pages: the kernel lacks userfaultfd(2), or CRIU its use",
            "it needs CONFIG_USERFAULTFD",
        ),
    ] {
        if wanted && !there {
            return Err(Error::unsupported(what).remedy(need));
        }
    }
    Ok(())
}

/// 31600 is 3.16.
fn dotted(version: i32) -> String {
    let (major, minor, sublevel) = (version / 10_000, version / 100 % 100, version % 100);
    if sublevel == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{sublevel}") }
}

/// The number at which the first of [`Surroundings::descriptors`] is.
pub const FIRST_DESCRIPTOR: RawFd = 3;

#[cfg(test)]
mod tests {
    use super::dotted;

    #[test]
    fn versions_are_printed_as_criu_does() {
        assert_eq!(dotted(31_500), "3.15");
        assert_eq!(dotted(40_101), "4.1.1");
    }
}
