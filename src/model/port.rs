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
    /// Port on the host, 1 to 65535; the first one of a range. 0 stands for one that is free, chosen by ADD.
    pub host_port: u16,
    /// Port in the container, 1 to 65535; the first one of a range.
    pub container_port: u16,
    /// How many consecutive ports, on the host and in the container: 1 for a single port.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
}

/// The count of a single port.
fn one() -> u16 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_one(count: &u16) -> bool {
    *count == 1
}

impl PortMapping {
    /// Whether ADD is to choose the host port.
    pub fn is_automatic(&self) -> bool {
        self.host_port == 0
    }

    /// Whether the two ask for a host port in common, addresses aside. An automatic one asks for none.
    pub fn shares_ports(&self, other: &Self) -> bool {
        !self.is_automatic()
            && !other.is_automatic()
            && self.protocol == other.protocol
            && overlap((self.host_port, self.count), (other.host_port, other.count))
    }
}

/// Whether two runs of ports, each its first and its length, have a port in common.
fn overlap(one: (u16, u16), other: (u16, u16)) -> bool {
    let last = |(first, count): (u16, u16)| u32::from(first) + u32::from(count.max(1)) - 1;
    u32::from(one.0) <= last(other) && u32::from(other.0) <= last(one)
}

/// The last port of a run.
fn last_of(first: u16, count: u16) -> u16 {
    first.saturating_add(count.saturating_sub(1))
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
    /// How many consecutive ports from those of `host` and `target`: 1 for a single port.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
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
                    count: mapping.count,
                });
            }
        }
        publications
    }

    /// Whether it is more than one port.
    pub fn is_range(&self) -> bool {
        self.count > 1
    }

    /// The last port on the host.
    pub fn last_host_port(&self) -> u16 {
        last_of(self.host.port(), self.count)
    }

    /// The last port in the container.
    pub fn last_target_port(&self) -> u16 {
        last_of(self.target.port(), self.count)
    }

    /// Whether the container's ports have other numbers than the host's.
    pub fn is_shifted(&self) -> bool {
        self.host.port() != self.target.port()
    }

    /// Whether two publications ask for the same of the host.
    pub fn is_at(&self, other: &Self) -> bool {
        (self.protocol, self.host, self.count) == (other.protocol, other.host, other.count)
    }

    /// Whether two publications would fight for the same packets: same family and protocol, a port in common, and
    /// one address that covers the other.
    pub fn collides(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && overlap((self.host.port(), self.count), (other.host.port(), other.count))
            && self.host.is_ipv4() == other.host.is_ipv4()
            && (self.host.ip() == other.host.ip()
                || self.host.ip().is_unspecified()
                || other.host.ip().is_unspecified())
    }
}

/// `tcp 0.0.0.0:8080` or `tcp 0.0.0.0:8000-8010`, the side that a person knows it by.
impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.host)?;
        if self.is_range() { write!(f, "-{}", self.last_host_port()) } else { Ok(()) }
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
            count: 1,
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
            count: 1,
        };
        assert!(of("0.0.0.0:80").collides(&of("127.0.0.1:80")));
        assert!(!of("0.0.0.0:80").collides(&of("[::]:80")));
        assert!(!of("10.0.0.1:80").collides(&of("10.0.0.2:80")));
        assert!(!of("10.0.0.1:80").collides(&of("10.0.0.1:81")));
    }
    #[test]
    fn ranges_collide_where_they_have_a_port_in_common() {
        let of = |host: &str, count| Publication {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            target: host.parse().unwrap(),
            count,
        };
        let range = of("0.0.0.0:8000", 11);
        assert_eq!(range.to_string(), "tcp 0.0.0.0:8000-8010");
        for (host, count, collides) in [
            ("0.0.0.0:7999", 1, false),
            ("0.0.0.0:7999", 2, true),
            ("127.0.0.1:8010", 1, true),
            ("0.0.0.0:8011", 5, false),
            ("0.0.0.0:1", 65535, true),
            ("[::]:8005", 1, false),
        ] {
            assert_eq!(range.collides(&of(host, count)), collides, "{host} {count}");
            assert_eq!(of(host, count).collides(&range), collides, "{host} {count}");
        }
    }

    #[test]
    fn records_from_before_ranges_are_read() {
        let old = r#"{"protocol":"tcp","host":"0.0.0.0:80","target":"10.0.0.2:80"}"#;
        let publication: Publication = serde_json::from_str(old).unwrap();
        assert_eq!(publication.count, 1);
        assert_eq!(serde_json::to_string(&publication).unwrap(), old);
    }
}
