//! `linkspan add|check|del` over the reference plugins, as Debian packages them, in a network of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

const PLUGINS: &str = "/usr/lib/cni";

/// Runs a program in this thread's namespaces; its output where it succeeded.
fn output(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Why the test cannot run here, or nothing once this thread has a network and mounts of its own.
fn enter() -> Option<String> {
    for plugin in ["bridge", "portmap", "host-local"] {
        if !Path::new(PLUGINS).join(plugin).exists() {
            return Some(format!("{PLUGINS}/{plugin} is not installed"));
        }
    }
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
        return Some(format!("no namespaces of its own: {error}"));
    }
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    let tmpfs = mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>);
    if let Err(error) = private.and(tmpfs) {
        return Some(format!("no mounts of its own: {error}"));
    }
    if output("iptables", &["-t", "nat", "-S"]).is_none()
        || output("ip6tables", &["-t", "nat", "-S"]).is_none()
    {
        return Some("iptables does not work here".to_owned());
    }
    output("ip", &["netns", "add", "blue"]).is_none().then(|| "'ip netns add' does not work here".to_owned())
}

fn run(root: &Path, words: &[&str]) -> (i32, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let env = |key: &str| -> Option<OsString> {
        match key {
            "NETCONFPATH" => Some(root.join("net.d").into()),
            "LINKSPAN_CACHE_DIR" => Some(root.join("cache").into()),
            "CNI_PATH" => Some(PLUGINS.into()),
            "CAP_ARGS" => {
                Some(r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#.into())
            }
            _ => None,
        }
    };
    let words = words.iter().map(OsString::from).collect();
    let code = linkspan::cli::run(linkspan::cli::Terminal::default(), words, &env, &mut stdout, &mut stderr);
    (code, String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

fn configure(root: &Path, subnet: &str, ports: bool) {
    let ipam = json!({"type": "host-local", "subnet": subnet, "dataDir": root.join("leases")});
    let mut plugins = vec![json!({"type": "bridge", "bridge": "test0", "isGateway": true, "ipam": ipam})];
    if ports {
        plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    }
    let list = json!({"cniVersion": "1.0.0", "name": "web", "plugins": plugins});
    fs::create_dir_all(root.join("net.d")).unwrap();
    fs::write(root.join("net.d/10.conflist"), list.to_string()).unwrap();
}

/// Addresses that are held, from the names of the lease files.
fn leases(root: &Path) -> usize {
    let files = fs::read_dir(root.join("leases/web")).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("10.")).count()
}

#[test]
fn the_reference_plugins_attach_verify_and_detach() {
    if let Some(reason) = enter() {
        println!("skipped: {reason}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    configure(root, "10.77.0.0/24", true);
    let (code, stdout, stderr) = run(root, &["add", "web", "blue"]);
    assert_eq!(code, 0, "{stderr}");
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.77.0.2/24");
    let inside = output("ip", &["-n", "blue", "-brief", "address", "show", "eth0"]).unwrap();
    assert!(inside.contains("10.77.0.2/24"), "{inside}");
    let rules = output("iptables", &["-t", "nat", "-S"]).unwrap();
    assert!(rules.contains("10.77.0.2:80"), "{rules}");

    // CHECK of portmap 1.1.1 looks for IPv6 rules even where a container has no IPv6, so it is left out.
    configure(root, "10.77.0.0/24", false);
    let (code, _, stderr) = run(root, &["check", "web", "blue"]);
    assert_eq!(code, 0, "{stderr}");
    output("ip", &["-n", "blue", "address", "flush", "dev", "eth0"]).unwrap();
    let (code, _, stderr) = run(root, &["check", "web", "blue"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the plugin bridge failed CHECK: "), "{stderr}");

    configure(root, "10.77.0.0/24", true);
    let (code, _, stderr) = run(root, &["del", "web", "blue"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(leases(root), 0);
    assert!(output("ip", &["-n", "blue", "link", "show", "eth0"]).is_none());
    assert!(!output("iptables", &["-t", "nat", "-S"]).unwrap().contains("10.77.0.2:80"));

    configure(root, "10.77.0.0/99", true);
    let (code, stdout, stderr) = run(root, &["add", "web", "blue"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("the plugin bridge failed ADD: "), "{stderr}");
}
