//! Which plugin the binary is: the name that it was called by decides, never the key `type`, since a plugin that is
//! delegated to gets its caller's configuration.

use std::ffi::OsStr;
use std::path::Path;

use crate::cni::{Defaults, LinkKind, MacSource, Reads, Version};
use crate::model::Part;

/// A name that the binary answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// linkspan's own, with the keys of all in one object.
    Linkspan,
    /// The reference `bridge`.
    Bridge,
    /// The reference `ptp`.
    Ptp,
    /// The reference `macvlan`.
    Macvlan,
    /// The reference `loopback`.
    Loopback,
    /// The reference `host-local`.
    HostLocal,
    /// The reference `static`.
    Static,
    /// The reference `portmap`.
    Portmap,
    /// The reference `firewall`.
    Firewall,
    /// The reference `tuning`.
    Tuning,
    /// The reference `bandwidth`.
    Bandwidth,
    /// The reference `sbr`.
    Sbr,
    /// `dnsname`, which is none of the reference plugins: podman's name service of before version 4.
    Dnsname,
}

impl Face {
    /// The faces with a name of another's plugins: all but `dnsname` of the reference plugins.
    pub const REFERENCE: [Self; 12] = [
        Self::Bridge,
        Self::HostLocal,
        Self::Static,
        Self::Portmap,
        Self::Firewall,
        Self::Tuning,
        Self::Bandwidth,
        Self::Loopback,
        Self::Ptp,
        Self::Macvlan,
        Self::Sbr,
        Self::Dnsname,
    ];

    /// The file name that stands for it in a plugin directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linkspan => "linkspan",
            Self::Bridge => "bridge",
            Self::Ptp => "ptp",
            Self::Macvlan => "macvlan",
            Self::Loopback => "loopback",
            Self::HostLocal => "host-local",
            Self::Static => "static",
            Self::Portmap => "portmap",
            Self::Firewall => "firewall",
            Self::Tuning => "tuning",
            Self::Bandwidth => "bandwidth",
            Self::Sbr => "sbr",
            Self::Dnsname => "dnsname",
        }
    }

    /// The face of a program's path (`argv[0]`): that of its file name, and linkspan's own for any other.
    pub fn of_program(program: &OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default();
        Self::REFERENCE.into_iter().find(|face| name == face.name()).unwrap_or(Self::Linkspan)
    }

    /// The face of a plugin's `type` in a configuration; `None` for another's.
    pub fn of_kind(kind: &str) -> Option<Self> {
        [Self::Linkspan].into_iter().chain(Self::REFERENCE).find(|face| kind == face.name())
    }

    /// The part of an attachment that it makes, where it works on an interface that another plugin made.
    pub const fn part(self) -> Option<Part> {
        match self {
            Self::Portmap => Some(Part::Portmap),
            Self::Firewall => Some(Part::Firewall),
            Self::Tuning => Some(Part::Tuning),
            Self::Bandwidth => Some(Part::Bandwidth),
            Self::Sbr => Some(Part::Sbr),
            Self::Dnsname => Some(Part::Dnsname),
            _ => None,
        }
    }

    /// Whether it stands for one of the reference plugins, and is to answer as that does.
    pub const fn is_reference(self) -> bool {
        !matches!(self, Self::Linkspan | Self::Dnsname)
    }

    /// What it reads, and what absent keys mean to it.
    pub const fn defaults(self) -> Defaults {
        let none = Reads::NONE;
        let (reads, since) = match self {
            Self::Linkspan => return Defaults::LINKSPAN,
            Self::Bridge => return Defaults::REFERENCE,
            Self::Ptp => {
                let routed =
                    Defaults { link: LinkKind::Ptp, bridge: None, is_gateway: true, ..Defaults::REFERENCE };
                return Defaults { mac: &[], ..routed };
            }
            Self::Macvlan => {
                let mac = &[MacSource::Key, MacSource::Arguments, MacSource::Capability];
                return Defaults { link: LinkKind::Macvlan, bridge: None, mac, ..Defaults::REFERENCE };
            }
            Self::HostLocal | Self::Static => {
                let reads = Reads { ipam: true, arguments: true, ..none };
                return Defaults { reads, ipam: Some(self.name()), is_ipam: true, ..Defaults::REFERENCE };
            }
            Self::Portmap => (Reads { portmap: true, ..none }, Version::V0_1_0),
            Self::Firewall => (Reads { firewall: true, ..none }, Version::V0_4_0),
            Self::Tuning => {
                let mac = &[MacSource::Key, MacSource::Arguments, MacSource::Capability, MacSource::Args];
                let reads = Reads { tuning: true, arguments: true, ..none };
                return Defaults { reads, mac, ..Defaults::REFERENCE };
            }
            Self::Bandwidth => (Reads { bandwidth: true, ..none }, Version::V0_3_0),
            Self::Sbr => (Reads { sbr: true, ..none }, Version::V0_1_0),
            Self::Dnsname => (Reads { names: true, arguments: true, ..none }, Version::V0_1_0),
            Self::Loopback => (none, Version::V0_1_0),
        };
        Defaults { reads, since, mac: &[], ..Defaults::REFERENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_decides() {
        for (program, face) in [
            ("/opt/cni/bin/bridge", Face::Bridge),
            ("host-local", Face::HostLocal),
            ("./linkspan", Face::Linkspan),
            ("/opt/cni/bin/dhcp", Face::Linkspan),
            ("", Face::Linkspan),
        ] {
            assert_eq!(Face::of_program(OsStr::new(program)), face, "{program}");
        }
    }

    #[test]
    fn all_but_those_that_give_addresses_are_refused_as_ipam_plugins() {
        for face in Face::REFERENCE.into_iter().chain([Face::Linkspan]) {
            assert_eq!(crate::cni::is_no_ipam(face.name()), !face.defaults().is_ipam, "{}", face.name());
        }
    }
}
