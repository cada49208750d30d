//! Who asks whom, by what a person types: of a container with several interfaces one is meant.

use std::net::IpAddr;

use crate::explain::{Named, Party, Target};
use crate::view::Attachment;

use super::super::error::Error;
use super::super::suggest;
use super::find;

/// The two ends of a question.
pub(super) struct Parties {
    pub(super) from: Party,
    pub(super) to: Party,
    /// Which interface of several was taken, in words.
    pub(super) note: Option<String>,
}

/// An end that may be one of several interfaces.
enum End<'a> {
    One(Party),
    Of(Vec<&'a Attachment>),
}

impl Parties {
    /// Finds both. Which interface is asked for follows from who asks: from outside the one that publishes the port, from
    /// a container one on a network of both. Else it is the first, and so it is for who asks: the kernel's routes decide
    /// by which interface that sends. Only those count that have the family which it must be, if any has.
    ///
    /// # Errors
    /// [`Error::Nothing`], [`Error::Ambiguous`].
    pub(super) fn of(
        from: &Named,
        target: &Target,
        ipv6: Option<bool>,
        attachments: &[Attachment],
    ) -> Result<Self, Error> {
        let (from, to) = (End::of(from, attachments)?, End::of(&target.end, attachments)?);
        let family = ipv6.or_else(|| only_family(&from, &to));
        let meant = to.interfaces();
        let (from, to) = (from.by(family), to.by(family));
        let from = match (from, &to) {
            (End::One(party), _) => party,
            (End::Of(all), End::Of(others)) => {
                let is_beside = |own: &&&Attachment| others.iter().any(|other| other.network == own.network);
                container(all.iter().find(is_beside).unwrap_or(&all[0]))
            }
            (End::Of(all), End::One(_)) => container(all[0]),
        };
        let all = match to {
            End::One(to) => return Ok(Self { from, to, note: None }),
            End::Of(all) => all,
        };
        let publishes = || all.iter().find(|own| publishes(own, target, family));
        let published = || publishes().map(|own| (own, "it publishes the port".to_owned()));
        let chosen = match &from {
            Party::Container(asker) => {
                let beside = all.iter().find(|own| own.network == asker.network);
                beside.map(|own| (own, format!("it is on network {} as the asker is", own.network)))
            }
            Party::Address(address) => {
                let near = all.iter().find(|own| own.addresses.iter().any(|own| own.contains(*address)));
                near.map(|own| (own, format!("{address} is in its subnet"))).or_else(published)
            }
            Party::Outside => published(),
            Party::Host => None,
        };
        let is_first = meant.first().is_some_and(|first| first.interface == all[0].interface);
        let otherwise = || match family.filter(|_| !is_first) {
            Some(ipv6) => format!("it is the first with {}", if ipv6 { "IPv6" } else { "IPv4" }),
            None => "it is the first".to_owned(),
        };
        let (own, why) = chosen.unwrap_or_else(|| (&all[0], otherwise()));
        let other = meant.iter().find(|other| other.interface != own.interface);
        let note = other.map(|other| {
            let (who, is, not) = (&own.container, &own.interface, &other.interface);
            format!(
                "of the interfaces of container {who} {is} is asked, since {why}; {who}:{not} asks another"
            )
        });
        Ok(Self { from, to: container(own), note })
    }
}

impl<'a> End<'a> {
    fn of(named: &Named, attachments: &'a [Attachment]) -> Result<Self, Error> {
        Ok(match named {
            Named::Host => Self::One(Party::Host),
            Named::Outside => Self::One(Party::Outside),
            Named::Address(address) => Self::One(Party::Address(*address)),
            Named::Container(typed) => match find::one(typed, attachments) {
                Ok(found) => Self::Of(found),
                Err(Error::Nothing { .. }) => return Err(nobody(typed, attachments)),
                Err(error) => return Err(error),
            },
        })
    }

    /// Those of which one is to be taken.
    fn interfaces(&self) -> Vec<&'a Attachment> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Of(all) => all.clone(),
        }
    }

    /// Whether it can be spoken to by IPv6, or by IPv4.
    fn has(&self, ipv6: bool) -> bool {
        match self {
            Self::One(Party::Address(address)) => address.is_ipv6() == ipv6,
            Self::One(_) => true,
            Self::Of(all) => all.iter().any(|own| has(own, ipv6)),
        }
    }

    /// Without the interfaces that lack the family, unless all do.
    fn by(self, family: Option<bool>) -> Self {
        match (self, family) {
            (Self::Of(mut all), Some(ipv6)) if all.iter().any(|own| has(own, ipv6)) => {
                all.retain(|own| has(own, ipv6));
                Self::Of(all)
            }
            (end, _) => end,
        }
    }
}

/// Whether it must be IPv6, where both ends have one family in common: an address has but one.
fn only_family(from: &End<'_>, to: &End<'_>) -> Option<bool> {
    let common = |ipv6| from.has(ipv6) && to.has(ipv6);
    (common(true) != common(false)).then(|| common(true))
}

fn has(own: &Attachment, ipv6: bool) -> bool {
    own.addresses.iter().any(|address| address.is_ipv6() == ipv6)
}

fn container(attachment: &Attachment) -> Party {
    Party::Container(Box::new(attachment.clone()))
}

/// Whether the port that is asked for is published.
fn publishes(own: &Attachment, target: &Target, ipv6: Option<bool>) -> bool {
    own.ports.iter().any(|published| {
        let address: IpAddr = published.target.ip();
        target
            .port
            .is_some_and(|port| (published.target.port()..=published.last_target_port()).contains(&port))
            && target.transport.protocol() == Some(published.protocol)
            && ipv6.is_none_or(|ipv6| address.is_ipv6() == ipv6)
    })
}

fn nobody(typed: &str, attachments: &[Attachment]) -> Error {
    let ids = attachments.iter().map(|attachment| attachment.container.as_str());
    let names = attachments.iter().filter_map(|attachment| attachment.name.as_deref());
    let hint = suggest::hint(typed, ids.chain(names).chain(["host", "outside"]), "");
    let known = ": 'linkspan ps' lists containers; an address, 'host' and 'outside' are understood too";
    let domain = ", and names of the DNS are not looked up: give an address ('linkspan ps' lists containers)";
    let hint = match hint.is_empty() {
        true => if typed.contains('.') { domain } else { known }.to_owned(),
        false => hint,
    };
    Error::Nothing { what: "container", name: typed.to_owned(), hint }
}
