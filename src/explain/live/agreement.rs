//! Whether what was said beforehand is what happened.

use serde::Serialize;

use crate::explain::{Decision, Deed, Explanation, Fate};

use super::{Answer, Dropped, Live, Order, Outcome};

/// Whether the two agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Whether they do; absent where nothing was seen that could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
    /// Where they differ, or why it cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

impl Agreement {
    fn yes() -> Self {
        Self { agrees: Some(true), difference: None }
    }

    fn no(difference: String) -> Self {
        Self { agrees: Some(false), difference: Some(difference) }
    }
}

/// Compares an explanation with what was seen of a probe: the end, and where the trace names a rule that drops, that
/// very rule. What may die may do either.
pub fn compare(explanation: &Explanation, order: &Order, live: &Live) -> Agreement {
    if live.outcome == Outcome::Unseen {
        return Agreement { agrees: None, difference: Some(live.words.clone()) };
    }
    let through = live.outcome.is_through() || refused_outside(order, live);
    match (explanation.verdict, through) {
        (Fate::MayDie, _) | (Fate::Arrives, true) => Agreement::yes(),
        (Fate::Arrives, false) => Agreement::no(format!(
            "the rules and routes say that it arrives, and the probe did not: {}",
            live.words
        )),
        (Fate::Dies, true) => {
            let said = explanation.findings.first().map_or("", |finding| finding.what.as_str());
            Agreement::no(format!(
                "the rules and routes say that it ends ({said}), and the probe arrived: {}",
                live.words
            ))
        }
        (Fate::Dies, false) => same_rule(dropping(explanation), live.dropped.as_ref()),
    }
}

/// Whether somebody beyond this host said no: it arrived, as far as this host goes.
fn refused_outside(order: &Order, live: &Live) -> bool {
    let is_remote = match &live.answer {
        Answer::Reset => true,
        Answer::Icmp { from, .. } => *from == Some(order.to.ip()),
        _ => false,
    };
    order.leaves() && live.dropped.is_none() && is_remote
}

/// The decision that ends the way.
fn dropping(explanation: &Explanation) -> Option<&Decision> {
    let end = explanation.hops.iter().find(|hop| hop.ends)?;
    end.rules.iter().find(|decision| decision.verdict == Deed::Drop)
}

fn same_rule(said: Option<&Decision>, seen: Option<&Dropped>) -> Agreement {
    let words = |family: &str, table: &str, chain: &str, handle: Option<u64>| match handle {
        Some(handle) => format!("the rule with handle {handle} in chain {chain} of table {family} {table}"),
        None => format!("the policy of chain {chain} of table {family} {table}"),
    };
    let of_said = |d: &Decision| words(&d.family, &d.table, &d.chain, d.handle);
    let of_seen = |d: &Dropped| words(&d.family, &d.table, &d.chain, d.handle);
    match (said, seen) {
        (None, None) => Agreement::yes(),
        // Of which the kernel does not tell.
        (Some(said), None) if said.family.ends_with("legacy") => Agreement::yes(),
        (Some(said), Some(seen)) if of_said(said) == of_seen(seen) => Agreement::yes(),
        (Some(said), Some(seen)) => {
            Agreement::no(format!("{} was expected to drop it, and {} did", of_said(said), of_seen(seen)))
        }
        (Some(said), None) => Agreement::no(format!(
            "{} was expected to drop it, and the trace names no rule that did",
            of_said(said)
        )),
        (None, Some(seen)) => {
            Agreement::no(format!("no rule was expected to drop it, and {} did", of_seen(seen)))
        }
    }
}
