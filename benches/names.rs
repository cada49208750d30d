//! `make bench`, the name service: linkspan's agent beside Debian's `aardvark-dns` and `dnsmasq`, in one run.
//!
//! All three listen on addresses of one bridge at the same time and take turns; a container asks. Needs root; touches
//! nothing of the machine's own network or state.
//!
//! ```text
//! bench-names [--linkspan PATH] [--seconds 2] [--rounds 5] [--check]
//! ```

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[path = "runner/host.rs"]
#[allow(dead_code, reason = "shared with the other runner, which uses the rest")]
mod host;
#[path = "names/load.rs"]
mod load;
#[path = "names/scene.rs"]
mod scene;
#[path = "runner/turns.rs"]
mod turns;

use std::time::Duration;
use std::{env, process};

use host::die;
use load::{Load, percentile};
use scene::{Scene, Server};

struct Options {
    linkspan: String,
    seconds: f64,
    rounds: usize,
    check: bool,
}

/// What was measured of one server.
#[derive(Default)]
struct Measured {
    /// Answers a second, of each round.
    rates: Vec<f64>,
    /// The server's CPU time for one of them, in microseconds, of each round.
    costs: Vec<f64>,
    /// Of one question after the other.
    alone: Vec<Duration>,
    /// Of questions that are answered from outside.
    outside: Vec<Duration>,
}

fn main() {
    let options = options();
    let scene = Scene::set(&options.linkspan);
    let mut measured: Vec<Measured> = scene.servers.iter().map(|_| Measured::default()).collect();
    let long = Duration::from_secs_f64(options.seconds);
    for round in 0..options.rounds {
        for at in turns::order(scene.servers.len(), round) {
            let (server, seen) = (&scene.servers[at], &mut measured[at]);
            let before = server.cpu();
            let rate = scene.client(move || Load::new(server.address).rate("front", 64, long));
            seen.rates.push(rate);
            seen.costs.push((server.cpu() - before).as_secs_f64() * 1e6 / (rate * options.seconds));
            seen.alone
                .extend(scene.client(move || Load::new(server.address).one_by_one(2000, |_| "front".into())));
            let name = move |n: usize| format!("r{round}n{n}.example.org");
            seen.outside.extend(scene.client(move || Load::new(server.address).one_by_one(300, name)));
        }
    }
    let direct = scene.direct(300);
    table(&scene.servers, &measured, &direct);
    let flooded = scene.flooded(Duration::from_secs(3));
    let calls = scene.calls(200);
    let met = bars(&scene.servers, &measured, &flooded, &calls);
    scene.end();
    if options.check && !met {
        process::exit(1);
    }
}

fn options() -> Options {
    let mut options =
        Options { linkspan: "target/linkspan".to_owned(), seconds: 2.0, rounds: 5, check: false };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| die(&format!("{word} needs a value")));
        match word.as_str() {
            "--linkspan" => options.linkspan = value(),
            "--seconds" => {
                options.seconds = value().parse().unwrap_or_else(|_| die("--seconds needs a number"));
            }
            "--rounds" => options.rounds = value().parse().unwrap_or_else(|_| die("--rounds needs a number")),
            "--check" => options.check = true,
            _ => die(&format!("unknown option: {word}")),
        }
    }
    options
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn microseconds(times: &[Duration], percent: f64) -> f64 {
    percentile(times, percent).as_secs_f64() * 1e6
}

fn table(servers: &[Server], measured: &[Measured], direct: &[Duration]) {
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    println!("| names | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let row = |label: &str, value: &dyn Fn(&Measured) -> f64| {
        let cells: Vec<String> = measured.iter().map(|seen| format!("{:.0}", value(seen))).collect();
        println!("| {label} | {} |", cells.join(" | "));
    };
    row("local answers a second, 64 at a time, median of rounds", &|seen| middle(&seen.rates));
    row("CPU time of one of them, µs", &|seen| middle(&seen.costs));
    row("one local answer, p50, µs", &|seen| microseconds(&seen.alone, 50.0));
    row("one local answer, p99, µs", &|seen| microseconds(&seen.alone, 99.0));
    let base = microseconds(direct, 50.0);
    row("one answer from outside, p50, µs", &|seen| microseconds(&seen.outside, 50.0));
    row("the same, above asking the outside server itself, µs", &|seen| {
        microseconds(&seen.outside, 50.0) - base
    });
    println!();
}

/// Prints what was asked for and what was measured; whether all was met.
fn bars(servers: &[Server], measured: &[Measured], flooded: &[Duration], calls: &scene::Calls) -> bool {
    let of = |name: &str| servers.iter().position(|server| server.name == name).map(|at| &measured[at]);
    let (ours, theirs) = (of("linkspan"), of("aardvark-dns"));
    let ratio = ours.zip(theirs).map(|(ours, theirs)| middle(&ours.rates) / middle(&theirs.rates));
    let late = ours
        .zip(theirs)
        .map(|(ours, theirs)| microseconds(&ours.alone, 99.0) / microseconds(&theirs.alone, 99.0));
    let millis = |times: &[Duration], percent| Some(microseconds(times, percent) / 1e3);
    // (what, measured, bar, whether more is better)
    let lines = [
        ("local answers a second: linkspan / aardvark-dns", ratio, Some(1.5), true),
        ("p99 of one local answer: linkspan / aardvark-dns", late, Some(1.0), false),
        ("p99 while another container asks 10,000 a second, ms", millis(flooded, 99.0), Some(5.0), false),
        ("ADD with names above ADD without, p50, ms", Some(calls.difference()), Some(0.5), false),
        ("ADD without names, p50, ms", millis(&calls.plain, 50.0), None, false),
        ("agent's CPU for 1,000 ADDs and DELs, ms", Some(calls.cpu.as_secs_f64() * 1e3), None, false),
        ("agent's memory in RAM, with the program, MiB", Some(calls.resident), Some(15.0), false),
    ];
    println!("| names | measured | bar | met |\n|---|---|---|---|");
    let mut all = true;
    for (what, value, bar, more) in lines {
        let met = bar.map(|bar| value.is_some_and(|value| if more { value >= bar } else { value <= bar }));
        all &= met.unwrap_or(true);
        let value = value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let bar = bar.map_or("-".to_owned(), |bar| format!("{} {bar}", if more { "≥" } else { "≤" }));
        println!("| {what} | {value} | {bar} | {} |", met.map_or("-", |met| if met { "yes" } else { "NO" }));
    }
    all
}
