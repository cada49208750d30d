//! A network configuration of type `linkspan`, read and validated: every key of the reference `bridge`,
//! `host-local`/`static`, `portmap`, `firewall`, `tuning` and `bandwidth`, with capabilities and arguments folded in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Arguments, Defaults};
use crate::model::{
    AttachmentKey, IngressPolicy, InterfacePattern, Isolation, MacAddress, MacvlanMode, Mode, Naming,
    PortMapping, RangeSet, Route, Shaping,
};

/// Everything one call says about its network, with the precedence of the reference already applied.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `cniVersion`, `0.1.0` where it is absent; a version that linkspan speaks.
    pub cni_version: super::Version,
    /// `name`.
    pub name: String,
    /// `type` as written.
    pub kind: String,
    /// What the face that read it reads, and what absent keys mean to it.
    pub defaults: Defaults,
    /// What kind of interface is made.
    pub link: LinkKeys,
    /// Keys of the reference `bridge`, and what `ptp` and `macvlan` share with it.
    pub bridge: BridgeKeys,
    /// Keys under `ipam`.
    pub ipam: Ipam,
    /// Addresses asked for by `CNI_ARGS` `IP`, `args.cni.ips` and the capability `ips`, each once; empty for
    /// [`Ipam::Static`], which holds them already.
    pub requested: Vec<RequestedAddress>,
    /// The MAC asked for, the later the stronger: key `mac`, `CNI_ARGS` `MAC`, `args.cni.mac`, capability `mac`.
    pub mac: Option<MacAddress>,
    /// DNS of key `dns` or, where given, of the capability `dns`.
    pub dns: Dns,
    /// Whether that DNS takes the place of what IPAM says: a list is written, be it an empty one, or a domain.
    pub dns_is_given: bool,
    /// What the container is called, where the network has a name service (key `dns.enabled`). The name servers of
    /// [`Self::dns`] have become its upstreams.
    pub naming: Option<Naming>,
    /// Keys of the reference `portmap`.
    pub portmap: PortmapKeys,
    /// Keys of the reference `firewall`.
    pub firewall: FirewallKeys,
    /// Keys about who reaches whom that no reference plugin has.
    pub isolation: IsolationKeys,
    /// Keys of the reference `tuning`.
    pub tuning: Tuning,
    /// Keys of the reference `bandwidth` (static keys win over the capability).
    pub bandwidth: Bandwidth,
    /// Key `table` of the reference `sbr`.
    pub table: Option<u32>,
    /// `backend`.
    pub backend: Backend,
    /// `gcAfter`, in seconds (300): how long what a container left that died without DEL stays; `None` for 0, for ever.
    pub gc_after: Option<u64>,
    /// `logLevel`.
    pub log_level: LogLevel,
    /// `logFile`; standard error where it is absent.
    pub log_file: Option<String>,
    /// `prevResult`, untouched.
    pub prev_result: Option<Value>,
    /// `cni.dev/valid-attachments` (or the older `cni.dev/attachments`): `Some(empty)` for `[]` and `null`, `None`
    /// where the key is absent.
    pub valid_attachments: Option<Vec<AttachmentKey>>,
    /// The whole configuration as it came, for plugins that it is delegated to.
    pub raw: Value,
    /// `CNI_ARGS`.
    pub arguments: Arguments,
    /// What a lenient reading passed over, each an error's text.
    pub warnings: Vec<String>,
}

/// Keys of the reference `bridge`, with linkspan's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeKeys {
    /// `bridge`; `None` stands for a name that follows from the network's.
    pub bridge: Option<String>,
    /// `isGateway` (true).
    pub is_gateway: bool,
    /// `isDefaultGateway` (true; implies `isGateway`).
    pub is_default_gateway: bool,
    /// `forceAddress` (false).
    pub force_address: bool,
    /// `ipMasq` (true).
    pub ip_masq: bool,
    /// `mtu`; `None` for 0 or absent.
    pub mtu: Option<u32>,
    /// `hairpinMode` (true, unless `promiscMode`; both set is an error).
    pub hairpin: bool,
    /// `promiscMode` (false).
    pub promisc: bool,
    /// `vlan`, 1 to 4094; `None` for 0 or absent.
    pub vlan: Option<u16>,
    /// `vlanTrunk`, excludes `vlan`.
    pub vlan_trunk: Vec<VlanTrunk>,
    /// `preserveDefaultVlan` (false).
    pub preserve_default_vlan: bool,
    /// `macspoofchk` (false).
    pub mac_spoof_check: bool,
    /// `enabledad` (false).
    pub enable_dad: bool,
    /// `disableContainerInterface` (false; needs an `ipam` that gives no addresses).
    pub disable_container_interface: bool,
    /// `portIsolation` (false).
    pub port_isolation: bool,
}

/// The kind of interface that is made, with the keys that only it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKeys {
    /// A veth pair with its host end on a bridge: `linkspan`, `bridge`.
    Bridge,
    /// A veth pair with its host end routed to: `ptp`.
    Ptp,
    /// `macvlan`.
    Macvlan(MacvlanKeys),
}

/// Keys of the reference `macvlan`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MacvlanKeys {
    /// `master`; the interface of the default route where it is missing.
    pub master: Option<String>,
    /// `mode`.
    pub mode: MacvlanMode,
    /// `linkInContainer`: the master is in the container's namespace.
    pub link_in_container: bool,
    /// `bcqueuelen`.
    pub broadcast_queue: Option<u32>,
}

/// One entry of `vlanTrunk`: a single VLAN where both ends are equal. 1 to 4094, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanTrunk {
    /// First VLAN ID.
    pub first: u16,
    /// Last VLAN ID.
    pub last: u16,
}

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Ipam {
    /// Lease files: `ipam.type` is `host-local` or absent.
    HostLocal(HostLocal),
    /// `ipam.type` is `static`: the addresses are in the configuration, in `CNI_ARGS` or in `runtimeConfig`.
    Static {
        /// `ipam.addresses`, or what `args.cni.ips` or the capability `ips` put in their place.
        addresses: Vec<StaticAddress>,
        /// `ipam.routes`.
        routes: Vec<Route>,
        /// `ipam.dns`.
        dns: Dns,
    },
    /// Another `ipam.type`: a plugin on `CNI_PATH`.
    Delegated {
        /// The plugin's type.
        plugin: String,
    },
    /// `ipam` is `{}` or `null`: a layer-2 attachment. So is an absent one with `disableContainerInterface`.
    None,
}

/// Keys of the reference `host-local`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostLocal {
    /// Capability `ipRanges`, then the range of `subnet`…, then `ranges`; empty where the network is to choose a
    /// subnet of its own. No two ranges overlap.
    pub range_sets: Vec<RangeSet>,
    /// `routes`.
    pub routes: Vec<Route>,
    /// `dataDir`.
    pub data_dir: Option<String>,
    /// `resolvConf`: a file that the DNS part of the result is read from.
    pub resolv_conf: Option<String>,
}

/// One entry of `ipam.addresses` of the reference `static`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    /// Address with prefix length; host bits allowed.
    pub address: IpNetwork,
    /// Its gateway.
    pub gateway: Option<IpAddr>,
}

/// An address that a runtime asks for; the prefix length is there where the text had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedAddress {
    /// The address.
    pub address: IpAddr,
    /// Prefix length, where given.
    pub prefix: Option<u8>,
}

/// DNS as results carry it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// `nameservers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// `domain`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// `search`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// `options`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Keys of the reference `portmap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortmapKeys {
    /// Capability `portMappings`; duplicates folded.
    pub mappings: Vec<PortMapping>,
    /// Whether a `hostIP` of a family that the container lacks is an error; not a key, it follows from the face.
    pub require_family: bool,
    /// `holdPorts` (false): whether linkspan's agent is to bind the published ports, so that no process can.
    pub hold: bool,
    /// `countPorts` (false): whether the agent is to count bytes and packets of each published port.
    pub count: bool,
    /// `userlandProxy` (false): whether the agent is to serve published ports at `[::1]`, which the kernel does not
    /// translate, and at 127.0.0.1 where `snat` is off.
    pub proxy: bool,
    /// `snat` (true).
    pub snat: bool,
    /// `masqAll` (false).
    pub masq_all: bool,
    /// `externalSetMarkChain`, excludes `markMasqBit`, which is checked and not kept: no rule needs a mark.
    pub external_set_mark_chain: Option<String>,
    /// `conditionsV4`.
    pub conditions_v4: Vec<String>,
    /// `conditionsV6`.
    pub conditions_v6: Vec<String>,
}

/// Keys of the reference `firewall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallKeys {
    /// `ingressPolicy` (open).
    pub ingress: IngressPolicy,
    /// `iptablesAdminChainName` (CNI-ADMIN).
    pub admin_chain: String,
    /// `firewalldZone`: the zone of firewalld's that the container's addresses join. The face `firewall` joins
    /// `trusted` where none is written, unless its `backend` is another than firewalld.
    pub firewalld_zone: Option<String>,
}

/// Keys of linkspan's own: who reaches the network, and how it reaches the world. What they imply for keys of the
/// reference (`ipMasq`, `isDefaultGateway`, `portIsolation`) is in [`BridgeKeys`] already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationKeys {
    /// `isolation` (default; none where `ingressPolicy` is written).
    pub isolation: Isolation,
    /// `internal` (false).
    pub internal: bool,
    /// `icc` (true): whether containers of the network may talk with each other.
    pub icc: bool,
    /// `mode` (nat).
    pub mode: Mode,
    /// `trustedInterfaces`: what comes in by them may go to ports that are not published.
    pub trusted: Vec<InterfacePattern>,
    /// `outboundAddress4`: the source of what leaves, in place of the address of the interface that it leaves by.
    pub outbound4: Option<Ipv4Addr>,
    /// `outboundAddress6`.
    pub outbound6: Option<Ipv6Addr>,
    /// `ipspoofchk` (false).
    pub ip_spoof_check: bool,
}

/// Keys of the reference `tuning` (those under `args.cni` win). The MAC is [`NetworkConfig::mac`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// `sysctl`: paths below `/proc/sys`, all under `net/`, with `/` as separator (so that the dot in `eth0.100` is
    /// safe) and the token `IFNAME` replaced.
    pub sysctl: BTreeMap<String, String>,
    /// The keys of `sysctl` as they are written, which is what an allowlist is about.
    pub sysctl_keys: Vec<String>,
    /// `mtu`, of the container's end alone. For `linkspan` it is [`BridgeKeys::mtu`].
    pub mtu: Option<u32>,
    /// `dataDir` (/run/cni/tuning): where the face `tuning` saves what it changes.
    pub data_dir: Option<String>,
    /// `promisc`.
    pub promisc: bool,
    /// `allmulti`; `None` leaves the interface as it is.
    pub allmulti: Option<bool>,
    /// `txQLen`.
    pub tx_queue_len: Option<u32>,
}

/// Keys of the reference `bandwidth`: rates in bits a second, bursts in bits.
pub type Bandwidth = Shaping;

/// Which firewall carries the rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// nf_tables where the kernel has it, else iptables.
    #[default]
    Auto,
    /// nf_tables over netlink.
    Nftables,
    /// iptables by `iptables-restore`.
    Iptables,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what made a call fail.
    Error,
    /// And what was degraded or mended on the way.
    #[default]
    Warning,
    /// And one line for each call.
    Info,
    /// And each step.
    Debug,
}
