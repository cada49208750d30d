//! A table that counts what passes through published ports, for whoever watches: the agent's, not the plugin's.
//!
//! The translation itself happens once a connection, so counters in its maps would count connections. Here each packet
//! of a translated connection is looked up once, by what conntrack knows of it: the direction, the protocol, the port
//! that the client asked for, and the container's address. Packets of other connections meet one comparison. See
//! `docs/decisions/0034-bytes-of-each-port.md`.

use crate::model::Publication;
use crate::model::attributes::{Attributes, NESTED, find, iterate};
use crate::model::nft::NftMessage;

use super::base::about_chain;
use super::expression::{self, Compare, Conntrack, Found, Meta, Register, Verdict};
use super::key::{octets, put_port};
use super::set::{Field, type_number, width};
use super::statement::Statements;
use super::uapi::{
    APPEND, CREATE, DUMP, INET, IPV4, IPV6, LIST_ELEM, chain, element, hook, msg, rule, set, table,
};

/// The table's name.
pub const TALLY: &str = "linkspan-bytes";
/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`: `nft flush ruleset` of others leaves it alone. Since Linux 6.9.
const OWNED: u32 = 1 << 1 | 1 << 2;
/// The chain that counts.
const COUNT: &str = "count";
/// Behind every filter: only what arrives is counted.
const LAST: i32 = 300;
/// `IP_CT_DIR_ORIGINAL` and `IP_CT_DIR_REPLY`.
const DIRECTIONS: [u8; 2] = [0, 1];
/// How many elements go into one message, which is shorter than 64 KiB.
const TOGETHER: usize = 512;

/// The sets: for single ports and for ranges, of either family.
const SETS: [(&str, u8, bool); 4] =
    [("ports4", IPV4, false), ("ports6", IPV6, false), ("ranges4", IPV4, true), ("ranges6", IPV6, true)];

/// An element that counts one direction of a published port or range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tallied {
    set: usize,
    key: Vec<u8>,
    last: Option<Vec<u8>>,
}

impl Tallied {
    /// Whether it is of a range of ports.
    pub fn is_range(&self) -> bool {
        self.last.is_some()
    }
}

/// What an element has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes, those of the headers above the link included.
    pub bytes: u64,
    /// Packets as the kernel passes them: several frames that it has put together are one.
    pub packets: u64,
}

/// The elements of a published port: of what the container receives, and of what it sends.
pub fn tallied(publication: &Publication) -> [Tallied; 2] {
    let family = usize::from(publication.host.is_ipv6());
    let set = if publication.is_range() { family + 2 } else { family };
    DIRECTIONS.map(|direction| {
        let key = |port: u16| {
            let mut key = vec![direction, 0, 0, 0, publication.protocol.number(), 0, 0, 0];
            put_port(&mut key, port);
            key.extend(octets(publication.target.ip()));
            key
        };
        let last = publication.is_range().then(|| key(publication.last_host_port()));
        Tallied { set, key: key(publication.host.port()), last }
    })
}

/// The table, taken over from whoever has left it: to be sent by the socket that is to own it. `EPERM` where another
/// process has it, `EOPNOTSUPP` before Linux 6.9, where it cannot be owned.
pub fn tally_adopted(owned: bool) -> Vec<NftMessage> {
    vec![about_tally(msg::NEWTABLE, Some(if owned { OWNED } else { 0 }))]
}

/// The table with its sets and rules, empty. Where it is there already, [`tally_removed`] comes first.
///
/// A set is made for ranges only where there are some: looking into them costs more.
pub fn tally_made(owned: bool, ranges: bool) -> Vec<NftMessage> {
    let mut messages = tally_adopted(owned);
    let sets = || SETS.into_iter().filter(|(_, _, of_ranges)| ranges || !of_ranges);
    messages.extend((1..).zip(sets()).map(|(id, (name, family, ranges))| new_set(name, family, ranges, id)));
    messages.push(about_chain(INET, TALLY, COUNT, msg::NEWCHAIN, CREATE));
    for (name, number) in [("leaving", hook::POSTROUTING), ("arriving", hook::INPUT)] {
        messages.push(base_chain(name, number));
        let to_count = Statements::new().published().then(&Verdict::Jump(COUNT.to_owned()));
        let mut rule = rule_in(name);
        to_count.put(&mut rule, rule::EXPRESSIONS | NESTED);
        messages.push(new_rule(rule));
    }
    for (name, family, _) in sets() {
        let mut rule = rule_in(COUNT);
        rule.nest(rule::EXPRESSIONS, |list| look_up(list, name, family));
        messages.push(new_rule(rule));
    }
    messages
}

/// Takes the table away. `ENOENT` where it is not there.
pub fn tally_removed() -> NftMessage {
    about_tally(msg::DELTABLE, None)
}

/// Begins to count.
pub fn tally_add(elements: &[Tallied]) -> Vec<NftMessage> {
    of_elements(elements, msg::NEWSETELEM, CREATE)
}

/// Ends it. `ENOENT` where one is not counted.
pub fn tally_remove(elements: &[Tallied]) -> Vec<NftMessage> {
    of_elements(elements, msg::DELSETELEM, 0)
}

/// The questions for all that was counted, one for each set; the answers to each are for [`tally_parse`].
pub fn tally_dumps() -> [NftMessage; 4] {
    SETS.map(|(name, _, _)| {
        let mut attributes = Attributes::new();
        attributes.put_str(element::TABLE, TALLY).put_str(element::SET, name);
        NftMessage { kind: msg::GETSETELEM, family: INET, flags: DUMP, attributes: attributes.into_bytes() }
    })
}

/// Reads one answer to a question of [`tally_dumps`], whose place among them is `set`.
pub fn tally_parse(set: usize, attributes: &[u8]) -> Vec<(Tallied, Counted)> {
    let value = |entry: &[u8], kind: u16| {
        find(entry, kind).and_then(|key| find(key, super::uapi::data::VALUE)).map(<[u8]>::to_vec)
    };
    let read = |entry: &[u8]| {
        let key = value(entry, element::KEY)?;
        let counter = find(find(entry, element::EXPRESSION)?, 2)?;
        let number = |kind: u16| find(counter, kind).and_then(|n| n.try_into().ok()).map(u64::from_be_bytes);
        let counted = Counted { bytes: number(1)?, packets: number(2)? };
        Some((Tallied { set, key, last: value(entry, element::KEY_END) }, counted))
    };
    let list = find(attributes, element::ELEMENTS).unwrap_or_default();
    iterate(list).filter_map(|(_, entry)| read(entry)).collect()
}

/// `meta nfproto FAMILY ct direction . ct protocol . ct original proto-dst . ct reply ip saddr @SET`.
fn look_up(list: &mut Attributes, name: &str, family: u8) {
    expression::meta(list, Meta::Family, Register::FIRST);
    expression::compare(list, Compare::Equal, &[family]);
    let [original, reply] = DIRECTIONS;
    let source = if family == IPV4 { Conntrack::Source4 } else { Conntrack::Source6 };
    expression::conntrack_to(list, Conntrack::Direction, None, Register::word(0));
    expression::conntrack_to(list, Conntrack::Protocol, None, Register::word(1));
    expression::conntrack_to(list, Conntrack::DestinationPort, Some(original), Register::word(2));
    expression::conntrack_to(list, source, Some(reply), Register::word(3));
    expression::lookup(list, name, Found::Member);
}

fn fields(family: u8) -> [Field; 4] {
    let address = if family == IPV4 { Field::Ipv4 } else { Field::Ipv6 };
    [Field::Direction, Field::Protocol, Field::Port, address]
}

fn new_set(name: &str, family: u8, ranges: bool, id: u32) -> NftMessage {
    let fields = fields(family);
    let mut attributes = Attributes::new();
    attributes
        .put_str(set::TABLE, TALLY)
        .put_str(set::NAME, name)
        .put_be32(set::FLAGS, if ranges { set::INTERVAL | set::CONCAT } else { 0 })
        .put_be32(set::KEY_TYPE, type_number(&fields))
        .put_be32(set::KEY_LEN, width(&fields));
    if ranges {
        attributes.nest(set::DESCRIPTION, |description| {
            description.nest(set::CONCATENATION, |list| {
                for field in fields {
                    list.nest(LIST_ELEM, |entry| {
                        entry.put_be32(set::FIELD_LEN, field.bytes());
                    });
                }
            });
        });
    }
    attributes.put_be32(set::ID, id);
    expression::counter_of_elements(&mut attributes, set::EXPRESSION);
    NftMessage { kind: msg::NEWSET, family: INET, flags: CREATE, attributes: attributes.into_bytes() }
}

fn of_elements(elements: &[Tallied], kind: u8, flags: u16) -> Vec<NftMessage> {
    let mut sorted: Vec<&Tallied> = elements.iter().collect();
    sorted.sort_by_key(|element| element.set);
    let of_set = sorted.chunk_by(|a, b| a.set == b.set).flat_map(|run| run.chunks(TOGETHER));
    of_set
        .map(|some| {
            let (name, _, _) = SETS[some[0].set];
            let mut attributes = Attributes::new();
            attributes.put_str(element::TABLE, TALLY).put_str(element::SET, name);
            attributes.nest(element::ELEMENTS, |list| {
                for one in some {
                    list.nest(LIST_ELEM, |entry| put_key(entry, one));
                }
            });
            NftMessage { kind, family: INET, flags, attributes: attributes.into_bytes() }
        })
        .collect()
}

fn put_key(entry: &mut Attributes, one: &Tallied) {
    let mut put = |kind: u16, key: &[u8]| {
        entry.nest(kind, |key_of| {
            key_of.put(super::uapi::data::VALUE, key);
        });
    };
    put(element::KEY, &one.key);
    if let Some(last) = &one.last {
        put(element::KEY_END, last);
    }
}

fn base_chain(name: &str, number: u32) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(chain::TABLE, TALLY).put_str(chain::NAME, name).put_str(chain::TYPE, "filter");
    attributes.nest(chain::HOOK, |h| {
        h.put_be32(chain::HOOK_NUMBER, number).put(chain::HOOK_PRIORITY, &LAST.to_be_bytes());
    });
    NftMessage { kind: msg::NEWCHAIN, family: INET, flags: CREATE, attributes: attributes.into_bytes() }
}

fn rule_in(chain: &str) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.put_str(rule::TABLE, TALLY).put_str(rule::CHAIN, chain);
    attributes
}

fn new_rule(rule: Attributes) -> NftMessage {
    NftMessage { kind: msg::NEWRULE, family: INET, flags: CREATE | APPEND, attributes: rule.into_bytes() }
}

fn about_tally(kind: u8, table_flags: Option<u32>) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(table::NAME, TALLY);
    if let Some(table_flags) = table_flags {
        attributes.put_be32(table::FLAGS, table_flags);
    }
    let flags = if kind == msg::NEWTABLE { CREATE } else { 0 };
    NftMessage { kind, family: INET, flags, attributes: attributes.into_bytes() }
}
