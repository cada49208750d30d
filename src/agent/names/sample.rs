//! Attachments for the tests of this module.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

use super::table::Table;
use crate::model::{AttachmentKey, MacAddress, Naming};
use crate::plan::{Bridge, Interface, Plan, Sandbox, Step};
use crate::store::{RECORD_VERSION, Record};

/// An attachment of container `id` to `network`, with these names and an address in each subnet `10.N.0.0/24` and
/// `fd00:N::/64`, whose gateways end in 1.
pub(super) fn attachment(network: &str, id: &str, subnet: u8, last: u8, names: &[&str]) -> Record<Plan> {
    let v4 = |last: u8| format!("10.{subnet}.0.{last}/24").parse().unwrap();
    let v6 = |last: u8| format!("fd00:{subnet}::{last}/64").parse().unwrap();
    let bridge = Bridge {
        mac: None,
        name: format!("lks-{network}"),
        mtu: None,
        gateways: vec![v4(1), v6(1)],
        siblings: Vec::new(),
        force_address: false,
        promisc: false,
        vlan_filtering: false,
        gateway_vlan: None,
        route_localnet: false,
    };
    let interface = Interface {
        sandbox: Sandbox { path: format!("/run/netns/{id}"), device: 4, inode: 5, cookie: None },
        name: "eth0".to_owned(),
        mac: MacAddress([2, 0, 0, 0, 0, last]),
        mtu: None,
        addresses: vec![v4(last), v6(last)],
        by_gateway: Vec::new(),
        routes: Vec::new(),
        dad: false,
        advertisements: false,
        link_local: false,
        up: true,
        promisc: false,
        allmulti: None,
        sysctl: std::collections::BTreeMap::new(),
        readings: std::collections::BTreeMap::new(),
        spare_mac: None,
    };
    Record {
        version: RECORD_VERSION,
        key: AttachmentKey::new(id, format!("eth-{network}")),
        network: network.to_owned(),
        created: 1,
        begun: 1,
        labels: std::collections::BTreeMap::new(),
        naming: Some(Naming {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..Naming::default()
        }),
        plan: Plan { steps: vec![Step::Bridge(bridge), Step::Interface(interface)] },
    }
}

/// The same on a network that asks nothing outside.
pub(super) fn internal(mut record: Record<Plan>) -> Record<Plan> {
    record.naming.as_mut().unwrap().internal = true;
    record
}

/// A table of these attachments.
pub(super) fn table(records: &[Record<Plan>]) -> Table {
    let mut table = Table::default();
    records.iter().for_each(|record| table.insert(record));
    table
}

/// A question as a resolver sends it.
pub(super) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}
