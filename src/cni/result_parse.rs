//! Reading results of any version: `prevResult`, and what an IPAM plugin prints.

use serde_json::Value;

use super::config::NetworkConfig;
use super::error::Error;
use super::fields::Fields;
use super::read::{Destination, parse_object, read_dns, read_routes};
use super::result::{CniResult, Interface, Ip};
use super::version::Version;

const RESULT_KEYS: [&str; 7] = ["cniVersion", "interfaces", "ips", "routes", "dns", "ip4", "ip6"];
const INTERFACE_KEYS: [&str; 6] = ["name", "mac", "mtu", "sandbox", "socketPath", "pciID"];
const IP_KEYS: [&str; 4] = ["version", "interface", "address", "gateway"];

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

    /// Reads what a delegated plugin printed.
    ///
    /// # Errors
    /// [`Error::Delegate`] with what is wrong as its source.
    pub fn from_plugin(bytes: &[u8], plugin: &str, assumed: Version) -> Result<Self, Error> {
        parse_object(bytes, "plugin's output")
            .and_then(|object| Self::parse(&Value::Object(object), "result", assumed))
            .map_err(|source| Error::Delegate { plugin: plugin.to_owned(), source: Box::new(source) })
    }

    fn read_lists(&mut self, fields: &Fields<'_>) -> Result<(), Error> {
        for entry in fields.objects("interfaces")? {
            self.interfaces.push(read_interface(&entry)?);
        }
        for entry in fields.objects("ips")? {
            self.ips.push(read_ip(&entry, self.interfaces.len())?);
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

fn read_ip(entry: &Fields<'_>, interfaces: usize) -> Result<Ip, Error> {
    let address =
        entry.cidr("address")?.ok_or_else(|| entry.missing("address", "an entry of ips needs it"))?;
    let interface = entry.number::<usize>("interface", 0..=u32::MAX.into())?;
    if interface.is_some_and(|index| index >= interfaces) {
        return Err(entry.invalid("interface", format!("points past the {interfaces} interfaces")));
    }
    Ok(Ip { address, gateway: entry.address("gateway")?, interface, extra: entry.others(&IP_KEYS) })
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
