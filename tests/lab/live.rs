//! What `linkspan explain --live` says: what was said beforehand beside what a real probe did.

use serde_json::{Value, json};

use super::Space;
use super::cli::{document, linkspan};
use super::explain::{Host, host, id};
use super::town::House;

/// How long an answer is waited for, in seconds: with patience where one must come.
fn patience(comes: bool) -> u32 {
    if comes { 20 } else { 1 }
}

/// The explanation with its probe, which is as the schema says; nobody has to answer it.
#[track_caller]
pub fn probed(words: &str) -> Value {
    waited(words, false)
}

#[track_caller]
fn waited(words: &str, comes: bool) -> Value {
    let wait = patience(comes);
    document(&format!("explain {words} --live --wait {wait} --json"), "explain")["explain"].clone()
}

/// The two agree on `outcome`, in both languages.
#[track_caller]
pub fn agree(words: &str, outcome: &str) -> Value {
    // Small packets are answered where large ones are swallowed.
    let told = waited(words, ["answered", "unwanted", "swallowed"].contains(&outcome));
    assert_eq!(told["agreement"]["agrees"], true, "{words}: {told:#}");
    assert_eq!(told["live"]["outcome"], outcome, "{words}: {told:#}");
    told
}

/// They agree that it arrives and is answered.
#[track_caller]
pub fn arrives(words: &str) -> Value {
    let told = agree(words, "answered");
    assert_eq!(told["verdict"], "arrives", "{words}: {told:#}");
    told
}

/// They agree that it does not, by this fault.
#[track_caller]
pub fn fails(words: &str, fault: &str, outcome: &str) -> Value {
    let told = agree(words, outcome);
    assert_ne!(told["verdict"], "arrives", "{words}: {told:#}");
    assert_eq!(told["findings"][0]["fault"], fault, "{words}: {told:#}");
    told
}

/// They agree on the very rule that drops it.
#[track_caller]
pub fn drops(words: &str, fault: &str) -> Value {
    let told = fails(words, fault, "lost");
    let end = told["hops"].as_array().unwrap().last().unwrap();
    let said = end["rules"].as_array().unwrap().iter().find(|rule| rule["verdict"] == "drop").unwrap();
    let seen = &told["live"]["dropped"];
    for key in ["family", "table", "base", "chain", "handle"] {
        assert_eq!(said[key], seen[key], "{words}: {key}: {told:#}");
    }
    told
}

/// It is told in words too, and the exit code is this.
#[track_caller]
pub fn text(words: &str, code: i32) -> String {
    let said = linkspan(&format!("explain {words} --live --wait {}", patience(code == 0)));
    assert_eq!(said.code, code, "{words}: {}{}", said.stdout, said.stderr);
    said.stdout
}

/// Nothing of a probe is left in a namespace.
pub fn is_clean(space: &Space) -> bool {
    !space.must(&["nft", "list", "tables"]).contains("linkspan-trace")
}

/// Nothing of a probe is left on the host and in its containers.
#[track_caller]
pub fn assert_clean(host: &Host) {
    for space in [host.kernel(), &host.shop, &host.store, &host.back] {
        assert!(is_clean(space), "{} has something left", space.name());
    }
}

/// A host without walls.
pub fn open() -> Option<Host> {
    host(json!({"isolation": "none"}))
}

/// Words of a way from one to another.
pub fn way(from: &House, to: &House) -> String {
    format!("{} {}:80", id(from), id(to))
}

/// The counters that moved, by name.
pub fn counters(told: &Value) -> Vec<&str> {
    let rows = told["live"]["counters"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["counter"].as_str()).collect()
}
