//! What `linkspan explain --live` says: what was said beforehand beside what a real probe did.

use serde_json::Value;

use super::Space;
use super::cli::{document, linkspan};

/// The explanation with its probe, which is as the schema says.
#[track_caller]
pub fn probed(words: &str) -> Value {
    document(&format!("explain {words} --live --wait 1 --json"), "explain")["explain"].clone()
}

/// The two agree on `outcome`, in both languages.
#[track_caller]
pub fn agree(words: &str, outcome: &str) -> Value {
    let told = probed(words);
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
    let said = linkspan(&format!("explain {words} --live --wait 1"));
    assert_eq!(said.code, code, "{words}: {}{}", said.stdout, said.stderr);
    said.stdout
}

/// Nothing of a probe is left in a namespace.
pub fn is_clean(space: &Space) -> bool {
    !space.must(&["nft", "list", "tables"]).contains("linkspan-trace")
}
