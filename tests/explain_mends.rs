//! What `explain` says would mend a drop opens the way that was asked about, and nothing beside it; and it is said where
//! linkspan itself, or the administrator, is who mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::agent::{self, Stray};
use lab::backends::BACKENDS;
use lab::cli::linkspan;
use lab::explain::{Host, Trip, arrives, dies, explained, host, host_on, id, open, paste, trip};
use lab::talk::{PATIENCE, tcp_server};
use lab::{Outside, eventually};
use serde_json::json;

/// Out of shop to the world.
fn out(host: &Host) -> Trip<'_> {
    trip(&host.shop, format!("{} {}:80", id(&host.shop), Outside::V4), format!("{}:80", Outside::V4))
}

/// From the world to what shop publishes.
fn into(host: &Host) -> Trip<'_> {
    trip(&host.town.outside, "outside host:8080", "192.0.2.1:8080")
}

#[test]
fn an_administrators_rule_is_told_as_such() {
    let Some(host) = host(open()) else { return };
    let nft = "nft add rule inet linkspan CNI-ADMIN iifname uplink drop";
    let sub = "nft 'add chain inet linkspan mine; add rule inet linkspan mine drop; \
               insert rule inet linkspan CNI-ADMIN iifname uplink jump mine'";
    for (damage, chain) in [(nft, "CNI-ADMIN"), (sub, "mine")] {
        let way = into(&host);
        way.works();
        host.sh(damage);
        let told = explained(&way.words);
        let what = told["findings"][0]["what"].as_str().unwrap();
        assert!(what.contains(&format!("in chain {chain} ")) && what.contains("administrator's"), "{what}");
        let last = told["hops"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["rules"].as_array().unwrap().last().unwrap()["owner"], "an administrator");
        let mend = way.ends("foreign-drop");
        assert!(mend.starts_with("nft insert rule inet linkspan CNI-ADMIN "), "{mend}");
        paste(host.kernel(), &mend);
        way.works();
        host.sh("nft flush chain inet linkspan CNI-ADMIN");
    }
    // It drops the answers to what goes out, which come in by the uplink too; what else does stays outside.
    out(&host).breaks_and_mends(&host, nft, "foreign-drop");
    into(&host).ends("foreign-drop");
}

#[test]
fn an_administrators_rule_of_iptables_is_told_as_such() {
    let Some(host) = host_on("iptables-nft", open()) else { return };
    let way = into(&host);
    way.works();
    host.sh("iptables-nft -A CNI-ADMIN -i uplink -j DROP");
    assert!(explained(&way.words)["findings"][0]["what"].as_str().unwrap().contains("administrator's"));
    let mend = way.ends("foreign-drop");
    assert!(mend.starts_with("iptables-nft -t filter -I CNI-ADMIN "), "{mend}");
    paste(host.kernel(), &mend);
    way.works();
}

/// A policy that was set after the first ADD: linkspan has an exception for that, and makes it.
#[test]
fn a_lost_exception_is_linkspans_to_put_back() {
    for kind in ["nft", "legacy"] {
        let Some(host) = host(open()) else { return };
        if !host.kernel().exec(&[&format!("iptables-{kind}"), "-L"]).ok {
            lab::skipped(&format!("iptables-{kind} is not here"));
            continue;
        }
        let six = trip(
            &host.shop,
            format!("{} [{}]:80", id(&host.shop), Outside::V6),
            format!("[{}]:80", Outside::V6),
        );
        for (tool, way) in [("iptables", out(&host)), ("iptables", into(&host)), ("ip6tables", six)] {
            let tool = format!("{tool}-{kind}");
            way.works();
            host.sh(&format!("{tool} -F && {tool} -X && {tool} -P FORWARD DROP"));
            let mend = way.ends("foreign-drop");
            assert_eq!(mend, "linkspan reconcile", "{tool}: {}", way.words);
            paste(host.kernel(), &mend);
            way.works();
        }
        // What linkspan lets nobody through is not its to open: an address of a container's that was not published.
        let direct = "192.0.2.2 10.88.1.2:80";
        host.sh(&format!("iptables-{kind} -F && iptables-{kind} -P FORWARD DROP"));
        assert!(dies(direct, "foreign-drop").contains("-I FORWARD"));
    }
}

/// A chain of somebody else's between the world and a container, opened for a published port.
#[test]
fn a_mend_opens_the_published_port_alone() {
    for close in [
        "nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'",
        "iptables-nft -A FORWARD -j DROP",
    ] {
        let Some(host) = host(open()) else { return };
        into(&host).breaks_and_mends(&host, close, "foreign-drop");
        dies("outside host:5353/udp", "foreign-drop");
        out(&host).ends("foreign-drop");
        let straight = format!("{}:80", host.shop.at()[0]);
        trip(&host.town.outside, format!("{} {straight}", Outside::V4), &straight).ends("foreign-drop");
        paste(host.kernel(), &out(&host).ends("foreign-drop"));
        out(&host).works();
        let other = format!("{} {}:443", id(&host.shop), Outside::V4);
        dies(&other, "foreign-drop");
        trip(&host.town.outside, format!("{} {straight}", Outside::V4), &straight).ends("foreign-drop");
        // Anybody outside is not the address that stands for him.
        let mend = dies(&format!("{} outside:443", id(&host.shop)), "foreign-drop");
        assert!(!mend.contains("1.1.1.1") && mend.contains("dport 443"), "{mend}");
    }
}

#[test]
fn a_mend_of_the_answers_opens_nothing_new() {
    for close in [
        "nft 'table inet wall { chain gate { type filter hook forward priority 10; iifname uplink drop; }; }'",
        "iptables-nft -A FORWARD -i uplink -j DROP",
    ] {
        let Some(host) = host(open()) else { return };
        out(&host).breaks_and_mends(&host, close, "foreign-drop");
        into(&host).ends("foreign-drop");
    }
}

#[test]
fn a_mend_opens_one_service_of_the_host() {
    let Some(host) = host(open()) else { return };
    let _servers = [9000, 9001].map(|port| tcp_server(host.kernel(), &format!("[::]:{port}"), "host"));
    let to =
        |port: u16| trip(&host.shop, format!("{} host:{port}", id(&host.shop)), format!("10.88.1.1:{port}"));
    to(9001).works();
    to(9000).breaks_and_mends(&host, "iptables-nft -P INPUT DROP", "foreign-drop");
    to(9001).ends("foreign-drop");
}

#[test]
fn a_mend_of_a_wall_leaves_it_standing() {
    for backend in BACKENDS {
        let Some(host) = host_on(backend, json!({})) else { return };
        for (at, six) in ["", " -6"].into_iter().enumerate() {
            let between = format!("{} {}", id(&host.back), id(&host.shop));
            let way = trip(&host.back, format!("{between}:80{six}"), format!("{}:80", host.shop.at()[at]));
            paste(host.kernel(), &way.ends("wall"));
            way.works();
            let udp = format!("{between}:53/udp{six}");
            paste(host.kernel(), &dies(&udp, "wall"));
            arrives(&udp);
            let echo = format!("{between}{six}");
            paste(host.kernel(), &dies(&echo, "wall"));
            arrives(&echo);
            assert!(lab::icmp::ping(&host.back, host.shop.at()[at].trim_matches(['[', ']'])));
            dies(&format!("{between}:81{six}"), "wall");
            dies(&format!("{} {}{six}", id(&host.back), id(&host.store)), "wall");
        }
    }
}

/// Frames that stay on a bridge, of which nobody tracks the connection.
#[test]
fn a_mend_of_a_bridges_own_chain_opens_one_port() {
    let Some(host) = host(open()) else { return };
    let to = |port: u16| {
        trip(
            &host.shop,
            format!("{} {}:{port}", id(&host.shop), id(&host.store)),
            format!("{}:{port}", host.store.at()[0]),
        )
    };
    let close = "nft 'table bridge wall { chain gate { type filter hook forward priority 0; ip protocol tcp drop; }; }'";
    to(80).breaks_and_mends(&host, close, "foreign-drop");
    to(81).ends("foreign-drop");
}

#[test]
fn a_port_that_is_proposed_is_free() {
    let Some(host) = host(open()) else { return };
    let words = format!("outside {}:81", id(&host.shop));
    // shop itself has 8080, and 8081 on 127.0.0.1.
    let mend = dies(&words, "not-published");
    assert!(mend.contains("\"hostPort\": 8082,"), "{mend}");
    let _server = tcp_server(host.kernel(), "127.0.0.1:8082", "host");
    let mend = dies(&words, "not-published");
    assert!(mend.contains("\"hostPort\": 8083,") && mend.contains("\"containerPort\": 81,"), "{mend}");
}

#[test]
fn ipv6s_loopback_is_not_translated() {
    let Some(host) = host(open()) else { return };
    let mend = trip(host.kernel(), "host [::1]:8080", "[::1]:8080").ends("not-published");
    assert!(mend.starts_with("ask for 127.0.0.1:8080; or set \"userlandProxy\": true"), "{mend}");
    trip(host.kernel(), "host 127.0.0.1:8080", "127.0.0.1:8080").works();
}

#[test]
fn a_dead_agent_is_told_of() {
    let Some(host) = host(json!({"isolation": "none", "dns": {"enabled": true}, "userlandProxy": true}))
    else {
        return;
    };
    let _stray = Stray;
    let names = format!("{} host:53/udp", id(&host.shop));
    let loopback = "host [::1]:8080";
    let both_arrive = || {
        for words in [&*names, loopback] {
            let arrived = eventually(PATIENCE, || explained(words)["verdict"] == "arrives");
            assert!(arrived, "{words}: {:#}", explained(words));
        }
    };
    both_arrive();
    host.sh(&format!("kill -9 {}", agent::pid().unwrap()));
    for words in [&*names, loopback] {
        eventually(PATIENCE, || explained(words)["verdict"] != "arrives");
        assert_eq!(dies(words, "nothing-listens"), "linkspan doctor --fix");
    }
    linkspan("doctor --fix --yes");
    both_arrive();
}

/// A container may have chains of its own, which the host's commands do not reach.
#[test]
fn a_mend_inside_a_container_is_made_there() {
    for close in [
        "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; }; }'",
        "iptables-nft -P INPUT DROP",
        "iptables-nft -A INPUT -i eth0 -p tcp --dport 80 -j REJECT",
        "iptables-legacy -P INPUT DROP",
    ] {
        let Some(host) = host(open()) else { return };
        let way = into(&host);
        way.works();
        if !host.shop.exec(&["sh", "-c", close]).ok {
            lab::skipped(close);
            continue;
        }
        let mend = way.ends("foreign-drop");
        let told = explained(&way.words);
        let what = told["findings"][0]["what"].as_str().unwrap();
        assert!(what.contains(&format!(" of container {} ", id(&host.shop))), "{what}");
        // Its connection tracking knows nothing of the host's translations.
        assert!(mend.starts_with("nsenter ") && !mend.to_lowercase().contains("dnat"), "{mend}");
        paste(host.kernel(), &mend);
        way.works();
        let near = trip(&host.store, format!("{} {}:80", id(&host.store), id(&host.shop)), "");
        arrives(&near.words);
    }
}
