//! The agent under the real systemd, with the units that are shipped: it lives within its limits, says when it is ready,
//! and what it held is held while it is restarted, reloaded, killed and upgraded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use lab::agent::{Stray, gone, pid, status};
use lab::dns::{Upstream, dig, private_etc};
use lab::outcome::gateway;
use lab::plugin::{binary, dual_stack};
use lab::systemd::Systemd;
use lab::talk::{echo_server, echoes};
use lab::witness::watched;
use lab::{Container, Lab, Plugin, eventually, hold, programs};

const LIMIT: Duration = Duration::from_secs(30);
const UNITS: [&str; 2] = ["linkspan-agent.socket", "linkspan-agent.service"];

fn network(lab: &Lab) -> Plugin {
    lab.plugin(
        json!({"dns": {"enabled": true}, "ipam": dual_stack(1), "holdPorts": true, "userlandProxy": true}),
    )
}

fn add(network: &Plugin, container: &Container, port: &str) -> Value {
    let added = network.on(container).publish(&[port]).args("IgnoreUnknown=1;K8S_POD_NAME=front").add();
    assert_eq!(added.stderr, "", "nothing is degraded");
    added.ok()
}

#[test]
fn nothing_is_lost_while_systemd_restarts_it() {
    let Some(mut lab) = Lab::new() else { return };
    private_etc(&mut lab, &["127.0.0.2"]);
    let _up = Upstream::start(&lab, "127.0.0.2", "203.0.113.7", &[]);
    let _stray = Stray;
    let a = lab.container("a");
    let web = network(&lab);
    // One that an ADD has started hands over to systemd's.
    let gw = gateway(&add(&web, &a, "8080:80"), 4);
    let on_demand = pid().unwrap();
    let _server = echo_server(&a, "[::]:80");
    let Some(systemd) = Systemd::boot(&lab) else { return };
    let connect = || {
        let stream = lab.host.in_ns(|| TcpStream::connect("[::1]:8080")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let mut held = connect();
    echoes(&mut held, b"before");
    let main = || systemd.show("MainPID").parse::<u32>().unwrap();
    let noticed = watched(&lab.host, &a, &gw, (8080, "front"), || {
        // Type=notify: the call returns when it is ready.
        systemd.must(&[&["start"], &UNITS[..]].concat());
        assert!(gone(on_demand, LIMIT), "the one on demand has given way");
        assert_eq!(systemd.show("SubState"), "running", "{}", systemd.story());
        echoes(&mut held, b"under systemd");
        assert_eq!(dig(&a, &gw, "www.example.org A").data, ["203.0.113.7"], "it may ask outside");
        let mut seen = vec![main()];
        for round in 0..3_u8 {
            systemd.must(&["restart", UNITS[1]]);
            echoes(&mut held, &[round; 5000]);
            seen.push(main());
        }
        systemd.must(&["reload", UNITS[1]]);
        // An upgrade in place: the file is replaced, then the process.
        programs::copy(binary(), "/opt/cni/bin/linkspan.new");
        std::fs::rename("/opt/cni/bin/linkspan.new", "/opt/cni/bin/linkspan").unwrap();
        systemd.must(&["restart", UNITS[1]]);
        echoes(&mut held, b"upgraded");
        seen.push(main());
        seen.dedup();
        assert_eq!(seen.len(), 5, "each was another process: {seen:?}");
    });
    noticed.must_be_nothing();
    // Somebody kills it: a question that it had read, and the connections that it passed on, are lost with it.
    let killed = main();
    let noticed = watched(&lab.host, &a, &gw, (8080, "front"), || {
        systemd.must(&["kill", "--kill-who=main", "--signal=KILL", UNITS[1]]);
        let again = || ![0, killed].contains(&main()) && systemd.show("SubState") == "running";
        assert!(eventually(LIMIT, again), "{}", systemd.story());
    });
    let gaps = noticed.gaps.into_inner().unwrap();
    assert!(gaps.iter().all(|gap| !gap.contains("free") && !gap.contains("refused")), "{gaps:?}");
    assert_eq!(systemd.show("NRestarts"), "1");
    let mut byte = [0];
    assert!(!matches!(held.read(&mut byte), Ok(1)), "a killed process passes nothing on");
    echoes(&mut connect(), b"and after");
    // What was given up is given up by systemd as well, now and after a restart.
    let free = || hold::is_free(&lab.host, "tcp", "[::]:8080");
    assert!(!free());
    let stored = || systemd.show("NFileDescriptorStore").parse::<u32>().unwrap();
    assert_eq!(stored(), 3, "a parcel for each gateway, and one for the ports");
    web.on(&a).publish(&["8080:80"]).del().ok();
    assert!(eventually(LIMIT, free), "nobody keeps what nobody holds");
    assert!(eventually(LIMIT, || stored() == 0));
    add(&web, &a, "8080:80");
    assert!(eventually(LIMIT, || stored() == 3));
    // Stopped for good, it holds nothing.
    systemd.must(&[&["stop"], &UNITS[..]].concat());
    assert!(eventually(LIMIT, free), "{}", systemd.story());
}

/// Many ports of one container, and many containers, fit into what systemd keeps and passes.
#[test]
fn thousands_of_held_ports_pass_through_a_restart() {
    let Some(lab) = Lab::new() else { return };
    let _stray = Stray;
    let Some(systemd) = Systemd::boot(&lab) else { return };
    systemd.must(&[&["start"], &UNITS[..]].concat());
    let a = lab.container("a");
    let plugin = network(&lab).on(&a).publish(&["10000-11499:10000-11499"]);
    plugin.add().ok();
    assert!(eventually(LIMIT, || status()["services"]["ports"]["held"] == 3000), "{}", status());
    let free = |port: u16| lab.host.in_ns(|| std::net::TcpListener::bind(("0.0.0.0", port)).is_ok());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let mut taken = Vec::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                taken.extend([10000, 10777, 11499].into_iter().filter(|port| free(*port)));
            }
            taken
        });
        systemd.must(&["restart", UNITS[1]]);
        let held = eventually(LIMIT, || status()["services"]["ports"]["held"] == 3000);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(held, "{}", status());
        assert_eq!(taken.join().unwrap(), Vec::<u16>::new(), "none was free in between");
    });
    plugin.del().ok();
    assert!(eventually(LIMIT, || free(10777)));
}
