//! Questions, as fast or as slow as wanted, and how long their answers took.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use linkspan::sys::datagrams::{Batch, send};

use crate::host::die;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Somebody who asks one server, from the namespace of the thread that made it.
pub(crate) struct Load {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Load {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap_or_else(|e| die(&format!("socket: {e}")));
        Self { socket, server }
    }

    /// Answers a second, with `window` questions under way all the time.
    pub(crate) fn rate(&self, name: &str, window: u16, long: Duration) -> f64 {
        self.socket.set_nonblocking(true).unwrap_or_else(|e| die(&e.to_string()));
        let ask = |count: usize| {
            let questions: Vec<_> = (0..count).map(|_| (question(7, name), self.server)).collect();
            send(&self.socket, &questions);
        };
        let mut batch = Batch::new(usize::from(window), 1500);
        ask(usize::from(window));
        let (begun, mut answered, mut last) = (Instant::now(), 0_u32, Instant::now());
        while begun.elapsed() < long {
            match batch.receive(&self.socket) {
                Ok(count) => {
                    for (bytes, _) in batch.iter() {
                        check(bytes, name);
                    }
                    answered += u32::try_from(count).unwrap_or(0);
                    last = Instant::now();
                    ask(count);
                }
                // Lost ones are asked for again, all of them: a server that drops is slower for it.
                Err(_) if last.elapsed() > Duration::from_millis(200) => {
                    last = Instant::now();
                    ask(usize::from(window));
                }
                Err(_) => wait(&self.socket),
            }
        }
        f64::from(answered) / begun.elapsed().as_secs_f64()
    }

    /// One question after the other.
    pub(crate) fn one_by_one(&self, count: usize, name: impl Fn(usize) -> String) -> Vec<Duration> {
        (0..count).map(|n| self.one(u16::try_from(n % 60_000).unwrap_or(0), &name(n))).collect()
    }

    /// For a while, one question every two milliseconds.
    pub(crate) fn calmly(&self, name: &str, long: Duration) -> Vec<Duration> {
        let begun = Instant::now();
        let mut times = Vec::new();
        while begun.elapsed() < long {
            times.push(self.one(9, name));
            std::thread::sleep(Duration::from_millis(2));
        }
        times
    }

    /// For a while, `rate` questions a second, whatever becomes of them: half of them local, half not.
    pub(crate) fn flood(&self, rate: u32, long: Duration) {
        self.socket.set_nonblocking(true).unwrap_or_else(|e| die(&e.to_string()));
        let mut batch = Batch::new(64, 1500);
        let (begun, mut sent) = (Instant::now(), 0_u32);
        while begun.elapsed() < long {
            let due = begun.elapsed().as_secs_f64() * f64::from(rate);
            while f64::from(sent) < due {
                let name =
                    if sent % 2 == 0 { "front".to_owned() } else { format!("flood{sent}.example.org") };
                send(&self.socket, &[(question(8, &name), self.server)]);
                sent += 1;
            }
            while batch.receive(&self.socket).is_ok() {}
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn one(&self, id: u16, name: &str) -> Duration {
        self.socket.set_nonblocking(false).unwrap_or_else(|e| die(&e.to_string()));
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|e| die(&e.to_string()));
        let bytes = question(id, name);
        let begun = Instant::now();
        let sent = self.socket.send_to(&bytes, self.server);
        let mut answer = [0; 1500];
        loop {
            let heard = sent
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|_| self.socket.recv_from(&mut answer).map_err(|e| e.to_string()));
            match heard {
                Ok((length, _)) if answer[..2] == id.to_be_bytes() => {
                    check(&answer[..length], name);
                    return begun.elapsed();
                }
                Ok(_) => {}
                Err(error) => die(&format!("{} does not answer {name}: {error}", self.server)),
            }
        }
    }
}

/// Waits for a moment, or until there is something to read.
fn wait(socket: &UdpSocket) {
    use std::os::fd::AsRawFd as _;
    let mut fd = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    unsafe { libc::poll(&raw mut fd, 1, 10) };
}

/// A measurement of wrong answers would be one of something else.
fn check(answer: &[u8], name: &str) {
    if answer.len() < 12 || answer[3] & 15 != 0 || answer[7] == 0 {
        die(&format!("{name}: a wrong answer: {answer:02x?}"));
    }
}

/// A question for an address, as the C library asks it.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// A percentile, of any number of times.
pub(crate) fn percentile(times: &[Duration], percent: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
