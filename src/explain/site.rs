//! A network namespace as it is asked about: links, addresses, routes, parameters, chains.

use std::collections::HashMap;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::apply::{Asked, Known};
use crate::firewall::nft::{self, Chain, Followed, Packet};
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::rtnl::{self, Address, FoundRoute, Link, RouteFilter, RouteQuery};
use crate::sys::{Netns, SysError, sysctl};

/// `NFPROTO_BRIDGE`.
pub(super) const BRIDGE: u8 = 7;
/// `NFPROTO_INET`, `NFPROTO_NETDEV`.
const INET: u8 = 1;
const NETDEV: u8 = 5;
/// `NF_INET_INGRESS`, which only chains of family inet have.
const INGRESS: u32 = 5;

/// A namespace: the host's, or a container's.
#[derive(Debug)]
pub(super) struct Site {
    /// The container's; `None` for the one that the thread is in.
    pub(super) netns: Option<Netns>,
    socket: Socket,
    nft: Option<NftSocket>,
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    chains: Vec<Chain>,
    known: HashMap<(u8, String), Known>,
    /// What of the firewall is not followed, in words.
    pub(super) blind: Vec<String>,
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
            chains: Vec::new(),
            known: HashMap::new(),
            blind: Vec::new(),
        };
        if let Err(error) = site.read_chains() {
            site.blind.push(match error.errno() {
                Some(Errno::EPERM | Errno::EACCES) => {
                    "the rules of nf_tables: only root may read them".to_owned()
                }
                _ => format!("the rules of nf_tables: {error}"),
            });
        }
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
                    self.chains.push(chain);
                }
            }
        }
        self.chains.sort_by_key(|chain| chain.base.as_ref().map_or(0, |base| base.priority));
        self.nft = Some(nft);
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

    /// What becomes of a packet as far as routes go.
    pub(super) fn route(&mut self, query: &RouteQuery) -> Result<Result<FoundRoute, Errno>, SysError> {
        rtnl::route_packet(&mut self.socket, query)
    }

    /// What the routing tables call an address (`RTN_*`).
    pub(super) fn kind_of(&mut self, address: IpAddr) -> Result<u32, SysError> {
        const UNREACHABLE: u32 = 7;
        let query = RouteQuery { to: address, from: None, input: None, mark: 0 };
        Ok(self.route(&query)?.map_or(UNREACHABLE, |route| u32::from(route.kind)))
    }

    /// The routes of the main table.
    pub(super) fn routes(&mut self, is_ipv4: bool) -> Result<Vec<FoundRoute>, SysError> {
        let filter = RouteFilter { ipv4: Some(is_ipv4), table: Some(254), ..RouteFilter::default() };
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
    pub(super) fn hooked(&self, hook: u32, family: u8) -> Vec<Chain> {
        let sees = |chain: &&Chain| {
            (chain.family == family || chain.family == INET && family != BRIDGE)
                && chain.base.as_ref().is_some_and(|base| base.hook == hook)
        };
        self.chains.iter().filter(sees).cloned().collect()
    }

    /// Whether there is a chain of a table.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.chains.iter().any(|chain| chain.table == table)
    }

    /// Follows a packet through one of its base chains.
    pub(super) fn follow(&mut self, chain: &Chain, packet: &mut Packet) -> Result<Option<Followed>, SysError> {
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
