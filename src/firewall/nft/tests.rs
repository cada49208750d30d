//! The messages against the kernel, and the kernel's view of them in the words of `nft`.

use super::*;
use crate::firewall::NetworkRules;
use crate::firewall::rules::samples::{shop, web};
use crate::firewall::sandbox::{Sender, isolated, run};
use crate::model::{AttachmentKey, IngressPolicy, InterfacePattern, Isolation, chains};

/// What `nft -s list ruleset` prints, elements sorted, because the kernel keeps them in no order.
const EXPECTED: &str = include_str!("expected.nft");

fn walled() -> NetworkRules {
    NetworkRules {
        ingress: IngressPolicy::SameBridge,
        isolation: Isolation::Strict,
        trusted: ["eth1", "wg*", "*"].map(|text| InterfacePattern::parse(text).unwrap()).to_vec(),
        internal: true,
        routed: true,
        outbound4: Some("192.0.2.1".parse().unwrap()),
        outbound6: Some("2001:db8::1".parse().unwrap()),
        masquerade_all: true,
        ..web()
    }
}

/// An attachment whose addresses are guarded too.
fn pinned(id: &str, last: u8) -> crate::firewall::AttachmentRules {
    let attachment = shop(id, last);
    crate::firewall::AttachmentRules { only_ips: attachment.addresses.clone(), ..attachment }
}

/// Everything of one network and one attachment, as an ADD brings it up on a fresh host.
fn bring_up(sender: &Sender) {
    sender.commit(&base("CNI-ADMIN")).unwrap();
    sender.commit(&shift_base()).unwrap();
    sender.commit(&guard_base()).unwrap();
    let mut messages = network(&walled());
    messages.extend(add(&network_elements(&walled())));
    sender.commit(&messages).unwrap();
    sender.commit(&add_new(&attachment_elements(&walled(), &pinned("abc", 2)))).unwrap();
}

fn listing() -> String {
    let text = run("nft", &["-s", "list", "ruleset"]).replace(",\n\t\t\t     ", ", ");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        let Some(list) = line.strip_prefix("\t\telements = { ").and_then(|l| l.strip_suffix(" }")) else {
            continue;
        };
        let mut elements: Vec<&str> = list.split(", ").collect();
        elements.sort_unstable();
        *line = format!("\t\telements = {{ {} }}", elements.join(", "));
    }
    lines.join("\n") + "\n"
}

#[test]
fn nft_reads_back_what_was_meant() {
    isolated(&["nft"], || {
        bring_up(&Sender::open());
        assert_eq!(listing(), EXPECTED);
    });
}

#[test]
fn a_second_writer_changes_nothing() {
    isolated(&["nft"], || {
        let sender = Sender::open();
        bring_up(&sender);
        for messages in
            [base("CNI-ADMIN"), shift_base(), guard_base(), admin("CNI-ADMIN"), network(&walled())]
        {
            assert_eq!(sender.commit(&messages), Err(libc::EEXIST));
        }
        sender.commit(&network_replacing(&walled())).unwrap();
        sender.commit(&add(&network_elements(&walled()))).unwrap();
        let elements = attachment_elements(&walled(), &pinned("abc", 2));
        sender.commit(&add(&elements)).unwrap();
        assert_eq!(sender.commit(&add_new(&elements)), Err(libc::EEXIST));
        assert_eq!(listing(), EXPECTED);
    });
}

/// A table of an earlier release has other rules and fewer sets; elements and administrators' rules outlive it.
#[test]
fn rules_of_another_release_are_written_anew() {
    isolated(&["nft"], || {
        let sender = Sender::open();
        bring_up(&sender);
        assert_eq!(sender.ask(&probe_layout(1)).unwrap().len(), 1);
        assert_eq!(sender.ask(&probe_layout(7)).unwrap().len(), 1);
        for family in ["inet", "bridge"] {
            run("nft", &["delete", "chain", family, "linkspan", "layout-2"]);
        }
        assert_eq!(sender.ask(&probe_layout(1)), Err(libc::ENOENT));
        run("nft", &["flush", "chain", "inet", "linkspan", "forward"]);
        run("nft", &["add", "rule", "inet", "linkspan", "localnet", "accept"]);
        run("nft", &["flush", "chain", "bridge", "linkspan", "pinned"]);
        run("nft", &["add", "rule", "inet", "linkspan", "CNI-ADMIN", "tcp", "dport", "22", "drop"]);
        let answers: Vec<Option<Vec<u8>>> =
            base_chains().iter().map(|question| sender.ask(question).ok()?.pop()).collect();
        sender.commit(&base_mended(&["CNI-ADMIN"], &short_chains(&answers))).unwrap();
        sender.commit(&guard_replacing()).unwrap();
        let chain = run("nft", &["list", "chain", "inet", "linkspan", "CNI-ADMIN"]);
        assert!(chain.contains("tcp dport 22 drop"), "{chain}");
        run("nft", &["flush", "chain", "inet", "linkspan", "CNI-ADMIN"]);
        assert_eq!(chains_sorted(&listing()), chains_sorted(EXPECTED));
    });
}

/// A listing's chains and sets, each below its table's name, in an order of their own: what is made anew comes last.
fn chains_sorted(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut table = "";
    for line in text.lines().filter(|line| !line.is_empty() && *line != "}") {
        if line.starts_with("table") {
            table = line;
        } else if line.ends_with('{') {
            parts.push(format!("{table}{line}"));
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    parts.sort();
    parts
}

#[test]
fn an_administrator_s_chain_survives_and_another_comes_beside_it() {
    isolated(&["nft"], || {
        let sender = Sender::open();
        bring_up(&sender);
        run("nft", &["add", "rule", "inet", "linkspan", "CNI-ADMIN", "tcp", "dport", "22", "drop"]);
        assert_eq!(sender.commit(&admin("CNI-ADMIN")), Err(libc::EEXIST));
        sender.commit(&admin("SITE-ADMIN")).unwrap();
        let chain = run("nft", &["list", "chain", "inet", "linkspan", "CNI-ADMIN"]);
        assert!(chain.contains("tcp dport 22 drop"), "{chain}");
        let jumps = run("nft", &["list", "chain", "inet", "linkspan", "admin"]);
        assert!(jumps.contains("jump CNI-ADMIN\n\t\tjump SITE-ADMIN"), "{jumps}");
    });
}

#[test]
fn an_attachment_leaves_nothing_behind() {
    isolated(&["nft"], || {
        let sender = Sender::open();
        bring_up(&sender);
        let before = listing();
        let elements = attachment_elements(&walled(), &pinned("other", 3));
        sender.commit(&add_new(&elements)).unwrap();
        assert_ne!(listing(), before);
        sender.commit(&remove(&elements)).unwrap();
        assert_eq!(listing(), before);
        assert_eq!(sender.commit(&remove(&elements)), Err(libc::ENOENT));
    });
}

#[test]
fn a_check_says_what_differs() {
    isolated(&[], || {
        let sender = Sender::open();
        let elements = attachment_elements(&walled(), &pinned("abc", 2));
        assert_eq!(sender.ask(&probe_table()), Err(libc::ENOENT));
        assert_eq!(sender.ask(&get(&elements[0])), Err(libc::ENOENT));
        assert_eq!(sender.commit(&add_new(&elements)), Err(libc::ENOENT), "no table yet");
        bring_up(&sender);
        assert_eq!(sender.ask(&probe_table()).unwrap().len(), 1);
        assert_eq!(sender.ask(&probe_guard_table()).unwrap().len(), 1);
        for element in elements.iter().chain(&network_elements(&walled())) {
            let reply = sender.ask(&get(element)).unwrap();
            assert_eq!(element.differs(&reply[0]), None);
            let stranger = Element { owner: "xyz:eth0".to_owned(), ..element.clone() };
            let said = stranger.differs(&reply[0]).unwrap();
            assert!(said.contains("instead of 'xyz:eth0'"), "{said}");
        }
        let elsewhere = attachment_elements(&walled(), &pinned("abc", 3));
        let moved = Element { data: elsewhere[0].data.clone(), ..elements[0].clone() };
        let reply = sender.ask(&get(&moved)).unwrap();
        assert_eq!(
            moved.differs(&reply[0]).as_deref(),
            Some("port tcp 0.0.0.0:2080 -> 10.1.0.3:80: found port tcp 0.0.0.0:2080 -> 10.1.0.2:80")
        );
        assert_eq!(sender.ask(&get(&elsewhere[0])), Err(libc::ENOENT));
        let refused = sender.commit(&add(&[moved])).unwrap_err();
        assert!([libc::EEXIST, libc::EBUSY].contains(&refused), "errno {refused}");
    });
}

#[test]
fn thousands_of_elements_go_in_and_come_back() {
    isolated(&[], || {
        let sender = Sender::open();
        bring_up(&sender);
        let key = AttachmentKey::new("c".repeat(200), "eth0");
        let mut many = Vec::new();
        for last in 0..=2000u16 {
            let mut attachment = pinned("abc", 2);
            attachment.owner = key.clone();
            attachment.publications.clear();
            attachment.only_mac = None;
            attachment.only_ips.clear();
            attachment.addresses = vec![std::net::Ipv4Addr::from(0x0a02_0000 + u32::from(last)).into()];
            many.extend(attachment_elements(&walled(), &attachment));
        }
        let messages = add_new(&many);
        assert!(messages.len() > 1 && messages.len() < 12, "{}", messages.len());
        assert!(messages.iter().all(|message| message.attributes.len() < 60_000));
        sender.commit(&messages).unwrap();
        let replies = sender.ask(&dump(Set::Egress4)).unwrap();
        let mut found: Vec<Element> =
            replies.iter().flat_map(|reply| parse_elements(Set::Egress4, reply)).collect();
        found.retain(|element| element.owner == owner_comment(&key));
        found.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found, many);
        sender.commit(&remove(&found)).unwrap();
    });
}

#[test]
fn foreign_chains_that_drop_are_seen() {
    isolated(&["nft"], || {
        let sender = Sender::open();
        bring_up(&sender);
        let chains = |sender: &Sender| -> Vec<Chain> {
            let of = |family: &u8| parse_chains(*family, &sender.ask(&dump_chains(*family)).unwrap());
            ROUTED_FAMILIES.iter().flat_map(of).collect()
        };
        assert_eq!(chains(&sender).len(), 5);
        assert!(!chains(&sender).iter().any(Chain::drops_forwarded));
        run("nft", &["add", "table", "ip", "ufw"]);
        run("nft", &["add", "chain ip ufw FWD { type filter hook forward priority 5; policy drop; }"]);
        let all = chains(&sender);
        let drops: Vec<_> = all.iter().filter(|chain| chain.drops_forwarded()).collect();
        assert_eq!(drops.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ip ufw FWD"]);
        assert_eq!(drops[0].base.as_ref().map(|base| base.priority), Some(5));
        let reply = sender.ask(&chain_policy(1, TABLE, "localnet")).unwrap();
        let chain = parse_chain(1, &reply[0]).unwrap();
        assert_eq!(chain.base.map(|base| (base.priority, base.drops)), Some((-300, false)));
        assert_eq!(sender.ask(&chain_policy(1, TABLE, "net-other")), Err(libc::ENOENT));
    });
}

#[test]
fn rules_are_counted() {
    isolated(&[], || {
        let sender = Sender::open();
        bring_up(&sender);
        let count = |chain: &str| {
            let replies = sender.ask(&dump_rules(1, TABLE, chain)).unwrap();
            replies.iter().filter(|reply| is_rule(reply)).count()
        };
        for (chain, expected) in network_rule_counts(&walled()) {
            assert_eq!(count(&chain), expected, "{chain}");
        }
        let short = || {
            let answers: Vec<Option<Vec<u8>>> =
                base_chains().iter().map(|question| sender.ask(question).ok()?.pop()).collect();
            short_chains(&answers)
        };
        assert_eq!(short(), Vec::<String>::new());
        run("nft", &["flush", "chain", "inet", "linkspan", "prerouting"]);
        assert_eq!(short(), ["publish", "prerouting"], "with the chain that it jumped to");
        assert_eq!(count("CNI-ADMIN"), 0);
        assert_eq!(count("forward"), 12);
    });
}

#[test]
fn elements_speak_to_people() {
    let isolated = NetworkRules {
        ingress: IngressPolicy::Isolated,
        isolation: Isolation::Strict,
        internal: true,
        routed: true,
        ..web()
    };
    let mut elements = attachment_elements(&isolated, &pinned("abc", 2));
    elements.extend(network_elements(&isolated));
    let said: Vec<String> = elements.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "port tcp 0.0.0.0:2080 -> 10.1.0.2:80",
            "port tcp [::]:2080 -> [fd00::2]:80",
            "port udp 0.0.0.0:2053 -> 10.1.0.2:80",
            "port udp [::]:2053 -> [fd00::2]:80",
            "port tcp 192.0.2.1:2081 -> 10.1.0.2:80",
            "port sctp 127.0.0.1:2082 -> 10.1.0.2:80",
            "port tcp [2001:db8::1]:2083 -> [fd00::2]:80",
            "ports tcp 0.0.0.0:2100-2110 -> 10.1.0.2",
            "ports tcp [::]:2100-2110 -> fd00::2",
            "ports tcp 192.0.2.1:2200-2210 -> 10.1.0.2 shifted into 5800-65535",
            "ports tcp [2001:db8::1]:2200-2210 -> fd00::2 shifted into 0-2119",
            "open port tcp 10.1.0.2:80",
            "open port tcp 10.1.0.2:2100-2110",
            "open port tcp [fd00::2]:80",
            "open port tcp [fd00::2]:2100-2110",
            "open port udp 10.1.0.2:80",
            "open port udp [fd00::2]:80",
            "way out of 10.1.0.2 -> chain net-web",
            "way out of fd00::2 -> chain net-web",
            "source address 02:00:00:00:00:01 on lks000000000002",
            "guard of lks000000000002",
            "source address 10.1.0.2 on lks000000000002",
            "source address fd00::2 on lks000000000002",
            "guard of the addresses on lks000000000002",
            "bridge lks-web",
            "walls within lks-web",
            "wall around lks-web",
            "seal of lks-web",
            "strict wall around lks-web",
            "way into lks-web -> chain wall-lks-web",
        ]
    );
}

#[test]
fn a_plain_network_adds_nothing_for_an_attachment() {
    let plain = NetworkRules { masquerade: false, hairpin: false, ..web() };
    let mut attachment = pinned("abc", 2);
    attachment.publications.clear();
    attachment.only_mac = None;
    attachment.only_ips.clear();
    assert!(attachment_elements(&plain, &attachment).is_empty());
    assert_eq!(network_elements(&plain).len(), 1, "the bridge alone");
}

#[test]
fn long_owners_are_cut_and_still_differ() {
    let of = |id: String| owner_comment(&AttachmentKey::new(id, "eth0"));
    assert_eq!(of("a".repeat(64)), format!("{}:eth0", "a".repeat(64)));
    let (one, two) = (of("é".repeat(200)), of(format!("{}1", "é".repeat(200))));
    assert!(one.len() <= 127 && two.len() <= 127);
    assert_ne!(one, two);
}

#[test]
fn no_chain_that_is_written_here_is_an_administrators() {
    let beside = Beside { guards: false, shifts: true };
    let made = static_chains(&[walled(), NetworkRules { hairpin: true, ..web() }], beside);
    let ours = made.into_iter().filter(|chain| !chain.of_administrator).map(|chain| chain.name);
    let ours: Vec<String> = ours.chain(base::chain_names().map(str::to_owned)).collect();
    for chain in &ours {
        assert!(chains::is_own_of_nftables(chain), "{chain}");
    }
    for name in chains::NFTABLES {
        assert!(ours.iter().any(|chain| chain == name), "nobody writes {name}");
    }
    assert!(!chains::is_taken("CNI-ADMIN") && !chains::is_taken("SITE"));
}

#[test]
fn torn_replies_are_no_elements() {
    let whole = {
        let element = &attachment_elements(&web(), &pinned("abc", 2))[0];
        let bytes = add(std::slice::from_ref(element))[0].attributes.clone();
        assert_eq!(parse_elements(element.set, &bytes).first(), Some(element));
        bytes
    };
    for end in 0..whole.len() {
        let _ = parse_elements(Set::Ports4Any, &whole[..end]);
        let _ = parse_chain(1, &whole[..end]);
    }
}
