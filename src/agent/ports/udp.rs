//! Datagrams, passed on to the container: a socket for each client, for as long as something is said.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::{Counters, Place};

/// The longest datagram there is.
const LONGEST: usize = 65_536;
/// How long nobody may say anything: as in connection tracking (`nf_conntrack_udp_timeout`).
pub(super) const IDLE: Duration = Duration::from_secs(30);

thread_local! {
    /// Room for one datagram: each is passed on before the next is read.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
}

/// What one client and the container say to each other.
struct Session {
    socket: Rc<UdpSocket>,
    last: Rc<Cell<Instant>>,
    back: JoinHandle<()>,
    _place: Place,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.back.abort();
    }
}

/// Serves one port until it is dropped.
pub(super) async fn serve(
    listener: Rc<UdpSocket>,
    target: SocketAddr,
    idle: Duration,
    counters: Rc<Counters>,
) {
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let mut sweep = Instant::now() + idle;
    loop {
        tokio::select! {
            ready = listener.readable() => {
                if ready.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                // Errors are of earlier answers, which their client did not want.
                ROOM.with_borrow_mut(|room| {
                    while let Ok((length, client)) = listener.try_recv_from(room) {
                        let session = match sessions.get(&client) {
                            Some(session) => session,
                            None => match begin(&listener, client, target, &counters) {
                                Ok(Some(session)) => sessions.entry(client).or_insert(session),
                                // Too many, or no port is left: a datagram may always be lost.
                                Ok(None) | Err(_) => continue,
                            },
                        };
                        session.last.set(Instant::now());
                        counters.bytes.set(counters.bytes.get() + length as u64);
                        // Past tokio, which has yet to hear that a new socket can send, and would lose the first.
                        let _ = send(session.socket.as_raw_fd(), &room[..length], MsgFlags::MSG_DONTWAIT);
                    }
                });
            }
            () = sleep_until(sweep) => {
                let now = Instant::now();
                sessions.retain(|_, session| now.duration_since(session.last.get()) < idle);
                sweep = now + idle / 4;
            }
        }
    }
}

fn begin(
    listener: &Rc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
    counters: &Rc<Counters>,
) -> io::Result<Option<Session>> {
    let Some(place) = Counters::place(counters) else { return Ok(None) };
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    let socket = Rc::new(UdpSocket::from_std(socket)?);
    let last = Rc::new(Cell::new(Instant::now()));
    let back = spawn_local(answer(
        Rc::clone(&socket),
        Rc::clone(listener),
        client,
        Rc::clone(&last),
        Rc::clone(counters),
    ));
    Ok(Some(Session { socket, last, back, _place: place }))
}

/// What the container says.
async fn answer(
    socket: Rc<UdpSocket>,
    listener: Rc<UdpSocket>,
    client: SocketAddr,
    last: Rc<Cell<Instant>>,
    counters: Rc<Counters>,
) {
    while socket.readable().await.is_ok() {
        ROOM.with_borrow_mut(|room| {
            loop {
                match socket.try_recv(room) {
                    Ok(length) => {
                        last.set(Instant::now());
                        counters.bytes.set(counters.bytes.get() + length as u64);
                        let _ = listener.try_send_to(&room[..length], client);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Nobody listens in the container: the error is read, and the next datagram tried.
                    Err(_) => {}
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client has its own socket towards the container, and loses it when nothing is said any more.
    #[test]
    fn clients_are_told_apart_and_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let idle = Duration::from_millis(200);
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let bind = || UdpSocket::bind("127.0.0.1:0");
            let (server, listener) = (bind().await.unwrap(), bind().await.unwrap());
            let at = listener.local_addr().unwrap();
            let counters = Rc::new(Counters::default());
            spawn_local(serve(Rc::new(listener), server.local_addr().unwrap(), idle, Rc::clone(&counters)));
            let clients = [bind().await.unwrap(), bind().await.unwrap()];
            let mut seen = Vec::new();
            let mut room = [0; 16];
            for (client, word) in clients.iter().zip([b"a", b"b"]) {
                client.send_to(word, at).await.unwrap();
                let (length, from) = server.recv_from(&mut room).await.unwrap();
                assert_eq!(&room[..length], word);
                seen.push(from);
                server.send_to(word, from).await.unwrap();
                let (length, from) = client.recv_from(&mut room).await.unwrap();
                assert_eq!((&room[..length], from), (&word[..], at), "the answer comes from the port");
            }
            assert_ne!(seen[0], seen[1]);
            assert_eq!(counters.open.get(), 2);
            let begun = Instant::now();
            while counters.open.get() > 0 && begun.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(idle / 4).await;
            }
            assert_eq!(counters.open.get(), 0, "nobody said anything");
        });
    }
}
