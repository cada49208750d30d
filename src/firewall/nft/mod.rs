//! The ruleset as messages of nf_tables: static chains, dynamic elements.
//!
//! Table `inet linkspan` (`nft list table inet linkspan` shows it in words) is written once: base chains, sets and a
//! small chain for each network. An attachment then only adds and takes away elements, each with its owner as its
//! comment, so that a packet and an ADD cost the same at 1 and at 1,000 containers. Table `bridge linkspan` is there
//! only where some network guards what its containers claim to be.
//!
//! How the messages go together: send the attachment's elements ([`add_new`]); on `ENOENT` send [`base`] (`EEXIST`:
//! somebody was faster), then [`admin`] (`EEXIST` likewise), then [`network`] with [`add`] of [`network_elements`]
//! (`EEXIST` likewise), and the elements again. Each of these is a transaction of its own.

mod base;
mod described;
mod element;
mod expression;
mod foreign_port;
mod guard;
mod keeper;
mod key;
mod machine;
mod network;
mod passage;
mod reply;
mod set;
mod shift;
mod statement;
mod strange;
mod tally;
mod trace;
mod uapi;
mod wall;
mod whole;

pub use base::{
    ROUTED_FAMILIES, SHIFT_RULES, about_set, admin, base, base_chains, base_mended, chain_policy,
    dump_chains, dump_rules, dump_tables, probe_generation, probe_guard_table, probe_layout, probe_set,
    probe_table, shift_base, short_chains,
};
pub(in crate::firewall) use base::{flush_chain_of, remove_chain, remove_rule};
pub use described::described;
pub use element::{Element, Leads, add, add_new, dump, dump_foreign, get, owner_comment, remove};
pub use foreign_port::{parse_multiport, parse_published};
pub use guard::{guard_base, guard_replacing, guard_rule_counts};
pub use keeper::{KEEPER, keeper, remove_keeper};
pub use machine::{ForeignElement, ForeignSet, Packet, Tracking, Translation, parse_foreign_elements};
pub(in crate::firewall) use machine::{Match, Verdict, xt_match, xt_target};
pub use network::{
    attachment_elements, network, network_elements, network_removing, network_replacing, network_rule_counts,
    network_uses, wall_replacing,
};
pub use passage::{
    Doubt, End, Followed, ForeignRule, Place, Stopped, Table, follow, parse_foreign_rule, passage,
};
pub use reply::{BaseChain, Chain, is_rule, parse_chain, parse_chains, parse_elements, parse_generation};
pub(in crate::firewall) use reply::{comment_of_rule, handle_of_rule};
pub use set::Set;
pub(in crate::firewall) use set::interface_key;
pub use strange::{dump_sets, strange_set};
pub use tally::{
    Counted, TALLY, Tallied, tallied, tally_add, tally_adopted, tally_dumps, tally_made, tally_parse,
    tally_remove, tally_removed,
};
pub use trace::{TRACE, Traced, probe_trace, remove_trace, trace_chains, trace_table};
pub(in crate::firewall) use uapi::{BRIDGE, INET, IPV4, IPV6};
pub use whole::{
    Beside, StaticChain, dormant_table, is_dormant, is_owned, layout, static_chains, table_foundation,
};

/// The name of both tables.
pub const TABLE: &str = "linkspan";

#[cfg(test)]
mod tests;
