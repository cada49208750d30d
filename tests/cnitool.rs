//! `linkspan add|check|del|gc|status` over lists of plugins that write down how they were called.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

/// A host of its own: configurations, plugins, cache and one namespace (a file) in a temporary directory.
struct Host {
    root: tempfile::TempDir,
    environment: RefCell<BTreeMap<String, OsString>>,
}

/// What a command answered.
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Answer {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    #[track_caller]
    fn failed_with(self, part: &str) -> Self {
        assert_eq!(self.code, 1, "{}", self.stderr);
        assert!(self.stderr.contains(part), "{}", self.stderr);
        self
    }
}

/// Writes down its order, variables and stdin; then fails with `TYPE.VERB.error` where that exists, else prints
/// `TYPE.result`.
const PLUGIN: &str = r#"#!/bin/sh
root=ROOT; type=${0##*/}
echo "$CNI_COMMAND $type" >>$root/calls
cat >$root/$type.$CNI_COMMAND.stdin
env | grep ^CNI_ | sort >$root/$type.$CNI_COMMAND.env
if [ -e $root/$type.$CNI_COMMAND.error ]; then cat $root/$type.$CNI_COMMAND.error; exit 1; fi
if [ $CNI_COMMAND = ADD ]; then cat $root/$type.result; fi
"#;

impl Host {
    /// A host with the network `web` of the plugins `first`, `second` and `third` at a version.
    fn new(version: &str) -> Self {
        let host = Self { root: tempfile::tempdir().unwrap(), environment: RefCell::default() };
        for (variable, directory) in
            [("NETCONFPATH", "net.d"), ("CNI_PATH", "bin"), ("LINKSPAN_CACHE_DIR", "cache")]
        {
            host.set(variable, host.at(directory).to_str().unwrap());
            fs::create_dir(host.at(directory)).unwrap();
        }
        for kind in ["first", "second", "third"] {
            let path = host.at(&format!("bin/{kind}"));
            fs::write(&path, PLUGIN.replace("ROOT", host.at("").to_str().unwrap())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let result = json!({"cniVersion": version, "interfaces": [{"name": kind}]});
            fs::write(host.at(&format!("{kind}.result")), result.to_string()).unwrap();
        }
        fs::write(host.at("netns"), "").unwrap();
        host.configure(&json!({"cniVersion": version, "name": "web", "plugins": [
            {"type": "first", "capabilities": {"mac": true}},
            {"type": "second", "capabilities": {"portMappings": true, "mac": false}, "snat": false},
            {"type": "third"},
        ]}));
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn set(&self, variable: &str, value: &str) {
        self.environment.borrow_mut().insert(variable.to_owned(), value.into());
    }

    fn unset(&self, variable: &str) {
        self.environment.borrow_mut().remove(variable);
    }

    fn configure(&self, list: &Value) {
        fs::write(self.at("net.d/10.conflist"), list.to_string()).unwrap();
    }

    /// Runs `linkspan VERB web NETNS`.
    fn run(&self, verb: &str) -> Answer {
        self.run_words(&[verb, "web", self.at("netns").to_str().unwrap()])
    }

    fn run_words(&self, words: &[&str]) -> Answer {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let env = |key: &str| self.environment.borrow().get(key).cloned();
        let words = words.iter().map(OsString::from).collect();
        let code =
            linkspan::cli::run(linkspan::cli::Terminal::default(), words, &env, &mut stdout, &mut stderr);
        Answer {
            code,
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    fn fail(&self, kind: &str, verb: &str, error: &str) {
        fs::write(self.at(&format!("{kind}.{verb}.error")), error).unwrap();
    }

    fn mend(&self, kind: &str, verb: &str) {
        fs::remove_file(self.at(&format!("{kind}.{verb}.error"))).unwrap();
    }

    /// The calls since the last time, as `VERB TYPE`.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.at("calls")).unwrap_or_default();
        // The file is not there where nothing was called.
        let _ = fs::remove_file(self.at("calls"));
        calls.lines().map(str::to_owned).collect()
    }

    fn stdin(&self, kind: &str, verb: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(&format!("{kind}.{verb}.stdin"))).unwrap()).unwrap()
    }

    fn variables(&self, kind: &str, verb: &str) -> String {
        fs::read_to_string(self.at(&format!("{kind}.{verb}.env"))).unwrap()
    }

    fn remembered(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.at("cache/results")) else { return Vec::new() };
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn add_gives_each_plugin_its_part_and_prints_the_last_result() {
    let host = Host::new("1.1.0");
    host.set("CNI_CONTAINERID", "c1");
    host.set("CNI_IFNAME", "net1");
    host.set("CNI_ARGS", "A=1;B=2");
    host.set("CAP_ARGS", r#"{"portMappings":[{"hostPort":8080}],"mac":"02:00:00:00:00:01"}"#);
    let answer = host.run("add").succeeded();
    assert!(answer.stdout.starts_with("{\n    \"cniVersion\": \"1.1.0\""), "{}", answer.stdout);
    let result: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(result["interfaces"][0]["name"], "third");
    assert_eq!(host.calls(), ["ADD first", "ADD second", "ADD third"]);

    let first = host.stdin("first", "ADD");
    assert_eq!((&first["name"], &first["cniVersion"]), (&json!("web"), &json!("1.1.0")));
    assert_eq!(first["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
    assert_eq!(first.get("prevResult"), None);
    let second = host.stdin("second", "ADD");
    assert_eq!(second["runtimeConfig"], json!({"portMappings": [{"hostPort": 8080}]}));
    assert_eq!(second["prevResult"]["interfaces"][0]["name"], "first");
    assert_eq!(second["snat"], false);
    assert_eq!(host.stdin("third", "ADD").get("runtimeConfig"), None);

    let variables = host.variables("second", "ADD");
    for line in ["CNI_ARGS=A=1;B=2", "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=net1"] {
        assert!(variables.lines().any(|found| found == line), "{variables}");
    }
    assert!(variables.contains(&format!("CNI_NETNS={}", host.at("netns").display())));
    assert!(
        variables.contains(&format!("CNI_PATH={}:", host.at("bin").display())),
        "the own directory is last"
    );
    assert_eq!(host.remembered(), ["web-c1-net1"]);
}

#[test]
fn a_failed_add_takes_everything_back_with_the_last_result() {
    let host = Host::new("1.1.0");
    host.fail("third", "ADD", r#"{"code":7,"msg":"bad key","details":"mtu is text"}"#);
    let answer = host.run("add").failed_with("the plugin third failed ADD: bad key: mtu is text (code 7)");
    assert_eq!(answer.stdout, "");
    assert!(answer.stderr.contains("taken back"), "{}", answer.stderr);
    let expected = ["ADD first", "ADD second", "ADD third", "DEL third", "DEL second", "DEL first"];
    assert_eq!(host.calls(), expected);
    assert_eq!(host.stdin("first", "DEL")["prevResult"]["interfaces"][0]["name"], "second");
    assert!(host.remembered().is_empty());
}

#[test]
fn what_is_left_after_taking_back_is_told() {
    let host = Host::new("1.1.0");
    host.fail("second", "ADD", "");
    host.fail("third", "DEL", "panic: nil");
    let answer = host.run("add").failed_with("exit status: 1 and gave no reason");
    assert!(answer.stderr.contains("the plugin third failed DEL"), "{}", answer.stderr);
    assert!(answer.stderr.contains("panic: nil"), "{}", answer.stderr);
    assert!(host.calls().ends_with(&["DEL second".to_owned(), "DEL first".to_owned()]));
}

#[test]
fn a_result_that_is_no_json_is_a_failure() {
    let host = Host::new("1.1.0");
    fs::write(host.at("first.result"), "done").unwrap();
    host.run("add").failed_with("its result is no JSON object");
    assert_eq!(host.calls().len(), 4);
}

#[test]
fn a_missing_plugin_or_namespace_is_refused_before_any_effect() {
    let host = Host::new("1.1.0");
    fs::remove_file(host.at("bin/third")).unwrap();
    host.run("add").failed_with("the plugin \"third\" is in none of");
    fs::remove_file(host.at("netns")).unwrap();
    host.run("add").failed_with("ip netns add");
    assert!(host.calls().is_empty());
}

#[test]
fn a_second_add_is_refused_and_leaves_the_first_alone() {
    let host = Host::new("1.1.0");
    host.run("add").succeeded();
    host.calls();
    host.run("add").failed_with("linkspan del web");
    assert!(host.calls().is_empty());
    host.set("CNI_IFNAME", "eth1");
    host.run("add").succeeded();
}

#[test]
fn check_and_del_get_the_final_result_and_the_arguments_of_add() {
    let host = Host::new("1.1.0");
    host.set("CNI_ARGS", "A=1");
    host.set("CAP_ARGS", r#"{"portMappings":[{"hostPort":8080}]}"#);
    host.run("add").succeeded();
    host.unset("CNI_ARGS");
    host.unset("CAP_ARGS");
    host.calls();
    assert_eq!(host.run("check").succeeded().stdout, "");
    assert_eq!(host.calls(), ["CHECK first", "CHECK second", "CHECK third"]);
    host.run("del").succeeded();
    assert_eq!(host.calls(), ["DEL third", "DEL second", "DEL first"]);
    for verb in ["CHECK", "DEL"] {
        assert_eq!(host.stdin("first", verb)["prevResult"]["interfaces"][0]["name"], "third");
        assert_eq!(host.stdin("second", verb)["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
        assert!(host.variables("first", verb).contains("CNI_ARGS=A=1\n"));
    }
    assert!(host.remembered().is_empty());
    host.run("del").succeeded();
    assert_eq!(host.stdin("first", "DEL").get("prevResult"), None, "a second DEL knows nothing and succeeds");
    host.run("check").failed_with("nothing is attached");
}

#[test]
fn del_goes_on_after_a_failure_and_can_be_tried_again() {
    let host = Host::new("1.1.0");
    host.run("add").succeeded();
    host.calls();
    host.fail("third", "DEL", r#"{"code":11,"msg":"busy"}"#);
    host.run("del").failed_with("the plugin third failed DEL: busy (code 11)");
    assert_eq!(host.calls(), ["DEL third", "DEL second", "DEL first"]);
    assert_eq!(host.remembered().len(), 1);
    host.mend("third", "DEL");
    host.run("del").succeeded();
    assert!(host.remembered().is_empty());
}

#[test]
fn del_works_when_the_configuration_is_gone() {
    let host = Host::new("1.1.0");
    host.run("add").succeeded();
    fs::remove_file(host.at("net.d/10.conflist")).unwrap();
    fs::remove_file(host.at("netns")).unwrap();
    host.calls();
    let answer = host.run("del").succeeded();
    assert!(answer.stderr.contains("deleting by what ADD was given"), "{}", answer.stderr);
    assert_eq!(host.calls().len(), 3);
    host.run("del").failed_with("no network \"web\"");
}

#[test]
fn a_version_has_the_verbs_that_it_came_with() {
    let host = Host::new("0.3.1");
    host.run("add").succeeded();
    host.run("check").failed_with("CHECK came with 0.4.0");
    host.calls();
    assert!(host.run("status").succeeded().stdout.contains("no STATUS"));
    assert!(host.calls().is_empty());
    host.run("del").succeeded();
    assert_eq!(host.stdin("first", "DEL").get("prevResult"), None);
    assert!(host.remembered().is_empty());
}

#[test]
fn a_result_follows_the_version_of_the_configuration() {
    let host = Host::new("1.1.0");
    let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]});
    fs::write(host.at("third.result"), result.to_string()).unwrap();
    host.run("add").succeeded();
    host.configure(&json!({"cniVersion": "0.4.0", "name": "web", "plugins": [{"type": "first"}]}));
    host.run("check").succeeded();
    let before = &host.stdin("first", "CHECK")["prevResult"];
    assert_eq!((&before["cniVersion"], &before["ips"][0]["version"]), (&json!("0.4.0"), &json!("4")));
}

#[test]
fn disable_check_checks_nothing_and_says_so() {
    let host = Host::new("1.1.0");
    let list = json!({"cniVersion": "1.1.0", "name": "web", "disableCheck": true, "disableGC": true,
                      "plugins": [{"type": "first"}]});
    host.configure(&list);
    host.run("add").succeeded();
    host.calls();
    assert!(host.run("check").succeeded().stderr.contains("disableCheck"));
    fs::remove_file(host.at("netns")).unwrap();
    assert!(host.run("gc").succeeded().stdout.contains("disableGC"));
    assert!(host.calls().is_empty());
}

#[test]
fn gc_deletes_the_dead_and_names_the_living() {
    let host = Host::new("1.1.0");
    assert!(host.run_words(&["gc", "web"]).succeeded().stdout.contains("nothing was done"));
    fs::write(host.at("gone"), "").unwrap();
    host.run_words(&["add", "web", host.at("gone").to_str().unwrap()]).succeeded();
    host.set("CNI_CONTAINERID", "alive");
    host.run("add").succeeded();
    fs::remove_file(host.at("gone")).unwrap();
    host.calls();

    let answer = host.run_words(&["gc", "web", "--dry-run"]).succeeded();
    assert!(answer.stdout.contains("would delete eth0 of container cnitool-"), "{}", answer.stdout);
    assert!(host.calls().is_empty());

    let answer = host.run_words(&["gc", "web"]).succeeded();
    assert!(answer.stdout.contains("kept eth0 of container alive"), "{}", answer.stdout);
    assert_eq!(host.calls(), ["DEL third", "DEL second", "DEL first", "GC first", "GC second", "GC third"]);
    let stdin = host.stdin("second", "GC");
    let valid = json!([{"containerID": "alive", "ifname": "eth0"}]);
    assert_eq!((&stdin["cni.dev/valid-attachments"], &stdin["cni.dev/attachments"]), (&valid, &valid));
    assert!(host.variables("second", "GC").contains("CNI_CONTAINERID=\n"));
    assert_eq!(host.remembered(), ["web-alive-eth0"]);

    host.fail("first", "GC", r#"{"code":11,"msg":"busy"}"#);
    host.run_words(&["gc", "web"]).failed_with("the plugin first failed GC: busy (code 11)");
    assert_eq!(host.calls().len(), 3, "the others were asked all the same");
}

#[test]
fn gc_deletes_nothing_where_an_attachment_cannot_be_read() {
    let host = Host::new("1.1.0");
    host.run("add").succeeded();
    host.calls();
    fs::write(host.at("cache/results/web-torn-eth0"), "{").unwrap();
    host.run_words(&["gc", "web"]).failed_with("web-torn-eth0");
    assert!(host.calls().is_empty());
    fs::rename(host.at("cache/results/web-torn-eth0"), host.at("cache/results/db-torn-eth0")).unwrap();
    host.run_words(&["gc", "web"]).succeeded();
}

#[test]
fn status_says_who_is_ready() {
    let host = Host::new("1.1.0");
    assert_eq!(
        host.run_words(&["status", "web"]).succeeded().stdout,
        "first: ready\nsecond: ready\nthird: ready\n"
    );
    host.fail("second", "STATUS", r#"{"code":50,"msg":"no addresses left"}"#);
    let answer = host.run_words(&["status", "web"]).failed_with("1 of 3 plugins");
    assert!(answer.stdout.contains("second: not ready: no addresses left (code 50)\nthird: ready"));
}

#[test]
fn a_capability_that_nobody_declares_is_pointed_out() {
    let host = Host::new("1.1.0");
    host.set("CAP_ARGS", r#"{"portMapping":[]}"#);
    assert!(host.run("add").succeeded().stderr.contains("did you mean 'portMappings'?"));
}

#[test]
fn words_that_make_no_command_have_their_own_exit_code() {
    let host = Host::new("1.1.0");
    let answer = host.run_words(&["ad", "web"]);
    assert_eq!(answer.code, 2);
    assert!(answer.stderr.contains("did you mean 'add'?"), "{}", answer.stderr);
    assert!(host.run_words(&[]).succeeded().stdout.contains("CNI plugin"));
    assert!(host.run_words(&["--help"]).succeeded().stdout.contains("NETCONFPATH"));
    assert!(host.run_words(&["--version"]).succeeded().stdout.starts_with("linkspan 0."));
    let answer = host.run_words(&["add", "wbe", "/nowhere"]);
    assert!(answer.stderr.contains("did you mean \"web\"?"), "{}", answer.stderr);
}
