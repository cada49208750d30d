//! Elements of sets and maps: the only thing that an ADD adds and a DEL takes away.

use std::fmt;

use crate::model::attributes::{Attributes, NESTED};
use crate::model::nft::NftMessage;
use crate::model::{AttachmentKey, names};

use super::expression::Verdict;
use super::set::Set;
use super::uapi::{CREATE, DUMP, EXCL, LIST_ELEM, data, element, msg};
use super::{TABLE, key};

/// The longest comment that `nft` prints: `NFTNL_UDATA_COMMENT_MAXLEN` (128) less its NUL.
const COMMENT_MAX: usize = 127;

/// Elements of one message together; an attribute holds less than 64 KiB.
const LIST_MAX: usize = 56 * 1024;

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Nothing: an element of a set.
    Nowhere,
    /// A value: an element of a map.
    To(Vec<u8>),
    /// A chain: an element of a verdict map.
    Goto(String),
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Where it is; the set knows its table's family.
    pub set: Set,
    /// Its key, as bytes in registers; the first key of an interval.
    pub key: Vec<u8>,
    /// The last key, where the set has intervals.
    pub last: Option<Vec<u8>>,
    /// What it leads to.
    pub data: Leads,
    /// Whose it is: its comment. [`owner_comment`] gives an attachment's, `network NAME` is a network's.
    pub owner: String,
}

impl Element {
    /// Whether it is a network's own, which stays when attachments go.
    pub fn is_of_network(&self) -> bool {
        self.owner.starts_with("network ")
    }

    /// An element; an owner that is too long for a comment is cut to one that tells it apart all the same.
    pub(crate) fn new(set: Set, key: Vec<u8>, data: Leads, owner: &str) -> Self {
        Self { set, key, last: None, data, owner: fit(owner) }
    }

    /// The same up to another key, field by field.
    pub(crate) fn up_to(mut self, last: Vec<u8>) -> Self {
        self.last = Some(last);
        self
    }

    /// Whether it is about the same keys as another.
    pub fn same_key(&self, other: &Self) -> bool {
        self.set == other.set && self.key == other.key && self.last == other.last
    }

    /// Says how the kernel's answer to [`get`] differs from this element; `None` where it does not.
    ///
    /// `reply` is the attributes that follow `nfgenmsg`.
    pub fn differs(&self, reply: &[u8]) -> Option<String> {
        let found = super::parse_elements(self.set, reply);
        let Some(found) = found.iter().find(|found| found.same_key(self)) else {
            return Some(format!("{self}: not there"));
        };
        if found.data != self.data {
            return Some(format!("{self}: found {found}"));
        }
        (found.owner != self.owner)
            .then(|| format!("{self}: belongs to '{}' instead of '{}'", found.owner, self.owner))
    }

    /// One entry of `NFTA_SET_ELEM_LIST_ELEMENTS`; only its key where it is to be found or deleted.
    fn put(&self, list: &mut Attributes, whole: bool) {
        list.nest(LIST_ELEM, |entry| {
            entry.nest(element::KEY, |key| {
                key.put(data::VALUE, &self.key);
            });
            if let Some(last) = &self.last {
                entry.nest(element::KEY_END, |key| {
                    key.put(data::VALUE, last);
                });
            }
            if !whole {
                return;
            }
            match &self.data {
                Leads::Nowhere => {}
                Leads::To(value) => {
                    entry.nest(element::DATA, |data| {
                        data.put(data::VALUE, value);
                    });
                }
                Leads::Goto(chain) => {
                    entry.nest(element::DATA, |data| Verdict::Goto(chain.clone()).put(data));
                }
            }
            entry.put(element::USERDATA, &comment(&self.owner));
        });
    }
}

/// `port tcp 0.0.0.0:8080 -> 10.1.0.2:80`, as messages to people name it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = key::words(self.set.key(), &self.key);
        match (self.set, words.as_slice()) {
            (Set::Ports4 | Set::Ports6, [protocol, address, port]) => {
                write!(f, "port {protocol} {}", key::endpoint(address, port))?;
            }
            (Set::Ports4Any, [protocol, port]) => write!(f, "port {protocol} 0.0.0.0:{port}")?,
            (Set::Ports6Any, [protocol, port]) => write!(f, "port {protocol} [::]:{port}")?,
            (Set::Ranges4 | Set::Ranges6 | Set::Shifts4 | Set::Shifts6, [protocol, address, port]) => {
                let last = key::words(self.set.key(), self.last.as_deref().unwrap_or(&self.key));
                let last = last.last().map_or("?", String::as_str);
                write!(f, "ports {protocol} {}-{last}", key::endpoint(address, port))?;
            }
            (Set::Open4 | Set::Open6, [protocol, address, port]) => {
                let last = key::words(self.set.key(), self.last.as_deref().unwrap_or(&self.key));
                write!(f, "open port {protocol} {}", key::endpoint(address, port))?;
                if let Some(last) = last.last().filter(|last| *last != port) {
                    write!(f, "-{last}")?;
                }
            }
            (Set::Egress4 | Set::Egress6, [address]) => write!(f, "way out of {address}")?,
            (Set::Walled, [bridge]) => write!(f, "wall around {bridge}")?,
            (Set::Within, [bridge, _]) => write!(f, "passage within {bridge}")?,
            (Set::Apart, [bridge, _]) => write!(f, "walls within {bridge}")?,
            (Set::Internal, [bridge]) => write!(f, "seal of {bridge}")?,
            (Set::Strict, [bridge]) => write!(f, "strict wall around {bridge}")?,
            (Set::Bridges, [bridge]) => write!(f, "bridge {bridge}")?,
            (Set::Walls, [bridge]) => write!(f, "way into {bridge}")?,
            (Set::MasqueradeAll, [bridge]) => write!(f, "masquerade of what comes into {bridge}")?,
            (Set::Guarded, [interface]) => write!(f, "guard of {interface}")?,
            (Set::Macs, [interface, mac]) => write!(f, "source address {mac} on {interface}")?,
            (Set::Pinned, [interface]) => write!(f, "guard of the addresses on {interface}")?,
            (Set::Sources4 | Set::Sources6, [interface, address]) => {
                write!(f, "source address {address} on {interface}")?;
            }
            (set, words) => write!(f, "{} {}", set.name(), words.join(" . "))?,
        }
        match &self.data {
            Leads::Nowhere => Ok(()),
            Leads::Goto(chain) => write!(f, " -> chain {chain}"),
            Leads::To(value) => {
                let super::set::Leads::To(fields) = self.set.leads() else { return Ok(()) };
                match key::words(fields, value).as_slice() {
                    [address, port] => write!(f, " -> {}", key::endpoint(address, port)),
                    [address, from, to] => {
                        write!(f, " -> {address} shifted into {from}-{to}")
                    }
                    words => write!(f, " -> {}", words.join(" . ")),
                }
            }
        }
    }
}

/// User data that `nft` prints as a comment: type, length, text, NUL.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![element::COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment of everything that belongs to an attachment: `ID:IFNAME` where that is short enough.
pub fn owner_comment(owner: &AttachmentKey) -> String {
    fit(&owner.to_string())
}

fn fit(owner: &str) -> String {
    if owner.len() <= COMMENT_MAX {
        return owner.to_owned();
    }
    let mut end = COMMENT_MAX - 17;
    while !owner.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:016x}", &owner[..end], names::hash(owner.as_bytes()))
}

/// Adds elements. One that is there with the same value stays, comment and all; with another value it is
/// `EEXIST` (`EBUSY` on some kernels).
pub fn add(elements: &[Element]) -> Vec<NftMessage> {
    pack(elements, msg::NEWSETELEM, CREATE, true)
}

/// Adds elements that must not be there: `EEXIST` otherwise. An ADD's own elements; shared ones of networks are not.
pub fn add_new(elements: &[Element]) -> Vec<NftMessage> {
    pack(elements, msg::NEWSETELEM, CREATE | EXCL, true)
}

/// Deletes elements by key. One that is missing is `ENOENT` and undoes the transaction.
pub fn remove(elements: &[Element]) -> Vec<NftMessage> {
    pack(elements, msg::DELSETELEM, 0, false)
}

/// Asks for one element by its key: one reply, or `ENOENT` (also where the table or the set is missing).
pub fn get(element: &Element) -> NftMessage {
    let mut list = Attributes::new();
    element.put(&mut list, false);
    message(element.set, msg::GETSETELEM, 0, list.as_bytes())
}

/// Asks for all elements of a set; [`super::parse_elements`] reads each reply.
pub fn dump(set: Set) -> NftMessage {
    message(set, msg::GETSETELEM, DUMP, &[])
}

/// Asks for all elements of somebody else's set; [`super::parse_foreign_elements`] reads each reply.
pub fn dump_foreign(family: u8, table: &str, set: &str) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(element::TABLE, table).put_str(element::SET, set);
    NftMessage { kind: msg::GETSETELEM, family, flags: DUMP, attributes: attributes.into_bytes() }
}

/// As few messages as will hold the elements, neighbours of one set together.
fn pack(elements: &[Element], kind: u8, flags: u16, whole: bool) -> Vec<NftMessage> {
    let mut messages = Vec::new();
    for neighbours in elements.chunk_by(|a, b| a.set == b.set) {
        let set = neighbours[0].set;
        let mut list = Attributes::new();
        for element in neighbours {
            if list.as_bytes().len() > LIST_MAX {
                messages.push(message(set, kind, flags, list.as_bytes()));
                list = Attributes::new();
            }
            element.put(&mut list, whole);
        }
        messages.push(message(set, kind, flags, list.as_bytes()));
    }
    messages
}

fn message(set: Set, kind: u8, flags: u16, list: &[u8]) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(element::TABLE, TABLE).put_str(element::SET, set.name());
    if !list.is_empty() {
        attributes.put(element::ELEMENTS | NESTED, list);
    }
    NftMessage { kind, family: set.family(), flags, attributes: attributes.into_bytes() }
}
