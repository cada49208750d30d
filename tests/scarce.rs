//! A host on which something is missing or refused while a verb works: nothing is handed on that is still there, and what
//! could not be taken away keeps its record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lab::backends::{choose, on_each_backend};
use lab::plugin::v4;
use lab::{Lab, Plugin};
use serde_json::json;

fn is_recorded(id: &str) -> bool {
    ["ready", "doomed"].iter().any(|stage| fs::exists(format!("/run/linkspan/{stage}/{id}:eth0")).unwrap())
}

/// The plugin, with programs of iptables that fail.
fn with_failing_iptables(lab: &Lab, plugin: &Plugin) -> Plugin {
    let directory = lab.work.path().join("failing");
    fs::create_dir_all(&directory).unwrap();
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let path = directory.join(format!("{family}{suffix}"));
            fs::write(&path, "#!/bin/sh\nexit 4\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    plugin.env("PATH", &format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()))
}

fn a_del_without_its_programs_says_so(backend: &str) {
    let Some(mut lab) = Lab::new() else { return };
    let Some(kind) = choose(&mut lab, backend) else { return };
    if kind == "nftables" {
        return;
    }
    let save = format!("iptables-{}-save", backend.trim_start_matches("iptables-"));
    let container = lab.container("c1");
    let plugin = lab.plugin(json!({"backend": kind, "ipam": v4(1)})).on(&container).publish(&["8080:80"]);
    let rules = || lab.host.must(&[save.as_str()]).matches("c1:eth0").count();
    plugin.add().ok();
    assert!(rules() > 0);
    let failing = with_failing_iptables(&lab, &plugin);
    failing.del().refused(110);
    assert!(is_recorded(&container.id), "its rules are there still, and so its address stays taken");
    assert!(rules() > 0);
    failing.gc(&[]).refused(110);
    plugin.del().ok();
    assert!(!is_recorded(&container.id));
    assert_eq!(rules(), 0);
    // Nothing of it is in the kernel any more: the programs are not needed to find that out.
    plugin.add().ok();
    for table in ["nat", "raw", "filter"] {
        let tool = save.trim_end_matches("-save");
        lab.host.must(&[tool, "-t", table, "-F"]);
        lab.host.must(&[tool, "-t", table, "-X"]);
    }
    failing.del().ok();
    assert!(!is_recorded(&container.id));
}

on_each_backend!(a_del_without_its_programs_says_so);
