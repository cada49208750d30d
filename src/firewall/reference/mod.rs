//! What the reference plugins leave in a host's firewall, by the formulas of their names: containers that they
//! attached are read and taken away by ours.

mod iptables;
mod nft;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha512};

use crate::model::AttachmentKey;

pub use iptables::{
    ADMITTED, Kind, OwnedChain, PUBLISHED, admitted, chain_in_use, masquerades, owners, published,
    remove_admitted, remove_chains,
};
pub use nft::{
    GUARD, PORTS_CHAIN, PORTS_TABLE, Rule, TABLES, Table, chains_of, guard_chains, guard_comment, parse_rule,
    remove_guard, remove_rules, without_lease,
};

/// The names that an attachment's things have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Chain of `ipMasq`, in table nat.
    pub masquerade: String,
    /// Chain of published ports, in table nat.
    pub published: String,
    /// Chain that old versions of `portmap` masqueraded by, in table nat.
    pub masquerade_ports: String,
    /// What the comments of `ipMasq` start with in nf_tables.
    pub masquerade_comment: String,
    /// The comment of published ports in nf_tables: the container's ID alone.
    pub published_comment: String,
}

impl Names {
    /// Those of one attachment to a network.
    pub fn of(network: &str, key: &AttachmentKey) -> Self {
        let digits = hex(format!("{network}{}", key.container_id).as_bytes());
        Self {
            masquerade: format!("CNI-{}", &digits[..24]),
            published: format!("CNI-DN-{}", &digits[..21]),
            masquerade_ports: format!("CNI-SN-{}", &digits[..21]),
            masquerade_comment: format!("{}-{}", network_digits(network), attachment_digits(key)),
            published_comment: key.container_id.clone(),
        }
    }
}

/// The first half of a comment of `ipMasq` in nf_tables.
pub fn network_digits(network: &str) -> String {
    hex(network.as_bytes())[..16].to_owned()
}

/// The second half.
pub fn attachment_digits(key: &AttachmentKey) -> String {
    hex(format!("{}:{}", key.interface, key.container_id).as_bytes())[..16].to_owned()
}

fn hex(text: &[u8]) -> String {
    Sha512::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
