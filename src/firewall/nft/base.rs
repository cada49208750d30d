//! What is written once for a host: the tables, their sets, their base chains.

use crate::model::attributes::Attributes;
use crate::model::nft::NftMessage;

use super::TABLE;
use super::expression::Verdict;
use super::set::Set;
use super::statement::Statements;
use super::uapi::{
    BRIDGE, CREATE, DUMP, EXCL, INET, IPV4, IPV6, chain, hook, msg, rule, set as set_uapi, table,
};

/// The chain that jumps to the chains of administrators, and its place in every forwarded packet's way: first.
pub(super) const ADMIN: &str = "admin";
/// The families whose chains see what is forwarded at layer 3 (`NFPROTO_*`): inet, ip, ip6.
pub const ROUTED_FAMILIES: [u8; 3] = [INET, IPV4, IPV6];

const PUBLISH: &str = "publish";
/// Where published ports are looked for last: in ranges whose ports have other numbers in the container.
const SHIFTED: &str = "shifted";

/// The chain without rules whose name says which rules the table has: another release's are written anew.
pub(super) const LAYOUT: &str = "layout-2";

/// What happens between containers of a network that keeps them apart.
const APART: &str = "apart";

/// Type, hook and priority of a base chain.
type Place = (&'static str, u32, i32);

/// The chains of table `inet linkspan`, those of networks and administrators aside, in the order in which they are
/// made; `None` for those that others jump to.
const CHAINS: [(&str, Option<Place>); 10] = [
    ("localnet", Some(("filter", hook::PREROUTING, -300))),
    (SHIFTED, None),
    (PUBLISH, None),
    ("prerouting", Some(("nat", hook::PREROUTING, -100))),
    ("output", Some(("nat", hook::OUTPUT, -100))),
    ("postrouting", Some(("nat", hook::POSTROUTING, 100))),
    (ADMIN, None),
    (APART, None),
    (LAYOUT, None),
    ("forward", Some(("filter", hook::FORWARD, 0))),
];

/// What the kernel counts of each of [`CHAINS`] where the table is whole: its rules and the rules that lead to it, one
/// administrator's chain at least among them. Written out, since every ADD asks and to render the rules costs more than
/// all the rest of what an ADD computes; a test counts them.
const USES: [u32; CHAINS.len()] = [2, 1, 10, 1, 1, 4, 2, 4, 0, 12];

/// Everything that a host needs before its first network: the table `inet linkspan` with sets, base chains and the
/// administrator's chain.
///
/// The table is made with `NLM_F_EXCL`, so that of two writers one gets `EEXIST` and nothing is doubled.
pub fn base(admin_chain: &str) -> Vec<NftMessage> {
    let mut messages = base_objects(CREATE | EXCL);
    messages.extend(admin(admin_chain));
    for (chain, statements) in rules() {
        messages.push(statements.append(INET, chain));
    }
    messages
}

/// The table, its sets and its chains where they are missing; what is there stays, rules and elements and all, but a
/// chain's policy and the table's flags are set.
pub(super) fn foundation() -> Vec<NftMessage> {
    base_objects(CREATE)
}

/// Table, sets and chains, empty.
fn base_objects(table_flags: u16) -> Vec<NftMessage> {
    let mut messages = vec![new_table(INET, table_flags)];
    messages.extend((1..).zip(Set::INET).map(|(id, set)| set.create(id)));
    messages.extend(CHAINS.map(|(name, place)| match place {
        Some((kind, hook, priority)) => base_chain(INET, name, kind, hook, priority),
        None => plain_chain(INET, name, CREATE),
    }));
    messages
}

/// The same for a table that is there and not whole: somebody made it in advance, emptied or deleted chains, or an
/// earlier release made it. Elements, networks and administrators' chains stay.
///
/// What is missing is made; of the chains only those in `short` are emptied and written again, the one of jumps to
/// administrators' chains with a jump to each of `admin_chains`. Their own chains are made where they are missing.
/// `EEXIST`, `EOPNOTSUPP` and the like say that something of the same name is of another kind.
pub fn base_mended(admin_chains: &[&str], short: &[String]) -> Vec<NftMessage> {
    let mut messages = base_objects(CREATE);
    messages.extend(admin_chains.iter().map(|chain| plain_chain(INET, chain, CREATE)));
    // What fills the chain of shifted ranges comes and goes with them: see `shift_base`.
    for chain in short.iter().filter(|chain| *chain != SHIFTED) {
        messages.push(flush_chain(INET, chain));
        let own = rules().into_iter().filter(|(name, _)| name == chain);
        messages.extend(own.map(|(_, statements)| statements.append(INET, chain)));
        if chain == ADMIN {
            messages.extend(admin_chains.iter().map(|chain| jump_to_admin(chain)));
        }
    }
    messages
}

/// Asks whether a table's rules are those of this release: one reply, or `ENOENT`.
pub fn probe_layout(family: u8) -> NftMessage {
    let name = if family == BRIDGE { super::guard::LAYOUT } else { LAYOUT };
    about_chain(family, TABLE, name, msg::GETCHAIN, 0)
}

/// Asks for the number that the kernel raises with each change of a namespace's ruleset: see [`super::parse_generation`].
pub fn probe_generation() -> NftMessage {
    NftMessage { kind: msg::GETGEN, family: 0, flags: 0, attributes: Vec::new() }
}

/// The questions that tell whether the chains of [`base`] are as it made them, for [`short_chains`].
pub fn base_chains() -> Vec<NftMessage> {
    uses().map(|(chain, _)| chain_policy(INET, TABLE, chain)).collect()
}

/// Reads the answers to [`base_chains`]: the chains that are missing, or that have lost rules or jumps to them; all of
/// them where another release wrote them. What administrators add to a chain does no harm. The kernel counts both
/// together.
pub fn short_chains<T: AsRef<[u8]>>(replies: &[Option<T>]) -> Vec<String> {
    let other_release = uses().zip(replies).any(|((chain, _), reply)| chain == LAYOUT && reply.is_none());
    let found = replies.iter().map(|reply| {
        reply
            .as_ref()
            .and_then(|reply| super::parse_chain(INET, reply.as_ref()))
            .map_or(0, |chain| chain.uses)
    });
    let short =
        uses().zip(found).filter(|((_, expected), found)| found < expected || other_release && *expected > 0);
    short.map(|((chain, _), _)| chain.to_owned()).collect()
}

/// The chains of [`base`] with what the kernel counts of each.
fn uses() -> impl Iterator<Item = (&'static str, u32)> {
    CHAINS.into_iter().map(|(name, _)| name).zip(USES)
}

/// The rules of the base chains, in order.
pub(super) fn rules() -> Vec<(&'static str, Statements)> {
    let publish = || Statements::new().bound_for_host().then(&Verdict::Goto(PUBLISH.to_owned()));
    let ipv6_loopback = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    vec![
        // route_localnet, which ports on 127.0.0.1 need, would let strangers in to what listens there, and let them
        // pretend to come from there.
        ("localnet", Statements::new().not_from("lo").destination_loopback().then(&Verdict::Drop)),
        ("localnet", Statements::new().not_from("lo").source_loopback().then(&Verdict::Drop)),
        ("prerouting", publish()),
        ("output", publish()),
        // The kernel cannot route a packet from ::1 off the host: leave [::1] to whoever listens there.
        (PUBLISH, Statements::new().destination6(ipv6_loopback, None).then(&Verdict::Return)),
        (PUBLISH, Statements::new().translate(Set::Ports4)),
        (PUBLISH, Statements::new().translate(Set::Ports4Any)),
        (PUBLISH, Statements::new().translate(Set::Ports6)),
        (PUBLISH, Statements::new().translate(Set::Ports6Any)),
        (PUBLISH, Statements::new().translate(Set::Ranges4)),
        (PUBLISH, Statements::new().translate(Set::Ranges6)),
        (PUBLISH, Statements::new().then(&Verdict::Goto(SHIFTED.to_owned()))),
        ("postrouting", Statements::new().not_to("lo").published().source_loopback().masquerade()),
        ("postrouting", Statements::new().published().leaving(Set::MasqueradeAll).masquerade()),
        ("postrouting", Statements::new().by_source(Set::Egress4)),
        ("postrouting", Statements::new().by_source(Set::Egress6)),
        ("forward", Statements::new().then(&Verdict::Jump(ADMIN.to_owned()))),
        ("forward", Statements::new().established().then(&Verdict::Accept)),
        // What stays on one bridge is done with here; below, both sides differ.
        ("forward", Statements::new().between(Set::Within).then(&Verdict::Accept)),
        ("forward", Statements::new().between(Set::Apart).then(&Verdict::Goto(APART.to_owned()))),
        // Before what is related: an ICMP error about somebody else's connection would be a way out of a sealed
        // network, and it may carry anything.
        ("forward", Statements::new().entering(Set::Internal).then(&Verdict::Drop)),
        ("forward", Statements::new().leaving(Set::Internal).then(&Verdict::Drop)),
        ("forward", Statements::new().entering(Set::Strict).leaving(Set::Bridges).then(&Verdict::Drop)),
        ("forward", Statements::new().entering(Set::Bridges).leaving(Set::Strict).then(&Verdict::Drop)),
        ("forward", Statements::new().related().then(&Verdict::Accept)),
        ("forward", Statements::new().published().then(&Verdict::Accept)),
        ("forward", Statements::new().by_output(Set::Walls)),
        ("forward", Statements::new().entering(Set::Walled).leaving(Set::Walled).then(&Verdict::Drop)),
        (APART, Statements::new().published().then(&Verdict::Accept)),
        (APART, Statements::new().related().then(&Verdict::Accept)),
        (APART, Statements::new().then(&Verdict::Drop)),
    ]
}

/// A further administrator's chain, for a network that names another than the one that [`base`] was given.
///
/// To be sent as a transaction of its own: `EEXIST` says that the chain is there, and its jump with it.
pub fn admin(admin_chain: &str) -> Vec<NftMessage> {
    vec![plain_chain(INET, admin_chain, CREATE | EXCL), jump_to_admin(admin_chain)]
}

pub(super) fn jump_to(chain: &str) -> Statements {
    Statements::new().then(&Verdict::Jump(chain.to_owned()))
}

fn jump_to_admin(admin_chain: &str) -> NftMessage {
    jump_to(admin_chain).append(INET, ADMIN)
}

/// The maps of ranges whose ports have other numbers in the container, and their rules, which `nft` cannot show: only
/// where some container publishes such a range.
///
/// Made with `NLM_F_EXCL`, as [`base`] is, and after it.
pub fn shift_base() -> Vec<NftMessage> {
    let mut messages = shift_sets();
    messages[0].flags |= EXCL;
    messages.extend(shift_rules().into_iter().map(|(chain, rule)| rule.append(INET, chain)));
    messages
}

/// The maps of [`shift_base`], where they are missing.
pub(super) fn shift_sets() -> Vec<NftMessage> {
    // Apart from those of the same table that one transaction may make with them.
    (101..).zip(Set::SHIFTED).map(|(id, set)| set.create(id)).collect()
}

pub(super) fn shift_rules() -> Vec<(&'static str, Statements)> {
    const COMMENT: &str =
        "linkspan: ranges of ports with other numbers inside; nft cannot show the translation";
    Set::SHIFTED.map(|set| (SHIFTED, Statements::new().translate(set).comment(COMMENT))).into()
}

/// Asks whether a set or map is there: one reply, or `ENOENT`.
pub fn probe_set(set: Set) -> NftMessage {
    about_set(set.family(), TABLE, set.name())
}

/// Asks for the definition of anybody's set or map: one reply, or `ENOENT`.
pub fn about_set(family: u8, table: &str, name: &str) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(set_uapi::TABLE, table).put_str(set_uapi::NAME, name);
    NftMessage { kind: msg::GETSET, family, flags: 0, attributes: attributes.into_bytes() }
}

/// The chain that [`shift_base`] fills, and with how many rules.
pub const SHIFT_RULES: (&str, usize) = (SHIFTED, Set::SHIFTED.len());

/// Asks whether the table `inet linkspan` is there: one reply, or `ENOENT`.
pub fn probe_table() -> NftMessage {
    about_table(INET, msg::GETTABLE, 0)
}

/// Asks whether the table `bridge linkspan` is there.
pub fn probe_guard_table() -> NftMessage {
    about_table(BRIDGE, msg::GETTABLE, 0)
}

/// Asks for one chain; [`super::parse_chain`] reads the reply. `ENOENT` where it is not there.
pub fn chain_policy(family: u8, table: &str, name: &str) -> NftMessage {
    about_chain(family, table, name, msg::GETCHAIN, 0)
}

/// Asks for every table of a family; [`super::dormant_table`] reads the replies.
pub fn dump_tables(family: u8) -> NftMessage {
    NftMessage { kind: msg::GETTABLE, family, flags: DUMP, attributes: Vec::new() }
}

/// Asks for every chain of a family; [`super::parse_chains`] reads the replies.
pub fn dump_chains(family: u8) -> NftMessage {
    NftMessage { kind: msg::GETCHAIN, family, flags: DUMP, attributes: Vec::new() }
}

/// Asks for the rules of one chain; [`super::is_rule`] tells of each reply whether it is one.
pub fn dump_rules(family: u8, table: &str, name: &str) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(rule::TABLE, table).put_str(rule::CHAIN, name);
    NftMessage { kind: msg::GETRULE, family, flags: DUMP, attributes: attributes.into_bytes() }
}

/// Deletes all rules of a chain of ours.
pub(crate) fn flush_chain(family: u8, name: &str) -> NftMessage {
    flush_chain_of(family, TABLE, name)
}

/// Deletes all rules of any chain.
pub(in crate::firewall) fn flush_chain_of(family: u8, table: &str, name: &str) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(rule::TABLE, table).put_str(rule::CHAIN, name);
    NftMessage { kind: msg::DELRULE, family, flags: 0, attributes: attributes.into_bytes() }
}

/// Deletes one rule of any chain by the kernel's number for it. `ENOENT` where it is gone.
pub(in crate::firewall) fn remove_rule(family: u8, table: &str, name: &str, handle: u64) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(rule::TABLE, table).put_str(rule::CHAIN, name).put_be64(rule::HANDLE, handle);
    NftMessage { kind: msg::DELRULE, family, flags: 0, attributes: attributes.into_bytes() }
}

/// Deletes any chain, which must be empty and not jumped to.
pub(in crate::firewall) fn remove_chain(family: u8, table: &str, name: &str) -> NftMessage {
    about_chain(family, table, name, msg::DELCHAIN, 0)
}

/// Makes a chain of ours that others jump to.
pub(crate) fn plain_chain(family: u8, name: &str, flags: u16) -> NftMessage {
    about_chain(family, TABLE, name, msg::NEWCHAIN, flags)
}

/// Something about a chain, by name.
pub(crate) fn about_chain(family: u8, table: &str, name: &str, kind: u8, flags: u16) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(chain::TABLE, table).put_str(chain::NAME, name);
    NftMessage { kind, family, flags, attributes: attributes.into_bytes() }
}

/// A new table, or, without `NLM_F_EXCL`, the one that is there, switched on.
pub(crate) fn new_table(family: u8, flags: u16) -> NftMessage {
    about_table(family, msg::NEWTABLE, flags)
}

fn about_table(family: u8, kind: u8, flags: u16) -> NftMessage {
    let mut attributes = Attributes::new();
    attributes.put_str(table::NAME, TABLE);
    if kind == msg::NEWTABLE {
        attributes.put_be32(table::FLAGS, 0);
    }
    NftMessage { kind, family, flags, attributes: attributes.into_bytes() }
}

pub(crate) fn base_chain(family: u8, name: &str, kind: &str, hook: u32, priority: i32) -> NftMessage {
    const ACCEPT: u32 = 1;
    let mut attributes = Attributes::new();
    attributes
        .put_str(chain::TABLE, TABLE)
        .put_str(chain::NAME, name)
        .put_str(chain::TYPE, kind)
        .put_be32(chain::POLICY, ACCEPT)
        .nest(chain::HOOK, |h| {
            h.put_be32(chain::HOOK_NUMBER, hook).put(chain::HOOK_PRIORITY, &priority.to_be_bytes());
        });
    NftMessage { kind: msg::NEWCHAIN, family, flags: CREATE, attributes: attributes.into_bytes() }
}

/// The names of the chains that [`base`] makes.
#[cfg(test)]
pub(super) fn chain_names() -> impl Iterator<Item = &'static str> {
    CHAINS.into_iter().map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_of_a_chain_is_what_its_rules_make() {
        let rendered =
            |(chain, statements): (&'static str, Statements)| (chain, statements.append(INET, "").attributes);
        let rules: Vec<_> = rules().into_iter().map(rendered).collect();
        let count = |chain: &str| {
            let own = rules.iter().filter(|(name, _)| *name == chain).count();
            // A jump has the chain's name as an attribute, with the NUL that ends it.
            let name = [chain.as_bytes(), &[0]].concat();
            let leads = |rule: &[u8]| rule.windows(name.len()).any(|part| part == name);
            own + rules.iter().filter(|(_, rule)| leads(rule)).count()
        };
        for (chain, expected) in uses() {
            let administrators = usize::from(chain == ADMIN);
            assert_eq!(count(chain) + administrators, expected as usize, "{chain}");
        }
    }
}
