//! What comes with the call rather than with the network: `runtimeConfig` and `args.cni`, over `CNI_ARGS`.

use std::net::IpAddr;

use super::{Judge, read_dns};
use crate::cni::Arguments;
use crate::cni::address::parse_request;
use crate::cni::config::{Dns, RequestedAddress};
use crate::cni::defaults::{Defaults, MacSource, Reads};
use crate::cni::error::Error;
use crate::cni::fields::Fields;
use crate::model::MacAddress;

/// The dynamic part of a configuration. Capabilities count only here, never as keys of the network.
pub(super) struct Runtime<'a> {
    /// `runtimeConfig`, for whoever owns a capability.
    pub(super) capabilities: Option<Fields<'a>>,
    /// `args.cni`.
    pub(super) args: Option<Fields<'a>>,
    /// `CNI_ARGS` `IP`.
    pub(super) argument_ips: Vec<RequestedAddress>,
    /// `CNI_ARGS` `GATEWAY`.
    pub(super) argument_gateways: Vec<IpAddr>,
    /// `args.cni.ips`.
    pub(super) args_ips: Vec<RequestedAddress>,
    /// Capability `ips`.
    pub(super) capability_ips: Vec<RequestedAddress>,
    /// The strongest of the MACs that the face lets be asked for.
    pub(super) mac: Option<MacAddress>,
    /// Capability `dns`, where given and not empty.
    pub(super) dns: Option<Dns>,
}

impl<'a> Runtime<'a> {
    pub(super) fn read(
        fields: &Fields<'a>,
        arguments: &Arguments,
        defaults: &Defaults,
        judge: &mut Judge,
    ) -> Result<Self, Error> {
        let capabilities = judge.or_default(fields.object("runtimeConfig"))?;
        let args = judge.or_default(fields.object("args").and_then(|args| match args {
            Some(args) => args.object("cni"),
            None => Ok(None),
        }))?;
        let mac = judge.or_default(strongest_mac(
            fields,
            arguments,
            args.as_ref(),
            capabilities.as_ref(),
            defaults.mac,
        ))?;
        let reads = defaults.reads;
        let requests = |source: Option<&Fields<'_>>| read_requests(source.filter(|_| reads.ipam));
        // No reference plugin that is a face takes DNS from a capability.
        let with_dns = capabilities.as_ref().filter(|_| reads == Reads::ALL);
        Ok(Self {
            args_ips: judge.or_default(requests(args.as_ref()))?,
            capability_ips: judge.or_default(requests(capabilities.as_ref()))?,
            dns: judge.or_default(read_capability_dns(with_dns))?,
            argument_ips: arguments.ips.clone(),
            argument_gateways: arguments.gateways.clone(),
            mac,
            capabilities,
            args,
        })
    }

    /// All requests together, each address once (the reference's host-local adds them up).
    pub(super) fn requested(&self) -> Vec<RequestedAddress> {
        let mut requested: Vec<RequestedAddress> = Vec::new();
        for request in self.argument_ips.iter().chain(&self.args_ips).chain(&self.capability_ips) {
            if !requested.iter().any(|known| known.address == request.address) {
                requested.push(*request);
            }
        }
        requested
    }
}

fn strongest_mac(
    fields: &Fields<'_>,
    arguments: &Arguments,
    args: Option<&Fields<'_>>,
    capabilities: Option<&Fields<'_>>,
    sources: &[MacSource],
) -> Result<Option<MacAddress>, Error> {
    let mut mac = None;
    for source in sources {
        let place = match source {
            MacSource::Arguments => {
                mac = arguments.mac.or(mac);
                continue;
            }
            MacSource::Key => Some(fields),
            MacSource::Args => args,
            MacSource::Capability => capabilities,
        };
        let Some(place) = place else { continue };
        mac = place.mac("mac")?.or(mac);
    }
    Ok(mac)
}

fn read_requests(source: Option<&Fields<'_>>) -> Result<Vec<RequestedAddress>, Error> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let request = |(path, text): (String, &str)| {
        parse_request(text).map_err(|reason| Error::invalid(path, &text.into(), reason))
    };
    source.texts("ips")?.into_iter().map(request).collect()
}

/// The capability names its lists `servers`, `searches` and `options` (CONVENTIONS.md); the words of results are
/// understood as well.
fn read_capability_dns(capabilities: Option<&Fields<'_>>) -> Result<Option<Dns>, Error> {
    let Some(capabilities) = capabilities else { return Ok(None) };
    let Some(fields) = capabilities.object("dns")? else { return Ok(None) };
    let mut dns = read_dns(capabilities, "dns")?;
    dns.nameservers.extend(fields.strings("servers")?);
    dns.search.extend(fields.strings("searches")?);
    Ok(Some(dns).filter(|dns| !dns.is_empty()))
}
