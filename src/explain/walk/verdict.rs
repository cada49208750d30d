//! What is made of a rule that drops.

use crate::firewall::nft::{self, Doubt, Place};

use super::super::hooks::Hook;
use super::super::site::Gate;
use super::super::{Certainty, Fault, Finding, blame, ends};
use super::Walk;

impl Walk<'_> {
    pub(super) fn drop_finding(&self, gate: &Gate, at: &Place, certain: bool, bridged: bool) -> Finding {
        let rule = blame::words(gate, at);
        let certainty = if certain { Certainty::Surely } else { Certainty::Perhaps };
        let owner = blame::owner(gate, at);
        if blame::is_ours(gate, at) {
            return self.wall(gate, at, certainty);
        }
        if bridged {
            return ends::bridged_drop(
                self.packet.is_ipv4(),
                &format!("{rule}: it belongs to {owner}"),
                certainty,
            );
        }
        let what = format!("{rule}: it belongs to {owner}, and linkspan's rules cannot overrule it");
        Finding { fault: Fault::ForeignDrop, certainty, what, mend: Some(blame::opening(gate, &self.packet)) }
    }

    /// A wall of linkspan's own.
    fn wall(&self, gate: &Gate, at: &Place, certainty: Certainty) -> Finding {
        let rule = blame::words(gate, at);
        let name = |interface: &Option<String>| interface.clone().unwrap_or_default();
        let (input, output) = (name(&self.packet.input), name(&self.packet.output));
        let network = self.reading.records.networks.iter().find(|n| n.bridge == output || n.bridge == input);
        let of = network.map_or_else(String::new, |network| format!(" of network {}", network.name));
        let what = format!(
            "{rule}: that is linkspan's wall{of}, as its configuration wants it (isolation, internal, icc or spoof checks)"
        );
        let routed = gate.hook() == Hook::Forward as u32;
        let admin = network.and_then(|network| {
            network.rules.get("admin_chain").and_then(serde_json::Value::as_str).map(str::to_owned)
        });
        let mend = match admin.filter(|_| routed) {
            Some(admin) if gate.chain.table == nft::TABLE => {
                Some(format!("nft add rule inet linkspan {admin} iifname {input} oifname {output} accept"))
            }
            Some(admin) => {
                let tool = match gate.family() {
                    "ip" => "iptables-nft",
                    "ip6" => "ip6tables-nft",
                    legacy => legacy,
                };
                Some(format!("{tool} -A {admin} -i {input} -o {output} -j ACCEPT"))
            }
            None => None,
        };
        Finding { fault: Fault::Wall, certainty, what, mend }
    }
}

pub(super) fn may_drop(gate: &Gate, doubt: &Doubt) -> Finding {
    let rule = blame::words(gate, &doubt.place);
    let what = format!("{rule}, if '{}' is so, which is not known beforehand", doubt.about);
    Finding { fault: Fault::ForeignDrop, certainty: Certainty::Perhaps, what, mend: None }
}

pub(super) fn surely(fault: Fault, what: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { fault, certainty: Certainty::Surely, what: what.into(), mend }
}

pub(super) fn perhaps(fault: Fault, what: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { certainty: Certainty::Perhaps, ..surely(fault, what, mend) }
}
