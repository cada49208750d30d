//! Why a way cannot be told.

use crate::sys::SysError;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The kernel could not be asked.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// An end has no address of the family.
    #[error("{who} has no {family} address: {hint}")]
    NoAddress {
        /// The end, in words.
        who: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Addresses of two families.
    #[error("{0} and {1} are of different families: nothing can be sent from one to the other")]
    Families(std::net::IpAddr, std::net::IpAddr),
    /// It is not known by which interface a packet from outside comes in.
    #[error("the host has no default route, so that 'outside' is nowhere: name the interface with --in")]
    NoUplink,
    /// There is no such interface.
    #[error("the host has no interface '{0}': 'ip link' lists them")]
    NoInterface(String),
    /// A container that is not on a veth pair of linkspan's.
    #[error("container {0} has no veth pair of linkspan's on this host, and its way is not known")]
    NoPair(String),
    /// A container whose namespace is gone.
    #[error("container {0} is gone: its namespace is no more, and DEL was never called")]
    Gone(String),
}
