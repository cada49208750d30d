//! How much has gone through links (`IFLA_STATS64`).

use super::kernel::*;
use super::link::link_header;
use super::reading::text_of;
use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

/// The size of `ifinfomsg`.
const HEADER: usize = 16;
/// `IFLA_STATS64`.
const IFLA_STATS64: u16 = 23;

/// Bytes and packets as the host counts them at one of its links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets and bytes that came in by the link.
    pub received: (u64, u64),
    /// Packets and bytes that went out by it.
    pub sent: (u64, u64),
}

/// Of every link of the namespace, by name.
///
/// # Errors
/// As [`Socket::dump`].
pub fn traffic(socket: &mut Socket) -> Result<Vec<(String, Traffic)>, SysError> {
    let attributes = Attributes::after(&link_header(AF_UNSPEC, 0, 0, 0));
    let message = Message::new(RTM_GETLINK, 0, attributes.into_bytes(), "list", "the interfaces");
    Ok(socket.dump(&message)?.iter().filter_map(|answer| parse(&answer.body)).collect())
}

fn parse(body: &[u8]) -> Option<(String, Traffic)> {
    let attributes = body.get(HEADER..)?;
    let statistics = find(attributes, IFLA_STATS64)?;
    let number = |at: usize| statistics.get(8 * at..8 * at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    // rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes.
    let traffic = Traffic { received: (number(0)?, number(2)?), sent: (number(1)?, number(3)?) };
    Some((find(attributes, IFLA_IFNAME).map(text_of)?, traffic))
}
