//! One bad input after the other, to a face and to Debian's plugin of the same name.

use serde_json::{Value, json};

use super::faces::{Whose, bridged, plugin};
use super::plugin::merge;
use super::{Container, Lab, Outcome, Plugin, Snapshot};

/// The faces that make an interface.
pub const MAKERS: [&str; 4] = ["bridge", "ptp", "macvlan", "loopback"];
/// Those that give addresses.
pub const GIVERS: [&str; 2] = ["host-local", "static"];
/// Those that add a part to another's interface.
pub const PARTS: [&str; 5] = ["portmap", "firewall", "tuning", "bandwidth", "sbr"];

/// How the two answers compare.
#[derive(Clone, Copy)]
pub enum Is {
    /// Exit status, code and message are equal, and their details, where there are some.
    Same,
    /// Exit status and code are equal; what theirs says goes on with what its decoder has to add, or ours does.
    Alike,
    /// Theirs takes it, or says something else; ours refuses with this code and these words.
    Refused(u64, &'static str),
}

/// A container that Debian's `bridge` attached, and a bare one.
pub struct Beside {
    /// The host.
    pub lab: Lab,
    /// What parts are added to.
    pub attached: Container,
    /// What interfaces are made in.
    pub bare: Container,
    /// The result of the attached one.
    pub result: Value,
}

impl Beside {
    /// Makes the host.
    pub fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let (attached, bare) = (lab.container("a"), lab.container("b"));
        let (_bridge, result) = bridged(&lab, &attached, "1.0.0", 1);
        Some(Self { lab, attached, bare, result })
    }

    /// A call that would do.
    pub fn good(&self, whose: Whose, face: &str) -> Plugin {
        let pool = json!({"type": "host-local", "subnet": "10.9.0.0/24"});
        let conf = match face {
            "bridge" => json!({"bridge": "br9", "isGateway": true, "ipam": pool}),
            "macvlan" => json!({"master": "cni0", "ipam": pool}),
            "ptp" | "host-local" => json!({"ipam": pool}),
            "static" => json!({"ipam": {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}}),
            "portmap" => json!({"runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
            "bandwidth" => json!({"ingressRate": 1_000_000, "ingressBurst": 1_000_000}),
            _ => json!({}),
        };
        let call = plugin(&self.lab, whose, face, conf).with(json!({"name": "n"}));
        if PARTS.contains(&face) { call.on(&self.attached).prev(&self.result) } else { call.on(&self.bare) }
    }

    /// Runs a call as both and compares.
    #[track_caller]
    pub fn compare(&self, label: &str, is: Is, run: impl Fn(Whose) -> Outcome) {
        let (ours, theirs) = (run(Whose::Ours), run(Whose::Theirs));
        let (our, their) = (document(&ours), document(&theirs));
        let label = format!("{label}\n  ours: {our}\ntheirs: {their}\n");
        assert_eq!(ours.status.code(), Some(1), "{label}");
        assert_eq!(
            ours.stdout.trim_end().lines().next_back(),
            Some("}"),
            "one document and no more: {label}"
        );
        assert!(our["cniVersion"].is_string(), "{label}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (our_words, their_words) = (text(&our["msg"]), text(&their["msg"]));
        match is {
            Is::Refused(code, words) => {
                assert_eq!(our["code"], code, "{label}");
                assert!(ours.words().contains(words), "{label}");
                return;
            }
            Is::Same => assert_eq!(our_words, their_words, "{label}"),
            Is::Alike => {
                assert!(their_words.starts_with(&our_words) || our_words.contains(&their_words), "{label}");
            }
        }
        assert_eq!(theirs.status.code(), Some(1), "{label}");
        assert_eq!(our["code"], their["code"], "{label}");
        if let (Is::Same, Some(details)) = (is, their["details"].as_str()) {
            let since = details.replace("\"1.0.0\"]", "\"1.0.0\" \"1.1.0\"]");
            assert_eq!(text(&our["details"]), since, "{label}");
        }
    }

    /// ADD with keys laid over a good configuration.
    #[track_caller]
    pub fn keys(&self, face: &str, rows: Vec<(Value, Is)>) {
        let call = |whose, keys: &Value| {
            let mut call = self.good(whose, face);
            // A list or another result takes the place of what is there; all else is laid over it.
            if keys.get("prevResult").is_some() {
                call = call.with(json!({"prevResult": null}));
            }
            merge(&mut call.conf, keys.clone());
            call
        };
        if GIVERS.contains(&face) {
            // The directory of leases, with its lock, stays for ever.
            self.good(Whose::Ours, face).add().ok();
            self.good(Whose::Ours, face).del().ok();
        }
        let before = Snapshot::take(&self.lab);
        let ours: Vec<Outcome> = rows.iter().map(|(keys, _)| call(Whose::Ours, keys).add()).collect();
        Snapshot::take(&self.lab).assert_same(&before, face);
        for ((keys, is), ours) in rows.iter().zip(ours) {
            self.compare(&format!("{face} {keys}"), *is, |whose| {
                if whose == Whose::Ours {
                    return ours.clone();
                }
                let theirs = call(whose, keys);
                let outcome = theirs.add();
                // What it takes, or leaves behind.
                theirs.del();
                self.good(whose, face).del();
                self.good(whose, "host-local").del().ok();
                outcome
            });
        }
    }
}

/// What was printed.
pub fn document(outcome: &Outcome) -> Value {
    outcome.json.clone().unwrap_or_default()
}

/// Every face.
pub fn all() -> impl Iterator<Item = &'static str> {
    MAKERS.into_iter().chain(GIVERS).chain(PARTS)
}
