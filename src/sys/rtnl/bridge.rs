//! Ports of bridges, and their VLANs.

use crate::model::attributes::{Attributes, find, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::kernel::*;
use super::link::link_header;
use super::reading::{u16_of, u32_in};
use super::set::LinkTarget;

/// What to change of a bridge's port; what is left `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortChange {
    /// Whether packets may leave through the port that they came in by.
    pub hairpin: Option<bool>,
    /// Whether it may not speak to other isolated ports.
    pub isolated: Option<bool>,
    /// Put it in the forwarding state at once. Refused with `ENETDOWN` while the port has no carrier, or the kernel has
    /// not noticed it: the other end of a veth must be up, and [`notice_carrier`] goes before.
    ///
    /// [`notice_carrier`]: super::notice_carrier
    pub forwarding: bool,
}

/// Changes a port of a bridge, as part of its link so that a name serves as well as an index.
pub fn set_port(target: LinkTarget<'_>, change: &PortChange) -> Message {
    let mut attributes = target.start(0, 0);
    attributes.nest(IFLA_LINKINFO, |info| {
        info.put_str(IFLA_INFO_SLAVE_KIND, "bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, |data| {
            for (kind, value) in [(IFLA_BRPORT_MODE, change.hairpin), (IFLA_BRPORT_ISOLATED, change.isolated)]
            {
                if let Some(on) = value {
                    data.put_u8(kind, u8::from(on));
                }
            }
            if change.forwarding {
                data.put_u8(IFLA_BRPORT_STATE, 3);
            }
        });
    });
    // RTM_SETLINK ignores IFLA_LINKINFO; RTM_NEWLINK without NLM_F_CREATE changes what is there.
    Message::new(RTM_NEWLINK, 0, attributes.into_bytes(), "change the bridge port", target.text())
}

/// How a port treats a VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VlanFlags {
    /// What comes in untagged belongs to it.
    pub pvid: bool,
    /// It goes out untagged.
    pub untagged: bool,
}

/// VLANs that a port, or the bridge itself, is a member of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeVlan {
    /// First VLAN, 1 to 4094.
    pub first: u16,
    /// Last VLAN, the first itself for a single one.
    pub last: u16,
    /// How it is treated; a range can have no `pvid`.
    pub flags: VlanFlags,
}

/// Makes a port (or with `of_bridge` the bridge itself) a member of VLANs.
pub fn add_vlans(index: u32, of_bridge: bool, vlans: &[BridgeVlan]) -> Message {
    let body = vlan_body(index, of_bridge, vlans);
    Message::new(RTM_SETLINK, 0, body, "add VLANs to the bridge port", format!("number {index}"))
}

/// Ends the membership of a port (or with `of_bridge` of the bridge itself) in VLANs.
pub fn delete_vlans(index: u32, of_bridge: bool, vlans: &[BridgeVlan]) -> Message {
    let body = vlan_body(index, of_bridge, vlans);
    Message::new(RTM_DELLINK, 0, body, "take VLANs from the bridge port", format!("number {index}"))
}

/// The VLANs of a port or a bridge.
///
/// # Errors
/// As [`Socket::dump`].
pub fn vlans(socket: &mut Socket, index: u32) -> Result<Vec<BridgeVlan>, SysError> {
    let mut attributes = Attributes::after(&link_header(AF_BRIDGE, 0, 0, 0));
    attributes.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED);
    let message = Message::new(RTM_GETLINK, 0, attributes.into_bytes(), "list", "the VLANs of bridge ports");
    let answers = socket.dump(&message)?;
    let ours = answers.iter().filter(|answer| u32_in(&answer.body, 4) == Some(index));
    Ok(ours.filter_map(|answer| answer.body.get(16..)).flat_map(parse_vlans).collect())
}

fn vlan_body(index: u32, of_bridge: bool, vlans: &[BridgeVlan]) -> Vec<u8> {
    let mut attributes = Attributes::after(&link_header(AF_BRIDGE, index, 0, 0));
    attributes.nest(IFLA_AF_SPEC, |spec| {
        if of_bridge {
            spec.put_u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF);
        }
        for vlan in vlans {
            let flags = if vlan.flags.pvid { BRIDGE_VLAN_INFO_PVID } else { 0 }
                | if vlan.flags.untagged { BRIDGE_VLAN_INFO_UNTAGGED } else { 0 };
            if vlan.first == vlan.last {
                put_vlan(spec, flags, vlan.first);
            } else {
                put_vlan(spec, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, vlan.first);
                put_vlan(spec, flags | BRIDGE_VLAN_INFO_RANGE_END, vlan.last);
            }
        }
    });
    attributes.into_bytes()
}

/// `bridge_vlan_info`.
fn put_vlan(spec: &mut Attributes, flags: u16, vlan: u16) {
    let [f0, f1] = flags.to_ne_bytes();
    let [v0, v1] = vlan.to_ne_bytes();
    spec.put(IFLA_BRIDGE_VLAN_INFO, &[f0, f1, v0, v1]);
}

fn parse_vlans(attributes: &[u8]) -> Vec<BridgeVlan> {
    let mut vlans = Vec::new();
    let mut begin = None;
    let spec = find(attributes, IFLA_AF_SPEC).unwrap_or_default();
    for (_, info) in iterate(spec).filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO) {
        let (Some(bits), Some(vlan)) = (u16_of(info), info.get(2..).and_then(u16_of)) else { continue };
        if bits & BRIDGE_VLAN_INFO_RANGE_BEGIN != 0 {
            begin = Some(vlan);
            continue;
        }
        let flags = VlanFlags {
            pvid: bits & BRIDGE_VLAN_INFO_PVID != 0,
            untagged: bits & BRIDGE_VLAN_INFO_UNTAGGED != 0,
        };
        vlans.push(BridgeVlan { first: begin.take().unwrap_or(vlan), last: vlan, flags });
    }
    vlans
}

#[cfg(test)]
mod tests;
