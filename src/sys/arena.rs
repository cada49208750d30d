//! The allocator of a process that lives for two milliseconds.
//!
//! musl gives memory back to the kernel as soon as it is freed, and asks for it again: some seventy `mmap` and `munmap`
//! a call, each followed by page faults that cost more than the system call. Here memory comes from one reserved block,
//! page by page as it is touched, and is not given back before the process ends. What does not fit (a garbage
//! collection over thousands of records) comes from the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reserved, not used: untouched pages cost nothing.
const SIZE: usize = 1 << 20;

#[repr(C, align(4096))]
struct Block(UnsafeCell<[u8; SIZE]>);

// SAFETY: parts of the block are handed out at most once at a time, by an atomic counter.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; SIZE]));
static USED: AtomicUsize = AtomicUsize::new(0);

/// See the module.
#[derive(Debug)]
pub struct Arena;

fn start() -> usize {
    BLOCK.0.get() as usize
}

/// Where a pointer lies in the block.
fn offset(pointer: *mut u8) -> Option<usize> {
    (pointer as usize).checked_sub(start()).filter(|offset| *offset < SIZE)
}

/// Reserves room behind what is used; `None` where the block is full.
fn reserve(layout: Layout) -> Option<*mut u8> {
    let mut used = USED.load(Ordering::Relaxed);
    loop {
        let begin = used.checked_next_multiple_of(layout.align())?;
        let end = begin.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
        match USED.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(BLOCK.0.get().cast::<u8>().wrapping_add(begin)),
            Err(now) => used = now,
        }
    }
}

/// Moves the end of what was reserved last; `false` where something was reserved after it.
fn resize_last(begin: usize, old: usize, new: usize) -> bool {
    let Some(end) = begin.checked_add(new).filter(|end| *end <= SIZE) else { return false };
    USED.compare_exchange(begin + old, end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

// SAFETY: every pointer is either the system's, and treated by it, or of room in the block that the counter has
// reserved for it alone, aligned as asked; room is reused only after its last owner has freed it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match reserve(layout) {
            Some(pointer) => pointer,
            // SAFETY: the caller's layout is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match offset(pointer) {
            // Only the last one can be given back; the others wait for the process's end.
            Some(begin) => {
                resize_last(begin, layout.size(), 0);
            }
            // SAFETY: it is the system's, with the layout that it was made with.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(begin) = offset(pointer) else {
            // SAFETY: it is the system's, with the layout that it was made with.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        if resize_last(begin, layout.size(), size) {
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
            let large = Layout::from_size_align(SIZE * 2, 16).unwrap();
            let system = Arena.alloc(large);
            assert!(!system.is_null() && offset(system).is_none());
            Arena.dealloc(system, large);
        }
    }
}
