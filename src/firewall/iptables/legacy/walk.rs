//! A packet's way through a table of legacy iptables, as `ipt_do_table` and `ip6t_do_table` walk it.

use crate::firewall::iptables::rule::Family;
use crate::firewall::nft::{
    Doubt, End, Followed, Match, Packet, Place, Verdict, interface_key, xt_match, xt_target,
};

use super::{Layout, LegacyFilter};

/// How many entries are looked at in all.
const ENTRIES: usize = 20_000;
/// How deep chains may call each other.
const DEPTH: usize = 64;
/// `-NF_ACCEPT - 1` and `XT_RETURN`.
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// Where `struct ipt_ip` and `struct ip6t_ip6` have what a rule asks for first.
struct Header {
    address: usize,
    masks: usize,
    protocol: usize,
    flags: usize,
    inverted: usize,
    goto: u8,
}

const V4: Header = Header { address: 4, masks: 8, protocol: 80, flags: 82, inverted: 83, goto: 2 };
const V6: Header = Header { address: 16, masks: 32, protocol: 128, flags: 131, inverted: 132, goto: 4 };

/// A table of any name.
#[derive(Debug)]
pub struct LegacyTable<'a> {
    family: Family,
    own: LegacyFilter<'a>,
}

impl<'a> LegacyTable<'a> {
    /// `entries` are the kernel's.
    pub fn new(family: Family, entries: &'a [u8]) -> Self {
        Self {
            family,
            own: LegacyFilter { layout: Layout::of(family), entries, forward_start: 0, forward_policy: 0 },
        }
    }

    /// Follows a packet from where a hook's chain starts; `policy` is where its policy is, and `name` its name. A place's
    /// rule is its line in its chain, as `iptables -L --line-numbers` counts.
    pub fn follow(&self, name: &str, start: usize, policy: usize, packet: &mut Packet) -> Followed {
        let mut doubts = Vec::new();
        let mut back: Vec<(usize, Chain)> = Vec::new();
        let mut chain = Chain { name: name.to_owned(), start };
        let mut at = start;
        for _ in 0..ENTRIES {
            let Some(next) = self.own.length(at).map(|length| at + length) else { break };
            let place = || self.place(&chain, at, policy);
            let (matched, about) = self.matches(at, packet);
            if matched == Match::No {
                at = next;
                continue;
            }
            let sure = matched == Match::Yes;
            let doubt = |drops| Doubt { place: place(), drops, about: about.clone() };
            match self.own.verdict(at) {
                Some(super::DROP) if sure => return Followed { end: End::Drops(place()), doubts },
                Some(ACCEPT) if sure => return Followed { end: End::Passes(place()), doubts },
                Some(super::DROP) => doubts.push(doubt(true)),
                Some(RETURN) if sure => match back.pop() {
                    Some((to, caller)) => {
                        (at, chain) = (to, caller);
                        continue;
                    }
                    // The policy is the last entry, and no return.
                    None => {
                        at = policy;
                        continue;
                    }
                },
                Some(to) if to >= 0 => {
                    let to = usize::try_from(to).unwrap_or(usize::MAX);
                    if !sure {
                        // What a chain does that it may come to is not followed.
                        doubts.push(doubt(false));
                    } else if to != next {
                        if back.len() >= DEPTH {
                            break;
                        }
                        if !self.is_goto(at) {
                            back.push((next, chain));
                        }
                        chain = Chain { name: self.name_before(to), start: to };
                        at = to;
                        continue;
                    }
                }
                Some(_) => doubts.push(doubt(false)),
                None => match self.extension(at, packet, sure) {
                    Verdict::Drop if sure => return Followed { end: End::Drops(place()), doubts },
                    Verdict::Translate(translation) if sure => {
                        return Followed { end: End::Translates(place(), translation), doubts };
                    }
                    Verdict::None => {}
                    Verdict::Drop => doubts.push(doubt(true)),
                    _ => doubts.push(Doubt { about: self.target_name(at), ..doubt(false) }),
                },
            }
            at = next;
        }
        let place = Place { chain: name.to_owned(), rule: None };
        let about = "a table that could not be read to its end".to_owned();
        doubts.push(Doubt { place: place.clone(), drops: true, about });
        Followed { end: End::Passes(place), doubts }
    }

    fn place(&self, chain: &Chain, at: usize, policy: usize) -> Place {
        if at == policy {
            return Place { chain: chain.name.clone(), rule: None };
        }
        let before =
            self.own.offsets().skip_while(|offset| *offset < chain.start).take_while(|offset| *offset < at);
        Place { chain: chain.name.clone(), rule: u64::try_from(before.count() + 1).ok() }
    }

    /// The name of the chain whose first rule is at an offset: in the entry before it.
    fn name_before(&self, start: usize) -> String {
        let head = self.own.offsets().take_while(|offset| *offset < start).last();
        head.and_then(|head| self.own.error_name(head)).unwrap_or("?").to_owned()
    }

    fn header(&self) -> &'static Header {
        if self.family == Family::V4 { &V4 } else { &V6 }
    }

    fn is_goto(&self, at: usize) -> bool {
        let header = self.header();
        self.own.entries.get(at + header.flags).is_some_and(|flags| flags & header.goto != 0)
    }

    /// Whether an entry matches, and what of it could not be decided.
    fn matches(&self, at: usize, packet: &Packet) -> (Match, String) {
        let (first, about) = self.header_matches(at, packet);
        let (mut found, mut undecided) = (first, about);
        let (Some(target), mut from) = (self.own.half(at + self.own.layout.target), self.own.layout.size)
        else {
            return (Match::Perhaps, "?".to_owned());
        };
        while found != Match::No && from < target {
            let Some(size) = self.own.half(at + from).filter(|size| *size >= 32) else {
                return (Match::Perhaps, "?".to_owned());
            };
            let name = self.own.text(at + from + 2, 29).unwrap_or_default();
            let info = self.own.entries.get(at + from + 32..at + from + size).unwrap_or_default();
            match xt_match(name, info, packet) {
                Match::No => found = Match::No,
                Match::Perhaps => {
                    found = Match::Perhaps;
                    name.clone_into(&mut undecided);
                }
                Match::Yes => {}
            }
            from += size;
        }
        (found, undecided)
    }

    /// `ip_packet_match` and its like for IPv6.
    fn header_matches(&self, at: usize, packet: &Packet) -> (Match, String) {
        const INPUT: u8 = 1;
        const OUTPUT: u8 = 2;
        const SOURCE: u8 = 8;
        const DESTINATION: u8 = 16;
        const PROTOCOL: u8 = 64;
        let (header, entries) = (self.header(), self.own.entries);
        let byte = |offset: usize| entries.get(at + offset).copied().unwrap_or(0);
        let inverted = byte(header.inverted);
        let width = header.address;
        let mut asked: Vec<(Option<bool>, u8)> = Vec::new();
        for (n, address, bit) in [(0, packet.source, SOURCE), (1, packet.destination, DESTINATION)] {
            let octets = address.map(|address| match address {
                std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
            });
            let any = (0..width).all(|i| byte(header.masks + n * width + i) == 0);
            let same = octets.map(|octets| {
                octets
                    .iter()
                    .enumerate()
                    .all(|(i, own)| own & byte(header.masks + n * width + i) == byte(n * width + i))
            });
            asked.push((if any { Some(true) } else { same }, bit));
        }
        for (n, name, bit) in [(0, &packet.input, INPUT), (1, &packet.output, OUTPUT)] {
            let (wanted, mask) = (self.own.layout.input + 16 * n, self.own.layout.input + 32 + 16 * n);
            let any = (0..16).all(|i| byte(mask + i) == 0);
            let same = name.as_deref().map(interface_key).map(|own| {
                own.iter().enumerate().all(|(i, own)| (own ^ byte(wanted + i)) & byte(mask + i) == 0)
            });
            asked.push((if any { Some(true) } else { same }, bit));
        }
        let protocol = self.own.half(at + header.protocol).unwrap_or(0);
        let same = packet.protocol.map(|own| usize::from(own) == protocol);
        asked.push((if protocol == 0 { Some(true) } else { same }, PROTOCOL));
        let turned = asked.into_iter().map(|(found, bit)| found.map(|found| found != (inverted & bit != 0)));
        let all: Vec<Option<bool>> = turned.collect();
        if all.contains(&Some(false)) {
            return (Match::No, String::new());
        }
        let unknown = all.contains(&None);
        (if unknown { Match::Perhaps } else { Match::Yes }, if unknown { "addresses" } else { "" }.to_owned())
    }

    fn target_name(&self, at: usize) -> String {
        let target = self.own.half(at + self.own.layout.target).map(|target| at + target);
        target.and_then(|target| self.own.text(target + 2, 29)).unwrap_or("?").to_owned()
    }

    fn extension(&self, at: usize, packet: &mut Packet, sure: bool) -> Verdict {
        let Some(target) = self.own.half(at + self.own.layout.target).map(|target| at + target) else {
            return Verdict::Unknown;
        };
        let size = self.own.half(target).unwrap_or(0);
        let info = self.own.entries.get(target + 32..target + size).unwrap_or_default();
        xt_target(&self.target_name(at), info, packet, sure)
    }
}

/// A chain that a packet is in.
#[derive(Debug, Clone)]
struct Chain {
    name: String,
    start: usize,
}
