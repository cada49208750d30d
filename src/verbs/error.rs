//! Why a verb failed, and the one match that turns it into an error of the protocol.

use nix::errno::Errno;

use crate::apply::{ApplyError, Cause, LoopbackError, SandboxError};
use crate::cni::{self, CniError, Code};
use crate::model::{AttachmentKey, Publication};
use crate::store::StoreError;
use crate::sys::{NetnsError, SysError};

/// What CHECK says before it says what differs.
const NOT_AS_LEFT: &str = "the attachment is not as ADD left it";

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The namespace is not usable.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A step could not be walked.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The same of a verb that takes away or puts back: what it could not do is done by the next one.
    #[error(transparent)]
    Left(ApplyError),
    /// The same of a verb that only looks.
    #[error(transparent)]
    Unseen(ApplyError),
    /// A plugin that is delegated to has refused a verb that makes nothing.
    #[error("{0}")]
    Forwarded(ApplyError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An interface of that name is in the container already.
    #[error("container veth name provided ({0}) already exists: the container has an interface {0} already")]
    InterfaceExists(String),
    /// This attachment is there already.
    #[error("{0} is attached already")]
    Duplicate(AttachmentKey),
    /// The attachment holds an address already.
    #[error(
        "failed to allocate for range 0: {address} has been allocated to {}, duplicate allocation is not allowed",
        .key.container_id
    )]
    LeaseExists {
        /// The address.
        address: std::net::IpAddr,
        /// The attachment.
        key: AttachmentKey,
    },
    /// A host port belongs to somebody else.
    #[error("host port {publication} is taken by {owner}")]
    PortTaken {
        /// What was asked for.
        publication: Publication,
        /// Who has it: an attachment, or a process.
        owner: String,
    },
    /// No host port is free for a mapping that names none.
    #[error("{0}")]
    NoPort(String),
    /// The attachment is not known.
    #[error("{0} is not attached")]
    Unknown(AttachmentKey),
    /// CHECK found the host different from what ADD made.
    #[error("{0}")]
    Drifted(String),
    /// Another call for the same attachment is at work.
    #[error("{0} is being attached by another call")]
    Busy(AttachmentKey),
    /// The configuration asks for what cannot be.
    #[error("{0}")]
    Config(String),
    /// STATUS: an ADD would fail, or containers suffer.
    #[error("{reason}")]
    NotReady {
        /// 50, or 51 where running containers suffer.
        code: Code,
        /// Why.
        reason: String,
    },
    /// An ADD that failed, and what of it could not be taken back.
    #[error("{error}")]
    NotUndone {
        /// Why it failed.
        error: Box<VerbError>,
        /// What is left, in words.
        left: Vec<String>,
    },
    /// Several attachments could not be taken away.
    #[error("{}", .0.join("; "))]
    Several(Vec<String>),
    /// What the reference plugins refuse too: in their words, which callers know, and what there is to add.
    #[error("{words}: {why}")]
    Known {
        /// The code of linkspan.
        code: Code,
        /// Theirs.
        words: String,
        /// Ours.
        why: String,
    },
    /// A result, of an earlier plugin or of one that is delegated to, does not read as one.
    #[error(transparent)]
    Input(#[from] cni::Error),
}

impl VerbError {
    /// A refusal that the reference plugins know: in their words, with ours behind them.
    pub(super) fn known(code: Code, words: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Known { code, words: words.into(), why: why.into() }
    }

    /// The same error of a verb that takes away or puts back.
    pub(super) fn of_taking_away(self) -> Self {
        if let Self::Apply(error) = self { Self::Left(error) } else { self }
    }

    /// The same error of a verb that only looks.
    pub(super) fn of_looking(self) -> Self {
        if let Self::Apply(error) = self { Self::Unseen(error) } else { self }
    }
}

impl From<LoopbackError> for VerbError {
    fn from(error: LoopbackError) -> Self {
        match error {
            LoopbackError::Sandbox(error) => error.into(),
            LoopbackError::Sys(error) => ApplyError::new("the loopback interface", error).into(),
        }
    }
}

impl From<VerbError> for CniError {
    fn from(error: VerbError) -> Self {
        let details = |text: &str| text.to_owned();
        let msg = error.to_string();
        match error {
            VerbError::Input(error) => error.into(),
            VerbError::Known { code: Code::Drift, .. } => Self::new(Code::Drift, NOT_AS_LEFT.to_owned(), msg),
            VerbError::Known { code, .. } => Self::new(code, msg, details("nothing was changed")),
            VerbError::Sandbox(error) => of_sandbox(&error),
            VerbError::Store(error) => of_store(&error),
            VerbError::Apply(error) => of_apply(&error, "what had been made was taken back"),
            VerbError::Left(error) => of_left(&error),
            VerbError::Unseen(error) => of_apply(&error, "nothing was changed"),
            VerbError::Forwarded(ApplyError { object, cause, .. }) => Self::new(
                Code::Delegate,
                cause.to_string(),
                format!("{object}: {cause}; nothing was changed"),
            ),
            VerbError::InterfaceExists(_) => Self::new(
                Code::InterfaceExists,
                msg,
                details(
                    "nothing was changed; run DEL for the attachment that made it, or choose another CNI_IFNAME",
                ),
            ),
            VerbError::Duplicate(_) => Self::new(
                Code::DuplicateAttachment,
                msg,
                details(
                    "container veth name provided already exists; nothing was changed; run DEL first, or give another CNI_CONTAINERID or CNI_IFNAME",
                ),
            ),
            VerbError::LeaseExists { .. } => Self::new(
                Code::DuplicateAttachment,
                msg,
                details("nothing was changed; run DEL for this container and interface first"),
            ),
            VerbError::PortTaken { .. } => Self::new(
                Code::PortTaken,
                msg,
                details(
                    "nothing was changed; publish another host port, publish on one host address (hostIP), or stop the owner",
                ),
            ),
            VerbError::NoPort(_) => Self::new(
                Code::PortTaken,
                msg,
                details(
                    "what had been made was taken back; name a hostPort, widen net.ipv4.ip_local_port_range, or take containers away",
                ),
            ),
            VerbError::Unknown(_) => Self::new(
                Code::UnknownContainer,
                msg,
                details(
                    "there is no record of it under the state directory: it was never attached, was detached, or the host was rebooted; run ADD",
                ),
            ),
            VerbError::Drifted(_) => Self::new(Code::Drift, NOT_AS_LEFT.to_owned(), msg),
            VerbError::Busy(_) => Self::new(
                Code::TryAgainLater,
                msg,
                details(
                    "try again when the other call has ended; where that was killed, when the IPAM plugin that it started has",
                ),
            ),
            VerbError::Config(_) => Self::new(Code::InvalidConfig, msg, details("nothing was changed")),
            VerbError::NotReady { code, .. } => {
                Self::new(code, "linkspan cannot serve this network".to_owned(), msg)
            }
            VerbError::NotUndone { error, left } => {
                let error = Self::from(*error);
                let details = format!("{msg}; not undone, DEL tries again: {}", left.join("; "));
                Self { details, ..error }
            }
            VerbError::Several(_) => Self::new(
                Code::Netlink,
                "some attachments could not be taken away".to_owned(),
                format!("{msg}; their records are kept: DEL or GC tries again"),
            ),
        }
    }
}

/// What could not be taken away, whatever refused.
fn of_left(error: &ApplyError) -> CniError {
    let told = of_apply(error, "what is left is tried again by DEL, GC and 'linkspan reconcile'");
    let is_firewall = matches!(error.cause, Cause::Firewall(_));
    if is_firewall { CniError { code: Code::Netlink.number(), ..told } } else { told }
}

fn of_sandbox(error: &SandboxError) -> CniError {
    let (code, advice) = match error {
        SandboxError::Netns(NetnsError::Unusable { errno, .. }) => (Code::Netlink, to_open(*errno)),
        _ => (
            Code::UnusableNamespace,
            "CNI_NETNS must be the path of the container's own network namespace, such as /run/netns/NAME or /proc/PID/ns/net",
        ),
    };
    CniError::new(code, error.to_string(), advice)
}

fn of_store(error: &StoreError) -> CniError {
    let code = match error {
        StoreError::LockTimeout { .. } => Code::TryAgainLater,
        StoreError::Exhausted { .. } => Code::PoolExhausted,
        StoreError::Claimed { .. } => Code::PortTaken,
        StoreError::RecordExists { .. } => Code::DuplicateAttachment,
        StoreError::AddressTaken { .. } | StoreError::Request(_) => Code::InvalidConfig,
        StoreError::Io { .. } | StoreError::Broken { .. } | StoreError::Encode { .. } => Code::Io,
        StoreError::BadName { .. } => Code::InvalidEnvironment,
    };
    let advice =
        error.advice().unwrap_or("try again; what had been begun is ended by the next ADD, DEL or GC");
    CniError::new(code, error.to_string(), advice)
}

/// What to do where a namespace is there and this process could not open or enter it.
fn to_open(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => {
            "run as root, or with CAP_SYS_ADMIN in the user namespace that owns the network namespace"
        }
        Errno::EMFILE | Errno::ENFILE => {
            "let the process open more files (ulimit -n, fs.file-max), and try again"
        }
        _ => "try again; where it stays so, run 'linkspan doctor'",
    }
}

/// `done` is what became of what was done before.
fn of_apply(error: &ApplyError, done: &'static str) -> CniError {
    let (code, advice) = match &error.cause {
        Cause::Store(source) => return of_store(source),
        Cause::Sys(SysError::Netns(NetnsError::Unusable { errno, .. })) => (Code::Netlink, to_open(*errno)),
        Cause::Sys(source) if source.is_transient() => (Code::TryAgainLater, "try again"),
        // The kernel's own words; the same number has no other meaning for an address.
        Cause::Sys(SysError::Refused { action: "add the address", errno: Errno::EACCES, .. }) => (
            Code::Netlink,
            "let the interface have IPv6: sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0, and of a bridge that is there net.ipv6.conf.BRIDGE.disable_ipv6=0; or take the IPv6 ranges out",
        ),
        Cause::Sys(source) if matches!(source.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
            (Code::Netlink, "run as root, or with CAP_NET_ADMIN in the network namespace's user namespace")
        }
        Cause::Sys(_) | Cause::BlockedRoute { .. } | Cause::Batch(_) => (Code::Netlink, done),
        Cause::Firewall(_) => (Code::Firewall, done),
        Cause::InterfaceExists(_) => {
            (Code::InterfaceExists, "remove the interface, or run DEL for its attachment")
        }
        Cause::HostEndTaken { .. } => (
            Code::InterfaceExists,
            "what had been made was taken back; give another CNI_CONTAINERID or CNI_IFNAME",
        ),
        Cause::BridgeFull(_) => (Code::BridgeFull, "use a second network for further containers"),
        Cause::NotABridge { .. } | Cause::GatewayClash { .. } => (Code::InvalidConfig, "nothing was changed"),
        Cause::NotAGatewayLink { .. } => (Code::InvalidConfig, done),
        Cause::Elsewhere { .. } => (Code::InvalidEnvironment, "nothing without a record was touched"),
        // The plugin's own code says what failed; where it gave none, ours says who.
        Cause::Delegated { .. } => (Code::Delegate, done),
    };
    let advice = match &error.cause {
        Cause::Delegated { .. } => format!("{advice}; see the plugin's own words"),
        _ => advice.to_owned(),
    };
    let details = if error.not_undone.is_empty() {
        format!("{}: {}; {advice}", error.object, error.cause)
    } else {
        format!(
            "{}: {}; not undone, DEL tries again: {}",
            error.object,
            error.cause,
            error.not_undone.join("; ")
        )
    };
    CniError::new(code, error.cause.to_string(), details)
}
