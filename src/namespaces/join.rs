//! Namespaces that exist: opened by path, checked, entered.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::{Join, Kind, Plan};
use crate::error::{Call, Context, Error, Result};
use crate::sys;

/// A namespace whose descriptor is open and whose type is checked.
#[derive(Debug)]
pub struct Joined {
    /// Its type.
    pub kind: Kind,
    /// Where it was found, for messages.
    pub path: PathBuf,
    fd: OwnedFd,
    entered: bool,
}

impl AsFd for Joined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All joined namespaces of a container, in the order of [`Kind::ALL`]. They are opened before the
/// first is entered: their paths are the host's, and end with its mount namespace.
#[derive(Debug, Default)]
pub struct Opened(Vec<Joined>);

impl Plan {
    /// Opens every joined namespace and checks its type (config-linux.md: "the runtime MUST generate an
    /// error if `path` is not associated with a namespace of type `type`").
    pub fn open(&self) -> Result<Opened> {
        self.joins
            .iter()
            .map(|join| {
                open_one(join)
                    .with_context(|| format!("join the {} namespace {:?}", join.kind.name(), join.path))
            })
            .collect::<Result<_>>()
            .map(Opened)
    }
}

fn open_one(join: &Join) -> Result<Joined> {
    // O_NONBLOCK: a fifo in this place must not hang us before its type is seen.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = open(&join.path, flags, Mode::empty()).call(|| format!("open({:?}, O_RDONLY)", join.path))?;
    match sys::namespace::nstype(fd.as_fd()) {
        Ok(flag) if flag == join.kind.flag() => {
            Ok(Joined { kind: join.kind, path: join.path.clone(), fd, entered: false })
        }
        Ok(flag) => Err(Error::invalid(format!(
            "it is a {} namespace",
            Kind::of_flag(flag).map_or("different", Kind::name)
        ))),
        Err(Errno::ENOTTY) => Err(Error::invalid("it is no namespace")),
        Err(errno) => Err(Error::syscall(format!("ioctl({:?}, NS_GET_NSTYPE)", join.path), errno)),
    }
}

impl Joined {
    /// setns(2) into it. A pid namespace is entered only by the children of the caller, a time
    /// namespace by the caller too.
    pub fn enter(&mut self) -> Result<()> {
        self.try_enter()
            .call(|| format!("setns({:?})", self.path))
            .with_context(|| format!("join the {} namespace", self.kind.name()))
    }

    fn try_enter(&mut self) -> nix::Result<()> {
        if !self.entered {
            sys::namespace::setns(self.fd.as_fd(), self.kind.flag())?;
            self.entered = true;
        }
        Ok(())
    }
}

impl Opened {
    /// The joined namespace of the kind.
    pub fn get(&mut self, kind: Kind) -> Option<&mut Joined> {
        self.0.iter_mut().find(|joined| joined.kind == kind)
    }

    /// Joins the new network namespace behind `fd` too, which the clone then must not make.
    pub fn add_new_network(&mut self, fd: OwnedFd) {
        let path = PathBuf::from("a new network namespace");
        self.0.push(Joined { kind: Kind::Network, path, fd, entered: false });
        self.0.sort_by_key(|joined| joined.kind);
    }

    /// The `CLONE_NEW*` flags of all of them.
    pub(super) fn flags(&self) -> u64 {
        self.0.iter().fold(0, |flags, joined| flags | joined.kind.flag())
    }

    /// Whether nothing is joined.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Enters a joined user namespace and all else, in the helper process from which init is then
    /// cloned. Does nothing but [`Opened::enter`] when no user namespace is joined.
    ///
    /// Two rounds around the user namespace: a namespace that the host's user namespace owns can be
    /// entered only before (afterwards the caller has no rights over it), one that the joined user
    /// namespace owns only after (before, a rootless caller has none).
    pub fn enter_with_user(&mut self) -> Result<()> {
        if self.get(Kind::User).is_none() {
            return self.enter();
        }
        for joined in self.0.iter_mut().filter(|joined| joined.kind != Kind::User) {
            match joined.try_enter() {
                Ok(()) | Err(Errno::EPERM) => {}
                Err(errno) => {
                    return Err(Error::syscall(format!("setns({:?})", joined.path), errno)
                        .context(format!("join the {} namespace", joined.kind.name())));
                }
            }
        }
        self.enter()
    }

    /// Enters what is not yet entered, the user namespace first, the mount namespace last.
    pub fn enter(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Joined::enter)
    }

    /// The parent enters a joined pid namespace for the next child; gives back what undoes it, where
    /// [`may_return`] says that it can.
    pub fn enter_pid_for_children(&mut self) -> Result<Option<OriginalPid>> {
        let Some(joined) = self.get(Kind::Pid) else {
            return Ok(None);
        };
        let original = OriginalPid::open()?;
        joined.enter()?;
        Ok(Some(original))
    }
}

/// Whether the caller, once its children are born elsewhere, may have them here again: who owns its own namespace
/// of the kind (pid or time) must be a user namespace in which it has rights. Root of an engine's user namespace
/// (rootless Podman's) has none over the host's, which it is in.
pub fn may_return(kind: Kind) -> Result<bool> {
    let path = match kind {
        Kind::Pid => "/proc/self/ns/pid_for_children",
        _ => "/proc/self/ns/time",
    };
    let own = File::open(path).call(|| format!("open({path:?})"))?;
    match sys::namespace::setns(own.as_fd(), kind.flag()) {
        Ok(()) => Ok(true),
        Err(Errno::EPERM) => Ok(false),
        Err(errno) => Err(Error::syscall(format!("setns({path:?})"), errno)),
    }
}

/// The pid namespace in which the parent's children were born before
/// [`Opened::enter_pid_for_children`].
#[derive(Debug)]
#[must_use = "further children of the parent (hooks) would be born in the container's pid namespace"]
pub struct OriginalPid(OwnedFd);

impl OriginalPid {
    /// Where the caller's children are born now.
    fn open() -> Result<Self> {
        let path = "/proc/self/ns/pid_for_children";
        File::open(path).call(|| format!("open({path:?})")).map(|file| Self(file.into()))
    }

    /// Goes back. The next child, if there is one, has to enter once more: `joined` is what the namespace was entered of.
    pub fn restore(self, joined: &mut Opened) -> Result<()> {
        sys::namespace::setns(self.0.as_fd(), Kind::Pid.flag())
            .call(|| "setns(pid_for_children)".into())
            .context("go back to the runtime's pid namespace")?;
        if let Some(pid) = joined.get(Kind::Pid) {
            pid.entered = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joins(kind: Kind, path: &str) -> Plan {
        Plan { joins: vec![Join { kind, path: path.into() }], ..Plan::default() }
    }

    #[test]
    fn opens_a_namespace_of_the_right_type() {
        let mut opened = joins(Kind::Network, "/proc/self/ns/net").open().unwrap();
        assert!(opened.get(Kind::Network).is_some());
        assert!(opened.get(Kind::Pid).is_none());
        assert!(!opened.is_empty());
    }

    #[test]
    fn names_what_it_found_instead() {
        let error = joins(Kind::Network, "/proc/self/ns/uts").open().unwrap_err();
        assert_eq!(
            error.to_string(),
            "join the network namespace \"/proc/self/ns/uts\": it is a uts namespace"
        );
        let error = joins(Kind::Network, "/dev/null").open().unwrap_err();
        assert_eq!(error.to_string(), "join the network namespace \"/dev/null\": it is no namespace");
        let error = joins(Kind::Network, "/nowhere").open().unwrap_err();
        assert!(error.to_string().ends_with("no such file or directory (ENOENT)"), "{error}");
    }
}
