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
    /// by which interface that sends.
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
        let publishes = || all.iter().find(|own| publishes(own, target, ipv6));
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
        let (own, why) = chosen.unwrap_or_else(|| (&all[0], "it is the first".to_owned()));
        let other = all.iter().find(|other| other.interface != own.interface);
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
