//! What one run of the plugin came to.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

fn is_lateness(line: &str) -> bool {
    line.contains("the agent did not answer within")
}

/// Exit status, output and the one JSON document of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `CNI_COMMAND`.
    pub command: String,
    /// How the process ended.
    pub status: ExitStatus,
    /// Standard output as it came.
    pub stdout: String,
    /// Standard error as it came.
    pub stderr: String,
    /// The document on standard output, if there was one.
    pub json: Option<Value>,
    /// From start to end of the process.
    pub elapsed: Duration,
}

impl Outcome {
    pub(super) fn new(command: &str, status: ExitStatus, out: (String, String), elapsed: Duration) -> Self {
        let (stdout, stderr) = out;
        let json = if stdout.trim().is_empty() || command.is_empty() {
            None
        } else {
            let document = serde_json::from_str(&stdout);
            Some(
                document
                    .unwrap_or_else(|e| panic!("{command}: stdout is not one JSON document ({e}): {stdout}")),
            )
        };
        Self { command: command.to_owned(), status, stdout, stderr, json, elapsed }
    }

    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Whether it says that the agent has not answered in time.
    pub fn found_agent_late(&self) -> bool {
        self.succeeded() && self.stderr.lines().any(is_lateness)
    }

    /// Whether it says that the agent could not be started in time.
    pub fn found_agent_unborn(&self) -> bool {
        let unborn = |line: &str| {
            line.contains("there is no agent")
                && (line.contains("not done within") || line.contains("timed out"))
        };
        self.succeeded() && self.stderr.lines().any(unborn)
    }

    /// Whether either is so.
    pub fn was_hurried(&self) -> bool {
        self.found_agent_late() || self.found_agent_unborn()
    }

    /// The same without the words about an agent that was late.
    pub(super) fn without_lateness(mut self) -> Self {
        let others = self.stderr.lines().filter(|line| !is_lateness(line));
        self.stderr = others.map(|line| format!("{line}\n")).collect();
        self
    }

    /// The result of a run that must succeed; null where it printed nothing.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.succeeded(), "{} failed: {}{}", self.command, self.stdout, self.stderr);
        self.json.clone().unwrap_or(Value::Null)
    }

    /// The error code of a run that must fail, with the shape that every error has.
    #[track_caller]
    pub fn code(&self) -> u64 {
        assert_eq!(self.status.code(), Some(1), "{} should exit with 1: {self:?}", self.command);
        let error = self
            .json
            .as_ref()
            .unwrap_or_else(|| panic!("{}: an error is a document: {self:?}", self.command));
        assert!(error["cniVersion"].is_string(), "an error carries cniVersion: {error}");
        assert!(error["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "an error carries msg: {error}");
        error["code"].as_u64().unwrap_or_else(|| panic!("an error carries a code: {error}"))
    }

    /// Asserts a failure with this code and returns all that it said, for matching on named objects.
    #[track_caller]
    pub fn refused(&self, code: u64) -> String {
        assert_eq!(self.code(), code, "{}: {}", self.command, self.stdout);
        self.words()
    }

    /// `msg` and `details` of the error.
    pub fn words(&self) -> String {
        let error = self.json.clone().unwrap_or_default();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        format!("{}\n{}", text("msg"), text("details"))
    }
}

/// Addresses of a result (specification 0.3.0 and later) as `10.0.0.2/24`.
pub fn addresses(result: &Value) -> Vec<String> {
    let rows = result["ips"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| Some(row["address"].as_str()?.to_owned())).collect()
}

/// The first address of a family in a result, without its prefix length.
#[track_caller]
pub fn address(result: &Value, family: u8) -> String {
    let all = addresses(result);
    let found = all.iter().find(|a| a.contains(':') == (family == 6));
    let found = found.unwrap_or_else(|| panic!("no IPv{family} address in {result}"));
    found.split('/').next().unwrap().to_owned()
}

/// The first gateway of a family in a result.
#[track_caller]
pub fn gateway(result: &Value, family: u8) -> String {
    let rows = result["ips"].as_array().cloned().unwrap_or_default();
    let mut gateways = rows.iter().filter_map(|row| row["gateway"].as_str());
    let found = gateways.find(|g| g.contains(':') == (family == 6));
    found.unwrap_or_else(|| panic!("no IPv{family} gateway in {result}")).to_owned()
}

/// The bridge of a result: the first interface without a sandbox.
#[track_caller]
pub fn bridge(result: &Value) -> String {
    interface(result, 0, false)
}

/// The host end of the veth pair: the second interface without a sandbox.
#[track_caller]
pub fn host_end(result: &Value) -> String {
    interface(result, 1, false)
}

/// The interface in the container.
#[track_caller]
pub fn inner(result: &Value) -> String {
    interface(result, 0, true)
}

#[track_caller]
fn interface(result: &Value, index: usize, inside: bool) -> String {
    let rows = result["interfaces"].as_array().cloned().unwrap_or_default();
    let sandboxed = |row: &Value| row["sandbox"].as_str().is_some_and(|s| !s.is_empty());
    let row = rows.iter().filter(|row| sandboxed(row) == inside).nth(index);
    let row = row.unwrap_or_else(|| panic!("no such interface in {result}"));
    row["name"].as_str().expect("an interface has a name").to_owned()
}
