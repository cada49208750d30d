//! Addresses and prefixes as text, as strict as Go reads them.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::config::RequestedAddress;

/// How many bits of an IPv4-mapped IPv6 address say that it is one.
const MAPPED_BITS: u8 = 96;

/// Reads an address. An IPv4 address in IPv6 clothes (`::ffff:10.1.0.5`) is that IPv4 address, as to Go.
///
/// # Errors
/// What is wrong, in words: not an address (leading zeros, a zone).
pub(super) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| "must be an IP address such as 10.1.0.5 or fd00::5".to_owned())?;
    Ok(address.to_canonical())
}

/// Whether an address, with or without a prefix length, is written as an IPv4-mapped IPv6 address.
pub(super) fn is_mapped(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or(text);
    address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_some())
}

/// Reads an address with its prefix length; host bits may be set.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(match parse_ip(text) {
            Ok(address) => {
                format!("lacks its prefix length; write {text}/{}", if address.is_ipv4() { 24 } else { 64 })
            }
            Err(_) => {
                "must be an address with its prefix length, such as 10.1.0.0/24 or fd00::/64".to_owned()
            }
        });
    };
    let address = parse_ip(address)?;
    let shortest = if is_mapped(text) { MAPPED_BITS } else { 0 };
    let longest = if address.is_ipv4() { 32 + shortest } else { 128 };
    let fault = || format!("has a prefix length that is not a number from {shortest} to {longest}");
    // No sign. Zeros before it are none of octal, as in Go.
    if !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    let prefix: u8 = prefix.parse().map_err(|_| fault())?;
    let prefix = prefix.checked_sub(shortest).ok_or_else(fault)?;
    IpNetwork::new(address, prefix).map_err(|_| fault())
}

/// Reads an address whose prefix length may be missing.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn parse_request(text: &str) -> Result<RequestedAddress, String> {
    if text.contains('/') {
        let network = parse_cidr(text)?;
        return Ok(RequestedAddress { address: network.ip(), prefix: Some(network.prefix()) });
    }
    Ok(RequestedAddress { address: parse_ip(text)?, prefix: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_strictly() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "fd00::/64", "::/0", "fd00::1/128"] {
            assert_eq!(parse_cidr(good).unwrap().to_string(), good);
        }
        assert_eq!(parse_cidr("10.0.0.0/024").unwrap().to_string(), "10.0.0.0/24");
        let bad = [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            "fd00::/129",
            "fd00::%eth0/64",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.0/129",
            "10.0.0.256/8",
            "fd00:::/64",
            "10.0.0.0/99999999999",
        ];
        for text in bad {
            assert!(parse_cidr(text).is_err(), "{text}");
        }
        assert!(parse_cidr("10.1.0.0").unwrap_err().contains("write 10.1.0.0/24"));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(parse_ip("::ffff:10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(parse_ip("::10.0.0.1").unwrap().to_string(), "::a00:1", "an older form, which is none");
        for (text, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::FFFF:a00:1/128", "10.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_cidr(text).unwrap().to_string(), meant);
        }
        assert!(is_mapped("::ffff:10.0.0.1") && !is_mapped("10.0.0.1") && !is_mapped("::/0"));
    }

    #[test]
    fn a_request_may_lack_its_prefix() {
        assert_eq!(parse_request("10.0.0.5").unwrap().prefix, None);
        assert_eq!(parse_request("10.0.0.5/24").unwrap().prefix, Some(24));
        assert!(parse_request("10.0.0.5/").is_err());
    }
}
