//! Addresses of containers as sources of a zone of firewalld's, whose rules for forwarded packets follow from zones.
//!
//! firewalld keeps a source for as long as it runs, and forgets it when it reloads: reconciliation puts it back. Where
//! firewalld does not run there is nothing to say to it.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use crate::plan::{Plan, Step, Zone};
use crate::store::{Listed, Stage};
use crate::sys::dbus::{Bus, BusError, Callee, Reply};

use super::{Cause, Drift, Kernel};

/// firewalld, by the interface of its zones.
const ZONES: Callee = Callee {
    destination: "org.fedoraproject.FirewallD1",
    path: "/org/fedoraproject/FirewallD1",
    interface: "org.fedoraproject.FirewallD1.zone",
};

/// The connection to the system bus, as far as this call knows of one.
#[derive(Debug, Default)]
pub(super) enum ToBus {
    #[default]
    Untried,
    /// There is no bus: firewalld cannot run.
    Absent,
    Open(Bus),
}

impl Kernel {
    /// Puts the addresses into the zone; those that are in it are as good.
    pub(super) fn join_zone(&mut self, step: &Zone) -> Result<(), Cause> {
        for address in &step.sources {
            match self.ask_firewalld("addSource", &[&step.zone, &source(*address)]) {
                Ok(None) => return Ok(()),
                Err(error) if !says(&error, "ALREADY_ENABLED") => {
                    return Err(refused(step, *address, &error));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes the addresses out of the zone; those that are not in it but in another, and a zone that is gone, are as
    /// good.
    pub(super) fn leave_zone(&mut self, step: &Zone) -> Result<(), Cause> {
        const GONE: [&str; 4] = ["UNKNOWN_SOURCE", "NOT_ENABLED", "ZONE_CONFLICT", "INVALID_ZONE"];
        for address in &step.sources {
            match self.ask_firewalld("removeSource", &[&step.zone, &source(*address)]) {
                Ok(None) => return Ok(()),
                Err(error) if !GONE.iter().any(|word| says(&error, word)) => {
                    return Err(refused(step, *address, &error));
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The addresses that no other attachment has in its zone by now.
    pub(super) fn own_sources(&mut self, step: &Zone) -> Result<Zone, Cause> {
        let listed: Listed<Plan> = self.state.all()?;
        // One that is being made may be this one, which is undone.
        let others = listed.found.iter().filter(|found| found.stage == Stage::Ready);
        let taken: HashSet<IpAddr> = others
            .flat_map(|found| &found.record.plan.steps)
            .filter_map(|step| match step {
                Step::Zone(zone) => Some(&zone.sources),
                _ => None,
            })
            .flatten()
            .copied()
            .collect();
        let own = step.sources.iter().copied().filter(|address| !taken.contains(address));
        Ok(Zone { zone: step.zone.clone(), sources: own.collect() })
    }

    pub(super) fn probe_zone(&mut self, step: &Zone, drifts: &mut Vec<Drift>) -> Result<(), Cause> {
        if let Some(there) = self.sources_of(step)? {
            drifts.extend(lacking(step, &there).map(|address| missing(step, address)));
        }
        Ok(())
    }

    /// Every zone of all plans, each asked for once.
    pub(super) fn mend_zones<'a>(
        &mut self,
        plans: impl Iterator<Item = &'a Plan>,
        repair: bool,
    ) -> Result<Vec<Drift>, Cause> {
        let mut zones: BTreeMap<&str, Zone> = BTreeMap::new();
        for step in plans.flat_map(|plan| &plan.steps) {
            if let Step::Zone(step) = step {
                let whole = || Zone { zone: step.zone.clone(), sources: Vec::new() };
                zones.entry(&step.zone).or_insert_with(whole).sources.extend(&step.sources);
            }
        }
        let mut drifts = Vec::new();
        for wanted in zones.into_values() {
            let Some(there) = self.sources_of(&wanted)? else { break };
            let sources: Vec<IpAddr> = lacking(&wanted, &there).collect();
            drifts.extend(sources.iter().map(|address| missing(&wanted, *address)));
            if repair {
                self.join_zone(&Zone { sources, ..wanted })?;
            }
        }
        Ok(drifts)
    }

    /// What is in a zone; `None` where firewalld does not run.
    fn sources_of(&mut self, step: &Zone) -> Result<Option<HashSet<String>>, Cause> {
        let first = || step.sources.first().copied().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let reply = self.ask_firewalld("getSources", &[&step.zone]);
        let sources = reply.and_then(|reply| reply.map(|reply| reply.strings()).transpose());
        let sources = sources.map_err(|error| refused(step, first(), &error))?;
        Ok(sources.map(|sources| sources.into_iter().collect()))
    }

    /// Calls a method of firewalld's zones; `None` where firewalld does not run.
    fn ask_firewalld(&mut self, method: &str, arguments: &[&str]) -> Result<Option<Reply>, BusError> {
        if matches!(self.bus, ToBus::Untried) {
            self.bus = Bus::system()?.map_or(ToBus::Absent, ToBus::Open);
        }
        let ToBus::Open(bus) = &mut self.bus else { return Ok(None) };
        match bus.call(&ZONES, method, arguments) {
            Ok(reply) => Ok(Some(reply)),
            Err(BusError::NotRunning(_)) => Ok(None),
            Err(error) => {
                // What follows on a connection that failed would be read out of step.
                if !matches!(error, BusError::Refused { .. }) {
                    self.bus = ToBus::Untried;
                }
                Err(error)
            }
        }
    }
}

/// As the reference's plugin writes an address to firewalld: either takes away what the other has put there.
fn source(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn lacking(step: &Zone, there: &HashSet<String>) -> impl Iterator<Item = IpAddr> {
    step.sources.iter().copied().filter(|address| !there.contains(&source(*address)))
}

fn missing(step: &Zone, address: IpAddr) -> Drift {
    Drift::missing(format!("{address} in firewalld's zone {}", step.zone))
}

/// firewalld's errors begin with a word of their own: `ALREADY_ENABLED: ...`.
fn says(error: &BusError, word: &str) -> bool {
    matches!(error, BusError::Refused { text, .. } if text.starts_with(word))
}

fn refused(step: &Zone, address: IpAddr, error: &BusError) -> Cause {
    let zone = &step.zone;
    let next = if says(error, "INVALID_ZONE") {
        "; zones that there are: firewall-cmd --get-zones".to_owned()
    } else if says(error, "ZONE_CONFLICT") {
        format!("; take it out of that one: firewall-cmd --zone=OTHER --remove-source={}", source(address))
    } else {
        String::new()
    };
    Cause::Firewall(format!("firewalld does not serve the zone {zone:?} of firewalldZone: {error}{next}"))
}
