//! Addresses as text, without the machinery of formats, which took a thousand instructions for each of an ADD's twenty.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer};

/// Room for the longest IPv6 network.
const ROOM: usize = 48;

/// A text on its way.
struct Text {
    bytes: [u8; ROOM],
    used: usize,
}

impl Text {
    fn of_address(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; ROOM], used: 0 };
        text.put_address(address);
        text
    }

    fn of_network(network: IpNetwork) -> Self {
        let mut text = Self::of_address(network.ip());
        text.put(b'/');
        text.put_number(network.prefix());
        text
    }

    fn put_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put_v4(address),
            // Each is at most 39 bytes long, so the room is enough.
            IpAddr::V6(address) => write!(self, "{address}").unwrap_or_default(),
        }
    }

    fn put_v4(&mut self, address: Ipv4Addr) {
        let [first, others @ ..] = address.octets();
        self.put_number(first);
        for octet in others {
            self.put(b'.');
            self.put_number(octet);
        }
    }

    fn put_number(&mut self, number: u8) {
        if number >= 100 {
            self.put(b'0' + number / 100);
        }
        if number >= 10 {
            self.put(b'0' + number / 10 % 10);
        }
        self.put(b'0' + number % 10);
    }

    fn put(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

/// An address: what `to_string` gives.
pub fn address(address: IpAddr) -> String {
    Text::of_address(address).as_str().to_owned()
}

/// An address with its prefix length: what `to_string` gives.
pub fn network(network: IpNetwork) -> String {
    Text::of_network(network).as_str().to_owned()
}

/// For serde's `serialize_with`: an address with its prefix length, as its own `Serialize` writes it.
pub(crate) fn one<S: Serializer>(network: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Text::of_network(*network).as_str())
}

/// The same for a list.
pub(crate) fn each<S: Serializer>(networks: &[IpNetwork], serializer: S) -> Result<S::Ok, S::Error> {
    struct One(IpNetwork);
    impl Serialize for One {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            one(&self.0, serializer)
        }
    }
    serializer.collect_seq(networks.iter().copied().map(One))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_library() {
        for text in [
            "0.0.0.0/0",
            "10.1.2.3/16",
            "255.255.255.255/32",
            "192.168.100.9/30",
            "::/0",
            "fd00::1/64",
            "2001:db8:1111:2222:3333:4444:5555:6666/128",
            "::ffff:192.168.100.200/120",
        ] {
            let parsed: IpNetwork = text.parse().unwrap();
            assert_eq!(network(parsed), parsed.to_string());
            assert_eq!(address(parsed.ip()), parsed.ip().to_string());
        }
        for number in 0..=255 {
            let ip = IpAddr::from([number, 0, 10, number]);
            assert_eq!(address(ip), ip.to_string());
        }
    }

    #[test]
    fn documents_are_those_of_serde() {
        #[derive(Serialize)]
        struct Written {
            #[serde(serialize_with = "one")]
            one: IpNetwork,
            #[serde(serialize_with = "each")]
            each: Vec<IpNetwork>,
        }
        let [four, six] = ["10.0.0.9/8", "fd00:1::/48"].map(|text| text.parse::<IpNetwork>().unwrap());
        let written = Written { one: four, each: vec![four, six] };
        let found = serde_json::to_value(&written).unwrap();
        assert_eq!(found, serde_json::json!({ "one": four, "each": [four, six] }));
    }
}
