//! What a part would do, in words: before there is an interface that it could be planned for.

use std::net::IpAddr;

use crate::cni::Backend;
use crate::model::{FirewallBackend, Part, Publication};

use super::tuning;
use crate::verbs::{Call, Context, VerbError, allowlist, ports};

/// The lines for a part of an attachment that will have these addresses. Refuses what ADD would refuse and what can be
/// seen before the interface is there. Nothing is changed.
///
/// # Errors
/// [`VerbError::PortTaken`]; [`VerbError::Config`] where a sysctl is not allowed.
pub fn announce(
    cx: &mut Context,
    call: &Call,
    part: Part,
    addresses: &[IpAddr],
) -> Result<Vec<String>, VerbError> {
    let (config, name) = (call.config, call.environment.interface.as_str());
    Ok(match part {
        Part::Portmap => {
            let mappings = &config.portmap.mappings;
            let mut all: Vec<Publication> =
                mappings.iter().flat_map(|mapping| Publication::of(mapping, addresses)).collect();
            all.sort_unstable();
            all.dedup();
            let waiting = ports::refuse_each_held(cx, &all, &call.key().of_part(part))?;
            all.retain(|publication| !waiting.contains(publication));
            let backend = backend(config.backend);
            let claims = all.iter().map(|p| format!("claim the host port {p}"));
            claims.chain(all.iter().map(|p| format!("{backend}translate {p} to {}", p.target))).collect()
        }
        Part::Firewall => vec![format!(
            "{}let {name} through, with the walls of the network's ingressPolicy",
            backend(config.backend)
        )],
        Part::Tuning => {
            allowlist::require_allowed(&config.tuning)?;
            let wanted = tuning::wanted(call);
            let settings = [
                wanted.mac.map(|mac| format!("MAC {mac}")),
                wanted.mtu.map(|mtu| format!("MTU {mtu}")),
                wanted.promisc.map(|on| format!("promiscuous mode {}", switch(on))),
                wanted.allmulti.map(|on| format!("all-multicast mode {}", switch(on))),
                wanted.tx_queue_len.map(|length| format!("transmit queue length {length}")),
            ];
            let set = settings.into_iter().flatten().map(|setting| format!("set {name}: {setting}"));
            let keys = config.tuning.sysctl.iter();
            let sysctls = keys.map(|(key, value)| format!("set {key} to {value} in the container"));
            set.chain(sysctls).collect()
        }
        Part::Bandwidth => {
            let rates = [("receives", config.bandwidth.ingress), ("sends", config.bandwidth.egress)];
            let limit = |(what, rate): (&str, Option<crate::model::Rate>)| {
                Some(format!("limit what the container {what} to {} bit/s", rate?.rate))
            };
            rates.into_iter().filter_map(limit).collect()
        }
        Part::Sbr => {
            let of =
                |address: &IpAddr| format!("route what {address} sends by a table of its own, over {name}");
            addresses.iter().map(of).collect()
        }
        Part::Dnsname => vec!["have the agent answer for the container's names".to_owned()],
        Part::Interface => Vec::new(),
    })
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// `nftables: `; nothing where ADD chooses what the host has.
fn backend(chosen: Backend) -> String {
    match chosen {
        Backend::Nftables => format!("{}: ", FirewallBackend::Nftables),
        Backend::Iptables => format!("{}: ", FirewallBackend::Iptables),
        Backend::Auto => String::new(),
    }
}
