//! A link's few numbers, by ioctl (netdevice(7)): a tenth of what `RTM_GETLINK` costs, whose answer tells everything,
//! of a bridge a kilobyte and a half.

use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::errno::Errno;

use crate::model::MacAddress;
use crate::sys::netlink::Socket;

/// `linux/sockios.h`.
const SIOCGIFFLAGS: libc::c_ulong = 0x8913;
const SIOCGIFMTU: libc::c_ulong = 0x8921;
const SIOCGIFHWADDR: libc::c_ulong = 0x8927;
const SIOCGIFINDEX: libc::c_ulong = 0x8933;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// What a link is at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Its number in its namespace.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The lower half of `IFF_*`.
    pub flags: u32,
    /// Whether it has a carrier, which the kernel notices with that.
    pub carrier: bool,
}

/// Looks at the link of a name; `None` where there is none, or one that has no Ethernet address.
///
/// # Errors
/// Where the kernel cannot be asked so: whoever needs to know asks by `RTM_GETLINK` then.
pub fn glance(socket: &Socket, name: &str) -> Result<Option<Glance>, Errno> {
    let Some(index) = index_of(socket, name)? else { return Ok(None) };
    let Some(mut request) = request(name) else { return Ok(None) };
    ask(socket, SIOCGIFHWADDR, &mut request)?;
    // SAFETY: the kernel has filled in this member of the union.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Ok(None);
    }
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(address.sa_data) {
        *to = from.cast_unsigned();
    }
    ask(socket, SIOCGIFMTU, &mut request)?;
    // SAFETY: as above.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned();
    ask(socket, SIOCGIFFLAGS, &mut request)?;
    // SAFETY: as above.
    let flags = u32::from(unsafe { request.ifr_ifru.ifru_flags }.cast_unsigned());
    let carrier = notice_carrier(socket, name);
    Ok(Some(Glance { index, mac: MacAddress(mac), mtu, flags, carrier }))
}

/// The number of the link of a name in the socket's namespace; `None` where there is none.
///
/// # Errors
/// Where the kernel cannot be asked so.
pub fn index_of(socket: &Socket, name: &str) -> Result<Option<u32>, Errno> {
    if !is_there(socket, name)? {
        return Ok(None);
    }
    let Some(mut request) = request(name) else { return Ok(None) };
    match ask(socket, SIOCGIFINDEX, &mut request) {
        // SAFETY: the kernel has filled in this member of the union.
        Ok(()) => Ok(Some(unsafe { request.ifr_ifru.ifru_ifindex }.cast_unsigned())),
        Err(Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether the socket's namespace has a link of this name.
///
/// Not by one of the ioctls: asked by root about a name that there is not, they have the kernel run modprobe(8) for it,
/// twice (`dev_load` in `net/core/dev_ioctl.c`), and an ADD asks about an interface that there should not be. What a
/// netlink socket is bound to means nothing.
///
/// # Errors
/// Where the kernel cannot be asked so: `EPERM` before Linux 5.7 without `CAP_NET_RAW`.
pub fn is_there(socket: &Socket, name: &str) -> Result<bool, Errno> {
    // The empty name would let go what the socket is bound to, and a longer one would be cut.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Ok(false);
    }
    match bind_to_link(socket, name) {
        Ok(()) => bind_to_link(socket, "").map(|()| true),
        Err(Errno::ENODEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// `SO_BINDTODEVICE` (socket(7)).
fn bind_to_link(socket: &Socket, name: &str) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes of the name as it is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    Errno::result(done).map(drop)
}

/// Has the kernel (since Linux 6.8) notice at once that a link has a carrier, which it otherwise does some time later.
/// A bridge lets its port forward with that, where it does not run the spanning tree; and [`set_port`] is not refused
/// with `ENETDOWN`. Gives whether it has one; `false` too where it cannot be asked.
///
/// By ethtool's `ETHTOOL_GLINK` (`linux/ethtool.h`): an answer of `RTM_GETLINK` tells the number of the other end's
/// namespace besides, which the kernel looks for among those of all containers.
///
/// [`set_port`]: super::set_port
pub fn notice_carrier(socket: &Socket, name: &str) -> bool {
    const ETHTOOL_GLINK: u32 = 0x0a;
    // `struct ethtool_value`; the kernel reads both words, and writes the second.
    let mut asked = [ETHTOOL_GLINK, 0];
    let Some(mut request) = request(name) else { return false };
    request.ifr_ifru.ifru_data = asked.as_mut_ptr().cast();
    ask(socket, SIOCETHTOOL, &mut request).is_ok() && asked[1] != 0
}

/// A request about the link of a name; `None` where it is longer than a link's can be.
fn request(name: &str) -> Option<libc::ifreq> {
    // SAFETY: all zeroes is a value of this structure of numbers and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays for the NUL.
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    Some(request)
}

/// Asks in the namespace of the socket, whatever its family.
fn ask(socket: &Socket, what: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: the kernel reads and writes the request, and what it points to; they outlive the call.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), what as _, std::ptr::from_mut(request)) };
    Errno::result(done).map(drop)
}
