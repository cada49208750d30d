//! A table that keeps the kernel translating known connections while the tables of linkspan are gone.
//!
//! The kernel translates packets only while some chain of type nat is there, and tracks connections only while some
//! rule asks for their state. Where the last of them goes, the next packet of a connection to a published port meets
//! the host itself, which resets it. A table that a process owns is left alone by `nft flush ruleset` of anybody else,
//! so one with an empty chain of type nat, and a rule that no packet ever meets, lets connections live until the
//! ruleset is back.
//!
//! It is also persistent (since Linux 6.9), though nobody needs it to outlive its owner: `nft` up to 1.0.6 prints a
//! table with one flag as broken JSON, and with two it does not.

use crate::model::attributes::{Attributes, NESTED};
use crate::model::nft::NftMessage;

use super::base::{about_chain, flush_chain_of};
use super::statement::Statements;
use super::uapi::{CREATE, INET, chain, hook, msg, rule, table};

/// The table's name.
pub const KEEPER: &str = "linkspan-agent";
/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`.
const FLAGS: u32 = 1 << 1 | 1 << 2;
/// The chain that nothing leads to.
const UNUSED: &str = "unused";
/// Behind everybody else's (`NF_IP_PRI_NAT_SRC` is 100).
const LAST: i32 = 300;

/// The table, owned by the socket that it is sent through, and its content: two transactions. One that a dead process
/// left is taken over. `EPERM` where another process has it, `EOPNOTSUPP` before Linux 6.9.
pub fn keeper() -> [Vec<NftMessage>; 2] {
    let new_table = about_keeper(msg::NEWTABLE, Some(FLAGS));
    let mut nat = Attributes::new();
    nat.put_str(chain::TABLE, KEEPER).put_str(chain::NAME, "nat").put_str(chain::TYPE, "nat").nest(
        chain::HOOK,
        |h| {
            h.put_be32(chain::HOOK_NUMBER, hook::POSTROUTING).put(chain::HOOK_PRIORITY, &LAST.to_be_bytes());
        },
    );
    let nat = NftMessage { kind: msg::NEWCHAIN, family: INET, flags: CREATE, attributes: nat.into_bytes() };
    let unused = about_chain(INET, KEEPER, UNUSED, msg::NEWCHAIN, CREATE);
    let mut known = Attributes::new();
    known.put_str(rule::TABLE, KEEPER).put_str(rule::CHAIN, UNUSED);
    Statements::new().established().put(&mut known, rule::EXPRESSIONS | NESTED);
    let known =
        NftMessage { kind: msg::NEWRULE, family: INET, flags: CREATE, attributes: known.into_bytes() };
    let emptied = flush_chain_of(INET, KEEPER, UNUSED);
    [vec![new_table], vec![nat, unused, emptied, known]]
}

/// Takes the table away.
pub fn remove_keeper() -> NftMessage {
    about_keeper(msg::DELTABLE, None)
}

fn about_keeper(kind: u8, table_flags: Option<u32>) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(table::NAME, KEEPER);
    if let Some(table_flags) = table_flags {
        attributes.put_be32(table::FLAGS, table_flags);
    }
    let flags = if kind == msg::NEWTABLE { CREATE } else { 0 };
    NftMessage { kind, family: INET, flags, attributes: attributes.into_bytes() }
}
