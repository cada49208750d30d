//! A list of plugins, run as a runtime runs it: each from a directory, by its name, with the result of the one before.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::plugin::{REFERENCE, binary, merge};
use super::{Container, Lab, Outcome, Plugin};

/// The names of the reference plugins that are faces of the binary under test.
pub const FACES: [&str; 11] = [
    "bridge",
    "host-local",
    "static",
    "portmap",
    "firewall",
    "tuning",
    "bandwidth",
    "loopback",
    "ptp",
    "macvlan",
    "sbr",
];

/// The names of the binary under test that Debian's plugins do not have.
const OWN: [&str; 2] = ["dnsname", "linkspan"];

/// A directory of plugins: `/opt/cni/bin` of a host.
#[derive(Clone)]
pub struct Bin {
    directory: PathBuf,
}

impl Bin {
    /// Links to the binary under test, under all names.
    pub fn ours(lab: &Lab) -> Self {
        let this = Self::empty(lab);
        this.install_ours(&FACES);
        this.install_ours(&OWN);
        this
    }

    /// The same, one directory for all who only call what is in it.
    pub fn shared(lab: &Lab) -> Self {
        let this = Self { directory: lab.work.path().join("faces") };
        if !this.directory.is_dir() {
            fs::create_dir(&this.directory).unwrap();
            this.install_ours(&FACES);
            this.install_ours(&OWN);
        }
        this
    }

    /// Debian's own directory.
    pub fn debian() -> Self {
        Self { directory: REFERENCE.into() }
    }

    /// Links to Debian's plugins.
    pub fn theirs(lab: &Lab) -> Self {
        let this = Self::empty(lab);
        this.install_theirs(&FACES);
        this
    }

    /// Nothing yet.
    pub fn empty(lab: &Lab) -> Self {
        let directory = lab.work.path().join(format!("bin-{}", lab.next()));
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    /// Puts our links in the place of what is there, by rename, as an installer does.
    pub fn install_ours(&self, names: &[&str]) {
        self.install(&binary().canonicalize().unwrap(), names);
    }

    /// Puts Debian's in the place of what is there.
    pub fn install_theirs(&self, names: &[&str]) {
        for name in names {
            self.link(&Path::new(REFERENCE).join(name), name);
        }
    }

    fn install(&self, program: &Path, names: &[&str]) {
        for name in names {
            self.link(program, name);
        }
    }

    fn link(&self, target: &Path, name: &str) {
        let next = self.directory.join(format!(".{name}"));
        std::os::unix::fs::symlink(target, &next).unwrap();
        fs::rename(&next, self.directory.join(name)).unwrap();
    }

    /// One plugin of the directory, with this configuration.
    pub fn plugin(&self, name: &str, conf: Value) -> Plugin {
        let mut whole = json!({"cniVersion": "1.0.0", "type": name});
        merge(&mut whole, conf);
        let path = self.directory.display().to_string();
        Plugin::new(whole).of(self.directory.join(name)).env("CNI_PATH", &path)
    }

    /// A list of plugins.
    pub fn chain(&self, list: Value) -> Chain {
        Chain { bin: self.clone(), list, runtime: json!({}), args: None }
    }
}

/// A configuration list: `{"name": ..., "cniVersion": ..., "plugins": [...]}`.
#[derive(Clone)]
pub struct Chain {
    bin: Bin,
    /// The list.
    pub list: Value,
    runtime: Value,
    args: Option<String>,
}

impl Chain {
    /// With values for the capabilities that plugins declare.
    pub fn cap(&self, capabilities: Value) -> Self {
        let mut this = self.clone();
        merge(&mut this.runtime, capabilities);
        this
    }

    /// With published ports, as [`Plugin::publish`].
    pub fn publish(&self, ports: &[&str]) -> Self {
        let with = Plugin::new(json!({})).publish(ports);
        self.cap(with.conf["runtimeConfig"].clone())
    }

    /// With `CNI_ARGS`.
    pub fn args(&self, args: &str) -> Self {
        Self { args: Some(args.to_owned()), ..self.clone() }
    }

    /// The same list, from another directory.
    pub fn from(&self, bin: &Bin) -> Self {
        Self { bin: bin.clone(), ..self.clone() }
    }

    /// The plugins of the list for a container, in order.
    pub fn plugins(&self, container: &Container) -> Vec<Plugin> {
        let plugins = self.list["plugins"].as_array().cloned().unwrap_or_default();
        let one = |conf: Value| {
            let name = conf["type"].as_str().expect("a plugin has a type").to_owned();
            let mut runtime = json!({});
            for capability in conf["capabilities"].as_object().into_iter().flatten() {
                if let Some(value) = self.runtime.get(capability.0) {
                    runtime[capability.0] = value.clone();
                }
            }
            let mut plugin = self
                .bin
                .plugin(&name, json!({"name": self.list["name"]}))
                .with(conf)
                .with(json!({"cniVersion": self.list.get("cniVersion").cloned().unwrap_or(json!("1.0.0"))}))
                .on(container);
            if runtime != json!({}) {
                plugin = plugin.cap(runtime);
            }
            match &self.args {
                Some(args) => plugin.args(args),
                None => plugin,
            }
        };
        plugins.into_iter().map(one).collect()
    }

    /// ADD of each; the outcome of the last, or of the first that fails.
    pub fn add(&self, container: &Container) -> Outcome {
        self.until_one_fails(container, |plugin, last| {
            match last.and_then(|outcome| outcome.json.as_ref()) {
                Some(result) => plugin.prev(result),
                None => plugin,
            }
            .add()
        })
    }

    /// DEL of each, backwards, with the final result; stops at the first failure.
    #[track_caller]
    pub fn del(&self, container: &Container, result: &Value) {
        for plugin in self.plugins(container).iter().rev() {
            let plugin = if result.is_null() { plugin.clone() } else { plugin.prev(result) };
            plugin.del().ok();
        }
    }

    /// CHECK of each, with the final result; the first that fails, or the last.
    pub fn check(&self, container: &Container, result: &Value) -> Outcome {
        self.until_one_fails(container, |plugin, _| plugin.prev(result).check())
    }

    /// Calls each, with the outcome of the one before.
    fn until_one_fails(
        &self,
        container: &Container,
        call: impl Fn(Plugin, Option<&Outcome>) -> Outcome,
    ) -> Outcome {
        let mut last: Option<Outcome> = None;
        for plugin in self.plugins(container) {
            let outcome = call(plugin, last.as_ref());
            let failed = !outcome.succeeded();
            last = Some(outcome);
            if failed {
                break;
            }
        }
        last.expect("a list has a plugin")
    }

    /// GC of each, with these valid attachments.
    #[track_caller]
    pub fn gc(&self, container: &Container, valid: &[(&str, &str)]) {
        for plugin in self.plugins(container) {
            plugin.with(json!({"cniVersion": "1.1.0"})).gc(valid).ok();
        }
    }
}
