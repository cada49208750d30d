//! A host with another host and a container, and connections from the one to the other.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::host::{Call, die, namespace};

/// The host's address towards the other host.
pub(crate) const HOST: &str = "192.0.2.1";
/// The port in the container.
const SERVED: u16 = 80;

/// Namespaces of one host, and a client in the other host that connects when it is asked to.
pub(crate) struct Town {
    /// The path of the host's namespace.
    pub(crate) host: String,
    /// The path of the container's.
    pub(crate) container: String,
    outside: String,
    client: Option<(mpsc::Sender<()>, mpsc::Receiver<f64>)>,
}

/// Runs something in a namespace.
pub(crate) fn inside<T: Send>(path: &str, run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            enter(path);
            run()
        });
        entered.join().unwrap_or_else(|_| die(path))
    })
}

fn enter(path: &str) {
    let file = File::open(path).unwrap_or_else(|_| die(path));
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        die(path);
    }
}

/// Runs a program in a namespace; `words` are split at blanks.
pub(crate) fn command(path: &str, words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    inside(path, || Call::new(&format!("/usr/sbin/{}", words[0]), &words).run().1)
}

impl Town {
    pub(crate) fn new(name: &str) -> Self {
        let [host, container, outside] =
            ["host", "container", "outside"].map(|part| namespace(&format!("{name}-{part}")));
        for space in [&host, &container, &outside] {
            command(space, "ip link set lo up");
        }
        command(&host, "ip link add uplink type veth peer name eth0");
        command(&host, &format!("ip link set eth0 netns {name}-outside"));
        command(&host, &format!("ip address add {HOST}/24 dev uplink"));
        command(&host, "ip link set uplink up");
        command(&outside, "ip address add 192.0.2.2/24 dev eth0");
        command(&outside, "ip link set eth0 up");
        inside(&host, || {
            if std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_err() {
                die("ip_forward");
            }
        });
        Self { host, container, outside, client: None }
    }

    /// Starts the server in the container and the client that goes to a published port; the first connection has to
    /// succeed.
    pub(crate) fn open(mut self, published: u16) -> Self {
        let listener = inside(&self.container, || TcpListener::bind(("0.0.0.0", SERVED)));
        let listener = listener.unwrap_or_else(|error| die(&format!("listen: {error}")));
        // Accepts until the benchmark ends.
        thread::spawn(move || listener.incoming().for_each(drop));
        let (ask, asked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let to: SocketAddr = format!("{HOST}:{published}").parse().unwrap_or_else(|_| die("an address"));
        let outside = self.outside.clone();
        thread::spawn(move || {
            enter(&outside);
            while asked.recv().is_ok() {
                if tell.send(connect(to)).is_err() {
                    break;
                }
            }
        });
        self.client = Some((ask, told));
        for _ in 0..50 {
            self.connect();
        }
        self
    }

    /// Microseconds for one new connection.
    pub(crate) fn connect(&self) -> f64 {
        let Some((ask, told)) = &self.client else { die("the town is not open") };
        match ask.send(()).map(|()| told.recv()) {
            Ok(Ok(time)) => time,
            _ => die("the client is gone"),
        }
    }
}

/// From the first packet until the answer to it. The connection ends by a reset, which leaves no port waiting.
fn connect(to: SocketAddr) -> f64 {
    let begun = Instant::now();
    let stream = TcpStream::connect(to).unwrap_or_else(|error| die(&format!("connect to {to}: {error}")));
    let took = begun.elapsed();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of_val(&linger)).unwrap_or(8);
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    took.as_secs_f64() * 1e6
}
