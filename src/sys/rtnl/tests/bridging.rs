use nix::errno::Errno;

use super::*;
use crate::sys::SysError;

#[test]
fn a_bridge_has_what_it_was_made_with() {
    Pair::run(|mut pair| {
        let spec = Bridge { mtu: Some(1450), promisc: true, ..bridge("br", 900) };
        pair.here.transact(&[create_bridge(&spec)]).unwrap();
        let br = pair.link("br");
        assert_eq!((br.index, br.mac, br.mtu, br.group), (900, Some(mac(1)), 1450, 7));
        assert!(br.is_up() && br.is_promisc() && br.kind.as_deref() == Some("bridge"));
        assert!(!br.bridge.unwrap().multicast_snooping, "as it was made, and not the kernel's default");
        assert_eq!(pair.here.transact(&[create_bridge(&spec)]).unwrap_err().errno(), Some(Errno::EEXIST));
    });
}

/// Its address and, where it was set afterwards, its MTU outlive the coming and going of ports.
#[test]
fn a_bridge_keeps_its_address_and_mtu() {
    Pair::run(|mut pair| {
        let spec = bridge("br", 900);
        let pin = LinkChange { mtu: Some(1450), ..LinkChange::default() };
        pair.here.transact(&[create_bridge(&spec), set_link(LinkTarget::Name("br"), &pin)]).unwrap();
        let low = Some(MacAddress([0x02, 0, 0, 0, 0, 1]));
        let veth = Veth { master: Some(900), mac: low, ..veth(&pair.netns) };
        pair.here.transact(&[create_veth(&veth)]).unwrap();
        let br = pair.link("br");
        assert_eq!((br.mac, br.mtu), (Some(mac(1)), 1450));
    });
}

#[test]
fn a_port_is_set_by_name_and_forwards_at_once() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let change = PortChange { hairpin: Some(true), isolated: Some(true), forwarding: true };
        pair.here.transact(&[set_port(LinkTarget::Name("host"), &change)]).unwrap();
        let port = pair.link("host").port.unwrap();
        assert_eq!(port, BridgePort { state: 3, hairpin: true, isolated: true, neigh_suppress: false });
        let change = PortChange { hairpin: Some(false), ..PortChange::default() };
        pair.here.transact(&[set_port(LinkTarget::Index(1000), &change)]).unwrap();
        let port = pair.link("host").port.unwrap();
        assert!(!port.hairpin && port.isolated);
    });
}

/// The kernel notices a carrier some time after it is there, and until then refuses to let the port forward.
#[test]
fn a_port_forwards_as_soon_as_its_carrier_is_noticed() {
    Pair::run(|mut pair| {
        let veth = Veth { index: Some(1000), peer_index: Some(2000), master: Some(900), ..veth(&pair.netns) };
        pair.here.transact(&[create_bridge(&bridge("br", 900)), create_veth(&veth)]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let change = PortChange { forwarding: true, ..PortChange::default() };
        let forward = set_port(LinkTarget::Name("host"), &change);
        let error = pair.here.transact(std::slice::from_ref(&forward)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENETDOWN), "{error}");
        pair.there.transact(&[set_link(LinkTarget::Index(2000), &up())]).unwrap();
        // Here it may be refused still, or not any more.
        assert!(notice_carrier(&pair.here, "host"));
        assert_eq!(pair.link("host").port.unwrap().state, 3, "by itself");
        pair.here.transact(&[forward]).unwrap();
        assert_eq!(pair.link("host").port.unwrap().state, 3);
        assert!(
            !notice_carrier(&pair.here, "nobody") && !notice_carrier(&pair.here, "longer-than-a-name-is")
        );
    });
}

/// Whether the kernel can do without, as one built without 802.1Q does.
fn lacking(done: Result<(), SysError>) -> bool {
    match done {
        Ok(()) => false,
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => {
            println!("skipped: the kernel lacks it ({error})");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn vlans_of_a_port_are_added_listed_and_deleted() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let one = BridgeVlan { first: 10, last: 10, flags: VlanFlags { pvid: true, untagged: true } };
        let many = BridgeVlan { first: 100, last: 110, flags: VlanFlags::default() };
        if lacking(pair.here.transact(&[add_vlans(1000, false, &[one, many])])) {
            return;
        }
        let found = vlans(&mut pair.here, 1000).unwrap();
        assert!(found.contains(&one) && found.contains(&many), "{found:?}");
        pair.here.transact(&[delete_vlans(1000, false, &[many]), add_vlans(900, true, &[one])]).unwrap();
        assert!(!vlans(&mut pair.here, 1000).unwrap().contains(&many));
        assert!(vlans(&mut pair.here, 900).unwrap().contains(&one));
    });
}

#[test]
fn a_bridge_that_tells_vlans_apart_has_no_default_one() {
    Pair::run(|mut pair| {
        let spec = Bridge { vlan_filtering: true, default_pvid: Some(0), ..bridge("br", 900) };
        if lacking(pair.here.transact(&[create_bridge(&spec)])) {
            return;
        }
        let info = pair.link("br").bridge.unwrap();
        assert!(info.vlan_filtering);
        assert_eq!(info.default_pvid, 0);
    });
}

#[test]
fn a_vlan_device_sits_on_its_lower_one() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        if lacking(pair.here.transact(&[create_vlan("br.5", 900, 5, Some(7))])) {
            return;
        }
        let vlan = pair.link("br.5");
        assert_eq!((vlan.vlan_id, vlan.peer, vlan.group), (Some(5), Some(900), 7));
    });
}
