//! Tracked connections that lead astray, and the table that is full of them.

use std::net::SocketAddr;

use crate::explain::{Fault, Finding};
use crate::model::Protocol;
use crate::sys::netlink::{self, Socket};
use crate::sys::nfnetlink::flows::{self, Flow};
use crate::sys::{SysError, sysctl};

use super::{perhaps, surely};

/// `IPS_DST_NAT` (`linux/netfilter/nf_conntrack_common.h`).
const TRANSLATED: u32 = 1 << 5;
/// The table counts as nearly full from so many hundredths on.
const NEARLY: u64 = 95;
/// How many flows are named.
const NAMED: usize = 3;

/// A tracked UDP flow that does not go where new ones go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleFlow {
    /// The client, from whose port on everything goes astray.
    pub client: SocketAddr,
    /// Where it sends.
    pub to: SocketAddr,
    /// Where that leads.
    pub leads_to: SocketAddr,
    /// Whether it is translated, and not simply the host's own.
    pub is_translated: bool,
}

/// The tracked UDP flows to `to` that do not lead to `target`, where the rules lead new ones to; a new flow to a port
/// that is not translated has `to` itself as its target. UDP is tracked for as long as packets come: a client that never
/// falls silent goes on to where the container was, or to where the port led before it was published.
///
/// # Errors
/// Where the kernel lists no connections: it lacks tracking, or we are not root.
pub fn stale_flows(to: SocketAddr, target: SocketAddr) -> Result<Vec<StaleFlow>, SysError> {
    let mut socket = Socket::open(netlink::Protocol::Netfilter)?;
    let udp = Protocol::Udp.number();
    let astray = |flow: &Flow| flow.protocol == udp && flow.original.to == to && flow.reply.from != target;
    let found = flows::list(&mut socket, astray)?;
    Ok(found
        .iter()
        .map(|flow| StaleFlow {
            client: flow.original.from,
            to,
            leads_to: flow.reply.from,
            is_translated: flow.status & TRANSLATED != 0,
        })
        .collect())
}

impl StaleFlow {
    /// The finding of all of them; `None` where there are none. Clients that are not among them are not stopped.
    pub fn finding(stale: &[Self], target: SocketAddr) -> Option<Finding> {
        let first = stale.first()?;
        let named = stale.iter().take(NAMED).map(|flow| format!("{} to {}", flow.client, flow.leads_to));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = if stale.len() > NAMED { " and more" } else { "" };
        let why = if first.is_translated { "" } else { ", untranslated" };
        let what = format!(
            "tracked UDP flows to {} still lead elsewhere than to {target}: from {named}{more}{why}; what these clients send does not arrive, new ones are not concerned",
            first.to
        );
        let family = if first.to.is_ipv4() { "ipv4" } else { "ipv6" };
        let (address, port) = (first.to.ip(), first.to.port());
        let mend = format!("conntrack -D -f {family} -p udp --orig-dst {address} --orig-port-dst {port}");
        Some(perhaps(Fault::StaleFlow, what, mend))
    }
}

/// Whether the table of tracked connections of the calling thread's namespace has room. The kernel drops what it cannot
/// track, whatever the rules say.
pub fn conntrack_table() -> Vec<Finding> {
    let number = |key: &str| sysctl::read(key).ok().and_then(|value| value.trim().parse::<u64>().ok());
    let count = number("net/netfilter/nf_conntrack_count");
    let most = number("net/netfilter/nf_conntrack_max");
    count.zip(most).and_then(|(count, most)| judge_table(count, most)).into_iter().collect()
}

/// The finding on a table with `count` connections of `most`; a maximum of 0 is none.
pub fn judge_table(count: u64, most: u64) -> Option<Finding> {
    if most == 0 || count.saturating_mul(100) < most.saturating_mul(NEARLY) {
        return None;
    }
    let mend = format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(2));
    Some(if count >= most {
        let what = format!(
            "the table of tracked connections is full ({count} of {most}): the kernel drops what is new"
        );
        surely(Fault::ConntrackFull, what, mend)
    } else {
        let what = format!("the table of tracked connections is nearly full ({count} of {most})");
        perhaps(Fault::ConntrackFull, what, mend)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Certainty;

    #[test]
    fn a_table_is_judged_by_its_fullness() {
        assert_eq!(judge_table(94, 100), None);
        assert_eq!(judge_table(95, 100).unwrap().certainty, Certainty::Perhaps);
        assert_eq!(judge_table(100, 100).unwrap().certainty, Certainty::Surely);
        assert_eq!(judge_table(5, 0), None, "no limit");
        assert_eq!(judge_table(u64::MAX, u64::MAX).unwrap().fault, Fault::ConntrackFull);
    }

    #[test]
    fn no_flow_is_no_finding() {
        assert_eq!(StaleFlow::finding(&[], "10.0.0.1:53".parse().unwrap()), None);
    }
}
