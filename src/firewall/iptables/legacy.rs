//! The table `filter` of legacy iptables, as its bytes in the kernel say: whether it drops what is forwarded, and whether
//! our exceptions are in it.

mod walk;

use super::rule::Family;
use super::shared::{ADMIT, FORWARD};

pub use walk::LegacyTable;

/// `-NF_DROP - 1`: how a standard target writes DROP.
const DROP: i32 = -1;

/// Where an entry has what we look for: `struct ipt_entry`, `struct ip6t_entry`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    input: usize,
    target: usize,
    next: usize,
    size: usize,
}

impl Layout {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self { input: 16, target: 88, next: 90, size: 112 },
            Family::V6 => Self { input: 64, target: 140, next: 142, size: 168 },
        }
    }
}

/// The table `filter` of a family.
#[derive(Debug)]
pub struct LegacyFilter<'a> {
    layout: Layout,
    entries: &'a [u8],
    forward_start: usize,
    forward_policy: usize,
}

impl<'a> LegacyFilter<'a> {
    /// `entries` are the kernel's, `forward` is where in them the first rule of FORWARD and its policy are.
    pub fn new(family: Family, entries: &'a [u8], forward: (usize, usize)) -> Self {
        Self { layout: Layout::of(family), entries, forward_start: forward.0, forward_policy: forward.1 }
    }

    /// Whether what is forwarded is dropped unless a rule says otherwise: by the policy, or by a rule for every packet.
    pub fn drops_forwarded(&self) -> bool {
        self.verdict(self.forward_policy) == Some(DROP) || self.rejects_forwarded()
    }

    /// Whether a rule of FORWARD without any condition rejects or drops.
    pub fn rejects_forwarded(&self) -> bool {
        let rules = self.offsets().skip_while(|at| *at < self.forward_start);
        rules
            .take_while(|at| *at < self.forward_policy)
            .any(|at| self.is_unconditional(at) && self.refuses(at))
    }

    /// Whether an entry is for every packet: nothing is asked of its header, and there is no match.
    fn is_unconditional(&self, at: usize) -> bool {
        // Between the header's conditions and the target's place are four bytes of the kernel's own.
        let header = self.entries.get(at..at + self.layout.target - 4);
        header.is_some_and(|header| header.iter().all(|byte| *byte == 0))
            && self.half(at + self.layout.target) == Some(self.layout.size)
    }

    fn refuses(&self, at: usize) -> bool {
        let name = || self.text(at + self.half(at + self.layout.target)? + 2, 29);
        self.verdict(at) == Some(DROP) || name() == Some("REJECT")
    }

    /// Whether a bridge's packets are let through all the same: by our exceptions, jumped to and with rules for this
    /// bridge, or because the backend's own chains are here.
    pub fn admits(&self, bridge: &str) -> bool {
        if self.chain(FORWARD).is_some_and(|start| self.is_jumped_to(start)) {
            return true;
        }
        let Some(start) = self.chain(ADMIT) else { return false };
        let of_bridge = self
            .offsets()
            .skip_while(|at| *at < start)
            .take_while(|at| self.error_name(*at).is_none())
            .any(|at| self.text(at + self.layout.input, 16) == Some(bridge));
        of_bridge && self.is_jumped_to(start)
    }

    /// Where the rules of a chain start: after the entry that has its name.
    fn chain(&self, name: &str) -> Option<usize> {
        let head = self.offsets().find(|at| self.error_name(*at) == Some(name))?;
        Some(head + self.length(head)?)
    }

    fn is_jumped_to(&self, start: usize) -> bool {
        self.offsets().any(|at| self.verdict(at).and_then(|to| usize::try_from(to).ok()) == Some(start))
    }

    /// Where each entry starts.
    fn offsets(&self) -> impl Iterator<Item = usize> {
        let next = |at: &usize| Some(at + self.length(*at)?);
        std::iter::successors(Some(0), next).take_while(|at| *at < self.entries.len())
    }

    fn length(&self, at: usize) -> Option<usize> {
        let length = self.half(at + self.layout.next)?;
        (length >= self.layout.size).then_some(length)
    }

    /// The number in a standard target, which has no name: a verdict below zero, else where to jump.
    fn verdict(&self, at: usize) -> Option<i32> {
        let target = at + self.half(at + self.layout.target)?;
        self.text(target + 2, 29)?.is_empty().then_some(())?;
        let bytes = self.entries.get(target + 32..target + 36)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// The name in a target `ERROR`: that of the chain that begins here.
    fn error_name(&self, at: usize) -> Option<&str> {
        let target = at + self.half(at + self.layout.target)?;
        (self.text(target + 2, 29)? == "ERROR").then(|| self.text(target + 32, 30)).flatten()
    }

    fn half(&self, at: usize) -> Option<usize> {
        Some(usize::from(u16::from_ne_bytes(self.entries.get(at..at + 2)?.try_into().ok()?)))
    }

    fn text(&self, at: usize, length: usize) -> Option<&str> {
        let bytes = self.entries.get(at..at + length)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

#[cfg(test)]
mod tests;
