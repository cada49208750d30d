//! What `linkspan explain` says, beside what real packets do.

use serde_json::Value;

use super::Space;
use super::cli::{document, linkspan};

/// The explanation of `WORDS`, which is as the schema says.
#[track_caller]
pub fn explained(words: &str) -> Value {
    document(&format!("explain {words} --json"), "explain")["explain"].clone()
}

/// It says that the packet arrives, in both languages.
#[track_caller]
pub fn arrives(words: &str) -> Value {
    let told = explained(words);
    assert_eq!(told["verdict"], "arrives", "{words}: {told:#}");
    let text = linkspan(&format!("explain {words}"));
    assert!(text.ok().contains("it arrives"), "{}", text.stdout);
    told
}

/// It says that the packet ends, of this fault, in both languages; the command that would mend it, or nothing.
#[track_caller]
pub fn dies(words: &str, fault: &str) -> String {
    let told = explained(words);
    assert_eq!(told["findings"][0]["fault"], fault, "{words}: {told:#}");
    assert_ne!(told["verdict"], "arrives", "{words}: {told:#}");
    let what = told["findings"][0]["what"].as_str().unwrap();
    let at = usize::try_from(told["diesAt"].as_u64().unwrap()).unwrap();
    assert!(told["hops"][at - 1]["ends"] == true && told["hops"].as_array().unwrap().len() == at, "{told:#}");
    let text = linkspan(&format!("explain {words}"));
    let (code, verb) = if told["verdict"] == "dies" { (3, "dies") } else { (4, "may die") };
    assert_eq!(text.code, code, "{words}: {}{}", text.stdout, text.stderr);
    assert!(text.stdout.contains(&format!("it {verb} at {at}: {what}")), "{}", text.stdout);
    let mend = told["findings"][0]["mend"].as_str().unwrap_or_default().to_owned();
    assert!(mend.is_empty() || text.stdout.contains(&format!("\nmend: {mend}\n")), "{}", text.stdout);
    mend
}

/// The command that is said to mend it is pasted on the host.
#[track_caller]
pub fn paste(host: &Space, mend: &str) {
    assert!(!mend.is_empty(), "there is a command that mends it");
    let binary = super::plugin::binary();
    let mend = mend.replace("linkspan reconcile", &format!("{} reconcile", binary.display()));
    host.must(&["sh", "-c", &mend]);
}
