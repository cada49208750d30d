//! The CNI protocol as values: environment, configuration, result, versions, errors. No files, sockets, processes.
//!
//! Specification: <https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md>.

mod about;
mod address;
mod arguments;
mod config;
mod defaults;
mod environment;
mod error;
mod fields;
mod read;
mod render;
mod result;
mod result_parse;
mod version;

pub use about::{ABOUT, version_of_error, versions};
pub use arguments::Arguments;
pub use config::{
    Backend, Bandwidth, BridgeKeys, Dns, FirewallKeys, HostLocal, Ipam, IsolationKeys, LinkKeys, LogLevel,
    MacvlanKeys, NetworkConfig, PortmapKeys, RequestedAddress, StaticAddress, Tuning, VlanTrunk,
};
pub use defaults::{Defaults, LinkKind, MacSource, Reads};
pub use environment::{CONTAINER_ID_MAX, Command, Environment};
pub use error::{CniError, Code, Error, VariableProblem};
pub use fields::Fields;
pub use read::{MAX_INPUT, Strictness, is_no_ipam, require_next_hops};
pub use result::{CniResult, Interface, Ip};
pub use version::Version;
