use crate::cni::{Code, Environment, Error, NetworkConfig, Strictness};
use crate::verbs::VerbError;

use super::super::Face;
use super::{PLAIN, of};

fn refusal(face: Face, variables: &[(&str, &str)], config: &str) -> (u32, String, String) {
    let fixed = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", "/run/netns/c"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let lookup = |name: &str| {
        let all = variables.iter().chain(&fixed);
        let found = all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        found.filter(|value| !value.is_empty())
    };
    let error: Error = match Environment::from_lookup(lookup) {
        Err(error) => error,
        Ok(environment) => {
            let strictness = Strictness::of(environment.command);
            NetworkConfig::parse(config.as_bytes(), &environment, &face.defaults(), strictness).unwrap_err()
        }
    };
    let error = of(face, None, error.into());
    (error.code, error.msg, error.details)
}

#[test]
fn the_first_malformed_variable_or_all_that_are_missing() {
    let say = |variables: &[(&str, &str)]| refusal(Face::Bridge, variables, "{}");
    let (code, msg, details) = say(&[("CNI_CONTAINERID", ""), ("CNI_PATH", "")]);
    assert_eq!((code, msg.as_str()), (4, "required env variables [CNI_CONTAINERID,CNI_PATH] missing"));
    assert!(details.contains("the container runtime sets these variables"), "{details}");
    let (code, msg, details) = say(&[("CNI_CONTAINERID", "-x"), ("CNI_PATH", "")]);
    assert_eq!((code, msg.as_str(), details.as_str()), (4, "invalid characters in containerID", "-x"));
}

#[test]
fn versions_are_those_that_the_face_speaks() {
    let config = r#"{"cniVersion": "7.0", "name": "n"}"#;
    let (code, msg, details) = refusal(Face::Firewall, &[], config);
    assert_eq!((code, msg.as_str()), (1, "incompatible CNI versions"));
    assert_eq!(details, "config is \"7.0\", plugin supports [\"0.4.0\" \"1.0.0\" \"1.1.0\"]");
}

#[test]
fn what_theirs_has_no_words_for_is_said_in_ours() {
    let config = r#"{"cniVersion": "1.0.0", "name": "n", "vlanTrunk": [{"minID": 7}]}"#;
    let (code, msg, _) = refusal(Face::Bridge, &[], config);
    assert_eq!((code, msg.as_str()), (PLAIN, "invalid configuration: vlanTrunk[0].maxID is missing"));
    let one_port_twice = r#"{"cniVersion": "1.0.0", "name": "n", "prevResult": {"cniVersion": "1.0.0"},
        "capabilities": {"portMappings": true}, "runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8080, "containerPort": 81, "protocol": "tcp"}]}}"#;
    let (code, msg, _) = refusal(Face::Portmap, &[], one_port_twice);
    assert_eq!(code, PLAIN);
    assert!(msg.contains("port 8080 to 80) and runtimeConfig.portMappings[1]"), "{msg}");
}

#[test]
fn linkspans_own_name_keeps_its_codes() {
    let config = r#"{"cniVersion": "1.0.0", "name": "n", "vlan": 4095}"#;
    assert_eq!(refusal(Face::Linkspan, &[], config).0, Code::InvalidConfig.number());
    assert_eq!(refusal(Face::Bridge, &[], config).0, PLAIN);
    let error = || VerbError::InterfaceExists("eth0".to_owned());
    assert_eq!(of(Face::Dnsname, None, error()).code, Code::InterfaceExists.number());
    assert_eq!(of(Face::Macvlan, None, error()).msg, "failed to rename macvlan to \"eth0\": file exists");
}
