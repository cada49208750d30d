//! Neighbours: which Ethernet address an IP address has on a link.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::model::MacAddress;
use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::kernel::*;
use super::reading::{ip_of, u16_of, u32_in};

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

fn parse(body: &[u8]) -> Option<Neighbour> {
    let attributes = body.get(HEADER..)?;
    Some(Neighbour {
        index: u32_in(body, 4)?,
        address: find(attributes, NDA_DST).and_then(ip_of)?,
        mac: find(attributes, NDA_LLADDR).and_then(|mac| <[u8; 6]>::try_from(mac).ok()).map(MacAddress),
        state: u16_of(body.get(8..)?)?,
    })
}
