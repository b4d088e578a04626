//! The berth binary: all of it is [`berth::cli`].
#![no_main]

use std::ffi::c_int;

use berth::sys::heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// Called by the C library, without the start of Rust's runtime in between: that reads /proc/self/maps and
/// prepares a signal stack, to say in words that the stack overflowed, and takes 0.2 ms of the 5 that `berth
/// run` takes. [`berth::sys::process::prepare`] does the part of it that matters.
// SAFETY: no other symbol of this binary has the name; the C library gives `main` argc and argv, which the
// calling convention lets us ignore.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    // Nothing is left in a buffer, and the C library's way out would touch pages for nobody.
    berth::sys::process::exit_now(berth::cli::main().into())
}
