//! The texts against the real programs, of both kinds.

use super::*;
use crate::firewall::rules::samples::{shop, web};
use crate::firewall::sandbox::{attempt, feed, isolated, run};
use crate::firewall::{AttachmentRules, NetworkRules};
use crate::model::{AttachmentKey, IngressPolicy, InterfacePattern, Isolation};

const KINDS: [&str; 2] = ["nft", "legacy"];

/// The programs of one kind and family.
struct Tools {
    family: Family,
    iptables: String,
}

impl Tools {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for kind in KINDS {
            for (family, stem) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
                all.push(Self { family, iptables: format!("{stem}-{kind}") });
            }
        }
        all
    }

    fn restore(&self, text: &str) {
        let program = format!("{}-restore", self.iptables);
        feed(&program, &["--noflush", "--test"], text);
        feed(&program, &["--noflush", "-w"], text);
    }

    fn restores(&self, text: &str) -> bool {
        attempt(&format!("{}-restore", self.iptables), &["--noflush", "-w"], text).0
    }

    fn save(&self) -> String {
        // The kernel keeps a legacy table only once somebody has looked at it.
        for table in ["raw", "nat", "filter"] {
            run(&self.iptables, &["-t", table, "-S"]);
        }
        let text = run(&format!("{}-save", self.iptables), &[]);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n").collect()
    }

    fn saved(&self) -> Saved {
        Saved::parse(&self.save())
    }

    fn of(&self, restore: &Restore) -> String {
        match self.family {
            Family::V4 => restore.v4.clone(),
            Family::V6 => restore.v6.clone(),
        }
        .unwrap()
    }

    fn check(&self, network: &NetworkRules, attachment: &AttachmentRules) -> Vec<String> {
        let missing = |arguments: &Vec<String>| {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            !attempt(&self.iptables, &words, "").0
        };
        let all = checks(self.family, network, attachment);
        assert!(all.len() > 10);
        all.iter().filter(|arguments| missing(arguments)).map(|arguments| arguments.join(" ")).collect()
    }
}

fn with_each(test: impl Fn(&Tools) + Send + Copy + 'static) {
    for tools in Tools::all() {
        let program = tools.iptables.clone();
        isolated(&[&program], move || {
            let (works, _, why) = attempt(&tools.iptables, &["-t", "nat", "-S"], "");
            if !works {
                return println!("skipped: {}: {why}", tools.iptables);
            }
            test(&tools);
        });
    }
}

fn walled() -> NetworkRules {
    NetworkRules {
        ingress: IngressPolicy::SameBridge,
        isolation: Isolation::Default,
        routed: true,
        trusted: ["eth1", "wg*", "*"].map(|text| InterfacePattern::parse(text).unwrap()).to_vec(),
        outbound4: Some("192.0.2.1".parse().unwrap()),
        outbound6: Some("2001:db8::1".parse().unwrap()),
        masquerade_all: true,
        ..web()
    }
}

fn other() -> NetworkRules {
    NetworkRules {
        network: "a-network-of-many-words".to_owned(),
        bridge: "lks-other".to_owned(),
        ingress: IngressPolicy::Isolated,
        isolation: Isolation::Strict,
        internal: true,
        admin_chain: "SITE-ADMIN".to_owned(),
        ..web()
    }
}

#[test]
fn a_rebuild_done_twice_changes_nothing() {
    with_each(|tools| {
        let (one, two) = (shop("abc", 2), shop("def", 3));
        let (walled, other) = (walled(), other());
        let networks = [walled.clone(), other.clone()];
        let attachments = [(&walled, &one), (&other, &two)];
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &attachments));
        let first = tools.save();
        run(&tools.iptables, &["-A", "CNI-ADMIN", "-p", "tcp", "-j", "DROP"]);
        let with_admin = tools.save();
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &attachments));
        assert_eq!(tools.save(), with_admin, "the administrator's rule is still there");
        assert_ne!(first, with_admin);
        assert_eq!(tools.check(&walled, &one), [""; 0]);
        assert_eq!(tools.check(&other, &two), [""; 0]);
    });
}

#[test]
fn attach_and_detach_leave_what_was_there() {
    with_each(|tools| {
        let (one, two) = (shop("abc", 2), shop("def", 3));
        let network = walled();
        assert!(!tools.restores(&tools.of(&attach(&network, &one))), "no chains yet");
        let networks = [network.clone()];
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &[(&network, &one)]));
        let before = tools.save();
        tools.restore(&tools.of(&attach(&network, &two)));
        assert_eq!(tools.check(&network, &two), [""; 0]);
        assert_eq!(tools.saved().owners().len(), 3, "{:?}", tools.saved().owners());
        tools.restore(&tools.of(&detach(&network, &two)));
        assert_eq!(tools.save(), before);
        assert!(!tools.restores(&tools.of(&detach(&network, &two))), "nothing to detach");
        assert_eq!(tools.save(), before, "a failed restore changes nothing");
    });
}

#[test]
fn a_damaged_attachment_is_taken_away_all_the_same() {
    with_each(|tools| {
        let (one, two) = (shop("abc", 2), shop("def", 3));
        let network = walled();
        let networks = [network.clone()];
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &[(&network, &one)]));
        let before = tools.save();
        tools.restore(&tools.of(&attach(&network, &two)));
        run(&tools.iptables, &["-t", "nat", "-D", "LINKSPAN-POST", "3"]);
        tools.restores(&tools.of(&detach(&network, &two)));
        if let Some(text) = detach_from(&tools.saved(), &two.owner) {
            tools.restore(&text);
        }
        let left = tools.saved().owners();
        assert_eq!(left.iter().filter(|owner| **owner == two.owner.to_string()).count(), 0, "{left:?}");
        assert_eq!(detach_from(&tools.saved(), &two.owner), None);
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &[(&network, &one)]));
        assert_eq!(tools.save(), before);
        run(&tools.iptables, &["-t", "nat", "-F", "PREROUTING"]);
        assert_eq!(tools.check(&network, &one).len(), 1);
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &[(&network, &one)]));
        assert_eq!(tools.check(&network, &one), [""; 0]);
    });
}

#[test]
fn orphans_go_with_a_rebuild() {
    with_each(|tools| {
        let network = walled();
        let (one, two) = (shop("abc", 2), shop("def", 3));
        let networks = [network.clone(), other()];
        let both = [(&network, &one), (&network, &two)];
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks[..1], &both[..1]));
        let lean = tools.save();
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks, &both));
        tools.restore(&rebuild(tools.family, &tools.saved(), &networks[..1], &both[..1]));
        run(&tools.iptables, &["-X", "SITE-ADMIN"]);
        assert_eq!(tools.save(), lean);
    });
}

#[test]
fn a_mark_chain_and_conditions_are_honoured() {
    with_each(|tools| {
        let condition = ["-m", "comment", "--comment", "from \"the\" site", "-i", "eth7"].map(str::to_owned);
        let network = NetworkRules {
            mark_chain: Some("SITE-MARK".to_owned()),
            conditions_v4: condition.to_vec(),
            conditions_v6: condition.to_vec(),
            ..web()
        };
        let one = shop("abc", 2);
        let rebuilt =
            rebuild(tools.family, &tools.saved(), std::slice::from_ref(&network), &[(&network, &one)]);
        assert!(!tools.restores(&rebuilt), "the administrator's chain is missing");
        run(&tools.iptables, &["-t", "nat", "-N", "SITE-MARK"]);
        tools.restore(&rebuild(
            tools.family,
            &tools.saved(),
            std::slice::from_ref(&network),
            &[(&network, &one)],
        ));
        assert_eq!(tools.check(&network, &one), [""; 0]);
        let text = tools.save();
        assert!(text.contains("-j SITE-MARK") && text.contains("-i eth7"), "{text}");
        assert!(!text.contains("-o lks-web -m conntrack --ctstate DNAT -j MASQUERADE"), "{text}");
    });
}

#[test]
fn a_bridge_is_admitted_once() {
    with_each(|tools| {
        run(&tools.iptables, &["-P", "FORWARD", "DROP"]);
        assert_eq!(tools.saved().policy("filter", "FORWARD"), Some("DROP"));
        tools.restore(&admission(&tools.saved(), &web()).unwrap());
        assert_eq!(admission(&tools.saved(), &web()), None);
        tools.restore(
            &admission(&tools.saved(), &NetworkRules { bridge: "lks-other".to_owned(), ..web() }).unwrap(),
        );
        let text = tools.save();
        assert_eq!(text.matches("-j LINKSPAN-ADMIT").count(), 1, "{text}");
        assert_eq!(text.matches("-A LINKSPAN-ADMIT").count(), 4, "{text}");
        tools.restore(&retraction(&tools.saved(), "lks-other").unwrap());
        assert_eq!(retraction(&tools.saved(), "lks-other"), None);
        run(&tools.iptables, &["-N", "DOCKER-USER"]);
        tools.restore(&admission(&tools.saved(), &web()).unwrap());
        assert!(tools.save().contains("-A DOCKER-USER -j LINKSPAN-ADMIT"));
        tools.restore(&retraction(&tools.saved(), &web().bridge).unwrap());
        assert!(!tools.save().contains("-A LINKSPAN-ADMIT"), "{}", tools.save());
    });
}

#[test]
fn one_family_alone_leaves_the_other_be() {
    let plain = NetworkRules { masquerade: false, hairpin: false, ..web() };
    let mut attachment = shop("abc", 2);
    attachment.publications.retain(|publication| publication.host.is_ipv4());
    assert!(attach(&plain, &attachment).v4.is_some());
    assert_eq!(attach(&plain, &attachment).v6, None);
    attachment.publications.clear();
    assert_eq!(attach(&plain, &attachment), Restore::default());
    assert_eq!(detach(&plain, &attachment), Restore::default());
}

#[test]
fn quotes_survive_the_way_there_and_back() {
    for word in ["plain", "two words", "a \"quoted\" one", "back\\slash", "", "it's"] {
        let rule = rule::Rule::new("nat", "CHAIN", "-j X").preceded(&[word.to_owned()]);
        assert_eq!(rule::split(&rule.line("-A")), ["-A", "CHAIN", word, "-j", "X"]);
    }
}

#[test]
fn chain_names_fit_the_kernel() {
    let long = AttachmentKey::new("x".repeat(300), "eth0");
    assert!(attachment::chain(&long).len() <= 28);
    for network in ["web", "exactly-16-chars", "a-network-of-many-words"] {
        assert!(shared::network_chain(network).len() <= 28);
        assert!(shared::wall_chain(network).len() <= 28);
        assert_ne!(shared::network_chain(network), shared::wall_chain(network));
    }
}
