//! What is asked: who sends what to whom.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::Protocol;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A connection is opened.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo request, of either family.
    Icmp,
}

impl Transport {
    /// `IPPROTO_*` for a family.
    pub fn number(self, is_ipv4: bool) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp if is_ipv4 => 1,
            Self::Icmp => 58,
        }
    }

    /// What sockets are listed by; an echo has none.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Icmp => None,
        }
    }

    fn named(word: &str) -> Option<Self> {
        match word {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "icmp" | "ping" => Some(Self::Icmp),
            _ => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// An end as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// `host`.
    Host,
    /// `outside`.
    Outside,
    /// An address.
    Address(IpAddr),
    /// Anything else: a container's name, its ID, the beginning of it, or `ID:IF`.
    Container(String),
}

/// Whereto, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who.
    pub end: Named,
    /// On which port.
    pub port: Option<u16>,
    /// By what: an echo request where no port is named, else TCP.
    pub transport: Transport,
}

impl Named {
    /// Reads `host`, `outside`, an address (IPv6 with or without brackets), or a name.
    pub fn read(word: &str) -> Self {
        let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
        match (word, bare.parse()) {
            ("host", _) => Self::Host,
            ("outside", _) => Self::Outside,
            (_, Ok(address)) => Self::Address(address),
            _ => Self::Container(word.to_owned()),
        }
    }
}

impl Target {
    /// Reads `WHO[:PORT][/PROTOCOL]`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        // Names have slashes too: `default/shop-0`.
        let (rest, transport) = match text.rsplit_once('/') {
            Some((rest, word)) if Transport::named(word).is_some() => (rest, Transport::named(word)),
            Some((_, word @ ("sctp" | "dccp" | "esp"))) => {
                return Err(format!("'{word}' is not followed: tcp, udp and icmp are"));
            }
            Some((rest, word)) if !may_be_a_part_of_a_name(rest) => {
                return Err(format!(
                    "'{text}': '{word}' is no protocol that is known: tcp, udp and icmp are"
                ));
            }
            _ => (text, None),
        };
        let digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let (who, port) = match rest.rsplit_once(':') {
            // An IPv6 address without brackets has no port.
            _ if rest.parse::<IpAddr>().is_ok() => (rest, None),
            Some((who, port)) if digits(port) => (who, Some(port)),
            _ => (rest, None),
        };
        if who.is_empty() {
            return Err(format!("'{text}' does not say to whom"));
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(format!("'{text}' has no port between 1 and 65535")),
        };
        let transport = transport.unwrap_or(if port.is_some() { Transport::Tcp } else { Transport::Icmp });
        match (transport, port) {
            (Transport::Icmp, Some(_)) => Err(format!("'{text}': icmp has no ports")),
            (Transport::Tcp | Transport::Udp, None) => {
                Err(format!("'{text}': {transport} needs a port, as in {who}:80/{transport}"))
            }
            _ => Ok(Self { end: Named::read(who), port, transport }),
        }
    }
}

/// Whether what stands before a slash may be the first part of a container's name: it has no port, and is no address.
fn may_be_a_part_of_a_name(word: &str) -> bool {
    let has_port = word.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    !has_port && !matches!(Named::read(word), Named::Address(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Named, Option<u16>, Transport) {
        let target = Target::read(text).unwrap();
        (target.end, target.port, target.transport)
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        let web = || Named::Container("web".to_owned());
        assert_eq!(read("web"), (web(), None, Transport::Icmp));
        assert_eq!(read("web:80"), (web(), Some(80), Transport::Tcp));
        assert_eq!(read("web:53/udp"), (web(), Some(53), Transport::Udp));
        assert_eq!(read("host:8080"), (Named::Host, Some(8080), Transport::Tcp));
        assert_eq!(read("outside"), (Named::Outside, None, Transport::Icmp));
        let pod = Named::Container("default/shop-0".to_owned());
        assert_eq!(read("default/shop-0").0, pod);
        assert_eq!(read("default/shop-0:80/tcp"), (pod, Some(80), Transport::Tcp));
        assert_eq!(read("web:eth1"), (Named::Container("web:eth1".to_owned()), None, Transport::Icmp));
        let v6 = Named::Address("fd00::2".parse().unwrap());
        assert_eq!(read("[fd00::2]:80"), (v6.clone(), Some(80), Transport::Tcp));
        assert_eq!(read("fd00::2"), (v6, None, Transport::Icmp));
        assert_eq!(read("10.1.0.2:80").0, Named::Address("10.1.0.2".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (text, word) in [
            ("web:0", "between 1 and 65535"),
            ("web:99999", "between 1 and 65535"),
            ("web:80/icmp", "no ports"),
            ("web/udp", "needs a port"),
            ("web:80/sctp", "not followed"),
            (":80", "to whom"),
            ("outside:80/foo", "'foo' is no protocol"),
            ("default/shop-0:80/TCP", "'TCP' is no protocol"),
            ("[fd00::2]:80/http", "'http' is no protocol"),
            ("10.1.0.2/24", "'24' is no protocol"),
        ] {
            let error = Target::read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
