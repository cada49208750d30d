//! Their tables of nf_tables: rules that tell their owner by their comment alone.

use std::net::IpAddr;

use crate::firewall::nft::{
    BRIDGE, INET, IPV4, IPV6, comment_of_rule, flush_chain_of, handle_of_rule, parse_published, remove_chain,
    remove_rule,
};
use crate::model::nft::NftMessage;
use crate::model::{AttachmentKey, Publication};

/// A table of theirs and what its comments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its name.
    pub name: &'static str,
    /// The chains that hold rules of containers.
    pub chains: &'static [&'static str],
    /// Whether it is of published ports, and else of `ipMasq`.
    pub publishes: bool,
}

/// Their table of published ports, in each family.
pub const PORTS_TABLE: &str = "cni_hostport";
/// Its chain of the rules that publish one.
pub const PORTS_CHAIN: &str = "hostports";

const HOSTPORT_CHAINS: &[&str] = &[PORTS_CHAIN, "hostip_hostports", "masquerading"];

/// All of their tables.
pub const TABLES: [Table; 3] = [
    Table { family: IPV4, name: PORTS_TABLE, chains: HOSTPORT_CHAINS, publishes: true },
    Table { family: IPV6, name: PORTS_TABLE, chains: HOSTPORT_CHAINS, publishes: true },
    Table { family: INET, name: "cni_plugins_masquerade", chains: &["masq_checks"], publishes: false },
];

/// Their tables of published ports, or of `ipMasq`.
pub fn chains_of(publishes: bool) -> impl Iterator<Item = (Table, &'static str)> {
    let tables = TABLES.into_iter().filter(move |table| table.publishes == publishes);
    tables.flat_map(|table| table.chains.iter().map(move |chain| (table, *chain)))
}

/// One rule, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's number for it.
    pub handle: u64,
    /// Its comment.
    pub comment: String,
    /// The port that it publishes, where it does.
    pub published: Option<Publication>,
}

/// Reads one reply to a dump of the rules of a chain of a table; `None` for a rule without a comment.
pub fn parse_rule(table: Table, reply: &[u8]) -> Option<Rule> {
    let published = if table.publishes { parse_published(table.family, reply) } else { None };
    Some(Rule { handle: handle_of_rule(reply)?, comment: comment_of_rule(reply)?, published })
}

/// The rules of a container's published ports that lead to addresses that nobody holds any more, each with its chain;
/// with the last of them go the container's other rules (masquerade). `rules` are those of one table.
pub fn without_lease<'a>(
    rules: &'a [(&'static str, Rule)],
    id: &str,
    addresses: &[IpAddr],
) -> Vec<(&'static str, &'a Rule)> {
    let own = || rules.iter().filter(|(_, rule)| rule.comment == id).map(|(chain, rule)| (*chain, rule));
    let is_stale = |rule: &Rule| rule.published.map(|port| addresses.contains(&port.target.ip()));
    let published: Vec<bool> = own().filter_map(|(_, rule)| is_stale(rule)).collect();
    let all = !published.is_empty() && published.iter().all(|stale| *stale);
    own().filter(|(_, rule)| is_stale(rule).unwrap_or(all)).collect()
}

/// Takes rules of a chain away.
pub fn remove_rules(table: Table, chain: &str, rules: &[Rule]) -> Vec<NftMessage> {
    rules.iter().map(|rule| remove_rule(table.family, table.name, chain, rule.handle)).collect()
}

/// Their table of `macspoofchk`, whose chains are named after the attachment.
pub const GUARD: Table = Table { family: BRIDGE, name: "nat", chains: &["PREROUTING"], publishes: false };

/// The chains of an attachment's guard, the one that jumps to the other first.
pub fn guard_chains(key: &AttachmentKey) -> [String; 2] {
    let chain = format!("cni-br-iface-{}-{}", key.container_id, key.interface);
    let of_mac = format!("{chain}-mac");
    [chain, of_mac]
}

/// The comment of the jump to them.
pub fn guard_comment(key: &AttachmentKey) -> String {
    format!("macspoofchk-{}-{}", key.container_id, key.interface)
}

/// Takes chains away that nothing else jumps to.
pub fn remove_guard(chains: &[&str]) -> Vec<NftMessage> {
    let Table { family, name, .. } = GUARD;
    let flush = chains.iter().map(|chain| flush_chain_of(family, name, chain));
    flush.chain(chains.iter().map(|chain| remove_chain(family, name, chain))).collect()
}
