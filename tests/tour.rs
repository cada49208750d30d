//! docs/tour.md, line by line: every block is typed into a shell on a scratch host, and what comes back is what the page
//! shows.
//!
//! On the page `$ ` begins a command and `> ` goes on with it; other lines are what it says. A line `...` stands for any
//! lines. Numbers and hardware addresses that differ from run to run stand in a comment before the block: `<!-- varies: 3s 4026532213 -->`. A
//! command whose shown answer ends in a complaint (`linkspan: ...`, `mend: ...`) has to fail, every other one to succeed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lab::Lab;
use lab::plugin::binary;

/// The page, as it is when the test runs.
fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tour.md")).unwrap()
}

/// What ends the answer of a command; no answer has it.
const MARK: &str = "\u{1e}";
/// For one command.
const LIMIT: Duration = Duration::from_secs(30);

/// One command and the answer that the page shows.
struct Typed {
    line: usize,
    words: String,
    answer: Vec<String>,
    varies: Vec<String>,
}

/// The commands of a page, in order. Every fenced block has to be one of commands.
fn commands(page: &str) -> Vec<Typed> {
    let (mut found, mut inside, mut varies) = (Vec::<Typed>::new(), false, Vec::new());
    for (at, text) in page.lines().enumerate() {
        if let Some(fence) = text.strip_prefix("```") {
            assert!(inside || fence == "console", "line {}: a block that no test would run", at + 1);
            inside = !inside;
            if !inside {
                varies = Vec::new();
            }
        } else if let Some(list) = text.strip_prefix("<!-- varies: ").filter(|_| !inside) {
            let list = list.strip_suffix(" -->").expect("a comment ends in its line");
            varies = list.split_whitespace().map(str::to_owned).collect();
        } else if let Some(words) = text.strip_prefix("$ ").filter(|_| inside) {
            let words = words.to_owned();
            found.push(Typed { line: at + 1, words, answer: Vec::new(), varies: varies.clone() });
        } else if inside {
            let last = found.last_mut().expect("a block begins with a command");
            match text.strip_prefix("> ").filter(|_| last.answer.is_empty()) {
                Some(more) => write!(last.words, "\n{more}").unwrap(),
                None => last.answer.push(text.to_owned()),
            }
        }
    }
    assert!(!inside, "the last block does not end");
    found
}

/// A shell whose processes end with it: it is the first of a process namespace.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Shell {
    fn start(lab: &Lab) -> Self {
        let directory = lab.work.path().join("bin");
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(binary().canonicalize().unwrap(), directory.join("linkspan")).unwrap();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", "exec bash 2>&1"])
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", "/root"), ("TERM", "dumb"), ("LC_ALL", "C")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, stdin, lines }
    }

    /// Types a command; gives what it said and its exit code.
    fn types(&mut self, words: &str) -> (Vec<String>, i32) {
        // The answer may end in the middle of a line.
        writeln!(self.stdin, "{words}\nprintf '\\n{MARK}%d\\n' $?").unwrap();
        let mut said = Vec::new();
        loop {
            let line = self.lines.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("{words}: {e}: {said:#?}"));
            if let Some(code) = line.strip_prefix(MARK) {
                if said.last().is_some_and(String::is_empty) {
                    said.pop();
                }
                return (said, code.parse().unwrap());
            }
            said.push(line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a word is a number, perhaps with a unit: `12`, `3s`, `1.21K`.
fn is_number(word: &str) -> bool {
    let bare = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    word.len() - bare.len() <= 1 && bare.parse::<f64>().is_ok()
}

/// Whether a word is a hardware address, perhaps in quotes.
fn is_mac(word: &str) -> bool {
    let parts: Vec<&str> = word.trim_matches(['"', ',']).split(':').collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

/// Whether a line is the one that was shown, columns apart.
fn is_line(shown: &str, said: &str, varies: &[String]) -> bool {
    let same = |(shown, said): (&str, &str)| {
        let alike = (is_number(shown) && is_number(said)) || (is_mac(shown) && is_mac(said));
        shown == said || (alike && varies.iter().any(|word| word == shown))
    };
    let (shown, said) = (shown.split_whitespace(), said.split_whitespace());
    shown.clone().count() == said.clone().count() && shown.zip(said).all(same)
}

/// Whether an answer is the one that was shown.
fn is_answer(shown: &[String], said: &[String], varies: &[String]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=said.len()).any(|from| is_answer(rest, &said[from..], varies))
        }
        Some((first, rest)) => said
            .split_first()
            .is_some_and(|(line, more)| is_line(first, line, varies) && is_answer(rest, more, varies)),
    }
}

fn is_complaint(answer: &[String]) -> bool {
    answer.last().is_some_and(|line| line.starts_with("linkspan: ") || line.starts_with("mend: "))
}

/// A host to type on, where this machine has what the page needs.
fn host() -> Option<Lab> {
    if lab::is_reference() {
        lab::skipped("the reference has no commands");
        return None;
    }
    for program in ["curl", "busybox", "nft", "unshare"] {
        let there = ["/usr/bin", "/usr/sbin", "/bin"].iter().any(|d| Path::new(d).join(program).exists());
        if !there {
            lab::skipped(&format!("{program} is not here"));
            return None;
        }
    }
    Lab::new()
}

#[test]
fn every_block_says_what_the_page_shows() {
    let Some(lab) = host() else { return };
    let mut shell = Shell::start(&lab);
    let all = commands(&page());
    assert!(all.len() > 50, "{} commands", all.len());
    for typed in all {
        let (said, code) = shell.types(&typed.words);
        let place = format!("docs/tour.md:{}: $ {}", typed.line, typed.words);
        let (shown, heard) = (typed.answer.join("\n"), said.join("\n"));
        assert!(
            is_answer(&typed.answer, &said, &typed.varies),
            "{place}\nthe page:\n{shown}\nsaid:\n{heard}"
        );
        assert_eq!(code != 0, is_complaint(&typed.answer), "{place}\nexit code {code}:\n{heard}");
    }
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    let page = "<!-- varies: 3s -->\n```console\n$ cat <<END\n> x\n> END\nx 3s\n...\nlast\n```\n";
    let [typed] = &commands(page)[..] else { panic!("one command") };
    assert_eq!((typed.words.as_str(), typed.line), ("cat <<END\nx\nEND", 3));
    let said = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let is = |text: &str| is_answer(&typed.answer, &said(text), &typed.varies);
    assert!(is("x    12m\nlast") && is("x 3s\none\ntwo\nlast"));
    for other in ["x 3s", "x y\nlast", "y 3s\nlast", "x 3s\nlast\nmore", "x 3s more\nlast"] {
        assert!(!is(other), "{other}");
    }
    assert!(std::panic::catch_unwind(|| commands("```sh\n$ x\n```\n")).is_err(), "a block that is not run");
}

/// For whoever changes a command: `LINKSPAN=... cargo test --test tour written_anew -- --ignored` writes the page with
/// what the commands say now; `git diff` then shows what has changed.
#[test]
#[ignore = "writes docs/tour.md"]
fn the_page_is_written_anew() {
    let Some(lab) = host() else { return };
    let mut shell = Shell::start(&lab);
    let mut lines: Vec<String> = page().lines().map(str::to_owned).collect();
    let mut moved = 0_isize;
    for typed in commands(&page()) {
        let (said, _) = shell.types(&typed.words);
        if is_answer(&typed.answer, &said, &typed.varies) {
            continue;
        }
        let begin = (typed.line + typed.words.lines().count() - 1).checked_add_signed(moved).unwrap();
        let end = begin + typed.answer.len();
        moved += isize::try_from(said.len()).unwrap() - isize::try_from(typed.answer.len()).unwrap();
        lines.splice(begin..end, said);
    }
    fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tour.md"), lines.join("\n") + "\n").unwrap();
}
