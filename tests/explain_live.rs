//! `explain --live`: a real probe, what the kernel told of it, and that it agrees with what was said beforehand where
//! nothing is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::process::{Command, Stdio};
use std::time::Duration;

use lab::cli::linkspan;
use lab::explain::{host_on, id};
use lab::live::{arrives, assert_clean, is_clean, open, probed, text, way};
use lab::outcome::{address, host_end};
use lab::talk::{self, PATIENCE};
use lab::{Outside, skip};
use serde_json::{Value, json};

fn healthy_ways(backend: &'static str) {
    let Some(host) = host_on(backend, json!({"isolation": "none"})) else { return };
    let (shop, store, back) = (&host.shop, &host.store, &host.back);
    let [own4, own6] = [Outside::HOST4.to_owned(), format!("[{}]", Outside::HOST6)];
    for (six, own, world) in [("", own4, Outside::V4.to_owned()), (" -6", own6, format!("[{}]", Outside::V6))]
    {
        for words in [
            format!("{}{six}", way(shop, store)),
            format!("{}{six}", way(shop, back)),
            format!("{} {}:53/udp{six}", id(shop), id(back)),
            format!("{} {}{six}", id(shop), id(store)),
            format!("{} host{six}", id(shop)),
            format!("host {}:80{six}", id(shop)),
            format!("{} {own}:8080", id(shop)),
            format!("{} {own}:8080", id(store)),
            format!("{} {own}:8080", id(back)),
            format!("host {own}:8080"),
            format!("{} {world}:80", id(shop)),
        ] {
            arrives(&words);
        }
    }
    let told = arrives("host 127.0.0.1:8081");
    let inner = format!("{}:80", address(&shop.result, 4));
    assert_eq!(told["live"]["tracked"]["answeredBy"], inner, "{told:#}");
    assert_clean(&host);
}

#[test]
fn healthy_ways_agree_on_nftables() {
    healthy_ways("nftables");
}

#[test]
fn healthy_ways_agree_on_iptables() {
    healthy_ways("iptables-nft");
}

#[test]
fn a_packet_from_outside_is_waited_for() {
    let Some(host) = open() else { return };
    let outside = (*host.town.outside).clone();
    let client = std::thread::spawn(move || {
        while !STOP.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = talk::tcp_within(&outside, "192.0.2.1:8080", PATIENCE);
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let said = linkspan("explain outside host:8080 --live --wait 30 --json");
    STOP.store(true, std::sync::atomic::Ordering::Relaxed);
    client.join().unwrap();
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("waiting up to 30 seconds for a packet from outside"), "{}", said.stderr);
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    let live = &told["explain"]["live"];
    assert_eq!((&live["outcome"], &live["awaited"]), (&json!("answered"), &json!(true)), "{told:#}");
    assert!(live["source"].as_str().unwrap().starts_with("192.0.2.2:"), "{told:#}");
    let nothing = linkspan("explain outside host:8080 --live --wait 1");
    assert!(nothing.code == 0 && nothing.stdout.contains("no such packet"), "{}", nothing.stdout);
    assert_clean(&host);
}

static STOP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[test]
fn it_is_told_in_words() {
    let Some(host) = open() else { return };
    let page = text(&format!("{} 192.0.2.1:8080", id(&host.store)), 0);
    for part in
        ["live: sent from 10.88.1.", "bridge prerouting", "destination now 10.88.1.2:80", "the probe agrees"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    host.sh("nft 'table inet wall { chain gate { type filter hook forward priority 10; policy drop; }; }'");
    let page = text(&way(&host.shop, &host.back), 3);
    assert!(page.contains("inet wall gate drop by its policy"), "{page}");
    assert!(
        page.contains("seen: it was dropped by the policy of chain gate of table inet wall of host"),
        "{page}"
    );
}

#[test]
fn nothing_is_left_behind() {
    let Some(host) = open() else { return };
    let binary = lab::plugin::binary();
    let start = |words: &str| {
        let mut command = Command::new(&binary);
        command.args(words.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    // Killed while it waits.
    let mut child = start(&format!("explain outside {}:80 --live --wait 60", id(&host.shop)));
    assert!(
        lab::eventually(PATIENCE * 3, || !is_clean(host.kernel()) && !is_clean(&host.shop)),
        "it watches both"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lab::eventually(PATIENCE, || is_clean(host.kernel()) && is_clean(&host.shop)));
    // One after the other.
    let mut first = start("explain outside host:9999 --live --wait 5");
    assert!(lab::eventually(PATIENCE * 3, || !is_clean(host.kernel())));
    arrives(&way(&host.shop, &host.store));
    assert!(first.wait().unwrap().code().is_some());
    // What a probe left on an older kernel, which knows no owners, is taken by the next.
    host.sh("nft add table inet linkspan-trace && nft add table bridge linkspan-trace");
    let left = linkspan::explain::live::leftovers(false).unwrap();
    assert_eq!(left, ["the table inet linkspan-trace", "the table bridge linkspan-trace"]);
    arrives(&way(&host.shop, &host.store));
    assert_clean(&host);
    host.sh("nft add table inet linkspan-trace");
    assert_eq!(linkspan::explain::live::leftovers(true).unwrap(), ["the table inet linkspan-trace"]);
    assert_clean(&host);
    assert!(linkspan::explain::live::leftovers(true).unwrap().is_empty());
}

#[test]
fn a_disagreement_is_shown() {
    let Some(host) = open() else { return };
    let words = way(&host.shop, &host.back);
    // Traffic control drops where no rule and no route is asked.
    let veth = host_end(&host.back.result);
    if !host
        .kernel()
        .exec(&[
            "tc", "qdisc", "add", "dev", &veth, "root", "tbf", "rate", "8bit", "burst", "1", "limit", "1",
        ])
        .ok
    {
        skip!("tc does not take the damage");
    }
    let told = probed(&words);
    assert_eq!(
        (&told["verdict"], &told["agreement"]["agrees"]),
        (&json!("arrives"), &json!(false)),
        "{told:#}"
    );
    let page = text(&words, 5);
    assert!(page.contains("it arrives") && page.contains("the two disagree"), "{page}");
}

/// Where it cannot be told whether legacy iptables has rules, they may be what is not seen.
#[test]
fn rules_that_may_be_there_are_not_seen() {
    let Some(host) = open() else { return };
    let binary = lab::plugin::binary().display().to_string();
    let lists = ["-P", "/proc/net/ip_tables_names", "-P", "/proc/net/ip6_tables_names"];
    let ways = way(&host.shop, &host.store);
    let unseen = |inject: &str| {
        let mut words = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject];
        words.extend(lists.into_iter().chain([binary.as_str(), "explain"]).chain(ways.split(' ')));
        words.extend(["--live", "--wait", "1", "--json"]);
        let told: Value = serde_json::from_str(&host.kernel().must(&words)).unwrap();
        told["explain"]["live"]["unseen"].to_string().contains("iptables-legacy")
    };
    assert!(!unseen("trace=openat"));
    assert!(unseen("inject=openat:error=EACCES"));
}
