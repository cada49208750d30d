//! Whose a chain is, as far as names tell, and what would open it.

use crate::firewall::nft::{self, Packet, Place};

use super::site::Gate;

/// Programs that are known by the names of their chains or tables.
const KNOWN: [(&str, &str); 17] = [
    ("LINKSPAN-", "linkspan"),
    ("LKS-", "linkspan"),
    ("DOCKER", "Docker"),
    ("docker-bridges", "Docker"),
    ("firewalld", "firewalld"),
    ("ufw", "ufw"),
    ("KUBE-", "kube-proxy"),
    ("kube-proxy", "kube-proxy"),
    ("cali", "Calico"),
    ("CILIUM", "Cilium"),
    ("FLANNEL", "flannel"),
    ("CNI-", "the CNI reference plugins"),
    ("netavark", "podman's netavark"),
    ("NETAVARK", "podman's netavark"),
    ("libvirt", "libvirt"),
    ("LIBVIRT", "libvirt"),
    ("f2b-", "fail2ban"),
];

/// Whose a place in a table is.
pub(super) fn owner(base: &Gate, place: &Place) -> String {
    if base.chain.table == nft::TABLE {
        return "linkspan".to_owned();
    }
    let named = |name: &str| KNOWN.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, who)| *who);
    if let Some(who) = named(&place.chain).or_else(|| named(&base.chain.table)) {
        return who.to_owned();
    }
    if is_iptables(base) { "iptables".to_owned() } else { "another program or an administrator".to_owned() }
}

/// Whether it is linkspan's own.
pub(super) fn is_ours(base: &Gate, place: &Place) -> bool {
    owner(base, place) == "linkspan"
}

/// Whether `iptables` shows it, over nf_tables or not.
fn is_iptables(base: &Gate) -> bool {
    if base.is_legacy() {
        return true;
    }
    let tables = ["filter", "nat", "mangle", "raw", "security"];
    matches!(base.family(), "ip" | "ip6")
        && tables.contains(&base.chain.table.as_str())
        && base.chain.name.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// `chain FORWARD of ip filter drops it by its policy`, `the rule with handle 7 of chain ...`.
pub(super) fn words(base: &Gate, place: &Place) -> String {
    let (family, table) = (base.family(), &base.chain.table);
    match place.rule {
        Some(line) if base.is_legacy() => format!(
            "rule {line} in chain {} of table {table} of {family} drops it ({family} -t {table} -L {} --line-numbers)",
            place.chain, place.chain
        ),
        None if base.is_legacy() => {
            format!("chain {} of table {table} of {family} drops it by its policy", place.chain)
        }
        None => format!("chain {} of table {family} {table} drops it by its policy", place.chain),
        Some(handle) => format!(
            "the rule with handle {handle} in chain {} of table {family} {table} drops it (nft -a list chain {family} {table} {})",
            place.chain, place.chain
        ),
    }
}

/// The commands that let the packet, and the answers to it, through somebody else's base chain.
pub(super) fn opening(base: &Gate, packet: &Packet) -> String {
    let there = conditions(base, packet.input.as_deref(), packet.output.as_deref());
    let back = conditions(base, packet.output.as_deref(), packet.input.as_deref());
    if is_iptables(base) {
        let tool = match base.family() {
            "ip" => "iptables-nft",
            "ip6" => "ip6tables-nft",
            legacy => legacy,
        };
        let command = |rest: &str| format!("{tool} -t {} -I {} {rest}", base.chain.table, base.chain.name);
        let there = command(&format!("{}-j ACCEPT", iptables_words(&there)));
        let known = format!("{}-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", iptables_words(&back));
        return format!("{there} && {}", command(&known));
    }
    let command = |rest: &str| {
        format!("nft insert rule {} {} {} {rest}", base.family(), base.chain.table, base.chain.name)
    };
    let there = command(&format!("{}accept", nft_words(&there)));
    if base.family() == "bridge" {
        return there;
    }
    format!("{there} && {}", command(&format!("{}ct state established,related accept", nft_words(&back))))
}

/// Input and output, where the hook knows them and they are interfaces.
fn conditions(base: &Gate, input: Option<&str>, output: Option<&str>) -> [Option<String>; 2] {
    const HOOKS_WITH_INPUT: [u32; 3] = [0, 1, 2];
    const HOOKS_WITH_OUTPUT: [u32; 3] = [2, 3, 4];
    let hook = base.hook();
    let some = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    [
        some(input).filter(|_| HOOKS_WITH_INPUT.contains(&hook)),
        some(output).filter(|_| HOOKS_WITH_OUTPUT.contains(&hook)),
    ]
}

fn nft_words([input, output]: &[Option<String>; 2]) -> String {
    let mut text = String::new();
    for (word, name) in [("iifname", input), ("oifname", output)] {
        if let Some(name) = name {
            text.push_str(&format!("{word} {name} "));
        }
    }
    text
}

fn iptables_words([input, output]: &[Option<String>; 2]) -> String {
    let mut text = String::new();
    for (word, name) in [("-i", input), ("-o", output)] {
        if let Some(name) = name {
            text.push_str(&format!("{word} {name} "));
        }
    }
    text
}
