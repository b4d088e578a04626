//! bpf(2): load a device filter and attach it to a cgroup v2 directory.
//!
//! Every call hands the kernel the whole, zeroed `union bpf_attr`: newer kernels write results past
//! the end of the struct that an older header knows (runc#5403), and zeroed bytes that an older kernel
//! does not know are accepted.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::cvt;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// What tells our programs from those of others, such as systemd's; `bpftool prog` shows it.
const NAME: &[u8] = b"berth_devices";

/// One eBPF instruction, `struct bpf_insn` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation: class, source and code.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump distance in instructions after this one, or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// Larger than any kernel's `union bpf_attr` (6.18: 152 bytes); the kernel refuses only bytes that are
/// not zero.
#[repr(C, align(8))]
struct Attributes([u8; 256]);

impl Attributes {
    fn new() -> Self {
        Self([0; 256])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: RawFd) -> Self {
        // A descriptor is never negative, so the bits are the same.
        self.u32(at, fd.cast_unsigned())
    }

    fn pointer<T>(mut self, at: usize, pointer: *const T) -> Self {
        self.0[at..at + 8].copy_from_slice(&(pointer as u64).to_ne_bytes());
        self
    }

    fn read_u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// # Safety
    /// Every pointer in `self` is valid for what `command` does with it.
    unsafe fn call(&mut self, command: libc::c_int) -> nix::Result<libc::c_long> {
        // SAFETY: the attributes are a live, writable buffer of the size that is given; the caller
        // vouches for the pointers in it.
        cvt(unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) })
    }
}

fn owned(fd: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads `program` as a device filter (BPF_PROG_TYPE_CGROUP_DEVICE, Linux 4.15). The descriptor is
/// close-on-exec.
///
/// Before Linux 5.11 the program is charged to RLIMIT_MEMLOCK, whose default is soon used up on a
/// host with many containers; the limit is lifted for the second try only.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN) in the initial user namespace; EINVAL
/// when the kernel has no such program type; E2BIG above its instruction limit.
pub fn load_device_filter(program: &[Instruction]) -> nix::Result<OwnedFd> {
    match try_load(program) {
        Err(Errno::EPERM) => {
            let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
            if soft == libc::RLIM_INFINITY
                || setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY).is_err()
            {
                return Err(Errno::EPERM);
            }
            let second = try_load(program);
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
            second
        }
        first => first,
    }
}

fn try_load(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let count = u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let mut attributes = Attributes::new()
        .u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .u32(4, count)
        .pointer(8, program.as_ptr())
        .pointer(16, c"Apache-2.0".as_ptr());
    // Kernels before 4.15 do not know the field, nor this program type.
    attributes.0[48..48 + NAME.len()].copy_from_slice(NAME);
    // SAFETY: the instructions are `count` live structs in the kernel's layout, and the licence is a
    // NUL-terminated string; the kernel only reads both.
    owned(unsafe { attributes.call(BPF_PROG_LOAD) }?)
}

/// Attaches a device filter to a cgroup, beside those that are there (BPF_F_ALLOW_MULTI: all of them
/// must allow an access). With `replaced`, takes that program's place atomically (BPF_F_REPLACE,
/// Linux 5.6).
///
/// # Errors
/// EPERM when a parent's filter was attached exclusively; EINVAL for `replaced` on an older kernel.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let flags = if replaced.is_some() { BPF_F_ALLOW_MULTI | BPF_F_REPLACE } else { BPF_F_ALLOW_MULTI };
    let mut attributes = Attributes::new()
        .fd(0, cgroup.as_raw_fd())
        .fd(4, program.as_raw_fd())
        .u32(8, BPF_CGROUP_DEVICE)
        .u32(12, flags);
    if let Some(replaced) = replaced {
        attributes = attributes.fd(16, replaced.as_raw_fd());
    }
    // SAFETY: this command takes no pointers.
    unsafe { attributes.call(BPF_PROG_ATTACH) }.map(drop)
}

/// Takes a device filter off a cgroup.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    let mut attributes = Attributes::new()
        .fd(0, cgroup.as_raw_fd())
        .fd(4, program.as_raw_fd())
        .u32(8, BPF_CGROUP_DEVICE)
        .u32(12, BPF_F_ALLOW_MULTI);
    // SAFETY: this command takes no pointers.
    unsafe { attributes.call(BPF_PROG_DETACH) }.map(drop)
}

/// Our device filters that are attached to this very cgroup (not its parents'), as descriptors.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN (to list) or CAP_SYS_ADMIN (to open by id).
pub fn device_filters(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<OwnedFd>> {
    // 64 is the kernel's own limit of programs on one attach point (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0u32; 64];
    let mut attributes = Attributes::new()
        .fd(0, cgroup.as_raw_fd())
        .u32(4, BPF_CGROUP_DEVICE)
        .pointer(16, ids.as_mut_ptr())
        .u32(24, 64);
    // SAFETY: the kernel writes at most 64 ids, which is the array's length.
    unsafe { attributes.call(BPF_PROG_QUERY) }?;
    let count = usize::try_from(attributes.read_u32(24)).unwrap_or(0).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attributes = Attributes::new().u32(0, *id);
        // SAFETY: this command takes no pointers.
        match unsafe { attributes.call(BPF_PROG_GET_FD_BY_ID) } {
            Ok(fd) => {
                let program = owned(fd)?;
                if is_ours(program.as_fd())? {
                    programs.push(program);
                }
            }
            // Detached since the query.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

fn is_ours(program: BorrowedFd<'_>) -> nix::Result<bool> {
    // `struct bpf_prog_info`; larger than any kernel's, for the reason at the top of this file.
    let mut info = [0u64; 64];
    let mut attributes =
        Attributes::new().fd(0, program.as_raw_fd()).u32(4, 512).pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most the 512 bytes of `info`. The pointers in it are zero, so that
    // it writes nothing else.
    unsafe { attributes.call(BPF_OBJ_GET_INFO_BY_FD) }?;
    // char name[16] at byte 64.
    let name: Vec<u8> = info[8..10].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(name.strip_prefix(NAME).is_some_and(|rest| rest.iter().all(|byte| *byte == 0)))
}
