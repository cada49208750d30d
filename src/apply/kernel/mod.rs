//! The real host: steps walked over the kernel and the state directory.
//!
//! One value serves one call of the plugin. Sockets are opened when they are first needed and left open: closing an
//! nf_tables socket after a deletion waits for the kernel, which the end of the process does anyway.

mod absent;
mod admission;
mod amend;
mod asked;
mod bridge;
mod chains;
mod claims;
mod delegate;
mod departure;
mod elsewhere;
mod facts;
mod firewall;
mod flows;
mod foreign;
mod forwarding;
mod interface;
mod iptables;
mod iptables_gone;
mod leases;
mod link;
mod macvlan;
mod mend;
mod network_rules;
mod orphans;
mod owners;
mod ports;
mod probe;
mod reference;
mod reference_leases;
mod reference_ports;
mod routed;
mod routes;
mod ruleset;
mod sandbox;
mod settings;
mod shape;
mod shapers;
mod sources;
mod strange;
mod subnets;
mod upon;
mod whole;
mod zones;

use std::rc::Rc;

use nix::errno::Errno;

use crate::firewall::nft;
use crate::model::nft::NftMessage;
use crate::model::{AttachmentKey, MacAddress};
use crate::plan::{Port, Step};
use crate::store::State;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::nfnetlink::NftSocket;
use crate::sys::sysctl;
use crate::sys::xtables::{self, InUse};

use super::{ApplyError, Attempt, Cause, Drift, Host};

pub use asked::{Asked, Known};
pub use delegate::{Delegation, is_own_program};
pub use elsewhere::Reach;
pub use foreign::{ForeignDrop, Trip, foreign_drops};
pub use iptables::FoundRule;
pub use mend::{Look, Mending};
pub use ports::{Holder, PortSurvey};
use sandbox::OpenSandbox;
pub use sandbox::SandboxError;
pub use shapers::HostEnd;
pub use upon::HostSide;

/// The kernel and the state directory.
#[derive(Debug)]
pub struct Kernel {
    state: Rc<State>,
    host: Option<Socket>,
    nft: Option<NftSocket>,
    conntrack: Option<Socket>,
    bus: zones::ToBus,
    sandboxes: Vec<OpenSandbox>,
    /// Bridges that were looked up by this call.
    bridges: Vec<bridge::KnownBridge>,
    /// What the record of the call's network says of its bridge: its name, and the address that it was given.
    expected_bridge: Option<(String, MacAddress)>,
    /// Whether the call's network is another than the one that its bridge was settled for.
    is_new_to_bridge: bool,
    /// The host end whose port was set when it was made, by this call.
    port_set: Option<String>,
    /// The way to sysctls, where this call has set any that goes by it.
    sysctls: Option<Rc<sysctl::Root>>,
    /// What the last walk made other than its steps say.
    made: amend::Made,
    /// The tables of legacy iptables, IPv4's and IPv6's, where this call has asked for them.
    legacy: [Option<InUse>; 2],
    /// Attachments that wait for host ports which this call has let go.
    waiters: Vec<AttachmentKey>,
}

impl Kernel {
    /// A host whose addresses and ports are kept in `state`.
    pub fn new(state: Rc<State>) -> Self {
        Self {
            state,
            host: None,
            nft: None,
            conntrack: None,
            bus: zones::ToBus::default(),
            sandboxes: Vec::new(),
            bridges: Vec::new(),
            expected_bridge: None,
            is_new_to_bridge: false,
            port_set: None,
            sysctls: None,
            made: amend::Made::default(),
            legacy: [None; 2],
            waiters: Vec::new(),
        }
    }

    /// The attachments that wait for host ports which were let go since this was last asked.
    pub fn take_waiters(&mut self) -> Vec<AttachmentKey> {
        std::mem::take(&mut self.waiters)
    }

    /// Whether there are any of these.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Notes some more.
    pub fn note_waiters(&mut self, waiters: Vec<AttachmentKey>) {
        self.waiters.extend(waiters);
    }

    /// The routing socket of the host's namespace.
    fn host(&mut self) -> Result<&mut Socket, Cause> {
        opened(&mut self.host, || Socket::open(Protocol::Route))
    }

    /// The nf_tables socket of the host's namespace.
    fn nft(&mut self) -> Result<&mut NftSocket, Cause> {
        opened(&mut self.nft, NftSocket::open)
    }

    /// The way to sysctls, which is another one on a host with many containers.
    fn sysctls(&mut self) -> Rc<sysctl::Root> {
        let state = &self.state;
        Rc::clone(self.sysctls.get_or_insert_with(|| Rc::new(sysctl::Root::new(state.is_crowded()))))
    }

    /// The nf_tables socket, where the kernel has nf_tables.
    fn nft_where_there(&mut self) -> Result<Option<&mut NftSocket>, Cause> {
        unless_lacking(self.nft())
    }

    /// What nf_tables has of what a message selects: nothing where the kernel has none, or not what it would be in.
    fn dump_nftables(&mut self, message: &NftMessage) -> Result<Vec<Vec<u8>>, Cause> {
        let replies = self.nft().and_then(|nft| Ok(nft.dump(message)?));
        Ok(unless_lacking(replies)?.unwrap_or_default())
    }

    /// Whether nf_tables has a chain in the table of a family.
    fn has_chain(&mut self, family: u8, table: &str, chain: &str) -> Result<bool, Cause> {
        let found = self.nft().and_then(|nft| Ok(nft.get(&nft::chain_policy(family, table, chain))?));
        Ok(unless_lacking(found)?.flatten().is_some())
    }

    /// Whether legacy iptables uses a table, as of the first time that this call asked.
    fn uses_legacy(&mut self, ipv6: bool, table: &str) -> Result<bool, Cause> {
        let slot = &mut self.legacy[usize::from(ipv6)];
        let in_use = match slot {
            Some(known) => known,
            None => slot.insert(xtables::in_use(ipv6)?),
        };
        Ok(in_use.lists(table))
    }

    fn ensure_step(&mut self, step: &Step, port: Option<&Port>) -> Result<(), Cause> {
        match step {
            // Taken before the plan was built, since the plan follows from them.
            Step::Leases(_) => Ok(()),
            // Another plugin made it, a moment ago.
            Step::Upon(_) => Ok(()),
            Step::Localnet(step) => Self::ensure_localnet(step),
            Step::Claims(step) => self.ensure_claims(step),
            Step::Forwarding(step) => self.ensure_forwarding(*step),
            Step::Bridge(step) => self.ensure_bridge(step),
            Step::Link(step) => self.ensure_link(step, port),
            Step::Routed(step) => self.ensure_routed(step),
            Step::Macvlan(step) => self.ensure_macvlan(step),
            Step::Interface(step) => self.ensure_interface(step),
            Step::Port(step) => self.ensure_port(step),
            Step::Shape(step) => self.ensure_shape(step),
            Step::Zone(step) => self.join_zone(step),
            Step::Firewall(step) => self.ensure_firewall(step),
            Step::Settings(step) => self.ensure_settings(step),
            Step::Sources(step) => self.ensure_sources(step),
        }
    }
}

impl Host for Kernel {
    fn ensure(&mut self, steps: &[Step]) -> Result<(), (usize, ApplyError)> {
        self.made = amend::Made::default();
        let port = steps.iter().find_map(Step::port);
        for (index, step) in steps.iter().enumerate() {
            self.ensure_step(step, port).map_err(|cause| (index, ApplyError::new(step, cause)))?;
        }
        Ok(())
    }

    fn absent(&mut self, plans: &[&[Step]], attempt: Attempt) -> Vec<Vec<ApplyError>> {
        absent::absent(self, plans, attempt)
    }

    fn probe(&mut self, steps: &[Step]) -> Result<Vec<Drift>, ApplyError> {
        let mut drifts = Vec::new();
        for step in steps {
            self.probe_step(step, &mut drifts).map_err(|cause| ApplyError::new(step, cause))?;
        }
        Ok(drifts)
    }
}

/// What a slot holds, opened where it holds nothing yet.
fn opened<T, E: Into<Cause>>(
    slot: &mut Option<T>,
    open: impl FnOnce() -> Result<T, E>,
) -> Result<&mut T, Cause> {
    match slot {
        Some(value) => Ok(value),
        None => Ok(slot.insert(open().map_err(Into::into)?)),
    }
}

/// What came of asking nf_tables; `None` where the kernel has none.
fn unless_lacking<T>(outcome: Result<T, Cause>) -> Result<Option<T>, Cause> {
    match outcome {
        Err(Cause::Sys(error)) if lacks_nftables(error.errno()) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Whether the kernel says so where it has no nf_tables.
fn lacks_nftables(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EINVAL))
}
