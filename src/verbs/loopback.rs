//! The loopback interface: a kubelet has it set up for every pod, so it costs next to nothing. No record is kept, since
//! the interface goes with its namespace.

use crate::apply::{Loopback, LoopbackError, SandboxError};
use crate::cni::{CniResult, Code, Command, Interface, Ip};
use crate::sys::NetnsError;

use super::{Call, VerbError, addressing};

/// The name that it has in every namespace, whatever `CNI_IFNAME` says.
const NAME: &str = "lo";

/// Runs any verb; only ADD has a result.
///
/// # Errors
/// Where the namespace is not usable or the kernel refuses; [`VerbError::Drifted`] where CHECK finds it down.
pub fn obey(call: &Call) -> Result<Option<CniResult>, VerbError> {
    let environment = call.environment;
    let path = environment.netns.as_deref().unwrap_or_default();
    let open = || Loopback::open(path, environment.netns_override);
    match environment.command {
        Command::Add => {
            let previous = addressing::previous_result(call)?;
            let mut loopback = open()?;
            loopback.set(true)?;
            // As in the reference, a result that was there already goes on as it is.
            match previous {
                Some(previous) => Ok(Some(previous)),
                None => result(&mut loopback, path).map(Some),
            }
        }
        Command::Check => {
            if open()?.is_up()? {
                return Ok(None);
            }
            let why = format!("{NAME} in {path} was set down since");
            Err(VerbError::known(Code::Drift, "loopback interface is down", why))
        }
        Command::Del if path.is_empty() => Ok(None),
        Command::Del => match open() {
            Ok(mut loopback) => Ok(loopback.set(false).map(|()| None)?),
            // It went with its namespace.
            Err(LoopbackError::Sandbox(SandboxError::Netns(
                NetnsError::Missing { .. } | NetnsError::NotANamespace { .. },
            ))) => Ok(None),
            Err(error) => Err(error.into()),
        },
        Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

fn result(loopback: &mut Loopback, path: &str) -> Result<CniResult, VerbError> {
    let interface = Interface {
        name: NAME.to_owned(),
        mac: "00:00:00:00:00:00".to_owned(),
        sandbox: path.to_owned(),
        ..Interface::default()
    };
    let ips = loopback.addresses()?.into_iter().map(|address| Ip::new(address, None, Some(0))).collect();
    Ok(CniResult { interfaces: vec![interface], ips, ..CniResult::default() })
}
