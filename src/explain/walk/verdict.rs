//! What is made of a rule that drops.

use crate::firewall::nft::{self, Doubt, Place};
use crate::model::{FirewallBackend, Isolation, Network, chains};
use crate::plan;

use super::super::hooks::Hook;
use super::super::opening::Opening;
use super::super::site::{Gate, IPV4};
use super::super::{Certainty, Fault, Finding, blame, ends};
use super::Walk;

impl Walk<'_> {
    pub(super) fn drop_finding(&self, gate: &Gate, at: &Place, certain: bool, bridged: bool) -> Finding {
        let rule = blame::words(gate, at);
        let certainty = if certain { Certainty::Surely } else { Certainty::Perhaps };
        let owner = blame::owner(gate, at);
        let opening = self.opening(gate);
        if gate.inside.is_some() {
            let what = format!("{rule}: it belongs to {owner}, and linkspan's rules cannot overrule it");
            return Finding { fault: Fault::ForeignDrop, certainty, what, mend: Some(opening.of_base()) };
        }
        if let Some(chain) = self.administrators_chain(gate, at) {
            let what = format!(
                "{rule}: it is a rule of the administrator's, whose chain {chain} goes before all of linkspan's own"
            );
            let mend = Some(opening.in_chain(&chain));
            return Finding { fault: Fault::ForeignDrop, certainty, what, mend };
        }
        if blame::is_ours(gate, at) {
            return self.wall(gate, at, certainty);
        }
        let exception = self.lost_exception(gate, at);
        let lost = exception.map(|way| format!(", and linkspan's exception for {way} is not in it"));
        let mend = match lost {
            Some(_) => "linkspan reconcile".to_owned(),
            None => opening.of_base(),
        };
        let lost = lost.unwrap_or_default();
        if bridged {
            let rule = format!("{rule}: it belongs to {owner}{lost}");
            let finding = ends::bridged_drop(self.packet.is_ipv4(), &rule, certainty);
            return if lost.is_empty() { finding } else { Finding { mend: Some(mend), ..finding } };
        }
        let lost = if lost.is_empty() { ", and linkspan's rules cannot overrule it" } else { &lost };
        let what = format!("{rule}: it belongs to {owner}{lost}");
        Finding { fault: Fault::ForeignDrop, certainty, what, mend: Some(mend) }
    }

    fn opening<'a>(&'a self, base: &'a Gate) -> Opening<'a> {
        Opening { base, packet: &self.packet, to_anybody: self.to_anybody }
    }

    /// The administrator's chain that a rule is in, or leads to it: of those that the networks name.
    fn administrators_chain(&self, gate: &Gate, at: &Place) -> Option<String> {
        let networks = self.reading.records.networks.iter();
        let mut chains = networks.filter_map(plan::written).map(|rules| rules.admin_chain);
        let is_one_of_ours = gate.chain.table == nft::TABLE && gate.family() == "inet";
        if is_one_of_ours && chains::is_own_of_nftables(&at.chain) {
            return None;
        }
        let first = chains.clone().next().filter(|_| is_one_of_ours);
        chains.find(|chain| *chain == at.chain).or(first)
    }

    /// By what interface linkspan has what it lets through a FORWARD chain that drops by its policy, as it would this
    /// packet: where that comes to the policy, the exception is gone.
    fn lost_exception(&self, gate: &Gate, at: &Place) -> Option<String> {
        let number = gate.chain.family;
        let is_forward = blame::is_iptables(gate)
            && gate.chain.table == "filter"
            && gate.chain.name == "FORWARD"
            && at.rule.is_none();
        if !is_forward {
            return None;
        }
        let has = |of: &Option<String>, name: &str| of.as_deref() == Some(name);
        let answers_or_published = self.packet.published || self.packet.reply;
        let records = self.reading.records.attachments.iter();
        let mut steps = records
            .filter_map(|found| found.record.plan.firewall())
            .filter(|step| step.backend == FirewallBackend::Nftables && step.admit && !step.network.internal);
        let step = steps.find_map(|step| {
            let rules = &step.network;
            let way = if rules.bridge.is_empty() { &step.attachment.host_interface } else { &rules.bridge };
            let lets_in = answers_or_published || rules.routed || !rules.trusted.is_empty();
            let passes = has(&self.packet.input, way) || lets_in && has(&self.packet.output, way);
            (!way.is_empty() && passes).then_some((step, way))
        });
        let (step, way) = step?;
        let addresses = &step.attachment.addresses;
        let is_v4 = number == IPV4;
        let has_family = addresses.is_empty() || addresses.iter().any(|own| own.is_ipv4() == is_v4);
        (has_family || !gate.is_legacy()).then(|| way.clone())
    }

    /// Whose wall it is: that of the network where the packet goes, unless the one that it comes from is sealed and lets
    /// nobody out.
    fn walled(&self, at: &Place) -> Option<&Network> {
        let lets_in = chains::WALLS.iter().any(|stem| at.chain.starts_with(stem));
        let is_sealed = |network: &Network| {
            plan::written(network).is_some_and(|rules| rules.internal || rules.isolation == Isolation::Strict)
        };
        let is_walled =
            |network: &Network| plan::written(network).is_some_and(|rules| rules.isolation.is_walled());
        let wants = |network: &Network| if lets_in { is_walled(network) } else { is_sealed(network) };
        let at = |interface| self.network_at(interface, wants);
        match (at(&self.packet.output), at(&self.packet.input)) {
            (Some(to), Some(from)) if !lets_in && is_sealed(from) && !is_sealed(to) => Some(from),
            (to, from) => to.or(from),
        }
    }

    /// The network of a bridge, or of the host's end of a pair. Networks share a bridge, and each other's walls with it:
    /// one that `wants` what the packet met is who it is of.
    fn network_at(&self, interface: &Option<String>, wants: impl Fn(&Network) -> bool) -> Option<&Network> {
        let name = interface.as_deref().filter(|name| !name.is_empty())?;
        let records = &self.reading.records;
        let of_pair = || {
            let own = self.attachments.iter().find(|own| own.veth.as_deref() == Some(name))?;
            records.network(&own.network)
        };
        let of_bridge = || records.networks.iter().filter(|network| network.bridge == name);
        of_bridge().find(|network| wants(network)).or_else(|| of_bridge().next()).or_else(of_pair)
    }

    /// A wall of linkspan's own.
    fn wall(&self, gate: &Gate, at: &Place, certainty: Certainty) -> Finding {
        let rule = blame::words(gate, at);
        let network = self.walled(at);
        let of = network.map_or_else(String::new, |network| format!(" of network {}", network.name));
        let what = format!(
            "{rule}: that is linkspan's wall{of}, as its configuration wants it (isolation, internal, icc or spoof checks)"
        );
        let routed = gate.hook() == Hook::Forward as u32;
        let admin = network.filter(|_| routed).and_then(plan::written).map(|rules| rules.admin_chain);
        let mend = admin.map(|admin| self.opening(gate).one_way(&admin));
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
