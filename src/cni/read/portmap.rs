//! Keys of the reference `portmap`, and its capability.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::firewall::chain_name;
use super::runtime::Runtime;
use crate::cni::address::parse_ip;
use crate::cni::config::PortmapKeys;
use crate::cni::defaults::Defaults;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::{PortMapping, Protocol};

pub(super) fn read(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    defaults: &Defaults,
) -> Result<PortmapKeys, Error> {
    let mut keys = defaults.portmap_keys();
    keys.snat = fields.boolean("snat")?.unwrap_or(keys.snat);
    keys.masq_all = fields.boolean("masqAll")?.unwrap_or(keys.masq_all);
    let bit = fields.number::<u8>("markMasqBit", 0..=31)?;
    keys.external_set_mark_chain = fields.parsed("externalSetMarkChain", chain_name)?;
    if bit.is_some() && keys.external_set_mark_chain.is_some() {
        return Err(Error::Conflict {
            keys: "markMasqBit and externalSetMarkChain".to_owned(),
            reason: "the chain decides the mark; remove one of the two".to_owned(),
        });
    }
    keys.mark_masq_bit = bit.unwrap_or(keys.mark_masq_bit);
    keys.conditions_v4 = read_conditions(fields, "conditionsV4")?;
    keys.conditions_v6 = read_conditions(fields, "conditionsV6")?;
    if let Some(capabilities) = &runtime.capabilities {
        keys.mappings = read_mappings(capabilities)?;
    }
    Ok(keys)
}

/// Arguments for `iptables-restore`, whose lines they must not break out of.
fn read_conditions(fields: &Fields<'_>, key: &str) -> Result<Vec<String>, Error> {
    let mut conditions = Vec::new();
    for (path, text) in fields.texts(key)? {
        if text.is_empty() || text.contains(char::is_control) {
            return Err(Error::invalid(path, &text.into(), "must be one argument of iptables, on one line"));
        }
        conditions.push(text.to_owned());
    }
    Ok(conditions)
}

fn read_mappings(capabilities: &Fields<'_>) -> Result<Vec<PortMapping>, Error> {
    let mut kept: Vec<PortMapping> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    let mut by_port: HashMap<(Protocol, u16), Vec<usize>> = HashMap::new();
    let mut covered = Vec::new();
    for (path, value) in capabilities.list("portMappings")? {
        let mapping = read_mapping(&Fields::of(value, path.clone())?)?;
        let rivals = by_port.entry((mapping.protocol, mapping.host_port)).or_default();
        let mut redundant = false;
        for index in rivals.iter().copied() {
            let other = &kept[index];
            if !overlap(other, &mapping) {
                continue;
            }
            if other.container_port != mapping.container_port {
                return Err(collision((&paths[index], other), (&path, &mapping)));
            }
            if covers(other, &mapping) {
                redundant = true;
            } else {
                covered.push(index);
            }
        }
        if !redundant {
            rivals.push(kept.len());
            kept.push(mapping);
            paths.push(path);
        }
    }
    let mut index = 0;
    kept.retain(|_| {
        index += 1;
        !covered.contains(&(index - 1))
    });
    Ok(kept)
}

fn read_mapping(entry: &Fields<'_>) -> Result<PortMapping, Error> {
    let port = |key: &str| {
        let port = entry.number::<u16>(key, 1..=65535)?;
        port.ok_or_else(|| entry.missing(key, "a port mapping needs it, from 1 to 65535"))
    };
    let protocol = entry.parsed("protocol", |word| {
        Protocol::from_name(word).ok_or_else(|| "must be tcp, udp or sctp".to_owned())
    })?;
    let host_ip: Option<IpAddr> = entry.parsed("hostIP", parse_ip)?;
    if host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
        return Err(Error::Unsupported {
            key: entry.path_of("hostIP"),
            value: "\"::1\"".to_owned(),
            reason:
                "the kernel cannot route a packet from ::1 to a container; publish on 127.0.0.1, or on an \
                     address of the host"
                    .to_owned(),
        });
    }
    Ok(PortMapping {
        protocol: protocol.unwrap_or(Protocol::Tcp),
        host_ip,
        host_port: port("hostPort")?,
        container_port: port("containerPort")?,
    })
}

/// Whether every packet for `inner` would be taken by `outer`, their protocol and host port being the same.
fn covers(outer: &PortMapping, inner: &PortMapping) -> bool {
    match (outer.host_ip, inner.host_ip) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => {
            outer == inner || (outer.is_unspecified() && outer.is_ipv4() == inner.is_ipv4())
        }
    }
}

fn overlap(one: &PortMapping, other: &PortMapping) -> bool {
    covers(one, other) || covers(other, one)
}

fn collision(one: (&String, &PortMapping), other: (&String, &PortMapping)) -> Error {
    let show = |(path, mapping): (&String, &PortMapping)| {
        let host = mapping.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
        format!(
            "{path} ({} {host} port {} to {})",
            mapping.protocol, mapping.host_port, mapping.container_port
        )
    };
    Error::Conflict {
        keys: format!("{} and {}", show(one), show(other)),
        reason:
            "one host port cannot lead to two container ports; give one of them another hostPort or hostIP"
                .to_owned(),
    }
}
