//! How often a look at the host, and a repair, may be.

use std::time::{Duration, Instant};

/// What follows the first suspicion within this time is looked at with it.
const GATHERING: Duration = Duration::from_millis(20);
/// Between two looks.
const APART: Duration = Duration::from_millis(200);
/// Repairs that may follow each other at once.
const BURST: u32 = 10;
/// How long it takes until there may be one more.
const REFILL: Duration = Duration::from_secs(1);

/// Ten repairs at once, and one a second after that: whoever destroys all the time is mended all the time, and neither
/// the host's processors nor its log are filled with it.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    counted: Instant,
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, counted: now, last: None }
    }

    /// When something that is suspected now is to be looked at.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        self.count(now);
        let soon = now + GATHERING;
        let apart = self.last.map_or(soon, |last| last + APART);
        let refilled = if self.left == 0 { self.counted + REFILL } else { soon };
        soon.max(apart).max(refilled)
    }

    /// A look has ended; `found` is whether there was something to repair.
    pub(super) fn looked(&mut self, now: Instant, found: bool) {
        self.count(now);
        self.last = Some(now);
        if found {
            self.left = self.left.saturating_sub(1);
        }
    }

    fn count(&mut self, now: Instant) {
        while self.left < BURST && now.duration_since(self.counted) >= REFILL {
            self.left += 1;
            self.counted += REFILL;
        }
        if self.left == BURST {
            self.counted = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_mended_at_once_and_a_siege_once_a_second() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut now = begun;
        let mut repairs = Vec::new();
        while now < begun + Duration::from_secs(60) {
            now = pace.due(now);
            pace.looked(now, true);
            repairs.push(now);
        }
        let in_second = |n: u64| {
            let from = begun + Duration::from_secs(n);
            repairs.iter().filter(|at| **at >= from && **at < from + Duration::from_secs(1)).count()
        };
        assert_eq!(in_second(0), 5, "{APART:?} apart");
        assert!((10..60).all(|n| in_second(n) <= 2), "one a second");
        assert!(repairs.len() < 80, "{}", repairs.len());
        now += Duration::from_secs(60);
        assert!(pace.due(now) <= now + GATHERING, "peace is rewarded");
    }

    #[test]
    fn looks_that_find_nothing_cost_nothing_of_it() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            let due = pace.due(now);
            assert!(due <= now + APART);
            now = due;
            pace.looked(now, false);
        }
    }
}
