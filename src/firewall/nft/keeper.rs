//! A table that keeps the kernel translating known connections while the tables of linkspan are gone.
//!
//! The kernel translates packets only while some chain of type nat is there, and tracks connections only while some
//! rule asks for their state. Where the last of them goes, the next packet of a connection to a published port meets
//! the host itself, which resets it. A table that a process owns is left alone by `nft flush ruleset` of anybody else
//! (since Linux 5.12), so one with an empty chain of type nat, and a rule that no packet ever meets, lets connections
//! live until the ruleset is back. It goes with its owner.

use crate::model::attributes::{Attributes, NESTED};
use crate::model::nft::NftMessage;

use super::base::about_chain;
use super::statement::Statements;
use super::uapi::{CREATE, EXCL, INET, chain, hook, msg, rule, table};

/// The table's name.
pub const KEEPER: &str = "linkspan-agent";
/// `NFT_TABLE_F_OWNER`.
const OWNED: u32 = 1 << 1;
/// The chain that nothing leads to.
const UNUSED: &str = "unused";
/// Behind everybody else's (`NF_IP_PRI_NAT_SRC` is 100).
const LAST: i32 = 300;

/// The table, owned by the socket that it is sent through. `EEXIST` where another process has it, `EOPNOTSUPP` or
/// `EINVAL` before Linux 5.12.
pub fn keeper() -> Vec<NftMessage> {
    let mut owned = Attributes::new();
    owned.put_str(table::NAME, KEEPER).put_be32(table::FLAGS, OWNED);
    let new_table = NftMessage {
        kind: msg::NEWTABLE,
        family: INET,
        flags: CREATE | EXCL,
        attributes: owned.into_bytes(),
    };
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
    Statements::new().known().put(&mut known, rule::EXPRESSIONS | NESTED);
    let known =
        NftMessage { kind: msg::NEWRULE, family: INET, flags: CREATE, attributes: known.into_bytes() };
    vec![new_table, nat, unused, known]
}
