//! The binary under the names of the reference plugins, beside the reference plugins themselves.

use serde_json::{Value, json};

use super::chain::Bin;
use super::talk::{Server, tcp_server};
use super::{Container, Lab, Outcome, Plugin};

/// Whose plugins are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The binary under test, by the reference's name.
    Ours,
    /// Debian's.
    Theirs,
}

impl Whose {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];
}

/// The versions that both know.
pub const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// A plugin of that name, with the directory it lies in as `CNI_PATH`.
pub fn plugin(lab: &Lab, whose: Whose, name: &str, conf: Value) -> Plugin {
    let bin = match whose {
        Whose::Ours => Bin::shared(lab),
        Whose::Theirs => Bin::debian(),
    };
    bin.plugin(name, conf)
}

/// The configuration of an interface that Debian's `bridge` makes, for what is chained to it.
pub fn bridged(lab: &Lab, container: &Container, version: &str, n: u8) -> (Plugin, Value) {
    let conf = json!({
        "cniVersion": version, "name": "web", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
        "ipam": {"type": "host-local", "subnet": format!("10.88.{n}.0/24")},
    });
    let bridge = plugin(lab, Whose::Theirs, "bridge", conf).on(container);
    let result = bridge.add().ok();
    (bridge, result)
}

/// Two containers of one network, of which the second serves on port 80 under its name.
pub struct Two {
    /// The first, and the result of its ADD.
    pub a: (Container, Value),
    /// The second, and the result of its ADD.
    pub b: (Container, Value),
    _server: Server,
}

/// Attaches two containers, `a` and `b`.
pub fn two(lab: &Lab, face: &Plugin) -> Two {
    let [a, b] = ["a", "b"].map(|name| {
        let container = lab.container(name);
        let result = face.on(&container).add().ok();
        (container, result)
    });
    let server = tcp_server(&b.0, "0.0.0.0:80", "b");
    Two { a, b, _server: server }
}

/// What a refusal comes to, for a table: exit status, code, and the words of its message.
pub fn refusal(outcome: &Outcome) -> (Option<i32>, u64, String) {
    let error = outcome.json.clone().unwrap_or_default();
    (outcome.status.code(), error["code"].as_u64().unwrap_or_default(), outcome.words())
}

/// A result without what tells nothing: Debian's version writes an empty `dns` in 1.0.0 as well, later ones do not.
pub fn told(mut result: Value) -> Value {
    if result["dns"] == json!({}) {
        result.as_object_mut().unwrap().remove("dns");
    }
    result
}

/// The same without what is chosen freely: the names of interfaces on the host, and every MAC.
pub fn shape(result: Value) -> Value {
    let mut result = told(result);
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mac"] = json!("");
        if interface["sandbox"].as_str().unwrap_or_default().is_empty() {
            interface["name"] = json!("");
        }
    }
    result
}
