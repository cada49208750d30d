//! The network of a call: what was chosen when it was first used, or the choice.

use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::apply::ApplyError;
use crate::cni::{Backend, Ipam, LinkKeys, LogLevel, NetworkConfig};
use crate::firewall::NetworkRules;
use crate::ipam;
use crate::model::{FirewallBackend, MacAddress, Network, RangeSet};
use crate::plan::{self, Bridge, NetworkFacts, Plan, Step};

use super::{Context, VerbError, addressing, left};

/// A network, and its record as it was before this call.
#[derive(Debug)]
pub(super) struct Provided {
    pub(super) network: Network,
    recorded: Option<Network>,
}

/// The network's record, made where there is none and brought up to date where the configuration has changed.
/// Called under the main lock.
///
/// # Errors
/// Where the bridge's name belongs to another kind of device, or no subnet is free.
pub(super) fn provide(cx: &mut Context, config: &NetworkConfig) -> Result<Provided, VerbError> {
    let provided = settle(cx, config)?;
    if let (Provided { network, recorded: None }, LinkKeys::Bridge) = (&provided, &config.link) {
        warn_of_clashing_routes(cx, config, &network.bridge)?;
        let chosen =
            || network.automatic.iter().flatten().map(|range| range.subnet.to_string()).collect::<Vec<_>>();
        cx.journal.note(LogLevel::Info, || {
            format!(
                "network {}: bridge {}, {}, {}",
                network.name,
                network.bridge,
                network.backend,
                chosen().join(" ")
            )
        });
    }
    Ok(provided)
}

/// The same once more, after the main lock was let go: others may have made the network meanwhile, or changed it. What
/// is written from here on follows from how it is now.
///
/// # Errors
/// As [`provide`].
pub(super) fn provide_anew(cx: &mut Context, config: &NetworkConfig) -> Result<Provided, VerbError> {
    cx.kernel.forget_bridges();
    settle(cx, config)
}

fn settle(cx: &mut Context, config: &NetworkConfig) -> Result<Provided, VerbError> {
    if config.link != LinkKeys::Bridge {
        return provide_to_part(cx, config, "");
    }
    let recorded = cx.state.network(&config.name)?;
    if let Some(network) = &recorded {
        cx.kernel.expect_bridge(&network.bridge, network.mac);
    }
    if let Some(name) = &config.bridge.bridge {
        cx.kernel.require_bridge_name(name).map_err(|cause| of_network(config, cause))?;
    }
    let Some(mut network) = recorded.clone() else {
        let facts = facts(cx, config)?;
        return Ok(Provided { network: plan::network(config, facts), recorded });
    };
    network.gc_after = config.gc_after;
    if let Some(bridge) = known_bridge(config, recorded.as_ref()) {
        bridge.clone_into(&mut network.bridge);
    } else {
        // Until now its interfaces were another plugin's.
        let (others, _) = cx.state.networks()?;
        let used: Vec<String> = others.iter().map(|network| network.bridge.clone()).collect();
        network.bridge =
            cx.kernel.free_bridge_name(&config.name, &used).map_err(|cause| of_network(config, cause))?;
        network.mac = Some(bridge_mac(&network.bridge));
    }
    network.backend = backend_of(config, network.backend);
    if needs_subnet(config) && network.automatic.is_empty() {
        let range = automatic(cx, config, &network.bridge)?;
        network.automatic = vec![vec![range]];
    }
    Ok(Provided { network, recorded })
}

/// The bridge of the network's next ADD, as far as that is known: the one that is configured, or else the one that it has
/// had. A name that is free is chosen where neither is.
pub(super) fn known_bridge<'a>(config: &'a NetworkConfig, recorded: Option<&'a Network>) -> Option<&'a str> {
    let had = recorded.map(|network| network.bridge.as_str()).filter(|bridge| !bridge.is_empty());
    config.bridge.bridge.as_deref().or(had)
}

/// The network of a part, whose interface another plugin has made on `bridge` (empty: on none). Called under the main
/// lock.
///
/// # Errors
/// Where its record cannot be read.
pub(super) fn provide_to_part(
    cx: &mut Context,
    config: &NetworkConfig,
    bridge: &str,
) -> Result<Provided, VerbError> {
    let recorded = cx.state.network(&config.name)?;
    let mut network = match recorded.clone() {
        Some(network) => network,
        None => {
            let has_nftables = cx.kernel.has_nftables().map_err(|cause| of_network(config, cause))?;
            let bridge = bridge.to_owned();
            let facts = NetworkFacts { bridge, mac: None, uplink_mtu: None, has_nftables, automatic: None };
            plan::network(config, facts)
        }
    };
    bridge.clone_into(&mut network.bridge);
    network.backend = backend_of(config, network.backend);
    Ok(Provided { network, recorded })
}

/// The backend that is written, or else the one that was chosen.
fn backend_of(config: &NetworkConfig, chosen: FirewallBackend) -> FirewallBackend {
    match config.backend {
        Backend::Nftables => FirewallBackend::Nftables,
        Backend::Iptables => FirewallBackend::Iptables,
        Backend::Auto => chosen,
    }
}

fn facts(cx: &mut Context, config: &NetworkConfig) -> Result<NetworkFacts, VerbError> {
    let (others, _) = cx.state.networks()?;
    let used: Vec<String> = others.iter().map(|network| network.bridge.clone()).collect();
    let bridge = match &config.bridge.bridge {
        Some(name) => name.clone(),
        None => cx.kernel.free_bridge_name(&config.name, &used).map_err(|cause| of_network(config, cause))?,
    };
    let automatic = if needs_subnet(config) { Some(automatic(cx, config, &bridge)?) } else { None };
    let uplink_mtu = cx.kernel.uplink_mtu().map_err(|cause| of_network(config, cause))?;
    let mac = Some(bridge_mac(&bridge));
    let has_nftables = cx.kernel.has_nftables().map_err(|cause| of_network(config, cause))?;
    Ok(NetworkFacts { bridge, mac, uplink_mtu, has_nftables, automatic })
}

/// An address that no other bridge has, on this host or on another that it may come to be joined with.
fn bridge_mac(bridge: &str) -> MacAddress {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    MacAddress::from_name(&format!("{bridge} {now} {}", std::process::id()))
}

fn needs_subnet(config: &NetworkConfig) -> bool {
    matches!(&config.ipam, Ipam::HostLocal(host_local) if host_local.range_sets.is_empty())
}

fn automatic(
    cx: &mut Context,
    config: &NetworkConfig,
    bridge: &str,
) -> Result<crate::model::Range, VerbError> {
    let mut in_use = cx.kernel.networks_in_use(bridge).map_err(|cause| of_network(config, cause))?;
    let (others, _) = cx.state.networks()?;
    let others = others.iter().filter(|network| network.name != config.name);
    let recorded = others.flat_map(|network| network.automatic.iter().flatten());
    in_use.extend(recorded.map(|range| range.subnet).collect::<Vec<IpNetwork>>());
    ipam::automatic_subnet(&config.name, &in_use).ok_or_else(|| {
        VerbError::Config(
            "no private subnet is free of the host's routes: name one with ipam.subnet or ipam.ranges"
                .to_owned(),
        )
    })
}

/// Refuses a bridge that somebody else has given another address, before anything is changed. A network that was
/// used before with these gateways has been through it.
///
/// # Errors
/// Where the bridge has an address that the network's gateway cannot stand beside.
pub(super) fn refuse_clash(cx: &mut Context, provided: &Provided, plan: &Plan) -> Result<(), VerbError> {
    let known = provided.recorded.as_ref().filter(|recorded| recorded.bridge == provided.network.bridge);
    for step in &plan.steps {
        if let Step::Bridge(bridge) = step {
            if known.is_some_and(|known| has_gateways(known, bridge)) {
                continue;
            }
            cx.kernel.refuse_gateway_clash(bridge).map_err(|cause| ApplyError::new(step, cause))?;
        }
    }
    Ok(())
}

/// Whether the network had all of the bridge's gateways before; of one whose ranges are another plugin's nothing else
/// is known.
fn has_gateways(recorded: &Network, bridge: &Bridge) -> bool {
    let ranges = || recorded.ranges.iter().flatten();
    let had = |gateway: &IpNetwork| ranges().any(|range| range.gateway == Some(gateway.ip()));
    ranges().next().is_none() || bridge.gateways.iter().all(had)
}

/// Whether an attachment of the network needs the network's static rules.
pub(super) fn needs_rules(config: &NetworkConfig, rules: &NetworkRules) -> bool {
    if config.defaults.is_own() { config.ipam != Ipam::None } else { rules.acts() }
}

/// Writes down the network's choices and, where they changed and `needed` says that somebody uses them, its static
/// rules. Called under the main lock, before the attachment's own steps; costs nothing where nothing changed.
///
/// # Errors
/// Where the state directory or the firewall refuses.
pub(super) fn prepare(
    cx: &mut Context,
    config: &NetworkConfig,
    provided: &Provided,
    needed: impl FnOnce(&NetworkRules) -> bool,
) -> Result<(), VerbError> {
    if matches!(config.link, LinkKeys::Macvlan(_)) {
        // Nothing of the host's is changed for such a network, so there is nothing to remember.
        return Ok(());
    }
    let Provided { network, recorded } = provided;
    let rules = plan::rules(config, network);
    let old: Option<NetworkRules> = recorded.as_ref().and_then(plan::written);
    // What was written once is kept up to date; what nobody needs is not written.
    let is_needed = old.is_some() || needed(&rules);
    let written = if is_needed { serde_json::to_value(&rules).unwrap_or_default() } else { Value::Null };
    let (ranges, leases) = pool(cx, config, network)?;
    let left = match recorded {
        Some(recorded) => left::after(cx, recorded, old.as_ref(), network.backend, &rules)?,
        None => Vec::new(),
    };
    let mut wanted = Network { rules: written, ranges, leases, left, ..network.clone() };
    if recorded.as_ref() == Some(&wanted) {
        return Ok(());
    }
    cx.kernel.expect_no_settled_bridge();
    // A wall of a network that nobody uses is none of this one's.
    match left::retire_idle(cx, Some(&wanted)) {
        // It may be on another firewall, whose programs do not work, which keeps nobody from this one.
        Err(VerbError::Apply(error)) => cx.journal.note(LogLevel::Warning, || {
            format!(
                "{error}: nobody is attached to that network, and its rules stay on the bridge {}, where they may stop what \
                 network {} lets pass; GC and 'linkspan reconcile' try again",
                wanted.bridge, wanted.name
            )
        }),
        other => drop(other?),
    }
    let stays = recorded.as_ref().is_some_and(|old| old.backend == wanted.backend && old.left == wanted.left);
    if is_needed && !(stays && old.as_ref() == Some(&rules)) {
        cx.kernel.write_network_rules(recorded.as_ref(), &wanted)?;
        warn_of_absent_sources(cx, config)?;
        // Other rules may need another exception in a FORWARD chain that drops.
        wanted.admitted.clear();
        if config.defaults.reads.firewall && network.backend == FirewallBackend::Nftables {
            wanted.admitted = cx.kernel.admit_past_rules(&rules)?;
        }
    }
    Ok(cx.state.put_network(&wanted)?)
}

/// The ranges that the network hands out, and where its leases are.
fn pool(
    cx: &Context,
    config: &NetworkConfig,
    network: &Network,
) -> Result<(Vec<RangeSet>, Option<String>), VerbError> {
    // A plugin that only adds to an interface knows nothing of addresses.
    if !config.defaults.reads.ipam {
        return Ok((network.ranges.clone(), network.leases.clone()));
    }
    let Ipam::HostLocal(host_local) = &config.ipam else { return Ok((Vec::new(), None)) };
    let path = cx.state.lease_path(&config.name, host_local.data_dir.as_deref().map(Path::new))?;
    let ranges = addressing::range_sets(host_local, network).to_vec();
    Ok((ranges, Some(path.display().to_string())))
}

/// Says where the host lacks an address that the network is to leave with: answers would not find their way back.
///
/// # Errors
/// Where the kernel cannot be asked.
pub(super) fn warn_of_absent_sources(cx: &mut Context, config: &NetworkConfig) -> Result<(), VerbError> {
    let keys = &config.isolation;
    let sources = [
        ("outboundAddress4", keys.outbound4.map(IpAddr::V4)),
        ("outboundAddress6", keys.outbound6.map(IpAddr::V6)),
    ];
    for (key, address) in sources {
        let Some(address) = address else { continue };
        if !cx.kernel.has_address(address).map_err(|cause| of_network(config, cause))? {
            cx.journal.note(LogLevel::Warning, || {
                format!(
                    "{key} = {address} is on no interface of the host: nothing comes back to the containers of {} \
                     before it is, or the routers send it here",
                    config.name
                )
            });
        }
    }
    Ok(())
}

/// Says where subnets that somebody has named for a network are the host's neighbours' too, or another route's: a
/// container may get the address of the host's own router. Asked while the network has never been used; the listing of
/// routes is not for every ADD.
///
/// # Errors
/// Where the kernel cannot be asked.
pub(super) fn warn_of_clashing_routes(
    cx: &mut Context,
    config: &NetworkConfig,
    bridge: &str,
) -> Result<(), VerbError> {
    let Ipam::HostLocal(host_local) = &config.ipam else { return Ok(()) };
    for subnet in host_local.range_sets.iter().flatten().map(|range| range.subnet) {
        let found = cx.kernel.clashing_route(subnet, bridge).map_err(|cause| of_network(config, cause))?;
        if let Some((route, link)) = found {
            cx.journal.note(LogLevel::Warning, || {
                format!(
                    "the subnet {subnet} of network {} overlaps the host's route to {route} by {link}: packets for either \
                     go astray; give the network another subnet (ipam.ranges)",
                    config.name
                )
            });
        }
    }
    Ok(())
}

fn of_network(config: &NetworkConfig, cause: impl Into<crate::apply::Cause>) -> VerbError {
    ApplyError::new(format!("network {}", config.name), cause).into()
}
