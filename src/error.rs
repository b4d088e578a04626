//! The one error of the crate: what was intended, on what, and the kernel's answer.
//!
//! It prints as one line, outermost intent first:
//!
//! ```text
//! mount proc at /proc: fsmount(proc): operation not permitted (EPERM): the user namespace does not own …
//! ```
//!
//! The errno's text is kept in lower case because engines match on it (`no such file or
//! directory`, `permission denied`, `no such process`).

use std::fmt;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is: decides exit codes and the log's `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The caller's input (config.json, a flag) is wrong.
    Invalid,
    /// No container of that id.
    NotFound,
    /// A container of that id is there already.
    Exists,
    /// The container is in a state in which this cannot be done.
    State,
    /// This host (kernel, cgroup layout, rights) cannot do what was asked.
    Unsupported,
    /// A system call failed; the errno says why.
    Kernel,
    /// The container's command could not be found or executed.
    Exec,
    /// A hook failed.
    Hook,
}

/// An error with its context. One pointer wide, and serialisable so that init can send it whole to
/// its parent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Error(Box<Repr>);

#[derive(Debug, Serialize, Deserialize)]
struct Repr {
    code: Code,
    /// Innermost first; printed in reverse.
    intents: Vec<String>,
    what: String,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl Error {
    /// An error that berth itself found.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self(Box::new(Repr { code, intents: Vec::new(), what: what.into(), errno: None, remedy: None }))
    }

    /// The caller's input is wrong.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Code::Invalid, what)
    }

    /// The host cannot do it.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, what)
    }

    /// A failed system call: `call` is the call with decoded arguments, `openat2(rootfs, "etc", IN_ROOT)`.
    pub fn syscall(call: impl Into<String>, errno: Errno) -> Self {
        let mut error = Self::new(Code::Kernel, call);
        error.0.errno = Some(errno as i32);
        error
    }

    /// Says what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Names the file system that has no room, when that is the cause: the one with `path` in it.
    #[must_use]
    pub fn full(self, path: &Path) -> Self {
        let path = path.display();
        match self.errno() {
            Some(Errno::ENOSPC) => self.remedy(format!(
                "the file system of {path} is full, in bytes or in inodes: see `df {path}` and `df -i {path}`"
            )),
            Some(Errno::EDQUOT) => {
                self.remedy(format!("the quota of its owner on the file system of {path} is used up"))
            }
            _ => self,
        }
    }

    /// Replaces the kind.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What it says apart from the remedy, and the remedy.
    pub fn apart(&self) -> (String, Option<&str>) {
        (Cause(&self.0).to_string(), self.0.remedy.as_deref())
    }

    /// The kernel's answer, when a system call is the cause.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno.map(Errno::from_raw)
    }

    /// Adds what was being done, lower case and without "failed to": `mount proc at /proc`.
    #[must_use]
    pub fn context(mut self, intent: impl Into<String>) -> Self {
        self.0.intents.push(intent.into());
        self
    }
}

/// All but the remedy.
struct Cause<'a>(&'a Repr);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for intent in self.0.intents.iter().rev() {
            write!(f, "{intent}: ")?;
        }
        f.write_str(&self.0.what)?;
        if let Some(errno) = self.0.errno.map(Errno::from_raw) {
            write!(f, ": {} ({errno:?})", errno.desc().to_lowercase())?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cause(&self.0).fmt(f)?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds the intent to a failed result.
pub trait Context<T> {
    /// As [`Error::context`].
    fn context(self, intent: &str) -> Result<T>;
    /// As [`Error::context`], computed only on failure.
    fn with_context(self, intent: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, intent: &str) -> Result<T> {
        self.map_err(|error| error.context(intent))
    }

    fn with_context(self, intent: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(intent()))
    }
}

/// Names the call of a failed nix, libc or std result.
pub trait Call<T> {
    /// `call` with decoded arguments, computed only on failure.
    fn call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::syscall(call(), errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Error::syscall(call(), Errno::from_raw(errno)),
            None => Error::new(Code::Kernel, format!("{}: {error}", call())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_intent_call_errno_and_remedy_in_one_line() {
        let error = Err::<(), _>(Errno::EPERM)
            .call(|| "fsmount(proc)".into())
            .context("mount proc at /proc")
            .map_err(|e| e.remedy("use a new pid namespace"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "mount proc at /proc: fsmount(proc): operation not permitted (EPERM); use a new pid namespace"
        );
    }

    #[test]
    fn names_what_is_full() {
        let told = |errno| Error::syscall("mkdir(/run/x)", errno).full(Path::new("/run")).to_string();
        assert!(told(Errno::ENOSPC).contains("the file system of /run is full"));
        assert!(told(Errno::EDQUOT).contains("the quota of its owner on the file system of /run"));
        assert_eq!(told(Errno::EPERM), "mkdir(/run/x): operation not permitted (EPERM)");
    }

    #[test]
    fn the_remedy_stands_apart() {
        let error = Error::syscall("open(\"/x\")", Errno::ENOENT).context("read x").remedy("make it");
        let cause = "read x: open(\"/x\"): no such file or directory (ENOENT)".to_owned();
        assert_eq!(error.apart(), (cause, Some("make it")));
    }

    #[test]
    fn survives_the_way_from_init_to_its_parent() {
        let error = Error::syscall("open(\"/x\")", Errno::ENOENT).context("exec");
        let text = serde_json::to_string(&error).unwrap();
        let back: Error = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!(back.errno(), Some(Errno::ENOENT));
    }
}
