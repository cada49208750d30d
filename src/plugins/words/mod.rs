//! What a face says when it fails: the code and the words of the reference plugin of that name, which callers match on,
//! with what linkspan has to add in `details`.
//!
//! Theirs come from `skel.go` of containernetworking/cni for what every plugin checks, and from each plugin of
//! containernetworking/plugins for the rest; where they have no words of their own, ours stand with their code.

mod input;
mod ranges;

use crate::apply::{ApplyError, Cause, SandboxError};
use crate::cni::{CniError, Code, Command};
use crate::ipam::IpamError;
use crate::store::StoreError;
use crate::sys::NetnsError;
use crate::verbs::VerbError;

use super::Face;

/// The code of everything that fails within a reference plugin: its library gives it to each plain error.
const PLAIN: u32 = 999;

/// The error document of a call, as the face answers it.
pub(super) fn of(face: Face, command: Option<Command>, error: VerbError) -> CniError {
    // Theirs have neither GC nor STATUS of their own, so that the specification's codes are all there is to match on.
    let is_ours =
        matches!(command, Some(Command::Gc | Command::Status)) && !matches!(error, VerbError::Input(_));
    if !face.is_reference() || is_ours {
        return error.into();
    }
    let words = theirs(face, &error);
    // A plugin that is delegated to speaks for itself: its caller passes its error on.
    if let VerbError::Apply(ApplyError { cause: Cause::Delegated { error: Some(own), .. }, .. })
    | VerbError::Forwarded(ApplyError { cause: Cause::Delegated { error: Some(own), .. }, .. }) = error
    {
        return own;
    }
    let ours = CniError::from(error);
    let Some(words) = words else {
        // Drift is told in the details, behind a sentence that says no more than the code does.
        let drift = ours.code == Code::Drift.number();
        let msg = if drift { ours.details.clone() } else { ours.msg };
        return CniError { code: code_of(ours.code), msg, details: ours.details };
    };
    // Not twice what theirs says already.
    let rest = ours
        .msg
        .strip_prefix(&words.msg)
        .map_or(ours.msg.as_str(), |rest| rest.trim_start_matches([':', ';', ' ']));
    let add = match rest {
        "" => ours.details,
        rest if ours.details.contains(rest) || rest.starts_with("invalid configuration") => ours.details,
        rest => format!("{rest}; {}", ours.details),
    };
    let details = words.details.unwrap_or(add);
    CniError { code: words.code.unwrap_or_else(|| code_of(ours.code)), msg: words.msg, details }
}

/// Theirs for an error.
struct Words {
    /// Where it is not [`PLAIN`] and not ours either.
    code: Option<u32>,
    msg: String,
    /// Where they have some; else there is room for ours.
    details: Option<String>,
}

impl Words {
    /// A plain error.
    fn plain(msg: impl Into<String>) -> Self {
        Self { code: Some(PLAIN), msg: msg.into(), details: None }
    }

    /// An error of their library.
    fn coded(code: Code, msg: impl Into<String>) -> Self {
        Self { code: Some(code.number()), msg: msg.into(), details: None }
    }
}

/// Their code for one of ours: the specification's where both mean it, and where only linkspan refuses; else the plain
/// one.
fn code_of(ours: u32) -> u32 {
    const KEPT: [Code; 6] = [
        Code::IncompatibleVersion,
        Code::UnsupportedField,
        Code::TryAgainLater,
        Code::NotAvailable,
        Code::LimitedConnectivity,
        Code::PortTaken,
    ];
    if KEPT.iter().any(|code| code.number() == ours) { ours } else { PLAIN }
}

fn theirs(face: Face, error: &VerbError) -> Option<Words> {
    match error {
        VerbError::Input(error) => input::words(face, error),
        VerbError::Known { words, .. } => Some(Words::plain(words)),
        VerbError::Sandbox(error) => of_sandbox(face, error),
        VerbError::InterfaceExists(_) | VerbError::Duplicate(_) => of_existing(face, error),
        VerbError::Store(error) => of_store(error),
        VerbError::Apply(ApplyError { cause, .. }) | VerbError::Forwarded(ApplyError { cause, .. }) => {
            of_cause(face, cause)
        }
        _ => None,
    }
}

fn of_existing(face: Face, error: &VerbError) -> Option<Words> {
    let name = match error {
        VerbError::InterfaceExists(name) => name,
        VerbError::Duplicate(key) => &key.interface,
        _ => return None,
    };
    Some(Words::plain(match face {
        Face::Macvlan => format!("failed to rename macvlan to {name:?}: file exists"),
        _ => format!("container veth name provided ({name}) already exists"),
    }))
}

fn of_sandbox(face: Face, error: &SandboxError) -> Option<Words> {
    let reason = match error {
        SandboxError::Own(_) => {
            let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
            return Some(Words::coded(Code::UnusableNamespace, msg));
        }
        SandboxError::Netns(NetnsError::Missing { path }) => {
            (path, format!("failed to Statfs {path:?}: no such file or directory"))
        }
        SandboxError::Netns(NetnsError::NotANamespace { path }) => {
            (path, format!("unknown FS magic on {path:?}"))
        }
        SandboxError::Netns(_) => return None,
    };
    let (path, reason) = reason;
    Some(Words::plain(match face {
        Face::Bridge | Face::Ptp | Face::Macvlan => format!("failed to open netns {path:?}: {reason}"),
        _ => reason,
    }))
}

fn of_store(error: &StoreError) -> Option<Words> {
    Some(Words::plain(match error {
        StoreError::Exhausted { index, ranges, .. } => {
            format!("failed to allocate for range {index}: no IP addresses available in range set: {ranges}")
        }
        StoreError::Request(IpamError::InNoRange { address, .. }) => {
            format!("failed to allocate all requested IPs: {address}")
        }
        StoreError::Request(IpamError::IsGateway { .. }) => {
            format!("failed to allocate for range 0: {error}")
        }
        StoreError::AddressTaken { address, .. } => {
            format!(
                "failed to allocate for range 0: requested IP address {address} is not available in range set"
            )
        }
        _ => return None,
    }))
}

fn of_cause(face: Face, cause: &Cause) -> Option<Words> {
    Some(Words::plain(match cause {
        Cause::Store(error) => return of_store(error),
        Cause::Delegated { reason, .. } => reason.clone(),
        Cause::NotABridge { name, .. } => {
            format!("failed to create bridge {name:?}: {name:?} already exists but is not a bridge")
        }
        Cause::GatewayClash { bridge, wanted, .. } => {
            format!("failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}")
        }
        Cause::InterfaceExists(name) => {
            return of_existing(face, &VerbError::InterfaceExists(name.clone()));
        }
        _ => return None,
    }))
}

#[cfg(test)]
mod tests;
