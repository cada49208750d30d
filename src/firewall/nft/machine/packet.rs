//! What is known of a packet, and how it looks to the expressions of a rule.

use std::net::IpAddr;

use super::super::set::interface_key;
use super::super::uapi::{IPV4, IPV6};

/// Where connection tracking is with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracking {
    /// It has not seen the packet yet: chains before priority -200.
    Before,
    /// The first of its connection.
    #[default]
    New,
    /// Of a connection that has been answered.
    Established,
    /// An ICMP error about a known connection: that its packet does not fit.
    Related,
    /// A rule took the packet out of it.
    Untracked,
}

/// What is known of a packet on its way through the host. What is `None` is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packet {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub family: u8,
    /// The interface that it came in by; empty where it was made here.
    pub input: Option<String>,
    /// The interface that it leaves by; empty where it does not leave.
    pub output: Option<String>,
    /// The input's number, 0 for none.
    pub input_index: Option<u32>,
    /// The output's number, 0 for none.
    pub output_index: Option<u32>,
    /// The bridge whose ports `input` and `output` are.
    pub bridge: Option<String>,
    /// Whether it was translated to a published port.
    pub published: bool,
    /// Whether its source was translated.
    pub masqueraded: bool,
    /// Where connection tracking is with it.
    pub tracking: Tracking,
    /// Whether it goes against the direction of the connection's first packet.
    pub reply: bool,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// `IPPROTO_*`.
    pub protocol: Option<u8>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Where the connection's first packet went before any translation.
    pub original_destination: Option<IpAddr>,
    /// Its port there.
    pub original_port: Option<u16>,
    /// Hardware address of the sender of the frame.
    pub source_mac: Option<[u8; 6]>,
    /// Hardware address that the frame is for.
    pub destination_mac: Option<[u8; 6]>,
    /// The packet's mark.
    pub mark: Option<u32>,
    /// The connection's mark.
    pub connection_mark: Option<u32>,
    /// What the routing tables say of the source (`RTN_*`).
    pub source_type: Option<u32>,
    /// What the routing tables say of the destination (`RTN_*`).
    pub destination_type: Option<u32>,
    /// Whether the way back to the source leaves by `input`.
    pub reverse_path: Option<bool>,
}

/// Bytes of which some are not known.
pub(super) type Bytes = Vec<Option<u8>>;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn known(bytes: &[u8]) -> Bytes {
    bytes.iter().map(|byte| Some(*byte)).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn put(header: &mut [Option<u8>], at: usize, bytes: &[u8]) {
    for (slot, byte) in header[at..].iter_mut().zip(bytes) {
        *slot = Some(*byte);
    }
}

impl Packet {
    fn ether_type(&self) -> u16 {
        if self.family == IPV6 { 0x86dd } else { 0x0800 }
    }

    /// Bytes of a header: `NFT_PAYLOAD_*`.
    pub(super) fn payload(&self, header: u32, offset: usize, length: usize) -> Bytes {
        let all = match header {
            0 => self.link_header(),
            1 => self.network_header(),
            2 => self.transport_header(),
            _ => Vec::new(),
        };
        (offset..offset.saturating_add(length).min(offset + 64))
            .map(|at| all.get(at).copied().flatten())
            .collect()
    }

    fn link_header(&self) -> Bytes {
        let mut header = vec![None; 14];
        if let Some(mac) = self.destination_mac {
            put(&mut header, 0, &mac);
        }
        if let Some(mac) = self.source_mac {
            put(&mut header, 6, &mac);
        }
        put(&mut header, 12, &self.ether_type().to_be_bytes());
        header
    }

    fn network_header(&self) -> Bytes {
        let v6 = self.family == IPV6;
        let mut header = vec![None; if v6 { 40 } else { 20 }];
        if !v6 {
            put(&mut header, 0, &[0x45]);
        }
        if let Some(protocol) = self.protocol {
            put(&mut header, if v6 { 6 } else { 9 }, &[protocol]);
        }
        for (address, at) in
            [(self.source, if v6 { 8 } else { 12 }), (self.destination, if v6 { 24 } else { 16 })]
        {
            // Of the other family it is none of this header's.
            if let Some(address) = address.filter(|address| address.is_ipv6() == v6) {
                put(&mut header, at, &octets(address));
            }
        }
        header
    }

    fn transport_header(&self) -> Bytes {
        let mut header = vec![None; 20];
        match self.protocol {
            // Fragmentation needed (RFC 792), packet too big (RFC 4443).
            Some(ICMP) if self.tracking == Tracking::Related => put(&mut header, 0, &[3, 4]),
            Some(ICMPV6) if self.tracking == Tracking::Related => put(&mut header, 0, &[2, 0]),
            Some(ICMP | ICMPV6) => {
                let request = if self.protocol == Some(ICMP) { 8 } else { 128 };
                let answer = if self.protocol == Some(ICMP) { 0 } else { 129 };
                put(&mut header, 0, &[if self.reply { answer } else { request }, 0]);
            }
            Some(protocol) => {
                for (port, at) in [(self.source_port, 0), (self.destination_port, 2)] {
                    if let Some(port) = port {
                        put(&mut header, at, &port.to_be_bytes());
                    }
                }
                // The flags: SYN, and SYN with ACK for an answer.
                if protocol == TCP {
                    put(&mut header, 13, &[if self.reply { 0x12 } else { 0x02 }]);
                }
            }
            None => {}
        }
        header
    }

    /// `NFT_META_*`.
    pub(super) fn meta(&self, key: u32) -> Option<Bytes> {
        let name = |interface: &Option<String>| interface.as_deref().map(|name| known(&interface_key(name)));
        let number = |value: Option<u32>| value.map(|value| known(&value.to_ne_bytes()));
        match key {
            1 => Some(known(&self.ether_type().to_be_bytes())),
            3 => number(self.mark),
            4 => number(self.input_index),
            5 => number(self.output_index),
            6 => name(&self.input),
            7 => name(&self.output),
            15 => Some(vec![Some(self.family)]),
            16 => self.protocol.map(|protocol| vec![Some(protocol)]),
            17 | 18 => name(&self.bridge),
            // For this host.
            19 if self.bridge.is_none() && self.source.is_some() => Some(vec![Some(0)]),
            _ => None,
        }
    }

    /// `NF_CT_STATE_BIT`.
    pub(super) fn state(&self) -> u32 {
        match self.tracking {
            // `NF_CT_STATE_INVALID_BIT`.
            Tracking::Before => 1,
            Tracking::New => 1 << 3,
            Tracking::Established => 1 << 1,
            Tracking::Related => 1 << 2,
            Tracking::Untracked => 1 << 6,
        }
    }

    /// `IPS_*`: seen replies and confirmed where it is established, translations.
    pub(super) fn status(&self) -> u32 {
        let mut status = 0;
        if self.tracking == Tracking::Established {
            status |= 1 << 1 | 1 << 3 | 1 << 7 | 1 << 8;
        }
        if self.published {
            status |= 1 << 5 | 1 << 8;
        }
        if self.masqueraded {
            status |= 1 << 4 | 1 << 7;
        }
        status
    }

    /// `NFT_CT_*`; the outer `None` ends the rule: there is no connection to be asked.
    pub(super) fn conntrack(&self, key: u32, direction: Option<u8>) -> Option<Option<Bytes>> {
        const STATE: u32 = 0;
        if matches!(self.tracking, Tracking::Before | Tracking::Untracked) && key != STATE {
            return None;
        }
        let original = direction == Some(0);
        let address = |address: Option<IpAddr>| address.map(|address| known(&octets(address)));
        let port = |port: Option<u16>| port.map(|port| known(&port.to_be_bytes()));
        Some(match key {
            STATE => Some(known(&self.state().to_ne_bytes())),
            1 => Some(vec![Some(u8::from(self.reply))]),
            2 => Some(known(&self.status().to_ne_bytes())),
            3 => self.connection_mark.map(|mark| known(&mark.to_ne_bytes())),
            7 => Some(vec![Some(self.family)]),
            9 | 20 | 22 if original => address(self.original_destination),
            8 | 19 | 21 if original && !self.reply && !self.masqueraded => address(self.source),
            10 => self.protocol.map(|protocol| vec![Some(protocol)]),
            12 if original => port(self.original_port),
            _ => None,
        })
    }

    /// `fib`: the address type of source or destination, or the way back to the source.
    pub(super) fn fib(&self, result: u32, flags: u32) -> Option<Bytes> {
        const SOURCE: u32 = 1;
        const INPUT: u32 = 8;
        const PRESENT: u32 = 32;
        const BY_INDEX: u32 = 1;
        const BY_NAME: u32 = 2;
        const TYPE: u32 = 3;
        if result == TYPE {
            let kind = if flags & SOURCE != 0 { self.source_type } else { self.destination_type };
            return kind.map(|kind| known(&kind.to_ne_bytes()));
        }
        if flags & (SOURCE | INPUT) != SOURCE | INPUT {
            return None;
        }
        let by = self.reverse_path?;
        match result {
            BY_INDEX if flags & PRESENT != 0 => Some(vec![Some(u8::from(by))]),
            BY_INDEX => self.input_index.map(|index| known(&if by { index } else { 0 }.to_ne_bytes())),
            BY_NAME => {
                let name = self.input.as_deref().filter(|_| by).unwrap_or_default();
                Some(known(&interface_key(name)))
            }
            _ => None,
        }
    }

    /// Takes up a translation.
    pub fn translate(&mut self, translation: &super::Translation) {
        let super::Translation { destination, address, port, .. } = translation;
        if *destination {
            self.published = true;
            self.destination = *address;
            self.destination_port = port.or(self.destination_port);
        } else {
            self.masqueraded = true;
            self.source = *address;
            self.source_port = *port;
        }
    }

    /// Whether it is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.family == IPV4
    }
}
