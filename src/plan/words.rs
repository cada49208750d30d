//! Steps in words, for those who want to know before it happens.

use crate::model::{AttachmentKey, LeaseSource, Publication};

use super::step::{Bridge, Claims, Firewall, Interface, Link, Port, Step};

impl Step {
    /// What making it so means, one line each.
    pub fn doing(&self) -> Vec<String> {
        match self {
            Self::Leases(step) => {
                let of = |address: &dyn std::fmt::Display| match &step.source {
                    LeaseSource::Files { directory } => format!("take the address {address} in {directory}"),
                    LeaseSource::Delegated { plugin, .. } => format!("use the address {address} of {plugin}"),
                    LeaseSource::Static | LeaseSource::None => format!("use the address {address}"),
                };
                match (&step.source, step.leases.is_empty()) {
                    (LeaseSource::Delegated { plugin, .. }, true) => {
                        vec![format!("ask the IPAM plugin {plugin} for addresses")]
                    }
                    _ => step.leases.iter().map(|lease| of(&lease.address)).collect(),
                }
            }
            Self::Claims(step) => {
                let claimed = step.publications.iter().map(|p| format!("claim the host port {p}"));
                let waiting = step.waiting.iter().map(|p| {
                    format!("leave the host port {p} to another interface of the container, and wait for it")
                });
                claimed.chain(waiting).collect()
            }
            Self::Forwarding(step) => {
                let mut lines = Vec::new();
                if step.ipv4 {
                    lines.push("see that net.ipv4.ip_forward is 1".to_owned());
                }
                if step.ipv6 {
                    lines.push("see that net.ipv6.conf.all.forwarding is 1".to_owned());
                }
                lines
            }
            Self::Upon(_) => Vec::new(),
            Self::Localnet(step) => {
                vec![format!("see that net.ipv4.conf.{}.route_localnet is 1", step.interface)]
            }
            Self::Bridge(step) => bridge(step),
            Self::Link(step) => vec![link(step)],
            // What these do needs no second set of words.
            Self::Routed(_) | Self::Macvlan(_) | Self::Settings(_) | Self::Sources(_) => {
                vec![format!("make {self}")]
            }
            Self::Interface(step) => interface(step),
            Self::Port(step) => port(step),
            Self::Shape(step) => {
                let mut lines = Vec::new();
                if let Some(rate) = step.shaping.ingress {
                    lines.push(format!(
                        "limit what the container receives to {} bit/s on {}",
                        rate.rate, step.host_name
                    ));
                }
                if let Some(rate) = step.shaping.egress {
                    lines.push(format!(
                        "limit what the container sends to {} bit/s through {}",
                        rate.rate, step.ifb_name
                    ));
                }
                lines
            }
            Self::Zone(step) => {
                let put = |a| format!("put {a} into the zone {} of firewalld, where it runs", step.zone);
                step.sources.iter().map(put).collect()
            }
            Self::Firewall(step) => firewall(step),
        }
    }

    /// What taking it away means, one line each; nothing for what belongs to the network and stays.
    pub fn undoing(&self) -> Vec<String> {
        match self {
            Self::Macvlan(_) | Self::Settings(_) | Self::Sources(_) => vec![format!("undo {self}")],
            Self::Upon(_)
            | Self::Routed(_)
            | Self::Forwarding(_)
            | Self::Localnet(_)
            | Self::Bridge(_)
            | Self::Interface(_)
            | Self::Port(_) => Vec::new(),
            Self::Leases(step) => {
                let of = |address: &dyn std::fmt::Display| match &step.source {
                    LeaseSource::Files { directory } => {
                        Some(format!("free the address {address} in {directory}"))
                    }
                    LeaseSource::Delegated { .. } | LeaseSource::Static | LeaseSource::None => None,
                };
                let mut lines: Vec<String> =
                    step.leases.iter().filter_map(|lease| of(&lease.address.ip())).collect();
                if let LeaseSource::Delegated { plugin, .. } = &step.source {
                    lines.push(format!("run the IPAM plugin {plugin} with DEL"));
                }
                lines
            }
            Self::Claims(step) => step.letting_go(&[]),
            Self::Link(step) => {
                vec![format!(
                    "delete the veth pair {} - {}, addresses and routes with it",
                    step.host_name, step.name
                )]
            }
            Self::Shape(step) if step.shaping.egress.is_some() => vec![format!("delete {}", step.ifb_name)],
            Self::Shape(_) => Vec::new(),
            Self::Zone(step) => {
                let take = |a| format!("take {a} out of the zone {} of firewalld, where it runs", step.zone);
                step.sources.iter().map(take).collect()
            }
            Self::Firewall(step) => {
                let rules = &step.attachment;
                let mut lines: Vec<String> = rules
                    .publications
                    .iter()
                    .map(|p| format!("{}: stop translating {p} to {}", step.backend, p.target))
                    .collect();
                if step.network.masquerade || step.network.hairpin {
                    lines.extend(
                        rules.addresses.iter().map(|a| format!("{}: stop masquerading {a}", step.backend)),
                    );
                }
                if rules.only_mac.is_some() || !rules.only_ips.is_empty() {
                    lines.push(format!("nftables: stop guarding what {} sends", rules.host_interface));
                }
                lines
            }
        }
    }
}

impl Claims {
    /// What letting the ports go means, one line each, where these interfaces take some of them up.
    pub fn letting_go(&self, heirs: &[(Publication, AttachmentKey)]) -> Vec<String> {
        let line = |port: &Publication| match heirs.iter().find(|(taken, _)| taken.is_at(port)) {
            Some((_, heir)) => format!("hand the host port {port} to {heir}, which waits for it"),
            None => format!("free the host port {port}"),
        };
        self.publications.iter().map(line).collect()
    }
}

fn bridge(step: &Bridge) -> Vec<String> {
    let mtu = step.mtu.map(|mtu| format!(" with MTU {mtu}")).unwrap_or_default();
    let mut lines = vec![format!("see that the bridge {} is there{mtu} and up", step.name)];
    let link = step.gateway_vlan.map_or_else(|| step.name.clone(), |vlan| format!("{}.{vlan}", step.name));
    lines.extend(
        step.gateways.iter().map(|gateway| format!("see that {link} has the gateway address {gateway}")),
    );
    if step.route_localnet {
        lines.push(format!(
            "see that net.ipv4.conf.{}.route_localnet is 1, for ports on 127.0.0.1",
            step.name
        ));
    }
    lines
}

fn link(step: &Link) -> String {
    let mtu = step.mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
    let place = match &step.bridge {
        Some(bridge) => format!(" on the bridge {bridge}"),
        None => " on the host".to_owned(),
    };
    format!(
        "make a veth pair: {} ({}) in {}, {}{place}{mtu}",
        step.name, step.mac, step.sandbox.path, step.host_name
    )
}

fn interface(step: &Interface) -> Vec<String> {
    let mut lines: Vec<String> =
        step.addresses.iter().map(|address| format!("give {} the address {address}", step.name)).collect();
    for route in &step.routes {
        let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
        lines.push(format!("route {}{via} over {}", route.dst, step.name));
    }
    lines.extend(step.sysctl.iter().map(|(key, value)| format!("set {key} to {value} in the container")));
    lines.push(format!("bring {} {}", step.name, if step.up { "up" } else { "down" }));
    lines
}

fn port(step: &Port) -> Vec<String> {
    let mut words = Vec::new();
    if step.hairpin {
        words.push("hairpin");
    }
    if step.isolated {
        words.push("isolated");
    }
    if !step.vlans.is_empty() {
        words.push("its VLANs");
    }
    let with = if words.is_empty() { String::new() } else { format!(" with {}", words.join(", ")) };
    let mut lines = vec![format!("set up the bridge port {}{with}", step.host_name)];
    if step.announce {
        lines.push(format!("announce the addresses of {} to the neighbours", step.name));
    }
    lines
}

fn firewall(step: &Firewall) -> Vec<String> {
    let rules = &step.attachment;
    let mut lines: Vec<String> = rules
        .publications
        .iter()
        .map(|p| format!("{}: translate {p} to {}", step.backend, p.target))
        .collect();
    if step.network.masquerade {
        lines.extend(
            rules.addresses.iter().map(|a| format!("{}: masquerade {a} on its way out", step.backend)),
        );
    }
    let mut only: Vec<String> = rules.only_mac.iter().map(ToString::to_string).collect();
    only.extend(rules.only_ips.iter().map(ToString::to_string));
    if !only.is_empty() {
        lines.push(format!("nftables: let {} send from {} only", rules.host_interface, only.join(", ")));
    }
    lines
}
