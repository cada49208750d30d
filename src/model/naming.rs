//! What containers are called on their network.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The longest name in DNS, dots included and the last one left out (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;
/// The longest label in DNS.
const LABEL_MAX: usize = 63;
/// Bytes of a container ID that are a name by themselves: what `docker ps` and `podman ps` print.
const SHORT_ID: usize = 12;

/// How a container is found by name on a network that has a name service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// Its names, in lower case, each once; the first is what its address is translated back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Zones that the names stand under, besides the network's own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Its addresses, where its record has no interface to tell them: another plugin gave them (face `dnsname`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNetwork>,
    /// The gateways to be listened on, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Name servers for all else; the host's where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<IpAddr>,
    /// Whether nothing is asked outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
}

/// A name as DNS compares it: in lower case, without a dot at its end. `None` where it is no name of letters, digits,
/// `-`, `_` and dots between labels of 1 to 63 bytes.
pub fn dns_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (text.len() <= NAME_MAX && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// The name that a container has by its ID.
pub fn short_id(container_id: &str) -> Option<String> {
    dns_name(container_id.get(..SHORT_ID).unwrap_or(container_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_dns() {
        assert_eq!(dns_name("Web_1.Example.").as_deref(), Some("web_1.example"));
        assert_eq!(dns_name(&"a".repeat(63)).map(|name| name.len()), Some(63));
        let long = format!("{}.{}", "a".repeat(63), vec!["b".repeat(62); 4].join("."));
        for wrong in ["", ".", "a..b", "a b", "ä", "a/b", "*", &"a".repeat(64), &long] {
            assert_eq!(dns_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_is_shortened_where_it_is_long() {
        assert_eq!(short_id("0123456789abcdef").as_deref(), Some("0123456789ab"));
        assert_eq!(short_id("Web-1").as_deref(), Some("web-1"));
    }

    #[test]
    fn a_plain_naming_is_short_on_disk() {
        let naming = Naming { names: vec!["web".to_owned()], ..Naming::default() };
        let text = serde_json::to_string(&naming).unwrap();
        assert_eq!(text, r#"{"names":["web"]}"#);
        assert_eq!(serde_json::from_str::<Naming>(&text).unwrap(), naming);
        assert_eq!(serde_json::from_str::<Naming>("{}").unwrap(), Naming::default());
    }
}
