//! The kernel's answers, read. A reply is the attributes that follow `nfgenmsg`, as `sys` hands them over.

use std::fmt;

use crate::model::attributes::{find, iterate};

use super::TABLE;
use super::element::{Element, Leads};
use super::set::Set;
use super::uapi::{BRIDGE, INET, IPV4, IPV6, chain, data, element, hook, rule};

/// A chain that the kernel told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `NFPROTO_*` of its table.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its rules and what leads to it, counted together.
    pub uses: u32,
    /// How it is hooked; `None` for a chain that is jumped to.
    pub base: Option<BaseChain>,
}

/// What a base chain is besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `NF_INET_*`.
    pub hook: u32,
    /// Lower goes first.
    pub priority: i32,
    /// Whether what reaches its end is dropped.
    pub drops: bool,
}

impl Chain {
    /// Whether it is somebody else's and sees what is forwarded. No verdict of our own chains can save a packet from it.
    pub fn sees_forwarded(&self) -> bool {
        self.is_foreign_at(hook::FORWARD)
    }

    /// Whether it is somebody else's and sees what is for the host itself.
    pub fn sees_received(&self) -> bool {
        self.is_foreign_at(hook::INPUT)
    }

    fn is_foreign_at(&self, hook: u32) -> bool {
        self.table != TABLE
            && super::ROUTED_FAMILIES.contains(&self.family)
            && self.base.as_ref().is_some_and(|base| base.hook == hook)
    }

    /// Whether it does so, and drops unless one of its rules says otherwise.
    pub fn drops_forwarded(&self) -> bool {
        self.sees_forwarded() && self.base.as_ref().is_some_and(|base| base.drops)
    }

    /// Whether it is the FORWARD chain of iptables over nf_tables, or its INPUT chain.
    pub fn is_of_iptables(&self) -> bool {
        matches!(self.family, IPV4 | IPV6)
            && self.table == "filter"
            && matches!(self.name.as_str(), "FORWARD" | "INPUT")
    }

    /// Its family, as `nft` names it.
    pub fn family_word(&self) -> &'static str {
        match self.family {
            INET => "inet",
            IPV4 => "ip",
            IPV6 => "ip6",
            BRIDGE => "bridge",
            3 => "arp",
            5 => "netdev",
            _ => "?",
        }
    }
}

/// `ip filter FORWARD`, as `nft` names it.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family_word(), self.table, self.name)
    }
}

/// Reads one reply to [`super::chain_policy`] or [`super::dump_chains`], which asked for this family.
pub fn parse_chain(family: u8, attributes: &[u8]) -> Option<Chain> {
    let base = find(attributes, chain::HOOK).and_then(|h| {
        let policy = find(attributes, chain::POLICY).and_then(be32);
        Some(BaseChain {
            kind: text(find(attributes, chain::TYPE)?),
            hook: be32(find(h, chain::HOOK_NUMBER)?)?,
            priority: be32(find(h, chain::HOOK_PRIORITY)?)?.cast_signed(),
            drops: policy == Some(data::DROP),
        })
    });
    Some(Chain {
        family,
        table: text(find(attributes, chain::TABLE)?),
        name: text(find(attributes, chain::NAME)?),
        uses: find(attributes, chain::USE).and_then(be32).unwrap_or(0),
        base,
    })
}

/// Reads the reply to [`super::probe_generation`] (`NFTA_GEN_ID`).
pub fn parse_generation(attributes: &[u8]) -> Option<u32> {
    const GEN_ID: u16 = 1;
    find(attributes, GEN_ID).and_then(be32)
}

/// Reads the replies to [`super::dump_chains`]: the base chains among them.
pub fn parse_chains<T: AsRef<[u8]>>(family: u8, replies: &[T]) -> Vec<Chain> {
    let chains = replies.iter().filter_map(|reply| parse_chain(family, reply.as_ref()));
    chains.filter(|chain| chain.base.is_some()).collect()
}

/// Whether a reply to [`super::dump_rules`] is a rule.
pub fn is_rule(attributes: &[u8]) -> bool {
    find(attributes, rule::HANDLE).is_some()
}

/// The kernel's number for a rule.
pub(in crate::firewall) fn handle_of_rule(attributes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(find(attributes, rule::HANDLE)?.try_into().ok()?))
}

/// A rule's comment (`NFTNL_UDATA_RULE_COMMENT`, which has the number of an element's).
pub(in crate::firewall) fn comment_of_rule(attributes: &[u8]) -> Option<String> {
    find(attributes, rule::USERDATA).and_then(comment)
}

/// Reads one reply to [`super::get`] or [`super::dump`]: the elements in it, their owners as their comments say.
pub fn parse_elements(set: Set, attributes: &[u8]) -> Vec<Element> {
    let list = find(attributes, element::ELEMENTS).unwrap_or_default();
    iterate(list).filter_map(|(_, entry)| parse_element(set, entry)).collect()
}

fn parse_element(set: Set, entry: &[u8]) -> Option<Element> {
    let key = find(find(entry, element::KEY)?, data::VALUE)?.to_vec();
    let data = match find(entry, element::DATA) {
        None => Leads::Nowhere,
        Some(found) => match (find(found, data::VALUE), find(found, data::VERDICT)) {
            (Some(value), _) => Leads::To(value.to_vec()),
            (None, Some(verdict)) => Leads::Goto(text(find(verdict, data::CHAIN)?)),
            (None, None) => return None,
        },
    };
    let owner = find(entry, element::USERDATA).and_then(comment).unwrap_or_default();
    let last = find(entry, element::KEY_END).and_then(|end| find(end, data::VALUE)).map(<[u8]>::to_vec);
    Some(Element { set, key, last, data, owner })
}

/// The comment in user data: runs of type, length and content.
fn comment(mut userdata: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (*userdata.first()?, usize::from(*userdata.get(1)?));
        let content = userdata.get(2..2 + length)?;
        if kind == element::COMMENT {
            return Some(text(content));
        }
        userdata = &userdata[2 + length..];
    }
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A NUL-terminated string.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
