//! Entries as the kernel lays them out.

use proptest::prelude::*;

use super::*;

/// An entry of IPv4: an input interface, a target's name, what is in it.
fn entry(input: &str, target: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 112 + 32 + data.len().next_multiple_of(8)];
    bytes[16..16 + input.len()].copy_from_slice(input.as_bytes());
    bytes[88..90].copy_from_slice(&112u16.to_ne_bytes());
    let length = u16::try_from(bytes.len()).unwrap();
    bytes[90..92].copy_from_slice(&length.to_ne_bytes());
    bytes[114..114 + target.len()].copy_from_slice(target.as_bytes());
    bytes[144..144 + data.len()].copy_from_slice(data);
    bytes
}

/// FORWARD with a policy, and a chain `LINKSPAN-ADMIT` with a rule for `br`, jumped to or not.
fn table(policy: i32, jumped: bool) -> (Vec<u8>, usize) {
    let standard = |verdict: i32| entry("", "", &verdict.to_ne_bytes());
    let size = standard(0).len();
    let head = entry("", "ERROR", b"LINKSPAN-ADMIT\0");
    let (policy_at, start) = (size, 2 * size + head.len());
    let jump = i32::try_from(if jumped { start } else { 0 }).unwrap();
    let of_bridge = entry("br", "", &(-2i32).to_ne_bytes());
    let end = entry("", "ERROR", b"ERROR\0");
    ([standard(jump), standard(policy), head, of_bridge, end].concat(), policy_at)
}

#[test]
fn a_policy_and_an_exception_are_seen() {
    for (policy, jumped, drops, admits) in
        [(-1, true, true, true), (-1, false, true, false), (-2, true, false, true)]
    {
        let (entries, at) = table(policy, jumped);
        let filter = LegacyFilter::new(Family::V4, &entries, (0, at));
        assert_eq!((filter.drops_forwarded(), filter.admits("br")), (drops, admits));
        assert!(!filter.admits("another"));
    }
}

/// A last rule for everybody, and ones that are for some only.
#[test]
fn a_rule_that_rejects_everything_is_seen() {
    let accept = entry("", "", &(-2i32).to_ne_bytes());
    let drop = entry("", "", &(-1i32).to_ne_bytes());
    for (rule, rejects) in [
        (entry("", "REJECT", &[0; 4]), true),
        (drop.clone(), true),
        (entry("eth9", "REJECT", &[0; 4]), false),
        (entry("", "LOG", &[0; 4]), false),
        (accept.clone(), false),
    ] {
        // INPUT with a rule of its own that drops, then FORWARD: the rule and the policy.
        let entries = [drop.clone(), rule.clone(), accept.clone()].concat();
        let filter = LegacyFilter::new(Family::V4, &entries, (drop.len(), drop.len() + rule.len()));
        assert_eq!(filter.drops_forwarded(), rejects, "{rule:?}");
    }
}

/// A rule with an interface, a jump, a return and a policy, as the kernel walks them.
#[test]
fn a_packet_goes_through_a_table() {
    use crate::firewall::nft::{End, Packet, Place};
    let (entries, policy) = table(-1, true);
    let own = LegacyTable::new(Family::V4, &entries);
    let end = |input: &str| {
        let mut packet = Packet { family: 2, input: Some(input.to_owned()), ..Packet::default() };
        own.follow("FORWARD", 0, policy, &mut packet)
    };
    let accepted = end("br");
    assert_eq!(accepted.end, End::Passes(Place { chain: "LINKSPAN-ADMIT".to_owned(), rule: Some(1) }));
    assert!(accepted.doubts.is_empty());
    let (entries, policy) = table(-1, false);
    let own = LegacyTable::new(Family::V4, &entries);
    let mut packet = Packet { family: 2, input: Some("br".to_owned()), ..Packet::default() };
    // The entry that jumps nowhere jumps to the table's start, and is walked to some end.
    let followed = own.follow("FORWARD", policy, policy, &mut packet);
    assert_eq!(followed.end, End::Drops(Place { chain: "FORWARD".to_owned(), rule: None }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_some_end(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at in 0usize..1000,
    ) {
        for family in Family::BOTH {
            let filter = LegacyFilter::new(family, &bytes, (at / 2, at));
            let _ = (filter.drops_forwarded(), filter.admits("br"));
            let mut packet = crate::firewall::nft::Packet::default();
            let _ = LegacyTable::new(family, &bytes).follow("FORWARD", at % 8, at, &mut packet);
        }
    }
}
