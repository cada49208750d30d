//! Published ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    /// The number of the protocol in an IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name in a configuration: lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Reads a name in any case, as runtimes write both `tcp` and `TCP`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| name.eq_ignore_ascii_case(p.name()))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A published port as it was asked for (capability `portMappings`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The one host address that is published on; `None` stands for every address of both families.
    /// An unspecified address (`0.0.0.0`, `::`) stands for every address of its family.
    pub host_ip: Option<IpAddr>,
    /// Port on the host, 1 to 65535.
    pub host_port: u16,
    /// Port in the container, 1 to 65535.
    pub container_port: u16,
}

/// One port mapping for one family, with its target known: what the firewall translates and the store claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where it is reached: a host address, or the unspecified address of the family for all of them.
    pub host: SocketAddr,
    /// The container's address and port, of the same family as `host`.
    pub target: SocketAddr,
}

impl Publication {
    /// The publications of a mapping: one for each family that both the mapping and the container have.
    ///
    /// `addresses` are the container's; the first of each family is the target, as in the reference.
    pub fn of(mapping: &PortMapping, addresses: &[IpAddr]) -> Vec<Self> {
        let families: &[IpAddr] = match mapping.host_ip {
            Some(ip) => &[ip],
            None => {
                &[IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)]
            }
        };
        let mut publications = Vec::with_capacity(2);
        for host_ip in families {
            if let Some(target) = addresses.iter().find(|a| a.is_ipv4() == host_ip.is_ipv4()) {
                publications.push(Self {
                    protocol: mapping.protocol,
                    host: SocketAddr::new(*host_ip, mapping.host_port),
                    target: SocketAddr::new(*target, mapping.container_port),
                });
            }
        }
        publications
    }

    /// Whether two publications would fight for the same packets: same family, protocol and port, and one
    /// address that covers the other.
    pub fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host.port() == other.host.port()
            && self.host.is_ipv4() == other.host.is_ipv4()
            && (self.host.ip() == other.host.ip()
                || self.host.ip().is_unspecified()
                || other.host.ip().is_unspecified())
    }
}

/// `tcp 0.0.0.0:8080`, the side that a person knows it by.
impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: Option<&str>) -> PortMapping {
        PortMapping {
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 8080,
            container_port: 80,
        }
    }

    #[test]
    fn a_mapping_is_published_for_each_family_the_container_has() {
        let both: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(Publication::of(&mapping(None), &both).len(), 2);
        assert_eq!(Publication::of(&mapping(None), &both[..1]).len(), 1);
        assert_eq!(
            Publication::of(&mapping(Some("127.0.0.1")), &both)[0].target,
            "10.1.0.2:80".parse().unwrap()
        );
        assert!(Publication::of(&mapping(Some("::1")), &both[..1]).is_empty());
    }

    #[test]
    fn a_wildcard_collides_with_any_address_of_its_family() {
        let of = |host: &str| Publication {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            target: host.parse().unwrap(),
        };
        assert!(of("0.0.0.0:80").collides(&of("127.0.0.1:80")));
        assert!(!of("0.0.0.0:80").collides(&of("[::]:80")));
        assert!(!of("10.0.0.1:80").collides(&of("10.0.0.2:80")));
        assert!(!of("10.0.0.1:80").collides(&of("10.0.0.1:81")));
    }
}
