//! The commands that a person types, on the lab's host.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::plugin::binary;
use super::schema;
use super::space::run_bounded;

/// What a command said, and how it ended.
pub struct Answer {
    /// The words.
    pub words: String,
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// It succeeded; its standard output.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "linkspan {}: {}{}", self.words, self.stdout, self.stderr);
        &self.stdout
    }

    /// It failed with this exit code and said this.
    #[track_caller]
    pub fn failed(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "linkspan {}: {}{}", self.words, self.stdout, self.stderr);
        assert!(self.stderr.contains(part), "linkspan {}: {}", self.words, self.stderr);
    }

    /// The row of its table that begins with these words, its cells by two spaces or more.
    #[track_caller]
    pub fn row(&self, begin: &str) -> Vec<String> {
        let line = self.ok().lines().find(|line| line.starts_with(begin));
        let line =
            line.unwrap_or_else(|| panic!("linkspan {}: no row {begin}:\n{}", self.words, self.stdout));
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    }
}

/// Runs `linkspan WORDS` on the thread's host, not at a terminal.
pub fn linkspan(words: &str) -> Answer {
    linkspan_with(words, &[])
}

/// The same with variables of the environment.
pub fn linkspan_with(words: &str, variables: &[(&str, &str)]) -> Answer {
    let mut command = Command::new(binary());
    command.args(words.split_whitespace()).env_clear().envs(variables.iter().copied());
    command.env("PATH", std::env::var("PATH").unwrap_or_default()).stdin(Stdio::null());
    let begun = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = begun.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer {
        words: words.to_owned(),
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The document of a command, which is as the schema's definition `name` says.
#[track_caller]
pub fn document(words: &str, name: &str) -> Value {
    let said = linkspan(words);
    let value: Value = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|e| panic!("linkspan {words}: {e}: {}{}", said.stdout, said.stderr));
    let text = include_str!("../../docs/schema/linkspan.schema.json");
    let faults = schema::faults(&serde_json::from_str(text).unwrap(), name, &value);
    assert!(faults.is_empty(), "linkspan {words}: {}\n{value:#}", faults.join("\n"));
    value
}

/// Runs a line of shell with the program as `$L`, for at most a minute.
pub fn shell(line: &str) -> super::space::Said {
    run_bounded(Command::new("bash").args(["-c", line]).env("L", binary()), None, Duration::from_secs(60))
}
