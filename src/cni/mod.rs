//! The CNI protocol as values: environment, configuration, result, versions, errors. No files, sockets, processes.
//!
//! Specification: <https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md>.

mod config;

pub use config::{
    Backend, Bandwidth, BridgeKeys, Dns, FirewallKeys, HostLocal, Ipam, LogLevel, NetworkConfig, PortmapKeys,
    RequestedAddress, StaticAddress, Tuning, VlanTrunk,
};

/// Placeholder until `version.rs` lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {}
