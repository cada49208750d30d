//! The commands that let one way through somebody else's chain: this protocol, this port of this address, by these
//! interfaces, and the answers to it; nothing else that would go the same way.

use std::fmt::Write;
use std::net::IpAddr;

use crate::firewall::nft::{Packet, Tracking};

use super::blame::is_iptables;
use super::hooks::CONNTRACK;
use super::site::{BRIDGE, Gate};

/// The hooks that know where a packet came in, and those that know where it leaves (`NF_INET_*`).
const HOOKS_WITH_INPUT: [u32; 3] = [0, 1, 2];
const HOOKS_WITH_OUTPUT: [u32; 3] = [2, 3, 4];
/// Those that an answer passes too: not input and output, of which it takes the other.
const HOOKS_OF_BOTH: [u32; 3] = [0, 2, 4];
/// Forward.
const FORWARD: u32 = 2;

/// A packet that a base chain drops.
pub(super) struct Opening<'a> {
    pub(super) base: &'a Gate,
    pub(super) packet: &'a Packet,
    /// Whether its destination stands for anybody outside.
    pub(super) to_anybody: bool,
}

/// What a rule asks of a packet.
#[derive(Default)]
struct Conditions<'a> {
    input: Option<&'a str>,
    output: Option<&'a str>,
    /// The end that was asked: of an answer, its source.
    asked: Option<IpAddr>,
    protocol: Option<u8>,
    port: Option<u16>,
    answer: bool,
    tracked: Option<Tracked>,
}

/// What a rule asks connection tracking.
#[derive(Clone, Copy)]
enum Tracked {
    /// Whether the packet is of a connection that was let through.
    Known,
    /// Whether it was translated to a published port.
    Published,
}

impl Opening<'_> {
    /// Let through at the head of the base chain, and the answers with it.
    pub(super) fn of_base(&self) -> String {
        self.in_chain(&self.base.chain.name)
    }

    /// At the head of a chain that the base chain leads to, and the answers with it.
    pub(super) fn in_chain(&self, chain: &str) -> String {
        let rules = [Some(self.there()), self.back()];
        let rules = rules.into_iter().flatten().map(|conditions| self.command(chain, &conditions));
        rules.collect::<Vec<_>>().join(" && ")
    }

    /// The same where answers pass anyway.
    pub(super) fn one_way(&self, chain: &str) -> String {
        self.command(chain, &self.there())
    }

    /// Whether the chain knows of the packet's connection.
    fn is_tracked(&self) -> bool {
        self.base.chain.family != BRIDGE
            && self.base.priority() > CONNTRACK
            && self.packet.tracking != Tracking::Untracked
    }

    /// Whether it knows that the packet was translated: a container's connection tracking does not know what the host
    /// has done.
    fn knows_published(&self) -> bool {
        self.packet.published && self.base.inside.is_none()
    }

    /// The packet itself.
    fn there(&self) -> Conditions<'_> {
        let (input, output) = (self.packet.input.as_deref(), self.packet.output.as_deref());
        let packet = self.packet;
        if packet.reply {
            return self.answers((input, output), (packet.source, packet.source_port));
        }
        Conditions {
            asked: packet.destination.filter(|_| !self.to_anybody),
            protocol: packet.protocol,
            port: packet.destination_port,
            tracked: (self.knows_published() && self.is_tracked()).then_some(Tracked::Published),
            ..self.between(input, output)
        }
    }

    /// What answers it, where that comes by the same chain and is not the packet itself.
    fn back(&self) -> Option<Conditions<'_>> {
        let (packet, hook) = (self.packet, self.base.hook());
        let passes = HOOKS_OF_BOTH.contains(&hook) && (self.is_tracked() || hook == FORWARD);
        let ways = (packet.output.as_deref(), packet.input.as_deref());
        let asked = packet.destination.filter(|_| !self.to_anybody);
        (passes && !packet.reply).then(|| self.answers(ways, (asked, packet.destination_port)))
    }

    fn answers<'a>(
        &'a self,
        (input, output): (Option<&'a str>, Option<&'a str>),
        (asked, port): (Option<IpAddr>, Option<u16>),
    ) -> Conditions<'a> {
        let between = Conditions { answer: true, ..self.between(input, output) };
        if self.is_tracked() {
            return Conditions { tracked: Some(Tracked::Known), ..between };
        }
        Conditions { asked, protocol: self.packet.protocol, port, ..between }
    }

    /// The interfaces that the hook knows.
    fn between<'a>(&self, input: Option<&'a str>, output: Option<&'a str>) -> Conditions<'a> {
        let hook = self.base.hook();
        let known = |name: Option<&'a str>, hooks: &[u32]| {
            name.filter(|name| !name.is_empty() && hooks.contains(&hook))
        };
        Conditions {
            input: known(input, &HOOKS_WITH_INPUT),
            output: known(output, &HOOKS_WITH_OUTPUT),
            ..Conditions::default()
        }
    }

    fn command(&self, chain: &str, conditions: &Conditions<'_>) -> String {
        let (family, table) = (self.base.family(), &self.base.chain.table);
        if !is_iptables(self.base) {
            let words = conditions.nft_words();
            return self.base.command(&format!("nft insert rule {family} {table} {chain} {words}accept"));
        }
        let tool = match family {
            "ip" => "iptables-nft",
            "ip6" => "ip6tables-nft",
            legacy => legacy,
        };
        let words = conditions.iptables_words();
        self.base.command(&format!("{tool} -t {table} -I {chain} {words}-j ACCEPT"))
    }
}

/// `IPPROTO_*`, as both tools name those that have ports.
fn with_ports(protocol: u8) -> Option<&'static str> {
    match protocol {
        6 => Some("tcp"),
        17 => Some("udp"),
        _ => None,
    }
}

/// The same of echoes: in nft's words, in those of iptables, and the option of its type there.
fn of_echoes(protocol: u8) -> Option<(&'static str, &'static str, &'static str)> {
    match protocol {
        1 => Some(("icmp", "icmp", "--icmp-type")),
        58 => Some(("icmpv6", "ipv6-icmp", "--icmpv6-type")),
        _ => None,
    }
}

impl Conditions<'_> {
    fn echo(&self) -> &'static str {
        if self.answer { "echo-reply" } else { "echo-request" }
    }

    fn nft_words(&self) -> String {
        let mut text = String::new();
        for (word, name) in [("iifname", self.input), ("oifname", self.output)] {
            if let Some(name) = name {
                let _ = write!(text, "{word} {name} ");
            }
        }
        if let Some(asked) = self.asked {
            let family = if asked.is_ipv4() { "ip" } else { "ip6" };
            let _ = write!(text, "{family} {} {asked} ", if self.answer { "saddr" } else { "daddr" });
        }
        if let Some((protocol, port)) = self.protocol.and_then(with_ports).zip(self.port) {
            let _ = write!(text, "{protocol} {} {port} ", if self.answer { "sport" } else { "dport" });
        } else if let Some((protocol, ..)) = self.protocol.and_then(of_echoes) {
            let _ = write!(text, "{protocol} type {} ", self.echo());
        }
        text.push_str(match self.tracked {
            None => "",
            Some(Tracked::Known) => "ct state established,related ",
            Some(Tracked::Published) => "ct status dnat ",
        });
        text
    }

    fn iptables_words(&self) -> String {
        let mut text = String::new();
        for (word, name) in [("-i", self.input), ("-o", self.output)] {
            if let Some(name) = name {
                let _ = write!(text, "{word} {name} ");
            }
        }
        if let Some(asked) = self.asked {
            let _ = write!(text, "{} {asked} ", if self.answer { "-s" } else { "-d" });
        }
        if let Some((protocol, port)) = self.protocol.and_then(with_ports).zip(self.port) {
            let _ = write!(text, "-p {protocol} {} {port} ", if self.answer { "--sport" } else { "--dport" });
        } else if let Some((_, protocol, option)) = self.protocol.and_then(of_echoes) {
            let _ = write!(text, "-p {protocol} {option} {} ", self.echo());
        }
        text.push_str(match self.tracked {
            None => "",
            Some(Tracked::Known) => "-m conntrack --ctstate RELATED,ESTABLISHED ",
            Some(Tracked::Published) => "-m conntrack --ctstate DNAT ",
        });
        text
    }
}
