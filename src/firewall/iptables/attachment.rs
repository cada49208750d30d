//! What an attachment adds and takes away: all of it in table nat, but for what a routed network opens.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::firewall::nft::owner_comment;
use crate::firewall::{AttachmentRules, NetworkRules, opened};
use crate::model::{AttachmentKey, Protocol, Publication, names};

use super::rule::{Family, Rule, Text};
use super::shared::{POST, PUBLISH, network_chain, open_chain};

/// Texts for `iptables-restore --noflush` and `ip6tables-restore --noflush`; `None` where a family has nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// For `iptables-restore`.
    pub v4: Option<String>,
    /// For `ip6tables-restore`.
    pub v6: Option<String>,
}

/// The chain of an attachment's published ports.
pub(crate) fn chain(owner: &AttachmentKey) -> String {
    format!("LKS-DN-{:016x}", names::hash(owner.to_string().as_bytes()))
}

/// The attachment's rules in chains that are not its own, then those in its own.
pub(crate) fn rules(
    family: Family,
    network: &NetworkRules,
    attachment: &AttachmentRules,
) -> (Vec<Rule>, Vec<Rule>) {
    let owner = owner_comment(&attachment.owner);
    let of_family = |address: IpAddr| address.is_ipv4() == (family == Family::V4);
    let chain = chain(&attachment.owner);
    let own: Vec<Rule> = attachment
        .publications
        .iter()
        .filter(|publication| of_family(publication.target.ip()))
        .flat_map(|publication| published(network, &chain, publication))
        .collect();
    let mut shared = Vec::new();
    if !own.is_empty() {
        let conditions = match family {
            Family::V4 => &network.conditions_v4,
            Family::V6 => &network.conditions_v6,
        };
        shared.push(Rule::new("nat", PUBLISH, &format!("-j {chain}")).owned(&owner).preceded(conditions));
    }
    if network.masquerade || network.hairpin {
        let target = network_chain(&network.network);
        for address in attachment.addresses.iter().filter(|address| of_family(**address)) {
            let text = format!("-s {} -j {target}", whole(*address));
            shared.push(Rule::new("nat", POST, &text).owned(&owner));
        }
    }
    let open: BTreeSet<(Protocol, SocketAddr)> = opened(network, attachment)
        .filter(|publication| of_family(publication.target.ip()))
        .map(|publication| (publication.protocol, publication.target))
        .collect();
    for (protocol, target) in open {
        let text = format!(
            "-d {} -p {protocol} -m {protocol} --dport {} -j ACCEPT",
            whole(target.ip()),
            target.port()
        );
        shared.push(Rule::new("filter", open_chain(&network.network), &text).owned(&owner));
    }
    (shared, own)
}

/// One published port: whom the administrator's chain marks, then where it leads.
fn published(network: &NetworkRules, chain: &str, publication: &Publication) -> Vec<Rule> {
    let (protocol, host) = (publication.protocol, publication.host);
    let to = if host.ip().is_unspecified() { String::new() } else { format!("-d {} ", whole(host.ip())) };
    let port = format!("-p {protocol} -m {protocol} --dport {}", host.port());
    let mut rules = Vec::new();
    if let Some(mark) = &network.mark_chain {
        let inside = if network.bridge.is_empty() {
            format!("-s {} ", whole(publication.target.ip()))
        } else {
            format!("-i {} ", network.bridge)
        };
        let sources = match (network.masquerade_all, network.hairpin, host.is_ipv4()) {
            (true, _, _) => vec![String::new()],
            (false, true, true) => vec![inside, "-s 127.0.0.1/32 ".to_owned()],
            (false, true, false) => vec![inside],
            (false, false, _) => Vec::new(),
        };
        for source in sources {
            rules.push(Rule::new("nat", chain, &format!("{source}{to}{port} -j {mark}")));
        }
    }
    rules.push(Rule::new(
        "nat",
        chain,
        &format!("{to}{port} -j DNAT --to-destination {}", publication.target),
    ));
    rules
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn both(render: impl Fn(Family) -> Option<String>) -> Restore {
    Restore { v4: render(Family::V4), v6: render(Family::V6) }
}

/// Adds an attachment. It must not be there: shared chains would jump to it twice.
///
/// The restore fails as a whole where the shared chains or the network's are missing: then [`super::rebuild`] with
/// this attachment among the others.
pub fn attach(network: &NetworkRules, attachment: &AttachmentRules) -> Restore {
    both(|family| {
        let (shared, own) = rules(family, network, attachment);
        let mut text = Text::default();
        if !own.is_empty() {
            text.empty("nat", &chain(&attachment.owner));
        }
        own.iter().chain(&shared).for_each(|rule| text.append(rule));
        text.render()
    })
}

/// Takes an attachment away that is there as [`attach`] left it.
///
/// The restore fails as a whole, and changes nothing, where any of it is missing: then [`super::detach_from`] with
/// what `iptables-save` prints.
pub fn detach(network: &NetworkRules, attachment: &AttachmentRules) -> Restore {
    both(|family| {
        let (shared, own) = rules(family, network, attachment);
        let mut text = Text::default();
        for rule in &shared {
            text.line(rule.table, rule.line("-D"));
        }
        if !own.is_empty() {
            text.remove("nat", &chain(&attachment.owner));
        }
        text.render()
    })
}
