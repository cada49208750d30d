//! `explain --live` where something is wrong: with each fault the probe ends as was said beforehand, and where a rule drops
//! it, by that very rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::explain::{host_on, id};
use lab::live::{agree, arrives, assert_clean, counters, drops, fails, open, probed, way};
use lab::outcome::{address, bridge, gateway, host_end};
use lab::talk::{self, BRIEF, PATIENCE, UdpClient};
use lab::{Outside, icmp, inspect, skip};
use serde_json::json;

#[test]
fn forwarding_and_routes() {
    let Some(host) = open() else { return };
    let (shop, back) = (&host.shop, &host.back);
    let to_back = way(shop, back);
    host.sh("sysctl -qw net.ipv4.ip_forward=0");
    let told = fails(&to_back, "forwarding-off", "lost");
    assert!(
        counters(&told).contains(&"IpInAddrErrors") || told["live"]["words"].to_string().contains("ICMP"),
        "{told:#}"
    );
    host.sh("sysctl -qw net.ipv4.ip_forward=1");
    shop.ip("route del default");
    fails(&to_back, "default-route", "unsent");
    shop.ip("route add default via 10.88.1.77");
    fails(&to_back, "default-route", "lost");
    shop.ip(&format!("route replace default via {}", gateway(&shop.result, 4)));
    arrives(&to_back);
    host.town.lab.ip(&format!("route add {} dev uplink", address(&back.result, 4)));
    fails(&to_back, "overlapping-route", "lost");
    host.town.lab.ip(&format!("route del {} dev uplink", address(&back.result, 4)));
    let device = bridge(&shop.result);
    host.sh(&format!("ip address del {}/24 dev {device}", gateway(&shop.result, 4)));
    fails(&to_back, "gateway-missing", "lost");
    assert_clean(&host);
}

#[test]
fn links_and_ports_of_bridges() {
    let Some(host) = open() else { return };
    let (device, veth) = (bridge(&host.shop.result), host_end(&host.shop.result));
    let ways = [way(&host.shop, &host.store), way(&host.back, &host.shop)];
    for (damage, mend, fault) in [
        (format!("link set {device} down"), format!("link set {device} up"), "link-down"),
        (format!("link set {veth} down"), format!("link set {veth} up"), "link-down"),
        (format!("link set {veth} nomaster"), format!("link set {veth} master {device}"), "detached"),
    ] {
        for words in &ways {
            arrives(words);
            host.town.lab.ip(&damage);
            fails(words, fault, "lost");
            host.town.lab.ip(&mend);
            // The kernel notices a carrier some time later, and lets the port forward then.
            let port = || host.town.lab.host.must(&["bridge", "link", "show", "dev", &veth]);
            assert!(
                lab::eventually(Duration::from_secs(30), || port().contains("state forwarding")),
                "{mend}"
            );
        }
    }
    if host.town.bridged_packets_are_seen("1") {
        let own = format!("{} 192.0.2.1:8080", id(&host.shop));
        host.sh(&format!("bridge link set dev {veth} hairpin on"));
        arrives(&own);
        host.sh(&format!("bridge link set dev {veth} hairpin off"));
        fails(&own, "hairpin-off", "lost");
    }
    assert_clean(&host);
}

#[test]
fn rules_that_drop_are_the_same() {
    let Some(host) = open() else { return };
    let to_back = way(&host.shop, &host.back);
    let to_world = format!("{} {}:80", id(&host.shop), Outside::V4);
    for (table, rules) in [
        ("inet wall", "chain gate { type filter hook forward priority 10; policy drop; };"),
        (
            "ip rules",
            "chain sub { tcp dport { 22, 80-90 } reject; }; chain f { type filter hook forward priority -5; ip daddr 0.0.0.0/0 jump sub; };",
        ),
        ("ip raw", "chain f { type filter hook prerouting priority -300; tcp dport 80 drop; };"),
        ("inet way_back", "chain f { type filter hook forward priority 10; ct direction reply drop; };"),
        ("bridge odd", "chain f { type filter hook prerouting priority 0; ip protocol tcp drop; };"),
    ] {
        arrives(&to_back);
        host.sh(&format!("nft 'table {table} {{ {rules} }}'"));
        drops(&to_back, "foreign-drop");
        if table != "inet way_back" {
            drops(&to_world, "foreign-drop");
        }
        host.sh(&format!("nft delete table {table}"));
    }
    host.sh("iptables-nft -P FORWARD DROP");
    drops(&to_back, "foreign-drop");
    host.sh("iptables-nft -P FORWARD ACCEPT && iptables-nft -A FORWARD -p tcp -m multiport --dports 80,443 -j REJECT");
    drops(&to_back, "foreign-drop");
    host.sh("iptables-nft -F FORWARD");
    if host.town.bridged_packets_are_seen("1") {
        let same = way(&host.shop, &host.store);
        arrives(&same);
        host.sh("nft 'table ip wall { chain gate { type filter hook forward priority 10; policy drop; }; }'");
        drops(&same, "bridged-filtering");
    }
    assert_clean(&host);
}

#[test]
fn walls_of_ours_are_the_same() {
    for backend in ["nftables", "iptables-nft"] {
        let Some(host) = host_on(backend, json!({})) else { return };
        drops(&way(&host.back, &host.shop), "wall");
    }
    let Some(host) = host_on("nftables", json!({"isolation": "none", "icc": false})) else { return };
    fails(&way(&host.shop, &host.store), "wall", "lost");
}

#[test]
fn flushed_rules() {
    let Some(host) = open() else { return };
    let (published, local) = (format!("{} 192.0.2.1:8080", id(&host.back)), "host 127.0.0.1:8081");
    arrives(&published);
    arrives(local);
    let device = bridge(&host.shop.result);
    host.sh(&format!("sysctl -qw net.ipv4.conf.{device}.route_localnet=0"));
    fails(local, "localnet-off", "lost");
    host.sh(&format!("sysctl -qw net.ipv4.conf.{device}.route_localnet=1"));
    host.sh("nft flush ruleset");
    fails(&published, "rules-missing", "unwanted");
    fails(local, "rules-missing", "unwanted");
}

#[test]
fn listeners_at_the_end() {
    let Some(host) = open() else { return };
    fails(&format!("{} {}:81", id(&host.store), id(&host.shop)), "nothing-listens", "unwanted");
    fails(&format!("{} {}:81/udp", id(&host.back), id(&host.shop)), "nothing-listens", "unwanted");
    let _own = talk::tcp_server(&host.shop, "127.0.0.1:82", "shop");
    fails(&format!("{} {}:82", id(&host.store), id(&host.shop)), "listens-on-loopback", "unwanted");
    // Nothing comes back from a server that keeps silent, and it has it all the same.
    let silent = host.shop.in_ns(|| std::net::UdpSocket::bind("0.0.0.0:99").unwrap());
    agree(&format!("{} {}:99/udp", id(&host.store), id(&host.shop)), "delivered");
    drop(silent);
    // Outside nothing is known of who listens.
    agree(&format!("{} {}:81", id(&host.shop), Outside::V4), "unwanted");
    agree(&format!("{} 198.51.100.1:81", id(&host.shop)), "left");
}

#[test]
fn packets_of_full_size() {
    let Some(host) = open() else { return };
    let to_back = way(&host.shop, &host.back);
    host.town.lab.ip(&format!("link set {} mtu 1300", host_end(&host.back.result)));
    let told = fails(&to_back, "mtu-black-hole", "swallowed");
    assert_eq!(told["live"]["size"]["bytes"], 1500, "{told:#}");
    // On one bridge nobody tells.
    host.town.lab.ip(&format!("link set {} mtu 1500", host_end(&host.back.result)));
    host.town.lab.ip(&format!("link set {} mtu 1300", host_end(&host.store.result)));
    fails(&way(&host.shop, &host.store), "mtu-black-hole", "swallowed");
    host.town.lab.ip(&format!("link set {} mtu 1500", host_end(&host.store.result)));
    // A routed link tells, unless somebody keeps it from telling.
    let to_world = format!("{} {}:80", id(&host.shop), Outside::V4);
    host.town.lab.ip("link set uplink mtu 1300");
    host.town.outside.ip("link set eth0 mtu 1300");
    let told = arrives(&to_world);
    assert_eq!(told["live"]["size"]["told"], 1300, "{told:#}");
    host.sh("nft 'table ip quiet { chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }; }'");
    fails(&to_world, "mtu-black-hole", "swallowed");
}

#[test]
fn a_flow_that_leads_elsewhere_and_an_address_twice() {
    let Some(host) = open() else { return };
    let words = format!("{} 192.0.2.1:5353/udp", id(&host.back));
    arrives(&words);
    let rules = inspect::ruleset(host.kernel());
    host.sh("nft flush ruleset");
    host.kernel().feed(
        &["nft", "-f", "-"],
        "table inet watch { chain c { type filter hook input priority 0; ct state new\n}\n}\n",
    );
    let client = UdpClient::new(&host.back, "0.0.0.0:4000");
    assert!(client.ask("192.0.2.1:5353", BRIEF).is_err());
    host.kernel().feed(&["nft", "-f", "-"], &rules);
    let told = probed(&words);
    assert_eq!(
        (&told["findings"][0]["fault"], &told["verdict"]),
        (&json!("stale-flow"), &json!("may-die")),
        "{told:#}"
    );
    assert_eq!(told["agreement"]["agrees"], true, "{told:#}");
    host.sh(told["findings"][0]["mend"].as_str().unwrap());
    arrives(&words);
    assert!(client.ask("192.0.2.1:5353", PATIENCE).is_ok());

    let held = address(&host.shop.result, 4);
    let to_shop = format!("host {}:80", id(&host.shop));
    arrives(&to_shop);
    host.store.ip(&format!("address add {held}/24 dev eth0"));
    let mac = inspect::link(&host.store, "eth0").unwrap()["address"].as_str().unwrap().to_owned();
    host.sh(&format!(
        "ip neighbour replace {held} lladdr {mac} dev {} nud permanent",
        bridge(&host.shop.result)
    ));
    fails(&to_shop, "duplicate-address", "misled");
}

#[test]
fn reverse_path_filtering() {
    let Some(host) = open() else { return };
    for key in ["all", "default", "uplink"] {
        host.kernel().set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0");
    }
    let device = bridge(&host.shop.result);
    host.kernel().set_sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "1");
    // A container speaks by an address whose way back leads out.
    host.shop.ip("address add 203.0.113.9/32 dev lo");
    host.shop.ip(&format!(
        "route replace {} via {} src 203.0.113.9",
        Outside::V4,
        gateway(&host.shop.result, 4)
    ));
    let words = format!("{} {}:80", id(&host.shop), Outside::V4);
    // By its own address, so that the gateway's is known: a host that filters answers no ARP of strangers.
    assert!(icmp::ping(&host.shop, &gateway(&host.shop.result, 4)));
    let told = fails(&words, "reverse-path", "lost");
    assert!(counters(&told).contains(&"TcpExtIPReversePathFilter"), "{told:#}");
    host.kernel().set_sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0");
    host.shop.ip(&format!("route del {}", Outside::V4));
    arrives(&words);
}

#[test]
fn a_full_table_of_connections() {
    let Some(host) = open() else { return };
    let most: u32 = host.kernel().sysctl("net.netfilter.nf_conntrack_max").parse().unwrap();
    if most > 300_000 {
        skip!("the kernel tracks {most} connections at most, and filling that would take its memory");
    }
    let words = way(&host.shop, &host.back);
    arrives(&words);
    lab::flows::fill_table(most, 0);
    let told = fails(&words, "conntrack-full", "lost");
    assert!(counters(&told).contains(&"Conntrack_drop"), "{told:#}");
}

#[test]
fn a_port_that_is_a_process_s() {
    let Some(host) = open() else { return };
    let words = format!("{} 192.0.2.1:9000", id(&host.back));
    let held = lab::hold::Holder::tcp(host.kernel(), "0.0.0.0:9000", "occupant", &[]);
    arrives(&words);
    drop(held);
    fails(&words, "not-published", "unwanted");
    // What is said to be nowhere is not sent.
    let told = probed(&format!("outside {}:443", id(&host.shop)));
    assert!(told["live"].is_null() && told["agreement"]["agrees"].is_null(), "{told:#}");
}
