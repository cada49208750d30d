//! Who would notice that the agent was not there for a moment: a process that wants a held port, and clients that ask
//! for a name without a pause.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Space;
use super::dns::{framed, question};

/// How long an answer may take, which the next agent has to read all records for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What they noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    /// How often the port was tried, and the questions asked.
    pub tries: [AtomicUsize; 3],
    /// What should not have been.
    pub gaps: Mutex<Vec<String>>,
}

impl Noticed {
    /// Nothing but that everything went on, many times.
    pub fn must_be_nothing(&self) {
        let gaps = self.gaps.lock().unwrap();
        assert!(gaps.is_empty(), "{} gaps: {:?}", gaps.len(), &gaps[..gaps.len().min(5)]);
        assert!(self.were_at_it(), "they were at it: {:?}", self.tries);
    }

    fn were_at_it(&self) -> bool {
        self.tries.iter().all(|tries| tries.load(Ordering::Relaxed) > 5)
    }
}

/// Runs `body` while a process of the host tries to bind the held `port`, and a container asks the gateway for `name`
/// by UDP and by TCP, all without a pause.
pub fn watched(
    host: &Space,
    asker: &Space,
    gateway: &str,
    (port, name): (u16, &str),
    body: impl FnOnce(),
) -> Noticed {
    let (noticed, over) = (Noticed::default(), AtomicBool::new(false));
    let witness = |which: usize, once: &dyn Fn() -> Result<(), String>| {
        while !over.load(Ordering::Relaxed) {
            if let Err(gap) = once() {
                noticed.gaps.lock().unwrap().push(gap);
            }
            noticed.tries[which].fetch_add(1, Ordering::Relaxed);
            // Two processors are all that some machines have.
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| host.in_ns(|| witness(0, &|| take(port))));
        scope.spawn(|| asker.in_ns(|| witness(1, &|| ask_datagram(gateway, name))));
        scope.spawn(|| asker.in_ns(|| witness(2, &|| ask_stream(gateway, name))));
        // Threads that are waited for must be told, whatever becomes of the body.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        super::eventually(PATIENCE, || noticed.were_at_it());
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    noticed
}

fn take(port: u16) -> Result<(), String> {
    for address in ["0.0.0.0", "[::]", "127.0.0.1"] {
        let at = format!("{address}:{port}");
        if TcpListener::bind(&at).is_ok() {
            return Err(format!("tcp {at} was free"));
        }
    }
    Ok(())
}

fn ask_datagram(gateway: &str, name: &str) -> Result<(), String> {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((gateway, 53))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&question(7, name))?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        std::io::Result::Ok(answer[..length].to_vec())
    };
    judge("udp", &ask().map_err(|error| format!("udp: {error}"))?)
}

fn ask_stream(gateway: &str, name: &str) -> Result<(), String> {
    let ask = || {
        let mut stream = TcpStream::connect((gateway, 53))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&framed(7, name))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    judge("tcp", &ask().map_err(|error| format!("tcp: {error}"))?)
}

/// Whether it is an answer without an error, and with one address.
fn judge(way: &str, answer: &[u8]) -> Result<(), String> {
    let good = answer.len() > 12 && answer[..2] == [0, 7] && answer[3] & 0xf == 0 && answer[6..8] == [0, 1];
    if good { Ok(()) } else { Err(format!("{way}: {answer:?}")) }
}
