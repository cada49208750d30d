//! A real probe and what the kernel told of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::time::Duration;

use lab::outcome::{address, bridge};
use lab::plugin::dual_stack;
use lab::talk::{tcp_server, udp_server};
use lab::{Container, Lab, Outside};
use linkspan::explain::live::{self, Answer, Live, Order, Outcome, Party};
use linkspan::sys::probe::Kind;
use serde_json::{Value, json};

fn party(container: &Container) -> Party {
    Party { name: format!("container {}", container.id), sandbox: container.path.clone() }
}

fn order(kind: Kind, from: Option<&Container>, to: &str, target: Option<&Container>) -> Order {
    Order {
        kind,
        from: from.map(party),
        awaited: false,
        awaited_from: None,
        to: to.parse().unwrap(),
        target: target.map(party),
        to_host: false,
        wait: Duration::from_millis(600),
        source_port: None,
    }
}

#[track_caller]
fn observed(order: &Order) -> Live {
    let live = live::observe(order).unwrap();
    println!("{}", serde_json::to_string_pretty(&live).unwrap());
    live
}

#[test]
fn scratch() {
    let Some(lab) = Lab::new() else { return };
    let outside = lab.outside();
    let plugin = lab.plugin(json!({"ipam": dual_stack(1)}));
    let (shop, store) = (lab.container("shop"), lab.container("store"));
    let one = plugin.on(&shop).publish(&["8080:80"]).add().ok();
    let two = plugin.on(&store).add().ok();
    let _a = tcp_server(&shop, "[::]:80", "shop");
    let _b = tcp_server(&outside, "[::]:80", "out");
    let at = format!("{}:80", address(&one, 4));
    for (kind, from, to, target) in [
        (Kind::Tcp, Some(&store), at.as_str(), Some(&shop)),
        (Kind::Tcp, Some(&store), "192.0.2.1:8080", Some(&shop)),
        (Kind::Tcp, Some(&shop), "192.0.2.1:8080", Some(&shop)),
        (Kind::Tcp, None, "127.0.0.1:8080", Some(&shop)),
        (Kind::Tcp, Some(&shop), "192.0.2.2:80", None),
        (Kind::Echo, Some(&shop), "192.0.2.2:0", None),
        (Kind::Udp, Some(&shop), "192.0.2.2:53", None),
    ] {
        println!("=== {kind:?} {:?} {to}", from.map(|f| &f.id));
        let live = observed(&order(kind, from, to, target));
        println!("--- {:?} {} {:?}", live.outcome, live.words, live.size);
    }
    let _ = (two, bridge(&one));
}
