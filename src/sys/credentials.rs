//! System calls on a process's own rights: capabilities, ids, limits, keyring, scheduling.
//!
//! Everything here acts on the calling thread; berth has no other (credentials(7) are per thread in
//! the kernel, only the C library makes them look per process).

use std::ffi::CStr;

use libc::{c_int, c_long, c_uint, c_ulong};

use super::cvt;

/// The three sets of capset(2), one bit per capability number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What the kernel checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What is kept over execve(2) of a file with inheritable capabilities.
    pub inheritable: u64,
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct` of linux/capability.h; two of them make 64 bits.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words per set (Linux 2.6.26).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The low and high 32 bits of a set.
fn words(set: u64) -> [u32; 2] {
    let bytes = set.to_le_bytes();
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}

/// capget(2) of the calling thread.
pub fn capget() -> nix::Result<Sets> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 makes the kernel write exactly two data structs, which `data` holds.
    cvt(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// capset(2) of the calling thread.
pub fn capset(sets: Sets) -> nix::Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let (effective, permitted, inheritable) =
        (words(sets.effective), words(sets.permitted), words(sets.inheritable));
    let data = [0, 1].map(|i| CapData {
        effective: effective[i],
        permitted: permitted[i],
        inheritable: inheritable[i],
    });
    // SAFETY: version 3 makes the kernel read exactly two data structs, which `data` holds.
    cvt(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// prctl(2) with integer arguments only.
fn prctl(option: c_int, args: [c_ulong; 4]) -> nix::Result<c_long> {
    // SAFETY: the private callers pass only options whose arguments are numbers; the kernel reads no memory.
    cvt(c_long::from(unsafe { libc::prctl(option, args[0], args[1], args[2], args[3]) }))
}

/// Whether the capability is in the bounding set; EINVAL for a number the kernel does not know.
pub fn bounding_has(capability: u32) -> nix::Result<bool> {
    Ok(prctl(libc::PR_CAPBSET_READ, [c_ulong::from(capability), 0, 0, 0])? == 1)
}

/// Takes the capability out of the bounding set for good; needs CAP_SETPCAP.
pub fn bounding_drop(capability: u32) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, [c_ulong::from(capability), 0, 0, 0])?;
    Ok(())
}

/// Empties the ambient set; EINVAL before Linux 4.3.
pub fn ambient_clear() -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0, 0, 0])?;
    Ok(())
}

/// Adds a capability that is permitted and inheritable to the ambient set; EPERM otherwise.
pub fn ambient_raise(capability: u32) -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as c_ulong, c_ulong::from(capability), 0, 0])?;
    Ok(())
}

/// PR_SET_KEEPCAPS: whether the permitted set survives the change from uid 0 to another. The kernel
/// clears it at execve(2).
pub fn keep_capabilities(keep: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [c_ulong::from(keep), 0, 0, 0])?;
    Ok(())
}

/// PR_SET_NO_NEW_PRIVS, which cannot be undone.
pub fn no_new_privs() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0])?;
    Ok(())
}

/// prlimit64(2) of the calling process; `u64::MAX` is RLIM_INFINITY.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit64, whose layout is the same on all architectures, and is
    // given no place to write the old one.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// The (soft, hard) limit of the calling process.
pub fn rlimit(resource: u32) -> nix::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit64 into `limit` and reads nothing.
    cvt(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// `struct sched_attr` of linux/sched/types.h in its second version (56 bytes, Linux 5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// `sizeof(struct sched_attr)`; filled by [`sched_setattr`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 … 19, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 … 99, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period: u64,
    /// 0 … 1024, with SCHED_FLAG_UTIL_CLAMP_MIN.
    pub util_min: u32,
    /// 0 … 1024, with SCHED_FLAG_UTIL_CLAMP_MAX.
    pub util_max: u32,
}

/// sched_setattr(2) of a thread; 0 is the calling one.
pub fn sched_setattr(thread: c_int, attr: SchedAttr) -> nix::Result<()> {
    const SIZE: u32 = 56;
    const { assert!(size_of::<SchedAttr>() == SIZE as usize) };
    let attr = SchedAttr { size: SIZE, ..attr };
    // SAFETY: the kernel reads `attr.size` bytes, which is the size of `attr` (asserted above).
    cvt(unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attr, 0) })?;
    Ok(())
}

/// ioprio_set(2) of the calling thread; `value` is class << 13 | level.
pub fn ioprio_set(value: c_int) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    // SAFETY: all arguments are numbers.
    cvt(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// set_mempolicy(2) of the calling thread. `nodes` has one bit per NUMA node; empty means no mask.
pub fn set_mempolicy(mode: c_int, nodes: &[c_ulong]) -> nix::Result<()> {
    let (mask, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // The kernel takes `maxnode - 1` bits (set_mempolicy(2), BUGS), hence one more.
        (nodes.as_ptr(), nodes.len() * c_ulong::BITS as usize + 1)
    };
    // SAFETY: the kernel reads at most `bits - 1` bits of the mask, which is the length of `nodes`.
    cvt(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })?;
    Ok(())
}

/// personality(2); returns the previous persona.
pub fn personality(persona: c_ulong) -> nix::Result<c_long> {
    // SAFETY: the argument is a number.
    cvt(c_long::from(unsafe { libc::personality(persona) }))
}

/// KEYCTL_JOIN_SESSION_KEYRING: makes (or joins, when the caller may) the keyring of that name;
/// returns its serial.
pub fn join_session_keyring(name: &CStr) -> nix::Result<c_long> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: `name` is a string that ends with NUL and lives over the call.
    cvt(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
}

/// KEYCTL_DESCRIBE: `type;uid;gid;permissions in hex;description` of a key.
pub fn describe_key(serial: c_long) -> nix::Result<String> {
    const KEYCTL_DESCRIBE: c_int = 6;
    let mut text = vec![0_u8; 4096];
    // SAFETY: the kernel writes at most `text.len()` bytes into `text`.
    let length = cvt(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, serial, text.as_mut_ptr(), text.len())
    })?;
    // The length counts the NUL and may be larger than the buffer, which the name of a keyring never is.
    text.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// KEYCTL_SETPERM: the permission mask of a key, four bytes: possessor, user, group, others.
pub fn set_key_permissions(serial: c_long, mask: u32) -> nix::Result<()> {
    const KEYCTL_SETPERM: c_int = 5;
    // SAFETY: all arguments are numbers.
    cvt(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, mask as c_uint) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_set_into_words() {
        assert_eq!(words(0x0123_4567_89ab_cdef), [0x89ab_cdef, 0x0123_4567]);
    }

    #[test]
    fn reads_its_own_capabilities_like_proc_does() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(value.trim(), 16).unwrap()
        };
        let sets = capget().unwrap();
        assert_eq!(sets.effective, line("CapEff:"));
        assert_eq!(sets.permitted, line("CapPrm:"));
        assert_eq!(sets.inheritable, line("CapInh:"));
        let bounding = line("CapBnd:");
        assert_eq!(bounding_has(0).unwrap(), bounding & 1 == 1);
        assert!(bounding_has(63).is_err());
    }

    #[test]
    fn reads_its_own_limits() {
        let (soft, hard) = rlimit(libc::RLIMIT_NOFILE).unwrap();
        assert!(soft <= hard);
    }
}
