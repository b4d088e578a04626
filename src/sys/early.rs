//! The entry point of the binary on x86_64: puts a read-only mount of the binary under the process before the C
//! library has started.
//!
//! [`crate::self_exe`] says why a command that enters a container must run from a file that nobody can
//! write to. [`super::remap`] gives the process such a file without a second execve. Where the kernel refuses that, the
//! file is executed by descriptor, still before the first of two starts of the C library. Whatever fails here is not
//! reported but left to `self_exe`, which looks at what is executed, tries again with its fallback and has words for it.
//! Then the C library is started, by [`super::start`] where that knows it.
//!
//! Nothing of the C library works yet: no thread-local storage, no memcpy or strlen (their variants
//! are chosen at its start). So this is plain loops over bytes and raw system calls. `build.rs` makes
//! `berth_start` the entry.

use core::arch::global_asm;

use super::raw::syscall;
use super::remap::{self, Initial};

// The kernel enters with the stack pointer on argc, aligned to 16 bytes, and rdx for `_start`. Two
// pushes keep the alignment that the call needs.
global_asm!(
    ".globl berth_start",
    ".type berth_start, @function",
    "berth_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "push rdx",
    "push rdx",
    "call {begin}",
    "pop rdx",
    "pop rdx",
    "jmp _start",
    begin = sym begin,
);

const EXE: *const u8 = c"/proc/self/exe".as_ptr().cast();
const EMPTY: *const u8 = c"".as_ptr().cast();
static DESCRIPTORS: &[u8] = b"/dev/fd/";
/// The verbs of [`crate::cli::argv::enters_a_container`], as C strings. A static: a constant would be copied
/// to the stack, by memcpy (as an array of arguments would be in a build without optimisation).
static VERBS: [&[u8]; 4] = [b"create\0", b"run\0", b"exec\0", b"restore\0"];

/// Returns when the C library shall start itself.
///
/// # Safety
/// `stack` is the initial stack of the process: argc, argv, a null, the environment, a null, the auxiliary vector.
unsafe extern "C" fn begin(stack: *const usize) {
    // SAFETY: the caller's promise, and nothing else has run yet.
    unsafe {
        leave_the_binary(stack);
        #[cfg(glibc_2_36)]
        super::start::run(stack);
    }
}

/// Returns when there is nothing to do, or something does not work.
///
/// # Safety
/// As [`begin`].
unsafe fn leave_the_binary(stack: *const usize) {
    // SAFETY: the caller's promise; every string ends with a NUL, which is read before anything behind it.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<*const u8>();
        let mut at = 1;
        while at < argc && !is_verb(*argv.add(at)) {
            at += 1;
        }
        if at >= argc {
            return;
        }
        let environment = argv.add(argc + 1);
        let initial = Initial { stack, argc, argv, environment, name: executed_as(environment) };
        // As it is below: then this is the second time. Somebody else may have done so; `self_exe` looks.
        if initial.name.is_null() || begins_with(initial.name, DESCRIPTORS) {
            return;
        }
        let tree = syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD.cast_unsigned() as usize,
            EXE as usize,
            // CLOEXEC: the last descriptor is closed before anything of a container is there, which dissolves the
            // mount, and only then nobody can make it writable again. While it stands in a mount namespace of its
            // own, a process with CAP_SYS_PTRACE in the container's pid namespace and CAP_SYS_ADMIN reaches it by
            // /proc/PID/exe of init, and mount_setattr(2) clears what was set here.
            (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize,
            0,
            0,
        );
        let Ok(mount) = usize::try_from(tree) else { return };
        let attributes =
            libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
        let at_empty_path = libc::AT_EMPTY_PATH.cast_unsigned() as usize;
        let sealed = syscall(
            libc::SYS_mount_setattr,
            mount,
            EMPTY as usize,
            at_empty_path,
            &raw const attributes as usize,
            size_of::<libc::mount_attr>(),
        );
        if sealed == 0 {
            // Only the close dissolves the mount.
            if remap::to(mount, &initial) && syscall(libc::SYS_close, mount, 0, 0, 0, 0) == 0 {
                return;
            }
            syscall(
                libc::SYS_execveat,
                mount,
                EMPTY as usize,
                argv as usize,
                environment as usize,
                at_empty_path,
            );
        }
        syscall(libc::SYS_close, mount, 0, 0, 0, 0);
    }
}

/// The pathname that was executed; for a program executed as a descriptor it is `/dev/fd/N` (execveat(2)). Null when the
/// kernel does not tell.
///
/// # Safety
/// As [`auxiliary_value`].
unsafe fn executed_as(environment: *const *const u8) -> *const u8 {
    // SAFETY: the caller's promise.
    match unsafe { auxiliary_value(auxiliary_vector(environment), libc::AT_EXECFN) } {
        Some(address) => core::ptr::with_exposed_provenance(address),
        None => core::ptr::null(),
    }
}

/// Pairs of a type and a value, up to AT_NULL.
///
/// # Safety
/// The environment is the initial stack's: behind its null lies the vector.
pub(super) unsafe fn auxiliary_vector(mut environment: *const *const u8) -> *const usize {
    // SAFETY: the caller's promise.
    unsafe {
        while !(*environment).is_null() {
            environment = environment.add(1);
        }
        environment.add(1).cast()
    }
}

/// What the kernel says of one type (getauxval(3)).
///
/// # Safety
/// It is the auxiliary vector.
pub(super) unsafe fn auxiliary_value(mut vector: *const usize, kind: libc::c_ulong) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        while *vector as libc::c_ulong != libc::AT_NULL {
            if *vector as libc::c_ulong == kind {
                return Some(*vector.add(1));
            }
            vector = vector.add(2);
        }
    }
    None
}

/// # Safety
/// `word` is a C string.
pub(super) unsafe fn begins_with(word: *const u8, prefix: &[u8]) -> bool {
    let mut at = 0;
    // SAFETY: `at` goes no further than the first NUL of the word. Volatile, so that the compiler makes no call to
    // memcmp of the loop.
    while at < prefix.len() && unsafe { word.add(at).read_volatile() } == prefix[at] {
        at += 1;
    }
    at == prefix.len()
}

/// # Safety
/// `word` is a C string.
unsafe fn is_verb(word: *const u8) -> bool {
    let mut verb = 0;
    while verb < VERBS.len() {
        // SAFETY: the caller's promise. Each verb ends with its NUL, so that nothing follows it in the word.
        if unsafe { begins_with(word, VERBS[verb]) } {
            return true;
        }
        verb += 1;
    }
    false
}
