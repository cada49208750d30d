//! The messages about VLANs byte by byte, for kernels that lack them. They are those that iproute2's `bridge` and `ip`
//! send for the same wish, but for the flag of nested attributes, which the kernel passes over here.

use super::*;
use crate::sys::rtnl::{Bridge, create_bridge, create_vlan};

/// Numbers as the machine has them.
fn bytes(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `ifinfomsg` of a bridge's family: family and padding, type, index in two halves, flags, change.
fn header(index: u32) -> Vec<u8> {
    [vec![7, 0, 0, 0], index.to_ne_bytes().to_vec(), vec![0; 8]].concat()
}

/// `IFLA_AF_SPEC` (26), nested, of a length.
fn spec(length: u16) -> Vec<u8> {
    bytes(&[length, 26 | 0x8000])
}

const ACCESS: BridgeVlan =
    BridgeVlan { first: 10, last: 10, flags: VlanFlags { pvid: true, untagged: true } };
const TRUNK: BridgeVlan =
    BridgeVlan { first: 100, last: 110, flags: VlanFlags { pvid: false, untagged: false } };

/// `bridge vlan add dev PORT vid 10 pvid untagged`, and in the same message `vid 100-110`.
#[test]
fn a_port_joins_vlans() {
    let message = add_vlans(0x0102, false, &[ACCESS, TRUNK]);
    // `bridge_vlan_info` (2) each: flags, VLAN. A range is its beginning (8) and its end (16).
    let infos = bytes(&[8, 2, 2 | 4, 10, 8, 2, 8, 100, 8, 2, 16, 110]);
    assert_eq!((message.kind, message.flags), (RTM_SETLINK, 0));
    assert_eq!(message.body, [header(0x0102), spec(28), infos].concat());
}

/// `bridge vlan del dev PORT vid 1`.
#[test]
fn a_port_leaves_its_default_vlan() {
    let default = BridgeVlan { first: 1, last: 1, flags: VlanFlags::default() };
    let message = delete_vlans(9, false, &[default]);
    assert_eq!((message.kind, message.flags), (RTM_DELLINK, 0));
    assert_eq!(message.body, [header(9), spec(12), bytes(&[8, 2, 0, 1])].concat());
}

/// `bridge vlan add dev BRIDGE vid 10 self`.
#[test]
fn a_bridge_joins_a_vlan_itself() {
    let plain = BridgeVlan { flags: VlanFlags::default(), ..ACCESS };
    let message = add_vlans(9, true, &[plain]);
    // `IFLA_BRIDGE_FLAGS` (0) is `BRIDGE_FLAGS_SELF` (2), padded.
    assert_eq!(message.body, [header(9), spec(20), bytes(&[6, 0, 2, 0, 8, 2, 0, 10])].concat());
}

/// `ip link add link BRIDGE name br0.5 type vlan id 5`, set up and in a group at once.
#[test]
fn a_gateways_vlan_device() {
    let message = create_vlan("br0.5", 2, 5, Some(7));
    let wanted = [
        // `ifinfomsg`: up, and only that is changed.
        vec![0; 8],
        1u32.to_ne_bytes().repeat(2),
        // `IFLA_IFNAME` (3), `IFLA_LINK` (5), `IFLA_GROUP` (27).
        bytes(&[10, 3]),
        b"br0.5\0\0\0".to_vec(),
        bytes(&[8, 5]),
        2u32.to_ne_bytes().to_vec(),
        bytes(&[8, 27]),
        7u32.to_ne_bytes().to_vec(),
        // `IFLA_LINKINFO` (18): `IFLA_INFO_KIND` (1), `IFLA_INFO_DATA` (2) with `IFLA_VLAN_ID` (1).
        bytes(&[28, 18 | 0x8000, 9, 1]),
        b"vlan\0\0\0\0".to_vec(),
        bytes(&[12, 2 | 0x8000, 6, 1, 5, 0]),
    ]
    .concat();
    assert_eq!(message.body, wanted);
}

/// `ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0`.
#[test]
fn a_bridge_that_filters() {
    let spec = Bridge {
        name: "br0",
        index: None,
        mac: None,
        mtu: None,
        group: None,
        vlan_filtering: true,
        default_pvid: Some(0),
        multicast_snooping: false,
        up: false,
        promisc: false,
    };
    let wanted = [
        vec![0; 16],
        bytes(&[8, 3]),
        b"br0\0".to_vec(),
        // `IFLA_LINKINFO`: the kind, and `IFLA_INFO_DATA` with snooping (23), filtering (7), default VLAN (39).
        bytes(&[44, 18 | 0x8000, 11, 1]),
        b"bridge\0\0".to_vec(),
        bytes(&[28, 2 | 0x8000]),
        [bytes(&[5, 23]), vec![0; 4], bytes(&[5, 7]), vec![1, 0, 0, 0]].concat(),
        bytes(&[6, 39, 0, 0]),
    ]
    .concat();
    assert_eq!(create_bridge(&spec).body, wanted);
    let plain = create_bridge(&Bridge { vlan_filtering: false, default_pvid: None, ..spec });
    assert_eq!(plain.body.len(), wanted.len() - 16, "without, a kernel that does not know it is not asked");
}

/// What `bridge -c vlan show` gets: single VLANs with their flags, ranges in two halves; others' attributes between.
#[test]
fn an_answer_is_read_as_it_was_asked_for() {
    let infos = bytes(&[8, 2, 2 | 4, 10, 8, 2, 8, 100, 8, 2, 16, 110, 6, 0, 2, 0, 8, 2, 4, 4094]);
    let answer = [bytes(&[8, 3, 0, 0]), spec(4 + 40), infos].concat();
    let last = BridgeVlan { first: 4094, last: 4094, flags: VlanFlags { pvid: false, untagged: true } };
    assert_eq!(parse_vlans(&answer), [ACCESS, TRUNK, last]);
    assert_eq!(parse_vlans(&bytes(&[8, 3, 0, 0])), []);
}
