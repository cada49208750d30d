//! Many questions at the price of one: one system call to ask, one to hear every answer.

use nix::errno::Errno;

use super::Socket;
use crate::sys::SysError;
use crate::sys::netlink::message::{self, Answer, ERROR, Message};

/// Room for one answer: a chain or a table is a hundred bytes and some, and every page of memory that is touched costs
/// more than the answer. What is longer is asked for once more, alone.
const ANSWER: usize = 512;
/// Questions in one `sendmsg`.
const CHUNK: usize = 32;

/// What has come of one question.
enum Heard {
    Nothing,
    /// An answer that is longer than the room for it.
    Part,
    /// The answer; `None` for a refusal that is tolerated.
    All(Option<Answer>),
}

impl Socket {
    /// Asks for one object with each message. The answers have the messages' order; `None` where a message tolerates
    /// its refusal.
    ///
    /// # Errors
    /// The first refusal that is not tolerated, or a failure of the socket.
    pub fn get_each(&mut self, messages: &[Message]) -> Result<Vec<Option<Answer>>, SysError> {
        let mut answers = Vec::with_capacity(messages.len());
        for chunk in messages.chunks(CHUNK) {
            self.get_chunk(chunk, &mut answers)?;
        }
        Ok(answers)
    }

    fn get_chunk(&mut self, messages: &[Message], into: &mut Vec<Option<Answer>>) -> Result<(), SysError> {
        let Some(last) = messages.last() else { return Ok(()) };
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(messages.iter().map(|m| m.body.len() + 20).sum());
        for message in messages {
            let sequence = self.next_sequence();
            message::encode(&mut request, message.kind, message.flags, sequence, &message.body);
        }
        self.send(&request).map_err(|errno| last.failed(errno))?;
        let mut found: Vec<Heard> = messages.iter().map(|_| Heard::Nothing).collect();
        while found.iter().any(|heard| matches!(heard, Heard::Nothing)) {
            let datagrams = self.receive_many(messages.len()).map_err(|errno| last.failed(errno))?;
            for datagram in datagrams {
                if datagram.len() >= ANSWER
                    && let Some(sequence) = message::u32_at(&datagram, 8)
                    && let Some(slot) = found.get_mut(sequence.wrapping_sub(first) as usize)
                {
                    *slot = Heard::Part;
                    continue;
                }
                for frame in message::frames(&datagram) {
                    let at = frame.sequence.wrapping_sub(first) as usize;
                    let (Some(slot), Some(message)) = (found.get_mut(at), messages.get(at)) else { continue };
                    *slot = if frame.kind != ERROR {
                        Heard::All(Some(Answer { kind: frame.kind, body: frame.body.to_vec() }))
                    } else {
                        match frame.refusal() {
                            Some(refusal) if !message.tolerated.contains(&refusal.errno) => {
                                return Err(message.error(refusal));
                            }
                            _ => Heard::All(None),
                        }
                    };
                }
            }
        }
        for (message, heard) in messages.iter().zip(found) {
            into.push(match heard {
                Heard::All(answer) => answer,
                Heard::Part | Heard::Nothing => self.get(message)?,
            });
        }
        Ok(())
    }

    /// Up to `count` datagrams that the kernel has queued, each cut to [`ANSWER`] bytes: it works through requests inside
    /// `sendmsg`, so that all are there by now. None being there is `EAGAIN`.
    fn receive_many(&self, count: usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut buffers = vec![vec![0u8; ANSWER]; count];
        let mut vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: ANSWER })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all zeroes is a valid header: no name, no vectors, no control data.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let length = libc::c_uint::try_from(count).map_err(|_| Errno::EINVAL)?;
        let got = loop {
            // SAFETY: `length` headers, each with one vector over a buffer that outlives the call; no deadline.
            let got = unsafe {
                libc::recvmmsg(
                    self.raw(),
                    headers.as_mut_ptr(),
                    length,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            match Errno::result(got) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let got = usize::try_from(got).unwrap_or(0);
        for (buffer, header) in buffers.iter_mut().zip(&headers).take(got) {
            // Of one that was cut, its part is all of the buffer.
            buffer.truncate(header.msg_len as usize);
        }
        buffers.truncate(got);
        Ok(buffers)
    }
}
