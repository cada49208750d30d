//! The same test on each firewall.

use super::Lab;

/// The backends of the configuration, with the variants of iptables.
pub const BACKENDS: [&str; 3] = ["nftables", "iptables-nft", "iptables-legacy"];

/// Makes the host one where this backend is what it says, and gives the key `backend` for it; or counts the test as
/// skipped.
pub fn choose<'a>(lab: &mut Lab, backend: &'a str) -> Option<&'a str> {
    let (kind, variant) = backend.split_once('-').unwrap_or((backend, ""));
    if !variant.is_empty() && !lab.iptables(variant) {
        super::skipped(&format!("{backend} is not here, or not chosen by alternatives"));
        return None;
    }
    Some(kind)
}

/// A test of each function for each backend, whose name it is given.
macro_rules! on_each_backend {
    ($($case:ident),+ $(,)?) => {
        mod nftables { $(#[test] fn $case() { super::$case(super::lab::backends::BACKENDS[0]); })+ }
        mod iptables_nft { $(#[test] fn $case() { super::$case(super::lab::backends::BACKENDS[1]); })+ }
        mod iptables_legacy { $(#[test] fn $case() { super::$case(super::lab::backends::BACKENDS[2]); })+ }
    };
}
pub(crate) use on_each_backend;
