//! One value for one file of a cgroup: planned purely, applied below a directory descriptor.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// A planned write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The controller that must be there: `memory`, or a hierarchy's core (`cgroup`).
    pub controller: Cow<'static, str>,
    /// Where config.json asked for it.
    pub field: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    pub otherwise: Otherwise,
}

/// What to do when the kernel has no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Refuse,
    /// The value is what a kernel without the file does anyway.
    Skip,
    /// The same wish in the words of another file.
    Instead(Box<Write>),
}

impl Write {
    pub fn new(
        controller: &'static str,
        field: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        Self {
            controller: controller.into(),
            field: field.into(),
            file: file.into(),
            value: value.to_string(),
            otherwise: Otherwise::Refuse,
        }
    }

    #[must_use]
    pub fn or_skip(self) -> Self {
        Self { otherwise: Otherwise::Skip, ..self }
    }

    #[must_use]
    pub fn or(self, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        let instead = Self { file: file.into(), value: value.to_string(), ..self.clone() };
        Self { otherwise: Otherwise::Instead(Box::new(instead)), ..self }
    }

    /// Writes the value into its file below `directory`; `shown` is the directory's path for errors.
    pub fn apply(&self, directory: BorrowedFd<'_>, shown: &Path) -> Result<()> {
        match (write_at(directory, &self.file, &self.value), &self.otherwise) {
            (Ok(()), _) | (Err((_, Errno::ENOENT)), Otherwise::Skip) => Ok(()),
            (Err((_, Errno::ENOENT)), Otherwise::Instead(other)) => other.apply(directory, shown),
            (Err((call, errno)), _) => Err(self.refused(call, errno, shown)),
        }
    }

    fn refused(&self, call: &str, errno: Errno, shown: &Path) -> Error {
        let path = shown.join(self.file.as_ref());
        let error = Error::syscall(format!("{call}({path:?}, {:?})", self.value), errno);
        let error = match (errno, self.file.as_ref()) {
            (Errno::ENOENT, file) => {
                error.remedy(format!("this kernel's {} controller has no {file}", self.controller))
            }
            (Errno::EINVAL, "cpu.rt_runtime_us" | "cpu.rt_period_us") => {
                error.remedy("the parent cgroup's realtime runtime does not cover it")
            }
            (Errno::EBUSY, "memory.limit_in_bytes") => {
                error.remedy("more memory is in use and cannot be reclaimed")
            }
            (Errno::EINVAL | Errno::ERANGE, _) => error.remedy("the kernel does not accept this value here"),
            (Errno::EACCES | Errno::EPERM, _) => {
                error.remedy("this cgroup is not delegated to you, or its parent does not allow the value")
            }
            (Errno::EOPNOTSUPP, file) if file.contains(".bfq.") => {
                error.remedy("the device's scheduler is not bfq (/sys/block/NAME/queue/scheduler), which alone has weights")
            }
            (Errno::ENODEV, _) => error.remedy("no such device on this host"),
            _ => error,
        };
        error.context(format!("set {}", self.field))
    }
}

/// Opens one file of a cgroup.
pub(super) fn open_at(directory: BorrowedFd<'_>, file: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(directory, file, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// One write(2) with all of `value`; cgroup files take a value whole or not at all. The error names
/// the call that failed.
pub(super) fn write_at(
    directory: BorrowedFd<'_>,
    file: &str,
    value: &str,
) -> std::result::Result<(), (&'static str, Errno)> {
    let file = open_at(directory, file, OFlag::O_WRONLY).map_err(|errno| ("open", errno))?;
    nix::unistd::write(&file, value.as_bytes()).map(drop).map_err(|errno| ("write", errno))
}

/// The whole text of one file of a cgroup.
pub(super) fn read_at(directory: BorrowedFd<'_>, file: &str) -> nix::Result<String> {
    let file = open_at(directory, file, OFlag::O_RDONLY)?;
    read_all(file.as_fd())
}

/// The rest of an open file as text. cgroup files are ASCII; a device's name need not be.
pub(super) fn read_all(file: BorrowedFd<'_>) -> nix::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(file, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
