//! Netlink: requests as values, and a socket that sends many of them with one system call.

mod message;
mod socket;

pub use message::{Answer, Message, Refusal};
pub use socket::{Protocol, Socket};

pub(in crate::sys) use message::{ACK, CREATE, EXCL, encode};
