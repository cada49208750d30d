//! Every configuration under `conf/` works as it is: attach, traffic, check, detach, by the tool's own commands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::outcome::{addresses, gateway};
use lab::space::{Said, run_bounded};
use lab::{Lab, icmp, inspect, programs, talk};
use serde_json::Value;

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e != "md"))
        .collect();
    files.sort();
    files
}

/// `linkspan VERB NETWORK NETNS`, as a person types it.
fn typed(lab: &Lab, words: &[&str], env: &[(&str, &str)]) -> Said {
    let plugins = lab.work.path().join("bin");
    if !plugins.exists() {
        fs::create_dir_all(&plugins).unwrap();
        programs::copy(lab::plugin::binary(), plugins.join("linkspan"));
    }
    let mut command = Command::new(plugins.join("linkspan"));
    command.args(words).env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.env("CNI_PATH", format!("{}:{}", plugins.display(), lab::plugin::REFERENCE));
    command.env("NETCONFPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("conf"));
    command.envs(env.iter().copied());
    run_bounded(&mut command, None, Duration::from_secs(30))
}

#[test]
fn there_are_the_five_that_the_pages_promise() {
    let names: Vec<String> =
        files().iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_lowercase()).collect();
    for word in ["minimal", "dual", "kubernetes", "iptables", "restricted"] {
        assert!(names.iter().any(|name| name.contains(word)), "no {word} among {names:?}");
    }
    assert!(names.iter().all(|name| name.ends_with(".conflist")), "{names:?}");
}

#[test]
fn each_runs() {
    if lab::is_reference() {
        lab::skip!("the stand-in has no command line");
    }
    for file in files() {
        let Some(mut lab) = Lab::new() else { return };
        let outside = lab.outside();
        let list: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let name = list["name"].as_str().unwrap();
        let text = list.to_string();
        if text.contains("\"iptables\"") && !lab.iptables("nft") {
            lab::skipped(&format!("{name}: iptables-nft is not here"));
            continue;
        }
        let a = lab.container("a");
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
        let env = if text.contains("portMappings") { vec![("CAP_ARGS", ports)] } else { Vec::new() };
        let added = typed(&lab, &["add", name, &a.path], &env);
        assert!(added.ok, "{name}: {}{}", added.stdout, added.stderr);
        let result: Value =
            serde_json::from_str(&added.stdout).unwrap_or_else(|e| panic!("{name}: {e}: {}", added.stdout));
        assert_eq!(inspect::addresses(&a, "eth0"), addresses(&result), "{name}");
        let families: Vec<u8> =
            addresses(&result).iter().map(|a| if a.contains(':') { 6 } else { 4 }).collect();
        let _server = talk::tcp_server(&outside, "[::]:80", "outside");
        for family in families {
            let out = if family == 4 { "192.0.2.2" } else { "2001:db8::2" };
            assert!(icmp::ping(&a, &gateway(&result, family)), "{name}: the gateway of IPv{family}");
            assert!(icmp::ping(&a, out), "{name}: out by IPv{family}");
        }
        if !env.is_empty() {
            let _inside = talk::http_server(&a, "0.0.0.0:80", "served");
            assert_eq!(talk::http_get(&outside, "192.0.2.1:8080").unwrap(), "served", "{name}");
        }
        for verb in ["check", "del", "del"] {
            let said = typed(&lab, &[verb, name, &a.path], &env);
            assert!(said.ok, "{name}: {verb}: {}{}", said.stdout, said.stderr);
        }
        assert!(inspect::link(&a, "eth0").is_none(), "{name}");
        if !list["cniVersions"].as_array().is_some_and(|all| all.contains(&"1.1.0".into())) {
            continue;
        }
        let said = typed(&lab, &["status", name, &a.path], &[]);
        assert!(said.ok, "{name}: status: {}{}", said.stdout, said.stderr);
    }
}
