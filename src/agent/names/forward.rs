//! Asking outside: one name server after the other, sooner where one is slow, until one gives an answer worth having.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::{LONGEST_DATAGRAM, Question, Transport, encode, longest, reply};
use super::cache::CacheKey;
use super::{Names, count};

/// The port of DNS.
const PORT: u16 = 53;
/// After this time the next server is asked as well, and the first answer counts.
const HEDGE: Duration = Duration::from_millis(400);
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them may take: clients ask again after five seconds.
const LIMIT: Duration = Duration::from_millis(4500);

/// What one server said.
struct Heard {
    answer: Message,
    bytes: Vec<u8>,
}

/// The answer to a question of `source`: from what is kept, from a server, or that it failed.
pub(super) async fn answer(names: &Names, source: IpAddr, question: &Question) -> Vec<u8> {
    let failure =
        || encode(&reply(&question.message, ResponseCode::ServFail), &question.message, question.transport);
    let servers = servers(names, question);
    let key = CacheKey::of(&question.message, &servers);
    if let Some(key) = &key
        && let Some(kept) = names.inner.borrow().cache.get(key, &question.message, Instant::now())
    {
        count(&names.counters.cached);
        return encode(&kept, &question.message, question.transport);
    }
    let Some(_place) = names.shares.admit(source, Instant::now()) else {
        count(&names.counters.failed);
        return failure();
    };
    count(&names.counters.forwarded);
    let Some(heard) = ask_all(question, &servers).await else {
        count(&names.counters.failed);
        return failure();
    };
    let Heard { answer, mut bytes } = heard;
    if let Some(key) = key {
        names.inner.borrow_mut().cache.put(key, &answer, &bytes, Instant::now());
    }
    if bytes.len() > longest(&question.message, question.transport) {
        return encode(&answer, &question.message, question.transport);
    }
    // As it came, whatever it holds that is unknown here; only the number is the client's.
    bytes[..2].copy_from_slice(&question.message.metadata.id.to_be_bytes());
    bytes
}

/// Who is to be asked: never ourselves.
fn servers(names: &Names, question: &Question) -> Rc<[IpAddr]> {
    let mut inner = names.inner.borrow_mut();
    let servers = if question.upstreams.is_empty() {
        let (servers, changed) = inner.host.now();
        if changed {
            inner.cache.clear();
        }
        servers
    } else {
        Rc::clone(&question.upstreams)
    };
    if servers.iter().any(|server| inner.table.is_gateway(*server)) {
        return servers.iter().filter(|server| !inner.table.is_gateway(**server)).copied().collect();
    }
    servers
}

/// Asks until one gives an answer that another would not better; `None` where none does.
async fn ask_all(question: &Question, servers: &[IpAddr]) -> Option<Heard> {
    if servers.is_empty() {
        return None;
    }
    let limit = sleep(LIMIT);
    tokio::pin!(limit);
    let mut waiting: VecDeque<(IpAddr, bool)> = servers.iter().map(|server| (*server, true)).collect();
    let mut running = JoinSet::new();
    let message = outgoing(question);
    loop {
        if let Some((server, first)) = waiting.pop_front() {
            let (message, transport) = (message.clone(), question.transport);
            running.spawn_local(async move { (server, first, ask(server, message, transport).await) });
        }
        tokio::select! {
            Some(done) = running.join_next() => match done {
                Ok((_, _, Ok(heard))) if is_final(&heard.answer) => return Some(heard),
                // Silence may be a lost packet: once more. What was refused would be again.
                Ok((server, true, Err(error))) if error.kind() == io::ErrorKind::TimedOut => {
                    waiting.push_back((server, false));
                }
                _ if running.is_empty() && waiting.is_empty() => return None,
                _ => {}
            },
            () = sleep(HEDGE), if !waiting.is_empty() => {}
            () = &mut limit => return None,
            else => return None,
        }
    }
}

/// Whether no other server has to be asked: SERVFAIL, REFUSED and NOTIMP say more of the server than of the name.
fn is_final(answer: &Message) -> bool {
    !matches!(
        answer.metadata.response_code,
        ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp | ResponseCode::FormErr
    )
}

/// The question as it goes out: with no longer an answer asked for than will be passed on.
fn outgoing(question: &Question) -> Message {
    let mut message = question.message.clone();
    if let Some(edns) = &mut message.edns {
        edns.set_max_payload(edns.max_payload().min(LONGEST_DATAGRAM));
    }
    message
}

async fn ask(server: IpAddr, mut message: Message, transport: Transport) -> io::Result<Heard> {
    // Another number for each server, from a generator that cannot be foreseen.
    message.metadata.id = Message::query().metadata.id;
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let to = SocketAddr::new(server, PORT);
    timeout(PATIENCE, async {
        match transport {
            Transport::Udp => ask_udp(to, &message, &bytes).await,
            Transport::Tcp => ask_tcp(to, &message, &bytes).await,
        }
    })
    .await?
}

/// From a port of its own, chosen by the kernel, which lets only this server's datagrams through.
async fn ask_udp(to: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Heard> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(heard) = understood(question, &buffer[..length]) {
            return Ok(heard);
        }
    }
}

async fn ask_tcp(to: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Heard> {
    let mut stream = TcpStream::connect(to).await?;
    let mut framed = u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    understood(question, &buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The answer in these bytes, if it is one to this question. A server that cannot read the question may leave it out.
fn understood(question: &Message, bytes: &[u8]) -> Option<Heard> {
    let answer = Message::from_vec(bytes).ok()?;
    let ours = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries == question.queries || answer.queries.is_empty() && !is_final(&answer));
    ours.then(|| Heard { answer, bytes: bytes.to_vec() })
}
