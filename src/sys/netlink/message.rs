//! Netlink messages (kernel `include/uapi/linux/netlink.h`).

use nix::errno::Errno;

use crate::model::attributes;
use crate::sys::SysError;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub(in crate::sys) const ACK: u16 = 0x04;
/// `NLM_F_DUMP_INTR`.
pub(super) const DUMP_INTR: u16 = 0x10;
/// `NLM_F_CAPPED`: the answer holds no more of the request than its header.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow.
const ACK_TLVS: u16 = 0x200;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: it must not exist yet.
pub(in crate::sys) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make it where it is missing.
pub(in crate::sys) const CREATE: u16 = 0x400;

/// `NLMSG_ERROR`.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(super) const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
const ATTR_MSG: u16 = 1;
/// The size of `nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags` besides `NLM_F_REQUEST` and `NLM_F_ACK`, which the socket sets.
    pub flags: u16,
    /// The family's header and its attributes.
    pub body: Vec<u8>,
    /// What is being tried, as a verb phrase for errors: `create the bridge`.
    pub action: &'static str,
    /// On what: `lks-web`.
    pub object: String,
    /// Refusals that are as good as success.
    pub tolerated: Vec<Errno>,
}

impl Message {
    /// A request for which no refusal is tolerated.
    pub fn new(
        kind: u16,
        flags: u16,
        body: Vec<u8>,
        action: &'static str,
        object: impl Into<String>,
    ) -> Self {
        Self { kind, flags, body, action, object: object.into(), tolerated: Vec::new() }
    }

    /// The same request, with one more refusal that is as good as success.
    #[must_use]
    pub fn tolerating(mut self, errno: Errno) -> Self {
        self.tolerated.push(errno);
        self
    }

    /// This request's refusal as an error.
    pub fn error(&self, refusal: Refusal) -> SysError {
        SysError::Refused {
            action: self.action,
            object: self.object.clone(),
            errno: refusal.errno,
            hint: refusal.text,
        }
    }

    pub(super) fn failed(&self, errno: Errno) -> SysError {
        SysError::refused(self.action, &self.object, errno)
    }
}

/// The kernel's no to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its number.
    pub errno: Errno,
    /// Its words (`NLMSGERR_ATTR_MSG`), where there are any.
    pub text: Option<String>,
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `nlmsg_type`.
    pub kind: u16,
    /// What follows `nlmsghdr`.
    pub body: Vec<u8>,
}

/// One received message, still in the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Writes one message behind the others.
pub(in crate::sys) fn encode(into: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
    into.extend_from_slice(&sequence.to_ne_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(body);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// Reads the messages of one datagram. Ends at the first that is torn.
pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let frame = Frame {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    })
}

impl Frame<'_> {
    /// The verdict of an `NLMSG_ERROR` or `NLMSG_DONE`: `None` where it is success.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let code = u32_at(self.body, 0)?.cast_signed();
        if code >= 0 {
            return None;
        }
        let text = (self.flags & ACK_TLVS != 0).then(|| self.text()).flatten();
        Some(Refusal { errno: Errno::from_raw(-code), text })
    }

    /// The words behind an error: they follow the request's header, and the request itself where it was not capped.
    fn text(&self) -> Option<String> {
        let start = if self.kind == DONE {
            4
        } else if self.flags & CAPPED != 0 {
            4 + HEADER
        } else {
            4 + usize::try_from(u32_at(self.body, 4)?).ok()?.next_multiple_of(4)
        };
        let words = attributes::find(self.body.get(start..)?, ATTR_MSG)?;
        Some(String::from_utf8_lossy(words).trim_end_matches(['\0', '.']).to_owned())
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}
