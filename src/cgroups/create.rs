//! Makes what was planned: directories, limits, device filter.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::controllers;
use super::delegate::Delegated;
use super::devices::{List, Rules};
use super::plan::Plan;
use super::record::{Directory, Record, Version};
use super::remove::remove_parents;
use super::systemd;
use super::write::{Write, open_at, read_at, write_at};
use crate::caller;
use crate::error::{Code, Error, Result};
use crate::sys::{bpf, xattr};

/// Marks a parent that we made only because a cgroupsPath leads through it. Whichever container
/// leaves it last removes it; a parent without the mark is somebody else's. A mark in the kernel and
/// not in a state file, because containers that start at the same time share parents.
pub(super) const MARK_V1: &CStr = c"trusted.berth.parent";
/// cgroup2 takes user attributes (Linux 5.7), which an unprivileged owner may set too.
pub(super) const MARK_V2: &CStr = c"user.berth.parent";

/// Its name with the parent's behind it is a mark on the cgroup above, for as long as the parent may be there and
/// not yet be marked. What a create that was killed has made is known by it ([`Record::finish_parents`]).
///
/// None for a name that is too long for an attribute: of such a parent nothing is noted.
pub(super) fn intent(mark: &CStr, parent: &Path) -> Option<CString> {
    /// XATTR_NAME_MAX of linux/limits.h.
    const LONGEST: usize = 255;
    let name = [mark.to_bytes(), parent.file_name()?.as_bytes()].join(&b'.');
    CString::new(name).ok().filter(|name| name.count_bytes() <= LONGEST)
}

/// A `tasks` file of a v1 hierarchy, open for writing: a single-threaded process that writes "0" into
/// it joins the cgroup. The kernel checks the rights of the opener, so that a container's init may
/// write it after it has given up its own.
#[derive(Debug)]
pub struct TasksFile {
    fd: OwnedFd,
    path: PathBuf,
}

impl TasksFile {
    /// Moves the calling process here. Async-signal-safe except for the error's text.
    ///
    /// # Errors
    /// ENOSPC for a cpuset without cpus or memory nodes; EINVAL for a realtime task without a runtime.
    pub fn join(&self) -> Result<()> {
        nix::unistd::write(&self.fd, b"0")
            .map(drop)
            .map_err(|errno| Error::syscall(format!("write({:?}, \"0\")", self.path), errno))
    }

    /// For errors.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for TasksFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How often more a cgroup is made anew that somebody removes before the first process is in it. It cannot go on for
/// ever: whoever removes them goes on to others.
#[derive(Debug)]
pub struct Attempts(u32);

impl Default for Attempts {
    fn default() -> Self {
        Self(10)
    }
}

impl Attempts {
    /// Whether `error` came of somebody's having removed what was `made`, and there is one more attempt; it is taken.
    pub(super) fn are_worth(&mut self, error: &Error, made: &Record) -> bool {
        if !matches!(error.errno(), Some(Errno::ENODEV | Errno::ENOENT)) {
            return false;
        }
        let Some(left) = self.0.checked_sub(1) else { return false };
        // The kernel takes a cgroup's files away first, and its directory a moment later.
        let is_lost = [0, 100, 400, 1600].into_iter().any(|pause| {
            std::thread::sleep(Duration::from_micros(pause));
            made.is_lost()
        });
        if is_lost {
            self.0 = left;
        }
        is_lost
    }
}

/// A container's cgroup, open for a process to be put in.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) record: Record,
    pub(super) unified: Option<OwnedFd>,
    pub(super) tasks: Vec<TasksFile>,
    pub(super) late: Vec<Write>,
    pub(super) delegated: Option<Delegated>,
}

impl Cgroup {
    /// The directory for clone3's CLONE_INTO_CGROUP; [`None`] without cgroup2.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files that the new process joins itself; empty on v2.
    pub fn tasks(&self) -> &[TasksFile] {
        &self.tasks
    }

    /// Moves a process into the unified hierarchy from outside, for a kernel that could not clone it
    /// into there. Waits for an RCU grace period.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attach(&self, pid: nix::unistd::Pid) -> Result<()> {
        match &self.unified {
            Some(fd) => write_at(fd.as_fd(), "cgroup.procs", &pid.to_string())
                .map_err(|(call, errno)| Error::syscall(format!("{call}(cgroup.procs, \"{pid}\")"), errno)),
            None => Ok(()),
        }
    }

    /// What was really made: without hierarchies that we have no right to and that no limit needs.
    /// [`Record::is_some`] is false when the container stays in our own cgroup.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What a failure to put the first process in was for: Ok when somebody has removed the cgroup meanwhile, because it
    /// was empty, as systemd does on the hierarchies of v1 that its own units need no more. What is left of it is gone
    /// then, and it can be made anew, so often as there are `attempts`.
    ///
    /// # Errors
    /// `error`, when it has another cause.
    pub fn retire(&self, error: Error, attempts: &mut Attempts) -> Result<()> {
        if !attempts.are_worth(&error, &self.record) {
            return Err(error);
        }
        // Of the process that failed there may be something for a moment more.
        match self.record.remove(Duration::from_secs(1)) {
            Ok(()) => Ok(()),
            Err(second) => Err(error.context(format!("(and then: {second})"))),
        }
    }

    /// Whether [`Cgroup::seal`] has something to do.
    pub fn is_sealed_later(&self) -> bool {
        !self.late.is_empty() || self.delegated.is_some()
    }

    /// Moves init into the cgroup that belongs to the container, and writes the limits that would have
    /// refused the clone itself (`pids.max` 0 on v2). Call it when init needs no more processes of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn seal(&self, init: nix::unistd::Pid) -> Result<()> {
        match (&self.unified, self.record.unified()) {
            (Some(fd), Some(directory)) => {
                if let Some(delegated) = &self.delegated {
                    delegated.take_in(init, fd.as_fd(), directory)?;
                }
                self.late.iter().try_for_each(|write| write.apply(fd.as_fd(), &directory.host_path()))
            }
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// Makes the cgroup, empty. On v2 its limits and its device filter come by [`Plan::limit_unified`]
    /// after the clone: the kernel checks the filter while init makes its mounts.
    ///
    /// A hierarchy in which we may not create (EACCES, EPERM, EROFS: an unprivileged caller, or
    /// read-only cgroupfs in a container) is left out, unless a limit was asked of it.
    ///
    /// # Errors
    /// A cgroup with processes or a frozen one is there already; a controller cannot be enabled; the
    /// kernel refuses a value. Everything that was made is removed again.
    pub fn create(&self) -> Result<Cgroup> {
        let mut attempts = Attempts::default();
        loop {
            let mut made = Vec::new();
            let first = match self.create_all(&mut made) {
                Ok(cgroup) => return Ok(cgroup),
                Err(error) => error,
            };
            let record = Record { directories: made, unit: None, ..self.record.clone() };
            let again = attempts.are_worth(&first, &record);
            // Nothing has run in them, so that this does not wait. The first error is the one to tell.
            if let Err(error) = record.remove(Duration::ZERO) {
                return Err(first.context(format!("(and then: {error})")));
            }
            if !again {
                return Err(first);
            }
        }
    }

    /// Applies what [`Plan::create`] has left: before the container's program runs.
    ///
    /// # Errors
    /// The kernel refuses a value or the filter.
    pub fn limit_unified(&self, cgroup: &Cgroup) -> Result<()> {
        match (&cgroup.unified, cgroup.record.unified()) {
            // With systemd the scope's own start has done it.
            (Some(fd), Some(directory)) if self.scope.is_none() => {
                self.limit(directory, fd.as_fd(), &directory.host_path())
            }
            _ => Ok(()),
        }
    }

    /// `made`: the directories that were not there before.
    fn create_all(&self, made: &mut Vec<Directory>) -> Result<Cgroup> {
        let mut cgroup = Cgroup {
            // The scope is not ours before systemd has agreed to make it: another's may have its name.
            record: Record { directories: Vec::new(), unit: None, ..self.record.clone() },
            unified: None,
            tasks: Vec::with_capacity(self.record.directories.len()),
            late: self.late.clone(),
            delegated: self.delegated.clone(),
        };
        for directory in &self.record.directories {
            if self.scope.is_some() && systemd::manages(self.record.version, directory) {
                continue;
            }
            let path = directory.host_path();
            let (fd, new) = match self.make(directory) {
                Ok(made) => made,
                Err(error) if refused(&error) && self.is_dispensable(directory)? => continue,
                Err(error) => return Err(error.context(format!("create cgroup {}", path.display()))),
            };
            // At once: from now on another's at the same path is known for it.
            let directory = directory.opened_as(&fd);
            if new {
                made.push(directory.clone());
            } else {
                refuse_in_use(fd.as_fd(), &path)?;
            }
            if directory.is_unified() {
                cgroup.unified = Some(fd);
            } else {
                // Now: a cpuset without its values takes no process in.
                self.limit(&directory, fd.as_fd(), &path)?;
                cgroup.tasks.push(open_tasks(fd.as_fd(), &path)?);
            }
            cgroup.record.directories.push(directory);
        }
        Ok(cgroup)
    }

    /// Makes the directory, and its parents where they are missing; whether it is new.
    ///
    /// # Errors
    /// The kernel's. The parents that were made are gone again.
    pub(super) fn make(&self, directory: &Directory) -> Result<(OwnedFd, bool)> {
        self.make_with_parents(directory).map_err(|error| match remove_parents(directory) {
            Ok(()) => error,
            Err(second) => error.context(format!("(and then: {second})")),
        })
    }

    fn make_with_parents(&self, directory: &Directory) -> Result<(OwnedFd, bool)> {
        let root = open_root(&directory.mountpoint)?;
        // Nearly always the parents are there. One that another container leaves at this moment can
        // vanish under us; it cannot go on for ever, because each round another container has to end.
        for _ in 0..100 {
            match self.make_leaf(root.as_fd(), directory) {
                Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => {
                    match make_parents(root.as_fd(), directory) {
                        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                        result => result?,
                    }
                }
                result => return result,
            }
        }
        self.make_leaf(root.as_fd(), directory)
    }

    fn make_leaf(&self, root: BorrowedFd<'_>, directory: &Directory) -> Result<(OwnedFd, bool)> {
        // Before the directory: to give it a controller later is a second migration.
        if directory.is_unified() && self.record.version == Version::V2 {
            controllers::enable(root, directory, self.writes.iter().chain(&self.late))?;
        }
        let new = make_directory(root, &directory.path)?;
        let fd = open_below(root, &directory.path)?;
        if directory.has("cpuset") {
            inherit_cpuset(root, &directory.path, "cpuset.cpus")?;
            inherit_cpuset(root, &directory.path, "cpuset.mems")?;
        }
        Ok((fd, new))
    }

    /// Applies the limits and the device filter that belong to this hierarchy.
    pub(super) fn limit(&self, directory: &Directory, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
        for write in &self.writes {
            if self.belongs(write, directory) {
                write.apply(fd, path)?;
            }
        }
        if directory.has("devices") {
            write_list(&self.devices, fd, path)
        } else if directory.is_unified() && self.record.version == Version::V2 {
            attach_filter(&self.devices, fd, path)
        } else {
            Ok(())
        }
    }

    fn belongs(&self, write: &Write, directory: &Directory) -> bool {
        match self.record.version {
            Version::V1 => directory.has(&write.controller),
            Version::V2 => directory.is_unified(),
        }
    }

    /// Whether the container can do without this hierarchy: no limit was asked of it, and it is not
    /// the one that keeps a privileged container from the host's devices.
    fn is_dispensable(&self, directory: &Directory) -> Result<bool> {
        let limited = self.writes.iter().chain(&self.late).any(|write| self.belongs(write, directory));
        let limited = limited || (self.delegated.is_some() && directory.is_unified());
        let filters = directory.has("devices") || self.record.version == Version::V2;
        Ok(!limited && (!filters || !devices_matter()?))
    }
}

fn refused(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
}

/// Whether a container of ours could open the host's devices if nothing filtered them. Without root
/// in the initial user namespace it can make no device nodes, and the host's file modes hold for
/// those that it finds; runc skips the filter in the same cases (fs2/devices.go, fs2.go).
fn devices_matter() -> Result<bool> {
    caller::is_initial_root()
}

pub(super) fn open_root(mountpoint: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, mountpoint, flags, Mode::empty())
        .map_err(|errno| Error::syscall(format!("open({mountpoint:?}, PATH|DIRECTORY)"), errno))
}

pub(super) fn open_below(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(root, path, flags, Mode::empty())
        .map_err(|errno| Error::syscall(format!("openat(cgroup, {path:?}, DIRECTORY)"), errno))
}

/// Whether it is new.
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    match mkdirat(root, path, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => {
            let error = Error::syscall(format!("mkdirat(cgroup, {path:?})"), errno);
            Err(match errno {
                Errno::EACCES | Errno::EPERM | Errno::EROFS => error.remedy(
                    "limits need a cgroup that is delegated to you; leave linux.resources out, or use --systemd-cgroup",
                ),
                Errno::EAGAIN => {
                    error.remedy("a parent's cgroup.max.depth or cgroup.max.descendants is reached")
                }
                Errno::ENOSPC => error.remedy("the kernel has no more room for cgroups: delete some that are empty"),
                _ => error,
            })
        }
    }
}

/// Makes and marks the parents that are missing.
fn make_parents(root: BorrowedFd<'_>, directory: &Directory) -> Result<()> {
    let Some(parent) = directory.path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mark = if directory.is_unified() { MARK_V2 } else { MARK_V1 };
    let mut parents: Vec<&Path> = parent.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        if !is_there(root, parent)? {
            make_parent(root, parent, mark)?;
        }
    }
    Ok(())
}

fn is_there(root: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    match fstatat(root, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::syscall(format!("fstatat(cgroup, {path:?})"), errno)),
    }
}

fn make_parent(root: BorrowedFd<'_>, path: &Path, mark: &CStr) -> Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = open_below(root, above)?;
    let Some(intent) = intent(mark, path) else { return make_marked(root, path, mark) };
    // Before the directory: killed between making and marking it, we would leave one that nobody removes.
    match xattr::set(above.as_fd(), &intent, b"") {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::ENOSPC) => {}
        Err(errno) => return Err(Error::syscall(format!("setxattr({intent:?})"), errno)),
    }
    let made = make_marked(root, path, mark);
    match xattr::remove(above.as_fd(), &intent) {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => made,
        Err(errno) => made.and(Err(Error::syscall(format!("removexattr({intent:?})"), errno))),
    }
}

fn make_marked(root: BorrowedFd<'_>, path: &Path, mark: &CStr) -> Result<()> {
    if !make_directory(root, path)? {
        return Ok(());
    }
    let fd = open_below(root, path)?;
    match xattr::set(fd.as_fd(), mark, b"") {
        // An unmarked parent stays when it is empty, as with runc.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => Ok(()),
        Err(errno) => {
            let call = format!("setxattr({path:?}, {mark:?})");
            // Without its mark nobody would remove it.
            unlinkat(root, path, UnlinkatFlags::RemoveDir)
                .map_err(|errno| Error::syscall(format!("rmdir({path:?})"), errno))?;
            Err(Error::syscall(call, errno))
        }
    }
}

/// Gives a v1 cpuset the cpus or memory nodes of its parents where it has none, and the parents
/// theirs: the kernel lets no process into a cpuset without (ENOSPC), and a new one has none unless
/// `cgroup.clone_children` is on. The value.
fn inherit_cpuset(root: BorrowedFd<'_>, path: &Path, file: &str) -> Result<String> {
    let shown = path.join(file).display().to_string();
    let value =
        read_at(root, &shown).map_err(|errno| Error::syscall(format!("read(cpuset, {shown:?})"), errno))?;
    match path.parent() {
        Some(parent) if value.trim().is_empty() => {
            let inherited = inherit_cpuset(root, parent, file)?;
            write_at(root, &shown, &inherited).map_err(|(call, errno)| {
                Error::syscall(format!("{call}(cpuset, {shown:?}, {inherited:?})"), errno)
            })?;
            Ok(inherited)
        }
        // The root of the hierarchy always has them.
        _ => Ok(value.trim().to_owned()),
    }
}

/// A cgroup that was there before is taken over only if nothing is in it (as runc does): the limits
/// of one container must not fall on the processes of another, nor must its end kill them.
fn refuse_in_use(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let mut pids = std::collections::BTreeSet::new();
    super::record::collect_pids(path, &mut pids)?;
    if !pids.is_empty() {
        let pids: Vec<_> = pids.iter().take(5).map(ToString::to_string).collect();
        let what = format!(
            "container's cgroup is not empty: {} has processes: pid {}",
            path.display(),
            pids.join(", ")
        );
        return Err(Error::new(Code::Exists, what).remedy("use another linux.cgroupsPath, or end them"));
    }
    let frozen = match read_at(fd, "freezer.state").or_else(|_| read_at(fd, "cgroup.events")) {
        Ok(state) => state.lines().any(|line| line == "frozen 1" || line == "FROZEN" || line == "FREEZING"),
        Err(Errno::ENOENT) => false,
        Err(errno) => return Err(Error::syscall(format!("read({:?})", path.join("freezer.state")), errno)),
    };
    if frozen {
        let what = format!("container's cgroup unexpectedly frozen: {}", path.display());
        return Err(Error::new(Code::State, what).remedy("thaw it, or use another linux.cgroupsPath"));
    }
    Ok(())
}

fn open_tasks(fd: BorrowedFd<'_>, path: &Path) -> Result<TasksFile> {
    let path = path.join("tasks");
    open_at(fd, "tasks", OFlag::O_WRONLY)
        .map(|fd| TasksFile { fd, path: path.clone() })
        .map_err(|errno| Error::syscall(format!("open({path:?}, WRONLY)"), errno))
}

/// Brings a v1 devices list from what it is to what it shall be.
pub(super) fn write_list(rules: &Rules, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let target = rules.list()?;
    let text = read_at(fd, "devices.list")
        .map_err(|errno| Error::syscall(format!("read({:?})", path.join("devices.list")), errno))?;
    let current = List::parse(&text).ok_or_else(|| {
        Error::new(Code::Kernel, format!("{:?}: unknown line in {text:?}", path.join("devices.list")))
    })?;
    let mut open: Option<(&str, OwnedFd)> = None;
    for (file, rule) in target.writes_from(&current) {
        let result = match &open {
            Some((name, fd)) if *name == file => write_rule(fd, &rule),
            _ => open_at(fd, file, OFlag::O_WRONLY).map_err(|errno| ("open", errno)).and_then(|fd| {
                let (_, fd) = open.insert((file, fd));
                write_rule(fd, &rule)
            }),
        };
        match result {
            Ok(()) => {}
            // Our own cgroup does not have it to give, and nobody asked for it.
            Err((_, Errno::EPERM)) if file == "devices.allow" && List::is_default(&rule) => {}
            Err((_, Errno::EPERM | Errno::EACCES)) if !devices_matter()? => return Ok(()),
            Err((call, errno)) => {
                let call = format!("{call}({:?}, {rule:?})", path.join(file));
                return Err(Error::syscall(call, errno)
                    .remedy("a cgroup cannot allow what its parent does not allow")
                    .context("apply linux.resources.devices"));
            }
        }
    }
    Ok(())
}

fn write_rule(fd: &OwnedFd, rule: &str) -> Result<(), (&'static str, Errno)> {
    nix::unistd::write(fd, rule.as_bytes()).map(drop).map_err(|errno| ("write", errno))
}

/// Loads the filter and attaches it to a v2 cgroup that has none of ours.
fn attach_filter(rules: &Rules, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    load_filter(rules, |program| {
        bpf::attach_device_filter(fd, program, None).map_err(|errno| {
            Error::syscall(format!("bpf(PROG_ATTACH, {path:?}, CGROUP_DEVICE|ALLOW_MULTI)"), errno)
        })
    })
}

/// Puts a new filter in the place of ours. Those of others (systemd's DeviceAllow=) stay: all must
/// allow an access. There is no moment without a filter: one is exchanged by the kernel, and where it
/// cannot do that (before Linux 5.6) the old one goes only when the new one is there.
pub(super) fn replace_filter(rules: &Rules, fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    load_filter(rules, |program| {
        let call = |what: &str| format!("bpf({what}, {path:?}, CGROUP_DEVICE)");
        let ours = bpf::device_filters(fd).map_err(|errno| Error::syscall(call("PROG_QUERY"), errno))?;
        let exchanged = match ours.as_slice() {
            [one] => bpf::attach_device_filter(fd, program, Some(one.as_fd())),
            _ => Err(Errno::EINVAL),
        };
        match exchanged {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(Error::syscall(call("PROG_ATTACH"), errno)),
        }
        bpf::attach_device_filter(fd, program, None)
            .map_err(|errno| Error::syscall(call("PROG_ATTACH"), errno))?;
        for old in ours {
            bpf::detach_device_filter(fd, old.as_fd())
                .map_err(|errno| Error::syscall(call("PROG_DETACH"), errno))?;
        }
        Ok(())
    })
}

/// Loads the filter and hands it to `attach`. Where the kernel refuses either and nobody could open
/// the host's devices anyway, there is no filter.
fn load_filter(rules: &Rules, attach: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    let loaded = bpf::load_device_filter(&rules.program()).map_err(|errno| {
        Error::syscall("bpf(PROG_LOAD, CGROUP_DEVICE)", errno)
            .remedy("the device filter needs CAP_BPF and a kernel with CONFIG_CGROUP_BPF")
    });
    match loaded.and_then(|program| attach(program.as_fd())) {
        Ok(()) => Ok(()),
        Err(error) if refused(&error) && !devices_matter()? => Ok(()),
        Err(error) => Err(error.context("apply linux.resources.devices")),
    }
}

/// That a process cannot be put into a cgroup that is not there, in runc's words.
pub(super) fn gone(path: &Path) -> Error {
    let what = format!("adding pid to {}/cgroup.procs: no such file or directory", path.display());
    Error::new(Code::State, what)
}

impl Record {
    /// Opens the container's cgroup for one more process (exec).
    ///
    /// # Errors
    /// The cgroup is gone: the container has ended.
    pub fn open(&self) -> Result<Cgroup> {
        let mut cgroup = Cgroup {
            record: self.clone(),
            unified: None,
            tasks: Vec::new(),
            late: Vec::new(),
            delegated: None,
        };
        for directory in &self.directories {
            let path = directory.host_path();
            let fd = directory.open()?.ok_or_else(|| gone(&path))?;
            if directory.is_unified() {
                cgroup.unified = Some(fd);
            } else {
                cgroup.tasks.push(open_tasks(fd.as_fd(), &path)?);
            }
        }
        Ok(cgroup)
    }
}
