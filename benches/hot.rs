//! Which functions an ADD and a DEL of a plain attachment enter: `link/hot.ld`, for the linker.
//!
//! Both calls are stepped through, an instruction at a time (ptrace(2)), after one of each has made the network; every
//! address is looked up in the program's own symbols. `scripts/hot` builds a program that has them and runs this.
//!
//! ```text
//! bench-hot LINKSPAN >link/hot.ld
//! ```

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[allow(dead_code, reason = "the runner uses more of it")]
#[path = "runner/host.rs"]
mod host;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::{env, fs, mem, ptr};

use host::{die, namespace};

const PLUGINS: &str = "/run/plugins";
/// More than any call takes: a program that never ends would be stepped through for ever.
const STEPS: usize = 20_000_000;

fn main() {
    let Some(program) = env::args().nth(1) else { die("usage: bench-hot LINKSPAN") };
    let program = fs::canonicalize(&program).unwrap_or_else(|_| die(&program));
    let program = program.to_string_lossy().into_owned();
    let symbols = symbols(&program);
    host::isolate();
    if fs::create_dir_all(PLUGINS).is_err() {
        die(PLUGINS);
    }
    for name in ["linkspan", "host-local"] {
        if symlink(&program, format!("{PLUGINS}/{name}")).is_err() {
            die(name);
        }
    }
    let mut entered = BTreeSet::new();
    // The first makes the network, and is not what is looked at.
    let first = namespace("first");
    step("ADD", 0, &first);
    let second = namespace("second");
    for verb in ["ADD", "DEL"] {
        let addresses = step(verb, 1, &second);
        eprintln!("{verb}: {} addresses", addresses.len());
        entered.extend(addresses.iter().filter_map(|at| function(&symbols, *at)));
    }
    print(&entered);
}

/// Addresses and names of the functions, in order of the addresses.
fn symbols(program: &str) -> Vec<(u64, String)> {
    let output = Command::new("nm").args(["-n", program]).output();
    let text = output.unwrap_or_else(|_| die("nm (package binutils)")).stdout;
    let lines = String::from_utf8_lossy(&text);
    let read = |line: &str| {
        let mut words = line.split(' ');
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        matches!(kind, "t" | "T" | "w" | "W").then_some(())?;
        Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
    };
    let found: Vec<_> = lines.lines().filter_map(read).collect();
    if found.is_empty() {
        die("this program has no symbols");
    }
    found
}

fn function(symbols: &[(u64, String)], at: u64) -> Option<String> {
    let after = symbols.partition_point(|(address, _)| *address <= at);
    Some(lasting(&symbols.get(after.checked_sub(1)?)?.1))
}

/// The name without what another build has differently. Of the two ways that the compiler has to write names, one ends in
/// a hash, `_ZN4core3fmt17h0123456789abcdefE`; in the other, `Cs1a2B_4core` becomes `Cs*_4core`, and numbers that the
/// compiler gives to its own copies go.
fn lasting(name: &str) -> String {
    if let Some((before, hash)) = name.rsplit_once("17h").filter(|_| name.starts_with("_ZN")) {
        let digits = hash.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        if digits == 16 {
            // What comes after the E are the compiler's copies.
            return format!("{before}17h*");
        }
    }
    let mut kept = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, hash) = rest.split_at(at + 2);
        kept.push_str(before);
        let length = hash.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if hash.as_bytes().get(length) == Some(&b'_') {
            kept.push('*');
            rest = &hash[length..];
        } else {
            rest = hash;
        }
    }
    kept.push_str(rest);
    match kept.split_once(".llvm.") {
        Some((name, _)) => format!("{name}.llvm.*"),
        None => kept,
    }
}

/// Steps through one call; the addresses that it was at.
#[allow(clippy::zombie_processes, reason = "waitpid(2) reaps it")]
fn step(verb: &str, number: u32, netns: &str) -> BTreeSet<u64> {
    let configuration = format!(
        r#"{{"cniVersion":"1.0.0","name":"bench0","type":"linkspan","bridge":"bench0","ipam":{{"type":"host-local",
        "subnet":"10.97.0.0/16","routes":[{{"dst":"0.0.0.0/0"}}]}},"capabilities":{{"portMappings":true}},
        "runtimeConfig":{{"portMappings":[{{"hostPort":{},"containerPort":80,"protocol":"tcp"}}]}}}}"#,
        30_000 + number
    );
    let mut command = Command::new(format!("{PLUGINS}/linkspan"));
    command
        .env_clear()
        .envs([("CNI_COMMAND", verb), ("CNI_NETNS", netns), ("CNI_IFNAME", "eth0"), ("CNI_PATH", PLUGINS)])
        .env("CNI_CONTAINERID", format!("hot-{number}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let traced = || match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    unsafe { command.pre_exec(traced) };
    let mut child = command.spawn().unwrap_or_else(|error| die(&error.to_string()));
    if child.stdin.take().is_none_or(|mut input| input.write_all(configuration.as_bytes()).is_err()) {
        die("the configuration");
    }
    let pid = libc::pid_t::try_from(child.id()).unwrap_or_else(|_| die("pid"));
    let mut seen = BTreeSet::new();
    for _ in 0..STEPS {
        let mut status = 0;
        if unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
            die("waitpid");
        }
        if libc::WIFEXITED(status) {
            if libc::WEXITSTATUS(status) != 0 {
                die(&format!("{verb} failed"));
            }
            return seen;
        }
        if !libc::WIFSTOPPED(status) {
            die(&format!("{verb} was killed"));
        }
        let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, ptr::null_mut::<u8>(), &mut registers) };
        seen.insert(registers.rip);
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0) };
    }
    die(&format!("{verb} does not end"))
}

const HEAD: &str = "\
/*
 * What an ADD or a DEL of a plain attachment runs, put together: of the other nine tenths of the program nothing is
 * read from the file, and no page fault paid. To the linker's own script this is an addition (INSERT).
 *
 * One line a function that was entered, as scripts/hot found by stepping through both calls; hashes are left out, so
 * that the list outlives a build. A line that matches nothing does nothing, and a function that is missing costs a page
 * fault: run scripts/hot again when the two calls have changed much (docs/decisions/0037-what-a-start-costs.md).
 */
SECTIONS
{
  .text.first :
  {";

fn print(entered: &BTreeSet<String>) {
    println!("{HEAD}");
    for name in entered {
        println!("    *(.text.{name})");
    }
    println!("  }}\n}}\nINSERT BEFORE .text;");
}
