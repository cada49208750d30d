//! What a person types: `linkspan add|check|del|gc|status`, which walks a whole network configuration through its
//! plugins, ours and others', as a runtime does. It reads what `cnitool` reads and keeps what libcni keeps.

mod arguments;
mod cache;
mod chain;
mod conflist;
mod error;
mod exec;
mod inject;
pub mod install;
mod names;
mod network_verbs;
mod request;
mod suggest;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use arguments::{Command, Target};
use cache::Cache;
use chain::Chain;
use conflist::{Directory, Network};
pub use error::Error;
use exec::{Attachment, SearchPath};
pub use exec::{Refusal, Verb};
use request::{Environment, as_added, attachment};

/// Where network configurations are when `NETCONFPATH` is not set.
const NETWORK_DIRECTORY: &str = "/etc/cni/net.d";

const INTRODUCTION: &str = "\
linkspan gives containers their network: a CNI plugin, run by container runtimes.
To have them use it, run 'linkspan install' and write a configuration to /etc/cni/net.d.
To try a configuration without a runtime:
    ip netns add blue
    linkspan add NETWORK blue
'linkspan --help' lists the commands.
";

const HELP: &str = "\
Run a CNI network configuration, all its plugins, by hand.

Usage:
  linkspan add    NETWORK NETNS    attach a namespace and print the result
  linkspan check  NETWORK NETNS    verify the attachment
  linkspan del    NETWORK NETNS    detach it
  linkspan gc     NETWORK          delete what belongs to no living attachment; --dry-run only says what
  linkspan status NETWORK          ask each plugin whether it could attach now
  linkspan status                  which plugin names on this host are linkspan's

  linkspan install   [--dir DIR] [--names a,b | --all] [--backup | --force]
                                   put the binary into DIR (/opt/cni/bin), and take names of the reference
                                   plugins there: bridge, host-local, portmap ... Another's program of such
                                   a name is kept aside (--backup), replaced (--force), or stops it
  linkspan uninstall [--dir DIR]   take that back
  linkspan names     [--dir DIR]   which names in DIR are linkspan's

NETWORK is the name in a configuration, NETNS a path or a name of 'ip netns'.

Options:
  -h, --help       this text
  -V, --version    the version

Environment:
  NETCONFPATH      directory of configurations (/etc/cni/net.d)
  CNI_PATH         directories of plugins (/opt/cni/bin); linkspan's own is searched last
  CNI_IFNAME       interface in the namespace (eth0)
  CNI_CONTAINERID  container ID (made from the namespace's path, as cnitool does)
  CNI_ARGS         KEY=VALUE;... for all plugins
  CAP_ARGS         JSON object: values for the capabilities that plugins declare
  LINKSPAN_CACHE_DIR  where attachments are remembered, in libcni's format (/var/lib/cni)

Exit codes: 0 done, 1 failed, 2 the command line is wrong.
";

/// Runs one command and gives back the process's exit code: 0, 1 for a failure, 2 for a wrong command line.
///
/// `args` are the words after the program's name. Results go to `stdout`, sentences about failures to `stderr`. The
/// plugins inherit this process's environment and standard error.
pub fn run(args: Vec<OsString>, env: Environment<'_>, stdout: &mut dyn Write, stderr: &mut dyn Write) -> i32 {
    match dispatch(args, env, stdout, stderr) {
        Ok(()) => 0,
        // A reader who closed the pipe has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // There is nobody left to tell.
            let _ = writeln!(stderr, "linkspan: {error}");
            error.exit_code()
        }
    }
}

fn dispatch(
    args: Vec<OsString>,
    env: Environment<'_>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<(), Error> {
    if let Some(order) = install::parse(&args) {
        return match order? {
            install::Order::Install(options) => install::install(&options, stdout),
            install::Order::Uninstall(directory) => install::uninstall(&directory, stdout),
            install::Order::Names(directory) => install::names(&directory, stdout),
            install::Order::Help => Ok(stdout.write_all(HELP.as_bytes())?),
        };
    }
    let command = arguments::parse(args)?;
    let place = Place::new(env);
    match command {
        Command::Introduce => stdout.write_all(INTRODUCTION.as_bytes())?,
        Command::Help => stdout.write_all(HELP.as_bytes())?,
        Command::Version => writeln!(stdout, "linkspan {}", env!("CARGO_PKG_VERSION"))?,
        Command::Add(target) => add(&place, &target, env, stdout, stderr)?,
        Command::Check(target) => check(&place, &target, env, stderr)?,
        Command::Del(target) => del(&place, &target, env, stderr)?,
        Command::Gc { network, dry_run } => {
            let network = place.network(&network)?;
            place.chain(&network).gc(dry_run, stdout)?;
        }
        Command::Names => install::names(Path::new(install::DIRECTORY), stdout)?,
        Command::Status { network } => {
            let network = place.network(&network)?;
            place.chain(&network).status(stdout)?;
        }
    }
    Ok(())
}

fn add(
    place: &Place,
    target: &Target,
    env: Environment<'_>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<(), Error> {
    let network = place.network(&target.network)?;
    let attachment = attachment(target, env)?;
    warn_unused(&network, &attachment, stderr)?;
    if !Path::new(&attachment.netns).try_exists().unwrap_or(true) {
        return Err(Error::NoNamespace { path: attachment.netns });
    }
    let result = place.chain(&network).add(&attachment)?;
    stdout.write_all(&pretty(&result)?)?;
    Ok(())
}

fn check(place: &Place, target: &Target, env: Environment<'_>, stderr: &mut dyn Write) -> Result<(), Error> {
    let network = place.network(&target.network)?;
    let attachment = attachment(target, env)?;
    if network.disable_check {
        writeln!(stderr, "linkspan: disableCheck is set in {}: nothing was checked", network.path.display())?;
        return Ok(());
    }
    let known = place.cache.get(&network.name, &attachment)?;
    place.chain(&network).check(&as_added(attachment, known.as_ref(), env))
}

/// DEL works from the configuration on disk, as libcni does, and from the one that ADD used where that is gone.
fn del(place: &Place, target: &Target, env: Environment<'_>, stderr: &mut dyn Write) -> Result<(), Error> {
    let attachment = attachment(target, env)?;
    // An entry that cannot be read is of no use, and DEL has to work without one.
    let known = place.cache.get(&target.network, &attachment).unwrap_or_default();
    let network = match (place.network(&target.network), known.as_ref().filter(|k| !k.config.is_empty())) {
        (Err(Error::UnknownNetwork { directory, .. }), Some(entry)) => {
            let path = place.cache.path(&entry.network_name, &entry.container_id, &entry.if_name);
            let (name, directory) = (&entry.network_name, directory.display());
            writeln!(stderr, "linkspan: {name} is gone from {directory}: deleting by what ADD was given")?;
            conflist::list(&entry.config, &path)?
        }
        (found, _) => found?,
    };
    place.chain(&network).del(&as_added(attachment, known.as_ref(), env), known.as_ref())
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

/// A capability that no plugin declares reaches nobody, which is easily taken for a fault of the plugin.
fn warn_unused(network: &Network, attachment: &Attachment, stderr: &mut dyn Write) -> Result<(), Error> {
    let declared: Vec<&str> =
        network.plugins.iter().flat_map(|plugin| &plugin.capabilities).map(String::as_str).collect();
    for given in attachment.capabilities.keys().filter(|key| !declared.contains(&key.as_str())) {
        let name = &network.name;
        let hint = suggest::nearest(given, declared.iter().copied())
            .map(|found| format!(": did you mean '{found}'?"))
            .unwrap_or_default();
        writeln!(
            stderr,
            "linkspan: no plugin of {name} declares the capability '{given}' of CAP_ARGS{hint}"
        )?;
    }
    Ok(())
}

/// Four spaces, as the Go plugins indent.
fn pretty(value: &Value) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    bytes.push(b'\n');
    Ok(bytes)
}
