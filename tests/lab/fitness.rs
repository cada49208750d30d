//! What `linkspan doctor` finds on a lab's host, and hosts for it to look at.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::cli::{Answer, document, linkspan};
use super::plugin::{binary, dual_stack};
use super::{Lab, Plugin};

/// What was found, but for what this kernel lacks and nothing here needs.
pub fn found(words: &str) -> Vec<(String, String, String)> {
    let document = document(words, "doctor");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = document["doctor"]["findings"].as_array().unwrap().iter();
    let rows = all.map(|f| (text(f, "word"), text(f, "severity"), format!("{f:#}")));
    rows.filter(|(word, severity, _)| (word.as_str(), severity.as_str()) != ("kernel-feature", "remark"))
        .collect()
}

/// Exactly these words with these severities, the worst first.
#[track_caller]
pub fn finds(wanted: &[(&str, &str)]) -> String {
    let found = found("doctor --json");
    let words: Vec<(&str, &str)> =
        found.iter().map(|(word, severity, _)| (word.as_str(), severity.as_str())).collect();
    let text = found.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    assert_eq!(words, wanted, "{text}");
    text
}

/// This word with this severity among others.
#[track_caller]
pub fn includes(word: &str, severity: &str) -> String {
    let found = found("doctor --json");
    let one = found.iter().find(|(w, s, _)| w == word && s == severity);
    one.unwrap_or_else(|| panic!("no {severity} {word} in {found:#?}")).2.clone()
}

#[track_caller]
pub fn lacks(word: &str) {
    let found = found("doctor --json");
    assert!(found.iter().all(|(w, _, _)| w != word), "{word} in {found:#?}");
}

/// `--fix` mends it, and a second look finds nothing.
#[track_caller]
pub fn fixed() -> Answer {
    let said = linkspan("doctor --fix --yes");
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("done: "), "{}", said.stdout);
    finds(&[]);
    said
}

pub fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn ours() -> Value {
    json!({"type": "linkspan", "capabilities": {"portMappings": true}, "ipam": dual_stack(1)})
}

pub fn list(file: &str, name: &str, plugins: Value) {
    let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": plugins});
    write(format!("/etc/cni/net.d/{file}"), list.to_string());
}

/// linkspan where runtimes look for it, and the network `web` configured.
pub fn configured() {
    fs::create_dir_all("/opt/cni/bin").unwrap();
    let _ = std::os::unix::fs::symlink(binary(), "/opt/cni/bin/linkspan");
    list("10-web.conflist", "web", json!([ours()]));
}

/// A lab without what the machine's own runtimes and daemons are configured to do.
pub fn bare() -> Option<Lab> {
    let lab = Lab::new()?;
    let hide = "for d in containerd crio containers NetworkManager systemd/network ufw; do \
                [ ! -d /etc/$d ] || mount -t tmpfs tmpfs /etc/$d || exit; done; \
                for p in containerd crio podman; do \
                [ ! -e /usr/bin/$p ] || mount --bind /dev/null /usr/bin/$p || exit; done";
    lab.host.must(&["sh", "-c", hide]);
    Some(lab)
}

/// The same with linkspan and a network.
pub fn host() -> Option<Lab> {
    let lab = bare()?;
    configured();
    Some(lab)
}

pub fn web(lab: &Lab) -> Plugin {
    lab.plugin(json!({"ipam": dual_stack(1)}))
}

/// The lab has an `/etc` of its own, which begins as the machine's without runtimes.
pub fn own_etc(lab: &Lab) -> bool {
    let made = "mkdir -p /run/etc/upper /run/etc/work && \
                mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc && \
                rm -rf /etc/cni/net.d /etc/containerd /etc/crio /etc/containers /etc/ufw";
    let made = lab.host.exec(&["sh", "-c", made]);
    if !made.ok {
        super::skipped(&format!("there is no overlay here: {}", made.stderr.trim()));
    } else {
        configured();
    }
    made.ok
}

/// Nobody's mount: a file in place of another, for this lab.
pub fn cover(lab: &Lab, path: &str, text: &str) {
    let file = format!("/run/covering-{}", lab.next());
    write(&file, text);
    lab.host.must(&["mount", "--bind", &file, path]);
}
