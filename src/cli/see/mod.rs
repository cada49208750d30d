//! Commands that show what there is: one reading, one page, again where it is watched.

pub(super) mod explain;
pub(super) mod find;
pub(super) mod graph;
pub(super) mod inspect;
pub(super) mod ipam;
pub(super) mod ls;
pub(super) mod options;
mod parties;
pub(super) mod ports;
mod probe;
pub(super) mod ps;
pub(super) mod top;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::names;
use crate::store::State;
use crate::sys::arena;
use crate::view::{Attachment, Reading, Wants};

use super::Session;
use super::error::Error;
use super::table::{Cell, Tone};
use crate::view::Condition;
pub(super) use options::Options;

/// The number of the format that `--json` prints (docs/json.md); it rises where a reader of old would misread.
const FORMAT: u32 = 1;

/// How a page is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// JSON rather than a table.
    pub(super) json: bool,
    /// Colours.
    pub(super) colour: bool,
    /// IDs in full length.
    pub(super) whole: bool,
}

impl Session<'_> {
    /// Shows a page of what is read now; with `--watch` again and again, until the reader has enough.
    pub(super) fn show(
        &mut self,
        options: &Options,
        wants: Wants,
        page: impl Fn(&Reading, Look) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let look = self.look(options);
        self.rounds(options, |_| page(&read(wants)?, look))
    }

    pub(super) fn look(&self, options: &Options) -> Look {
        Look { json: options.json, colour: self.has_colour() && !options.json, whole: options.whole }
    }

    /// Prints a page once, or as often as `--watch` and `--count` say.
    pub(super) fn rounds(
        &mut self,
        options: &Options,
        mut page: impl FnMut(u64) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let last = options.rounds();
        if last == Some(1) {
            arena::widen();
        }
        let redraws = self.terminal.stdout && !options.json && options.watch.is_some();
        let mut round = 0;
        loop {
            round += 1;
            let text = page(round)?;
            if redraws {
                // Home, the page, and away with what an earlier and longer one left.
                let lines = text.replace('\n', "\x1b[K\n");
                write!(self.stdout, "\x1b[H{lines}\x1b[J")?;
            } else {
                self.stdout.write_all(text.as_bytes())?;
            }
            self.stdout.flush()?;
            if last.is_some_and(|last| round >= last) {
                return Ok(());
            }
            std::thread::sleep(options.watch.unwrap_or(Duration::from_secs(1)));
        }
    }
}

/// The only reading of a process that ends soon.
pub(super) fn read_once(wants: Wants) -> Result<Reading, Error> {
    arena::widen();
    read(wants)
}

/// One reading of this host.
pub(super) fn read(wants: Wants) -> Result<Reading, Error> {
    Ok(Reading::take(&State::default_root(), wants)?)
}

/// A document of `--json`: the format's number and one list, or one object.
pub(super) fn document<T: Serialize>(key: &str, value: &T) -> Result<String, Error> {
    let mut document = Map::new();
    document.insert("format".to_owned(), FORMAT.into());
    document.insert(key.to_owned(), serde_json::to_value(value)?);
    let mut text = serde_json::to_string_pretty(&Value::Object(document))?;
    text.push('\n');
    Ok(text)
}

/// Links of ours on a host of which there is no record at all: tables would be empty, and containers perhaps not.
pub(super) fn unrecorded(reading: &Reading) -> String {
    let is_ours = |link: &&crate::sys::rtnl::Link| {
        link.group == names::LINK_GROUP && link.kind.as_deref() == Some("veth")
    };
    let links = reading.host.links.iter().filter(is_ours).count();
    if links == 0 || !reading.records.attachments.is_empty() {
        return String::new();
    }
    let root = reading.records.root.display();
    format!(
        "no record in {root}, and {links} links of linkspan on this host: 'linkspan doctor' says what that means\n"
    )
}

/// How an attachment is, in its colour.
pub(super) fn state(attachment: &Attachment) -> Cell {
    let tone = match attachment.state {
        Condition::Up => Tone::Good,
        Condition::Attaching => Tone::Plain,
        Condition::HalfMade | Condition::Leaving | Condition::Dead => Tone::Doubtful,
        Condition::Broken => Tone::Bad,
    };
    Cell::toned(attachment.state.to_string(), tone)
}
