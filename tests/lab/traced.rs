//! What a run asks of the kernel, counted by strace(1): the same on every machine, which a clock is not.

use std::fs;

use super::Plugin;
use super::outcome::Outcome;

const TRACE: &str = "/run/trace";

/// A run, and how many of these system calls it made: `openat,getdents64`, or `all`.
pub fn counted(plugin: &Plugin, calls: &str, run: impl FnOnce(&Plugin) -> Outcome) -> (Outcome, usize) {
    let which = format!("trace={calls}");
    let outcome = run(&plugin.wrapped(&["strace", "-f", "-qq", "-e", &which, "-o", TRACE]));
    let trace = fs::read_to_string(TRACE).expect("strace has written");
    (outcome, trace.lines().filter(|line| line.contains('(')).count())
}
