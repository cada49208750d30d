//! `make bench`, second part: what published ports cost.
//!
//! 1. A new connection through one published port beside 0, 99, 999 and 4,999 others: linkspan's maps (nf_tables)
//!    against the rules of the reference `portmap` and of Docker (iptables). Each contender and each number is a host of
//!    its own, with another host and a container; all take turns in one run.
//! 2. An ADD that publishes a range of 10,000 ports, and one that publishes 1,000 ports one by one, against an ADD with
//!    one port.
//!
//! ```text
//! bench-ports [--linkspan PATH] [--plugins DIR] [--rounds 150] [--plot FILE.svg] [--check]
//! ```
//! `--check` fails when a bar is missed. Needs root; touches nothing of the machine's own network or state.

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[allow(dead_code, reason = "the first part uses more of it")]
#[path = "runner/host.rs"]
mod host;
#[path = "ports/plot.rs"]
mod plot;
#[path = "ports/publish.rs"]
mod publish;
#[path = "ports/rules.rs"]
mod rules;
#[path = "ports/town.rs"]
mod town;
#[path = "runner/turns.rs"]
mod turns;

use std::path::Path;
use std::{env, process};

use host::die;
use rules::Contender;
use town::Town;

/// How many ports are published; the one that is measured is in the middle of them.
const SIZES: [usize; 4] = [1, 100, 1000, 5000];
/// Connections of one turn, of which the median counts.
const TURN: usize = 15;

struct Options {
    linkspan: String,
    plugins: String,
    rounds: usize,
    plot: Option<String>,
    check: bool,
}

fn main() {
    let options = options();
    let linkspan = Path::new(&options.linkspan).canonicalize();
    let linkspan = linkspan.unwrap_or_else(|_| die(&format!("no {}", options.linkspan)));
    let linkspan = linkspan.to_string_lossy().into_owned();
    host::isolate();
    let connections = connections(&options, &linkspan);
    let adds = publish::measure(&linkspan, (options.rounds / 3).max(5));
    println!("\n| ratio of medians | measured | bar | met |\n|---|---|---|---|");
    let mut all_met = true;
    for (what, measured, bar) in connections.into_iter().chain(adds) {
        let met = bar.map(|bar| measured <= bar);
        all_met &= met.unwrap_or(true);
        let bar = bar.map_or("-".to_owned(), |bar| format!("≤ {bar}"));
        let verdict = met.map_or("-", |met| if met { "yes" } else { "NO" });
        println!("| {what} | {measured:.2} | {bar} | {verdict} |");
    }
    if options.check && !all_met {
        process::exit(1);
    }
}

fn options() -> Options {
    let mut options = Options {
        linkspan: "target/linkspan".to_owned(),
        plugins: "/usr/lib/cni".to_owned(),
        rounds: 150,
        plot: None,
        check: false,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| die(&format!("{word} needs a value")));
        match word.as_str() {
            "--linkspan" => options.linkspan = value(),
            "--plugins" => options.plugins = value(),
            "--rounds" => options.rounds = value().parse().unwrap_or_else(|_| die("--rounds: not a number")),
            "--plot" => options.plot = Some(value()),
            "--check" => options.check = true,
            _ => die(&format!("unknown option: {word}")),
        }
    }
    options
}

/// One line of a table of ratios: what, the ratio, its bar.
type Ratio = (String, f64, Option<f64>);

/// Prints and draws what a new connection costs; gives the ratios.
fn connections(options: &Options, linkspan: &str) -> Vec<Ratio> {
    let contenders = Contender::all(linkspan, &options.plugins);
    let towns: Vec<(usize, usize, Town)> = contenders
        .iter()
        .enumerate()
        .flat_map(|(c, contender)| SIZES.map(|size| (c, size, contender.settle(size))))
        .collect();
    // A round is a turn of everybody: what else the machine does falls on all alike.
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for round in 0..options.rounds + 1 {
        let mut medians = vec![0.0; towns.len()];
        for at in turns::order(towns.len(), round) {
            medians[at] = median((0..TURN).map(|_| towns[at].2.connect()).collect());
        }
        // The first round finds caches cold.
        if round > 0 {
            rounds.push(medians);
        }
    }
    let of = |at: usize| median(rounds.iter().map(|round| round[at]).collect());
    println!(
        "| µs for a new connection, median | {} |",
        SIZES.map(|size| format!("{size} ports")).join(" | ")
    );
    println!("|---|{}", "---|".repeat(SIZES.len()));
    let mut series = Vec::new();
    for (c, contender) in contenders.iter().enumerate() {
        let cells: Vec<f64> = (0..SIZES.len()).map(|s| of(c * SIZES.len() + s)).collect();
        let texts: Vec<String> = cells.iter().map(|cell| format!("{cell:.1}")).collect();
        println!("| {} | {} |", contender.name(), texts.join(" | "));
        series.push((contender.name(), cells));
    }
    if let Some(path) = &options.plot
        && let Err(error) = std::fs::write(path, plot::svg(&SIZES, &series))
    {
        die(&format!("{path}: {error}"));
    }
    // Ratios within a round, then their median: both sides had the machine in the same state.
    let ratio =
        |above: usize, below: usize| median(rounds.iter().map(|round| round[above] / round[below]).collect());
    let mut ratios = vec![
        ("a connection beside 100 ports / beside none: linkspan".to_owned(), ratio(1, 0), None),
        ("a connection beside 1,000 ports / beside none: linkspan".to_owned(), ratio(2, 0), Some(1.1)),
        ("a connection beside 5,000 ports / beside none: linkspan".to_owned(), ratio(3, 0), None),
    ];
    for (c, contender) in contenders.iter().enumerate().skip(1) {
        let first = c * SIZES.len();
        let name = contender.name();
        ratios.push((
            format!("a connection beside 1,000 / beside none: {name}"),
            ratio(first + 2, first),
            None,
        ));
        ratios.push((
            format!("a connection beside 5,000 / beside none: {name}"),
            ratio(first + 3, first),
            None,
        ));
    }
    ratios
}

/// The middle of some times.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
