//! A host with a neighbour's rules, a network of ours beside them, and what is asked of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lab::backends::choose;
use crate::lab::plugin::dual_stack;
use crate::lab::talk::{Server, tcp_reaches, tcp_server, udp_reaches, udp_server};
use crate::lab::{self, Container, Lab, Outcome, Outside, Plugin, Space};

/// A neighbour's ruleset: a file under `tests/coexistence`.
pub(crate) fn ruleset(file: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/coexistence").join(file);
    std::fs::read_to_string(path).ok()
}

/// Loads `NAME.nft`, or `NAME.rules` and `NAME.rules6` by a variant of iptables.
pub(crate) fn load(host: &Space, name: &str, variant: &str) {
    if let Some(text) = ruleset(&format!("{name}.nft")) {
        return host.feed(&["nft", "-f", "-"], &text);
    }
    let text = ruleset(&format!("{name}.rules")).unwrap_or_else(|| panic!("there is no ruleset {name}"));
    host.feed(&[&format!("iptables-{variant}-restore")], &text);
    if let Some(text) = ruleset(&format!("{name}.rules6")) {
        host.feed(&[&format!("ip6tables-{variant}-restore")], &text);
    }
}

/// What is not ours: rules and chains, counters and handles aside.
pub(crate) fn foreign(host: &Space) -> Vec<String> {
    let mut lines = Vec::new();
    for tool in ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
        lines.extend(host.exec(&[tool]).stdout.lines().map(|line| format!("{tool}: {line}")));
    }
    let tables = host.must(&["nft", "list", "tables"]);
    let of_nft = tables.lines().filter(|line| !line.contains("linkspan"));
    // What iptables shows is said already, and `nft` cannot print all of it.
    let of_nft =
        of_nft.filter(|line| !matches!(line.split(' ').nth(2), Some("filter" | "nat" | "raw" | "mangle")));
    for table in of_nft {
        let words: Vec<&str> = table.split_whitespace().skip(1).collect();
        lines.extend(host.must(&["nft", "list", "table", words[0], words[1]]).lines().map(str::to_owned));
    }
    let ours = |line: &str| {
        line.contains("LINKSPAN-")
            || line.contains("LKS-")
            || line.contains("CNI-ADMIN")
            || line.contains(": #")
    };
    lines.retain(|line| !ours(line));
    lines.iter().map(|line| without_counters(line)).collect()
}

/// `[12:345]` and `packets 12 bytes 345` count what has passed.
fn without_counters(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut kept = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let counts = word.starts_with('[') && word.ends_with(']');
        let counted = at > 0 && matches!(words[at - 1], "packets" | "bytes");
        if !counts && !counted {
            kept.push(*word);
        }
    }
    kept.join(" ")
}

/// A host with a neighbour's rules and a network of ours.
pub(crate) struct Street {
    _servers: Vec<Server>,
    pub(crate) a: Container,
    pub(crate) sibling: Container,
    pub(crate) plugin: Plugin,
    pub(crate) network: Plugin,
    pub(crate) result: Value,
    pub(crate) outside: Outside,
    pub(crate) lab: Lab,
}

/// What somebody asks of whom: by TCP or UDP, from a place, to an address.
pub(crate) const TRIPS: [(&str, &str, &str); 8] = [
    ("outgoing IPv4", "a", "192.0.2.2:80"),
    ("outgoing IPv6", "a", "[2001:db8::2]:80"),
    ("published IPv4", "outside", "192.0.2.1:8080"),
    ("published IPv6", "outside", "[2001:db8::1]:8080"),
    ("published UDP", "outside", "192.0.2.1:8053"),
    ("published, from the host", "host", "127.0.0.1:8080"),
    ("published, from a sibling", "sibling", "192.0.2.1:8080"),
    ("sibling", "sibling", "10.88.1.3:80"),
];

impl Street {
    /// The neighbour first, then a network and two containers of it.
    pub(crate) fn new(backend: &str, neighbour: impl FnOnce(&Space)) -> Option<Self> {
        if lab::is_reference() {
            lab::skipped("the reference has its own ways");
            return None;
        }
        let mut lab = Lab::new()?;
        let outside = lab.outside();
        let kind = choose(&mut lab, backend)?;
        lab.host.set_sysctl("net.ipv4.ip_forward", "1");
        neighbour(&lab.host);
        let before = foreign(&lab.host);
        let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
        let (a, sibling) = (lab.container("a"), lab.container("sibling"));
        network.on(&sibling).add().ok();
        let plugin = network.on(&a).publish(&["8080:80", "8053:53/udp"]);
        let result = plugin.add().ok();
        let after = foreign(&lab.host);
        let rule = |line: &&String| !line.contains(" :") && !line.contains('*') && !line.contains("COMMIT");
        let added = after.iter().filter(|line| !before.contains(line)).filter(rule);
        assert_eq!(added.collect::<Vec<_>>(), Vec::<&String>::new(), "rules in chains of theirs");
        let gone = before.iter().filter(|line| !after.contains(line));
        assert_eq!(gone.collect::<Vec<_>>(), Vec::<&String>::new(), "what is theirs is as it was");
        let servers = vec![
            tcp_server(&outside, "[::]:80", "outside"),
            tcp_server(&a, "[::]:80", "a"),
            udp_server(&a, "0.0.0.0:53", "a"),
            tcp_server(&sibling, "[::]:80", "sibling"),
        ];
        Some(Self { _servers: servers, a, sibling, plugin, network, result, outside, lab })
    }

    pub(crate) fn place(&self, name: &str) -> &Space {
        match name {
            "a" => &self.a,
            "sibling" => &self.sibling,
            "outside" => &self.outside,
            _ => &self.lab.host,
        }
    }

    fn arrives(&self, (what, from, to): &(&str, &str, &str), must: bool) -> bool {
        let from = self.place(from);
        if what.contains("UDP") { udp_reaches(from, to, must) } else { tcp_reaches(from, to, must) }
    }

    /// The trips of this kind arrive.
    #[track_caller]
    #[allow(dead_code, reason = "one of the two files asks")]
    pub(crate) fn pass(&self, kind: &str) {
        for trip in TRIPS.iter().filter(|trip| trip.0.contains(kind)) {
            assert!(self.arrives(trip, true), "{} does not arrive", trip.0);
        }
    }

    /// A trip does not arrive.
    #[track_caller]
    pub(crate) fn ends(&self, what: &str) {
        let trip = TRIPS.iter().find(|trip| trip.0 == what).unwrap();
        assert!(!self.arrives(trip, false), "{what} arrives");
    }

    /// These trips do not arrive, and all others do.
    #[track_caller]
    pub(crate) fn breaks(&self, expected: &[&str], when: &str) {
        let broken = TRIPS.iter().filter(|trip| !self.arrives(trip, !expected.contains(&trip.0)));
        assert_eq!(broken.map(|trip| trip.0).collect::<Vec<_>>(), expected, "{when}");
    }

    pub(crate) fn status(&self) -> Outcome {
        self.network.status()
    }

    /// All flows, STATUS and CHECK are content.
    #[track_caller]
    pub(crate) fn works(&self, when: &str) {
        self.breaks(&[], when);
        self.status().ok();
        self.plugin.prev(&self.result).check().ok();
    }

    /// An ADD of another container, and its DEL.
    pub(crate) fn another_add(&self) {
        let c = self.lab.container("c");
        let plugin = self.network.on(&c).publish(&["8099:80"]);
        plugin.prev(&plugin.add().ok()).del().ok();
    }

    /// Whatever is ours, flushed.
    pub(crate) fn flush_ours(&self, backend: &str) {
        if backend == "nftables" {
            self.lab.host.must(&["nft", "delete", "table", "inet", "linkspan"]);
            return;
        }
        for tool in ["iptables", "ip6tables"] {
            for (table, chains) in
                [("nat", ["PREROUTING", "POSTROUTING"]), ("filter", ["FORWARD", "FORWARD"])]
            {
                let saved = self.lab.host.must(&[tool, "-t", table, "-S"]);
                for line in saved.lines().filter(|line| line.contains("-j LINKSPAN-")) {
                    if !chains.iter().any(|chain| line.starts_with(&format!("-A {chain} "))) {
                        continue;
                    }
                    let mut words = vec![tool, "-t", table, "-D"];
                    words.extend(line.split_whitespace().skip(1));
                    self.lab.host.must(&words);
                }
            }
        }
    }
}
