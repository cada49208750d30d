//! What the kernel can do, tried for real in a scratch namespace that goes at once.

use crate::firewall::{NetworkRules, nft};
use crate::model::nft::NftMessage;
use crate::model::{IngressPolicy, Isolation, MacAddress, Protocol};
use crate::plan::Step;
use crate::sys::netlink::{self, Message, Socket};
use crate::sys::nfnetlink::{NftError, NftSocket, flows};
use crate::sys::rtnl::{self, Bridge, MacvlanDevice, ShapedRate, Veth};
use crate::sys::{in_scratch, sysctl};

use super::finding::{Findings, Severity, Word};
use super::needs;
use super::sight::Sight;

/// Indexes of the links that are tried, free in a new namespace.
const VETH: u32 = 1001;
const PEER: u32 = 1002;
const IFB: &str = "lkstry-ifb";
/// `MACVLAN_MODE_BRIDGE`.
const MACVLAN_BRIDGE: u32 = 4;
/// `BRIDGE` of a host with no rule but this one: the kernel compares names, and need not have the link.
const TRIED: &str = "lkstry";

/// A feature: the kernel's name for it, the option and module that bring it, and what of linkspan needs it.
struct Feature {
    name: &'static str,
    module: &'static str,
    keys: &'static str,
    who: fn(&Sight<'_>) -> Option<String>,
    /// Whether no container has a network without it.
    is_core: bool,
}

const fn core(
    name: &'static str,
    module: &'static str,
    keys: &'static str,
    who: fn(&Sight<'_>) -> Option<String>,
) -> Feature {
    Feature { name, module, keys, who, is_core: true }
}

const fn asked(
    name: &'static str,
    module: &'static str,
    keys: &'static str,
    who: fn(&Sight<'_>) -> Option<String>,
) -> Feature {
    Feature { name, module, keys, who, is_core: false }
}

/// All features, in the order in which [`trials`] tries them.
const FEATURES: [Feature; 14] = [
    core("bridges", "CONFIG_BRIDGE, module bridge", "every network with a bridge", needs::bridge),
    core("veth pairs", "CONFIG_VETH, module veth", "every network but macvlan", needs::veth),
    asked("bridge VLAN filtering", "CONFIG_BRIDGE_VLAN_FILTERING", "the keys vlan and vlanTrunk", |s| {
        s.needs_key(&["vlan", "vlanTrunk"])
            .or_else(|| s.needs_step(|step| matches!(step, Step::Bridge(bridge) if bridge.vlan_filtering)))
    }),
    asked("802.1Q links", "CONFIG_VLAN_8021Q, module 8021q", "the key vlan with a gateway", |s| {
        s.needs_key(&["vlan"])
    }),
    asked("macvlan links", "CONFIG_MACVLAN, module macvlan", "the plugin macvlan", needs::macvlan),
    asked("token buckets", "CONFIG_NET_SCH_TBF, module sch_tbf", "the capability bandwidth", shaped),
    asked("ingress queues", "CONFIG_NET_SCH_INGRESS, module sch_ingress", "egressRate of bandwidth", shaped),
    asked("ifb links", "CONFIG_IFB, module ifb", "egressRate of bandwidth", shaped),
    asked(
        "redirection of packets",
        "CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED, modules cls_u32 and act_mirred",
        "egressRate of bandwidth",
        shaped,
    ),
    core(
        "nf_tables for inet",
        "CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET, modules nf_tables, nft_ct, nft_nat and nft_masq",
        "every network that is not on the backend iptables",
        needs::nftables,
    ),
    asked("nf_tables for shifted ranges", "CONFIG_NFT_NAT, Linux 5.10", "ranges of published ports", |s| {
        s.needs_step(
            |step| matches!(step, Step::Claims(claims) if claims.publications.iter().any(|p| p.count > 1)),
        )
    }),
    asked(
        "nf_tables for bridges",
        "CONFIG_NF_TABLES_BRIDGE, module nf_tables_bridge",
        "the keys macspoofchk and ipspoofchk",
        |s| s.needs_key(&["macspoofchk", "ipspoofchk"]),
    ),
    core(
        "lists of tracked connections",
        "CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink",
        "published UDP ports",
        |s| needs::nftables(s).or_else(|| s.needs_iptables()),
    ),
    asked("tracked SCTP connections", "CONFIG_NF_CT_PROTO_SCTP", "published SCTP ports", |s| {
        let is_sctp = |step: &Step| matches!(step, Step::Claims(claims) if claims.publications.iter().any(|p| p.protocol == Protocol::Sctp));
        s.needs_step(is_sctp)
    }),
];

fn shaped(sight: &Sight<'_>) -> Option<String> {
    let by_key = sight.needs_key(&["bandwidth", "egressRate", "ingressRate"]);
    by_key.or_else(|| sight.needs_step(|step| matches!(step, Step::Shape(_))))
}

/// Tries every feature, and tells of those that are missing: a fault where somebody needs it.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let outcomes = match in_scratch(trials) {
        Ok(outcomes) => outcomes,
        Err(error) => return findings.not_looked("the kernel's features", error),
    };
    for (feature, outcome) in FEATURES.iter().zip(outcomes) {
        let Err(reason) = outcome else { continue };
        let who = (feature.who)(sight);
        let severity = match &who {
            Some(_) => Severity::Fault,
            None if feature.is_core && sight.is_blank() => Severity::Warning,
            None => Severity::Remark,
        };
        let why = match who {
            Some(who) => format!("needed by {}: {who}", feature.keys),
            None => format!("needed by {}, which nothing here has", feature.keys),
        };
        findings.add(
            severity,
            Word::KernelFeature,
            format!("the kernel cannot do {}: {reason}", feature.name),
            why,
            format!("load the module, or boot a kernel with it: {}", feature.module),
        );
    }
    ipv6(sight, findings);
}

fn ipv6(sight: &Sight<'_>, findings: &mut Findings) {
    let off = sysctl::read("net/ipv6/conf/all/disable_ipv6").map_or(true, |value| value == "1");
    let Some(who) = sight.needs_ipv6().filter(|_| off) else { return };
    findings.add(
        Severity::Fault,
        Word::Ipv6Off,
        "IPv6 is off on this host",
        format!("{who} has IPv6 ranges"),
        "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or boot without ipv6.disable=1; else take the IPv6 ranges out",
    );
}

type Trial = Result<(), String>;

/// The outcome of each of [`FEATURES`], in the namespace that the thread is in.
fn trials() -> Vec<Trial> {
    let mut outcomes = Vec::with_capacity(FEATURES.len());
    match Socket::open(netlink::Protocol::Route) {
        Ok(mut socket) => links(&mut socket, &mut outcomes),
        Err(error) => outcomes.extend(vec![Err(error.to_string()); 9]),
    }
    match NftSocket::open() {
        Ok(mut nft) => {
            outcomes.extend(rules(&mut nft));
            // Closed with the process: the kernel would have us wait for what is thrown away.
            nft.leave_open();
        }
        Err(error) => outcomes.extend(vec![Err(error.to_string()); 3]),
    }
    let listed = Socket::open(netlink::Protocol::Netfilter).and_then(|mut s| flows::list(&mut s, |_| true));
    outcomes.push(listed.map(drop).map_err(|error| error.to_string()));
    let sctp = sysctl::read("net/netfilter/nf_conntrack_sctp_timeout_established");
    outcomes.push(sctp.map(drop).map_err(|_| "connection tracking has no settings for it".to_owned()));
    outcomes
}

fn links(socket: &mut Socket, outcomes: &mut Vec<Trial>) {
    outcomes.push(attempt(socket, &rtnl::create_bridge(&bridge("lkstry-br", false))));
    let veth = Veth {
        name: "lkstry-a",
        index: Some(VETH),
        mac: None,
        master: None,
        group: None,
        up: false,
        netns: None,
        peer_name: "lkstry-b",
        peer_index: Some(PEER),
        peer_mac: None,
        mtu: None,
        tx_queue_len: None,
    };
    outcomes.push(attempt(socket, &rtnl::create_veth(&veth)));
    outcomes.push(vlan_filtering(socket));
    outcomes.push(attempt(socket, &rtnl::create_vlan("lkstry-vlan", VETH, 2, None)));
    let mac = MacAddress([0x0a, 0x58, 0, 0, 0, 1]);
    let device = MacvlanDevice {
        name: "lkstry-mac",
        lower: PEER,
        mac,
        mode: MACVLAN_BRIDGE,
        mtu: None,
        broadcast_queue: None,
        group: 0,
        netns: None,
    };
    outcomes.push(attempt(socket, &rtnl::create_macvlan(&device)));
    let rate = ShapedRate { rate: 1_000_000, burst: 10_000 };
    outcomes.push(attempt(socket, &rtnl::set_tbf(VETH, rate)));
    outcomes.push(attempt(socket, &rtnl::add_ingress(VETH)));
    outcomes.push(attempt(socket, &rtnl::create_ifb(IFB, None, None, None)));
    let ifb = rtnl::link_by_name(socket, IFB).ok().flatten();
    // Without an ifb device it is tried towards another: what is tried is the redirection.
    let to = ifb.map_or(PEER, |link| link.index);
    outcomes.push(attempt(socket, &rtnl::redirect_ingress(VETH, to)));
}

fn bridge(name: &str, vlan_filtering: bool) -> Bridge<'_> {
    Bridge {
        name,
        index: None,
        mac: None,
        mtu: None,
        group: None,
        vlan_filtering,
        default_pvid: None,
        multicast_snooping: false,
        promisc: false,
        up: false,
    }
}

/// A kernel without it takes the wish and passes it over.
fn vlan_filtering(socket: &mut Socket) -> Trial {
    attempt(socket, &rtnl::create_bridge(&bridge("lkstry-vl", true)))?;
    let made = rtnl::link_by_name(socket, "lkstry-vl").map_err(|error| error.to_string())?;
    if made.and_then(|link| link.bridge).is_some_and(|info| info.vlan_filtering) {
        return Ok(());
    }
    Err("a bridge is made without it".to_owned())
}

fn attempt(socket: &mut Socket, message: &Message) -> Trial {
    socket.transact(std::slice::from_ref(message)).map_err(|error| error.to_string())
}

/// The rules of a network that has everything, as an ADD writes them.
fn rules(nft: &mut NftSocket) -> [Trial; 3] {
    let rules = NetworkRules {
        bridge: TRIED.to_owned(),
        masquerade: true,
        hairpin: true,
        masquerade_all: true,
        isolation: Isolation::Strict,
        ingress: IngressPolicy::SameBridge,
        routed: true,
        ..NetworkRules::bare("try", "TRY")
    };
    let mut table = commit(nft, &nft::base("TRY"));
    if table.is_ok() {
        let mut messages = nft::network(&rules);
        messages.extend(nft::add(&nft::network_elements(&rules)));
        table = commit(nft, &messages);
    }
    // What stands in the table cannot be tried without it.
    let shifts = if table.is_ok() { commit(nft, &nft::shift_base()) } else { Ok(()) };
    [table, shifts, commit(nft, &nft::guard_base())]
}

fn commit(nft: &mut NftSocket, messages: &[NftMessage]) -> Trial {
    nft.commit(messages).map_err(|NftError { index, errno, text }| {
        let refused = index.and_then(|index| messages.get(index)).map(nft::described);
        let refused = refused.map(|what| format!("{what} is refused: ")).unwrap_or_default();
        let text = text.map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{refused}{}{text}", errno.desc())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_tried() {
        match in_scratch(trials) {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), FEATURES.len());
                for at in [0, 1, 9] {
                    assert_eq!(outcomes[at], Ok(()), "{}", FEATURES[at].name);
                }
            }
            Err(error) => println!("skipped: {error}"),
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_named() {
        let tried = in_scratch(|| {
            let mut nft = NftSocket::open().map_err(|error| error.to_string())?;
            // Chains of a network before the table that they belong to.
            let refused = commit(
                &mut nft,
                &nft::network(&NetworkRules { masquerade: true, ..NetworkRules::bare("try", "TRY") }),
            );
            nft.leave_open();
            refused
        });
        match tried {
            Ok(outcome) => {
                let words = outcome.unwrap_err();
                assert!(words.starts_with("the chain end-try is refused: "), "{words}");
            }
            Err(error) => println!("skipped: {error}"),
        }
    }
}
