//! Keys of the reference `tuning`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::faces::{self, Whose, plugin};
use lab::outcome::gateway;
use lab::plugin::v4;
use lab::snapshot::Snapshot;
use lab::{Lab, icmp, inspect};
use serde_json::json;

#[test]
fn sysctls_are_set_in_the_container_only() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let host = lab.host.sysctl("net.core.somaxconn");
    let keys = json!({"ipam": v4(1), "sysctl": {
        "net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1", "net/ipv4/conf/IFNAME/log_martians": "1",
    }});
    let plugin = lab.plugin(keys).on(&a);
    let result = plugin.add().ok();
    assert_eq!(a.sysctl("net.core.somaxconn"), "500");
    assert_eq!(a.sysctl("net.ipv4.conf.eth0.arp_filter"), "1");
    assert_eq!(a.sysctl("net.ipv4.conf.eth0.log_martians"), "1");
    assert_eq!(lab.host.sysctl("net.core.somaxconn"), host);
    assert!(icmp::ping(&a, &gateway(&result, 4)));
    if lab::is_reference() {
        lab::skip!("the CHECK of Debian's reference does not know the token IFNAME");
    }
    plugin.prev(&result).check().ok();
    a.set_sysctl("net.ipv4.conf.eth0.arp_filter", "0");
    assert!(plugin.prev(&result).check().refused(120).contains("arp_filter"));
}

/// Each a value that the kernel tells of in other words, or not at all, and what it tells.
const TOLD_OTHERWISE: [(&str, &str, Option<&str>); 5] = [
    ("net.ipv4.ip_local_reserved_ports", "30002,30000,30001", Some("30000-30002")),
    ("net.ipv4.tcp_fastopen_key", "0-0-0-1", Some("00000000-00000000-00000000-00000001")),
    ("net.core.somaxconn", "0777", Some("511")),
    ("net.ipv4.route.flush", "1", None),
    ("net.ipv4.ip_local_reserved_ports", "", Some("")),
];

#[test]
fn check_knows_what_the_kernel_makes_of_a_sysctl() {
    if lab::is_reference() {
        lab::skip!("the reference compares the text");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let own = lab.plugin(json!({"ipam": v4(1)})).on(&a);
    for (key, value, told) in TOLD_OTHERWISE {
        let plugin = own.with(json!({"sysctl": {key: value, "net.ipv4.conf.IFNAME.arp_filter": "1"}}));
        let result = plugin.add().ok();
        if let Some(told) = told {
            assert_eq!(a.sysctl(key), told, "{key} {value}");
        }
        plugin.prev(&result).check().ok();
        if told == Some("511") {
            a.set_sysctl(key, "512");
            assert!(plugin.prev(&result).check().refused(120).contains("expected 511, found 512"));
        }
        plugin.prev(&result).del().ok();
    }
    let result = own.add().ok();
    for (key, value, _) in TOLD_OTHERWISE {
        let keys = json!({"name": "web", "sysctl": {key: value}});
        let tuning = plugin(&lab, Whose::Ours, "tuning", keys).on(&a).prev(&result);
        tuning.add().ok();
        tuning.check().ok();
        if value == "0777" {
            a.set_sysctl(key, "512");
            assert!(tuning.check().refused(999).contains("somaxconn"));
        }
        tuning.del().ok();
    }
}

#[test]
fn a_sysctl_that_another_one_undoes_is_told() {
    if lab::is_reference() {
        lab::skip!("the reference says nothing");
    }
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    a.set_sysctl("net.ipv4.ip_forward", "0");
    // Written in this order, and the second is for all interfaces.
    let keys = json!({"net.ipv4.conf.eth0.forwarding": "0", "net.ipv4.ip_forward": "1"});
    let own = lab.plugin(json!({"ipam": v4(1)})).on(&a);
    let plugin = own.with(json!({"sysctl": keys.clone()}));
    let said = plugin.add();
    let words =
        "sysctl net/ipv4/conf/eth0/forwarding: it was set to 0, and another of the list has made it 1";
    assert!(said.stderr.contains(words), "{}", said.stderr);
    let result = said.ok();
    assert!(plugin.prev(&result).check().refused(120).contains("expected 0, found 1"));
    a.set_sysctl("net.ipv4.conf.eth0.forwarding", "0");
    plugin.prev(&result).check().ok();
    plugin.prev(&result).del().ok();
    a.set_sysctl("net.ipv4.ip_forward", "0");
    let result = own.add().ok();
    let keys = json!({"name": "web", "sysctl": keys});
    let tuning = faces::plugin(&lab, Whose::Ours, "tuning", keys).on(&a).prev(&result);
    assert!(tuning.add().stderr.contains(words));
    assert!(tuning.check().refused(999).contains("forwarding"));
}

#[test]
fn a_sysctl_outside_of_the_network_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let before = Snapshot::take(&lab);
    for key in [
        "kernel.hostname",
        "net/../kernel/hostname",
        "vm.swappiness",
        "net.ipv4..ip_forward/../../../kernel/x",
    ] {
        let refused = lab.plugin(json!({"ipam": v4(1), "sysctl": {key: "1"}})).on(&a).add();
        assert!(!refused.succeeded(), "{key}");
        if !lab::is_reference() {
            assert!(
                [2, 7].contains(&refused.code()) && refused.words().contains(key),
                "{key}: {}",
                refused.stdout
            );
            Snapshot::take(&lab).assert_same(&before, key);
        } else {
            lab.plugin(json!({"ipam": v4(1)})).on(&a).del();
        }
    }
}

#[test]
fn a_sysctl_that_does_not_exist_undoes_the_add() {
    if lab::is_reference() {
        lab::skip!("the reference leaves what was made before");
    }
    let Some(lab) = Lab::new() else { return };
    let (warm, a) = (lab.container("warm"), lab.container("a"));
    lab.plugin(json!({"ipam": v4(1)})).on(&warm).add().ok();
    let before = Snapshot::take(&lab);
    let keys = json!({"ipam": v4(1), "sysctl": {"net.ipv4.no_such_thing": "1"}});
    let refused = lab.plugin(keys).on(&a).publish(&["8080:80"]).add();
    refused.code();
    assert!(refused.words().contains("no_such_thing"), "{}", refused.stdout);
    Snapshot::take(&lab).assert_same(&before, "undone");
    assert!(inspect::link(&a, "eth0").is_none());
}

#[test]
fn mac_promisc_allmulti_and_queue_length() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let keys =
        json!({"ipam": v4(1), "mac": "02:11:22:33:44:55", "promisc": true, "allmulti": true, "txQLen": 1234});
    let plugin = lab.plugin(keys).on(&a);
    let result = plugin.add().ok();
    let eth0 = inspect::link(&a, "eth0").unwrap();
    assert_eq!(eth0["address"], "02:11:22:33:44:55");
    assert!(eth0["txqlen"] == 1234 || lab::is_reference(), "Debian's reference has no txQLen: {eth0}");
    assert!(inspect::has_flag(&eth0, "PROMISC") && inspect::has_flag(&eth0, "ALLMULTI"), "{eth0}");
    assert_eq!(result["interfaces"][2]["mac"], "02:11:22:33:44:55");
    assert!(icmp::ping(&a, &gateway(&result, 4)));
    plugin.prev(&result).check().ok();
}

#[test]
fn args_cni_may_tune_as_well() {
    let Some(lab) = Lab::new() else { return };
    let a = lab.container("a");
    let keys = json!({"ipam": v4(1), "sysctl": {"net.core.somaxconn": "500"}, "promisc": false,
        "args": {"cni": {"sysctl": {"net.core.somaxconn": "600"}, "promisc": true}}});
    lab.plugin(keys).on(&a).add().ok();
    assert_eq!(a.sysctl("net.core.somaxconn"), "600");
    assert!(inspect::has_flag(&inspect::link(&a, "eth0").unwrap(), "PROMISC"));
}
