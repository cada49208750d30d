//! A host port has one owner: every pair of an address that somebody has and an address that is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use lab::hold::Holder;
use lab::plugin::{binary, dual_stack};
use lab::{Container, Lab, Outside, Plugin};
use serde_json::json;

/// What a container may ask for, as `hostIP`; none is every address of both families.
const ASKED: [&str; 6] = ["", "0.0.0.0:", "127.0.0.1:", "192.0.2.1:", "[::]:", "[2001:db8::1]:"];

/// Where a process may listen, and for each of [`ASKED`] whether that port is refused.
const LISTENERS: [(&str, [bool; 6]); 8] = [
    ("0.0.0.0", [true, true, true, true, false, false]),
    ("127.0.0.1", [true, true, true, false, false, false]),
    ("192.0.2.1", [true, true, false, true, false, false]),
    // Without IPV6_V6ONLY: takes IPv4 as well.
    ("[::]", [true, true, true, true, true, true]),
    ("[::] alone", [true, false, false, false, true, true]),
    ("[::1]", [true, false, false, false, true, false]),
    ("[2001:db8::1]", [true, false, false, false, true, true]),
    // A socket of IPv6 that takes what comes to one IPv4 address.
    ("[::ffff:127.0.0.1]", [true, true, true, false, false, false]),
];

fn host() -> Option<(Lab, Plugin, Container, Outside)> {
    let lab = Lab::new()?;
    let outside = lab.outside();
    let network = lab.plugin(json!({"ipam": dual_stack(1)}));
    let a = lab.container("a");
    Some((lab, network, a, outside))
}

/// As the pairs are tried with one port, and within a range: the two ways of looking.
fn against_processes(protocol: &str, ports: &str) {
    let Some((lab, network, a, _outside)) = host() else { return };
    let plugin = network.on(&a);
    let mut wrong = Vec::new();
    for (bound, refused) in LISTENERS {
        let at = format!("{}:8080", bound.trim_end_matches(" alone"));
        lab.host.set_sysctl("net.ipv6.bindv6only", if bound.ends_with("alone") { "1" } else { "0" });
        let holder = match protocol {
            "tcp" => Holder::tcp(&lab.host, &at, "stubborn", &[]),
            _ => Holder::udp(&lab.host, &at, "stubborn", &[]),
        };
        lab.host.set_sysctl("net.ipv6.bindv6only", "0");
        for (asked, expected) in ASKED.into_iter().zip(refused) {
            let outcome = plugin.publish(&[&format!("{asked}{ports}/{protocol}")]).add();
            let what = format!("{protocol} {asked}{ports} beside a listener on {bound}");
            if outcome.succeeded() == expected {
                wrong.push(format!("{what}: {}", outcome.stdout));
            }
            if outcome.succeeded() {
                plugin.del().ok();
            } else if !outcome.refused(102).contains(&format!("stubborn (PID {})", holder.pid()))
                && !outcome.words().contains(&format!("(PID {})", holder.pid()))
            {
                wrong.push(format!("{what}: not named: {}", outcome.words()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn tcp_beside_processes() {
    against_processes("tcp", "8080:80");
}

#[test]
fn udp_beside_processes() {
    against_processes("udp", "8080:80");
}

#[test]
fn ranges_of_tcp_beside_processes() {
    against_processes("tcp", "8070-8090:70-90");
}

#[test]
fn ranges_of_udp_beside_processes() {
    against_processes("udp", "8070-8090:8070-8090");
}

/// Sockets that listen to nobody take nothing: an outgoing connection, a UDP socket that is connected, another port.
#[test]
fn sockets_that_do_not_listen_take_nothing() {
    let Some((lab, network, a, _outside)) = host() else { return };
    let plugin = network.on(&a);
    let sockets = lab.host.in_ns(|| {
        let server = std::net::TcpListener::bind("127.0.0.1:9000").unwrap();
        let out = std::net::TcpStream::connect("127.0.0.1:9000").unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        datagrams.connect("127.0.0.1:9").unwrap();
        (server, out, datagrams)
    });
    let (tcp, udp) = (sockets.1.local_addr().unwrap().port(), sockets.2.local_addr().unwrap().port());
    let ports = [format!("{tcp}:80"), format!("{udp}:80/udp"), "9001:80".to_owned()];
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    plugin.publish(&ports).add().ok();
}

/// What one container asked for, and for each of [`ASKED`] whether another is refused it.
#[test]
fn beside_other_attachments() {
    let Some((lab, network, a, _outside)) = host() else { return };
    let other = network.with(json!({"name": "other", "ipam": dual_stack(2)}));
    let b = lab.container("b");
    let table: [(&str, [bool; 6]); 6] = [
        ("", [true, true, true, true, true, true]),
        ("0.0.0.0:", [true, true, true, true, false, false]),
        ("127.0.0.1:", [true, true, true, false, false, false]),
        ("192.0.2.1:", [true, true, false, true, false, false]),
        ("[::]:", [true, false, false, false, true, true]),
        ("[2001:db8::1]:", [true, false, false, false, true, true]),
    ];
    let mut wrong = Vec::new();
    for ports in ["8080:80", "8070-8090:70-90"] {
        for (had, refused) in table {
            let owner = network.on(&a).publish(&[&format!("{had}{ports}")]);
            owner.add().ok();
            for (asked, expected) in ASKED.into_iter().zip(refused) {
                for wanted in ["8080:80", "8080-8100:80-100"] {
                    let outcome = other.on(&b).publish(&[&format!("{asked}{wanted}")]).add();
                    if outcome.succeeded() == expected {
                        wrong.push(format!("{asked}{wanted} beside {had}{ports}: {}", outcome.stdout));
                    }
                    if outcome.succeeded() {
                        other.on(&b).del().ok();
                    } else {
                        assert!(outcome.refused(102).contains(&a.id), "{}", outcome.words());
                    }
                }
            }
            owner.del().ok();
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// An ADD of 8080 whose first ancestor, PID 1 of its own namespace, listens on that port; what it said.
fn add_under_init(lab: &Lab, a: &Container, command: &str) -> String {
    let answer =
        std::env::temp_dir().join(format!("linkspan-init-{}-{}", std::process::id(), lab.host.name()));
    let configuration = json!({
        "cniVersion": "1.1.0", "name": "web", "type": "linkspan", "ipam": dual_stack(1),
        "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]},
    });
    lab.host.in_ns(|| {
        let socket = std::net::TcpListener::bind("[::]:8080").unwrap();
        // The socket is the standard output of PID 1, and nobody else's in that namespace.
        let status = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "/bin/sh", "-c", command])
            .env("L", binary())
            .env("CONFIGURATION", configuration.to_string())
            .env("ANSWER", &answer)
            .envs([("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/none")])
            .env("CNI_CONTAINERID", &a.id)
            .env("CNI_NETNS", &a.path)
            .stdout(OwnedFd::from(socket))
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    });
    let said = std::fs::read_to_string(&answer).unwrap();
    std::fs::remove_file(&answer).unwrap();
    said
}

/// A runtime may be PID 1, as podman in a container is; but systemd is everybody's ancestor, and listens for others.
#[test]
fn what_pid_1_listens_on_is_reserved_by_no_runtime() {
    let Some((lab, network, a, _outside)) = host() else { return };
    if lab::is_reference() {
        lab::skip!("the reference takes every port");
    }
    let plugin = r#"printf %s "$CONFIGURATION" | "$L" > "$ANSWER""#;
    let by_service = format!("sh -c '{plugin}; true' > /dev/null; true");
    let refused = add_under_init(&lab, &a, &by_service);
    assert!(refused.contains("\"code\": 102") && refused.contains("(PID 1)"), "{refused}");
    let by_itself = add_under_init(&lab, &a, &format!("{plugin}; true"));
    assert!(by_itself.contains("\"ips\""), "{by_itself}");
    network.on(&a).del().ok();
}

/// A runtime with several threads forks while it reserves: until execve(2) its child has the reserved sockets too.
#[test]
fn a_child_that_the_runtime_has_just_forked_is_no_stranger() {
    let Some((lab, network, a, _outside)) = host() else { return };
    if lab::is_reference() {
        lab::skip!("the reference takes every port");
    }
    let reserved = lab.host.in_ns(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    // SAFETY: the child calls nothing but pause(2), which is safe after fork(2) of a process with threads.
    let child = unsafe { libc::fork() };
    // -1 would mean every process to kill(2).
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        loop {
            // SAFETY: it takes nothing.
            unsafe { libc::pause() };
        }
    }
    let outcome = network.on(&a).publish(&["8080:80"]).add();
    // SAFETY: the child is the one of above, which nobody has waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    outcome.ok();
    network.on(&a).publish(&["8080:80"]).del().ok();
    // One that became a program of its own serves: it was given the socket on purpose.
    let mut service =
        Command::new("cat").stdin(Stdio::piped()).stdout(OwnedFd::from(reserved)).spawn().unwrap();
    let refused = network.on(&a).publish(&["8080:80"]).add();
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(refused.refused(102).contains("8080"), "{}", refused.words());
}

/// A server that somebody has logged in by, as sshd, is an ancestor of what they start; but a login begins a session.
#[test]
fn what_the_login_server_listens_on_is_reserved_by_no_runtime() {
    let Some((lab, network, a, _outside)) = host() else { return };
    if lab::is_reference() {
        lab::skip!("the reference takes every port");
    }
    // The test is the server.
    let _server = lab.host.in_ns(|| std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    let plugin = network.on(&a).publish(&["8080:80"]);
    let by_shell = |argv: &[&str]| plugin.wrapped(&[argv, &["sh", "-c", r#""$@"; true"#, "sh"]].concat());
    let refused = by_shell(&["setsid", "--wait"]).add();
    assert!(refused.stdout.contains("\"code\": 102"), "{}", refused.words());
    // A runtime whose helpers are of its session, and one that gives the plugin a session of its own.
    for plugin in [by_shell(&[]), plugin.wrapped(&["setsid"])] {
        plugin.add().ok();
        plugin.del().ok();
    }
}
