//! What an attachment adds and takes away: all of it in table nat, but for what a routed network opens.

use std::net::IpAddr;

use crate::firewall::nft::owner_comment;
use crate::firewall::{AttachmentRules, NetworkRules, opened};
use crate::model::{AttachmentKey, IngressPolicy, Publication, names};

use super::rule::{Family, Rule, Text};
use super::shared::{FORWARD, FROM, POST, PUBLISH, TO, WALL, entries, network_chain, open_chain};

/// Texts for `iptables-restore --noflush` and `ip6tables-restore --noflush`; `None` where a family has nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// For `iptables-restore`.
    pub v4: Option<String>,
    /// For `ip6tables-restore`.
    pub v6: Option<String>,
}

/// The chain of an attachment's published ports.
pub fn chain(owner: &AttachmentKey) -> String {
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
    let mut publications: Vec<&Publication> =
        attachment.publications.iter().filter(|publication| of_family(publication.target.ip())).collect();
    // One address goes before all of them.
    publications.sort_by_key(|publication| publication.host.ip().is_unspecified());
    let own: Vec<Rule> =
        publications.into_iter().flat_map(|publication| published(network, &chain, publication)).collect();
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
    shared.extend(around_interface(network, attachment).into_iter().map(|rule| rule.owned(&owner)));
    for run in opened(network, attachment).iter().filter(|run| of_family(run.address)) {
        let ports = ports(run.first, run.last);
        let (address, protocol) = (whole(run.address), run.protocol);
        let text = format!("-d {address} -p {protocol} -m {protocol} --dport {ports} -j ACCEPT");
        shared.push(Rule::new("filter", open_chain(&network.network), &text).owned(&owner));
    }
    (shared, own)
}

/// What networks without a bridge have for each attachment's interface, and others for their bridge.
fn around_interface(network: &NetworkRules, attachment: &AttachmentRules) -> Vec<Rule> {
    let interface = &attachment.host_interface;
    let mut rules = Vec::new();
    if !network.bridge.is_empty() || interface.is_empty() {
        return rules;
    }
    if attachment.walls && network.ingress != IngressPolicy::Open {
        rules.extend([
            Rule::new("filter", FROM, &format!("-i {interface} -j DROP")),
            Rule::new("filter", TO, &format!("-o {interface} -j DROP")),
            Rule::new("filter", WALL, &format!("-o {interface} -j DROP")),
            Rule::new("filter", FORWARD, &format!("-i {interface} -j {WALL}")),
        ]);
    }
    // Where an administrator's chain sets the mark, his rules masquerade by it.
    if attachment.masqueraded && network.mark_chain.is_none() {
        let text = format!("-o {interface} -m conntrack --ctstate DNAT -j MASQUERADE");
        rules.push(Rule::new("nat", POST, &text));
    }
    rules
}

/// One published port: whom the administrator's chain marks, then where it leads.
fn published(network: &NetworkRules, chain: &str, publication: &Publication) -> Vec<Rule> {
    let (protocol, host) = (publication.protocol, publication.host);
    let to = if host.ip().is_unspecified() { String::new() } else { format!("-d {} ", whole(host.ip())) };
    let ports = ports(host.port(), publication.last_host_port());
    let port = format!("-p {protocol} -m {protocol} --dport {ports}");
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
        &format!("{to}{port} -j DNAT --to-destination {}", destination(publication)),
    ));
    rules
}

/// Where packets go. Without a port they keep theirs; behind a slash is the host port that the first one stands for.
fn destination(publication: &Publication) -> String {
    let (target, host) = (publication.target, publication.host.port());
    match (publication.is_range(), publication.is_shifted()) {
        (false, _) => target.to_string(),
        (true, false) => target.ip().to_string(),
        (true, true) => format!("{target}-{}/{host}", publication.last_target_port()),
    }
}

/// `8080`, or `8000:8010`.
fn ports(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn both(render: impl Fn(Family) -> Option<String>) -> Restore {
    Restore { v4: render(Family::V4), v6: render(Family::V6) }
}

/// Adds an attachment. It must not be there: shared chains would jump to it twice.
///
/// The restore fails where the shared chains, the network's or the jumps to them are missing, before it has changed
/// anything: then [`super::rebuild`] with this attachment among the others.
pub fn attach(network: &NetworkRules, attachment: &AttachmentRules) -> Restore {
    both(|family| {
        let (shared, own) = rules(family, network, attachment);
        if own.is_empty() && shared.is_empty() {
            return None;
        }
        let mut text = Text::default();
        // Each table is a transaction of its own: table nat, the only one to change, goes last.
        let (nat, others): (Vec<_>, Vec<_>) =
            entries(family).into_iter().map(|(rule, _)| rule).partition(|rule| rule.table == "nat");
        others.iter().chain(&nat).for_each(|rule| text.line(rule.table, rule.line("-C")));
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
