//! Numbers of the kernel's interface: `linux/netfilter/nf_tables.h`, `linux/netfilter.h`, `linux/netlink.h`.
//!
//! Attribute kinds are scoped by the object that they belong to, hence the modules.

/// `NFPROTO_INET`: one table for IPv4 and IPv6.
pub(crate) const INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub(crate) const IPV4: u8 = 2;
/// `NFPROTO_BRIDGE`.
pub(crate) const BRIDGE: u8 = 7;
/// `NFPROTO_IPV6`.
pub(crate) const IPV6: u8 = 10;

/// `NLM_F_DUMP`: `NLM_F_ROOT | NLM_F_MATCH`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: fail with `EEXIST` rather than take what is there.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: a rule goes to its chain's end.
pub(crate) const APPEND: u16 = 0x800;

/// `NFT_MSG_*`.
pub(crate) mod msg {
    pub(crate) const NEWTABLE: u8 = 0;
    pub(crate) const GETTABLE: u8 = 1;
    pub(crate) const DELTABLE: u8 = 2;
    pub(crate) const NEWCHAIN: u8 = 3;
    pub(crate) const GETCHAIN: u8 = 4;
    pub(crate) const DELCHAIN: u8 = 5;
    pub(crate) const NEWRULE: u8 = 6;
    pub(crate) const GETRULE: u8 = 7;
    pub(crate) const DELRULE: u8 = 8;
    pub(crate) const NEWSET: u8 = 9;
    pub(crate) const GETSET: u8 = 10;
    pub(crate) const NEWSETELEM: u8 = 12;
    pub(crate) const GETSETELEM: u8 = 13;
    pub(crate) const DELSETELEM: u8 = 14;
    pub(crate) const GETGEN: u8 = 16;
}

/// `NFTA_LIST_ELEM`.
pub(crate) const LIST_ELEM: u16 = 1;

/// `NFTA_TABLE_*`.
pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
}

/// `NFTA_CHAIN_*`, `NFTA_HOOK_*`.
pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const USE: u16 = 6;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`.
pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
}

/// `NFTA_SET_*`, `NFT_SET_*`.
pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    /// `NFTA_SET_EXPR`: what each element does when it is found.
    pub(crate) const EXPRESSION: u16 = 17;
    /// `NFTA_SET_DESC_CONCAT`.
    pub(crate) const CONCATENATION: u16 = 2;
    /// `NFTA_SET_FIELD_LEN`.
    pub(crate) const FIELD_LEN: u16 = 1;
    /// `NFT_SET_INTERVAL`.
    pub(crate) const INTERVAL: u32 = 4;
    /// `NFT_SET_CONCAT`.
    pub(crate) const CONCAT: u32 = 0x80;
    /// `NFT_SET_MAP`.
    pub(crate) const MAP: u32 = 8;
    /// `NFT_DATA_VERDICT`.
    pub(crate) const VERDICT: u32 = 0xffff_ff00;
}

/// `NFTA_SET_ELEM_LIST_*`, `NFTA_SET_ELEM_*`.
pub(crate) mod element {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const USERDATA: u16 = 6;
    /// `NFTA_SET_ELEM_EXPR`.
    pub(crate) const EXPRESSION: u16 = 7;
    pub(crate) const KEY_END: u16 = 10;
    /// `NFTNL_UDATA_SET_ELEM_COMMENT` and `NFTNL_UDATA_RULE_COMMENT` of libnftnl: the type of the run that `nft`
    /// prints as a comment.
    pub(crate) const COMMENT: u8 = 0;
}

/// `NFTA_DATA_*`, `NFTA_VERDICT_*`, `NFT_*` and `NF_*` verdicts.
pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const CODE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const DROP: u32 = 0;
    pub(crate) const ACCEPT: u32 = 1;
    pub(crate) const JUMP: u32 = -3_i32 as u32;
    pub(crate) const GOTO: u32 = -4_i32 as u32;
    pub(crate) const RETURN: u32 = -5_i32 as u32;
}

/// `NF_INET_*`; `NF_BR_*` agree in the first three.
pub(crate) mod hook {
    pub(crate) const PREROUTING: u32 = 0;
    pub(crate) const INPUT: u32 = 1;
    pub(crate) const FORWARD: u32 = 2;
    pub(crate) const OUTPUT: u32 = 3;
    pub(crate) const POSTROUTING: u32 = 4;
}
