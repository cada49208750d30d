//! One attachment or one network in full: what is recorded beside what the kernel has.

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::apply::{FoundRule, Kernel};
use crate::firewall::nft;
use crate::model::{self, FirewallBackend, LeaseSource, MacAddress};
use crate::plan::{self, Link, Plan, Step};
use crate::store::{State, StoreError};
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::rtnl::{self, RouteFilter};
use crate::sys::sysctl::{self, FORWARDING4, FORWARDING6};
use crate::sys::{Netns, SysError};

use super::{Attachment, Network, Reading, Traffic};

/// One thing, as it is recorded and as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What it is.
    pub what: String,
    /// What the record says; empty for what is only found.
    pub recorded: String,
    /// What is there.
    pub found: String,
    /// Whether the two agree.
    pub same: bool,
}

/// All that is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachmentDetails {
    /// As `ps` has it.
    pub attachment: Attachment,
    /// Record and kernel side by side.
    pub comparisons: Vec<Comparison>,
    /// What has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Everything that CHECK finds, in words.
    pub drift: Vec<String>,
}

/// All that is known of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkDetails {
    /// As `ls` has it.
    pub network: Network,
    /// Record and kernel side by side.
    pub comparisons: Vec<Comparison>,
    /// Its attachments.
    pub attachments: Vec<Attachment>,
}

/// Collects comparisons.
#[derive(Default)]
struct Sheet(Vec<Comparison>);

#[allow(clippy::needless_pass_by_value, reason = "numbers, words and addresses as they come")]
impl Sheet {
    fn compare(&mut self, what: impl Into<String>, recorded: impl ToString, found: impl ToString) {
        let (recorded, found) = (recorded.to_string(), found.to_string());
        self.0.push(Comparison { what: what.into(), same: recorded == found, recorded, found });
    }

    /// Something that is there or not.
    fn present(&mut self, what: impl Into<String>, recorded: impl ToString, is_there: bool) {
        let found = if is_there { recorded.to_string() } else { "missing".to_owned() };
        self.compare(what, recorded, found);
    }

    /// Something that could not be looked at, or of which nothing is recorded, is no difference.
    fn unknown(&mut self, what: impl Into<String>, recorded: impl ToString, found: impl Into<String>) {
        let recorded = recorded.to_string();
        self.0.push(Comparison { what: what.into(), recorded, found: found.into(), same: true });
    }
}

/// The steps of an attachment beside the host and the container's namespace, which is entered. Who holds its addresses and
/// host ports is looked up here, one by one: the reading needs neither all leases nor all claims.
pub fn compare_attachment(plan: &Plan, reading: &Reading) -> Vec<Comparison> {
    let mut sheet = Sheet::default();
    let state = State::open_existing(&reading.records.root).ok().flatten();
    if let Some(link) = plan.link() {
        sheet.host_end(link, reading);
        if let Err(error) = sheet.container_end(plan, link) {
            sheet.compare("container", format!("{} in {}", link.name, link.sandbox.path), error);
        }
    }
    for step in &plan.steps {
        match step {
            Step::Leases(step) => {
                for lease in &step.leases {
                    let address = lease.address.ip();
                    match &step.source {
                        LeaseSource::Files { directory } => {
                            let found = owner_of_address(state.as_ref(), directory, address);
                            sheet.compare(format!("lease {address}"), &step.owner, found);
                        }
                        _ => sheet.unknown(format!("address {address}"), &step.owner, "held elsewhere"),
                    }
                }
            }
            Step::Claims(step) => {
                for publication in &step.publications {
                    let found = state.as_ref().map_or(Ok(None), |state| state.owner(publication));
                    sheet.compare(format!("host port {publication}"), &step.owner, holder(found));
                }
                for publication in &step.waiting {
                    let found = state.as_ref().map_or(Ok(None), |state| state.owner(publication));
                    sheet.unknown(format!("host port {publication}"), "waits for it", holder(found));
                }
            }
            Step::Firewall(step) if step.backend == FirewallBackend::Nftables => {
                match &reading.host.elements {
                    Err(reason) => sheet.unknown("firewall", "elements", reason),
                    Ok(present) => {
                        for element in nft::attachment_elements(&step.network, &step.attachment) {
                            let is_there = present.contains(&element);
                            sheet.present("firewall", element, is_there);
                        }
                    }
                }
            }
            Step::Firewall(step) => sheet.rules(Kernel::iptables_rules(step)),
            _ => {}
        }
    }
    sheet.0
}

/// Who has the lease of an address, in words.
fn owner_of_address(state: Option<&State>, directory: &str, address: IpAddr) -> String {
    let path = Path::new(directory);
    let directory = state.map_or(Ok(None), |state| state.existing_lease_directory(path));
    holder(directory.and_then(|found| found.map_or(Ok(None), |found| found.owner(address))))
}

fn holder<T: ToString>(found: Result<Option<T>, StoreError>) -> String {
    match found {
        Ok(Some(owner)) => owner.to_string(),
        Ok(None) => "missing".to_owned(),
        Err(error) => error.to_string(),
    }
}

impl Sheet {
    fn host_end(&mut self, link: &Link, reading: &Reading) {
        let Some(found) = reading.host.link(&link.host_name) else {
            return self.present("host end", &link.host_name, false);
        };
        self.present("host end", &link.host_name, true);
        self.compare("  state", "up", up(found.is_up()));
        let master = found.master.and_then(|index| reading.host.links.iter().find(|l| l.index == index));
        let bridge = link.bridge.as_deref().unwrap_or("none");
        self.compare("  bridge", bridge, master.map_or("none", |bridge| &bridge.name));
        self.compare("  MAC", link.host_mac, mac(found.mac));
        match link.mtu {
            Some(mtu) => self.compare("  MTU", mtu, found.mtu),
            None => self.unknown("  MTU", "", found.mtu.to_string()),
        }
        if let Some(port) = found.port {
            let word = |on| if on { "on" } else { "off" };
            self.unknown(
                "  hairpin, isolated",
                "",
                format!("{}, {}", word(port.hairpin), word(port.isolated)),
            );
        }
    }

    fn container_end(&mut self, plan: &Plan, link: &Link) -> Result<(), SysError> {
        let netns = Netns::open(&link.sandbox.path)?;
        let identity = netns.identity()?;
        self.compare("namespace", link.sandbox.inode, identity.inode);
        let mut socket = Socket::open_in(&netns, Protocol::Route)?;
        let Some(found) = rtnl::link_by_name(&mut socket, &link.name)? else {
            self.present("interface", &link.name, false);
            return Ok(());
        };
        self.present("interface", &link.name, true);
        let Some(interface) = plan.interface() else { return Ok(()) };
        self.compare("  state", up(interface.up), up(found.is_up()));
        self.compare("  MAC", interface.mac, mac(found.mac));
        if let Some(mtu) = interface.mtu {
            self.compare("  MTU", mtu, found.mtu);
        }
        let addresses = rtnl::addresses(&mut socket, Some(found.index))?;
        for address in &interface.addresses {
            self.present("  address", address, addresses.iter().any(|a| a.address == *address));
        }
        let extra = addresses.iter().filter(|a| a.scope == 0 && !interface.addresses.contains(&a.address));
        for address in extra {
            self.unknown("  address", "", address.address.to_string());
        }
        let filter = RouteFilter { oif: Some(found.index), ..RouteFilter::default() };
        let routes = rtnl::routes(&mut socket, &filter)?;
        for route in interface.routes.iter().filter(|_| interface.up) {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let is_there =
                routes.iter().any(|r| r.dst == route.dst && (route.gw.is_none() || r.gateway == route.gw));
            self.present("  route", format!("{}{via}", route.dst), is_there);
        }
        Ok(())
    }
}

/// A network's record beside the host.
pub fn compare_network(network: &Network, plans: &[&Plan], reading: &Reading) -> Vec<Comparison> {
    let mut sheet = Sheet::default();
    let host = &reading.host;
    match host.link(&network.bridge) {
        None if plans.is_empty() => sheet.unknown("bridge", &network.bridge, "not made yet"),
        None => sheet.present("bridge", &network.bridge, false),
        Some(bridge) => {
            sheet.present("bridge", &network.bridge, true);
            sheet.compare("  state", "up", up(bridge.is_up()));
            sheet.unknown("  MAC", "", mac(bridge.mac));
            sheet.unknown(
                "  MTU",
                network.mtu.map(|m| m.to_string()).unwrap_or_default(),
                bridge.mtu.to_string(),
            );
            let ports = host.links.iter().filter(|link| link.master == Some(bridge.index)).count();
            sheet.unknown("  ports", network.attachments.to_string(), ports.to_string());
            let found: Vec<IpNetwork> = host.addresses_of(bridge).map(|a| a.address).collect();
            sheet.gateways(plans, &found);
        }
    }
    let forwards = |v4: bool| {
        plans.iter().flat_map(|plan| &plan.steps).any(|step| match step {
            Step::Forwarding(step) => {
                if v4 {
                    step.ipv4
                } else {
                    step.ipv6
                }
            }
            _ => false,
        })
    };
    for (v4, key) in [(true, FORWARDING4), (false, FORWARDING6)] {
        if forwards(v4) {
            sheet.compare(key.replace('/', "."), "1", sysctl::read(key).unwrap_or_else(|e| e.to_string()));
        }
    }
    if let Some(record) = reading.records.network(&network.name) {
        sheet.network_rules(record, plans);
    }
    sheet.0
}

impl Sheet {
    fn rules(&mut self, rules: Vec<FoundRule>) {
        for rule in rules {
            let found = rule.complaint.as_ref().map_or("present", |_| "missing");
            self.compare(format!("{} {}", rule.family, rule.words), "present", found);
        }
    }

    /// What all attachments of a network share in iptables, as last written; one with IPv6 needs the rules of both
    /// families.
    fn network_rules(&mut self, network: &model::Network, plans: &[&Plan]) {
        let steps = plans.iter().filter_map(|plan| plan.firewall());
        let by_iptables: Vec<_> = steps.filter(|step| step.backend == FirewallBackend::Iptables).collect();
        if by_iptables.is_empty() {
            return;
        }
        let with_v6 = by_iptables.iter().flat_map(|step| &step.attachment.addresses).any(IpAddr::is_ipv6);
        let written = plan::written_on(network, FirewallBackend::Iptables);
        self.rules(Kernel::iptables_network_rules(&written, with_v6));
    }

    fn gateways(&mut self, plans: &[&Plan], found: &[IpNetwork]) {
        let mut wanted: Vec<IpNetwork> = plans
            .iter()
            .flat_map(|plan| &plan.steps)
            .filter_map(|step| if let Step::Bridge(bridge) = step { Some(bridge) } else { None })
            .filter(|bridge| bridge.gateway_vlan.is_none())
            .flat_map(|bridge| bridge.gateways.iter().copied())
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        for gateway in &wanted {
            self.present("  gateway", gateway, found.contains(gateway));
        }
        for other in found.iter().filter(|address| !wanted.contains(address)) {
            self.unknown("  address", "", other.to_string());
        }
    }
}

fn up(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn mac(mac: Option<MacAddress>) -> String {
    mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string())
}
