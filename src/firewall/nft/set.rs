//! The sets and maps that attachments and networks have their elements in.

use crate::model::attributes::Attributes;
use crate::model::names::INTERFACE_NAME_MAX;
use crate::model::nft::NftMessage;

use super::uapi::{BRIDGE, CREATE, INET, LIST_ELEM, msg, set};

/// A set or map of linkspan's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// Published ports on one IPv4 address: protocol, address, port to target address, port.
    Ports4,
    /// Published ports on every IPv4 address of the host: protocol, port to target address, port.
    Ports4Any,
    /// [`Set::Ports4`] for IPv6.
    Ports6,
    /// [`Set::Ports4Any`] for IPv6.
    Ports6Any,
    /// Ranges of published ports that have the same numbers in the container: protocol, interval of IPv4 addresses
    /// (one, or all), interval of ports to target address.
    Ranges4,
    /// [`Set::Ranges4`] for IPv6.
    Ranges6,
    /// Ranges of published ports that have other numbers in the container: the same keys to target address and the
    /// window that the kernel shifts ports by.
    Shifts4,
    /// [`Set::Shifts4`] for IPv6.
    Shifts6,
    /// An attachment's IPv4 address to the chain of its network, which decides on masquerading.
    Egress4,
    /// [`Set::Egress4`] for IPv6.
    Egress6,
    /// Bridges whose networks do not let those of another in.
    Walled,
    /// Bridges, as a pair with themselves, within which containers may talk.
    Within,
    /// Bridges, as a pair with themselves, within which they may not.
    Apart,
    /// Bridges of networks that nothing enters or leaves.
    Internal,
    /// Bridges of networks that have nothing to do with other networks.
    Strict,
    /// Every network's bridge.
    Bridges,
    /// Bridges with a wall, to the chain that says what it lets in.
    Walls,
    /// What is published at containers' own IPv4 addresses, in routed networks: protocol, address, port.
    Open4,
    /// [`Set::Open4`] for IPv6.
    Open6,
    /// Bridges whose published ports are always masqueraded.
    MasqueradeAll,
    /// Host interfaces whose source MAC is guarded (table `bridge linkspan`).
    Guarded,
    /// The pairs of host interface and source MAC that are right (table `bridge linkspan`).
    Macs,
    /// Host interfaces whose source addresses are guarded (table `bridge linkspan`).
    Pinned,
    /// The pairs of host interface and IPv4 source that are right (table `bridge linkspan`).
    Sources4,
    /// The same for IPv6.
    Sources6,
}

/// The types of `nft`'s `datatype.h` that keys and values are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Ipv4 = 7,
    Ipv6 = 8,
    Ether = 9,
    Protocol = 12,
    Port = 13,
    Direction = 27,
    Interface = 41,
}

impl Field {
    /// Bytes of a value, without what a register fills up with.
    pub(super) const fn bytes(self) -> u32 {
        match self {
            Self::Protocol | Self::Direction => 1,
            Self::Port => 2,
            Self::Ipv4 => 4,
            Self::Ether => 6,
            Self::Ipv6 | Self::Interface => 16,
        }
    }

    /// Bytes in a register: a multiple of four.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Ipv4 | Self::Protocol | Self::Port | Self::Direction => 4,
            Self::Ether => 8,
            Self::Ipv6 | Self::Interface => 16,
        }
    }
}

/// What a map leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    Nowhere,
    To(&'static [Field]),
    Verdict,
}

impl Set {
    /// Those of table `inet linkspan`, in the order in which they are made.
    pub const INET: [Self; 18] = [
        Self::Ports4,
        Self::Ports4Any,
        Self::Ports6,
        Self::Ports6Any,
        Self::Ranges4,
        Self::Ranges6,
        Self::Egress4,
        Self::Egress6,
        Self::Walled,
        Self::Within,
        Self::Apart,
        Self::Internal,
        Self::Strict,
        Self::Bridges,
        Self::Walls,
        Self::Open4,
        Self::Open6,
        Self::MasqueradeAll,
    ];

    /// Those of table `inet linkspan` that are made where the first range is shifted (see [`super::shift_base`]).
    pub const SHIFTED: [Self; 2] = [Self::Shifts4, Self::Shifts6];

    /// Those of table `bridge linkspan`.
    pub const BRIDGE: [Self; 5] = [Self::Guarded, Self::Macs, Self::Pinned, Self::Sources4, Self::Sources6];

    /// Those of both tables whose elements may belong to attachments, and so be orphans.
    pub const OF_ATTACHMENTS: [Self; 22] = [
        Self::Bridges,
        Self::Walled,
        Self::Within,
        Self::Apart,
        Self::MasqueradeAll,
        Self::Ports4,
        Self::Ports4Any,
        Self::Ports6,
        Self::Ports6Any,
        Self::Ranges4,
        Self::Ranges6,
        Self::Shifts4,
        Self::Shifts6,
        Self::Egress4,
        Self::Egress6,
        Self::Open4,
        Self::Open6,
        Self::Guarded,
        Self::Macs,
        Self::Pinned,
        Self::Sources4,
        Self::Sources6,
    ];

    /// Its name in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ports4 => "ports4",
            Self::Ports4Any => "ports4_any",
            Self::Ports6 => "ports6",
            Self::Ports6Any => "ports6_any",
            Self::Ranges4 => "ranges4",
            Self::Ranges6 => "ranges6",
            Self::Shifts4 => "shifts4",
            Self::Shifts6 => "shifts6",
            Self::Egress4 => "egress4",
            Self::Egress6 => "egress6",
            Self::Walled => "walled",
            Self::Within => "within",
            Self::Apart => "apart",
            Self::Internal => "internal",
            Self::Strict => "strict",
            Self::Bridges => "bridges",
            Self::Walls => "walls",
            Self::Open4 => "open4",
            Self::Open6 => "open6",
            Self::MasqueradeAll => "masq_all",
            Self::Guarded => "guarded",
            Self::Macs => "macs",
            Self::Pinned => "pinned",
            Self::Sources4 => "sources4",
            Self::Sources6 => "sources6",
        }
    }

    /// The family of its table (`NFPROTO_*`).
    pub const fn family(self) -> u8 {
        match self {
            Self::Guarded | Self::Macs | Self::Pinned | Self::Sources4 | Self::Sources6 => BRIDGE,
            _ => INET,
        }
    }

    pub(crate) const fn key(self) -> &'static [Field] {
        use Field::{Ether, Interface, Ipv4, Ipv6, Port, Protocol};
        match self {
            Self::Ports4 | Self::Ranges4 | Self::Shifts4 | Self::Open4 => &[Protocol, Ipv4, Port],
            Self::Ports6 | Self::Ranges6 | Self::Shifts6 | Self::Open6 => &[Protocol, Ipv6, Port],
            Self::Ports4Any | Self::Ports6Any => &[Protocol, Port],
            Self::Egress4 => &[Ipv4],
            Self::Egress6 => &[Ipv6],
            Self::Walled
            | Self::Internal
            | Self::Strict
            | Self::Bridges
            | Self::Walls
            | Self::MasqueradeAll
            | Self::Guarded
            | Self::Pinned => &[Interface],
            Self::Within | Self::Apart => &[Interface, Interface],
            Self::Macs => &[Interface, Ether],
            Self::Sources4 => &[Interface, Ipv4],
            Self::Sources6 => &[Interface, Ipv6],
        }
    }

    pub(crate) const fn leads(self) -> Leads {
        match self {
            Self::Ports4 | Self::Ports4Any => Leads::To(&[Field::Ipv4, Field::Port]),
            Self::Ports6 | Self::Ports6Any => Leads::To(&[Field::Ipv6, Field::Port]),
            Self::Ranges4 => Leads::To(&[Field::Ipv4]),
            Self::Ranges6 => Leads::To(&[Field::Ipv6]),
            Self::Shifts4 => Leads::To(&[Field::Ipv4, Field::Port, Field::Port]),
            Self::Shifts6 => Leads::To(&[Field::Ipv6, Field::Port, Field::Port]),
            Self::Egress4 | Self::Egress6 | Self::Walls => Leads::Verdict,
            _ => Leads::Nowhere,
        }
    }

    /// Whether its keys are intervals, field by field.
    pub(crate) const fn has_intervals(self) -> bool {
        matches!(
            self,
            Self::Ranges4 | Self::Ranges6 | Self::Shifts4 | Self::Shifts6 | Self::Open4 | Self::Open6
        )
    }

    /// The message that makes it. `id` tells the sets of one batch apart.
    pub(crate) fn create(self, id: u32) -> NftMessage {
        let mut attributes = Attributes::new();
        let mut flags = if self.leads() == Leads::Nowhere { 0 } else { set::MAP };
        if self.has_intervals() {
            flags |= set::INTERVAL | set::CONCAT;
        }
        attributes
            .put_str(set::TABLE, super::TABLE)
            .put_str(set::NAME, self.name())
            .put_be32(set::FLAGS, flags)
            .put_be32(set::KEY_TYPE, type_number(self.key()))
            .put_be32(set::KEY_LEN, width(self.key()));
        match self.leads() {
            Leads::Nowhere => {}
            Leads::To(fields) => {
                attributes
                    .put_be32(set::DATA_TYPE, type_number(fields))
                    .put_be32(set::DATA_LEN, width(fields));
            }
            Leads::Verdict => {
                attributes.put_be32(set::DATA_TYPE, set::VERDICT).put_be32(set::DATA_LEN, 0);
            }
        }
        if self.has_intervals() {
            attributes.nest(set::DESCRIPTION, |description| {
                description.nest(set::CONCATENATION, |fields| {
                    for field in self.key() {
                        fields.nest(LIST_ELEM, |entry| {
                            entry.put_be32(set::FIELD_LEN, field.bytes());
                        });
                    }
                });
            });
        }
        attributes.put_be32(set::ID, id).put(set::USERDATA, &self.byte_order());
        NftMessage {
            kind: msg::NEWSET,
            family: self.family(),
            flags: CREATE,
            attributes: attributes.into_bytes(),
        }
    }

    /// `NFTNL_UDATA_SET_KEYBYTEORDER` (0) of libnftnl: without it `nft` prints numbers and names back to front.
    fn byte_order(self) -> [u8; 6] {
        const OF_HOST: u32 = 1;
        const OF_NETWORK: u32 = 2;
        let order = match self.key() {
            [Field::Interface] => OF_HOST,
            [_] => OF_NETWORK,
            _ => 0,
        };
        let [a, b, c, d] = order.to_ne_bytes();
        [0, 4, a, b, c, d]
    }
}

/// A concatenation's type: six bits a field (`TYPE_BITS` of `nft`'s `datatype.h`).
pub(super) fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

pub(super) fn width(fields: &[Field]) -> u32 {
    fields.iter().map(|field| u32::try_from(field.width()).unwrap_or(0)).sum()
}

/// An interface's name as `meta iifname` has it in a register: 16 bytes, NUL-padded.
pub(in crate::firewall) fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(name.bytes().take(INTERFACE_NAME_MAX)) {
        *to = from;
    }
    key
}
