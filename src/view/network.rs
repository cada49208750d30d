//! Networks: what they are made of, how full they are, whether they work.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::ipam;
use crate::model::{self, FirewallBackend, Range};
use crate::plan::{Plan, Step};
use crate::store::{Found, Stage};

use super::{Attachment, Condition, Host, Lease, LeaseState, Reading, lacks_without_agent};

/// Whether a network works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It does.
    Ok,
    /// It does, and something is to be cleaned up or seen to.
    Warning,
    /// Containers suffer.
    Failed,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// A network as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Its subnets: those of its ranges, else those that its attachments have addresses in.
    pub subnets: Vec<IpNetwork>,
    /// The ranges that it hands out addresses from.
    pub ranges: Vec<Vec<Range>>,
    /// Addresses that have a lease, or that attachments have from elsewhere.
    pub used: usize,
    /// Addresses left to hand out, of the range set that has the fewest; absent where somebody else hands them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// How many attachments it has.
    pub attachments: usize,
    /// MTU of its links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Where its rules are.
    pub firewall: FirewallBackend,
    /// Whether it works.
    pub health: Health,
    /// What is wrong, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// All networks by name.
pub fn networks(reading: &Reading, attachments: &[Attachment], leases: &[Lease]) -> Vec<Network> {
    let mut ready: HashMap<&str, Vec<&Found<Plan>>> = HashMap::new();
    for found in reading.records.attachments.iter().filter(|found| found.stage == Stage::Ready) {
        ready.entry(&found.record.network).or_default().push(found);
    }
    let of = |record: &model::Network| {
        let ready = ready.get(record.name.as_str()).map_or(&[][..], Vec::as_slice);
        of(record, reading, ready, attachments, leases)
    };
    reading.records.networks.iter().map(of).collect()
}

/// `ready` are the records of the network's attachments that were made whole.
fn of(
    record: &model::Network,
    reading: &Reading,
    ready: &[&Found<Plan>],
    attachments: &[Attachment],
    leases: &[Lease],
) -> Network {
    let own: Vec<&Attachment> = attachments.iter().filter(|a| a.network == record.name).collect();
    let held: Vec<&Lease> = leases.iter().filter(|lease| lease.network == record.name).collect();
    let ranges = if record.ranges.is_empty() { &record.automatic } else { &record.ranges };
    let mut subnets: Vec<IpNetwork> = ranges.iter().flatten().map(|range| range.subnet).collect();
    if subnets.is_empty() {
        let of_addresses = own.iter().flat_map(|a| &a.addresses);
        subnets = of_addresses.filter_map(|a| IpNetwork::new(a.network(), a.prefix()).ok()).collect();
        subnets.sort_unstable();
        subnets.dedup();
    }
    let free = ranges.iter().map(|set| {
        let pool = ipam::Pool::new(set);
        let taken = held.iter().filter(|lease| pool.contains(lease.address)).count();
        u64::try_from(ipam::capacity(set).saturating_sub(taken as u128)).unwrap_or(u64::MAX)
    });
    let free = free.min();
    let mut doubts = Doubts::default();
    doubts.about_bridge(record, reading, ready);
    doubts.about_attachments(&own);
    doubts.about_leases(&held, free);
    if reading.records.agent_missing {
        doubts.about_agent(ready);
    }
    Network {
        name: record.name.clone(),
        bridge: record.bridge.clone(),
        subnets,
        ranges: ranges.clone(),
        used: if held.is_empty() { own.iter().map(|a| a.addresses.len()).sum() } else { held.len() },
        free,
        attachments: own.len(),
        mtu: record.mtu,
        firewall: record.backend,
        health: doubts.worst,
        problems: doubts.words,
    }
}

/// What is wrong, and how bad the worst of it is.
struct Doubts {
    worst: Health,
    words: Vec<String>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self { worst: Health::Ok, words: Vec::new() }
    }
}

impl Doubts {
    fn add(&mut self, health: Health, words: String) {
        self.worst = self.worst.max(health);
        self.words.push(words);
    }

    /// The bridge is there, up, and has the gateways that the attachments use. Without attachments none is needed.
    fn about_bridge(&mut self, record: &model::Network, reading: &Reading, ready: &[&Found<Plan>]) {
        let steps: Vec<_> = ready
            .iter()
            .flat_map(|found| &found.record.plan.steps)
            .filter_map(|step| if let Step::Bridge(bridge) = step { Some(bridge) } else { None })
            .collect();
        if steps.is_empty() {
            return;
        }
        let Some(link) = reading.host.link(&record.bridge) else {
            return self.add(Health::Failed, format!("the bridge {} is gone", record.bridge));
        };
        if !link.is_up() {
            self.add(Health::Failed, format!("the bridge {} is down", record.bridge));
        }
        let mut gateways: Vec<(Option<u16>, IpNetwork)> =
            steps.iter().flat_map(|s| s.gateways.iter().map(|g| (s.gateway_vlan, *g))).collect();
        gateways.sort_unstable();
        gateways.dedup();
        for (vlan, gateway) in gateways {
            if !has_gateway(&reading.host, &record.bridge, vlan, gateway) {
                self.add(
                    Health::Failed,
                    format!("the gateway address {gateway} is not on {}", record.bridge),
                );
            }
        }
    }

    fn about_attachments(&mut self, own: &[&Attachment]) {
        let count = |state| own.iter().filter(|a| a.state == state).count();
        let cases = [
            (
                Condition::Broken,
                Health::Failed,
                "broken: 'linkspan ps' says which, 'linkspan reconcile' mends",
            ),
            (Condition::Dead, Health::Warning, "dead: DEL or 'linkspan reconcile --collect' takes them away"),
            (Condition::HalfMade, Health::Warning, "half-made: the next ADD takes them away"),
            (Condition::Leaving, Health::Warning, "leaving: call DEL again"),
        ];
        for (state, health, words) in cases {
            let found = count(state);
            if found > 0 {
                let noun = if found == 1 { "attachment is" } else { "attachments are" };
                self.add(health, format!("{found} {noun} {words}"));
            }
        }
    }

    fn about_leases(&mut self, held: &[&Lease], free: Option<u64>) {
        let orphans = held.iter().filter(|lease| lease.state == LeaseState::Orphan).count();
        if orphans > 0 {
            let noun = if orphans == 1 { "lease belongs" } else { "leases belong" };
            self.add(Health::Warning, format!("{orphans} {noun} to nobody: 'linkspan gc' frees them"));
        }
        if free == Some(0) {
            self.add(Health::Warning, "no address is free".to_owned());
        }
    }

    fn about_agent(&mut self, ready: &[&Found<Plan>]) {
        let lacking: BTreeSet<_> =
            ready.iter().filter_map(|found| lacks_without_agent(&found.record)).collect();
        for (health, what) in lacking {
            self.add(health, format!("{what}: the agent is not there; 'linkspan doctor --fix' starts it"));
        }
    }
}

fn has_gateway(host: &Host, bridge: &str, vlan: Option<u16>, gateway: IpNetwork) -> bool {
    let name = vlan.map_or_else(|| bridge.to_owned(), |vlan| format!("{bridge}.{vlan}"));
    let link = host.link(&name);
    link.is_some_and(|link| host.addresses_of(link).any(|found| found.address == gateway))
}
