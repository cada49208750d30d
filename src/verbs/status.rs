//! STATUS: whether an ADD would work, cheap enough to be asked every few seconds.

use std::path::Path;

use crate::apply::{ForeignDrop, Trip};
use crate::cni::{Backend, Code, Ipam, LinkKeys, LogLevel, NetworkConfig};
use crate::model::{FirewallBackend, IngressPolicy, LeaseSource, Network};

use super::{Call, Context, VerbError, addressing, lower, network};

/// As many ports as the kernel gives a bridge (`BR_MAX_PORTS` is 1 << 10; port 0 is none).
const BRIDGE_PORTS_MAX: usize = 1023;

/// Says whether the network can be served.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50 where an ADD would fail, and 51 where running containers suffer.
pub fn status(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let recorded = cx.state.network(&call.config.name)?;
    state_is_writable(cx)?;
    if let LinkKeys::Macvlan(_) = &call.config.link {
        lower::on_host(cx, call).map_err(|error| not_ready(error.to_string()))?;
        pool_has_room(cx, call, recorded.as_ref())?;
        return addressing::forward(call, None, "STATUS").map_err(|error| not_ready(error.to_string()));
    }
    let has_nftables = cx.kernel.has_nftables();
    // A reference `bridge` without masquerade needs no firewall, and leaves the FORWARD chain to others.
    let needs_firewall = call.config.defaults.is_own() || call.config.bridge.ip_masq;
    let backend = if needs_firewall {
        Some(firewall_is_there(cx, call, recorded.as_ref(), has_nftables)?)
    } else {
        None
    };
    if let Some(network) = recorded.as_ref().filter(|network| !network.bridge.is_empty()) {
        bridge_has_room(cx, network)?;
    } else if let Some(bridge) = &call.config.bridge.bridge {
        cx.kernel.require_bridge_name(bridge).map_err(|cause| not_ready(cause.to_string()))?;
    }
    pool_has_room(cx, call, recorded.as_ref())?;
    network::warn_of_absent_sources(cx, call.config)?;
    addressing::forward(call, None, "STATUS").map_err(|error| not_ready(error.to_string()))?;
    // Without nf_tables there is no table of it that could drop.
    match backend {
        Some(backend) if has_nftables => forwarding_is_open(cx, call.config, backend, recorded.as_ref()),
        _ => Ok(()),
    }
}

/// Says whether a part that is made of firewall rules could be added.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn status_of_part(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let recorded = cx.state.network(&call.config.name)?;
    state_is_writable(cx)?;
    let has_nftables = cx.kernel.has_nftables();
    firewall_is_there(cx, call, recorded.as_ref(), has_nftables).map(drop)
}

fn state_is_writable(cx: &Context) -> Result<(), VerbError> {
    cx.state.probe_writable().map_err(|error| {
        let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
        not_ready(format!("{error}{advice}"))
    })
}

fn firewall_is_there(
    cx: &mut Context,
    call: &Call,
    recorded: Option<&Network>,
    has_nftables: bool,
) -> Result<FirewallBackend, VerbError> {
    let backend = match (call.config.backend, recorded) {
        (Backend::Nftables, _) => FirewallBackend::Nftables,
        (Backend::Iptables, _) => FirewallBackend::Iptables,
        (Backend::Auto, Some(network)) => network.backend,
        (Backend::Auto, None) if has_nftables => FirewallBackend::Nftables,
        (Backend::Auto, None) => FirewallBackend::Iptables,
    };
    match backend {
        FirewallBackend::Nftables if !has_nftables => {
            Err(not_ready("nf_tables cannot be used: the kernel lacks it (CONFIG_NF_TABLES, module nf_tables), or CAP_NET_ADMIN is missing".to_owned()))
        }
        FirewallBackend::Iptables => {
            cx.kernel.require_iptables().map_err(|cause| not_ready(cause.to_string()))?;
            Ok(backend)
        }
        FirewallBackend::Nftables => Ok(backend),
    }
}

fn bridge_has_room(cx: &mut Context, network: &Network) -> Result<(), VerbError> {
    match cx.kernel.bridge_ports(&network.bridge).map_err(|cause| not_ready(cause.to_string()))? {
        Some(ports) if ports >= BRIDGE_PORTS_MAX => Err(not_ready(format!(
            "the bridge {} is full: {ports} ports, and the kernel allows {BRIDGE_PORTS_MAX}",
            network.bridge
        ))),
        _ => Ok(()),
    }
}

pub(super) fn pool_has_room(
    cx: &mut Context,
    call: &Call,
    recorded: Option<&Network>,
) -> Result<(), VerbError> {
    let Ipam::HostLocal(host_local) = &call.config.ipam else { return Ok(()) };
    let LeaseSource::Files { directory } = addressing::source(cx, call)? else { return Ok(()) };
    let Some(directory) = cx.state.existing_lease_directory(Path::new(&directory))? else { return Ok(()) };
    let sets = match recorded {
        Some(network) => addressing::range_sets(host_local, network),
        None => &host_local.range_sets,
    };
    match directory.exhausted(sets)? {
        Some(error) => Err(not_ready(error.to_string())),
        None => Ok(()),
    }
}

/// Another table's chain that drops what is forwarded cannot be overruled by a table of ours.
fn forwarding_is_open(
    cx: &mut Context,
    config: &NetworkConfig,
    backend: FirewallBackend,
    recorded: Option<&Network>,
) -> Result<(), VerbError> {
    let bridge = recorded.map(|network| network.bridge.as_str());
    let drops = cx.kernel.foreign_drops(bridge).map_err(|cause| not_ready(cause.to_string()))?;
    for mut drop in drops {
        drop.trips.retain(|trip| is_wanted(config, *trip));
        if drop.trips.is_empty() {
            continue;
        }
        // The first ADD makes its exception where the host offers a place for it.
        if drop.is_iptables && drop.by_policy && recorded.is_none() {
            continue;
        }
        let advice = advice(&drop, bridge.unwrap_or("BRIDGE"), backend);
        let reason = format!("{}; {advice}", suffering(&drop));
        if drop.surely && !drop.aimed {
            return Err(VerbError::NotReady { code: Code::LimitedConnectivity, reason });
        }
        // Its rules may let our packets pass, or somebody has named this bridge: that is for an administrator to know.
        cx.journal.note(LogLevel::Warning, || reason);
    }
    Ok(())
}

/// Whether the network itself lets such packets through: nobody misses what it stops anyway.
fn is_wanted(config: &NetworkConfig, trip: Trip) -> bool {
    match trip {
        Trip::Outgoing | Trip::Published => !config.isolation.internal,
        Trip::Within => {
            !config.bridge.port_isolation
                && config.isolation.icc
                && config.firewall.ingress != IngressPolicy::Isolated
        }
    }
}

/// Who drops, and what does not work.
pub fn suffering(drop: &ForeignDrop) -> String {
    let what = |trip: &Trip| match trip {
        Trip::Outgoing => "containers cannot reach out",
        Trip::Published => "published ports cannot be reached",
        Trip::Within => "containers cannot reach each other (net.bridge.bridge-nf-call-iptables is 1)",
    };
    let what = drop.trips.iter().map(what).collect::<Vec<_>>().join(", ");
    let surely = if drop.surely { "" } else { ", unless a rule before accepts them" };
    format!("{} drops forwarded packets {}{surely}: {what}", drop.base, drop.place)
}

/// What to type. No other table can overrule a drop, and we change nothing that is another's.
pub fn advice(drop: &ForeignDrop, bridge: &str, backend: FirewallBackend) -> String {
    if drop.table == "firewalld" {
        return format!(
            "let them pass: firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        );
    }
    if drop.is_iptables && drop.by_policy && backend == FirewallBackend::Nftables {
        return "the next ADD of this network makes an exception for it".to_owned();
    }
    if drop.is_iptables {
        let tool = match drop.base.split(' ').next() {
            Some("ip6") => "ip6tables",
            Some("ip") | None => "iptables",
            Some(legacy) => legacy,
        };
        return format!(
            "let them pass: {tool} -I FORWARD -i {bridge} -j ACCEPT; {tool} -I FORWARD -o {bridge} -m conntrack \
             --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT (with ufw: ufw route allow in on {bridge}; ufw route allow \
             out on {bridge})"
        );
    }
    format!(
        "let them pass: nft insert rule {} iifname {bridge} accept; nft insert rule {0} oifname {bridge} ct status \
         dnat accept; nft insert rule {0} ct state established,related accept",
        drop.base
    )
}

fn not_ready(reason: String) -> VerbError {
    VerbError::NotReady { code: Code::NotAvailable, reason }
}
