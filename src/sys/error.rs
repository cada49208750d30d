//! What can go wrong between us and the kernel.

use std::time::Duration;

use nix::errno::Errno;

use super::netns::NetnsError;

/// A request that the kernel, or a child process, did not fulfil.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// A system call or a netlink request was refused.
    #[error("cannot {action} {object}: {}{}", .errno.desc(), in_brackets(.hint.as_deref()))]
    Refused {
        /// What was tried, as a verb phrase: `create the veth pair`.
        action: &'static str,
        /// On what: a name, a path, an address.
        object: String,
        /// The kernel's reason.
        errno: Errno,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it said any.
        hint: Option<String>,
    },
    /// A list kept changing while it was read (`NLM_F_DUMP_INTR`): trying again later serves.
    #[error("cannot {action} {object}: the kernel's list kept changing while it was read")]
    Interrupted {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
    },
    /// It was not done in time.
    #[error("cannot {action} {object}: not done within {limit:?}")]
    Deadline {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The network namespace is not usable.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl SysError {
    /// A refusal without words of the kernel's.
    pub fn refused(action: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self::Refused { action, object: object.into(), errno, hint: None }
    }

    /// A refusal that the standard library reports.
    pub fn io(action: &'static str, object: impl Into<String>, error: &std::io::Error) -> Self {
        Self::refused(action, object, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// The kernel's reason, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Netns(error) => error.errno(),
            Self::Interrupted { .. } | Self::Deadline { .. } => None,
        }
    }

    /// Whether trying again later may serve.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Interrupted { .. } | Self::Deadline { .. } => true,
            Self::Refused { errno, .. } => matches!(errno, Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR),
            Self::Netns(_) => false,
        }
    }
}

fn in_brackets(hint: Option<&str>) -> String {
    hint.map(|text| format!(" ({text})")).unwrap_or_default()
}
