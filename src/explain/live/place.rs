//! A namespace that is watched: the table in it, who listens to it, and what its names are.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nix::errno::Errno;

use crate::firewall::nft::{self, Chain, TRACE, Traced};
use crate::model::nft::NftMessage;
use crate::sys::netlink::{Heard, Monitor, Protocol, Socket};
use crate::sys::nfnetlink::trace::{self, Event};
use crate::sys::nfnetlink::{NftError, NftSocket};
use crate::sys::turn::Turn;
use crate::sys::{Netns, SysError, counters, rtnl};

use super::LiveError;

/// The families whose chains a packet may meet (`NFPROTO_*`): inet, ip, ip6, bridge.
const FAMILIES: [u8; 4] = [1, 2, 10, 7];
/// How long another probe is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is watched for in a namespace.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) these: Traced,
    pub(super) answers: Option<Traced>,
    /// Whether what belongs to the connection is told of, however it was translated.
    pub(super) by_connection: bool,
}

/// A namespace that is watched.
pub(super) struct Place {
    /// `host`, `container shop`.
    pub(super) name: String,
    pub(super) netns: Option<Netns>,
    table: NftSocket,
    monitor: Monitor,
    families: Vec<u8>,
    /// The base chains as they were when the watch began.
    pub(super) chains: Vec<Chain>,
    links: HashMap<u32, String>,
    before: BTreeMap<String, u64>,
    /// What is not seen here, in words.
    pub(super) blind: Vec<String>,
}

/// The turn of all who watch the host's namespace, in which the calling thread is.
pub(super) fn turn() -> Result<Turn, LiveError> {
    Turn::take(TRACE, PATIENCE)?.ok_or(LiveError::Busy)
}

/// Tables that a probe left which was killed on a kernel before 5.12: later ones take them away themselves. With `remove`
/// they are taken away. While a probe is under way there are none.
///
/// # Errors
/// Where the kernel refuses.
pub fn leftovers(remove: bool) -> Result<Vec<String>, LiveError> {
    let Some(_turn) = Turn::take(TRACE, Duration::ZERO)? else { return Ok(Vec::new()) };
    let mut tables = NftSocket::open()?;
    let mut left = Vec::new();
    for family in Traced::FAMILIES {
        if tables.get(&nft::probe_trace(family)).ok().flatten().is_none() {
            continue;
        }
        if remove {
            let failed = |source| LiveError::Table { place: "the host".to_owned(), source };
            tables.commit(&[nft::remove_trace(family)]).map_err(failed)?;
        }
        left.push(format!("the table {} {TRACE}", word(family)));
    }
    Ok(left)
}

fn word(family: u8) -> &'static str {
    if family == Traced::FAMILIES[0] { "inet" } else { "bridge" }
}

impl Place {
    /// Begins to watch: everything that `watched` describes is told of from now on.
    pub(super) fn watch(name: &str, netns: Option<Netns>, watched: &Watched) -> Result<Self, LiveError> {
        let inside = |netns: &Option<Netns>| match netns {
            Some(netns) => netns.enter(|| Self::open(name, watched, false))?,
            None => Self::open(name, watched, true),
        };
        let mut place = inside(&netns)?;
        place.netns = netns;
        Ok(place)
    }

    fn open(name: &str, watched: &Watched, is_host: bool) -> Result<Self, LiveError> {
        let monitor = trace::monitor()?;
        let table = NftSocket::open()?;
        let mut place = Self {
            name: name.to_owned(),
            netns: None,
            table,
            monitor,
            families: Vec::new(),
            chains: Vec::new(),
            links: HashMap::new(),
            before: BTreeMap::new(),
            blind: Vec::new(),
        };
        place.read_names()?;
        for family in Traced::FAMILIES {
            if family != Traced::FAMILIES[0] && !is_host {
                continue;
            }
            place.make(family, watched, is_host)?;
        }
        place.before = counters::read();
        Ok(place)
    }

    fn read_names(&mut self) -> Result<(), SysError> {
        for family in FAMILIES {
            let found = self.table.dump(&nft::dump_chains(family))?;
            self.chains.extend(nft::parse_chains(family, &found));
        }
        let mut socket = Socket::open(Protocol::Route)?;
        self.links = rtnl::all_links(&mut socket)?.into_iter().map(|link| (link.index, link.name)).collect();
        Ok(())
    }

    /// Makes the table of a family, owned by our socket where the kernel knows owners.
    fn make(&mut self, family: u8, watched: &Watched, is_host: bool) -> Result<(), LiveError> {
        let messages = |owned| -> Vec<NftMessage> {
            let Watched { these, answers, by_connection } = watched;
            nft::trace_table(family, these, answers.as_ref(), *by_connection, owned)
        };
        let failed = |source| LiveError::Table { place: self.name.clone(), source };
        let mut made = self.table.commit(&messages(true));
        if matches!(&made, Err(error) if error.errno == Errno::EEXIST) {
            // We have the turn: whoever left it is no more.
            self.table.commit(&[nft::remove_trace(family)]).map_err(failed)?;
            made = self.table.commit(&messages(true));
        }
        // Before Linux 5.12; in a container's namespace nobody would find what is left, so none is made there.
        let has_no_owners = |error: &NftError| {
            error.index == Some(0) && matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP)
        };
        if is_host && matches!(&made, Err(error) if has_no_owners(error)) {
            made = self.table.commit(&messages(false));
        }
        match made {
            Ok(()) => self.families.push(family),
            Err(NftError { errno: Errno::EPERM | Errno::EACCES, .. }) => {
                return Err(if nix::unistd::geteuid().is_root() {
                    LiveError::Busy
                } else {
                    LiveError::NotAllowed
                });
            }
            // A kernel without tables of bridges, or a container where none can be owned.
            Err(_) if family != Traced::FAMILIES[0] || !is_host => {
                self.blind.push(format!("packets in {} of {}", word(family), self.name));
            }
            Err(source) => return Err(failed(source)),
        }
        Ok(())
    }

    /// What has been told since this was asked last, and whether something was lost.
    pub(super) fn told(&mut self) -> (Vec<Event>, bool) {
        let (mut events, mut lost) = (Vec::new(), false);
        loop {
            match self.monitor.hear() {
                Ok(Heard::Told(all)) => {
                    events.extend(all.iter().filter_map(|(kind, body)| trace::event(*kind, body)));
                }
                Ok(Heard::Lost) => lost = true,
                Err(_) => return (events, lost),
            }
        }
    }

    /// The descriptor that becomes readable when something is told.
    pub(super) fn ear(&self) -> &Monitor {
        &self.monitor
    }

    /// A base chain by family, table and name.
    pub(super) fn base(&self, family: u8, table: &str, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.family == family && chain.table == table && chain.name == name)
    }

    /// The name of an interface.
    pub(super) fn link(&self, index: u32) -> String {
        self.links.get(&index).cloned().unwrap_or_else(|| format!("interface {index}"))
    }

    /// Counters before the watch and now.
    pub(super) fn counters(&self) -> (&BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let now = match &self.netns {
            Some(netns) => netns.enter(counters::read).unwrap_or_default(),
            None => counters::read(),
        };
        (&self.before, now)
    }
}

impl Drop for Place {
    /// Takes the tables away; what this cannot, closing the socket does.
    fn drop(&mut self) {
        let gone: Vec<NftMessage> = self.families.iter().map(|family| nft::remove_trace(*family)).collect();
        for message in gone {
            let _ = self.table.commit(&[message]);
        }
    }
}
