//! What `iptables-save` printed, as far as it concerns us.

use super::rule::split;

/// The output of `iptables-save` or `ip6tables-save` of one family, all tables or those that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    tables: Vec<Table>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    name: String,
    /// Name and policy, which is `-` for a chain of somebody's.
    chains: Vec<(String, String)>,
    /// Each line as it was printed, `-A` and all.
    rules: Vec<String>,
}

impl Saved {
    /// Reads the text; lines that are neither table, chain nor rule are passed over.
    pub fn parse(text: &str) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                tables.push(Table { name: name.trim().to_owned(), ..Table::default() });
            }
            let Some(table) = tables.last_mut() else { continue };
            if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split_whitespace().map(str::to_owned);
                table.chains.push((words.next().unwrap_or_default(), words.next().unwrap_or_default()));
            } else if let Some(at) = line.find("-A ") {
                // `iptables-save -c` prints counters first.
                table.rules.push(line[at..].to_owned());
            }
        }
        Self { tables }
    }

    /// Whose rules are in it: the comments of rules in chains of ours, each once.
    pub fn owners(&self) -> Vec<String> {
        let mut owners: Vec<String> = Vec::new();
        for rule in self.rules().filter(SavedRule::is_ours) {
            if let Some(owner) = rule.comment()
                && !owners.iter().any(|known| known == owner)
            {
                owners.push(owner.to_owned());
            }
        }
        owners
    }

    /// The chains of networks, named as nf_tables has them (`net-web`).
    pub(crate) fn network_chains(&self) -> impl Iterator<Item = &str> {
        let named = self.chains().filter_map(|(_, chain)| chain.strip_prefix("LKS-"));
        named.filter(|chain| chain.starts_with("net-"))
    }

    pub(crate) fn policy(&self, table: &str, chain: &str) -> Option<&str> {
        let table = self.tables.iter().find(|t| t.name == table)?;
        table.chains.iter().find(|(name, _)| name == chain).map(|(_, policy)| policy.as_str())
    }

    /// Every chain with its table.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tables.iter().flat_map(|table| table.chains.iter().map(|(name, _)| (&*table.name, &**name)))
    }

    /// Every rule with its table.
    pub(crate) fn rules(&self) -> impl Iterator<Item = SavedRule<'_>> {
        self.tables.iter().flat_map(|table| table.rules.iter().map(|line| SavedRule::new(&table.name, line)))
    }

    /// Whether a chain jumps to another, whatever the conditions.
    pub(crate) fn jumps(&self, table: &str, chain: &str, target: &str) -> bool {
        self.rules().any(|rule| rule.table == table && rule.chain() == chain && rule.target() == Some(target))
    }
}

/// A rule as it was printed.
#[derive(Debug)]
pub struct SavedRule<'a> {
    pub(crate) table: &'a str,
    pub(crate) line: &'a str,
    words: Vec<String>,
}

impl<'a> SavedRule<'a> {
    fn new(table: &'a str, line: &'a str) -> Self {
        Self { table, line, words: split(line) }
    }

    pub(crate) fn chain(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    pub(crate) fn target(&self) -> Option<&str> {
        self.after("-j").or_else(|| self.after("-g"))
    }

    pub(crate) fn comment(&self) -> Option<&str> {
        self.after("--comment")
    }

    pub(crate) fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|w| w == word)?;
        self.words.get(at + 1).map(String::as_str)
    }

    pub(crate) fn is_ours(&self) -> bool {
        super::is_ours(self.chain())
    }

    /// The line that deletes it.
    pub(crate) fn deletion(&self) -> String {
        self.line.replacen("-A ", "-D ", 1)
    }
}
