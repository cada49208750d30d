//! The house rules, kept by a machine: rooms use only the rooms above them, `unsafe` lives in one room, files stay
//! short, nothing is left to be done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the purest room to the one that people see. A room may use those before it.
const ROOMS: [&str; 15] = [
    "model", "cni", "ipam", "firewall", "plan", "store", "sys", "apply", "verbs", "agent", "view", "explain",
    "doctor", "plugins", "cli",
];

/// Rooms of plain values, without files, processes, sockets or clocks.
const PURE: [&str; 5] = ["model", "cni", "ipam", "firewall", "plan"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(under: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(under)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The room that a file of `src` belongs to; `None` for `lib.rs` and `main.rs`.
fn room_of(path: &Path) -> Option<usize> {
    let name =
        path.strip_prefix(root().join("src")).ok()?.components().next()?.as_os_str().to_str()?.to_owned();
    let name = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
    if name == "lib" || name == "main" {
        return None;
    }
    let room = ROOMS.iter().position(|room| *room == name);
    Some(room.unwrap_or_else(|| panic!("{}: {name} is no room of the house", short(path))))
}

/// The text without comments and string literals, line by line, so that lines keep their numbers.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                '\\' if quoted => {
                    chars.next();
                }
                // A quote as a character is no quote.
                '\'' if !quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    chars.next();
                }
                '"' => quoted = !quoted,
                _ if quoted => {}
                _ => out.push(c),
            }
        }
        out.push('\n');
    }
    out
}

/// Files that are compiled for tests only: those that a `#[cfg(test)] mod NAME;` brings in. Tests of a pure room may
/// ask the kernel.
fn test_files() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in sources("src") {
        let stem = path.file_stem().unwrap();
        let is_root = ["mod", "lib", "main"].iter().any(|root| stem == *root);
        let directory = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        let text = code(&fs::read_to_string(&path).unwrap());
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        while let Some(line) = lines.next() {
            let declared = if line == "#[cfg(test)]" { lines.next() } else { None };
            let name = declared.and_then(|line| line.split_once("mod ")?.1.strip_suffix(';'));
            found.extend(name.map(|name| directory.join(name)));
        }
    }
    found
}

/// The code of a file that is no test's: nothing of a test file, and what stands before an inline module of tests.
fn shipped(path: &Path, tests: &BTreeSet<PathBuf>) -> String {
    let is_test = path.ancestors().any(|part| tests.contains(&part.with_extension("")));
    let text = if is_test { String::new() } else { code(&fs::read_to_string(path).unwrap()) };
    match text.find("#[cfg(test)]\nmod tests {") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The first path segments after every `crate::`, groups unfolded: `crate::{model::A, cni::B}` gives both.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => used.extend(first_word(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            used.extend(first_word(&item));
        } else {
            used.extend(first_word(rest));
        }
    }
    used
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

#[test]
fn the_reader_of_uses_reads() {
    let text = code(
        "use crate::{model::{A, B}, cni, sys::x::y}; // crate::verbs\nlet s = \"crate::cli\"; crate::plan::z();",
    );
    let used: Vec<String> = rooms_used(&text).into_iter().collect();
    assert_eq!(used, ["cni", "model", "plan", "sys"]);
    assert!(has_word("unsafe { x }", "unsafe") && !has_word("unsafe_op_in", "unsafe"));
}

#[test]
fn every_room_is_there_and_no_other() {
    let mut seen = BTreeSet::new();
    for path in sources("src") {
        seen.extend(room_of(&path));
    }
    assert_eq!(seen.len(), ROOMS.len(), "rooms with code: {seen:?}");
}

#[test]
fn rooms_use_only_the_rooms_above_them() {
    let mut broken = Vec::new();
    for path in sources("src") {
        let Some(room) = room_of(&path) else { continue };
        for used in rooms_used(&code(&fs::read_to_string(&path).unwrap())) {
            let Some(other) = ROOMS.iter().position(|r| *r == used) else {
                broken.push(format!("{}: crate::{used} is no room", short(&path)));
                continue;
            };
            if other > room {
                broken.push(format!("{}: {} uses {used}, which is below it", short(&path), ROOMS[room]));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing() {
    let tests = test_files();
    let mut broken = Vec::new();
    for path in sources("src") {
        let Some(room) = room_of(&path) else { continue };
        if !PURE.contains(&ROOMS[room]) {
            continue;
        }
        let text = shipped(&path, &tests);
        for (number, line) in text.lines().enumerate() {
            for word in
                ["std::fs", "std::process", "std::time", "std::env", "std::os", "TcpStream", "UdpSocket"]
            {
                if line.contains(word) {
                    broken.push(format!("{}:{}: {word}", short(&path), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn unsafe_lives_in_sys() {
    let tests = test_files();
    let mut broken = Vec::new();
    for path in sources("src") {
        let name = short(&path);
        if name.starts_with("src/sys/") || name == "src/main.rs" {
            continue;
        }
        for (number, line) in shipped(&path, &tests).lines().enumerate() {
            if has_word(line, "unsafe") {
                broken.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "unsafe outside src/sys:\n{}", broken.join("\n"));
}

#[test]
fn files_are_short_and_finished() {
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let vague = ["helper", "utils", "util", "manager", "misc", "common"];
    let mut broken = Vec::new();
    let mut count = 0;
    for path in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > 400 {
            broken.push(format!("{}: {lines} lines", short(&path)));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = unfinished.iter().find(|word| line.contains(**word)) {
                broken.push(format!("{}:{}: {word}", short(&path), number + 1));
            }
        }
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if stem.split('_').any(|part| vague.contains(&part.trim_end_matches('s'))) {
            broken.push(format!("{}: a name that says nothing", short(&path)));
        }
    }
    assert!(count > 20, "the sources were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_manifest_keeps_the_gates() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for gate in ["missing_docs", "unwrap_used", "too_many_lines", "undocumented_unsafe_blocks"] {
        assert!(manifest.contains(gate), "{gate} is not among the lints");
    }
}

/// A list with hashes matches the build that it was made of, and no later one: the functions are scattered again.
#[test]
fn the_list_of_hot_functions_outlives_a_build() {
    let list = fs::read_to_string(root().join("link/hot.ld")).unwrap();
    let names: Vec<&str> = list.lines().filter_map(|line| line.trim().strip_prefix("*(.text.")).collect();
    assert!(names.len() > 300, "{} functions", names.len());
    // Of the newer way to write names, which is asked for in .cargo/config.toml; besides those of C.
    let of_rust = names.iter().filter(|name| name.starts_with("_R")).count();
    assert!(of_rust * 10 > names.len() * 8, "{of_rust} of {} are of Rust", names.len());
    assert!(names.iter().any(|name| name.contains("8linkspan")));
    let hash =
        |name: &&str| name.starts_with("_ZN") || name.split("Cs").skip(1).any(|rest| !rest.starts_with('*'));
    let hashed: Vec<&&str> = names.iter().filter(|name| hash(name) && name.contains("Cs")).collect();
    assert!(hashed.len() < 8, "{hashed:#?}");
    let flags = fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    assert_eq!(flags.matches("symbol-mangling-version=v0").count(), flags.matches("[target.").count());
}
