//! `check --all`, `del CONTAINER`, `gc --dry-run`, `add --dry-run`, `del --dry-run`: from records, through the verbs, and
//! what is announced is what happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;

use lab::cli::{Answer, document, linkspan, linkspan_with, shell};
use lab::outcome::{address, host_end};
use lab::plugin::{binary, dual_stack};
use lab::snapshot::Snapshot;
use lab::{Lab, Plugin, inspect};
use serde_json::json;

const PORTS: &str = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;

/// A host with a configuration `web` on disk, and the plugin as a runtime would call it.
fn host(lab: &Lab) -> Plugin {
    fs::create_dir_all("/etc/cni/net.d").unwrap();
    let ours = json!({"type": "linkspan", "capabilities": {"portMappings": true}, "ipam": dual_stack(1)});
    let list = json!({"cniVersion": "1.1.0", "name": "web", "plugins": [ours]});
    fs::write("/etc/cni/net.d/10-web.conflist", list.to_string()).unwrap();
    lab.plugin(json!({"ipam": dual_stack(1)}))
}

fn by_hand(words: &str) -> Answer {
    linkspan_with(words, &[("CAP_ARGS", PORTS), ("CNI_PATH", "/nowhere")])
}

#[test]
fn check_all_finds_every_difference_and_says_where() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    let (a, b) = (lab.container("a"), lab.container("b"));
    let result = web.on(&a).publish(&["8080:80"]).add().ok();
    web.on(&b).add().ok();
    assert_eq!(linkspan("check --all").ok(), "2 checked, 2 as made\n");
    lab.ip(&format!("link set {} nomaster", host_end(&result)));
    let said = linkspan("check --all");
    said.failed(1, "1 of 2 attachments differ");
    assert!(said.stdout.contains("container-a:eth0 of web:"), "{}", said.stdout);
    assert!(said.stdout.ends_with("2 checked, 1 as made\n"), "{}", said.stdout);
    linkspan("check container-b").ok();
    assert_eq!(linkspan("check container-a").code, 1);
    let found = document("check --all --json", "check");
    let differing = found["checks"].as_array().unwrap().iter().filter(|c| c["drift"] != json!([])).count();
    assert_eq!(differing, 1);
    linkspan("check --all --network wbe").failed(1, "did you mean 'web'?");
    linkspan("check").failed(2, "--all, CONTAINER, or NETWORK NETNS");
}

#[test]
fn del_of_a_container_works_from_its_record_alone() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    web.on(&lab.container("warm")).add().ok();
    web.on(&lab.container("warm")).del().ok();
    let before = Snapshot::take(&lab);
    let a = lab.container("a");
    let result = web.on(&a).publish(&["8080:80"]).add().ok();
    fs::remove_dir_all("/etc/cni/net.d").unwrap();
    let with = Snapshot::take(&lab);

    let said = linkspan("del container-a --dry-run");
    for word in ["0.0.0.0:8080", &address(&result, 4), &host_end(&result), "nothing was changed"] {
        assert!(said.ok().contains(word), "{word} in {}", said.stdout);
    }
    Snapshot::take(&lab).assert_same(&with, "a dry run changes nothing");

    linkspan("del container-b").failed(1, "did you mean 'container-a'?");
    assert_eq!(linkspan("del container-a").ok(), "detached container-a:eth0 from web\n");
    Snapshot::take(&lab).assert_same(&before, "as if it had never been");
    assert!(inspect::link(&a, "eth0").is_none());
    linkspan("del container-a").failed(1, "no container 'container-a'");
}

#[test]
fn what_libcni_remembers_of_a_deleted_container_goes_too() {
    let Some(lab) = Lab::new() else { return };
    host(&lab);
    let _blue = lab.container("blue");
    by_hand("add web blue").ok();
    let id = document("ps --json", "ps")["attachments"][0]["container"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_dir("/var/lib/cni/results").unwrap().count(), 1);
    linkspan_with(&format!("del {id}"), &[("CNI_PATH", "/nowhere")]).ok();
    assert_eq!(fs::read_dir("/var/lib/cni/results").unwrap().count(), 0);
    by_hand("add web blue").ok();
}

#[test]
fn add_dry_run_announces_what_add_then_does() {
    let Some(lab) = Lab::new() else { return };
    host(&lab);
    let blue = lab.container("blue");
    let plain = |lab: &Lab| Snapshot::of(&lab.host, &["/var/lib/cni"]);
    let before = plain(&lab);
    let said = by_hand("add web blue --dry-run");
    assert!(said.ok().contains("write the nftables rules of network web"), "{}", said.stdout);
    plain(&lab).assert_same(&before, "a dry run changes nothing");
    assert!(inspect::link(&blue, "eth0").is_none());
    assert!(fs::read_dir("/run/linkspan").unwrap().next().is_none(), "the state directory is empty");

    let result: serde_json::Value = serde_json::from_str(by_hand("add web blue").ok()).unwrap();
    for word in [address(&result, 4), address(&result, 6), host_end(&result), "tcp 0.0.0.0:8080".to_owned()] {
        assert!(said.stdout.contains(&word), "{word} in {}", said.stdout);
    }
    by_hand("add web blue --dry-run").failed(1, "attached already");
    let _green = lab.container("green");
    by_hand("add web green --dry-run").failed(1, "is taken by container");
    let other = linkspan("add web green --dry-run");
    assert!(other.ok().contains("nothing was changed") && !other.stdout.contains("write the nftables rules"));

    let gone = by_hand("del web blue --dry-run");
    assert!(gone.ok().contains("free the host port tcp 0.0.0.0:8080"), "{}", gone.stdout);
    assert!(inspect::link(&blue, "eth0").is_some());
    by_hand("del web blue").ok();
    assert!(inspect::link(&blue, "eth0").is_none());
}

#[test]
fn gc_dry_run_names_what_gc_then_takes() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    let _blue = lab.container("blue");
    let added: serde_json::Value = serde_json::from_str(by_hand("add web blue").ok()).unwrap();
    let stale = lab.container("stale");
    let result = web.on(&stale).add().ok();
    let ghost = format!("{}.88", address(&added, 4).rsplit_once('.').unwrap().0);
    fs::write(format!("/run/linkspan/ipam/web/{ghost}"), "ghost\r\neth0").unwrap();
    lab.ip("link add lksffffffffffff type veth peer name lksfffffffffff0");
    lab.ip("link set lksffffffffffff group 1818981232");
    let before = Snapshot::take(&lab);
    let said = by_hand("gc web --dry-run");
    for word in [
        "kept eth0 of container cnitool-",
        "linkspan would delete the attachment container-stale:eth0, which is up",
        &format!("linkspan would delete the lease of {ghost}, held for ghost:eth0"),
        "linkspan would delete the link lksffffffffffff",
    ] {
        assert!(said.ok().contains(word), "{word} in {}", said.stdout);
    }
    assert!(!said.stdout.contains("would delete the attachment cnitool-"), "{}", said.stdout);
    Snapshot::take(&lab).assert_same(&before, "a dry run changes nothing");
    by_hand("gc web").ok();
    assert!(inspect::link(&lab.host, "lksffffffffffff").is_none());
    assert!(inspect::link(&lab.host, &host_end(&result)).is_none());
    assert!(!fs::exists(format!("/run/linkspan/ipam/web/{ghost}")).unwrap());
    assert_eq!(linkspan("check --all").ok(), "1 checked, 1 as made\n");
}

/// A file that cannot be read may be the network's configuration: it is named, and nothing is taken away.
#[test]
fn gc_takes_no_broken_file_for_none() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    let a = lab.container("a");
    web.on(&a).add().ok();
    let rules = || lab.host.must(&["nft", "list", "table", "inet", "linkspan"]);
    for attached in [true, false] {
        fs::write("/etc/cni/net.d/10-web.conflist", r#"{"cniVersion":"1.1.0","name":"web""#).unwrap();
        let before = rules();
        for words in ["gc web --dry-run", "gc web"] {
            linkspan(words).failed(1, "/etc/cni/net.d/10-web.conflist is not valid JSON");
        }
        assert_eq!(rules(), before);
        fs::remove_file("/etc/cni/net.d/10-web.conflist").unwrap();
        let did = if attached { "kept its firewall rules" } else { "deleted its firewall rules" };
        let said = linkspan("gc web");
        assert!(said.ok().contains(did), "{}", said.stdout);
        web.on(&a).del().ok();
    }
}

/// What is linkspan is asked by whichever linkspan, wherever that is, and whatever the other is called.
#[test]
fn gc_of_an_old_list_knows_a_copy() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    let (a, _blue) = (lab.container("a"), lab.container("blue"));
    web.on(&a).add().ok();
    by_hand("add web blue").ok();
    let bin = lab.work.path().join("copies");
    fs::create_dir(&bin).unwrap();
    for name in ["linkspan", "portmap"] {
        fs::copy(binary(), bin.join(name)).unwrap();
    }
    fs::write(bin.join("foreign"), "#!/bin/sh\n").unwrap();
    let plugins =
        json!([{"type": "linkspan", "ipam": dual_stack(1)}, {"type": "portmap"}, {"type": "foreign"}]);
    let list = json!({"cniVersion": "0.4.0", "name": "web", "plugins": plugins});
    fs::write("/etc/cni/net.d/10-web.conflist", list.to_string()).unwrap();
    let said = linkspan_with("gc web", &[("CNI_PATH", bin.to_str().unwrap())]);
    for line in ["web: not asked: foreign;", "web: linkspan cleaned up", "web: portmap cleaned up"] {
        assert!(said.ok().contains(line), "{line} in {}", said.stdout);
    }
    assert_eq!(linkspan("check --all").ok(), "2 checked, 2 as made\n");
}

/// A version without GC: linkspan's own plugins are asked all the same, and what they have a record of is alive.
#[test]
fn gc_of_an_old_list_does_linkspan_s_part() {
    let Some(lab) = Lab::new() else { return };
    let web = host(&lab);
    let (a, _blue) = (lab.container("a"), lab.container("blue"));
    let result = web.on(&a).add().ok();
    by_hand("add web blue").ok();
    let ghost = format!("{}.88", address(&result, 4).rsplit_once('.').unwrap().0);
    fs::write(format!("/run/linkspan/ipam/web/{ghost}"), "ghost\r\neth0").unwrap();
    let plugins = json!([{"type": "linkspan", "ipam": dual_stack(1)}, {"type": "foreign"}]);
    let list = json!({"cniVersion": "0.4.0", "name": "web", "plugins": plugins});
    fs::write("/etc/cni/net.d/10-web.conflist", list.to_string()).unwrap();
    assert!(linkspan("ls").stdout.contains("1 lease belongs to nobody: 'linkspan gc' frees them"));
    let said = by_hand("gc web --dry-run");
    for word in
        ["not asked: foreign; cniVersion 0.4.0 has no GC", &format!("would delete the lease of {ghost}")]
    {
        assert!(said.ok().contains(word), "{word} in {}", said.stdout);
    }
    assert!(!said.stdout.contains("would delete the attachment"), "{}", said.stdout);
    assert!(by_hand("gc web").ok().contains("web: linkspan cleaned up"));
    assert!(!fs::exists(format!("/run/linkspan/ipam/web/{ghost}")).unwrap());
    assert_eq!(linkspan("check --all").ok(), "2 checked, 2 as made\n");
    a.unbind();
    let said = linkspan("ls");
    assert!(
        said.stdout.contains("1 attachment is dead: DEL or 'linkspan reconcile --collect'"),
        "{}",
        said.stdout
    );
}

#[test]
fn help_fits_a_screen_and_every_command_has_examples() {
    let overview = linkspan("--help");
    assert!(overview.ok().lines().count() <= 40, "{} lines", overview.stdout.lines().count());
    let names: Vec<&str> = overview
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        let help = linkspan(&format!("{name} --help"));
        assert!(help.ok().lines().count() <= 40, "{name}: {} lines", help.stdout.lines().count());
        assert!(help.stdout.contains("Example"), "{name}: {}", help.stdout);
        assert_eq!(linkspan(&format!("help {name}")).ok(), help.ok(), "{name}");
        for line in help.stdout.lines().chain(overview.stdout.lines()) {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn a_slip_is_answered_with_what_was_meant_and_where_to_look() {
    for (words, part) in [
        ("pst", "did you mean 'ps'?\nTry 'linkspan --help'."),
        ("help isntall", "did you mean 'install'?"),
        ("ps --jsno", "did you mean '--json'?\nTry 'linkspan ps --help'."),
        ("ps web", "--network web or --container web says what is meant"),
        ("ps --watch 3", "seconds are given as --watch=3"),
        ("ps --watch=0", "from 0.05 seconds to a day"),
        ("ps --count 0", "a whole number from 1 on"),
        ("graph -f png", "'png' is none that --format knows, which are text, svg, dot, mermaid"),
        ("inspect", "'inspect' needs a NAME"),
        ("gc", "'gc' needs NETWORK: linkspan gc [OPTIONS] NETWORK"),
        ("completions tcsh", "bash, zsh, fish"),
        ("install --backup --force", "'--backup' and '--force' do not go together"),
        ("agent --metrics 0.0.0.0:80", "a loopback address and a port"),
    ] {
        linkspan(words).failed(2, part);
    }
}

#[test]
fn completions_are_read_by_their_shells_and_man_pages_are_written() {
    let Some(lab) = Lab::new() else { return };
    for (name, test) in [("bash", "bash -n"), ("zsh", "zsh -n"), ("fish", "fish -n")] {
        let script = linkspan(&format!("completions {name}"));
        for word in ["inspect", "no-trunc", "dry-run"] {
            assert!(script.ok().contains(word), "{word} for {name}");
        }
        if !shell(&format!("command -v {name}")).ok {
            continue;
        }
        let path = lab.work.path().join(name);
        fs::write(&path, &script.stdout).unwrap();
        let read = shell(&format!("{test} {}", path.display()));
        assert!(read.ok, "{name}: {}", read.stderr);
    }
    let complete = "source <(\"$L\" completions bash); COMP_WORDS=(linkspan insp); COMP_CWORD=1; \
                    _linkspan linkspan insp linkspan; echo ${COMPREPLY[*]}";
    assert_eq!(shell(complete).stdout.trim(), "inspect");
    let directory = lab.work.path().join("man/man1");
    linkspan(&format!("man {}", directory.display())).ok();
    let page = fs::read_to_string(directory.join("linkspan-ps.1")).unwrap();
    assert!(page.contains(".TH linkspan-ps 1") && page.contains("\\-\\-network"), "{page}");
    assert!(fs::exists(directory.join("linkspan.1")).unwrap());
}
