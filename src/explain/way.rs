//! The way of a packet as a plain value: what `--json` prints (docs/json.md).

use std::net::IpAddr;

use serde::Serialize;

use super::finding::Finding;
use super::query::Transport;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// The packet that was asked about.
    There,
    /// The answer to it.
    Back,
}

/// What a chain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Let it through.
    Accept,
    /// Dropped or rejected it.
    Drop,
    /// Changed its destination.
    Dnat,
    /// Changed its source.
    Snat,
}

/// A base chain that the packet went through, and the rule in it, or in a chain that it leads to, that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// `ip`, `ip6`, `inet`, `bridge`, as `nft` names it; `iptables-legacy` and `ip6tables-legacy` for theirs.
    pub family: String,
    /// The table.
    pub table: String,
    /// The base chain.
    pub base: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`.
    pub hook: &'static str,
    /// The base chain's place among those of its hook: lower goes first.
    pub priority: i32,
    /// The chain that the rule is in.
    pub chain: String,
    /// The rule's number in its table (`nft -a list chain`); absent for the base chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// Whose it is, as far as names tell.
    pub owner: String,
    /// What it did.
    pub verdict: Deed,
}

/// One place on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Counted from 1.
    pub number: usize,
    /// There, or back.
    pub leg: Leg,
    /// Where: a container, an interface, a hook.
    pub place: String,
    /// What happens there, and why.
    pub what: String,
    /// The chains that it went through there, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Decision>,
    /// Whether it ends here.
    pub ends: bool,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It arrives, and its answer comes back.
    Arrives,
    /// It ends on the way, or its answer does.
    Dies,
    /// It ends unless something that could not be looked at lets it pass.
    MayDie,
}

/// The whole way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who sends, in words.
    pub from: String,
    /// To whom, in words.
    pub to: String,
    /// What is sent.
    pub protocol: Transport,
    /// The address that it is sent from.
    pub source: IpAddr,
    /// The address that it is sent to.
    pub destination: IpAddr,
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Each place on the way, there and back, up to that where it ends.
    pub hops: Vec<Hop>,
    /// What becomes of it.
    pub verdict: Fate,
    /// The hop where it ends.
    #[serde(rename = "diesAt", skip_serializing_if = "Option::is_none")]
    pub dies_at: Option<usize>,
    /// What ends it, first; then what may.
    pub findings: Vec<Finding>,
    /// What was not looked at, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}
