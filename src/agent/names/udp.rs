//! Questions in datagrams: as many as wait are read, judged and answered together.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;

use super::answer::{LONGEST_QUESTION, Question, Transport, Verdict};
use super::{forward, log};
use crate::agent::Shared;
use crate::sys::datagrams::{self, Batch};
use crate::sys::ready::Ready;

/// Datagrams that are read together.
const TOGETHER: usize = 128;
/// Room for datagrams that wait in the kernel, in bytes of its memory: some five thousand questions.
pub(super) const WAITING: usize = 4 << 20;
/// From this part of it on, whoever asks most is answered least: what would be lost is lost by who causes it.
const CROWDED: f64 = 0.2;
/// How many of those that are read together one client may have then.
const OF_ONE: u32 = 8;

/// Room for the datagrams that are being answered, one for all listeners: each is answered before another is read.
#[derive(Debug)]
pub(super) struct Room(RefCell<Batch>);

impl Default for Room {
    fn default() -> Self {
        // One byte more than a question may have shows that it has more.
        Self(RefCell::new(Batch::new(TOGETHER, LONGEST_QUESTION + 1)))
    }
}

/// Serves a listener until it is dropped.
pub(super) async fn serve(shared: Rc<Shared>, gateway: IpAddr, socket: Rc<OwnedFd>) {
    let ready = match Ready::of(&*socket) {
        Ok(ready) => ready,
        Err(error) => return log::warn(&format!("cannot wait for questions at {gateway}: {error}")),
    };
    loop {
        match ready.reading(|| serve_waiting(&shared, gateway, &socket)).await {
            // More may wait: the others have their turn first.
            Ok(TOGETHER) => tokio::task::yield_now().await,
            Ok(_) => {}
            // What is said of a datagram that we sent (ICMP) is no fault of the socket's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                log::warn(&format!("cannot read questions at {gateway}: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn serve_waiting(shared: &Rc<Shared>, gateway: IpAddr, socket: &Rc<OwnedFd>) -> io::Result<usize> {
    let names = &shared.services.names;
    let mut batch = names.room.0.borrow_mut();
    let received = batch.receive(&**socket)?;
    let mut answers: Vec<(Vec<u8>, SocketAddr)> = Vec::with_capacity(received);
    let mut crowd = (received == TOGETHER && datagrams::fullness(&**socket) > CROWDED).then(Crowd::default);
    for (bytes, peer) in batch.iter() {
        if crowd.as_mut().is_some_and(|crowd| crowd.count(peer.ip()) > OF_ONE) {
            continue;
        }
        match names.judge((peer.ip().to_canonical(), gateway), bytes, Transport::Udp) {
            Verdict::Nothing => {}
            Verdict::Answer(answer) | Verdict::Refusal(answer) => answers.push((answer, peer)),
            Verdict::Outside(question) => {
                spawn_local(pass_on(Rc::clone(shared), Rc::clone(socket), peer, question));
            }
        }
    }
    datagrams::send(&**socket, &answers);
    Ok(received)
}

async fn pass_on(shared: Rc<Shared>, socket: Rc<OwnedFd>, peer: SocketAddr, question: Box<Question>) {
    let answer = forward::answer(&shared.services.names, peer.ip(), &question).await;
    datagrams::send(&*socket, &[(answer, peer)]);
}

/// How often each client asks, among those that are read together.
#[derive(Debug, Default)]
struct Crowd(Vec<(IpAddr, u32)>);

impl Crowd {
    fn count(&mut self, client: IpAddr) -> u32 {
        match self.0.iter_mut().find(|(known, _)| *known == client) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.0.push((client, 1));
                1
            }
        }
    }
}
