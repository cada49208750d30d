//! What there is to see: the records and the kernel's side read together, as plain values. Nothing is printed and
//! nothing is changed here.
//!
//! A [`Reading`] is taken once: a fixed number of netlink dumps, whatever the number of containers, and the files of the
//! state directory. Everything else here is computed from it: [`attachments`], [`networks`], [`leases`], [`ports`],
//! [`traffic`]. Those values are what `--json` prints (docs/json.md).

mod attachment;
mod error;
mod graph;
mod host;
mod inspect;
mod lease;
mod network;
mod orphan;
mod port;
mod reading;
mod records;
mod service;
mod traffic;

pub use attachment::{Attachment, Condition, attachments};
pub use error::ViewError;
pub use graph::{Bridge, Graph, Node, Uplink, graph};
pub use host::{Host, Known};
pub use inspect::{AttachmentDetails, Comparison, NetworkDetails, compare_attachment, compare_network};
pub use lease::{Lease, LeaseState, leases};
pub use network::{Health, Network, networks};
pub use orphan::{Orphan, orphans};
pub use port::{Port, ports};
pub use reading::{Reading, Wants};
pub use records::{LeaseFile, Records};
pub use service::lacks_without_agent;
pub use traffic::{PortTraffic, Traffic, traffic};
