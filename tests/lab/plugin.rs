//! Running the binary as a runtime does: a command in the environment, a configuration on standard input.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::outcome::Outcome;
use super::space::drain;
use super::{Container, Space};

/// No run may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// The binary under test: `$LINKSPAN`, or the one that cargo built for these tests.
pub fn binary() -> PathBuf {
    std::env::var_os("LINKSPAN").map_or_else(|| env!("CARGO_BIN_EXE_linkspan").into(), PathBuf::from)
}

/// The directory of Debian's reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni";

/// A call of the plugin, built up and then run as often as wanted.
#[derive(Clone)]
pub struct Plugin {
    binary: PathBuf,
    /// The configuration.
    pub conf: Value,
    raw: Option<Vec<u8>>,
    env: BTreeMap<String, String>,
    space: Option<Space>,
    wrapper: Vec<String>,
}

impl Plugin {
    /// A call with this configuration; `cniVersion`, `name` and `type` are filled in where they are absent.
    pub fn new(conf: Value) -> Self {
        let mut whole = json!({"cniVersion": "1.1.0", "name": "web", "type": "linkspan"});
        merge(&mut whole, conf);
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let env = [("PATH", path.as_str()), ("CNI_PATH", REFERENCE)];
        let env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { binary: binary(), conf: whole, raw: None, env, space: None, wrapper: Vec::new() }
    }

    /// Another executable in place of the binary under test.
    pub fn of(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = binary.into();
        self
    }

    /// The directory that its executable is in.
    pub fn directory(&self) -> String {
        self.binary.parent().map(|directory| directory.display().to_string()).unwrap_or_default()
    }

    /// For this container, as `eth0`.
    pub fn on(&self, container: &Container) -> Self {
        self.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.path).ifname("eth0")
    }

    /// For an attachment without a namespace.
    pub fn id(&self, id: &str) -> Self {
        self.env("CNI_CONTAINERID", id)
    }

    /// As an interface of this name.
    pub fn ifname(&self, name: &str) -> Self {
        self.env("CNI_IFNAME", name)
    }

    /// With these `CNI_ARGS`.
    pub fn args(&self, args: &str) -> Self {
        self.env("CNI_ARGS", args)
    }

    /// With a variable of the environment.
    pub fn env(&self, key: &str, value: &str) -> Self {
        let mut this = self.clone();
        this.env.insert(key.to_owned(), value.to_owned());
        this
    }

    /// Without a variable of the environment.
    pub fn without(&self, key: &str) -> Self {
        let mut this = self.clone();
        this.env.remove(key);
        this
    }

    /// With keys of the configuration laid over it; objects are merged, null removes a key.
    pub fn with(&self, keys: Value) -> Self {
        let mut this = self.clone();
        merge(&mut this.conf, keys);
        this
    }

    /// With capabilities (`runtimeConfig`).
    pub fn cap(&self, capabilities: Value) -> Self {
        self.with(json!({ "runtimeConfig": capabilities }))
    }

    /// With published ports: `8080:80/tcp`, `127.0.0.1:8080:80/udp`, `[::]:8080:80/tcp`.
    pub fn publish(&self, ports: &[&str]) -> Self {
        self.cap(json!({"portMappings": ports.iter().map(|p| port_mapping(p)).collect::<Vec<_>>()}))
    }

    /// With the result of an earlier call.
    pub fn prev(&self, result: &Value) -> Self {
        self.with(json!({ "prevResult": result }))
    }

    /// With these bytes on standard input in place of the configuration.
    pub fn stdin(&self, bytes: impl Into<Vec<u8>>) -> Self {
        let mut this = self.clone();
        this.raw = Some(bytes.into());
        this
    }

    /// Run inside a namespace other than the host's.
    pub fn inside(&self, space: &Space) -> Self {
        let mut this = self.clone();
        this.space = Some(space.clone());
        this
    }

    /// Run by another program, such as `setpriv`, that ends in the plugin.
    pub fn wrapped(&self, argv: &[&str]) -> Self {
        let mut this = self.clone();
        this.wrapper = argv.iter().map(|&word| word.to_owned()).collect();
        this
    }

    /// `CNI_COMMAND=ADD`. Where a busy machine kept the agent from answering in the time that an ADD has for it, that is waited
    /// for; where it kept it from being started in that time, the call is undone and made again.
    pub fn add(&self) -> Outcome {
        let (begun, mut undone) = (Instant::now(), false);
        loop {
            let outcome = self.run("ADD");
            if outcome.found_agent_late() {
                return caught_up(outcome);
            }
            // Ports of the one that was undone may still be held.
            let again = outcome.found_agent_unborn() || (undone && !outcome.succeeded());
            if !again || begun.elapsed() > LIMIT / 2 {
                return outcome;
            }
            if outcome.succeeded() {
                self.del().ok();
            }
            undone = true;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `CNI_COMMAND=DEL`; an agent that is late to hear of it is waited for.
    pub fn del(&self) -> Outcome {
        let outcome = self.run("DEL");
        if outcome.found_agent_late() { caught_up(outcome) } else { outcome }
    }

    /// `CNI_COMMAND=CHECK`; a `prevResult` is needed.
    pub fn check(&self) -> Outcome {
        self.run("CHECK")
    }

    /// `CNI_COMMAND=STATUS`.
    pub fn status(&self) -> Outcome {
        self.run("STATUS")
    }

    /// `CNI_COMMAND=GC` with these attachments (ID, interface) as the valid ones.
    pub fn gc(&self, valid: &[(&str, &str)]) -> Outcome {
        let valid: Vec<Value> =
            valid.iter().map(|(id, ifname)| json!({"containerID": id, "ifname": ifname})).collect();
        self.with(json!({"cni.dev/valid-attachments": valid})).run("GC")
    }

    /// `CNI_COMMAND=VERSION`.
    pub fn version(&self) -> Outcome {
        self.run("VERSION")
    }

    /// Runs any command, even an unknown one; an empty one leaves `CNI_COMMAND` unset.
    pub fn run(&self, command: &str) -> Outcome {
        self.start(command).finish()
    }

    /// Starts a command and leaves it running.
    pub fn start(&self, command: &str) -> Running {
        let mut process = match self.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((first, rest)) => {
                let mut process = Command::new(first);
                process.args(rest).arg(&self.binary);
                process
            }
        };
        process.env_clear().envs(&self.env);
        if !command.is_empty() {
            process.env("CNI_COMMAND", command);
        }
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut spawn = || process.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.binary.display()));
        let mut child = match &self.space {
            Some(space) => space.in_ns(spawn),
            None => spawn(),
        };
        let input = self.raw.clone().unwrap_or_else(|| self.conf.to_string().into_bytes());
        let stdin = child.stdin.take();
        let writer = std::thread::spawn(move || {
            if let Some(mut pipe) = stdin {
                let _ = pipe.write_all(&input);
            }
        });
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        Running { command: command.to_owned(), child, begun, writer, stdout, stderr }
    }
}

/// Waits for an agent that was late: once it answers, it has done what it was told before.
fn caught_up(outcome: Outcome) -> Outcome {
    if super::agent::has_socket() {
        super::agent::status();
    }
    outcome.without_lateness()
}

/// A run that is under way.
pub struct Running {
    command: String,
    child: Child,
    begun: Instant,
    writer: JoinHandle<()>,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Waits for its end, for at most a minute.
    pub fn finish(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{} did not end within {LIMIT:?}", self.command);
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        let elapsed = self.begun.elapsed();
        let _ = self.writer.join();
        let text = |thread: JoinHandle<Vec<u8>>| String::from_utf8(thread.join().unwrap()).expect("UTF-8");
        Outcome::new(&self.command, status, (text(self.stdout), text(self.stderr)), elapsed)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with SIGKILL once it has run for `after`; whether it was still running then.
    pub fn kill_after(mut self, after: Duration) -> bool {
        while self.begun.elapsed() < after {
            std::hint::spin_loop();
        }
        let running = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let status = self.child.wait().expect("a child can be waited for");
        let _ = (self.writer.join(), self.stdout.join(), self.stderr.join());
        running && !status.success()
    }
}

/// Lays one JSON object over another.
pub fn merge(onto: &mut Value, keys: Value) {
    match (onto, keys) {
        (Value::Object(onto), Value::Object(keys)) => {
            for (key, value) in keys {
                if value.is_null() {
                    onto.remove(&key);
                } else {
                    merge(onto.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (onto, value) => *onto = value,
    }
}

/// Reads `[HOSTIP:]HOSTPORT:PORT[/PROTOCOL]`; ports are numbers, or ranges such as `8000-8010`.
fn port_mapping(text: &str) -> Value {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = ports.rsplit_once(':').expect("HOSTPORT:PORT");
    let (host_ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let number = |text: &str| text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number));
    let mut mapping = json!({
        "hostPort": number(host), "containerPort": number(container), "protocol": protocol,
    });
    if !host_ip.is_empty() {
        mapping["hostIP"] = json!(host_ip.trim_matches(['[', ']']));
    }
    mapping
}

/// A dual-stack `ipam` of fixed subnets, different for each `n`.
pub fn dual_stack(n: u8) -> Value {
    json!({"type": "host-local", "ranges": [
        [{"subnet": format!("10.88.{n}.0/24")}], [{"subnet": format!("fd00:88:{n}::/64")}],
    ]})
}

/// An IPv4 `ipam` of a fixed subnet, different for each `n`.
pub fn v4(n: u8) -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": format!("10.88.{n}.0/24")}]]})
}
