use super::*;

fn environment(pairs: &[(&str, &str)]) -> Result<Environment, Error> {
    Environment::from_lookup(|name| {
        pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn full(command: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
}

fn names(error: &Error) -> Vec<&'static str> {
    match error {
        Error::Environment { problems } => problems.iter().map(|problem| problem.name).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn each_command_requires_its_own_variables() {
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    let table: [(&str, &[&str]); 6] = [
        ("ADD", &all),
        ("CHECK", &all),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
        ("VERSION", &[]),
    ];
    for (command, required) in table {
        match environment(&[("CNI_COMMAND", command)]) {
            Ok(_) => assert!(required.is_empty(), "{command}"),
            Err(error) => assert_eq!(names(&error), required, "{command}"),
        }
        environment(&full(command)).unwrap();
    }
}

#[test]
fn a_wrong_command_is_the_only_complaint() {
    for pairs in [&[][..], &[("CNI_COMMAND", "add")], &[("CNI_COMMAND", "UPDATE")]] {
        assert_eq!(names(&environment(pairs).unwrap_err()), ["CNI_COMMAND"]);
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let error = environment(&[
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_IFNAME", "eth/0"),
        ("CNI_PATH", "/x"),
        ("CNI_ARGS", "MAC"),
    ])
    .unwrap_err();
    assert_eq!(names(&error), ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"]);
    assert_eq!(error.code().number(), 4);
    let shown = error.to_string();
    assert!(shown.contains("CNI_NETNS is missing: ADD needs it"), "{shown}");
    assert!(shown.contains("CNI_IFNAME is \"eth/0\": must not hold '/'"), "{shown}");
}

#[test]
fn identifiers_and_interface_names_follow_the_specification() {
    let long = "a".repeat(CONTAINER_ID_MAX);
    for good in ["a", "0", "A_b.c-d", long.as_str()] {
        assert_eq!(container_id_fault(good), None, "{good}");
    }
    let longer = "a".repeat(CONTAINER_ID_MAX + 1);
    for bad in ["", ".a", "-a", "_a", "a/b", "a b", "é", "a:b", longer.as_str()] {
        assert!(container_id_fault(bad).is_some(), "{bad}");
    }
    for good in ["eth0", "a", "123456789012345", "eth0.100", "-", "..."] {
        assert_eq!(interface_name_fault(good), None, "{good}");
    }
    for bad in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b", "eth%d", "%"] {
        assert!(interface_name_fault(bad).is_some(), "{bad}");
    }
}

#[test]
fn a_template_is_no_name_for_a_new_interface_but_may_be_detached() {
    for (command, fits) in [("ADD", false), ("CHECK", true), ("DEL", true)] {
        let mut pairs = full(command);
        pairs.retain(|(name, _)| *name != "CNI_IFNAME");
        pairs.push(("CNI_IFNAME", "eth%d"));
        assert_eq!(environment(&pairs).is_ok(), fits, "{command}");
    }
}

#[test]
fn del_may_come_without_a_namespace() {
    let mut pairs = full("DEL");
    pairs.retain(|(name, _)| *name != "CNI_NETNS");
    assert_eq!(environment(&pairs).unwrap().netns, None);
    pairs.push(("CNI_NETNS", ""));
    assert_eq!(environment(&pairs).unwrap().netns, None);
}

#[test]
fn override_is_one_or_true_in_any_case() {
    for (text, expected) in [("1", true), ("TRUE", true), ("true", true), ("0", false), ("yes", false)] {
        let mut pairs = full("ADD");
        pairs.push(("CNI_NETNS_OVERRIDE", text));
        assert_eq!(environment(&pairs).unwrap().netns_override, expected, "{text}");
    }
}

#[test]
fn arguments_alone_are_left_to_the_configuration() {
    let mut pairs = full("ADD");
    pairs.push(("CNI_ARGS", "none"));
    assert_eq!(environment(&pairs).unwrap().args, "none");
}

#[test]
fn a_variable_that_is_not_utf8_is_named_once() {
    use std::os::unix::ffi::OsStringExt;
    let pairs = full("ADD");
    let error = Environment::from_lookup(|name| {
        if name == "CNI_IFNAME" {
            return Some(OsString::from_vec(vec![0xff, 0xfe]));
        }
        pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(*value))
    })
    .unwrap_err();
    assert_eq!(names(&error), ["CNI_IFNAME"]);
}
