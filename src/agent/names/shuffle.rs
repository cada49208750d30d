//! An order that changes from answer to answer, so that clients which take the first address spread their load.

use std::hash::{BuildHasher as _, RandomState};

/// A generator of small, fast, unimportant randomness (xorshift64*).
#[derive(Debug)]
pub(super) struct Shuffle(u64);

impl Default for Shuffle {
    /// Begins anywhere.
    fn default() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }
}

impl Shuffle {
    /// Puts the items in any order, all orders being alike.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let span = u64::try_from(at + 1).unwrap_or(u64::MAX);
            let other = usize::try_from(self.next() % span).unwrap_or_default();
            items.swap(at, other);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_first_now_and_then() {
        let mut shuffle = Shuffle::default();
        let mut firsts = [0_u32; 4];
        for _ in 0..4000 {
            let mut items = [0, 1, 2, 3];
            shuffle.shuffle(&mut items);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3]);
        }
        assert!(firsts.iter().all(|count| (700..1300).contains(count)), "{firsts:?}");
        let mut none: [u8; 0] = [];
        shuffle.shuffle(&mut none);
    }
}
