//! Which of the kernel's notifications may mean that something of ours was damaged.
//!
//! Most of what the kernel tells is the work of ADD and DEL, or of strangers: it is passed over without a look at the
//! host. What is left is only a suspicion, which a look proves or not.

use std::collections::{HashMap, HashSet};

use crate::firewall::nft;
use crate::model::AttachmentKey;
use crate::plan::{Plan, Step};
use crate::store::Record;
use crate::sys::nfnetlink::notice::Notice as FirewallNotice;
use crate::sys::rtnl::{Link, Notice};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`: the families of iptables over nf_tables.
const OF_IPTABLES: [u8; 2] = [2, 10];
/// Chains of iptables that jumps to ours stand in.
const ENTRIES: [&str; 5] = ["PREROUTING", "OUTPUT", "POSTROUTING", "FORWARD", "DOCKER-USER"];
/// The table of firewalld, which forgets the sources of its zones when it writes that anew.
const FIREWALLD: &str = "firewalld";
/// `AF_INET`; the other family is `AF_INET6`.
const IPV4: u8 = 2;

/// What may be damaged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Suspect {
    /// The ruleset, on either backend.
    Firewall,
    /// A link by name.
    Link(String),
    /// The host's forwarding, or nobody knows what.
    Host,
}

/// What an attachment has on the host.
#[derive(Debug)]
struct Watched {
    /// The host end of its pair; `None` of what stands beside another plugin's interface.
    end: Option<String>,
    mtu: Option<u32>,
    bridge: Option<String>,
    /// Whether the host end has addresses and routes of its own, for want of a bridge.
    routed: bool,
    /// The links that limit its rates: the host end, whoever made it, and a device.
    shaped: Vec<String>,
    /// Whether firewalld has its addresses in a zone.
    zoned: bool,
}

/// What belongs to the attachments that are known, and what is suspected of it.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    attached: HashMap<AttachmentKey, Watched>,
    /// The attachment of each host end.
    ends: HashMap<String, AttachmentKey>,
    /// The attachment of each link that limits rates.
    shaped: HashMap<String, AttachmentKey>,
    /// How many attachments each bridge has.
    bridges: HashMap<String, usize>,
    /// Whether packets of IPv4 and of IPv6 are to be forwarded.
    forwarding: (bool, bool),
    /// The names of links, by index.
    names: HashMap<u32, String>,
    /// Told of the transaction that is being told of.
    touched: bool,
    suspects: HashSet<Suspect>,
}

impl Suspicions {
    /// An attachment is there.
    pub(super) fn attached(&mut self, record: &Record<Plan>) {
        self.detached(&record.key);
        for step in &record.plan.steps {
            if let Step::Forwarding(step) = step {
                self.forwarding = (self.forwarding.0 || step.ipv4, self.forwarding.1 || step.ipv6);
            }
        }
        let link = record.plan.link();
        let steps = || record.plan.steps.iter();
        let shaped = steps().filter_map(|step| match step {
            Step::Shape(step) => Some([step.host_name.clone(), step.ifb_name.clone()]),
            _ => None,
        });
        let watched = Watched {
            end: link.map(|link| link.host_name.clone()),
            mtu: link.and_then(|link| link.mtu),
            bridge: link.and_then(|link| link.bridge.clone()),
            routed: steps().any(|step| matches!(step, Step::Routed(_))),
            shaped: shaped.flatten().collect(),
            zoned: steps().any(|step| matches!(step, Step::Zone(_))),
        };
        if let Some(bridge) = &watched.bridge {
            *self.bridges.entry(bridge.clone()).or_default() += 1;
        }
        if let Some(end) = &watched.end {
            self.ends.insert(end.clone(), record.key.clone());
        }
        self.shaped.extend(watched.shaped.iter().map(|name| (name.clone(), record.key.clone())));
        self.attached.insert(record.key.clone(), watched);
    }

    /// An attachment is gone.
    pub(super) fn detached(&mut self, key: &AttachmentKey) {
        let Some(watched) = self.attached.remove(key) else { return };
        if let Some(end) = &watched.end {
            self.ends.remove(end);
        }
        for name in &watched.shaped {
            self.shaped.remove(name);
        }
        let Some(bridge) = watched.bridge else { return };
        if let Some(count) = self.bridges.get_mut(&bridge) {
            *count -= 1;
            if *count == 0 {
                self.bridges.remove(&bridge);
            }
        }
    }

    /// How many attachments are known.
    pub(super) fn count(&self) -> usize {
        self.attached.len()
    }

    /// Everything is suspect: at the start, and where notifications were lost.
    pub(super) fn suspect_all(&mut self) {
        self.suspects.insert(Suspect::Host);
    }

    /// The tables of legacy iptables have changed.
    pub(super) fn suspect_firewall(&mut self) {
        self.suspects.insert(Suspect::Firewall);
    }

    /// Gives what is suspected still, and forgets it: an attachment that is gone by now is none of ours.
    pub(super) fn take(&mut self) -> HashSet<Suspect> {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.retain(|suspect| match suspect {
            Suspect::Link(name) => self.is_watched(name),
            Suspect::Firewall | Suspect::Host => true,
        });
        suspects
    }

    /// Whether there is a suspicion at all.
    pub(super) fn any(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// A change of a link, an address or a setting.
    pub(super) fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Link(link) => self.hear_link(link),
            Notice::NoLink(link) | Notice::NoPort(link) => {
                if matches!(notice, Notice::NoLink(_)) {
                    self.names.remove(&link.index);
                }
                self.suspect_link(&link.name);
            }
            Notice::NoAddress(address) => {
                self.suspect_index(address.index, |all, name| all.is_bridge(name) || all.is_routed(name));
            }
            Notice::NoRoute { index } => self.suspect_index(*index, Self::is_routed),
            Notice::Forwarding { family, on: false } => {
                let wanted = if *family == IPV4 { self.forwarding.0 } else { self.forwarding.1 };
                if wanted && !self.attached.is_empty() {
                    self.suspects.insert(Suspect::Host);
                }
            }
            Notice::Forwarding { .. } => {}
            Notice::NoQdisc { index } => {
                self.suspect_index(*index, |all, name| all.shaped.contains_key(name));
            }
        }
    }

    /// A link that is as it should be is no suspect any more: while one is made, it is told of half-made.
    fn hear_link(&mut self, link: &Link) {
        // They are told of before the first attachment that has to do with them is known.
        self.names.insert(link.index, link.name.clone());
        let limits = link.kind.as_deref() == Some("ifb") && self.shaped.contains_key(&link.name);
        let is_right = if limits || self.is_bridge(&link.name) {
            link.is_up()
        } else {
            let Some(watched) = self.ends.get(&link.name).and_then(|key| self.attached.get(key)) else {
                return;
            };
            let bridge = link.master.and_then(|index| self.names.get(&index));
            let is_joined = watched
                .bridge
                .as_ref()
                .is_none_or(|wanted| link.master.is_some() && bridge.is_none_or(|bridge| bridge == wanted));
            link.is_up() && is_joined && watched.mtu.is_none_or(|mtu| mtu == link.mtu)
        };
        let suspect = Suspect::Link(link.name.clone());
        if is_right {
            self.suspects.remove(&suspect);
        } else {
            self.suspects.insert(suspect);
        }
    }

    fn suspect_link(&mut self, name: &str) {
        if self.is_watched(name) {
            self.suspects.insert(Suspect::Link(name.to_owned()));
        }
    }

    /// Suspects the link of an index, where it is one of those.
    fn suspect_index(&mut self, index: u32, concerns: impl FnOnce(&Self, &str) -> bool) {
        if let Some(name) = self.names.get(&index).cloned()
            && concerns(self, &name)
        {
            self.suspects.insert(Suspect::Link(name));
        }
    }

    fn is_watched(&self, name: &str) -> bool {
        self.ends.contains_key(name) || self.shaped.contains_key(name) || self.is_bridge(name)
    }

    fn is_routed(&self, name: &str) -> bool {
        self.ends.get(name).and_then(|key| self.attached.get(key)).is_some_and(|watched| watched.routed)
    }

    /// A bridge with attachments, or the link of its gateway in a VLAN.
    fn is_bridge(&self, name: &str) -> bool {
        let bridge = name.rsplit_once('.').map_or(name, |(bridge, _)| bridge);
        self.bridges.contains_key(name) || self.bridges.contains_key(bridge)
    }

    /// A change of nf_tables. `own` says whether a thread of that name is one of ours: what we do ourselves is right.
    pub(super) fn hear_firewall(&mut self, notice: &FirewallNotice, own: impl Fn(&str) -> bool) {
        match notice {
            FirewallNotice::Changed { family, table, chain } => {
                self.touched |= table == nft::TABLE
                    || OF_IPTABLES.contains(family) && concerns(chain.as_deref())
                    || table == FIREWALLD && self.attached.values().any(|watched| watched.zoned);
            }
            FirewallNotice::Committed { by } => {
                if std::mem::take(&mut self.touched) && !own(by) {
                    self.suspects.insert(Suspect::Firewall);
                }
            }
        }
    }
}

/// Whether a change of iptables' chains may be about ours: strangers change their own chains all day long.
fn concerns(chain: Option<&str>) -> bool {
    chain.is_none_or(|name| {
        name.starts_with("LINKSPAN-") || name.starts_with("LKS-") || ENTRIES.contains(&name)
    })
}

#[cfg(test)]
mod tests;
