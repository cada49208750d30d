//! Lease files, in the layout of the reference's host-local, so that either can take over from the other.
//!
//! ```text
//! DATADIR/NETWORK/10.1.0.2            "ID\r\nIF" without a final newline (by old versions: "ID"), mode 0600
//! DATADIR/NETWORK/last_reserved_ip.0  the address that range set 0 gave last
//! DATADIR/NETWORK/lock                flock(2), taken by both in a directory that is shared
//! DATADIR/NETWORK/.linkspan-boot      the boot that the leases belong to; host-local passes over it
//! ```

mod allocate;
mod boot;
mod directory;
mod preview;
mod walk;

#[cfg(test)]
pub(super) use allocate::Taking;
pub use directory::LeaseDirectory;
pub use walk::{DatedLease, HeldLease, Owner};
