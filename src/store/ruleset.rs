//! At which of its generations the ruleset of nf_tables was last seen whole: a file of the state directory that saves
//! looking. Losing it costs a look.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use nix::fcntl::OFlag;

use super::state::State;
use crate::model::names;

/// So many networks are remembered.
const NETWORKS: usize = 48;
/// The file is not longer than this.
const LONGEST: usize = 2048;

/// The ruleset as it was when somebody looked: our base chains were whole, and so were those of some networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRuleset {
    /// Which network namespace's, by its cookie, which no other has until the machine starts anew.
    pub namespace: u64,
    /// The number that the kernel raises with each change, by whomever.
    pub generation: u32,
    /// The networks whose chains were whole and that were let through foreign ones.
    pub networks: Vec<String>,
}

/// The file, open, and what it says.
#[derive(Debug)]
pub struct RulesetNote {
    file: Option<File>,
    length: usize,
    seen: Option<SeenRuleset>,
}

impl State {
    /// What was noted of the ruleset.
    pub fn ruleset_note(&self) -> RulesetNote {
        let file = self.dir.open_file("ruleset", OFlag::O_RDWR | OFlag::O_CREAT).ok().flatten();
        let mut text = [0; LONGEST];
        let length = file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let seen = std::str::from_utf8(&text[..length]).ok().and_then(parse);
        RulesetNote { file, length, seen }
    }
}

impl RulesetNote {
    /// What was seen of a namespace; `None` where nothing was, or while somebody writes.
    pub fn seen(&self, namespace: u64) -> Option<&SeenRuleset> {
        self.seen.as_ref().filter(|seen| seen.namespace == namespace)
    }

    /// Notes that nothing but our own transaction has happened since: the next generation is as whole.
    pub fn advance(&mut self) {
        if let Some(mut seen) = self.seen.take() {
            // As the kernel counts: zero is none.
            seen.generation = seen.generation.checked_add(1).unwrap_or(1);
            self.write(seen);
        }
    }

    /// Notes that a network was found whole at a generation.
    pub fn add(&mut self, namespace: u64, generation: u32, network: &str) {
        let known =
            self.seen.take().filter(|seen| (seen.namespace, seen.generation) == (namespace, generation));
        let mut networks = known.map(|seen| seen.networks).unwrap_or_default();
        networks.retain(|known| known != network);
        networks.truncate(NETWORKS - 1);
        networks.insert(0, network.to_owned());
        self.write(SeenRuleset { namespace, generation, networks });
    }

    /// A note that cannot be written is none. Others may read meanwhile: the sum tells them a torn one.
    fn write(&mut self, seen: SeenRuleset) {
        let text = text(&seen);
        if let Some(file) = self.file.as_ref().filter(|_| text.len() <= LONGEST)
            && file.write_all_at(text.as_bytes(), 0).is_ok()
        {
            if text.len() < self.length {
                let _ = file.set_len(text.len() as u64);
            }
            self.length = text.len();
            self.seen = Some(seen);
        }
    }
}

fn text(seen: &SeenRuleset) -> String {
    let body = format!("{} {}\n{}", seen.namespace, seen.generation, seen.networks.join("\n"));
    format!("{:016x} {body}", names::hash(body.as_bytes()))
}

fn parse(text: &str) -> Option<SeenRuleset> {
    let (sum, body) = text.split_once(' ')?;
    if u64::from_str_radix(sum, 16).ok()? != names::hash(body.as_bytes()) {
        return None;
    }
    let (numbers, networks) = body.split_once('\n')?;
    let (namespace, generation) = numbers.split_once(' ')?;
    Some(SeenRuleset {
        namespace: namespace.parse().ok()?,
        generation: generation.parse().ok()?,
        networks: networks.split('\n').map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_written_and_a_torn_one_not_at_all() {
        let base = tempfile::tempdir().unwrap();
        let state = State::open(base.path()).unwrap();
        assert!(state.ruleset_note().seen(7).is_none());
        state.ruleset_note().advance();
        let mut note = state.ruleset_note();
        note.add(7, 41, "a network of a long name");
        note.add(7, 41, "b");
        let read = || state.ruleset_note().seen(7).cloned();
        let both = vec!["b".to_owned(), "a network of a long name".to_owned()];
        assert_eq!(read(), Some(SeenRuleset { namespace: 7, generation: 41, networks: both.clone() }));
        assert!(state.ruleset_note().seen(8).is_none());
        state.ruleset_note().advance();
        assert_eq!(read(), Some(SeenRuleset { namespace: 7, generation: 42, networks: both }));
        // At another generation nothing is known of the others; and what is shorter leaves nothing behind.
        state.ruleset_note().add(7, 50, "c");
        let alone = vec!["c".to_owned()];
        assert_eq!(read(), Some(SeenRuleset { namespace: 7, generation: 50, networks: alone }));
        let path = base.path().join("ruleset");
        let text = std::fs::read_to_string(&path).unwrap();
        for torn in [text.replace("50", "51"), text[..text.len() - 1].to_owned(), String::new()] {
            std::fs::write(&path, torn).unwrap();
            assert!(read().is_none());
        }
    }
}
