//! Keys under `ipam`: those of the reference `host-local` and `static`, or another plugin's.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::range::{PlacedSet, read_range, read_range_sets, refuse_overlap, spare_gateways, without_places};
use super::route::{Destination, read_routes};
use super::runtime::Runtime;
use super::{Judge, possible, read_dns};
use crate::cni::config::{HostLocal, Ipam, RequestedAddress, StaticAddress};
use crate::cni::defaults::Defaults;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::cni::version::Version;

/// The plugins of the reference, and linkspan itself, that give no addresses. Those that make interfaces would call
/// the plugin under `ipam` in their turn, with the same configuration: themselves again, without end.
const NO_IPAM: [&str; 11] = [
    "linkspan",
    "bridge",
    "ptp",
    "macvlan",
    "loopback",
    "portmap",
    "firewall",
    "tuning",
    "bandwidth",
    "sbr",
    "dnsname",
];

/// Whether a plugin's type is known to give no addresses.
pub fn is_no_ipam(kind: &str) -> bool {
    NO_IPAM.contains(&kind)
}

pub(super) fn read(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    defaults: &Defaults,
    version: Version,
    judge: &mut Judge,
) -> Result<Ipam, Error> {
    let empty = serde_json::Map::new();
    let section = match fields.raw("ipam") {
        None | Some(Value::Null) if defaults.is_ipam => {
            let reason = "IPAM config missing 'ipam' key";
            judge.rule(Err(fields.missing("ipam", reason)), || ())?;
            Fields::root(&empty)
        }
        Some(Value::Null) => return Ok(Ipam::None),
        Some(Value::Object(section)) if section.is_empty() && !defaults.is_ipam => return Ok(Ipam::None),
        None if fields.boolean("disableContainerInterface").is_ok_and(|flag| flag == Some(true)) => {
            return Ok(Ipam::None);
        }
        None => Fields::root(&empty),
        Some(_) => match judge.or_default(fields.object("ipam"))? {
            Some(section) => section,
            None => Fields::root(&empty),
        },
    };
    let written = if defaults.is_ipam { None } else { judge.or_default(section.text("type"))? };
    match written.or(defaults.ipam) {
        None => Ok(Ipam::None),
        Some("host-local") => {
            read_host_local(&section, runtime, defaults, version, judge).map(Ipam::HostLocal)
        }
        Some("static") => read_static(&section, runtime, version, judge),
        Some(plugin) => {
            // The type is a file name on CNI_PATH, and must not lead out of it.
            let plugin_fault =
                plugin.is_empty() || plugin == "." || plugin == ".." || plugin.contains(['/', '\0']);
            if plugin_fault {
                let reason = "must be the name of a plugin, without a path";
                judge.rule(Err(section.invalid("type", reason)), || ())?;
                return Ok(Ipam::None);
            }
            if is_no_ipam(plugin) {
                let reason = "makes interfaces or adds to them, and gives no addresses; name an IPAM plugin, such as \
                              host-local, static or dhcp";
                judge.rule(Err(section.invalid("type", reason)), || ())?;
                return Ok(Ipam::None);
            }
            Ok(Ipam::Delegated { plugin: plugin.to_owned() })
        }
    }
}

fn read_host_local(
    section: &Fields<'_>,
    runtime: &Runtime<'_>,
    defaults: &Defaults,
    version: Version,
    judge: &mut Judge,
) -> Result<HostLocal, Error> {
    let host_local = HostLocal {
        data_dir: judge.or_default(section.text("dataDir"))?.or(defaults.data_dir).map(str::to_owned),
        resolv_conf: judge.or_default(section.text("resolvConf"))?.map(str::to_owned),
        routes: judge.or_default(read_routes(section, "routes", Destination::Exact))?,
        range_sets: judge.or_default(read_sets(section, runtime, version).map(without_places))?,
    };
    if host_local.range_sets.is_empty() && !defaults.is_own() {
        // Only linkspan itself chooses a subnet.
        let missing = section.missing("ranges", "no IP ranges specified; name a subnet or ranges");
        judge.rule(Err(missing), || ())?;
    }
    Ok(host_local)
}

/// The capability's ranges first, then the one that stands in `ipam` itself, then `ranges`.
fn read_sets(section: &Fields<'_>, runtime: &Runtime<'_>, version: Version) -> Result<Vec<PlacedSet>, Error> {
    let mut sets = match &runtime.capabilities {
        Some(capabilities) => read_range_sets(capabilities, "ipRanges")?,
        None => Vec::new(),
    };
    let own = ["subnet", "rangeStart", "rangeEnd", "gateway"];
    if own.iter().any(|key| section.text(key).is_ok_and(|text| text.is_some()) || is_wrong(section, key)) {
        sets.push(vec![(section.path_of("subnet"), read_range(section)?)]);
    }
    sets.extend(read_range_sets(section, "ranges")?);
    refuse_overlap(&sets)?;
    spare_gateways(&mut sets)?;
    let families = sets.iter().filter_map(|set| set.first()).map(|(_, range)| range.start);
    one_per_family(families, version, "ipam.ranges", "range sets")?;
    Ok(sets)
}

fn is_wrong(section: &Fields<'_>, key: &str) -> bool {
    section.text(key).is_err()
}

/// Results before 0.3.0 have room for one address a family.
fn one_per_family(
    addresses: impl Iterator<Item = IpAddr>,
    version: Version,
    key: &str,
    what: &str,
) -> Result<(), Error> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    if version < Version::V0_3_0 && (v4.len() > 1 || v6.len() > 1) {
        return Err(Error::Invalid {
            key: key.to_owned(),
            value: format!("{} IPv4 and {} IPv6 {what}", v4.len(), v6.len()),
            reason: format!("cniVersion {version} has room for one address a family; use 0.3.0 or newer"),
        });
    }
    Ok(())
}

fn read_static(
    section: &Fields<'_>,
    runtime: &Runtime<'_>,
    version: Version,
    judge: &mut Judge,
) -> Result<Ipam, Error> {
    Ok(Ipam::Static {
        addresses: judge.or_default(read_addresses(section, runtime, version))?,
        routes: judge.or_default(read_routes(section, "routes", Destination::Exact))?,
        dns: judge.or_default(read_dns(section, "dns"))?,
    })
}

/// `addresses` and after them those of `CNI_ARGS`; `args.cni.ips` stand in the place of both, and the capability `ips`
/// in the place of all.
fn read_addresses(
    section: &Fields<'_>,
    runtime: &Runtime<'_>,
    version: Version,
) -> Result<Vec<StaticAddress>, Error> {
    let mut addresses =
        section.objects("addresses")?.iter().map(read_address).collect::<Result<Vec<_>, _>>()?;
    let mut asked = with_prefixes(&runtime.argument_ips, "CNI_ARGS IP")?;
    // Of what is asked for with it alone, as in the reference: what the configuration names has the gateway that it names.
    for gateway in &runtime.argument_gateways {
        for entry in asked.iter_mut().filter(|entry| entry.address.contains(*gateway)) {
            entry.gateway = Some(*gateway);
        }
    }
    addresses.extend(asked);
    for (requests, key) in
        [(&runtime.args_ips, "args.cni.ips"), (&runtime.capability_ips, "runtimeConfig.ips")]
    {
        if !requests.is_empty() {
            addresses = with_prefixes(requests, key)?;
        }
    }
    one_per_family(addresses.iter().map(|entry| entry.address.ip()), version, "ipam.addresses", "addresses")?;
    for (index, entry) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|earlier| earlier.address.ip() == entry.address.ip()) {
            let value = Value::from(entry.address.to_string());
            return Err(Error::invalid(
                section.path_of("addresses"),
                &value,
                "is there twice; write it once",
            ));
        }
    }
    Ok(addresses)
}

fn read_address(entry: &Fields<'_>) -> Result<StaticAddress, Error> {
    let address = entry.cidr("address")?.ok_or_else(|| {
        entry.missing("address", "it is needed with its prefix length, such as 10.1.0.5/24")
    })?;
    let gateway = entry.address("gateway")?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
        return Err(entry.invalid("gateway", format!("must be of the family of {address}")));
    }
    if let Some(reason) = possible::reserved(address) {
        return Err(entry.invalid("address", reason));
    }
    Ok(StaticAddress { address, gateway })
}

fn with_prefixes(requests: &[RequestedAddress], key: &str) -> Result<Vec<StaticAddress>, Error> {
    let whole = |request: &RequestedAddress| {
        let network = request.prefix.and_then(|prefix| IpNetwork::new(request.address, prefix).ok());
        match network {
            Some(address) => match possible::reserved(address) {
                Some(reason) => Err(Error::invalid(key, &Value::from(address.to_string()), reason)),
                None => Ok(StaticAddress { address, gateway: None }),
            },
            None => {
                let reason = "lacks its prefix length, which the ipam type static needs";
                Err(Error::invalid(key, &Value::from(request.address.to_string()), reason))
            }
        }
    };
    requests.iter().map(whole).collect()
}
