//! The kernel's boundary: one thin wrapper per system call that nix lacks or wraps too loosely.
//! The only place with `unsafe`; it knows nothing of containers and imports only [`crate::error`].
//!
//! The hardened variant (CLOEXEC, NOFOLLOW) has the short name, the weaker one the long name.
#![allow(unsafe_code)]

pub mod affinity;
pub mod beside;
pub mod bpf;
pub mod credentials;
#[cfg(target_arch = "x86_64")]
mod early;
pub mod fs;
pub mod heap;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod process;
pub mod procfs;
#[cfg(target_arch = "x86_64")]
mod raw;
#[cfg(target_arch = "x86_64")]
mod remap;
pub mod seccomp;
pub mod socket;
pub mod spawn;
#[cfg(glibc_2_36)]
mod start;
pub mod tty;
pub mod vfork;
pub mod xattr;

use nix::errno::Errno;

/// The result of a raw system call as nix would give it.
pub(crate) fn cvt(ret: libc::c_long) -> nix::Result<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
