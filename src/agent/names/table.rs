//! Who is called what, and who may know: a pure value, changed one attachment at a time.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use ipnetwork::IpNetwork;

use crate::model::{AttachmentKey, Naming, naming};
use crate::plan::Plan;
use crate::store::Record;

/// All networks that have a name service.
#[derive(Debug, Default)]
pub(super) struct Table {
    attachments: HashMap<AttachmentKey, Entry>,
    networks: HashMap<Rc<str>, Network>,
    /// Whose an address is: one attachment's, unless networks overlap.
    addresses: HashMap<IpAddr, Vec<AttachmentKey>>,
    /// The networks of a container.
    containers: HashMap<Rc<str>, Vec<Rc<str>>>,
    /// How many attachments a gateway serves.
    gateways: HashMap<IpAddr, usize>,
    /// How many attachments name a zone: their network's name, or one of its domains.
    zones: HashMap<Rc<str>, usize>,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    network: Rc<str>,
    container: Rc<str>,
    addresses: Box<[IpNetwork]>,
    gateways: Box<[IpAddr]>,
    /// With the short ID, each once.
    names: Box<[Box<str>]>,
    domains: Box<[Rc<str>]>,
    upstreams: Rc<[IpAddr]>,
    internal: bool,
}

/// One network.
#[derive(Debug, Default)]
struct Network {
    attachments: HashSet<AttachmentKey>,
    names: HashMap<Box<str>, Vec<IpAddr>>,
    /// As in [`Table`], of this network's attachments alone.
    zones: HashMap<Rc<str>, usize>,
}

/// What a source may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    networks: Vec<Rc<str>>,
    /// Name servers for all else; empty for the host's.
    pub(super) upstreams: Rc<[IpAddr]>,
    /// Whether nothing is asked outside.
    pub(super) internal: bool,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Its addresses, of both families, in no order.
    Addresses(Vec<IpAddr>),
    /// It is a zone of ours, and no container.
    Zone,
    /// It would be one of ours, and there is none.
    Nobody,
    /// It is none of ours.
    Foreign,
}

impl Table {
    /// Takes an attachment over, in place of what was known of it. Without a name service it is none of ours.
    pub(super) fn insert(&mut self, record: &Record<Plan>) {
        let entry = Entry::of(record);
        if self.attachments.get(&record.key) == entry.as_ref() {
            return;
        }
        self.remove(&record.key);
        let Some(entry) = entry else { return };
        let key = &record.key;
        let network = self.networks.entry(Rc::clone(&entry.network)).or_default();
        network.attachments.insert(key.clone());
        let addresses = || entry.addresses.iter().map(IpNetwork::ip);
        for name in &entry.names {
            network.names.entry(name.clone()).or_default().extend(addresses());
        }
        for address in addresses() {
            self.addresses.entry(address).or_default().push(key.clone());
        }
        self.containers.entry(Rc::clone(&entry.container)).or_default().push(Rc::clone(&entry.network));
        for gateway in &entry.gateways {
            *self.gateways.entry(*gateway).or_default() += 1;
        }
        for zone in entry.zones() {
            *self.zones.entry(Rc::clone(zone)).or_default() += 1;
            *network.zones.entry(Rc::clone(zone)).or_default() += 1;
        }
        self.attachments.insert(key.clone(), entry);
    }

    /// Forgets an attachment.
    pub(super) fn remove(&mut self, key: &AttachmentKey) {
        let Some(entry) = self.attachments.remove(key) else { return };
        if let Some(network) = self.networks.get_mut(&entry.network) {
            network.attachments.remove(key);
            for name in &entry.names {
                take_each(&mut network.names, name, entry.addresses.iter().map(IpNetwork::ip));
            }
            for zone in entry.zones() {
                count_down(&mut network.zones, zone);
            }
            if network.attachments.is_empty() {
                self.networks.remove(&entry.network);
            }
        }
        for address in &entry.addresses {
            take_each(&mut self.addresses, &address.ip(), [key.clone()]);
        }
        take_each(&mut self.containers, &entry.container, [Rc::clone(&entry.network)]);
        for gateway in &entry.gateways {
            count_down(&mut self.gateways, gateway);
        }
        for zone in entry.zones() {
            count_down(&mut self.zones, zone);
        }
    }

    /// How many attachments are served.
    pub(super) fn len(&self) -> usize {
        self.attachments.len()
    }

    /// The gateways of an attachment, which are to be listened on.
    pub(super) fn gateways_of(&self, key: &AttachmentKey) -> &[IpAddr] {
        self.attachments.get(key).map(|entry| &*entry.gateways).unwrap_or_default()
    }

    /// Whether an attachment is served at this gateway.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains_key(&address)
    }

    /// What whoever asks from `source` at a gateway may know; `None` for strangers.
    ///
    /// A container knows all networks that it is attached to. What else is on the network of this gateway (the host,
    /// or an address that nobody gave) knows that network.
    pub(super) fn scope(&self, source: IpAddr, gateway: IpAddr) -> Option<Scope> {
        if let Some(keys) = self.addresses.get(&source) {
            let entries = || keys.iter().filter_map(|key| self.attachments.get(key));
            // Where networks overlap, the gateway tells whose address it is.
            let here = entries().find(|entry| entry.gateways.contains(&gateway));
            let entry = here.or_else(|| entries().next())?;
            return Some(self.of_container(entry));
        }
        let is_here = |entry: &&Entry| {
            entry.gateways.contains(&gateway)
                && (source == gateway || entry.addresses.iter().any(|address| address.contains(source)))
        };
        let mut networks: Vec<Rc<str>> = Vec::new();
        let mut scope: Option<Scope> = None;
        for network in self.networks.values() {
            let entry = network.attachments.iter().next().and_then(|key| self.attachments.get(key));
            let Some(entry) = entry.filter(is_here) else { continue };
            networks.push(Rc::clone(&entry.network));
            let internal = entry.internal && scope.as_ref().is_none_or(|scope| scope.internal);
            scope = Some(Scope { networks: Vec::new(), upstreams: Rc::clone(&entry.upstreams), internal });
        }
        scope.map(|scope| Scope { networks, ..scope })
    }

    fn of_container(&self, entry: &Entry) -> Scope {
        let networks = self.containers.get(&entry.container).cloned().unwrap_or_default();
        let others = || {
            let networks = networks.iter().filter_map(|name| self.networks.get(name));
            networks.filter_map(|network| self.attachments.get(network.attachments.iter().next()?))
        };
        let (internal, upstreams) = if entry.internal {
            // Another of its networks may lead outside.
            let way_out = others().find(|other| !other.internal);
            (way_out.is_none(), way_out.map_or(&entry.upstreams, |other| &other.upstreams))
        } else {
            (false, &entry.upstreams)
        };
        Scope { internal, upstreams: Rc::clone(upstreams), networks }
    }

    /// Looks a name up: in lower case, without a dot at its end.
    pub(super) fn find(&self, scope: &Scope, name: &str) -> Known {
        let mut found: Vec<IpAddr> = Vec::new();
        for network in &scope.networks {
            let Some(known) = self.networks.get(network) else { continue };
            let relative =
                known.zones.keys().filter_map(|zone| name.strip_suffix(&**zone)?.strip_suffix('.'));
            for candidate in std::iter::once(name).chain(relative) {
                found.extend(known.names.get(candidate).into_iter().flatten());
            }
        }
        if !found.is_empty() {
            found.sort_unstable();
            found.dedup();
            return Known::Addresses(found);
        }
        if self.zones.contains_key(name) {
            return Known::Zone;
        }
        // The zones of all networks, seen or not: whether a name is there is nobody else's business either.
        let under_zone = name.match_indices('.').any(|(at, _)| self.zones.contains_key(&name[at + 1..]));
        if under_zone || !name.contains('.') { Known::Nobody } else { Known::Foreign }
    }

    /// The name that an address is translated back to, with its network as zone.
    pub(super) fn reverse(&self, scope: &Scope, address: IpAddr) -> Option<String> {
        let keys = self.addresses.get(&address)?;
        let mut entries = keys.iter().filter_map(|key| self.attachments.get(key));
        let entry = entries.find(|entry| scope.networks.contains(&entry.network))?;
        Some(format!("{}.{}", entry.names.first()?, entry.network))
    }

    /// Whether an address is in a subnet of ours, so that nobody outside could translate it.
    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
            || self.networks.values().any(|network| {
                let entry = network.attachments.iter().next().and_then(|key| self.attachments.get(key));
                entry.is_some_and(|entry| entry.addresses.iter().any(|subnet| subnet.contains(address)))
            })
    }
}

impl Entry {
    fn of(record: &Record<Plan>) -> Option<Self> {
        let naming = record.naming.as_ref()?;
        let Naming { names, domains, upstreams, internal, .. } = naming;
        let addresses: Box<[IpNetwork]> = match record.plan.interface() {
            Some(interface) if naming.addresses.is_empty() => interface.addresses.as_slice().into(),
            _ => naming.addresses.as_slice().into(),
        };
        let gateways = match record.plan.bridge() {
            Some(bridge) if naming.gateways.is_empty() => bridge.gateways.iter().map(IpNetwork::ip).collect(),
            _ => naming.gateways.as_slice().into(),
        };
        let mut all: Vec<Box<str>> = names.iter().map(|name| name.as_str().into()).collect();
        if let Some(id) = naming::short_id(&record.key.container_id).filter(|id| !names.contains(id)) {
            all.push(id.into());
        }
        Some(Self {
            network: record.network.to_ascii_lowercase().into(),
            container: record.key.container_id.as_str().into(),
            addresses,
            gateways,
            names: all.into(),
            domains: domains.iter().map(|domain| domain.as_str().into()).collect(),
            upstreams: upstreams.as_slice().into(),
            internal: *internal,
        })
    }

    fn zones(&self) -> impl Iterator<Item = &Rc<str>> {
        std::iter::once(&self.network).chain(&self.domains)
    }
}

/// Takes one of each value out of a list, and the list where it is empty then.
fn take_each<K, Q, V>(map: &mut HashMap<K, Vec<V>>, key: &Q, values: impl IntoIterator<Item = V>)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
    V: PartialEq,
{
    let Some(list) = map.get_mut(key) else { return };
    for value in values {
        if let Some(at) = list.iter().position(|known| *known == value) {
            list.swap_remove(at);
        }
    }
    if list.is_empty() {
        map.remove(key);
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
