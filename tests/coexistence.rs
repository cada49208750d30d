//! Beside other firewalls: their rulesets, in the shape that they write them, on the test's host.
//!
//! With each, what flows has to flow, what cannot has to be told by STATUS with table, chain and rule, nothing of theirs
//! may change, and a flush of ours has to be mended by the next ADD.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;
#[path = "coexistence/street.rs"]
mod street;

use lab::damage::linkspan;
use lab::inspect;
use lab::talk::{tcp, tcp_answers};
use serde_json::json;
use street::{Street, foreign, load, ruleset};

/// A neighbour beside whom everything flows, and goes on to.
fn lives_beside(name: &str, backend: &str, variant: &str) {
    let Some(street) = Street::new(backend, |host| load(host, name, variant)) else { return };
    let case = format!("{backend} beside {name} ({variant})");
    street.works(&case);
    let theirs = foreign(&street.lab.host);
    street.flush_ours(backend);
    street.another_add();
    street.works(&format!("{case}, mended"));
    assert_eq!(foreign(&street.lab.host), theirs, "{case}: nothing of theirs changed");
    // They reload: iptables-restore flushes whatever is in its tables, ours too. The next ADD mends.
    if ruleset(&format!("{name}.rules")).is_some() {
        load(&street.lab.host, name, variant);
        street.another_add();
        street.works(&format!("{case}, after their reload"));
    }
    street.plugin.prev(&street.result).del().ok();
    assert_eq!(foreign(&street.lab.host), theirs, "{case}: DEL leaves theirs alone");
}

macro_rules! neighbours {
    ($($test:ident: $name:literal, $variant:literal;)+) => {
        mod nftables { $(#[test] fn $test() { super::lives_beside($name, "nftables", $variant); })+ }
        mod iptables_nft { $(#[test] fn $test() { super::lives_beside($name, "iptables-nft", $variant); })+ }
    };
}

neighbours! {
    docker: "docker", "nft";
    docker_26: "docker-26", "nft";
    docker_29: "docker-29", "nft";
    ufw: "ufw", "nft";
    kube_proxy_iptables: "kube-proxy", "nft";
    kube_proxy_nftables: "kube-proxy-nft", "nft";
    flannel: "flannel", "nft";
    calico: "calico", "nft";
    cilium: "cilium", "nft";
}

/// The same in legacy iptables, of which nf_tables knows nothing.
mod legacy {
    #[test]
    fn docker() {
        super::lives_beside("docker", "nftables", "legacy");
    }

    #[test]
    fn ufw() {
        super::lives_beside("ufw", "nftables", "legacy");
    }

    #[test]
    fn docker_by_our_iptables() {
        super::lives_beside("docker-26", "iptables-legacy", "legacy");
    }
}

/// A policy that is set after the network was made, in either iptables: STATUS tells, and the next ADD makes the
/// exception; so it does where somebody has removed that.
#[test]
fn a_policy_that_is_set_later_is_noticed() {
    for variant in ["nft", "legacy"] {
        let Some(street) = Street::new("nftables", |_| {}) else { return };
        street.works("before");
        let host = &street.lab.host;
        let tools = [format!("iptables-{variant}"), format!("ip6tables-{variant}")];
        for tool in &tools {
            host.must(&[tool, "-P", "FORWARD", "DROP"]);
        }
        street.ends("outgoing IPv4");
        told(&street, &["filter FORWARD", "by its policy", "the next ADD", "'linkspan reconcile'"]);
        street.another_add();
        street.works(&format!("{variant}, the next ADD"));
        for tool in &tools {
            host.must(&[tool, "-F", "FORWARD"]);
        }
        told(&street, &["filter FORWARD"]);
        street.another_add();
        street.works(&format!("{variant}, the exception again"));
        assert!(host.must(&[&tools[0], "-S", "FORWARD"]).contains("-P FORWARD DROP"), "the policy is theirs");
    }
}

/// STATUS 51, and what it says.
#[track_caller]
fn told(street: &Street, names: &[&str]) -> String {
    let said = street.status().refused(51);
    for name in names {
        assert!(said.contains(name), "{name} is not named: {said}");
    }
    said
}

/// Types what STATUS says is to be typed: the commands between `let them pass: ` and the end or a bracket.
fn obey(street: &Street, said: &str) {
    let (_, commands) = said.split_once("let them pass: ").unwrap_or_else(|| panic!("no advice: {said}"));
    let commands = commands.split(" (").next().unwrap().trim();
    for command in commands.split(';') {
        let words: Vec<&str> = command.split_whitespace().collect();
        street.lab.host.must(&words);
    }
}

/// firewalld rejects at the end of the zone, for whatever interface that is in none.
#[test]
fn firewalld_is_told_of_and_its_command_helps() {
    for (forwards, backend) in [(true, "nftables"), (false, "nftables"), (false, "iptables-nft")] {
        let text = ruleset("firewalld.nft").unwrap();
        let text = if forwards { text } else { text.replace("oifname \"uplink\" accept", "") };
        let Some(street) = Street::new(backend, |host| host.feed(&["nft", "-f", "-"], &text)) else { return };
        let outgoing = ["outgoing IPv4", "outgoing IPv6", "sibling"];
        let broken = if forwards { &outgoing[2..] } else { &outgoing[..] };
        street.breaks(broken, "published ports pass (ct status dnat accept)");
        let said = told(&street, &["inet firewalld filter_FORWARD", "chain filter_FWD_public", "handle"]);
        let command =
            "firewall-cmd --permanent --zone=trusted --add-interface=lks-web && firewall-cmd --reload";
        assert!(said.contains(command), "{said}");
        assert_eq!(said.contains("cannot reach out"), !forwards, "{said}");
        // Where siblings are kept apart, nobody misses what passes between them.
        let apart = street.network.with(json!({"ingressPolicy": "isolated"})).status();
        assert_eq!(apart.succeeded(), forwards, "{}", apart.stdout);
        let sealed = json!({"internal": true, "icc": false});
        street.network.with(sealed).status().ok();
        // What that command comes to.
        let zone =
            ["nft", "insert", "rule", "inet", "firewalld", "filter_FORWARD_ZONES", "iifname", "lks-web"];
        street.lab.host.must(&[&zone[..], &["goto", "filter_FWD_trusted"]].concat());
        street.works("in zone trusted");
    }
}

/// A chain that accepts by its policy and rejects by its last rule, as Red Hat's `iptables-services` has it: the first
/// ADD of the network makes its exception, in either iptables; one that is flushed alone comes back with the next ADD,
/// and after a reload of theirs with `reconcile`.
#[test]
fn a_last_rule_that_rejects_is_passed_by() {
    for (backend, variant) in [("nftables", "nft"), ("nftables", "legacy"), ("iptables-nft", "nft")] {
        let Some(street) = Street::new(backend, |host| load(host, "rhel", variant)) else { return };
        let case = format!("{backend} beside {variant}");
        street.works(&case);
        let host = &street.lab.host;
        for family in ["iptables", "ip6tables"] {
            host.exec(&[&format!("{family}-{variant}"), "-F", "LINKSPAN-ADMIT"]);
        }
        street.another_add();
        street.works(&format!("{case}, the exception alone was flushed"));
        load(host, "rhel", variant);
        if (backend, variant) == ("nftables", "nft") {
            street.ends("outgoing IPv4");
            street.ends("published IPv6");
            told(
                &street,
                &["ip filter FORWARD", "by the rule with handle", "'linkspan reconcile' makes an exception"],
            );
            let said = linkspan(&street.lab, &["reconcile"]);
            said.tells("exception for lks-web");
        } else {
            street.another_add();
        }
        street.works(&format!("{case}, after their reload"));
    }
}

/// The same set up after the network: STATUS names chain and rule, what it says to type helps, and so does `reconcile`.
#[test]
fn a_last_rule_that_comes_later_is_told_of_and_its_command_helps() {
    for by_hand in [true, false] {
        let Some(street) = Street::new("nftables", |_| {}) else { return };
        load(&street.lab.host, "rhel", "nft");
        let said = told(&street, &["ip filter FORWARD", "by the rule with handle", "chain FORWARD"]);
        if by_hand {
            obey(&street, &said);
            let said = told(&street, &["ip6 filter FORWARD", "ip6tables -I FORWARD -i lks-web"]);
            obey(&street, &said);
        } else {
            let said = linkspan(&street.lab, &["reconcile"]);
            said.tells("exception for lks-web");
        }
        street.works("after the advice");
    }
    // An administrator's rule that names the bridge is meant, and nothing is put before it.
    let Some(street) = Street::new("nftables", |_| {}) else { return };
    let rule = [
        "iptables-nft",
        "-A",
        "FORWARD",
        "-i",
        "lks-web",
        "-o",
        "uplink",
        "-m",
        "conntrack",
        "--ctstate",
        "NEW",
        "-j",
        "REJECT",
    ];
    street.lab.host.must(&rule);
    assert_eq!(linkspan(&street.lab, &["reconcile"]).stdout.trim(), "nothing differs");
    street.breaks(&["outgoing IPv4"], "the administrator's rule");
}

/// A chain of the network's own that somebody flushed alone: CHECK tells, and the next ADD writes it again.
#[test]
fn chains_of_the_network_are_looked_at_by_the_next_add() {
    let Some(street) = Street::new("nftables", |_| {}) else { return };
    for chain in ["net-web", "wall-lks-web"] {
        let list = || street.lab.host.must(&["nft", "list", "chain", "inet", "linkspan", chain]);
        let whole = list();
        street.lab.host.must(&["nft", "flush", "chain", "inet", "linkspan", chain]);
        assert_ne!(list(), whole);
        street.plugin.prev(&street.result).check().refused(120);
        street.another_add();
        assert_eq!(without_counts(&list()), without_counts(&whole), "{chain}");
        street.works(chain);
    }
}

/// The words of a ruleset but for what was counted.
fn without_counts(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|word| word.parse::<u64>().is_err()).collect()
}

/// An administrator's own table, whose policy drops and which has rules.
#[test]
fn a_policy_that_drops_is_told_of_though_the_chain_has_rules() {
    for backend in ["nftables", "iptables-nft"] {
        let Some(street) = Street::new(backend, |host| load(host, "workstation", "")) else { return };
        street.ends("outgoing IPv4");
        let said = told(&street, &["inet filter forward", "by its policy", "cannot reach out"]);
        obey(&street, &said);
        street.works("after the advice");
    }
}

/// Whoever names our bridge means it: STATUS stays content, and the log says so.
#[test]
fn a_drop_that_is_aimed_at_the_bridge_is_an_administrators_will() {
    let Some(street) = Street::new("nftables", |_| {}) else { return };
    let text = "table inet site { chain gate { type filter hook forward priority 0; policy accept; \
                iifname \"lks-web\" oifname \"uplink\" ct state new drop; }; }";
    street.lab.host.feed(&["nft", "-f", "-"], text);
    street.breaks(&["outgoing IPv4", "outgoing IPv6"], "the administrator's rule");
    let said = street.status();
    said.ok();
    assert!(said.stderr.contains("inet site gate") && said.stderr.contains("handle"), "{}", said.stderr);
}

/// Rules that may let packets pass make it a warning.
#[test]
fn what_cannot_be_told_is_logged() {
    let Some(street) = Street::new("nftables", |_| {}) else { return };
    let text = "table inet site { chain gate { type filter hook forward priority 0; policy drop; \
                ip saddr 10.88.0.0/16 accept; ip daddr 10.88.0.0/16 accept; \
                ip6 saddr fd00:88::/32 accept; ip6 daddr fd00:88::/32 accept; }; }";
    street.lab.host.feed(&["nft", "-f", "-"], text);
    street.breaks(&[], "what its rules let pass");
    let said = street.status();
    said.ok();
    assert!(said.stderr.contains("inet site gate"), "{}", said.stderr);
    assert!(said.stderr.contains("unless a rule before accepts them"), "{}", said.stderr);
}

/// kube-proxy's services go on for the containers of the network, in either of its modes.
#[test]
fn services_of_kube_proxy_are_reached() {
    for (name, backend) in [
        ("kube-proxy", "nftables"),
        ("kube-proxy-nft", "nftables"),
        ("kube-proxy", "iptables-nft"),
        ("kube-proxy-nft", "iptables-nft"),
    ] {
        let Some(street) = Street::new(backend, |host| load(host, name, "nft")) else { return };
        for from in ["a", "host"] {
            assert_eq!(tcp(street.place(from), "10.96.0.10:80").tag, "outside", "{name}, {backend}: {from}");
        }
        assert_eq!(tcp(&street.a, "192.0.2.1:30080").tag, "outside", "{name}, {backend}: the node port");
        assert!(!tcp_answers(&street.a, "10.96.0.99:80"), "{name}, {backend}: it has no endpoints");
        street.works(name);
    }
}

/// Packet marks and connection marks of others come out as they went in, on the way out and on the way in; we set none.
#[test]
fn marks_of_others_stay() {
    for backend in ["nftables", "iptables-nft"] {
        let Some(street) = Street::new(backend, |_| {}) else { return };
        let host = &street.lab.host;
        // 0x4000 is kube-proxy's bit, 0x2000 the reference's portmap's, 0x10000 Calico's, 0xc00 Cilium's.
        let text = "table inet witness {
            chain before { type filter hook prerouting priority -145;
                iifname != \"lo\" meta mark set 0x00016c00; iifname != \"lo\" ct mark set 0x00abcdef; };
            chain after { type filter hook postrouting priority 400; meta l4proto != { tcp, udp } return;
                iif != 0 meta mark 0x00016c00 ct mark 0x00abcdef counter comment \"kept\"
                iif != 0 meta mark != 0x00016c00 counter comment \"mark lost\"
                iif != 0 ct mark != 0x00abcdef counter comment \"ct mark lost\"; }; }";
        host.feed(&["nft", "-f", "-"], text);
        street.breaks(&[], backend);
        let counted = |comment: &str| {
            let chain = host.must(&["nft", "list", "chain", "inet", "witness", "after"]);
            let line = chain.lines().find(|line| line.contains(&format!("\"{comment}\""))).unwrap();
            line.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        assert!(counted("kept") > 20, "{backend}: packets came by");
        assert_eq!((counted("mark lost"), counted("ct mark lost")), (0, 0), "{backend}");
        let ours: Vec<String> = match backend {
            "nftables" => host.must(&["nft", "list", "table", "inet", "linkspan"]),
            _ => inspect::firewall_text(host),
        }
        .lines()
        .filter(|line| backend == "nftables" || line.contains("LINKSPAN-") || line.contains("LKS-"))
        .filter(|line| line.to_lowercase().contains("mark"))
        .map(str::to_owned)
        .collect();
        assert_eq!(ours, Vec::<String>::new(), "{backend}: no rule of ours sets or asks for a mark");
    }
}
