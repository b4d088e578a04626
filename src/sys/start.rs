//! The start of the C library without a question to the processor.
//!
//! What glibc links into a static program asks for the processor's features and caches at each start, to choose among
//! the variants of memcpy(3): forty CPUID instructions, each of which leaves a virtual machine. There that is 0.3 ms, a
//! tenth of `berth exec`. Without an answer every choice falls to what each x86-64 has (SSE2), which is all that berth
//! needs: it copies little. It must load no shared C library then (NSS, iconv), which would find no thresholds.
//!
//! The steps are those of `__libc_start_main` (csu/libc-start.c) for a static program that is not position-independent,
//! and they are that library's own functions, which it hides from dynamic linking and not from the linker. Such
//! insides change between releases: `build.rs` looks for the one release that is known here (`glibc_2_36`), [`run`] looks
//! once more at what was linked, and with any other the C library starts itself. Left out is what a program in Rust
//! with one thread does not have or use: tunables (GLIBC_TUNABLES and the MALLOC_ variables), `_init`, the preinit and
//! fini arrays, a debugger's list of loaded objects, and pthread_exit(3) from the first thread.

// The addresses are those of this process: a u64 is a usize.
#![allow(clippy::cast_possible_truncation)]

use std::ffi::{c_char, c_int, c_long};

use super::{early, remap};

type Strings = *const *const c_char;
type Constructor = unsafe extern "C" fn(c_int, Strings, Strings);

#[allow(non_upper_case_globals)] // the C library's names
unsafe extern "C" {
    static mut __libc_stack_end: *const usize;
    static mut __environ: Strings;
    /// 16 random bytes of the kernel's (AT_RANDOM) at any address, for the guards; since `_dl_aux_init`.
    static _dl_random: *const [usize; 2];
    /// From how many bytes on memcpy(3) goes past the caches. No variant works with the 0 that it is before a start.
    static mut __x86_shared_non_temporal_threshold: c_long;
    /// What the kernel says (AT_MINSIGSTKSZ, Linux 5.14), or 0.
    static mut _dl_minsigstacksize: usize;
    /// Around the relocations whose value a function chooses; the linker's.
    static __rela_iplt_start: [libc::Elf64_Rela; 0];
    static __rela_iplt_end: [libc::Elf64_Rela; 0];
    /// Around the constructors; the linker's.
    static __init_array_start: [Constructor; 0];
    static __init_array_end: [Constructor; 0];

    /// A constant: it may be called before the start.
    fn gnu_get_libc_version() -> *const u8;
    fn _dl_aux_init(vector: *const usize);
    fn __libc_setup_tls();
    fn __libc_early_init(initial: bool);
    fn __libc_init_first(argc: c_int, argv: Strings, environment: Strings);
    fn main(argc: c_int, argv: Strings, environment: Strings) -> c_int;
}

/// 3/4 of a cache of 1 MiB, of which glibc takes three quarters too.
const NON_TEMPORAL_THRESHOLD: c_long = 0xc_0000;

/// MINSIGSTKSZ, with which glibc begins.
const SMALLEST_SIGNAL_STACK: usize = 2048;

/// With its NUL, so that it is the whole name.
static RELEASE: &[u8] = b"2.36\0";

/// Starts the C library, runs `main` and ends the process. Returns, with nothing done, where it is not the one that is known
/// here, and where the kernel runs the program with more rights than the caller has (AT_SECURE): then more is to be done.
///
/// # Safety
/// The C library has not started, and `stack` is the initial stack of the process.
pub unsafe fn run(stack: *const usize) {
    // SAFETY: the order is that of glibc 2.36. Until the relocations nothing here may call memcpy and the like, and
    // until the thread-local storage is there nothing may touch errno.
    unsafe {
        let argc = *stack;
        let argv: Strings = stack.add(1).cast();
        let environment = argv.add(argc + 1);
        let vector = early::auxiliary_vector(environment.cast());
        let is_known = early::begins_with(gnu_get_libc_version(), RELEASE) && remap::is_as_linked();
        if !is_known || early::auxiliary_value(vector, libc::AT_SECURE) != Some(0) {
            return;
        }
        __environ = environment;
        __libc_stack_end = stack;
        _dl_aux_init(vector);
        if _dl_minsigstacksize == 0 {
            _dl_minsigstacksize = SMALLEST_SIGNAL_STACK;
        }
        __x86_shared_non_temporal_threshold = NON_TEMPORAL_THRESHOLD;
        choose_variants();
        __libc_setup_tls();
        let [canary, pointers] = _dl_random.read_unaligned();
        set_guards(canary, pointers);
        __libc_early_init(true);
        let argc = c_int::try_from(argc).unwrap_or(c_int::MAX);
        __libc_init_first(argc, argv, environment);
        let mut constructor: *const Constructor = (&raw const __init_array_start).cast();
        let end: *const Constructor = (&raw const __init_array_end).cast();
        while constructor < end {
            (*constructor)(argc, argv, environment);
            constructor = constructor.add(1);
        }
        libc::exit(main(argc, argv, environment))
    }
}

/// Applies the relocations whose value a function chooses (R_X86_64_IRELATIVE); a static program has no others.
///
/// # Safety
/// Nothing has been called yet that needs one.
unsafe fn choose_variants() {
    let mut at: *const libc::Elf64_Rela = (&raw const __rela_iplt_start).cast();
    let end: *const libc::Elf64_Rela = (&raw const __rela_iplt_end).cast();
    // SAFETY: between the linker's symbols lie relocations; each names a place in our data and a function in our text.
    unsafe {
        while at < end {
            let choose: extern "C" fn() -> usize = std::mem::transmute((*at).r_addend);
            std::ptr::with_exposed_provenance_mut::<usize>((*at).r_offset as usize).write(choose());
            at = at.add(1);
        }
    }
}

/// The canary of C functions' frames and what mangles the pointers in a jmp_buf, at their places in the thread's control
/// block (the x86-64 psABI; tcbhead_t of glibc). The canary's first byte is 0, so that no string's end runs over it.
///
/// # Safety
/// The thread-local storage is set up, and no frame that checks a canary is open.
unsafe fn set_guards(canary: usize, pointers: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("mov fs:[0x28], {}", "mov fs:[0x30], {}", in(reg) canary & !0xff, in(reg) pointers, options(nostack));
    }
}
