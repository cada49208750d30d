//! Which functions an ADD and a DEL of a plain attachment enter: `link/hot.ld`, for the linker.
//!
//! Both calls are stepped through, an instruction at a time (ptrace(2)), after one of each has made the network; every
//! address is looked up in the map that the linker has made of that very program, since one with symbols is compiled
//! otherwise. `scripts/hot` builds both and runs this.
//!
//! ```text
//! bench-hot LINKSPAN MAP >link/hot.ld
//! ```

#![allow(clippy::undocumented_unsafe_blocks, reason = "each is one libc call over values that outlive it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[allow(dead_code, reason = "the runner uses more of it")]
#[path = "runner/host.rs"]
mod host;

use std::collections::HashSet;
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
    let (Some(program), Some(map)) = (env::args().nth(1), env::args().nth(2)) else {
        die("usage: bench-hot LINKSPAN MAP")
    };
    let program = fs::canonicalize(&program).unwrap_or_else(|_| die(&program));
    let program = program.to_string_lossy().into_owned();
    let sections = sections(&fs::read_to_string(&map).unwrap_or_else(|_| die(&map)));
    host::isolate();
    if fs::create_dir_all(PLUGINS).is_err() {
        die(PLUGINS);
    }
    for name in ["linkspan", "host-local"] {
        if symlink(&program, format!("{PLUGINS}/{name}")).is_err() {
            die(name);
        }
    }
    let mut entered = Entered::default();
    // The first makes the network, and is not what is looked at.
    let first = namespace("first");
    step("ADD", 0, &first);
    let second = namespace("second");
    for verb in ["ADD", "DEL"] {
        let addresses = step(verb, 1, &second);
        eprintln!("{verb}: {} addresses", addresses.len());
        for input in addresses.iter().filter_map(|at| function(&sections, *at)) {
            entered.note(input);
        }
    }
    print(&entered.order);
}

/// What was come by, in the order in which that was first: what is needed at about the same time lies together, and what
/// DEL alone needs is in no page that ADD touches.
#[derive(Default)]
struct Entered<T> {
    known: HashSet<T>,
    order: Vec<T>,
}

impl<T: Clone + Eq + std::hash::Hash> Entered<T> {
    fn note(&mut self, one: T) {
        if self.known.insert(one.clone()) {
            self.order.push(one);
        }
    }
}

/// Where the map says that code lies, and what the linker is to be told of it, in order of the addresses.
fn sections(map: &str) -> Vec<(u64, String)> {
    let mut words = map
        .split_once("Linker script and memory map")
        .unwrap_or_else(|| die("this is no map"))
        .1
        .split_whitespace()
        .peekable();
    let mut found = Vec::new();
    // A section's name, its address, its size and the file that it comes from, on one line or on two.
    while let Some(name) = words.next() {
        let Some(address) =
            words.peek().filter(|_| name.starts_with(".text")).and_then(|word| hexadecimal(word))
        else {
            continue;
        };
        words.next();
        let (Some(size), Some(file)) = (words.next().and_then(hexadecimal), words.next()) else { continue };
        // What the linker leaves out lies at 0; what it makes itself comes from no file.
        if let Some(input) = input(name, file).filter(|_| address != 0 && size != 0 && file.starts_with('/'))
        {
            found.push((address, input));
        }
    }
    found.sort_unstable();
    if found.is_empty() {
        die("the map has no code");
    }
    found
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// What selects a section: its name, or where many have that one, the file that it is in.
fn input(name: &str, file: &str) -> Option<String> {
    if let Some(function) = name.strip_prefix(".text.") {
        return Some(format!("*(.text.{})", lasting(function)));
    }
    let file = file.rsplit('/').next()?;
    match file.strip_suffix(')').and_then(|file| file.split_once('(')) {
        Some((archive, member)) => Some(format!("*{archive}:{member}(.text)")),
        None => Some(format!("*{file}(.text)")),
    }
}

fn function(sections: &[(u64, String)], at: u64) -> Option<String> {
    let after = sections.partition_point(|(address, _)| *address <= at);
    Some(sections.get(after.checked_sub(1)?)?.1.clone())
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
    if let Some((name, _)) = kept.split_once(".llvm.") {
        return format!("{name}.llvm.*");
    }
    // Of copies of one generic function the compiler keeps any: the last word says which crate asked for it.
    match kept.rsplit_once("Cs*_") {
        Some((name, krate)) if is_identifier(krate) => format!("{name}Cs*"),
        _ => kept,
    }
}

/// Whether these are a length and so many characters, and nothing else.
fn is_identifier(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (length, rest) = word.split_at(digits);
    length
        .parse::<usize>()
        .is_ok_and(|length| length == rest.trim_start_matches('_').len() || length == rest.len())
}

/// Steps through one call; the addresses that it was at, in the order in which it first was.
#[allow(clippy::zombie_processes, reason = "waitpid(2) reaps it")]
fn step(verb: &str, number: u32, netns: &str) -> Vec<u64> {
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
    let mut seen = Entered::default();
    for _ in 0..STEPS {
        let mut status = 0;
        if unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
            die("waitpid");
        }
        if libc::WIFEXITED(status) {
            if libc::WEXITSTATUS(status) != 0 {
                die(&format!("{verb} failed"));
            }
            return seen.order;
        }
        if !libc::WIFSTOPPED(status) {
            die(&format!("{verb} was killed"));
        }
        let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, ptr::null_mut::<u8>(), &mut registers) };
        seen.note(registers.rip);
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0) };
    }
    die(&format!("{verb} does not end"))
}

const HEAD: &str = "\
/*
 * What an ADD or a DEL of a plain attachment runs, put together: of the other nine tenths of the program nothing is
 * read from the file, and no page fault paid. To the linker's own script this is an addition (INSERT).
 *
 * One line a function that was entered, in that order, as scripts/hot found by stepping through an ADD and then a DEL;
 * hashes are left out, so that the list outlives a build. A line that matches nothing does nothing, and a function that
 * is missing costs a page fault: run scripts/hot again when the two calls have changed much
 * (docs/decisions/0037-what-a-start-costs.md).
 */
SECTIONS
{
  .text.first :
  {";

fn print(entered: &[String]) {
    println!("{HEAD}");
    for input in entered {
        println!("    {input}");
    }
    println!("  }}\n}}\nINSERT BEFORE .text;");
}
