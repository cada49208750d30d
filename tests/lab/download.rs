//! A long download that counts what it gets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Space, eventually};

/// How long more may take to come on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that pours, and a client that counts what it gets, until they are told to end.
pub struct Download {
    got: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    client: Option<std::thread::JoinHandle<Result<(), String>>>,
}

impl Download {
    /// Begins one: the server listens on `bind`, the client connects to `to`.
    pub fn begin(server: &Space, bind: &str, client: &Space, to: &str) -> Self {
        let (got, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let listener = server.listener(bind);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut next = 0u64;
            // The client is the one that ends it: it may be in the middle of a number.
            loop {
                // Numbers, so that nothing can be missing or twice.
                let chunk: Vec<u8> = (next..next + 1024).flat_map(u64::to_be_bytes).collect();
                next += 1024;
                if stream.write_all(&chunk).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut stream = client.in_ns(|| TcpStream::connect(to).unwrap());
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let (counted, ended) = (Arc::clone(&got), Arc::clone(&end));
        let client = std::thread::spawn(move || {
            let mut number = [0; 8];
            let mut expected = 0u64;
            while !ended.load(Ordering::Relaxed) {
                stream.read_exact(&mut number).map_err(|e| format!("after {expected} numbers: {e}"))?;
                if u64::from_be_bytes(number) != expected {
                    return Err(format!("{number:?} in place of {expected}"));
                }
                expected += 1;
                counted.store(expected, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { got, end, client: Some(client) }
    }

    /// Waits until more has come.
    pub fn goes_on(&self, what: &str) {
        let before = self.got.load(Ordering::Relaxed);
        let more = || self.got.load(Ordering::Relaxed) > before + 10_000;
        assert!(eventually(LIMIT, more), "{what}: stuck after {before}");
    }

    /// Ends it; nothing may have been lost, or have come twice.
    pub fn finish(mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.client.take().unwrap().join().unwrap().unwrap();
    }
}
