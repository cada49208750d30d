//! What the kernel does with packets, as it tells over netlink (`include/uapi/linux/netconf.h`): a tenth of what reading
//! the same from /proc/sys costs.

use crate::model::attributes::{Attributes, find};
use crate::sys::SysError;
use crate::sys::netlink::{Message, Socket};

use super::kernel::*;
use super::reading::u32_of;

/// The size of `netconfmsg`, padded.
const HEADER: usize = 4;

/// Whether the host forwards packets of a family (`AF_INET`, `AF_INET6`): `net.ipv4.ip_forward` and
/// `net.ipv6.conf.all.forwarding`. `None` where the kernel does not tell.
///
/// # Errors
/// As [`Socket::get`].
pub fn forwards(socket: &mut Socket, is_ipv6: bool) -> Result<Option<bool>, SysError> {
    let family = if is_ipv6 { AF_INET6 } else { AF_INET };
    let mut attributes = Attributes::after(&[family, 0, 0, 0]);
    attributes.put_u32(NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL);
    let message = Message::new(RTM_GETNETCONF, 0, attributes.into_bytes(), "ask for", "IP forwarding")
        .tolerating(nix::errno::Errno::EOPNOTSUPP)
        .tolerating(nix::errno::Errno::EAFNOSUPPORT);
    let Some(answer) = socket.get(&message)? else { return Ok(None) };
    let value = answer.body.get(HEADER..).and_then(|attributes| find(attributes, NETCONFA_FORWARDING));
    Ok(value.and_then(u32_of).map(|value| value != 0))
}
