//! Reading results of any version: `prevResult`, and what an IPAM plugin prints.

use serde_json::Value;

use super::config::NetworkConfig;
use super::error::Error;
use super::fields::Fields;
use super::read::{Destination, parse_object, read_dns, read_routes};
use super::result::{CniResult, Interface, Ip};
use super::version::Version;
use crate::model::Route;

const RESULT_KEYS: [&str; 7] = ["cniVersion", "interfaces", "ips", "routes", "dns", "ip4", "ip6"];
const INTERFACE_KEYS: [&str; 6] = ["name", "mac", "mtu", "sandbox", "socketPath", "pciID"];
const IP_KEYS: [&str; 4] = ["version", INDEX, "address", "gateway"];

/// The key of an address that says whose it is.
const INDEX: &str = "interface";

impl CniResult {
    /// Reads a result. `path` says in errors where it stands (`prevResult`); `assumed` is its version where it names
    /// none. Keys that the specification does not know are kept in `extra`.
    ///
    /// # Errors
    /// [`Error::Version`] and [`Error::Invalid`] or [`Error::Missing`] with the key.
    pub fn parse(value: &Value, path: &str, assumed: Version) -> Result<Self, Error> {
        let fields = Fields::of(value, path.to_owned())?;
        let version = match fields.text("cniVersion")? {
            Some(text) => text.parse()?,
            None => assumed,
        };
        let mut result =
            Self { dns: read_dns(&fields, "dns")?, extra: fields.others(&RESULT_KEYS), ..Self::default() };
        if version <= Version::V0_2_0 && fields.get("ips").is_none() {
            result.read_families(&fields)?;
        } else {
            result.read_lists(&fields)?;
        }
        Ok(result)
    }

    /// Reads what a delegated plugin printed, which is for us to make: no index of an interface that is not there, no next
    /// hop of another family.
    ///
    /// # Errors
    /// [`Error::Delegate`] with what is wrong as its source.
    pub fn from_plugin(bytes: &[u8], plugin: &str, assumed: Version) -> Result<Self, Error> {
        parse_object(bytes, "plugin's output")
            .and_then(|object| Self::parse(&Value::Object(object), "result", assumed))
            .and_then(Self::fit_to_be_made)
            .map_err(|source| Error::Delegate { plugin: plugin.to_owned(), source: Box::new(source) })
    }

    fn fit_to_be_made(self) -> Result<Self, Error> {
        if let Some((at, index)) =
            (0..).zip(&self.ips).find_map(|(at, ip): (usize, _)| Some((at, ip.extra.get(INDEX)?)))
        {
            let reason = format!("points past the {} interfaces", self.interfaces.len());
            return Err(Error::invalid(format!("result.ips[{at}].{INDEX}"), index, reason));
        }
        if let Some(at) = self.routes.iter().position(|route| !route.is_of_one_family()) {
            let Route { dst, gw, .. } = &self.routes[at];
            let gw = gw.map(|gw| gw.to_string()).unwrap_or_default();
            let reason = format!("must be of the family of dst, {dst}");
            return Err(Error::invalid(format!("result.routes[{at}].gw"), &gw.into(), reason));
        }
        Ok(self)
    }

    fn read_lists(&mut self, fields: &Fields<'_>) -> Result<(), Error> {
        for entry in fields.objects("interfaces")? {
            self.interfaces.push(read_interface(&entry)?);
        }
        let interfaces = i64::try_from(self.interfaces.len()).unwrap_or(i64::MAX);
        for entry in fields.objects("ips")? {
            self.ips.push(read_ip(&entry, interfaces)?);
        }
        self.routes = read_routes(fields, "routes", Destination::Masked)?;
        Ok(())
    }

    fn read_families(&mut self, fields: &Fields<'_>) -> Result<(), Error> {
        for key in ["ip4", "ip6"] {
            let Some(entry) = fields.object(key)? else { continue };
            let address = entry.cidr("ip")?.ok_or_else(|| entry.missing("ip", "an address is needed"))?;
            if address.is_ipv4() != (key == "ip4") {
                return Err(entry.invalid("ip", format!("is not of the family of {key}")));
            }
            self.ips.push(Ip::new(address, entry.address("gateway")?, None));
            self.routes.extend(read_routes(&entry, "routes", Destination::Masked)?);
        }
        Ok(())
    }
}

fn read_interface(entry: &Fields<'_>) -> Result<Interface, Error> {
    let text = |key: &str| entry.text(key).map(|text| text.unwrap_or_default().to_owned());
    Ok(Interface {
        name: text("name")?,
        mac: text("mac")?,
        mtu: entry.number("mtu", 0..=u32::MAX.into())?.filter(|mtu| *mtu != 0),
        sandbox: text("sandbox")?,
        socket_path: text("socketPath")?,
        pci_id: text("pciID")?,
        extra: entry.others(&INTERFACE_KEYS),
    })
}

fn read_ip(entry: &Fields<'_>, interfaces: i64) -> Result<Ip, Error> {
    let address =
        entry.cidr("address")?.ok_or_else(|| entry.missing("address", "an entry of ips needs it"))?;
    let mut extra = entry.others(&IP_KEYS);
    // An index that leads nowhere says no more than none, to the reference too, and is passed on.
    let nowhere = entry
        .get(INDEX)
        .filter(|index| index.as_i64().is_some_and(|index| !(0..interfaces).contains(&index)));
    let interface = match nowhere {
        Some(index) => {
            extra.insert(INDEX.to_owned(), index.clone());
            None
        }
        None => entry.number(INDEX, 0..=u32::MAX.into())?,
    };
    Ok(Ip { address, gateway: entry.address("gateway")?, interface, extra })
}

impl NetworkConfig {
    /// `prevResult`, read; of the configuration's version where it names none of its own.
    ///
    /// # Errors
    /// As [`CniResult::parse`].
    pub fn previous(&self) -> Result<Option<CniResult>, Error> {
        let parse = |value| CniResult::parse(value, "prevResult", self.cni_version);
        self.prev_result.as_ref().map(parse).transpose()
    }
}
