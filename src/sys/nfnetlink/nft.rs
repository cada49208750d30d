//! nf_tables transactions.

use nix::errno::Errno;

use crate::model::attributes::Attributes;
use crate::model::nft::NftMessage;
use crate::sys::netlink::{ACK, Answer, Message, Protocol, Refusal, Socket, encode};
use crate::sys::{Netns, SysError};

use super::header;

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 16;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 17;
/// `NFNL_BATCH_GENID`.
const BATCH_GENERATION: u16 = 1;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;

/// Why a transaction was refused. Nothing of it took effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}{}", .index.map_or("the firewall transaction was refused".to_owned(), |at| format!("message {at} of the firewall transaction was refused")), .errno.desc(), .text.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct NftError {
    /// The first message that was refused, counted from 0; `None` where the transaction was as a whole, or could not be sent.
    pub index: Option<usize>,
    /// The kernel's reason.
    pub errno: Errno,
    /// The kernel's words, where it said any.
    pub text: Option<String>,
}

impl NftError {
    fn whole(errno: Errno) -> Self {
        Self { index: None, errno, text: None }
    }
}

/// A socket to nf_tables of one namespace.
///
/// Closing it after a transaction that deleted something blocks 8 ms and more, while the kernel waits for every
/// CPU to forget what was deleted: [`NftSocket::leave_open`] leaves that to the exit of the process.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
}

impl NftSocket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// Where the kernel lacks netfilter's netlink.
    pub fn open() -> Result<Self, SysError> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Opens a socket in another namespace.
    ///
    /// # Errors
    /// As [`Socket::open_in`].
    pub fn open_in(netns: &Netns) -> Result<Self, SysError> {
        Ok(Self { socket: Socket::open_in(netns, Protocol::Netfilter)? })
    }

    /// Makes all of the changes, or none. One system call to send, and one to hear that it is done.
    ///
    /// # Errors
    /// The first refusal of a message; the kernel has undone the rest.
    pub fn commit(&mut self, messages: &[NftMessage]) -> Result<(), NftError> {
        self.commit_at(None, messages)
    }

    /// The same, where the ruleset is still of that generation (`NFNL_BATCH_GENID`, since Linux 4.10), if one is given.
    ///
    /// # Errors
    /// As [`NftSocket::commit`]; `ERESTART` where somebody has changed the ruleset since.
    pub fn commit_at(&mut self, generation: Option<u32>, messages: &[NftMessage]) -> Result<(), NftError> {
        if messages.is_empty() {
            return Ok(());
        }
        let size = messages.iter().map(|message| message.attributes.len() + 20).sum::<usize>() + 48;
        let mut request = Vec::with_capacity(size);
        let begin = self.socket.next_sequence();
        let mut first = header(0, SUBSYSTEM).to_vec();
        if let Some(generation) = generation {
            let mut attributes = Attributes::new();
            attributes.put(BATCH_GENERATION, &generation.to_be_bytes());
            first.extend(attributes.into_bytes());
        }
        encode(&mut request, BATCH_BEGIN, 0, begin, &first);
        for (at, message) in messages.iter().enumerate() {
            // Refusals come unasked; the last message's acknowledgement says that the transaction was gone through.
            let ack = if at + 1 == messages.len() { ACK } else { 0 };
            let sequence = self.socket.next_sequence();
            encode(&mut request, kind_of(message), message.flags | ack, sequence, &body_of(message));
        }
        let last = self.socket.next_sequence();
        encode(&mut request, BATCH_END, 0, last, &header(0, SUBSYSTEM));
        self.socket.send(&request).map_err(NftError::whole)?;
        self.verdict(begin, messages.len())
    }

    /// Reads what the kernel has queued while it worked through the transaction, so without ever waiting.
    fn verdict(&mut self, begin: u32, count: usize) -> Result<(), NftError> {
        let (mut acknowledged, mut lost) = (false, None);
        let mut refused: Option<NftError> = None;
        while !acknowledged {
            match self.socket.receive(libc::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => break,
                // Too many refusals for the buffer, said once: the first of them are there to be read.
                Err(Errno::ENOBUFS) if lost.is_none() => lost = Some(Errno::ENOBUFS),
                Err(errno) => return Err(refused.unwrap_or_else(|| NftError::whole(errno))),
            }
            for (kind, sequence, refusal, _) in self.socket.received() {
                let at = sequence.wrapping_sub(begin) as usize;
                if kind != ERROR || at > count + 1 {
                    continue;
                }
                acknowledged |= at == count;
                if let Some(Refusal { errno, text }) = refusal.filter(|_| refused.is_none()) {
                    let index = at.checked_sub(1).filter(|index| *index < count);
                    refused = Some(NftError { index, errno, text });
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(NftError::whole(lost.unwrap_or(Errno::EPROTO))),
        }
    }

    /// Asks for one object (`NFT_MSG_GET*`): the attributes of the answer, or `None` where it is not there.
    ///
    /// # Errors
    /// Where the kernel refuses for another reason than that there is none (`ENOENT`).
    pub fn get(&mut self, message: &NftMessage) -> Result<Option<Vec<u8>>, SysError> {
        Ok(self.socket.get(&query(message))?.map(attributes_of))
    }

    /// The same for several objects, with two system calls in all.
    ///
    /// # Errors
    /// As [`NftSocket::get`].
    pub fn get_each(&mut self, messages: &[NftMessage]) -> Result<Vec<Option<Vec<u8>>>, SysError> {
        let queries: Vec<Message> = messages.iter().map(query).collect();
        let answers = self.socket.get_each(&queries)?;
        Ok(answers.into_iter().map(|answer| answer.map(attributes_of)).collect())
    }

    /// Asks for all objects that the message selects; none where what they would be in is not there.
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn dump(&mut self, message: &NftMessage) -> Result<Vec<Vec<u8>>, SysError> {
        Ok(self.socket.dump(&query(message))?.into_iter().map(attributes_of).collect())
    }

    /// Which network namespace the socket speaks to, by the namespace's cookie; `None` before Linux 5.14.
    pub fn namespace(&self) -> Option<u64> {
        self.socket.namespace_cookie()
    }

    /// Leaves the socket to the exit of the process, which a deletion's wait then overlaps with.
    pub fn leave_open(self) {
        std::mem::forget(self);
    }
}

fn kind_of(message: &NftMessage) -> u16 {
    SUBSYSTEM << 8 | u16::from(message.kind)
}

fn body_of(message: &NftMessage) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.attributes.len() + 4);
    body.extend_from_slice(&header(message.family, 0));
    body.extend_from_slice(&message.attributes);
    body
}

fn query(message: &NftMessage) -> Message {
    Message::new(kind_of(message), message.flags, body_of(message), "read", "the firewall")
        .tolerating(Errno::ENOENT)
}

fn attributes_of(answer: Answer) -> Vec<u8> {
    let mut body = answer.body;
    body.drain(..body.len().min(4));
    body
}
