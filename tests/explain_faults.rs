//! `explain` where routes, links or addresses are wrong: each fault is made for real, a real packet does not arrive, the
//! fault is named, and the command that is said to mend it, pasted, does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::explain::{explained, host, id, open, paste, trip};
use lab::outcome::{address, bridge, gateway, host_end};
use lab::talk::PATIENCE;
use lab::town::House;
use lab::{Outside, Space, eventually};
use serde_json::json;

#[test]
fn forwarding_is_off() {
    let Some(host) = host(open()) else { return };
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    way.breaks_and_mends(&host, "sysctl -qw net.ipv4.ip_forward=0", "forwarding-off");
    let way = trip(
        &host.shop,
        format!("{} {}:80 -6", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[1]),
    );
    way.breaks_and_mends(&host, "sysctl -qw net.ipv6.conf.all.forwarding=0", "forwarding-off");
}

#[test]
fn the_containers_default_route() {
    let Some(host) = host(open()) else { return };
    let (shop, gone) = (&host.shop, gateway(&host.shop.result, 4));
    for (words, at) in [
        (format!("{} {}:80", id(shop), id(&host.back)), format!("{}:80", host.back.at()[0])),
        (format!("{} {}:80", id(shop), Outside::V4), format!("{}:80", Outside::V4)),
    ] {
        let way = trip(shop, words, at);
        way.works();
        shop.ip("route del default");
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
        shop.ip(&format!("route replace default via {}", address(&host.store.result, 4)));
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
        shop.ip("route replace default via 10.88.1.77");
        paste(host.kernel(), &way.ends("default-route"));
        way.works();
    }
    // Who is asked must know the way back.
    let way = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    way.works();
    shop.ip("route del default");
    let mend = way.ends("default-route");
    paste(host.kernel(), &mend);
    way.works();
    let six =
        trip(shop, format!("{} {}:80 -6", id(shop), id(&host.back)), format!("{}:80", host.back.at()[1]));
    six.works();
    shop.ip("-6 route del default");
    paste(host.kernel(), &six.ends("default-route"));
    six.works();
    assert!(!gone.is_empty());
}

#[test]
fn the_gateways_address_is_gone() {
    let Some(host) = host(open()) else { return };
    let (gateway, bridge) = (gateway(&host.shop.result, 4), bridge(&host.shop.result));
    let damage = format!("ip address del {gateway}/24 dev {bridge}");
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    way.breaks_and_mends(&host, &damage, "gateway-missing");
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.breaks_and_mends(&host, &damage, "gateway-missing");
}

#[test]
fn links_are_down() {
    let Some(host) = host(open()) else { return };
    let (bridge, veth) = (bridge(&host.shop.result), host_end(&host.shop.result));
    let ways = [
        trip(
            &host.shop,
            format!("{} {}:80", id(&host.shop), id(&host.back)),
            format!("{}:80", host.back.at()[0]),
        ),
        trip(
            &host.shop,
            format!("{} {}:80", id(&host.shop), id(&host.store)),
            format!("{}:80", host.store.at()[0]),
        ),
        trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080"),
    ];
    for way in &ways {
        for link in [&bridge, &veth] {
            way.breaks_and_mends(&host, &format!("ip link set {link} down"), "link-down");
        }
        way.breaks_and_mends(&host, &format!("ip link set {veth} nomaster"), "detached");
    }
}

/// Whoever asks: the port of a container whose own end is down does not forward, and cannot be told to.
#[test]
fn the_containers_interface_is_down() {
    let Some(host) = host(open()) else { return };
    let (shop, store) = (&host.shop, &host.store);
    let near = |from: &House, to: &House| format!("{} {}:80", id(from), id(to));
    let veth = host_end(&shop.result);
    let down = || {
        shop.ip("link set eth0 down");
        // The bridge learns of the lost carrier a moment later.
        let forwards = || host.kernel().exec(&["bridge", "link", "show", "dev", &veth]).stdout;
        assert!(eventually(PATIENCE, || !forwards().contains("state forwarding")));
    };
    let ways = [
        trip(store, near(store, shop), format!("{}:80", shop.at()[0])),
        trip(shop, near(shop, store), format!("{}:80", store.at()[0])),
        trip(host.kernel(), format!("host {}:80", id(shop)), format!("{}:80", shop.at()[0])),
    ];
    for way in &ways {
        way.works();
        down();
        let mend = way.ends("link-down");
        assert!(mend.starts_with("nsenter ") && mend.ends_with(" ip link set eth0 up"), "{mend}");
        paste(host.kernel(), &mend);
        eventually(PATIENCE, || explained(&way.words)["verdict"] == "arrives");
        way.works();
    }
    shop.ip(&format!("route replace default via {}", gateway(&shop.result, 4)));
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.works();
    down();
    paste(host.kernel(), &into.ends("link-down"));
    // The default route went with it.
    eventually(PATIENCE, || explained(&into.words)["findings"][0]["fault"] == "default-route");
    paste(host.kernel(), &into.ends("default-route"));
    into.works();
}

#[test]
fn the_pair_is_gone() {
    let Some(host) = host(open()) else { return };
    let (shop, back) = (&host.shop, &host.back);
    let ways = [
        trip(shop, format!("{} {}:80", id(shop), id(back)), format!("{}:80", back.at()[0])),
        trip(back, format!("{} {}:80", id(back), id(shop)), format!("{}:80", shop.at()[0])),
        trip(&host.town.outside, format!("outside {}:80", id(shop)), "192.0.2.1:8080"),
    ];
    for way in &ways {
        way.breaks_and_mends(&host, &format!("ip link del {}", host_end(&shop.result)), "detached");
    }
}

/// The host has other routes, or none: neither leads to the containers of a bridge that is gone.
#[test]
fn the_bridge_is_gone() {
    let Some(host) = host(open()) else { return };
    let damage = format!("ip link del {}", bridge(&host.shop.result));
    let shop = format!("{}:80", host.shop.at()[0]);
    let back = format!("{}:80", host.back.at()[0]);
    let ways = [
        trip(&host.town.outside, format!("outside {}:80", id(&host.shop)), "192.0.2.1:8080"),
        trip(host.kernel(), format!("host {}:80", id(&host.shop)), &shop),
        trip(host.kernel(), "host 127.0.0.1:8080", "127.0.0.1:8080"),
        trip(&host.back, format!("{} {}:80", id(&host.back), id(&host.shop)), &shop),
        trip(&host.shop, format!("{} {}:80", id(&host.shop), id(&host.back)), &back),
    ];
    for way in &ways {
        way.works();
    }
    for break_more in ["true", "ip route del default"] {
        host.sh(&format!("{damage} && {break_more}"));
        let mends: Vec<String> = ways.iter().map(|way| way.ends("detached")).collect();
        assert!(mends.iter().all(|mend| mend == "linkspan reconcile"), "{mends:?}");
        paste(host.kernel(), &mends[0]);
        // Who is outside is told of by the interface that leads there.
        host.sh(&format!("ip route replace default via {}", Outside::V4));
        for way in &ways {
            eventually(PATIENCE, || explained(&way.words)["verdict"] == "arrives");
            way.works();
        }
    }
}

/// A container's network has lost its route, and the bridge still has its address.
#[test]
fn the_route_to_a_network_is_gone() {
    let Some(host) = host(open()) else { return };
    let way = trip(host.kernel(), format!("host {}:80", id(&host.shop)), format!("{}:80", host.shop.at()[0]));
    let damage = format!("ip route del 10.88.1.0/24 dev {}", bridge(&host.shop.result));
    way.breaks_and_mends(&host, &damage, "no-route");
    way.breaks_and_mends(&host, &format!("{damage} && ip route del default"), "no-route");
}

#[test]
fn the_uplink_is_down() {
    let Some(host) = host(open()) else { return };
    let near =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    near.breaks_and_mends(&host, "ip link set uplink down", "link-down");
    let far = trip(&host.shop, format!("{} 198.51.100.7:80", id(&host.shop)), "198.51.100.7:80");
    host.town.outside.ip("address add 198.51.100.7/32 dev lo");
    host.sh(&format!("ip route replace default via {}", Outside::V4));
    far.works();
    host.town.lab.ip("link set uplink down");
    let mend = far.ends("no-route");
    paste(host.kernel(), &mend.replace("GATEWAY", Outside::V4));
    far.works();
}

#[test]
fn there_is_no_route() {
    let Some(host) = host(open()) else { return };
    let out = trip(&host.shop, format!("{} 198.51.100.7:80", id(&host.shop)), "198.51.100.7:80");
    host.town.outside.ip("address add 198.51.100.7/32 dev lo");
    out.works();
    host.town.lab.ip("route del default");
    let mend = out.ends("no-route");
    assert!(mend.contains("route add default via"), "{mend}");
    paste(host.kernel(), &mend.replace("GATEWAY", Outside::V4).replace("UPLINK", "uplink"));
    out.works();
    host.town.lab.ip("route add blackhole 198.51.100.0/24");
    out.ends("no-route");
    host.town.lab.ip("route del blackhole 198.51.100.0/24");
    host.town.lab.ip("route add prohibit 198.51.100.0/24");
    out.ends("no-route");
    trip(&host.shop, format!("{} 10.88.1.99:80", id(&host.shop)), "10.88.1.99:80").ends("no-route");
}

#[test]
fn route_localnet_is_off() {
    let Some(host) = host(open()) else { return };
    let way = trip(host.kernel(), "host 127.0.0.1:8081", "127.0.0.1:8081");
    let damage = format!("sysctl -qw net.ipv4.conf.{}.route_localnet=0", bridge(&host.shop.result));
    way.breaks_and_mends(&host, &damage, "localnet-off");
}

#[test]
fn the_way_back_leads_elsewhere() {
    let Some(host) = host(open()) else { return };
    // A second way into the host, which nothing goes out by.
    host.town.lab.ip("link add side type veth peer name side0");
    let other = Space::create("other");
    host.kernel().must(&["sh", "-c", "touch /run/netns/other"]);
    other.in_ns(|| {
        let nothing = None::<&str>;
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/proc/thread-self/ns/net"), "/run/netns/other", nothing, flags, nothing)
            .unwrap();
    });
    host.town.lab.ip("link set side0 netns other");
    host.town.lab.ip("address add 203.0.113.1/24 dev side");
    host.town.lab.ip("link set side up");
    other.ip("address add 203.0.113.2/24 dev side0");
    other.ip("address add 198.51.100.9/32 dev lo");
    other.ip("link set side0 up");
    other.ip("route add default via 203.0.113.1 src 198.51.100.9");
    for key in ["all", "default", "side", "uplink"] {
        host.kernel()
            .set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), if key == "side" { "1" } else { "0" });
    }
    // The way back to it is the other one, which strict filtering takes for a forgery.
    let way = trip(&other, "198.51.100.9 192.0.2.1:8080 --in side", "192.0.2.1:8080");
    let mend = way.ends("reverse-path");
    assert!(mend.contains("rp_filter=2"), "{mend}");
    paste(host.kernel(), &mend);
    let told = explained(&way.words);
    assert_eq!(told["verdict"], "arrives", "{told:#}");
    // And from a container, where another network has its address.
    let bridge = bridge(&host.shop.result);
    host.kernel().set_sysctl(&format!("net.ipv4.conf.{bridge}.rp_filter"), "1");
    let held = address(&host.shop.result, 4);
    let out = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    out.works();
    host.town.lab.ip(&format!("route add {held}/32 dev uplink"));
    out.ends("reverse-path");
}

#[test]
fn a_route_of_the_host_covers_a_container() {
    let Some(host) = host(open()) else { return };
    for key in ["all".to_owned(), "default".to_owned(), bridge(&host.shop.result)] {
        host.kernel().set_sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0");
    }
    let damage = "ip route add 10.88.1.0/25 dev uplink";
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.breaks_and_mends(&host, damage, "overlapping-route");
    let from_host =
        trip(host.kernel(), format!("host {}:80", id(&host.shop)), format!("{}:80", host.shop.at()[0]));
    from_host.breaks_and_mends(&host, damage, "overlapping-route");
    // There it is right, and back it is not.
    let out = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.back)),
        format!("{}:80", host.back.at()[0]),
    );
    out.breaks_and_mends(&host, damage, "overlapping-route");
}

/// A published port at an address that the host lacks, and a network that leaves with one.
#[test]
fn the_host_lacks_an_address() {
    let Some(host) = host(open()) else { return };
    let outside = &host.town.outside;
    let solo = host.town.attach(&host.town.network(1, open()), "solo", &["192.0.2.50:8095:80"]);
    let away =
        json!({"isolation": "none", "outboundAddress4": "192.0.2.77", "outboundAddress6": "2001:db8::77"});
    let away = host.town.attach(&host.town.network(3, away), "away", &[]);
    for (from, words, at) in [
        (&**outside, format!("{} 192.0.2.50:8095", Outside::V4), "192.0.2.50:8095".to_owned()),
        (&**outside, format!("outside {}:80", id(&solo)), "192.0.2.50:8095".to_owned()),
        (host.kernel(), "host 192.0.2.50:8095".to_owned(), "192.0.2.50:8095".to_owned()),
        (&*away, format!("{} {}:80", id(&away), Outside::V4), format!("{}:80", Outside::V4)),
        (&*away, format!("{} [{}]:80", id(&away), Outside::V6), format!("[{}]:80", Outside::V6)),
    ] {
        let way = trip(from, words, at);
        let mend = way.ends("no-route");
        paste(host.kernel(), &mend);
        eventually(PATIENCE, || lab::talk::tcp_answers(from, &way.at));
        way.works();
        host.sh(&mend.replace("address add", "address del"));
    }
    // Whether a router sends it here is for the router to know.
    let far = json!({"isolation": "none", "outboundAddress4": "203.0.113.77"});
    let far = host.town.attach(&host.town.network(4, far), "far", &[]);
    let told = explained(&format!("{} {}:80", id(&far), Outside::V4));
    assert!(told["verdict"] == "arrives" && told["unknown"].to_string().contains("203.0.113.77"), "{told}");
}

#[test]
fn the_device_that_limits_is_down() {
    let keys = json!({"isolation": "none", "egressRate": 8_000_000, "egressBurst": 800_000});
    let Some(host) = host(keys) else { return };
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    let devices = "ip -o link show type ifb | cut -d: -f2 | while read device; do ip link";
    for way in [&out, &into] {
        way.breaks_and_mends(&host, &format!("{devices} set $device down; done"), "link-down");
        way.breaks_and_mends(&host, &format!("{devices} del $device; done"), "link-down");
    }
}

/// The host has lost nothing that it could put back.
#[test]
fn the_containers_interface_has_another_name() {
    let Some(host) = host(open()) else { return };
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.works();
    for change in ["link set eth0 down", "link set eth0 name other0", "link set other0 up"] {
        host.shop.ip(change);
    }
    let veth = host_end(&host.shop.result);
    let port = || host.kernel().exec(&["bridge", "link", "show", "dev", &veth]).stdout;
    eventually(PATIENCE, || port().contains("state forwarding"));
    let mend = into.ends("detached");
    assert!(mend.starts_with("restart the container"), "{mend}");
    assert!(explained(&into.words)["findings"][0]["what"].as_str().unwrap().contains("other0"));
}
