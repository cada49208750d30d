//! Ethernet addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 48-bit Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// The text was not six hexadecimal octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address of the form 02:00:5e:10:00:01")]
pub struct ParseMacError(pub String);

impl MacAddress {
    /// A locally administered unicast address that follows from an IP address.
    ///
    /// An address that is handed out again then keeps its MAC, so that no neighbour's ARP or ND cache can be stale.
    /// The prefixes `0a:58` (IPv4) and `0a:5a` (a hash of IPv6) are in the range that IEEE leaves to local use.
    pub fn from_ip(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0x0a, 0x58, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [.., a, b, c, d] = super::names::hash(&v6.octets()).to_be_bytes();
                Self([0x0a, 0x5a, a, b, c, d])
            }
        }
    }

    /// A locally administered unicast address that follows from a name: the pinned address of a bridge.
    pub fn from_name(name: &str) -> Self {
        let [.., a, b, c, d] = super::names::hash(name.as_bytes()).to_be_bytes();
        Self([0x0a, 0x5c, a, b, c, d])
    }

    /// The IPv6 link-local address that the kernel makes of it (RFC 4291, appendix A: EUI-64).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | g)
    }

    /// Whether an interface may carry it: neither multicast nor all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// Its text, without the machinery of formats: eight of them are written with every ADD.
    fn text(self, buffer: &mut [u8; 17]) -> &str {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        for (octet, place) in self.0.iter().zip(buffer.chunks_mut(3)) {
            place[0] = digit(octet >> 4);
            place[1] = digit(*octet);
            if let Some(separator) = place.get_mut(2) {
                *separator = b':';
            }
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut [0; 17]))
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    /// Accepts `aa:bb:cc:dd:ee:ff`, `aa-bb-…` and `aabb.ccdd.eeff`, as Go's `net.ParseMAC` does for 48 bits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseMacError(text.to_owned());
        let (separator, width) = if text.contains('.') {
            ('.', 4)
        } else if text.contains('-') {
            ('-', 2)
        } else {
            (':', 2)
        };
        let mut octets = Vec::with_capacity(6);
        for group in text.split(separator) {
            if group.len() != width || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            for at in (0..width).step_by(2) {
                octets.push(u8::from_str_radix(&group[at..at + 2], 16).map_err(|_| wrong())?);
            }
        }
        octets.try_into().map(Self).map_err(|_| wrong())
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; 17]))
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_follows_from_it() {
        let of = |text: &str| text.parse::<MacAddress>().unwrap().link_local().to_string();
        assert_eq!(of("0a:58:0a:01:00:02"), "fe80::858:aff:fe01:2");
        assert_eq!(of("34:56:78:9a:bc:de"), "fe80::3656:78ff:fe9a:bcde", "RFC 4291, appendix A");
    }

    #[test]
    fn reads_the_three_notations_of_go_and_prints_one() {
        for text in ["02:00:5E:10:00:01", "02-00-5e-10-00-01", "0200.5e10.0001"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "02:00:5e:10:00:01");
        }
        for text in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "2:0:5e:10:0:1", "zz:00:5e:10:00:01", "é2:00"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn derived_addresses_are_local_unicast_and_stable() {
        let v4 = MacAddress::from_ip("10.1.2.3".parse().unwrap());
        assert_eq!(v4.to_string(), "0a:58:0a:01:02:03");
        for mac in [v4, MacAddress::from_ip("fd00::1".parse().unwrap()), MacAddress::from_name("web")] {
            assert!(mac.is_unicast());
            assert_eq!(mac.0[0] & 2, 2, "locally administered");
        }
    }
}
