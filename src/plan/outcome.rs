//! The result of an attachment, which follows from its plan, and what of a plan later plugins may change.

use crate::cni::{CniResult, Dns, Interface, Ip, NetworkConfig};
use crate::model::{AttachmentKey, Lease, LeaseSource, LinkSettings, MacAddress, Route, names};

use super::routes::with_next_hops;
use super::sandbox::Sandbox;
use super::step::{self, Leases, Plan, Step};

/// What a result says of a bridge besides its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeenBridge {
    /// Its hardware address.
    pub mac: Option<MacAddress>,
    /// Its MTU, in bytes.
    pub mtu: Option<u32>,
}

/// The result of ADD: what earlier plugins of the chain gave, then the bridge, the host end, the container's end, and
/// the gateway of a VLAN.
///
/// `bridge` is the one thing that a plan cannot know: an existing bridge keeps its address and its MTU. The MTU is told
/// under our own name alone: no plugin of the reference tells it, not even its `tuning`, which changes it.
pub fn outcome(
    config: &NetworkConfig,
    plan: &Plan,
    bridge: SeenBridge,
    routes: &[Route],
    dns: Dns,
    previous: Option<CniResult>,
) -> CniResult {
    let mut result = previous.unwrap_or_default();
    let Some(inner) = plan.interface() else { return result };
    let tells_mtu = config.defaults.is_own();
    let mut interface = |name: &str, mac: Option<MacAddress>, mtu: Option<u32>, sandbox: Option<&str>| {
        result.interfaces.push(Interface {
            name: name.to_owned(),
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: mtu.filter(|_| tells_mtu),
            sandbox: sandbox.map(str::to_owned).unwrap_or_default(),
            ..Interface::default()
        });
    };
    if let Some(link) = plan.link() {
        if let Some(name) = &link.bridge {
            interface(name, bridge.mac, bridge.mtu, None);
        }
        interface(&link.host_name, Some(link.host_mac), link.mtu, None);
    }
    interface(&inner.name, Some(inner.mac), inner.mtu, Some(&inner.sandbox.path));
    let of_vlan = gateway_link(plan);
    if let Some(name) = &of_vlan {
        // A VLAN device has the hardware address and the MTU of what it is over.
        interface(name, bridge.mac, bridge.mtu, None);
    }
    let container = result.interfaces.len() - 1 - usize::from(of_vlan.is_some());
    let leases: &[Lease] = plan.leases().map_or(&[], |step| &step.leases);
    result.ips.extend(leases.iter().map(|lease| Ip::new(lease.address, lease.gateway, Some(container))));
    result.routes.extend_from_slice(routes);
    if !dns.is_empty() {
        result.dns = dns;
    }
    result
}

/// The interface that carries the gateways of a VLAN in the place of the bridge.
fn gateway_link(plan: &Plan) -> Option<String> {
    plan.steps.iter().find_map(|step| match step {
        Step::Bridge(step) if !step.gateways.is_empty() => {
            Some(names::gateway_link(&step.name, step.gateway_vlan?))
        }
        _ => None,
    })
}

/// The plan as CHECK may expect it, given the final result of the chain: a later plugin may have set another
/// hardware address or MTU on the interface, and may have taken addresses away or moved routes elsewhere.
pub fn tolerating(mut plan: Plan, last: &CniResult) -> Plan {
    let Some((index, seen)) = plan.interface().and_then(|inner| {
        let of_us = |i: &&Interface| i.name == inner.name && i.sandbox == inner.sandbox.path;
        let index = last.interfaces.iter().position(|i| of_us(&i))?;
        Some((index, last.interfaces[index].clone()))
    }) else {
        return plan;
    };
    let mac: Option<MacAddress> = seen.mac.parse().ok();
    for step in &mut plan.steps {
        match step {
            Step::Link(link) => {
                // The MTU of the host's end is its own: what a result says is the container's.
                link.mac = mac.unwrap_or(link.mac);
            }
            Step::Interface(interface) => {
                // Another MAC shows that a later plugin has tuned the interface. Not all of them say to which MTU, and
                // leave what we said.
                let told = seen.mtu.filter(|mtu| interface.mtu != Some(*mtu));
                if mac.is_some_and(|mac| mac != interface.mac) {
                    interface.mtu = None;
                }
                interface.mac = mac.unwrap_or(interface.mac);
                interface.mtu = told.or(interface.mtu);
                let kept = |address: &ipnetwork::IpNetwork| {
                    last.ips
                        .iter()
                        .any(|ip| ip.address == *address && ip.interface.is_none_or(|i| i == index))
                };
                interface.addresses.retain(kept);
                interface.by_gateway.retain(|lease| kept(&lease.address));
            }
            _ => {}
        }
    }
    plan
}

/// The plan as CHECK may expect it where the plugin `tuning` has its part in the same attachment, which not every
/// result tells.
pub fn tuned(plan: &mut Plan, part: &Plan) {
    let settings = part.steps.iter().find_map(|step| match step {
        Step::Settings(settings) => Some(settings),
        _ => None,
    });
    let Some(settings) = settings else { return };
    for step in &mut plan.steps {
        if let Step::Interface(interface) = step {
            interface.mac = settings.wanted.mac.unwrap_or(interface.mac);
            interface.mtu = settings.wanted.mtu.or(interface.mtu);
        }
    }
}

/// The plan as CHECK may expect it where the reference `tuning` has put another MTU in the place of ours: it tells the
/// new one nowhere, and keeps the old one to restore it.
pub fn tuned_by_reference(plan: &mut Plan, replaced: &LinkSettings) {
    for step in &mut plan.steps {
        if let Step::Interface(interface) = step
            && replaced.mtu.is_some()
        {
            interface.mtu = None;
        }
    }
}

/// What a result says of an interface, as a plan to be probed: for CHECK of what another program attached. `None` where
/// the result does not name it.
pub fn of_result(result: &CniResult, sandbox: &Sandbox, name: &str) -> Option<Plan> {
    let of_us = |i: &Interface| i.name == name && i.sandbox == sandbox.path;
    let index = result.interfaces.iter().position(of_us)?;
    let of_interface = |ip: &&Ip| ip.interface.is_none_or(|interface| interface == index);
    let leases: Vec<Lease> = result
        .ips
        .iter()
        .filter(of_interface)
        .map(|ip| Lease { address: ip.address, gateway: ip.gateway })
        .collect();
    // Of a next hop of the other family (RFC 5549) the kernel tells in a way that is not read.
    let comparable: Vec<Route> =
        result.routes.iter().filter(|route| route.is_of_one_family()).cloned().collect();
    let interface = step::Interface {
        sandbox: sandbox.clone(),
        name: name.to_owned(),
        mac: result.interfaces[index].mac.parse().ok()?,
        mtu: None,
        addresses: leases.iter().map(|lease| lease.address).collect(),
        routes: with_next_hops(&comparable, &leases),
        by_gateway: Vec::new(),
        advertisements: false,
        dad: false,
        link_local: false,
        up: true,
        promisc: false,
        allmulti: None,
        sysctl: std::collections::BTreeMap::new(),
        readings: std::collections::BTreeMap::new(),
        spare_mac: None,
    };
    Some(Plan { steps: vec![Step::Interface(interface)] })
}

/// The same with its addresses held by lease files.
pub fn hold(plan: &mut Plan, owner: &AttachmentKey, source: LeaseSource) {
    let addresses = plan.interface().map(|interface| interface.addresses.clone()).unwrap_or_default();
    let leases = addresses.into_iter().map(|address| Lease { address, gateway: None }).collect();
    plan.steps.push(Step::Leases(Leases { owner: owner.clone(), source, leases }));
}
