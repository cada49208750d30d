//! Attachments: the record, and what has become of it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::firewall::nft::{self, Element};
use crate::model::{AttachmentKey, FirewallBackend, MacAddress, Publication};
use crate::plan::{Plan, Sandbox};
use crate::store::{Found, Stage};
use crate::sys::{Netns, NetnsId};

use super::{Host, Reading};

/// How an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Everything that was looked at is there.
    Up,
    /// Its ADD is at work.
    Attaching,
    /// Its ADD was killed: the next ADD or GC undoes it.
    HalfMade,
    /// Its DEL has begun, and something keeps it from ending.
    Leaving,
    /// Its container's namespace is gone, and nobody has called DEL.
    Dead,
    /// The container is there, and something of its network is not.
    Broken,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Attaching => "attaching",
            Self::HalfMade => "half-made",
            Self::Leaving => "leaving",
            Self::Dead => "dead",
            Self::Broken => "broken",
        })
    }
}

/// An attachment as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The container's ID.
    pub container: String,
    /// The interface's name in the container.
    pub interface: String,
    /// The container's name, where the runtime told it: `NAMESPACE/POD` under Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its network.
    pub network: String,
    /// How it is.
    pub state: Condition,
    /// What is wrong with it, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<IpNetwork>,
    /// Its published ports.
    pub ports: Vec<Publication>,
    /// Ports that it was to publish, and that another interface of its container publishes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Publication>,
    /// When its ADD began, in seconds since 1970.
    pub since: u64,
    /// The path of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Its hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// The host end of its veth pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub veth: Option<String>,
    /// The bridge that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// What else the runtime said of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// All attachments, the oldest first.
pub fn attachments(reading: &Reading) -> Vec<Attachment> {
    let present: Option<HashSet<ElementId<'_>>> =
        reading.host.elements.as_ref().ok().map(|all| all.iter().map(element_id).collect());
    let mut all: Vec<Attachment> = Vec::with_capacity(reading.records.attachments.len());
    let mut places: HashMap<AttachmentKey, usize> = HashMap::new();
    // The interface first, then what other plugins of its list have added to it.
    let (whole, parts): (Vec<_>, Vec<_>) =
        reading.records.attachments.iter().partition(|found| found.record.key.part.is_interface());
    for found in whole.into_iter().chain(parts) {
        let own = of(found, &reading.host, present.as_ref());
        match places.entry(found.record.key.attachment()) {
            Entry::Occupied(place) => all[*place.get()].add(own),
            Entry::Vacant(place) => {
                place.insert(all.len());
                all.push(own);
            }
        }
    }
    all
}

impl Attachment {
    /// Takes up a part that another plugin made: published ports, walls, rates.
    fn add(&mut self, part: Self) {
        self.ports.extend(part.ports);
        self.waiting.extend(part.waiting);
        self.problems.extend(part.problems);
        if self.state == Condition::Up {
            self.state = part.state;
        }
    }
}

/// What tells elements of the kernel apart.
type ElementId<'a> = (nft::Set, &'a [u8], &'a str);

fn element_id(element: &Element) -> ElementId<'_> {
    (element.set, &element.key, &element.owner)
}

fn of(found: &Found<Plan>, host: &Host, present: Option<&HashSet<ElementId<'_>>>) -> Attachment {
    let record = &found.record;
    let (link, plan) = (record.plan.link(), &record.plan);
    let mut problems = Vec::new();
    let state = match found.stage {
        Stage::Pending { alive: true } => Condition::Attaching,
        Stage::Pending { alive: false } => {
            problems.push("its ADD was killed half-way: the next ADD undoes it".to_owned());
            Condition::HalfMade
        }
        Stage::Doomed => {
            problems.push("its DEL has begun and has not ended: call it again".to_owned());
            Condition::Leaving
        }
        Stage::Ready => judge(plan, host, present, &mut problems),
    };
    Attachment {
        container: record.key.container_id.clone(),
        interface: record.key.interface.clone(),
        name: name(&record.labels),
        network: record.network.clone(),
        state,
        problems,
        addresses: plan
            .leases()
            .map(|step| step.leases.iter().map(|l| l.address).collect())
            .unwrap_or_default(),
        ports: publications(plan).to_vec(),
        waiting: plan.claims().map(|claims| claims.waiting.clone()).unwrap_or_default(),
        since: record.created,
        sandbox: plan
            .interface()
            .map(|i| &i.sandbox)
            .or(plan.upon().map(|u| &u.sandbox))
            .map(|s| s.path.clone()),
        mac: link.map(|link| link.mac),
        veth: link.map(|link| link.host_name.clone()),
        bridge: link.and_then(|link| link.bridge.clone()),
        labels: record.labels.clone(),
    }
}

/// The published ports of a plan.
pub(super) fn publications(plan: &Plan) -> &[Publication] {
    plan.claims().map(|claims| claims.publications.as_slice()).unwrap_or_default()
}

fn name(labels: &BTreeMap<String, String>) -> Option<String> {
    let pod = labels.get("K8S_POD_NAME")?;
    Some(match labels.get("K8S_POD_NAMESPACE") {
        Some(namespace) => format!("{namespace}/{pod}"),
        None => pod.clone(),
    })
}

/// A ready attachment: whether its container lives and its pieces are there.
fn judge(
    plan: &Plan,
    host: &Host,
    present: Option<&HashSet<ElementId<'_>>>,
    problems: &mut Vec<String>,
) -> Condition {
    let Some(link) = plan.link() else { return Condition::Up };
    if !sandbox_lives(&link.sandbox) {
        problems.push(format!("the namespace {} is gone and DEL was never called", link.sandbox.path));
        return Condition::Dead;
    }
    match host.link(&link.host_name) {
        None => problems.push(format!("its host end {} is gone", link.host_name)),
        Some(found) => {
            if let Some(name) = &link.bridge
                && host.link(name).is_none_or(|bridge| found.master != Some(bridge.index))
            {
                problems.push(format!("its host end {} is not on the bridge {name}", found.name));
            }
            if !found.is_up() {
                problems.push(format!("its host end {} is down", found.name));
            }
        }
    }
    if let (Some(present), Some(firewall)) = (present, plan.firewall())
        && firewall.backend == FirewallBackend::Nftables
    {
        let wanted = nft::attachment_elements(&firewall.network, &firewall.attachment);
        let missing = wanted.iter().filter(|element| !present.contains(&element_id(element))).count();
        if missing > 0 {
            problems.push(format!("{missing} of {} firewall elements are missing", wanted.len()));
        }
    }
    if problems.is_empty() { Condition::Up } else { Condition::Broken }
}

/// Whether the namespace is still the one at its path. One that cannot be looked at counts as alive.
fn sandbox_lives(sandbox: &Sandbox) -> bool {
    let expected = NetnsId { device: sandbox.device, inode: sandbox.inode };
    Netns::identity_at(&sandbox.path).map_or(true, |found| found == Some(expected))
}
