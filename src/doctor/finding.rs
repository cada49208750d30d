//! What was found: words, how bad it is, and what mends it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::apply::Reach;
use crate::model::AttachmentKey;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Containers suffer, or an ADD will fail.
    Fault,
    /// It works now, and something will go wrong, or has been left over.
    Warning,
    /// Worth knowing; nothing has to be done.
    Remark,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Remark => "remark",
        })
    }
}

macro_rules! words {
    ($($(#[$doc:meta])+ $name:ident = $text:literal),+ $(,)?) => {
        /// What a finding is of, in a word that stays the same from release to release.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Word { $($(#[$doc])+ $name),+ }

        impl Word {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As it is written.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

words! {
    /// The kernel is older than what linkspan is made for.
    KernelVersion = "kernel-version",
    /// The kernel lacks something, or refuses it.
    KernelFeature = "kernel-feature",
    /// Something could not be looked at.
    NotLooked = "not-looked-at",
    /// IPv6 is off, and a network has IPv6 addresses.
    Ipv6Off = "ipv6-off",
    /// The host forwards nothing.
    ForwardingOff = "forwarding-off",
    /// Published ports do not answer on 127.0.0.1.
    LocalnetOff = "localnet-off",
    /// Strict reverse path filtering on a host with several ways out.
    ReversePath = "reverse-path",
    /// A route that was learned from a router will not be renewed.
    RouterAdvertisements = "router-advertisements",
    /// The table of tracked connections is nearly full.
    ConntrackFull = "conntrack-full",
    /// The neighbour table is too small for so many containers.
    NeighbourTable = "neighbour-table",
    /// The host may take a published port for a connection of its own.
    EphemeralPort = "ephemeral-port",
    /// A subnet is somebody else's too.
    SubnetOverlap = "subnet-overlap",
    /// Two networks have the same addresses.
    SubnetShared = "subnet-shared",
    /// A name server has an address of a network.
    NameserverInside = "nameserver-inside",
    /// The host has no name server that could be asked.
    NameserverMissing = "nameserver-missing",
    /// Another firewall drops what containers send or get.
    ForeignDrop = "foreign-drop",
    /// Rules of iptables over nf_tables and of legacy iptables.
    BothIptables = "both-iptables",
    /// firewalld runs.
    Firewalld = "firewalld",
    /// ufw is on.
    Ufw = "ufw",
    /// NetworkManager or systemd-networkd has its hands on a link of ours.
    LinkManaged = "link-managed",
    /// Rules that the records call for are not there.
    RulesMissing = "rules-missing",
    /// A bridge is not as its records say.
    BridgeDrift = "bridge-drift",
    /// An attachment is not as its record says.
    AttachmentDrift = "attachment-drift",
    /// Containers died, and nobody called DEL.
    DeadAttachment = "dead-attachment",
    /// ADDs were killed half-way.
    HalfMade = "half-made",
    /// DELs have begun and not ended.
    DelUnfinished = "del-unfinished",
    /// Something carries our mark and belongs to nobody.
    Orphan = "orphan",
    /// A file of the state directory is not readable.
    UnreadableRecord = "unreadable-record",
    /// A record is older than this boot.
    BeforeBoot = "before-boot",
    /// Records are from the future.
    ClockBehind = "clock-behind",
    /// libcni remembers an attachment that is not there.
    StaleResult = "stale-result",
    /// libcni remembers something that cannot be read.
    UnreadableResult = "unreadable-result",
    /// The iptables backend has no iptables.
    IptablesMissing = "iptables-missing",
    /// iptables is older than what linkspan writes for it.
    IptablesVersion = "iptables-version",
    /// No network is configured.
    NoConfiguration = "no-configuration",
    /// A file is no network configuration.
    BadConfiguration = "bad-configuration",
    /// A configuration has a key that linkspan does not know, and that looks like one that it does.
    UnknownKey = "unknown-key",
    /// Two configurations have one name.
    SameName = "same-name",
    /// A configuration asks for a version that libcni does not know.
    VersionTooNew = "version-too-new",
    /// An installed runtime cannot read a configuration's version.
    VersionUnreadable = "version-unreadable",
    /// A configuration's version has no GC and no STATUS.
    VersionOld = "version-old",
    /// A plugin that a configuration names is not there.
    PluginMissing = "plugin-missing",
    /// A plugin cannot be executed.
    PluginNotExecutable = "plugin-not-executable",
    /// Runtimes run another linkspan than this one.
    OtherLinkspan = "other-linkspan",
    /// Several networks are configured, and runtimes take the first.
    RuntimePicks = "runtime-picks",
    /// A runtime looks elsewhere.
    RuntimeDirectory = "runtime-directory",
    /// The agent is needed and does not answer.
    AgentMissing = "agent-missing",
    /// An agent left its socket.
    AgentSocket = "agent-socket",
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Word {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// What mends a finding without harm to anybody: a change that a verb makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Put back what the records say, and take away what dead containers and killed ADDs left: `verbs::reconcile`.
    Reconcile,
    /// End DELs that have begun, and take away what belongs to nobody: `verbs::sweep`.
    ///
    /// With [`Reach::Lost`] also what may be another state directory's, which somebody has to ask for: `--fix --lost`.
    Sweep(Reach),
    /// DEL through the list that libcni remembers.
    Forget(AttachmentKey),
    /// A word to the agent about an attachment, which starts one where there is none.
    WakeAgent(AttachmentKey),
    /// Take away the socket that an agent left, while nobody is the agent.
    RemoveSocket(PathBuf),
}

/// What would be done, for people.
impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconcile => f.write_str("put back what the records say, and delete what dead containers left (linkspan reconcile --collect)"),
            Self::Sweep(_) => f.write_str("end what DEL has begun, and delete what belongs to nobody"),
            Self::Forget(key) => write!(f, "call DEL for {key} as libcni's cache remembers it"),
            Self::WakeAgent(key) => write!(f, "tell the agent of {key}, which starts one (linkspan agent --on-demand)"),
            Self::RemoveSocket(path) => write!(f, "delete {}", path.display()),
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub word: Word,
    /// How bad.
    pub severity: Severity,
    /// What was found: a sentence's beginning, without a full stop.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to type, or the file to write.
    pub fix: String,
    /// Whether `--fix` does it.
    /// With `--lost` alone, where its remedy reaches what may be another's.
    #[serde(rename = "fixable", serialize_with = "whether")]
    pub remedy: Option<Remedy>,
}

fn whether<S: serde::Serializer>(remedy: &Option<Remedy>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(remedy.as_ref().is_some_and(|remedy| *remedy != Remedy::Sweep(Reach::Lost)))
}

/// All findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one that an administrator has to mend.
    pub fn add(
        &mut self,
        severity: Severity,
        word: Word,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (what, why, fix) = (what.into(), why.into(), fix.into());
        self.0.push(Finding { word, severity, what, why, fix, remedy: None });
    }

    /// Adds one that `--fix` mends.
    pub fn add_mendable(
        &mut self,
        severity: Severity,
        word: Word,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: Remedy,
    ) {
        let fix = match remedy {
            Remedy::Sweep(Reach::Lost) => {
                "where the records are lost: linkspan doctor --fix --lost; where another state directory has them, set \
                 LINKSPAN_STATE_DIR to that one, and nothing is wrong"
            }
            _ => "linkspan doctor --fix",
        }
        .to_owned();
        let (what, why) = (what.into(), why.into());
        self.0.push(Finding { word, severity, what, why, fix, remedy: Some(remedy) });
    }

    /// That something could not be looked at, which is not the host's fault.
    pub fn not_looked(&mut self, what: impl fmt::Display, reason: impl fmt::Display) {
        let why = "what is wrong there is not in this list";
        let fix = "run this as root, for instance with sudo; else see what the reason names";
        self.add(
            Severity::Remark,
            Word::NotLooked,
            format!("{what} could not be looked at: {reason}"),
            why,
            fix,
        );
    }

    /// How many of them `--fix` mends by itself.
    pub fn mendable(&self) -> usize {
        let is_mendable = |remedy: &&Remedy| **remedy != Remedy::Sweep(Reach::Lost);
        self.0.iter().filter_map(|finding| finding.remedy.as_ref()).filter(is_mendable).count()
    }

    /// All of them, the worst first.
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// How many there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    /// What would mend what can be mended, each once, in the order in which it is to be done: a remembered DEL first,
    /// which leaves less to be put back.
    pub fn remedies(&self) -> Vec<Remedy> {
        let mut remedies: Vec<Remedy> = Vec::new();
        for remedy in self.0.iter().filter_map(|finding| finding.remedy.as_ref()) {
            if !remedies.contains(remedy) {
                remedies.push(remedy.clone());
            }
        }
        remedies.sort_by_key(|remedy| match remedy {
            Remedy::Forget(_) => 0,
            Remedy::Reconcile => 1,
            Remedy::Sweep(_) => 2,
            Remedy::RemoveSocket(_) => 3,
            Remedy::WakeAgent(_) => 4,
        });
        remedies
    }

    /// The worst first; otherwise as they were found.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|finding| finding.severity);
    }
}

/// The first three, and how many more there are: a finding is to be read.
pub(super) fn some(items: &[String]) -> String {
    let shown = items.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    match items.len() {
        0..=3 => shown,
        all => format!("{shown}; and {} more", all - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_different_and_for_machines() {
        let texts: std::collections::HashSet<&str> = Word::ALL.iter().map(|word| word.text()).collect();
        assert_eq!(texts.len(), Word::ALL.len());
        for text in texts {
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{text}"
            );
        }
    }

    #[test]
    fn remedies_come_once_and_in_order() {
        let mut findings = Findings::default();
        let key = AttachmentKey::new("a", "eth0");
        for remedy in [
            Remedy::Sweep(Reach::Recorded),
            Remedy::Reconcile,
            Remedy::Forget(key.clone()),
            Remedy::Reconcile,
        ] {
            findings.add_mendable(Severity::Warning, Word::Orphan, "x", "y", remedy);
        }
        assert_eq!(
            findings.remedies(),
            [Remedy::Forget(key), Remedy::Reconcile, Remedy::Sweep(Reach::Recorded)]
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let items = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(some(&items[..3]), "a; b; c");
        assert_eq!(some(&items), "a; b; c; and 2 more");
    }
}
