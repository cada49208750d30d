//! Netlink: requests as values, and a socket that sends many of them with one system call.

mod message;
mod monitor;
mod socket;

pub use message::{Answer, Message, Refusal};
pub use monitor::{Heard, Monitor};
pub use socket::{Protocol, Socket};

pub(in crate::sys) use message::{ACK, CREATE, EXCL, encode};
