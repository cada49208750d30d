//! Reading queueing disciplines and filters back.

use nix::errno::Errno;

use crate::model::attributes::{Attributes, find, iterate};
use crate::sys::SysError;
use crate::sys::netlink::{Answer, Message, Socket};

use super::kernel::*;
use super::reading::{text_of, u32_in, u64_of};
use super::tc::{
    ACT_KIND, ACT_OPTIONS, CLSACT_IN, CLSACT_OUT, HEADER, INGRESS_HANDLE, KIND, MIRRED_PARMS, OPTIONS,
    TBF_PARMS, TBF_RATE64, U32_ACT, header,
};

/// A queueing discipline of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Its name: `tbf`, `ingress`, `noqueue`.
    pub kind: String,
    /// Its number, major in the upper half.
    pub handle: u32,
    /// What it hangs on: `0xffffffff` for the root.
    pub parent: u32,
    /// A token bucket's rate, in bytes a second.
    pub rate: Option<u64>,
    /// A token bucket's burst, in ticks of 64 ns at its rate.
    pub buffer: Option<u32>,
    /// A token bucket's limit, in bytes.
    pub limit: Option<u32>,
}

/// A filter that sends incoming packets out through another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// The other link's index.
    pub to: u32,
}

/// The queueing disciplines of a link.
///
/// # Errors
/// As [`Socket::dump`].
pub fn qdiscs(socket: &mut Socket, index: u32) -> Result<Vec<Qdisc>, SysError> {
    let body = Attributes::after(&header(index, 0, 0, 0)).into_bytes();
    let message = Message::new(RTM_GETQDISC, 0, body, "list", "the queueing disciplines");
    let answers = socket.dump(&message)?;
    // The kernel lists those of every link.
    let ours = answers.iter().filter(|answer| u32_in(&answer.body, 4) == Some(index));
    Ok(ours.filter_map(|answer| parse_qdisc(&answer.body)).collect())
}

/// The links whose incoming packets are hooked.
///
/// # Errors
/// As [`Socket::dump`].
pub fn ingress_links(socket: &mut Socket) -> Result<Vec<u32>, SysError> {
    Ok(filtered_links(socket)?.into_iter().filter(|(_, both)| !both).map(|(index, _)| index).collect())
}

/// The links whose packets filters may see, each with whether those that leave are seen too (`clsact`), and not only
/// those that come in (`ingress`).
///
/// # Errors
/// As [`Socket::dump`].
pub fn filtered_links(socket: &mut Socket) -> Result<Vec<(u32, bool)>, SysError> {
    let body = Attributes::after(&header(0, 0, 0, 0)).into_bytes();
    let message = Message::new(RTM_GETQDISC, 0, body, "list", "the queueing disciplines");
    let answers = socket.dump(&message)?;
    let both = |answer: &[u8]| match parse_qdisc(answer)?.kind.as_str() {
        "clsact" => Some(true),
        "ingress" => Some(false),
        _ => None,
    };
    Ok(answers.iter().filter_map(|a| Some((u32_in(&a.body, 4)?, both(&a.body)?))).collect())
}

/// The kinds of the filters (`flower`, `bpf`) that see what comes in by a link of [`filtered_links`], or what leaves by
/// it; each once. Redirections to the links `own` are passed over.
///
/// # Errors
/// As [`Socket::dump`].
pub fn filter_kinds(
    socket: &mut Socket,
    index: u32,
    incoming: bool,
    own: &[u32],
) -> Result<Vec<String>, SysError> {
    let parent = if incoming { CLSACT_IN } else { CLSACT_OUT };
    let mut kinds: Vec<String> = Vec::new();
    for answer in filters(socket, index, parent)? {
        let Some(kind) = answer.body.get(HEADER..).and_then(|all| find(all, KIND)).map(text_of) else {
            continue;
        };
        // A chain or a priority, or a table of u32, in which the rules are numbered from 1.
        let handle = u32_in(&answer.body, 8).unwrap_or(0);
        let is_rule = if kind == "u32" { handle & 0xfff != 0 } else { handle != 0 };
        let is_own = parse_redirect(&answer.body).is_some_and(|redirect| own.contains(&redirect.to));
        if is_rule && !is_own && !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

/// The redirections of what comes in by a link.
///
/// # Errors
/// As [`Socket::dump`].
pub fn redirects(socket: &mut Socket, index: u32) -> Result<Vec<Redirect>, SysError> {
    let answers = filters(socket, index, INGRESS_HANDLE)?;
    Ok(answers.iter().filter_map(|answer| parse_redirect(&answer.body)).collect())
}

/// The filters that hang on a parent of a link; none where it has no such qdisc.
fn filters(socket: &mut Socket, index: u32, parent: u32) -> Result<Vec<Answer>, SysError> {
    let body = Attributes::after(&header(index, 0, parent, 0)).into_bytes();
    let message = Message::new(RTM_GETTFILTER, 0, body, "list", "the filters")
        .tolerating(Errno::EINVAL)
        .tolerating(Errno::ENOENT)
        .tolerating(Errno::ENODEV);
    socket.dump(&message)
}

fn parse_qdisc(body: &[u8]) -> Option<Qdisc> {
    let attributes = body.get(HEADER..)?;
    let kind = find(attributes, KIND).map(text_of)?;
    let options = find(attributes, OPTIONS).filter(|_| kind == "tbf").unwrap_or_default();
    let parameters = find(options, TBF_PARMS).unwrap_or_default();
    let wide = find(options, TBF_RATE64).and_then(u64_of);
    Some(Qdisc {
        kind,
        handle: u32_in(body, 8)?,
        parent: u32_in(body, 12)?,
        rate: wide.or_else(|| u32_in(parameters, 8).map(u64::from)),
        limit: u32_in(parameters, 24),
        buffer: u32_in(parameters, 28),
    })
}

fn parse_redirect(body: &[u8]) -> Option<Redirect> {
    let options = find(body.get(HEADER..)?, OPTIONS)?;
    let actions = find(options, U32_ACT)?;
    let (_, mirred) = iterate(actions)
        .find(|(_, action)| find(action, ACT_KIND).map(text_of).as_deref() == Some("mirred"))?;
    let parameters = find(find(mirred, ACT_OPTIONS)?, MIRRED_PARMS)?;
    Some(Redirect { to: u32_in(parameters, 24)? })
}
