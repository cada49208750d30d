//! Published ports from everywhere: each cell of the table in `docs/ports.md`, on each firewall, by TCP and UDP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use lab::backends::choose;
use lab::outcome::{address, gateway};
use lab::plugin::dual_stack;
use lab::talk::{Server, limit, tcp_server, udp_server};
use lab::{Container, Lab, Outside, Space};
use serde_json::Value;
use serde_json::json;

/// The page, and the heading that the table is under.
const PAGE: &str = include_str!("../docs/ports.md");
const HEADING: &str = "## From where, and with which source address";

/// The table's columns after the client and what it asks: family, `hostIP` in words, the host port here.
const COLUMNS: [(u8, &str, u16); 6] = [
    (4, "every address", 8001),
    (4, "the LAN address", 8002),
    (4, "`127.0.0.1`", 8003),
    (6, "every address", 8001),
    (6, "the LAN address", 8002),
    (6, "`127.0.0.1`", 8003),
];

/// What the mappings of each column ask for.
const MAPPINGS: [&str; 8] = [
    "8001:80/tcp",
    "8001:80/udp",
    "192.0.2.1:8002:80/tcp",
    "192.0.2.1:8002:80/udp",
    "[2001:db8::1]:8002:80/tcp",
    "[2001:db8::1]:8002:80/udp",
    "127.0.0.1:8003:80/tcp",
    "127.0.0.1:8003:80/udp",
];

/// The table's rows: who asks, and which address.
const ROWS: [(&str, &str); 12] = [
    ("another host", "the LAN address"),
    ("another host", "the bridge's address"),
    ("the host", "the LAN address"),
    ("the host", "`127.0.0.1`, `[::1]`"),
    ("the host", "the bridge's address"),
    ("a sibling", "the LAN address"),
    ("a sibling", "the bridge's address"),
    ("a container of another network", "the LAN address"),
    ("a container of another network", "the bridge's address"),
    ("a container of another network", "its own bridge's address"),
    ("the container itself", "the LAN address"),
    ("the container itself", "the bridge's address"),
];

/// The words of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Reached, and the container sees the address that the client sent from.
    Kept,
    /// Reached, and the container sees the address of its bridge.
    Bridge,
    /// Refused, or no answer.
    No,
    /// As [`Answer::No`], because the kernel cannot.
    Closed,
    /// Reached, with an address that is neither. No cell says so.
    Strange(IpAddr),
}

impl Answer {
    fn parse(word: &str) -> Self {
        match word {
            "kept" => Self::Kept,
            "bridge" => Self::Bridge,
            "no" => Self::No,
            "closed" => Self::Closed,
            _ => panic!("docs/ports.md: {word:?} is no word of a cell"),
        }
    }
}

/// The table of the page: a cell for each row and column.
type Table = BTreeMap<(String, String), Vec<Answer>>;

/// Reads the table, which must have these columns and no others.
fn table() -> Table {
    let (_, section) = PAGE.split_once(HEADING).expect("docs/ports.md has the section");
    let lines: Vec<&str> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut head = vec!["client".to_owned(), "asks".to_owned()];
    head.extend(COLUMNS.iter().map(|(family, on, _)| format!("IPv{family}, {on}")));
    assert_eq!(cells(lines[0]), head, "the columns of docs/ports.md are those that are run");
    let mut table = Table::new();
    for line in &lines[2..] {
        let mut row = cells(line);
        let answers: Vec<Answer> = row.split_off(2).iter().map(|word| Answer::parse(word)).collect();
        assert_eq!(answers.len(), COLUMNS.len(), "a cell is missing: {line}");
        let key = (row.remove(0), row.remove(0));
        assert!(table.insert(key, answers).is_none(), "a row is there twice: {line}");
    }
    table
}

/// A host, the world outside, two networks; the container `a` of network `web` publishes.
struct Town {
    _servers: Vec<Server>,
    a: Container,
    sibling: Container,
    stranger: Container,
    /// The addresses of the bridges of `web` and of the stranger's network.
    web: Value,
    other: Value,
    outside: Outside,
    lab: Lab,
}

impl Town {
    fn new(backend: &str) -> Option<Self> {
        let mut lab = Lab::new()?;
        let outside = lab.outside();
        let kind = choose(&mut lab, backend)?;
        let network = lab.plugin(json!({"backend": kind, "ipam": dual_stack(1)}));
        let another = network.with(json!({"name": "other", "ipam": dual_stack(2)}));
        let (a, sibling, stranger) =
            (lab.container("a"), lab.container("sibling"), lab.container("stranger"));
        network.on(&sibling).add().ok();
        let other = another.on(&stranger).add().ok();
        let web = network.on(&a).publish(&MAPPINGS).add().ok();
        let servers = vec![
            tcp_server(&a, "[::]:80", "a"),
            udp_server(&a, &format!("{}:80", address(&web, 4)), "a"),
            udp_server(&a, &format!("[{}]:80", address(&web, 6)), "a"),
        ];
        Some(Self { _servers: servers, a, sibling, stranger, web, other, outside, lab })
    }

    fn client(&self, row: &str) -> &Space {
        match row {
            "another host" => &self.outside,
            "the host" => &self.lab.host,
            "a sibling" => &self.sibling,
            "a container of another network" => &self.stranger,
            "the container itself" => &self.a,
            _ => panic!("{row}: who is that?"),
        }
    }

    fn asked(&self, row: &str, family: u8) -> IpAddr {
        let text = match (row, family) {
            ("the LAN address", 4) => Outside::HOST4.to_owned(),
            ("the LAN address", _) => Outside::HOST6.to_owned(),
            ("`127.0.0.1`, `[::1]`", 4) => "127.0.0.1".to_owned(),
            ("`127.0.0.1`, `[::1]`", _) => "::1".to_owned(),
            ("the bridge's address", _) => gateway(&self.web, family),
            ("its own bridge's address", _) => gateway(&self.other, family),
            _ => panic!("{row}: which address is that?"),
        };
        text.parse().unwrap()
    }

    /// What a client gets, by TCP and by UDP, as it must or must not. What is refused is refused at once.
    fn ask(&self, row: (&str, &str), family: u8, port: u16, must: bool) -> [Answer; 2] {
        let to = SocketAddr::new(self.asked(row.1, family), port);
        let bridge: IpAddr = gateway(&self.web, family).parse().unwrap();
        self.client(row.0).in_ns(|| [by_tcp(to, limit(must)), by_udp(to, limit(must))]).map(|answer| {
            match answer {
                Err(_) => Answer::No,
                Ok((own, seen)) if own == seen => Answer::Kept,
                Ok((_, seen)) if seen == bridge => Answer::Bridge,
                Ok((_, seen)) => Answer::Strange(seen),
            }
        })
    }
}

/// The client's own address as it sent, and as the server saw it.
type Ends = (IpAddr, IpAddr);

fn by_tcp(to: SocketAddr, limit: Duration) -> io::Result<Ends> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok((plain(stream.local_addr()?.ip()), peer(&text)?))
}

/// A connected socket hears refusals. Nothing else on the way may lose a datagram: one has to do.
fn by_udp(to: SocketAddr, limit: Duration) -> io::Result<Ends> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"who")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok((plain(socket.local_addr()?.ip()), peer(&String::from_utf8_lossy(&buffer[..length]))?))
}

/// The peer in the answer `a PEER LOCAL` of the server in the container.
fn peer(text: &str) -> io::Result<IpAddr> {
    let mut words = text.split_whitespace();
    if words.next() != Some("a") {
        return Err(io::Error::other(format!("not the container's answer: {text:?}")));
    }
    let peer: SocketAddr = words.next().unwrap_or_default().parse().map_err(io::Error::other)?;
    Ok(plain(peer.ip()))
}

/// An IPv4 address as one, also where a socket of both families tells of it.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, |v4: Ipv4Addr| IpAddr::V4(v4)),
        IpAddr::V4(_) => ip,
    }
}

#[test]
fn the_table_has_each_row_that_is_run_and_no_other() {
    let run: BTreeSet<(String, String)> =
        ROWS.iter().map(|(client, asks)| ((*client).to_owned(), (*asks).to_owned())).collect();
    let written: BTreeSet<(String, String)> = table().into_keys().collect();
    assert_eq!(written, run, "the rows of docs/ports.md are those that are run");
    for ((client, asks), answers) in table() {
        for (answer, (family, ..)) in answers.iter().zip(COLUMNS) {
            let by_kernel = family == 6 && asks.contains("::1");
            assert!(*answer != Answer::Closed || by_kernel, "{client}, {asks}: only [::1] is closed");
        }
    }
}

fn each_cell_is_true(backend: &str) {
    if lab::is_reference() {
        lab::skip!("the table is linkspan's");
    }
    let Some(town) = Town::new(backend) else { return };
    let table = table();
    let mut wrong = Vec::new();
    for row in ROWS {
        let Some(cells) = table.get(&(row.0.to_owned(), row.1.to_owned())) else {
            wrong.push(format!("{row:?} has no row"));
            continue;
        };
        for ((family, on, port), cell) in COLUMNS.into_iter().zip(cells) {
            let wanted = if *cell == Answer::Closed { Answer::No } else { *cell };
            let must = wanted != Answer::No;
            for (protocol, found) in ["tcp", "udp"].into_iter().zip(town.ask(row, family, port, must)) {
                if found != wanted {
                    wrong.push(format!(
                        "{} asks {} (IPv{family}, {protocol}, published on {on}): {found:?}, not {cell:?}",
                        row.0, row.1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{backend}: {} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn on_nftables() {
    each_cell_is_true("nftables");
}

#[test]
fn on_iptables_nft() {
    each_cell_is_true("iptables-nft");
}

#[test]
fn on_iptables_legacy() {
    each_cell_is_true("iptables-legacy");
}
