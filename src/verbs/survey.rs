//! What there is on a host, in numbers: for monitoring and for people. It changes nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::apply::{ApplyError, Kernel, Traffic};
use crate::firewall::nft::{self, Counted, Tallied};
use crate::ipam;
use crate::model::{AttachmentKey, Network, Part, Publication};
use crate::plan::Plan;
use crate::store::{Stage, State};

use super::VerbError;

/// A host's networks and attachments.
#[derive(Debug, Default)]
pub struct Survey {
    /// By name.
    pub networks: Vec<NetworkSurvey>,
    /// By key.
    pub attachments: Vec<AttachmentSurvey>,
}

/// A network in numbers.
#[derive(Debug)]
pub struct NetworkSurvey {
    /// What is known of it.
    pub network: Network,
    /// How many attachments it has.
    pub attachments: usize,
    /// Its pools of addresses, one for each address that an attachment gets.
    pub pools: Vec<Pool>,
}

/// A pool of addresses.
#[derive(Debug)]
pub struct Pool {
    /// Its ranges: `10.1.0.2-10.1.0.254`.
    pub ranges: String,
    /// How many are held.
    pub used: u128,
    /// How many there are.
    pub capacity: u128,
}

/// An attachment, or what a plugin of its chain added to it, in numbers.
#[derive(Debug)]
pub struct AttachmentSurvey {
    /// Who it is.
    pub key: AttachmentKey,
    /// Its network.
    pub network: String,
    /// Whether it has a link on the host that is linkspan's.
    pub has_link: bool,
    /// What has gone through its link; `None` where that is gone.
    pub traffic: Option<Traffic>,
    /// What has gone through its published ports, where the agent has them counted.
    pub ports: Vec<PortSurvey>,
}

/// A published port in numbers.
#[derive(Debug)]
pub struct PortSurvey {
    /// The port, or range.
    pub publication: Publication,
    /// What the container has received through it.
    pub received: Counted,
    /// What it has sent.
    pub sent: Counted,
}

/// Looks at everything, once.
///
/// # Errors
/// Where the state directory or the kernel cannot be asked.
pub fn survey(state: &State, kernel: &mut Kernel) -> Result<Survey, VerbError> {
    let traffic = kernel.traffic().map_err(|cause| ApplyError::new("the interfaces", cause))?;
    let counted = kernel.counted_ports().map_err(|cause| ApplyError::new("the published ports", cause))?;
    let (mut networks, _) = state.networks()?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut attachments: Vec<AttachmentSurvey> = Vec::new();
    let ready = state.all::<Plan>()?.found.into_iter().filter(|found| found.stage == Stage::Ready);
    for found in ready {
        let record = found.record;
        // What was added to an attachment is none of its own.
        *counts.entry(record.network.clone()).or_default() += usize::from(record.key.part == Part::Interface);
        let has_link = record.plan.link().is_some();
        let traffic = record.plan.link().and_then(|link| traffic.get(&link.host_name)).copied();
        let ports = published(&record.plan, &counted);
        let (key, network) = (record.key, record.network);
        attachments.push(AttachmentSurvey { key, network, has_link, traffic, ports });
    }
    attachments.sort_by(|a, b| a.key.cmp(&b.key));
    let mut surveyed = Vec::new();
    for network in networks {
        let pools = pools(state, &network)?;
        let attachments = counts.get(&network.name).copied().unwrap_or_default();
        surveyed.push(NetworkSurvey { network, attachments, pools });
    }
    Ok(Survey { networks: surveyed, attachments })
}

/// The published ports of an attachment that are counted. Two that conntrack cannot tell apart, since they have the same
/// number on two of the host's addresses and lead to the same container, are told of once.
fn published(plan: &Plan, counted: &HashMap<Tallied, Counted>) -> Vec<PortSurvey> {
    let publications = plan.firewall().map(|firewall| &*firewall.attachment.publications).unwrap_or_default();
    let mut told = HashSet::new();
    let mut ports = Vec::new();
    for publication in publications {
        let [received, sent] = nft::tallied(publication);
        let (Some(to), Some(from)) = (counted.get(&received), counted.get(&sent)) else { continue };
        if told.insert(received) {
            ports.push(PortSurvey { publication: *publication, received: *to, sent: *from });
        }
    }
    ports
}

/// One listing of the network's leases; no file is read.
fn pools(state: &State, network: &Network) -> Result<Vec<Pool>, VerbError> {
    let Some(directory) = &network.leases else { return Ok(Vec::new()) };
    let held = match state.existing_lease_directory(Path::new(directory))? {
        Some(directory) => directory.held()?,
        None => Default::default(),
    };
    let pool = |set: &crate::model::RangeSet| {
        let used = held.iter().filter(|address| set.iter().any(|range| range.contains(**address))).count();
        let ranges: Vec<String> = set.iter().map(|range| format!("{}-{}", range.start, range.end)).collect();
        Pool { ranges: ranges.join(","), used: used as u128, capacity: ipam::capacity(set) }
    };
    Ok(network.ranges.iter().map(pool).collect())
}
