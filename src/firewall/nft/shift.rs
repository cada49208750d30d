//! Published ports that have other numbers in the container: how the kernel is made to add to a port.
//!
//! nf_tables cannot add. Its `nat` expression takes the flag `NF_NAT_RANGE_PROTO_OFFSET`, but leaves the base of the
//! offset at 0, so that a port becomes `low + port % (high - low + 1)` (`nf_nat_l4proto_unique_tuple()` of
//! `net/netfilter/nf_nat_core.c`). A window `low..=high` is chosen so that this is the addition that is wanted for
//! every port of a run:
//!
//! - upwards by `d`: `low = d`, `high = 65535`; no port of the run reaches `65536 - d`, so the remainder is the port;
//! - downwards by `d`: a length between half of the run's ports and all, so that the remainder is the port less the
//!   length, and `low` is the length less `d`.
//!
//! Downwards a run must be less than twice its first port: one that starts low is cut where that is not so. Ports
//! 1000 to 10999 shifted downwards are four runs.

/// A run of host ports, and the window that shifts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first host port.
    pub(crate) first: u16,
    /// The last one.
    pub(crate) last: u16,
    /// The least port of the window (`NFTA_NAT_REG_PROTO_MIN`).
    pub(crate) low: u16,
    /// The greatest one (`NFTA_NAT_REG_PROTO_MAX`).
    pub(crate) high: u16,
}

/// The windows that lead `count` ports from `host` on to those from `target` on, all of which exist.
pub(crate) fn windows(host: u16, target: u16, count: u16) -> Vec<Window> {
    let last = host.saturating_add(count.saturating_sub(1));
    if target >= host {
        return vec![Window { first: host, last, low: target - host, high: u16::MAX }];
    }
    let down = host - target;
    let mut windows = Vec::new();
    let mut first = host;
    while first <= last {
        // Below twice the first port, every port has the same quotient by any length in between.
        let end = u32::from(last).min(2 * u32::from(first) - 1);
        let length = down.max(u16::try_from((end + 2) / 2).unwrap_or(first));
        let low = length - down;
        let end = u16::try_from(end).unwrap_or(last);
        windows.push(Window { first, last: end, low, high: low + (length - 1) });
        match end.checked_add(1) {
            Some(next) => first = next,
            None => break,
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel makes of a port.
    fn kernel(window: &Window, port: u16) -> u32 {
        let (low, high) = (u32::from(window.low), u32::from(window.high));
        assert!(low <= high, "the kernel would take it the other way round");
        low + u32::from(port) % (high - low + 1)
    }

    fn check(host: u16, target: u16, count: u16) -> usize {
        let windows = windows(host, target, count);
        let mut next = u32::from(host);
        for window in &windows {
            assert_eq!(u32::from(window.first), next, "no gap: {windows:?}");
            for port in window.first..=window.last {
                let wanted = u32::from(target) + u32::from(port) - u32::from(host);
                assert_eq!(
                    kernel(window, port),
                    wanted,
                    "port {port} of {host}+{count} to {target}: {window:?}"
                );
            }
            next = u32::from(window.last) + 1;
        }
        assert_eq!(next, u32::from(host) + u32::from(count));
        windows.len()
    }

    #[test]
    fn ends_of_what_ports_there_are() {
        assert_eq!(check(1, 2, 65534), 1);
        assert_eq!(check(2, 1, 65534), 15);
        assert_eq!(check(1000, 1, 10000), 4);
        assert_eq!(check(30000, 1, 20000), 1);
        assert_eq!(check(30000, 29999, 20000), 1);
        assert_eq!(check(65534, 1, 2), 1);
        assert_eq!(check(65534, 65533, 2), 1);
        assert_eq!(check(1, 65534, 2), 1);
        assert_eq!(check(32768, 32767, 32768), 1);
    }

    proptest! {
        #[test]
        fn every_shift_is_an_addition(host in 1u16.., target in 1u16.., count in 1u16..3000) {
            let room = (65536 - u32::from(host)).min(65536 - u32::from(target));
            let count = u16::try_from(u32::from(count).min(room)).unwrap();
            prop_assert!(check(host, target, count) <= 16);
        }
    }
}
