//! What the kernel tells of nf_tables as it changes (`NFNLGRP_NFTABLES`).

use crate::model::attributes::find;
use crate::sys::SysError;
use crate::sys::netlink::{Monitor, Protocol};

use super::nft::SUBSYSTEM;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFT_MSG_NEWTABLE` to `NFT_MSG_DELSETELEM`, `NFT_MSG_NEWGEN` (`linux/netfilter/nf_tables.h`).
const NEWTABLE: u8 = 0;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const DELCHAIN: u8 = 5;
const DELRULE: u8 = 8;
const DELSET: u8 = 11;
const DELSETELEM: u8 = 14;
const NEWGEN: u8 = 15;
/// `NFTA_GEN_PROC_NAME`.
const PROCESS_NAME: u16 = 3;

/// One change, or the end of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something is gone, or a table or chain has other flags.
    Changed {
        /// `NFPROTO_*`.
        family: u8,
        /// The table.
        table: String,
        /// The chain, where it is about a chain or a rule.
        chain: Option<String>,
    },
    /// All that was told since the last of these was one transaction.
    Committed {
        /// The name (`comm`) of the thread that made it.
        by: String,
    },
}

/// Listens to all changes of the calling thread's namespace.
///
/// # Errors
/// As [`Monitor::open`].
pub fn monitor() -> Result<Monitor, SysError> {
    Monitor::open(Protocol::Netfilter, &[GROUP])
}

/// Reads a notification; `None` where something was only added.
pub fn notice(kind: u16, body: &[u8]) -> Option<Notice> {
    if kind >> 8 != SUBSYSTEM {
        return None;
    }
    let [message, _] = kind.to_le_bytes();
    let attributes = body.get(4..)?;
    let text = |attribute: u16| {
        let bytes = find(attributes, attribute)?;
        Some(String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned())
    };
    match message {
        NEWGEN => Some(Notice::Committed { by: text(PROCESS_NAME).unwrap_or_default() }),
        NEWTABLE | DELTABLE | NEWCHAIN | DELCHAIN | DELRULE | DELSET | DELSETELEM => {
            // NFTA_RULE_CHAIN and NFTA_CHAIN_NAME; the table's name is the first attribute of every object.
            let chain = match message {
                DELRULE => text(2),
                NEWCHAIN | DELCHAIN => text(3),
                _ => None,
            };
            Some(Notice::Changed { family: *body.first()?, table: text(1)?, chain })
        }
        _ => None,
    }
}
