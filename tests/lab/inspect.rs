//! What the kernel says, by the system's own tools.

use serde_json::Value;

use super::Space;

/// The JSON that a command prints inside a namespace; null where it prints nothing.
///
/// `nft -j` prints a list cut short where the ruleset changes while it reads (nft 1.0.6 sees the new generation and
/// begins again without a word), so that an answer that is no JSON is asked for again, a few times.
pub fn json(space: &Space, argv: &[&str]) -> Value {
    let mut tries = 0;
    loop {
        let text = space.must(argv);
        if text.trim().is_empty() {
            return Value::Null;
        }
        match serde_json::from_str(&text) {
            Ok(value) => return value,
            Err(_) if tries < 5 => tries += 1,
            Err(e) => panic!("{argv:?}: {e}: {text}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A link with its details, or `None`.
pub fn link(space: &Space, name: &str) -> Option<Value> {
    links(space).into_iter().find(|link| link["ifname"] == name)
}

/// All links with their details.
pub fn links(space: &Space) -> Vec<Value> {
    rows(json(space, &["ip", "-j", "-d", "link", "show"]))
}

/// Addresses of an interface as `10.0.0.1/24`, without link-local ones.
pub fn addresses(space: &Space, interface: &str) -> Vec<String> {
    address_rows(space, interface)
        .iter()
        .filter(|row| row["scope"] != "link")
        .map(|row| format!("{}/{}", row["local"].as_str().unwrap_or_default(), row["prefixlen"]))
        .collect()
}

/// Addresses of an interface as `ip -j` describes them.
pub fn address_rows(space: &Space, interface: &str) -> Vec<Value> {
    let all = rows(json(space, &["ip", "-j", "address", "show", "dev", interface]));
    all.into_iter()
        .flat_map(|link| rows(link["addr_info"].clone()))
        .filter(|row| row["local"].is_string())
        .collect()
}

/// Routes of every table of a family (4 or 6).
pub fn routes(space: &Space, family: u8) -> Vec<Value> {
    let family = if family == 4 { "-4" } else { "-6" };
    rows(json(space, &["ip", "-j", "-d", family, "route", "show", "table", "all"]))
}

/// The routes to one destination, `default` or `10.1.0.0/16`.
pub fn routes_to(space: &Space, family: u8, destination: &str) -> Vec<Value> {
    routes(space, family).into_iter().filter(|route| route["dst"] == destination).collect()
}

/// Queueing disciplines.
pub fn qdiscs(space: &Space) -> Vec<Value> {
    rows(json(space, &["tc", "-j", "qdisc", "show"]))
}

/// The text of the nf_tables ruleset, for searching.
pub fn ruleset(space: &Space) -> String {
    space.must(&["nft", "list", "ruleset"])
}

/// Everything the firewall holds, in either language, for searching.
pub fn firewall_text(space: &Space) -> String {
    let mut text = ruleset(space);
    for save in ["iptables-save", "ip6tables-save"] {
        text.push_str(&space.exec(&[save]).stdout);
    }
    text
}

/// Tracked connections of a protocol to a destination port.
pub fn tracked(space: &Space, protocol: &str, port: u16) -> Vec<String> {
    let said = space.exec(&["conntrack", "-L", "-p", protocol, "--dport", &port.to_string()]);
    said.stdout.lines().map(str::to_owned).collect()
}

/// The elements of a JSON array; nothing for anything else.
pub fn rows(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    }
}

/// Whether a flag is among those of a link.
pub fn has_flag(link: &Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag))
}
