//! Two that answer to one address.

use std::net::IpAddr;

use crate::explain::{Fault, Finding};
use crate::model::MacAddress;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::rtnl;
use crate::sys::{Netns, SysError};
use crate::view::{Attachment, Reading};

use super::{perhaps, surely};

/// `NUD_FAILED` (`linux/neighbour.h`): nobody answered.
const FAILED: u16 = 0x20;

/// Whether somebody besides `owner` has `address`: the host itself, or another container of the same bridge, whether
/// it was given the address or took it. The containers' namespaces are asked, one socket each; those that are gone are
/// passed over. Whom the host believes at the moment is in its table of neighbours.
///
/// The calling thread is in the host's namespace.
///
/// # Errors
/// Where the host's own links cannot be asked about.
pub fn duplicate_address(
    address: IpAddr,
    owner: &Attachment,
    reading: &Reading,
    attachments: &[Attachment],
) -> Result<Vec<Finding>, SysError> {
    let whose = &owner.container;
    if let Some(host) = reading.host.addresses.iter().find(|found| found.address.ip() == address) {
        let link = reading.host.links.iter().find(|link| link.index == host.index);
        let link = link.map_or_else(|| format!("interface {}", host.index), |link| link.name.clone());
        let what = format!(
            "the host itself has {address} on {link}, so that what is sent to container {whose} ends at the host"
        );
        let mend = format!("ip address del {} dev {link}", host.address);
        return Ok(vec![surely(Fault::DuplicateAddress, what, mend)]);
    }
    let believed = believed(address, owner, reading)?;
    let mut found = Vec::new();
    for other in attachments.iter().filter(|other| shares_a_bridge(other, owner)) {
        let Some((path, at)) = has(other, address) else { continue };
        let is_believed = believed.is_some() && believed == at.mac;
        let told = if is_believed { ", and the host sends to that one" } else { "" };
        let what = format!(
            "two answer to {address}: container {whose}, and {} of container {}{told}",
            at.interface, other.container
        );
        let mend = format!("nsenter --net={path} ip address del {} dev {}", at.address, at.interface);
        let fault = Fault::DuplicateAddress;
        found.push(if is_believed { surely(fault, what, mend) } else { perhaps(fault, what, mend) });
    }
    if let (true, Some(stranger)) = (found.is_empty(), believed) {
        let bridge = owner.bridge.as_deref().unwrap_or_default();
        let what = format!(
            "the host knows {address} by {stranger}, which is not the interface of container {whose}: somebody else on {bridge} answers to it"
        );
        let mend = format!("ip neighbour flush dev {bridge} to {address}");
        found.push(perhaps(Fault::DuplicateAddress, what, mend));
    }
    Ok(found)
}

/// The Ethernet address that the host has for the container's address, where it is not the container's own.
fn believed(address: IpAddr, owner: &Attachment, reading: &Reading) -> Result<Option<MacAddress>, SysError> {
    let Some(bridge) = owner.bridge.as_deref().and_then(|name| reading.host.link(name)) else {
        return Ok(None);
    };
    let mut socket = Socket::open(Protocol::Route)?;
    let known = rtnl::neighbours(&mut socket, bridge.index)?;
    let entry = known.iter().find(|entry| entry.address == address && entry.state & FAILED == 0);
    Ok(entry.and_then(|entry| entry.mac).filter(|mac| owner.mac.is_some_and(|own| own != *mac)))
}

fn shares_a_bridge(other: &Attachment, owner: &Attachment) -> bool {
    other.sandbox.is_some()
        && other.sandbox != owner.sandbox
        && other.bridge.is_some()
        && other.bridge == owner.bridge
}

/// An interface that has the address.
struct Holder {
    interface: String,
    mac: Option<MacAddress>,
    address: ipnetwork::IpNetwork,
}

/// The namespace's path and the interface, where the container has the address. One that cannot be entered has not.
fn has(other: &Attachment, address: IpAddr) -> Option<(&str, Holder)> {
    let path = other.sandbox.as_deref()?;
    let netns = Netns::open(path).ok()?;
    let mut socket = Socket::open_in(&netns, Protocol::Route).ok()?;
    let found = rtnl::addresses(&mut socket, None).ok()?.into_iter().find(|at| at.address.ip() == address)?;
    let link = rtnl::link_by_index(&mut socket, found.index).ok()??;
    Some((path, Holder { interface: link.name, mac: link.mac, address: found.address }))
}
