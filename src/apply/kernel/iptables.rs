//! The iptables backend: restore texts, one process for a family and transaction.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::firewall::iptables::{self, Family, Restore, Saved};
use crate::firewall::{AttachmentRules, NetworkRules, nft};
use crate::model::AttachmentKey;
use crate::plan::Firewall;
use crate::store::Deadline;
use crate::sys::process::{self, Run};

use super::ruleset::Ruleset;
use super::{Cause, Drift, Kernel};

/// How long a run may take; legacy iptables may have to wait for its lock.
const LIMIT: Duration = Duration::from_secs(60);
/// Where administrators' programs are when a runtime's `PATH` does not say.
const SEARCHED: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// Which of a host's iptables is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// The one that the host calls `iptables`.
    Default,
    /// Over nf_tables.
    Nft,
    /// Over x_tables.
    Legacy,
}

/// A rule of ours, looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// Whose rule it is: `iptables` or `ip6tables`.
    pub family: Family,
    /// Its table, chain and words.
    pub words: String,
    /// Why it is not there; `None` where it is.
    pub complaint: Option<String>,
}

/// The names of a program, the best first: `iptables-nft-save` where there is one.
fn names(family: Family, variant: Variant, suffix: &str) -> Vec<String> {
    match variant {
        Variant::Default => vec![format!("{family}{suffix}")],
        Variant::Nft => vec![format!("{family}-nft{suffix}"), format!("{family}{suffix}")],
        Variant::Legacy => vec![format!("{family}-legacy{suffix}")],
    }
}

fn find(family: Family, variant: Variant, suffix: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).chain(SEARCHED.map(PathBuf::from)).collect();
    names(family, variant, suffix).iter().find_map(|name| process::find(name, &directories))
}

/// Whether a host has a variant at all.
pub(super) fn is_installed(family: Family, variant: Variant) -> bool {
    find(family, variant, "-save").is_some()
}

fn call(
    family: Family,
    variant: Variant,
    suffix: &str,
    arguments: &[&str],
    input: &str,
) -> Result<String, Cause> {
    let name = names(family, variant, suffix).swap_remove(0);
    let Some(program) = find(family, variant, suffix) else {
        return Err(Cause::Firewall(format!(
            "{name} is not installed; install iptables, or set backend to nftables"
        )));
    };
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let outcome = process::run_quietly(&Run {
        program: &program,
        arguments: &arguments,
        environment: None,
        input: input.as_bytes(),
        limit: LIMIT,
    })?;
    if outcome.status.success() {
        return Ok(String::from_utf8_lossy(&outcome.output).into_owned());
    }
    let mut complaint = String::from_utf8_lossy(&outcome.complaints).trim().replace('\n', " ");
    if complaint.is_empty() {
        complaint = format!("it ended without a word ({})", outcome.status);
    }
    Err(Cause::Firewall(format!("{name} failed: {complaint}")))
}

pub(super) fn save(family: Family, variant: Variant) -> Result<Saved, Cause> {
    call(family, variant, "-save", &[], "").map(|text| Saved::parse(&text))
}

pub(super) fn restore(family: Family, variant: Variant, text: &str) -> Result<(), Cause> {
    call(family, variant, "-restore", &["--noflush", "-w", "30"], text).map(drop)
}

/// Applies both families' texts; what was applied before a failure stays, and is idempotent to apply again.
fn restore_both(texts: &Restore) -> Result<(), Cause> {
    for (family, text) in [(Family::V4, &texts.v4), (Family::V6, &texts.v6)] {
        if let Some(text) = text {
            restore(family, Variant::Default, text)?;
        }
    }
    Ok(())
}

impl Kernel {
    /// Whether the iptables backend can be used.
    ///
    /// # Errors
    /// Names the program that is missing, or says what it complained of.
    pub fn require_iptables(&mut self) -> Result<(), Cause> {
        save(Family::V4, Variant::Default).map(drop)
    }

    pub(super) fn attach_by_iptables(&mut self, step: &Firewall) -> Result<(), Cause> {
        let _lock = self.state.iptables_lock(Deadline::default())?;
        let attached = self.owns_iptables(&step.attachment.owner)?;
        let texts = iptables::attach(&step.network, &step.attachment);
        if attached || restore_both(&texts).is_err() {
            // Chains are missing, or half of this attachment is there already: everything anew from the records.
            let wanted = self.recorded_ruleset()?;
            self.rebuild_iptables(&wanted, Some((&step.network, &step.attachment)))?;
        }
        self.guard_by_nftables(step)
    }

    /// Whether an attachment may have rules already: only a walk over recorded attachments finds it so.
    fn owns_iptables(&self, owner: &AttachmentKey) -> Result<bool, Cause> {
        use crate::store::Stage;
        let found = self.state.find::<serde_json::Value>(owner)?;
        Ok(found.is_some_and(|found| found.stage == Stage::Ready))
    }

    /// Source addresses are guarded on the bridge, which iptables does not see: nf_tables does it on either backend.
    fn guard_by_nftables(&mut self, step: &Firewall) -> Result<(), Cause> {
        self.add_elements(&guards(step))
    }

    /// Everything of ours as the records say, with what is being attached now among it. Called under the main lock.
    pub(super) fn rebuild_iptables(
        &mut self,
        wanted: &Ruleset,
        attaching: Option<(&NetworkRules, &AttachmentRules)>,
    ) -> Result<(), Cause> {
        let mut networks = wanted.iptables_networks.clone();
        if let Some((rules, _)) = attaching
            && !networks
                .iter()
                .any(|known| (&known.network, &known.bridge) == (&rules.network, &rules.bridge))
        {
            networks.push(rules.clone());
        }
        let attaching_owner = attaching.map(|(_, rules)| &rules.owner);
        let mut attachments: Vec<(&NetworkRules, &AttachmentRules)> =
            wanted.by_iptables().filter(|(_, rules)| Some(&rules.owner) != attaching_owner).collect();
        attachments.extend(attaching);
        for family in Family::BOTH {
            let saved = match save(family, Variant::Default) {
                Ok(saved) => saved,
                // A host without IPv6 may lack ip6tables; what needs it fails below.
                Err(_) if family == Family::V6 && !attachments.iter().any(|(_, a)| has_v6(a)) => continue,
                Err(cause) => return Err(cause),
            };
            restore(family, Variant::Default, &iptables::rebuild(family, &saved, &networks, &attachments))?;
        }
        Ok(())
    }

    /// Says what of the iptables backend's rules is missing, and with `repair` makes everything of ours anew: one
    /// process a family where nothing is missing, and one more, one transaction a table, where something is.
    pub(super) fn mend_iptables(&mut self, wanted: &Ruleset, repair: bool) -> Result<Vec<Drift>, Cause> {
        let mut drifts = Vec::new();
        if wanted.iptables_networks.is_empty() {
            return Ok(drifts);
        }
        let _lock = self.state.iptables_lock(Deadline::default())?;
        let attachments: Vec<(&NetworkRules, &AttachmentRules)> = wanted.by_iptables().collect();
        for family in Family::BOTH {
            let saved = match save(family, Variant::Default) {
                Ok(saved) => saved,
                Err(_) if family == Family::V6 && !attachments.iter().any(|(_, a)| has_v6(a)) => continue,
                Err(cause) => return Err(cause),
            };
            let missing = iptables::missing(family, &saved, &wanted.iptables_networks, &attachments);
            if missing.is_empty() {
                continue;
            }
            drifts.extend(missing.into_iter().map(|what| Drift::missing(format!("{family}: {what}"))));
            if repair {
                let text = iptables::rebuild(family, &saved, &wanted.iptables_networks, &attachments);
                restore(family, Variant::Default, &text)?;
            }
        }
        Ok(drifts)
    }

    /// Looks for every rule that an attachment needs: those of `networks`, and its own.
    pub(super) fn probe_iptables(
        &mut self,
        step: &Firewall,
        networks: &[NetworkRules],
        drifts: &mut Vec<Drift>,
    ) -> Result<(), Cause> {
        for family in Family::BOTH {
            if family == Family::V6 && !has_v6(&step.attachment) {
                continue;
            }
            let mut checks = iptables::network_checks(family, networks);
            checks.extend(iptables::attachment_checks(family, &step.network, &step.attachment));
            for arguments in checks {
                if let Err(cause) = has_rule(family, &arguments) {
                    let object = format!("{family} rule: {}", arguments.join(" "));
                    drifts.push(Drift::new(object, "present", cause.to_string()));
                }
            }
        }
        self.probe_guard(&step.attachment, drifts)?;
        for element in guards(step) {
            if self.nft()?.get(&nft::get(&element)).map_err(Cause::from)?.is_none() {
                drifts.push(Drift::missing(format!("nf_tables element: {element}")));
            }
        }
        Ok(())
    }

    /// The iptables rules that an attachment needs for itself, with what is wrong with those that are not there. One
    /// process a rule: for an operator who looks.
    pub fn iptables_rules(step: &Firewall) -> Vec<FoundRule> {
        let (network, attachment) = (&step.network, &step.attachment);
        find_rules(has_v6(attachment), |family| iptables::attachment_checks(family, network, attachment))
    }

    /// The same of the rules that networks have for all of their attachments; of both families where some have IPv6.
    pub fn iptables_network_rules(networks: &[NetworkRules], with_v6: bool) -> Vec<FoundRule> {
        find_rules(with_v6, |family| iptables::network_checks(family, networks))
    }

    /// Whether a FORWARD chain of iptables drops by its policy, and has no exception for a network.
    pub(super) fn lacks_admission(
        family: Family,
        variant: Variant,
        rules: &NetworkRules,
    ) -> Result<bool, Cause> {
        let saved = save(family, variant)?;
        Ok(iptables::admission(&saved, rules).is_some())
    }

    /// Lets a network through a FORWARD chain of iptables that drops, where it is not let through yet.
    pub(super) fn admit_by_iptables(
        family: Family,
        variant: Variant,
        network: &NetworkRules,
    ) -> Result<(), Cause> {
        let saved = save(family, variant)?;
        if let Some(text) = iptables::admission(&saved, network) {
            restore(family, variant, &text)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "the host's own",
            Self::Nft => "over nf_tables",
            Self::Legacy => "legacy",
        })
    }
}

/// Looks for what `checks` asks of each family, one process a rule.
fn find_rules(with_v6: bool, checks: impl Fn(Family) -> Vec<Vec<String>>) -> Vec<FoundRule> {
    let families = Family::BOTH.into_iter().filter(|family| *family == Family::V4 || with_v6);
    families
        .flat_map(|family| checks(family).into_iter().map(move |arguments| (family, arguments)))
        .map(|(family, arguments)| FoundRule {
            family,
            complaint: has_rule(family, &arguments).err().map(|cause| cause.to_string()),
            words: arguments.into_iter().filter(|word| word != "-C").collect::<Vec<_>>().join(" "),
        })
        .collect()
}

/// Whether the host has a rule; an error where it has not, or cannot be asked.
fn has_rule(family: Family, arguments: &[String]) -> Result<(), Cause> {
    let mut words: Vec<&str> = vec!["-w", "30"];
    words.extend(arguments.iter().map(String::as_str));
    call(family, Variant::Default, "", &words, "").map(drop)
}

pub(super) fn has_v6(rules: &AttachmentRules) -> bool {
    rules.addresses.iter().any(std::net::IpAddr::is_ipv6)
}

/// The elements of an attachment that are nf_tables' on either backend.
pub(super) fn guards(step: &Firewall) -> Vec<nft::Element> {
    let mut elements = nft::attachment_elements(&step.network, &step.attachment);
    elements.retain(|element| nft::Set::BRIDGE.contains(&element.set));
    elements
}
