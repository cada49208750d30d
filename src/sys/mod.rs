//! The host's kernel: netlink, namespaces, sysctls, sockets, child processes, and all `unsafe` of the crate.
//!
//! No policy and no CNI words: the rooms below decide what is asked for, this one asks.

pub mod arena;
pub mod bell;
pub mod boot;
pub mod counters;
pub mod daemon;
pub mod datagrams;
pub mod dbus;
mod error;
pub mod listen;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod memory;
pub mod netlink;
mod netns;
pub mod nfnetlink;
pub mod parcel;
pub mod probe;
pub mod process;
pub mod ready;
pub mod rtnl;
pub mod sockdiag;
pub mod splice;
pub mod start;
pub mod sysctl;
pub mod tcx;
pub mod turn;
pub mod xtables;

#[cfg(test)]
mod testing;

pub use error::SysError;
pub use netns::{Netns, NetnsError, NetnsId, in_scratch};
