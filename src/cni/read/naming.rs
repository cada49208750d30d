//! Names that containers are found by: key `dns.enabled`, `K8S_POD_NAME`, `args.cni`, capability `aliases`.

use std::net::IpAddr;

use super::{Judge, Runtime};
use crate::cni::arguments::Arguments;
use crate::cni::config::Dns;
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::{Naming, naming};

/// Reads what a container of this network is called; `None` where the network has no name service.
///
/// The name servers of `dns` become those that all else is forwarded to, since a container of the network is to ask
/// the gateway. A face that `always` has names, `dnsname`, needs no word for it; its domain is `domainName`.
pub(super) fn read(
    fields: &Fields<'_>,
    runtime: &Runtime<'_>,
    arguments: &Arguments,
    dns: &mut Dns,
    always: bool,
    judge: &mut Judge,
) -> Result<Option<Naming>, Error> {
    if always {
        dns.domain = judge.or_default(fields.text("domainName"))?.unwrap_or_default().to_owned();
    } else {
        let dns = fields.object("dns");
        let enabled = dns.and_then(|dns| dns.map_or(Ok(None), |dns| dns.boolean("enabled")));
        if judge.or_default(enabled)? != Some(true) {
            return Ok(None);
        }
    }
    let network = fields.text("name")?.unwrap_or_default();
    let mut names = Vec::new();
    if let Some(name) = arguments.get("K8S_POD_NAME") {
        // It is the runtime's, and may be longer than a name in DNS: the container is then found by its ID.
        match naming::dns_name(name) {
            Some(name) => names.push(name),
            None => judge.warnings.push(format!("K8S_POD_NAME '{name}' is no name in DNS: it is not served")),
        }
    }
    names.extend(judge.or_default(read_args(runtime.args.as_ref()))?);
    names.extend(judge.or_default(read_aliases(runtime.capabilities.as_ref(), network))?);
    let mut once: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    let domains =
        judge.or_default(domain(fields, dns))?.into_iter().filter(|domain| domain != network).collect();
    let upstreams = judge.or_default(upstreams(fields, dns))?;
    Ok(Some(Naming { names: once, domains, upstreams, ..Naming::default() }))
}

/// `args.cni.name` and `args.cni.aliases`.
fn read_args(args: Option<&Fields<'_>>) -> Result<Vec<String>, Error> {
    let Some(args) = args else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    if let Some(name) = args.text("name")? {
        names.push(naming::dns_name(name).ok_or_else(|| args.invalid("name", RULE))?);
    }
    names.extend(read_names(args, "aliases")?);
    Ok(names)
}

/// Capability `aliases`: network name to a list of names (the convention of the `dnsname` plugin).
fn read_aliases(capabilities: Option<&Fields<'_>>, network: &str) -> Result<Vec<String>, Error> {
    let Some(aliases) = capabilities.map(|fields| fields.object("aliases")).transpose()?.flatten() else {
        return Ok(Vec::new());
    };
    read_names(&aliases, network)
}

const RULE: &str = "is no name in DNS: letters, digits, '-' and '_', in labels of at most 63 bytes";

fn read_names(fields: &Fields<'_>, key: &str) -> Result<Vec<String>, Error> {
    let name = |(path, text): (String, &str)| {
        naming::dns_name(text).ok_or_else(|| Error::invalid(path, &text.into(), RULE))
    };
    fields.texts(key)?.into_iter().map(name).collect()
}

/// `dns.domain`: names stand under it as well.
fn domain(fields: &Fields<'_>, dns: &Dns) -> Result<Option<String>, Error> {
    if dns.domain.is_empty() {
        return Ok(None);
    }
    match naming::dns_name(&dns.domain) {
        Some(domain) => Ok(Some(domain)),
        None => Err(Error::invalid(fields.path_of("dns.domain"), &dns.domain.as_str().into(), RULE)),
    }
}

/// Takes the name servers out of what the container is told.
fn upstreams(fields: &Fields<'_>, dns: &mut Dns) -> Result<Vec<IpAddr>, Error> {
    std::mem::take(&mut dns.nameservers)
        .iter()
        .map(|server| {
            server.parse().map_err(|_| {
                let reason = "must be an IP address: with dns.enabled, all else is forwarded to it";
                Error::invalid(fields.path_of("dns.nameservers"), &server.as_str().into(), reason)
            })
        })
        .collect()
}
