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

mod addresses;
mod fuzz;
mod isolation;
mod keys;
mod lenient;
mod naming;
mod ports;

/// Each wrong configuration, with its code and what the error must say.
#[track_caller]
fn refuse(table: &[(Value, u32, &str)]) {
    for (extra, code, expected) in table {
        match strict(extra) {
            Ok(_) => panic!("{extra} was taken"),
            Err(error) => {
                assert_eq!(error.code().number(), *code, "{extra}: {error}");
                assert!(error.to_string().contains(expected), "{extra}: {error}");
            }
        }
    }
}

fn raw(bytes: &[u8]) -> Result<NetworkConfig, Error> {
    NetworkConfig::parse(bytes, &environment(Command::Add, ""), &Defaults::LINKSPAN, Strictness::Strict)
}

#[test]
fn what_is_no_configuration_says_where_and_why() {
    let table: [(&[u8], &str); 8] = [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{\"name\":\n \"we", "is cut off at line 2, column 4"),
        (b"{\"name\": web}", "is not JSON at line 1, column 10"),
        (b"{} {}", "is not JSON at line 1, column 4"),
        (b"[]", "is a list, not a JSON object"),
        (b"null", "is null, not"),
        (b"{\"name\": \"\xff\"}", "is not JSON at line 1"),
    ];
    for (bytes, expected) in table {
        let error = raw(bytes).unwrap_err();
        assert_eq!(error.code(), crate::cni::Code::Decoding);
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = raw(&vec![b' '; MAX_INPUT + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: MAX_INPUT, .. }), "{error}");
    assert!(raw("[".repeat(10_000).as_bytes()).is_err());
}

#[test]
fn versions_and_commands_must_fit() {
    refuse(&[
        (json!({"cniVersion": "2.0.0"}), 1, "linkspan speaks 0.1.0, 0.2.0"),
        (json!({"cniVersion": 1}), 7, "cniVersion = 1: must be a string"),
    ]);
    for (command, oldest) in [
        (Command::Check, Version::V0_4_0),
        (Command::Gc, Version::V1_1_0),
        (Command::Status, Version::V1_1_0),
    ] {
        for version in Version::SUPPORTED {
            let read = parse(&json!({"cniVersion": version.as_str()}), command, "");
            assert_eq!(read.is_ok(), version >= oldest, "{command} {version}");
            assert!(read.is_ok() || read.is_err_and(|error| error.code().number() == 1));
        }
    }
    let config = raw(br#"{"name": "web"}"#).unwrap();
    assert_eq!((config.cni_version, config.kind.as_str()), (Version::V0_1_0, ""));
}

#[test]
fn a_network_has_a_name_that_is_one() {
    for name in [json!(null), json!(""), json!(1), json!("-a"), json!("a/b"), json!("a b"), json!("é")] {
        refuse(&[(json!({"name": name}), 7, "name")]);
    }
    refuse(&[(json!({"name": "a".repeat(201)}), 7, "200 bytes")]);
    assert_eq!(strict(&json!({"name": "A_b.c-d0"})).unwrap().name, "A_b.c-d0");
}
