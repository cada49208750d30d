//! The kernel's side: links, addresses, firewall elements, tracked connections, by one dump each.

use std::collections::HashMap;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::firewall::nft::{self, Element, Set};
use crate::model::Route;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::nfnetlink::flows::{self, Flow};
use crate::sys::rtnl::{self, Address, FoundRoute, Link, RouteFilter};
use crate::sys::sysctl;

use super::{ViewError, Wants};

/// What was read, or in a few words why it could not be: without CAP_NET_ADMIN the kernel keeps its firewall to itself.
pub type Known<T> = Result<T, String>;

/// The host's own network namespace.
#[derive(Debug)]
pub struct Host {
    /// Every link.
    pub links: Vec<Link>,
    /// Every address of a link.
    pub addresses: Vec<Address>,
    /// The routes of the main table.
    pub routes: Vec<FoundRoute>,
    /// The elements of linkspan's sets and maps.
    pub elements: Known<Vec<Element>>,
    /// Tracked connections, where they were asked for.
    pub flows: Known<Vec<Flow>>,
    /// How many connections are tracked, and how many can be; `None` where the kernel tracks none.
    pub tracked: Option<(u64, u64)>,
    /// Whether the kernel counts the bytes of tracked connections (`net.netfilter.nf_conntrack_acct`).
    pub counts_bytes: bool,
    by_name: HashMap<String, usize>,
}

impl Host {
    /// Asks the kernel for everything but tracked connections.
    ///
    /// # Errors
    /// Where even links cannot be listed.
    pub fn read(wants: Wants) -> Result<Self, ViewError> {
        let mut socket = Socket::open(Protocol::Route)?;
        let links = rtnl::all_links(&mut socket)?;
        let by_name = links.iter().enumerate().map(|(at, link)| (link.name.clone(), at)).collect();
        let main = RouteFilter { table: Some(Route::MAIN_TABLE), ..RouteFilter::default() };
        let number = |key: &str| sysctl::read(key).ok().and_then(|value| value.parse::<u64>().ok());
        let tracked =
            number("net/netfilter/nf_conntrack_count").zip(number("net/netfilter/nf_conntrack_max"));
        Ok(Self {
            addresses: rtnl::addresses(&mut socket, None)?,
            routes: rtnl::routes(&mut socket, &main)?,
            elements: if wants.firewall { elements() } else { Err("not asked for".to_owned()) },
            flows: Err("not asked for".to_owned()),
            tracked,
            counts_bytes: number("net/netfilter/nf_conntrack_acct") == Some(1),
            links,
            by_name,
        })
    }

    /// Asks for the tracked connections, and keeps those with an end in `ours`.
    pub fn read_flows(&mut self, ours: &dyn Fn(IpAddr) -> bool) {
        self.flows = tracked_flows(ours);
    }

    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).and_then(|at| self.links.get(*at))
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, link: &Link) -> impl Iterator<Item = &Address> {
        let index = link.index;
        self.addresses.iter().filter(move |address| address.index == index)
    }

    /// The links that the default routes leave by, each once.
    pub fn uplinks(&self) -> Vec<&Link> {
        let mut found: Vec<&Link> = Vec::new();
        for route in self.routes.iter().filter(|route| route.dst.prefix() == 0) {
            for index in route.oif.into_iter().chain(route.multipath.iter().map(|hop| hop.oif)) {
                let link = self.links.iter().find(|link| link.index == index);
                if let Some(link) = link.filter(|link| found.iter().all(|other| other.index != link.index)) {
                    found.push(link);
                }
            }
        }
        found
    }
}

/// One dump a set, of which there are two dozen. A table or set that nobody has made has none.
fn elements() -> Known<Vec<Element>> {
    let mut nft = NftSocket::open().map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for set in Set::INET.into_iter().chain(Set::SHIFTED).chain(Set::BRIDGE) {
        match nft.dump(&nft::dump(set)) {
            Ok(replies) => found.extend(replies.iter().flat_map(|reply| nft::parse_elements(set, reply))),
            Err(error) if error.errno() == Some(Errno::EPERM) => {
                return Err("only root may read the firewall".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(found)
}

fn tracked_flows(ours: &dyn Fn(IpAddr) -> bool) -> Known<Vec<Flow>> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|error| error.to_string())?;
    let has_end = |flow: &Flow| {
        [flow.original.from, flow.original.to, flow.reply.from, flow.reply.to]
            .iter()
            .any(|end| ours(end.ip()))
    };
    flows::list(&mut socket, has_end).map_err(|error| match error.errno() {
        Some(Errno::EPERM) => "only root may list connections".to_owned(),
        Some(Errno::EINVAL | Errno::EOPNOTSUPP) => "the kernel tracks no connections".to_owned(),
        _ => error.to_string(),
    })
}
