//! Files of others.

use std::path::{Path, PathBuf};

/// A file's text; none where it is not there or not text.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The files of several directories with an ending, as systemd and others read drop-ins: one file name counts once, in
/// the first directory that has it, and all go by name.
pub(super) fn drop_ins(directories: &[&str], ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in directories {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let known = found.iter().any(|known| known.file_name() == path.file_name());
            if !known && path.extension().is_some_and(|end| end == ending) {
                found.push(path);
            }
        }
    }
    found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    found
}

/// The sections of an INI file with their pairs, in order; comments begin with `#` or `;`.
pub(super) fn ini(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
        } else if let (Some((_, pairs)), Some((key, value))) = (sections.last_mut(), line.split_once('=')) {
            pairs.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sections
}

/// Whether a process number that a file names is a process.
pub(super) fn is_running(pid_file: &str) -> bool {
    let pid = text(pid_file).and_then(|text| text.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

/// Whether a name is meant by a pattern of shell(7): `*`, `?` and sets of characters in brackets.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    glob(&pattern, &name)
}

fn glob(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| glob(rest, &name[skipped..])),
        (Some(('?', rest)), Some((_, left))) => glob(rest, left),
        (Some(('[', rest)), Some((first, left))) => match rest.iter().position(|c| *c == ']') {
            Some(end) => in_set(&rest[..end], *first) && glob(&rest[end + 1..], left),
            None => *first == '[' && glob(rest, left),
        },
        (Some((wanted, rest)), Some((first, left))) => wanted == first && glob(rest, left),
        _ => false,
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, mut set) = match set.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    while let Some((from, rest)) = set.split_first() {
        match rest {
            ['-', to, left @ ..] => {
                found |= (*from..=*to).contains(&c);
                set = left;
            }
            _ => {
                found |= *from == c;
                set = rest;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, name) in [("*", "x"), ("lks*", "lks-web"), ("e?h0", "eth0"), ("e[a-z]h[!1-9]", "eth0")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("lks", "lks-web"), ("e?", "eth0"), ("eth[1-9]", "eth0"), ("", "a"), ("a[", "ab")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn an_ini_file_has_sections() {
        let found = ini("# x\n[Match]\nName = lks*\n;y\n[Link]\nUnmanaged=yes\nnonsense\n");
        assert_eq!(found[0], ("Match".to_owned(), vec![("Name".to_owned(), "lks*".to_owned())]));
        assert_eq!(found[1].1, [("Unmanaged".to_owned(), "yes".to_owned())]);
    }
}
