//! How much one client may ask outside, where every question costs a socket and somebody else's patience.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Questions under way at the same time, of all clients and of one.
const TOGETHER: usize = 512;
const TOGETHER_OF_ONE: usize = 128;
/// Questions of one client in a second, and so many at once after a silence.
const RATE: u32 = 1000;
/// Clients that are remembered; those that have been silent are forgotten first.
const REMEMBERED: usize = 4096;

/// The shares of all clients.
#[derive(Debug, Default)]
pub(super) struct Shares {
    clients: RefCell<HashMap<IpAddr, Share>>,
    under_way: Cell<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    /// Questions under way.
    under_way: usize,
    /// When all that it has asked would be paid for, at one question in [`interval`].
    paid: Instant,
}

/// A question under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    shares: &'a Shares,
    client: IpAddr,
}

fn interval() -> Duration {
    Duration::from_secs(1) / RATE
}

impl Shares {
    /// A place for one more question of a client; `None` where it has its share, or all places are taken.
    pub(super) fn admit(&self, client: IpAddr, now: Instant) -> Option<Place<'_>> {
        if self.under_way() >= TOGETHER {
            return None;
        }
        let mut shares = self.clients.borrow_mut();
        if shares.len() >= REMEMBERED {
            shares.retain(|_, share| share.under_way > 0 || share.paid > now);
        }
        let share = shares.entry(client).or_insert(Share { under_way: 0, paid: now });
        let paid = share.paid.max(now) + interval();
        if share.under_way >= TOGETHER_OF_ONE || paid > now + Duration::from_secs(1) {
            return None;
        }
        share.paid = paid;
        share.under_way += 1;
        self.under_way.set(self.under_way.get() + 1);
        Some(Place { shares: self, client })
    }

    /// Questions of all clients that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.get()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shares.under_way.set(self.shares.under_way.get() - 1);
        if let Some(share) = self.shares.clients.borrow_mut().get_mut(&self.client) {
            share.under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, last, 1])
    }

    #[test]
    fn one_client_leaves_places_to_the_others() {
        let (shares, now) = (Shares::default(), Instant::now());
        let mut held = Vec::new();
        for n in 0..8 {
            held.extend((0..200).filter_map(|_| shares.admit(client(n), now)));
        }
        assert_eq!(held.len(), TOGETHER);
        assert!(shares.admit(client(9), now).is_none());
        held.clear();
        assert_eq!(shares.under_way(), 0);
        let one = (0..200).filter_map(|_| shares.admit(client(0), now)).collect::<Vec<_>>();
        assert_eq!(one.len(), TOGETHER_OF_ONE);
        assert!(shares.admit(client(1), now).is_some());
    }

    #[test]
    fn a_second_has_so_many_questions_and_silence_gives_them_back() {
        let (shares, now) = (Shares::default(), Instant::now());
        let asked = |now| (0..5000).filter(|_| shares.admit(client(0), now).is_some()).count();
        assert_eq!(asked(now), RATE as usize);
        assert_eq!(asked(now + Duration::from_millis(100)), RATE as usize / 10);
        assert_eq!(asked(now + Duration::from_secs(60)), RATE as usize);
        assert!(shares.admit(client(1), now).is_some());
    }

    #[test]
    fn many_addresses_are_not_remembered_for_ever() {
        let (shares, now) = (Shares::default(), Instant::now());
        for n in 0..20_000_u32 {
            let client = IpAddr::from(n.to_be_bytes());
            drop(shares.admit(client, now + Duration::from_millis(u64::from(n))));
            assert!(shares.clients.borrow().len() <= REMEMBERED);
        }
    }
}
