//! The state directory: what berth knows of a container between its calls.
//!
//! `ROOT/ID/` holds `state.json` (this module's [`Record`]), `config.json` (the bundle's as it was at
//! `create`: later edits have no effect), `seccomp.bpf` (the filter, in place of what config.json says of it) and
//! the fifos of [`crate::init::gate`]. The directory itself
//! is the lock (flock(2)); making it is the claim on the id. Every resource is named in `state.json`
//! before it exists, and the file is replaced by rename, so a crash at any instant leaves something
//! that `delete --force` can clean up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use super::identity::ProcessId;
use crate::error::{Call, Code, Context, Error, Result};
use crate::init::{OciState, gate};
use crate::rootfs::HostMount;
use crate::sys::fs;
use crate::{cgroups, json, resctrl, seccomp, spec};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const FILTER: &str = "seccomp.bpf";

/// What that file begins with. It outlives the binary that wrote it: another layout gets another number.
const FILTER_FORMAT: &[u8] = b"berth 1\n";

/// What `state.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the runtime-spec that the bundle states.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root filesystem on the host.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The uid that called `create`.
    pub owner: u32,
    /// The annotations of config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The first process; None until it exists.
    pub init: Option<ProcessId>,
    /// False until everything of `create` is done.
    pub complete: bool,
    /// Whether the container has a pid namespace of its own: then its processes end with init.
    pub own_pid_namespace: bool,
    /// Whether it has a session keyring of its own, which an exec joins; false with
    /// `--no-new-keyring`.
    pub own_keyring: bool,
    /// Where its processes are accounted and how to remove that.
    pub cgroup: cgroups::Record,
    /// False while `cgroup` is only the plan: a cgroup of that name may be somebody else's.
    #[serde(default)]
    pub cgroup_made: bool,
    /// The filter of linux.seccomp is kept as it was compiled, and config.json without what it was compiled from
    /// ([`StateDir::save`]).
    #[serde(default)]
    pub filter_saved: bool,
    /// Its rootfs among the host's mounts, which a container without a mount namespace has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mount: Option<HostMount>,
    /// Its share of caches and memory bandwidth (linux.intelRdt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<resctrl::Record>,
    /// Run by `start`.
    #[serde(default)]
    pub poststart: Vec<Hook>,
    /// Run by `delete`.
    #[serde(default)]
    pub poststop: Vec<Hook>,
}

impl Record {
    /// One of the annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// What a hook reads on stdin (runtime.md, State).
    pub fn oci_state(&self, status: &str, pid: i32) -> OciState {
        OciState {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status: status.into(),
            pid,
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

/// The directory of all containers (`--root`).
#[derive(Clone, Debug)]
pub struct StateRoot {
    path: PathBuf,
}

/// The directory of one container, open.
#[derive(Debug)]
pub struct StateDir {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
}

/// An exclusive hold on a container; given back when dropped (or by the kernel when berth dies).
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl StateRoot {
    /// Names the directory; it is made when the first container is.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Whether `id` may name a container: asked before anything else is looked at.
    ///
    /// # Errors
    /// It is malformed.
    pub fn check_id(&self, id: &str) -> Result<()> {
        check_id(id)
    }

    /// Makes the directory of a new container and locks it.
    ///
    /// # Errors
    /// The id is malformed or in use.
    pub fn claim(&self, id: &str) -> Result<(StateDir, Lock)> {
        check_id(id)?;
        self.make()?;
        let path = self.path.join(id);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            // Nobody else can hold it for longer than a glance: it has just been made.
            Ok(()) => take(id, path, Duration::from_secs(5)),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Err(taken(id)),
            Err(error) => {
                let error = Err(error).call(|| format!("mkdir({})", path.display()));
                error.map_err(elsewhere).map_err(|error| error.full(&self.path))
            }
        }
    }

    /// The directory of a container that is there.
    ///
    /// # Errors
    /// No such container, or a malformed id.
    pub fn open(&self, id: &str) -> Result<StateDir> {
        check_id(id)?;
        let path = self.path.join(id);
        match open_directory(&path) {
            Ok(fd) => Ok(StateDir { id: id.into(), path, fd }),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Err(does_not_exist(id)),
            Err(error) => Err(elsewhere(error)),
        }
    }

    /// The ids of all containers, sorted.
    ///
    /// # Errors
    /// The directory cannot be read; that it is missing is no error.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).call(|| format!("opendir({})", self.path.display())).map_err(elsewhere);
            }
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.call(|| format!("readdir({})", self.path.display()))?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Ok(name) = entry.file_name().into_string()
                && is_directory
                && check_id(&name).is_ok()
            {
                ids.push(name);
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn make(&self) -> Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .call(|| format!("mkdir({})", self.path.display()))
            .map_err(|error| elsewhere(error).full(&self.path))?;
        // The sticky bit keeps the cleaners of temporary directories away (XDG base directory
        // specification, XDG_RUNTIME_DIR).
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o1700))
            .call(|| format!("chmod({}, 1700)", self.path.display()))
    }
}

/// Opens and locks a directory that we have just made, or what has its name by now: a `delete --force` may have taken
/// ours for what a killed create has left, and the id have gone to another create.
fn take(id: &str, path: PathBuf, patience: Duration) -> Result<(StateDir, Lock)> {
    let locked = open_directory(&path).and_then(|fd| {
        let dir = StateDir { id: id.into(), path: path.clone(), fd };
        let lock = dir.lock(patience)?;
        if dir.has_record()? { Err(taken(id)) } else { Ok((dir, lock)) }
    });
    locked.map_err(|error| match (error.code(), error.errno()) {
        (Code::Exists, _) => error,
        (Code::NotFound, _) | (_, Some(Errno::ENOENT)) => taken(id),
        _ => match std::fs::remove_dir(&path) {
            Ok(()) => error,
            // Of ours nobody has written anything.
            Err(also) if also.kind() == std::io::ErrorKind::DirectoryNotEmpty => taken(id),
            Err(also) => error.remedy(format!("{} is left: {also}", path.display())),
        },
    })
}

/// A user whose session has no directory of its own (`su`, cron) is sent to the system's.
fn elsewhere(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EACCES | Errno::EROFS) => {
            error.remedy("name another directory with --root, or set XDG_RUNTIME_DIR as an ordinary user")
        }
        _ => error,
    }
}

impl StateDir {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To an error that is for want of room here: the root, because the directory of the container is gone when
    /// a user looks.
    pub fn name_what_is_full(&self, error: Error) -> Error {
        error.full(self.path.parent().unwrap_or(&self.path))
    }

    /// Waits for the exclusive hold.
    ///
    /// # Errors
    /// Another command holds it for longer than `patience`, or the container went away meanwhile.
    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        let until = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        // A descriptor of its own: a lock belongs to the open file description.
        let fd = open_directory(&self.path).map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => does_not_exist(&self.id),
            _ => error,
        })?;
        while !try_flock(&fd)? {
            // Another container's lock is nothing to wait for.
            self.check_named(fd.as_fd())?;
            if Instant::now() >= until {
                return Err(Error::new(Code::State, format!("container {} is busy", self.id))
                    .remedy("another berth command on it has not finished"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.check_named(fd.as_fd())?;
        Ok(Lock(fd))
    }

    /// Refuses what has our name if that is another container's by now.
    fn check_named(&self, named: BorrowedFd<'_>) -> Result<()> {
        if self.is_same(named)? { Ok(()) } else { Err(does_not_exist(&self.id)) }
    }

    /// Whether this is our directory, and it is still there. The name may have been given to another container since
    /// we opened ours.
    fn is_same(&self, named: BorrowedFd<'_>) -> Result<bool> {
        let identity = |fd: BorrowedFd<'_>| -> Result<(u64, u64, u64)> {
            let stat = fstat(fd).call(|| format!("fstat({})", self.path.display()))?;
            Ok((stat.st_dev, stat.st_ino, stat.st_nlink))
        };
        let (ours, named) = (identity(self.fd.as_fd())?, identity(named)?);
        Ok(ours == named && named.2 > 0)
    }

    /// Whether some command holds the lock now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_locked(&self) -> Result<bool> {
        let fd = open_directory(&self.path).map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => does_not_exist(&self.id),
            _ => error,
        })?;
        Ok(!try_flock(&fd)?)
    }

    fn has_record(&self) -> Result<bool> {
        match fstatat(&self.fd, STATE, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Error::syscall(format!("fstatat({}/{STATE})", self.path.display()), errno)),
        }
    }

    /// Reads `state.json`; None when `create` has not got so far or died before.
    ///
    /// # Errors
    /// The file cannot be read, is not ours, or is another container's.
    pub fn read(&self) -> Result<Option<Record>> {
        let file = match openat(&self.fd, STATE, reading(), Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => {
                return Err(Error::syscall(format!("open({}/{STATE})", self.path.display()), errno));
            }
        };
        let text = fs::read_regular(file).call(|| format!("read({}/{STATE})", self.path.display()))?;
        let damaged = |why: &dyn std::fmt::Display| {
            Error::new(Code::State, format!("{}/{STATE}: {why}", self.path.display()))
                .remedy(format!("`berth delete --force {}` removes what it can find", self.id))
        };
        let record: Record = json::read(&text).map_err(|error| damaged(&error))?;
        // A copy. What another container's record names must not be signalled or removed by this one's name.
        match record.id == self.id {
            true => Ok(Some(record)),
            false => Err(damaged(&format_args!("it is that of container {:?}", record.id))),
        }
    }

    /// Replaces `state.json` in one step. No fsync: the state lives on a tmpfs, and what a crash of
    /// the machine would lose is gone with the machine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::new(Code::State, format!("encode {STATE}: {error}")))?;
        self.replace(STATE, &text).context("save the state")
    }

    /// Keeps the filter and the bundle's config.json for those who come later; says whether the filter has a file of its
    /// own. Then the list that it was compiled from, which is most of config.json, need not be kept: it would be read
    /// and compiled again for each exec.
    ///
    /// # Errors
    /// The kernel's.
    pub fn save(&self, config: &[u8], filter: Option<&seccomp::Program>) -> Result<bool> {
        let Some((filter, rest)) = filter.zip(spec::without_syscalls(config)) else {
            self.save_config(config)?;
            return Ok(false);
        };
        self.replace(FILTER, &[FILTER_FORMAT, &filter.to_bytes()].concat())
            .context("save the seccomp filter")?;
        self.save_config(&rest)?;
        Ok(true)
    }

    /// The filter kept by [`Self::save`].
    ///
    /// # Errors
    /// The kernel's; it is none ([`Code::State`]).
    pub fn filter(&self) -> Result<seccomp::Program> {
        let lost = |why: &str| {
            Error::new(Code::State, format!("{}/{FILTER} {why}", self.path.display()))
                .remedy("create the container again: no process of it runs without its filter")
        };
        let read = || match self.read_whole(FILTER) {
            Ok(bytes) => {
                let program = bytes.strip_prefix(FILTER_FORMAT).and_then(seccomp::Program::from_bytes);
                program.ok_or_else(|| lost("is no filter of this berth"))
            }
            // Not as ENOENT: engines take `no such file or directory` for a missing command (exit 127).
            Err(error) if error.errno() == Some(Errno::ENOENT) => Err(lost("is missing")),
            Err(error) => Err(error),
        };
        read().context("read the seccomp filter")
    }

    /// Keeps the config.json as it is now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn save_config(&self, text: &[u8]) -> Result<()> {
        self.replace(CONFIG, text).context("save config.json")
    }

    /// The config.json kept by [`Self::save_config`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read_whole(CONFIG)
    }

    fn read_whole(&self, name: &str) -> Result<Vec<u8>> {
        let path = || format!("{}/{name}", self.path.display());
        let fd = openat(&self.fd, name, reading(), Mode::empty()).call(|| format!("open({})", path()))?;
        fs::read_regular(File::from(fd)).call(|| format!("read({})", path()))
    }

    /// Removes the directory. The lock's holder calls it last.
    ///
    /// # Errors
    /// The kernel's; that it is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        // By name, without reading the directory: these are all that there is but after a crash.
        for name in [CONFIG, FILTER, gate::START, gate::ANSWER, STATE] {
            match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno).call(|| format!("unlink({}/{name})", self.path.display())),
            }
        }
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                // A create that lost patience with us may have removed ours, and another have taken its name.
                if !self.is_same(open_directory(&self.path)?.as_fd())? {
                    return Ok(());
                }
                std::fs::remove_dir_all(&self.path).call(|| format!("remove({})", self.path.display()))
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).call(|| format!("rmdir({})", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn replace(&self, name: &str, text: &[u8]) -> Result<()> {
        self.write_file(name, text).map_err(|error| self.name_what_is_full(error))
    }

    fn write_file(&self, name: &str, text: &[u8]) -> Result<()> {
        let temporary = format!(".{name}.new");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.fd, temporary.as_str(), flags, Mode::from_bits_truncate(0o600))
            .call(|| format!("open({}/{temporary}, O_CREAT)", self.path.display()))?;
        File::from(fd).write_all(text).call(|| format!("write({}/{temporary})", self.path.display()))?;
        renameat(&self.fd, temporary.as_str(), &self.fd, name)
            .call(|| format!("rename({}/{temporary}, {name})", self.path.display()))
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Lock {
    /// Gives the hold back now.
    pub fn release(self) {
        drop(self.0);
    }
}

/// A `--root` that was typed may be any directory.
fn reading() -> OFlag {
    OFlag::O_RDONLY | OFlag::from_bits_retain(fs::UNTRUSTED)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::open(path, flags, Mode::empty()).call(|| format!("open({})", path.display()))
}

#[allow(deprecated)] // nix's Flock owns a File; here the lock goes with a directory's descriptor
fn try_flock(fd: &OwnedFd) -> Result<bool> {
    use std::os::fd::AsRawFd;
    match nix::fcntl::flock(fd.as_raw_fd(), nix::fcntl::FlockArg::LockExclusiveNonblock) {
        Ok(()) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error::syscall("flock(state, LOCK_EX|LOCK_NB)", errno)),
    }
}

fn taken(id: &str) -> Error {
    Error::new(Code::Exists, format!("container with given ID already exists: {id}"))
}

/// The message that containerd's shim and CRI-O match on.
fn does_not_exist(id: &str) -> Error {
    Error::new(Code::NotFound, format!("container does not exist: {id}"))
}

/// The ids that runc accepts: word characters, `+`, `-` and `.`, but not `.` and `..`.
fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.chars().all(good) {
        return Err(Error::invalid(format!("invalid container ID format: {id:?}"))
            .remedy("use letters, digits, _, +, - and . only, at most 255"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for temporary files, with that of a container in it.
    fn root_with(name: &str) -> (PathBuf, PathBuf) {
        let root = std::env::temp_dir().join(format!("berth-state-{name}-{}", std::process::id()));
        let path = root.join("x");
        std::fs::create_dir_all(&path).unwrap();
        (root, path)
    }

    #[test]
    fn a_fresh_directory_that_somebody_locks_is_no_container_and_is_not_left() {
        let (root, path) = root_with("busy");
        let other = open_directory(&path).unwrap();
        assert!(try_flock(&other).unwrap());
        let error = take("x", path.clone(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), "container x is busy; another berth command on it has not finished");
        assert!(!path.exists());
        std::fs::remove_dir(root).unwrap();
    }

    #[test]
    fn what_another_create_has_made_under_our_name_is_left_alone() {
        let (root, path) = root_with("taken");
        std::fs::write(path.join(STATE), "its own").unwrap();
        let refused = || {
            let error = take("x", path.clone(), Duration::from_millis(20)).unwrap_err();
            assert_eq!(error.to_string(), "container with given ID already exists: x");
            assert_eq!(std::fs::read(path.join(STATE)).unwrap(), b"its own");
        };
        let other = open_directory(&path).unwrap();
        assert!(try_flock(&other).unwrap());
        refused();
        // It has finished.
        drop(other);
        refused();
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_directory_that_has_taken_our_name_is_not_waited_for() {
        let (root, path) = root_with("replaced");
        let ours = StateDir { id: "x".into(), path: path.clone(), fd: open_directory(&path).unwrap() };
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let other = open_directory(&path).unwrap();
        assert!(try_flock(&other).unwrap());
        let before = Instant::now();
        let error = ours.lock(Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(before.elapsed() < Duration::from_secs(30));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn ids() {
        for good in ["a", "0", "a.b", "a+b-c_d", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "é", "a\n"] {
            let error = check_id(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid container ID format"), "{error}");
        }
    }
}
