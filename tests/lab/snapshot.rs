//! The whole state of a host as a sorted list of facts, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::inspect::{json, links, rows};
use super::{Lab, Space};

/// Facts about a host: links, addresses, routes, queueing, firewall, files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// The state of the lab's host.
    pub fn take(lab: &Lab) -> Self {
        Self::of(&lab.host, &["/run/linkspan", "/var/lib/cni"])
    }

    /// The state of the lab's host, with the files under further directories.
    pub fn with(lab: &Lab, directories: &[&str]) -> Self {
        let mut all = vec!["/run/linkspan", "/var/lib/cni"];
        all.extend(directories);
        Self::of(&lab.host, &all)
    }

    /// The state of a host and of files under some directories.
    pub fn of(host: &Space, directories: &[&str]) -> Self {
        let mut this = Self::quick(host, directories);
        this.add_addresses(host);
        this.add_routes(host);
        for qdisc in super::inspect::qdiscs(host) {
            // Those that the kernel gives every link say nothing; their order of appearance even less.
            if qdisc["kind"] != "noqueue" && qdisc["kind"] != "pfifo_fast" {
                this.note(
                    format!("qdisc {} {} {}", qdisc["dev"], qdisc["kind"], qdisc["root"]),
                    &qdisc["options"],
                );
            }
        }
        for save in
            ["iptables-nft-save", "iptables-legacy-save", "ip6tables-nft-save", "ip6tables-legacy-save"]
        {
            this.add_iptables(host, save);
        }
        this
    }

    /// Only what an attachment cannot do without: links, nf_tables, files. A tenth of the time.
    pub fn quick(host: &Space, directories: &[&str]) -> Self {
        let mut this = Self::default();
        for link in links(host) {
            this.add_link(&link);
        }
        this.add_nftables(host);
        for directory in directories {
            this.add_files(Path::new(directory));
        }
        this
    }

    fn note(&mut self, key: String, value: &Value) {
        self.put(key, value.to_string());
    }

    /// Keeps facts apart that look the same: two rules alike are two facts.
    fn put(&mut self, key: String, value: String) {
        let mut name = key.clone();
        let mut count = 1;
        while self.facts.contains_key(&name) {
            count += 1;
            name = format!("{key} #{count}");
        }
        self.facts.insert(name, value);
    }

    fn add_link(&mut self, link: &Value) {
        let mut kept = serde_json::Map::new();
        for key in ["mtu", "master", "group", "address", "txqlen", "promiscuity", "allmulti"] {
            kept.insert(key.to_owned(), link[key].clone());
        }
        kept.insert("kind".to_owned(), link["linkinfo"]["info_kind"].clone());
        let flags = rows(link["flags"].clone());
        // A bridge has a carrier only while a port has one.
        let lasting = flags.into_iter().filter(|f| f != "LOWER_UP" && f != "NO-CARRIER");
        kept.insert("flags".to_owned(), lasting.collect());
        self.note(format!("link {}", link["ifname"].as_str().unwrap_or_default()), &Value::Object(kept));
    }

    fn add_addresses(&mut self, host: &Space) {
        for link in rows(json(host, &["ip", "-j", "address", "show"])) {
            for row in rows(link["addr_info"].clone()) {
                // The link-local address that the kernel gives a bridge comes and goes with its carrier.
                if row["local"].is_string() && row["scope"] != "link" {
                    let text = format!(
                        "address {} {}/{}",
                        word(&link["ifname"]),
                        word(&row["local"]),
                        row["prefixlen"]
                    );
                    self.put(text, word(&row["scope"]));
                }
            }
        }
    }

    fn add_routes(&mut self, host: &Space) {
        for family in [4, 6] {
            for route in super::inspect::routes(host, family) {
                let destination = word(&route["dst"]);
                if destination.starts_with("fe80:") || destination.starts_with("ff00:") {
                    continue;
                }
                let (table, device) = (word(&route["table"]), word(&route["dev"]));
                // The kernel's own table follows from the addresses, and for IPv6 from the carrier, a moment later.
                if table == "local" {
                    continue;
                }
                let mut route = route;
                if let Some(fields) = route.as_object_mut() {
                    fields.remove("flags");
                }
                self.note(format!("route {destination} table {table} dev {device}"), &route);
            }
        }
    }

    fn add_nftables(&mut self, host: &Space) {
        let listed = json(host, &["nft", "-j", "list", "ruleset"]);
        for object in rows(listed["nftables"].clone()) {
            let Some((kind, body)) = object.as_object().and_then(|o| o.iter().next()) else { continue };
            if kind == "metainfo" {
                continue;
            }
            let mut body = still(body.clone());
            let table = if kind == "table" { word(&body["name"]) } else { word(&body["table"]) };
            if table == "linkspan-bytes" {
                // Counted all the time, and by the agent alone.
                continue;
            }
            let place = format!("{} {table}", word(&body["family"]));
            if kind == "rule" {
                self.put(
                    format!("nft rule {place} {} {}", word(&body["chain"]), body["expr"]),
                    body["comment"].to_string(),
                );
                continue;
            }
            let elements = body.as_object_mut().and_then(|b| b.remove("elem"));
            for element in rows(elements.unwrap_or_default()) {
                self.put(format!("nft element {place} {} {element}", word(&body["name"])), String::new());
            }
            self.note(format!("nft {kind} {place} {}", word(&body["name"])), &body);
        }
    }

    fn add_iptables(&mut self, host: &Space, save: &str) {
        let mut table = String::new();
        for line in host.exec(&[save]).stdout.lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
            } else if line.starts_with([':', '-']) {
                let line = line.split(" [").next().unwrap_or(line);
                self.put(format!("{save} {table} {line}"), String::new());
            }
        }
    }

    fn add_files(&mut self, path: &Path) {
        let Ok(kind) = fs::symlink_metadata(path) else { return };
        if kind.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.add_files(&entry.path());
            }
        } else {
            let bytes = if kind.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
            self.put(format!("file {}", path.display()), String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    /// The facts, `key = value`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.facts.iter().map(|(key, value)| format!("{key} = {value}"))
    }

    /// How this differs from an earlier one, fact by fact.
    pub fn since(&self, before: &Self) -> Vec<Change> {
        let keys: BTreeSet<&String> = before.facts.keys().chain(self.facts.keys()).collect();
        let mut changes = Vec::new();
        for key in keys {
            let (was, is) = (before.facts.get(key).cloned(), self.facts.get(key).cloned());
            if was != is {
                changes.push(Change { key: key.clone(), was, is });
            }
        }
        changes
    }

    /// Asserts that nothing at all has changed since an earlier one. Lock files may have appeared, and the address
    /// where the next search starts may have moved.
    #[track_caller]
    pub fn assert_same(&self, before: &Self, what: &str) {
        if let Some(changes) = self.differs(before) {
            panic!("{what}: the host has changed:\n{changes}");
        }
    }

    /// What has changed since an earlier one beyond that, as a listing; `None` where nothing has.
    pub fn differs(&self, before: &Self) -> Option<String> {
        let changes: Vec<Change> = self.since(before).into_iter().filter(|c| !c.is_harmless()).collect();
        (!changes.is_empty()).then(|| listing(&changes))
    }

    /// Asserts that all that has changed since an earlier one belongs to the network and not to an attachment: its
    /// bridge, its base chains, its record. `traces` are words of the attachment (its ID, its addresses, the host
    /// end of its veth pair) that may appear nowhere.
    #[track_caller]
    pub fn assert_only_shared(&self, before: &Self, bridge: &str, traces: &[&str]) {
        let odd = |change: &Change| !change.is_harmless() && !change.is_shared(bridge);
        let changes: Vec<Change> = self.since(before).into_iter().filter(odd).collect();
        assert!(changes.is_empty(), "more than the network's own things were left:\n{}", listing(&changes));
        self.assert_without(traces);
    }

    /// Asserts that no fact mentions a word. `last_reserved_ip` files are meant to.
    #[track_caller]
    pub fn assert_without(&self, traces: &[&str]) {
        for (key, value) in &self.facts {
            if key.contains("/last_reserved_ip.") {
                continue;
            }
            for trace in traces {
                let text = format!("{key} = {value}");
                assert!(!mentions(&text, trace), "a trace of {trace} was left: {text}");
            }
        }
    }

    /// Whether some fact mentions a word.
    pub fn mentions(&self, word: &str) -> bool {
        self.lines().any(|line| mentions(&line, word))
    }
}

/// One fact that appeared, went, or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which fact.
    pub key: String,
    /// Its value before.
    pub was: Option<String>,
    /// Its value after.
    pub is: Option<String>,
}

impl Change {
    /// Lock files are made once and stay; the search for a free address goes on after the last one given; and when the
    /// firewall was last seen whole is noted with each call.
    fn is_harmless(&self) -> bool {
        let name = self.key.rsplit('/').next().unwrap_or_default();
        self.key.starts_with("file ")
            && (name == "lock"
                || name == "ruleset"
                || name.ends_with(".lock")
                || name.starts_with("last_reserved_ip."))
    }

    /// What belongs to a network, and so stays when an attachment goes.
    fn is_shared(&self, bridge: &str) -> bool {
        let key = self.key.as_str();
        let on_bridge = || key.contains(&format!(" {bridge}")) || key.ends_with(&format!(" dev {bridge}"));
        if key.starts_with("link ") || key.starts_with("address ") || key.starts_with("route ") {
            return self.was.is_none() && on_bridge();
        }
        if key.starts_with("file ") {
            return key.contains("/run/linkspan/networks/");
        }
        // Chains, sets and rules of the network, in a table of ours or of iptables. Elements must be the bridge's.
        if key.starts_with("nft element ") {
            return mentions(key, bridge);
        }
        self.was.is_none() && (key.starts_with("nft ") || key.starts_with("ip"))
    }
}

fn listing(changes: &[Change]) -> String {
    let absent = || "(absent)".to_owned();
    let line = |c: &Change| {
        let (was, is) = (c.was.clone().unwrap_or_else(absent), c.is.clone().unwrap_or_else(absent));
        format!("  {}: {was} -> {is}\n", c.key)
    };
    changes.iter().map(line).collect()
}

/// Whether a text contains a word that is not part of a longer one: `10.1.0.2` is neither in `10.1.0.25` nor in
/// `10.1.0.2.3`, but in `10.1.0.2:80`; `fd00::2` is not in `fd00::2:1`.
fn mentions(text: &str, word: &str) -> bool {
    let six = word.contains("::");
    let joins = |c: char| c == '.' || (six && c == ':');
    text.match_indices(word).any(|(at, _)| {
        let longer_before =
            text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || joins(c));
        let mut after = text[at + word.len()..].chars();
        let longer_after = match after.next() {
            Some(c) if joins(c) => after.next().is_some_and(|c| c.is_ascii_alphanumeric()),
            other => other.is_some_and(|c| c.is_ascii_alphanumeric()),
        };
        !longer_before && !longer_after
    })
}

/// A value without what changes by itself: handles and counters.
fn still(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| key != "handle" && key != "index");
            kept.map(|(key, value)| (key.clone(), if key == "counter" { Value::Null } else { still(value) }))
                .collect()
        }
        Value::Array(rows) => rows.into_iter().map(still).collect(),
        plain => plain,
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
