//! What `linkspan explain` says, beside what real packets do.

use serde_json::{Value, json};

use super::Space;
use super::cli::{document, linkspan};
use super::talk::{PATIENCE, tcp, tcp_answers};
use super::town::{House, Town, town};

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

/// A host with network `net1` of these keys, shop (published at 8080) and store in it, and `net2` with back.
pub struct Host {
    /// Publishes 8080, and 8081 on 127.0.0.1.
    pub shop: House,
    /// In the same network.
    pub store: House,
    /// In another network.
    pub back: House,
    /// The host and the world.
    pub town: Town,
}

/// The same by nf_tables.
pub fn host(keys: Value) -> Option<Host> {
    host_on("nftables", keys)
}

/// The same by a backend.
pub fn host_on(backend: &'static str, keys: Value) -> Option<Host> {
    let town = town(backend)?;
    let (one, two) = (town.network(1, keys), town.network(2, json!({"isolation": "none"})));
    let shop = town.attach(&one, "shop", &["8080:80", "127.0.0.1:8081:80", "5353:53/udp"]);
    let (store, back) = (town.attach(&one, "store", &[]), town.attach(&two, "back", &[]));
    town.bridged_packets_are_seen("0");
    Some(Host { shop, store, back, town })
}

/// Keys of a network without walls.
pub fn open() -> Value {
    json!({"isolation": "none"})
}

impl Host {
    /// A line of shell on the host, which must succeed.
    pub fn sh(&self, line: &str) {
        self.kernel().must(&["sh", "-c", line]);
    }

    /// The host's namespace.
    pub fn kernel(&self) -> &Space {
        &self.town.lab.host
    }
}

/// The container's ID.
pub fn id(house: &House) -> &str {
    &house.container.id
}

/// A way: who sends, in the lab and in words, and where to.
pub struct Trip<'a> {
    /// Who sends.
    pub from: &'a Space,
    /// The question.
    pub words: String,
    /// Where to.
    pub at: String,
}

/// A way.
pub fn trip<'a>(from: &'a Space, words: impl Into<String>, at: impl Into<String>) -> Trip<'a> {
    Trip { from, words: words.into(), at: at.into() }
}

impl Trip<'_> {
    /// It is told as arriving, and does.
    #[track_caller]
    pub fn works(&self) {
        arrives(&self.words);
        tcp(self.from, &self.at);
    }

    /// It is told as ending by this fault, and does; the command that would mend it.
    #[track_caller]
    pub fn ends(&self, fault: &str) -> String {
        let mend = dies(&self.words, fault);
        assert!(!tcp_answers(self.from, &self.at), "{} to {} ends by {fault}", self.words, self.at);
        mend
    }

    /// It works, ends once the damage is done, and works again once the command is pasted.
    #[track_caller]
    pub fn breaks_and_mends(&self, host: &Host, damage: &str, fault: &str) {
        self.works();
        host.kernel().must(&["sh", "-c", damage]);
        paste(host.kernel(), &self.ends(fault));
        // A port that comes back up forwards once the kernel has noticed its carrier.
        super::eventually(PATIENCE, || explained(&self.words)["verdict"] == "arrives");
        self.works();
    }
}
