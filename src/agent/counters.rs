//! Numbers of what the plugin does, as the agent sees it: the plugin itself counts nothing, and waits for nobody.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// The upper bounds of a histogram's buckets, in seconds.
pub(super) const BOUNDS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 5.0];

/// How long things took.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// How many were within each of the bounds and above the one before; the last is above all.
    buckets: RefCell<[u64; BOUNDS.len() + 1]>,
    seconds: Cell<f64>,
}

impl Histogram {
    /// Counts one.
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets.borrow_mut()[at] += 1;
        self.seconds.set(self.seconds.get() + seconds);
    }

    /// How many took at most each of the bounds, and how many there are.
    pub(super) fn cumulative(&self) -> ([u64; BOUNDS.len()], u64) {
        let buckets = self.buckets.borrow();
        let mut sum = 0;
        let mut all = [0; BOUNDS.len()];
        for (to, count) in all.iter_mut().zip(buckets.iter()) {
            sum += count;
            *to = sum;
        }
        (all, sum + buckets[BOUNDS.len()])
    }

    /// How long all took together.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds.get()
    }
}

/// What the plugin did since the agent was started.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    /// ADDs that succeeded.
    pub adds: Cell<u64>,
    /// ADDs that had begun and failed.
    pub failed_adds: Cell<u64>,
    /// Attachments that went, by DEL, GC or collection.
    pub dels: Cell<u64>,
    /// From an ADD's first step until the agent saw that it was complete.
    pub add_took: Histogram,
    /// From the mark of a DEL until nothing was left.
    pub del_took: Histogram,
}

/// Adds to a counter.
pub(super) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get().saturating_add(count));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_took_no_longer() {
        let histogram = Histogram::default();
        for millis in [1, 3, 3, 9000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let (cumulative, all) = histogram.cumulative();
        assert_eq!((cumulative[0], cumulative[1], cumulative[2], cumulative[11], all), (1, 1, 3, 3, 4));
        assert!((histogram.seconds() - 9.007).abs() < 1e-9);
    }
}
