//! Neighbours: which Ethernet address an IP address has on a link.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::model::MacAddress;
use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{CREATE, Message, Socket};

use super::kernel::*;
use super::reading::{family_of, ip_of, octets, u16_of, u32_in};

/// The size of `ndmsg`.
const HEADER: usize = 12;

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub index: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address, once that is known.
    pub mac: Option<MacAddress>,
    /// `NUD_*`: 0x02 reachable, 0x04 stale, 0x20 failed, 0x80 permanent.
    pub state: u16,
}

/// Makes a permanent entry, in place of what is there.
pub fn add_neighbour(index: u32, address: IpAddr, mac: MacAddress) -> Message {
    let mut attributes = start(index, address, NUD_PERMANENT);
    attributes.put(NDA_LLADDR, &mac.0);
    let bytes = attributes.into_bytes();
    Message::new(RTM_NEWNEIGH, CREATE | NLM_F_REPLACE, bytes, "add the neighbour", address.to_string())
}

/// Forgets a neighbour; that it is unknown (`ENOENT`), or its link gone (`ENODEV`), is as good.
pub fn delete_neighbour(index: u32, address: IpAddr) -> Message {
    let bytes = start(index, address, 0).into_bytes();
    Message::new(RTM_DELNEIGH, 0, bytes, "delete the neighbour", address.to_string())
        .tolerating(Errno::ENOENT)
        .tolerating(Errno::ENODEV)
}

/// The neighbours of a link, of both families.
///
/// # Errors
/// As [`Socket::dump`].
pub fn neighbours(socket: &mut Socket, index: u32) -> Result<Vec<Neighbour>, SysError> {
    let mut attributes = Attributes::after(&[0; HEADER]);
    attributes.put_u32(NDA_IFINDEX, index);
    let message = Message::new(RTM_GETNEIGH, 0, attributes.into_bytes(), "list", "the neighbours")
        .tolerating(Errno::ENODEV);
    let answers = socket.dump(&message)?;
    let read = answers.iter().filter_map(|answer| parse(&answer.body));
    Ok(read.filter(|neighbour| neighbour.index == index).collect())
}

fn start(index: u32, address: IpAddr, state: u16) -> Attributes {
    let [a, b, c, d] = index.to_ne_bytes();
    let [s0, s1] = state.to_ne_bytes();
    let mut attributes = Attributes::after(&[family_of(address), 0, 0, 0, a, b, c, d, s0, s1, 0, 0]);
    attributes.put(NDA_DST, &octets(address));
    attributes
}

fn parse(body: &[u8]) -> Option<Neighbour> {
    let attributes = body.get(HEADER..)?;
    Some(Neighbour {
        index: u32_in(body, 4)?,
        address: find(attributes, NDA_DST).and_then(ip_of)?,
        mac: find(attributes, NDA_LLADDR).and_then(|mac| <[u8; 6]>::try_from(mac).ok()).map(MacAddress),
        state: u16_of(body.get(8..)?)?,
    })
}
