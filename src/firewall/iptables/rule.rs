//! One rule as words, and a restore text as lines.

use std::fmt::Write;

/// Which of the two programs a text or an argument vector is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `iptables` and `iptables-restore`.
    V4,
    /// `ip6tables` and `ip6tables-restore`.
    V6,
}

impl Family {
    /// Both, in the order in which they are applied.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// The program's name.
impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        })
    }
}

/// A rule, chain and words apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) table: &'static str,
    pub(crate) chain: String,
    pub(crate) words: Vec<String>,
}

impl Rule {
    /// A rule of words that hold no blanks: `text` is split at them.
    pub(crate) fn new(table: &'static str, chain: impl Into<String>, text: &str) -> Self {
        Self { table, chain: chain.into(), words: text.split_whitespace().map(str::to_owned).collect() }
    }

    /// The same with words that are kept as they are before the others.
    pub(crate) fn preceded(mut self, words: &[String]) -> Self {
        self.words.splice(0..0, words.iter().cloned());
        self
    }

    /// The same with a comment before its target.
    pub(crate) fn owned(mut self, owner: &str) -> Self {
        let at = self.words.iter().rposition(|word| word == "-j").unwrap_or(self.words.len());
        let comment = ["-m", "comment", "--comment", owner].map(str::to_owned);
        self.words.splice(at..at, comment);
        self
    }

    /// A line of a restore text, after `verb` (`-A`, `-I`, `-D`).
    pub(crate) fn line(&self, verb: &str) -> String {
        let mut line = format!("{verb} {}", self.chain);
        for word in &self.words {
            line.push(' ');
            quote(&mut line, word);
        }
        line
    }

    /// The arguments of `iptables` that ask whether it is there.
    pub(crate) fn check(&self) -> Vec<String> {
        let mut arguments = ["-t", self.table, "-C", &self.chain].map(str::to_owned).to_vec();
        arguments.extend(self.words.iter().cloned());
        arguments
    }
}

fn quote(line: &mut String, word: &str) {
    if !word.is_empty() && !word.contains([' ', '\t', '"', '\\', '\'']) {
        line.push_str(word);
        return;
    }
    line.push('"');
    for letter in word.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            line.push('\\');
        }
        line.push(letter);
    }
    line.push('"');
}

/// The words of a line of `iptables-save`, quotes undone.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let (mut quoted, mut escaped) = (false, false);
    for letter in line.chars() {
        match letter {
            _ if escaped => {
                word.get_or_insert_default().push(letter);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// A restore text in the making: for each table chains to empty, lines, chains to take away.
#[derive(Debug, Default)]
pub(crate) struct Text {
    tables: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    emptied: Vec<String>,
    lines: Vec<String>,
    removed: Vec<String>,
}

impl Text {
    fn part(&mut self, table: &str) -> &mut Part {
        let at = self.tables.iter().position(|part| part.name == table).unwrap_or_else(|| {
            let (emptied, lines, removed) = Default::default();
            self.tables.push(Part { name: table.to_owned(), emptied, lines, removed });
            self.tables.len() - 1
        });
        &mut self.tables[at]
    }

    /// Makes a chain, or empties it.
    pub(crate) fn empty(&mut self, table: &str, chain: &str) {
        let part = self.part(table);
        if !part.emptied.iter().any(|known| known == chain) {
            part.emptied.push(chain.to_owned());
        }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, table: &str, line: String) {
        self.part(table).lines.push(line);
    }

    /// Appends a rule.
    pub(crate) fn append(&mut self, rule: &Rule) {
        self.line(rule.table, rule.line("-A"));
    }

    /// Takes a chain away, after all lines.
    pub(crate) fn remove(&mut self, table: &str, chain: &str) {
        self.empty(table, chain);
        self.part(table).removed.push(chain.to_owned());
    }

    /// The text for `iptables-restore --noflush`, or nothing where there is nothing to do.
    pub(crate) fn render(&self) -> Option<String> {
        let mut text = String::new();
        for part in &self.tables {
            let _ = writeln!(text, "*{}", part.name);
            for chain in &part.emptied {
                let _ = writeln!(text, ":{chain} - [0:0]");
            }
            for line in &part.lines {
                let _ = writeln!(text, "{line}");
            }
            for chain in &part.removed {
                let _ = writeln!(text, "-X {chain}");
            }
            text.push_str("COMMIT\n");
        }
        (!text.is_empty()).then_some(text)
    }
}
