//! Packets followed through chains that the kernel holds.

use proptest::prelude::*;

use super::*;
use crate::firewall::nft::{Tracking, about_set, dump_chains, dump_foreign, dump_rules, parse_chains};
use crate::firewall::sandbox::{Sender, feed, isolated};

struct Asked<'a>(&'a Sender);

impl Table for Asked<'_> {
    type Error = i32;

    fn rules(&mut self, chain: &str) -> Result<Vec<ForeignRule>, i32> {
        let replies = self.0.ask(&dump_rules(1, "t", chain))?;
        Ok(replies.iter().filter_map(|reply| parse_foreign_rule(reply)).collect())
    }

    fn set(&mut self, set: &str) -> Result<ForeignSet, i32> {
        let about = self.0.ask(&about_set(1, "t", set))?;
        let replies = self.0.ask(&dump_foreign(1, "t", set))?;
        Ok(ForeignSet::parse(about.first().map(Vec::as_slice), &replies))
    }
}

fn outgoing() -> Packet {
    let (input, output) = (Some("br".to_owned()), Some("up".to_owned()));
    Packet { family: 2, input, output, ..Packet::default() }
}

fn published() -> Packet {
    let (input, output) = (Some("up".to_owned()), Some("br".to_owned()));
    Packet { family: 2, input, output, published: true, ..Packet::default() }
}

/// A packet of which everything is known but its source port.
fn whole() -> Packet {
    Packet {
        source: Some([10, 1, 0, 2].into()),
        destination: Some([192, 0, 2, 7].into()),
        protocol: Some(6),
        destination_port: Some(80),
        mark: Some(0),
        connection_mark: Some(0),
        input_index: Some(1),
        output_index: Some(2),
        source_type: Some(1),
        destination_type: Some(2),
        reverse_path: Some(true),
        ..outgoing()
    }
}

/// What becomes of a packet: `passes`, `dropped` or `perhaps`, and where.
fn fate(policy: &str, rules: &str, packet: Packet) -> String {
    let text = format!(
        "table inet t {{ chain sub {{ {} }}; chain f {{ type filter hook forward priority 0; policy {policy}; {} }}; }}",
        rules.split_once("sub:").map_or("", |(_, sub)| sub),
        rules.split("sub:").next().unwrap()
    );
    let (told, fate) = std::sync::mpsc::channel();
    isolated(&["nft"], move || {
        feed("nft", &["-f", "-"], &text);
        let sender = Sender::open();
        let chains = parse_chains(1, &sender.ask(&dump_chains(1)).unwrap());
        let stopped = passage(&mut Asked(&sender), &chains[0], &packet).unwrap();
        let words = stopped.map_or("passes".to_owned(), |stopped| {
            let where_ = if stopped.rule.is_some() { stopped.chain } else { "policy".to_owned() };
            format!("{} {where_}", if stopped.surely { "dropped" } else { "perhaps" })
        });
        told.send(words).unwrap();
    });
    fate.try_recv().unwrap_or_else(|_| "skipped".to_owned())
}

#[test]
fn packets_go_where_the_kernel_would_send_them() {
    let cases = [
        ("accept", "", outgoing(), "passes"),
        ("drop", "", outgoing(), "dropped policy"),
        ("drop", "ct state established,related accept;", outgoing(), "dropped policy"),
        ("drop", "ct state { established, related } accept;", outgoing(), "dropped policy"),
        ("drop", "ct state vmap { established : accept, invalid : drop };", outgoing(), "dropped policy"),
        ("drop", "ct state vmap { new : accept };", outgoing(), "passes"),
        ("drop", "ct status dnat accept;", outgoing(), "dropped policy"),
        ("drop", "ct status dnat accept;", published(), "passes"),
        ("drop", "iifname \"br\" accept;", outgoing(), "passes"),
        ("drop", "iifname \"br*\" accept;", outgoing(), "passes"),
        ("drop", "iifname \"brx\" accept;", outgoing(), "dropped policy"),
        ("drop", "oifname != \"br\" accept;", published(), "dropped policy"),
        ("drop", "iifname { \"br\", \"b2\" } accept;", outgoing(), "passes"),
        ("drop", "iifname . oifname { \"br\" . \"up\" } accept;", outgoing(), "passes"),
        ("drop", "iifname . oifname { \"up\" . \"br\" } accept;", outgoing(), "dropped policy"),
        ("drop", "iifname vmap { \"br\" : jump sub }; sub: counter accept;", outgoing(), "passes"),
        ("drop", "meta nfproto ipv6 accept;", outgoing(), "dropped policy"),
        ("drop", "ip6 daddr ::1 accept;", outgoing(), "dropped policy"),
        // What is not known may be so.
        ("drop", "ip saddr 10.0.0.0/8 accept;", outgoing(), "perhaps policy"),
        ("drop", "meta mark 0x4000 accept;", outgoing(), "perhaps policy"),
        ("drop", "tcp dport 80 jump sub; sub: accept;", outgoing(), "perhaps policy"),
        ("drop", "tcp dport vmap { 80 : accept };", outgoing(), "perhaps policy"),
        // An exception is no door that is shut.
        ("accept", "ip saddr 10.0.0.0/8 drop;", outgoing(), "passes"),
        ("accept", "tcp dport 25 reject;", outgoing(), "passes"),
        ("accept", "counter log reject;", outgoing(), "dropped f"),
        ("accept", "reject with icmpx admin-prohibited;", outgoing(), "dropped f"),
        ("accept", "iifname \"br\" drop;", outgoing(), "dropped f"),
        ("accept", "iifname \"br\" drop;", published(), "passes"),
        ("accept", "jump sub; sub: ct state new drop;", outgoing(), "dropped sub"),
        ("drop", "jump sub; accept; sub: return; drop;", outgoing(), "passes"),
        ("drop", "goto sub; accept; sub: counter;", outgoing(), "dropped policy"),
        ("accept", "jump sub; drop; sub: oifname \"up\" accept;", outgoing(), "passes"),
        ("accept", "limit rate 1/second accept; drop;", outgoing(), "perhaps f"),
    ];
    for (policy, rules, packet, expected) in cases {
        let found = fate(policy, rules, packet);
        assert!(found == expected || found == "skipped", "policy {policy}; {rules} {found}, not {expected}");
    }
}

#[test]
fn a_packet_that_is_known_is_judged_by_all_that_is_known() {
    let sixth = Packet { family: 10, source: Some("fd00::2".parse().unwrap()), ..whole() };
    let answer = || Packet { tracking: Tracking::Established, reply: true, ..whole() };
    let cases = [
        ("drop", "ip saddr 10.0.0.0/8 accept;", whole(), "passes"),
        ("drop", "ip saddr 10.2.0.0/16 accept;", whole(), "dropped policy"),
        ("drop", "ip saddr { 10.1.0.0/24, 10.3.0.0/16 } accept;", whole(), "passes"),
        ("drop", "ip saddr { 10.0.0.0/24, 10.3.0.0/16 } accept;", whole(), "dropped policy"),
        ("drop", "ip6 saddr fd00::/8 accept;", whole(), "dropped policy"),
        ("drop", "ip6 saddr fd00::/8 accept;", sixth.clone(), "passes"),
        ("drop", "ip saddr 10.0.0.0/8 accept;", sixth, "dropped policy"),
        ("drop", "tcp dport 80 accept;", whole(), "passes"),
        ("drop", "udp dport 80 accept;", whole(), "dropped policy"),
        ("drop", "tcp dport { 22, 80-90 } accept;", whole(), "passes"),
        ("drop", "tcp dport 1-79 accept;", whole(), "dropped policy"),
        ("drop", "tcp dport != 1-79 accept;", whole(), "passes"),
        ("drop", "tcp dport > 79 accept;", whole(), "passes"),
        ("drop", "tcp dport < 79 accept;", whole(), "dropped policy"),
        ("drop", "tcp sport 1024-65535 accept;", whole(), "perhaps policy"),
        ("drop", "tcp flags & (syn | ack) == syn accept;", whole(), "passes"),
        ("drop", "ip saddr . tcp dport { 10.1.0.2 . 80 } accept;", whole(), "passes"),
        ("drop", "ip saddr . tcp dport { 10.0.0.0/8 . 80-90 } accept;", whole(), "passes"),
        ("drop", "ip saddr . tcp dport { 10.0.0.0/8 . 81-90 } accept;", whole(), "dropped policy"),
        ("drop", "tcp dport vmap { 80 : jump sub, 81 : drop }; sub: accept;", whole(), "passes"),
        ("drop", "tcp dport vmap { 0-79 : drop, 80-90 : accept };", whole(), "passes"),
        ("drop", "iif 1 accept;", whole(), "passes"),
        ("drop", "oif 1 accept;", whole(), "dropped policy"),
        ("drop", "meta mark 0x4000 accept;", whole(), "dropped policy"),
        (
            "drop",
            "meta mark set meta mark or 0x4000; meta mark & 0x4000 == 0x4000 accept;",
            whole(),
            "passes",
        ),
        ("drop", "ct mark set 7; ct mark 7 accept;", whole(), "passes"),
        ("drop", "limit rate 1/second meta mark set 7; meta mark 7 accept;", whole(), "perhaps policy"),
        ("drop", "meta l4proto { tcp, udp } accept;", whole(), "passes"),
        ("drop", "icmp type echo-request accept;", Packet { protocol: Some(1), ..whole() }, "passes"),
        ("drop", "fib daddr type local accept;", whole(), "passes"),
        ("drop", "fib saddr . iif oif missing drop; accept;", whole(), "passes"),
        (
            "accept",
            "fib saddr . iif oif missing drop;",
            Packet { reverse_path: Some(false), ..whole() },
            "dropped f",
        ),
        ("drop", "ct state established,related accept;", answer(), "passes"),
        ("drop", "ct direction reply accept;", answer(), "passes"),
        ("drop", "ct state new accept;", answer(), "dropped policy"),
        ("accept", "ct state invalid drop;", Packet { tracking: Tracking::Before, ..whole() }, "dropped f"),
        ("drop", "notrack; ct state untracked accept;", whole(), "passes"),
        // One that may not be meant stays tracked.
        ("drop", "tcp sport 5353 notrack; ct state new accept;", whole(), "passes"),
        ("drop", "tcp sport 5353 jump sub; ct state new accept; sub: notrack;", whole(), "passes"),
        ("drop", "tcp sport 5353 notrack;", whole(), "perhaps policy"),
        ("drop", "meta time > 0 accept;", whole(), "perhaps policy"),
    ];
    for (policy, rules, packet, expected) in cases {
        let found = fate(policy, rules, packet);
        assert!(found == expected || found == "skipped", "policy {policy}; {rules} {found}, not {expected}");
    }
}

/// Chains that the kernel would never take do not keep us from an end.
#[test]
fn rules_without_end_come_to_one() {
    struct Endless;
    impl Table for Endless {
        type Error = ();
        fn rules(&mut self, _: &str) -> Result<Vec<ForeignRule>, ()> {
            use crate::firewall::nft::expression::{Verdict, verdict};
            let mut jump = crate::model::attributes::Attributes::new();
            verdict(&mut jump, &Verdict::Jump("f".to_owned()));
            Ok(vec![ForeignRule { handle: 1, expressions: jump.into_bytes() }; 3])
        }
        fn set(&mut self, _: &str) -> Result<ForeignSet, ()> {
            Ok(ForeignSet::default())
        }
    }
    let base = Chain { family: 1, table: "t".to_owned(), name: "f".to_owned(), uses: 3, base: None };
    assert_eq!(passage(&mut Endless, &base, &outgoing()), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_some_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let own = |_: &str| Ok::<_, ()>(ForeignSet::parse(Some(&bytes), &[&bytes]));
        prop_assert!(machine::run(&bytes, &mut outgoing(), own).is_ok());
        prop_assert!(machine::run(&bytes, &mut whole(), own).is_ok());
        let _ = parse_foreign_rule(&bytes);
    }
}
