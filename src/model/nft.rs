//! One nf_tables message as a value: what `firewall` renders and `sys` sends in a batch.

/// A message of the nf_tables subsystem (kernel `include/uapi/linux/netfilter/nf_tables.h`).
///
/// The sender adds `nlmsghdr` (type `NFNL_SUBSYS_NFTABLES << 8 | kind`, flags `NLM_F_REQUEST | NLM_F_ACK` besides
/// [`NftMessage::flags`], a sequence number) and `nfgenmsg` (the family, version 0, resource 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftMessage {
    /// `NFT_MSG_*`.
    pub kind: u8,
    /// `NFPROTO_*`.
    pub family: u8,
    /// `NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_APPEND` or `NLM_F_DUMP`, besides `NLM_F_REQUEST | NLM_F_ACK`.
    pub flags: u16,
    /// The attributes that follow `nfgenmsg`, each padded to four bytes.
    pub attributes: Vec<u8>,
}
