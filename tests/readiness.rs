//! STATUS says that an ADD would fail wherever it would, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::plugin::{dual_stack, v4};
use lab::{Lab, Plugin, programs};
use serde_json::json;

fn without(capability: &str, plugin: &Plugin) -> Plugin {
    plugin.wrapped(&["setpriv", &format!("--bounding-set=-{capability}")])
}

/// What STATUS calls ready takes an ADD, for the first time and after that.
#[test]
fn status_tells_of_too_few_inodes() {
    let Some(mut lab) = Lab::new() else { return };
    let (first, second) = (lab.container("c1"), lab.container("c2"));
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)}));
    let mut told = 0;
    fs::create_dir_all("/run/linkspan").unwrap();
    for inodes in 2..30 {
        lab.cover_small("/run/linkspan", &format!("nr_inodes={inodes}"));
        let mut attached = Vec::new();
        for container in [&first, &second] {
            let said = plugin.status();
            let added = plugin.on(container).add();
            attached.extend(added.succeeded().then_some(container));
            told += usize::from(said.words().contains("free inodes, and an ADD needs"));
            assert!(added.succeeded() || !said.succeeded(), "{inodes} inodes: {}", added.words());
            if !said.succeeded() {
                assert_eq!(said.code(), 50, "{inodes} inodes: {}", said.words());
            }
        }
        for container in attached {
            plugin.on(container).del().ok();
        }
    }
    assert!(told > 0);
    plugin.status().ok();
}

#[test]
fn status_tells_of_another_address_on_the_bridge() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"bridge": "br9", "ipam": v4(1)})).on(&container);
    lab.ip("link add br9 type bridge");
    plugin.status().ok();
    lab.ip("address add 10.77.0.1/24 dev br9");
    let words = "already has an IP address different from 10.88.1.1/24: 10.77.0.1/24";
    assert!(plugin.status().refused(50).contains(words));
    plugin.add().refused(7);
    plugin.with(json!({"forceAddress": true})).status().ok();
    lab.ip("address flush dev br9");
    plugin.add().ok();
    plugin.status().ok();
    // The same after somebody has taken ours away.
    lab.ip("address flush dev br9");
    lab.ip("address add 10.77.0.1/24 dev br9");
    assert!(plugin.status().refused(50).contains(words));
    // A name that is free is chosen where nobody says one.
    lab.ip("link add lks-own type bridge");
    lab.ip("address add 10.77.1.1/24 dev lks-own");
    lab.plugin(json!({"name": "own", "ipam": v4(2)})).status().ok();
}

#[test]
fn status_says_what_keeps_an_add_from_working() {
    let Some(mut lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let network = lab.plugin(json!({"backend": "nftables", "ipam": dual_stack(1)}));
    network.status().ok();
    assert!(without("sys_admin", &network).status().refused(50).contains("CAP_SYS_ADMIN"));
    lab.host.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    assert!(network.status().refused(50).contains("net.ipv6.conf.default.disable_ipv6=0"));
    let said = network.on(&container).add().refused(110);
    assert!(said.contains("disable_ipv6=0") && !said.contains("run as root"), "{said}");
    lab.host.set_sysctl("net/ipv6/conf/default/disable_ipv6", "0");
    lab.ip("link delete lks-web");
    lab.host.must(&["nft", "delete table inet linkspan"]);
    lab.host.must(&["nft", "add table inet linkspan { flags dormant ; }"]);
    assert!(network.status().refused(50).contains("dormant"));
    lab.host.must(&["nft", "delete table inet linkspan"]);
    lab.host.set_sysctl("net/ipv4/ip_forward", "0");
    network.status().ok();
    lab.freeze("/proc/sys");
    assert!(network.status().refused(50).contains("net.ipv4.ip_forward=1"));
}

/// Every interface is told something under net.ipv6.conf.
#[test]
fn status_tells_of_settings_that_cannot_be_made() {
    let Some(mut lab) = Lab::new() else { return };
    if lab::is_reference() {
        lab::skip!("the reference has no such STATUS");
    }
    let container = lab.container("c1");
    let network = lab.plugin(json!({"backend": "nftables", "ipam": v4(1)}));
    lab.host.set_sysctl("net/ipv4/ip_forward", "1");
    network.status().ok();
    lab.freeze("/proc/sys");
    assert!(network.status().refused(50).contains("/proc/sys"));
    network.on(&container).add().refused(110);
}

/// A network that is moved to another bridge is asked of that one, and of the gateways that addresses in the configuration
/// name.
#[test]
fn status_looks_at_the_bridge_of_the_next_add() {
    let Some(lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let old = lab.plugin(json!({"bridge": "br8", "ipam": v4(1)})).on(&container);
    let new = old.with(json!({"bridge": "br9"}));
    old.add().ok();
    old.del().ok();
    for link in ["br9 type bridge", "br7 type bridge", "odd type veth"] {
        lab.ip(&format!("link add {link}"));
    }
    lab.ip("address add 10.77.0.1/24 dev br9");
    let words = "\"br9\" already has an IP address different from 10.88.1.1/24: 10.77.0.1/24";
    assert!(new.status().refused(50).contains(words));
    assert!(new.add().refused(7).contains(words));
    let odd = old.with(json!({"bridge": "odd"}));
    odd.status().refused(50);
    assert!(!odd.add().succeeded());
    // What there is on the one that it leaves is no business of the next.
    lab.ip("address flush dev br9");
    lab.ip("address flush dev br8");
    lab.ip("address add 10.77.0.1/24 dev br8");
    old.status().refused(50);
    new.status().ok();
    new.add().ok();
    new.del().ok();

    lab.ip("address add 10.77.1.1/24 dev br7");
    let addresses = json!([{"address": "10.88.2.5/24", "gateway": "10.88.2.1"}]);
    let keys = json!({"name": "fixed", "bridge": "br7", "ipam": {"type": "static", "addresses": addresses}});
    let fixed = lab.plugin(keys).on(&container);
    let words = "\"br7\" already has an IP address different from 10.88.2.1/24: 10.77.1.1/24";
    assert!(fixed.status().refused(50).contains(words));
    assert!(fixed.add().refused(7).contains(words));
    fixed.with(json!({"forceAddress": true})).status().ok();
    lab.ip("address flush dev br7");
    fixed.status().ok();
    fixed.add().ok();
}

/// A record that is written anew is there twice for a moment: once more is known of what another plugin gave, and of
/// settings that the kernel words in its own way.
#[test]
fn status_counts_the_inode_of_a_record_that_is_written_anew() {
    let Some(mut lab) = Lab::new() else { return };
    let container = lab.container("c1");
    let given = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.66.0.5/24", "gateway": "10.66.0.1"}]});
    let path = lab.work.path().join("gives");
    programs::put(&path, &format!("#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND != ADD ] || echo '{given}'\n"));
    let directory = lab.work.path().display().to_string();
    let ports = json!({"net.ipv4.ip_local_reserved_ports": "30000,30001"});
    let plugins = [
        lab.plugin(json!({"name": "given", "ipam": {"type": "gives"}})).env("CNI_PATH", &directory),
        lab.plugin(json!({"name": "worded", "ipam": v4(2), "sysctl": ports})),
    ];
    fs::create_dir_all("/run/linkspan").unwrap();
    for plugin in plugins {
        let plugin = plugin.on(&container);
        let (mut told, mut attached) = (0, 0);
        for inodes in 2..30 {
            lab.cover_small("/run/linkspan", &format!("nr_inodes={inodes}"));
            for _ in 0..2 {
                let said = plugin.status();
                let added = plugin.add();
                told += usize::from(said.words().contains("free inodes, and an ADD needs"));
                attached += usize::from(added.succeeded());
                assert!(added.succeeded() || !said.succeeded(), "{inodes} inodes: {}", added.words());
                if added.succeeded() {
                    plugin.del().ok();
                }
            }
        }
        assert!(told > 0 && attached > 0, "{told} {attached}");
    }
}
