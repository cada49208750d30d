//! `linkspan agent`: what stays.

use std::net::SocketAddr;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Session;
use super::error::Error;
use crate::agent;

pub(super) fn describe() -> Command {
    Command::new("agent")
        .about("stay: serve names, hold ports and mend, until SIGTERM")
        .arg(
            Arg::new("on-demand")
                .long("on-demand")
                .action(ArgAction::SetTrue)
                .help("as ADD starts it: return when ready, end without work"),
        )
        .arg(Arg::new("replace").long("replace").action(ArgAction::SetTrue).help(
            "take over from the running agent: sockets, names, connections",
        ))
        .arg(
            Arg::new("metrics")
                .long("metrics")
                .value_name("ADDRESS:PORT")
                .value_parser(loopback)
                .help("serve numbers at this loopback address too"),
        )
        .after_help(
            "Examples:\n  systemctl enable --now linkspan-agent.socket\n  linkspan agent --metrics 127.0.0.1:9464\n  linkspan agent --replace",
        )
}

pub(super) fn run(_: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let flag = |name: &str| matches.get_flag(name);
    let metrics = matches.get_one::<SocketAddr>("metrics").copied();
    Ok(agent::run(agent::Start { on_demand: flag("on-demand"), replace: flag("replace"), metrics })?)
}

/// An address that nobody outside can reach: the numbers name every container.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    address.ok_or_else(|| "it takes a loopback address and a port, such as 127.0.0.1:9464".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_served_to_this_host_alone() {
        assert_eq!(loopback("127.0.0.1:9464").unwrap(), "127.0.0.1:9464".parse().unwrap());
        assert_eq!(loopback("[::1]:9464").unwrap(), "[::1]:9464".parse().unwrap());
        for text in ["0.0.0.0:9464", "127.0.0.1", "9464", "localhost:9464"] {
            assert!(loopback(text).unwrap_err().contains("loopback"), "{text}");
        }
    }
}
