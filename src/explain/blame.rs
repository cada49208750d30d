//! Whose a chain is, as far as names tell.

use crate::firewall::nft::{self, Place};
use crate::model::chains;

use super::site::Gate;

/// Who writes the chains that linkspan makes for others.
const ADMINISTRATOR: &str = "an administrator";
/// Programs that are known by the names of their chains or tables.
const KNOWN: [(&str, &str); 18] = [
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
    ("CNI-ADMIN", ADMINISTRATOR),
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
        // What else is in our table is what administrators' chains lead to, or one of them.
        let is_own = base.family() != "inet" || chains::is_own_of_nftables(&place.chain);
        return if is_own { "linkspan" } else { ADMINISTRATOR }.to_owned();
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
pub(super) fn is_iptables(base: &Gate) -> bool {
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
    let (family, table, chain) = (base.family(), &base.chain.table, &place.chain);
    let of = if base.is_legacy() { format!("{table} of {family}") } else { format!("{family} {table}") };
    let whose = base.inside.as_ref().map(|inside| format!(" of container {}", inside.container));
    let of = format!("{of}{}", whose.unwrap_or_default());
    match place.rule {
        None => format!("chain {chain} of table {of} drops it by its policy"),
        Some(line) if base.is_legacy() => format!(
            "rule {line} in chain {chain} of table {of} drops it ({})",
            base.command(&format!("{family} -t {table} -L {chain} --line-numbers"))
        ),
        Some(handle) => format!(
            "the rule with handle {handle} in chain {chain} of table {of} drops it ({})",
            base.command(&format!("nft -a list chain {family} {table} {chain}"))
        ),
    }
}
