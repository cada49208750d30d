//! What a face answers to documents, environments and namespaces that will not do, side by side with Debian's plugin of
//! the same name: exit status, code and words.

mod lab;

use lab::Snapshot;
use lab::beside::{Beside, Is, all, document};
use lab::faces::Whose;
use serde_json::json;

fn is_version(input: &str) -> bool {
    input.contains("\"9.9.9\"") || input.contains("\"cniVersion\":\"x\"")
}

#[test]
fn documents_that_are_no_configuration() {
    let Some(stage) = Beside::new() else { return };
    let before = Snapshot::take(&stage.lab);
    let named = |rest: &str| format!("{{\"cniVersion\":\"1.0.0\"{rest}}}");
    let rows = [
        (String::new(), Is::Same),
        ("{".to_owned(), Is::Same),
        ("{,}".to_owned(), Is::Refused(6, "error unmarshall network config: ")),
        ("[]".to_owned(), Is::Same),
        ("null".to_owned(), Is::Same),
        ("\"x\"".to_owned(), Is::Same),
        ("7".to_owned(), Is::Same),
        ("true".to_owned(), Is::Same),
        (named(""), Is::Same),
        (named(",\"name\":\"\""), Is::Same),
        (named(",\"name\":\"-x\""), Is::Same),
        (named(",\"name\":7"), Is::Same),
        ("{\"cniVersion\":1,\"name\":\"x\"}".to_owned(), Is::Same),
        ("{\"cniVersion\":\"9.9.9\",\"name\":\"x\"}".to_owned(), Is::Same),
        ("{\"cniVersion\":\"x\",\"name\":\"x\"}".to_owned(), Is::Same),
        ("{\"cniVersion\":\"9.9.9\"}".to_owned(), Is::Same),
    ];
    for face in all() {
        for (input, is) in &rows {
            for command in ["ADD", "DEL", "CHECK"] {
                // They look at the version twice for CHECK, with other words.
                let odd = command == "CHECK" && input.contains(",\"name\":\"x\"") && is_version(input);
                let is = if odd { Is::Refused(1, "incompatible CNI versions") } else { *is };
                let run = |whose| stage.good(whose, face).stdin(input.as_str()).run(command);
                stage.compare(&format!("{face} {command} {input}"), is, run);
            }
        }
    }
    Snapshot::take(&stage.lab).assert_same(&before, "after refusals");
}

#[test]
fn environments_that_are_not_whole() {
    let Some(stage) = Beside::new() else { return };
    let before = Snapshot::take(&stage.lab);
    let rows = [
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "sixteencharacters"),
        ("CNI_IFNAME", ".."),
        ("CNI_PATH", ""),
        ("CNI_NETNS", ""),
    ];
    for face in all() {
        for (name, value) in rows {
            for command in ["ADD", "CHECK", "DEL"] {
                // DEL does without a namespace.
                if (command, name) == ("DEL", "CNI_NETNS") {
                    continue;
                }
                let run = |whose| stage.good(whose, face).env(name, value).run(command);
                stage.compare(&format!("{face} {command} {name}={value}"), Is::Same, run);
            }
        }
        let bare = |whose| stage.good(whose, face).without("CNI_IFNAME").without("CNI_PATH").add();
        stage.compare(&format!("{face} without two"), Is::Same, bare);
        stage.compare(&format!("{face} NOPE"), Is::Same, |whose| stage.good(whose, face).run("NOPE"));
        let early = |whose| stage.good(whose, face).with(json!({"cniVersion": "0.3.1"})).run("CHECK");
        stage.compare(
            &format!("{face} CHECK 0.3.1"),
            if face == "firewall" { Is::Refused(1, "") } else { Is::Same },
            early,
        );
    }
    // Who reads CNI_ARGS, and what it knows.
    for (face, args, is) in [
        ("bridge", "none", Is::Same),
        ("bridge", "A=b", Is::Same),
        ("bridge", "A=b;C=d", Is::Same),
        ("bridge", "A=b=c", Is::Same),
        ("macvlan", "none", Is::Same),
        ("macvlan", "MAC=x", Is::Same),
        ("tuning", "none", Is::Same),
        ("tuning", "A=b", Is::Same),
        ("tuning", "MAC=x", Is::Same),
        ("host-local", "none", Is::Same),
        ("host-local", "A=b", Is::Same),
        ("host-local", "IP=x", Is::Same),
        ("static", "none", Is::Same),
        ("static", "A=b", Is::Same),
        ("static", "GATEWAY=x", Is::Same),
        ("static", "GATEWAY=10.9.0.1/24", Is::Same),
    ] {
        let run = |whose| stage.good(whose, face).args(args).add();
        stage.compare(&format!("{face} CNI_ARGS={args}"), is, run);
    }
    Snapshot::take(&stage.lab).assert_same(&before, "after refusals");
}

#[test]
fn namespaces_that_are_none() {
    let Some(stage) = Beside::new() else { return };
    let missing = "failed to Statfs \"/run/nowhere\": no such file or directory";
    let magic = "unknown FS magic on \"/etc/passwd\"";
    for face in ["bridge", "ptp", "loopback", "tuning", "macvlan", "bandwidth", "portmap", "firewall", "sbr"]
    {
        // What theirs says of two has a nil in it; portmap and firewall do not look; sbr makes a file there.
        let is = |words| match face {
            "macvlan" | "bandwidth" | "portmap" | "firewall" | "sbr" => Is::Refused(999, words),
            _ => Is::Alike,
        };
        let run = |path: &'static str| {
            let stage = &stage;
            move |whose| stage.good(whose, face).env("CNI_NETNS", path).add()
        };
        if face != "sbr" {
            stage.compare(face, is(missing), run("/run/nowhere"));
        }
        stage.compare(face, is(magic), run("/etc/passwd"));
    }
    // Ours looks before it does anything; theirs has done it by then.
    let before = Snapshot::take(&stage.lab);
    for face in ["bridge", "ptp", "macvlan", "portmap", "firewall", "tuning", "bandwidth", "sbr", "loopback"]
    {
        let words = "plugin's netns and netns from CNI_NETNS should not be the same";
        let call = stage.good(Whose::Ours, face).env("CNI_NETNS", "/proc/self/ns/net");
        assert_eq!(
            (document(&call.add())["code"].as_u64(), document(&call.add())["msg"].as_str()),
            (Some(8), Some(words)),
            "{face}"
        );
    }
    Snapshot::take(&stage.lab).assert_same(&before, "after refusals");
}

#[test]
fn what_check_finds_missing() {
    let Some(stage) = Beside::new() else { return };
    stage.bare.ip("link set lo down");
    for (face, is) in [
        ("host-local", Is::Same),
        ("loopback", Is::Same),
        ("bridge", Is::Refused(999, "is not attached")),
        ("portmap", Is::Refused(999, "is not attached")),
        ("firewall", Is::Refused(999, "is not attached")),
        ("bandwidth", Is::Refused(999, "rate limit")),
    ] {
        stage.compare(face, is, |whose| stage.good(whose, face).check());
    }
}
