//! Published ports of a family that the container has no address of, on this network.

use std::net::IpAddr;

use crate::cni::{LogLevel, PortmapKeys};
use crate::model::{AttachmentKey, PortMapping, Publication};
use crate::plan::Plan;

use super::ports::is_other_interface;
use super::{Context, VerbError};

/// The reference passes over a `hostIP` of a family that the container lacks; somebody would look for that port, unless
/// another interface of the container has it.
///
/// # Errors
/// [`VerbError::Config`].
pub(super) fn refuse_missing(
    cx: &Context,
    keys: &PortmapKeys,
    addresses: &[IpAddr],
    key: &AttachmentKey,
) -> Result<(), VerbError> {
    for mapping in keys.mappings.iter().filter(|_| keys.require_family) {
        let Some(host_ip) = mapping.host_ip.filter(|ip| !ip.is_unspecified()) else { continue };
        let is_lacking = !addresses.iter().any(|address| address.is_ipv4() == host_ip.is_ipv4());
        if is_lacking && !is_another_interface_s(cx, mapping, host_ip, key)? {
            let family = if host_ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(VerbError::Config(format!(
                "container port {} cannot be published on {host_ip}: the container has no {family} address",
                mapping.container_port
            )));
        }
    }
    Ok(())
}

/// Whether another interface of the same container publishes what a mapping asks for, or waits for it: runtimes give each
/// network of a container the same list.
fn is_another_interface_s(
    cx: &Context,
    mapping: &PortMapping,
    host_ip: IpAddr,
    key: &AttachmentKey,
) -> Result<bool, VerbError> {
    let is_it = |port: &Publication| {
        (port.protocol, port.host.ip(), port.count) == (mapping.protocol, host_ip, mapping.count)
            && port.target.port() == mapping.container_port
            && (mapping.is_automatic() || port.host.port() == mapping.host_port)
    };
    for other in cx.state.keys()?.iter().filter(|other| is_other_interface(&other.to_string(), key)) {
        let found = cx.state.find::<Plan>(other)?;
        if let Some(claims) = found.as_ref().and_then(|found| found.record.plan.claims())
            && claims.publications.iter().chain(&claims.waiting).any(is_it)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says what is less than somebody may expect.
pub(super) fn warn(cx: &mut Context, keys: &PortmapKeys, addresses: &[IpAddr]) {
    for mapping in &keys.mappings {
        let stand_in = PortMapping { host_port: mapping.host_port.max(1), ..mapping.clone() };
        if Publication::of(&stand_in, addresses).is_empty() {
            cx.journal.note(LogLevel::Warning, || {
                format!(
                    "container port {} is not published: no address of its family",
                    mapping.container_port
                )
            });
        }
    }
}
