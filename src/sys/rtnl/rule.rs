//! Rules that choose a routing table. Kernel: `include/uapi/linux/fib_rules.h`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::model::attributes::{Attributes, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{CREATE, EXCL, Message, Socket};

use super::kernel::*;
use super::reading::{family_of, ip_of, octets, u32_of, unspecified};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;
/// The size of `fib_rule_hdr`.
const HEADER: usize = 12;

/// A rule of the routing policy as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The source that it is about; prefix length 0 for any.
    pub source: IpNetwork,
    /// The table that it leads to; 0 where it leads to none.
    pub table: u32,
    /// Its place: the smaller the earlier.
    pub priority: u32,
}

/// Makes a rule that routes what comes from `source` by `table`, in front of those made by others.
pub fn add_rule(source: IpNetwork, table: u32) -> Message {
    let body = about(source, table);
    Message::new(RTM_NEWRULE, CREATE | EXCL, body, "add the routing rule", words(source, table))
        .tolerating(Errno::EEXIST)
}

/// Deletes the rule of a source and a table; that it is gone already, or its family, is as good.
pub fn delete_rule(source: IpNetwork, table: u32) -> Message {
    let body = about(source, table);
    Message::new(RTM_DELRULE, 0, body, "delete the routing rule", words(source, table))
        .tolerating(Errno::ENOENT)
        .tolerating(Errno::EAFNOSUPPORT)
        .tolerating(Errno::EOPNOTSUPP)
}

/// The rules of both families.
///
/// # Errors
/// As [`Socket::dump`].
pub fn rules(socket: &mut Socket) -> Result<Vec<Rule>, SysError> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let body = Attributes::after(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).into_bytes();
        // A family that the kernel lacks has no rules.
        let message = Message::new(RTM_GETRULE, 0, body, "list", "the routing rules")
            .tolerating(Errno::EAFNOSUPPORT)
            .tolerating(Errno::EOPNOTSUPP);
        let answers = socket.dump(&message)?;
        let same = answers.iter().filter(|answer| answer.body.first() == Some(&family));
        found.extend(same.filter_map(|answer| parse(&answer.body)));
    }
    Ok(found)
}

fn about(source: IpNetwork, table: u32) -> Vec<u8> {
    let small = u8::try_from(table).unwrap_or(0);
    let header = [family_of(source.ip()), 0, source.prefix(), 0, small, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut attributes = Attributes::after(&header);
    attributes.put(FRA_SRC, &octets(source.ip()));
    if small == 0 {
        attributes.put_u32(FRA_TABLE, table);
    }
    attributes.into_bytes()
}

fn parse(body: &[u8]) -> Option<Rule> {
    let (family, prefix) = (*body.first()?, *body.get(2)?);
    let mut source: IpAddr = unspecified(family);
    let mut rule =
        Rule { source: IpNetwork::new(source, 0).ok()?, table: u32::from(*body.get(4)?), priority: 0 };
    for (kind, value) in iterate(body.get(HEADER..)?) {
        match kind {
            FRA_SRC => source = ip_of(value)?,
            FRA_TABLE => rule.table = u32_of(value)?,
            FRA_PRIORITY => rule.priority = u32_of(value)?,
            _ => {}
        }
    }
    rule.source = IpNetwork::new(source, prefix).ok()?;
    Some(rule)
}

fn words(source: IpNetwork, table: u32) -> String {
    format!("from {source} lookup {table}")
}
