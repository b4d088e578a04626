//! The heap of a process that lives for milliseconds.
//!
//! malloc(3) keeps what is freed sorted and merged, which pays over hours. A command of berth takes some
//! thousand small blocks and ends: a tenth of the time of `berth run` went into that bookkeeping, and as much
//! into page faults, one for each page that a growing heap reaches for the first time. Here a block comes from
//! the free list of its size or from the end of a region, and a region's pages come several at a time.
//!
//! Large blocks, of which a command has few, are the C library's.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use std::alloc::System;

use libc::c_void;

/// Bytes of address space that are taken at once. Below the size of a huge page, so that the kernel does not
/// give (and clear) 2 MiB for the first byte.
const REGION: usize = 1 << 20;

/// Bytes that are asked to be in memory at once.
const STEP: usize = 32 << 10;

/// The same for a child (see [`forget`]), which needs little before it executes a program.
const STEP_OF_CHILD: usize = 8 << 10;

/// The largest block that is taken from a region: its end that is left over when the next one is begun is
/// smaller than that.
const LARGEST: usize = 32 << 10;

/// Every block is a multiple of it and aligned to it.
const GRAIN: usize = 16;

/// Up to this size a class for each multiple of [`GRAIN`], above it four for each power of two.
const FINE: usize = 512;

const CLASSES: usize = class_of(LARGEST).0 + 1;

/// The class of a size, 1..=[`LARGEST`], and what a block of that class takes, in bytes.
const fn class_of(size: usize) -> (usize, usize) {
    if size <= FINE {
        let class = size.div_ceil(GRAIN);
        return (class, class * GRAIN);
    }
    let power = (size - 1).ilog2();
    let quarter = 1 << (power - 2);
    let steps = size.div_ceil(quarter);
    (FINE / GRAIN + (power - FINE.ilog2()) as usize * 4 + steps - 4, steps * quarter)
}

/// What `#[global_allocator]` wants; the binary alone has it, the tests have threads.
pub struct Heap;

struct Shared(UnsafeCell<State>);

// SAFETY: berth has one thread (docs/architecture.md). Of the processes that share its memory for a moment, those of
// `beside` and of posix_spawn(3) allocate nothing, and while one of `vfork` lives nobody else runs.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(State::new()));

/// What is given back from now on is not used again: for a child, which lives on a copy of its parent's memory
/// until it executes a program. To write the link of a free list into a block, or to use a block again, is to
/// copy its page; new blocks side by side are on fewer. Or for who ends now.
pub fn forget() {
    // SAFETY: one thread, and nothing that has the state is called back from here.
    let state = unsafe { &mut *STATE.0.get() };
    state.free = [null_mut(); CLASSES];
    state.forgetful = true;
}

/// Begins anew, beside what is in use: for who has lent its memory to a process that was killed, perhaps in here.
pub fn renew() {
    // SAFETY: as in `forget`.
    unsafe { *STATE.0.get() = State { forgetful: true, ..State::new() } };
}

// SAFETY: a block is handed out once until it is given back: `next` only grows, and a free list holds only what
// came to `dealloc`. Its class is at least its size, and every class is a multiple of GRAIN.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and nothing below calls back; the caller's promises are handed on.
        unsafe { (*STATE.0.get()).alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { (*STATE.0.get()).dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*STATE.0.get()).realloc(block, layout, size) }
    }
}

struct State {
    /// The blocks of each class that were given back; the first word of one is the address of the next.
    free: [*mut u8; CLASSES],
    /// Where the next new block begins, up to where the pages are there already, and where the region ends.
    next: usize,
    ready: usize,
    end: usize,
    /// See [`forget`].
    forgetful: bool,
}

/// Whether a block is one of a region. It depends on nothing else, so that `dealloc` knows it as well.
const fn is_ours(layout: &Layout) -> bool {
    layout.size() <= LARGEST && layout.align() <= GRAIN
}

/// The promises of these are those of [`GlobalAlloc`].
impl State {
    /// Without a region; the first block brings it.
    const fn new() -> Self {
        Self { free: [null_mut(); CLASSES], next: 0, ready: 0, end: 0, forgetful: false }
    }

    unsafe fn alloc(&mut self, layout: Layout) -> *mut u8 {
        if !is_ours(&layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        let (class, size) = class_of(layout.size());
        let Some(class) = self.free_for(class, size) else { return self.grow(size) };
        let block = self.free[class];
        // SAFETY: it was given back, so it is nobody's, and `dealloc` wrote this word.
        self.free[class] = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&mut self, block: *mut u8, layout: Layout) {
        if self.forgetful {
            return;
        }
        if !is_ours(&layout) {
            // SAFETY: the caller's promise, and `alloc` took it from there.
            return unsafe { System.dealloc(block, layout) };
        }
        let (class, _) = class_of(layout.size());
        // SAFETY: the block is nobody's now, at least GRAIN bytes long and aligned for a word.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }

    unsafe fn realloc(&mut self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size does not overflow with the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_ours(&layout), is_ours(&wanted)) {
            // SAFETY: the caller's promise, and `alloc` took it from there.
            (false, false) => return unsafe { System.realloc(block, layout, size) },
            (true, true) => {
                let (old, new) = (class_of(layout.size()), class_of(size));
                // What grows last, as a text that is read or written does, grows where it is; but not while
                // there are free blocks, or one text after the other would take the place of new ones.
                let stays = old.0 == new.0
                    || (self.free_for(new.0, new.1).is_none() && self.extend(block, old.1, new.1));
                if stays {
                    return block;
                }
            }
            _ => {}
        }
        // SAFETY: both blocks live, and neither is longer than what is copied.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                block.copy_to_nonoverlapping(new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }

    /// The class of a free block that is good for `size` bytes, those of `class`. A text or list that grew leaves
    /// blocks behind that are good for somewhat less; whoever gets one gives it back as one of the lower class.
    fn free_for(&self, class: usize, size: usize) -> Option<usize> {
        let largest = if size <= FINE { class } else { (class + 4).min(CLASSES - 1) };
        (class..=largest).find(|class| !self.free[*class].is_null())
    }

    /// A block of `size` bytes from the end of the region; null when the kernel has no more memory.
    fn grow(&mut self, size: usize) -> *mut u8 {
        if self.end - self.next < size && !self.begin_region() {
            return null_mut();
        }
        let block = self.next;
        self.next += size;
        self.make_ready();
        block as *mut u8
    }

    /// Makes the last block longer; false if it is not the last or there is no room.
    fn extend(&mut self, block: *mut u8, old: usize, new: usize) -> bool {
        let begin = block as usize;
        if begin + old != self.next || new < old || self.end - begin < new {
            return false;
        }
        self.next = begin + new;
        self.make_ready();
        true
    }

    fn begin_region(&mut self) -> bool {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes.
        let region = unsafe { libc::mmap(null_mut(), REGION, protection, flags, -1, 0) };
        if region == libc::MAP_FAILED {
            return false;
        }
        self.next = region as usize;
        self.ready = self.next;
        self.end = self.next + REGION;
        true
    }

    /// Has the pages up to `next` in memory, and those that will be wanted soon with them: a quarter less time
    /// for each than by a fault.
    fn make_ready(&mut self) {
        let step = if self.forgetful { STEP_OF_CHILD } else { STEP };
        while self.ready < self.next {
            // SAFETY: a part of the region, whose content it leaves alone. Where the kernel (before 5.14) does
            // not know it, the pages come by faults.
            unsafe { libc::madvise(self.ready as *mut c_void, step, libc::MADV_POPULATE_WRITE) };
            self.ready += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes() {
        let mut last = (0, 0);
        for size in 1..=LARGEST {
            let (class, room) = class_of(size);
            assert!(room >= size && room.is_multiple_of(GRAIN), "{size}: {room}");
            assert!(size <= FINE || room - size < size / 4, "{size}: {room} wastes more than a fifth");
            let (before, room_before) = last;
            assert!(
                (class == before && room == room_before) || (class == before + 1 && room > room_before),
                "{size}"
            );
            last = (class, room);
        }
        assert_eq!(last, (CLASSES - 1, LARGEST));
    }

    #[test]
    fn blocks_do_not_overlap() {
        let mut heap = State::new();
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        // A fixed sequence (xorshift) of sizes below and above what is ours.
        let mut seed = 0x2545_f491_u32;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            seed as usize % below
        };
        let whole = |block: *mut u8, size: usize, mark: u8| {
            // SAFETY: it is as long as its layout says.
            unsafe { core::slice::from_raw_parts(block, size) }.iter().all(|byte| *byte == mark)
        };
        for round in 0..20_000 {
            let mark = u8::try_from(round % 251).unwrap();
            let size = if random(50) == 0 { 1 + random(2 * LARGEST) } else { 1 + random(600) };
            match random(3) {
                0 if !blocks.is_empty() => {
                    let (block, layout, mark) = blocks.swap_remove(random(blocks.len()));
                    assert!(whole(block, layout.size(), mark));
                    // SAFETY: it was taken with this layout and is given back once.
                    unsafe { heap.dealloc(block, layout) };
                }
                1 if !blocks.is_empty() => {
                    let at = random(blocks.len());
                    let (block, layout, mark) = blocks[at];
                    // SAFETY: it was taken with this layout.
                    let new = unsafe { heap.realloc(block, layout, size) };
                    assert!(whole(new, size.min(layout.size()), mark));
                    // SAFETY: it is as long as asked.
                    unsafe { new.write_bytes(mark, size) };
                    blocks[at] = (new, Layout::from_size_align(size, layout.align()).unwrap(), mark);
                }
                _ => {
                    let layout = Layout::from_size_align(size, 1 << random(6)).unwrap();
                    // SAFETY: the layout's size is not zero, and the block is as long as asked.
                    let block = unsafe { heap.alloc(layout) };
                    assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                    // SAFETY: as above.
                    unsafe { block.write_bytes(mark, size) };
                    blocks.push((block, layout, mark));
                }
            }
        }
        for (block, layout, mark) in blocks {
            assert!(whole(block, layout.size(), mark));
            // SAFETY: as above.
            unsafe { heap.dealloc(block, layout) };
        }
    }

    /// As each round of `events` does.
    #[test]
    fn texts_that_grow_take_no_more_in_the_end() {
        let mut heap = State::new();
        let layout = |size| Layout::from_size_align(size, 1).unwrap();
        let mut taken = Vec::new();
        for _ in 0..1000 {
            // SAFETY: every block is given back once, with the layout that it has by then.
            unsafe {
                let mut block = heap.alloc(layout(8));
                let mut size = 8;
                while size < 4096 {
                    block = heap.realloc(block, layout(size), size * 2);
                    size *= 2;
                }
                heap.dealloc(block, layout(size));
            }
            taken.push(heap.next);
        }
        assert_eq!(taken[20], taken[999]);
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let mut heap = State::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: every block is given back with its layout, and used by nobody after that.
        unsafe {
            let first = heap.alloc(layout);
            let second = heap.alloc(layout);
            heap.dealloc(first, layout);
            assert_eq!(heap.alloc(layout), first);
            // The last block grows where it is, another one elsewhere.
            assert_eq!(heap.realloc(second, layout, 4000), second);
            let moved = heap.realloc(first, layout, 4000);
            assert_ne!(moved, first);
            // A block of 4000 bytes is good for 2500, not for 1500.
            let [most, little] = [2500, 1500].map(|size| Layout::from_size_align(size, 8).unwrap());
            heap.dealloc(moved, Layout::from_size_align(4000, 8).unwrap());
            assert_ne!(heap.alloc(little), moved);
            assert_eq!(heap.alloc(most), moved);
        }
    }
}
