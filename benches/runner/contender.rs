//! Who is measured, and what one ADD and one DEL of each is.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{self, Call, Host, counts, die, namespace};

/// Where linkspan finds its delegates: itself under their names. Debian's directory would have it run Debian's IPAM.
const OWN_PLUGINS: &str = "/run/bench-plugins";
const REPORT: &str = "/run/strace";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Linkspan,
    Floor,
    /// The floor that deletes by group; differs in nothing but DEL.
    FloorGroup,
    /// Debian's bridge, portmap and firewall, one after the other, as a runtime runs a chain.
    Chain,
    /// The same chain by linkspan's faces of these names.
    Faces,
    /// `loopback`, which a kubelet runs for every pod: linkspan's face.
    Loopback,
    /// Debian's.
    LoopbackChain,
    /// A program that ends at once: what an exec costs.
    Bare,
}

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// The binary, and for the chain the directory of the plugins.
    path: String,
    /// Where its calls are made: its own, but for the floor's two.
    pub(crate) host: Rc<Host>,
    /// Final results, which a runtime hands to DEL.
    results: HashMap<u32, String>,
    namespaces: HashMap<u32, String>,
}

impl Contender {
    /// Prepares a host for it.
    pub(crate) fn new(kind: Kind, name: &'static str, path: &str, host: Rc<Host>) -> Self {
        host.enter();
        match kind {
            Kind::Linkspan | Kind::Faces | Kind::Loopback => {
                let names = ["linkspan", "host-local", "bridge", "portmap", "firewall", "loopback"];
                let link = |name: &str| symlink(path, format!("{OWN_PLUGINS}/{name}"));
                if fs::create_dir_all(OWN_PLUGINS)
                    .and_then(|()| names.into_iter().try_for_each(link))
                    .is_err()
                {
                    die(OWN_PLUGINS);
                }
            }
            Kind::Floor => {
                Call::new(path, &["floor", "setup"]).run();
            }
            _ => {}
        }
        let (path, results, namespaces) = (path.to_owned(), HashMap::new(), HashMap::new());
        Contender { kind, name, path, host, results, namespaces }
    }

    /// Makes the namespaces of containers `0..count`, so that no timed call waits for the making of one.
    pub(crate) fn prepare(&mut self, count: u32) {
        self.host.enter();
        for n in 0..count {
            let name = format!("{}-{n}", self.name);
            self.namespaces.entry(n).or_insert_with(|| namespace(&name));
        }
    }

    /// Lets the namespaces of containers go that have been detached.
    pub(crate) fn forget_containers(&mut self) {
        self.host.enter();
        for (_, path) in self.namespaces.drain() {
            host::forget_namespace(&path);
        }
    }

    pub(crate) fn add(&mut self, n: u32) -> Duration {
        self.host.enter();
        let (calls, mut total, mut result) = (self.plugins(), Duration::ZERO, None);
        for plugin in calls {
            let (took, output) = self.call("ADD", plugin, n, result.as_deref()).run();
            total += took;
            result = Some(output);
        }
        self.results.insert(n, result.unwrap_or_default());
        total
    }

    pub(crate) fn del(&mut self, n: u32) -> Duration {
        self.host.enter();
        let calls = self.plugins().iter().rev();
        let result = self.results.remove(&n);
        calls.map(|plugin| self.call("DEL", plugin, n, result.as_deref()).run().0).sum()
    }

    /// The one process of a DEL, prepared and not started: it is to be started in the contender's host.
    pub(crate) fn prepared_del(&mut self, n: u32) -> Call {
        let result = self.results.remove(&n);
        self.call("DEL", self.plugins()[0], n, result.as_deref())
    }

    /// One ADD and one DEL under `strace`: (system calls, processes) of each.
    pub(crate) fn traced(&mut self, strace: &str, n: u32) -> [(u64, u64); 2] {
        let sum = |all: &[(u64, u64)]| all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        self.measured(n, |call| {
            let output = call.traced(strace, REPORT).run().1;
            (counts(REPORT), output)
        })
        .map(|all| sum(&all))
    }

    /// The page faults of one ADD and of one DEL.
    pub(crate) fn faults(&mut self, n: u32) -> [u64; 2] {
        self.measured(n, Call::faults).map(|all| all.iter().sum())
    }

    /// One ADD and one DEL, each plugin run by `run`: what that measures of each plugin, beside what the plugin printed.
    fn measured<T>(&mut self, n: u32, run: impl Fn(Call) -> (T, String)) -> [Vec<T>; 2] {
        self.host.enter();
        let (mut add, mut del, mut result) = (Vec::new(), Vec::new(), None);
        for plugin in self.plugins() {
            let (measure, output) = run(self.call("ADD", plugin, n, result.as_deref()));
            add.push(measure);
            result = Some(output);
        }
        for plugin in self.plugins().iter().rev() {
            del.push(run(self.call("DEL", plugin, n, result.as_deref())).0);
        }
        [add, del]
    }

    fn plugins(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Chain | Kind::Faces => &["bridge", "portmap", "firewall"],
            Kind::Loopback | Kind::LoopbackChain => &["loopback"],
            _ => &["linkspan"],
        }
    }

    fn call(&self, verb: &str, plugin: &str, n: u32, previous: Option<&str>) -> Call {
        let netns = self.namespaces.get(&n).unwrap_or_else(|| die("namespace not prepared"));
        // Only the chain is chained; the others get a previous result only in DEL, where a runtime always gives it.
        let configuration = configuration(self.kind, plugin, n, previous);
        let number = n.to_string();
        let (program, arguments, plugins) = match (self.kind, verb) {
            (Kind::Chain | Kind::LoopbackChain, _) => {
                (format!("{}/{plugin}", self.path), vec![plugin], self.path.as_str())
            }
            (Kind::Linkspan | Kind::Faces | Kind::Loopback, _) => {
                (format!("{OWN_PLUGINS}/{plugin}"), vec![plugin], OWN_PLUGINS)
            }
            (Kind::Bare, _) => (self.path.clone(), vec!["floor", "nothing"], ""),
            (_, "ADD") => (self.path.clone(), vec!["floor", "add", netns, &number], ""),
            (Kind::Floor, _) => (self.path.clone(), vec!["floor", "del", &number], ""),
            (Kind::FloorGroup, _) => (self.path.clone(), vec!["floor", "del-group", &number], ""),
        };
        Call::new(&program, &arguments)
            .variable("CNI_COMMAND", verb)
            .variable("CNI_CONTAINERID", &container_id(self.kind, n))
            .variable("CNI_NETNS", netns)
            .variable("CNI_IFNAME", "eth0")
            .variable("CNI_PATH", plugins)
            .stdin(configuration.as_bytes())
    }
}

/// linkspan is there under two names: their containers are not the same ones.
fn container_id(kind: Kind, n: u32) -> String {
    if kind == Kind::Faces { format!("faces-{n}") } else { format!("bench-{n}") }
}

/// What a runtime writes on stdin: the configuration with its own additions, the port mapping and the previous result.
fn configuration(kind: Kind, plugin: &str, n: u32, previous: Option<&str>) -> String {
    let (bridge, subnet, port) = match kind {
        Kind::Chain => ("chain0", "10.98.0.0/16", 10_000 + n),
        Kind::Faces => ("faces0", "10.96.0.0/16", 50_000 + n),
        _ => ("bench0", "10.97.0.0/16", 30_000 + n),
    };
    let network = format!(
        r#""bridge":"{bridge}","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{{"type":"host-local","subnet":"{subnet}","routes":[{{"dst":"0.0.0.0/0"}}]}}"#
    );
    let ports = format!(
        r#""capabilities":{{"portMappings":true}},"runtimeConfig":{{"portMappings":[{{"hostPort":{port},"containerPort":80,"protocol":"tcp"}}]}}"#
    );
    let body = match plugin {
        "bridge" => format!(",{network}"),
        "portmap" => format!(",{ports}"),
        "firewall" | "loopback" => String::new(),
        _ => format!(",{network},{ports}"),
    };
    let previous = previous.map_or(String::new(), |p| format!(r#","prevResult":{p}"#));
    format!(r#"{{"cniVersion":"1.0.0","name":"{bridge}","type":"{plugin}"{body}{previous}}}"#)
}
