//! Lets a program go on in another file, without execve(2).
//!
//! execve builds a new address space, a tenth of the time of `berth exec`. CRIU's way is shorter: every segment is mapped
//! anew from the other file at the same addresses, and prctl(2) PR_SET_MM_MAP names that file as the executable. The
//! kernel agrees only if nothing of the old file is mapped any more; then no more of the old file is in the process
//! than after an execve. It wants CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, and a kernel with CONFIG_CHECKPOINT_RESTORE.
//!
//! The files have the same bytes, and nothing has been written to a segment yet: so each mapping shows what was there
//! before, the code that makes it included, and nothing has to be carried over (but a debugger's breakpoints, which are
//! written into the code: a start as `/dev/fd/N` goes the way of execve). That is true at the entry point alone,
//! before the C library's start, whose rules are here too ([`super::early`]).

// The addresses are those of this process: a u64 is a usize.
#![allow(clippy::cast_possible_truncation)]

use core::mem::MaybeUninit;
use core::ptr::with_exposed_provenance_mut;

use super::raw::{syscall, syscall6};

/// From linux/prctl.h.
const PR_SET_MM: usize = 35;
const PR_SET_MM_MAP: usize = 14;
const PAGE: usize = 4096;
static DESCRIPTORS: &[u8] = b"/proc/self/fd/";

/// What the kernel has put on the stack (execve(2), "the initial process stack").
pub struct Initial {
    /// Where it lies.
    pub stack: *const usize,
    /// How many arguments there are.
    pub argc: usize,
    /// The arguments, and a null.
    pub argv: *const *const u8,
    /// The environment, and a null.
    pub environment: *const *const u8,
    /// What AT_EXECFN points to, the pathname that was executed: it lies right behind the environment's strings.
    pub name: *const u8,
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct MemoryMap {
    start_code: usize,
    end_code: usize,
    start_data: usize,
    end_data: usize,
    start_brk: usize,
    brk: usize,
    start_stack: usize,
    arg_start: usize,
    arg_end: usize,
    env_start: usize,
    env_end: usize,
    /// Of no size: the kernel keeps what it has.
    auxv: usize,
    auxv_size: u32,
    exe_fd: u32,
}

unsafe extern "C" {
    /// The ELF header as it is mapped; the linker's.
    #[link_name = "__ehdr_start"]
    static HEADER: libc::Elf64_Ehdr;
}

/// Goes on in the file that `mount` is a mount (O_PATH) of. False when the kernel refused a step; then the process still
/// runs from what it was executed from, as far as the kernel calls it that.
///
/// # Safety
/// Nothing has been written to the segments of the binary, there is one thread, and the file is the same as is
/// executed; `initial` is the initial stack's.
pub unsafe fn to(mount: usize, initial: &Initial) -> bool {
    // SAFETY: the headers are mapped.
    if !unsafe { is_as_linked() } {
        return false;
    }
    let mut path = MaybeUninit::<[u8; 40]>::uninit();
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned() as usize;
    // SAFETY: the path has room for the longest number and is a C string then; the rest is the caller's promise.
    unsafe {
        let path = path.as_mut_ptr().cast::<u8>();
        write_path(path, mount);
        let opened = syscall(libc::SYS_open, path as usize, flags, 0, 0, 0);
        let Ok(file) = usize::try_from(opened) else { return false };
        let moved = map_segments(file) && name_executable(file, initial);
        syscall(libc::SYS_close, file, 0, 0, 0, 0);
        moved
    }
}

/// Whether the binary lies at the addresses that it was linked for and nobody has relocated it: flags in the environment
/// of the build can make another kind of it than .cargo/config.toml does.
///
/// # Safety
/// The first page of the binary is mapped.
pub unsafe fn is_as_linked() -> bool {
    let mut at = 0;
    // SAFETY: as in `segment`.
    unsafe {
        while let Some(found) = header(at) {
            if found.p_type == libc::PT_INTERP || found.p_type == libc::PT_DYNAMIC {
                return false;
            }
            at += 1;
        }
        HEADER.e_type == libc::ET_EXEC
    }
}

/// Replaces every segment by a mapping of the same part of `file`, as execve(2) made it.
///
/// # Safety
/// `file` is the binary's, of which nothing has been written to.
unsafe fn map_segments(file: usize) -> bool {
    let mut at = 0;
    // SAFETY: the headers describe what is mapped, so that no address is anybody else's.
    while let Some(segment) = unsafe { segment(at) } {
        at += 1;
        let (address, size) = (segment.p_vaddr as usize, segment.p_filesz as usize);
        let start = address & !(PAGE - 1);
        let has = |flag, protection| if segment.p_flags & flag == 0 { 0 } else { protection };
        let protection = has(libc::PF_R, libc::PROT_READ)
            | has(libc::PF_W, libc::PROT_WRITE)
            | has(libc::PF_X, libc::PROT_EXEC);
        // SAFETY: as above; the same bytes are at each address before and after.
        unsafe {
            let mapped = syscall6(
                libc::SYS_mmap,
                start,
                address + size - start,
                protection.cast_unsigned() as usize,
                (libc::MAP_PRIVATE | libc::MAP_FIXED).cast_unsigned() as usize,
                file,
                segment.p_offset as usize & !(PAGE - 1),
            );
            if mapped < 0 {
                return false;
            }
            if segment.p_memsz > segment.p_filesz {
                zero_rest_of_page(address + size);
            }
        }
    }
    true
}

/// The loaded segment of this index.
///
/// # Safety
/// The first page of the binary is mapped.
unsafe fn segment(index: usize) -> Option<&'static libc::Elf64_Phdr> {
    let (mut at, mut loaded) = (0, 0);
    // SAFETY: the caller's promise.
    while let Some(found) = unsafe { header(at) } {
        at += 1;
        if found.p_type == libc::PT_LOAD {
            if loaded == index {
                return Some(found);
            }
            loaded += 1;
        }
    }
    None
}

/// The program header of this index.
///
/// # Safety
/// The first page of the binary is mapped.
unsafe fn header(index: usize) -> Option<&'static libc::Elf64_Phdr> {
    let elf = &raw const HEADER;
    // SAFETY: the linker's symbol lies at the start of the file, which the first segment maps with its headers.
    unsafe {
        if index >= usize::from((*elf).e_phnum) {
            return None;
        }
        let headers = elf.cast::<u8>().add((*elf).e_phoff as usize).cast::<libc::Elf64_Phdr>();
        Some(&*headers.add(index))
    }
}

/// What is not the file's any more is zero to the end of its last page (the start of `.bss`).
///
/// # Safety
/// The page is a private mapping of ours that can be written to, and nothing of ours lies behind `end`.
unsafe fn zero_rest_of_page(end: usize) {
    let mut at = end;
    while at & (PAGE - 1) != 0 {
        // SAFETY: the caller's promise; a word where that is aligned. Volatile: the compiler would make a call to memset
        // of the loop.
        unsafe {
            if at.is_multiple_of(size_of::<usize>()) {
                with_exposed_provenance_mut::<usize>(at).write_volatile(0);
                at += size_of::<usize>();
            } else {
                with_exposed_provenance_mut::<u8>(at).write_volatile(0);
                at += 1;
            }
        }
    }
}

/// Tells the kernel that `file` is the executable, and of everything else what it knows already.
///
/// # Safety
/// `initial` is the initial stack's.
unsafe fn name_executable(file: usize, initial: &Initial) -> bool {
    let (mut start_code, mut end_code, mut start_data, mut end_data) = (usize::MAX, 0, 0, 0);
    let mut at = 0;
    // SAFETY: the headers are mapped.
    while let Some(segment) = unsafe { segment(at) } {
        at += 1;
        let (start, end) = (segment.p_vaddr as usize, (segment.p_vaddr + segment.p_filesz) as usize);
        if segment.p_flags & libc::PF_X != 0 {
            start_code = start_code.min(start);
            end_code = end_code.max(end);
        }
        start_data = start_data.max(start);
        end_data = end_data.max(end);
    }
    // SAFETY: argc counts argv, and both vectors end with a null; the structure is of the size given.
    unsafe {
        let Ok(brk) = usize::try_from(syscall(libc::SYS_brk, 0, 0, 0, 0, 0)) else { return false };
        let env_end = initial.name as usize;
        let first = *initial.environment as usize;
        let env_start = if first == 0 { env_end } else { first };
        let map = MemoryMap {
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk: brk,
            brk,
            start_stack: initial.stack as usize,
            arg_start: if initial.argc == 0 { env_start } else { *initial.argv as usize },
            arg_end: env_start,
            env_start,
            env_end,
            auxv: 0,
            auxv_size: 0,
            exe_fd: file as u32,
        };
        syscall(libc::SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, &raw const map as usize, size_of::<MemoryMap>(), 0)
            == 0
    }
}

/// `/proc/self/fd/N`, as a C string.
///
/// # Safety
/// At `path` there is room for it.
unsafe fn write_path(path: *mut u8, descriptor: usize) {
    let mut length = 0;
    let mut push = |byte: u8| {
        // SAFETY: the caller's promise. Volatile: the compiler would make a call to memcpy of a loop.
        unsafe { path.add(length).write_volatile(byte) };
        length += 1;
    };
    let mut at = 0;
    while at < DESCRIPTORS.len() {
        push(DESCRIPTORS[at]);
        at += 1;
    }
    let mut unit = 1;
    while descriptor / unit >= 10 {
        unit *= 10;
    }
    while unit > 0 {
        push(b'0' + (descriptor / unit % 10) as u8);
        unit /= 10;
    }
    push(0);
}
