//! From a configuration, its leases and the host's facts to an ordered list of steps.
//!
//! A plan is a value: it is walked by `apply`, written into the attachment's record, and walked again from there.

mod build;
mod endpoint;
mod network;
mod outcome;
mod parts;
mod reading;
mod routes;
mod sandbox;
mod sources;
mod step;
#[cfg(test)]
mod tests;
mod waiting;
mod words;

pub use build::{Addressing, Lower, build, macvlan, translated, zone};
pub use endpoint::{Macvlan, Routed};
pub use network::{NetworkFacts, is_behind, left_on, network, rules, written, written_on};
pub use outcome::{SeenBridge, hold, of_result, outcome, tolerating, tuned, tuned_by_reference};
pub use parts::{Readings, Settings, SourceRoute, SourceTable, Sources};
pub use routes::effective_routes;
pub use sandbox::Sandbox;
pub use sources::{RoutingFacts, sources};
pub use step::{
    Bridge, Claims, Firewall, Forwarding, Interface, Leases, Link, Localnet, Plan, Port, Shape, Step, Upon,
    Vlans, Zone,
};
