//! What was asked for is what the kernel has: read back by our own queries and by `rtnetlink`.

mod addressing;
mod bridging;
mod linking;
mod shaping;

use super::*;
use crate::model::MacAddress;
use crate::sys::Netns;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::testing::{another, isolated};

/// Two namespaces and a socket into each.
struct Pair {
    here: Socket,
    there: Socket,
    netns: Netns,
}

impl Pair {
    /// Runs `test` in a namespace of its own, with another at hand.
    fn run(test: impl FnOnce(Self) + Send) {
        isolated(|| {
            let netns = another();
            let here = Socket::open(Protocol::Route).unwrap();
            let there = Socket::open_in(&netns, Protocol::Route).unwrap();
            test(Self { here, there, netns });
        });
    }

    /// A veth pair `host` - `eth0` with indexes 1000 and 2000, the host end in the bridge `br` with index 900.
    fn wired(mut self) -> Self {
        let veth = Veth { index: Some(1000), peer_index: Some(2000), master: Some(900), ..veth(&self.netns) };
        self.here.transact(&[create_bridge(&bridge("br", 900)), create_veth(&veth)]).unwrap();
        self.there.transact(&[set_link(LinkTarget::Index(2000), &up())]).unwrap();
        assert!(notice_carrier(&self.here, "host"));
        self
    }

    fn link(&mut self, name: &str) -> Link {
        link_by_name(&mut self.here, name).unwrap().unwrap()
    }
}

fn mac(last: u8) -> MacAddress {
    MacAddress([0x0a, 0x58, 10, 1, 0, last])
}

fn up() -> LinkChange<'static> {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

fn bridge(name: &str, index: u32) -> Bridge<'_> {
    Bridge {
        name,
        index: Some(index),
        mac: Some(mac(1)),
        mtu: None,
        group: Some(7),
        vlan_filtering: false,
        multicast_snooping: false,
        default_pvid: None,
        promisc: false,
        up: true,
    }
}

fn veth(netns: &Netns) -> Veth<'_> {
    Veth {
        name: "host",
        index: None,
        mac: Some(mac(2)),
        master: None,
        group: Some(7),
        up: true,
        netns: Some(netns),
        peer_name: "eth0",
        peer_index: None,
        peer_mac: Some(mac(3)),
        mtu: Some(1400),
        tx_queue_len: Some(123),
    }
}

/// Runs `question` with `rtnetlink` in the calling thread's namespace.
fn oracle<T, F: Future<Output = T>>(question: impl FnOnce(rtnetlink::Handle) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        question(handle).await
    })
}
