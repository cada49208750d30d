//! Servers and clients over real sockets. A server answers `TAG PEER LOCAL`: who it is, whom it sees, and the
//! address that it was reached at behind any translation.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Space;

/// How long a client waits for what must come: a first packet that is lost is sent again after 1, 3 and 7 seconds.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client waits for what must not come.
pub const BRIEF: Duration = Duration::from_millis(400);

/// How long a client waits, by whether it must be answered. A busy machine may so take for silence what comes late, where
/// silence is what is expected; never the other way round.
pub fn limit(must: bool) -> Duration {
    if must { PATIENCE } else { BRIEF }
}

/// What a server told about a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The server's tag.
    pub tag: String,
    /// The client as the server sees it.
    pub peer: SocketAddr,
    /// The server's own end.
    pub local: SocketAddr,
}

impl Seen {
    fn parse(text: &str) -> io::Result<Self> {
        let mut words = text.split_whitespace();
        let mut word = || words.next().ok_or_else(|| io::Error::other(format!("not an answer: {text:?}")));
        Ok(Self {
            tag: word()?.to_owned(),
            peer: word()?.parse().map_err(io::Error::other)?,
            local: word()?.parse().map_err(io::Error::other)?,
        })
    }
}

/// A server on a thread; it ends when this is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(mut serve: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                serve();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts on a listener and lets `talk` handle each connection.
fn accept_with(listener: TcpListener, talk: impl Fn(TcpStream, SocketAddr) + Send + 'static) -> Server {
    listener.set_nonblocking(true).unwrap();
    Server::start(move || match listener.accept() {
        Ok((stream, peer)) => {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = stream.set_write_timeout(Some(PATIENCE));
            talk(stream, peer);
        }
        Err(_) => std::thread::sleep(Duration::from_millis(2)),
    })
}

/// A TCP server in a namespace that answers each connection with `TAG PEER LOCAL`.
pub fn tcp_server(space: &Space, bind: &str, tag: &str) -> Server {
    let listener = space.listener(bind);
    let tag = tag.to_owned();
    accept_with(listener, move |mut stream, peer| {
        let local = stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
        let _ = write!(stream, "{tag} {peer} {local}");
    })
}

/// A TCP server that says again what it hears, to several at once.
pub fn echo_server(space: &Space, bind: &str) -> Server {
    let listener = space.listener(bind);
    accept_with(listener, |stream, _| {
        let _ = stream.set_read_timeout(None);
        std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
    })
}

/// A TCP server that counts the bytes of each connection and answers with their number.
pub fn sink_server(space: &Space, bind: &str) -> Server {
    let listener = space.listener(bind);
    accept_with(listener, |mut stream, _| {
        let count = io::copy(&mut stream, &mut io::sink()).unwrap_or(0);
        let _ = write!(stream, "{count}");
    })
}

/// A minimal HTTP server: 200 and a body that is its tag.
pub fn http_server(space: &Space, bind: &str, tag: &str) -> Server {
    let listener = space.listener(bind);
    let tag = tag.to_owned();
    accept_with(listener, move |mut stream, _| {
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                _ => return,
            }
        }
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{tag}",
            tag.len()
        );
    })
}

/// A UDP server in a namespace that answers each datagram with `TAG PEER LOCAL`.
pub fn udp_server(space: &Space, bind: &str, tag: &str) -> Server {
    let socket = space.datagrams(bind);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // Room for what comes while a busy machine has no time for this thread; less where more is not allowed.
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(16 << 20));
    let local = socket.local_addr().unwrap();
    let tag = tag.to_owned();
    Server::start(move || {
        let mut buffer = [0; 64];
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{tag} {peer} {local}").as_bytes(), peer);
        }
    })
}

/// Connects from a namespace and hears what the server saw.
pub fn tcp_within(space: &Space, to: &str, limit: Duration) -> io::Result<Seen> {
    let to: SocketAddr = to.parse().expect("an address and a port");
    space.in_ns(|| {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Seen::parse(&text)
    })
}

/// The same, with patience. A neighbour that did not answer a moment ago is asked again.
fn tcp_patiently(space: &Space, to: &str) -> io::Result<Seen> {
    let end = Instant::now() + PATIENCE;
    loop {
        match tcp_within(space, to, PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable && Instant::now() < end => {}
            answer => return answer,
        }
    }
}

/// The same; must succeed.
#[track_caller]
pub fn tcp(space: &Space, to: &str) -> Seen {
    tcp_patiently(space, to).unwrap_or_else(|e| panic!("tcp from {} to {to}: {e}", space.name()))
}

/// Whether a connection is answered: for what must not be.
pub fn tcp_answers(space: &Space, to: &str) -> bool {
    tcp_within(space, to, BRIEF).is_ok()
}

/// Whether a connection is answered, with patience where it must be.
pub fn tcp_reaches(space: &Space, to: &str, must: bool) -> bool {
    if must { tcp_patiently(space, to).is_ok() } else { tcp_answers(space, to) }
}

/// Says a word to an [`echo_server`] and hears it again.
pub fn echoes(stream: &mut TcpStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

/// `GET /` and the body of the answer.
pub fn http_get(space: &Space, to: &str) -> io::Result<String> {
    let address: SocketAddr = to.parse().expect("an address and a port");
    space.in_ns(|| {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(text)),
        }
    })
}

/// A UDP client with a source port of its own, kept between questions.
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A client in a namespace, bound to `bind`.
    pub fn new(space: &Space, bind: &str) -> Self {
        let socket = space.datagrams(bind);
        Self { socket }
    }

    /// Asks again and again until an answer comes or the limit is over.
    pub fn ask(&self, to: &str, limit: Duration) -> io::Result<Seen> {
        let to: SocketAddr = to.parse().expect("an address and a port");
        let end = Instant::now() + limit;
        self.socket.set_read_timeout(Some(Duration::from_millis(100).min(limit)))?;
        let mut buffer = [0; 256];
        loop {
            let asked = self.socket.send_to(b"who", to).and_then(|_| self.socket.recv_from(&mut buffer));
            match asked {
                Ok((length, _)) => return Seen::parse(&String::from_utf8_lossy(&buffer[..length])),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

fn any_of(to: &str) -> &'static str {
    if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }
}

/// Asks by UDP; must be answered.
#[track_caller]
pub fn udp(space: &Space, to: &str) -> Seen {
    let asked = UdpClient::new(space, any_of(to)).ask(to, PATIENCE);
    asked.unwrap_or_else(|e| panic!("udp from {} to {to}: {e}", space.name()))
}

/// Whether a datagram is answered: for what must not be.
pub fn udp_answers(space: &Space, to: &str) -> bool {
    udp_reaches(space, to, false)
}

/// Whether a datagram is answered, with patience where it must be.
pub fn udp_reaches(space: &Space, to: &str, must: bool) -> bool {
    UdpClient::new(space, any_of(to)).ask(to, limit(must)).is_ok()
}

/// What a limit makes take `due` always takes most of that. It does not take much more, unless a first packet was lost, or
/// the machine is busy: then it is done once more.
#[track_caller]
pub fn is_limited(due: Duration, once: &dyn Fn() -> Duration) {
    let in_time = || {
        let taken = once();
        assert!(taken > due.mul_f64(0.6), "{taken:?} for what should take {due:?}");
        taken < due.mul_f64(2.5)
    };
    assert!(super::eventually(PATIENCE, in_time), "what should take {due:?} takes longer");
}

/// It is faster than a limit would let it be that makes it take `due`; again, unless the machine is busy.
#[track_caller]
pub fn is_free(due: Duration, once: &dyn Fn() -> Duration) {
    assert!(super::eventually(PATIENCE, || once() < due.mul_f64(0.5)), "slow without a limit");
}

/// Sends `bytes` to a [`sink_server`] and returns how long it took until all had arrived.
pub fn pour(space: &Space, to: &str, bytes: usize, limit: Duration) -> io::Result<Duration> {
    let to: SocketAddr = to.parse().expect("an address and a port");
    space.in_ns(|| {
        let start = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(&vec![0; bytes])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text != bytes.to_string() {
            return Err(io::Error::other(format!("{text} of {bytes} bytes arrived")));
        }
        Ok(start.elapsed())
    })
}
