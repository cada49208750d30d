//! Tables for people: columns as wide as their widest cell, two spaces between them.

use std::fmt::Write as _;

/// What a cell says besides its words; seen as a colour at a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Tone {
    /// The SGR number of ECMA-48.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Doubtful => Some("33"),
            Self::Bad => Some("31"),
        }
    }

    /// A word in its colour, where there are colours.
    pub(super) fn paint(self, text: &str, colour: bool) -> String {
        match self.code().filter(|_| colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A table under its heading.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Titles; one that begins with `>` is of a column of numbers, at the right.
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, as long as the titles.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len(), "a row has a cell for each title");
        self.rows.push(cells);
    }

    /// The whole table as lines.
    pub(super) fn render(&self, colour: bool) -> String {
        let widths: Vec<usize> = (0..self.titles.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(&cell.text));
                cells.chain([width(title(self.titles[at]))]).max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        let heading: Vec<Cell> = self.titles.iter().map(|t| title(t).into()).collect();
        for (index, row) in std::iter::once(&heading).chain(&self.rows).enumerate() {
            for (at, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[at].saturating_sub(width(&cell.text)));
                let code = if index == 0 { Some("1") } else { cell.tone.code() }.filter(|_| colour);
                let shown = match code {
                    Some(code) => format!("\x1b[{code}m{}\x1b[0m", cell.text),
                    None => cell.text.clone(),
                };
                let right = self.titles[at].starts_with('>');
                let last = at + 1 == row.len();
                // Writing to a string cannot fail.
                let _ = match (right, last) {
                    (true, true) => write!(text, "{gap}{shown}"),
                    (true, false) => write!(text, "{gap}{shown}  "),
                    (false, true) => write!(text, "{shown}"),
                    (false, false) => write!(text, "{shown}{gap}  "),
                };
            }
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
        }
        text
    }
}

fn title(text: &str) -> &str {
    text.strip_prefix('>').unwrap_or(text)
}

/// Columns on a terminal: names and addresses are ASCII, and what is not is taken as one column wide.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", ">FREE", "STATE"]);
        table.row(vec!["web".into(), "1021".into(), Cell::toned("ok", Tone::Good)]);
        table.row(vec!["a-longer-name".into(), "3".into(), Cell::toned("failed", Tone::Bad)]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let wanted = "\
NAME           FREE  STATE
web            1021  ok
a-longer-name     3  failed
";
        assert_eq!(sample().render(false), wanted);
    }

    #[test]
    fn colour_changes_no_column() {
        let text = sample().render(true);
        assert!(text.contains("\x1b[32mok\x1b[0m") && text.contains("\x1b[31mfailed\x1b[0m"));
        let mut plain = text.replace("\x1b[0m", "");
        for code in ["1", "31", "32"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, sample().render(false));
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        assert_eq!(Table::new(&["A", "B"]).render(false), "A  B\n");
    }
}
