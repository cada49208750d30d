//! Name servers outside, and resolvers inside.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Lab, Space, eventually};

/// Gives the lab an `/etc` of its own, a copy, whose `resolv.conf` names these servers.
pub fn private_etc(lab: &mut Lab, servers: &[&str]) {
    let staged = lab.work.path().join("etc");
    std::fs::create_dir(&staged).unwrap();
    lab.cover(staged.to_str().unwrap(), "tmpfs").unwrap();
    let copied = Command::new("cp").args(["-a", "/etc/."]).arg(&staged).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let nothing = None::<&str>;
    nix::mount::mount(Some(&staged), "/etc", nothing, nix::mount::MsFlags::MS_BIND, nothing).unwrap();
    lab.mounted.push("/etc".into());
    name_servers(servers);
}

/// Puts another `resolv.conf` in place, by rename.
pub fn name_servers(servers: &[&str]) {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write("/etc/.resolv.conf.new", text).unwrap();
    std::fs::rename("/etc/.resolv.conf.new", "/etc/resolv.conf").unwrap();
}

/// What dig heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// `NOERROR`, `NXDOMAIN`…; empty where nobody answered.
    pub status: String,
    /// The answers' data, sorted.
    pub data: Vec<String>,
    /// Everything, for messages and for looking closer.
    pub text: String,
}

/// Asks `server` from a namespace: `dig @SERVER QUESTION`, which may hold options.
pub fn dig(space: &Space, server: &str, question: &str) -> Heard {
    let server = format!("@{server}");
    let mut argv = vec!["dig", server.as_str(), "+time=12", "+tries=1", "+nocookie"];
    argv.extend(question.split_whitespace());
    let said = space.exec(&argv);
    let status = said.stdout.lines().find_map(|line| line.split_once("status: ")?.1.split(',').next());
    let answers = said.stdout.split(";; ANSWER SECTION:\n").nth(1).unwrap_or_default();
    let mut data: Vec<String> = answers
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "))
        .collect();
    data.sort();
    Heard { status: status.unwrap_or_default().to_owned(), data, text: said.stdout + &said.stderr }
}

/// Runs a program of the C library's kind in a namespace, with a `resolv.conf` that names this server.
pub fn resolve_by(space: &Space, lab: &Lab, server: &str, argv: &[&str]) -> super::space::Said {
    let file = lab.work.path().join(format!("resolv-{}", lab.next()));
    std::fs::write(&file, format!("nameserver {server}\noptions timeout:3 attempts:2\n")).unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.display());
    let mut all = vec!["unshare", "-m", "sh", "-c", script.as_str(), "sh"];
    all.extend(argv);
    space.exec(&all)
}

/// A question for an address, as bytes.
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// The same as it is sent in a stream (RFC 7766).
pub fn framed(id: u16, name: &str) -> Vec<u8> {
    let asked = question(id, name);
    let mut framed = u16::try_from(asked.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(&asked);
    framed
}

/// A dnsmasq on an address of the host, which knows `*.example.org` and fails on command.
pub struct Upstream {
    child: Child,
    log: PathBuf,
}

impl Upstream {
    /// Starts one that answers everything under `example.org` with `answer`, and more by further options.
    pub fn start(lab: &Lab, address: &str, answer: &str, options: &[&str]) -> Self {
        let log = lab.work.path().join(format!("dnsmasq-{}", lab.next()));
        let child = lab.host.in_ns(|| {
            Command::new("dnsmasq")
                .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
                .args(["--bind-interfaces", "--user=root", "--pid-file=", "--log-queries", "--local-ttl=60"])
                .arg(format!("--listen-address={address}"))
                .arg(format!("--log-facility={}", log.display()))
                .arg(format!("--address=/example.org/{answer}"))
                .args(options)
                .stdin(Stdio::null())
                .spawn()
                .expect("dnsmasq is installed")
        });
        let upstream = Self { child, log };
        let up = eventually(Duration::from_secs(30), || {
            dig(&lab.host, address, "up.example.org A").status == "NOERROR"
        });
        assert!(up, "dnsmasq does not answer at {address}: {}", upstream.log());
        upstream
    }

    /// What it was asked, and what it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often it was asked for a name.
    pub fn asked(&self, name: &str) -> usize {
        self.log().lines().filter(|line| line.contains(&format!("] {name} from "))).count()
    }

    /// Stops it from answering, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name server that answers everything with an error.
pub struct Failing {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Failing {
    /// Starts one at an address of the host: 2 is SERVFAIL, 5 is REFUSED.
    pub fn start(lab: &Lab, address: &str, code: u8) -> Self {
        let socket = lab.host.datagrams(&format!("{address}:53"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut bytes) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                bytes[2] |= 0x80;
                bytes[3] = 0x80 | code;
                let _ = socket.send_to(&bytes[..length], peer);
            }
        });
        Self { stop, asked, thread: Some(thread) }
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A name server in a container that answers every question, by UDP, with one address.
pub struct Answering {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Answering {
    /// Starts one at port 53 of all addresses.
    pub fn start(space: &Space, answer: [u8; 4]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let serve = |bind: &str| {
            let socket = space.datagrams(bind);
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let ended = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut bytes = [0; 1500];
                while !ended.load(Ordering::Relaxed) {
                    let Ok((_, peer)) = socket.recv_from(&mut bytes) else { continue };
                    // The question alone, without what EDNS adds: to the end of its name, its type and class.
                    let end = 12 + bytes[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
                    let mut said = bytes[..end].to_vec();
                    said[2..12].copy_from_slice(&[0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
                    said.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    said.extend(answer);
                    let _ = socket.send_to(&said, peer);
                }
            })
        };
        let threads = vec![serve("[::]:53")];
        Self { stop, threads }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A program that asks the C library of musl: `NAME` prints its addresses. `None` where it cannot be built here.
pub fn musl_resolver(lab: &Lab) -> Option<PathBuf> {
    let (source, program) = (lab.work.path().join("resolve.rs"), lab.work.path().join("resolve"));
    std::fs::write(
        &source,
        "use std::net::ToSocketAddrs;\nfn main() {\n    let name = std::env::args().nth(1).unwrap();\n    \
         match (name.as_str(), 0).to_socket_addrs() {\n        Ok(found) => found.for_each(|a| println!(\"{}\", \
         a.ip())),\n        Err(error) => {\n            eprintln!(\"{error}\");\n            \
         std::process::exit(2);\n        }\n    }\n}\n",
    )
    .unwrap();
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let built =
        Command::new("rustc").args(["--target", &target, "-o"]).args([&program, &source]).output().ok()?;
    (built.status.success() && Path::new(&program).exists()).then_some(program)
}
