//! Keys of the reference `portmap`, and its capability.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

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
    // Any bit is honoured: rules of ours neither set nor ask for marks, so none of them can be in another's way.
    let bit = fields.number::<u8>("markMasqBit", 0..=31)?;
    keys.external_set_mark_chain = fields.parsed("externalSetMarkChain", chain_name)?;
    if bit.is_some() && keys.external_set_mark_chain.is_some() {
        return Err(Error::Conflict {
            keys: "markMasqBit and externalSetMarkChain".to_owned(),
            reason: "the chain decides the mark; remove one of the two".to_owned(),
        });
    }
    keys.conditions_v4 = read_conditions(fields, "conditionsV4")?;
    keys.conditions_v6 = read_conditions(fields, "conditionsV6")?;
    keys.proxy = fields.boolean("userlandProxy")?.unwrap_or(keys.proxy);
    keys.count = fields.boolean("countPorts")?.unwrap_or(keys.count);
    keys.hold = fields.boolean("holdPorts")?.unwrap_or(keys.hold);
    if let Some(capabilities) = &runtime.capabilities {
        keys.mappings = read_mappings(capabilities, defaults)?;
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

fn read_mappings(capabilities: &Fields<'_>, defaults: &Defaults) -> Result<Vec<PortMapping>, Error> {
    let mut mappings: Vec<(String, PortMapping)> = Vec::new();
    for (path, value) in capabilities.list("portMappings")? {
        let mapping = read_mapping(&Fields::of(value, path.clone())?, defaults)?;
        mappings.push((path, mapping));
    }
    let redundant = repetitions(&mappings)?;
    let mut redundant = redundant.iter();
    mappings.retain(|_| redundant.next() != Some(&true));
    Ok(mappings.into_iter().map(|(_, mapping)| mapping).collect())
}

/// Which mappings another one says as well. Those that want one host port for two things are an error.
fn repetitions(mappings: &[(String, PortMapping)]) -> Result<Vec<bool>, Error> {
    let mut order: Vec<usize> = (0..mappings.len()).collect();
    order.sort_by_key(|at| (mappings[*at].1.protocol, mappings[*at].1.host_port, *at));
    let mut redundant = vec![false; mappings.len()];
    for (rank, at) in order.iter().enumerate() {
        // Sorted by the first port: the rivals of a mapping follow it without a gap.
        for rival in
            order[rank + 1..].iter().take_while(|rival| mappings[*at].1.shares_ports(&mappings[**rival].1))
        {
            let (one, other) = (*at.min(rival), *at.max(rival));
            let (first, second) = (&mappings[one], &mappings[other]);
            let (of_first, of_second) = (covers(&first.1, &second.1), covers(&second.1, &first.1));
            if !of_first && !of_second {
                continue;
            }
            let ports = |mapping: &PortMapping| (mapping.host_port, mapping.container_port, mapping.count);
            if ports(&first.1) != ports(&second.1) {
                return Err(collision(first, second));
            }
            redundant[if of_first { other } else { one }] = true;
        }
    }
    Ok(redundant)
}

fn read_mapping(entry: &Fields<'_>, defaults: &Defaults) -> Result<PortMapping, Error> {
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
    if let Some(IpAddr::V6(address)) = host_ip
        && address.is_unicast_link_local()
    {
        let reason =
            "is link-local: each interface may have it, and none is named; publish on another address";
        return Err(entry.invalid("hostIP", reason));
    }
    let (host, container, count) = read_ports(entry, defaults.extended_ports)?;
    Ok(PortMapping {
        protocol: protocol.unwrap_or(Protocol::Tcp),
        host_ip,
        host_port: host,
        container_port: container,
        count,
    })
}

/// A run of ports as written: where it starts, and how long it is where that is said.
struct Run {
    first: u16,
    count: Option<u16>,
}

/// The first host port, the first container port, and how many from there.
fn read_ports(entry: &Fields<'_>, automatic: bool) -> Result<(u16, u16, u16), Error> {
    let host = read_run(entry, "hostPort", if automatic { 0 } else { 1 })?;
    let container = read_run(entry, "containerPort", 1)?;
    let range = entry.number::<u16>("range", 1..=65535)?;
    let length = container.count.or(range).unwrap_or(1);
    // An automatic port has no length of its own.
    let on_host = host.count.or(range).unwrap_or(if host.first == 0 { length } else { 1 });
    for (key, count) in [("containerPort", length), ("range", range.unwrap_or(on_host))] {
        if count != on_host {
            return Err(
                entry.invalid(key, format!("must be as many ports as hostPort has: {on_host}, not {count}"))
            );
        }
    }
    for (key, first) in [("hostPort", host.first), ("containerPort", container.first)] {
        if u32::from(first) + u32::from(length) > 65536 {
            let reason = format!("{length} ports from there go past 65535, the last port there is");
            return Err(entry.invalid(key, reason));
        }
    }
    Ok((host.first, container.first, length))
}

/// One port as a number, or several as a text: `"8000-8010"`.
fn read_run(entry: &Fields<'_>, key: &str, least: u64) -> Result<Run, Error> {
    let reason = || format!("must be a whole number from {least} to 65535, or a range such as \"8000-8010\"");
    match entry.get(key) {
        None => Err(entry.missing(key, format!("a port mapping needs it, from {least} to 65535"))),
        Some(Value::String(text)) => {
            let (first, last) = text.split_once('-').ok_or_else(|| entry.invalid(key, reason()))?;
            let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => {
                    Ok(Run { first, count: Some(last - first + 1) })
                }
                _ => {
                    Err(entry
                        .invalid(key, "must be a range from 1 to 65535, its first port not above its last"))
                }
            }
        }
        Some(value) => match value.as_u64().filter(|port| *port >= least).map(u16::try_from) {
            Some(Ok(first)) => Ok(Run { first, count: None }),
            _ => Err(entry.invalid(key, reason())),
        },
    }
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

fn collision(one: &(String, PortMapping), other: &(String, PortMapping)) -> Error {
    let show = |(path, mapping): &(String, PortMapping)| {
        let host = mapping.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
        let run = |first: u16| match mapping.count {
            1 => first.to_string(),
            count => format!("{first}-{}", u32::from(first) + u32::from(count) - 1),
        };
        let (from, to) = (run(mapping.host_port), run(mapping.container_port));
        format!("{path} ({} {host} port {from} to {to})", mapping.protocol)
    };
    Error::Conflict {
        keys: format!("{} and {}", show(one), show(other)),
        reason:
            "one host port cannot lead to two container ports; give one of them another hostPort or hostIP"
                .to_owned(),
    }
}
