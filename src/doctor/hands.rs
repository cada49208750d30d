//! Programs that manage links, and may take ours for theirs: NetworkManager and systemd-networkd. Known by the files
//! that they keep while they run.

use std::path::Path;

use crate::model::names;
use crate::sys::rtnl::Link;

use super::files;
use super::finding::{Findings, Severity, Word, some};
use super::networkd;
use super::sight::Sight;

/// Where NetworkManager says what it manages, a file for each index.
const NM_DEVICES: &str = "/run/NetworkManager/devices";
const NM_PID: &str = "/run/NetworkManager/NetworkManager.pid";
/// Where it is configured, the strongest first.
const NM_DROP_INS: [&str; 3] =
    ["/etc/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"];
const NM_FILE: &str = "/etc/NetworkManager/conf.d/linkspan.conf";
const WHY: &str =
    "it may set the link down, give it addresses or take its addresses away when its state changes";

/// Tells of links of ours in other hands.
pub(super) fn look(sight: &Sight<'_>, findings: &mut Findings) {
    let is_own = |link: &&Link| {
        link.group == names::LINK_GROUP
            || sight.reading.records.networks.iter().any(|n| n.bridge == link.name)
    };
    let own: Vec<&Link> = sight.reading.host.links.iter().filter(is_own).collect();
    network_manager(&own, findings);
    networkd::look(&own, findings);
}

fn network_manager(own: &[&Link], findings: &mut Findings) {
    let managed: Vec<String> = own
        .iter()
        .filter(|link| {
            files::text(Path::new(NM_DEVICES).join(link.index.to_string())).is_some_and(|t| manages(&t))
        })
        .map(|link| link.name.clone())
        .collect();
    let fix = fix(own);
    if !managed.is_empty() {
        let what = format!("NetworkManager manages links of linkspan: {}", some(&managed));
        findings.add(Severity::Warning, Word::LinkManaged, what, WHY, fix);
    } else if (Path::new(NM_DEVICES).is_dir() || files::is_running(NM_PID)) && !is_told(own) {
        findings.add(
            Severity::Remark,
            Word::LinkManaged,
            "NetworkManager runs, and has not been told to leave linkspan's links alone",
            WHY,
            fix,
        );
    }
}

/// What a device's state file says (`NetworkManager`'s `nm-config.c`).
fn manages(text: &str) -> bool {
    let device = files::ini(text).into_iter().filter(|(section, _)| section == "device");
    device
        .flat_map(|(_, pairs)| pairs)
        .any(|(key, value)| key == "managed" && ["true", "1"].contains(&value.as_str()))
}

/// Whether its configuration leaves all of these alone.
fn is_told(own: &[&Link]) -> bool {
    let mut texts: Vec<String> =
        files::drop_ins(&NM_DROP_INS, "conf").iter().filter_map(files::text).collect();
    texts.extend(files::text("/etc/NetworkManager/NetworkManager.conf"));
    let mut patterns = Vec::new();
    for text in &texts {
        patterns.extend(unmanaged(text));
    }
    let is_met = |name: &str| patterns.iter().any(|pattern| files::matches(pattern, name));
    is_met("lks-x") && own.iter().all(|link| is_met(&link.name))
}

/// The patterns of names in `unmanaged-devices`.
fn unmanaged(text: &str) -> Vec<String> {
    let pairs = files::ini(text).into_iter().flat_map(|(_, pairs)| pairs);
    let values =
        pairs.filter(|(key, _)| key.trim_end_matches('+') == "unmanaged-devices").map(|(_, value)| value);
    let mut patterns = Vec::new();
    for value in values {
        let parts = value.split([';', ',']).filter_map(|part| part.trim().strip_prefix("interface-name:"));
        patterns.extend(parts.map(|pattern| pattern.trim_start_matches('=').to_owned()));
    }
    patterns
}

/// The file to write: our prefix, and the bridges that have other names.
fn fix(own: &[&Link]) -> String {
    let mut patterns = vec!["interface-name:lks*".to_owned()];
    let others = own.iter().filter(|link| !link.name.starts_with(names::LINK_PREFIX));
    patterns.extend(others.map(|link| format!("interface-name:{}", link.name)));
    format!(
        "printf '[keyfile]\\nunmanaged-devices={}\\n' > {NM_FILE} && systemctl reload NetworkManager",
        patterns.join(";")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_says_who_manages() {
        assert!(manages("[device]\nmanaged=true\n"));
        assert!(
            !manages("[device]\nmanaged=unknown\n") && !manages("[other]\nmanaged=true\n") && !manages("")
        );
    }

    #[test]
    fn patterns_are_those_of_names() {
        let text = "[keyfile]\nunmanaged-devices=mac:00:22;interface-name:lks*,interface-name:=cni0\n";
        assert_eq!(unmanaged(text), ["lks*", "cni0"]);
        assert!(unmanaged("[keyfile]\n").is_empty());
    }
}
