//! A message to nf_tables as a value: `firewall` renders it, `sys` sends it.

/// One message of an nf_tables transaction (kernel `include/uapi/linux/netfilter/nf_tables.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftMessage {
    /// What is asked: `NFT_MSG_*`.
    pub kind: u8,
    /// The table's family: `NFPROTO_*`.
    pub family: u8,
    /// `NLM_F_*` besides `NLM_F_REQUEST` and `NLM_F_ACK`, which the sender sets.
    pub flags: u16,
    /// The attributes that follow `nfgenmsg`.
    pub attributes: Vec<u8>,
}
