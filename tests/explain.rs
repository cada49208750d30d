//! `explain` where nothing is wrong: each way that a packet can take is told as arriving, and a real one arrives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::agent::{self, Stray};
use lab::cli::linkspan;
use lab::explain::{arrives, dies, explained, paste};
use lab::hold::Holder;
use lab::icmp;
use lab::outcome::{address, gateway};
use lab::talk::{PATIENCE, tcp, tcp_answers, tcp_server, udp};
use lab::town::{House, Town, town};
use lab::{Outside, eventually};
use serde_json::json;

/// Networks `net1` with shop (published) and store, `net2` with back; no walls, so that all ways are open.
struct Host {
    shop: House,
    store: House,
    back: House,
    town: Town,
}

fn host(backend: &'static str) -> Option<Host> {
    let town = town(backend)?;
    let (one, two) =
        (town.network(1, json!({"isolation": "none"})), town.network(2, json!({"isolation": "none"})));
    let shop =
        town.attach(&one, "shop", &["8080:80", "127.0.0.1:8053:53/udp", "127.0.0.1:8081:80", "8053:53/udp"]);
    let (store, back) = (town.attach(&one, "store", &[]), town.attach(&two, "back", &[]));
    Some(Host { shop, store, back, town })
}

fn every_way_is_told_and_taken(backend: &'static str) {
    let Some(host) = host(backend) else { return };
    let [shop, store, back] = [&host.shop, &host.store, &host.back];
    let id = |house: &House| house.container.id.clone();
    for (six, at) in [("", 0), (" --ipv6", 1)] {
        // The same network, another one, the host and from it.
        for (from, to) in [(shop, store), (shop, back), (back, shop)] {
            arrives(&format!("{} {}:80{six}", id(from), id(to)));
            tcp(from, &format!("{}:80", to.at()[at]));
            arrives(&format!("{} {}:53/udp{six}", id(from), id(to)));
            udp(from, &format!("{}:53", to.at()[at]));
            arrives(&format!("{} {}{six}", id(from), id(to)));
        }
        arrives(&format!("host {}:80{six}", id(shop)));
        tcp(&host.town.lab.host, &format!("{}:80", shop.at()[at]));
        arrives(&format!("{} host{six}", id(shop)));
        assert!(icmp::ping(shop, &gateway(&shop.result, if at == 0 { 4 } else { 6 })));
        // The world, by its own address: in IPv4 masqueraded.
        let world = [Outside::V4.to_owned(), format!("[{}]", Outside::V6)][at].clone();
        let told = arrives(&format!("{} {world}:80", id(shop)));
        tcp(shop, &format!("{world}:80"));
        let translated = told.to_string().contains("\"snat\"");
        assert!(translated, "{told:#}");
        arrives(&format!("{} outside:80{six}", id(shop)));
        // Published ports: from outside, from the host, from a neighbour, from itself.
        let host_at = [Outside::HOST4.to_owned(), format!("[{}]", Outside::HOST6)][at].clone();
        for from in [shop, store, back] {
            arrives(&format!("{} {host_at}:8080", id(from)));
            tcp(from, &format!("{host_at}:8080"));
        }
        arrives(&format!("host {host_at}:8080"));
        tcp(&host.town.lab.host, &format!("{host_at}:8080"));
        arrives(&format!("outside {host_at}:8080"));
        arrives(&format!(
            "{} {host_at}:8080",
            Outside::V4.to_owned().replace("192.0.2.2", [Outside::V4, Outside::V6][at])
        ));
        tcp(&host.town.outside, &format!("{host_at}:8080"));
        arrives(&format!("outside {}:80{six}", id(shop)));
    }
    arrives("host 127.0.0.1:8081");
    tcp(&host.town.lab.host, "127.0.0.1:8081");
    arrives("host 127.0.0.1:8053/udp");
    arrives("host host:8080");
    udp(&host.town.lab.host, "127.0.0.1:8053");
    // Addresses are as good as names.
    arrives(&format!("{} {}:80", address(&shop.result, 4), address(&back.result, 4)));
    arrives(&format!("{} [{}]:80", address(&shop.result, 6), address(&back.result, 6)));
    // A process of the host.
    let _own = tcp_server(&host.town.lab.host, "[::]:9000", "host");
    arrives("outside host:9000");
    tcp(&host.town.outside, "192.0.2.1:9000");
    dies("outside host:9001", "not-published");
    assert!(!tcp_answers(&host.town.outside, "192.0.2.1:9001"));
}

#[test]
fn every_way_is_told_and_taken_on_nftables() {
    every_way_is_told_and_taken("nftables");
}

#[test]
fn every_way_is_told_and_taken_on_iptables() {
    every_way_is_told_and_taken("iptables-nft");
}

#[test]
fn every_way_is_told_and_taken_on_legacy_iptables() {
    every_way_is_told_and_taken("iptables-legacy");
}

#[test]
fn names_are_found_and_slips_are_told() {
    let Some(host) = host("nftables") else { return };
    let id = &host.shop.container.id;
    arrives(&format!("{} {}:80", &id[..id.len() - 1], host.store.container.id));
    arrives(&format!("{id}:eth0 host"));
    linkspan(&format!("explain {id} container-stroe:80")).failed(1, "did you mean 'container-store'?");
    linkspan(&format!("explain {id} hots")).failed(1, "did you mean 'host'?");
    linkspan(&format!("explain {id} host:0")).failed(2, "between 1 and 65535");
    linkspan(&format!("explain {id} outside:80/foo")).failed(2, "'foo' is no protocol");
    linkspan(&format!("explain {id} outside:80/sctp")).failed(2, "'sctp' is not followed");
    linkspan(&format!("explain {id} example.com:80")).failed(1, "names of the DNS are not looked up");
    linkspan("explain 10.1.0.2 fd00::1").failed(1, "different families");
    linkspan(&format!("explain {id}")).failed(2, "needs");
    linkspan("explain outside host --in nowhere").failed(1, "no interface 'nowhere'");
    let told = explained(&format!("{id} {}:80", host.store.container.id));
    let numbers: Vec<u64> =
        told["hops"].as_array().unwrap().iter().map(|hop| hop["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
}

/// podman's conmon listens on every port that it publishes, and answers nobody.
#[test]
fn a_port_whose_rules_are_gone_does_not_arrive_at_who_reserves_it() {
    let Some(host) = host("nftables") else { return };
    let (kernel, shop) = (&host.town.lab.host, host.shop.container.id.as_str());
    let _conmon = Holder::tcp(kernel, "0.0.0.0:8080", "conmon", &["-c", shop]);
    let ways = ["outside 192.0.2.1:8080", "host 127.0.0.1:8080", &format!("outside {shop}:80")];
    ways.into_iter().for_each(|way| drop(arrives(way)));
    kernel.must(&["nft", "flush", "ruleset"]);
    assert!(!tcp_answers(&host.town.outside, "192.0.2.1:8080"));
    let mends = ways.map(|words| dies(words, "rules-missing"));
    assert_eq!(mends[0], "linkspan reconcile");
    paste(kernel, &mends[0]);
    ways.into_iter().for_each(|way| drop(arrives(way)));
    tcp(&host.town.outside, "192.0.2.1:8080");
}

/// The same where linkspan's agent serves the port at `::1` alone (`userlandProxy`).
#[test]
fn what_the_agent_does_not_serve_does_not_arrive_at_who_reserves_it() {
    let Some(town) = town("nftables") else { return };
    let _stray = Stray;
    let kernel = &town.lab.host;
    let network = town.network(1, json!({"isolation": "none", "userlandProxy": true}));
    let shop = town.attach(&network, "shop", &["8080:80"]);
    let id = shop.container.id.as_str();
    let conmon = Holder::tcp(kernel, "0.0.0.0:8080", "conmon", &["-c", id]);
    let ways = ["outside 192.0.2.1:8080", "host 127.0.0.1:8080", &format!("outside {id}:80")];
    ways.into_iter().for_each(|way| drop(arrives(way)));
    assert!(eventually(PATIENCE, || explained("host [::1]:8080")["verdict"] == "arrives"));
    // What it is to say holds with and without an agent, which would put the rules back.
    kernel.must(&["kill", "-9", &agent::pid().unwrap().to_string()]);
    kernel.must(&["nft", "flush", "ruleset"]);
    assert!(!tcp_answers(&town.outside, "192.0.2.1:8080"));
    for words in ways {
        assert_eq!(dies(words, "rules-missing"), "linkspan reconcile");
    }
    paste(kernel, "linkspan reconcile");
    ways.into_iter().for_each(|way| drop(arrives(way)));
    drop(conmon);
}

/// Where nothing from 127.0.0.1 may be routed the agent serves the port there, if nobody else has it.
#[test]
fn the_agent_serves_127_0_0_1_where_the_kernel_does_not_translate() {
    let Some(town) = town("nftables") else { return };
    let _stray = Stray;
    let kernel = &town.lab.host;
    let keys = json!({"isolation": "none", "userlandProxy": true, "snat": false});
    let (one, two) = (town.network(1, keys.clone()), town.network(2, keys));
    let words = "host 127.0.0.1:8080";
    let shop = town.attach(&one, "shop", &["8080:80"]);
    assert!(eventually(PATIENCE, || explained(words)["verdict"] == "arrives"), "{:#}", explained(words));
    tcp(kernel, "127.0.0.1:8080");
    kernel.must(&["kill", "-9", &agent::pid().unwrap().to_string()]);
    assert!(eventually(PATIENCE, || !tcp_answers(kernel, "127.0.0.1:8080")));
    assert_eq!(dies(words, "nothing-listens"), "linkspan doctor --fix");
    shop.plugin.prev(&shop.result).del().ok();
    let back = town.lab.container("back");
    let conmon = Holder::tcp(kernel, "0.0.0.0:8080", "conmon", &["-c", &back.id]);
    two.on(&back).publish(&["8080:80"]).add().ok();
    let mend = dies(words, "port-taken");
    assert!(mend.contains(&format!("(PID {}) listen on another port", conmon.pid())), "{mend}");
    drop(conmon);
}
