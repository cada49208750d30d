//! A ruleset that was looked at need not be looked at again while nobody but us changes it: the kernel counts the changes,
//! and refuses a transaction that was meant for another count. What was seen whole, and when, is noted in the state
//! directory (`docs/decisions/0042-a-ruleset-seen-whole.md`).

use crate::firewall::nft::{self, Element};
use crate::plan::Firewall;

use super::chains::Chains;
use super::{Cause, Kernel};

/// What became of an attachment's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// They are there, and so is all that they need.
    ToWhole,
    /// They are there; the chains of their network have not been looked at.
    ToUnseen,
    /// They are not there yet.
    Nothing,
}

impl Kernel {
    /// Adds an attachment's elements, where nobody but us has changed the ruleset since its chains were looked at.
    pub(super) fn add_to_seen(&mut self, step: &Firewall, elements: &[Element]) -> Result<Added, Cause> {
        let mut note = self.state.ruleset_note();
        let nft = self.nft()?;
        let Some(seen) = nft.namespace().and_then(|namespace| note.seen(namespace)) else {
            return Ok(Added::Nothing);
        };
        let is_whole = seen.networks.contains(&whole_name(step));
        // Whatever refuses them is met again by the longer way.
        if elements.is_empty() || nft.commit_at(Some(seen.generation), &nft::add_new(elements)).is_err() {
            return Ok(Added::Nothing);
        }
        note.advance();
        Ok(if is_whole { Added::ToWhole } else { Added::ToUnseen })
    }

    /// Notes that the chains were whole, and dropped nothing that they should not, where they were and did not.
    pub(super) fn note_whole(&mut self, step: &Firewall, chains: &Chains) -> Result<(), Cause> {
        let namespace = self.nft()?.namespace();
        if let (Some(namespace), Some(generation), true) =
            (namespace, chains.generation, chains.short.is_empty())
        {
            self.state.ruleset_note().add(namespace, generation, &whole_name(step));
        }
        Ok(())
    }

    /// Deletes elements; where nobody but us has changed the ruleset since its chains were looked at, that stays known.
    pub(super) fn remove_from_seen(&mut self, elements: &[Element]) -> Result<(), Cause> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut note = self.state.ruleset_note();
        let nft = self.nft()?;
        if let Some(seen) = nft.namespace().and_then(|namespace| note.seen(namespace))
            && nft.commit_at(Some(seen.generation), &nft::remove(elements)).is_ok()
        {
            note.advance();
            return Ok(());
        }
        self.remove_elements(elements)
    }
}

/// What is known to be whole of a step: its network's chains and, where that is its business, its way through foreign
/// ones.
fn whole_name(step: &Firewall) -> String {
    let way = if step.admit { "admitted" } else { "chains" };
    format!("{way} {}", step.network.network)
}
