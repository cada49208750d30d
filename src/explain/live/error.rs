//! Why nothing could be observed.

use std::io;

use crate::sys::SysError;
use crate::sys::nfnetlink::NftError;

/// Why nothing could be observed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The kernel could not be asked.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Watching takes CAP_NET_ADMIN, and a namespace may take more.
    #[error(
        "--live puts a table of its own into the firewall for a moment, which root alone may: run it as root, for instance with sudo"
    )]
    NotAllowed,
    /// One at a time.
    #[error("another 'linkspan explain --live' is under way on this host: try again when it has ended")]
    Busy,
    /// The table could not be made.
    #[error(
        "the trace of packets could not be set up in {place}: {source}; explain without --live does not need it"
    )]
    Table {
        /// Whose namespace.
        place: String,
        /// The kernel's reason.
        source: NftError,
    },
    /// The system refused something small.
    #[error("cannot observe packets: {0}")]
    Io(#[from] io::Error),
}
