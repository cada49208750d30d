//! Bytes of each published port: the agent keeps the table that counts them up to date.
//!
//! Neither ADD nor DEL wait for it, and nothing is there where nothing is published. What is counted is read by
//! whoever asks (`verbs::survey`), from the kernel.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;

use super::log;
use super::shared::{Change, Shared};
use crate::firewall::nft::{self, Tallied};
use crate::model::AttachmentKey;
use crate::sys::nfnetlink::{NftError, NftSocket};

/// How long changes are gathered: ADDs in a row share a transaction, which others have to wait for.
const GATHER: Duration = Duration::from_millis(50);

/// The state of the service.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What is to be counted of each attachment.
    wanted: RefCell<HashMap<AttachmentKey, HashSet<Tallied>>>,
    /// What the kernel counts.
    table: RefCell<Table>,
    changed: Notify,
    /// Whether the kernel has refused the table.
    off: Cell<bool>,
}

#[derive(Debug, Default)]
struct Table {
    /// The one that owns it.
    socket: Option<NftSocket>,
    counted: HashSet<Tallied>,
    /// Whether it has sets for ranges.
    ranges: bool,
    there: bool,
}

/// Takes a change over.
pub(super) fn change(shared: &Rc<Shared>, change: Change<'_>) {
    let tally = &shared.services.tally;
    let mut wanted = tally.wanted.borrow_mut();
    let changed = match change {
        Change::Attached(record) => {
            let publications =
                record.plan.firewall().filter(|f| f.counted).map(|f| &*f.attachment.publications);
            // What leads to where it came from is the proxy's, which counts for itself.
            let led = publications.unwrap_or_default().iter().filter(|p| p.host != p.target);
            let elements: HashSet<Tallied> = led.flat_map(nft::tallied).collect();
            if elements.is_empty() {
                wanted.remove(&record.key).is_some()
            } else {
                wanted.insert(record.key.clone(), elements.clone()) != Some(elements)
            }
        }
        Change::Detached(key) => wanted.remove(key).is_some(),
    };
    if changed {
        tally.changed.notify_one();
    }
}

/// Keeps the table up to date, for as long as the agent lives.
pub(super) async fn run(shared: Rc<Shared>) {
    let tally = &shared.services.tally;
    // A killed agent has left its table, which may have no publication left to be made anew for.
    if let Err(why) = tally.table.borrow_mut().clear() {
        log::info(&format!("no table for bytes of published ports: {why}"));
    }
    loop {
        tally.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        if tally.off.get() {
            return;
        }
        if let Err(why) = tally.update() {
            log::info(&format!("bytes of published ports are not counted: {why}"));
            tally.off.set(true);
        }
    }
}

impl Tally {
    fn update(&self) -> Result<(), String> {
        let wanted: HashSet<Tallied> = self.wanted.borrow().values().flatten().cloned().collect();
        let mut table = self.table.borrow_mut();
        match table.follow(&wanted) {
            // Where the kernel cannot let it be owned, somebody may have flushed it.
            Err(_) if table.there => {
                table.there = false;
                table.follow(&wanted).map_err(|error| error.to_string())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }
}

impl Table {
    /// Makes the kernel count what is wanted and nothing else. What stays goes on from its number.
    fn follow(&mut self, wanted: &HashSet<Tallied>) -> Result<(), NftError> {
        let ranges = wanted.iter().any(Tallied::is_range);
        if wanted.is_empty() {
            if self.there {
                self.commit(&[nft::tally_removed()])?;
            }
            (self.there, self.ranges) = (false, false);
            self.counted.clear();
            return Ok(());
        }
        if !self.there || ranges && !self.ranges {
            self.make(ranges)?;
            self.counted.clear();
        }
        let gone: Vec<Tallied> = self.counted.difference(wanted).cloned().collect();
        let new: Vec<Tallied> = wanted.difference(&self.counted).cloned().collect();
        let mut messages = nft::tally_remove(&gone);
        messages.extend(nft::tally_add(&new));
        self.commit(&messages)?;
        self.counted.clone_from(wanted);
        Ok(())
    }

    /// The table, empty, in the place of one that is there.
    fn make(&mut self, ranges: bool) -> Result<(), NftError> {
        let owned = self.clear()?;
        self.commit(&nft::tally_made(owned, ranges))?;
        (self.there, self.ranges) = (true, ranges);
        Ok(())
    }

    /// Takes a table away, whoever made it; says whether the kernel lets tables be owned.
    fn clear(&mut self) -> Result<bool, NftError> {
        let owned = match self.commit(&nft::tally_adopted(true)) {
            Ok(()) => true,
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EINVAL) => {
                self.commit(&nft::tally_adopted(false))?;
                false
            }
            Err(error) => return Err(error),
        };
        self.commit(&[nft::tally_removed()])?;
        Ok(owned)
    }

    fn commit(&mut self, messages: &[crate::model::nft::NftMessage]) -> Result<(), NftError> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => {
                let opened = NftSocket::open().map_err(|error| NftError {
                    index: None,
                    errno: error.errno().unwrap_or(Errno::EIO),
                    text: Some(error.to_string()),
                })?;
                self.socket.insert(opened)
            }
        };
        socket.commit(messages)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.there {
            // An agent that comes back counts from nothing; one that was killed leaves it to be taken over.
            let _ = self.commit(&[nft::tally_removed()]);
        }
    }
}
