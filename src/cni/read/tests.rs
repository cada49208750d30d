use super::*;
use serde_json::json;

pub(in crate::cni) fn environment(command: Command, args: &str) -> Environment {
    Environment {
        command,
        container_id: "c1".into(),
        netns: Some("/run/netns/a".into()),
        interface: "eth0".into(),
        path: "/opt/cni/bin".into(),
        args: args.into(),
        netns_override: false,
    }
}

/// `extra` over the least that a configuration holds.
pub(in crate::cni) fn document(extra: &Value) -> Vec<u8> {
    let mut whole = json!({"cniVersion": "1.1.0", "name": "web", "type": "linkspan"});
    for (key, value) in extra.as_object().unwrap() {
        whole[key] = value.clone();
    }
    whole.to_string().into_bytes()
}

pub(in crate::cni) fn parse(extra: &Value, command: Command, args: &str) -> Result<NetworkConfig, Error> {
    let strictness = Strictness::of(command);
    NetworkConfig::parse(&document(extra), &environment(command, args), &Defaults::LINKSPAN, strictness)
}

pub(in crate::cni) fn strict(extra: &Value) -> Result<NetworkConfig, Error> {
    parse(extra, Command::Add, "")
}
