//! Keys about who reaches whom, which no reference plugin has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cni::address::parse_ip;
use crate::cni::config::{BridgeKeys, Ipam, IsolationKeys};
use crate::cni::defaults::Defaults;
use crate::cni::environment::interface_name_fault;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::{InterfacePattern, Isolation, Mode};

/// As many rules as a network may have for interfaces that it trusts.
const TRUSTED_MAX: usize = 64;

pub(super) fn read(
    fields: &Fields<'_>,
    (bridge, ipam): (&BridgeKeys, &Ipam),
    defaults: &Defaults,
) -> Result<IsolationKeys, Error> {
    let mut keys = defaults.isolation_keys();
    if !defaults.isolates {
        return Ok(keys);
    }
    keys.internal = fields.boolean("internal")?.unwrap_or(keys.internal);
    keys.icc = fields.boolean("icc")?.unwrap_or(keys.icc);
    keys.ip_spoof_check = fields.boolean("ipspoofchk")?.unwrap_or(keys.ip_spoof_check);
    keys.mode = fields.parsed("mode", mode)?.unwrap_or(keys.mode);
    keys.trusted = read_trusted(fields)?;
    keys.outbound4 = fields.parsed("outboundAddress4", outbound4)?;
    keys.outbound6 = fields.parsed("outboundAddress6", outbound6)?;
    let written = fields.parsed("isolation", isolation)?;
    // The reference's key, where it is written, means what it means there, and all that it means there. A bridge whose
    // gateway is somebody else's may have others than containers on it.
    let policy = fields.text("ingressPolicy")?.is_some();
    let unwalled = policy || !bridge.is_gateway;
    keys.isolation = written.unwrap_or(if unwalled { Isolation::None } else { keys.isolation });
    refuse(policy && written.is_some(), "ingressPolicy and isolation", "both say who comes in; remove one")?;
    refuse(
        !keys.icc && fields.boolean("portIsolation")? == Some(false),
        "icc = false and portIsolation = false",
        "containers that may not talk are on isolated ports; remove portIsolation",
    )?;
    judge_trusted(&keys, policy, written.is_some())?;
    judge_outbound(fields, &keys)?;
    judge_internal(fields, &keys)?;
    refuse(
        keys.ip_spoof_check && !bridge.vlan_trunk.is_empty(),
        "ipspoofchk and vlanTrunk",
        "the addresses in a trunk's VLANs are not known; remove one of the two",
    )?;
    if matches!(ipam, Ipam::None) {
        judge_layer2(fields, &keys)?;
        keys.isolation = Isolation::None;
    }
    Ok(keys)
}

/// Writes what the keys imply into those of the reference.
pub(super) fn imply(keys: &IsolationKeys, bridge: &mut BridgeKeys) {
    bridge.port_isolation |= !keys.icc;
    bridge.ip_masq &= !keys.internal && keys.mode == Mode::Nat;
    bridge.is_default_gateway &= !keys.internal;
}

fn refuse(wrong: bool, keys: &str, reason: &str) -> Result<(), Error> {
    if wrong {
        return Err(Error::Conflict { keys: keys.to_owned(), reason: reason.to_owned() });
    }
    Ok(())
}

fn isolation(word: &str) -> Result<Isolation, String> {
    match word {
        "none" => Ok(Isolation::None),
        "default" => Ok(Isolation::Default),
        "strict" => Ok(Isolation::Strict),
        _ => Err("must be none, default or strict".to_owned()),
    }
}

fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "nat" => Ok(Mode::Nat),
        "routed" => Ok(Mode::Routed),
        _ => Err("must be nat or routed".to_owned()),
    }
}

fn read_trusted(fields: &Fields<'_>) -> Result<Vec<InterfacePattern>, Error> {
    let mut trusted: Vec<InterfacePattern> = Vec::new();
    for (path, text) in fields.texts("trustedInterfaces")? {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let fault = if text == "*" { None } else { interface_name_fault(stem) };
        let pattern = fault.map_or_else(|| InterfacePattern::parse(text), Err);
        let pattern = pattern.map_err(|reason| Error::invalid(path, &text.into(), reason))?;
        if !trusted.contains(&pattern) {
            trusted.push(pattern);
        }
    }
    if trusted.len() > TRUSTED_MAX {
        return Err(fields.invalid(
            "trustedInterfaces",
            format!(
                "names {} interfaces, and at most {TRUSTED_MAX} are taken; use wg* for many",
                trusted.len()
            ),
        ));
    }
    Ok(trusted)
}

fn outbound4(text: &str) -> Result<Ipv4Addr, String> {
    match parse_ip(text)? {
        IpAddr::V4(ip)
            if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() =>
        {
            Err("must be an address that the host can send with".to_owned())
        }
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err("must be an IPv4 address; an IPv6 one goes into outboundAddress6".to_owned()),
    }
}

fn outbound6(text: &str) -> Result<Ipv6Addr, String> {
    match parse_ip(text)? {
        IpAddr::V6(ip)
            if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local() =>
        {
            Err("must be an address that the host can send with".to_owned())
        }
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => Err("must be an IPv6 address; an IPv4 one goes into outboundAddress4".to_owned()),
    }
}

fn judge_trusted(keys: &IsolationKeys, policy: bool, written: bool) -> Result<(), Error> {
    let open = keys.isolation == Isolation::None;
    let because = match (policy, written) {
        (true, _) => "ingressPolicy",
        (_, true) => "isolation = none",
        _ => "a network without a wall (isGateway = false)",
    };
    refuse(
        !keys.trusted.is_empty() && open,
        &format!("trustedInterfaces and {because}"),
        "every interface is let in then; write isolation = default, or remove the key",
    )
}

/// An address to leave with needs a network that leaves with an address of the host.
fn judge_outbound(fields: &Fields<'_>, keys: &IsolationKeys) -> Result<(), Error> {
    let written: Vec<&str> =
        [keys.outbound4.map(|_| "outboundAddress4"), keys.outbound6.map(|_| "outboundAddress6")]
            .into_iter()
            .flatten()
            .collect();
    let Some(first) = written.first() else { return Ok(()) };
    refuse(
        keys.mode == Mode::Routed,
        &format!("{first} and mode = routed"),
        "a routed network sends with its containers' addresses; remove one of the two",
    )?;
    refuse(
        fields.boolean("ipMasq")? == Some(false),
        &format!("{first} and ipMasq = false"),
        "without masquerade the source stays the container's; remove one of the two",
    )
}

/// What an internal network cannot have: a way out, or in.
fn judge_internal(fields: &Fields<'_>, keys: &IsolationKeys) -> Result<(), Error> {
    if !keys.internal {
        return refuse(
            keys.mode == Mode::Routed && fields.boolean("ipMasq")? == Some(true),
            "mode = routed and ipMasq = true",
            "a routed network sends with its containers' addresses; remove one of the two",
        );
    }
    let ways: [(&str, bool); 7] = [
        ("isolation = none", keys.isolation == Isolation::None && fields.get("isolation").is_some()),
        ("trustedInterfaces", !keys.trusted.is_empty()),
        ("mode = routed", keys.mode == Mode::Routed),
        ("outboundAddress4", keys.outbound4.is_some()),
        ("outboundAddress6", keys.outbound6.is_some()),
        ("ipMasq = true", fields.boolean("ipMasq")? == Some(true)),
        ("isDefaultGateway = true", fields.boolean("isDefaultGateway")? == Some(true)),
    ];
    for (way, there) in ways {
        let reason = "nothing enters or leaves an internal network; remove one of the two";
        refuse(there, &format!("internal = true and {way}"), reason)?;
    }
    // Ports that are to be published are none of its business: runtimes give every network of a container the same
    // list, and another one may publish them.
    Ok(())
}

/// Without addresses nothing is routed, and no source is known.
fn judge_layer2(fields: &Fields<'_>, keys: &IsolationKeys) -> Result<(), Error> {
    let meaningless: [(&str, bool); 7] = [
        ("isolation", keys.isolation.is_walled() && fields.get("isolation").is_some()),
        ("internal", keys.internal),
        ("mode = routed", keys.mode == Mode::Routed),
        ("trustedInterfaces", !keys.trusted.is_empty()),
        ("outboundAddress4", keys.outbound4.is_some()),
        ("outboundAddress6", keys.outbound6.is_some()),
        ("ipspoofchk", keys.ip_spoof_check),
    ];
    for (key, there) in meaningless {
        let reason = "nothing is routed to or from a network whose addresses are not known; give it addresses, or \
                      remove the key (icc and macspoofchk work without)";
        refuse(there, &format!("{key} and an ipam without addresses"), reason)?;
    }
    Ok(())
}
