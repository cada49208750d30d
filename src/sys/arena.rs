//! The allocator of a process that lives for two milliseconds.
//!
//! musl gives memory back to the kernel as soon as it is freed, and asks for it again: some seventy `mmap` and `munmap`
//! a call, each followed by page faults that cost more than the system call. Here memory comes from one reserved block,
//! page by page as it is touched, and is not given back before the process ends. Small pieces that were freed are handed
//! out again: a page that is touched for the first time costs as much as three system calls. What does not fit (a
//! garbage collection over thousands of records) comes from the system's allocator, unless the process has said that
//! it lists and ends ([`widen`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Reserved, not used: untouched pages cost nothing.
const SIZE: usize = 1 << 20;
/// What a listing reserves besides: the records of some ten thousand containers fit.
const WIDE: usize = 64 << 20;

#[repr(C, align(4096))]
struct Block(UnsafeCell<[u8; SIZE]>);

// SAFETY: parts of the block are handed out at most once at a time, by an atomic counter.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; SIZE]));
/// The small block, which every process has.
static SMALL: Room =
    Room { start: AtomicPtr::new(BLOCK.0.get().cast()), size: SIZE, used: AtomicUsize::new(0) };
/// The large one, which has no memory before [`widen`].
static LARGE: Room = Room { start: AtomicPtr::new(ptr::null_mut()), size: WIDE, used: AtomicUsize::new(0) };

/// Pieces are multiples of this long, and aligned to it.
const GRAIN: usize = 16;
/// What the blocks begin at a multiple of.
const PAGE: usize = 4096;
/// Freed pieces up to this long are handed out again.
const SMALL_PIECE: usize = 1024;

/// What was freed of the blocks, a list for each length: each piece begins with the address of the next.
struct Freed {
    /// One at a time; who finds it busy does without.
    busy: AtomicBool,
    heads: UnsafeCell<[*mut u8; SMALL_PIECE / GRAIN]>,
}

// SAFETY: the heads are read and written by whoever has made `busy` true, and nobody else.
unsafe impl Sync for Freed {}

static FREED: Freed =
    Freed { busy: AtomicBool::new(false), heads: UnsafeCell::new([ptr::null_mut(); SMALL_PIECE / GRAIN]) };

impl Freed {
    /// The list for pieces of that layout; `None` for those that are too long or aligned to more.
    fn list(layout: Layout) -> Option<usize> {
        let fits = layout.align() <= GRAIN && (1..=SMALL_PIECE).contains(&layout.size());
        fits.then(|| (layout.size() - 1) / GRAIN)
    }

    /// A freed piece of that layout.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let list = Self::list(layout)?;
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: we have made `busy` true; a head that is not null is a freed piece of at least one grain, which begins
        // with the address of the next.
        let head = unsafe {
            let head = &mut (*self.heads.get())[list];
            let taken = *head;
            if !taken.is_null() {
                *head = taken.cast::<*mut u8>().read();
            }
            taken
        };
        self.busy.store(false, Ordering::Release);
        (!head.is_null()).then_some(head)
    }

    /// Keeps a piece of a block that nobody uses any more.
    fn keep(&self, pointer: *mut u8, layout: Layout) {
        let Some(list) = Self::list(layout) else { return };
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        // SAFETY: we have made `busy` true; the piece is whole grains long, aligned to one, and its owner's no more.
        unsafe {
            let head = &mut (*self.heads.get())[list];
            pointer.cast::<*mut u8>().write(*head);
            *head = pointer;
        }
        self.busy.store(false, Ordering::Release);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Arena;

/// Reserves more room, for a process that reads the records of all containers, says what it found, and ends: a
/// thousand records cost it a thousand pairs of `mmap` and `munmap` otherwise. Where the kernel refuses, the system's
/// allocator serves as before. Fine to call again.
pub fn widen() {
    if !LARGE.start.load(Ordering::Acquire).is_null() {
        return;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes it touches nothing that is there.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), WIDE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start != libc::MAP_FAILED {
        // Of two that come at the same time one reserves in vain.
        let _ =
            LARGE.start.compare_exchange(ptr::null_mut(), start.cast(), Ordering::Release, Ordering::Relaxed);
    }
}

/// Memory that is handed out from its start to its end.
struct Room {
    start: AtomicPtr<u8>,
    size: usize,
    used: AtomicUsize,
}

impl Room {
    /// Where a pointer lies in it.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        let start = self.start.load(Ordering::Acquire);
        if start.is_null() {
            return None;
        }
        (pointer as usize).checked_sub(start as usize).filter(|offset| *offset < self.size)
    }

    /// Reserves room behind what is used; `None` where it is full, or has no memory.
    fn reserve(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.start.load(Ordering::Acquire);
        if start.is_null() || layout.align() > PAGE {
            return None;
        }
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let begin = used.checked_next_multiple_of(layout.align().max(GRAIN))?;
            let end = begin.checked_add(whole(layout.size())).filter(|end| *end <= self.size)?;
            // What another thread did with room that it gave back came before.
            match self.used.compare_exchange_weak(used, end, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(start.wrapping_add(begin)),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of what was reserved last; `false` where something was reserved after it.
    fn resize_last(&self, begin: usize, old: usize, new: usize) -> bool {
        let Some(end) = begin.checked_add(whole(new)).filter(|end| *end <= self.size) else { return false };
        self.used.compare_exchange(begin + whole(old), end, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A length in whole grains.
fn whole(size: usize) -> usize {
    // A layout's size is far from the largest number.
    size.next_multiple_of(GRAIN)
}

/// The room that a pointer is of, and where in it.
fn place(pointer: *mut u8) -> Option<(&'static Room, usize)> {
    [&SMALL, &LARGE].into_iter().find_map(|room| Some((room, room.offset(pointer)?)))
}

// SAFETY: every pointer is either the system's, and treated by it, or of room in a block that its counter has
// reserved for it alone, aligned as asked; room is reused only after its last owner has freed it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match FREED.take(layout).or_else(|| SMALL.reserve(layout)).or_else(|| LARGE.reserve(layout)) {
            Some(pointer) => pointer,
            // SAFETY: the caller's layout is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match place(pointer) {
            // The last one is given back, small ones are kept, and the others wait for the process's end.
            Some((room, begin)) => {
                if !room.resize_last(begin, layout.size(), 0) {
                    FREED.keep(pointer, layout);
                }
            }
            // SAFETY: it is the system's, with the layout that it was made with.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some((room, begin)) = place(pointer) else {
            // SAFETY: it is the system's, with the layout that it was made with.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        if whole(size) == whole(layout.size()) || room.resize_last(begin, layout.size(), size) {
            return pointer;
        }
        let Ok(wider) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        // SAFETY: the layout is valid; both places hold at least the smaller size, and they do not overlap.
        unsafe {
            let moved = self.alloc(wider);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_do_not_overlap_and_the_last_one_can_grow() {
        let layout = Layout::from_size_align(100, 16).unwrap();
        // SAFETY: each pointer is used within its size, and freed with its layout.
        unsafe {
            let a = Arena.alloc(layout);
            let b = Arena.alloc(layout);
            assert!((a as usize).is_multiple_of(16) && b as usize >= a as usize + 100);
            ptr::write_bytes(a, 1, 100);
            ptr::write_bytes(b, 2, 100);
            let grown = Arena.realloc(b, layout, 5000);
            assert_eq!((*grown, *grown.add(99)), (2, 2));
            let moved = Arena.realloc(a, layout, 300);
            assert_eq!((*moved, *moved.add(99)), (1, 1));
            // Freed pieces that are not the last come back for what is as long, and not for what is aligned to more.
            let last = Arena.alloc(Layout::from_size_align(2000, 16).unwrap());
            Arena.dealloc(moved, Layout::from_size_align(300, 16).unwrap());
            assert_eq!(Arena.alloc(Layout::from_size_align(290, 8).unwrap()), moved);
            Arena.dealloc(moved, Layout::from_size_align(290, 8).unwrap());
            let aligned = Layout::from_size_align(300, 64).unwrap();
            let other = Arena.alloc(aligned);
            assert!(other != moved && other > last && (other as usize).is_multiple_of(64));
            let large = Layout::from_size_align(WIDE * 2, 16).unwrap();
            let system = Arena.alloc(large);
            assert!(!system.is_null() && place(system).is_none());
            Arena.dealloc(system, large);
        }
    }

    #[test]
    fn a_widened_arena_serves_what_the_small_block_cannot_hold() {
        widen();
        let start = LARGE.start.load(Ordering::Acquire);
        widen();
        assert_eq!(LARGE.start.load(Ordering::Acquire), start, "once");
        let layout = Layout::from_size_align(SIZE + 1, 64).unwrap();
        // SAFETY: the pointer is used within its size, and freed with its layout.
        unsafe {
            let wide = Arena.alloc(layout);
            assert!(LARGE.offset(wide).is_some() && (wide as usize).is_multiple_of(64));
            ptr::write_bytes(wide, 3, SIZE + 1);
            let grown = Arena.realloc(wide, layout, SIZE * 3);
            assert_eq!((*grown, *grown.add(SIZE)), (3, 3));
        }
    }
}
