//! The expressions that rules are made of, one small function each, as the kernel's `nft_*` modules read them.
//!
//! Numbers are `NFTA_*` and `NFT_*` of `linux/netfilter/nf_tables.h`. The bytes are those that `nft` sends (compare
//! `nft --debug=netlink`), because `nft list ruleset` recognises its own patterns only.

use crate::model::attributes::Attributes;

use super::uapi::{LIST_ELEM, data};

/// Where an expression leaves its value and the next one finds it: `NFT_REG_*` of 16 bytes or `NFT_REG32_*` of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    /// `NFT_REG_VERDICT`.
    const VERDICT: Self = Self(0);
    /// `NFT_REG_1`: the first 16 bytes.
    pub(crate) const FIRST: Self = Self(1);
    /// `NFT_REG_2`: the second 16 bytes.
    pub(crate) const SECOND: Self = Self(2);
    /// `NFT_REG_3`: the third 16 bytes.
    pub(crate) const THIRD: Self = Self(3);

    /// The register that starts `words` times four bytes after the first one (`NFT_REG32_00` is 8).
    pub(crate) const fn word(words: u32) -> Self {
        Self(8 + words)
    }
}

/// `NFT_META_*`: what is known of a packet besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    Protocol = 1,
    InputName = 6,
    OutputName = 7,
    Trace = 12,
    Family = 15,
    Transport = 16,
}

/// `NFT_PAYLOAD_*`: the header that an offset counts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// `NFT_CT_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Conntrack {
    State = 0,
    Direction = 1,
    Status = 2,
    Protocol = 10,
    DestinationPort = 12,
    Source4 = 19,
    Source6 = 21,
}

/// `NFT_CMP_*`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compare {
    Equal = 0,
    Unequal = 1,
}

/// What ends a rule or an element of a verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The packet goes no further.
    Drop,
    /// The packet is through with this base chain.
    Accept,
    /// Back to the chain that jumped here.
    Return,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, and from there to where this chain was jumped to from.
    Goto(String),
}

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT`.
    pub(crate) fn put(&self, attributes: &mut Attributes) {
        let (code, chain) = match self {
            Self::Drop => (data::DROP, None),
            Self::Accept => (data::ACCEPT, None),
            Self::Return => (data::RETURN, None),
            Self::Jump(chain) => (data::JUMP, Some(chain)),
            Self::Goto(chain) => (data::GOTO, Some(chain)),
        };
        attributes.nest(data::VERDICT, |verdict| {
            verdict.put_be32(data::CODE, code);
            if let Some(chain) = chain {
                verdict.put_str(data::CHAIN, chain);
            }
        });
    }
}

/// `counter`, as what each element of a set does.
pub(crate) fn counter_of_elements(set: &mut Attributes, kind: u16) {
    set.nest(kind, |expression| {
        expression.put_str(1, "counter").nest(2, |_| {});
    });
}

fn expression(list: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    list.nest(LIST_ELEM, |expression| {
        expression.put_str(1, name).nest(2, fill);
    });
}

fn value(attributes: &mut Attributes, kind: u16, bytes: &[u8]) {
    attributes.nest(kind, |data| {
        data.put(data::VALUE, bytes);
    });
}

/// `meta load KEY => reg TO`.
pub(crate) fn meta(list: &mut Attributes, key: Meta, to: Register) {
    expression(list, "meta", |e| {
        e.put_be32(2, key as u32).put_be32(1, to.0);
    });
}

/// `payload load LENGTHb @ HEADER + OFFSET => reg TO`.
pub(crate) fn payload(list: &mut Attributes, header: Header, offset: u32, length: u32, to: Register) {
    expression(list, "payload", |e| {
        e.put_be32(1, to.0).put_be32(2, header as u32).put_be32(3, offset).put_be32(4, length);
    });
}

/// `ct load KEY => reg 1`.
pub(crate) fn conntrack(list: &mut Attributes, key: Conntrack) {
    expression(list, "ct", |e| {
        e.put_be32(2, key as u32).put_be32(1, Register::FIRST.0);
    });
}

/// `ct load KEY => reg 1, dir original`: the tuple of a connection's first packet, before any translation.
pub(crate) fn conntrack_original(list: &mut Attributes, key: u32) {
    const ORIGINAL: u8 = 0;
    expression(list, "ct", |e| {
        e.put_be32(2, key).put_u8(3, ORIGINAL).put_be32(1, Register::FIRST.0);
    });
}

/// `meta nftrace set 1`: what the packet meets from here on is told to who listens (`NFNLGRP_NFTRACE`).
pub(crate) fn trace(list: &mut Attributes) {
    immediate(list, &[1]);
    expression(list, "meta", |e| {
        e.put_be32(2, Meta::Trace as u32).put_be32(3, Register::FIRST.0);
    });
}

/// `limit rate RATE/second burst BURST packets`.
pub(crate) fn limit(list: &mut Attributes, rate: u64, burst: u32) {
    expression(list, "limit", |e| {
        // NFTA_LIMIT_RATE, _UNIT (seconds), _BURST, _TYPE (packets).
        e.put_be64(1, rate).put_be64(2, 1).put_be32(3, burst).put_be32(4, 0);
    });
}

/// `ct load KEY => reg TO`, of one direction's addresses where one is given.
pub(crate) fn conntrack_to(list: &mut Attributes, key: Conntrack, direction: Option<u8>, to: Register) {
    expression(list, "ct", |e| {
        e.put_be32(2, key as u32).put_be32(1, to.0);
        if let Some(direction) = direction {
            e.put(3, &[direction]);
        }
    });
}

/// `fib daddr type => reg 1`: what the routing table calls the destination (`RTN_*`), in the host's order.
pub(crate) fn destination_type(list: &mut Attributes) {
    const BY_DESTINATION: u32 = 1 << 1;
    const ADDRESS_TYPE: u32 = 3;
    expression(list, "fib", |e| {
        e.put_be32(3, BY_DESTINATION).put_be32(2, ADDRESS_TYPE).put_be32(1, Register::FIRST.0);
    });
}

/// `bitwise reg 1 = reg 1 & MASK`.
pub(crate) fn mask(list: &mut Attributes, mask: &[u8]) {
    expression(list, "bitwise", |e| {
        e.put_be32(1, Register::FIRST.0).put_be32(2, Register::FIRST.0);
        e.put_be32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        value(e, 4, mask);
        value(e, 5, &vec![0; mask.len()]);
    });
}

/// `cmp OPERATION reg 1 BYTES`.
pub(crate) fn compare(list: &mut Attributes, operation: Compare, bytes: &[u8]) {
    expression(list, "cmp", |e| {
        e.put_be32(1, Register::FIRST.0).put_be32(2, operation as u32);
        value(e, 3, bytes);
    });
}

/// How a lookup ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// The rule goes on where the set has the key.
    Member,
    /// The rule goes on where the set does not have it (`NFT_LOOKUP_F_INV`).
    Stranger,
    /// The map's value goes to a register.
    Value(Register),
    /// The map's verdict is carried out.
    Verdict,
}

/// `lookup reg 1 set NAME`, with what follows from it.
pub(crate) fn lookup(list: &mut Attributes, set: &str, found: Found) {
    const INVERT: u32 = 1;
    expression(list, "lookup", |e| {
        e.put_be32(2, Register::FIRST.0);
        match found {
            Found::Member => {}
            Found::Stranger => {
                e.put_be32(5, INVERT);
            }
            Found::Value(to) => {
                e.put_be32(3, to.0);
            }
            Found::Verdict => {
                e.put_be32(3, Register::VERDICT.0);
            }
        }
        e.put_str(1, set);
    });
}

/// What becomes of the port of a packet that is translated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ports {
    /// It stays.
    Kept,
    /// It becomes what a register holds.
    To(Register),
    /// It is shifted within the window whose ends two registers hold (`NF_NAT_RANGE_PROTO_OFFSET`).
    Shifted(Register, Register),
}

/// `nat dnat FAMILY addr_min reg ADDRESS [proto_min reg PORT [proto_max reg PORT flags OFFSET]]`.
pub(crate) fn destination_nat(list: &mut Attributes, family: u8, address: Register, ports: Ports) {
    const DESTINATION: u32 = 1;
    /// `NF_NAT_RANGE_PROTO_OFFSET` of `linux/netfilter/nf_nat.h`.
    const OFFSET: u32 = 1 << 5;
    expression(list, "nat", |e| {
        e.put_be32(1, DESTINATION).put_be32(2, u32::from(family)).put_be32(3, address.0);
        match ports {
            Ports::Kept => {}
            Ports::To(port) => {
                e.put_be32(5, port.0);
            }
            Ports::Shifted(first, last) => {
                e.put_be32(5, first.0).put_be32(6, last.0).put_be32(7, OFFSET);
            }
        }
    });
}

/// `immediate reg 1 BYTES`.
pub(crate) fn immediate(list: &mut Attributes, bytes: &[u8]) {
    expression(list, "immediate", |e| {
        e.put_be32(1, Register::FIRST.0);
        value(e, 2, bytes);
    });
}

/// `nat snat FAMILY addr_min reg 1`.
pub(crate) fn source_nat(list: &mut Attributes, family: u8) {
    const SOURCE: u32 = 0;
    expression(list, "nat", |e| {
        e.put_be32(1, SOURCE).put_be32(2, u32::from(family)).put_be32(3, Register::FIRST.0);
    });
}

/// `counter`: packets and bytes that came so far in the rule.
pub(crate) fn counter(list: &mut Attributes) {
    expression(list, "counter", |_| {});
}

/// `masq`: the source becomes the address of the interface that the packet leaves by.
pub(crate) fn masquerade(list: &mut Attributes) {
    expression(list, "masq", |_| {});
}

/// `immediate reg 0 VERDICT`.
pub(crate) fn verdict(list: &mut Attributes, verdict: &Verdict) {
    expression(list, "immediate", |e| {
        e.put_be32(1, Register::VERDICT.0).nest(2, |data| verdict.put(data));
    });
}
