//! STATUS: whether an ADD would work, cheap enough to be asked every few seconds.

use std::net::IpAddr;
use std::path::Path;

use crate::apply::{ApplyError, Cause, ForeignDrop, Kernel, Trip};
use crate::cni::{Backend, Code, Ipam, LinkKeys, LogLevel, NetworkConfig};
use crate::model::{FirewallBackend, IngressPolicy, LeaseSource, Network, names};
use crate::plan::{self, Plan};
use crate::store::{Listed, StoreError};

use super::{Call, Context, VerbError, addressing, host, lower, network, room};

/// As many ports as the kernel gives a bridge (`BR_MAX_PORTS` is 1 << 10; port 0 is none).
const BRIDGE_PORTS_MAX: usize = 1023;

/// Says whether the network can be served.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50 where an ADD would fail, and 51 where running containers suffer. Of the disk as it
/// is, for [`told`] to say so.
pub fn status(cx: &mut Context, call: &Call) -> Result<(), VerbError> {
    let recorded = cx.state.network(&call.config.name)?;
    cx.state.probe_writable()?;
    room::require_files(cx, call.config, recorded.as_ref())?;
    host::require_rights()?;
    if let LinkKeys::Macvlan(_) = &call.config.link {
        lower::on_host(cx, call).map_err(|error| not_ready(error.to_string()))?;
        pool_has_room(cx, call, recorded.as_ref())?;
        return addressing::forward(call, None, "STATUS").map_err(of_delegate);
    }
    let has_nftables = cx.kernel.has_nftables().map_err(|cause| not_ready(cause.to_string()))?;
    // A reference `bridge` without masquerade needs no firewall, and leaves the FORWARD chain to others.
    let needs_firewall = call.config.defaults.is_own() || call.config.bridge.ip_masq;
    let backend = if needs_firewall {
        Some(firewall_is_there(cx, call, recorded.as_ref(), has_nftables)?)
    } else {
        None
    };
    if let Some(bridge) = network::known_bridge(call.config, recorded.as_ref()) {
        // Of a device that is no bridge too it is said here.
        bridge_has_room(cx, bridge)?;
    }
    room::require_gateways(cx, call.config, recorded.as_ref())?;
    host::require_routing(call.config, recorded.as_ref())?;
    if let Some(backend) = backend {
        host::require_table(cx, backend)?;
        room::require_sets(cx, backend)?;
    }
    pool_has_room(cx, call, recorded.as_ref())?;
    network::warn_of_absent_sources(cx, call.config)?;
    if recorded.is_none() && call.config.link == LinkKeys::Bridge {
        let bridge = call.config.bridge.bridge.clone();
        let bridge = bridge.unwrap_or_else(|| names::bridge(&call.config.name, 0));
        network::warn_of_clashing_routes(cx, call.config, &bridge)?;
    }
    addressing::forward(call, None, "STATUS").map_err(of_delegate)?;
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
    cx.state.probe_writable()?;
    let has_nftables = cx.kernel.has_nftables().map_err(|cause| not_ready(cause.to_string()))?;
    firewall_is_there(cx, call, recorded.as_ref(), has_nftables).map(drop)
}

/// What STATUS says of a failure: what keeps it from reading or writing its files keeps an ADD from it too.
pub fn told(error: VerbError) -> VerbError {
    match error {
        VerbError::Store(error @ (StoreError::Io { .. } | StoreError::Broken { .. })) => {
            let advice = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            not_ready(format!("{error}{advice}"))
        }
        other => other,
    }
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

fn bridge_has_room(cx: &mut Context, bridge: &str) -> Result<(), VerbError> {
    match cx.kernel.bridge_ports(bridge).map_err(|cause| not_ready(cause.to_string()))? {
        Some(ports) if ports >= BRIDGE_PORTS_MAX => Err(not_ready(format!(
            "the bridge {bridge} is full: {ports} ports, and the kernel allows {BRIDGE_PORTS_MAX}"
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
    let path = Path::new(&directory);
    cx.state.probe_lease_directory(path)?;
    let Some(directory) = cx.state.existing_lease_directory(path)? else { return Ok(()) };
    let sets = match recorded {
        Some(network) => addressing::range_sets(host_local, network),
        None => &host_local.range_sets,
    };
    let boot = addressing::this_boot();
    match directory.exhausted(sets, boot.as_ref().map(|(id, began)| (id.as_str(), *began)))? {
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
    let bridge = network::known_bridge(config, recorded);
    let drops = match cx.kernel.foreign_drops(bridge) {
        Ok(drops) => drops,
        // Every ADD and DEL changes the lists of rules, and none fails for what others do at the same time.
        Err(Cause::Sys(error)) if error.is_transient() => {
            cx.journal.note(LogLevel::Info, || format!("other firewalls could not be looked at: {error}"));
            return Ok(());
        }
        Err(cause) => return Err(not_ready(cause.to_string())),
    };
    for mut drop in drops {
        drop.trips.retain(|trip| is_wanted(config, recorded, *trip));
        if drop.trips.is_empty() {
            continue;
        }
        // The next ADD makes its exception where the host offers a place for it, and nobody suffers before.
        if drop.is_iptables && drop.by_policy && !is_about_names(&drop) && !has_attachments(cx, recorded)? {
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

/// Whether somebody is attached to the network.
fn has_attachments(cx: &Context, network: Option<&Network>) -> Result<bool, VerbError> {
    let Some(network) = network else { return Ok(false) };
    let all: Listed<Plan> = cx.state.all()?;
    Ok(all.found.iter().any(|found| found.record.network == network.name))
}

/// Whether reconciliation mends it: a FORWARD chain of iptables where a network's exception is not, or no more. It is for
/// whoever is attached.
pub fn is_mended_by_reconcile(drop: &ForeignDrop, backend: FirewallBackend) -> bool {
    let reaches_out = |trip: &Trip| matches!(trip, Trip::Outgoing | Trip::Published);
    let is_forward = drop.is_iptables && drop.trips.iter().any(reaches_out);
    backend == FirewallBackend::Nftables && is_forward && drop.surely && !drop.aimed
}

/// Whether the network itself lets such packets through: nobody misses what it stops anyway.
fn is_wanted(config: &NetworkConfig, recorded: Option<&Network>, trip: Trip) -> bool {
    match trip {
        Trip::Names { ipv6 } => {
            let served = recorded.and_then(plan::written).map(|rules| rules.served);
            config.naming.is_some()
                && served.is_none_or(|served| served.iter().any(|address| address.is_ipv6() == ipv6))
        }
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
        Trip::Names { .. } => "containers cannot ask for names",
    };
    let packets = if is_about_names(drop) { "received" } else { "forwarded" };
    let mut what: Vec<&str> = drop.trips.iter().map(what).collect();
    what.dedup();
    let what = what.join(", ");
    let surely = if drop.surely { "" } else { ", unless a rule before accepts them" };
    format!("{} drops {packets} packets {}{surely}: {what}", drop.base, drop.place)
}

/// What to type. No other table can overrule a drop, and we change nothing that is another's.
pub fn advice(drop: &ForeignDrop, bridge: &str, backend: FirewallBackend) -> String {
    if drop.table == "firewalld" {
        return format!(
            "let them pass: firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        );
    }
    if is_about_names(drop) {
        return questions_advice(drop, bridge);
    }
    if drop.is_iptables && drop.by_policy && backend == FirewallBackend::Nftables {
        return "'linkspan reconcile' makes the exception for it, as do a running agent and the next ADD of this network"
            .to_owned();
    }
    if drop.is_iptables {
        let tool = tool(drop);
        let made = match backend {
            FirewallBackend::Nftables => "'linkspan reconcile' makes an exception; by hand, ",
            FirewallBackend::Iptables => "",
        };
        return format!(
            "{made}let them pass: {tool} -I FORWARD -i {bridge} -j ACCEPT; {tool} -I FORWARD -o {bridge} -m conntrack \
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

/// Whose rules surely drop what containers behind a bridge ask the name service, and what to type; empty where they may
/// pass.
///
/// # Errors
/// Where the kernel cannot be asked.
pub fn stopped_questions(
    kernel: &mut Kernel,
    bridge: &str,
    gateways: &[IpAddr],
) -> Result<Vec<String>, Cause> {
    let mut drops = kernel.foreign_drops(Some(bridge))?;
    let asked = |trip: &Trip| gateways.iter().any(|gateway| *trip == Trip::Names { ipv6: gateway.is_ipv6() });
    drops.iter_mut().for_each(|drop| drop.trips.retain(asked));
    drops.retain(|drop| drop.surely && !drop.trips.is_empty());
    let told = |drop| format!("{}; {}", suffering(drop), advice(drop, bridge, FirewallBackend::Nftables));
    Ok(drops.iter().map(told).collect())
}

/// Whether it is of the chains that see what the host receives.
fn is_about_names(drop: &ForeignDrop) -> bool {
    drop.trips.iter().all(|trip| matches!(trip, Trip::Names { .. }))
}

/// What to type where the host takes no questions. There is no place for others in a chain INPUT, so nothing is admitted
/// there by us.
fn questions_advice(drop: &ForeignDrop, bridge: &str) -> String {
    if drop.is_iptables {
        let tool = tool(drop);
        return format!(
            "let them in: {tool} -I INPUT -i {bridge} -p udp --dport 53 -j ACCEPT; {tool} -I INPUT -i {bridge} -p \
             tcp --dport 53 -j ACCEPT (with ufw: ufw allow in on {bridge} to any port 53)"
        );
    }
    format!(
        "let them in: nft insert rule {} iifname {bridge} meta l4proto {{ tcp, udp }} th dport 53 accept",
        drop.base
    )
}

/// The command of a chain of iptables.
fn tool(drop: &ForeignDrop) -> &str {
    match drop.base.split(' ').next() {
        Some("ip6") => "ip6tables",
        Some("ip") | None => "iptables",
        Some(legacy) => legacy,
    }
}

/// What another plugin's STATUS says, with its code where that is one of STATUS.
fn of_delegate(error: VerbError) -> VerbError {
    let reason = error.to_string();
    match error {
        VerbError::Forwarded(ApplyError { cause: Cause::Delegated { error: Some(own), .. }, .. })
            if own.code == Code::LimitedConnectivity.number() =>
        {
            VerbError::NotReady { code: Code::LimitedConnectivity, reason }
        }
        _ => not_ready(reason),
    }
}

fn not_ready(reason: String) -> VerbError {
    VerbError::NotReady { code: Code::NotAvailable, reason }
}
