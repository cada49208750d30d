//! What was found on the way of a packet.

use serde::Serialize;

/// What stops packets. The serialized word is part of the output for machines, and stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The host forwards nothing: `net.ipv4.ip_forward` or `net.ipv6.conf.all.forwarding` is 0.
    ForwardingOff,
    /// A chain of somebody else's drops it.
    ForeignDrop,
    /// Rules of ours that the records call for are not there.
    RulesMissing,
    /// The container has no default route, or one to an address that is not its gateway.
    DefaultRoute,
    /// The bridge does not have the gateway's address.
    GatewayMissing,
    /// The bridge, or the host's end of the veth, is down.
    LinkDown,
    /// The host's end of the veth is not a port of its bridge.
    Detached,
    /// Packets of the container's MTU do not fit through a link further on.
    MtuBlackHole,
    /// The bridge port does not send back where a packet came from.
    HairpinOff,
    /// `route_localnet` is off, and the published port is asked for by 127.0.0.1.
    LocalnetOff,
    /// The host port belongs to another container, or to a process of the host.
    PortTaken,
    /// Nothing publishes that port.
    NotPublished,
    /// No process in the container listens there.
    NothingListens,
    /// A process listens, but on 127.0.0.1 or `::1` alone.
    ListensOnLoopback,
    /// Strict reverse path filtering drops what comes in by another way than the answer would leave.
    ReversePath,
    /// Another route of the host covers the container's address.
    OverlappingRoute,
    /// A tracked UDP flow still leads to a container that has gone.
    StaleFlow,
    /// Two interfaces answer to one address.
    DuplicateAddress,
    /// A wall of ours: isolation between networks, an internal network, or no talk between containers.
    Wall,
    /// The table of tracked connections is full.
    ConntrackFull,
    /// `br_netfilter` sends what stays on the bridge through the chains of IP, and one of them drops it.
    BridgedFiltering,
    /// No route leads there.
    NoRoute,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// The packet ends here.
    Surely,
    /// It ends here unless something that was not looked at lets it pass.
    Perhaps,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub fault: Fault,
    /// How sure.
    pub certainty: Certainty,
    /// A sentence: what ends the packet, and whose it is.
    pub what: String,
    /// The command that would mend it; where none does, what to do in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}
