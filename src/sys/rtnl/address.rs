//! Addresses of links.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::attributes::{Attributes, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{CREATE, EXCL, Message, Socket};

use super::kernel::*;
use super::reading::{family_of, ip_of, octets, u32_in, u32_of};

/// The size of `ifaddrmsg`.
const HEADER: usize = 8;

/// An address to be given to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSpec {
    /// The link's index.
    pub index: u32,
    /// The address with its prefix length; its host bits are the address.
    pub address: IpNetwork,
    /// Whether IPv6 skips duplicate address detection and so serves at once (`IFA_F_NODAD`).
    pub nodad: bool,
    /// Its scope: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Whether the kernel makes no route to the address's subnet (`IFA_F_NOPREFIXROUTE`).
    pub no_subnet_route: bool,
}

impl AddressSpec {
    /// A global address that serves at once.
    pub fn new(index: u32, address: IpNetwork) -> Self {
        Self { index, address, nodad: true, scope: RT_SCOPE_UNIVERSE, no_subnet_route: false }
    }
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// The other end of a point-to-point link, where it differs.
    pub peer: Option<IpAddr>,
    /// Its scope.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl Address {
    /// Whether the kernel was told to make no route to its subnet.
    pub fn has_no_subnet_route(&self) -> bool {
        self.flags & IFA_F_NOPREFIXROUTE != 0
    }

    /// Whether duplicate address detection is not through with it.
    pub fn is_tentative(&self) -> bool {
        self.flags & IFA_F_TENTATIVE != 0
    }

    /// Whether someone else has it.
    pub fn is_duplicate(&self) -> bool {
        self.flags & IFA_F_DADFAILED != 0
    }
}

/// Gives a link an address; refused with `EEXIST` where it has it.
pub fn add_address(spec: &AddressSpec) -> Message {
    let mut attributes = start(spec.index, spec.address, spec.nodad, spec.scope);
    if let IpNetwork::V4(v4) = spec.address
        && v4.prefix() <= 30
    {
        attributes.put(IFA_BROADCAST, &v4.broadcast().octets());
    }
    let mut flags = 0;
    if spec.nodad && spec.address.is_ipv6() {
        flags |= IFA_F_NODAD;
    }
    if spec.no_subnet_route {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    if flags != 0 {
        attributes.put_u32(IFA_FLAGS, flags);
    }
    let object = spec.address.to_string();
    Message::new(RTM_NEWADDR, CREATE | EXCL, attributes.into_bytes(), "add the address", object)
}

/// Takes an address from a link; that it is gone already (`EADDRNOTAVAIL`, `ENODEV`) is as good.
pub fn delete_address(index: u32, address: IpNetwork) -> Message {
    let attributes = start(index, address, false, RT_SCOPE_UNIVERSE);
    let object = address.to_string();
    Message::new(RTM_DELADDR, 0, attributes.into_bytes(), "delete the address", object)
        .tolerating(Errno::EADDRNOTAVAIL)
        .tolerating(Errno::ENODEV)
}

/// The addresses of a link, or of all links where `index` is `None`.
///
/// # Errors
/// As [`Socket::dump`].
pub fn addresses(socket: &mut Socket, index: Option<u32>) -> Result<Vec<Address>, SysError> {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.unwrap_or_default().to_ne_bytes());
    let body = Attributes::after(&header).into_bytes();
    // With a filter on a link that is gone the kernel says ENODEV.
    let message = Message::new(RTM_GETADDR, 0, body, "list", "the addresses").tolerating(Errno::ENODEV);
    let wanted = |address: &Address| index.is_none_or(|index| address.index == index);
    socket.dump_as(&message, |_, body| parse(body).filter(wanted))
}

fn start(index: u32, address: IpNetwork, nodad: bool, scope: u8) -> Attributes {
    let flags = if nodad { 0x02 } else { 0 };
    let [a, b, c, d] = index.to_ne_bytes();
    let header = [family_of(address.ip()), address.prefix(), flags, scope, a, b, c, d];
    let mut attributes = Attributes::after(&header);
    let octets = octets(address.ip());
    attributes.put(IFA_LOCAL, &octets);
    attributes.put(IFA_ADDRESS, &octets);
    attributes
}

pub(super) fn parse(body: &[u8]) -> Option<Address> {
    let (prefix, scope, index) = (*body.get(1)?, *body.get(3)?, u32_in(body, 4)?);
    let mut flags = u32::from(*body.get(2)?);
    let (mut local, mut address) = (None, None);
    for (kind, value) in iterate(body.get(HEADER..)?) {
        match kind {
            IFA_LOCAL => local = ip_of(value),
            IFA_ADDRESS => address = ip_of(value),
            IFA_FLAGS => flags = u32_of(value)?,
            _ => {}
        }
    }
    // IFA_LOCAL is ours where the two differ; IPv6 leaves it out where they do not.
    let ours = local.or(address)?;
    let peer = address.filter(|peer| *peer != ours);
    Some(Address { index, address: IpNetwork::new(ours, prefix).ok()?, peer, scope, flags })
}
