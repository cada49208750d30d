//! Keys of the reference `firewall`, and which backend carries the rules.

use crate::cni::config::{Backend, FirewallKeys, PortmapKeys};
use crate::cni::defaults::{Defaults, Reads};
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::{IngressPolicy, chains};

/// The longest name of an iptables chain (`XT_EXTENSION_MAXNAMELEN` less its NUL).
const CHAIN_MAX: usize = 28;

pub(super) fn read(fields: &Fields<'_>, defaults: &Defaults) -> Result<FirewallKeys, Error> {
    let mut keys = defaults.firewall_keys();
    if let Some(chain) = fields.parsed("iptablesAdminChainName", admin_chain)? {
        keys.admin_chain = chain;
    }
    keys.firewalld_zone = zone(fields, defaults)?;
    let ingress = fields.parsed("ingressPolicy", |word| match word {
        "open" => Ok(IngressPolicy::Open),
        "same-bridge" => Ok(IngressPolicy::SameBridge),
        "isolated" => Ok(IngressPolicy::Isolated),
        _ => Err("must be open, same-bridge or isolated".to_owned()),
    })?;
    keys.ingress = ingress.unwrap_or(keys.ingress);
    Ok(keys)
}

/// The zone that is written. The reference `firewall` takes `trusted` for none, and asks firewalld alone where no
/// other backend is written.
fn zone(fields: &Fields<'_>, defaults: &Defaults) -> Result<Option<String>, Error> {
    let written = fields.parsed("firewalldZone", zone_name)?;
    if defaults.is_own() {
        return Ok(written);
    }
    let by_firewalld = !matches!(fields.text("backend")?, Some("iptables" | "nftables"));
    Ok(by_firewalld.then(|| written.unwrap_or_else(|| "trusted".to_owned())))
}

/// A name as firewalld takes it for a zone; how long it may be is firewalld's to say.
fn zone_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'));
    if text.is_empty() || !plain {
        return Err("must be the name of a zone: letters, digits, '_', '-' and '/'".to_owned());
    }
    Ok(text.to_owned())
}

/// A name that both iptables and nf_tables take for a chain.
pub(super) fn chain_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !plain || text.starts_with('-') || text.len() > CHAIN_MAX {
        return Err(format!(
            "must be the name of a chain: at most {CHAIN_MAX} letters, digits, '_', '-' and '.', no '-' first"
        ));
    }
    Ok(text.to_owned())
}

/// The name of an administrator's chain: none that linkspan fills itself, nor one that iptables has.
fn admin_chain(text: &str) -> Result<String, String> {
    if chains::is_taken(text) {
        let reason = "must be a chain of the administrator's own, not one that linkspan fills (forward, admin, \
                      net-NAME, LINKSPAN-NAME, ...) or that iptables has (FORWARD, ACCEPT, REJECT, ...)";
        return Err(reason.to_owned());
    }
    chain_name(text)
}

/// `backend` and its synonym `ipMasqBackend`, and what other keys need of it.
pub(super) fn read_backend(
    fields: &Fields<'_>,
    portmap: &PortmapKeys,
    reads: Reads,
) -> Result<Backend, Error> {
    if reads.firewall && reads != Reads::ALL {
        return read_reference_firewall(fields);
    }
    let read = |key: &str, is_read: bool| {
        let word = if is_read { fields.parsed(key, |word| backend_of(key, word))? } else { None };
        Ok::<Backend, Error>(word.unwrap_or_default())
    };
    let backend = read("backend", reads.portmap)?;
    let synonym = read("ipMasqBackend", reads.bridge)?;
    let chosen = match (backend, synonym) {
        (Backend::Auto, other) | (other, Backend::Auto) => other,
        (one, other) if one == other => one,
        (one, other) => {
            return Err(Error::Conflict {
                keys: format!("backend = {} and ipMasqBackend = {}", word_of(one), word_of(other)),
                reason: "one backend carries all rules; write only backend".to_owned(),
            });
        }
    };
    let Some(key) = iptables_only(portmap) else { return Ok(chosen) };
    if chosen == Backend::Nftables {
        return Err(Error::Unsupported {
            key: key.to_owned(),
            value: fields.get(key).map(crate::cni::error::excerpt).unwrap_or_default(),
            reason: "it is made of iptables arguments; write backend = iptables, or remove it".to_owned(),
        });
    }
    Ok(Backend::Iptables)
}

/// The reference `firewall` chooses between iptables and firewalld. What it would write to either is here in the
/// network's own ruleset, with an exception in the FORWARD chain of iptables where that drops: nothing to choose.
fn read_reference_firewall(fields: &Fields<'_>) -> Result<Backend, Error> {
    let backend = fields.parsed("backend", |word| match word {
        "auto" | "iptables" | "nftables" | "firewalld" => Ok(Backend::Auto),
        _ => Err(format!("unrecognized firewall backend {word:?}: must be iptables, firewalld or absent")),
    })?;
    Ok(backend.unwrap_or_default())
}

fn iptables_only(portmap: &PortmapKeys) -> Option<&'static str> {
    if !portmap.conditions_v4.is_empty() {
        return Some("conditionsV4");
    }
    if !portmap.conditions_v6.is_empty() {
        return Some("conditionsV6");
    }
    portmap.external_set_mark_chain.is_some().then_some("externalSetMarkChain")
}

fn word_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Auto => "auto",
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    }
}

fn backend_of(key: &str, word: &str) -> Result<Backend, String> {
    match word {
        "auto" => Ok(Backend::Auto),
        "nftables" => Ok(Backend::Nftables),
        "iptables" => Ok(Backend::Iptables),
        "firewalld" => {
            Err("must be auto, nftables or iptables; beside firewalld, nftables keeps its rules when \
                            firewalld reloads"
                .to_owned())
        }
        _ => Err(format!("must be auto, nftables or iptables ({key} knows no other)")),
    }
}
