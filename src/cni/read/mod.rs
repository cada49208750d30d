//! Reading a network configuration: each file owns the keys of one reference plugin.

mod bandwidth;
mod bridge;
mod firewall;
mod garbage;
mod ipam;
mod isolation;
mod macvlan;
mod naming;
mod portmap;
mod possible;
mod range;
mod route;
mod runtime;
mod tuning;

use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::config::{Bandwidth, BridgeKeys, Dns, Ipam, LinkKeys, LogLevel, NetworkConfig, Tuning};
use super::defaults::{Defaults, LinkKind, Reads};
use super::environment::{Command, Environment, is_identifier};
use super::error::Error;
use super::fields::Fields;
use super::version::Version;
use crate::model::Naming;
use runtime::Runtime;

pub use ipam::is_no_ipam;
pub use possible::require_next_hops;
pub(super) use route::{Destination, read_routes};

/// The longest input that is read, in bytes. Whoever reads standard input stops one byte past it.
pub const MAX_INPUT: usize = 8 << 20;

/// What a wrong value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It makes the call fail: ADD, CHECK, STATUS.
    Strict,
    /// It becomes the default and a warning: DEL and GC, which work from records, must not fail over it.
    Lenient,
}

impl Strictness {
    /// How a command reads its configuration.
    pub const fn of(command: Command) -> Self {
        match command {
            Command::Del | Command::Gc => Self::Lenient,
            Command::Add | Command::Check | Command::Status | Command::Version => Self::Strict,
        }
    }
}

/// Applies a strictness and remembers what it passed over.
struct Judge {
    strictness: Strictness,
    warnings: Vec<String>,
}

impl Judge {
    fn rule<T>(&mut self, read: Result<T, Error>, fallback: impl FnOnce() -> T) -> Result<T, Error> {
        match read {
            Err(error) if self.strictness == Strictness::Lenient => {
                self.warnings.push(error.to_string());
                Ok(fallback())
            }
            other => other,
        }
    }

    fn or_default<T: Default>(&mut self, read: Result<T, Error>) -> Result<T, Error> {
        self.rule(read, T::default)
    }
}

impl NetworkConfig {
    /// Reads the configuration that a runtime passes on standard input, with `CNI_ARGS` and the name of the
    /// interface from `environment`.
    ///
    /// # Errors
    /// The input is too long, empty, cut off, no JSON or no object (code 6); the version is not spoken, or the
    /// command is newer than it (1); a value is wrong (7) or cannot be honoured (2); `CNI_ARGS` is malformed (4).
    /// With [`Strictness::Lenient`] only the document itself, `cniVersion`, `name`, and for GC the list of valid
    /// attachments, can be at fault; all else becomes a warning.
    pub fn parse(
        bytes: &[u8],
        environment: &Environment,
        defaults: &Defaults,
        strictness: Strictness,
    ) -> Result<Self, Error> {
        let raw = parse_object(bytes, "network configuration")?;
        let mut judge = Judge { strictness, warnings: Vec::new() };
        let fields = Fields::root(&raw);
        let name = read_name(&fields)?;
        let cni_version = read_version(&fields, environment.command, defaults.since)?;
        let reads = defaults.reads;
        let arguments = if reads.arguments {
            judge.or_default(Arguments::parse(&environment.args))?
        } else {
            Arguments::default()
        };
        let runtime = Runtime::read(&fields, &arguments, defaults, &mut judge)?;
        let (mut bridge, link) = read_link(&fields, &runtime, defaults, &mut judge)?;
        let mut ipam = Ipam::None;
        if reads.ipam {
            ipam = ipam::read(&fields, &runtime, defaults, cni_version, &mut judge)?;
        }
        let mut firewall = defaults.firewall_keys();
        if reads.firewall {
            firewall = judge.rule(firewall::read(&fields, defaults), || firewall)?;
        }
        let mut portmap = defaults.portmap_keys();
        if reads.portmap {
            portmap = judge.rule(portmap::read(&fields, &runtime, defaults), || portmap)?;
        }
        let isolation =
            judge.rule(isolation::read(&fields, (&bridge, &ipam), defaults), || defaults.isolation_keys())?;
        isolation::imply(&isolation, &mut bridge);
        let backend = judge.or_default(firewall::read_backend(&fields, &portmap, reads))?;
        let tuning = read_tuning(bytes, &fields, &runtime, environment, reads, &mut judge)?;
        let mut bandwidth = Bandwidth::default();
        if reads.bandwidth {
            bandwidth = judge.or_default(bandwidth::read(&fields, &runtime))?;
        }
        let table = || fields.number("table", 1..=u32::MAX.into());
        let table = if reads.sbr { judge.or_default(table())? } else { None };
        let (mut dns, has_list) = read_dns_of_call(&fields, &runtime, reads, &mut judge)?;
        let mut naming = None;
        if reads.names {
            naming = naming::read(&fields, &runtime, &arguments, &mut dns, !reads.bridge, &mut judge)?
                .map(|naming| Naming { internal: isolation.internal, ..naming });
        }
        // With names served, the lists may have become upstreams, and none of them is the container's.
        let dns_is_given = !dns.is_empty() || (has_list && naming.is_none());
        let valid_attachments = match garbage::read(&fields) {
            Err(error) if environment.command == Command::Gc => return Err(error),
            read => judge.or_default(read)?,
        };
        let config = Self {
            cni_version,
            name,
            kind: judge.or_default(fields.text("type"))?.unwrap_or_default().to_owned(),
            defaults: *defaults,
            link,
            bridge,
            requested: if matches!(ipam, Ipam::Static { .. }) { Vec::new() } else { runtime.requested() },
            ipam,
            mac: runtime.mac,
            dns,
            dns_is_given,
            naming,
            portmap,
            firewall,
            isolation,
            tuning,
            bandwidth,
            table,
            backend,
            gc_after: judge.rule(garbage::read_grace(&fields), || garbage::GRACE)?,
            log_level: judge.or_default(read_log_level(&fields))?,
            log_file: judge.or_default(fields.text("logFile"))?.map(str::to_owned),
            prev_result: fields.get("prevResult").cloned(),
            valid_attachments,
            arguments,
            warnings: Vec::new(),
            raw: Value::Null,
        };
        let sensible = config.judge_whole(environment.command, reads.ipam);
        judge.or_default(sensible)?;
        Ok(Self { raw: Value::Object(raw), warnings: judge.warnings, ..config })
    }

    /// What only the whole can show.
    fn judge_whole(&self, command: Command, makes_addresses: bool) -> Result<(), Error> {
        let addresses = !matches!(self.ipam, Ipam::None);
        if self.bridge.disable_container_interface && addresses {
            return Err(Error::Conflict {
                keys: "disableContainerInterface = true and ipam".to_owned(),
                reason: "without an interface nothing can carry an address; remove one of the two".to_owned(),
            });
        }
        if self.naming.is_some() && self.defaults.reads.bridge && !(addresses && self.bridge.is_gateway) {
            return Err(Error::Conflict {
                keys: "dns.enabled = true without a gateway".to_owned(),
                reason: "names are served on the gateway's address; set isGateway, and an ipam that gives addresses"
                    .to_owned(),
            });
        }
        if !addresses && self.link == LinkKeys::Ptp {
            return Err(Error::Missing {
                key: "ipam".to_owned(),
                reason: "an interface without a network around it is reached by its addresses alone"
                    .to_owned(),
            });
        }
        if !self.defaults.is_ipam {
            possible::require(self)?;
        }
        if command != Command::Add || !makes_addresses {
            return Ok(());
        }
        if !addresses && self.defaults.reads.bridge && self.cni_version <= Version::V0_2_0 {
            return Err(Error::NoAddress { version: self.cni_version });
        }
        if matches!(&self.ipam, Ipam::Static { addresses, .. } if addresses.is_empty()) {
            return Err(Error::Missing {
                key: "ipam.addresses".to_owned(),
                reason: "the type static needs an address here, in CNI_ARGS (IP=...) or in runtimeConfig.ips"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// Reads one JSON object; `document` says in errors what it is.
pub(super) fn parse_object(bytes: &[u8], document: &str) -> Result<Map<String, Value>, Error> {
    let document = || document.to_owned();
    if bytes.len() > MAX_INPUT {
        return Err(Error::TooLong { document: document(), limit: MAX_INPUT });
    }
    if bytes.trim_ascii().is_empty() {
        return Err(Error::Empty { document: document() });
    }
    let value =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { document: document(), source })?;
    let found = match value {
        Value::Object(object) => return Ok(object),
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(Error::NotAnObject { document: document(), found })
}

/// The keys of the interface that the face makes; the defaults where it makes none.
fn read_link(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    defaults: &Defaults,
    judge: &mut Judge,
) -> Result<(BridgeKeys, LinkKeys), Error> {
    let none = || defaults.bridge_keys();
    Ok(match defaults.link {
        LinkKind::Bridge if !defaults.reads.bridge => (none(), LinkKeys::Bridge),
        LinkKind::Bridge => (judge.rule(bridge::read(fields, runtime, defaults), none)?, LinkKeys::Bridge),
        LinkKind::Ptp => (judge.rule(bridge::read_endpoint(fields, defaults), none)?, LinkKeys::Ptp),
        LinkKind::Macvlan => (
            judge.rule(bridge::read_endpoint(fields, defaults), none)?,
            LinkKeys::Macvlan(judge.or_default(macvlan::read(fields))?),
        ),
    })
}

fn read_tuning(
    bytes: &[u8],
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    environment: &Environment,
    reads: Reads,
    judge: &mut Judge,
) -> Result<Tuning, Error> {
    if !reads.tuning {
        return Ok(Tuning::default());
    }
    // Only the text itself shows a key that is there twice.
    let unique = fields.get("sysctl").map_or(Ok(()), |_| tuning::refuse_repeated(bytes));
    judge.or_default(unique.and_then(|()| tuning::read(fields, runtime, &environment.interface)))
}

fn read_version(fields: &Fields<'_>, command: Command, since: Version) -> Result<Version, Error> {
    let version: Version = fields.text("cniVersion")?.unwrap_or_default().parse()?;
    if version < since {
        return Err(Error::VersionForFace { found: version, since });
    }
    if version < command.since() {
        return Err(Error::VersionForCommand { command, found: version });
    }
    Ok(version)
}

fn read_name(fields: &Fields<'_>) -> Result<String, Error> {
    const RULE: &str = "a network's name starts with a letter or digit and holds only letters, digits, '_', '.' \
                        and '-'";
    let name = fields.text("name")?.ok_or_else(|| fields.missing("name", RULE))?;
    if !is_identifier(name) {
        return Err(fields.invalid("name", RULE));
    }
    if name.len() > 200 {
        return Err(fields.invalid("name", "has more than 200 bytes, which no file name would hold"));
    }
    Ok(name.to_owned())
}

/// Reads the DNS part of a configuration or a result.
pub(super) fn read_dns(fields: &Fields<'_>, key: &str) -> Result<Dns, Error> {
    let Some(dns) = fields.object(key)? else { return Ok(Dns::default()) };
    Ok(Dns {
        nameservers: dns.strings("nameservers")?,
        domain: dns.text("domain")?.unwrap_or_default().to_owned(),
        search: dns.strings("search")?,
        options: dns.strings("options")?,
    })
}

/// The DNS of the capability, else of the key, and whether that key has a list, which may be empty: to the reference an
/// empty list is one, and `null` is none.
fn read_dns_of_call(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    reads: Reads,
    judge: &mut Judge,
) -> Result<(Dns, bool), Error> {
    let written = if reads.bridge { judge.or_default(read_dns(fields, "dns"))? } else { Dns::default() };
    if let Some(dns) = &runtime.dns {
        return Ok((dns.clone(), false));
    }
    let is_list = |dns: &Fields<'_>, key: &&str| dns.get(key).is_some_and(Value::is_array);
    let has_list = match fields.object("dns") {
        Ok(Some(dns)) if reads.bridge => {
            ["nameservers", "search", "options"].iter().any(|key| is_list(&dns, key))
        }
        _ => false,
    };
    Ok((written, has_list))
}

fn read_log_level(fields: &Fields<'_>) -> Result<LogLevel, Error> {
    let level = fields.parsed("logLevel", |word| {
        Ok(match word.to_ascii_lowercase().as_str() {
            "error" => LogLevel::Error,
            "warning" | "warn" => LogLevel::Warning,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            _ => return Err("must be error, warning, info or debug".to_owned()),
        })
    })?;
    Ok(level.unwrap_or_default())
}

#[cfg(test)]
pub(in crate::cni) mod tests;
