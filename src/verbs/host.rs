//! What an ADD needs of the host that no file and no rule tells: for STATUS, by a few system calls.

use std::net::IpAddr;

use crate::cni::{Code, Ipam, NetworkConfig};
use crate::model::{FirewallBackend, Network, Range, names};
use crate::sys::process;
use crate::sys::sysctl::{self, FORWARDING4};

use super::{Context, VerbError, network};

/// What each new bridge and pair is told to leave alone: who cannot set it can make neither.
const ADVERTISEMENTS: &str = "net/ipv6/conf/default/accept_ra";

/// Refuses where an ADD of any network would fail on the way into the container.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_rights() -> Result<(), VerbError> {
    if process::may_enter_namespaces() {
        return Ok(());
    }
    Err(not_ready(
        "CAP_SYS_ADMIN is missing, without which no container's namespace can be entered: run as root"
            .to_owned(),
    ))
}

/// Refuses where kernel parameters cannot be set, the host could not be made a router for the network, or its bridge could
/// have no IPv6 address.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_routing(config: &NetworkConfig, recorded: Option<&Network>) -> Result<(), VerbError> {
    if config.bridge.is_gateway {
        require_gateway(config, recorded)?;
    }
    if sysctl::is_locked(ADVERTISEMENTS) {
        return Err(not_ready(
            "kernel parameters cannot be set, and every new interface needs some of net.ipv6.conf: /proc/sys is to be \
             writable for this process"
                .to_owned(),
        ));
    }
    Ok(())
}

fn require_gateway(config: &NetworkConfig, recorded: Option<&Network>) -> Result<(), VerbError> {
    let closed = |value: String| value != "1" && sysctl::is_locked(FORWARDING4);
    if !config.isolation.internal
        && has_family(config, recorded, false)
        && sysctl::read(FORWARDING4).is_ok_and(closed)
    {
        return Err(not_ready(
            "the host does not forward IPv4, and this process cannot make it: sysctl -w net.ipv4.ip_forward=1".to_owned(),
        ));
    }
    if !has_family(config, recorded, true) {
        return Ok(());
    }
    let bridge = network::known_bridge(config, recorded).map(str::to_owned);
    let bridge = bridge.unwrap_or_else(|| names::bridge(&config.name, 0));
    let of = |interface: &str| format!("net/ipv6/conf/{interface}/disable_ipv6");
    let on_bridge = sysctl::read(&of(&bridge));
    let place = if on_bridge.is_ok() { bridge.as_str() } else { "default" };
    match on_bridge.or_else(|_| sysctl::read(&of("default"))) {
        Ok(value) if value == "1" => Err(not_ready(format!(
            "the network has IPv6 ranges, and its bridge can have no IPv6 address: sysctl -w \
             net.ipv6.conf.{place}.disable_ipv6=0, or take the ranges out"
        ))),
        // A kernel without IPv6 is told of by the ADD.
        _ => Ok(()),
    }
}

/// Refuses a table of ours that another process owns, or that sleeps.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_table(cx: &mut Context, backend: FirewallBackend) -> Result<(), VerbError> {
    if backend != FirewallBackend::Nftables {
        return Ok(());
    }
    match cx.kernel.trouble_with_table().map_err(|cause| not_ready(cause.to_string()))? {
        Some(trouble) => Err(not_ready(trouble.to_owned())),
        None => Ok(()),
    }
}

/// Whether containers of the network may have IPv6 addresses.
pub(super) fn may_have_ipv6(config: &NetworkConfig, recorded: Option<&Network>) -> bool {
    !matches!(config.ipam, Ipam::HostLocal(_)) || has_family(config, recorded, true)
}

/// Whether the network hands out addresses of a family; automatic ones are IPv4.
fn has_family(config: &NetworkConfig, recorded: Option<&Network>, ipv6: bool) -> bool {
    let Ipam::HostLocal(host_local) = &config.ipam else { return false };
    let configured = host_local.range_sets.iter().flatten();
    let recorded = recorded.into_iter().flat_map(|network| network.automatic.iter().flatten());
    let mut all = configured.chain(recorded).peekable();
    if all.peek().is_none() {
        return !ipv6;
    }
    all.any(|range: &Range| matches!(range.subnet.ip(), IpAddr::V6(_)) == ipv6)
}

fn not_ready(reason: String) -> VerbError {
    VerbError::NotReady { code: Code::NotAvailable, reason }
}
