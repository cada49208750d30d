//! What the services share: the state directory, and which attachments are known.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::handover::Program;
use super::keep::Keeper;
use super::protocol::Degraded;
use super::services::{self, Services};
use super::{AgentError, log};
use crate::model::AttachmentKey;
use crate::plan::Plan;
use crate::store::{Record, State};

/// A change of what is attached, as each service is told it.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// An attachment is ready. One that was known already may be another one by now.
    Attached(&'a Record<Plan>),
    /// An attachment is gone.
    Detached(&'a AttachmentKey),
}

/// What is remembered of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// Whether a service has work with it.
    needs: bool,
    /// Which record it was read from.
    version: Option<(u64, i64, i64)>,
}

/// One for the whole agent, which has one thread.
///
/// The records on disk are the truth; what is kept here follows from them, is brought up to date by each message and
/// by each change in `ready/`, and is made anew when the agent starts.
#[derive(Debug)]
pub struct Shared {
    /// The state directory.
    pub state: State,
    /// The loopback address that metrics are served on besides their socket.
    pub metrics: Option<SocketAddr>,
    /// What outlives this process.
    pub(super) keeper: Keeper,
    /// The program that this process runs, where whoever finds it replaced is to start the new one.
    program: Option<Program>,
    /// The services' own state.
    pub services: Services,
    /// The attachments that the services were told of.
    known: RefCell<HashMap<AttachmentKey, Known>>,
    /// Told when an attachment that had work is gone.
    pub(super) released: Notify,
}

impl Shared {
    /// Nothing is known yet: [`Shared::reload`] follows.
    pub(super) fn new(
        state: State,
        metrics: Option<SocketAddr>,
        keeper: Keeper,
        program: Option<Program>,
    ) -> Rc<Self> {
        Rc::new(Self {
            state,
            metrics,
            keeper,
            program,
            services: Services::default(),
            known: RefCell::default(),
            released: Notify::new(),
        })
    }

    /// Reads one attachment's record again and tells the services; gives what does not work for it.
    ///
    /// # Errors
    /// Where the record cannot be read; what was known of it stays.
    pub(super) fn refresh(self: &Rc<Self>, key: &AttachmentKey) -> Result<Vec<Degraded>, AgentError> {
        // Before the record: where another takes its place in between, it is read once more than needed.
        let version = self.state.ready_version(key)?;
        Ok(match self.state.ready::<Plan>(key)? {
            Some(record) => self.attached(&record, version),
            None => {
                self.detached(key);
                Vec::new()
            }
        })
    }

    /// The same, unless the record is the one that was read already.
    ///
    /// # Errors
    /// As [`Shared::refresh`].
    pub(super) fn refresh_changed(self: &Rc<Self>, key: &AttachmentKey) -> Result<Vec<Degraded>, AgentError> {
        let version = self.state.ready_version(key)?;
        let known = self.known.borrow().get(key).copied();
        if version == known.and_then(|known| known.version) {
            return Ok(Vec::new());
        }
        self.refresh(key)
    }

    /// Reads all records again: at the start, and where changes were missed.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub(super) fn reload(self: &Rc<Self>) -> Result<(), AgentError> {
        let there = self.state.ready_keys()?;
        let gone: Vec<AttachmentKey> =
            self.known.borrow().keys().filter(|key| !there.contains(key)).cloned().collect();
        for key in &gone {
            self.detached(key);
        }
        // One after the other: all records at once would be most of what the agent ever holds.
        for key in &there {
            match self.refresh(key) {
                Ok(notes) => notes.iter().for_each(|note| log::warn(&format!("{key}: {note}"))),
                Err(error) => log::warn(&format!("passed over {key}: {error}")),
            }
        }
        Ok(())
    }

    /// How many attachments are why the agent is there.
    pub(super) fn needed(&self) -> usize {
        self.known.borrow().values().filter(|known| known.needs).count()
    }

    /// Whether the program's file was replaced, and nobody but the next ADD will see to it.
    pub(super) fn is_outdated(&self) -> bool {
        self.program.as_ref().is_some_and(Program::was_replaced)
    }

    /// What the agent does, for people and for monitoring.
    pub(super) fn status(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "attachments": self.known.borrow().len(),
            "needed": self.needed(),
            "services": services::status(self),
        })
    }

    fn attached(self: &Rc<Self>, record: &Record<Plan>, version: Option<(u64, i64, i64)>) -> Vec<Degraded> {
        let needs = services::needs(record);
        self.known.borrow_mut().insert(record.key.clone(), Known { needs, version });
        services::tell(self, Change::Attached(record))
    }

    fn detached(self: &Rc<Self>, key: &AttachmentKey) {
        let known = self.known.borrow_mut().remove(key);
        services::tell(self, Change::Detached(key));
        if known.is_some_and(|known| known.needs) {
            self.released.notify_one();
        }
    }
}
