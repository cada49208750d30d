//! What a person types.
//!
//! `linkspan ls|ps|ports|inspect|ipam|top|graph` show what there is ([`crate::view`]), `explain` tells the way of a
//! packet ([`crate::explain`]), `doctor|check|del|gc|reconcile` mend it, and `add|status` walk a whole network
//! configuration through its plugins, ours and others', as a runtime does:
//! they read what `cnitool` reads and keep what libcni keeps. `agent` stays ([`crate::agent`]), and `events` follows
//! what it sees. `commands.rs` is the table of all of them.

mod about;
mod agent;
mod by_hand;
mod cache;
mod chain;
mod commands;
mod conflist;
mod doctor;
mod draw;
mod error;
mod events;
mod exec;
mod generate;
mod inject;
pub mod install;
mod mend;
mod names;
mod network_verbs;
mod progress;
mod reconcile;
mod request;
mod see;
mod suggest;
mod survey;
mod table;
mod usage;
mod version;
mod words;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cache::Cache;
use chain::Chain;
use conflist::{Directory, Network};
pub use error::Error;
use exec::SearchPath;
pub use exec::{Refusal, Verb};
use request::Environment;

/// Where network configurations are when `NETCONFPATH` is not set.
const NETWORK_DIRECTORY: &str = "/etc/cni/net.d";

/// What of the outputs is a terminal: colour, redrawing and progress are for people who look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Standard output is one.
    pub stdout: bool,
    /// Standard error is one.
    pub stderr: bool,
}

/// Runs one command and gives back the process's exit code: 0, 1 for a failure, 2 for a wrong command line,
/// 3 and 4 for what `doctor` found.
///
/// `args` are the words after the program's name. Results go to `stdout`, sentences about failures to `stderr`. The
/// plugins inherit this process's environment and standard error.
pub fn run(
    terminal: Terminal,
    args: Vec<OsString>,
    env: Environment<'_>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> i32 {
    let help = commands::help_for(args.first().map(OsString::as_os_str));
    let mut session = Session { place: Place::new(env), env, terminal, stdout, stderr };
    let outcome = commands::dispatch(&mut session, args).and_then(|()| Ok(session.stdout.flush()?));
    match outcome {
        Ok(()) => 0,
        // A reader who closed the pipe has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error @ Error::Told(_)) => error.exit_code(),
        Err(error) => {
            // There is nobody left to tell.
            let _ = writeln!(session.stderr, "linkspan: {error}");
            if matches!(error, Error::Usage(_)) {
                let _ = writeln!(session.stderr, "Try '{help}'.");
            }
            error.exit_code()
        }
    }
}

/// One run of the program by a person.
pub(crate) struct Session<'a> {
    place: Place,
    env: Environment<'a>,
    terminal: Terminal,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
}

impl Session<'_> {
    /// Whether to colour: only at a terminal, and not where `NO_COLOR` (no-color.org) or `TERM=dumb` says no.
    fn has_colour(&self) -> bool {
        let set = |key: &str| (self.env)(key).filter(|value| !value.is_empty());
        self.terminal.stdout && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
    }
}

/// Where things are on this host.
struct Place {
    networks: PathBuf,
    path: SearchPath,
    cache: Cache,
}

impl Place {
    fn new(env: Environment<'_>) -> Self {
        let set = |key: &str| env(key).filter(|value| !value.is_empty());
        let own = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
        Self {
            networks: set("NETCONFPATH").unwrap_or_else(|| NETWORK_DIRECTORY.into()).into(),
            path: SearchPath::new(set("CNI_PATH"), own),
            cache: Cache::new(
                set("LINKSPAN_CACHE_DIR").unwrap_or_else(|| cache::DEFAULT_DIRECTORY.into()).into(),
            ),
        }
    }

    fn network(&self, name: &str) -> Result<Network, Error> {
        Directory::read(&self.networks)?.find(name)
    }

    fn chain<'a>(&'a self, network: &'a Network) -> Chain<'a> {
        Chain { network, path: &self.path, cache: &self.cache }
    }
}
