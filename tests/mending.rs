//! What somebody took out of our rules, piece by piece, comes back with the next ADD of any container; so does a table
//! that was made in advance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use lab::backends::choose;
use lab::plugin::dual_stack;
use lab::talk::{BRIEF, PATIENCE, Server, UdpClient, tcp, tcp_answers, tcp_server};
use lab::{Container, Lab, Outside, Plugin, inspect};
use serde_json::{Value, json};

/// A host with a container that publishes 8080, and others to attach.
struct House {
    _servers: Vec<Server>,
    a: Container,
    first: Plugin,
    result: Value,
    network: Plugin,
    outside: Outside,
    lab: Lab,
}

impl House {
    fn new(backend: &str) -> Option<Self> {
        if lab::is_reference() {
            lab::skipped("the reference does not mend");
            return None;
        }
        let mut lab = Lab::new()?;
        let kind = choose(&mut lab, backend)?;
        let outside = lab.outside();
        let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
        let a = lab.container("a");
        let first = network.on(&a).publish(&["8080:80", "127.0.0.1:9090:80"]);
        let result = first.add().ok();
        let servers = vec![tcp_server(&a, "[::]:80", "a"), tcp_server(&outside, "[::]:80", "outside")];
        Some(Self { _servers: servers, a, first, result, network, outside, lab })
    }

    /// Everything that a container and its clients may expect.
    fn whole(&self, after: &str) {
        assert_eq!(tcp(&self.outside, "192.0.2.1:8080").tag, "a", "{after}: published");
        assert_eq!(tcp(&self.outside, "[2001:db8::1]:8080").tag, "a", "{after}: published, IPv6");
        assert_eq!(tcp(&self.lab.host, "127.0.0.1:9090").tag, "a", "{after}: on 127.0.0.1");
        assert_eq!(tcp(&self.lab.host, "192.0.2.1:8080").tag, "a", "{after}: from the host");
        let seen = tcp(&self.a, "192.0.2.2:80");
        assert!(seen.peer.ip().to_string().ends_with(Outside::HOST4), "{after}: masqueraded, not {seen:?}");
        assert_eq!(tcp(&self.a, "192.0.2.1:8080").tag, "a", "{after}: hairpin");
        self.first.prev(&self.result).check().ok();
    }

    /// CHECK tells, and an ADD of another container mends.
    fn mends(&self, what: &str, at: usize) {
        self.first.prev(&self.result).check().refused(120);
        let other = self.network.on(&self.lab.container("other")).publish(&[&format!("{}:80", 7000 + at)]);
        let result = other.add().ok();
        self.whole(what);
        other.prev(&result).del().ok();
    }
}

#[test]
fn a_chain_that_was_flushed_comes_back() {
    let Some(house) = House::new("nftables") else { return };
    let host = &house.lab.host;
    let clean = inspect::ruleset(host);
    for (at, chain) in
        ["localnet", "publish", "prerouting", "output", "postrouting", "admin", "forward"].iter().enumerate()
    {
        host.must(&["nft", "flush", "chain", "inet", "linkspan", chain]);
        house.mends(chain, at);
        assert_eq!(inspect::ruleset(host), clean, "{chain}: nothing is doubled");
    }
    // The same for one that was deleted.
    host.must(&["nft", "delete", "chain", "inet", "linkspan", "postrouting"]);
    house.mends("postrouting deleted", 10);
}

#[test]
fn one_rule_that_was_deleted_comes_back() {
    let Some(house) = House::new("nftables") else { return };
    let host = &house.lab.host;
    let clean = inspect::ruleset(host);
    let chain = host.must(&["nft", "-a", "list", "chain", "inet", "linkspan", "publish"]);
    let handle =
        chain.lines().find(|line| line.contains("ports4_any")).and_then(|line| line.rsplit(' ').next());
    host.must(&["nft", "delete", "rule", "inet", "linkspan", "publish", "handle", handle.unwrap()]);
    assert!(!tcp_answers(&house.outside, "192.0.2.1:8080"), "the rule is gone");
    house.mends("a rule of publish", 0);
    assert_eq!(inspect::ruleset(host), clean);
}

/// Once an ADD has seen that something is missing, it looks at networks' chains too, which it does not count else.
#[test]
fn a_networks_chain_comes_back_with_the_others() {
    let Some(house) = House::new("nftables") else { return };
    let host = &house.lab.host;
    let clean = inspect::ruleset(host);
    let chains = clean.lines().filter_map(|line| line.trim().strip_prefix("chain ")?.strip_suffix(" {"));
    let name = chains.into_iter().find(|name| name.contains("web")).unwrap().to_owned();
    for flushed in [name.as_str(), "forward"] {
        host.must(&["nft", "flush", "chain", "inet", "linkspan", flushed]);
    }
    house.mends(&name, 0);
    assert_eq!(inspect::ruleset(host), clean);
}

/// Administrators' rules are neither lost nor in the way.
#[test]
fn administrators_rules_stay_where_chains_are_mended() {
    let Some(house) = House::new("nftables") else { return };
    let host = &house.lab.host;
    for rule in ["CNI-ADMIN ip saddr 203.0.113.0/24 drop", "postrouting ip saddr 203.0.113.9 accept"] {
        host.must(&["nft", &format!("add rule inet linkspan {rule}")]);
    }
    house.whole("rules of an administrator");
    host.must(&["nft", "flush", "chain", "inet", "linkspan", "forward"]);
    house.mends("forward", 0);
    let after = inspect::ruleset(host);
    assert!(after.contains("203.0.113.0/24 drop"), "{after}");
    assert!(after.contains("203.0.113.9 accept"), "a chain that was whole is left alone: {after}");
}

#[test]
fn a_table_made_in_advance_is_completed() {
    for text in [
        "table inet linkspan { }",
        "table inet linkspan { chain CNI-ADMIN { ip saddr 203.0.113.0/24 drop; }; }",
        "table inet linkspan { flags dormant; chain CNI-ADMIN { }; chain forward { }; }",
    ] {
        if lab::is_reference() {
            lab::skip!("the reference has no such table");
        }
        let Some(lab) = Lab::new() else { return };
        let outside = lab.outside();
        lab.host.feed(&["nft", "-f", "-"], text);
        let a = lab.container("a");
        let plugin = lab.plugin(json!({"ipam": dual_stack(1)})).on(&a).publish(&["8080:80"]);
        let _server = tcp_server(&a, "[::]:80", "a");
        // A chain `forward` that is no base chain cannot become one.
        if text.contains("chain forward") {
            let said = plugin.add().refused(111);
            assert!(said.contains("nft delete table inet linkspan"), "what to do is not said: {said}");
            lab.host.must(&["nft", "delete", "table", "inet", "linkspan"]);
        }
        let result = plugin.add().ok();
        assert_eq!(tcp(&outside, "192.0.2.1:8080").tag, "a", "{text}");
        plugin.prev(&result).check().ok();
        let rules = inspect::ruleset(&lab.host);
        assert!(rules.contains("jump CNI-ADMIN"), "{rules}");
        assert_eq!(
            text.contains("203.0.113"),
            rules.contains("203.0.113.0/24 drop"),
            "the rule stays: {rules}"
        );
    }
}

/// The jumps out of the built-in chains, each removed alone.
fn jumps_come_back(backend: &str) {
    let Some(house) = House::new(backend) else { return };
    let host = &house.lab.host;
    let saved = || {
        let text = host.must(&["iptables-save"]) + &host.must(&["ip6tables-save"]);
        let mut rules: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("-A") || line.starts_with('*'))
            .map(str::to_owned)
            .collect();
        rules.sort();
        rules
    };
    let clean = saved();
    let jumps = [
        ("iptables", "raw", "PREROUTING"),
        ("iptables", "nat", "PREROUTING"),
        ("iptables", "nat", "OUTPUT"),
        ("iptables", "nat", "POSTROUTING"),
        ("iptables", "filter", "FORWARD"),
        ("ip6tables", "nat", "PREROUTING"),
        ("ip6tables", "filter", "FORWARD"),
    ];
    for (at, (tool, table, chain)) in jumps.into_iter().enumerate() {
        host.must(&[tool, "-t", table, "-F", chain]);
        house.mends(&format!("{tool} {table} {chain}"), at);
        assert_eq!(saved(), clean, "{tool} {table} {chain}: as it was");
    }
}

#[test]
fn jumps_of_iptables_nft_come_back() {
    jumps_come_back("iptables-nft");
}

#[test]
fn jumps_of_legacy_iptables_come_back() {
    jumps_come_back("iptables-legacy");
}

/// UDP flows that began while the rules were gone do not go on past them.
#[test]
fn a_flow_of_the_gap_finds_its_way() {
    let Some(house) = House::new("nftables") else { return };
    let b = house.lab.container("b");
    let plugin = house.network.on(&b).publish(&["5353:53/udp"]);
    let result = plugin.add().ok();
    let _server = lab::talk::udp_server(&b, &format!("{}:53", lab::outcome::address(&result, 4)), "b");
    let client = UdpClient::new(&house.outside, "0.0.0.0:4000");
    assert_eq!(client.ask("192.0.2.1:5353", PATIENCE).unwrap().tag, "b");
    house.lab.host.must(&["nft", "flush", "chain", "inet", "linkspan", "publish"]);
    let late = UdpClient::new(&house.outside, "0.0.0.0:4001");
    assert!(late.ask("192.0.2.1:5353", BRIEF).is_err(), "the port is gone");
    house.mends("publish", 0);
    let fresh = UdpClient::new(&house.outside, "0.0.0.0:4002");
    assert_eq!(fresh.ask("192.0.2.1:5353", PATIENCE).unwrap().tag, "b");
}
