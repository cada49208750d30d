//! Plain values that every room speaks of. No I/O, no clock, no randomness.

mod attachment;
pub mod attributes;
pub mod chains;
pub mod errno;
mod ingress;
mod isolation;
mod mac;
mod macvlan;
pub mod names;
pub mod naming;
mod network;
pub mod nft;
mod port;
mod range;
mod record;
mod route;
mod settings;
mod shaping;
pub mod written;

pub use attachment::{AttachmentKey, Part};
pub use ingress::IngressPolicy;
pub use isolation::{InterfacePattern, Isolation, Mode};
pub use mac::{MacAddress, ParseMacError};
pub use macvlan::MacvlanMode;
pub use naming::Naming;
pub use network::{FirewallBackend, LeftRules, Network};
pub use port::{PortMapping, Protocol, Publication};
pub use range::{Range, RangeSet, first_address};
pub use record::{Lease, LeaseSource};
pub use route::Route;
pub use settings::LinkSettings;
pub use shaping::{Rate, Shaping};
