//! The floor of an ADD and a DEL: the kernel messages and files of an attachment with one published port, and nothing
//! else. No parsing, no choice, no check, no undo: every value is fixed or comes from the number on the command line.
//! `make bench` divides linkspan's time by this program's. So the messages here have to stay those of the real plan:
//! when the plan learns to do with fewer, this program has to learn it too, or the ratio flatters us.
//!
//! ```text
//! floor setup          bridge floor0 and table inet floor, once per network namespace; nothing: only start
//! floor add NETNS N    attach NETNS as container number N; a configuration on stdin is read and ignored
//! floor del N          detach it; del-group: by the group of the doomed, see `delete_by_group`
//! ```

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
#![allow(clippy::expect_used, reason = "what is expected here is fixed by the lines around it")]

#[path = "floor/files.rs"]
mod files;

use std::ffi::CString;
use std::{env, fs, mem, process, ptr};

use files::{lock, open, read_stdin, unlink, write};

const BRIDGE: &str = "floor0";
const TABLE: &str = "floor";
const MAP: &str = "ports";
const LEASES: &str = "/var/lib/cni/floor";
const RECORDS: &str = "/run/floor";
/// The index of `eth0`: high enough to be free in a fresh namespace, where sit0 and tunl0 take the low ones.
const CONTAINER_INDEX: u32 = 10_000;
/// Host ends get `HOST_INDEX + N`, so no reply has to be awaited to learn an index.
const HOST_INDEX: u32 = 2_000_000;
/// Of the bridge and of all its ports: an entry of its own in the bridge's table for each would cost time.
const HOST_MAC: [u8; 6] = [0x02, 0xf1, 0, 0, 0, 1];
const DOOMED_GROUP: u32 = 0x6c73_0001;

const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16 | ACK;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

fn main() {
    let args: Vec<String> = env::args().collect();
    let number =
        |at: usize| args.get(at).and_then(|s| s.parse().ok()).unwrap_or_else(|| die("number expected"));
    match args.get(1).map(String::as_str) {
        Some("setup") => setup(),
        Some("add") if args.len() == 4 => add(&args[2], number(3)),
        Some("del") => del(number(2), delete_one),
        Some("del-group") => del(number(2), delete_by_group),
        Some("nothing") => {}
        _ => die("usage: floor setup | add NETNS N | del N | del-group N | nothing"),
    }
}

fn die(what: &str) -> ! {
    eprintln!("floor: {what}: {}", std::io::Error::last_os_error());
    process::exit(1)
}

fn setup() {
    let route = socket(libc::NETLINK_ROUTE);
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWLINK, CREATE, &link(0, true));
    batch.text(libc::IFLA_IFNAME, BRIDGE);
    batch.attribute(libc::IFLA_ADDRESS, &HOST_MAC);
    batch.nest(libc::IFLA_LINKINFO, |b| {
        b.text(libc::IFLA_INFO_KIND, "bridge");
        b.nest(2, |b| b.attribute(23, &[0])); // IFLA_INFO_DATA, IFLA_BR_MCAST_SNOOPING
    });
    send(route, batch, 1);
    let bridge = index_of(route, BRIDGE);
    let mut batch = Batch::default();
    address(&mut batch, bridge, [10, 99, 0, 1]);
    send(route, batch, 1);

    // `nft` is slow and that does not matter here: setup is not timed.
    let map = format!(
        "add map inet {TABLE} {MAP} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}"
    );
    let done = process::Command::new("nft").arg(format!("add table inet {TABLE}; {map}")).status();
    if !done.is_ok_and(|s| s.success()) {
        die("nft");
    }
    if fs::create_dir_all(LEASES).and_then(|()| fs::create_dir_all(RECORDS)).is_err() {
        die("directories");
    }
}

fn add(netns: &str, n: u32) {
    let config = read_stdin();
    lock(&format!("{LEASES}/lock"));
    write(&format!("{LEASES}/{}", text(ip(n))), b"floor\r\neth0", libc::O_EXCL);
    write(&format!("{RECORDS}/{n}"), &config, libc::O_EXCL);

    let route = socket(libc::NETLINK_ROUTE);
    let filter = socket(libc::NETLINK_NETFILTER);
    let target = open(netns, libc::O_RDONLY);
    let bridge = index_of(route, BRIDGE);
    send(route, veth(n, bridge, target), 2);
    no_ipv6(n);
    // A socket stays in the namespace that it was opened in. The host's two are open, so nothing has to come back.
    if unsafe { libc::setns(target, libc::CLONE_NEWNET) } != 0 {
        die("setns");
    }
    let inside = socket(libc::NETLINK_ROUTE);

    send(inside, container(n), 5);
    // The kernel notices the carrier of the host end in a worker of its own, and until then the bridge does not forward.
    // Whoever asks for it makes it notice now.
    notice_carrier(route, n);
    send(filter, element(libc::NFT_MSG_NEWSETELEM as u16, CREATE, n), 1);
    println!(
        "{{\"cniVersion\":\"1.0.0\",\"interfaces\":[{{\"name\":\"floor0\"}},{{\"name\":\"fl{n}\"}},{{\"name\":\"eth0\",\
         \"sandbox\":\"{netns}\"}}],\"ips\":[{{\"interface\":2,\"address\":\"{}/16\",\"gateway\":\"10.99.0.1\"}}]}}",
        text(ip(n))
    );
}

fn del(n: u32, delete_link: fn(i32, u32)) {
    read_stdin();
    // Firewall first. Its socket stays open until exit: closing it waits for the kernel to destroy what was deleted,
    // and by exit that has happened during the wait of the link.
    let filter = socket(libc::NETLINK_NETFILTER);
    send(filter, element(libc::NFT_MSG_DELSETELEM as u16, ACK, n), 1);
    delete_link(socket(libc::NETLINK_ROUTE), n);
    lock(&format!("{LEASES}/lock"));
    unlink(&format!("{LEASES}/{}", text(ip(n))));
    unlink(&format!("{RECORDS}/{n}"));
}

fn delete_one(route: i32, n: u32) {
    let mut batch = Batch::default();
    batch.message(libc::RTM_DELLINK, ACK, &link(HOST_INDEX + n, false));
    send(route, batch, 1);
}

/// Group commit: mark the link as doomed, queue for a file lock, and delete all that is marked, unless whoever held the
/// lock before has taken our link along. Most of a deletion is a wait of the kernel, which links of one message share.
/// The queue has to be a file lock: at the kernel's own lock a process that has marked goes on to delete, alone.
fn delete_by_group(route: i32, n: u32) {
    let mut batch = Batch::default();
    batch.message(libc::RTM_SETLINK, ACK, &link(HOST_INDEX + n, false));
    batch.number(libc::IFLA_GROUP, DOOMED_GROUP);
    send(route, batch, 1);
    lock(&format!("{RECORDS}/queue"));
    let name = CString::new(format!("fl{n}")).expect("no NUL in a name");
    if unsafe { libc::if_nametoindex(name.as_ptr()) } == 0 {
        return;
    }
    let mut batch = Batch::default();
    batch.message(libc::RTM_DELLINK, ACK, &link(0, false));
    batch.number(libc::IFLA_GROUP, DOOMED_GROUP);
    send(route, batch, 1);
}

// ---------------------------------------------------------------- the messages

/// Create, master and up in one message; the peer appears directly in the container and is never moved. Then hairpin,
/// which the kernel takes only of a port that exists.
fn veth(n: u32, bridge: u32, target: i32) -> Batch {
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWLINK, CREATE, &link(HOST_INDEX + n, true));
    end_of_pair(&mut batch, &format!("fl{n}"), HOST_MAC);
    batch.number(libc::IFLA_MASTER, bridge);
    batch.nest(libc::IFLA_LINKINFO, |b| {
        b.text(libc::IFLA_INFO_KIND, "veth");
        b.nest(libc::IFLA_INFO_DATA, |b| {
            b.nest(1 /* VETH_INFO_PEER */, |b| {
                b.bytes.extend_from_slice(&link(CONTAINER_INDEX, false));
                end_of_pair(b, "eth0", [0x02, 0xf2, 0, 0, (n >> 8) as u8, n as u8]);
                b.number(libc::IFLA_NET_NS_FD, target as u32);
            });
        });
    });
    // Hairpin. NEWLINK without NLM_F_CREATE: SETLINK acknowledges the same attributes and ignores them.
    let [kind, data, hairpin] = [4, 5, 4]; // IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MODE
    batch.message(libc::RTM_NEWLINK, ACK, &link(HOST_INDEX + n, false));
    batch.nest(libc::IFLA_LINKINFO, |b| {
        b.text(kind, "bridge");
        b.nest(data, |b| b.attribute(hairpin, &[1]));
    });
    batch
}

fn notice_carrier(route: i32, n: u32) {
    let mut asked = [0x0au32, 0]; // ETHTOOL_GLINK
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(format!("fl{n}").bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = asked.as_mut_ptr().cast();
    let siocethtool = 0x8946;
    if unsafe { libc::ioctl(route, siocethtool, &request) } != 0 || asked[1] == 0 {
        die("carrier");
    }
}

/// A port has no use for IPv6 of its own, which costs more with every route of the host.
fn no_ipv6(n: u32) {
    if std::fs::write(format!("/proc/sys/net/ipv6/conf/fl{n}/disable_ipv6"), "1").is_err() {
        die("disable_ipv6");
    }
}

/// No link-local address: its making is multicast, which a bridge copies to all the other containers.
fn no_link_local(batch: &mut Batch, index: u32) {
    let (mode, none) = (8, 1u8); // IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
    batch.message(libc::RTM_SETLINK, ACK, &link(index, false));
    batch.nest(libc::IFLA_AF_SPEC, |b| {
        b.nest(libc::AF_INET6 as u16, |b| b.attribute(mode, &[none]));
    });
}

fn end_of_pair(batch: &mut Batch, name: &str, mac: [u8; 6]) {
    batch.text(libc::IFLA_IFNAME, name);
    batch.attribute(libc::IFLA_ADDRESS, &mac);
    // One queue each: the default is one for every CPU, and each costs time.
    batch.number(libc::IFLA_NUM_TX_QUEUES, 1);
    batch.number(libc::IFLA_NUM_RX_QUEUES, 1);
}

/// Address, no other, `eth0` up, `lo` up, default route. The route comes last: its gateway is reachable only through the others.
fn container(n: u32) -> Batch {
    let mut batch = Batch::default();
    address(&mut batch, CONTAINER_INDEX, ip(n));
    no_link_local(&mut batch, CONTAINER_INDEX);
    batch.message(libc::RTM_NEWLINK, ACK, &link(CONTAINER_INDEX, true));
    batch.message(libc::RTM_NEWLINK, ACK, &link(1, true));
    let (table, protocol, scope, unicast) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, 0, 1);
    batch.message(libc::RTM_NEWROUTE, CREATE, &[2, 0, 0, 0, table, protocol, scope, unicast, 0, 0, 0, 0]);
    batch.attribute(libc::RTA_GATEWAY, &[10, 99, 0, 1]);
    batch.number(libc::RTA_OIF, CONTAINER_INDEX);
    batch
}

/// One transaction with one element: tcp port 20000 + n -> the container's port 80.
fn element(kind: u16, flags: u16, n: u32) -> Batch {
    // libc lacks NFTA_SET_ELEM_LIST_{TABLE,SET,ELEMENTS} and NFTA_SET_ELEM_{KEY,DATA}.
    let [table, set, elements, key_nest, data_nest]: [u16; 5] = [1, 2, 3 | NESTED, 1 | NESTED, 2 | NESTED];
    let port = (20_000 + n as u16).to_be_bytes();
    let key = [6, 0, 0, 0, port[0], port[1], 0, 0];
    let [a, b, c, d] = ip(n);
    let value = [a, b, c, d, 0, 80, 0, 0];
    let edge = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
    let mut batch = Batch::default();
    batch.message(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &edge);
    let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind;
    batch.message(kind, flags, &[libc::NFPROTO_INET as u8, 0, 0, 0]);
    batch.text(table, TABLE);
    batch.text(set, MAP);
    batch.nest(elements, |b| {
        b.nest(1 | NESTED, |b| {
            b.nest(key_nest, |b| b.attribute(1, &key));
            b.nest(data_nest, |b| b.attribute(1, &value));
        });
    });
    batch.message(libc::NFNL_MSG_BATCH_END as u16, 0, &edge);
    batch
}

fn address(batch: &mut Batch, index: u32, ip: [u8; 4]) {
    let [a, b, c, d] = index.to_ne_bytes();
    batch.message(libc::RTM_NEWADDR, CREATE, &[2, 16, 0, 0, a, b, c, d]);
    batch.attribute(libc::IFA_LOCAL, &ip);
    batch.attribute(libc::IFA_ADDRESS, &ip);
}

/// `struct ifinfomsg` for an index; `up` sets IFF_UP and leaves the other flags alone.
fn link(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8] = up as u8;
    header[12] = up as u8;
    header
}

fn ip(n: u32) -> [u8; 4] {
    [10, 99, ((n + 2) >> 8) as u8, (n + 2) as u8]
}

fn text([a, b, c, d]: [u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}

// ---------------------------------------------------------------- netlink

/// Messages that leave in one system call.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    last: usize,
    sequence: u32,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.close();
        self.last = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(body);
    }

    fn close(&mut self) {
        let length = (self.bytes.len() - self.last) as u32;
        if self.sequence > 0 {
            self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |b| b.bytes.extend_from_slice(value));
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |b| {
            b.bytes.extend_from_slice(value.as_bytes());
            b.bytes.push(0);
        });
    }
}

fn socket(protocol: i32) -> i32 {
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        die("socket");
    }
    fd
}

/// Sends, and takes `acks` acknowledgements; an error is the end.
fn send(fd: i32, mut batch: Batch, acks: u32) {
    batch.close();
    transmit(fd, &batch.bytes);
    let mut buffer = [0u8; 8192];
    let mut seen = 0;
    while seen < acks {
        let length = receive(fd, &mut buffer);
        let mut at = 0;
        while at + 20 <= length {
            let size = u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("4 bytes")) as usize;
            let errno = -i32::from_ne_bytes(buffer[at + 16..at + 20].try_into().expect("4 bytes"));
            if errno != 0 {
                eprintln!("floor: message {}: {}", buffer[at + 8], std::io::Error::from_raw_os_error(errno));
                process::exit(1);
            }
            seen += 1;
            at += size.next_multiple_of(4);
        }
    }
}

fn index_of(route: i32, name: &str) -> u32 {
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETLINK, 0, &link(0, false));
    batch.text(libc::IFLA_IFNAME, name);
    batch.number(libc::IFLA_EXT_MASK, 8 /* RTEXT_FILTER_SKIP_STATS */);
    batch.close();
    transmit(route, &batch.bytes);
    let mut buffer = [0u8; 8192];
    if receive(route, &mut buffer) < 32 || buffer[4] != libc::RTM_NEWLINK as u8 {
        die("link lookup");
    }
    u32::from_ne_bytes(buffer[20..24].try_into().expect("4 bytes"))
}

fn transmit(fd: i32, bytes: &[u8]) {
    let mut to: libc::sockaddr_nl = unsafe { mem::zeroed() };
    to.nl_family = libc::AF_NETLINK as u16;
    let (to, size) = (ptr::from_ref(&to).cast(), mem::size_of::<libc::sockaddr_nl>() as u32);
    if unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), 0, to, size) } < 0 {
        die("send");
    }
}

fn receive(fd: i32, buffer: &mut [u8]) -> usize {
    let length = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(length).unwrap_or_else(|_| die("receive"))
}
