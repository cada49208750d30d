//! Programs that do not do what they are there for.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Lab, Plugin};

/// The plugin, with programs of iptables that fail.
pub fn with_failing_iptables(lab: &Lab, plugin: &Plugin) -> Plugin {
    let suffixes = ["", "-save", "-restore", "-nft", "-nft-save", "-nft-restore"];
    let of = |family: &str| suffixes.map(|suffix| format!("{family}{suffix}"));
    with_programs(lab, plugin, &[of("iptables"), of("ip6tables")].concat(), 4)
}

/// The plugin, with programs of these names that end so and do nothing.
pub fn with_programs(lab: &Lab, plugin: &Plugin, names: &[String], code: i32) -> Plugin {
    let directory = lab.work.path().join(format!("programs-{code}-{}", names.len()));
    fs::create_dir_all(&directory).unwrap();
    for name in names {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\nexit {code}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    plugin.env("PATH", &format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()))
}
