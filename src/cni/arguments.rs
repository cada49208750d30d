//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`.

use std::net::IpAddr;

use super::address::{parse_ip, parse_request};
use super::config::RequestedAddress;
use super::error::{Error, VariableProblem};
use crate::model::MacAddress;

/// Keys that are accepted without `IgnoreUnknown`; those of Kubernetes are kept in [`Arguments::pairs`].
const KNOWN: [&str; 8] = [
    "IgnoreUnknown",
    "IP",
    "GATEWAY",
    "MAC",
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
];

/// `CNI_ARGS`, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `IP`, a list with commas.
    pub ips: Vec<RequestedAddress>,
    /// `GATEWAY`, a list with commas (reference `static`).
    pub gateways: Vec<IpAddr>,
    /// `MAC`.
    pub mac: Option<MacAddress>,
    /// `IgnoreUnknown`.
    pub ignore_unknown: bool,
    /// Every pair, known or not, in the order written.
    pub pairs: Vec<(String, String)>,
}

impl Arguments {
    /// Reads the text as Go's `types.LoadArgs` does: keys in their exact case, one `=` a pair.
    ///
    /// # Errors
    /// [`Error::Environment`] that names `CNI_ARGS`: a pair without exactly one `=`, a wrong value, or an unknown
    /// key while `IgnoreUnknown` is not set.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).map_err(|expected| Error::Environment {
            problems: vec![VariableProblem { name: "CNI_ARGS", value: Some(text.to_owned()), expected }],
        })
    }

    /// The value of a key, last one first.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut arguments = Self::default();
        if text.is_empty() {
            return Ok(arguments);
        }
        for pair in text.split(';') {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| format!("'{pair}' is not of the form KEY=VALUE"))?;
            arguments.take(key, value).map_err(|reason| format!("{key} '{value}' {reason}"))?;
            arguments.pairs.push((key.to_owned(), value.to_owned()));
        }
        let unknown: Vec<&str> =
            arguments.pairs.iter().map(|(key, _)| key.as_str()).filter(|key| !KNOWN.contains(key)).collect();
        if !unknown.is_empty() && !arguments.ignore_unknown {
            return Err(format!("unknown keys {}; add IgnoreUnknown=1 to pass them by", unknown.join(", ")));
        }
        Ok(arguments)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let items = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
        match key {
            "IP" => self.ips = items().map(parse_request).collect::<Result<_, _>>()?,
            "GATEWAY" => self.gateways = items().map(parse_ip).collect::<Result<_, _>>()?,
            "MAC" if value.is_empty() => self.mac = None,
            "MAC" => self.mac = Some(parse_mac(value)?),
            "IgnoreUnknown" => {
                self.ignore_unknown = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err("must be 1, 0, true or false".to_owned()),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads a MAC that an interface may carry.
pub(super) fn parse_mac(text: &str) -> Result<MacAddress, String> {
    let mac: MacAddress =
        text.parse().map_err(|_| "must be an Ethernet address such as 02:00:5e:10:00:01".to_owned())?;
    if !mac.is_unicast() {
        return Err("is no unicast address: the first octet must be even, and not all may be zero".to_owned());
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_runtimes_are_read() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u;\
                    IP=10.0.0.5,fd00::5/64;MAC=02:00:5E:10:00:01;GATEWAY=10.0.0.1;OTHER=x";
        let arguments = Arguments::parse(text).unwrap();
        assert_eq!(arguments.ips.len(), 2);
        assert_eq!(arguments.ips[1].prefix, Some(64));
        assert_eq!(arguments.mac.unwrap().to_string(), "02:00:5e:10:00:01");
        assert_eq!(arguments.gateways.len(), 1);
        assert_eq!(arguments.get("K8S_POD_NAME"), Some("web"));
        assert_eq!(arguments.get("OTHER"), Some("x"));
        assert_eq!(arguments.pairs.len(), 8);
        assert_eq!(Arguments::parse("").unwrap(), Arguments::default());
        assert_eq!(Arguments::parse("IP=;MAC=").unwrap().ips, []);
    }

    #[test]
    fn wrong_pairs_are_named() {
        let table = [
            ("none", "'none' is not of the form"),
            ("A=b=c;IgnoreUnknown=1", "'A=b=c'"),
            ("IP=10.0.0.5;", "'' is not"),
            ("OTHER=x", "unknown keys OTHER"),
            ("OTHER=x;IgnoreUnknown=false", "unknown keys OTHER"),
            ("mac=02:00:5e:10:00:01", "unknown keys mac"),
            ("IgnoreUnknown=yes", "must be 1, 0"),
            ("IP=10.0.0.300", "IP '10.0.0.300' must be an IP address"),
            ("MAC=01:00:5e:10:00:01", "no unicast"),
            ("MAC=x", "must be an Ethernet address"),
            ("GATEWAY=x", "GATEWAY 'x'"),
        ];
        for (text, expected) in table {
            let error = Arguments::parse(text).unwrap_err();
            assert_eq!(error.code().number(), 4, "{text}");
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
