//! Copying and comparing memory, in place of musl's on x86-64.
//!
//! There musl copies with `rep movsq` and then a byte at a time, whatever the length, and compares a byte at a time.
//! To start the one instruction takes longer than what most calls of this program copy, a handful of bytes: writing a
//! record of 2 KB out as JSON was four times as slow. Only x86-64: for others musl has what it takes
//! (docs/decisions/0045-copying-memory.md).
//!
//! Nothing here is a loop over what is copied, nor larger than a register where it is moved: the compiler would make a
//! call of `memcpy` of it, which is what this is.

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// So many bytes are copied without a loop.
const FEW: usize = 128;

/// Moves the first and the last `T` of a piece that is at least one long and at most two.
///
/// # Safety
/// Both places have `count` bytes, and `T` is of a size that one register holds.
#[inline(always)]
unsafe fn move_ends<T: Copy>(to: *mut u8, from: *const u8, count: usize) {
    let last = count - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let first_one = from.cast::<T>().read_unaligned();
        let last_one = from.add(last).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(first_one);
        to.add(last).cast::<T>().write_unaligned(last_one);
    }
}

/// Moves up to [`FEW`] bytes. All are read before the first is written, so the places may overlap.
///
/// # Safety
/// Both places have `count` bytes.
#[inline(always)]
unsafe fn move_few(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's promise, and in each arm what is added is less than the least count of that arm.
    unsafe {
        let load = |at: usize| _mm_loadu_si128(from.add(at).cast::<__m128i>());
        let store = |at: usize, value: __m128i| _mm_storeu_si128(to.add(at).cast::<__m128i>(), value);
        match count {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => move_ends::<u16>(to, from, count),
            4..=7 => move_ends::<u32>(to, from, count),
            8..=15 => move_ends::<u64>(to, from, count),
            16..=32 => move_ends::<__m128i>(to, from, count),
            33..=64 => {
                let (a, b, y, z) = (load(0), load(16), load(count - 32), load(count - 16));
                store(0, a);
                store(16, b);
                store(count - 32, y);
                store(count - 16, z);
            }
            _ => {
                let (a, b, c, d) = (load(0), load(16), load(32), load(48));
                let (w, x, y, z) = (load(count - 64), load(count - 48), load(count - 32), load(count - 16));
                store(0, a);
                store(16, b);
                store(32, c);
                store(48, d);
                store(count - 64, w);
                store(count - 48, x);
                store(count - 32, y);
                store(count - 16, z);
            }
        }
    }
}

/// Copies to a place that does not overlap, as memcpy(3).
///
/// # Safety
/// Both places have `count` bytes, and none in common.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's promise; more than eight bytes are left for the last eight.
    unsafe {
        if count <= FEW {
            return move_few(to, from, count);
        }
        let last = from.add(count - 8).cast::<u64>().read_unaligned();
        asm!(
            "rep movsq",
            inout("rcx") count / 8 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
        to.add(count - 8).cast::<u64>().write_unaligned(last);
    }
}

/// Copies to a place that may overlap, as memmove(3).
///
/// # Safety
/// Both places have `count` bytes.
#[inline(always)]
unsafe fn shift(to: *mut u8, from: *const u8, count: usize) {
    let (behind, ahead) =
        ((to as usize).wrapping_sub(from as usize), (from as usize).wrapping_sub(to as usize));
    // SAFETY: the caller's promise. What overlaps is copied in the order in which nothing is written before it is read.
    unsafe {
        if count <= FEW {
            move_few(to, from, count);
        } else if behind >= count && ahead >= count {
            copy(to, from, count);
        } else if to.cast_const() < from {
            asm!(
                "rep movsb",
                inout("rcx") count => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        } else {
            asm!(
                "std",
                "rep movsb",
                "cld",
                inout("rcx") count => _,
                inout("rdi") to.add(count - 1) => _,
                inout("rsi") from.add(count - 1) => _,
                options(nostack)
            );
        }
    }
}

/// How the first difference of two words lies, each with its first byte in memory as the most significant.
#[inline(always)]
fn difference(a: u64, b: u64) -> i32 {
    if u64::from_be(a) < u64::from_be(b) { -1 } else { 1 }
}

/// Compares, as memcmp(3): negative, 0 or positive as `a` is less than, equal to or more than `b`.
///
/// # Safety
/// Both places have `count` bytes.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise; each word that is read ends at `count` at the latest.
    unsafe {
        let word = |place: *const u8, at: usize| place.add(at).cast::<u64>().read_unaligned();
        let half = |place: *const u8, at: usize| u64::from(place.add(at).cast::<u32>().read_unaligned());
        if count >= 8 {
            let mut at = 0;
            while at + 8 < count {
                let (x, y) = (word(a, at), word(b, at));
                if x != y {
                    return difference(x, y);
                }
                at += 8;
            }
            let (x, y) = (word(a, count - 8), word(b, count - 8));
            return if x == y { 0 } else { difference(x, y) };
        }
        if count >= 4 {
            let (x, y) = (half(a, 0), half(b, 0));
            if x != y {
                return difference(x, y);
            }
            let (x, y) = (half(a, count - 4), half(b, count - 4));
            return if x == y { 0 } else { difference(x, y) };
        }
        for at in 0..count {
            let (x, y) = (a.add(at).read(), b.add(at).read());
            if x != y {
                return i32::from(x) - i32::from(y);
            }
        }
        0
    }
}

/// The names by which the compiler and every library call these. musl's own are then not linked in.
#[cfg(target_env = "musl")]
mod names {
    /// memcpy(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { super::copy(to, from, count) };
        to
    }

    /// memmove(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { super::shift(to, from, count) };
        to
    }

    /// memcmp(3).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { super::compare(a, b, count) }
    }

    /// What the compiler calls where only equality matters (bcmp(3)).
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { super::compare(a, b, count) }
    }
}

#[cfg(test)]
mod tests;
