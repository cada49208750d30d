//! `explain` where packets pass bridges: whose wall it is, the hardware addresses that are really there, the bridge's own
//! chains, and what `br_netfilter` makes of published ports. A real packet does not arrive, the fault is named, and the
//! command that is said to mend it, pasted, does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::Outside;
use lab::backends::BACKENDS;
use lab::explain::{Host, Trip, explained, host, id, open, paste, trip};
use lab::outcome::host_end;
use lab::town::{House, Town, town};
use serde_json::{Value, json};

/// Out of shop to the world.
fn out(host: &Host) -> Trip<'_> {
    trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4))
}

/// By the host's address to what shop publishes.
fn published<'a>(by: &'a House) -> Trip<'a> {
    trip(by, format!("{} 192.0.2.1:8080", id(by)), "192.0.2.1:8080")
}

#[test]
fn a_wall_is_its_networks() {
    for backend in BACKENDS {
        for (keys, there, back) in [
            (json!({}), "net2", "net1"),
            (json!({"isolation": "strict"}), "net1", "net1"),
            (json!({"internal": true}), "net1", "net1"),
        ] {
            let Some(town) = town(backend) else { return };
            names_the_wall(&town, keys, there, back);
        }
    }
}

/// Network `net1` has these keys, and `net2` the wall that all have.
fn names_the_wall(town: &Town, keys: Value, there: &str, back: &str) {
    let (one, two) = (town.network(1, keys), town.network(2, json!({})));
    let (one, two) = (town.attach(&one, "one", &[]), town.attach(&two, "two", &[]));
    // An internal network has no way out, unless somebody inside makes one.
    one.ip(&format!("route replace default via {}", lab::outcome::gateway(&one.result, 4)));
    for (from, to, network) in [(&one, &two, there), (&two, &one, back)] {
        let way = trip(from, format!("{} {}:80", id(from), id(to)), format!("{}:80", to.at()[0]));
        way.ends("wall");
        let told = explained(&way.words);
        let what = told["findings"][0]["what"].as_str().unwrap();
        assert!(what.contains(&format!("wall of network {network},")), "{}: {what}", way.words);
    }
}

#[test]
fn a_container_has_another_hardware_address() {
    let Some(host) = host(json!({"isolation": "none", "macspoofchk": true})) else { return };
    let near = trip(
        &host.store,
        format!("{} {}:80", id(&host.store), id(&host.shop)),
        format!("{}:80", host.shop.at()[0]),
    );
    for way in [&out(&host), &near] {
        way.works();
    }
    host.shop.ip("link set eth0 address 02:aa:aa:aa:aa:aa");
    for way in [&out(&host), &near] {
        way.ends("wall");
    }
    drop(host);
    let Some(host) = lab::explain::host(open()) else { return };
    let near =
        trip(host.kernel(), format!("host {}:80", id(&host.shop)), format!("{}:80", host.shop.at()[0]));
    host.sh("nft 'table bridge wall { chain c { type filter hook postrouting priority 0; ether daddr 02:aa:aa:aa:aa:aa drop; }; }'");
    near.works();
    host.shop.ip("link set eth0 address 02:aa:aa:aa:aa:aa");
    near.ends("foreign-drop");
}

#[test]
fn a_bridges_own_chain_at_input_drops() {
    let Some(host) = host(open()) else { return };
    let close = "nft 'table bridge wall { chain gate { type filter hook input priority 0; ip protocol tcp drop; }; }'";
    for seen in ["0", "1"] {
        host.town.bridged_packets_are_seen(seen);
        out(&host).breaks_and_mends(&host, close, "foreign-drop");
        host.sh("nft delete table bridge wall");
        // Whoever is outside comes in by no bridge, and the answer does.
        let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
        into.breaks_and_mends(&host, close, "foreign-drop");
        host.sh("nft delete table bridge wall");
    }
}

/// With `br_netfilter` what is translated on the bridge goes from port to port.
#[test]
fn a_published_port_of_containers_that_are_kept_apart() {
    let Some(host) = host(json!({"isolation": "none", "icc": false})) else { return };
    for by in [&host.store, &host.shop] {
        published(by).works();
        if !host.town.bridged_packets_are_seen("1") {
            lab::skip!("this kernel has no br_netfilter");
        }
        let mend = published(by).ends("wall");
        assert_eq!(mend, "sysctl -w net.bridge.bridge-nf-call-iptables=0");
        paste(host.kernel(), &mend);
        published(by).works();
    }
}

#[test]
fn a_published_port_that_is_turned_on_the_bridge() {
    let Some(host) = host(open()) else { return };
    let veth = host_end(&host.shop.result);
    let chain = |hook: &str| {
        format!(
            "nft 'table bridge wall {{ chain gate {{ type filter hook {hook} priority 0; oifname {veth} tcp dport 80 drop; }}; }}'"
        )
    };
    let opened = || host.sh("nft delete table bridge wall");
    for (seen, walked, passed) in [("0", "output", "forward"), ("1", "forward", "output")] {
        if !host.town.bridged_packets_are_seen(seen) {
            lab::skip!("this kernel has no br_netfilter");
        }
        published(&host.store).breaks_and_mends(&host, &chain(walked), "foreign-drop");
        opened();
        host.sh(&chain(passed));
        published(&host.store).works();
        opened();
    }
}
