//! What it costs to publish: an ADD with one port against one with a range, and one with many single ports.

use std::thread;
use std::time::Duration;

use crate::host::{Call, die, namespace};
use crate::{Ratio, median, turns};

/// How many ports the range has.
const RANGE: usize = 10_000;
/// How long nothing happens before an ADD.
const PAUSE: Duration = Duration::from_millis(15);
/// How many ports are published one by one.
const MANY: usize = 1000;

/// Prints the times and gives the ratios. All take turns; a ratio is one of a turn.
pub(crate) fn measure(linkspan: &str, rounds: usize) -> Vec<Ratio> {
    let netns = namespace("publishing");
    let one = r#"{"hostPort":20000,"containerPort":80}"#.to_owned();
    let same = format!(r#"{{"hostPort":20000,"containerPort":20000,"range":{RANGE}}}"#);
    let shifted = format!(r#"{{"hostPort":20000,"containerPort":1000,"range":{RANGE}}}"#);
    let udp = format!(r#"{{"hostPort":20000,"containerPort":20000,"range":{RANGE},"protocol":"udp"}}"#);
    let one_udp = r#"{"hostPort":20000,"containerPort":80,"protocol":"udp"}"#.to_owned();
    let many: Vec<String> =
        (0..MANY).map(|n| format!(r#"{{"hostPort":{},"containerPort":80}}"#, 20_000 + n)).collect();
    let kinds = [
        ("one port", one),
        ("a range of 10,000 ports", same),
        ("the same, other numbers inside", shifted),
        ("1,000 ports one by one", many.join(",")),
        ("one port by UDP", one_udp),
        ("a range of 10,000 ports by UDP", udp),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    for round in 0..rounds + 2 {
        for at in turns::order(kinds.len(), round) {
            // After a pause: what a DEL leaves to the kernel to do later is not on the account of who comes next.
            thread::sleep(PAUSE);
            let took = add(linkspan, &netns, &kinds[at].1).as_secs_f64() * 1e3;
            // The first rounds make the network and find caches cold.
            if round > 1 {
                times[at].push(took);
            }
        }
    }
    println!("\n| ADD that publishes | ms, median |\n|---|---|");
    for ((what, _), times) in kinds.iter().zip(&times) {
        println!("| {what} | {:.2} |", median(times.clone()));
    }
    let ratio = |above: usize, below: usize| {
        median(times[above].iter().zip(&times[below]).map(|(above, below)| above / below).collect())
    };
    let lines = [(1, 0, Some(1.5)), (2, 0, Some(1.5)), (3, 0, Some(30.0)), (5, 4, Some(1.5)), (4, 0, None)];
    let line = |(above, below, bar): (usize, usize, Option<f64>)| {
        (format!("ADD: {} / {}", kinds[above].0, kinds[below].0), ratio(above, below), bar)
    };
    lines.map(line).into()
}

/// The time of one ADD, which is taken away again.
fn add(linkspan: &str, netns: &str, mappings: &str) -> Duration {
    let configuration = format!(
        r#"{{"cniVersion":"1.0.0","name":"publish","type":"linkspan","backend":"nftables","ipam":{{"type":"host-local","subnet":"10.96.0.0/16"}},"runtimeConfig":{{"portMappings":[{mappings}]}}}}"#
    );
    let call = |verb: &str| {
        Call::new(linkspan, &["linkspan"])
            .variable("CNI_COMMAND", verb)
            .variable("CNI_CONTAINERID", "publisher")
            .variable("CNI_NETNS", netns)
            .variable("CNI_IFNAME", "eth0")
            .variable("CNI_PATH", "/usr/lib/cni")
            .stdin(configuration.as_bytes())
    };
    let (took, output) = call("ADD").run();
    if !output.contains("10.96.") {
        die(&output);
    }
    call("DEL").run();
    took
}
