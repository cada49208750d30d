//! The chain that says what a wall lets in: new connections from outside to what is not published.

use crate::firewall::NetworkRules;
use crate::model::chains;

use super::expression::Verdict;
use super::set::Set;
use super::statement::Statements;

/// The wall's chain, named after the bridge: networks that share a bridge share its wall. 20 bytes at most.
pub(super) fn chain(bridge: &str) -> String {
    format!("{}{bridge}", chains::WALLS[0])
}

/// Its rules: interfaces that are trusted by name, never other networks by a wildcard; where the network is routed,
/// echo requests and what is published; and at the end nobody.
pub(super) fn rules(network: &NetworkRules) -> Vec<Statements> {
    let accept = |statements: Statements| statements.then(&Verdict::Accept);
    let names = network.trusted.iter().filter_map(|pattern| pattern.exact());
    let mut chain: Vec<Statements> = names.map(|name| accept(Statements::new().from(name))).collect();
    let prefixes: Vec<&str> = network.trusted.iter().filter_map(|pattern| pattern.prefix()).collect();
    if !prefixes.is_empty() || network.routed {
        chain.push(Statements::new().entering(Set::Bridges).then(&Verdict::Drop));
    }
    chain.extend(prefixes.into_iter().map(|prefix| accept(Statements::new().input_begins(prefix))));
    if network.routed {
        chain.extend([Statements::new().echo_request4(), Statements::new().echo_request6()].map(accept));
        chain.extend([Set::Open4, Set::Open6].map(|set| accept(Statements::new().published_at(set))));
    }
    // Counted, so that whoever misses a packet sees where it went.
    chain.push(Statements::new().counted().then(&Verdict::Drop));
    chain
}
