//! Rules of the reference plugins that name no network: GC tells whose they are by the leases of the network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::firewall::reference::{self as theirs, Table};
use crate::model::Publication;
use crate::model::nft::NftMessage;

use super::firewall::refused;
use super::{ApplyError, Cause, Kernel};

impl Kernel {
    /// Takes away what the reference `portmap` (nf_tables) and `firewall` wrote for containers whose leases nobody holds
    /// any more: each container's ID, and its addresses. Of a port's rules both have to agree, so that those of the same
    /// container in another network stay.
    ///
    /// # Errors
    /// As [`Kernel::remove_theirs`].
    pub fn remove_theirs_by_lease(
        &mut self,
        stale: &BTreeMap<String, Vec<IpAddr>>,
    ) -> Result<(), ApplyError> {
        if stale.is_empty() {
            return Ok(());
        }
        self.remove_ports_by_lease(stale).map_err(|cause| {
            ApplyError::new("the ports of the reference plugin portmap without a lease", cause)
        })?;
        let addresses: Vec<IpAddr> = stale.values().flatten().copied().collect();
        self.remove_their_admission(&addresses)
    }

    fn remove_ports_by_lease(&mut self, stale: &BTreeMap<String, Vec<IpAddr>>) -> Result<(), Cause> {
        if self.nft().is_err() {
            return Ok(());
        }
        let mut messages: Vec<NftMessage> = Vec::new();
        let mut flows: Vec<Publication> = Vec::new();
        for table in theirs::TABLES.into_iter().filter(|table| table.publishes) {
            let rules = self.rules_of(table);
            for (id, addresses) in stale {
                for (chain, rule) in theirs::without_lease(&rules, id, addresses) {
                    flows.extend(rule.published);
                    messages.extend(theirs::remove_rules(table, chain, std::slice::from_ref(rule)));
                }
            }
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.nft()?
            .commit(&messages)
            .map_err(|error| refused("delete the reference plugin's rules", &error))?;
        self.forget_flows(&flows)
    }

    /// A table's rules, each with its chain; none where the table is not there.
    fn rules_of(&mut self, table: Table) -> Vec<(&'static str, theirs::Rule)> {
        let mut rules = Vec::new();
        for chain in table.chains {
            let found = self.their_rules_in(table, chain).unwrap_or_default();
            rules.extend(found.into_iter().map(|rule| (*chain, rule)));
        }
        rules
    }
}
