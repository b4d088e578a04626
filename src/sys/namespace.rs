//! System calls on namespaces and on what lives in them (domain name, network interfaces).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_short};

use super::cvt;

/// The clone flag of the namespace behind `fd` (NS_GET_NSTYPE of ioctl_nsfs(2), Linux 4.11); ENOTTY when
/// it is no namespace.
pub fn nstype(fd: BorrowedFd<'_>) -> nix::Result<u64> {
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
    let kind = cvt(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) }))?;
    Ok(kind.unsigned_abs())
}

/// setns(2); nix's flags have no CLONE_NEWTIME.
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> nix::Result<()> {
    let kind = c_int::try_from(kind).map_err(|_| nix::errno::Errno::EINVAL)?;
    // SAFETY: all arguments are numbers; the descriptor is open as long as the borrow lives.
    cvt(c_long::from(unsafe { libc::setns(fd.as_raw_fd(), kind) }))?;
    Ok(())
}

/// unshare(2); nix's flags have no CLONE_NEWTIME.
pub fn unshare(flags: u64) -> nix::Result<()> {
    let flags = c_int::try_from(flags).map_err(|_| nix::errno::Errno::EINVAL)?;
    // SAFETY: the argument is a number; berth has no thread that could be surprised.
    cvt(c_long::from(unsafe { libc::unshare(flags) }))?;
    Ok(())
}

/// setdomainname(2) (the NIS name of the UTS namespace).
pub fn setdomainname(name: &[u8]) -> nix::Result<()> {
    // SAFETY: the kernel reads exactly `name.len()` bytes.
    cvt(c_long::from(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }))?;
    Ok(())
}

/// Adds IFF_UP to an interface of the calling thread's network namespace (netdevice(7)).
pub fn set_interface_up(name: &str) -> nix::Result<()> {
    // SAFETY: all arguments are numbers.
    let raw =
        cvt(c_long::from(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }))?;
    let raw = c_int::try_from(raw).map_err(|_| nix::errno::Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(nix::errno::Errno::ENAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFFLAGS writes into the one ifreq it is given; its name ends with NUL (checked above).
    cvt(c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }))?;
    // SAFETY: SIOCGIFFLAGS has set this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = c_short::try_from(libc::IFF_UP).map_err(|_| nix::errno::Errno::EINVAL)?;
    if flags & up == up {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: SIOCSIFFLAGS reads the one ifreq it is given.
    cvt(c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }))?;
    Ok(())
}
