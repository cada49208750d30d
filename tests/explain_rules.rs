//! `explain` where rules are wrong, missing or meant so: each fault is made for real, a real packet does not arrive, the
//! fault is named, and the command that is said to mend it, pasted, does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::Outside;
use lab::bpf::{Place, drop_all};
use lab::explain::{Host, explained, host, host_on, id, open, paste, trip};
use lab::outcome::{gateway, host_end};
use lab::town::town;
use serde_json::json;

#[test]
fn somebody_elses_chain_drops() {
    let Some(host) = host(open()) else { return };
    let out =
        || trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out().breaks_and_mends(
        &host,
        "nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'",
        "foreign-drop",
    );
    out().breaks_and_mends(
        &host,
        "nft 'table ip rules { chain sub { tcp dport { 22, 80-90 } reject; }; chain f { type filter hook forward priority -5; ip daddr 192.0.2.0/24 jump sub; }; }'",
        "foreign-drop",
    );
    out().breaks_and_mends(&host, "iptables-nft -P FORWARD DROP", "foreign-drop");
    out().breaks_and_mends(
        &host,
        "iptables-nft -F FORWARD && iptables-nft -P FORWARD ACCEPT && iptables-nft -A FORWARD -p tcp -m multiport --dports 80,443 -m addrtype ! --dst-type LOCAL -j DROP",
        "foreign-drop",
    );
    let told = explained(&out().words);
    assert!(told["hops"].as_array().unwrap().iter().any(|hop| hop["rules"].to_string().contains("FORWARD")));
    // What is not forwarded is dropped elsewhere.
    let own = lab::talk::tcp_server(host.kernel(), "[::]:9000", "host");
    let into = trip(&host.town.outside, "outside host:9000", "192.0.2.1:9000");
    into.breaks_and_mends(
        &host,
        "nft 'table inet door { set shut { type inet_service; flags interval; elements = { 9000-9010 }; }; chain in { type filter hook input priority 0; tcp dport @shut counter drop; }; }'",
        "foreign-drop",
    );
    drop(own);
}

/// What sees packets where no chain does is not followed, and said to be there.
#[test]
fn programs_on_a_link_are_told_of() {
    let Some(host) = host(open()) else { return };
    let veth = host_end(&host.shop.result);
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    let unknown = || {
        let told = explained(&out.words);
        assert_eq!(told["verdict"], "arrives", "{told}");
        told["unknown"].to_string()
    };
    let is_told = |words: &str, way: &str| {
        let unknown = unknown();
        assert!(unknown.contains(words) && unknown.contains(way), "{words}, {way}: {unknown}");
        assert!(!lab::talk::tcp_answers(&host.shop, &out.at), "{words} drops it");
    };
    let is_quiet = || {
        out.works();
        let unknown = unknown();
        assert!(!unknown.contains("tc") && !unknown.contains("XDP"), "{unknown}");
    };
    is_quiet();
    for (place, words, way, link) in [
        (Place::Xdp, "XDP", "of", &*veth),
        (Place::In, "tcx", "comes in by", &veth),
        (Place::Out, "tcx", "leaves by", "uplink"),
    ] {
        let dropping = match drop_all(host.kernel(), link, place) {
            Ok(dropping) => dropping,
            Err(error) => {
                lab::skipped(&format!("{place:?}: {error}"));
                continue;
            }
        };
        is_told(words, &format!("{way} {link}"));
        drop(dropping);
        is_quiet();
    }
    let inside = drop_all(&host.shop, "eth0", Place::Out);
    if inside.is_ok() {
        is_told("tcx", &format!("in container {}", id(&host.shop)));
    }
    drop(inside);
    // What shapes containers of ours is nothing to be told of; another filter is, whichever way it looks.
    host.kernel().must(&["tc", "qdisc", "add", "dev", &veth, "clsact"]);
    is_quiet();
    host.kernel().ip("link add name trap type veth peer name trapped");
    for (side, way) in [("ingress", "comes in by"), ("egress", "leaves by")] {
        let away = "protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev trap";
        host.sh(&format!("tc filter add dev {veth} {side} {away}"));
        is_told("filters of tc (u32)", &format!("{way} {veth}"));
        host.sh(&format!("tc filter del dev {veth} {side}"));
    }
    is_quiet();
}

#[test]
fn the_answer_is_dropped_on_its_way_back() {
    let Some(host) = host(open()) else { return };
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.works();
    host.kernel().must(&[
        "nft",
        "table inet wall { chain gate { type filter hook forward priority 10; ct direction reply iifname uplink drop; }; }",
    ]);
    out.ends("foreign-drop");
    let told = explained(&out.words);
    assert_eq!(told["hops"].as_array().unwrap().last().unwrap()["leg"], "back");
}

#[test]
fn the_ruleset_is_flushed() {
    for backend in ["nftables", "iptables-nft"] {
        let Some(host) = host_on(backend, open()) else { return };
        let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
        into.breaks_and_mends(&host, "nft flush ruleset", "rules-missing");
        // Outside does not know the way to the container's own address, as is usual.
        host.town.outside.ip("route del default");
        let out =
            trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
        out.breaks_and_mends(&host, "nft flush ruleset", "rules-missing");
    }
}

#[test]
fn hairpin_is_off() {
    let Some(host) = host(open()) else { return };
    if !host.town.bridged_packets_are_seen("1") {
        lab::skip!("this kernel has no br_netfilter, without which bridges need no hairpin");
    }
    for (at, six) in [("192.0.2.1:8080", ""), ("[2001:db8::1]:8080", " -6")] {
        let own = trip(&host.shop, format!("{} {at}{six}", id(&host.shop)), at);
        let damage = format!("bridge link set dev {} hairpin off", host_end(&host.shop.result));
        own.breaks_and_mends(&host, &damage, "hairpin-off");
        host.kernel().must(&["sh", "-c", &damage]);
        trip(&host.store, format!("{} {at}{six}", id(&host.store)), at).works();
        host.town.bridged_packets_are_seen("0");
        own.works();
        host.town.bridged_packets_are_seen("1");
        host.kernel().must(&["bridge", "link", "set", "dev", &host_end(&host.shop.result), "hairpin", "on"]);
    }
}

#[test]
fn nothing_masquerades_what_turns_back() {
    let Some(host) = host(json!({"isolation": "none", "snat": false})) else { return };
    trip(&host.shop, format!("{} 192.0.2.1:8080", id(&host.shop)), "192.0.2.1:8080").ends("hairpin-off");
    trip(&host.store, format!("{} 192.0.2.1:8080", id(&host.store)), "192.0.2.1:8080").ends("hairpin-off");
    trip(&host.back, format!("{} 192.0.2.1:8080", id(&host.back)), "192.0.2.1:8080").works();
    trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080").works();
}

#[test]
fn walls_are_told_as_walls() {
    for backend in lab::backends::BACKENDS {
        let Some(host) = host_on(backend, json!({})) else { return };
        let words = format!("{} {}:80", id(&host.back), id(&host.shop));
        let way = trip(&host.back, words, format!("{}:80", host.shop.at()[0]));
        paste(host.kernel(), &way.ends("wall"));
        way.works();
    }
    let Some(walled) = host(json!({"isolation": "strict"})) else { return };
    strict_walls(&walled);
    drop(walled);
    seals();
}

fn strict_walls(host: &Host) {
    trip(
        &host.back,
        format!("{} {}:80 -6", id(&host.back), id(&host.shop)),
        format!("{}:80", host.shop.at()[1]),
    )
    .ends("wall");
    trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4)).works();
}

fn seals() {
    let Some(town) = town("nftables") else { return };
    let inner = town.network(1, json!({"internal": true}));
    let (one, two) = (town.attach(&inner, "one", &[]), town.attach(&inner, "two", &[]));
    let out = trip(&one, format!("{} {}:80", id(&one), Outside::V4), format!("{}:80", Outside::V4));
    out.ends("wall");
    // A container with CAP_NET_ADMIN gives itself the route, and a network beside it has the host forward.
    one.ip(&format!("route add default via {}", gateway(&one.result, 4)));
    let _back = town.attach(&town.network(2, open()), "back", &[]);
    out.ends("wall");
    trip(&one, format!("{} {}:80", id(&one), id(&two)), format!("{}:80", two.at()[0])).works();
}

#[test]
fn containers_that_are_kept_apart() {
    let Some(host) = host(json!({"isolation": "none", "icc": false})) else { return };
    for at in [0, 1] {
        let six = ["", " -6"][at];
        let way = trip(
            &host.shop,
            format!("{} {}:80{six}", id(&host.shop), id(&host.store)),
            format!("{}:80", host.store.at()[at]),
        );
        way.ends("wall");
    }
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.store)),
        format!("{}:80", host.store.at()[0]),
    );
    paste(host.kernel(), &way.ends("wall"));
    way.works();
}

#[test]
fn bridged_packets_are_filtered() {
    let Some(host) = host(open()) else { return };
    if !host.town.bridged_packets_are_seen("1") {
        lab::skip!("this kernel has no br_netfilter");
    }
    let way = trip(
        &host.shop,
        format!("{} {}:80", id(&host.shop), id(&host.store)),
        format!("{}:80", host.store.at()[0]),
    );
    way.works();
    let gate = "nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'";
    way.breaks_and_mends(&host, gate, "bridged-filtering");
    host.kernel().must(&["nft", "delete", "table", "inet", "wall"]);
    host.town.bridged_packets_are_seen("1");
    way.breaks_and_mends(&host, "iptables-nft -P FORWARD DROP", "bridged-filtering");
}

#[test]
fn what_is_not_published() {
    let Some(host) = host(open()) else { return };
    trip(&host.town.outside, format!("outside {}:443", id(&host.shop)), "192.0.2.1:443")
        .ends("not-published");
    trip(&host.town.outside, format!("outside {}:80", id(&host.store)), "192.0.2.1:80").ends("not-published");
    trip(&host.town.outside, "outside host:8081", "192.0.2.1:8081").ends("not-published");
    trip(&host.store, format!("{} host:7777", id(&host.store)), "10.88.1.1:7777").ends("not-published");
}

#[test]
fn legacy_iptables_drops() {
    let Some(host) = host(open()) else { return };
    if !host.kernel().exec(&["iptables-legacy", "-L"]).ok {
        lab::skip!("iptables-legacy is not here");
    }
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.breaks_and_mends(&host, "iptables-legacy -P FORWARD DROP", "foreign-drop");
    let sub = "iptables-legacy -F && iptables-legacy -P FORWARD ACCEPT && iptables-legacy -N sub \
               && iptables-legacy -A sub ! -s 10.9.0.0/16 -p tcp --dport 80:90 -j REJECT \
               && iptables-legacy -A FORWARD -i lks-+ -m conntrack --ctstate NEW -j sub";
    out.breaks_and_mends(&host, sub, "foreign-drop");
    let into = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
    into.works();
    host.kernel().must(&[
        "iptables-legacy",
        "-t",
        "raw",
        "-A",
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        "8080",
        "-j",
        "DROP",
    ]);
    into.ends("foreign-drop");
    let told = explained(&into.words);
    let last =
        told["hops"].as_array().unwrap().last().unwrap()["rules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last["family"].as_str(), last["table"].as_str(), last["handle"].as_u64()),
        (Some("iptables-legacy"), Some("raw"), Some(1))
    );
}

/// The bytes are those that iptables sends, over nf_tables and not.
#[test]
fn the_port_that_was_asked_is_read() {
    for tool in ["iptables-nft", "iptables-legacy"] {
        let Some(host) = host(open()) else { return };
        if !host.kernel().exec(&[tool, "-L"]).ok {
            lab::skipped(&format!("{tool} is not here"));
            continue;
        }
        let way = trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080");
        let drops = |ports: &str| {
            let rule = format!("-i uplink -p tcp -m conntrack {ports} -j DROP");
            host.sh(&format!("{tool} -F FORWARD && {tool} -A FORWARD {rule}"));
        };
        for ports in ["--ctorigdstport 8080", "--ctorigdstport 8000:8100", "! --ctorigdstport 8081:9000"] {
            drops(ports);
            way.ends("foreign-drop");
        }
        for ports in ["--ctorigdstport 80", "--ctorigdstport 8081:9000", "! --ctorigdstport 8000:8080"] {
            drops(ports);
            way.works();
        }
    }
}

/// Of an answer the port that it goes to is not known.
#[test]
fn what_may_be_untracked_is_not_lost() {
    let Some(host) = host(open()) else { return };
    let out =
        trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4));
    out.works();
    host.sh("nft 'table inet raw { chain c { type filter hook prerouting priority -300; iifname uplink tcp dport 5353 notrack; }; }'");
    out.works();
    host.sh("iptables-nft -t raw -A PREROUTING -i uplink -p tcp --dport 5353 -j NOTRACK");
    out.works();
    host.sh("iptables-nft -t raw -A PREROUTING -i uplink -p tcp --sport 80 -j NOTRACK");
    out.ends("foreign-drop");
}
