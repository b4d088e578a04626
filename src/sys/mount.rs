//! The mount calls that take descriptors: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2),
//! fsconfig(2), fsmount(2). mount(2), umount2(2) and pivot_root(2) are nix's.
//!
//! Flags are the kernel's own (`linux/mount.h`), re-exported where callers need them.

use std::ffi::{CStr, CString, OsString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::NixPath;
use nix::errno::Errno;

use super::cvt;
use crate::error::{Call, Result};

/// Attributes of a mount, `MOUNT_ATTR_*`.
pub mod attr {
    pub use libc::{
        MOUNT_ATTR__ATIME as ATIME, MOUNT_ATTR_IDMAP as IDMAP, MOUNT_ATTR_NOATIME as NOATIME,
        MOUNT_ATTR_NODEV as NODEV, MOUNT_ATTR_NODIRATIME as NODIRATIME, MOUNT_ATTR_NOEXEC as NOEXEC,
        MOUNT_ATTR_NOSUID as NOSUID, MOUNT_ATTR_NOSYMFOLLOW as NOSYMFOLLOW, MOUNT_ATTR_RDONLY as RDONLY,
        MOUNT_ATTR_RELATIME as RELATIME, MOUNT_ATTR_STRICTATIME as STRICTATIME,
    };
}

/// Which directory of its file system is visible at the mount point `path` (field 4 of mountinfo). Linux 6.8;
/// one mount is asked about, where /proc/self/mountinfo lists all.
///
/// # Errors
/// ENOSYS, EINVAL before Linux 6.8; EOVERFLOW: the path is longer than 1 KiB; as statx(2).
pub fn root_of<P: NixPath + ?Sized>(path: &P) -> nix::Result<Vec<u8>> {
    let stat = path.with_nix_path(|path| statx_mount(cwd(), path, 0))??;
    if stat.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return Err(Errno::ENOSYS);
    }
    statmount(stat.stx_mnt_id, STATMOUNT_MNT_ROOT, |answer| answer.root)
}

/// Where the mount with this number ([`id`]) is mounted now. Linux 6.8.
///
/// # Errors
/// ENOENT: there is none in the caller's mount namespace; as [`root_of`].
pub fn point_of(id: u64) -> nix::Result<PathBuf> {
    statmount(id, STATMOUNT_MNT_POINT, |answer| answer.point).map(|path| OsString::from_vec(path).into())
}

const STATMOUNT_MNT_ROOT: u64 = 0x8;
const STATMOUNT_MNT_POINT: u64 = 0x10;

/// `struct statmount` of linux/mount.h: what we read of it, and the strings behind it.
#[repr(C)]
struct Statmount {
    size: u32,
    options: u32,
    mask: u64,
    _numbers: [u64; 11],
    /// Where its string begins in `strings`.
    root: u32,
    /// The same.
    point: u32,
    _rest: [u32; 100],
    strings: [u8; 1024],
}

/// statmount(2) for one string.
fn statmount(id: u64, wanted: u64, string: fn(&Statmount) -> u32) -> nix::Result<Vec<u8>> {
    /// The same on all architectures; libc does not have it for each.
    const SYS_STATMOUNT: libc::c_long = 457;
    const SIZE: u32 = 24;
    /// `struct mnt_id_req` of linux/mount.h, its first version.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        wanted: u64,
    }
    const {
        assert!(
            size_of::<Request>() == SIZE as usize
                && std::mem::offset_of!(Statmount, root) == 104
                && std::mem::offset_of!(Statmount, strings) == 512
        )
    };
    let request = Request { size: SIZE, spare: 0, mount: id, wanted };
    // SAFETY: plain numbers, for which zero is a value.
    let mut answer: Statmount = unsafe { std::mem::zeroed() };
    let (from, to, room) = (&raw const request, &raw mut answer, size_of::<Statmount>());
    // SAFETY: the kernel reads a request of the size that it says, and writes no more than `room` bytes.
    cvt(unsafe { libc::syscall(SYS_STATMOUNT, from, to, room, 0) })?;
    let strings = answer.strings.get(string(&answer) as usize..).ok_or(Errno::EOVERFLOW)?;
    let found = CStr::from_bytes_until_nul(strings).map_err(|_| Errno::EOVERFLOW)?;
    if answer.mask & wanted == 0 || found.is_empty() {
        return Err(Errno::ENOSYS);
    }
    Ok(found.to_bytes().to_vec())
}

const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// The kernel's number of the mount that `fd` lies on. No other mount has it, and from Linux 6.8 on none ever had or
/// will have. Linux 5.8.
///
/// # Errors
/// ENOSYS before Linux 5.8; as statx(2).
pub fn id(fd: BorrowedFd<'_>) -> nix::Result<u64> {
    let stat = statx_mount(fd, c"", libc::AT_EMPTY_PATH)?;
    match stat.stx_mask & (STATX_MNT_ID_UNIQUE | libc::STATX_MNT_ID) {
        0 => Err(Errno::ENOSYS),
        _ => Ok(stat.stx_mnt_id),
    }
}

/// statx(2) for `stx_mnt_id`, of the better kind that the kernel has.
fn statx_mount(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> nix::Result<libc::statx> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let wanted = STATX_MNT_ID_UNIQUE | libc::STATX_MNT_ID;
    // SAFETY: the path is a C string and `stat` is written to by the kernel.
    let ret = unsafe { libc::statx(dir.as_raw_fd(), path.as_ptr(), flags, wanted, &raw mut stat) };
    cvt(ret.into())?;
    Ok(stat)
}

/// What a mount_setattr(2) changes; all zero changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear. The atime setting is one field: clear [`attr::ATIME`] to set it.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
}

/// A descriptor from a call that returned one.
fn owned(ret: libc::c_long) -> OwnedFd {
    #[allow(clippy::cast_possible_truncation)] // a descriptor is an int in a long
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    unsafe {
        OwnedFd::from_raw_fd(ret as i32)
    }
}

/// How open_tree(2) copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clone {
    /// The mount alone.
    One,
    /// With all mounts below it.
    Recursive,
}

/// A detached, close-on-exec copy of the mount at `path`, below `dir` when relative; an empty `path` is
/// `dir` itself. `follow` resolves a symlink in the last component. Linux 5.2.
///
/// Attach it before closing it: dissolving a detached tree waits for an RCU grace period.
pub fn open_tree<P: NixPath + ?Sized>(
    dir: BorrowedFd<'_>,
    path: &P,
    clone: Clone,
    follow: bool,
) -> nix::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if clone == Clone::Recursive {
        flags |= AT_RECURSIVE;
    }
    if !follow {
        flags |= AT_SYMLINK_NOFOLLOW;
    }
    let ret = path.with_nix_path(|path| {
        // SAFETY: `path` is a C string and `dir` an open descriptor for the duration of the call.
        cvt(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
    })??;
    Ok(owned(ret))
}

/// Attaches the tree `mount` at the very object `target` refers to (a directory or a file; symlinks
/// play no part). Linux 5.2.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: both paths are the empty C string, both descriptors are open for the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), empty, target.as_raw_fd(), empty, flags)
    };
    cvt(ret).map(drop)
}

/// Changes the mount whose root `mount` refers to, with `recursive` also all mounts below it.
/// Linux 5.12.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attributes: &Attributes) -> nix::Result<()> {
    setattr(mount, recursive, attributes, None)
}

/// Makes the detached `mount` id-mapped by the maps of the user namespace `userns`.
/// Linux 5.12, if the filesystem supports it; the caller needs CAP_SYS_ADMIN over the filesystem.
pub fn mount_set_idmap(mount: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> nix::Result<()> {
    setattr(mount, recursive, &Attributes { set: attr::IDMAP, ..Attributes::default() }, Some(userns))
}

fn setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &Attributes,
    userns: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: userns.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    // SAFETY: the path is the empty C string; the structure is a mount_attr and its true size is given.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    cvt(ret).map(drop)
}

/// A filesystem that is being configured, from fsopen(2). Linux 5.2.
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Opens a context for the filesystem type `fstype`; ENODEV when the kernel does not know it.
    pub fn open(fstype: &CStr) -> nix::Result<Self> {
        // SAFETY: `fstype` is a C string for the duration of the call.
        let ret = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), libc::FSOPEN_CLOEXEC) };
        cvt(ret).map(|fd| Self(owned(fd)))
    }

    /// Sets `key` to `value`: `source`, or an option of the filesystem.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> nix::Result<()> {
        self.config(libc::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
    }

    /// Sets an option without a value: `ro`, `newinstance`.
    pub fn set_flag(&self, key: &CStr) -> nix::Result<()> {
        self.config(libc::FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null(), 0)
    }

    /// Sets `key` to what a descriptor refers to: `pidns`, the pid namespace that a procfs shows (Linux 6.17).
    pub fn set_descriptor(&self, key: &CStr, value: BorrowedFd<'_>) -> nix::Result<()> {
        self.config(libc::FSCONFIG_SET_FD, key.as_ptr(), std::ptr::null(), value.as_raw_fd())
    }

    /// Makes the superblock and a detached mount of it with the `MOUNT_ATTR_*` `attributes`.
    pub fn mount(&self, attributes: u64) -> nix::Result<OwnedFd> {
        self.config(libc::FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null(), 0)?;
        // SAFETY: no pointers.
        let ret = unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes)
        };
        cvt(ret).map(owned)
    }

    /// The kernel's own words on what went wrong, such as `tmpfs: Bad value for 'size'`.
    pub fn message(&self) -> Option<String> {
        // Each read gives one message: "e text" (error), "w text" (warning), "i text" (information).
        let mut log = std::fs::File::from(self.0.try_clone().ok()?);
        let mut message = [0; 1024];
        let mut errors = Vec::new();
        while let Ok(n @ 1..) = log.read(&mut message) {
            let text = String::from_utf8_lossy(&message[..n]);
            if let Some(error) = text.strip_prefix("e ") {
                errors.push(error.trim().to_owned());
            }
        }
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    fn config(
        &self,
        command: libc::fsconfig_command,
        key: *const libc::c_char,
        value: *const libc::c_char,
        aux: i32,
    ) -> nix::Result<()> {
        // SAFETY: key and value are null or C strings that outlive the call, as the callers above
        // show; aux is 0, or a descriptor.
        cvt(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, aux) })
            .map(drop)
    }
}

/// Whether a procfs can show another pid namespace than that of who mounts it: its option `pidns`, Linux 6.17.
pub fn procfs_takes_a_pid_namespace() -> bool {
    let Ok(own) = std::fs::File::open("/proc/self/ns/pid") else { return false };
    let set = |procfs: Filesystem| procfs.set_descriptor(c"pidns", own.as_fd());
    Filesystem::open(c"proc").and_then(set).is_ok()
}

/// `text` as a C string; EINVAL when it holds a NUL byte, as the kernel could not see it whole.
pub fn cstring(text: impl Into<Vec<u8>>) -> nix::Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

/// The current directory as a descriptor argument (`AT_FDCWD`).
pub fn cwd() -> BorrowedFd<'static> {
    nix::fcntl::AT_FDCWD
}

/// The slave of the pty `master`, opened through the master (TIOCGPTPEER, Linux 4.13): no path of the
/// container's `/dev/pts` is walked, so none can be swapped (CVE-2025-52565).
pub fn open_pty_peer(master: impl AsFd) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    let ret = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    cvt(libc::c_long::from(ret)).map(owned)
}

/// The AT_* flags as the unsigned values that the mount calls take.
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.unsigned_abs();
const AT_RECURSIVE: u32 = libc::AT_RECURSIVE.unsigned_abs();
const AT_SYMLINK_NOFOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW.unsigned_abs();

/// A new user namespace with the maps `uids` and `gids` (lines of uid_map), held by its descriptor
/// alone. The caller needs CAP_SETUID, CAP_SETGID and to be single-threaded.
pub fn user_namespace(uids: &str, gids: &str) -> Result<OwnedFd> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: like fork(2) of a single-threaded process: the child has its own copy of all memory, and
    // makes no call but pause(2). All further arguments are unused by these flags.
    let pid = cvt(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) });
    let pid = pid.call(|| "clone(CLONE_NEWUSER)".into())?;
    if pid == 0 {
        // Should the parent die, the child must not stay.
        // SAFETY: plain values; nothing is shared.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    }
    let namespace = (|| {
        for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
            let path = format!("/proc/{pid}/{file}");
            std::fs::write(&path, map).call(|| format!("write({path:?}, {map:?})"))?;
        }
        let path = format!("/proc/{pid}/ns/user");
        std::fs::File::open(&path).map(OwnedFd::from).call(|| format!("open({path:?})"))
    })();
    #[allow(clippy::cast_possible_truncation)] // a pid is an int in a long
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
        .call(|| format!("kill({pid}, SIGKILL)"))?;
    nix::sys::wait::waitpid(pid, None).call(|| format!("waitpid({pid})"))?;
    namespace
}

/// Lets the slave of the pty `master` be opened (TIOCSPTLCK 0).
pub fn unlock_pty(master: impl AsFd) -> nix::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int through the pointer, which lives for the call.
    let ret = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
    cvt(libc::c_long::from(ret)).map(drop)
}
