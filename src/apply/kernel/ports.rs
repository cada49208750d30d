//! Who else listens on host ports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::{self, AttachmentKey, Publication};
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::sockdiag::{self, Listener, Probe, Process};
use crate::sys::{SysError, sysctl};

use super::Kernel;

/// So many single ports are tried one by one. More, and ranges, are looked for in a list of all listeners.
const FEW: usize = 4;

/// A process that listens on a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What it keeps from being published.
    pub publication: Publication,
    /// In words: `nginx (PID 812) listening on 0.0.0.0:80`.
    pub words: String,
}

/// What the host says about ports that are to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSurvey {
    /// A process that has one of them.
    pub holder: Option<Holder>,
    /// Addresses among them that the host does not have.
    pub missing: Vec<IpAddr>,
}

impl Kernel {
    /// Looks for a process that holds one of the host ports, unless it holds it for this very attachment.
    ///
    /// Binding a port shows in a few system calls that nobody has it; only where that fails, and for many ports, the
    /// listeners are listed, once for each protocol.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn survey_ports(
        &mut self,
        publications: &[Publication],
        key: &AttachmentKey,
    ) -> Result<PortSurvey, SysError> {
        let mut survey = PortSurvey::default();
        let few = publications.len() <= FEW && !publications.iter().any(Publication::is_range);
        let mut suspects: Vec<Publication> = Vec::new();
        let mut asked: HashSet<IpAddr> = HashSet::new();
        for publication in publications {
            let address = publication.host.ip();
            if few {
                match sockdiag::bind_probe(publication.protocol, publication.host)? {
                    Probe::Free => {}
                    Probe::Taken => suspects.push(*publication),
                    Probe::NoSuchAddress => survey.missing.push(address),
                }
                continue;
            }
            suspects.push(*publication);
            if !address.is_unspecified()
                && asked.insert(address)
                && sockdiag::bind_probe(model::Protocol::Udp, SocketAddr::new(address, 0))?
                    == Probe::NoSuchAddress
            {
                survey.missing.push(address);
            }
        }
        survey.missing.dedup();
        if !suspects.is_empty() {
            survey.holder = holder(&suspects, key, self.state.agent_pid())?;
        }
        Ok(survey)
    }

    /// Whether a socket could be bound to a port on an address of the host: for one that nobody has asked for by name.
    ///
    /// # Errors
    /// Where the kernel cannot be asked.
    pub fn port_is_free(&mut self, protocol: model::Protocol, host: SocketAddr) -> Result<bool, SysError> {
        Ok(sockdiag::bind_probe(protocol, host)? != Probe::Taken)
    }

    /// The ports that the host gives to those who do not ask for one, and those among them that it keeps back, as
    /// `ip_local_port_range` and `ip_local_reserved_ports` say.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn local_ports(&mut self) -> Result<(String, String), SysError> {
        let range = sysctl::read("net/ipv4/ip_local_port_range")?;
        Ok((range, sysctl::read("net/ipv4/ip_local_reserved_ports")?))
    }
}

/// The first process that has one of the ports, and has it for somebody else.
/// What linkspan's agent holds is held for containers, whose claims say for which.
fn holder(
    suspects: &[Publication],
    key: &AttachmentKey,
    agent: Option<u32>,
) -> Result<Option<Holder>, SysError> {
    let mut found: Vec<(Publication, Listener)> = Vec::new();
    let mut socket = Socket::open(Protocol::SockDiag)?;
    let mut by_protocol: BTreeMap<model::Protocol, Vec<&Publication>> = BTreeMap::new();
    for publication in suspects {
        by_protocol.entry(publication.protocol).or_default().push(publication);
    }
    for (protocol, publications) in by_protocol {
        let first = publications.iter().map(|p| p.host.port()).min().unwrap_or(1);
        let last = publications.iter().map(|p| p.last_host_port()).max().unwrap_or(u16::MAX);
        let mut listeners = sockdiag::listening(&mut socket, protocol, &(first..=last))?;
        listeners.sort_by_key(|listener| listener.address.port());
        for publication in publications {
            let from = listeners.partition_point(|l| l.address.port() < publication.host.port());
            let until = listeners.partition_point(|l| l.address.port() <= publication.last_host_port());
            let takers = listeners[from..until].iter().filter(|listener| takes(listener, publication));
            found.extend(takers.map(|listener| (*publication, *listener)));
        }
    }
    if found.is_empty() {
        // Bound but not listening: an outgoing connection's local port takes nothing from a published one.
        return Ok(None);
    }
    let owners: HashMap<u32, Vec<Process>> =
        sockdiag::owners_of_inodes(&found.iter().map(|(_, listener)| listener.inode).collect());
    let ours = |owners: &Vec<Process>| {
        owners.iter().any(|owner| Some(owner.pid) == agent) || reserve_for(owners, key)
    };
    let foreign = found.iter().find(|(_, listener)| !owners.get(&listener.inode).is_some_and(ours));
    Ok(foreign.map(|(publication, listener)| {
        let who = match owners.get(&listener.inode).and_then(|owners| owners.first()) {
            Some(process) => format!("{} (PID {})", process.name, process.pid),
            None => "a process in another PID namespace".to_owned(),
        };
        Holder { publication: *publication, words: format!("{who}, listening on {}", listener.address) }
    }))
}

/// Whether a listener would be given packets that the publication is to have, its port being among them.
fn takes(listener: &Listener, publication: &Publication) -> bool {
    let ours = publication.host.ip();
    let everywhere = ours.is_unspecified() && ours.is_ipv4() == listener.address.is_ipv4();
    everywhere || listener.takes(ours)
}

/// Runtimes reserve published ports by binding them themselves. Such a listener is told apart by its processes: one has
/// the container's ID among its arguments, as podman's conmon does, or each is an ancestor of this plugin in the session
/// that the plugin was started in. An ancestor of another session is a server that somebody has logged in by: sshd is no
/// runtime. Everybody descends from PID 1, which listens for services that it is to start: it is no runtime unless it
/// started this plugin.
///
/// A child that a runtime has just forked has the runtime's sockets, and its command line, until it becomes its program.
fn reserve_for(owners: &[Process], key: &AttachmentKey) -> bool {
    let has_id = |owner: &Process| owner.command_line.split(' ').any(|argument| argument == key.container_id);
    let is_runtime = |owner: &Process| {
        if owner.pid == 1 { sockdiag::is_parent(1) } else { sockdiag::has_started(owner.pid) }
    };
    let (runtimes, others): (Vec<_>, Vec<_>) = owners.iter().partition(|owner| is_runtime(owner));
    let is_fork = |owner: &Process| runtimes.iter().any(|r| r.command_line == owner.command_line);
    owners.iter().any(has_id) || others.into_iter().all(is_fork)
}
