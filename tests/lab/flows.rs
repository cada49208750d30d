//! Tracked connections, made by hand.

use std::net::Ipv4Addr;

use linkspan::model::attributes::Attributes;
use linkspan::sys::netlink::{self, Message, Socket};

/// Fills the table with UDP flows that both ends have spoken in, which the kernel drops for nobody.
/// A later round adds others, as many as there is room for by then.
pub fn fill_table(most: u32, round: u32) {
    let mut socket = Socket::open(netlink::Protocol::Netfilter).unwrap();
    let have: u32 = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let flows: Vec<u32> = (round * most..round * most + most.saturating_sub(have)).collect();
    for some in flows.chunks(1024) {
        let made: Vec<Message> = some.iter().map(|number| flow(*number)).collect();
        socket.batch(&made).unwrap();
    }
}

fn flow(number: u32) -> Message {
    let client = Ipv4Addr::from(0xc633_6400 + (number >> 14)).octets();
    let (server, port) =
        (Ipv4Addr::new(203, 0, 113, 1).octets(), u16::try_from(1024 + (number & 0x3fff)).unwrap());
    let tuple = |attributes: &mut Attributes, kind: u16, ends: [([u8; 4], u16); 2]| {
        attributes.nest(kind, |tuple| {
            tuple.nest(1, |ip| {
                ip.put(1, &ends[0].0).put(2, &ends[1].0);
            });
            tuple.nest(2, |proto| {
                proto.put_u8(1, 17).put(2, &ends[0].1.to_be_bytes()).put(3, &ends[1].1.to_be_bytes());
            });
        });
    };
    // nfgenmsg of IPv4; CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_TIMEOUT, CTA_STATUS (seen reply, assured, confirmed).
    let mut attributes = Attributes::after(&[2, 0, 0, 0]);
    tuple(&mut attributes, 1, [(client, port), (server, 9)]);
    tuple(&mut attributes, 2, [(server, 9), (client, port)]);
    attributes.put_be32(7, 600).put_be32(3, 0x02 | 0x04 | 0x08);
    // IPCTNL_MSG_CT_NEW with NLM_F_CREATE.
    Message::new(1 << 8, 0x400, attributes.into_bytes(), "track", "a flow")
}
