//! Questions in streams (RFC 7766): few at a time, each client a few, none for long without saying something.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::answer::{LONGEST_QUESTION, Transport, Verdict};
use super::{forward, log};
use crate::agent::Shared;

/// Streams at the same time, of all clients, and of one. A further one is closed at once.
const STREAMS: usize = 256;
const STREAMS_OF_ONE: usize = 16;
/// How long a stream may wait for its next question.
const IDLE: Duration = Duration::from_secs(5);
/// How long a question may take to arrive, and an answer to leave, once it has begun.
const TRANSFER: Duration = Duration::from_secs(2);

/// How many streams each client has.
#[derive(Debug, Default)]
pub(super) struct Streams(RefCell<HashMap<IpAddr, usize>>);

impl Streams {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    fn admit(self: &Rc<Self>, client: IpAddr) -> Option<Place> {
        let mut streams = self.0.borrow_mut();
        if streams.values().sum::<usize>() >= STREAMS {
            return None;
        }
        let count = streams.entry(client).or_default();
        if *count >= STREAMS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { streams: Rc::clone(self), client })
    }
}

/// One stream's place among them.
struct Place {
    streams: Rc<Streams>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.streams.0.borrow_mut();
        if let Some(count) = streams.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.client);
            }
        }
    }
}

/// Serves a listener until it is dropped.
pub(super) async fn serve(shared: Rc<Shared>, gateway: IpAddr, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(place) = shared.services.names.streams.admit(peer.ip()) else { continue };
                let shared = Rc::clone(&shared);
                spawn_local(async move {
                    let _place = place;
                    // Whoever hangs up, or is too slow, has no further claim.
                    let _ = converse(&shared, gateway, stream, peer.ip()).await;
                });
            }
            Err(error) => {
                log::warn(&format!("cannot accept at {gateway}: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(
    shared: &Rc<Shared>,
    gateway: IpAddr,
    mut stream: TcpStream,
    peer: IpAddr,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let names = &shared.services.names;
    loop {
        // The first byte may take its time, the rest may not.
        let first = timeout(IDLE, stream.read_u8()).await??;
        let question = timeout(TRANSFER, read(&mut stream, first)).await??;
        let answer = match names.judge((peer.to_canonical(), gateway), &question, Transport::Tcp) {
            Verdict::Nothing => return Ok(()),
            Verdict::Answer(answer) | Verdict::Refusal(answer) => answer,
            Verdict::Outside(question) => forward::answer(names, peer, &question).await,
        };
        let mut framed = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(TRANSFER, stream.write_all(&framed)).await??;
        if names.stopped.get() {
            // What changes from now on is known to the agent after this one only: its further questions are for that.
            return Ok(());
        }
    }
}

/// The question whose length begins with `first`.
async fn read(stream: &mut TcpStream, first: u8) -> io::Result<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([first, stream.read_u8().await?]));
    if length > LONGEST_QUESTION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
