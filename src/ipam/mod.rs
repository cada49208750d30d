//! Which address next: a pure choice over ranges, requests and what is taken. No disk.
//!
//! [`choose`] walks candidates of one range set, [`assign`] gives requested addresses to the range sets that hold
//! them, [`automatic_subnet`] finds a subnet for a network that names none, [`PortPool`] host ports for mappings that
//! name none.

mod choose;
mod error;
mod pool;
mod ports;
mod requested;
mod subnet;
#[cfg(test)]
mod tests;

pub use choose::{LINEAR_PROBES, PROBES_MAX, choose};
pub use error::IpamError;
pub use pool::{Pool, capacity};
pub use ports::PortPool;
pub use requested::assign;
pub use subnet::automatic_subnet;
