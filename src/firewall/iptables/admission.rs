//! The way through somebody else's `FORWARD` chain: a verdict of ours, in nf_tables, cannot save a packet that an
//! iptables policy drops, so these rules go where the host lets others speak.

use crate::firewall::NetworkRules;

use super::rule::{Rule, Text};
use super::saved::Saved;
use super::shared::ADMIT;

/// Where Docker lets administrators speak before its own rules.
const DOCKER_USER: &str = "DOCKER-USER";

/// Lets a network's bridge through: what its containers send, answers to it, and what goes to published ports.
///
/// The rules are in a chain of their own, which `DOCKER-USER` jumps to where it exists, else `FORWARD`. `None` where
/// they are there. For both families alike; `saved` is of the family that the text is for. To be asked for where
/// that chain drops; the iptables backend has what it needs in its own chains.
///
/// Where the network lets in more than that, from interfaces that it trusts or at its containers' own addresses, what
/// goes to the bridge passes here too: the network's wall is what stops the rest.
pub fn admission(saved: &Saved, network: &NetworkRules) -> Option<String> {
    let bridge = network.bridge.as_str();
    let mut text = Text::default();
    if saved.policy("filter", ADMIT).is_none() {
        text.empty("filter", ADMIT);
    }
    for (flag, rule) in rules(network) {
        let conditional = rule.words.iter().any(|word| word == "--ctstate");
        let there = saved.rules().any(|r| {
            r.table == "filter"
                && r.chain() == ADMIT
                && r.after(flag) == Some(bridge)
                && r.after("--ctstate").is_some() == conditional
                && r.target() == Some("ACCEPT")
        });
        if !there {
            text.append(&rule);
        }
    }
    let from = if saved.policy("filter", DOCKER_USER).is_some() { DOCKER_USER } else { "FORWARD" };
    if !saved.jumps("filter", from, ADMIT) {
        text.line("filter", format!("-I {from} -j {ADMIT}"));
    }
    text.render()
}

/// Takes a bridge's admission back; `None` where there is none.
pub fn retraction(saved: &Saved, bridge: &str) -> Option<String> {
    let mut text = Text::default();
    for rule in saved.rules().filter(|r| r.table == "filter" && r.chain() == ADMIT) {
        if rule.after("-i") == Some(bridge) || rule.after("-o") == Some(bridge) {
            text.line("filter", rule.deletion());
        }
    }
    text.render()
}

fn rules(network: &NetworkRules) -> [(&'static str, Rule); 2] {
    let bridge = &network.bridge;
    let more = network.routed || !network.trusted.is_empty();
    let condition = if more { "" } else { "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT " };
    [
        ("-i", Rule::new("filter", ADMIT, &format!("-i {bridge} -j ACCEPT"))),
        ("-o", Rule::new("filter", ADMIT, &format!("-o {bridge} {condition}-j ACCEPT"))),
    ]
}
