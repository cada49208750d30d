//! Input that a face refuses, in the words of the reference.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cni::{Code, Error, VariableProblem, Version};

use super::super::Face;
use super::{Words, ranges};

/// Theirs for an error of the input; `None` where they have none, or take it.
pub(super) fn words(face: Face, error: &Error) -> Option<Words> {
    Some(match error {
        Error::Environment { problems } => return of_environment(face, problems),
        Error::Empty { .. } => {
            Words::coded(Code::Decoding, format!("{UNDECODED}unexpected end of JSON input"))
        }
        Error::Json { source, .. } if source.is_eof() => {
            Words::coded(Code::Decoding, format!("{UNDECODED}unexpected end of JSON input"))
        }
        Error::Json { source, .. } => Words::coded(Code::Decoding, format!("{UNDECODED}{source}")),
        Error::NotAnObject { found: "null", .. } => Words::coded(Code::InvalidConfig, "missing network name"),
        Error::NotAnObject { found, .. } => Words::coded(Code::Decoding, not_an_object(found)),
        Error::TooLong { .. } => Words::coded(Code::Decoding, format!("{UNDECODED}{error}")),
        Error::Version { found } => of_version(face, found),
        Error::VersionForFace { found, .. } => of_version(face, found.as_str()),
        Error::VersionForCommand { command, .. } => {
            Words::coded(Code::IncompatibleVersion, format!("config version does not allow {command}"))
        }
        Error::Missing { key, .. } if key == "name" => {
            Words::coded(Code::InvalidConfig, "missing network name")
        }
        Error::Invalid { key, value, .. } if key == "name" => Words {
            details: Some(unquoted(value)),
            ..Words::coded(Code::InvalidConfig, "invalid characters found in network name")
        },
        Error::WrongType { key, found, .. } if key == "name" => Words::coded(
            Code::Decoding,
            format!("{UNDECODED}json: cannot unmarshal {found} into Go struct field .name of type string"),
        ),
        Error::WrongType { key, found, .. } if key == "cniVersion" => Words::coded(
            Code::Decoding,
            format!(
                "decoding version from network config: json: cannot unmarshal {found} into Go struct field \
                 .cniVersion of type string"
            ),
        ),
        Error::WrongType { key, found, .. } => Words::plain(of_type(face, key, found)),
        Error::Invalid { key, value, reason } => Words::plain(of_value(face, key, &unquoted(value), reason)?),
        Error::Missing { key, .. } => Words::plain(of_missing(face, key)?),
        Error::Conflict { keys, .. } => Words::plain(of_conflict(keys)?),
        Error::Unsupported { .. } | Error::NoAddress { .. } | Error::Delegate { .. } => return None,
    })
}

/// What their library puts before a document that does not decode.
const UNDECODED: &str = "error unmarshall network config: ";

fn not_an_object(found: &str) -> String {
    let kind = match found {
        "a truth value" => "bool",
        "a number" => "number",
        "a string" => "string",
        _ => "array",
    };
    format!(
        "{UNDECODED}json: cannot unmarshal {kind} into Go value of type struct {{ Name string \"json:\\\"name\\\"\" }}"
    )
}

fn of_version(face: Face, found: &str) -> Words {
    let since = face.defaults().since;
    let spoken: Vec<String> = Version::SUPPORTED
        .iter()
        .filter(|version| **version >= since)
        .map(|version| format!("{:?}", version.as_str()))
        .collect();
    Words {
        details: Some(format!("config is {found:?}, plugin supports [{}]", spoken.join(" "))),
        ..Words::coded(Code::IncompatibleVersion, "incompatible CNI versions")
    }
}

/// Theirs looks at one variable after the other, and names the first that is malformed, else all that are missing.
fn of_environment(face: Face, problems: &[VariableProblem]) -> Option<Words> {
    let malformed = problems.iter().find_map(|problem| Some((problem.name, problem.value.as_deref()?)));
    let Some((name, value)) = malformed else {
        let missing: Vec<&str> = problems.iter().map(|problem| problem.name).collect();
        let msg = format!("required env variables [{}] missing", missing.join(","));
        return Some(Words::coded(Code::InvalidEnvironment, msg));
    };
    let coded = |msg: &str| Words::coded(Code::InvalidEnvironment, msg);
    Some(match name {
        "CNI_COMMAND" => coded(&format!("unknown CNI_COMMAND: {value}")),
        "CNI_CONTAINERID" => {
            Words { details: Some(value.to_owned()), ..coded("invalid characters in containerID") }
        }
        "CNI_IFNAME" if value.len() > 15 => Words {
            details: Some("interface name should be less than 16 characters".to_owned()),
            ..coded("interface name is too long")
        },
        "CNI_IFNAME" if matches!(value, "." | "..") => coded("interface name is . or .."),
        "CNI_IFNAME" => coded("interface name contains / or : or whitespace characters"),
        "CNI_ARGS" => Words::plain(of_arguments(face, value)?),
        _ => return None,
    })
}

/// As `types.LoadArgs`.
fn of_arguments(face: Face, text: &str) -> Option<String> {
    let pairs: Vec<(&str, &str, &str)> = text
        .split(';')
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (pair, key, value)
        })
        .collect();
    for (pair, key, value) in &pairs {
        if pair.matches('=').count() != 1 {
            return Some(format!("ARGS: invalid pair {pair:?}"));
        }
        if is_known(face, key)
            && matches!(*key, "IP" | "GATEWAY")
            && let Some(wrong) = value.split(',').map(str::trim).find(|item| !is_address(key, item))
        {
            return Some(match *key {
                "GATEWAY" => format!("invalid gateway address: {wrong}"),
                _ => format!("ARGS: error parsing value of pair {pair:?}: invalid IP address {wrong}"),
            });
        }
        if is_known(face, key) && *key == "MAC" && value.parse::<crate::model::MacAddress>().is_err() {
            return Some(of_mac(face, value));
        }
    }
    let unknown: Vec<String> = pairs
        .iter()
        .filter(|(_, key, _)| !is_known(face, key))
        .map(|(pair, _, _)| format!("{pair:?}"))
        .collect();
    (!unknown.is_empty()).then(|| format!("ARGS: unknown args [{}]", unknown.join(" ")))
}

/// The keys of `CNI_ARGS` that the reference plugin of the name knows.
fn is_known(face: Face, key: &str) -> bool {
    match key {
        "IgnoreUnknown" => true,
        "MAC" => !matches!(face, Face::HostLocal | Face::Static),
        "IP" => matches!(face, Face::HostLocal | Face::Static),
        "GATEWAY" => face == Face::Static,
        _ => false,
    }
}

/// A gateway has no prefix length.
fn is_address(key: &str, text: &str) -> bool {
    match key {
        "GATEWAY" => text.parse::<IpAddr>().is_ok(),
        _ => text.parse::<IpNetwork>().is_ok(),
    }
}

fn of_mac(face: Face, value: &str) -> String {
    match face {
        Face::Bridge | Face::Ptp => format!("failed to make veth pair: address {value}: invalid MAC address"),
        _ => format!("invalid args {value} for MAC addr: address {value}: invalid MAC address"),
    }
}

/// What a plugin puts before a configuration that does not decode.
fn of_type(face: Face, key: &str, found: &str) -> String {
    let (prefix, configuration) = match face {
        Face::Portmap => ("failed to parse config: failed to parse network configuration: ", "PortMapConf"),
        Face::Firewall => ("failed to load netconf: ", "FirewallNetConf"),
        Face::Tuning => ("failed to load netconf: ", "TuningConf"),
        Face::Bandwidth | Face::Sbr => ("failed to parse network configuration: ", "PluginConf"),
        Face::Loopback => ("failed to parse network config: ", "NetConf"),
        Face::HostLocal | Face::Static => ("", "Net"),
        _ => ("failed to load netconf: ", "NetConf"),
    };
    format!("{prefix}json: cannot unmarshal {found} into Go struct field {configuration}.{key}")
}

/// The last part of a key's path, without its index.
fn last(key: &str) -> &str {
    let name = key.rsplit('.').next().unwrap_or(key);
    name.split('[').next().unwrap_or(name)
}

fn of_value(face: Face, key: &str, value: &str, reason: &str) -> Option<String> {
    let name = last(key);
    if key.starts_with("ipam.") || key.starts_with("runtimeConfig.ip") || key.starts_with("args.cni.ips") {
        return ranges::of_value(key, name, value, reason);
    }
    Some(match (face, name) {
        (Face::Bridge, "vlan") => format!("invalid VLAN ID {value} (must be between 0 and 4094)"),
        (Face::Portmap, "hostPort") => format!("failed to parse config: Invalid host port number: {value}"),
        (Face::Portmap, "containerPort") => {
            format!("failed to parse config: Invalid container port number: {value}")
        }
        (Face::Portmap, "markMasqBit") => {
            "failed to parse config: MasqMarkBit must be between 0 and 31".to_owned()
        }
        (Face::Firewall, "backend") => format!("unrecognized firewall backend {value:?}"),
        (Face::Firewall, "ingressPolicy") => format!("unknown ingress policy: {value:?}"),
        (Face::Tuning, _) if key.starts_with("sysctl.") && !key.starts_with("sysctl.net") => {
            format!("invalid net sysctl key: {:?}", key.trim_start_matches("sysctl."))
        }
        (Face::Tuning, "mtu") => "invalid argument".to_owned(),
        (_, "mac") => of_mac(face, value),
        (Face::Macvlan, "mode") => format!("unknown macvlan mode: {value:?}"),
        (Face::Bandwidth, "ingressBurst" | "egressBurst") if reason.contains("GiB") => {
            "burst cannot be more than 4GB".to_owned()
        }
        _ => return None,
    })
}

fn of_missing(face: Face, key: &str) -> Option<String> {
    Some(
        match (face, last(key)) {
            (Face::HostLocal | Face::Static, "ipam") => "IPAM config missing 'ipam' key",
            (Face::Ptp, "ipam") => "no plugin name provided",
            (_, "ranges") => "no IP ranges specified",
            (Face::Bandwidth, "ingressBurst" | "egressBurst") => "if rate is set, burst must also be set",
            (Face::Bandwidth, "ingressRate" | "egressRate") => "if burst is set, rate must also be set",
            _ => return None,
        }
        .to_owned(),
    )
}

fn of_conflict(keys: &str) -> Option<String> {
    if keys.starts_with("hairpinMode") {
        return Some("cannot set hairpin mode and promiscuous mode at the same time.".to_owned());
    }
    if keys.ends_with("externalSetMarkChain") {
        return Some(
            "failed to parse config: Cannot specify externalSetMarkChain and markMasqBit".to_owned(),
        );
    }
    ranges::of_conflict(keys)
}

/// A value of an error without its quotation marks.
fn unquoted(value: &str) -> String {
    serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned())
}
