//! Steps that change an interface which another plugin made.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::sandbox::Sandbox;
use crate::model::{LinkSettings, Route};

/// The sysctls that the kernel does not tell of as they were written, as ADD has read them: a list of ports is sorted, a
/// number loses its zeros. `None` for one that cannot be read.
pub type Readings = BTreeMap<String, Option<String>>;

/// See [`Step::Settings`](super::Step::Settings).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Interface name in it.
    pub name: String,
    /// Sysctls of the container, under `net`. They stay when the step is taken back, as with the reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// What the kernel made of those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: Readings,
    /// What is asked of the interface.
    pub wanted: LinkSettings,
    /// What it was before.
    pub before: LinkSettings,
    /// The file that says the same to the reference `tuning`.
    pub saved_in: String,
}

/// See [`Step::Sources`](super::Step::Sources).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Interface name in it.
    pub name: String,
    /// Its addresses, each with the table that decides on what is sent from it.
    pub tables: Vec<SourceTable>,
    /// The routes that were in the main table and have moved.
    pub moved: Vec<SourceRoute>,
}

/// One source address and its routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTable {
    /// The address alone (/32, /128).
    pub source: IpNetwork,
    /// The table.
    pub table: u32,
    /// Routes that the table is to hold.
    pub routes: Vec<SourceRoute>,
}

/// A route as it is in the kernel, which knows of more than a configuration does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRoute {
    /// The route.
    pub route: Route,
    /// The source address that it prefers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<std::net::IpAddr>,
    /// Whether its next hop is on the link though no route says so, as with `ptp` whatever is behind the gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
}
