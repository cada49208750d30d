//! Netfilter over netlink: nf_tables transactions and the connection tracking table.
//! Kernel: `include/uapi/linux/netfilter/{nfnetlink,nf_tables,nfnetlink_conntrack}.h`.

pub mod conntrack;
pub mod flows;
mod nft;
pub mod notice;
pub mod trace;

pub use nft::{NftError, NftSocket};

#[cfg(test)]
mod tests;

/// `nfgenmsg`: family, version 0, a number in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
