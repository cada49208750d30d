//! What the firewall has to do for a network and for an attachment, in words that both backends render.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::{
    AttachmentKey, IngressPolicy, InterfacePattern, Isolation, MacAddress, Protocol, Publication,
};

/// The port of DNS.
pub const NAMES_PORT: u16 = 53;

/// The static part: written once for a network, shared by its attachments, left behind when they go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// The network's name.
    pub network: String,
    /// Its bridge, by name: rules match names, which survive a bridge being made again. Empty where it has none, and
    /// each attachment a host interface of its own ([`AttachmentRules::host_interface`]).
    pub bridge: String,
    /// Whether what leaves the network is masqueraded (`ipMasq`).
    pub masquerade: bool,
    /// Subnets that a network without a bridge is of: what is sent there is not masqueraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<IpNetwork>,
    /// Whether a published port is reachable from its own network and from 127.0.0.1 (`snat`).
    pub hairpin: bool,
    /// Whether everything that reaches a published port is masqueraded (`masqAll`).
    pub masquerade_all: bool,
    /// Who may open connections into it.
    pub ingress: IngressPolicy,
    /// The wall around it (`isolation`).
    #[serde(default)]
    pub isolation: Isolation,
    /// Interfaces that the wall lets in (`trustedInterfaces`).
    #[serde(default)]
    pub trusted: Vec<InterfacePattern>,
    /// Whether nothing enters or leaves it (`internal`).
    #[serde(default)]
    pub internal: bool,
    /// Whether its containers are kept from each other (`icc` written as false).
    #[serde(default)]
    pub apart: bool,
    /// Whether neighbours reach what is published at the containers' own addresses (`mode` is `routed`).
    #[serde(default)]
    pub routed: bool,
    /// Addresses of the host whose port 53 is the name service's, whatever a container publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<IpAddr>,
    /// The source of what is masqueraded, in place of the address of the interface that it leaves by.
    #[serde(default)]
    pub outbound4: Option<Ipv4Addr>,
    /// The same for IPv6.
    #[serde(default)]
    pub outbound6: Option<Ipv6Addr>,
    /// The administrator's chain, consulted first, made once and never flushed (`iptablesAdminChainName`).
    pub admin_chain: String,
    /// A chain of the administrator's that is sent what would be masqueraded (`externalSetMarkChain`), iptables only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_chain: Option<String>,
    /// Extra matches on published IPv4 ports, as iptables arguments (`conditionsV4`), iptables only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions_v4: Vec<String>,
    /// The same for IPv6 (`conditionsV6`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions_v6: Vec<String>,
}

impl NetworkRules {
    /// A network that asks for nothing.
    pub fn bare(network: &str, admin_chain: &str) -> Self {
        Self {
            network: network.to_owned(),
            bridge: String::new(),
            masquerade: false,
            inside: Vec::new(),
            hairpin: false,
            masquerade_all: false,
            ingress: IngressPolicy::Open,
            isolation: Isolation::None,
            trusted: Vec::new(),
            internal: false,
            apart: false,
            routed: false,
            served: Vec::new(),
            outbound4: None,
            outbound6: None,
            admin_chain: admin_chain.to_owned(),
            mark_chain: None,
            conditions_v4: Vec::new(),
            conditions_v6: Vec::new(),
        }
    }

    /// Whether any packet is treated otherwise than without these rules.
    pub fn acts(&self) -> bool {
        self.masquerade || self.hairpin || self.masquerade_all || self.knows_siblings()
    }

    /// Where the name service listens: protocols and addresses. What comes there is not translated to a container that
    /// publishes the port on all addresses.
    pub(crate) fn name_service(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        let both =
            |ip: IpAddr| [Protocol::Udp, Protocol::Tcp].map(|of| (of, SocketAddr::new(ip, NAMES_PORT)));
        self.served.iter().copied().flat_map(both)
    }

    /// Whether the name service listens at the address, by this protocol.
    pub fn serves_names(&self, protocol: Protocol, address: IpAddr) -> bool {
        self.name_service().any(|(of, at)| of == protocol && at.ip() == address)
    }

    /// Whether its containers may not open connections to each other.
    pub fn keeps_apart(&self) -> bool {
        self.apart || self.ingress == IngressPolicy::Isolated
    }

    /// Whether some rule would stop its containers from reaching each other if they were not told apart from others.
    pub fn knows_siblings(&self) -> bool {
        self.isolation.is_walled() || self.internal || self.apart || self.ingress != IngressPolicy::Open
    }
}

/// The dynamic part: what one attachment adds, and takes away again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRules {
    /// The owner; its text form is the comment of everything that is made for it.
    pub owner: AttachmentKey,
    /// The host end of its veth pair.
    pub host_interface: String,
    /// Its addresses, of either family.
    pub addresses: Vec<IpAddr>,
    /// Its published ports; no two collide.
    pub publications: Vec<Publication>,
    /// Whether the walls around its host interface are its own, where the network has no bridge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub walls: bool,
    /// Whether what reaches its published ports is masqueraded by its host interface, where the network has no bridge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masqueraded: bool,
    /// The one source MAC it may send with, where spoofing is guarded against (`macspoofchk`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_mac: Option<MacAddress>,
    /// The source addresses that it may send with, where those are guarded (`ipspoofchk`); empty where not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_ips: Vec<IpAddr>,
}

/// A run of ports that neighbours reach at a container's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Open {
    pub(crate) protocol: Protocol,
    pub(crate) address: IpAddr,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// What an attachment publishes that neighbours reach at its own addresses too: in a routed network with a wall, and
/// only what is published on every address of the host. Several host ports may lead to one of the container's: runs
/// that touch are one.
pub(crate) fn opened(network: &NetworkRules, attachment: &AttachmentRules) -> Vec<Open> {
    if !network.routed || !network.isolation.is_walled() {
        return Vec::new();
    }
    let published =
        attachment.publications.iter().filter(|publication| publication.host.ip().is_unspecified());
    let mut runs: Vec<Open> = published
        .map(|publication| Open {
            protocol: publication.protocol,
            address: publication.target.ip(),
            first: publication.target.port(),
            last: publication.last_target_port(),
        })
        .collect();
    runs.sort_unstable();
    runs.dedup_by(|next, run| {
        let touches = next.protocol == run.protocol
            && next.address == run.address
            && next.first <= run.last.saturating_add(1);
        if touches {
            run.last = run.last.max(next.last);
        }
        touches
    });
    runs
}

/// Values that the tests of both backends share.
#[cfg(test)]
pub(crate) mod samples {
    use super::{AttachmentRules, NetworkRules};
    use crate::model::{AttachmentKey, PortMapping, Protocol, Publication};

    /// A network `web` that masquerades and is reached by its own published ports.
    pub(crate) fn web() -> NetworkRules {
        NetworkRules {
            bridge: "lks-web".to_owned(),
            masquerade: true,
            hairpin: true,
            ..NetworkRules::bare("web", "CNI-ADMIN")
        }
    }

    /// An attachment with an address of each family and a port on all, on one and on the loopback address, and with
    /// ranges that keep their numbers, and that are shifted up and down.
    pub(crate) fn shop(id: &str, last: u8) -> AttachmentRules {
        let addresses =
            vec![format!("10.1.0.{last}").parse().unwrap(), format!("fd00::{last}").parse().unwrap()];
        let base = u16::from(last) * 1000;
        let mapping = |host_ip: Option<&str>, offset: u16, protocol| PortMapping {
            protocol,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: base + offset,
            container_port: 80,
            count: 1,
        };
        let range = |host_ip: Option<&str>, offset: u16, to: u16| PortMapping {
            container_port: to,
            count: 11,
            ..mapping(host_ip, offset, Protocol::Tcp)
        };
        let publications = [
            mapping(None, 80, Protocol::Tcp),
            mapping(None, 53, Protocol::Udp),
            mapping(Some("192.0.2.1"), 81, Protocol::Tcp),
            mapping(Some("127.0.0.1"), 82, Protocol::Sctp),
            mapping(Some("2001:db8::1"), 83, Protocol::Tcp),
            range(None, 100, base + 100),
            range(Some("192.0.2.1"), 200, 8000),
            range(Some("2001:db8::1"), 200, 80),
        ]
        .iter()
        .flat_map(|mapping| Publication::of(mapping, &addresses))
        .collect();
        AttachmentRules {
            owner: AttachmentKey::new(id, "eth0"),
            host_interface: format!("lks0000000000{last:02x}"),
            addresses,
            publications,
            walls: false,
            masqueraded: false,
            only_mac: Some("02:00:00:00:00:01".parse().unwrap()),
            only_ips: Vec::new(),
        }
    }
}
