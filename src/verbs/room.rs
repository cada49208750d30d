//! What an ADD needs of the bridge, the state directory and the firewall that another may have taken: for STATUS.

use ipnetwork::IpNetwork;

use crate::apply::Cause;
use crate::cni::{Code, Ipam, LinkKeys, NetworkConfig, StaticAddress};
use crate::model::{FirewallBackend, Network, RangeSet};
use crate::plan::Bridge;

use super::{Context, VerbError, addressing, network};

/// Refuses where the bridge has an address that the network's gateways cannot stand beside.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_gateways(
    cx: &mut Context,
    config: &NetworkConfig,
    recorded: Option<&Network>,
) -> Result<(), VerbError> {
    // A VLAN's gateway is on a link of its own.
    if !config.bridge.is_gateway || config.bridge.vlan.is_some() || config.link != LinkKeys::Bridge {
        return Ok(());
    }
    // One that nobody has named gets a name that is free.
    let Some(name) = network::known_bridge(config, recorded) else { return Ok(()) };
    let (gateways, siblings) = gateways(config, recorded);
    let bridge = Bridge {
        name: name.to_owned(),
        mac: None,
        mtu: None,
        gateways,
        siblings,
        force_address: config.bridge.force_address,
        promisc: false,
        vlan_filtering: false,
        gateway_vlan: None,
        route_localnet: false,
    };
    cx.kernel.refuse_gateway_clash(&bridge).map_err(|cause| not_ready(cause.to_string()))
}

/// The gateways that the next ADD puts on the bridge, and those that another one may.
fn gateways(config: &NetworkConfig, recorded: Option<&Network>) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
    if let Ipam::Static { addresses, .. } = &config.ipam {
        let of = |one: &StaticAddress| IpNetwork::new(one.gateway?, one.address.prefix()).ok();
        return (addresses.iter().filter_map(of).collect(), Vec::new());
    }
    let (mut gateways, mut siblings) = (Vec::new(), Vec::new());
    for set in range_sets(config, recorded) {
        // Which range of a set an ADD takes is not known before: the first, as long as that has addresses.
        let all = set.iter().filter_map(|range| IpNetwork::new(range.gateway?, range.subnet.prefix()).ok());
        let mut all = all.collect::<Vec<IpNetwork>>().into_iter();
        gateways.extend(all.next());
        siblings.extend(all);
    }
    (gateways, siblings)
}

/// Refuses where the state directory's file system has not as many free inodes as an ADD makes files.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_files(
    cx: &Context,
    config: &NetworkConfig,
    recorded: Option<&Network>,
) -> Result<(), VerbError> {
    let needed = files_of_an_add(config, recorded);
    match cx.state.free_files() {
        Some(free) if free < needed => Err(not_ready(format!(
            "the file system of {} has {free} free inodes, and an ADD needs {needed}: delete files there, or give it more",
            cx.state.root().display()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a table of ours in which somebody else has made sets of our names, so that no element fits.
///
/// # Errors
/// [`VerbError::NotReady`] with code 50.
pub(super) fn require_sets(cx: &mut Context, backend: FirewallBackend) -> Result<(), VerbError> {
    if backend != FirewallBackend::Nftables {
        return Ok(());
    }
    match cx.kernel.strange_sets() {
        Ok(strange) if strange.is_empty() => Ok(()),
        Ok(strange) => Err(not_ready(format!(
            "in the table inet linkspan somebody else has made {}: 'nft delete table inet linkspan', and 'linkspan \
             reconcile' makes it anew",
            strange.join(", ")
        ))),
        // No ADD fails for what others change at the same time.
        Err(Cause::Sys(error)) if error.is_transient() => Ok(()),
        Err(cause) => Err(not_ready(cause.to_string())),
    }
}

/// What the first ADD of a network makes beside what is its own: the network's record, the directory of its leases, and
/// where it is the host's first, the lock, the directories of both and the account of the ruleset.
const OF_A_NETWORK: u64 = 6;

/// The record and a name for each lease, which tmpfs counts as an inode too; a file more where the record may be written
/// anew, which is there beside it until it takes its place; of a new network also a file for each range set, and
/// [`OF_A_NETWORK`].
fn files_of_an_add(config: &NetworkConfig, recorded: Option<&Network>) -> u64 {
    let own_sets = match &config.ipam {
        Ipam::HostLocal(host_local) if host_local.data_dir.is_none() => host_local.range_sets.len().max(1),
        _ => 0,
    };
    let own_sets = u64::try_from(own_sets).unwrap_or_default();
    let of_network = if recorded.is_none() { OF_A_NETWORK + own_sets } else { 0 };
    1 + u64::from(may_be_rewritten(config)) + own_sets + of_network
}

/// Whether more may be known of an attachment than when its record was written: addresses that another plugin gave, and
/// settings that the kernel words in its own way.
fn may_be_rewritten(config: &NetworkConfig) -> bool {
    matches!(config.ipam, Ipam::Delegated { .. }) || !config.tuning.sysctl.is_empty()
}

/// The network's range sets, automatic ones among them; none where another hands out its addresses.
fn range_sets<'a>(config: &'a NetworkConfig, recorded: Option<&'a Network>) -> &'a [RangeSet] {
    match (&config.ipam, recorded) {
        (Ipam::HostLocal(host_local), Some(network)) => addressing::range_sets(host_local, network),
        (Ipam::HostLocal(host_local), None) => &host_local.range_sets,
        _ => &[],
    }
}

fn not_ready(reason: String) -> VerbError {
    VerbError::NotReady { code: Code::NotAvailable, reason }
}
