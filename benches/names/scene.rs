//! The host under the benchmark: a bridge, containers on it, and the servers side by side.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{self, Call, Running, die, namespace};
use crate::load::{Load, percentile};

/// The network with a name service, and the one without: an ADD that changes a network's rules is another matter.
const NETWORKS: [(&str, &str); 2] = [
    ("bench", r#""dns":{"enabled":true},"ipam":{"type":"host-local","subnet":"10.97.0.0/16"}"#),
    ("plain", r#""ipam":{"type":"host-local","subnet":"10.96.0.0/16"}"#),
];
const OUTSIDE: &str = "127.0.0.2";
const AARDVARK: &str = "/usr/lib/podman/aardvark-dns";
const AARDVARK_PID: &str = "/run/aardvark/aardvark.pid";
/// Where each server listens, on the same bridge.
const OURS: &str = "10.97.0.1";
const AARDVARKS: &str = "10.97.255.1";
const DNSMASQS: &str = "10.97.255.2";

/// A server that is asked.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pid: libc::pid_t,
}

impl Server {
    /// CPU time of the process so far, all its threads', in clock ticks of the kernel's (10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let after = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: u64 = after.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// See the module.
pub(crate) struct Scene {
    pub(crate) servers: Vec<Server>,
    linkspan: String,
    agent: Running,
    others: Vec<Running>,
    client: String,
    evil: String,
}

/// What ADDs cost.
pub(crate) struct Calls {
    pub(crate) plain: Vec<Duration>,
    pub(crate) named: Vec<Duration>,
    /// Of the agent, for 1,000 ADDs and DELs.
    pub(crate) cpu: Duration,
    /// Of the agent, in MiB.
    pub(crate) resident: f64,
}

impl Calls {
    /// Milliseconds between the medians.
    pub(crate) fn difference(&self) -> f64 {
        let ms = |times: &[Duration]| percentile(times, 50.0).as_secs_f64() * 1e3;
        ms(&self.named) - ms(&self.plain)
    }
}

impl Scene {
    pub(crate) fn set(linkspan: &str) -> Self {
        let linkspan =
            Path::new(linkspan).canonicalize().unwrap_or_else(|e| die(&format!("{linkspan}: {e}")));
        let linkspan = linkspan.to_string_lossy().into_owned();
        host::isolate();
        let resolv = "/run/resolv.conf";
        fs::write(resolv, format!("nameserver {OUTSIDE}\n")).unwrap_or_else(|e| die(&e.to_string()));
        host::mount(c"/run/resolv.conf", "/etc/resolv.conf", None, libc::MS_BIND);
        let outside = dnsmasq(OUTSIDE, &["--address=/example.org/203.0.113.7", "--local-ttl=0"]);
        let agent = Call::new(&linkspan, &["linkspan", "agent"]).start();
        patiently("the agent", || Path::new("/run/linkspan/agent.sock").exists());
        let mut scene = Self {
            servers: vec![server("linkspan", OURS, agent.pid())],
            linkspan,
            agent,
            others: vec![outside],
            client: namespace("client"),
            evil: namespace("evil"),
        };
        let addresses: Vec<String> =
            [("front", namespace("front")), ("client", scene.client.clone()), ("evil", scene.evil.clone())]
                .iter()
                .map(|(name, netns)| address(&scene.call("ADD", name, netns, true).run().1))
                .collect();
        scene.beside(&addresses);
        scene
    }

    /// Starts those that we are compared with, where they are installed.
    fn beside(&mut self, addresses: &[String]) {
        for address in [AARDVARKS, DNSMASQS] {
            let words = ["ip", "address", "add", &format!("{address}/32"), "dev", "lks-bench"];
            Call::new("/usr/sbin/ip", &words).run();
        }
        if Path::new(AARDVARK).exists() {
            let line = |(at, address): (usize, &String)| {
                format!("{at:064x} {address}  {}\n", ["front", "client", "evil"][at])
            };
            let lines: String = addresses.iter().enumerate().map(line).collect();
            let written = fs::create_dir_all("/run/aardvark")
                .and_then(|()| fs::write("/run/aardvark/bench", format!("{AARDVARKS}\n{lines}")));
            written.unwrap_or_else(|e| die(&e.to_string()));
            let words = ["aardvark-dns", "--config", "/run/aardvark", "--port", "53", "run"];
            let started = Call::new(AARDVARK, &words).start();
            patiently("aardvark-dns", || Path::new(AARDVARK_PID).exists());
            self.others.push(started);
            self.servers.push(server("aardvark-dns", AARDVARKS, aardvark().unwrap_or_default()));
        } else {
            eprintln!("bench: skipped aardvark-dns: no {AARDVARK}");
        }
        let front = format!("--host-record=front,{}", addresses[0]);
        let dnsmasq = dnsmasq(DNSMASQS, &[&front, &format!("--server={OUTSIDE}")]);
        self.servers.push(server("dnsmasq", DNSMASQS, dnsmasq.pid()));
        self.others.push(dnsmasq);
        thread::sleep(Duration::from_secs(1));
    }

    /// Runs something inside the container that asks.
    pub(crate) fn client<T: Send>(&self, ask: impl FnOnce() -> T + Send) -> T {
        inside(&self.client, ask)
    }

    /// Asks the outside server itself.
    pub(crate) fn direct(&self, count: usize) -> Vec<Duration> {
        Load::new(server("", OUTSIDE, 0).address).one_by_one(count, |n| format!("direct{n}.example.org"))
    }

    /// One container asks calmly while another asks 10,000 times a second.
    pub(crate) fn flooded(&self, long: Duration) -> Vec<Duration> {
        let ours = self.servers[0].address;
        thread::scope(|scope| {
            let evil = scope.spawn(|| inside(&self.evil, || Load::new(ours).flood(10_000, long)));
            let calm = self.client(|| Load::new(ours).calmly("front", long));
            let _ = evil.join();
            calm
        })
    }

    /// ADDs to the network with names and to the one without, in turn.
    pub(crate) fn calls(&self, count: u32) -> Calls {
        let netns = namespace("calls");
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        let mut cpu = Duration::ZERO;
        for n in 0..count {
            for names in if n % 2 == 0 { [true, false] } else { [false, true] } {
                let before = self.cpu();
                let took = self.call("ADD", "calls", &netns, names).run().0;
                self.call("DEL", "calls", &netns, names).run();
                if names {
                    named.push(took);
                    cpu += self.cpu().saturating_sub(before);
                } else {
                    plain.push(took);
                }
            }
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid())).unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        Calls { plain, named, cpu: cpu * 1000 / count, resident: resident.unwrap_or(f64::NAN) / 1024.0 }
    }

    /// CPU time of the agent so far.
    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.agent.pid())).unwrap_or_default();
        Duration::from_nanos(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
    }

    /// Ends every server.
    pub(crate) fn end(&self) {
        for running in self.others.iter().chain([&self.agent]) {
            unsafe { libc::kill(running.pid(), libc::SIGTERM) };
        }
        if let Some(pid) = aardvark() {
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
    }

    fn call(&self, verb: &str, name: &str, netns: &str, names: bool) -> Call {
        let (network, keys) = NETWORKS[usize::from(!names)];
        let configuration =
            format!(r#"{{"cniVersion":"1.1.0","name":"{network}","type":"linkspan",{keys}}}"#);
        Call::new(&self.linkspan, &["linkspan"])
            .variable("CNI_COMMAND", verb)
            .variable("CNI_CONTAINERID", name)
            .variable("CNI_NETNS", netns)
            .variable("CNI_IFNAME", "eth0")
            .variable("CNI_PATH", "/usr/lib/cni")
            .variable("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAME={name}"))
            .stdin(configuration.as_bytes())
    }
}

/// The process that aardvark-dns became: it makes itself a daemon, and writes down which.
fn aardvark() -> Option<libc::pid_t> {
    fs::read_to_string(AARDVARK_PID).ok()?.trim().parse().ok()
}

fn server(name: &'static str, address: &str, pid: libc::pid_t) -> Server {
    let address = format!("{address}:53").parse().unwrap_or_else(|_| die(address));
    Server { name, address, pid }
}

fn dnsmasq(address: &str, options: &[&str]) -> Running {
    let listen = format!("--listen-address={address}");
    let mut words = vec![
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--user=root",
        "--pid-file=",
        "--cache-size=0",
        &listen,
    ];
    words.extend(options);
    Call::new("/usr/sbin/dnsmasq", &words).start()
}

/// The first address of a result.
fn address(result: &str) -> String {
    let after = result.split("\"address\"").nth(1).unwrap_or_else(|| die(result));
    let address = after.split('"').nth(1).and_then(|text| text.split('/').next());
    address.unwrap_or_else(|| die(result)).to_owned()
}

fn inside<T: Send>(netns: &str, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(netns).unwrap_or_else(|e| die(&format!("{netns}: {e}")));
            if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                die(netns);
            }
            what()
        });
        thread.join().unwrap_or_else(|_| die("a client failed"))
    })
}

fn patiently(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > Duration::from_secs(5) {
            die(&format!("{what} does not start"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
