//! The allocator of a process that lives for two milliseconds.
//!
//! musl gives memory back to the kernel as soon as it is freed, and asks for it again: some seventy `mmap` and `munmap`
//! a call, each followed by page faults that cost more than the system call. Here memory comes from one reserved block,
//! page by page as it is touched, and is not given back before the process ends. Small pieces that were freed are handed
//! out again: a page that is touched for the first time costs as much as three system calls. What does not fit (a
//! garbage collection over thousands of records) comes from the system's allocator, unless the process has said that
//! it lists and ends ([`widen`]).
//!
//! The block is the first thread's alone ([`settle`]), which shares nothing and waits for nobody: an ADD asks for memory
//! five hundred times, and two instructions that lock were most of what that cost each time. What other threads ask for
//! comes from elsewhere; pieces of the block that they free serve them, and the first thread no more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Reserved, not used: untouched pages cost nothing.
const SIZE: usize = 1 << 20;
/// What a listing reserves besides: the records of some ten thousand containers fit.
const WIDE: usize = 64 << 20;

/// Pieces are multiples of this long, and aligned to it.
const GRAIN: usize = 16;
/// Freed pieces up to this long are handed out again.
const SMALL_PIECE: usize = 1024;
/// Pieces of at least this length come from the end of the small block: of a buffer for answers only the beginning is
/// touched, and what is small would lie behind it on a page of its own.
const LONG_PIECE: usize = 4096;

thread_local! {
    /// Whether this is the thread that the small block belongs to.
    static FIRST: Cell<bool> = const { Cell::new(false) };
}
/// Whether a thread has the small block.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the small block to the calling thread, unless another has it.
pub fn settle() {
    if !TAKEN.swap(true, Ordering::Relaxed) {
        FIRST.set(true);
    }
}

/// The small block and what is known of it: the first thread's, and nobody else's. What is known comes first, on the page
/// that the first pieces are on.
#[repr(C, align(4096))]
struct Block {
    freed: Freed,
    used: Cell<usize>,
    /// How much of the end is long pieces. All is zero at first: what is not would be in the file.
    long: Cell<usize>,
    bytes: Bytes,
}

#[repr(C, align(16))]
struct Bytes(UnsafeCell<[u8; SIZE]>);

// SAFETY: everything but the address of the bytes is looked at by the first thread only: see `Block::of_this_thread`.
unsafe impl Sync for Block {}

static BLOCK: Block = Block {
    freed: Freed::new(),
    used: Cell::new(0),
    long: Cell::new(0),
    bytes: Bytes(UnsafeCell::new([0; SIZE])),
};

impl Block {
    /// The block, for the thread that has it.
    #[inline]
    fn of_this_thread() -> Option<&'static Self> {
        FIRST.get().then_some(&BLOCK)
    }

    #[inline]
    fn start() -> *mut u8 {
        BLOCK.bytes.0.get().cast()
    }

    /// Where a pointer lies in the block; for any thread.
    #[inline]
    fn offset(pointer: *mut u8) -> Option<usize> {
        Some((pointer as usize).wrapping_sub(Self::start() as usize)).filter(|offset| *offset < SIZE)
    }

    /// Where the long pieces begin, and the others have to end.
    #[inline]
    fn limit(&self) -> usize {
        SIZE - self.long.get()
    }

    #[inline]
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if let Some(piece) = self.freed.take(layout) {
            return Some(piece);
        }
        let (begin, end) = behind(Self::start(), self.used.get(), layout, self.limit())?;
        if layout.size() >= LONG_PIECE {
            return Some(self.take_long(layout, end));
        }
        self.used.set(end);
        Some(Self::start().wrapping_add(begin))
    }

    /// A piece from the end, of a layout that would fit at the beginning, where it would end at `end`.
    fn take_long(&self, layout: Layout, end: usize) -> *mut u8 {
        // As far towards the end as its alignment lets it.
        let shift = (self.limit() - end) & !(layout.align() - 1);
        let begin = end - whole(layout.size()) + shift;
        self.long.set(SIZE - begin);
        Self::start().wrapping_add(begin)
    }

    /// Moves the end of what was reserved last; `false` where something was reserved after it. The last of the long pieces
    /// can only be given back.
    #[inline]
    fn resize_last(&self, begin: usize, old: usize, new: usize) -> bool {
        if begin == self.limit() && new == 0 {
            self.long.set(SIZE - begin - whole(old));
            return true;
        }
        let last = self.used.get() == begin + whole(old) && whole(new) <= self.limit() - begin;
        if last {
            self.used.set(begin + whole(new));
        }
        last
    }
}

/// What was freed, a list for each length: each piece begins with the address of the next.
struct Freed(UnsafeCell<[*mut u8; SMALL_PIECE / GRAIN]>);

impl Freed {
    const fn new() -> Self {
        Self(UnsafeCell::new([ptr::null_mut(); SMALL_PIECE / GRAIN]))
    }

    /// The list for pieces of that layout; `None` for those that are too long or aligned to more.
    #[inline]
    fn list(&self, layout: Layout) -> Option<*mut *mut u8> {
        // Nothing is as long as the longest: too long as well.
        let list = layout.size().wrapping_sub(1) / GRAIN;
        let fits = layout.align() <= GRAIN && list < SMALL_PIECE / GRAIN;
        fits.then(|| self.0.get().cast::<*mut u8>().wrapping_add(list))
    }

    /// A freed piece of that layout.
    #[inline]
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let list = self.list(layout)?;
        // SAFETY: one thread at a time has the lists; a head that is not null is a freed piece of at least one grain, which
        // begins with the address of the next.
        unsafe {
            let head = *list;
            if head.is_null() {
                return None;
            }
            *list = head.cast::<*mut u8>().read();
            Some(head)
        }
    }

    /// Keeps a piece of a block that nobody uses any more.
    #[inline]
    fn keep(&self, pointer: *mut u8, layout: Layout) {
        let Some(list) = self.list(layout) else { return };
        // SAFETY: one thread at a time has the lists; the piece is whole grains long, aligned to one, and its owner's no
        // more.
        unsafe {
            pointer.cast::<*mut u8>().write(*list);
            *list = pointer;
        }
    }
}

/// What the other threads have freed.
struct Others {
    /// One at a time; who finds it busy does without.
    busy: AtomicBool,
    freed: Freed,
}

// SAFETY: the lists are looked at by whoever has made `busy` true, and nobody else.
unsafe impl Sync for Others {}

static OTHERS: Others = Others { busy: AtomicBool::new(false), freed: Freed::new() };

impl Others {
    fn with<T>(&self, work: impl FnOnce(&Freed) -> T) -> Option<T> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let done = work(&self.freed);
        self.busy.store(false, Ordering::Release);
        Some(done)
    }
}

/// The large block, which has no memory before [`widen`]. All threads take of it.
struct Large {
    start: AtomicPtr<u8>,
    used: AtomicUsize,
}

static LARGE: Large = Large { start: AtomicPtr::new(ptr::null_mut()), used: AtomicUsize::new(0) };

impl Large {
    /// Where a pointer lies in it.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        let start = self.start.load(Ordering::Acquire);
        let offset = (pointer as usize).wrapping_sub(start as usize);
        (!start.is_null() && offset < WIDE).then_some(offset)
    }

    /// Reserves room behind what is used; `None` where it is full, or has no memory.
    fn reserve(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.start.load(Ordering::Acquire);
        if start.is_null() {
            return None;
        }
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let (begin, end) = behind(start, used, layout, WIDE)?;
            // What another thread did with room that it gave back came before.
            match self.used.compare_exchange_weak(used, end, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(start.wrapping_add(begin)),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of what was reserved last; `false` where something was reserved after it.
    fn resize_last(&self, begin: usize, old: usize, new: usize) -> bool {
        let Some(end) = begin.checked_add(whole(new)).filter(|end| *end <= WIDE) else { return false };
        self.used.compare_exchange(begin + whole(old), end, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

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

/// See the module.
#[derive(Debug)]
pub struct Arena;

/// Where a piece of that layout begins and ends in a block of that size which is used so far; `None` where it does not fit.
#[inline]
fn behind(start: *mut u8, used: usize, layout: Layout, size: usize) -> Option<(usize, usize)> {
    let mut begin = used;
    if layout.align() > GRAIN {
        let mask = layout.align() - 1;
        begin += (start as usize + used).wrapping_neg() & mask;
    }
    // A layout's size and alignment are far from the largest number.
    let end = begin + whole(layout.size());
    (end <= size).then_some((begin, end))
}

/// A length in whole grains.
#[inline]
fn whole(size: usize) -> usize {
    size.next_multiple_of(GRAIN)
}

/// Where memory lies that is not the system's.
enum Place {
    Small(usize),
    Large(usize),
}

impl Place {
    #[inline]
    fn of(pointer: *mut u8) -> Option<Self> {
        Block::offset(pointer).map(Self::Small).or_else(|| LARGE.offset(pointer).map(Self::Large))
    }

    /// Moves the end of the piece there, where it is the last one and the thread's to move.
    #[inline]
    fn resize_last(&self, old: usize, new: usize) -> bool {
        match *self {
            Self::Small(begin) => {
                Block::of_this_thread().is_some_and(|block| block.resize_last(begin, old, new))
            }
            Self::Large(begin) => LARGE.resize_last(begin, old, new),
        }
    }
}

/// What does not fit in the small block, and what another thread asks for.
#[cold]
fn elsewhere(layout: Layout) -> *mut u8 {
    let freed = || OTHERS.with(|freed| freed.take(layout)).flatten();
    let piece = if FIRST.get() { None } else { freed() };
    match piece.or_else(|| LARGE.reserve(layout)) {
        Some(pointer) => pointer,
        // SAFETY: the layout is the caller's, whose size is not zero.
        None => unsafe { System.alloc(layout) },
    }
}

// SAFETY: every pointer is either the system's, and treated by it, or of room in a block that was reserved for it alone,
// aligned as asked; room is reused only after its last owner has freed it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Block::of_this_thread().and_then(|block| block.take(layout)) {
            Some(pointer) => pointer,
            None => elsewhere(layout),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(place) = Place::of(pointer) else {
            // SAFETY: it is the system's, with the layout that it was made with.
            return unsafe { System.dealloc(pointer, layout) };
        };
        // The last one is given back, small ones are kept, and the others wait for the process's end.
        if place.resize_last(layout.size(), 0) {
            return;
        }
        match Block::of_this_thread() {
            Some(block) => block.freed.keep(pointer, layout),
            None => OTHERS.with(|freed| freed.keep(pointer, layout)).unwrap_or_default(),
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = Place::of(pointer) else {
            // SAFETY: it is the system's, with the layout that it was made with.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        if whole(size) == whole(layout.size()) || place.resize_last(layout.size(), size) {
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
mod tests;
