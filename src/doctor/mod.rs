//! The host before there is trouble: what is missing, in the way or left over, why it matters and what mends it.
//! Nothing is changed here.
//!
//! A [`Sight`] is taken once: one [`crate::view::Reading`], one look along the records ([`crate::apply::Look`]), the
//! kernel's features tried in a scratch namespace, and the files of others. Every [`Finding`] is computed from it; no
//! program is started, but for `iptables --version` where a network uses iptables, and `--version` of containerd and podman
//! where a configuration is newer than what each of them reads. What mends a finding without risk is
//! its [`Remedy`], which the command line carries out through the verbs.

mod drift;
mod features;
mod files;
mod finding;
mod firewalls;
mod hands;
mod leftovers;
mod lists;
mod marker;
mod nameservers;
mod needs;
mod networkd;
mod programs;
mod readers;
mod runtimes;
mod service;
mod settings;
mod sight;
mod subnets;
mod versions;

pub use finding::{Finding, Findings, Remedy, Severity, Word};
pub use lists::{Pick, picks};
pub use marker::is_linkspan;
pub use runtimes::plugin_directories;
pub use sight::{Given, List, ListPlugin, Remembered, Sight};
pub use versions::{Version, versions};

/// Everything that is wrong, the worst first.
pub fn examine(sight: &Sight<'_>, versions: &[Version]) -> Findings {
    let mut findings = Findings::default();
    versions::look(sight, versions, &mut findings);
    features::look(sight, &mut findings);
    drift::look(sight, &mut findings);
    settings::look(sight, &mut findings);
    subnets::look(sight, &mut findings);
    nameservers::look(sight, &mut findings);
    firewalls::look(sight, &mut findings);
    hands::look(sight, &mut findings);
    leftovers::look(sight, &mut findings);
    lists::look(sight, &mut findings);
    readers::look(sight, &mut findings);
    programs::look(sight, &mut findings);
    runtimes::look(sight, &mut findings);
    service::look(sight, &mut findings);
    findings.sort();
    findings
}
