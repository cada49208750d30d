//! Their chains of iptables, in what `iptables-save` prints.

use std::net::{IpAddr, SocketAddr};

use crate::firewall::iptables::{Saved, SavedRule, Text};
use crate::model::{Protocol, Publication};

/// The chain of `firewall`, in table filter.
pub const ADMITTED: &str = "CNI-FORWARD";

/// The chain of table nat from which each container's published ports are jumped to.
pub const PUBLISHED: &str = "CNI-HOSTPORT-DNAT";

/// Whose rules tell their network and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ipMasq`: jumps from POSTROUTING.
    Masquerade,
    /// Published ports: jumps from `CNI-HOSTPORT-DNAT`, and of old versions from `CNI-HOSTPORT-SNAT`.
    Published,
}

impl Kind {
    fn holds(self, rule: &SavedRule<'_>) -> bool {
        match self {
            Self::Masquerade => rule.chain() == "POSTROUTING",
            Self::Published => matches!(rule.chain(), PUBLISHED | "CNI-HOSTPORT-SNAT"),
        }
    }
}

/// Takes chains of table nat away, with what jumps to them and nothing else; `None` where none of it is there.
pub fn remove_chains(saved: &Saved, chains: &[&str]) -> Option<String> {
    let mut text = Text::default();
    for rule in saved.rules().filter(|rule| rule.table == "nat" && !chains.contains(&rule.chain())) {
        if rule.target().is_some_and(|target| chains.contains(&target)) {
            text.line("nat", rule.deletion());
        }
    }
    for (table, name) in saved.chains().filter(|(table, name)| *table == "nat" && chains.contains(name)) {
        text.remove(table, name);
    }
    text.render()
}

/// Whether a chain of table nat is there.
pub fn chain_in_use(saved: &Saved, chain: &str) -> bool {
    saved.policy("nat", chain).is_some()
}

/// Whether what an address sends is led to a chain of `ipMasq`, and masqueraded there.
pub fn masquerades(saved: &Saved, chain: &str, address: IpAddr) -> bool {
    let whole = whole(address);
    let mut rules = saved.rules().filter(|rule| rule.table == "nat");
    let leads = |rule: &SavedRule<'_>| rule.chain() == "POSTROUTING" && rule.target() == Some(chain);
    let led = rules.any(|rule| leads(&rule) && rule.after("-s") == Some(&whole));
    let mut own = saved.rules().filter(|rule| rule.table == "nat" && rule.chain() == chain);
    led && own.any(|rule| rule.target() == Some("MASQUERADE"))
}

/// The rules of `firewall` that let a container's address through, of which each address has two.
pub fn admitted<'a>(saved: &'a Saved, address: IpAddr) -> impl Iterator<Item = SavedRule<'a>> {
    let whole = whole(address);
    saved.rules().filter(move |rule| {
        rule.table == "filter"
            && rule.chain() == ADMITTED
            && rule.target() == Some("ACCEPT")
            && (rule.after("-s") == Some(&whole) || rule.after("-d") == Some(&whole))
    })
}

/// Takes the rules of `firewall` for some addresses away; `None` where there are none.
pub fn remove_admitted(saved: &Saved, addresses: &[IpAddr]) -> Option<String> {
    let mut text = Text::default();
    for address in addresses {
        for rule in admitted(saved, *address) {
            text.line("filter", rule.deletion());
        }
    }
    text.render()
}

/// The published ports of a chain.
pub fn published(saved: &Saved, chain: &str) -> Vec<Publication> {
    saved
        .rules()
        .filter(|rule| rule.table == "nat" && rule.chain() == chain)
        .filter_map(|rule| publication(&rule))
        .collect()
}

fn publication(rule: &SavedRule<'_>) -> Option<Publication> {
    let target: SocketAddr = rule.after("--to-destination")?.parse().ok()?;
    let unspecified: IpAddr =
        if target.is_ipv4() { [0; 4].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let host = match rule.after("-d") {
        Some(address) => address.split('/').next()?.parse().ok()?,
        None => unspecified,
    };
    let port = rule.after("--dport")?.parse().ok()?;
    let protocol = Protocol::from_name(rule.after("-p")?)?;
    Some(Publication { protocol, host: SocketAddr::new(host, port), target, count: 1 })
}

/// A container's chain, as the jumps to it tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedChain {
    /// Its name.
    pub name: String,
    /// The network.
    pub network: String,
    /// The container's ID.
    pub id: String,
}

/// The containers that have chains, each once.
pub fn owners(saved: &Saved, kind: Kind) -> Vec<OwnedChain> {
    let mut owners = Vec::new();
    for rule in saved.rules().filter(|rule| rule.table == "nat" && kind.holds(rule)) {
        let Some((network, id)) = rule.comment().and_then(name_and_id) else { continue };
        let Some(chain) = rule.target().filter(|chain| chain.starts_with("CNI-")) else { continue };
        let owner = OwnedChain { name: chain.to_owned(), network: network.to_owned(), id: id.to_owned() };
        if !owners.contains(&owner) {
            owners.push(owner);
        }
    }
    owners
}

/// `dnat name: "web" id: "c1"`, or without its first word.
fn name_and_id(comment: &str) -> Option<(&str, &str)> {
    let rest = comment.split_once("name: \"")?.1;
    let (name, rest) = rest.split_once("\" id: \"")?;
    Some((name, rest.strip_suffix('"')?))
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
