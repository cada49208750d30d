//! A blocking netlink socket.
//!
//! The kernel works through a request inside `sendmsg`, so when that returns every answer is queued. Only the last
//! message of a batch asks for an acknowledgement; refusals come unasked. A batch that succeeds costs two system calls.

mod many;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::message::{self, ACK, Answer, DONE, DUMP, DUMP_INTR, ERROR, Message, Refusal};
use crate::sys::{Netns, SysError};

/// `SOL_NETLINK`.
const SOL_NETLINK: libc::c_int = 270;
/// `NETLINK_ADD_MEMBERSHIP`.
const ADD_MEMBERSHIP: libc::c_int = 1;
/// `NETLINK_CAP_ACK`: answers do not repeat the request.
const CAP_ACK: libc::c_int = 10;
/// `NETLINK_EXT_ACK`: refusals come with words.
const EXT_ACK: libc::c_int = 11;
/// `NETLINK_GET_STRICT_CHK`: the kernel honours the filters of a dump (since Linux 4.20).
const GET_STRICT_CHK: libc::c_int = 12;

/// Messages in one `sendmsg`: even if each is refused, the answers fit the default receive buffer (208 KiB).
const CHUNK: usize = 64;
/// What the kernel fills at most in one datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// How often an interrupted dump is begun again.
const DUMP_TRIES: usize = 5;
/// What a socket's default send buffer (`wmem_default`) surely takes in one datagram.
const DEFAULT_SEND: usize = 160 * 1024;

/// What a dump gave.
struct List<T> {
    answers: Vec<T>,
    /// It changed while it was read.
    torn: bool,
}

/// A netlink protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, queueing (`NETLINK_ROUTE`).
    Route,
    /// Sockets (`NETLINK_SOCK_DIAG`).
    SockDiag,
    /// nf_tables and connection tracking (`NETLINK_NETFILTER`).
    Netfilter,
}

impl Protocol {
    fn number(self) -> libc::c_int {
        match self {
            Self::Route => 0,
            Self::SockDiag => 4,
            Self::Netfilter => 12,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Route => "NETLINK_ROUTE",
            Self::SockDiag => "NETLINK_SOCK_DIAG",
            Self::Netfilter => "NETLINK_NETFILTER",
        }
    }
}

/// A netlink socket. It speaks to the namespace that it was opened in, wherever the thread goes.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    sequence: u32,
    strict: bool,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// Where the kernel lacks the protocol or no descriptor is free.
    pub fn open(protocol: Protocol) -> Result<Self, SysError> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: socket takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol.number()) };
        let fd = Errno::result(fd)
            .map_err(|errno| SysError::refused("open the netlink socket", protocol.name(), errno))?;
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd, protocol, sequence: 0, strict: false, buffer: Vec::new() };
        // Both make errors better and answers smaller; a kernel without them serves as well.
        let _ = socket.set_option(SOL_NETLINK, CAP_ACK, 1);
        let _ = socket.set_option(SOL_NETLINK, EXT_ACK, 1);
        Ok(socket)
    }

    /// Opens a socket in another namespace.
    ///
    /// # Errors
    /// Where the namespace cannot be entered, or as [`Socket::open`].
    pub fn open_in(netns: &Netns, protocol: Protocol) -> Result<Self, SysError> {
        netns.enter(|| Self::open(protocol))?
    }

    /// Sends the messages in order, as many as fit with one system call. The answers have the messages' order; `None` is success.
    /// A refusal does not keep the kernel from the messages that follow.
    ///
    /// # Errors
    /// Where sending or receiving itself fails; the outcome is unknown then.
    pub fn batch(&mut self, messages: &[Message]) -> Result<Vec<Option<Refusal>>, SysError> {
        let mut answers = vec![None; messages.len()];
        for (chunk, slots) in messages.chunks(CHUNK).zip(answers.chunks_mut(CHUNK)) {
            self.exchange(chunk, slots)?;
        }
        Ok(answers)
    }

    /// Sends the messages, and fails with the first refusal that its message does not tolerate.
    ///
    /// # Errors
    /// That refusal, naming its message; or as [`Socket::batch`].
    pub fn transact(&mut self, messages: &[Message]) -> Result<(), SysError> {
        self.transact_told(messages).map(drop)
    }

    /// The same, and gives the places of the messages that were refused as they tolerate.
    ///
    /// # Errors
    /// As [`Socket::transact`].
    pub fn transact_told(&mut self, messages: &[Message]) -> Result<Vec<usize>, SysError> {
        let mut refused = Vec::new();
        for (place, (message, answer)) in messages.iter().zip(self.batch(messages)?).enumerate() {
            match answer {
                Some(refusal) if !message.tolerated.contains(&refusal.errno) => {
                    return Err(message.error(refusal));
                }
                Some(_) => refused.push(place),
                None => {}
            }
        }
        Ok(refused)
    }

    /// Asks for one object. `None` where the message tolerates the refusal.
    ///
    /// # Errors
    /// The refusal, or as [`Socket::batch`].
    pub fn get(&mut self, message: &Message) -> Result<Option<Answer>, SysError> {
        let sequence = self.next_sequence();
        let mut request = Vec::with_capacity(message.body.len() + 32);
        message::encode(&mut request, message.kind, message.flags, sequence, &message.body);
        self.send(&request).map_err(|errno| message.failed(errno))?;
        loop {
            self.receive(0).map_err(|errno| message.failed(errno))?;
            let Some(frame) = message::frames(&self.buffer).find(|f| f.sequence == sequence) else {
                continue;
            };
            if frame.kind != ERROR {
                return Ok(Some(Answer { kind: frame.kind, body: frame.body.to_vec() }));
            }
            return match frame.refusal() {
                Some(refusal) if !message.tolerated.contains(&refusal.errno) => Err(message.error(refusal)),
                _ => Ok(None),
            };
        }
    }

    /// Asks for all objects that the message selects. A dump that changed under the reading is begun again.
    ///
    /// # Errors
    /// [`SysError::Interrupted`] after five such; the refusal, or as [`Socket::batch`].
    pub fn dump(&mut self, message: &Message) -> Result<Vec<Answer>, SysError> {
        self.dump_as(message, |kind, body| Some(Answer { kind, body: body.to_vec() }))
    }

    /// As [`Socket::dump`], with each answer read as it comes, for lists that are long: what `read` gives nothing for is
    /// not kept. Where the dump is begun again, so is the list.
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn dump_as<T>(
        &mut self,
        message: &Message,
        read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SysError> {
        match self.dump_patiently(message, read)? {
            List { torn: false, answers } => Ok(answers),
            List { torn: true, .. } => {
                Err(SysError::Interrupted { action: message.action, object: message.object.clone() })
            }
        }
    }

    /// As [`Socket::dump_as`], for a list that may change all the time and whose length is what matters: where it never
    /// stands still, something that came or went while it was read may be missing or be there twice.
    ///
    /// # Errors
    /// The refusal, or as [`Socket::batch`].
    pub fn dump_roughly<T>(
        &mut self,
        message: &Message,
        read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SysError> {
        Ok(self.dump_patiently(message, read)?.answers)
    }

    /// Reads until the list stands still, a few times.
    fn dump_patiently<T>(
        &mut self,
        message: &Message,
        mut read: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<List<T>, SysError> {
        if self.protocol == Protocol::Route && !self.strict {
            self.strict = true;
            // An older kernel dumps more than was asked for; the callers select again.
            let _ = self.set_option(SOL_NETLINK, GET_STRICT_CHK, 1);
        }
        for _ in 1..DUMP_TRIES {
            let list = self.dump_once(message, &mut read)?;
            if !list.torn {
                return Ok(list);
            }
        }
        self.dump_once(message, &mut read)
    }

    /// One pass over the list.
    fn dump_once<T>(
        &mut self,
        message: &Message,
        read: &mut impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> Result<List<T>, SysError> {
        let sequence = self.next_sequence();
        let mut request = Vec::with_capacity(message.body.len() + 32);
        message::encode(&mut request, message.kind, message.flags | DUMP, sequence, &message.body);
        self.send(&request).map_err(|errno| message.failed(errno))?;
        let mut answers = Vec::new();
        let mut torn = false;
        loop {
            self.receive(0).map_err(|errno| message.failed(errno))?;
            for frame in message::frames(&self.buffer).filter(|f| f.sequence == sequence) {
                torn |= frame.flags & DUMP_INTR != 0;
                if frame.kind != ERROR && frame.kind != DONE {
                    answers.extend(read(frame.kind, frame.body));
                    continue;
                }
                return match frame.refusal() {
                    Some(refusal) if message.tolerated.contains(&refusal.errno) => {
                        Ok(List { answers: Vec::new(), torn: false })
                    }
                    Some(refusal) => Err(message.error(refusal)),
                    None => Ok(List { answers, torn }),
                };
            }
        }
    }

    fn exchange(&mut self, messages: &[Message], answers: &mut [Option<Refusal>]) -> Result<(), SysError> {
        let Some(last) = messages.last() else { return Ok(()) };
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(messages.iter().map(|m| m.body.len() + 20).sum());
        for (at, message) in messages.iter().enumerate() {
            let ack = if at + 1 == messages.len() { ACK } else { 0 };
            let sequence = self.next_sequence();
            message::encode(&mut request, message.kind, message.flags | ack, sequence, &message.body);
        }
        let end = self.sequence;
        self.send(&request).map_err(|errno| last.failed(errno))?;
        loop {
            self.receive(0).map_err(|errno| last.failed(errno))?;
            for frame in message::frames(&self.buffer).filter(|f| f.kind == ERROR) {
                let at = frame.sequence.wrapping_sub(first) as usize;
                if let Some(slot) = answers.get_mut(at) {
                    *slot = frame.refusal();
                }
                if frame.sequence == end {
                    return Ok(());
                }
            }
        }
    }

    /// The number of the socket's network namespace, which no other has until the machine starts anew
    /// (`SO_NETNS_COOKIE`, since Linux 5.14).
    pub fn namespace_cookie(&self) -> Option<u64> {
        const SO_NETNS_COOKIE: libc::c_int = 71;
        let mut cookie = 0u64;
        let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
        let place = (&raw mut cookie).cast();
        // SAFETY: the kernel writes at most `size` bytes of the number, which outlives the call.
        let done =
            unsafe { libc::getsockopt(self.raw(), libc::SOL_SOCKET, SO_NETNS_COOKIE, place, &raw mut size) };
        (done == 0).then_some(cookie)
    }

    /// The number of the next request.
    pub(in crate::sys) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one datagram to the kernel.
    pub(in crate::sys) fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.len() > DEFAULT_SEND {
            self.grow_send_buffer(bytes.len())?;
        }
        loop {
            // SAFETY: the pointer and the length are those of a live slice.
            let sent = unsafe { libc::send(self.raw(), bytes.as_ptr().cast(), bytes.len(), 0) };
            match Errno::result(sent) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Receives one datagram into the buffer. One that does not fit is an error (`EMSGSIZE`), never cut.
    pub(in crate::sys) fn receive(&mut self, flags: libc::c_int) -> Result<(), Errno> {
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        let flags = flags | libc::MSG_TRUNC;
        loop {
            // SAFETY: the pointer and the length are those of the vector's allocation, and the kernel writes no further.
            let got = unsafe { libc::recv(self.raw(), self.buffer.as_mut_ptr().cast(), BUFFER, flags) };
            match Errno::result(got) {
                Ok(length) if length.cast_unsigned() > BUFFER => return Err(Errno::EMSGSIZE),
                Ok(length) => {
                    // SAFETY: the kernel has written that many bytes, which is within the capacity.
                    unsafe { self.buffer.set_len(length.cast_unsigned()) };
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The datagram received last.
    pub(in crate::sys) fn received(&self) -> impl Iterator<Item = (u16, u32, Option<Refusal>, &[u8])> {
        message::frames(&self.buffer).map(|frame| {
            let refusal = if frame.kind == ERROR { frame.refusal() } else { None };
            (frame.kind, frame.sequence, refusal, frame.body)
        })
    }

    /// Makes room for a large datagram, over the administrator's limit where we may.
    fn grow_send_buffer(&self, length: usize) -> Result<(), Errno> {
        let size = i32::try_from(length + 4096).map_err(|_| Errno::EMSGSIZE)?;
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size)
            .or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, size))
    }

    /// Takes a number of its own: without one the kernel's notifications, whose number is 0 as well, pass it by.
    pub(super) fn bind(&self) -> Result<(), Errno> {
        // SAFETY: every field of the address may be zero, which lets the kernel choose.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
        // SAFETY: the pointer and the size are those of a live address.
        let done = unsafe { libc::bind(self.raw(), (&raw const address).cast(), size) };
        Errno::result(done).map(drop)
    }

    /// Joins a group of notifications (`NETLINK_ADD_MEMBERSHIP`).
    pub(super) fn join(&self, group: u32) -> Result<(), Errno> {
        self.set_option(SOL_NETLINK, ADD_MEMBERSHIP, group.cast_signed())
    }

    /// Lets that many bytes wait to be read, over the administrator's limit where we may.
    pub(super) fn queue(&self, size: libc::c_int) {
        let forced = self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size);
        // Without, notifications may be lost, which the kernel says.
        let _ = forced.or_else(|_| self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, size));
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
        let size = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
        // SAFETY: the pointer and the size are those of a live integer.
        let done = unsafe { libc::setsockopt(self.raw(), level, name, (&raw const value).cast(), size) };
        Errno::result(done).map(drop)
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
