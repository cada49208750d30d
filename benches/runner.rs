//! `make bench`: linkspan against the floor and against Debian's reference plugins, in one run on one kernel.
//!
//! All contenders take turns, so that what else the machine does falls on all of them alike; and in orders in which each
//! comes after each of the others equally often, since who comes after a large program finds the caches full of it.
//! Each has a host of its own (namespaces): a rule, a link or a record of one is not looked at by another.
//! Times are those of whole processes, from before the spawn until the process is reaped, as a runtime sees them.
//!
//! ```text
//! runner [--linkspan PATH] [--other PATH] [--floor PATH] [--plugins DIR] [--count 50] [--many 900] [--check]
//! ```
//! `--other` is a second linkspan, to see in one run what a change brings. `--check` fails when a bar is missed. Needs
//! root; touches nothing of the machine's own network or state.

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[path = "runner/contender.rs"]
mod contender;
#[path = "runner/host.rs"]
mod host;
#[path = "runner/turns.rs"]
mod turns;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use contender::{Contender, Kind};
use host::{Host, die};

/// How many DELs run at the same time, how often that is repeated, and how many run alone before each time.
const CROWD: u32 = 64;
const CROWDS: usize = 15;
const LONE: usize = 3;
const SETTLE: Duration = Duration::from_secs(5);
const STRACE: &str = "/usr/bin/strace";

struct Options {
    linkspan: String,
    other: Option<String>,
    floor: String,
    plugins: String,
    count: u32,
    many: u32,
    check: bool,
}

/// All times of one contender.
#[derive(Default)]
struct Times {
    add: Vec<Duration>,
    del: Vec<Duration>,
    /// The first of many, without turns.
    add_alone: Vec<Duration>,
    add_many: Vec<Duration>,
    del_many: Vec<Duration>,
    crowd: Vec<Duration>,
    /// DELs that nobody is beside, between the crowds: the machine is not as fast at one time as at another.
    lone: Vec<Duration>,
    traced: Option<[(u64, u64); 2]>,
    faults: Option<[u64; 2]>,
}

/// Picks one series out of all times.
type Series = fn(&Times) -> &[Duration];

fn main() {
    let options = options();
    let mut field = field(&options);
    let mut times: Vec<Times> = field.iter().map(|_| Times::default()).collect();
    warm_up(&mut field, options.count);
    first_containers(&mut field, &mut times, options.count);
    for (contender, times) in field.iter_mut().zip(&mut times) {
        if Path::new(STRACE).exists() {
            times.traced = Some(contender.traced(STRACE, 0));
        }
        times.faults = Some(contender.faults(0));
    }
    crowds(&mut field, &mut times);
    many_containers(&mut field, &mut times, &options);
    table(&field, &times, &options);
    let met = bars(&field, &times);
    if options.check && !met {
        process::exit(1);
    }
}

fn options() -> Options {
    let mut options = Options {
        linkspan: "target/x86_64-unknown-linux-musl/release/linkspan".to_owned(),
        other: None,
        floor: "target/x86_64-unknown-linux-musl/release/floor".to_owned(),
        plugins: "/usr/lib/cni".to_owned(),
        count: 50,
        many: 900,
        check: false,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| die(&format!("{word} needs a value")));
        let number = |text: String| text.parse().unwrap_or_else(|_| die(&format!("not a number: {text}")));
        match word.as_str() {
            "--linkspan" => options.linkspan = value(),
            "--other" => options.other = Some(value()),
            "--floor" => options.floor = value(),
            "--plugins" => options.plugins = value(),
            "--count" => options.count = number(value()),
            "--many" => options.many = number(value()),
            "--check" => options.check = true,
            _ => die(&format!("unknown option: {word}")),
        }
    }
    // A bridge has 1023 ports.
    if options.count == 0 || options.many < options.count || options.many + options.count > 1000 {
        die("--count must be at least 1, --many no less, and both together at most 1000");
    }
    options
}

/// Whoever is installed takes part; the floor has to be.
fn field(options: &Options) -> Vec<Contender> {
    // Paths must hold from any directory: linkspan's is the target of a symbolic link.
    let absolute = |path: &str| Path::new(path).canonicalize().ok().map(|p| p.to_string_lossy().into_owned());
    let linkspan = absolute(&options.linkspan);
    let floor =
        absolute(&options.floor).unwrap_or_else(|| die(&format!("no floor program: {}", options.floor)));
    let machine = Host::current();
    let host = || Rc::new(Host::new(&machine));
    let mut field = Vec::new();
    match linkspan {
        Some(path) => {
            field.push(Contender::new(Kind::Linkspan, "linkspan", &path, host()));
            field.push(Contender::new(Kind::Faces, "faces", &path, host()));
            field.push(Contender::new(Kind::Loopback, "loopback", &path, host()));
        }
        None => eprintln!("bench: skipped linkspan: no {}", options.linkspan),
    }
    if let Some(other) = &options.other {
        let path = absolute(other).unwrap_or_else(|| die(&format!("no other linkspan: {other}")));
        field.push(Contender::new(Kind::Linkspan, "other", &path, host()));
    }
    let shared = host();
    field.push(Contender::new(Kind::Floor, "floor", &floor, Rc::clone(&shared)));
    field.push(Contender::new(Kind::FloorGroup, "floor by group", &floor, shared));
    field.push(Contender::new(Kind::Bare, "exec", &floor, host()));
    if Path::new(&options.plugins).join("firewall").exists() {
        field.push(Contender::new(Kind::Chain, "chain", &options.plugins, host()));
        field.push(Contender::new(Kind::LoopbackChain, "their loopback", &options.plugins, host()));
    } else {
        eprintln!("bench: skipped chain: no plugins in {}", options.plugins);
    }
    field
}

/// One ADD and DEL each, so that bridges and base rules exist and files are in the page cache.
fn warm_up(field: &mut [Contender], count: u32) {
    for contender in field {
        contender.prepare(if comes_in_crowds(contender) { count.max(CROWD) } else { count });
        contender.add(0);
        contender.del(0);
    }
}

fn first_containers(field: &mut [Contender], times: &mut [Times], count: u32) {
    turns(field, 0..count, |i, contender, n| {
        // Two floors on one bridge would count each other's containers: the second one has its turn in DEL only.
        if contender.kind != Kind::FloorGroup {
            times[i].add.push(contender.add(n));
        }
    });
    turns(field, 0..count, |i, contender, n| {
        if contender.kind != Kind::FloorGroup {
            times[i].del.push(contender.del(n));
        }
    });
    let Some(at) = field.iter().position(|c| c.kind == Kind::FloorGroup) else { return };
    (0..count).for_each(|n| times[at].add.push(field[at].add(n)));
    (0..count).for_each(|n| times[at].del.push(field[at].del(n)));
}

/// Lets the contenders take turns over container numbers, in another order with every number.
fn turns(
    field: &mut [Contender],
    numbers: std::ops::Range<u32>,
    mut turn: impl FnMut(usize, &mut Contender, u32),
) {
    for n in numbers {
        for i in turns::order(field.len(), n as usize) {
            turn(i, &mut field[i], n);
        }
    }
}

fn comes_in_crowds(contender: &Contender) -> bool {
    matches!(contender.kind, Kind::Linkspan | Kind::Floor | Kind::FloorGroup)
}

/// In turns: some DELs alone, and a crowd of them.
fn crowds(field: &mut [Contender], times: &mut [Times]) {
    for _ in 0..CROWDS {
        for (contender, times) in field.iter_mut().zip(times.iter_mut()) {
            if !comes_in_crowds(contender) {
                continue;
            }
            for _ in 0..LONE {
                contender.add(0);
                times.lone.push(contender.del(0));
            }
            times.crowd.push(crowd(contender));
        }
    }
}

/// All DELs are started before any is waited for; the time is that of the slowest.
fn crowd(contender: &mut Contender) -> Duration {
    for n in 0..CROWD {
        contender.add(n);
    }
    let calls: Vec<_> = (0..CROWD).map(|n| contender.prepared_del(n)).collect();
    contender.host.enter();
    let start = Instant::now();
    let running: Vec<_> = calls.into_iter().map(host::Call::start).collect();
    let ended: Vec<i32> = running.iter().map(host::Running::reap).collect();
    let took = start.elapsed();
    running.into_iter().zip(ended).for_each(|(running, status)| drop(running.output(status)));
    took
}

/// ADD and DEL beside `many` others on the same bridge, and on the same machine: each contender's containers are gone
/// before those of the next come, so that nobody is measured beside twice as many. What it is compared with are the first
/// of these, which are as little disturbed by others. Without the chain: it would take the rest of the day.
fn many_containers(field: &mut [Contender], times: &mut [Times], options: &Options) {
    let (many, all) = (options.many, options.many + options.count);
    for contender in field.iter_mut() {
        contender.forget_containers();
    }
    for (contender, times) in field.iter_mut().zip(times) {
        if !matches!(contender.kind, Kind::Linkspan | Kind::Floor) {
            continue;
        }
        contender.prepare(all);
        // As idle before these as before those that they are compared with.
        thread::sleep(SETTLE);
        times.add_alone = (0..options.count).map(|n| contender.add(n)).collect();
        for n in options.count..many {
            contender.add(n);
        }
        // The last of hundreds of new links are still announcing themselves to all the others.
        thread::sleep(SETTLE);
        times.add_many = (many..all).map(|n| contender.add(n)).collect();
        times.del_many = (many..all).map(|n| contender.del(n)).collect();
        for n in 0..many {
            contender.del(n);
        }
        contender.forget_containers();
        thread::sleep(SETTLE);
    }
}

fn percentile(times: &[Duration], percent: usize) -> Option<f64> {
    let mut sorted: Vec<_> = times.to_vec();
    sorted.sort();
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .map(|t| t.as_secs_f64() * 1e3)
}

fn table(field: &[Contender], times: &[Times], options: &Options) {
    let names: Vec<&str> = field.iter().map(|c| c.name).collect();
    println!("| ms | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let row = |label: &str, value: &dyn Fn(&Times) -> Option<String>| {
        let cells: Vec<String> = times.iter().map(|t| value(t).unwrap_or_else(|| "-".to_owned())).collect();
        println!("| {label} | {} |", cells.join(" | "));
    };
    let ms = |times: &[Duration], percent| percentile(times, percent).map(|v| format!("{v:.2}"));
    let Options { count, many, .. } = options;
    for percent in [0, 50, 90] {
        let p = if percent == 0 { "min".to_owned() } else { format!("p{percent}") };
        row(&format!("ADD {p}, the first {count}"), &|t| ms(&t.add, percent));
        row(&format!("ADD {p}, the first {count} of {many}"), &|t| ms(&t.add_alone, percent));
        row(&format!("ADD {p}, beside {many}"), &|t| ms(&t.add_many, percent));
        row(&format!("DEL {p}, the first {count}"), &|t| ms(&t.del, percent));
        row(&format!("DEL {p}, beside {many}"), &|t| ms(&t.del_many, percent));
    }
    row("DEL p50, alone between the crowds", &|t| ms(&t.lone, 50));
    row(&format!("{CROWD} DELs at once, p50 of {CROWDS}"), &|t| ms(&t.crowd, 50));
    row("ADD system calls", &|t| t.traced.map(|[add, _]| add.0.to_string()));
    row("ADD processes", &|t| t.traced.map(|[add, _]| add.1.to_string()));
    row("ADD page faults", &|t| t.faults.map(|[add, _]| add.to_string()));
    row("DEL system calls", &|t| t.traced.map(|[_, del]| del.0.to_string()));
    row("DEL processes", &|t| t.traced.map(|[_, del]| del.1.to_string()));
    row("DEL page faults", &|t| t.faults.map(|[_, del]| del.to_string()));
}

/// Prints the ratios. Whether every bar was met: a bar that could not be measured is one that was not.
fn bars(field: &[Contender], times: &[Times]) -> bool {
    let of = |kind: Kind, pick: Series| {
        let at = field.iter().position(|c| c.kind == kind)?;
        percentile(pick(&times[at]), 50)
    };
    let (ours, floor, chain) = (Kind::Linkspan, Kind::Floor, Kind::Chain);
    let (add, del): (Series, Series) = (|t| &t.add, |t| &t.del);
    let (add_many, alone): (Series, Series) = (|t| &t.add_many, |t| &t.add_alone);
    let (crowd, lone): (Series, Series) = (|t| &t.crowd, |t| &t.lone);
    let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
    // (what, measured, bar, whether more is better); no bar: for comparison only
    let lines = [
        ("ADD: chain / linkspan", ratio(of(chain, add), of(ours, add)), Some(60.0), true),
        ("ADD: linkspan / floor", ratio(of(ours, add), of(floor, add)), Some(2.0), false),
        ("ADD: beside many / the first", ratio(of(ours, add_many), of(ours, alone)), Some(1.2), false),
        ("ADD: chain / faces", ratio(of(chain, add), of(Kind::Faces, add)), Some(20.0), true),
        (
            "ADD: their loopback / loopback",
            ratio(of(Kind::LoopbackChain, add), of(Kind::Loopback, add)),
            Some(3.0),
            true,
        ),
        ("ADD: loopback / exec", ratio(of(Kind::Loopback, add), of(Kind::Bare, add)), None, false),
        ("ADD: faces / linkspan", ratio(of(Kind::Faces, add), of(ours, add)), None, false),
        ("DEL: chain / faces", ratio(of(chain, del), of(Kind::Faces, del)), None, true),
        ("DEL: chain / linkspan", ratio(of(chain, del), of(ours, del)), Some(6.0), true),
        ("DEL: linkspan / floor", ratio(of(ours, del), of(floor, del)), Some(1.2), false),
        ("DEL: a crowd / one", ratio(of(ours, crowd), of(ours, lone)), Some(4.0), false),
        ("ADD: chain / floor", ratio(of(chain, add), of(floor, add)), None, true),
        (
            "ADD of the floor: beside many / the first",
            ratio(of(floor, add_many), of(floor, alone)),
            None,
            false,
        ),
        ("ADD beside many: linkspan / floor", ratio(of(ours, add_many), of(floor, add_many)), None, false),
        ("DEL: chain / floor", ratio(of(chain, del), of(floor, del)), None, true),
        ("DEL of the floor: a crowd / one", ratio(of(floor, crowd), of(floor, lone)), None, false),
        (
            "DEL of the floor by group: a crowd / one",
            ratio(of(Kind::FloorGroup, crowd), of(Kind::FloorGroup, lone)),
            None,
            false,
        ),
    ];
    println!("\n| ratio of p50 | measured | bar | met |\n|---|---|---|---|");
    let mut all = true;
    for (what, measured, bar, more_is_better) in lines {
        let met = bar.map(|bar| measured.is_some_and(|m| if more_is_better { m >= bar } else { m <= bar }));
        all &= met.unwrap_or(true);
        let sign = if more_is_better { "≥" } else { "≤" };
        let bar = bar.map_or("-".to_owned(), |b| format!("{sign} {b}"));
        let verdict = met.map_or("-", |met| if met { "yes" } else { "NO" });
        println!(
            "| {what} | {} | {bar} | {verdict} |",
            measured.map_or("-".to_owned(), |m| format!("{m:.2}"))
        );
    }
    all
}
