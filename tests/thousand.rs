//! How long the commands take on a host with 1,000 containers. Not a test of correctness, and a clock is no judge in a
//! test: run with `LINKSPAN=target/linkspan cargo test --test thousand -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod lab;

use std::time::{Duration, Instant};

use lab::cli::linkspan;
use lab::{Container, Lab};
use serde_json::json;

const CONTAINERS: u16 = 1000;
const RUNS: usize = 9;

#[test]
#[ignore = "measures"]
fn listing_a_thousand_containers() {
    let Some(lab) = Lab::new() else { return };
    let network = |index: u16| {
        let subnet = format!("10.{index}.0.0/22");
        lab.plugin(json!({"name": format!("net{index}"), "ipam": {"ranges": [[{"subnet": subnet}]]}}))
    };
    // A bridge has at most 1,023 ports.
    let networks = [network(1), network(2)];
    let containers: Vec<Container> = (0..CONTAINERS)
        .map(|at| {
            let container = lab.container(&format!("c{at}"));
            let plugin = networks[usize::from(at % 2)].on(&container);
            let port = format!("{}:80", 10_000 + at);
            plugin.publish(&[&port]).add().ok();
            container
        })
        .collect();
    println!("{} containers, two networks, a published port each; of {RUNS} runs:", containers.len());
    let all = [
        "version",
        "ls",
        "ps",
        "ps --json",
        "ports",
        "ipam",
        "inspect container-c7",
        "top",
        "graph",
        "graph -f svg",
        "doctor",
    ];
    for words in all {
        let mut times: Vec<Duration> = (0..RUNS)
            .map(|_| {
                let begun = Instant::now();
                assert!(linkspan(words).ok().len() > 10);
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
        println!("  linkspan {words:<22} least {:>6.1} ms, median {:>6.1} ms", ms(0), ms(RUNS / 2));
    }
    let rows = linkspan("ps").stdout.lines().filter(|line| line.ends_with("up")).count();
    assert_eq!(rows, usize::from(CONTAINERS));
}
