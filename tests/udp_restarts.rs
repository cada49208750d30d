//! A container behind a UDP port that is replaced again and again while its clients keep sending.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::backends::{BACKENDS, choose};
use lab::plugin::dual_stack;
use lab::talk::{PATIENCE, udp_server};
use lab::{Lab, Space};
use serde_json::json;

/// A client that never stops sending on one flow, and remembers who answered last.
struct Stream {
    stop: Arc<AtomicBool>,
    last: Arc<Mutex<String>>,
    answers: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stream {
    fn start(space: &Space, from: &str, to: &str) -> Self {
        let socket = space.datagrams(from);
        socket.set_nonblocking(true).unwrap();
        let to: std::net::SocketAddr = to.parse().unwrap();
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
        let answers = Arc::new(AtomicU64::new(0));
        let (asked, heard, counted) = (Arc::clone(&stop), Arc::clone(&last), Arc::clone(&answers));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while !asked.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"who", to);
                while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    text.split_whitespace().next().unwrap_or_default().clone_into(&mut heard.lock().unwrap());
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                // Often enough to fall between any two steps, and not so often that a queue runs over where the
                // machine is busy with other things.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, last, answers, thread: Some(thread) }
    }

    /// Whether `who` answers this flow before long.
    fn hears(&self, who: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        while *self.last.lock().unwrap() != who {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One packet, one answer.
fn ask_once(socket: &UdpSocket, to: &str) -> std::io::Result<String> {
    let mut buffer = [0; 256];
    socket.send_to(b"who", to)?;
    let (length, _) = socket.recv_from(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn each_replacement_answers_the_first_packet(backend: &str) {
    let Some(mut lab) = Lab::new() else { return };
    let outside = lab.outside();
    let Some(kind) = choose(&mut lab, backend) else { return };
    let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
    // Two namespaces take turns, so that each replacement has another server than the one before.
    let containers = [lab.container("even"), lab.container("odd")];
    let _servers =
        [udp_server(&containers[0], "0.0.0.0:53", "even"), udp_server(&containers[1], "0.0.0.0:53", "odd")];
    let (single, ranged) = ("192.0.2.1:5353", "192.0.2.1:6005");
    let ports = ["5353:53/udp", "6000-6010:48-58/udp"];
    let calls = |round: usize| network.on(&containers[round % 2]).id(&format!("c{round}")).publish(&ports);
    let mut result = calls(0).add().ok();
    // Clients that never stop: their flows are there whenever rules change, on every CPU.
    let streams = [
        Stream::start(&outside, "0.0.0.0:4000", single),
        Stream::start(&outside, "0.0.0.0:4001", ranged),
        Stream::start(&lab.host, "0.0.0.0:4002", single),
    ];
    let probes = [(single, "0.0.0.0:4010"), (ranged, "0.0.0.0:4011")].map(|(to, from)| {
        let socket = outside.datagrams(from);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (to, socket)
    });
    let mut before = 0;
    for round in 1..=100 {
        let name = ["even", "odd"][round % 2];
        calls(round - 1).prev(&result).del().ok();
        result = calls(round).add().ok();
        for (to, probe) in &probes {
            let answer = ask_once(probe, to).unwrap_or_else(|e| panic!("round {round}: {to}: {e}"));
            assert_eq!(answer, name, "round {round}: {to}");
        }
        for (at, stream) in streams.iter().enumerate() {
            assert!(stream.hears(name), "round {round}: stream {at} hears {}", stream.last.lock().unwrap());
        }
        let now: u64 = streams.iter().map(|stream| stream.answers.load(Ordering::Relaxed)).sum();
        assert!(now > before, "round {round}: no traffic");
        before = now;
    }
}

#[test]
fn on_nftables() {
    each_replacement_answers_the_first_packet(BACKENDS[0]);
}

#[test]
fn on_iptables_nft() {
    each_replacement_answers_the_first_packet(BACKENDS[1]);
}

#[test]
fn on_iptables_legacy() {
    each_replacement_answers_the_first_packet(BACKENDS[2]);
}
