//! Keys of the reference `bridge`.

use super::runtime::Runtime;
use crate::cni::config::{BridgeKeys, VlanTrunk};
use crate::cni::defaults::{Defaults, LinkKind};
use crate::cni::environment::interface_name_fault;
use crate::cni::error::Error;
use crate::cni::fields::Fields;

/// The highest VLAN ID (IEEE 802.1Q reserves 4095).
const VLAN_MAX: u64 = 4094;

/// Bounds of an MTU: what IPv4 must be able to send (RFC 791), and what a veth takes (`ETH_MAX_MTU`).
const MTU: (u32, u32) = (68, 65535);

pub(super) fn read(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    defaults: &Defaults,
) -> Result<BridgeKeys, Error> {
    let flag = |key: &str| fields.boolean(key).map(Option::unwrap_or_default);
    let mut keys = defaults.bridge_keys();
    if let Some(bridge) = fields.parsed("bridge", bridge_name)? {
        keys.bridge = Some(bridge);
    }
    (keys.is_gateway, keys.is_default_gateway) = read_gateway(fields, defaults)?;
    keys.ip_masq = fields.boolean("ipMasq")?.unwrap_or(defaults.ip_masq);
    (keys.hairpin, keys.promisc) = read_loops(fields, defaults)?;
    // `args.cni` is the reference `tuning`'s.
    let arguments = if defaults.reads.tuning { runtime.args.as_ref() } else { None };
    keys.mtu = read_mtu(fields, arguments)?;
    keys.vlan = fields.number("vlan", 0..=VLAN_MAX)?.filter(|vlan| *vlan != 0);
    keys.vlan_trunk = read_trunk(fields)?;
    if keys.vlan.is_some() && !keys.vlan_trunk.is_empty() {
        return Err(Error::Conflict {
            keys: "vlan and vlanTrunk".to_owned(),
            reason: "a port is either of one VLAN or a trunk; remove one of the two".to_owned(),
        });
    }
    keys.force_address = flag("forceAddress")?;
    keys.preserve_default_vlan = flag("preserveDefaultVlan")?;
    keys.mac_spoof_check = flag("macspoofchk")?;
    keys.enable_dad = flag("enabledad")?;
    keys.disable_container_interface = flag("disableContainerInterface")?;
    keys.port_isolation = flag("portIsolation")?;
    Ok(keys)
}

/// What `ptp` and `macvlan` have of these keys.
pub(super) fn read_endpoint(fields: &Fields<'_>, defaults: &Defaults) -> Result<BridgeKeys, Error> {
    let mut keys = defaults.bridge_keys();
    keys.mtu = read_mtu(fields, None)?;
    if defaults.link == LinkKind::Ptp {
        keys.ip_masq = fields.boolean("ipMasq")?.unwrap_or(defaults.ip_masq);
    }
    Ok(keys)
}

fn bridge_name(text: &str) -> Result<String, String> {
    interface_name_fault(text).map_or_else(|| Ok(text.to_owned()), Err)
}

/// `isDefaultGateway` implies `isGateway`; an `isGateway` written as false takes the default of the former away.
fn read_gateway(fields: &Fields<'_>, defaults: &Defaults) -> Result<(bool, bool), Error> {
    let gateway = fields.boolean("isGateway")?;
    let is_default =
        fields.boolean("isDefaultGateway")?.unwrap_or(defaults.is_default_gateway && gateway != Some(false));
    Ok((gateway.unwrap_or(defaults.is_gateway) || is_default, is_default))
}

/// `hairpinMode` and `promiscMode`: two ways to let a container reach itself through the bridge.
fn read_loops(fields: &Fields<'_>, defaults: &Defaults) -> Result<(bool, bool), Error> {
    let promisc = fields.boolean("promiscMode")?.unwrap_or_default();
    let hairpin = fields.boolean("hairpinMode")?;
    if promisc && hairpin == Some(true) {
        return Err(Error::Conflict {
            keys: "hairpinMode = true and promiscMode = true".to_owned(),
            reason: "either makes the container reach itself, both double its packets; keep one".to_owned(),
        });
    }
    Ok((hairpin.unwrap_or(defaults.hairpin && !promisc), promisc))
}

/// `mtu`, or that of `args.cni`; 0 counts as absent.
pub(super) fn read_mtu(fields: &Fields<'_>, arguments: Option<&Fields<'_>>) -> Result<Option<u32>, Error> {
    let mut mtu = None;
    for source in [Some(fields), arguments].into_iter().flatten() {
        let Some(value) = source.number::<u32>("mtu", 0..=MTU.1.into())?.filter(|mtu| *mtu != 0) else {
            continue;
        };
        if value < MTU.0 {
            return Err(source.invalid("mtu", format!("must be 0 or from {} to {}", MTU.0, MTU.1)));
        }
        mtu = Some(value);
    }
    Ok(mtu)
}

/// The entries in order, those that touch joined.
fn read_trunk(fields: &Fields<'_>) -> Result<Vec<VlanTrunk>, Error> {
    let mut entries = Vec::new();
    for entry in fields.objects("vlanTrunk")? {
        let first = entry.number::<u16>("minID", 1..=VLAN_MAX)?;
        let last = entry.number::<u16>("maxID", 1..=VLAN_MAX)?;
        let single = entry.number::<u16>("id", 1..=VLAN_MAX)?;
        match (first, last) {
            (Some(first), Some(last)) if first <= last => entries.push(VlanTrunk { first, last }),
            (Some(_), Some(_)) => return Err(entry.invalid("minID", "must not be above maxID")),
            (Some(_), None) => return Err(entry.missing("maxID", "minID needs it")),
            (None, Some(_)) => return Err(entry.missing("minID", "maxID needs it")),
            (None, None) if single.is_none() => {
                return Err(entry.missing("id", "an entry needs id, or minID and maxID"));
            }
            (None, None) => {}
        }
        entries.extend(single.map(|id| VlanTrunk { first: id, last: id }));
    }
    entries.sort_by_key(|entry| entry.first);
    entries.dedup_by(|next, kept| {
        let joined = next.first <= kept.last.saturating_add(1);
        if joined {
            kept.last = kept.last.max(next.last);
        }
        joined
    });
    Ok(entries)
}
