//! The ends of a way: what waits there for the packet, and what of the host's state swallows it though every hop lets
//! it through.
//!
//! Each inspection asks the kernel (sockets, addresses, neighbours, tracked connections, kernel parameters) and gives
//! [`Finding`]s; nothing is changed. They speak of the namespace that the calling thread is in, unless they are given
//! another.

mod bridged;
mod duplicate;
mod host_port;
mod listener;
mod mtu;
mod tracked;

pub use bridged::{bridged_drop, bridged_parameter, filters_bridged};
pub use duplicate::duplicate_address;
pub use host_port::{host_port, strangers};
pub use listener::{listener, names};
pub use mtu::{Link, Sender, black_hole};
pub use tracked::{StaleFlow, conntrack_table, judge_table, stale_flows};

use crate::explain::{Certainty, Fault, Finding};

/// A finding that surely stops the packet.
fn surely(fault: Fault, what: String, mend: impl Into<String>) -> Finding {
    Finding { fault, certainty: Certainty::Surely, what, mend: Some(mend.into()) }
}

/// A finding that stops some packets, or one that something else may still let pass.
fn perhaps(fault: Fault, what: String, mend: impl Into<String>) -> Finding {
    Finding { fault, certainty: Certainty::Perhaps, what, mend: Some(mend.into()) }
}
