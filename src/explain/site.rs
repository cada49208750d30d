//! A network namespace as it is asked about: links, addresses, routes, parameters, chains.

use std::collections::HashMap;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::apply::{Asked, Known};
use crate::firewall::iptables::{Family, LegacyTable};
use crate::firewall::nft::{self, BaseChain, Chain, Followed, Packet};
use crate::model::{Route, names};
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::rtnl::{self, Address, FoundRoute, Link, RouteFilter, RouteQuery};
use crate::sys::{Netns, SysError, sysctl, tcx, xtables};

/// `NFPROTO_BRIDGE`.
pub(super) const BRIDGE: u8 = 7;
/// `NFPROTO_INET`, `NFPROTO_NETDEV`.
const INET: u8 = 1;
const NETDEV: u8 = 5;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NF_INET_INGRESS`, which only chains of family inet have.
const INGRESS: u32 = 5;

/// A base chain, of nf_tables or of legacy iptables.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// As nf_tables has it; one of legacy iptables is told in the same words.
    pub(super) chain: Chain,
    /// Which of the legacy tables it is of.
    legacy: Option<usize>,
    /// In whose namespace it is; `None` for the host's.
    pub(super) inside: Option<Inside>,
}

/// A container's namespace.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) container: String,
    path: String,
}

impl Inside {
    pub(super) fn new(container: &str, path: &str) -> Self {
        Self { container: container.to_owned(), path: path.to_owned() }
    }

    /// A command in it, as it can be pasted on the host.
    pub(super) fn command(&self, command: &str) -> String {
        format!("nsenter --net={} {command}", self.path)
    }
}

impl Gate {
    /// A command about it, as it can be pasted on the host.
    pub(super) fn command(&self, command: &str) -> String {
        self.inside.as_ref().map_or_else(|| command.to_owned(), |inside| inside.command(command))
    }

    /// `ip`, `inet`; `iptables-legacy`, `ip6tables-legacy`.
    pub(super) fn family(&self) -> &'static str {
        match (self.legacy, self.chain.family) {
            (None, _) => self.chain.family_word(),
            (Some(_), IPV6) => "ip6tables-legacy",
            (Some(_), _) => "iptables-legacy",
        }
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.legacy.is_some()
    }

    pub(super) fn priority(&self) -> i32 {
        self.chain.base.as_ref().map_or(0, |base| base.priority)
    }

    pub(super) fn hook(&self) -> u32 {
        self.chain.base.as_ref().map_or(u32::MAX, |base| base.hook)
    }

    pub(super) fn is_nat(&self) -> bool {
        self.chain.base.as_ref().is_some_and(|base| base.kind == "nat")
    }
}

/// A table of legacy iptables: its family, its name, the priorities of its chains.
type Legacy = (Family, &'static str, [i32; 5], xtables::Table);

/// Tables of legacy iptables, and what goes for the priorities of their chains at the five hooks (`NF_IP_PRI_*`).
const LEGACY: [(&str, [i32; 5]); 5] = [
    ("raw", [-300; 5]),
    ("mangle", [-150; 5]),
    ("nat", [-100, 100, 0, -100, 100]),
    ("filter", [0; 5]),
    ("security", [50; 5]),
];
/// Names of the chains at the five hooks.
const LEGACY_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// A namespace: the host's, or a container's.
#[derive(Debug)]
pub(super) struct Site {
    /// The container's; `None` for the one that the thread is in.
    pub(super) netns: Option<Netns>,
    socket: Socket,
    nft: Option<NftSocket>,
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    gates: Vec<Gate>,
    legacy: Vec<(Family, xtables::Table)>,
    known: HashMap<(u8, String), Known>,
    /// What of the firewall is not followed, in words.
    pub(super) blind: Vec<String>,
    /// The links that have filters of tc, where that was asked, each with whether those see what leaves too.
    filtered: Option<Vec<(u32, bool)>>,
}

impl Site {
    /// Reads links, addresses and base chains.
    ///
    /// # Errors
    /// Where even links cannot be listed. That the firewall is kept from us is none: it is said in [`Site::blind`].
    pub(super) fn open(netns: Option<Netns>) -> Result<Self, SysError> {
        let mut socket = match &netns {
            Some(netns) => Socket::open_in(netns, Protocol::Route)?,
            None => Socket::open(Protocol::Route)?,
        };
        let mut site = Self {
            links: rtnl::all_links(&mut socket)?,
            addresses: rtnl::addresses(&mut socket, None)?,
            socket,
            netns,
            nft: None,
            gates: Vec::new(),
            legacy: Vec::new(),
            known: HashMap::new(),
            blind: Vec::new(),
            filtered: None,
        };
        if let Err(error) = site.read_chains() {
            site.blind.push(match error.errno() {
                Some(Errno::EPERM | Errno::EACCES) => {
                    "the rules of nf_tables: only root may read them".to_owned()
                }
                _ => format!("the rules of nf_tables: {error}"),
            });
        }
        if let Err(error) = site.read_legacy() {
            site.blind.push(format!("the rules of legacy iptables: {error}"));
        }
        site.gates.sort_by_key(Gate::priority);
        Ok(site)
    }

    /// The same of a container, whose chains are then told as its.
    ///
    /// # Errors
    /// As [`Site::open`].
    pub(super) fn open_inside(netns: Netns, inside: &Inside) -> Result<Self, SysError> {
        let mut site = Self::open(Some(netns))?;
        site.gates.iter_mut().for_each(|gate| gate.inside = Some(inside.clone()));
        Ok(site)
    }

    fn read_chains(&mut self) -> Result<(), SysError> {
        let mut nft = match &self.netns {
            Some(netns) => NftSocket::open_in(netns)?,
            None => NftSocket::open()?,
        };
        for family in nft::ROUTED_FAMILIES.into_iter().chain([BRIDGE, NETDEV]) {
            let replies = nft.dump(&nft::dump_tables(family))?;
            let asleep: Vec<String> = replies.iter().filter_map(|reply| nft::dormant_table(reply)).collect();
            let replies = nft.dump(&nft::dump_chains(family))?;
            let chains = nft::parse_chains(family, &replies);
            for chain in chains.into_iter().filter(|chain| !asleep.contains(&chain.table)) {
                let ingress = chain.base.as_ref().is_some_and(|base| base.hook == INGRESS);
                if family == NETDEV || family == INET && ingress {
                    self.blind.push(format!("chain {chain}, which sees packets before any of these hooks"));
                } else {
                    self.gates.push(Gate { chain, legacy: None, inside: None });
                }
            }
        }
        self.nft = Some(nft);
        Ok(())
    }

    /// The tables of legacy iptables that are in use.
    fn read_legacy(&mut self) -> Result<(), SysError> {
        let read = || -> Result<Vec<Legacy>, SysError> {
            let mut found = Vec::new();
            for family in Family::BOTH {
                for (name, priorities) in LEGACY {
                    let table = xtables::table(family == Family::V6, name)?;
                    found.extend(table.map(|table| (family, name, priorities, table)));
                }
            }
            Ok(found)
        };
        let found = match &self.netns {
            Some(netns) => netns.enter(read)??,
            None => read()?,
        };
        for (family, table, priorities, entries) in found {
            let at = self.legacy.len();
            for (hook, name) in (0..).zip(LEGACY_CHAINS) {
                if entries.hooks & (1 << hook) == 0 {
                    continue;
                }
                let kind = if table == "nat" { "nat" } else { "filter" };
                let priority = priorities[hook as usize];
                let base = BaseChain { kind: kind.to_owned(), hook, priority, drops: false };
                let chain = Chain {
                    family: if family == Family::V4 { IPV4 } else { IPV6 },
                    table: table.to_owned(),
                    name: name.to_owned(),
                    uses: 0,
                    base: Some(base),
                };
                self.gates.push(Gate { chain, legacy: Some(at), inside: None });
            }
            self.legacy.push((family, entries));
        }
        Ok(())
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub(super) fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The link that has an address.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&Link> {
        let found = self.addresses.iter().find(|found| found.address.ip() == address)?;
        self.by_index(found.index)
    }

    /// The addresses of a link of the family of `like`, those of the link alone last.
    pub(super) fn addresses_of(&self, index: u32, is_ipv4: bool) -> Vec<IpAddr> {
        let own = self.addresses.iter().filter(|a| a.index == index && a.address.is_ipv4() == is_ipv4);
        let mut found: Vec<_> = own.collect();
        found.sort_by_key(|address| address.scope);
        found.into_iter().map(|address| address.address.ip()).collect()
    }

    /// Programs that see what comes in by a link before any chain does, or what leaves by it after: they may drop it, or
    /// send it elsewhere, and what they do is not followed. In words; what limits rates of ours is none of them.
    pub(super) fn interceptors(&mut self, link: &Link, incoming: bool) -> Result<Vec<String>, SysError> {
        let mut found = Vec::new();
        let (way, name) = (if incoming { "comes in by" } else { "leaves by" }, &link.name);
        if incoming && link.xdp {
            found.push(format!(
                "what the XDP program of {name} does with what comes in (ip link show {name})"
            ));
        }
        let filtered = match &self.filtered {
            Some(known) => known,
            None => self.filtered.insert(rtnl::filtered_links(&mut self.socket)?),
        };
        if filtered.iter().any(|(index, both)| *index == link.index && (incoming || *both)) {
            let own =
                |other: &&Link| other.group == names::LINK_GROUP && other.kind.as_deref() == Some("ifb");
            let shapers: Vec<u32> = self.links.iter().filter(own).map(|link| link.index).collect();
            let kinds = rtnl::filter_kinds(&mut self.socket, link.index, incoming, &shapers)?;
            if !kinds.is_empty() {
                let (kinds, side) = (kinds.join(", "), if incoming { "ingress" } else { "egress" });
                found.push(format!(
                    "what filters of tc ({kinds}) do with what {way} {name} (tc filter show dev {name} {side})"
                ));
            }
        }
        let count = match &self.netns {
            Some(netns) => netns.enter(|| tcx::count(link.index, incoming))?,
            None => tcx::count(link.index, incoming),
        };
        if count > 0 {
            found.push(format!(
                "what programs of tcx do with what {way} {name} (bpftool net show dev {name})"
            ));
        }
        Ok(found)
    }

    /// What becomes of a packet as far as routes go.
    pub(super) fn route(&mut self, query: &RouteQuery) -> Result<Result<FoundRoute, Errno>, SysError> {
        rtnl::route_packet(&mut self.socket, query)
    }

    /// Where filters of tc send what comes in by a link: the numbers of links.
    pub(super) fn redirects(&mut self, link: &Link) -> Result<Vec<u32>, SysError> {
        let found = rtnl::redirects(&mut self.socket, link.index)?;
        Ok(found.into_iter().map(|redirect| redirect.to).collect())
    }

    /// What the routing tables call an address (`RTN_*`).
    pub(super) fn kind_of(&mut self, address: IpAddr) -> Result<u32, SysError> {
        const UNREACHABLE: u32 = 7;
        let query = RouteQuery { to: address, from: None, input: None, mark: 0 };
        Ok(self.route(&query)?.map_or(UNREACHABLE, |route| u32::from(route.kind)))
    }

    /// The routes of the main table.
    pub(super) fn routes(&mut self, is_ipv4: bool) -> Result<Vec<FoundRoute>, SysError> {
        let filter =
            RouteFilter { ipv4: Some(is_ipv4), table: Some(Route::MAIN_TABLE), ..RouteFilter::default() };
        rtnl::routes(&mut self.socket, &filter)
    }

    /// A kernel parameter as a number, by its path under `net`; `None` where there is none.
    pub(super) fn parameter(&self, path: &str) -> Option<u32> {
        let key = format!("net/{path}");
        let read = || sysctl::read(&key).ok();
        let value = match &self.netns {
            Some(netns) => netns.enter(read).ok().flatten(),
            None => read(),
        };
        value.and_then(|value| value.trim().parse().ok())
    }

    /// The base chains of a hook that see packets of a family, in the kernel's order.
    pub(super) fn hooked(&self, hook: u32, family: u8) -> Vec<Gate> {
        let sees = |gate: &&Gate| {
            let own = gate.chain.family;
            (own == family || own == INET && family != BRIDGE) && gate.hook() == hook
        };
        self.gates.iter().filter(sees).cloned().collect()
    }

    /// Follows a packet through one of its base chains.
    pub(super) fn follow(&mut self, gate: &Gate, packet: &mut Packet) -> Result<Option<Followed>, SysError> {
        let chain = &gate.chain;
        if let Some((family, table)) = gate.legacy.and_then(|at| self.legacy.get(at)) {
            let hook = gate.hook() as usize;
            let (start, policy) = (table.starts[hook], table.policies[hook]);
            let own = LegacyTable::new(*family, &table.entries);
            return Ok(Some(own.follow(&chain.name, start, policy, packet)));
        }
        let Some(nft) = &mut self.nft else { return Ok(None) };
        let key = (chain.family, chain.table.clone());
        let known = self.known.remove(&key).unwrap_or_default();
        let mut table = Asked::knowing(nft, chain.family, &chain.table, known);
        let followed = nft::follow(&mut table, chain, packet);
        let known = table.into_known();
        self.known.insert(key, known);
        followed.map(Some)
    }
}
