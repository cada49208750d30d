//! systemd-networkd: which `.network` file it would bring a link up by (`systemd.network(5)`).

use std::path::{Path, PathBuf};

use crate::model::names;
use crate::sys::rtnl::Link;

use super::files;
use super::finding::{Findings, Severity, Word};

/// Where it keeps its state while it runs.
const STATE: &str = "/run/systemd/netif/links";
/// Where its files are, the strongest first.
const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
];
const FILE: &str = "/etc/systemd/network/05-linkspan.network";

/// Tells of the file that takes links of ours.
pub(super) fn look(own: &[&Link], findings: &mut Findings) {
    if !Path::new(STATE).is_dir() {
        return;
    }
    let read = |path: PathBuf| files::text(&path).map(|text| (path, files::ini(&text)));
    let networks: Vec<(PathBuf, Sections)> =
        files::drop_ins(&DIRECTORIES, "network").into_iter().filter_map(read).collect();
    // A host without containers yet has none of our links, and will have these.
    let expected = [("lks-x".to_owned(), Some("bridge")), ("lks000000000000".to_owned(), Some("veth"))];
    let there = own.iter().map(|link| (link.name.clone(), link.kind.as_deref()));
    for (name, kind) in there.chain(expected) {
        let Some((path, sections)) = networks.iter().find(|(_, sections)| takes(sections, &name, kind))
        else {
            continue;
        };
        if is_unmanaged(sections) {
            continue;
        }
        let mut names = vec!["lks*".to_owned()];
        names.extend(
            own.iter().map(|link| link.name.clone()).filter(|name| !name.starts_with(names::LINK_PREFIX)),
        );
        return findings.add(
            Severity::Warning,
            Word::LinkManaged,
            format!("systemd-networkd takes {name} by {}", path.display()),
            "it gives the link addresses and takes away those that it did not give, and routes with them",
            format!(
                "printf '[Match]\\nName={}\\n[Link]\\nUnmanaged=yes\\n' > {FILE} && networkctl reload",
                names.join(" ")
            ),
        );
    }
}

type Sections = Vec<(String, Vec<(String, String)>)>;

/// Whether every condition of `[Match]` is met by such a link. A condition that is not known here is met by none of
/// ours; a file without conditions is passed over by networkd too.
fn takes(sections: &Sections, name: &str, kind: Option<&str>) -> bool {
    let pairs: Vec<&(String, String)> =
        sections.iter().filter(|(section, _)| section == "Match").flat_map(|(_, pairs)| pairs).collect();
    !pairs.is_empty()
        && pairs.iter().all(|(key, value)| match key.as_str() {
            "Name" => is_meant(value, name),
            "Kind" | "Driver" => kind.is_some_and(|kind| is_meant(value, kind)),
            // A veth pair is of type ether for networkd, and a bridge a bridge.
            "Type" => is_meant(value, if kind == Some("bridge") { "bridge" } else { "ether" }),
            _ => false,
        })
}

/// Patterns with blanks between them; `!` before the first turns all of them.
fn is_meant(patterns: &str, word: &str) -> bool {
    let (negated, patterns) = patterns.strip_prefix('!').map_or((false, patterns), |rest| (true, rest));
    patterns.split_whitespace().any(|pattern| files::matches(pattern, word)) != negated
}

fn is_unmanaged(sections: &Sections) -> bool {
    let of_link = sections.iter().filter(|(section, _)| section == "Link").flat_map(|(_, pairs)| pairs);
    of_link
        .filter(|(key, _)| key == "Unmanaged")
        .any(|(_, value)| ["yes", "true", "1", "on"].contains(&value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_text(text: &str, name: &str, kind: &str) -> bool {
        takes(&files::ini(text), name, Some(kind))
    }

    #[test]
    fn all_conditions_have_to_be_met() {
        assert!(takes_text("[Match]\nName=*\n", "lks-web", "bridge"));
        assert!(takes_text("[Match]\nName=en* lks*\nKind=veth\n", "lks1", "veth"));
        assert!(takes_text("[Match]\nName=!eth*\n", "lks-web", "bridge"));
        assert!(takes_text("[Match]\nType=ether\n", "lks1", "veth"));
        for text in [
            "[Match]\nName=en*\n",
            "[Match]\nName=ve-*\nKind=veth\n",
            "[Match]\nName=*\nMACAddress=00:11:22:33:44:55\n",
            "[Match]\nName=!lks*\n",
            "[Network]\nDHCP=yes\n",
        ] {
            assert!(!takes_text(text, "lks-web", "bridge"), "{text}");
        }
    }

    #[test]
    fn a_file_may_leave_links_alone() {
        assert!(is_unmanaged(&files::ini("[Match]\nName=lks*\n[Link]\nUnmanaged=yes\n")));
        assert!(!is_unmanaged(&files::ini("[Match]\nName=lks*\n[Network]\nDHCP=yes\n")));
    }
}
